"""Macs, by what `macmon` and `powermetrics` were recorded to print; none was at hand."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.sources import meter_of
from edgetop.telemetry.host import Host
from edgetop.telemetry.macos import probe, watts_of_macmon, watts_of_powermetrics
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource
from tests.support.eventually import eventually

MACMON = (
    '{"timestamp":"2026-07-31T02:28:40.726672+00:00","all_power":0.5507163405418396,"ane_power":0.0,'
    '"cpu_power":0.2923669219017029,"gpu_power":0.2583494186401367,"gpu_freq_mhz":338,'
    '"memory":{"ram_total":68719476736,"ram_usage":16828694528},"sys_power":7.6835761070251465,'
    '"temp":{"cpu_temp_avg":50.0324592590332,"gpu_temp_avg":47.14311599731445}}'
)
"""A Mac with 64 GiB, idle; some figures left out."""

MACOS_13 = """Machine model: MacBookPro18,2
OS version: 22A5321d
Boot arguments:
Boot time: Fri Aug 12 17:02:12 2022



*** Sampled system activity (Tue Aug 16 23:39:54 2022 +0200) (5006.24ms elapsed) ***


**** Processor usage ****

E-Cluster Online: 100%
E-Cluster Power: 396 mW
E-Cluster HW active frequency: 2064 MHz
E-Cluster idle residency:   0.93%
CPU 0 frequency: 2064 MHz
P0-Cluster Power: 11482 mW
P1-Cluster Power: 11761 mW
System instructions retired: 2.96902e+11
ANE Power: 0 mW
DRAM Power: 2545 mW
CPU Power: 23639 mW
GPU Power: 109 mW
Package Power: 31688 mW
"""
"""An M1 Max whose cores are busy; the lines of single cores left out."""

MACOS_15 = """
*** Sampled system activity (Sat Nov  8 12:40:03 2025 -0700) (1012.83ms elapsed) ***

CPU Power: 9553 mW
GPU Power: 13 mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 9566 mW

**** GPU usage ****

GPU HW active frequency: 618 MHz
GPU idle residency:  75.00%
GPU Power: 190 mW
"""

INTEL = """*** Sampled system activity (Sun Mar  3 10:11:12 2024 +0100) (1004.11ms elapsed) ***

**** Processor usage ****

Intel energy model derived package power (CPUs+GT+SA): 2.48W
"""


@pytest.mark.parametrize(
    ("text", "scope", "watts"),
    [
        (MACMON, "platform", 7.6835761070251465),
        (MACMON.replace('"sys_power":7.6835761070251465', '"sys_power":0.0'), "cpu_package", 0.5507163405418396),
        (MACMON.replace('"sys_power":7.6835761070251465', '"sys_power":40089.36'), "cpu_package", 0.5507163405418396),
        (MACMON.replace('"sys_power":7.6835761070251465', '"sys_power":0.4'), "cpu_package", 0.5507163405418396),
        ('{"all_power":12.5,"cpu_power":11.0}', "cpu_package", 12.5),
    ],
)
def test_macmons_whole_system_goes_before_its_chip(text: str, scope: str, watts: float) -> None:
    assert watts_of_macmon(text) == (scope, watts)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1, 2]", '{"sys_power":"7"}', '{"sys_power":null,"all_power":0}', '{"sys_power":-3.0}', "error", "\0"],
)
def test_what_macmon_does_not_know_is_no_reading(text: str) -> None:
    assert watts_of_macmon(text) is None


@pytest.mark.parametrize(("text", "watts"), [(MACOS_13, 31.688), (MACOS_15, 9.566), (INTEL, 2.48)])
def test_powermetrics_has_one_power_a_sample(text: str, watts: float) -> None:
    found = [read for line in text.splitlines() if (read := watts_of_powermetrics(line)) is not None]
    ((scope, read_w),) = found
    assert scope == "cpu_package"
    assert read_w == pytest.approx(watts)


def program(folder: Path, name: str, *texts: str) -> Path:
    """A program that prints texts, and then stays."""
    file = folder / name
    for index, text in enumerate(texts):
        (folder / f"{name}.{index}").write_text(text if text.endswith("\n") else f"{text}\n")
    prints = "\n".join(f"cat {folder / f'{name}.{index}'}; sleep 0.1" for index in range(len(texts)))
    file.write_text(f"#!/bin/sh\n{prints}\nexec sleep 60\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def found_with(folder: Path, *, is_root: bool) -> Source | UnavailableSource:
    def which(name: str) -> str | None:
        return str(folder / name) if (folder / name).exists() else None

    (found,) = probe(replace(Host(), system="darwin"), which=which, is_root=is_root)
    return found


def watts_read(source: Source, count: int) -> list[float]:
    read: list[float] = []

    def enough() -> bool:
        value = source.read()[0]
        if isinstance(value, float) and (not read or read[-1] != value):
            read.append(value)
        return len(read) >= count

    eventually(enough, f"{count} readings", told=lambda: str(read))
    return read


def test_a_mac_with_macmon_needs_no_root(tmp_path: Path) -> None:
    program(tmp_path, "macmon", MACMON, "a line about nothing", MACMON.replace("7.6835", "9.6835"))
    source = found_with(tmp_path, is_root=False)
    assert not isinstance(source, UnavailableSource)
    try:
        (channel,) = source.info.channels
        meter = meter_of(source.info, channel)
        assert meter is not None
        assert (meter.name, meter.scope, meter.flags) == ("power.mac", "platform", ("untried",))
        assert (meter.update_s, meter.window_s) == (0.5, 0.5)
        # Two that come together are averaged.
        assert 7.683 <= watts_read(source, 1)[-1] <= 9.684
    finally:
        source.close()


def test_root_has_powermetrics(tmp_path: Path) -> None:
    program(tmp_path, "powermetrics", MACOS_13)
    source = found_with(tmp_path, is_root=True)
    assert not isinstance(source, UnavailableSource)
    try:
        assert source.info.channels[0].scope == "cpu_package"
        assert watts_read(source, 1) == [pytest.approx(31.688)]
    finally:
        source.close()


def test_without_either_it_is_said_what_to_install(tmp_path: Path) -> None:
    program(tmp_path, "powermetrics", MACOS_13)
    missing = found_with(tmp_path, is_root=False)
    assert isinstance(missing, UnavailableSource)
    assert missing.name == "power"
    assert "brew install macmon" in missing.missing.hint


def test_a_program_that_ends_is_looked_for_again(tmp_path: Path) -> None:
    file = program(tmp_path, "macmon", "error: not supported")
    file.write_text("#!/bin/sh\nexit 1\n")
    missing = found_with(tmp_path, is_root=False)
    assert isinstance(missing, UnavailableSource)
    assert missing.retry


def test_other_machines_have_no_such_source() -> None:
    assert list(probe(replace(Host(), system="linux"))) == []


def test_a_program_that_falls_silent_is_lost(tmp_path: Path) -> None:
    file = program(tmp_path, "macmon", MACMON)
    file.write_text(file.read_text().replace("exec sleep 60", "exit 3"))
    source = found_with(tmp_path, is_root=False)
    assert not isinstance(source, UnavailableSource)

    def lost() -> bool:
        try:
            source.read()
        except SourceLost:
            return True
        return False

    eventually(lost, "the end of the program is noticed")

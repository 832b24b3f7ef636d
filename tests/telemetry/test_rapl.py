"""RAPL trees of the procfs, alumet and kepler projects, and what goes wrong with other readers."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.sources import Unavailable, of_channel
from edgetop.telemetry.host import Host
from edgetop.telemetry.rapl import PERMISSION_HINT, probe, same_meter
from edgetop.telemetry.source import Source, SourceLost
from tests.support.fake_sysfs import absences, adding, below, deny, no_pause, plant, readings, sources

POWERCAP = "/sys/class/powercap"
CLIENT_WRAP_UJ, SERVER_WRAP_UJ = 262143328850, 65532610987
SERVER_WRAP_J = SERVER_WRAP_UJ / 1e6
INTEL = {"/proc/cpuinfo": "processor : 0\nvendor_id : GenuineIntel\nflags : fpu vme sse2"}
AMD = {"/proc/cpuinfo": "processor : 0\nvendor_id : AuthenticAMD\nflags : fpu vme sse2"}


def zone(zone_id: str, name: str, energy_uj: int | str, wrap_uj: int = CLIENT_WRAP_UJ) -> dict[str, str | int]:
    files = {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": wrap_uj, "enabled": 1}
    return below(f"{POWERCAP}/{zone_id}", files)


CLIENT = {
    **zone("intel-rapl:0", "package-0", 240422366267),
    **zone("intel-rapl:0:0", "core", 118821284256),
    **zone("intel-rapl:a", "package-10", 150000000000),
    **INTEL,
}
PSYS = {
    **zone("intel-rapl:0", "package-0", 124599532281),
    **zone("intel-rapl:0:0", "core", 23893449269),
    **zone("intel-rapl:0:1", "uncore", 23992349269),
    **zone("intel-rapl:1", "psys", 154571208422),
    **zone("intel-rapl:2", "dram", 182178908522),
    **INTEL,
}


def counter(zone_id: str) -> str:
    return f"{POWERCAP}/{zone_id}/energy_uj"


def cpu_source(root: Path, host: Host, *moving: str, step_uj: int = 500_000) -> Source:
    return sources(probe(host, pause=adding(root, {counter(each): step_uj for each in moving})))["power.rapl"]


def test_packages_are_told_by_name_whatever_their_number(tmp_path: Path) -> None:
    host = plant(tmp_path, CLIENT)
    pause = adding(tmp_path, {counter("intel-rapl:0"): 500_000, counter("intel-rapl:a"): 700_000})
    source = sources(probe(host, pause=pause))["power.rapl"]
    scopes = {channel.name: channel.scope for channel in source.info.channels}
    assert scopes == {
        "energy.package-0": "cpu_package",
        "energy.package-10": "cpu_package",
        "energy.package-0.core": "component",
    }
    assert source.info.kind == "energy"
    assert {channel.unit for channel in source.info.channels} == {"J"}
    package = of_channel(source.info, "energy.package-0")
    assert (package.adds_up_as, package.total, package.gain) == ("cpu", False, 0.05)
    assert of_channel(source.info, "energy.package-0.core").adds_up_as == ""


def test_counters_are_passed_on_raw_in_joules(tmp_path: Path) -> None:
    host = plant(tmp_path, {**zone("intel-rapl:0", "package-0", 240422366267), **INTEL})
    source = cpu_source(tmp_path, host, "intel-rapl:0")
    assert readings(source) == {"energy.package-0": pytest.approx(240422.866267, abs=1e-9)}
    properties = of_channel(source.info, "energy.package-0")
    assert properties.wrap_j == pytest.approx(262143.328850)
    assert properties.lsb_j == pytest.approx(2**-14, rel=1e-4)
    assert properties.total


def test_psys_is_a_source_of_its_own_and_opt_in(tmp_path: Path) -> None:
    host = plant(tmp_path, PSYS)
    moving = {counter(each): 400_000 for each in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:2")}
    found = sources(probe(host, pause=adding(tmp_path, moving)))
    assert [channel.name for channel in found["power.rapl"].info.channels] == [
        "energy.package-0",
        "energy.dram",
        "energy.package-0.core",
        "energy.package-0.uncore",
    ]
    # A client processor: the figure of its memory is shown beside, not added.
    assert of_channel(found["power.rapl"].info, "energy.dram").adds_up_as == ""
    psys = found["power.psys"].info
    assert [channel.scope for channel in psys.channels] == ["platform"]
    assert of_channel(psys, "energy.psys").flags == ("opt-in",)


def test_the_memory_of_a_server_adds_up_with_its_packages(tmp_path: Path) -> None:
    tree = {
        **zone("intel-rapl:0", "package-0", 1_000_000),
        **zone("intel-rapl:0:0", "dram", 2_000_000, SERVER_WRAP_UJ),
        **INTEL,
    }
    source = cpu_source(tmp_path, plant(tmp_path, tree), "intel-rapl:0", "intel-rapl:0:0")
    memory = of_channel(source.info, "energy.package-0.dram")
    assert memory.adds_up_as == "cpu"
    # Each zone wraps at its own value.
    assert memory.wrap_j == pytest.approx(65532.610987)
    assert of_channel(source.info, "energy.package-0").wrap_j == pytest.approx(262143.328850)


def test_msr_and_mmio_of_one_package_are_one_meter(tmp_path: Path) -> None:
    tree = {
        **zone("intel-rapl-mmio:0", "package-0", 240422366267),
        **zone("intel-rapl:0", "package-0", 240422366267),
        **INTEL,
    }
    source = cpu_source(tmp_path, plant(tmp_path, tree), "intel-rapl:0", "intel-rapl-mmio:0")
    assert [channel.name for channel in source.info.channels] == ["energy.package-0"]
    assert source.info.driver == "powercap intel-rapl"


def test_mmio_serves_where_the_msr_counter_is_dead(tmp_path: Path) -> None:
    tree = {
        **zone("intel-rapl-mmio:0", "package-0", 240422366267),
        **zone("intel-rapl:0", "package-0", 0),
        **INTEL,
    }
    source = cpu_source(tmp_path, plant(tmp_path, tree), "intel-rapl-mmio:0")
    assert source.info.driver == "powercap intel-rapl-mmio"


def test_dies_that_mirror_one_counter_are_one_meter(tmp_path: Path) -> None:
    tree = {
        **zone("intel-rapl:0", "package-0-die-0", 40_000_000_000, SERVER_WRAP_UJ),
        **zone("intel-rapl:1", "package-0-die-1", 40_000_100_000, SERVER_WRAP_UJ),
        **AMD,
    }
    host = plant(tmp_path, tree)
    # Read a little later each time, so the steps differ by up to a few percent at 68 W.
    later = iter([0, 60_000, -40_000, 50_000, 0, 0])
    zero, one = (tmp_path / counter(each).lstrip("/") for each in ("intel-rapl:0", "intel-rapl:1"))

    def pause(_seconds: float) -> None:
        zero.write_text(str(int(zero.read_text()) + 1_360_000))
        one.write_text(str(int(zero.read_text()) + 100_000 + next(later)))

    source = sources(probe(host, pause=pause))["power.rapl"]
    assert [channel.name for channel in source.info.channels] == ["energy.package-0-die-0"]
    assert source.info.properties["mirrored"] == "package-0-die-1"
    assert of_channel(source.info, "energy.package-0-die-0").total


def test_two_sockets_under_like_load_stay_two(tmp_path: Path) -> None:
    tree = {
        **zone("intel-rapl:0", "package-0", 40_000_000_000, SERVER_WRAP_UJ),
        **zone("intel-rapl:1", "package-1", 12_000_000_000, SERVER_WRAP_UJ),
        **AMD,
    }
    host = plant(tmp_path, tree)
    pause = adding(tmp_path, {counter("intel-rapl:0"): 10_000_000, counter("intel-rapl:1"): 10_020_000})
    source = sources(probe(host, pause=pause))["power.rapl"]
    assert [channel.name for channel in source.info.channels] == ["energy.package-0", "energy.package-1"]


@given(st.floats(0, 65532), st.lists(st.floats(0.5, 50), min_size=3, max_size=8))
def test_a_mirror_is_known_wherever_the_counter_wraps(start: float, steps: list[float]) -> None:
    values = [start]
    for step in steps:
        values.append((values[-1] + step) % SERVER_WRAP_J)
    assert same_meter(values, values, SERVER_WRAP_J)
    other = [(value + 1000.0 + place * 0.1 * steps[0]) % SERVER_WRAP_J for place, value in enumerate(values)]
    assert not same_meter(values, other, SERVER_WRAP_J)


@pytest.mark.parametrize(("scale", "intervals", "same"), [(1.0005, 3, True), (1.002, 3, False), (1.0, 2, False)])
def test_counters_that_start_apart_are_one_when_three_steps_agree_within_a_thousandth(
    scale: float, intervals: int, same: bool
) -> None:
    steps = [9.0, 14.0, 11.0][:intervals]
    one = [sum(steps[:place]) for place in range(intervals + 1)]
    other = [30_000.0 + scale * value for value in one]
    assert same_meter(one, other, SERVER_WRAP_J) is same


def test_amd_near_its_wrap_gives_the_package_only(tmp_path: Path) -> None:
    tree = {
        **zone("intel-rapl:0", "package-0", 64930873566, SERVER_WRAP_UJ),
        **zone("intel-rapl:0:0", "core", 31041919121, SERVER_WRAP_UJ),
        **AMD,
    }
    host = plant(tmp_path, tree)
    pause = adding(tmp_path, {counter("intel-rapl:0"): 650_000_000}, wrap=SERVER_WRAP_UJ)
    source = sources(probe(host, pause=pause))["power.rapl"]
    assert readings(source) == {"energy.package-0": pytest.approx(48.262579, abs=1e-6)}
    properties = of_channel(source.info, "energy.package-0")
    assert properties.gain == 0.10
    assert properties.wrap_j == pytest.approx(65532.610987)


@pytest.mark.parametrize("energy_uj", [0, 240422366267])
def test_a_counter_that_stands_still_is_no_source(tmp_path: Path, energy_uj: int) -> None:
    host = plant(tmp_path, {**zone("intel-rapl:0", "package-0", energy_uj), **INTEL})
    found = list(probe(host, pause=no_pause))
    assert not sources(found)
    assert "stand still" in absences(found)["power.rapl"].reason


def test_zeros_in_a_virtual_machine_are_explained(tmp_path: Path) -> None:
    cpu = {"/proc/cpuinfo": "vendor_id : GenuineIntel\nflags : fpu hypervisor"}
    host = plant(tmp_path, {**zone("intel-rapl:0", "package-0", 0), **cpu})
    missing = absences(probe(host, pause=no_pause))["power.rapl"]
    assert "virtual machine" in missing.reason
    assert "external meter" in missing.hint


def test_a_modelled_share_in_a_virtual_machine_is_flagged(tmp_path: Path) -> None:
    cpu = {"/proc/cpuinfo": "vendor_id : GenuineIntel\nflags : fpu hypervisor"}
    host = plant(tmp_path, {**zone("intel-rapl:0", "package-0", 7_000_000), **cpu})
    source = cpu_source(tmp_path, host, "intel-rapl:0")
    assert of_channel(source.info, "energy.package-0").flags == ("virtualised",)


def test_graphics_that_stand_still_are_kept_unless_they_read_zero(tmp_path: Path) -> None:
    tree = {**PSYS, counter("intel-rapl:0:0"): 0}
    source = cpu_source(tmp_path, plant(tmp_path, tree), "intel-rapl:0")
    names = [channel.name for channel in source.info.channels]
    # The memory stands still too, and memory must move.
    assert names == ["energy.package-0", "energy.package-0.uncore"]


def test_denied_permission_gives_the_commands_for_now_and_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = plant(tmp_path, CLIENT)
    deny(monkeypatch, "energy_uj")
    found = list(probe(host, pause=no_pause))
    assert not sources(found)
    missing = absences(found)["power.rapl"]
    assert "may not be read" in missing.reason
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl" in missing.hint
    assert "/etc/tmpfiles.d/" in missing.hint
    assert missing.hint == PERMISSION_HINT


def test_permission_for_one_interface_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {**zone("intel-rapl:0", "package-0", 10**9), **zone("intel-rapl-mmio:0", "package-0", 10**9), **INTEL}
    host = plant(tmp_path, tree)
    deny(monkeypatch, "intel-rapl-mmio:0/energy_uj")
    found = list(probe(host, pause=adding(tmp_path, {counter("intel-rapl:0"): 10**6})))
    assert list(sources(found)) == ["power.rapl"]
    assert not absences(found)


def test_permission_withdrawn_in_the_middle_loses_the_source_and_given_back_restores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = plant(tmp_path, {**zone("intel-rapl:0", "package-0", 1_000_000), **INTEL})
    source = cpu_source(tmp_path, host, "intel-rapl:0")
    assert readings(source) == {"energy.package-0": pytest.approx(1.5)}
    file = tmp_path / counter("intel-rapl:0").lstrip("/")
    file.unlink()  # the module is loaded anew, with the permissions of the kernel
    file.write_text("2000000")
    with monkeypatch.context() as denied:
        deny(denied, "energy_uj")
        with pytest.raises(SourceLost) as lost:
            source.read()
    assert lost.value.missing.hint == PERMISSION_HINT
    assert readings(source) == {"energy.package-0": pytest.approx(2.0)}


def test_a_failed_read_of_one_zone_is_missing_and_never_zero(tmp_path: Path) -> None:
    host = plant(tmp_path, PSYS)
    source = cpu_source(tmp_path, host, "intel-rapl:0", "intel-rapl:2")
    (tmp_path / counter("intel-rapl:0").lstrip("/")).write_text("no data")
    values = readings(source)
    broken = values.pop("energy.package-0")
    assert isinstance(broken, Unavailable)
    assert "no number" in broken.reason
    assert all(isinstance(value, float) and value > 0 for value in values.values())


def test_zones_of_unknown_names_are_passed_over(tmp_path: Path) -> None:
    tree = {
        **zone("intel-rapl:0", "package-0", 10**9),
        **zone("intel-rapl:1", "\x1b[31mpackage-0", 10**9),
        **zone("dtpm:0", "package-1", 10**9),
        **INTEL,
    }
    source = cpu_source(tmp_path, plant(tmp_path, tree), "intel-rapl:0")
    assert [channel.name for channel in source.info.channels] == ["energy.package-0"]


def test_an_x86_machine_without_zones_says_what_hides_them(tmp_path: Path) -> None:
    bare, inside = tmp_path / "bare", tmp_path / "inside"
    assert "modprobe" in absences(probe(plant(bare, INTEL)))["power.rapl"].hint
    # Docker masks the devices, so the class holds links to nothing.
    host = plant(inside, {**INTEL, "/.dockerenv": ""})
    (inside / "sys/class/powercap").mkdir(parents=True)
    (inside / "sys/class/powercap/intel-rapl:0").symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:0")
    assert "Docker" in absences(probe(host))["power.rapl"].reason


def test_other_processors_have_nothing_to_say_about_rapl(tmp_path: Path) -> None:
    assert not list(probe(plant(tmp_path, {"/proc/cpuinfo": "processor : 0\nBogoMIPS : 108.00"})))


def test_the_lasting_rule_covers_packages_and_the_zones_within_them(tmp_path: Path) -> None:
    command = PERMISSION_HINT.partition("for ever: ")[2].partition(" | sudo")[0]
    rules = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    globs = [rule.split()[1] for rule in rules.splitlines()]
    root = "/sys/devices/virtual/powercap/intel-rapl"
    for file in (f"{root}/intel-rapl:0/energy_uj", f"{root}/intel-rapl:0/intel-rapl:0:2/energy_uj"):
        assert [PurePath(file).match(glob) for glob in globs].count(True) == 1

"""What is found on whole machines, and what a family that fails does to the others."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgetop.core import sources
from edgetop.core.sources import Unavailable
from edgetop.telemetry import nvidia, registry
from edgetop.telemetry.host import Host
from edgetop.telemetry.registry import PowerChoice, probes_of, take_inventory
from edgetop.telemetry.source import Probe, Source, UnavailableSource
from tests.support.fake_nvml import DESKTOP, connect_to
from tests.support.fake_sources import FakeSource
from tests.support.fake_sysfs import BARE_VM, JETSON, LAPTOP, PI_5, Tree, below, plant


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU in every machine."""

    def import_with_a_gpu(name: str) -> object:
        if not name.endswith(".nvidia"):
            return import_module(name)
        return SimpleNamespace(
            probe=lambda host: nvidia.probe(host, connect=connect_to(DESKTOP)), power_probe=nvidia.power_probe
        )

    monkeypatch.setattr(registry, "import_module", import_with_a_gpu)


def of(*found: Source | UnavailableSource, fails: Exception | None = None) -> Probe:
    """A probe that finds this, and then fails."""

    def probe(host: Host) -> Iterator[Source | UnavailableSource]:
        yield from found
        if fails is not None:
            raise fails

    return probe


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (PI_5, ["cpu", "memory", "engine", "edgetop", "thermal", "gpu.0"]),
        (JETSON, ["cpu", "memory", "engine", "edgetop", "thermal", "gpu.0"]),
        (LAPTOP, ["cpu", "memory", "engine", "edgetop", "thermal", "gpu.0"]),
        (BARE_VM, ["cpu", "memory", "engine", "edgetop", "gpu.0"]),
        ({}, ["engine", "edgetop", "gpu.0"]),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_each_machine_has_its_sources_and_a_reason_for_the_others(tmp_path: Path, tree: Tree, names: list[str]) -> None:
    inventory = take_inventory(plant(tmp_path, tree), probes_of(power=False))
    assert [source.info.name for source in inventory.sources] == names
    assert all(absent.missing.reason for absent in inventory.absent)
    assert {absent.name for absent in inventory.absent} == {"cpu", "memory", "thermal"} - set(names)
    for source in inventory.sources:
        source.read()
    inventory.close()


@pytest.mark.usefixtures("gpu")
def test_the_channels_that_figures_are_made_from_are_those_that_sources_read(tmp_path: Path) -> None:
    inventory = take_inventory(plant(tmp_path, JETSON), probes_of(power=False))
    emitted = {channel.name for source in inventory.sources for channel in source.info.channels}
    inventory.close()
    wanted = {
        sources.CPU_OTHERS, sources.CPU_STEAL, sources.ENGINE_RSS, sources.ENGINE_MAPPED, sources.ENGINE_ANONYMOUS,
        sources.ENGINE_SWAP, sources.ENGINE_MAJOR_FAULTS, sources.MEMORY_AVAILABLE, sources.SWAP_USED,
        sources.OWN_CPU, sources.OWN_RSS, f"{sources.GPU_PREFIX}0{sources.GPU_MEMORY_USED_SUFFIX}",
    }  # fmt: skip
    assert wanted <= emitted
    assert any(name.startswith(sources.THROTTLE_PREFIX) for name in emitted)


@pytest.mark.parametrize("tree", [PI_5, JETSON])
@pytest.mark.usefixtures("gpu")
def test_no_family_reads_what_another_one_reads(tmp_path: Path, tree: Tree) -> None:
    inventory = take_inventory(plant(tmp_path, tree))
    inventory.close()
    reasons = [absent.missing.reason for absent in inventory.absent]
    assert not [reason for reason in reasons if "already" in reason or "failed" in reason]


def test_a_probe_that_fails_is_absent_and_hinders_no_other() -> None:
    first, second = FakeSource("first"), FakeSource("second")
    inventory = take_inventory(
        Host(),
        [
            ("broken", of(first, fails=ZeroDivisionError("division\nby zero"))),
            ("sane", of(second, UnavailableSource(name="third", missing=Unavailable("not here")))),
        ],
    )
    assert inventory.sources == (first, second)
    assert [(absent.name, absent.missing.reason) for absent in inventory.absent] == [
        ("broken", "looking for it failed: ZeroDivisionError: division by zero"),
        ("third", "not here"),
    ]


def test_a_family_that_cannot_be_imported_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    families = {"no_such_family": "no_such_module.probe", "processes": "processes.probe"}
    monkeypatch.setattr(registry, "GAUGE_FAMILIES", families)
    inventory = take_inventory(Host(), probes_of(power=False))
    assert [source.info.name for source in inventory.sources] == ["engine", "edgetop"]
    assert "ModuleNotFoundError" in inventory.absent[0].missing.reason


def test_what_another_source_reads_already_is_left_out_and_closed() -> None:
    first, again = FakeSource("a", channels=["x", "y"]), FakeSource("b", channels=["y", "z"])
    namesake, other = FakeSource("a", channels=["w"]), FakeSource("x", channels=["a"])
    inventory = take_inventory(Host(), [("family", of(first, again, namesake, other))])
    assert inventory.sources == (first, other)
    assert [(absent.name, absent.missing.reason) for absent in inventory.absent] == [
        ("b", "the channel y is there already"),
        ("a", "the source a is there already"),
    ]
    assert [source.closed for source in (first, again, namesake, other)] == [0, 1, 1, 0]


def test_closing_goes_on_past_a_source_that_cannot_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, last = FakeSource("stuck"), FakeSource("last")

    def refuse() -> None:
        raise OSError("gone")

    monkeypatch.setattr(stuck, "close", refuse)
    take_inventory(Host(), [("family", of(stuck, last))]).close()
    assert last.closed == 1


def test_nobody_is_told_to_become_root_on_android(tmp_path: Path) -> None:
    denied = UnavailableSource(name="power.battery", missing=Unavailable("power_now may not be read", "sudo chmod a+r"))
    for tree, hint in (({"/system/build.prop": "ro.build.id=1"}, sources.EXTERNAL_METER), ({}, "sudo chmod a+r")):
        host = plant(tmp_path / hint[:4], tree)
        (absent,) = take_inventory(host, [("battery", of(denied))]).absent
        assert absent.missing.hint == hint


def test_without_gpu_sensors_no_card_is_so_much_as_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_host: Host, **_options: object) -> Iterator[Source | UnavailableSource]:
        raise AssertionError("a graphics card was looked at")

    monkeypatch.setattr(nvidia, "probe", never)
    monkeypatch.setattr(nvidia, "power_probe", never)
    files: Tree = {"name": "amdgpu", "power1_average": 60_000_000, "power1_cap": 100_000_000}
    tree = {
        **PI_5,
        **below("/sys/class/hwmon/hwmon7", files),
        **below("/sys/class/drm/card0/device", {"gpu_busy_percent": 3}),
    }
    host = plant(tmp_path, tree)
    with_cards = {source.info.name for source in take_inventory(host, PowerChoice().families).sources}
    without = take_inventory(host, PowerChoice(gpu_sensors=False).families)
    assert with_cards - {source.info.name for source in without.sources} == {"power.amdgpu", "gpu.card0"}
    assert not [absent for absent in without.absent if "failed" in absent.missing.reason]

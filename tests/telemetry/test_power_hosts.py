"""Which streams are hosts, what they are called, and those that give nothing."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from edgetop.core.sources import Unavailable
from edgetop.telemetry.host import Host
from edgetop.telemetry.power_stream import HostSource, StreamSource
from edgetop.telemetry.registry import Inventory, PowerChoice, take_inventory

HEADER = "# edgetop-power/1 kind=power unit=W scope=module update=0.1"


def meter(header: str = HEADER, *, watts: float = 5.0) -> str:
    """A command that says what a meter would, and goes on until it is ended."""
    code = f"import sys; print({header!r}); print({watts}, flush=True); sys.stdin.read()"
    return f"{shlex.quote(sys.executable)} -S -c {shlex.quote(code)}"


@pytest.fixture
def inventories() -> Iterator[list[Inventory]]:
    taken: list[Inventory] = []
    yield taken
    for inventory in taken:
        inventory.close()


def found(inventories: list[Inventory], *streams: str, name: str | None = None) -> Inventory:
    inventories.append(take_inventory(Host(), PowerChoice(name=name, streams=streams).probes))
    return inventories[-1]


def test_one_stream_that_names_no_host_is_a_meter_of_this_machine(inventories: list[Inventory]) -> None:
    (source,) = found(inventories, meter()).sources
    assert isinstance(source, StreamSource)
    assert source.info.name == "power.stream"


def test_a_host_is_called_as_the_person_says_else_as_it_says_itself_else_by_its_place(
    inventories: list[Inventory],
) -> None:
    own = f"{HEADER} host=orin"
    inventory = found(inventories, f"desk={meter(own)}", meter(own), meter())
    assert all(isinstance(source, HostSource) for source in inventory.sources)
    assert [source.info.name for source in inventory.sources] == [
        "power.host.desk", "power.host.orin", "power.host.host-3",
    ]  # fmt: skip
    (alone,) = found(inventories, meter(own)).sources
    assert alone.info.name == "power.host.orin"
    (named,) = found(inventories, f"desk={meter()}").sources
    assert named.info.name == "power.host.desk"
    (stamped,) = named.read_stamped() if isinstance(named, HostSource) else ()
    assert list(stamped.values) == pytest.approx([5.0, 0.125])


def test_a_host_that_gives_nothing_is_absent_by_its_name_and_hinders_no_other(inventories: list[Inventory]) -> None:
    failing = f"{shlex.quote(sys.executable)} -S -c 'raise SystemExit(255)'"
    inventory = found(inventories, f"pi2={meter()}", f"pi3={failing}", failing)
    assert [source.info.name for source in inventory.sources] == ["power.host.pi2"]
    assert [each.name for each in inventory.absent] == ["power.host.pi3", "power.host.host-3"]
    assert all("exited with status 255" in each.missing.reason for each in inventory.absent)
    lacking = f"{HEADER[:17]} host=pi4 absent=no sensor -> add one"
    (absent,) = found(inventories, f"pi4={meter(lacking)}").absent
    assert absent.missing == Unavailable("that host has no power reading: no sensor", "add one")


def test_two_hosts_of_one_name_and_a_host_called_local_are_refused(inventories: list[Inventory]) -> None:
    twice = found(inventories, f"pi2={meter()}", f"pi2={meter()}")
    assert [source.info.name for source in twice.sources] == ["power.host.pi2"]
    assert [each.missing.reason for each in twice.absent] == ["two streams have its name"]
    (absent,) = found(inventories, f"local={meter()}").absent
    assert "is this machine" in absent.missing.reason


def test_no_stream_is_started_where_power_is_switched_off(inventories: list[Inventory]) -> None:
    inventory = found(inventories, f"pi2={meter()}", name="none")
    assert (inventory.sources, inventory.absent) == ((), ())


def test_the_program_ends_while_a_meter_keeps_it_waiting() -> None:
    code = f"""
import threading
from edgetop.telemetry.host import Host
from edgetop.telemetry.registry import PowerChoice, take_inventory
stream = {shlex.quote(sys.executable)!r} + " -S -c 'import time; time.sleep(600)'"
print(len(take_inventory(Host(), PowerChoice(streams=(stream,)).probes, wait_s=0.05).late))
print([each.name for each in threading.enumerate() if not each.daemon])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.splitlines() == ["1", "['MainThread']"]

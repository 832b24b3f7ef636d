"""Where a server is, and what the panes then describe."""

from __future__ import annotations

import os
import socket
from contextlib import closing

from edgetop.core.sources import Unavailable
from edgetop.inference.server.address import Address
from edgetop.live.server_monitor import ServerLocation
from edgetop.telemetry.host import NO_ENGINE, Host
from edgetop.telemetry.registry import remote_placeholders, take_inventory


def test_a_server_on_this_machine_is_measured_by_its_process() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        place = ServerLocation(Address.parse(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert place.is_here
        assert place.pid() == os.getpid()
        assert place.missing() == NO_ENGINE


def test_a_server_elsewhere_leaves_this_machines_gauges_out() -> None:
    place = ServerLocation(Address.parse("http://pi2.invalid:8080"))
    assert not place.is_here
    assert (place.pid(), place.helper_pids()) == (None, ())
    reason = "the server is on pi2.invalid:8080: this machine's readings are not its own"
    assert place.missing().reason == reason

    inventory = take_inventory(Host(), remote_placeholders(place.no_readings, place.no_power))
    assert {source.info.name for source in inventory.sources} == {"cpu", "memory"}
    for source in inventory.sources:
        assert set(source.read()) == {Unavailable(reason)}
        assert len(source.read()) == len(source.info.channels)
    power = next(absent.missing for absent in inventory.absent if absent.name == "power")
    assert "ssh pi2.invalid edgetop power --stream" in power.hint


def test_this_machine_is_known_by_its_own_name() -> None:
    assert ServerLocation(Address.parse(f"http://{socket.gethostname()}:8080")).is_here

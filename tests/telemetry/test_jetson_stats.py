from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from edgetop.core.sources import Unavailable
from edgetop.telemetry.host import Host
from edgetop.telemetry.jetson import jtop_probe
from edgetop.telemetry.source import SourceLost
from tests.support.fake_sysfs import absences, plant, readings, sources


class JtopException(Exception):  # noqa: N818 (jtop's own name)
    pass


class FakeJtop:
    """The part of jtop that is used, with the text of its own errors."""

    error = ""
    initial: dict[str, object] = {
        "GPU": 26.7,
        "Fan pwmfan0": 40.0,
        "Temp cv0": -256,
        "Power VDD_SOC": 1121,
        "Power TOT": 3852,
        "jetson_clocks": "OFF",
    }

    def __init__(self) -> None:
        self.stats = dict(self.initial)
        self.running = True
        self.broken = False

    def start(self) -> None:
        if self.error:
            raise JtopException(self.error)

    def ok(self, spin: bool = False) -> bool:
        assert spin, "waiting for the service would hold up the sampler"
        if self.broken:
            raise JtopException("Lost connection with jtop server")
        return self.running

    def close(self) -> None:
        self.running = False


def library(client: type[FakeJtop] = FakeJtop) -> SimpleNamespace:
    return SimpleNamespace(jtop=client, JtopException=JtopException)


@pytest.fixture
def jetson(tmp_path: Path) -> Host:
    return plant(tmp_path, {"/run/jtop.sock": ""})


def test_gpu_load_and_fans_are_taken_and_power_is_not(jetson: Host) -> None:
    source = sources(jtop_probe(jetson, load=library))["jetson_stats"]
    assert {channel.label: channel.unit for channel in source.info.channels} == {"GPU": "%", "Fan pwmfan0": "%"}
    assert source.read() == (26.7, 40.0)
    assert source.info.kind == "gauge"


def test_without_the_service_the_library_is_not_even_imported(tmp_path: Path) -> None:
    def load() -> SimpleNamespace:
        raise AssertionError

    assert not list(jtop_probe(Host(sysroot=tmp_path), load=load))


def test_a_missing_extra_is_named(jetson: Host) -> None:
    def load() -> SimpleNamespace:
        raise ImportError

    assert "edgetop[jetson]" in absences(jtop_probe(jetson, load=load))["jetson_stats"].hint


def test_a_service_of_another_version_is_absent_with_its_first_line(jetson: Host) -> None:
    class Mismatch(FakeJtop):
        error = "Mismatch version jtop service: [4.2.0] and client: [4.3.1]. Please run:\n\nsudo jtop --install-service"

    missing = absences(jtop_probe(jetson, load=lambda: library(Mismatch)))["jetson_stats"]
    assert missing.reason.startswith("jtop.service: Mismatch version")
    assert "\n" not in missing.reason


@pytest.mark.parametrize("way", ["running", "broken"])
def test_a_service_that_stops_loses_the_source(jetson: Host, way: str) -> None:
    clients: list[FakeJtop] = []

    class Remembered(FakeJtop):
        def __init__(self) -> None:
            super().__init__()
            clients.append(self)

    source = sources(jtop_probe(jetson, load=lambda: library(Remembered)))["jetson_stats"]
    setattr(clients[0], way, way == "broken")
    with pytest.raises(SourceLost, match=r"jtop\.service"):
        source.read()


def test_an_offline_value_is_missing(jetson: Host) -> None:
    class Offline(FakeJtop):
        initial = {"GPU": -256, "Fan pwmfan0": 40.0}

    source = sources(jtop_probe(jetson, load=lambda: library(Offline)))["jetson_stats"]
    values = readings(source)
    assert isinstance(values["gpu.jetson"], Unavailable)
    assert 40.0 in values.values()

"""Extensions of another package: one of each kind, those that work and those that fail."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.test_metrics import fetch, free_port, running
from tests.support.eventually import eventually
from tests.support.fake_sysfs import plant
from tests.support.isolated_home import IsolatedHome
from tests.support.loopback_server import document, loopback_server

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "edgetop-example"
version = "1"
[project.entry-points."edgetop.sensors"]
good = "edgetop_example:sensor"
bad = "edgetop_example:bad_sensor"
missing = "edgetop_example.nowhere:sensor"
ending = "edgetop_example.ends:sensor"
odd = "edgetop_example:odd_sensor"
exits = "edgetop_example:exiting_sensor"
timeless = "edgetop_example:timeless_sensor"
page = "edgetop_example.page:probe"
[project.entry-points."edgetop.servers"]
good = "edgetop_example:Backend"
bad = "edgetop_example:BadBackend"
dumb = "edgetop_example:DumbBackend"
[project.entry-points."edgetop.exporters"]
good = "edgetop_example:Exporter"
bad = "edgetop_example:bad_exporter"
late = "edgetop_example:LateExporter"
shut = "edgetop_example:ShutExporter"
"""

CODE = """
from pathlib import Path
from edgetop.core.sources import Channel, SourceInfo
from edgetop.inference.server.openai import OpenAiBackend
from edgetop.inference.server.usage import Usage

class Sensor:
    blocking = False
    info = SourceInfo(name="power.example", driver="example", kind="power", period_s=0.1,
                      channels=(Channel(name="power.example", unit="W", scope="wall", digits=1),))
    def read(self):
        return (4.5,)
    def close(self):
        pass

def sensor(host):
    yield Sensor()

class ExitingSensor(Sensor):
    info = SourceInfo(name="power.exits", driver="example", kind="power", period_s=0.1,
                      channels=(Channel(name="power.exits", unit="W", scope="component", digits=1),))
    def read(self):
        raise SystemExit("the bus is gone")
    def close(self):
        raise SystemExit("it was closed already")

def exiting_sensor(host):
    yield ExitingSensor()

class TimelessSensor(Sensor):
    info = SourceInfo(name="power.timeless", driver="example", kind="power", period_s=float("nan"), channels=())

def timeless_sensor(host):
    yield TimelessSensor()

def odd_sensor(host):
    yield "a sensor"

def bad_sensor(host):
    raise RuntimeError("no such bus")
    yield

class Backend(OpenAiBackend):
    kind = "example"
    name = "Example server"
    @classmethod
    def matches(cls, client):
        return "example" in client.get("/example", dict)
    def read_usage(self, client):
        return Usage(kind="Example server", tokens=client.get("/example", dict)["example"])

class BadBackend(OpenAiBackend):
    kind = "bad"
    name = "Bad server"
    @classmethod
    def matches(cls, client):
        raise ZeroDivisionError

class DumbBackend(Backend):
    kind = "dumb"
    name = "Dumb server"
    @classmethod
    def matches(cls, client):
        return False
    def chat_request(self, command, model, settings):
        raise KeyError("messages")
    def version(self, client):
        raise SystemExit(3)

class Exporter:
    def __init__(self, target):
        self.file = Path(target)
    def update(self, live):
        self.file.write_text(str(live.now_us()))
    def close(self):
        self.file.write_text("closed")

class LateExporter(Exporter):
    def update(self, live):
        raise OSError("the other side is gone")

class ShutExporter(Exporter):
    def close(self):
        raise OSError("it was shut already")

def bad_exporter(target):
    raise ValueError("no such target")
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed into it."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "edgetop_example").mkdir()
    (source / "edgetop_example/__init__.py").write_text(CODE)
    (source / "edgetop_example/ends.py").write_text("raise SystemExit('it needs a bus')\n")
    page = (Path(__file__).parents[1] / "docs/extensions.md").read_text()
    (source / "edgetop_example/page.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    ran = subprocess.run([*pip, "--target", str(folder), str(source)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture
def home(tmp_path: Path, package: Path) -> IsolatedHome:
    isolated = IsolatedHome(tmp_path)
    isolated.environment["PYTHONPATH"] += f":{package}"
    return isolated


def test_a_sensor_is_read_and_one_that_fails_is_named(home: IsolatedHome) -> None:
    told = home.run("power", "--sysroot", str(home.folder / "root")).stdout
    assert "4.50 W" in told or "4.5 W" in told, told
    assert "the sensor extension bad of edgetop-example failed and is off: RuntimeError: no such bus" in told
    assert "the sensor extension missing of edgetop-example failed and is off: ModuleNotFoundError" in told
    assert "the sensor extension ending of edgetop-example failed and is off: SystemExit: it needs a bus" in told
    assert "the sensor extension odd of edgetop-example failed and is off: TypeError: str is no sensor" in told
    assert "off: ValueError: power.timeless cannot be read every nan s" in told
    assert "reading failed: SystemExit: the bus is gone" in told


def test_the_sensor_of_the_page_is_read_and_says_why_it_is_absent(home: IsolatedHome) -> None:
    root = home.folder / "root"
    told = home.run("doctor", "--sysroot", str(root)).stdout
    assert re.search(r"no +power\.supply +no supply is connected\n +-> start its program\n", told), told
    plant(root, {"/run/supply/watts": "6.5"})
    assert "6.50 W" in home.run("power", "--sysroot", str(root)).stdout
    assert re.search(r"power\.supply +supply, power, read", home.run("doctor", "--sysroot", str(root)).stdout)


def test_a_server_is_known_and_one_that_fails_is_named_and_not_asked_again(home: IsolatedHome) -> None:
    with loopback_server() as wire:
        wire.answers["GET /example"] = document({"example": 7})
        ran = home.run("watch", "--server", wire.url, "--seconds", "1", "--no-record")
    assert ran.returncode == 0, ran.stderr
    assert "Example server" in ran.stdout
    said = "the server extension bad of edgetop-example failed and is off: ZeroDivisionError"
    assert ran.stderr.count(said) == 1, ran.stderr


def test_an_exporter_gets_the_session_and_those_that_fail_do_not_end_it(home: IsolatedHome, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "exported"
    exports = [f"shut:{tmp_path / 'shut'}", f"good:{file}", f"late:{tmp_path / 'late'}", "bad:anything", str(port)]
    words = [word for each in exports for word in ("--export", each)]
    with running(home, "watch", *words, "--no-record") as process:
        eventually(lambda: file.exists() and file.read_text().isdecimal(), "the good one is updated")

        def scraped() -> bool:
            try:
                return "edgetop_info" in fetch(f"http://127.0.0.1:{port}/metrics")
            except OSError:
                return False

        eventually(scraped, "the metrics are there beside those that fail")
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"the exporter extension bad of edgetop-example failed and is off: ValueError: no such target" in said
    assert b"LateExporter failed and is switched off: the other side is gone" in said
    assert b"ShutExporter failed and is switched off: it was shut already" in said
    assert file.read_text() == "closed"


def test_a_name_that_nobody_brought_is_told(home: IsolatedHome) -> None:
    ran = home.run("watch", "--export", "nobody:there")
    assert ran.returncode == 2
    assert "is no address and no exporter" in ran.stderr


def test_a_server_that_fails_later_is_named_and_ends_nothing(home: IsolatedHome) -> None:
    with loopback_server() as wire:
        wire.answers["GET /v1/models"] = document({"data": [{"id": "m"}]})
        words = ("--server", wire.url, "--server-kind", "dumb")
        told = home.run("doctor", *words)
        ran = home.run("run", *words, "-p", "hi", "-p", "again")
    said = "The server extension dumb of edgetop-example failed and is off: "
    assert f"{said}SystemExit: 3" in " ".join(told.stdout.split()), told.stdout + told.stderr
    assert f"{said}KeyError: 'messages'" in " ".join(ran.stderr.split()), ran.stderr
    assert ran.returncode == 1
    assert "Traceback" not in told.stderr + ran.stderr


def test_a_kind_of_server_can_be_named_and_is_in_help_and_completion(home: IsolatedHome) -> None:
    with loopback_server() as wire:  # which does not show to be of the kind
        wire.answers["GET /v1/models"] = document({"data": [{"id": "m"}]})
        told = home.run("doctor", "--server", wire.url, "--server-kind", "good")
    assert "Example server" in told.stdout, told.stderr
    assert "[bad, dumb, good]" in " ".join(home.run("run", "--help").stdout.split())
    refused = home.run("run", "--server", wire.url, "--server-kind", "other", "-p", "hi")
    assert refused.returncode == 2
    assert "openai, bad, dumb, good" in refused.stderr
    assert home.run("__complete", "fish", "run", "--server-kind", "g").stdout.split() == ["good"]

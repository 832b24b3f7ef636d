"""`edgetop power --stream` as it runs on a board: what it says, whom it answers, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from edgetop.commands.power import Total
from edgetop.core.energy.scopes import Headline
from edgetop.core.sources import Unavailable, meter_of
from edgetop.telemetry.host import Host
from edgetop.telemetry.power_text import Header, parse_header
from edgetop.telemetry.rapl import probe as rapl
from edgetop.telemetry.source import UnavailableSource
from tests.commands.machine import CURRENT, JETSON, Machine
from tests.support.fake_sysfs import plant

REPOSITORY = Path(__file__).resolve().parents[2]
ZONE = "/sys/class/powercap/intel-rapl:{}"
RANGE_UJ = 262_143_328_850
HEAVY = (
    "textual",
    "edgetop.session",
    "edgetop.tui",
    "llama_cpp",
    "numpy",
    "psutil",
    "edgetop.inference.client",
    "edgetop.inference.llama",
    "edgetop.inference.server.",
)


def package(number: int, energy_uj: int) -> dict[str, str | int]:
    zone = ZONE.format(number)
    return {
        f"{zone}/name": f"package-{number}",
        f"{zone}/max_energy_range_uj": RANGE_UJ,
        f"{zone}/energy_uj": energy_uj,
        "/proc/cpuinfo": "vendor_id\t: GenuineIntel",
    }


class Board:
    """A board's `edgetop power --stream`."""

    def __init__(self, root: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgetop", "power", "--stream", "--sysroot", str(root), *options],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    @property
    def says(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def header(self) -> Header:
        return parse_header(self.says.readline().rstrip())

    def readings(self, count: int) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        while len(lines) < count:
            line = self.says.readline()
            assert line, "the stream ended"
            if line.startswith("{"):
                lines.append(json.loads(line))
        return lines

    def ask(self, line: str) -> str:
        """The first line that comes after it and is no reading."""
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        while (said := self.says.readline()).startswith("{"):
            pass
        return said.rstrip()

    def end(self) -> tuple[int, str]:
        """The exit code and what went to stderr."""
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr


@pytest.fixture
def boards() -> Iterator[list[Board]]:
    started: list[Board] = []
    yield started
    for board in started:
        board.process.kill()
        board.process.communicate()


def start(boards: list[Board], root: Path, *options: str) -> Board:
    boards.append(Board(root, *options))
    return boards[-1]


def test_a_board_says_what_it_measures_then_goes_on_with_readings_and_their_age(
    boards: list[Board], tmp_path: Path
) -> None:
    plant(tmp_path, JETSON)
    board = start(boards, tmp_path)
    header = board.header()
    assert (header.kind, header.scope, header.source, header.channels) == (
        "power", "module", "power.jetson", "power.VDD_IN",
    )  # fmt: skip
    assert (header.gain, header.answers_pings) == (0.01, True)
    assert header.update_s <= 0.05
    assert header.host
    readings = board.readings(20)
    assert [each["n"] for each in readings] == list(range(1, 21))
    stamps = [each["m"] for each in readings]
    assert stamps == sorted(set(stamps))
    assert all(each["age"] >= 0 for each in readings)
    assert [each["w"] for each in readings] == pytest.approx([4.968 * 1.52] * 20)


def test_it_answers_who_asks_for_the_time_and_ends_quietly_with_a_signal(boards: list[Board], tmp_path: Path) -> None:
    plant(tmp_path, JETSON)
    board = start(boards, tmp_path)
    board.header()
    assert board.ask("what?\nping x\nping 7\n").split()[:2] == ["pong", "7"]
    told_s = float(board.ask("ping 8\n").split()[2])
    assert told_s <= board.readings(40)[-1]["m"]
    board.process.send_signal(signal.SIGTERM)
    assert board.end() == (0, "")


def test_it_ends_quietly_when_nobody_listens_any_more(boards: list[Board], tmp_path: Path) -> None:
    plant(tmp_path, JETSON)
    board = start(boards, tmp_path)
    board.header()
    board.says.close()
    board.process.stdout = None
    assert board.end() == (0, "")


def test_it_goes_on_when_its_input_ends(boards: list[Board], tmp_path: Path) -> None:
    plant(tmp_path, JETSON)
    board = start(boards, tmp_path)
    board.header()
    assert board.process.stdin is not None
    board.process.stdin.close()
    board.process.stdin = None
    assert board.readings(30)[-1]["n"] == 30


def test_between_readings_that_are_far_apart_there_are_signs_of_life(boards: list[Board], tmp_path: Path) -> None:
    plant(tmp_path, JETSON)
    board = start(boards, tmp_path, "--interval", "60")
    assert board.header().update_s == 60
    first, second = board.readings(2)
    assert "w" in first
    assert set(second) == {"n", "m"}


def test_a_sensor_that_fails_is_told_and_comes_back(boards: list[Board], tmp_path: Path) -> None:
    plant(tmp_path, JETSON)
    board = start(boards, tmp_path)
    board.header()
    current = tmp_path / CURRENT.lstrip("/")
    current.write_text("nonsense\n")
    while "missing" not in (said := board.readings(1)[0]):
        pass
    assert said["missing"]
    current.write_text("1000\n")
    while "w" not in (said := board.readings(1)[0]):
        pass
    assert said["w"] == pytest.approx(4.968)


def test_a_machine_without_power_says_so_and_why_and_fails(boards: list[Board], tmp_path: Path) -> None:
    plant(tmp_path, {"/proc/cpuinfo": "flags\t\t: hypervisor"})
    board = start(boards, tmp_path)
    said = board.says.readline()
    assert board.says.readline() == ""
    assert board.end() == (1, "")
    assert said.startswith("# edgetop-power/1 host=")
    assert " absent=virtual machine: power sensors stay with the host -> measure on the host" in said


@pytest.mark.parametrize("interval", ["0", "x", "1000"])
def test_an_interval_that_cannot_be_is_refused(machine: Machine, interval: str) -> None:
    ran = machine.run("power", "--stream", "--interval", interval)
    assert ran.code == 2
    assert "--interval" in ran.stderr
    assert machine.run("power", "--interval", "1").code == 2


def test_little_is_imported_for_it(tmp_path: Path) -> None:
    plant(tmp_path, JETSON)
    code = (
        "import sys, os; from edgetop.telemetry import registry; from edgetop import cli\n"
        f"import edgetop.commands.power as stream; stream._write_readings = lambda *_: None\n"
        f"cli.main(['power', '--stream', '--sysroot', {str(tmp_path)!r}])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = ran.stderr.split()
    assert "edgetop.telemetry.jetson" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []


class Moment:
    def __init__(self) -> None:
        self.now_us = 1_000_000

    def __call__(self) -> int:
        return self.now_us


def file(number: int) -> str:
    return f"{ZONE.format(number)}/energy_uj".lstrip("/")


def total_of(tmp_path: Path, moment: Moment) -> Total:
    first = {number: (tmp_path / file(number)).read_text() for number in (0, 1)}

    def count(_seconds: float) -> None:
        for number in (0, 1):
            counter = tmp_path / file(number)
            counter.write_text(f"{int(counter.read_text()) + 1000 * (number + 1)}\n")

    found = rapl(Host(sysroot=tmp_path, clock=moment), pause=count)
    sources = [each for each in found if not isinstance(each, UnavailableSource)]
    for number, text in first.items():
        (tmp_path / file(number)).write_text(text)
    meters = [meter_of(source.info, channel) for source in sources for channel in source.info.channels]
    return Total(
        Headline(scope="cpu_package", meters=tuple(meter for meter in meters if meter is not None)), sources, moment
    )


def test_counters_of_several_packages_are_one_that_does_not_wrap(tmp_path: Path) -> None:
    plant(tmp_path, {**package(0, RANGE_UJ - 1_000_000), **package(1, 7_000_000)})
    moment = Moment()
    total = total_of(tmp_path, moment)
    first, _ = total.read()
    assert isinstance(first, float)
    plant(tmp_path, {**package(0, 2_000_000), **package(1, 8_000_000)})
    moment.now_us += 1_000_000
    assert total.read()[0] == pytest.approx(first + 3 + 1)
    plant(tmp_path, {**package(0, 1_000), **package(1, 9_000_000)})
    moment.now_us += 1_000_000
    fallen, _ = total.read()
    assert isinstance(fallen, float)
    assert fallen < first


def test_a_package_that_cannot_be_read_makes_the_sum_absent(tmp_path: Path) -> None:
    plant(tmp_path, {**package(0, 1_000_000), **package(1, 7_000_000)})
    total = total_of(tmp_path, Moment())
    assert not isinstance(total.read()[0], Unavailable)
    (tmp_path / file(1)).write_text("\n")
    assert isinstance(total.read()[0], Unavailable)


def test_it_runs_with_its_input_and_output_closed_or_empty(tmp_path: Path) -> None:
    plant(tmp_path, JETSON)
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetop", "power", "--stream", "--sysroot", str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=write,
    )
    os.close(write)
    with os.fdopen(read) as lines:
        assert lines.readline().startswith("# edgetop-power/1")
        assert lines.readline().startswith("{")
    assert process.wait(60) == 0

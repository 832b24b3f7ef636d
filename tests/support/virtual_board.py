"""A board that does not exist, for a run that does.

    python -m tests.support.virtual_board --root DIR --kind {ina3221,rapl,acpi} [--worker-of PID] [--log FILE]

It plants the power sensor of a board below DIR and keeps it current: what edgetop's worker really does (its processor
time) makes the board's power, and a sensor with errors of gain and zero, steps and an averaging window makes the
readings. Start edgetop with `--sysroot DIR`. The true energy goes to the log alone, so that figures taken from the
readings can be held against it.

The true power is constant from one tick to the next: idle + drift + noise + a share for each core that the worker kept
busy during the tick before. So the log, straight lines between its lines, is the truth exactly, however late a tick
comes on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

TICK_S = 0.04
LOOK_FOR_WORKER_S = 0.5
WORKER = b"edgetop.inference.worker"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MODEL = "Virtual board ({kind}): its power is computed, not measured"


class Sensor(Protocol):
    """What turns the true power into files."""

    def step(self, t_s: float, power_w: float, energy_j: float) -> None:
        """The power is `power_w` from `t_s` on; `energy_j` was used since the board began."""


class FixedWidthFile:
    """A number in a file that is written over in place, so that no reader sees a part of it."""

    def __init__(self, path: Path, width: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._width = width
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, number: int) -> None:
        """Write a number that is not negative, with zeros before it."""
        os.pwrite(self._fd, f"{number:0{self._width}d}\n".encode(), 0)


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a sensor, for good: drawn from the priors that edgetop has for its kind."""

    gain: float
    offset_w: float = 0.0

    def of(self, power_w: float) -> float:
        """What the sensor takes `power_w` for."""
        return power_w * (1 + self.gain) + self.offset_w


class Ina3221:
    """VDD_IN of an Orin Nano: a fast point sensor of coarse steps."""

    VOLTS_MV, STEP_MA = 5032, 8
    OFFSET_W = 80e-6 / 5e-3 * VOLTS_MV / 1000

    def __init__(self, root: Path, chance: random.Random) -> None:
        self._errors = Errors(gain=chance.uniform(-0.01, 0.01), offset_w=chance.uniform(-1, 1) * self.OFFSET_W)
        chip = root / "sys/class/hwmon/hwmon1"
        plant(chip / "name", "ina3221")
        plant(chip / "in1_label", "VDD_IN")
        plant(chip / "in1_input", str(self.VOLTS_MV))
        plant(chip / "shunt1_resistor", "5000")
        plant(chip / "update_interval", str(round(TICK_S * 1000)))
        plant(root / "proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234")
        self._current = FixedWidthFile(chip / "curr1_input", 6)

    def step(self, t_s: float, power_w: float, energy_j: float) -> None:
        """See Sensor."""
        milliamperes = self._errors.of(power_w) * 1e6 / self.VOLTS_MV
        self._current.write(max(0, round(milliamperes / self.STEP_MA) * self.STEP_MA))


class Rapl:
    """A package's energy counter, shortly before it wraps."""

    RANGE_UJ, STEP_UJ, LEFT_UJ = 262_143_328_850, 61, 40_000_000

    def __init__(self, root: Path, chance: random.Random) -> None:
        self._errors = Errors(gain=chance.uniform(-0.05, 0.05))
        zone = root / "sys/class/powercap/intel-rapl:0"
        plant(zone / "name", "package-0")
        plant(zone / "max_energy_range_uj", str(self.RANGE_UJ))
        plant(root / "proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Virtual processor\n")
        self._counter = FixedWidthFile(zone / "energy_uj", 12)

    def step(self, t_s: float, power_w: float, energy_j: float) -> None:
        """See Sensor."""
        counted_uj = round(self._errors.of(energy_j) * 1e6 / self.STEP_UJ) * self.STEP_UJ
        self._counter.write((self.RANGE_UJ - self.LEFT_UJ + counted_uj) % self.RANGE_UJ)


class AcpiMeter:
    """The power meter of a server's board: a mean over a second, once a second."""

    WINDOW_S = 1.0

    def __init__(self, root: Path, chance: random.Random) -> None:
        self._errors = Errors(gain=chance.uniform(-0.05, 0.05))
        self._due_s = -1.0
        self._phase_s = chance.random() * self.WINDOW_S
        self._knots: deque[tuple[float, float]] = deque()
        chip = root / "sys/class/hwmon/hwmon1"
        plant(chip / "name", "power_meter")
        plant(chip / "power1_average_interval", str(round(self.WINDOW_S * 1000)))
        self._average = FixedWidthFile(chip / "power1_average", 10)

    def step(self, t_s: float, power_w: float, energy_j: float) -> None:
        """See Sensor."""
        self._knots.append((t_s, energy_j))
        if t_s < self._due_s:
            return
        while len(self._knots) > 2 and self._knots[1][0] <= t_s - self.WINDOW_S:
            self._knots.popleft()
        (begin_s, begin_j), (end_s, end_j) = self._knots[0], self._knots[-1]
        mean_w = (end_j - begin_j) / (end_s - begin_s) if end_s > begin_s else power_w
        self._average.write(round(self._errors.of(mean_w) * 1e3) * 1000)
        self._due_s = (t_s - self._phase_s) // self.WINDOW_S * self.WINDOW_S + self._phase_s + self.WINDOW_S


KINDS: dict[str, Callable[[Path, random.Random], Sensor]] = {"ina3221": Ina3221, "rapl": Rapl, "acpi": AcpiMeter}


class Load:
    """The processor time of the workers that are children of one process."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._pids: list[int] = []
        self._looked_s = 0.0
        self._used_s: dict[int, float] = {}

    def busy_s(self, now_s: float) -> float:
        """Core seconds since the call before."""
        if not self._pids and now_s - self._looked_s > LOOK_FOR_WORKER_S:
            self._looked_s = now_s
            self._pids = [pid for pid in _children(self._parent) if WORKER in _read(f"/proc/{pid}/cmdline")]
        total_s = 0.0
        for pid in list(self._pids):
            used_s = _cpu_s(pid)
            if used_s is None:
                self._pids.remove(pid)
                continue
            total_s += used_s - self._used_s.get(pid, used_s)
            self._used_s[pid] = used_s
        return total_s


class Processor:
    """The `/proc/stat` of a board on which the worker alone runs: it keeps the first cores busy."""

    def __init__(self, root: Path, cores: int) -> None:
        self._file = root / "proc/stat"
        self._busy_s = [0.0] * cores
        self._t_s = 0.0
        self.step(0.0, 0.0)

    def step(self, length_s: float, busy_s: float) -> None:
        """Go on by `length_s`, in which the worker used `busy_s` core seconds."""
        self._t_s += length_s
        for core in range(len(self._busy_s)):
            share_s = min(length_s, max(0.0, busy_s))
            self._busy_s[core] += share_s
            busy_s -= share_s
        rows = [("cpu", sum(self._busy_s), self._t_s * len(self._busy_s))]
        rows += [(f"cpu{core}", used_s, self._t_s) for core, used_s in enumerate(self._busy_s)]
        ticks = [(name, round(used_s * TICKS_PER_S), round(all_s * TICKS_PER_S)) for name, used_s, all_s in rows]
        new = self._file.with_suffix(".new")
        plant(new, "\n".join(f"{name} {used} 0 0 {all_ - used} 0 0 0 0 0 0" for name, used, all_ in ticks))
        new.replace(self._file)


class Board:
    """True power and true energy."""

    def __init__(
        self,
        sensor: Sensor,
        chance: random.Random,
        *,
        idle_w: float = 4.0,
        core_w: float = 4.0,
        begin_s: float | None = None,
    ) -> None:
        """`begin_s` is where its clock begins; by default now."""
        self._sensor = sensor
        self._chance = chance
        self._idle_w, self._core_w = idle_w, core_w
        self._drift_w = 0.0
        self._power_w = idle_w
        self._t_s = time.monotonic() if begin_s is None else begin_s
        self.energy_j = 0.0

    def step(self, now_s: float, busy_s: float) -> None:
        """Go on to `now_s`; the worker used `busy_s` core seconds since the step before."""
        length_s = now_s - self._t_s
        self.energy_j += self._power_w * length_s
        cores = busy_s / length_s if length_s > 0 else 0.0
        self._drift_w += self._chance.gauss(0, 0.02) * length_s**0.5 - 0.02 * self._drift_w * length_s
        self._power_w = max(0.5, self._idle_w + self._drift_w + self._core_w * cores + self._chance.gauss(0, 0.05))
        self._t_s = now_s
        self._sensor.step(now_s, self._power_w, self.energy_j)


class Truth:
    """The true energy of a board, of which a straight line from one note to the next is exact."""

    def __init__(self) -> None:
        self._t_us: list[int] = []
        self._energy_j: list[float] = []

    @classmethod
    def read(cls, log: Path) -> Truth:
        """The log of a board that ran in a process of its own."""
        truth = cls()
        for line in log.read_text().splitlines():
            t_us, energy_j = line.split()
            truth.note(int(t_us), float(energy_j))
        return truth

    def note(self, t_us: int, energy_j: float) -> None:
        """The energy since the board began."""
        self._t_us.append(t_us)
        self._energy_j.append(energy_j)

    def energy_j(self, start_us: int, end_us: int) -> float:
        """True energy between two moments of CLOCK_MONOTONIC, both within the notes."""
        return self._until_j(end_us) - self._until_j(start_us)

    def _until_j(self, t_us: int) -> float:
        assert self._t_us[0] <= t_us <= self._t_us[-1], "the board did not run then"
        k = min(bisect_right(self._t_us, t_us), len(self._t_us) - 1)
        begin_us, end_us = self._t_us[k - 1], self._t_us[k]
        share = (t_us - begin_us) / (end_us - begin_us)
        return self._energy_j[k - 1] + share * (self._energy_j[k] - self._energy_j[k - 1])


def plant(path: Path, text: str) -> None:
    """Write a file that stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def _children(parent: int) -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            fields = _read(f"/proc/{entry.name}/stat").rpartition(b")")[2].split()
            if len(fields) > 1 and int(fields[1]) == parent:
                yield int(entry.name)


def _cpu_s(pid: int) -> float | None:
    """User and system time of a process with all its threads; `None` when it is gone."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S if len(fields) > 12 else None


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:  # noqa: PTH123 - read 25 times a second
        return file.read(4096)
    return b""


class ProcessBoard:
    """A board in this process whose power follows another one, for a watch of servers."""

    def __init__(self, root: Path, kind: str, pid: int, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - the same every time
        plant(root / "proc/device-tree/model", f"Virtual board ({kind})")
        (root / "proc" / str(pid)).symlink_to(f"/proc/{pid}")
        (root / "proc/net").mkdir(parents=True, exist_ok=True)
        for table in ("tcp", "tcp6", "stat", "meminfo"):
            where = f"net/{table}" if table.startswith("tcp") else table
            if not (root / "proc" / where).exists():
                (root / "proc" / where).symlink_to(f"/proc/{where}")
        self._pid = pid
        self._board = Board(KINDS[kind](root, chance), chance)
        self._used_s = _cpu_s(pid) or 0.0
        self.truth = Truth()
        self.step()

    def step(self) -> None:
        """Go on to now."""
        used_s = _cpu_s(self._pid) or self._used_s
        busy_s, self._used_s = used_s - self._used_s, used_s
        now_us = time.monotonic_ns() // 1000
        self._board.step(now_us / 1e6, busy_s)
        self.truth.note(now_us, self._board.energy_j)


@contextmanager
def process_board(root: Path, kind: str, pid: int, seed: int = 1) -> Iterator[ProcessBoard]:
    """A board that goes on until the end."""
    board = ProcessBoard(root, kind, pid, seed)
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(TICK_S):
            board.step()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield board
    finally:
        ended.set()
        thread.join()
        # The truth reaches beyond whatever was recorded meanwhile.
        board.step()


def main(arguments: list[str] | None = None) -> None:
    """Be the board until a signal comes or whoever started it ends; say `ready` once the sensor can be read."""
    started_by = os.getppid()
    parser = argparse.ArgumentParser(prog="python -m tests.support.virtual_board")
    parser.add_argument("--root", type=Path, required=True, help="folder for the tree; it stands for /")
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--worker-of", type=int, default=started_by, help="process id of edgetop (default: ours)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=0, help="show the processor's load too: so many cores")
    parser.add_argument("--log", type=Path, help="where to keep the truth: stamp in us and energy in J, a line a tick")
    options = parser.parse_args(arguments)
    chance = random.Random(options.seed)  # noqa: S311 - the same every time
    plant(options.root / "proc/device-tree/model", MODEL.format(kind=options.kind))
    board = Board(KINDS[options.kind](options.root, chance), chance)
    load = Load(options.worker_of)
    processor = Processor(options.root, options.cores) if options.cores else None
    before_us = time.monotonic_ns() // 1000
    going_on = True

    def end(_number: int, _frame: object) -> None:
        nonlocal going_on
        going_on = False

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(options.log.open("w")) if options.log else None
        told = False
        while going_on and os.getppid() == started_by:
            busy_s = load.busy_s(time.monotonic())
            now_us = time.monotonic_ns() // 1000
            board.step(now_us / 1e6, busy_s)
            if processor is not None:
                processor.step((now_us - before_us) / 1e6, busy_s)
                before_us = now_us
            if log is not None:
                log.write(f"{now_us} {board.energy_j:.9f}\n")
            if not told:
                told = True
                sys.stdout.write("ready\n")
                sys.stdout.flush()
            time.sleep(TICK_S)


if __name__ == "__main__":
    main()

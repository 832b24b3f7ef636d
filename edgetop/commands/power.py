"""Verb power; `--stream` imports little.

It runs on boards that decode at the same time, started over SSH: so it looks for power alone, imports little, reads
only what the headline is made of, and sleeps between the readings unless it is pinged.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import signal
import socket
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from edgetop.core.clock import US_PER_S, Clock, monotonic_us
from edgetop.core.energy.scopes import Headline, headlines
from edgetop.core.errors import UsageError
from edgetop.core.sources import P_MAX_W, Meter, Unavailable, meter_of
from edgetop.core.text import one_line
from edgetop.inference.child_process import lower_priority
from edgetop.settings import options
from edgetop.settings.resolve import Settings
from edgetop.telemetry.host import Host
from edgetop.telemetry.power_text import MAGIC, MONOTONIC
from edgetop.telemetry.registry import PowerChoice, is_power_family, take_inventory
from edgetop.telemetry.source import Source, SourceLost


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print one table, or go on printing for another edgetop, for which little is to be imported."""
    if arguments.stream:
        choice = PowerChoice(
            name=settings[options.POWER],
            command=settings[options.POWER_EXEC],
            gpu_sensors=settings[options.GPU_SENSORS],
        )
        return stream_power(settings[options.SYSROOT], choice, arguments.interval)
    if arguments.interval is not None:
        raise UsageError("--interval is for a stream", "add --stream, or leave it out")
    from edgetop.commands.power_findings import print_power  # noqa: PLC0415 - a stream has no use for it

    return print_power(settings, as_json=arguments.json)


STDOUT = 1
QUICKEST_S = 0.02
FLUSH_S = 0.1
"""Lines leave together this often: each packet costs both ends of an SSH line more than a reading does."""

HEARTBEAT_S = 1.0
_PING = re.compile(rb"ping (\d{1,18})\r?")
_INPUT_BYTES = 4096


class Total:
    """The headline's meters as one: joules where all of them count, else watts."""

    def __init__(self, found: Headline, sources: Sequence[Source], clock: Clock) -> None:
        self.meters = found.meters
        self.kind = "energy" if all(meter.kind == "energy" for meter in found.meters) else "power"
        self._clock = clock
        self._sources = [(source, [each.name for each in source.info.channels]) for source in sources]
        self._counted: dict[str, tuple[int, float, float]] = {}
        """By counter: when it was read, what it showed, and that with its wraps undone."""

    def reads(self) -> bool:
        """Whether each of the meters gives a reading now."""
        try:
            values = [value for source, _ in self._sources for value in source.read()]
        except SourceLost:
            return False
        except Exception:  # noqa: BLE001 - whatever a driver does, another source may read
            return False
        names = [name for _, names in self._sources for name in names]
        chosen = {meter.name for meter in self.meters}
        return not any(
            isinstance(value, Unavailable) for name, value in zip(names, values, strict=True) if name in chosen
        )

    def read(self) -> tuple[float | Unavailable, int]:
        """The sum over all meters now, or why there is none, and when that was."""
        before_us = self._clock()
        values: dict[str, float | Unavailable] = {}
        for source, names in self._sources:
            try:
                values.update(zip(names, source.read(), strict=True))
            except SourceLost as lost:
                return lost.missing, self._clock()
            except Exception as error:  # noqa: BLE001 - whatever a driver does, the stream goes on and says so
                return Unavailable(f"reading failed: {type(error).__name__}: {error}"), self._clock()
        now_us = (before_us + self._clock()) // 2
        total = 0.0
        for meter in self.meters:
            value = values[meter.name]
            if isinstance(value, Unavailable):
                return value, now_us
            if not isfinite(value):
                return Unavailable("the sensor gave no number"), now_us
            part = value if meter.kind == "power" else self._counter(meter, now_us, value)
            if part is None:
                return Unavailable("the counter was read for the first time"), now_us
            total += part
        return total, now_us

    def _counter(self, meter: Meter, now_us: int, value: float) -> float | None:
        """A counter's joules with its wraps undone; in a sum with watts its rate, `None` at first."""
        read_us, before, counted = self._counted.get(meter.name, (now_us, value, value))
        risen = value - before
        if risen < 0 and meter.wrap_j is not None:
            risen += meter.wrap_j
        span_s = (now_us - read_us) / US_PER_S
        # What fell without wrapping began anew; whoever reads the sum sees it fall.
        is_reset = not 0 <= risen <= max(meter.p_max_w * span_s, meter.lsb)
        self._counted[meter.name] = (now_us, value, value if is_reset else counted + risen)
        if self.kind == "energy":
            return self._counted[meter.name][2]
        return None if is_reset or span_s <= 0 else risen / span_s


class StreamWriter:
    """Writes the lines, and answers pings in between."""

    def __init__(self, *, output: int, pings: int | None, clock: Clock) -> None:
        """`output` and `pings` are file descriptors; no ping is read where `pings` is `None`."""
        self._output = output
        self._input = pings
        self._clock = clock
        self._received = b""
        self._number = 0
        self._pending = b""
        self._flush_due_us = 0

    def write_line(self, line: str) -> None:
        """One line, and all before it. Raises BrokenPipeError when nobody listens any more."""
        self._pending += line.encode("ascii", "replace") + b"\n"
        self._flush()

    def _flush(self) -> None:
        while self._pending:
            self._pending = self._pending[os.write(self._output, self._pending) :]
        self._flush_due_us = self._clock() + round(FLUSH_S * US_PER_S)

    def write_reading(self, key: str, value: float | Unavailable | None, measured_us: int) -> None:
        """A reading, why there is none, or with `None` only a sign of life."""
        self._number += 1
        now_us = self._clock()
        fields: dict[str, float | str] = {"n": self._number, "m": now_us / US_PER_S}
        if value is not None:
            fields["age"] = (now_us - measured_us) / US_PER_S
            if isinstance(value, Unavailable):
                fields["missing"] = one_line(value.reason)
            else:
                fields[key] = round(value, 6)
        line = json.dumps(fields)
        if now_us < self._flush_due_us:
            self._pending += line.encode("ascii", "replace") + b"\n"
        else:
            self.write_line(line)

    def wait(self, until_us: int) -> None:
        """Until then, answering pings. What would wait for long is written before."""
        if self._pending and until_us - self._clock() > FLUSH_S * US_PER_S:
            self._flush()
        while (left_us := until_us - self._clock()) > 0:
            inputs = [] if self._input is None else [self._input]
            if select.select(inputs, [], [], left_us / US_PER_S)[0]:
                self._answer()

    def _answer(self) -> None:
        assert self._input is not None  # noqa: S101 - it was selected
        try:
            data = os.read(self._input, _INPUT_BYTES)
        except OSError:
            data = b""
        if not data:
            self._input = None
            return
        *lines, self._received = (self._received + data).split(b"\n")
        self._received = self._received[-_INPUT_BYTES:]
        for line in lines:
            ping = _PING.fullmatch(line)
            if ping is not None:
                self.write_line(f"pong {ping[1].decode()} {self._clock() / US_PER_S:.6f}")


class _Ended(Exception):  # noqa: N818 - a signal, no error
    """SIGTERM."""


def stream_power(sysroot: Path, choice: PowerChoice, interval_s: float | None) -> int:
    """Print this machine's power until nobody listens or SIGTERM. Returns 1 when there is none, else 0."""
    clock = monotonic_us
    lower_priority()
    signal.signal(signal.SIGTERM, _end)
    writer = StreamWriter(output=STDOUT, pings=_input(), clock=clock)
    probes = [(name, probe) for name, probe in choice.families if is_power_family(name)]
    inventory = take_inventory(Host(sysroot=sysroot, clock=clock), [*choice.probes, *probes])
    try:
        meters = [
            meter
            for source in inventory.sources
            for channel in source.info.channels
            if (meter := meter_of(source.info, channel)) is not None
        ]
        candidates = headlines(meters, choice.headline)
        if isinstance(candidates, Unavailable):
            missing = candidates
            if choice.headline is None:
                from edgetop.session.meters import best_reason  # noqa: PLC0415 - only without power

                missing = best_reason({each.name: each.missing for each in inventory.absent}) or candidates
            writer.write_line(absent_header(missing))
            return 1
        found, total = _first_that_reads(candidates, inventory.sources, clock)
        wanted = {meter.source for meter in found.meters}
        sources = [source for source in inventory.sources if source.info.name in wanted]
        for source in inventory.sources:
            if source not in sources:
                source.close()
        period_s = max(source.info.period_s for source in sources)
        interval_s = max(period_s, QUICKEST_S) if interval_s is None else interval_s
        writer.write_line(header(found, total.kind, interval_s))
        _write_readings(writer, total, interval_s, clock)
    except (_Ended, BrokenPipeError):
        # Python flushes stdout once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    finally:
        inventory.close()
    return 0


def _first_that_reads(
    candidates: Sequence[Headline], sources: Sequence[Source], clock: Clock
) -> tuple[Headline, Total]:
    """The widest headline that reads now, with its meters; the widest of all while none does."""
    totals = []
    for found in candidates:
        wanted = {meter.source for meter in found.meters}
        total = Total(found, [source for source in sources if source.info.name in wanted], clock)
        totals.append((found, total))
        if total.reads():
            return found, total
    return totals[0]


def _write_readings(writer: StreamWriter, total: Total, interval_s: float, clock: Clock) -> None:
    key = "j" if total.kind == "energy" else "w"
    due_us = clock()
    while True:
        value, measured_us = total.read()
        writer.write_reading(key, value, measured_us)
        now_us = clock()
        due_us = max(due_us + round(interval_s * US_PER_S), now_us)
        while due_us - now_us > HEARTBEAT_S * US_PER_S:
            writer.wait(now_us + round(HEARTBEAT_S * US_PER_S))
            now_us = clock()
            if due_us > now_us:
                writer.write_reading(key, None, now_us)
        writer.wait(due_us)


def header(found: Headline, kind: str, interval_s: float) -> str:
    """The header for the headline's meters together.

    Errors of scale are the greatest, those of zero add up: the meters of one machine may be off in the same direction.
    """
    meters = found.meters
    windows = [meter.window_s for meter in meters]
    updates = [meter.update_s if meter.update_s is not None else meter.poll_s for meter in meters]
    words = {
        "kind": kind,
        "unit": "J" if kind == "energy" else "W",
        "scope": found.scope,
        "update": f"{max(interval_s, *updates):g}",
        "gain": f"{max(meter.gain for meter in meters):g}",
        "offset": f"{sum(meter.offset_w for meter in meters if meter.kind == 'power'):g}",
        "max": f"{min(1e6, sum(meter.p_max_w or P_MAX_W for meter in meters)):g}",
        "host": _host_name(),
        "source": "+".join(dict.fromkeys(meter.source for meter in meters)),
        "channels": "+".join(meter.name for meter in meters),
        "calibration": "+".join(dict.fromkeys(meter.calibration for meter in meters if meter.calibration)),
        "flags": ",".join(found.flags),
        "clock": MONOTONIC,
    }
    if kind == "energy":
        words["lsb"] = f"{sum(meter.lsb for meter in meters):g}"
    elif all(meter.kind == "power" for meter in meters):
        words["lsb"] = f"{sum(meter.lsb for meter in meters):g}"
        if None not in windows:
            words["window"] = f"{max(window_s for window_s in windows if window_s is not None):g}"
    else:
        # A counter's rate is a mean over the interval, and nothing of a power reading is less.
        words["window"] = f"{interval_s:g}"
    return " ".join([MAGIC, *(f"{key}={_word(value)}" for key, value in words.items() if value)])


def absent_header(missing: Unavailable) -> str:
    """The header of a machine without power."""
    hint = f" -> {one_line(missing.hint)}" if missing.hint else ""
    return f"{MAGIC} host={_host_name()} absent={one_line(missing.reason)}{hint}"


def _host_name() -> str:
    """This machine's name, as a word of the header may have it."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname().partition(".")[0]).lstrip("._-")[:63]
    return name or "host"


def _word(text: str) -> str:
    return re.sub(r"[^!-~]", "_", text)


def _input() -> int | None:
    """Where pings come from; a terminal is left alone, since it stops a program in the background that reads it."""
    try:
        return None if os.isatty(0) else os.dup(0)
    except OSError:
        return None


def _end(_number: int, _frame: object) -> None:
    raise _Ended

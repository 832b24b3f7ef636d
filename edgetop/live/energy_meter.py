"""Sensors read without a model, and the energy of any work, by the sources and the estimator of the sessions.

The sensors are read from `start` to `stop`. What lies between a `begin` and its `end` is measured as a turn is: with an
interval, by the widest source that reads, or not at all, with the reason. Readings come in later than the work that
they are of, so that figures are computed when they are asked for, and only then is waited for them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import fsum, isnan
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.energy.readings import Plausibility
from edgetop.core.energy.scopes import Headline
from edgetop.core.energy.tokens import Energy, grade_text
from edgetop.core.format import NOT_AVAILABLE, format_seconds, format_significant
from edgetop.core.quantity import Interval, with_interval
from edgetop.core.records import DeviceInfo, Event
from edgetop.core.sources import Meter, Unavailable
from edgetop.live.live_session import Recorder
from edgetop.session.energy import EnergyAccounts, SessionEnergy
from edgetop.session.meters import DEVICE_BUSY, DEVICE_IDLE, ChannelFeed, headline_of, meters_of
from edgetop.telemetry.host import Host
from edgetop.telemetry.registry import Inventory, PowerChoice, is_power_family, take_inventory
from edgetop.telemetry.sampler import Sampler

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


POLL_S = 0.05
"""How often the sampler is asked for what it has read."""

Span = tuple[int, int]
"""From when to when, in microseconds since the watch began."""


class MeanPower(Struct, frozen=True, kw_only=True):
    """What one channel showed over a span, in watts; of a counter all three are its rate."""

    mean_w: float
    least_w: float
    most_w: float
    readings: int
    failed: int = 0


class SensorSession:
    """Reads all sources of an inventory from its making until `close`, which closes them."""

    def __init__(self, inventory: Inventory, chosen: str | None = None) -> None:
        """`chosen` is the power source that the person named; `None` leaves the choice to edgetop."""
        self.session = Recorder(device=DeviceInfo(hostname=""), store=None, power=chosen).session
        self._sampler = Sampler(inventory)
        self.drain()
        self._sampler.start()

    @property
    def meters(self) -> Sequence[Meter]:
        """The channels of power and energy."""
        return meters_of(self.session)

    @property
    def headline(self) -> Headline | Unavailable:
        """The meters that stand for the device, or why there are none."""
        return headline_of(self.session, self.meters)

    def wait_for_readings(self, least_s: float, most_s: float) -> Span:
        """Go on until `least_s` seconds of the watch, and until every meter has answered, but no longer than `most_s`.

        The span is from the beginning of the watch. Without a meter nothing is waited for.
        """
        meters = self.meters
        while True:
            now_us = self.drain()
            answered = all(self._has_answered(meter, now_us) for meter in meters)
            if not meters or now_us >= most_s * 1e6 or (now_us >= least_s * 1e6 and answered):
                return 0, now_us
            time.sleep(POLL_S)

    def read_for(self, seconds: float, tick: Callable[[float], None] | None = None) -> Span:
        """Go on for so many seconds from now; `tick` is told how many are left."""
        begin_us = self._now_us()
        while True:
            now_us = self.drain()
            left_s = seconds - (now_us - begin_us) / 1e6
            if left_s <= 0:
                return begin_us, now_us
            if tick is not None:
                tick(left_s)
            time.sleep(min(left_s, POLL_S))

    def power(self, meter: Meter, span: Span) -> MeanPower | Unavailable:
        """What a meter showed over a span: the mean of a power's readings, the rate of a counter."""
        return self._rate(meter, span) if meter.kind == "energy" else self._mean(meter, span)

    def close(self) -> None:
        """End the reading and close the sources."""
        self._sampler.stop()

    def _mean(self, meter: Meter, span: Span) -> MeanPower | Unavailable:
        stamps, values = self.session.window(meter.name, *span)
        gate = Plausibility(meter)
        read = [(t_us, value) for t_us, value in zip(stamps, values, strict=True) if not isnan(value)]
        known = [value for reading in read for _, value in gate.admit(*reading, meter.update_s or meter.poll_s)]
        if not known:
            if read:
                return Unavailable(f"{format_significant(read[-1][1])} W cannot be the power of this meter")
            return self._why_none(meter, span)
        return MeanPower(
            mean_w=fsum(known) / len(known),
            least_w=min(known),
            most_w=max(known),
            readings=len(known),
            failed=len(stamps) - len(known),
        )

    def _rate(self, meter: Meter, span: Span) -> MeanPower | Unavailable:
        """From the first change of the counter to the last: before and after, a part of a step is not seen."""
        stamps, values = self.session.window(meter.name, *span)
        feed = ChannelFeed(self.session, meter)
        feed.advance(span[1])
        curve = feed.estimator.curve
        if curve.last_us is None or all(isnan(value) for value in values):
            return self._why_none(meter, span)
        changes_us = _changes_us(stamps, values)
        if not changes_us:
            return Unavailable(f"the counter has not moved in {_length_s(span):.1f} s")
        if len(changes_us) == 1:
            return Unavailable(f"the counter has moved only once in {_length_s(span):.1f} s")
        power_w = curve.mean_w(changes_us[0], changes_us[-1])
        return MeanPower(mean_w=power_w, least_w=power_w, most_w=power_w, readings=len(stamps))

    def _why_none(self, meter: Meter, span: Span) -> Unavailable:
        found = self.session.find_channel(meter.name)
        count = 0 if found is None else found[0].count_until(span[1])
        if found is None or not count:
            return Unavailable("it has not answered yet")
        last = found[0].columns[found[1]].at(count - 1)
        return last if isinstance(last, Unavailable) else Unavailable(f"it gave no reading in {_length_s(span):.1f} s")

    def _has_answered(self, meter: Meter, now_us: int) -> bool:
        """Whether a power has been read, be it in vain, or a counter has moved twice."""
        stamps, values = self.session.window(meter.name, 0, now_us)
        if meter.kind == "energy" and len(values) and not isnan(values[-1]):
            return len(_changes_us(stamps, values)) > 1
        return len(values) > 0

    def drain(self) -> int:
        """Add what was read by now to the session; the time of this call."""
        now_us = self._now_us()
        for record in self._sampler.drain():
            self.session.apply(record)
        return now_us

    def _now_us(self) -> int:
        return self.session.relative(monotonic_us())


def _changes_us(stamps: Sequence[int], values: Sequence[float]) -> list[int]:
    """When a counter was seen to stand elsewhere than at the reading before."""
    read = [(t_us, value) for t_us, value in zip(stamps, values, strict=True) if not isnan(value)]
    return [t_us for (_, before), (t_us, value) in pairwise(read) if value != before]


def _length_s(span: Span) -> float:
    return (span[1] - span[0]) / 1e6


READ_BESIDE = frozenset({"processor", "thermal"})
"""Families that say what else weighed on the device, and how warm it was."""

ANSWER_AT_MOST_S = 3.0
"""How long `start` waits for the sensors; one that is slower measures from its first reading on."""

DRAIN_S = 5.0
"""How often readings are taken over while nobody asks for any."""

AFTER_AT_MOST_S = 12.0
"""How long the readings of the last moments are waited for."""

WAITING_SHARE = 0.05
"""Work that takes less than this of a core's time may be a mere wait, under which readings may well stand still."""

WHOLE = "whole"
"""Name of what lies between `start` and `stop`."""

OF_TURNS = ("generate more tokens", "let it go on for longer")
"""What a hint says of turns, and of any work."""

NOT_STARTED = "the meter was not started"


class Measurement(Struct, frozen=True, kw_only=True):
    """What a piece of work took."""

    name: str
    seconds: float
    tokens: int = 0
    """Tokens generated in it, as the caller said."""
    energy: Energy | None = None
    energy_missing: str = ""
    """Why `energy` is `None`, and what would give it; empty when it is there."""

    @property
    def joules(self) -> float | None:
        """Gross energy in J; `None` where it is not known."""
        return None if self.energy is None else self.energy.gross_j.value

    @property
    def interval_j(self) -> tuple[float, float] | None:
        """Its ends in J: value ± 2u, which holds the truth in 95 % of cases."""
        return None if self.energy is None else (self.energy.gross_j.low, self.energy.gross_j.high)

    @property
    def net_joules(self) -> float | None:
        """Energy above idle in J, where the idle power was measured (`idle_s`)."""
        return None if self.energy is None or self.energy.net_j is None else self.energy.net_j.value

    @property
    def net_missing(self) -> str:
        """Why `net_joules` is `None`, and what would give it; empty where it is there."""
        if self.energy is None or self.energy.net_j is not None:
            return self.energy_missing
        return str(self.energy.missing["net_j"])

    @property
    def watts(self) -> float | None:
        """Mean power in W."""
        return None if self.energy is None else self.energy.mean_w.value

    @property
    def joules_per_token(self) -> float | None:
        """J for each of `tokens`."""
        known = None if self.energy is None else self.energy.j_per_token
        return None if known is None else known.value

    @property
    def scope(self) -> str | None:
        """What the meter covers, such as `cpu_package`, `board_input` or `wall`."""
        return None if self.energy is None else self.energy.scope

    @property
    def source(self) -> str | None:
        """The sensors, by their names in `edgetop power`."""
        return None if self.energy is None else self.energy.source

    @property
    def grade(self) -> str | None:
        """How far it can be trusted, from A to D."""
        return None if self.energy is None else self.energy.grade

    def row(self) -> dict[str, str | float | int | None]:
        """One row of a table, such as `pandas.DataFrame([each.row() for each in meter.results])`."""
        low, high = self.interval_j or (None, None)
        return {
            "name": self.name,
            "seconds": self.seconds,
            "joules": self.joules,
            "joules_low": low,
            "joules_high": high,
            "net_joules": self.net_joules,
            "watts": self.watts,
            "tokens": self.tokens,
            "joules_per_token": self.joules_per_token,
            "scope": self.scope,
            "source": self.source,
            "grade": self.grade,
            "missing": self.energy_missing,
        }

    def __str__(self) -> str:
        energy = self.energy
        if energy is None:
            return f"{NOT_AVAILABLE} J in {format_seconds(self.seconds)}: {self.energy_missing}"
        parts = [f"{with_interval(energy.gross_j)} J in {format_seconds(self.seconds)}", _of("W", energy.mean_w)]
        if energy.net_j is not None:
            parts.append(f"net {with_interval(energy.net_j)} J")
        if energy.j_per_token is not None:
            parts.append(_of("J/token", energy.j_per_token))
        return f"{', '.join(parts)} ({energy.scope.replace('_', ' ')}, {energy.source}, grade {grade_text(energy)})"

    def __repr__(self) -> str:
        return f"<edgetop measurement {self.name}: {self}>"


NOT_ENDED = Measurement(name=WHOLE, seconds=0.0, energy_missing="nothing has ended yet")


def _of(unit: str, figure: Interval) -> str:
    return f"{with_interval(figure)} {unit}"


class _Work(Struct):
    """A begun or ended piece of work, in microseconds since the sensors were first read."""

    name: str
    begin_us: int
    cpu_s: float
    """Processor time of this process and its ended children: when it began, and then what the work took."""
    end_us: int | None = None
    tokens: int = 0
    result: Measurement | None = None

    def end(self, end_us: int, tokens: int) -> None:
        """It ends."""
        self.end_us, self.tokens, self.cpu_s = end_us, tokens, _cpu_s() - self.cpu_s


def _cpu_s() -> float:
    return sum(os.times()[:4])


class SensorMeter:
    """Measures from `start` to `stop`, and in between from each `begin` to its `end`."""

    def __init__(self, choice: PowerChoice, *, sysroot: Path = Path("/"), idle_s: float = 0.0) -> None:
        """For `idle_s` before and after, the device is left idle, to measure what the work takes above idle."""
        self._choice, self._sysroot, self._idle_s = choice, sysroot, idle_s
        self._sensors: SensorSession | None = None
        self._accounts: EnergyAccounts | None = None
        self._work: list[_Work] = []
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # what ended early is not worth the wait
            self._idle_s = 0.0
        self.stop()

    def start(self) -> None:
        """Look for the sensors and wait for their first readings, up to some seconds. Once only."""
        if self._sensors is not None:
            raise RuntimeError("the meter was started already: make another one")
        families = [
            (name, probe) for name, probe in self._choice.families if is_power_family(name) or name in READ_BESIDE
        ]
        inventory = take_inventory(Host(sysroot=self._sysroot), [*self._choice.probes, *families])
        self._sensors = SensorSession(inventory, self._choice.headline)
        self._accounts = EnergyAccounts(self._sensors.session)
        try:
            self._sensors.wait_for_readings(0.0, ANSWER_AT_MOST_S)
            self._rest(self._sensors)
        except BaseException:  # such as an interrupt, after which nobody would close them
            self._ended.set()
            self._sensors.close()
            raise
        self._work.append(_Work(WHOLE, self._now_us(), _cpu_s()))
        threading.Thread(target=self._take_over, name="edgetop-meter", daemon=True).start()

    def begin(self, name: str) -> None:
        """A piece of work begins; others may be under way. Starts the meter where it was not."""
        if self._sensors is None:
            self.start()
        if self._ended.is_set():
            raise RuntimeError("the meter was stopped")
        if any(work.name == name and work.end_us is None for work in self._work):
            raise ValueError(f"{name!r} was begun and has not ended")
        self._work.append(_Work(name, self._now_us(), _cpu_s()))

    def end(self, name: str, *, tokens: int = 0) -> None:
        """The piece of work ends; `tokens` is how many were generated in it. Takes no time."""
        end_us = self._now_us()
        for work in self._work:
            if work.name == name and work.end_us is None:
                work.end(end_us, tokens)
                return
        raise ValueError(f"{name!r} was not begun")

    def stop(self, *, tokens: int = 0) -> None:
        """End everything, wait for the last readings and close the sensors. More than once does nothing."""
        if self._sensors is None or self._ended.is_set():
            return
        end_us = self._now_us()
        with self._lock:
            self._ended.set()
        for work in self._work:
            if work.end_us is None:
                work.end(end_us, tokens if work.name == WHOLE else 0)
        self._rest(self._sensors)
        for work in self._work:
            self._result(work)
        self._sensors.close()

    @property
    def result(self) -> Measurement:
        """What lies between `start` and `stop`; before `stop`, the last piece of work that has ended."""
        ended = self._work[:1] if self._ended.is_set() else [work for work in self._work if work.end_us is not None]
        return self._result(max(ended, key=lambda work: work.end_us or 0)) if ended else NOT_ENDED

    @property
    def results(self) -> list[Measurement]:
        """All pieces of work that have ended, in the order in which they began; the whole is not among them."""
        return [self._result(work) for work in self._work[1:] if work.end_us is not None]

    def __getitem__(self, name: str) -> Measurement:
        """The last piece of work of that name that has ended. Raises KeyError."""
        for work in reversed(self._work):
            if work.name == name and work.end_us is not None:
                return self._result(work)
        raise KeyError(name)

    def _result(self, work: _Work) -> Measurement:
        """Waits until no later reading changes it, at most until some seconds after work and rest."""
        if work.result is None and work.end_us is not None:
            until_us = work.end_us + round((self._idle_s + AFTER_AT_MOST_S) * US_PER_S)
            while not (account := self._account()).is_final(work.end_us, with_tail=self._idle_s > 0):
                if self._now_us() >= until_us:
                    break
                time.sleep(POLL_S)
            seconds = (work.end_us - work.begin_us) / US_PER_S
            found = account.between(
                work.begin_us, work.end_us, work.tokens, is_load=work.cpu_s > WAITING_SHARE * seconds
            )
            work.result = Measurement(
                name=work.name,
                seconds=seconds,
                tokens=work.tokens,
                energy=None if isinstance(found, Unavailable) else found,
                energy_missing=str(found).replace(*OF_TURNS) if isinstance(found, Unavailable) else "",
            )
        return work.result or NOT_ENDED

    def _account(self) -> SessionEnergy:
        """By all that was read so far."""
        if self._sensors is None or self._accounts is None:
            raise RuntimeError(NOT_STARTED)
        with self._lock:
            return self._accounts.at(self._sensors.drain())

    def _rest(self, sensors: SensorSession) -> None:
        """Leave the device idle, and tell the estimator so."""
        if self._idle_s > 0:
            session = sensors.session
            session.apply(Event(t_us=monotonic_us(), kind=DEVICE_IDLE, text="The device is left idle."))
            sensors.read_for(self._idle_s)
            session.apply(Event(t_us=monotonic_us(), kind=DEVICE_BUSY, text="The work begins."))

    def _now_us(self) -> int:
        if self._sensors is None:
            raise RuntimeError(NOT_STARTED)
        return self._sensors.session.relative(monotonic_us())

    def _take_over(self) -> None:
        """Readings wait in a list until they are taken over into columns, which are a tenth of the size."""
        while not self._ended.wait(DRAIN_S):
            with self._lock:
                if self._sensors is not None and not self._ended.is_set():
                    self._sensors.drain()

"""Headline of a session; idle spans and readings fed to estimators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from math import hypot, isfinite, isnan, sqrt
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.energy import windows
from edgetop.core.energy.baselines import IdlePower, no_other_load
from edgetop.core.energy.scopes import CHOOSE, Hardware, Headline, headlines_over_hosts, lost_host
from edgetop.core.energy.windows import ChannelEstimator, TurnSpan, TurnWindows, Window
from edgetop.core.quantity import Components, Quantity
from edgetop.core.records import LARGEST, Event, ModelLoaded
from edgetop.core.sources import CLOCK_PREFIX, CPU_OTHERS, GPU_PREFIX, HOST_PREFIX, Meter, Scope, Unavailable, meter_of
from edgetop.session.limits import OTHERS_PERCENT, limit_between, mean_of_present
from edgetop.session.session import Session
from edgetop.session.turn import Turn

SWITCHED_OFF = Unavailable("power was switched off with --power none")

OWN_METERS = ("power.exec", "power.stream")
"""What the person brought along with --power-exec and --power-stream."""

NOT_GPUS = ("CPU", "BLAS", "ACCEL")
"""Beginnings of the names of an engine's devices that are no GPUs."""

BOARDS = ("CUDA", "ROCM")
"""Of those that are boards of their own; other backends serve the graphics within a processor as well."""

SILENT_PERIODS, SILENT_S = 5, 2.0
"""A meter without a reading for longer than this does not answer."""


def meters_of(session: Session) -> list[Meter]:
    """The channels of the session that meter power or energy."""
    return [
        meter
        for series in session.series.values()
        for column in series.columns
        if (meter := meter_of(series.info, column.channel)) is not None
    ]


def headlines_of(session: Session, meters: Sequence[Meter]) -> tuple[Headline, ...] | Unavailable:
    """What can stand for the device, as the person chose or by scope, the widest first; or the best reason for none."""
    chosen = session.header.power if session.header is not None else None
    if chosen == "none":
        return SWITCHED_OFF
    hosts = {
        name.removeprefix(HOST_PREFIX): missing
        for name, missing in session.absent.items()
        if name.startswith(HOST_PREFIX)
    }
    found = headlines_over_hosts(
        meters, chosen, hosts, runs_on=runs_on(session), readings_w=_readings_w(session, meters)
    )
    if not isinstance(found, Unavailable) or hosts or any(meter.host for meter in meters):
        return found
    if chosen is not None:
        missing = session.absent.get(chosen)
        return found if missing is None else Unavailable(f"{chosen}: {missing.reason}", missing.hint or found.hint)
    if any("opt-in" not in meter.flags for meter in meters):
        permission = best_reason(session.absent)
        if permission is None or "sudo" not in permission.hint or found.hint.startswith(CHOOSE):
            return found
        return replace(found, hint=permission.hint)
    return best_reason(session.absent) or found


def choices_of(session: Session) -> dict[str, float | None]:
    """The names that `/power` takes, each with its present power in W, where it is known."""
    meters = meters_of(session)
    readings_w = _readings_w(session, meters)
    return {meter.name: readings_w.get(meter.name) for meter in meters}


def headline_of(session: Session, meters: Sequence[Meter]) -> Headline | Unavailable:
    """The widest of `headlines_of` whose meters read now; the widest of all while none does."""
    found = headlines_of(session, meters)
    if isinstance(found, Unavailable):
        return found
    return next((each for each in found if all(reads_now(session, meter) for meter in each.meters)), found[0])


def gpus_of(load: ModelLoaded) -> list[str]:
    """The engine's GPUs that have layers of a model, with what they are; none where that is not known."""
    gpus = [device for device in load.engine.devices if not device.upper().startswith(NOT_GPUS)]
    return gpus if load.settings.n_gpu_layers != 0 and not load.engine.server else []


def runs_on(session: Session) -> frozenset[Hardware]:
    """The hardware that the session's models run on; empty where that is not known, as of a server's.

    Graphics within the processor are part of its package.
    """
    hardware: set[Hardware] = set()
    for load in session.loads:
        if load.engine.server or load.settings.rpc_servers or not load.engine.devices:
            return frozenset()
        gpus, layers = gpus_of(load), load.settings.n_gpu_layers
        has_board = any(gpu.upper().startswith(BOARDS) for gpu in gpus) or (bool(gpus) and _has_board(session))
        if has_board:
            hardware.add("gpu")
        if not has_board or (layers is not None and 0 <= layers < (load.model.n_layer or LARGEST)):
            hardware.add("cpu")
    return frozenset(hardware)


def _has_board(session: Session) -> bool:
    """Whether the machine has a graphics board of its own, by what is read of it."""
    return any(
        channel.scope == "gpu_board" or channel.name.removeprefix(GPU_PREFIX)[:1].isdecimal()
        for series in session.series.values()
        for channel in series.info.channels
    )


def reads_now(session: Session, meter: Meter) -> bool:
    """Whether a meter has given a reading of late, or none that failed yet."""
    found = session.find_channel(meter.name)
    if found is None or not found[0].t_us:
        return found is not None
    series, column = found
    values = series.columns[column].values
    since_us = session.end_us - round(max(SILENT_PERIODS * series.info.period_s, SILENT_S) * US_PER_S)
    first, _ = series.between(since_us, since_us)
    return any(not isnan(value) for value in values[first:])


def _readings_w(session: Session, meters: Sequence[Meter]) -> dict[str, float]:
    """The latest readings of the meters of power."""
    readings_w: dict[str, float] = {}
    for meter in meters:
        found = session.find_channel(meter.name) if meter.kind == "power" else None
        if found is not None and found[0].t_us and not isnan(value := found[0].columns[found[1]].values[-1]):
            readings_w[meter.name] = value
    return readings_w


def best_reason(absent: Mapping[str, Unavailable]) -> Unavailable | None:
    """Of all reasons why power is not known the one a person can do most about.

    That is why a meter of his own failed, else the sensor that only lacks permission.
    """
    for name in OWN_METERS:
        if name in absent:
            return Unavailable(f"{name}: {absent[name].reason}", absent[name].hint)
    for name, missing in absent.items():
        if name.startswith("power.") and "sudo" in missing.hint:
            return missing
    return absent.get("power")


LOADED, UNLOADED = "loaded", "unloaded"
UNLOADING_EVENTS = frozenset({"model_loading", "load_failed", "engine_died"})
DEVICE_IDLE, DEVICE_BUSY = "device_quiet", "device_busy"
"""Kinds of events: the device was left idle, or it no longer is, in work that is no model's."""

_EVENTS = dict.fromkeys((*UNLOADING_EVENTS, DEVICE_BUSY), UNLOADED) | {DEVICE_IDLE: LOADED}


class Moment(Struct, frozen=True):
    """The device became idle or busy, or it slept."""

    t_us: int
    what: Literal["idle", "busy", "suspended"]


class ActivityLog:
    """The moments of a session, kept up as it grows.

    The device is idle while a model is loaded and no turn runs. A turn that ended because the engine died leaves no
    model behind, whichever of the two was noted first.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begin()

    def _begin(self) -> None:
        self._found: list[Moment] = []
        self._loads, self._turns, self._events = 0, 0, 0
        self._unfinished: list[Turn] = []
        self._last_event: Event | None = None
        self._last_us: int | None = None
        self._loaded = self._running = self._idle = False

    def all(self) -> list[Moment]:
        """All of them, in order of time. The list grows; it is another one once a record came late."""
        if self._last_event is not None and self._session.events[self._events - 1] is not self._last_event:
            self._begin()  # one was put before it
        changes = self._new_changes()
        if changes and self._last_us is not None and changes[0][0] <= self._last_us:
            self._begin()
            changes = self._new_changes()
        for t_us, what in changes:
            self._note_change(t_us, what)
        return self._found

    def _new_changes(self) -> list[tuple[int, str]]:
        """What has happened since, in order of time."""
        session = self._session
        changes: list[tuple[int, str]] = [(load.t_us, LOADED) for load in session.loads[self._loads :]]
        turns = [(turn, False) for turn in self._unfinished]
        turns += [(turn, True) for turn in session.turns[self._turns :]]
        for turn, is_new in turns:
            if is_new:
                changes.append((turn.started.t_us, "started"))
            if turn.finished is not None:
                changes.append((turn.finished.t_us, "finished"))
        for event in session.events[self._events :]:
            if event.kind in _EVENTS:
                changes.append((event.t_us, _EVENTS[event.kind]))
            elif event.kind == "suspended":
                changes.append((event.t_us, "suspended"))
        self._loads, self._turns, self._events = len(session.loads), len(session.turns), len(session.events)
        self._last_event = session.events[-1] if session.events else None
        self._unfinished = [turn for turn, _ in turns if turn.finished is None]
        # Of one stamp, the order above stays: a turn begins before it ends, and ends before the next one begins.
        changes.sort(key=lambda change: change[0])
        return changes

    def _note_change(self, t_us: int, what: str) -> None:
        self._last_us = t_us
        match what:
            case "suspended":
                self._found.append(Moment(t_us, "suspended"))
            case "started" | "finished":
                self._running = what == "started"
            case _:
                self._loaded = what == LOADED
        if self._idle != (self._loaded and not self._running):
            self._idle = not self._idle
            self._found.append(Moment(t_us, "idle" if self._idle else "busy"))


PULSE = "sync_pulse"
"""Kind of the event of a load pulse; its `spans_us` say from when to when the load was on, since the event."""


def pulse_spans(session: Session) -> list[tuple[int, int]]:
    """When a load pulse was on."""
    spans = []
    for event in session.events:
        for text in str(event.data.get("spans_us", "")).split() if event.kind == PULSE else ():
            begin, _, end = text.partition("-")
            if begin.isdecimal() and end.isdecimal() and int(begin) < int(end) < LARGEST:
                spans.append((event.t_us + int(begin), event.t_us + int(end)))
    return spans


IDLE_BASELINE = "idle_baseline"
"""Kind of the event that keeps the last idle power of this machine and model, measured in an earlier session."""

IDLE_WORDS = "idle baseline of"
AGED_SHARE, AGED_MOST = 0.02, 0.10
"""Idle power drifts with temperature and with what else is started: by 2 % within an hour, growing with the root of the
time, up to 10 % (judgement; no vendor states it)."""

CHANGED_SHARE = 0.10
"""... and by as much again for each of power mode, governor and sensor that is another one (judgement)."""


class StoredIdle(Struct, frozen=True):
    """An idle power of an earlier session, and what it is called wherever it is used."""

    power: Quantity
    flag: str


def stored_idle(session: Session, scope: Scope, source: str) -> StoredIdle | None:
    """The idle power of an earlier session by a meter of the same scope; its interval grows with age and changes."""
    event = next((each for each in reversed(session.events) if each.kind == IDLE_BASELINE), None)
    if event is None or event.data.get("scope") != scope:
        return None
    power_w, u_w, age_s = (event.data.get(name) for name in ("power_w", "u_w", "age_s"))
    numbers = [each for each in (power_w, u_w, age_s) if isinstance(each, float | int) and isfinite(each) and each >= 0]
    if len(numbers) < 3:
        return None
    changed = [each for each in str(event.data.get("changed", "")).split(", ") if each]
    changed += [] if event.data.get("source") == source else ["sensor"]
    aged = min(AGED_MOST, AGED_SHARE * sqrt(1 + numbers[2] / 3600))
    u = hypot(numbers[1], numbers[0] * aged, *(numbers[0] * CHANGED_SHARE for _ in changed))
    other = f", with another {' and '.join(changed)}" if changed else ""
    return StoredIdle(
        Quantity(value=numbers[0], u=Components(baseline=u)), f"{IDLE_WORDS} {ago(numbers[2])} ago{other}"
    )


def ago(age_s: float) -> str:
    """An age in its largest whole unit."""
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if age_s >= length_s:
            return f"{age_s / length_s:.0f} {unit}"
    return f"{age_s:.0f} s"


HELD_BY_SERVER = Unavailable("a server holds the model")


def load_start_us(load: ModelLoaded) -> int:
    """When the engine began to load a model."""
    return load.t_us - round(load.load_s * US_PER_S)


def unloaded_spans(session: Session, until_us: int) -> list[tuple[int, int]] | Unavailable:
    """When no model was loaded nor being loaded, up to a moment."""
    if any(load.engine.server for load in session.loads):
        return HELD_BY_SERVER
    changes = [(load_start_us(load), True) for load in session.loads]
    changes += [(each.t_us, each.kind == "model_loading") for each in session.events if each.kind in UNLOADING_EVENTS]
    changes += [(t_us, is_on) for span in pulse_spans(session) for t_us, is_on in zip(span, (True, False), strict=True)]
    spans: list[tuple[int, int]] = []
    begin_us: int | None = 0
    for t_us, is_loading in [*sorted(each for each in changes if each[0] < until_us), (until_us, True)]:
        if is_loading and begin_us is not None:
            spans.append((begin_us, t_us))
        begin_us = None if is_loading else t_us if begin_us is None else begin_us
    return spans


def other_load_in(session: Session, start_us: int, end_us: int) -> list[tuple[int, int]]:
    """The parts of a span in which other programs used the processor: up to each reading that says so."""
    found = session.find_channel(CPU_OTHERS)
    if found is None:
        return []
    period_us = round(found[0].info.period_s * US_PER_S)
    stamps, values = session.window(CPU_OTHERS, start_us, end_us)
    return [(t_us - period_us, t_us) for t_us, value in zip(stamps, values, strict=True) if value >= OTHERS_PERCENT]


def weakened_by(session: Session, start_us: int, end_us: int) -> tuple[str, ...]:
    """The flags of a window's energy for what the device and other programs did in it."""
    limit = limit_between(session, start_us, end_us).name
    _, others = session.window(CPU_OTHERS, start_us, end_us)
    flags = {
        "throttled": limit == "throttled",
        "paused": bool(session.pauses(start_us, end_us)),
        "other-load": limit == "contention" or (mean_of_present(others) or 0.0) >= OTHERS_PERCENT,
    }
    return tuple(name for name, holds in flags.items() if holds)


NOT_READ_YET = Unavailable("the first readings have not come yet")
STANDS_STILL = Unavailable("the energy counter stands still", "choose another meter with --power")
SEE_DOCTOR = "see edgetop doctor for the sensor's state"
POWER_OVER_S = 0.5
"""Power now is a mean over at least this long: the readings of quick sensors flicker."""


FED_AT_ONCE: Final = 4096
"""Readings that are unpacked at a time."""


class ChannelFeed:
    """One channel of the session, and how far its estimator has been fed."""

    def __init__(self, session: Session, meter: Meter) -> None:
        found = session.find_channel(meter.name)
        assert found is not None  # noqa: S101 - meters are made of the session's own channels
        self._series, self._column = found
        names = [column.channel.name for column in self._series.columns]
        self._clock = next((i for i, name in enumerate(names) if name.startswith(CLOCK_PREFIX)), None)
        other_load = no_other_load if meter.host else partial(other_load_in, session)
        self.estimator = ChannelEstimator(meter, other_load)
        self.estimator.sees_work = meter.scope != "gpu_board" or runs_on(session) != {"cpu"}
        self.readings_fed = 0
        self._sleeps_us: list[int] = []

    def mark(self) -> ChannelFeed:
        """The feed as it is now, which is only good for `resumed`."""
        return self._with(self.estimator.mark())

    def resumed(self) -> ChannelFeed:
        """From a mark, a feed that goes on from there."""
        return self._with(self.estimator.resumed())

    def separate(self) -> None:
        """Share no list that changes with the feed that this is a copy of."""
        self._sleeps_us = self._sleeps_us.copy()

    def _with(self, estimator: ChannelEstimator) -> ChannelFeed:
        other = copy(self)
        other.estimator = estimator
        other.separate()
        return other

    def note(self, moment: Moment, temperature_c: float | None) -> None:
        """Take note of a moment; moments come in order, but may come before readings that were taken earlier.

        How warm this machine is says nothing of another one.
        """
        if self.estimator.meter.host:
            temperature_c = None
        match moment.what:
            case "idle":
                self.estimator.idle_from(moment.t_us, temperature_c)
            case "busy":
                self.estimator.busy_from(moment.t_us)
            case "suspended":
                self._sleeps_us.append(moment.t_us)

    def advance(self, until_us: int) -> None:
        """Feed the readings up to `until_us`."""
        stamps, values = self._series.t_us, self._series.columns[self._column].values
        end = self._series.count_until(until_us)
        while (begin := self.readings_fed) < end:
            self.readings_fed = min(end, begin + FED_AT_ONCE)
            of_these = slice(begin, self.readings_fed)
            for t_us, value in zip(stamps[of_these], values[of_these], strict=True):
                while self._sleeps_us and self._sleeps_us[0] <= t_us:
                    del self._sleeps_us[0]
                    self.estimator.suspended()
                self.estimator.read(t_us, None if isnan(value) else value)

    def turn(self, span: TurnSpan, temperature_c: float | None) -> TurnWindows | Unavailable:
        """The energy of a turn; of another machine's with what its clock makes of it, or why by its name."""
        host = self.estimator.meter.host
        clock_s = None if self._clock is None else self._clock_error_s(span.submitted_us, span.last_us)
        found = self.estimator.turn(span, None if host else temperature_c, clock_s)
        if isinstance(found, Unavailable):
            return lost_host(host, found) if host else found
        return found if self._clock is not None else found.with_clock(self.estimator.meter.stamp_s)

    def measured(self, start_us: int, end_us: int, idle: IdlePower | Unavailable) -> Window | Unavailable:
        """The energy of one span, with the idle power that is to be taken off."""
        host = self.estimator.meter.host
        found = windows.measure(self.estimator.curve, start_us, end_us, idle)
        if isinstance(found, Unavailable):
            return lost_host(host, found) if host else found
        return windows.with_clock(found, self._clock_error_s(start_us, end_us))

    def latest(self, until_us: int) -> tuple[float, int] | Unavailable:
        """Mean power in W over the last stretch that the sensor can tell, and when that ended; or why there is none."""
        curve = self.estimator.curve
        if curve.first_us is None or curve.last_us is None or not curve.reaches(until_us):
            return self._lost()
        span_us = round(max(curve.update_s, curve.window_s, POWER_OVER_S) * 1e6)
        begin_us = max(curve.first_us, curve.last_us - span_us)
        if begin_us == curve.last_us:
            return NOT_READ_YET
        return curve.mean_w(begin_us, curve.last_us), curve.last_us

    def _clock_error_s(self, start_us: int, end_us: int) -> float:
        """Half-width of the error of the stamps about the ends of a window; the mean of the two."""
        if self._clock is None:
            return self.estimator.meter.stamp_s
        return (self._clock_error_at(self._clock, start_us) + self._clock_error_at(self._clock, end_us)) / 2

    def _clock_error_at(self, column: int, t_us: int) -> float:
        values = self._series.columns[column].values
        for index in range(self._series.count_until(t_us) - 1, -1, -1):
            if not isnan(values[index]):
                return values[index]
        return next((value for value in values if not isnan(value)), 0.0)

    def _lost(self) -> Unavailable:
        """Why there is no power now, in the sensor's own words if it had any; of another machine, with its name."""
        host = self.estimator.meter.host
        missing = self._why_lost()
        return lost_host(host, replace(missing, hint="")) if host else missing

    def _why_lost(self) -> Unavailable:
        curve = self.estimator.curve
        value = self._series.columns[self._column].at(self.readings_fed - 1) if self.readings_fed else NOT_READ_YET
        if isinstance(value, Unavailable):
            return value if value is NOT_READ_YET else Unavailable(value.reason, SEE_DOCTOR)
        if curve.meter.kind == "energy":
            return STANDS_STILL
        return Unavailable("the sensor does not answer", SEE_DOCTOR)

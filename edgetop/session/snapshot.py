"""Everything shown at time t, and series in equal steps for graphs; keeps the caches per session.

A snapshot is a function of the session and the moment: nothing that happened later shows in it. The live screen takes
one of the growing session at "now", replay one at the play head; the last one holds the figures of the session file.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from math import isnan
from typing import Generic, Literal, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core import sources
from edgetop.core.clock import US_PER_S, seconds
from edgetop.core.energy.uncertainty import seconds_to_certain
from edgetop.core.figures import OwnCost, Summary, TurnFigures, WatchFigures
from edgetop.core.records import ModelLoaded
from edgetop.core.sources import Unavailable
from edgetop.session.energy import PowerNow, energy_of
from edgetop.session.limits import BOUNDS, UNKNOWN, UNKNOWN_AT_END, Limit, limit_between
from edgetop.session.session import Session
from edgetop.session.summary import TurnResult, add_up, summary_of
from edgetop.session.turn import Turn, TurnProgress, recent_tokens_per_s, server_words
from edgetop.session.watch import is_watch, recent_rate, watch_energy_of, watch_figures

Phase = Literal["starting", "loading", "no_model", "ready", "prefill", "decode", "dead", "ended"]

PHASE_OF_EVENT: dict[str, Phase] = {
    "model_loading": "loading",
    "load_failed": "no_model",
    "engine_died": "dead",
    "session_ended": "ended",
}
"""Events that put the engine into a phase, until a model is loaded or another one of them comes."""

NOT_READ_YET = Unavailable("no reading has come yet")
RECENT_LIMIT_US = 3 * US_PER_S
"""What limits the speed now is read from this much of the immediate past."""


class Reading(Struct, frozen=True):
    """The latest value of a channel, in the channel's unit."""

    value: float
    age_us: int


class TurnView(Struct, frozen=True, kw_only=True):
    """The current turn, or the last one while none runs."""

    number: int
    running: bool
    figures: TurnFigures
    recent_tokens_per_s: float | None
    """Decode rate of the last two seconds, while it runs; where `counted` is false, in chunks per second."""
    prefill_done: int
    prefill_total: int | None
    """Tokens to evaluate, `None` before the prefill begins."""
    elapsed_s: float
    """Since it was submitted, or in all."""
    counted: bool = True
    """False while a server has not said how many tokens its chunks hold: `figures` then counts chunks."""
    energy_in_s: float | None = None
    """When it will be certain enough to have an energy per token; `None` where something else than that is missing."""
    server: str = ""
    """What a server says of its speed itself, once it has ended; empty for an engine of our own."""


class MemoryView(Struct, frozen=True, kw_only=True):
    """Where the engine's memory goes, in bytes. Weights, KV cache and compute buffers are what it reserved."""

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    compute_bytes: int | None = None
    rss_bytes: int | None = None
    mapped_bytes: int | None = None
    anonymous_bytes: int | None = None
    rest_bytes: int | None = None
    """Resident beyond what was reserved; unknown while not all that was reserved is resident."""


class WatchView(Struct, frozen=True, kw_only=True):
    """What watched servers do, all together."""

    figures: WatchFigures
    recent_tokens_per_s: float | None
    """Of the last seconds; `None` where it is not known."""
    requests_running: float | None
    requests_waiting: float | None


class Snapshot(Struct, frozen=True, kw_only=True):
    """A session at `t_us` microseconds since it began."""

    t_us: int
    phase: Phase
    load: ModelLoaded | None
    """The resident model, or the last one."""
    turn: TurnView | None
    summary: Summary
    """The session so far, the running turn included."""
    power: PowerNow | Unavailable
    """What the headline source draws, or why that is not known."""
    readings: dict[str, Reading | Unavailable]
    """The latest of each channel."""
    absent: dict[str, Unavailable]
    """Kinds of reading that this machine does not give."""
    memory: MemoryView
    own_cost: OwnCost
    """Now; the summary has the mean and the peak."""
    limit: Limit
    """What limits the speed now, or limited the last turn."""
    context_used: int | None
    """Tokens in the KV cache; `None` without a model."""
    n_ctx: int | None
    events: int
    """How many of the session's events have happened."""
    watch: WatchView | None = None
    """`None` where no servers are watched."""


def snapshot(session: Session, t_us: int) -> Snapshot:
    """The session as it was at `t_us` microseconds since it began (`Session.relative`)."""
    index = session.turn_at(t_us)
    turn = None if index is None else session.turns[index]
    progress = None if turn is None else turn.progress(t_us)
    running = turn is not None and turn.finished_at(t_us) is None
    load = next((load for load in reversed(session.loads) if load.t_us <= t_us), None)
    sums = add_up(session, t_us)
    last = sums.last
    readings = _readings(session, t_us)
    watched = is_watch(session)
    return Snapshot(
        t_us=t_us,
        phase=_phase(session, turn, load, t_us),
        load=load,
        turn=None if turn is None or progress is None else _turn_view(session, turn, progress, last, load, t_us),
        summary=summary_of(session, sums, load, t_us),
        power=_power_of_watch(session, t_us) if watched else energy_of(session, t_us).power_at(t_us),
        readings=readings,
        absent=dict(session.absent),
        memory=_memory_view(load, readings),
        own_cost=OwnCost(cpu_percent=_value(readings, sources.OWN_CPU), rss_bytes=_bytes(readings, sources.OWN_RSS)),
        limit=_limit_now(session, last.limit, t_us)
        if running
        else UNKNOWN_AT_END
        if last.limit is UNKNOWN
        else last.limit,
        context_used=_context_used(turn, progress, load, t_us),
        n_ctx=None if load is None else load.settings.n_ctx,
        events=session.events_until(t_us),
        watch=_watch_view(session, readings, t_us) if watched else None,
    )


def _power_of_watch(session: Session, t_us: int) -> PowerNow | Unavailable:
    """The power now; the idle power is that of the time in which the servers only waited."""
    power = energy_of(session, t_us).power_at(t_us)
    return power if isinstance(power, Unavailable) else replace(power, idle_w=watch_energy_of(session, t_us).idle_w())


def _watch_view(session: Session, readings: dict[str, Reading | Unavailable], t_us: int) -> WatchView:
    return WatchView(
        figures=watch_figures(session, t_us),
        recent_tokens_per_s=recent_rate(session, t_us),
        requests_running=_value(readings, sources.SERVED_RUNNING),
        requests_waiting=_value(readings, sources.SERVED_WAITING),
    )


def _limit_now(session: Session, of_turn: Limit, t_us: int) -> Limit:
    """What holds a running turn back now, else what in the machine itself has limited it so far."""
    recent = limit_between(session, t_us - RECENT_LIMIT_US, t_us)
    return of_turn if recent is UNKNOWN and of_turn.name in {*BOUNDS, "unknown"} else recent


def _phase(session: Session, turn: Turn | None, load: ModelLoaded | None, t_us: int) -> Phase:
    loaded_us = -1 if load is None else load.t_us
    for event in reversed(session.events[: session.events_until(t_us)]):
        if event.t_us < loaded_us:
            break
        phase = PHASE_OF_EVENT.get(event.kind)
        if phase is not None:
            return phase
    if load is None:
        return "ready" if is_watch(session) else "starting"
    if turn is None or turn.finished_at(t_us) is not None:
        return "ready"
    return "decode" if turn.token_t_us and turn.token_t_us[0] <= t_us else "prefill"


def _turn_view(  # noqa: PLR0917 - a turn and its session at a moment
    session: Session, turn: Turn, progress: TurnProgress, result: TurnResult, load: ModelLoaded | None, t_us: int
) -> TurnView:
    figures = result.figures
    finished = turn.finished_at(t_us)
    until_us = t_us if finished is None else finished.t_us
    perf = finished.perf if finished is not None and load is not None and load.engine.server else None
    certain_s = energy_of(session, t_us).certain_after_s(progress.submitted_us) if finished is None else 0.0
    recent = None if finished is not None else recent_tokens_per_s(turn.token_t_us, progress.stamps, t_us)
    return TurnView(
        number=turn.started.turn,
        running=finished is None,
        figures=figures,
        recent_tokens_per_s=recent,
        counted=progress.counted,
        prefill_done=progress.evaluated,
        prefill_total=progress.to_evaluate,
        elapsed_s=(elapsed_s := seconds(until_us - progress.submitted_us)),
        energy_in_s=seconds_to_certain(result.energy, elapsed_s, certain_s),
        server=server_words(perf, figures.decode_tokens_per_s, figures.prefill_tokens_per_s),
    )


def _context_used(turn: Turn | None, progress: TurnProgress | None, load: ModelLoaded | None, t_us: int) -> int | None:
    if load is None:
        return None
    if turn is None or progress is None or turn.started.t_us < load.t_us:
        # What a server holds of other conversations nobody tells.
        return None if load.engine.server else 0
    finished = turn.finished_at(t_us)
    if finished is not None:
        return finished.context_used
    if progress.cached is None:
        return None
    return progress.cached + progress.evaluated + progress.generated


def _readings(session: Session, t_us: int) -> dict[str, Reading | Unavailable]:
    readings: dict[str, Reading | Unavailable] = {}
    for series in session.series.values():
        count = series.count_until(t_us)
        for column in series.columns:
            if count == 0:
                readings[column.channel.name] = NOT_READ_YET
                continue
            value = column.at(count - 1)
            readings[column.channel.name] = (
                value if isinstance(value, Unavailable) else Reading(value, t_us - series.t_us[count - 1])
            )
    return readings


def _memory_view(load: ModelLoaded | None, readings: dict[str, Reading | Unavailable]) -> MemoryView:
    rss_bytes = _bytes(readings, sources.ENGINE_RSS)
    view = MemoryView(
        rss_bytes=rss_bytes,
        mapped_bytes=_bytes(readings, sources.ENGINE_MAPPED),
        anonymous_bytes=_bytes(readings, sources.ENGINE_ANONYMOUS),
    )
    if load is None:
        return view
    memory = load.memory
    reserved = [memory.weights_bytes, memory.kv_bytes, memory.compute_bytes, memory.output_bytes]
    rest_bytes = None
    if rss_bytes is not None and memory.weights_bytes is not None:
        beyond_bytes = rss_bytes - sum(size for size in reserved if size is not None)
        rest_bytes = beyond_bytes if beyond_bytes >= 0 else None
    return replace(
        view,
        weights_bytes=memory.weights_bytes,
        kv_bytes=memory.kv_bytes,
        compute_bytes=memory.compute_bytes,
        rest_bytes=rest_bytes,
    )


def _value(readings: dict[str, Reading | Unavailable], channel: str) -> float | None:
    reading = readings.get(channel)
    return reading.value if isinstance(reading, Reading) else None


def _bytes(readings: dict[str, Reading | Unavailable], channel: str) -> int | None:
    value = _value(readings, channel)
    return None if value is None else int(value)


STEPS = 120
"""Of `speed_over_time`."""

HOLD_PERIODS = 1.5
"""A reading stands for so many periods of its source, so that a meter slower than the steps leaves no holes."""


class Speed(Struct, frozen=True, kw_only=True):
    """Decode rate over a session, in equal steps; `None` where nothing was decoded."""

    step_s: float
    tokens_per_s: tuple[float | None, ...]


class StepPhase(NamedTuple):
    """What the model did in a step."""

    phase: Literal["prefill", "decode", ""]
    turn_begins: bool


def speed_over_time(turns_s: Sequence[Sequence[float]]) -> Speed | None:
    """Tokens per second in STEPS equal steps from the first token to the last; `None` with no two tokens in a turn.

    `turns_s` has the stamps of each turn's tokens, in seconds and ascending.
    """
    turns_s = [stamps for stamps in turns_s if len(stamps) > 1]
    if not turns_s or turns_s[-1][-1] <= turns_s[0][0]:
        return None
    begin_s = turns_s[0][0]
    decoded = _Decoded(begin_s, (turns_s[-1][-1] - begin_s) / STEPS, STEPS)
    for stamps in turns_s:
        decoded.add(stamps, stamps[-1])
    return Speed(step_s=decoded.step, tokens_per_s=tuple(decoded.rates()))


def decode_rate_history(session: Session, t_us: int, steps: int, step_us: int) -> list[float | None]:
    """Decoded tokens per second in each of `steps` spans of `step_us`, oldest first; `None` where nothing was decoded.

    The spans are aligned to multiples of `step_us`, so that a graph moves by whole steps; the last one is that in which
    `t_us` lies, and counts the part of it that has passed.
    """
    begin_us = _begin_us(t_us, steps, step_us)
    decoded = _Decoded(begin_us, step_us, steps)
    for turn in _turns_back(session, t_us):
        stamps_us = turn.token_t_us
        count = bisect_right(stamps_us, t_us)
        if count == 0:
            continue
        if stamps_us[count - 1] <= begin_us:
            break
        decoded.add(stamps_us, stamps_us[count - 1])
    return [None if rate is None else rate * US_PER_S for rate in decoded.rates()]


def channel_history(session: Session, channel: str, t_us: int, steps: int, step_us: int) -> list[float | None]:
    """Mean reading of a channel in each of `steps` spans of `step_us`, oldest first; `None` where it is missing.

    The spans are those of `decode_rate_history`.
    """
    found = session.find_channel(channel)
    if found is None:
        return [None] * steps
    hold_us = round(HOLD_PERIODS * found[0].info.period_s * US_PER_S)
    begin_us = _begin_us(t_us, steps, step_us)
    stamps_us, values = session.window(channel, begin_us - hold_us, t_us)
    means: list[float | None] = []
    high = bisect_left(stamps_us, begin_us)
    for step in range(steps):
        low, high = high, bisect_left(stamps_us, begin_us + (step + 1) * step_us)
        if low == high and low > 0 and stamps_us[low - 1] + hold_us >= begin_us + step * step_us:
            low -= 1
        read = [value for value in values[low:high] if not isnan(value)]
        means.append(sum(read) / len(read) if read else None)
    return means


def phase_history(session: Session, t_us: int, steps: int, step_us: int) -> list[StepPhase]:
    """What the model did for the longer part of each step, and whether a turn began in it.

    The spans are those of `decode_rate_history`. A turn reads its prompt from when it was submitted to its first token.
    """
    begin_us = _begin_us(t_us, steps, step_us)
    reading_us, writing_us, begins = [0] * steps, [0] * steps, [False] * steps
    for turn in _turns_back(session, t_us):
        submitted_us = turn.started.t_us
        end_us = t_us if turn.finished_at(t_us) is None else turn.last_us
        if end_us < begin_us:
            break
        first_us = turn.token_t_us[0] if turn.token_t_us and turn.token_t_us[0] <= t_us else end_us
        if submitted_us >= begin_us:
            begins[(submitted_us - begin_us) // step_us] = True
        _add_span(reading_us, submitted_us - begin_us, first_us - begin_us, step_us)
        _add_span(writing_us, first_us - begin_us, end_us - begin_us, step_us)
    return [
        StepPhase("prefill" if reading > writing else "decode" if writing else "", begin)
        for reading, writing, begin in zip(reading_us, writing_us, begins, strict=True)
    ]


def _turns_back(session: Session, t_us: int) -> Iterator[Turn]:
    """The turns that have begun by `t_us`, the last one first."""
    last = session.turn_at(t_us)
    return (session.turns[index] for index in range(-1 if last is None else last, -1, -1))


def _add_span(spans_us: list[int], low_us: int, high_us: int, step_us: int) -> None:
    """Add to each step what a span from `low_us` to `high_us`, both since the first step, has of it."""
    low_us = max(0, low_us)
    for step in range(low_us // step_us, len(spans_us)):
        if low_us >= high_us:
            break
        until_us = min(high_us, (step + 1) * step_us)
        spans_us[step] += until_us - low_us
        low_us = until_us


def _begin_us(t_us: int, steps: int, step_us: int) -> int:
    return (t_us // step_us + 1 - steps) * step_us


class _Decoded:
    """Tokens decoded in equal steps, and the time that this took.

    Only time between tokens of one turn counts. A token that takes longer than a step is spread over all of the time
    since its predecessor, so that the area under the rates is the number of tokens after the first one of each turn.
    """

    def __init__(self, begin: float, step: float, steps: int) -> None:
        self.step = step
        self._begin = begin
        self._tokens, self._spans = [0.0] * steps, [0.0] * steps

    def add(self, stamps: Sequence[float], last: float) -> None:
        """Add a turn's tokens, by their ascending stamps, from the first step on and up to the stamp `last`."""
        low = max(stamps[0], self._begin)
        done = _decoded_at(stamps, low) if low > stamps[0] else 0.0
        steps = len(self._tokens)
        for step in range(min(steps - 1, int((low - self._begin) / self.step)), steps):
            high = min(last, self._begin + (step + 1) * self.step)
            if high > low:
                done, before = _decoded_at(stamps, high), done
                self._tokens[step] += done - before
                self._spans[step] += high - low
                low = high
            if high >= last:
                break

    def rates(self) -> list[float | None]:
        """Tokens per unit of time in each step; `None` where nothing was decoded."""
        return [count / span if span > 0 else None for count, span in zip(self._tokens, self._spans, strict=True)]


def _decoded_at(stamps: Sequence[float], t: float) -> float:
    """Tokens decoded after the first one until `t`, which lies between the first stamp and the last."""
    index = bisect_right(stamps, t) - 1
    if index == len(stamps) - 1:
        return float(index)
    return index + (t - stamps[index]) / (stamps[index + 1] - stamps[index])


Value = TypeVar("Value")


class RollingHistory(Generic[Value]):
    """One series in equal steps that are aligned to multiples of their length."""

    def __init__(self, compute: Callable[[int, int, int], list[Value]]) -> None:
        """`compute(t_us, steps, step_us)` gives the values of the last `steps` steps up to that of `t_us`."""
        self.computed = 0
        """How many steps were computed so far: the work that it has done."""
        self._compute = compute
        self._stored: list[Value] = []
        self._first = 0
        """The number of the first step that is stored."""
        self._t_us = 0
        self._valid_for: tuple[int, object] = (0, None)

    def until(self, t_us: int, steps: int, step_us: int, settled_us: int, version: object = None) -> list[Value]:
        """The last `steps` values, that of the step in which `t_us` lies at the end.

        What ended by `settled_us` is computed once, as long as `version` is the same and time goes forward.
        """
        if (step_us, version) != self._valid_for or t_us < self._t_us:
            self._stored, self._valid_for = [], (step_us, version)
        self._t_us = t_us
        end = t_us // step_us + 1
        first = end - steps
        stored_end = self._first + len(self._stored)
        begin = stored_end if self._first <= first < stored_end else first
        old = self._stored[first - self._first :] if begin != first else []
        values = [*old, *self._compute(t_us, end - begin, step_us)]
        self.computed += end - begin
        self._first = first
        self._stored = values[: max(0, min(settled_us // step_us, end) - first)]
        return values

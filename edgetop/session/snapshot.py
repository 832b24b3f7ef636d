"""Everything shown at time t; keeps the caches per session.

A snapshot is a function of the session and the moment: nothing that happened later shows in it. The live screen takes
one of the growing session at "now", replay one at the play head; the last one holds the figures of the session file.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core import sources
from edgetop.core.clock import US_PER_S, seconds
from edgetop.core.energy.uncertainty import seconds_to_certain
from edgetop.core.figures import OwnCost, Summary, TurnFigures, WatchFigures
from edgetop.core.records import ModelLoaded
from edgetop.core.sources import Unavailable
from edgetop.session.energy import PowerNow, energy_of
from edgetop.session.limits import BOUNDS, UNKNOWN, Limit, limit_between
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
        turn=None if turn is None or progress is None else _turn_view(turn, progress, last, load, t_us),
        summary=summary_of(session, sums, load, t_us),
        power=_power_of_watch(session, t_us) if watched else energy_of(session, t_us).power_at(t_us),
        readings=readings,
        absent=dict(session.absent),
        memory=_memory_view(load, readings),
        own_cost=OwnCost(cpu_percent=_value(readings, sources.OWN_CPU), rss_bytes=_bytes(readings, sources.OWN_RSS)),
        limit=_limit_now(session, last.limit, t_us) if running else last.limit,
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
    return of_turn if recent is UNKNOWN and of_turn.name in BOUNDS else recent


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


def _turn_view(turn: Turn, progress: TurnProgress, result: TurnResult, load: ModelLoaded | None, t_us: int) -> TurnView:
    figures = result.figures
    finished = turn.finished_at(t_us)
    until_us = t_us if finished is None else finished.t_us
    perf = finished.perf if finished is not None and load is not None and load.engine.server else None
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
        energy_in_s=seconds_to_certain(result.energy, elapsed_s),
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

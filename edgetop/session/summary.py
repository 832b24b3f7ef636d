"""The figures of turns and of a whole session, taken from what was recorded until a moment."""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.figures import Energy
from edgetop.core.figures import (
    MemoryFigures,
    OwnCost,
    Summary,
    TurnFigures,
    TurnProgress,
    decode_tokens_per_s,
    first_token_s,
    prefill_tokens_per_s,
    token_gaps,
    tokens_per_s,
)
from edgetop.core.percentile import percentile
from edgetop.core.records import Missing, ModelLoaded, StopReason
from edgetop.session import channels
from edgetop.session.energy_account import energy_account
from edgetop.session.limits import UNKNOWN, Limit, limit_between
from edgetop.session.series import Extent
from edgetop.session.session import Session
from edgetop.session.totals import Totals
from edgetop.session.turn import Turn

SETTLED_US = 5 * US_PER_S
"""This long after its end nothing about a turn changes any more: sources hand over their readings sooner."""


class TurnAccount(Struct, frozen=True):
    """The figures of a turn, and what limited it in words."""

    figures: TurnFigures = TurnFigures()
    limit: Limit = UNKNOWN


def account_of(session: Session, turn: Turn, t_us: int) -> TurnAccount:
    """The figures of one turn, as far as it had come at `t_us`."""
    return _account(session, turn, turn.progress(t_us), t_us)


def add_up(session: Session, t_us: int) -> tuple[Totals, TurnAccount]:
    """Totals of all turns until `t_us`, and the account of the last of them.

    The session keeps the totals of the turns that are settled; they are made again when `t_us` goes back.
    """
    index = session.turn_at(t_us)
    if index is None:
        return Totals(), TurnAccount()
    settled = session.totals
    if settled.turns > index or (settled.turns and not _is_settled(session.turns[settled.turns - 1], t_us)):
        settled = session.totals = Totals()
    newly_settled_gaps_us: list[int] = []
    while settled.turns < index and _is_settled(session.turns[settled.turns], t_us):
        turn = session.turns[settled.turns]
        progress = turn.progress(t_us)
        settled.add(progress, _limit(session, progress).name)
        newly_settled_gaps_us += turn.sorted_gaps(progress.generated)
    if newly_settled_gaps_us:
        settled.pool(newly_settled_gaps_us)
    totals = settled.copy()
    account = TurnAccount()
    gaps_us: list[int] = []
    for turn in session.turns[settled.turns : index + 1]:
        progress = turn.progress(t_us)
        account = _account(session, turn, progress, t_us)
        totals.add(progress, account.limit.name)
        turn_gaps_us = turn.sorted_gaps(progress.generated)
        gaps_us = sorted(gaps_us + turn_gaps_us) if gaps_us else turn_gaps_us
    totals.more_gaps_us = gaps_us
    return totals, account


def summary_of(
    session: Session, totals: Totals, load: ModelLoaded | None, stop_reason: StopReason | None, t_us: int
) -> Summary:
    """The figures of a session at `t_us`, with the `totals` of its turns until then and the last model loaded."""
    energy, missing = _told(energy_account(session, t_us).turns_together(totals.turns))
    own_cpu, own_rss = _extent(session, channels.OWN_CPU, t_us), _extent(session, channels.OWN_RSS, t_us)
    first_token_us = percentile(totals.first_token_us, 50)
    return Summary(
        decode_tokens_per_s=tokens_per_s(totals.decode_intervals, totals.decode_us),
        prefill_tokens_per_s=tokens_per_s(totals.evaluated_tokens, totals.prefill_us),
        first_token_s=None if first_token_us is None else first_token_us / US_PER_S,
        token_gap_ms=token_gaps(totals.gaps_us, totals.more_gaps_us),
        load_s=None if load is None else load.load_s,
        turns=totals.turns,
        prompt_tokens=totals.prompt_tokens,
        cached_tokens=totals.cached_tokens,
        generated_tokens=totals.generated_tokens,
        stop_reason=stop_reason,
        memory=_memory(session, load, t_us),
        limited_by=totals.limited_by,
        energy=energy,
        energy_missing=missing,
        own_cost=OwnCost(cpu_percent=own_cpu.mean, rss_bytes=_whole(own_rss.most)),
    )


def _told(energy: Energy | Missing) -> tuple[Energy | None, str]:
    """The energy, or why there is none and what would give it."""
    if isinstance(energy, Missing):
        return None, f"{energy.reason}: {energy.mend}" if energy.mend else energy.reason
    return energy, ""


def _is_settled(turn: Turn, t_us: int) -> bool:
    return turn.last_us + SETTLED_US <= t_us


def _limit(session: Session, progress: TurnProgress) -> Limit:
    if progress.last_us is None:
        return UNKNOWN
    return limit_between(session, progress.submitted_us, progress.last_us)


def _account(session: Session, turn: Turn, progress: TurnProgress, t_us: int) -> TurnAccount:
    finished = turn.finished_at(t_us)
    limit = _limit(session, progress)
    energy, missing = _told(energy_account(session, t_us).turn(turn))
    figures = TurnFigures(
        decode_tokens_per_s=decode_tokens_per_s(progress),
        prefill_tokens_per_s=prefill_tokens_per_s(progress),
        first_token_s=first_token_s(progress),
        token_gap_ms=token_gaps(turn.sorted_gaps(progress.generated)),
        prompt_tokens=progress.prompt_tokens,
        cached_tokens=progress.cached,
        generated_tokens=progress.generated,
        stop_reason=None if finished is None else finished.stop_reason,
        limited_by=limit.name,
        energy=energy,
        energy_missing=missing,
    )
    return TurnAccount(figures, limit)


def _memory(session: Session, load: ModelLoaded | None, t_us: int) -> MemoryFigures:
    return MemoryFigures(
        weights_bytes=None if load is None else load.memory.weights_bytes,
        kv_bytes=None if load is None else load.memory.kv_bytes,
        compute_bytes=None if load is None else load.memory.compute_bytes,
        rss_peak_bytes=_whole(_extent(session, channels.ENGINE_RSS, t_us).most),
        available_min_bytes=_whole(_extent(session, channels.MEMORY_AVAILABLE, t_us).least),
        swap_peak_bytes=_whole(_extent(session, channels.SWAP_USED, t_us).most),
        gpu_peak_bytes=_whole(_gpu_peak_bytes(session, t_us)),
    )


def _gpu_peak_bytes(session: Session, t_us: int) -> float | None:
    """The peaks of all GPUs together: a model may lie on several, and each fills up as it is loaded."""
    peaks = [
        _extent(session, name, t_us).most
        for name in session.channels()
        if name.startswith(channels.GPU_PREFIX) and name.endswith(channels.GPU_MEMORY_USED_SUFFIX)
    ]
    return sum(peak for peak in peaks if peak is not None) if any(peak is not None for peak in peaks) else None


def _extent(session: Session, channel: str, t_us: int) -> Extent:
    found = session.find_channel(channel)
    if found is None:
        return Extent()
    series, column = found
    return series.columns[column].extent(series.count_until(t_us))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)

"""The figures of turns and of a whole session, taken from what was recorded until a moment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.figures import Energy
from edgetop.core.figures import (
    BANDWIDTH_MISSING,
    MemoryFigures,
    OwnCost,
    Summary,
    TokenGaps,
    TurnFigures,
    TurnProgress,
    decode_tokens_per_s,
    first_token_s,
    prefill_tokens_per_s,
    token_gaps,
    tokens_per_s,
)
from edgetop.core.percentile import percentile
from edgetop.core.prediction import Prediction
from edgetop.core.records import Missing, ModelLoaded
from edgetop.session import channels
from edgetop.session.bandwidth import decode_traffic
from edgetop.session.energy_account import energy_account
from edgetop.session.limits import UNKNOWN, Limit, limit_between, limit_of_machine
from edgetop.session.series import Extent
from edgetop.session.session import PerSession, Session
from edgetop.session.totals import SettledTurns, TokenGapRow, Totals

SETTLED_US = 5 * US_PER_S
"""This long after its end nothing about a turn changes any more: sources hand over their readings sooner."""


class TurnAccount(Struct, frozen=True):
    """The figures of a turn, and what limited it in words."""

    figures: TurnFigures = TurnFigures()
    limit: Limit = UNKNOWN


def account_of(session: Session, index: int, t_us: int) -> TurnAccount:
    """The figures of the turn of an index, as far as it had come at `t_us`."""
    return _account(session, index, session.turns[index].progress(t_us), t_us)


class Sums(Struct, frozen=True, kw_only=True):
    """What the figures of a session at one moment are made of."""

    totals: Totals = Totals()
    first_token_us: tuple[int, ...] = ()
    """Of the turns that had a first token and count."""
    gaps_us: tuple[Sequence[int], ...] = ()
    """Between tokens of the same turn, in ascending pieces."""
    last: TurnAccount = TurnAccount()
    """Of the last turn."""


_SETTLED: Final = PerSession(lambda _session: SettledTurns())
_TOKEN_GAPS: Final = PerSession(lambda _session: TokenGapRow())


def add_up(session: Session, t_us: int) -> Sums:
    """Sums over all turns until `t_us` but a benchmark's warm-ups.

    The session keeps those of the turns that are settled, so that the others alone are looked at.
    """
    index = session.turn_at(t_us)
    if index is None:
        return Sums()
    turns, settled = session.turns, _SETTLED.of(session)
    count = bisect_right(turns, t_us - SETTLED_US, hi=index, key=lambda turn: turn.last_us)
    for turn in turns[len(settled.totals) - 1 : count]:
        progress = turn.progress(turn.last_us)
        if turn.started.warmup:
            settled.add(None, settled.totals[-1].past_warmup())
        else:
            limit = _limit(session, progress)
            settled.add(progress.first_token_us, _plus(session, settled.totals[-1], progress, limit))
    totals = settled.totals[count]
    first_token_us = [*settled.first_token_us[: settled.first_tokens[count]]]
    last = TurnAccount()
    generated = 0
    for number in range(count, index + 1):
        progress = turns[number].progress(t_us)
        last = _account(session, number, progress, t_us)
        generated = progress.stamps
        if turns[number].started.warmup:
            totals = totals.past_warmup()
            continue
        totals = _plus(session, totals, progress, last.limit)
        if progress.first_token_us is not None:
            first_token_us.append(progress.first_token_us)
    return Sums(
        totals=totals,
        first_token_us=tuple(first_token_us),
        gaps_us=tuple(_TOKEN_GAPS.of(session).until(turns, index, generated)),
        last=last,
    )


def _plus(session: Session, totals: Totals, progress: TurnProgress, limit: Limit) -> Totals:
    return totals.plus(progress, limit.name, decode_traffic(_prediction(session, progress), progress))


def summary_of(session: Session, sums: Sums, load: ModelLoaded | None, t_us: int) -> Summary:
    """The figures of a session at `t_us`, with the `sums` over its turns until then and the last model loaded."""
    totals = sums.totals
    energy, missing = _told(energy_account(session, t_us).turns_together(totals.seen))
    own_cpu, own_rss = _extent(session, channels.OWN_CPU, t_us), _extent(session, channels.OWN_RSS, t_us)
    first_token_us = percentile(sorted(sums.first_token_us), 50)
    return Summary(
        decode_tokens_per_s=tokens_per_s(totals.decode_intervals, totals.decode_us),
        prefill_tokens_per_s=tokens_per_s(totals.evaluated_tokens, totals.prefill_us),
        first_token_s=None if first_token_us is None else first_token_us / US_PER_S,
        token_gap_ms=token_gaps(*sums.gaps_us) if totals.gaps_known else None,
        load_s=None if load is None else load.load_s,
        turns=totals.turns,
        prompt_tokens=totals.prompt_tokens,
        cached_tokens=totals.cached_tokens,
        generated_tokens=totals.generated_tokens,
        stop_reason=sums.last.figures.stop_reason,
        memory=_memory(session, load, t_us),
        bandwidth_use=totals.traffic.use,
        bandwidth_use_missing=BANDWIDTH_MISSING if totals.traffic.use is None else "",
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


def _limit(session: Session, progress: TurnProgress) -> Limit:
    if progress.last_us is None:
        return UNKNOWN
    limit = limit_between(session, progress.submitted_us, progress.last_us)
    if limit is not UNKNOWN:
        return limit
    prediction = _prediction(session, progress)
    return limit_of_machine(prediction, decode_traffic(prediction, progress), decode_tokens_per_s(progress))


def _prediction(session: Session, progress: TurnProgress) -> Prediction | None:
    """What was expected of the model that gave a turn; it may have been recorded while the turn began."""
    return session.prediction_at(progress.submitted_us if progress.last_us is None else progress.last_us)


def _account(session: Session, index: int, progress: TurnProgress, t_us: int) -> TurnAccount:
    turn = session.turns[index]
    finished = turn.finished_at(t_us)
    limit = _limit(session, progress)
    energy, missing = _told(energy_account(session, t_us).turn(turn))
    figures = TurnFigures(
        decode_tokens_per_s=decode_tokens_per_s(progress),
        prefill_tokens_per_s=prefill_tokens_per_s(progress),
        first_token_s=first_token_s(progress),
        token_gap_ms=_gaps(session, index, progress),
        prompt_tokens=progress.prompt_tokens,
        cached_tokens=progress.cached,
        generated_tokens=progress.generated,
        stop_reason=None if finished is None else finished.stop_reason,
        limited_by=limit.name,
        energy=energy,
        energy_missing=missing,
    )
    return TurnAccount(figures, limit)


def _gaps(session: Session, index: int, progress: TurnProgress) -> TokenGaps | None:
    """Between the tokens of a turn, where each has a stamp of its own."""
    pieces = _TOKEN_GAPS.of(session).of_turn(session.turns, index, progress.stamps)
    return token_gaps(*pieces) if progress.one_each else None


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

"""Figures of turns and session, from running sums."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core import sources
from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Duty, DutyFigures, with_found
from edgetop.core.energy.tokens import Energy
from edgetop.core.figures import (
    BANDWIDTH_MISSING,
    LimitedBy,
    MemoryFigures,
    OwnCost,
    Summary,
    TokenGaps,
    TurnFigures,
    with_duty,
)
from edgetop.core.quantity import figure
from edgetop.core.records import ModelLoaded, Prediction
from edgetop.core.sources import Unavailable
from edgetop.core.statistics import Counted, percentile
from edgetop.session.energy import SETTLED_US, SessionEnergy, energy_of
from edgetop.session.limits import NO_TRAFFIC, UNKNOWN, Limit, Traffic, decode_traffic, limit_between, limit_of_machine
from edgetop.session.session import PerSession, RunningStats, Session
from edgetop.session.turn import (
    Turn,
    TurnProgress,
    decode_tokens_per_s,
    first_token_s,
    prefill_tokens_per_s,
    token_gaps,
    tokens_per_s,
)

MERGED_AT, MARKED_AT = 4096, 65_536
"""So many gaps are merged into those before them; so many at once, as in reading a file, leave a mark behind."""


class Totals(Struct, frozen=True, kw_only=True):
    """Sums over the first turns of a session. A benchmark's warm-up counts as a turn gone by and for nothing else."""

    seen: int = 0
    """Turns of the session, warm-ups among them."""
    turns: int = 0
    """Those that the sums are over."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    generated_tokens: int = 0
    evaluated_tokens: int = 0
    prefill_us: int = 0
    decode_intervals: int = 0
    gaps_known: bool = True
    """Every stamp of those turns is that of one token."""
    decode_us: int = 0
    paused_us: int = 0
    """While the model stood still, from the prompts on ..."""
    decode_paused_us: int = 0
    """... of `decode_us` ..."""
    prefill_paused_us: int = 0
    """... and of `prefill_us`."""
    traffic: Traffic = NO_TRAFFIC
    """Of the decoding of those turns of which it is known."""
    limited_us: tuple[tuple[LimitedBy, int], ...] = ()
    """How long the turns took that each limit held back."""

    def plus(
        self,
        progress: TurnProgress,
        limited_by: LimitedBy,
        traffic: Traffic = NO_TRAFFIC,
        paused_us: tuple[int, int, int] = (0, 0, 0),
    ) -> Totals:
        """With one more turn."""
        limited_us = dict(self.limited_us)
        if progress.last_us is not None:
            limited_us[limited_by] = limited_us.get(limited_by, 0) + progress.last_us - progress.submitted_us
        prefilled, decoded = progress.prefill_us > 0, progress.decode_us > 0 and progress.counted
        return Totals(
            seen=self.seen + 1,
            turns=self.turns + 1,
            prompt_tokens=_sum(self.prompt_tokens, progress.prompt_tokens),
            cached_tokens=_sum(self.cached_tokens, progress.cached),
            generated_tokens=self.generated_tokens + progress.generated,
            evaluated_tokens=self.evaluated_tokens + (progress.evaluated if prefilled else 0),
            prefill_us=self.prefill_us + (progress.prefill_us if prefilled else 0),
            decode_intervals=self.decode_intervals + (progress.after_first or 0 if decoded else 0),
            gaps_known=self.gaps_known and progress.one_each,
            decode_us=self.decode_us + (progress.decode_us if decoded else 0),
            paused_us=self.paused_us + paused_us[0],
            decode_paused_us=self.decode_paused_us + (paused_us[1] if decoded else 0),
            prefill_paused_us=self.prefill_paused_us + (paused_us[2] if prefilled else 0),
            traffic=self.traffic + traffic,
            limited_us=tuple(limited_us.items()),
        )

    def past_warmup(self) -> Totals:
        """With one more turn that does not count."""
        return replace(self, seen=self.seen + 1)

    @property
    def limited_by(self) -> LimitedBy:
        """What held back the turns that took longest together."""
        return max(self.limited_us, key=lambda limited: limited[1], default=("unknown", 0))[0]


class FinishedTurns:
    """Sums over the first turns of a session, for each number of turns that do not change any more.

    The sums until any moment are those of a number of turns, and little more.
    """

    def __init__(self) -> None:
        self.totals = [Totals()]
        """By number of turns."""
        self.first_token_us = array("q")
        """How long the first token took, of those turns that had one and count."""
        self.first_tokens = array("q", (0,))
        """By number of turns, how many of them had one."""

    def add(self, first_token_us: int | None, totals: Totals) -> None:
        """Note how long the first token of the next turn took, if that counts, and the totals with the turn."""
        self.totals.append(totals)
        if first_token_us is not None:
            self.first_token_us.append(first_token_us)
        self.first_tokens.append(len(self.first_token_us))


class TokenGapRow:
    """The gaps between tokens of the same turn, of all turns but warm-ups in a row.

    Those of earlier turns are kept by their lengths, so that they take no more memory as the session goes on.
    """

    def __init__(self) -> None:
        self._marks = [(0, Counted())]
        """Numbers of turns, ascending, and the gaps of so many turns from the first one on."""
        self._turns, self._earlier = self._marks[0]
        self._later: list[int] = []
        """Of the turns up to `_turns`, those that `_earlier` has not yet, ascending."""
        self._own: tuple[int, int, list[int]] = (-1, 0, [])
        """The turn asked for last, for how many tokens, and their gaps, ascending."""

    def of_turn(self, turns: Sequence[Turn], index: int, generated: int) -> list[Sequence[int]]:
        """Gaps between the first `generated` tokens of a turn, in ascending pieces."""
        number, known, gaps_us = self._own
        if number != index or generated < known:
            known, gaps_us = 0, []
        stamps = turns[index].token_t_us[max(0, known - 1) : generated]
        gaps_us += (later - earlier for earlier, later in pairwise(stamps))
        gaps_us.sort()
        self._own = index, generated, gaps_us
        return [gaps_us]

    def until(self, turns: Sequence[Turn], index: int, generated: int) -> list[Sequence[int]]:
        """Gaps in all turns before that of `index`, and between the first `generated` tokens of that one."""
        if index < self._turns:
            self._turns, self._earlier = next(mark for mark in reversed(self._marks) if mark[0] <= index)
            self._later = []
        for number in range(self._turns, index):
            if not turns[number].started.warmup:
                self._later += (later - earlier for earlier, later in pairwise(turns[number].token_t_us))
            if len(self._later) >= MARKED_AT:
                self._merge()
                if self._marks[-1][0] <= number:
                    self._marks.append((number + 1, self._earlier))
        self._turns = index
        self._later.sort()
        if len(self._later) >= MERGED_AT:
            self._merge()
        own = [] if turns[index].started.warmup else self.of_turn(turns, index, generated)
        return [self._earlier, self._later, *own]

    def _merge(self) -> None:
        self._earlier, self._later = self._earlier.with_more(self._later), []


def _sum(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else first + second


class TurnResult(Struct, frozen=True):
    """The figures of a turn, what limited it in words, and its energy or what keeps it from being known."""

    figures: TurnFigures = TurnFigures()
    limit: Limit = UNKNOWN
    energy: Energy | Unavailable | None = None


def turn_result(session: Session, index: int, t_us: int) -> TurnResult:
    """The figures of the turn of an index, as far as it had come at `t_us`."""
    return _turn_result(session, index, session.turns[index].progress(t_us), t_us)


class Sums(Struct, frozen=True, kw_only=True):
    """What the figures of a session at one moment are made of."""

    totals: Totals = Totals()
    first_token_us: tuple[int, ...] = ()
    """Of the turns that had a first token and count."""
    gaps_us: tuple[Sequence[int], ...] = ()
    """Between tokens of the same turn, in ascending pieces."""
    last: TurnResult = TurnResult()
    """Of the last turn."""


_FINISHED: Final = PerSession(lambda _session: FinishedTurns())

_TOKEN_GAPS: Final = PerSession(lambda _session: TokenGapRow())


def add_up(session: Session, t_us: int) -> Sums:
    """Sums over all turns until `t_us` but a benchmark's warm-ups.

    Those of the turns that do not change any more are stored, so that only the others are added up again.
    """
    index = session.turn_at(t_us)
    if index is None:
        return Sums()
    turns, finished = session.turns, _FINISHED.of(session)
    count = bisect_right(turns, t_us - SETTLED_US, hi=index, key=lambda turn: turn.last_us)
    for turn in turns[len(finished.totals) - 1 : count]:
        progress = turn.progress(turn.last_us)
        if turn.started.warmup:
            finished.add(None, finished.totals[-1].past_warmup())
        else:
            limit = _limit(session, progress)
            finished.add(progress.first_token_us, _plus(session, finished.totals[-1], progress, limit))
    totals = finished.totals[count]
    first_token_us = [*finished.first_token_us[: finished.first_tokens[count]]]
    last = TurnResult()
    generated = 0
    for number in range(count, index + 1):
        progress = turns[number].progress(t_us)
        last = _turn_result(session, number, progress, t_us)
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
    traffic = decode_traffic(_prediction(session, progress), progress)
    return totals.plus(progress, limit.name, traffic, _paused_us(session, progress))


def _paused_us(session: Session, progress: TurnProgress) -> tuple[int, int, int]:
    """How long the model stood still from the prompt to the last token, from the first token on, and in the prefill."""
    begin_us, end_us, first_us, last_us = (
        progress.prefill_begin_us, progress.prefill_end_us, progress.first_us, progress.last_us,
    )  # fmt: skip
    if first_us is None or last_us is None:
        return 0, 0, 0
    pauses = session.pauses(progress.submitted_us, last_us)
    prefill = (0, 0) if begin_us is None or end_us is None else (begin_us, end_us)
    whole_us, decode_us, prefill_us = (
        sum(max(0, min(until_us, to_us) - max(since_us, from_us)) for since_us, until_us in pauses)
        for from_us, to_us in ((progress.submitted_us, last_us), (first_us, last_us), prefill)
    )
    return whole_us, decode_us, prefill_us


def _unpaused(tokens: int | None, decode_us: int, paused_us: tuple[int, int, int]) -> tuple[float | None, float | None]:
    """For how many seconds it stood still, and the decode speed in the rest of the time; `None` where it did not."""
    whole_us, decode_paused_us, _ = paused_us
    return (whole_us / US_PER_S if whole_us else None), _speed_of_rest(tokens, decode_us, decode_paused_us)


def _speed_of_rest(tokens: int | None, span_us: int, paused_us: int) -> float | None:
    return tokens_per_s(tokens, span_us - paused_us) if paused_us and tokens else None


def summary_of(session: Session, sums: Sums, load: ModelLoaded | None, t_us: int) -> Summary:
    """The figures of a session at `t_us`, with the `sums` over its turns until then and the last model loaded."""
    totals = sums.totals
    account = energy_of(session, t_us)
    count, found = account.measured_turns(totals.seen)
    energy, missing = _energy_or_reason(found)
    own_cpu, own_rss = _extremes(session, sources.OWN_CPU, t_us), _extremes(session, sources.OWN_RSS, t_us)
    first_token_us = percentile(sorted(sums.first_token_us), 50)
    paused_s, unpaused = _unpaused(
        totals.decode_intervals, totals.decode_us, (totals.paused_us, totals.decode_paused_us, 0)
    )
    summary = Summary(
        decode_tokens_per_s=tokens_per_s(totals.decode_intervals, totals.decode_us),
        decode_unpaused_tokens_per_s=unpaused,
        paused_s=paused_s,
        prefill_tokens_per_s=tokens_per_s(totals.evaluated_tokens, totals.prefill_us),
        prefill_unpaused_tokens_per_s=_speed_of_rest(
            totals.evaluated_tokens, totals.prefill_us, totals.prefill_paused_us
        ),
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
        duty=_duty(account, energy, count, load),
    )
    return with_duty(summary, Duty() if session.header is None else session.header.use)


def _duty(account: SessionEnergy, energy: Energy | None, count: int, load: ModelLoaded | None) -> DutyFigures:
    """What only the readings tell of a use of the model; the rest is made from other figures."""
    parts = zip(("unloaded_w", "load_j"), account.duty_parts(energy.source if energy else "", load), strict=True)
    all_in = energy.j_per_token if energy else None
    tokens = energy.gross_j.value / all_in.value / count if energy and all_in and all_in.value else None
    found = {name: each if isinstance(each, Unavailable) else figure(each) for name, each in parts}
    return with_found(DutyFigures(measured_tokens=tokens), found)


def _energy_or_reason(energy: Energy | Unavailable) -> tuple[Energy | None, str]:
    """The energy, or why there is none and what would give it."""
    if isinstance(energy, Unavailable):
        return None, str(energy)
    return energy, ""


def _limit(session: Session, progress: TurnProgress) -> Limit:
    if progress.last_us is None:
        return UNKNOWN
    limit = limit_between(session, progress.submitted_us, progress.last_us)
    if limit is not UNKNOWN:
        return limit
    prediction = _prediction(session, progress)
    traffic = decode_traffic(prediction, progress)
    return limit_of_machine(
        prediction, traffic, decode_tokens_per_s(progress), idle_cores=_has_idle_cores(session, progress)
    )


def _has_idle_cores(session: Session, progress: TurnProgress) -> bool:
    """Whether the machine has more cores than the engine has threads, as far as that is known."""
    load = session.load_at(progress.submitted_us)
    threads = None if load is None else load.settings.n_threads
    device = None if session.header is None else session.header.device
    cores = None if device is None else device.cores_physical or device.cores_logical
    return threads is None or cores is None or threads < cores


def _prediction(session: Session, progress: TurnProgress) -> Prediction | None:
    """What was expected of the model that gave a turn; it may have been recorded while the turn began."""
    return session.prediction_at(progress.submitted_us if progress.last_us is None else progress.last_us)


def _turn_result(session: Session, index: int, progress: TurnProgress, t_us: int) -> TurnResult:
    turn = session.turns[index]
    finished = turn.finished_at(t_us)
    limit = _limit(session, progress)
    found = energy_of(session, t_us).turn(turn)
    energy, missing = _energy_or_reason(found)
    paused_s, unpaused = _unpaused(progress.after_first, progress.decode_us, _paused_us(session, progress))
    figures = TurnFigures(
        decode_tokens_per_s=decode_tokens_per_s(progress),
        decode_unpaused_tokens_per_s=unpaused,
        paused_s=paused_s,
        prefill_tokens_per_s=prefill_tokens_per_s(progress),
        prefill_unpaused_tokens_per_s=_speed_of_rest(
            progress.evaluated, progress.prefill_us, _paused_us(session, progress)[2]
        ),
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
    return TurnResult(figures, limit, found)


def _gaps(session: Session, index: int, progress: TurnProgress) -> TokenGaps | None:
    """Between the tokens of a turn, where each has a stamp of its own."""
    pieces = _TOKEN_GAPS.of(session).of_turn(session.turns, index, progress.stamps)
    return token_gaps(*pieces) if progress.one_each else None


def _memory(session: Session, load: ModelLoaded | None, t_us: int) -> MemoryFigures:
    """What was reserved, and the extremes of what was read; those of sensors not read since the load say nothing."""
    since_us = 0 if load is None else load.t_us

    def extremes(channel: str) -> RunningStats:
        found = session.find_channel(channel)
        count = 0 if found is None else found[0].count_until(t_us)
        read = found is not None and count > 0 and found[0].t_us[count - 1] >= since_us
        return _extremes(session, channel, t_us) if read else RunningStats()

    resident = [extremes(name).most for name in (sources.ENGINE_RSS, sources.ENGINE_RSS_PEAK)]
    # Of all GPUs together: a model may lie on several, and each fills up as it is loaded.
    gpus = [
        extremes(name).most
        for name in session.channels()
        if name.startswith(sources.GPU_PREFIX) and name.endswith(sources.GPU_MEMORY_USED_SUFFIX)
    ]
    gpu_peaks = [peak for peak in gpus if peak is not None]
    return MemoryFigures(
        weights_bytes=None if load is None else load.memory.weights_bytes,
        kv_bytes=None if load is None else load.memory.kv_bytes,
        compute_bytes=None if load is None else load.memory.compute_bytes,
        rss_peak_bytes=_whole(max((peak for peak in resident if peak is not None), default=None)),
        available_min_bytes=_whole(extremes(sources.MEMORY_AVAILABLE).least),
        swap_peak_bytes=_whole(extremes(sources.SWAP_USED).most),
        gpu_peak_bytes=_whole(sum(gpu_peaks) if gpu_peaks else None),
    )


def _extremes(session: Session, channel: str, t_us: int) -> RunningStats:
    found = session.find_channel(channel)
    if found is None:
        return RunningStats()
    series, column = found
    return series.columns[column].extent(series.count_until(t_us))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)

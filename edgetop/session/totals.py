"""Sums over turns, from which the figures of a session are made."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.figures import LimitedBy, TurnProgress
from edgetop.session.bandwidth import NO_TRAFFIC, Traffic
from edgetop.session.ordered import Ordered
from edgetop.session.turn import Turn


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
    traffic: Traffic = NO_TRAFFIC
    """Of the decoding of those turns of which it is known."""
    limited_us: tuple[tuple[LimitedBy, int], ...] = ()
    """How long the turns took that each limit held back."""

    def plus(self, progress: TurnProgress, limited_by: LimitedBy, traffic: Traffic = NO_TRAFFIC) -> Totals:
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


class SettledTurns:
    """Sums over the first turns of a session, for each number of turns that do not change any more.

    A session keeps them, so that the sums until any moment are those of a number of turns, and little more.
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
    """The gaps between tokens of the same turn, of all turns but warm-ups in a row."""

    def __init__(self) -> None:
        self._row = Ordered()
        self._begins: list[int] = []
        """By turn, where its gaps begin in the row."""

    def of_turn(self, turns: Sequence[Turn], index: int, generated: int) -> list[Sequence[int]]:
        """Gaps between the first `generated` tokens of a turn, in ascending pieces."""
        if turns[index].started.warmup:
            stamps = turns[index].token_t_us[:generated]
            return [sorted(later - earlier for earlier, later in pairwise(stamps))]
        self._take(turns, index)
        begin = self._begins[index]
        return self._row.pieces(begin, begin + max(0, generated - 1))

    def until(self, turns: Sequence[Turn], index: int, generated: int) -> list[Sequence[int]]:
        """Gaps in all turns before that of `index`, and between the first `generated` tokens of that one."""
        self._take(turns, index)
        own = 0 if turns[index].started.warmup else max(0, generated - 1)
        return self._row.pieces(0, self._begins[index] + own)

    def _take(self, turns: Sequence[Turn], index: int) -> None:
        """Take in what turns up to that of `index` have got since the last time: only the last of those taken grows."""
        for number in range(max(0, len(self._begins) - 1), index + 1):
            if number == len(self._begins):
                self._begins.append(len(self._row))
            if turns[number].started.warmup:
                continue
            taken = len(self._row) - self._begins[number]
            stamps = turns[number].token_t_us
            if len(stamps) > taken + 1:
                self._row.extend(later - earlier for earlier, later in pairwise(stamps[taken:]))


def _sum(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else first + second

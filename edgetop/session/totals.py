"""Sums over turns, from which the figures of a session are made."""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Sequence
from copy import copy

from edgetop.core.figures import LimitedBy, TurnProgress


class Totals:
    """Sums over the first `turns` turns of a session.

    Turns that have ended do not change, so a session keeps these and adds to them, instead of going through all turns
    whenever a figure is wanted.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.generated_tokens = 0
        self.evaluated_tokens = 0
        self.prefill_us = 0
        self.decode_intervals = 0
        self.decode_us = 0
        self.first_token_us: list[int] = []
        """Ascending."""
        self.gaps_us: Sequence[int] = array("q")
        """Between tokens of the same turn, ascending, for the turns that were pooled."""
        self.more_gaps_us: Sequence[int] = ()
        """Those of the other turns, ascending."""
        self.limited_us: dict[LimitedBy, int] = {}
        """How long the turns took that each limit held back."""

    def copy(self) -> Totals:
        """Totals that can be added to without changing these."""
        other = copy(self)
        other.first_token_us = list(self.first_token_us)
        other.limited_us = dict(self.limited_us)
        return other

    def add(self, progress: TurnProgress, limited_by: LimitedBy) -> None:
        """Count one more turn, except for its gaps."""
        self.turns += 1
        if progress.prompt_tokens is not None:
            self.prompt_tokens = (self.prompt_tokens or 0) + progress.prompt_tokens
        if progress.cached is not None:
            self.cached_tokens = (self.cached_tokens or 0) + progress.cached
        self.generated_tokens += progress.generated
        if progress.prefill_us > 0:
            self.evaluated_tokens += progress.evaluated
            self.prefill_us += progress.prefill_us
        if progress.decode_us > 0:
            self.decode_intervals += progress.generated - 1
            self.decode_us += progress.decode_us
        if progress.first_token_us is not None:
            insort(self.first_token_us, progress.first_token_us)
        if progress.last_us is not None:
            duration_us = progress.last_us - progress.submitted_us
            self.limited_us[limited_by] = self.limited_us.get(limited_by, 0) + duration_us

    def pool(self, gaps_us: Sequence[int]) -> None:
        """Add the gaps of some turns."""
        self.gaps_us = array("q", sorted((*self.gaps_us, *gaps_us)))

    @property
    def limited_by(self) -> LimitedBy:
        """What held back the turns that took longest together."""
        return max(self.limited_us, key=self.limited_us.__getitem__, default="unknown")

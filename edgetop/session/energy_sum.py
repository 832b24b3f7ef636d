"""The energy of turns put together, from the first one on."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.estimate import TurnSpan, TurnWindows
from edgetop.core.energy.per_token import TurnSum, sum_of
from edgetop.core.records import Missing

NO_TURN = Missing("there is no turn yet")
NO_REPLY = Missing("the turn has no second token")


class MeasuredTurn(Struct, frozen=True, kw_only=True):
    """A turn's energy, and what it is to be judged by."""

    windows: TurnWindows | Missing
    span: TurnSpan
    flags: tuple[str, ...] = ()
    other_j: float | None = None
    """By the other view of the same meter; `None` without one."""


class EnergySum(Struct, frozen=True, kw_only=True):
    """Turns together, from the first one on."""

    count: int = 0
    turns: TurnSum | None = None
    missing: Missing = NO_TURN
    """Why there is no energy, if there is none."""
    flags: tuple[str, ...] = ()
    other_j: float | None = None

    def plus(self, figures: MeasuredTurn) -> EnergySum:
        """With one more turn. One without energy is left out with its tokens.

        So is a benchmark's prompt without a reply: what it took is no part of the energy of a token generated.
        """
        windows, span = figures.windows, figures.span
        if isinstance(windows, Missing) or not span.generated_tokens:
            reason = windows if isinstance(windows, Missing) else NO_REPLY
            missing = reason if self.missing is NO_TURN else self.missing
            return replace(self, count=self.count + 1, missing=missing)
        if self.turns is None:
            turns, other_j = sum_of(windows, span), figures.other_j
        else:
            turns = self.turns.plus(windows, span)
            other_j = None if self.other_j is None or figures.other_j is None else self.other_j + figures.other_j
        flags = tuple(dict.fromkeys([*self.flags, *figures.flags]))
        return replace(self, count=self.count + 1, turns=turns, flags=flags, other_j=other_j)

"""The energy of turns put together, from the first one on."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.estimate import HostWindow, TurnSpan, TurnWindows, turn_together
from edgetop.core.energy.hosts import host_name
from edgetop.core.energy.meter import Meter
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


def by_host(turns: Sequence[TurnWindows | Missing], meters: Sequence[Meter]) -> TurnWindows | Missing:
    """One turn by all of its meters together, and where they are of several machines, with the part of each."""
    whole = turn_together(turns)
    hosts = list(dict.fromkeys(host_name(meter) for meter in meters))
    if isinstance(whole, Missing) or len(hosts) < 2:
        return whole
    parts = []
    for host in hosts:
        own = turn_together([turn for turn, meter in zip(turns, meters, strict=True) if host_name(meter) == host])
        if isinstance(own, TurnWindows):
            sources = dict.fromkeys(meter.source for meter in meters if host_name(meter) == host)
            parts.append(HostWindow(host=host, source=" + ".join(sources), whole=own.turn))
    return replace(whole, hosts=tuple(parts))


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

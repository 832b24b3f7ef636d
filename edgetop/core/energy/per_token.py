"""From the windows of turns to the figures that are shown: per token, per watt-hour, graded."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy import uncertainty, window
from edgetop.core.energy.estimate import HostWindow, TurnSpan, TurnWindows
from edgetop.core.energy.figures import J_PER_WH, Energy, Figure, HostEnergy, figure, reciprocal
from edgetop.core.energy.grade import BRIDGED_FROM, graded
from edgetop.core.energy.uncertainty import Quantity
from edgetop.core.energy.window import Window
from edgetop.core.records import Missing, Scope

NO_TOKENS = Missing("there are too few tokens")
NO_TURN = Missing("there is no turn yet")


class Basis(Struct, frozen=True, kw_only=True):
    """What the figures rest on, and what weakens them."""

    scope: Scope
    source: str
    averaged: bool
    """Every meter is a counter or an averaging sensor, from which no energy hides."""
    flags: tuple[str, ...] = ()
    other_j: float | None = None
    """The gross energy by another meter of the same thing, to check against."""


class Share(Struct, frozen=True, kw_only=True):
    """A part of the energy and the tokens it was spent on."""

    energy: Quantity | Missing
    tokens: int


def turn_energy(turn: TurnWindows | Missing, span: TurnSpan, basis: Basis) -> Energy | Missing:
    """The `energy` object of a turn, or why there is none."""
    if isinstance(turn, Missing):
        return turn
    prefill, decode = (part if isinstance(part, Missing) else part.gross for part in (turn.prefill, turn.decode))
    return _energy(
        turn.turn,
        span.generated_tokens,
        Share(energy=prefill, tokens=span.evaluated_tokens),
        Share(energy=decode, tokens=span.generated_tokens - 1),
        basis,
        hosts=turn.hosts,
    )


class TurnSum(Struct, frozen=True, kw_only=True):
    """Turns put together, one after the other. The time between them does not count."""

    whole: Window
    generated_tokens: int
    prefill: Share
    decode: Share
    hosts: tuple[HostWindow, ...] = ()

    def plus(self, turn: TurnWindows, span: TurnSpan) -> TurnSum:
        """The sum with one more turn. A phase without energy is left out with its tokens."""
        return TurnSum(
            whole=window.in_sequence((self.whole, turn.turn)),
            generated_tokens=self.generated_tokens + span.generated_tokens,
            prefill=_joined(self.prefill, turn.prefill, span.evaluated_tokens),
            decode=_joined(self.decode, turn.decode, max(0, span.generated_tokens - 1)),
            hosts=tuple(
                replace(before, whole=window.in_sequence((before.whole, more.whole)))
                for before, more in zip(self.hosts, turn.hosts, strict=True)
            ),
        )


def sum_of(turn: TurnWindows, span: TurnSpan) -> TurnSum:
    """The sum of a single turn, to begin with."""
    nothing = Share(energy=NO_TURN, tokens=0)
    return TurnSum(
        whole=turn.turn,
        generated_tokens=span.generated_tokens,
        prefill=_joined(nothing, turn.prefill, span.evaluated_tokens),
        decode=_joined(nothing, turn.decode, max(0, span.generated_tokens - 1)),
        hosts=turn.hosts,
    )


def session_energy(turns: TurnSum, basis: Basis) -> Energy | Missing:
    """The `energy` object of several turns together, or why there is none."""
    return _energy(turns.whole, turns.generated_tokens, turns.prefill, turns.decode, basis, hosts=turns.hosts)


def pauses_j(whole: Window, turns: Sequence[Window]) -> float:
    """The gross energy between the turns, in joules: the session less its turns, so that all adds up."""
    return whole.gross.value - sum(turn.gross.value for turn in turns)


def cross_checked(quantity: Quantity, other_j: float) -> tuple[Quantity, bool]:
    """The quantity, its uncertainty widened when another meter disagrees, and whether it does."""
    u_j = uncertainty.disagreement_j(quantity.value, other_j)
    if u_j == 0:
        return quantity, False
    u = replace(quantity.u, disagreement=hypot(quantity.u.disagreement, u_j))
    return Quantity(value=quantity.value, u=u), True


def _joined(share: Share, part: Window | Missing, tokens: int) -> Share:
    if isinstance(part, Missing):
        return Share(energy=part, tokens=0) if share.energy is NO_TURN else share
    if isinstance(share.energy, Missing):
        return Share(energy=part.gross, tokens=tokens)
    return Share(energy=uncertainty.summed((share.energy, part.gross)), tokens=share.tokens + tokens)


def _energy(
    whole: Window, generated: int, prefill: Share, decode: Share, basis: Basis, *, hosts: Sequence[HostWindow]
) -> Energy | Missing:
    gross, disagrees = (whole.gross, False) if basis.other_j is None else cross_checked(whole.gross, basis.other_j)
    flags = _flags(whole, basis.flags, disagrees)
    grade = graded(gross, basis.scope, basis.averaged, flags)
    if isinstance(grade, Missing):
        return grade
    missing: dict[str, Missing] = {}

    def per_token(name: str, share: Share) -> Figure | None:
        if isinstance(share.energy, Quantity) and share.tokens > 0:
            return figure(share.energy.scaled(1 / share.tokens))
        missing[name] = share.energy if isinstance(share.energy, Missing) else NO_TOKENS
        return None

    net = whole.net or whole.no_idle or Missing("no idle baseline has been measured yet")
    if isinstance(net, Missing):
        missing["net_j"] = missing["idle_w"] = net
    all_in = per_token("j_per_token", Share(energy=gross, tokens=generated))
    tokens_per_wh = None if all_in is None else reciprocal(all_in, J_PER_WH)
    if tokens_per_wh is None:
        missing["tokens_per_wh"] = missing.get("j_per_token", Missing("the energy per token may be 0"))
    return Energy(
        scope=basis.scope,
        source=basis.source,
        method=whole.method,
        grade=grade.letter,
        grade_reason=grade.reason,
        grade_mend=grade.mend,
        flags=flags,
        final=whole.final,
        estimated_share=whole.estimated_share,
        gross_j=figure(gross),
        net_j=None if whole.net is None else figure(whole.net),
        idle_w=None if whole.idle is None else figure(whole.idle),
        mean_w=figure(gross.scaled(1 / whole.length_s)),
        peak_w=figure(whole.peak),
        j_per_token=all_in,
        net_j_per_token=per_token("net_j_per_token", Share(energy=net, tokens=generated)),
        decode_j_per_token=per_token("decode_j_per_token", decode),
        prefill_j_per_token=per_token("prefill_j_per_token", prefill),
        tokens_per_wh=tokens_per_wh,
        missing=missing,
        hosts=tuple(_of_host(part, whole.gross.value) for part in hosts),
    )


def _of_host(part: HostWindow, of_all_j: float) -> HostEnergy:
    gross = part.whole.gross
    return HostEnergy(
        host=part.host,
        source=part.source,
        gross_j=figure(gross),
        mean_w=figure(gross.scaled(1 / part.whole.length_s)),
        share=gross.value / of_all_j if of_all_j > 0 else 0.0,
    )


def _flags(whole: Window, flags: Sequence[str], disagrees: bool) -> tuple[str, ...]:
    own = {
        "stale-baseline": whole.stale_baseline,
        "bridged": whole.estimated_share > BRIDGED_FROM,
        "disagreement": disagrees,
    }
    return tuple(dict.fromkeys([*flags, *(name for name, holds in own.items() if holds)]))

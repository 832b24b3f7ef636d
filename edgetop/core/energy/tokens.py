"""The energy object: per token, Wh and phase; of served users.

Two counts are put against each other over the same time, energy and generated tokens. Nothing is known of single
requests, so that the whole time counts: also that in which the servers only wait, holding their models ready. The
energy of a token therefore has two parts, by whether any request was running between two polls:

    j_per_token = generating_j_per_token + waiting_j_per_token

The first one is a property of model and machine, the second one of how much the servers are used. Net of idle, waiting
is nothing by definition, since the idle power is that of the device with its servers waiting.

The tokens are counted by the servers and read now and then. What may have been generated between the moment that was
counted and the moment that the energy is taken at is within ± e at each end of an uninterrupted stretch, uniformly, so
that u(N)² = Σ e²/3 (JCGM 100:2008, 4.3.7), and u(E/N)² = u(E)²/N² + (E/N)²·u(N)²/N².
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, sqrt

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core import quantity
from edgetop.core.energy import uncertainty, windows
from edgetop.core.energy.uncertainty import BRIDGED_FROM, Letter, flag_text, graded
from edgetop.core.energy.windows import HostWindow, Method, TurnSpan, TurnWindows, Window
from edgetop.core.quantity import J_PER_WH, Components, Interval, Quantity, figure, reciprocal, summed
from edgetop.core.sources import Scope, Unavailable


class HostEnergy(Struct, frozen=True, kw_only=True):
    """The part of one of several machines in the gross energy."""

    host: str
    """Its name, `local` for the machine that edgetop runs on."""
    source: str
    gross_j: Interval
    mean_w: Interval
    share: float
    """Of the gross energy of all machines, from 0 to 1."""


class Energy(Struct, frozen=True, kw_only=True):
    """The energy of a turn, a session or a test.

    A figure that cannot be had is `None`, and `missing` says why, by its name.
    """

    scope: Scope
    source: str
    method: Method
    grade: Letter
    grade_reason: str
    grade_hint: str
    flags: tuple[str, ...]
    final: bool
    estimated_share: float
    """Share of the window that rests on no reading."""
    gross_j: Interval
    net_j: Interval | None
    idle_w: Interval | None
    mean_w: Interval
    peak_w: Interval
    j_per_token: Interval | None
    """All-in gross: the whole turn over the tokens generated."""
    net_j_per_token: Interval | None
    decode_j_per_token: Interval | None
    """From the first to the last token, over the tokens generated but the first, which comes from the prefill."""
    prefill_j_per_token: Interval | None
    """From submission to the first token, over the prompt tokens evaluated."""
    tokens_per_wh: Interval | None
    missing: dict[str, Unavailable] = {}
    hosts: tuple[HostEnergy, ...] = ()
    """The parts of several machines whose energies were added up; empty where there is one."""


NO_TOKENS = Unavailable("there are too few tokens")
NO_TURN = Unavailable("there is no turn yet")


class EnergyBasis(Struct, frozen=True, kw_only=True):
    """What the figures rest on, and what weakens them."""

    scope: Scope
    source: str
    averaged: bool
    """Every meter is a counter or an averaging sensor, from which no energy hides."""
    flags: tuple[str, ...] = ()
    other_j: float | None = None
    """The gross energy by another meter of the same thing, to check against."""


class PhaseEnergy(Struct, frozen=True, kw_only=True):
    """A part of the energy and the tokens it was spent on."""

    energy: Quantity | Unavailable
    tokens: int


def grade_text(energy: Energy | ServedEnergy) -> str:
    """The grade, and after a colon what keeps it from being better, then what else weakens the figure."""
    reasons = dict.fromkeys((energy.grade_reason, *map(flag_text, energy.flags)))
    return ": ".join(part for part in (energy.grade, "; ".join(filter(None, reasons))) if part)


def turn_energy(turn: TurnWindows | Unavailable, span: TurnSpan, basis: EnergyBasis) -> Energy | Unavailable:
    """The `energy` object of a turn, or why there is none."""
    if isinstance(turn, Unavailable):
        return turn
    prefill, decode = (part if isinstance(part, Unavailable) else part.gross for part in (turn.prefill, turn.decode))
    return _energy(
        turn.turn,
        span.generated_tokens,
        PhaseEnergy(energy=prefill, tokens=span.evaluated_tokens),
        PhaseEnergy(energy=decode, tokens=span.generated_tokens - 1),
        basis,
        hosts=turn.hosts,
    )


class TurnSum(Struct, frozen=True, kw_only=True):
    """Turns put together, one after the other. The time between them does not count."""

    whole: Window
    generated_tokens: int
    prefill: PhaseEnergy
    decode: PhaseEnergy
    hosts: tuple[HostWindow, ...] = ()

    def plus(self, turn: TurnWindows, span: TurnSpan) -> TurnSum:
        """The sum with one more turn. A phase without energy is left out with its tokens."""
        return TurnSum(
            whole=windows.sum_over_turns((self.whole, turn.turn)),
            generated_tokens=self.generated_tokens + span.generated_tokens,
            prefill=_joined(self.prefill, turn.prefill, span.evaluated_tokens),
            decode=_joined(self.decode, turn.decode, max(0, span.generated_tokens - 1)),
            hosts=tuple(
                replace(before, whole=windows.sum_over_turns((before.whole, more.whole)))
                for before, more in zip(self.hosts, turn.hosts, strict=True)
            ),
        )


def sum_of(turn: TurnWindows, span: TurnSpan) -> TurnSum:
    """The sum of a single turn, to begin with."""
    nothing = PhaseEnergy(energy=NO_TURN, tokens=0)
    return TurnSum(
        whole=turn.turn,
        generated_tokens=span.generated_tokens,
        prefill=_joined(nothing, turn.prefill, span.evaluated_tokens),
        decode=_joined(nothing, turn.decode, max(0, span.generated_tokens - 1)),
        hosts=turn.hosts,
    )


def session_energy(turns: TurnSum, basis: EnergyBasis) -> Energy | Unavailable:
    """The `energy` object of several turns together, or why there is none."""
    return _energy(turns.whole, turns.generated_tokens, turns.prefill, turns.decode, basis, hosts=turns.hosts)


def cross_checked(quantity: Quantity, other_j: float) -> tuple[Quantity, bool]:
    """The quantity, its uncertainty widened when another meter disagrees, and whether it does."""
    u_j = uncertainty.disagreement_j(quantity.value, other_j)
    if u_j == 0:
        return quantity, False
    u = replace(quantity.u, disagreement=hypot(quantity.u.disagreement, u_j))
    return Quantity(value=quantity.value, u=u), True


def _joined(share: PhaseEnergy, part: Window | Unavailable, tokens: int) -> PhaseEnergy:
    if isinstance(part, Unavailable):
        return PhaseEnergy(energy=part, tokens=0) if share.energy is NO_TURN else share
    if isinstance(share.energy, Unavailable):
        return PhaseEnergy(energy=part.gross, tokens=tokens)
    return PhaseEnergy(energy=quantity.summed((share.energy, part.gross)), tokens=share.tokens + tokens)


def _energy(
    whole: Window,
    generated: int,
    prefill: PhaseEnergy,
    decode: PhaseEnergy,
    basis: EnergyBasis,
    *,
    hosts: Sequence[HostWindow],
) -> Energy | Unavailable:
    gross, disagrees = (whole.gross, False) if basis.other_j is None else cross_checked(whole.gross, basis.other_j)
    flags = _flags(whole, basis.flags, disagrees)
    grade = graded(gross, basis.scope, basis.averaged, flags)
    if isinstance(grade, Unavailable):
        return grade
    missing: dict[str, Unavailable] = {}

    def per_token(name: str, share: PhaseEnergy) -> Interval | None:
        if isinstance(share.energy, Quantity) and share.tokens > 0:
            return figure(share.energy.scaled(1 / share.tokens))
        missing[name] = share.energy if isinstance(share.energy, Unavailable) else NO_TOKENS
        return None

    net = whole.net or whole.no_idle or Unavailable("no idle baseline has been measured yet")
    if isinstance(net, Unavailable):
        missing["net_j"] = missing["idle_w"] = net
    all_in = per_token("j_per_token", PhaseEnergy(energy=gross, tokens=generated))
    tokens_per_wh = None if all_in is None else reciprocal(all_in, J_PER_WH)
    if tokens_per_wh is None:
        missing["tokens_per_wh"] = missing.get("j_per_token", Unavailable("the energy per token may be 0"))
    return Energy(
        scope=basis.scope,
        source=basis.source,
        method=whole.method,
        grade=grade.letter,
        grade_reason=grade.reason,
        grade_hint=grade.hint,
        flags=flags,
        final=whole.final,
        estimated_share=whole.estimated_share,
        gross_j=figure(gross),
        net_j=None if whole.net is None else figure(whole.net),
        idle_w=None if whole.idle is None else figure(whole.idle),
        mean_w=figure(gross.scaled(1 / whole.length_s)),
        peak_w=figure(whole.peak),
        j_per_token=all_in,
        net_j_per_token=per_token("net_j_per_token", PhaseEnergy(energy=net, tokens=generated)),
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
        "standing-still": whole.stands_still,
        "disagreement": disagrees,
    }
    return tuple(dict.fromkeys([*flags, *(name for name, holds in own.items() if holds)]))


LEAST_TOKENS = 10
"""Of fewer the count itself is too uncertain to divide by."""

UNCOUNTED = "uncounted"
"""Flag: a model process that does not say what it generates used the device too."""

RUNNING_ONLY = "running-only"
"""Flag: a server reports running requests only, so that the last tokens of each are not counted."""


class ServedEnergy(Struct, frozen=True, kw_only=True):
    """The energy of servers in use, over all their users; see the module for what the figures mean."""

    scope: Scope
    source: str
    grade: Letter
    grade_reason: str
    grade_hint: str
    flags: tuple[str, ...]
    gross_j: Interval
    net_j: Interval | None
    """Above idle, while generating."""
    idle_w: Interval | None
    mean_w: Interval
    j_per_token: Interval
    """Gross, over all the time that counts."""
    net_j_per_token: Interval | None
    generating_j_per_token: Interval | None
    """Gross, of the time in which requests were under way."""
    waiting_j_per_token: Interval | None
    """Gross, of the time in which none was, spread over all tokens."""
    tokens_per_wh: Interval | None
    missing: dict[str, Unavailable] = {}
    """Why a figure is `None`, by its name."""


class TokensServed(Struct, frozen=True, kw_only=True):
    """Tokens generated in the time that counts, and how far the count may be off."""

    count: int
    edges: float = 0.0
    """Σ e² over the ends of all stretches, e being the half-width of what is not known at an end."""

    @property
    def u(self) -> float:
        """Standard uncertainty of the count."""
        return sqrt(self.edges / 3)


class ServedTotals(Struct, frozen=True, kw_only=True):
    """What was measured, in sums over all the time that counts."""

    generating: Window | None
    """Gross energy of the time in which requests were under way; `None` without such a time."""
    waiting: Window | None
    net: Quantity | Unavailable
    """J above idle of `generating`."""
    tokens: TokensServed


def served_energy(served: ServedTotals, basis: EnergyBasis) -> ServedEnergy | Unavailable:
    """The figures, or why there are none."""
    count = served.tokens.count
    parts = [window for window in (served.generating, served.waiting) if window is not None]
    if not parts:
        return Unavailable("nothing has been measured yet")
    if count < LEAST_TOKENS:
        return Unavailable(f"only {count} tokens were counted" if count else "no token was counted")
    gross = summed(window.gross for window in parts)
    length_s = sum(window.length_s for window in parts)
    flags = basis.flags
    if sum(window.estimated_share * window.length_s for window in parts) > BRIDGED_FROM * length_s:
        flags = (*flags, "bridged")
    per_token = _per_token(gross, served.tokens)
    grade = graded(per_token, basis.scope, basis.averaged, flags)
    if isinstance(grade, Unavailable):
        return grade
    missing: dict[str, Unavailable] = {}
    net = idle = None
    if isinstance(served.net, Unavailable) or served.generating is None:
        reason = served.net if isinstance(served.net, Unavailable) else Unavailable("no request was under way")
        missing["net_j"] = missing["net_j_per_token"] = missing["idle_w"] = reason
    else:
        net = served.net
        idle = _idle_w(served.generating, net)
    tokens_per_wh = reciprocal(figure(per_token), J_PER_WH)
    if tokens_per_wh is None:
        missing["tokens_per_wh"] = Unavailable("the energy per token may be 0")
    for name, window in (("generating_j_per_token", served.generating), ("waiting_j_per_token", served.waiting)):
        if window is None:
            missing[name] = Unavailable("no request was under way" if name[0] == "g" else "the servers never waited")
    return ServedEnergy(
        scope=basis.scope,
        source=basis.source,
        grade=grade.letter,
        grade_reason=grade.reason,
        grade_hint=grade.hint,
        flags=flags,
        gross_j=figure(gross),
        net_j=None if net is None else figure(net),
        idle_w=None if idle is None else figure(idle),
        mean_w=figure(gross.scaled(1 / length_s)),
        j_per_token=figure(per_token),
        net_j_per_token=None if net is None else figure(_per_token(net, served.tokens)),
        generating_j_per_token=_part(served.generating, served.tokens),
        waiting_j_per_token=_part(served.waiting, served.tokens),
        tokens_per_wh=tokens_per_wh,
        missing=missing,
    )


def net_of(gross: Window, idle_w: Quantity) -> Quantity:
    """The energy above an idle power: scale errors are those of the net, errors of zero cancel."""
    value = gross.gross.value - idle_w.value * gross.length_s
    share = abs(value / gross.gross.value) if gross.gross.value else 0.0
    u = gross.gross.u
    baseline_j = idle_w.u.baseline * gross.length_s
    return Quantity(value=value, u=replace(u, gain=u.gain * share, offset=0.0, baseline=hypot(u.baseline, baseline_j)))


def _idle_w(generating: Window, net: Quantity) -> Quantity:
    """The idle power that was taken off."""
    length_s = generating.length_s
    u = Components(baseline=net.u.baseline / length_s)
    return Quantity(value=(generating.gross.value - net.value) / length_s, u=u)


def _part(window: Window | None, tokens: TokensServed) -> Interval | None:
    return None if window is None else figure(_per_token(window.gross, tokens))


def _per_token(energy: Quantity, tokens: TokensServed) -> Quantity:
    """Energy over tokens, with the uncertainty of both; that of the count counts as one of the window's ends."""
    quotient = energy.scaled(1 / tokens.count)
    edges = hypot(quotient.u.edges, quotient.value * tokens.u / tokens.count)
    return Quantity(value=quotient.value, u=replace(quotient.u, edges=edges))

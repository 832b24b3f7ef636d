"""Energy per token of servers in use by others: what the device drew over all that they generated for all their users.

Two counts are put against each other over the same time, energy and generated tokens. Nothing is known of single
requests, so that the whole time counts: also that in which the servers only wait, holding their models ready. The
energy of a token therefore has two parts, told apart by whether any request was under way between two looks:

    j_per_token = generating_j_per_token + waiting_j_per_token

The first one is a property of model and machine, the second one of how much the servers are used. Net of idle, waiting
is nothing by definition, since the idle power is that of the device with its servers waiting.

The tokens are counted by the servers and read now and then. What may have been generated between the moment that was
counted and the moment that the energy is taken at is within ± e at each end of an uninterrupted stretch, uniformly, so
that u(N)² = Σ e²/3 (JCGM 100:2008, 4.3.7), and u(E/N)² = u(E)²/N² + (E/N)²·u(N)²/N².
"""

from __future__ import annotations

from math import hypot, sqrt

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.figures import J_PER_WH, Figure, figure, reciprocal
from edgetop.core.energy.grade import BRIDGED_FROM, Letter, graded
from edgetop.core.energy.per_token import Basis
from edgetop.core.energy.uncertainty import Components, Quantity, summed
from edgetop.core.energy.window import Window
from edgetop.core.records import Missing, Scope

LEAST_TOKENS = 10
"""Of fewer the count itself is too uncertain to divide by."""
UNCOUNTED = "uncounted"
"""Flag: a model process that does not say what it generates used the device too."""
RUNNING_ONLY = "running-only"
"""Flag: a server tells of running requests alone, so that the last tokens of each are not counted."""


class ServedEnergy(Struct, frozen=True, kw_only=True):
    """The energy of servers in use, over all their users; see the module for what the figures mean."""

    scope: Scope
    source: str
    grade: Letter
    grade_reason: str
    grade_mend: str
    flags: tuple[str, ...]
    gross_j: Figure
    net_j: Figure | None
    """Above idle, while generating."""
    idle_w: Figure | None
    mean_w: Figure
    j_per_token: Figure
    """Gross, over all the time that counts."""
    net_j_per_token: Figure | None
    generating_j_per_token: Figure | None
    """Gross, of the time in which requests were under way."""
    waiting_j_per_token: Figure | None
    """Gross, of the time in which none was, spread over all tokens."""
    tokens_per_wh: Figure | None
    missing: dict[str, Missing] = {}
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


class Served(Struct, frozen=True, kw_only=True):
    """What was measured, in sums over all the time that counts."""

    generating: Window | None
    """Gross energy of the time in which requests were under way; `None` without such a time."""
    waiting: Window | None
    net: Quantity | Missing
    """J above idle of `generating`."""
    tokens: TokensServed


def served_energy(served: Served, basis: Basis) -> ServedEnergy | Missing:
    """The figures, or why there are none."""
    count = served.tokens.count
    parts = [window for window in (served.generating, served.waiting) if window is not None]
    if not parts:
        return Missing("nothing has been measured yet")
    if count < LEAST_TOKENS:
        return Missing(f"only {count} tokens were counted" if count else "no token was counted")
    gross = summed(window.gross for window in parts)
    length_s = sum(window.length_s for window in parts)
    flags = basis.flags
    if sum(window.estimated_share * window.length_s for window in parts) > BRIDGED_FROM * length_s:
        flags = (*flags, "bridged")
    per_token = _per_token(gross, served.tokens)
    grade = graded(per_token, basis.scope, basis.averaged, flags)
    if isinstance(grade, Missing):
        return grade
    missing: dict[str, Missing] = {}
    net = idle = None
    if isinstance(served.net, Missing) or served.generating is None:
        reason = served.net if isinstance(served.net, Missing) else Missing("no request was under way")
        missing["net_j"] = missing["net_j_per_token"] = missing["idle_w"] = reason
    else:
        net = served.net
        idle = _idle_w(served.generating, net)
    tokens_per_wh = reciprocal(figure(per_token), J_PER_WH)
    if tokens_per_wh is None:
        missing["tokens_per_wh"] = Missing("the energy per token may be 0")
    for name, window in (("generating_j_per_token", served.generating), ("waiting_j_per_token", served.waiting)):
        if window is None:
            missing[name] = Missing("no request was under way" if name[0] == "g" else "the servers never waited")
    return ServedEnergy(
        scope=basis.scope,
        source=basis.source,
        grade=grade.letter,
        grade_reason=grade.reason,
        grade_mend=grade.mend,
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


def _part(window: Window | None, tokens: TokensServed) -> Figure | None:
    return None if window is None else figure(_per_token(window.gross, tokens))


def _per_token(energy: Quantity, tokens: TokensServed) -> Quantity:
    """Energy over tokens, with the uncertainty of both; that of the count counts as one of the window's ends."""
    quotient = energy.scaled(1 / tokens.count)
    edges = hypot(quotient.u.edges, quotient.value * tokens.u / tokens.count)
    return Quantity(value=quotient.value, u=replace(quotient.u, edges=edges))

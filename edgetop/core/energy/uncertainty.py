"""Uncertainty budget, flags with their wording, grade.

The components are those of `edgetop.core.quantity`, which also says which of them add up how.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import Literal

from msgspec import Struct

from edgetop.core.quantity import COVERAGE_FACTOR, Components, Quantity
from edgetop.core.sources import Meter, MeterKind, Scope, Unavailable

Letter = Literal["A", "B", "C", "D"]

LIMITS: tuple[tuple[Letter, float], ...] = (("A", 0.05), ("B", 0.10), ("C", 0.25), ("D", 0.50))
"""The widest 2u, as a share of the value, that each letter allows."""

DEVICE_SCOPES: frozenset[Scope] = frozenset({"wall", "dc_in", "board_input", "module", "platform", "battery"})
"""What covers the whole device, or the whole module."""

BRIDGED_FROM = 0.05

GRADES_AT_BEST: dict[str, tuple[Letter, str, str]] = {
    "throttled": ("B", "the device was throttled", "cool it or fix its supply"),
    "paused": ("B", "the model stood still in between", "let it run through"),
    "other-load": ("B", "other programs used the device", "stop them and run again"),
    "stale-baseline": ("B", "the idle baseline is old", "leave the loaded model idle for a while"),
    "partial": ("B", "it does not cover the whole device", "use an external meter"),
    "slow": ("B", "the sensor is slow", "use a faster meter or longer turns"),
    "opt-in": ("B", "this meter's meaning differs between machines", "check it against an external meter"),
    "assumed-scope": ("B", "the program does not say what it measures", "let it print a header: edgetop power --help"),
    "includes-cpu": ("B", "it does not cover the whole device", "use an external meter"),
    "untried": ("C", "this way of reading was never run on a Mac by those who wrote it", "use an external meter"),
    "uncounted": ("C", "a model process that does not say what it generates used the device too", "watch it alone"),
    "running-only": ("C", "only tokens of running requests were seen", "start llama-server with --metrics"),
    "bridged": ("C", "readings were missing for a part of it", "see the sensor's failures in edgetop doctor"),
    "standing-still": ("C", "the sensor stood still for a part of it", "start the meter again, or use another"),
    "generic-calibration": ("C", "the calibration is another board's", "run edgetop calibrate"),
    "early-firmware": ("C", "the firmware reports some rails wrongly", "update the firmware"),
    "disagreement": ("C", "the counter and the power readings disagree", "use an external meter"),
    "virtualised": ("C", "the counter is a model of a share of the machine", "run on the bare machine"),
}
"""Flags that limit the letter. `stale-baseline` and the others of its kind do not make a figure wrong, but keep it
from A."""


def flag_text(flag: str) -> str:
    """What a flag means, in the same words wherever it is shown."""
    return GRADES_AT_BEST[flag][1] if flag in GRADES_AT_BEST else flag.replace("-", " ")


_WIDEST: dict[str, tuple[str, str]] = {
    "gain": ("the sensor's scale is known no better", "calibrate it against an external meter: edgetop calibrate"),
    "offset": ("the sensor's zero is known no better", "calibrate it, or compare net figures"),
    "disagreement": ("two meters of the same thing disagree", "use an external meter"),
    "quantisation": ("the sensor's steps are coarse", "use a finer meter"),
    "edges": ("the sensor is slow for so short a time", "generate more tokens, or use a faster meter"),
    "sampling": ("the sensor sees only moments of a changing load", "generate more tokens, or use a faster meter"),
    "baseline": ("the idle power is not known well enough", "leave the loaded model idle for longer"),
    "gaps": ("readings were missing", "see the sensor's failures in edgetop doctor"),
    "clock": ("the other hosts' clocks are known no better", "generate more tokens, or use a quicker line to them"),
}


class Grade(Struct, frozen=True, kw_only=True):
    """A letter, what kept it from being a better one, and what would fix that; both empty for an A."""

    letter: Letter
    reason: str = ""
    hint: str = ""


class TooUncertain(Unavailable, frozen=True, kw_only=True):
    """A figure whose interval is too wide for any grade."""

    relative: float
    """Half of the interval over the value."""


UNSEEN = Unavailable("the sensor is slow: it has not seen the load yet", "wait a moment")


def widest(u: Components) -> tuple[str, str]:
    """What contributes most to the uncertainty, and what would fix it."""
    return _WIDEST[max(_WIDEST, key=lambda name: float(getattr(u, name)))]


def graded(figure: Quantity, scope: Scope, averaged: bool, flags: Sequence[str] = ()) -> Grade | Unavailable:
    """The grade of a figure; Unavailable when its interval is wider than half its value.

    `averaged` says that the meter is a counter or an averaging sensor, from which no energy hides.
    """
    relative = figure.relative
    reason, hint = widest(figure.u)
    letter = next((name for name, limit in LIMITS if relative <= limit), None)
    if letter is None:
        shown = f"± {100 * relative:.0f} %" if figure.value else "around a value of 0"
        return TooUncertain(f"the interval of {shown} says too little: {reason}", hint, relative=relative)
    best = Grade(letter=letter) if letter == "A" else Grade(letter=letter, reason=reason, hint=hint)
    limits: list[tuple[Letter, str, str]] = [GRADES_AT_BEST[flag] for flag in flags if flag in GRADES_AT_BEST]
    if any(flag not in GRADES_AT_BEST for flag in flags):
        limits.append(("B", "it is flagged", ""))
    if scope not in DEVICE_SCOPES:
        limits.append(("B", "it covers a part of the device only", "use a meter of the whole device"))
    if not averaged:
        limits.append(("B", "the sensor sees only moments of the load", "use a counter or an averaging meter"))
    for at_best, why, how in limits:
        if at_best > best.letter:
            best = Grade(letter=at_best, reason=why, hint=how)
    return best


POINT_READINGS = 5
"""Up to 3 readings of a point sensor have no interval (`sampling_j`), and the first may come a period late."""


def certain_after_s(smear_s: float, reading_s: float, load_share: float, *, averaged: bool) -> float:
    """About how long work must last until its energy has a grade, in seconds.

    What makes short work uncertain are its edges (`edges_j`, both of them) at a load that is `load_share` of the power;
    and of a point sensor that reads every `reading_s` seconds, the number of readings.
    """
    edges_s = COVERAGE_FACTOR * edges_j(load_share, smear_s, 2) / LIMITS[-1][1]
    return max(smear_s, edges_s, 0.0 if averaged else POINT_READINGS * reading_s)


def seconds_to_certain(energy: object, elapsed_s: float, certain_s: float) -> float | None:
    """How long a window must still last until its figure has a grade; `None` unless it is only too uncertain yet.

    Foretold was `certain_s`. What makes it uncertain beyond that falls as one over the length.
    """
    if energy is not UNSEEN and not isinstance(energy, TooUncertain):
        return None
    if elapsed_s < certain_s:
        return certain_s - elapsed_s
    relative = energy.relative if isinstance(energy, TooUncertain) else 0.0
    return max(0.0, elapsed_s * (relative / LIMITS[-1][1] - 1)) if isfinite(relative) else None


DISAGREEMENT = 0.15
"""A counter and integrated power that differ by more than this are both doubted."""


def gain_j(meter: Meter, energy_j: float) -> float:
    """a·|E|/√3: the scale is within ±a, all values alike."""
    return meter.gain * abs(energy_j) / sqrt(3)


def offset_j(meter: Meter, length_s: float) -> float:
    """o·T/√3: the zero is within ±o. A counter has none."""
    return 0.0 if meter.kind == "energy" else meter.offset_w * length_s / sqrt(3)


def quantisation_j(kind: MeterKind, step: float, length_s: float, distinct: int) -> float:
    """q·T/√(12·distinct) for power: a frozen code does not average out. A counter is read twice: q·√2/√12."""
    if kind == "energy":
        return step * sqrt(2 / 12)
    return step * length_s / sqrt(12 * max(1, distinct))


def edges_j(contrast_w: float, smear_s: float, edges: int) -> float:
    """√n·|ΔP|·s/√12 for n ends at which the true power steps by ΔP somewhere within the smear s = U + W + τ."""
    return sqrt(edges) * abs(contrast_w) * smear_s / sqrt(12)


BEAT = 1.2
"""A load that repeats with every token beats with the polling, and the beat does not average out within a window. With
this factor the gross energy of 98 % of synthetic turns with 8 to 25 tokens a second is held at 21 Hz, and the decode
energy of 96 % (Monte-Carlo, 450 turns of 0.6, 3 and 12 s); at 50 Hz both of 99 %."""


def sampling_j(length_s: float, scatter_w: float, count: float) -> float:
    """b·T·s/√n·√((n-1)/(n-3)) for a point sensor with n readings (GUM supplement 1, 6.4.9).

    s is the scatter about the line between neighbours, since what changes slowly is seen, and straight lines follow it.
    """
    n = max(4.0, count)
    return BEAT * length_s * scatter_w * sqrt((n - 1) / (n - 3) / max(1.0, count))


def missed_polls_j(length_s: float, scatter_w: float, missed: float) -> float:
    """m·T·s for a point sensor of whose polls the share m did not come in time.

    A busy processor delays the polls just when it draws most, so that the readings are biased towards low power: by up
    to 1.4·m·s in seven turns on a virtual board with two crowded cores. Not checked on other boards.
    """
    return missed * length_s * scatter_w


def unseen_j(unseen_s: float, update_s: float, scatter_w: float, count: float) -> float:
    """s·√(M·U + M²/n) for n means over U that leave M seconds between them uncovered.

    A meter's program that is late on a crowded machine prints the mean of the last U, and what came before is lost. It
    varies as a mean over its own length does, and is taken for the mean beside it.
    """
    return scatter_w * sqrt(unseen_s * (update_s + unseen_s / max(1.0, count)))


def jitter_j(poll_s: float, scatter_w: float, count: float) -> float:
    """√(2n)·s·τ/√12 for n means, each seen up to τ after it stands: by so much its neighbour counts for too long."""
    return sqrt(2 * count / 12) * poll_s * scatter_w


def extended_edge_j(net_w: float, update_s: float, poll_s: float) -> float:
    """|P_net|·max(U,τ)/√12: what is left of the edges when lead and tail are taken in (factor c = 1: Monte-Carlo)."""
    return abs(net_w) * max(update_s, poll_s) / sqrt(12)


def clock_j(contrast_w: float, half_width_s: float) -> float:
    """|ΔP|·h/√3: the whole curve is too early or too late by up to h, so that what it shows of the work is cut short.

    A shift by δ loses |δ|·ΔP at one end of the window, whichever way it goes, ΔP being the step of the power at the
    ends. δ is taken as uniform within ±h.
    """
    return abs(contrast_w) * half_width_s / sqrt(3)


def disagreement_j(energy_j: float, other_j: float) -> float:
    """d/√3 for two meters of the same thing that differ by d, when that is more than 15 %; else 0.

    The truth may be either's or between (rectangular prior, GUM 4.3.7): about the middle u is d/√12, and the figure
    stays that of one of them, d/2 from there. Both together: d·√(1/12 + 1/4).
    """
    if abs(energy_j - other_j) <= DISAGREEMENT * max(abs(energy_j), abs(other_j)):
        return 0.0
    return abs(energy_j - other_j) / sqrt(3)

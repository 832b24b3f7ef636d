"""How far a figure of energy can be trusted, in one letter, and what would make it better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from edgetop.core.energy.uncertainty import Components, Quantity
from edgetop.core.records import Missing, Scope

Letter = Literal["A", "B", "C", "D"]

LIMITS: tuple[tuple[Letter, float], ...] = (("A", 0.05), ("B", 0.10), ("C", 0.25), ("D", 0.50))
"""The widest 2u, as a share of the value, that each letter allows."""
DEVICE_SCOPES: frozenset[Scope] = frozenset({"wall", "dc_in", "board_input", "module", "platform", "battery"})
"""What covers the whole device, or the whole module."""
BRIDGED_FROM = 0.05
GRADES_AT_BEST: dict[str, tuple[Letter, str, str]] = {
    "throttled": ("B", "the device was throttled", "cool it or mend its supply"),
    "other-load": ("B", "other programs used the device", "stop them and run again"),
    "stale-baseline": ("B", "the idle baseline is old", "leave the loaded model quiet for a while"),
    "partial": ("B", "it does not cover the whole device", "use an outside meter"),
    "slow": ("B", "the sensor is slow", "use a faster meter or longer turns"),
    "opt-in": ("B", "this meter's meaning differs between machines", "check it against an outside meter"),
    "includes-cpu": ("B", "it does not cover the whole device", "use an outside meter"),
    "uncounted": ("C", "a model process that does not say what it generates used the device too", "watch it alone"),
    "running-only": ("C", "only tokens of running requests were seen", "start llama-server with --metrics"),
    "bridged": ("C", "readings were missing for a part of it", "see the sensor's failures in edgetop doctor"),
    "generic-calibration": ("C", "the calibration is another board's", "run edgetop calibrate"),
    "early-firmware": ("C", "the firmware reports some rails wrongly", "update the firmware"),
    "disagreement": ("C", "the counter and the power readings disagree", "use an outside meter"),
    "virtualised": ("C", "the counter is a model of a share of the machine", "run on the bare machine"),
}
"""Flags that limit the letter. `stale-baseline` and the others of its kind do not make a figure wrong, but keep it
from A."""

_WIDEST: dict[str, tuple[str, str]] = {
    "gain": ("the sensor's scale is known no better", "calibrate it against an outside meter: edgetop calibrate"),
    "offset": ("the sensor's zero is known no better", "calibrate it, or compare net figures"),
    "disagreement": ("two meters of the same thing disagree", "use an outside meter"),
    "quantisation": ("the sensor's steps are coarse", "use a finer meter"),
    "edges": ("the sensor is slow for so short a turn", "generate more tokens, or use a faster meter"),
    "sampling": ("the sensor sees only moments of a changing load", "generate more tokens, or use a faster meter"),
    "baseline": ("the idle power is not known well enough", "leave the loaded model quiet for longer"),
    "gaps": ("readings were missing", "see the sensor's failures in edgetop doctor"),
    "clock": ("the other hosts' clocks are known no better", "generate more tokens, or use a quicker line to them"),
}


class Grade(Struct, frozen=True, kw_only=True):
    """A letter, what kept it from being a better one, and what would mend that; both empty for an A."""

    letter: Letter
    reason: str = ""
    mend: str = ""


def widest(u: Components) -> tuple[str, str]:
    """What contributes most to the uncertainty, and what would mend it."""
    return _WIDEST[max(_WIDEST, key=lambda name: float(getattr(u, name)))]


def graded(figure: Quantity, scope: Scope, averaged: bool, flags: Sequence[str] = ()) -> Grade | Missing:
    """The grade of a figure; Missing when its interval is wider than half its value.

    `averaged` says that the meter is a counter or an averaging sensor, from which no energy hides.
    """
    relative = figure.relative
    reason, mend = widest(figure.u)
    letter = next((name for name, limit in LIMITS if relative <= limit), None)
    if letter is None:
        shown = f"± {100 * relative:.0f} %" if figure.value else "around a value of 0"
        return Missing(f"the interval of {shown} says too little: {reason}", mend)
    best = Grade(letter=letter) if letter == "A" else Grade(letter=letter, reason=reason, mend=mend)
    limits: list[tuple[Letter, str, str]] = [GRADES_AT_BEST[flag] for flag in flags if flag in GRADES_AT_BEST]
    if any(flag not in GRADES_AT_BEST for flag in flags):
        limits.append(("B", "it is flagged", ""))
    if scope not in DEVICE_SCOPES:
        limits.append(("B", "it covers a part of the device only", "use a meter of the whole device"))
    if not averaged:
        limits.append(("B", "the sensor sees only moments of the load", "use a counter or an averaging meter"))
    for at_best, why, how in limits:
        if at_best > best.letter:
            best = Grade(letter=at_best, reason=why, mend=how)
    return best

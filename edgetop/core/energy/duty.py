"""What energy per token means in use: cost, battery hours, energy per answer and day, and when unloading pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import fsum, hypot, sqrt
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.quantity import COVERAGE_FACTOR, J_PER_WH, Interval, cost, exact, hours_left, scaled
from edgetop.core.sources import Unavailable

if TYPE_CHECKING:
    from edgetop.core.energy.tokens import Energy, ServedEnergy


TOKENS = 1_000_000
"""The number of tokens whose cost is shown; a single one's has too many zeros."""


class Price(Struct, frozen=True, kw_only=True):
    """What a kilowatt-hour costs; taken as exact."""

    per_kwh: float
    currency: str


class Cost(Struct, frozen=True, kw_only=True):
    """What energy costs, gross: with the intervals of the energy, in the price's currency."""

    total: Interval
    per_million_tokens: Interval | None
    """`None` without an energy per token."""
    currency: str


def cost_of(energy: Energy | ServedEnergy, price: Price) -> Cost:
    """The cost of the energy of a turn, a session or watched servers."""
    per_token = energy.j_per_token
    return Cost(
        total=cost(energy.gross_j, price.per_kwh),
        per_million_tokens=None if per_token is None else cost(per_token, price.per_kwh * TOKENS),
        currency=price.currency,
    )


def battery_hours(energy: Energy, remaining_j: float | None) -> Interval | None:
    """How long what is left in the battery, in joules, lasts at the mean power of the turn or the session.

    `None` where the energy is not the battery's, or what is left is not known.
    """
    if energy.scope != "battery" or remaining_j is None or remaining_j <= 0:
        return None
    return hours_left(remaining_j / J_PER_WH, energy.mean_w)


ANSWER_TOKENS = 256
"""Of an answer where nobody says otherwise."""

SECONDS_PER_HOUR, HOURS_PER_DAY = 3600.0, 24.0


class Duty(Struct, frozen=True, kw_only=True):
    """How a device with a model is used."""

    answer_tokens: int = ANSWER_TOKENS
    requests_per_hour: float | None = None
    battery_wh: float | None = None
    """What the battery holds, usable."""


class DutyBasis(Struct, frozen=True, kw_only=True):
    """What is known of a device and a model, measured or predicted; of what is not known the reason.

    Powers and energies are gross and of one scope.
    """

    answer_j: Interval | Unavailable
    """Of an answer of `Duty.answer_tokens`, its prompt included."""
    answer_s: Interval | Unavailable
    """From submitting to its last token."""
    idle_w: Interval | Unavailable
    """With the model loaded and nothing to do."""
    unloaded_w: Interval | Unavailable
    """Idle without the model."""
    load_j: Interval | Unavailable
    """Of loading it."""
    load_s: Interval | Unavailable
    same_meter: bool = True
    """One meter measured all: its errors of scale and zero are the same in each, so that they cancel in a break-even.
    False for predictions, whose errors have nothing to do with each other."""


class DutyFigures(Struct, frozen=True, kw_only=True):
    """What using a model takes, with each figure's interval. A figure that cannot be had is `None`; `missing` says why.

    With A and s energy and time of an answer, P and P0 the idle power with and without the model, L and l energy and
    time of a load, and R requests an hour:

        kept loaded            E/h = R·A + P·(3600 s - R·s)
        loaded for each        E/h = R·(A + L) + P0·(3600 s - R·(s + l))
        unloading pays after   T   = (L - P0·l) / (P - P0)

    T is the pause at which both draw the same, 3600 s / R - s. The battery lasts its energy over the mean power.
    """

    use: Duty = Duty()
    measured_tokens: float | None = None
    """Of the answers that were measured, in the mean."""
    answer_j: Interval | None = None
    unloaded_w: Interval | None = None
    load_j: Interval | None = None
    kept_wh_per_day: Interval | None = None
    reloaded_wh_per_day: Interval | None = None
    kept_battery_h: Interval | None = None
    reloaded_battery_h: Interval | None = None
    unload_after_s: Interval | None = None
    missing: dict[str, Unavailable] = {}


def answer_j(energy: Energy, measured_tokens: float, tokens: int) -> Interval | Unavailable:
    """The energy of an answer of so many tokens; those that were measured had `measured_tokens` in the mean.

    Where decoding has no figure of its own, a further token takes between nothing, if all energy is that of the prompt,
    and its share of the whole.
    """
    all_in, decode = energy.j_per_token, energy.decode_j_per_token
    if all_in is None:
        return energy.missing.get("j_per_token", Unavailable("there are too few tokens"))
    if decode is None:
        half = all_in.value / 2
        decode = replace(exact(half), u_random=half / sqrt(3))
    found = _derived(
        lambda all_in, decode: all_in * measured_tokens + decode * (tokens - measured_tokens),
        (all_in, decode),
        same_meter=True,
    )
    if found.high - found.low > UNCERTAIN * found.value:
        return Unavailable(
            f"answers of {measured_tokens:.0f} tokens say too little of {tokens} by this sensor",
            f"ask for answers of about {tokens} tokens",
        )
    return found


UNCERTAIN = 1.0
"""No figure of an answer whose interval is wider than itself, as of a turn."""

SAME_IDLE = Unavailable("idle power is the same with and without the model, as far as is known", "keep it loaded")
NO_RATE = Unavailable("how often the model is asked is not known", "--requests-per-hour N")
NO_BATTERY = Unavailable("what the battery holds is not known", "--battery-wh X")


def duty_figures(basis: DutyBasis, duty: Duty) -> DutyFigures:
    """What a use of the model takes: measured (`edgetop.core.figures.with_duty`) or predicted, by what the basis has.

    A prediction gives `same_meter=False` and `Unavailable` for each part that it does not know, such as
    `Unavailable("the energy of a load cannot be predicted", "measure it: edgetop run --idle 20")`; every figure that
    does without that part is still there. Never raises.
    """
    found: dict[str, Interval | Unavailable] = {
        "answer_j": basis.answer_j,
        "unloaded_w": basis.unloaded_w,
        "load_j": basis.load_j,
    }
    for name, hourly in (("kept", _kept), ("reloaded", _reloaded)):
        hour_j = hourly(basis, duty)
        per_day = hour_j if isinstance(hour_j, Unavailable) else scaled(hour_j, HOURS_PER_DAY / J_PER_WH)
        found[f"{name}_wh_per_day"] = per_day
        found[f"{name}_battery_h"] = _battery(duty.battery_wh, hour_j)
    found["unload_after_s"] = _unload_after(basis)
    return with_found(DutyFigures(use=duty), found)


def with_found(figures: DutyFigures, found: Mapping[str, Interval | Unavailable]) -> DutyFigures:
    """With figures by name, or why they are missing."""
    known = {name: value for name, value in found.items() if isinstance(value, Interval)}
    # A file holds reason and hint, whatever else a kind of `Unavailable` knows.
    missing = {
        name: Unavailable(value.reason, value.hint) for name, value in found.items() if isinstance(value, Unavailable)
    }
    return replace(figures, missing=missing, **known)


def _kept(basis: DutyBasis, duty: Duty) -> Interval | Unavailable:
    """J an hour with the model kept loaded."""
    parts, rate = _known(basis.answer_j, basis.answer_s, basis.idle_w), duty.requests_per_hour
    if rate is None:
        return NO_RATE
    if isinstance(parts, Unavailable):
        return parts
    if (missing := _no_room(rate, parts[1].value)) is not None:
        return missing
    return _derived(
        lambda answer_j, answer_s, idle_w: rate * answer_j + idle_w * (SECONDS_PER_HOUR - rate * answer_s),
        parts,
        same_meter=basis.same_meter,
    )


def _reloaded(basis: DutyBasis, duty: Duty) -> Interval | Unavailable:
    """J an hour with the model loaded for each answer and unloaded after it."""
    parts = _known(basis.answer_j, basis.answer_s, basis.unloaded_w, basis.load_j, basis.load_s)
    rate = duty.requests_per_hour
    if rate is None:
        return NO_RATE
    if isinstance(parts, Unavailable):
        return parts
    if (missing := _no_room(rate, parts[1].value + parts[4].value)) is not None:
        return missing
    return _derived(
        lambda answer_j, answer_s, unloaded_w, load_j, load_s: (
            rate * (answer_j + load_j) + unloaded_w * (SECONDS_PER_HOUR - rate * (answer_s + load_s))
        ),
        parts,
        same_meter=basis.same_meter,
    )


def _unload_after(basis: DutyBasis) -> Interval | Unavailable:
    """The pause in s from which it takes less to unload the model and load it again than to keep it."""
    idle = _known(basis.idle_w, basis.unloaded_w)
    if isinstance(idle, Unavailable):
        return idle
    saved_w = _derived(lambda idle_w, unloaded_w: idle_w - unloaded_w, idle, same_meter=basis.same_meter)
    if saved_w.low <= 0:
        return SAME_IDLE
    parts = _known(basis.idle_w, basis.unloaded_w, basis.load_j, basis.load_s)
    if isinstance(parts, Unavailable):
        return parts
    pause_s = _derived(
        lambda idle_w, unloaded_w, load_j, load_s: (load_j - unloaded_w * load_s) / (idle_w - unloaded_w),
        parts,
        same_meter=basis.same_meter,
    )
    return pause_s if pause_s.low > 0 else Unavailable("too uncertain", "leave the device idle for longer: --idle 60")


def _known(*parts: Interval | Unavailable) -> tuple[Interval, ...] | Unavailable:
    """All of them, or why one is missing."""
    missing = next((part for part in parts if isinstance(part, Unavailable)), None)
    return missing or tuple(part for part in parts if isinstance(part, Interval))


def _no_room(rate: float, request_s: float) -> Unavailable | None:
    """Why so many requests do not fit into an hour; `None` where they do."""
    if rate * request_s <= SECONDS_PER_HOUR:
        return None
    most = int(SECONDS_PER_HOUR / request_s)
    return Unavailable(f"a request takes {request_s:.3g} s, so that at most {most} fit into an hour")


def _battery(battery_wh: float | None, hour_j: Interval | Unavailable) -> Interval | Unavailable:
    if battery_wh is None or isinstance(hour_j, Unavailable):
        return NO_BATTERY if battery_wh is None else hour_j
    return hours_left(battery_wh, scaled(hour_j, 1 / SECONDS_PER_HOUR)) or Unavailable("the mean power may be 0")


def _derived(of: Callable[..., float], parts: Sequence[Interval], *, same_meter: bool) -> Interval:
    """A function of figures with the interval that theirs give it, to the first order (JCGM 100:2008, 5.1.2, 5.2.2).

    What one meter gets wrong in the same way in each of them adds up with its sign, so that it may cancel.
    """
    values = [part.value for part in parts]
    slopes = []
    for index, value in enumerate(values):
        step = max(abs(value), 1.0) * SLOPE_STEP
        ends = [of(*(each + sign * step * (index == at) for at, each in enumerate(values))) for sign in (1, -1)]
        slopes.append((ends[0] - ends[1]) / (2 * step))
    systematic = [slope * part.u_systematic for slope, part in zip(slopes, parts, strict=True)]
    u_systematic = abs(fsum(systematic)) if same_meter else hypot(*systematic)
    u_random = hypot(*(slope * part.u_random for slope, part in zip(slopes, parts, strict=True)))
    value, reach = of(*values), COVERAGE_FACTOR * hypot(u_systematic, u_random)
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=u_systematic, u_random=u_random)


SLOPE_STEP = 1e-5
"""Relative step over which a slope is taken; all but the break-even are linear in each part."""

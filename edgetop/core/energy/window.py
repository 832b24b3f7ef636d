"""The energy of one window on one channel's curve, gross and net of idle, by the strict or the extended method.

* strict: Ê(b) - Ê(a), both taken later by the sensor's lag;
* extended, for lagging sensors: the curve is followed from a lead before `a` to a tail L = W + 2U + τ after `b`, and
  the idle energy of lead and tail is taken off again. A filter of gain one keeps the integral, so the bias at the
  edges vanishes. The lead is needed because readings are held backwards: without it, what a slow sensor saw of the
  beginning lies before `a`. The method needs an idle baseline, and quiet before and after. What the device still
  draws above idle after the work (fans, clocks that fall slowly) then belongs to the window.

A window can be extended on one side only. That makes the two phases of an extended turn add up to it: the prefill is
extended to the left, the decode to the right, and between them they share one strict edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy import uncertainty
from edgetop.core.energy.baseline import BaselineTracker, IdlePower
from edgetop.core.energy.curve import Curve
from edgetop.core.energy.uncertainty import Components, Quantity
from edgetop.core.records import Missing

Method = Literal["strict", "extended"]

EXTEND_FROM = 0.2
"""A tail of more than this share of the window makes the extended method worth its longer stretch of baseline."""
ESTIMATED_AT_MOST = 0.2
"""No figure where more than this share of the window was bridged."""
PHASE_ERROR = 0.2
"""A phase gets a figure of its own when its edges cost no more than this share of it (one standard uncertainty)."""
LEAST_CONTRAST = 0.5
"""Steps of power at a phase's edges are taken for at least this share of its mean: a slow sensor hides them."""


class Extension(Struct, frozen=True):
    """On which sides a window is extended."""

    left: bool
    right: bool


STRICT = Extension(left=False, right=False)
BOTH = Extension(left=True, right=True)


class Window(Struct, frozen=True, kw_only=True):
    """The energy of one span of time: of one meter, or the sum of several meters or of several spans."""

    start_us: int
    end_us: int
    length_s: float
    """The time it covers; of several turns together, without the pauses."""
    method: Method
    gross: Quantity
    """J."""
    net: Quantity | None
    """J above idle; may be negative, and is then shown so."""
    idle: Quantity | None
    """W."""
    no_idle: Missing | None
    """Why there is no net and no idle power."""
    peak: Quantity
    """W, the greatest single reading."""
    estimated_share: float
    stale_baseline: bool
    final: bool
    """No later reading can change it."""


def lacking(curve: Curve, start_us: int, end_us: int) -> Missing | None:
    """Why the readings do not give the window's energy; `None` when they do."""
    if end_us <= start_us:
        return Missing("the window is empty")
    if not curve.starts_before(start_us):
        return Missing("the meter was not read from the beginning of the window", "start the meter before the turn")
    share = curve.gap_share(start_us, end_us)
    if share.suspended:
        return Missing("the machine slept during the window", "keep it awake and run the turn again")
    if not curve.reaches(end_us):
        return _lost(curve, start_us)
    if share.estimated_s > ESTIMATED_AT_MOST * (end_us - start_us) / 1e6:
        percent = 100 * share.estimated_s / ((end_us - start_us) / 1e6)
        return Missing(
            f"readings were missing for {percent:.0f} % of the window", "see the sensor's failures in edgetop doctor"
        )
    return None


def _lost(curve: Curve, start_us: int) -> Missing:
    until_us = curve.last_us or start_us
    if curve.meter.kind == "energy" and curve.asked_us == curve.last_us:
        return Missing("the energy counter stands still", "choose another meter with --power")
    so_far = ""
    if until_us > start_us:
        so_far = f" after {(until_us - start_us) / 1e6:.1f} s and {_difference(curve, start_us, until_us):.1f} J"
    return Missing(f"the sensor was lost{so_far}", "see edgetop doctor for the sensor's state")


def suggested(curve: Curve, tracker: BaselineTracker, start_us: int, end_us: int) -> Extension:
    """Extended on both sides when the sensor lags for more than a fifth of the window and all around is quiet."""
    tail_us, lead_us = curve.tail_s * 1e6, curve.lead_s * 1e6
    if tail_us <= EXTEND_FROM * (end_us - start_us):
        return STRICT
    before = tracker.is_quiet(start_us - tail_us, start_us - lead_us)
    after = tracker.is_quiet(end_us + lead_us, end_us + tail_us)
    covered = lacking(curve, round(start_us - tail_us), round(end_us + tail_us)) is None
    known = isinstance(tracker.idle(start_us, end_us), IdlePower)
    return BOTH if before and after and covered and known else STRICT


def measure(
    curve: Curve,
    start_us: int,
    end_us: int,
    idle: IdlePower | Missing,
    extension: Extension = STRICT,
) -> Window | Missing:
    """The energy between two moments. An extension without an idle power is ignored."""
    missing = lacking(curve, start_us, end_us)
    if missing is not None:
        return missing
    known = idle if isinstance(idle, IdlePower) else None
    if known is None:
        extension = STRICT
    left_us = start_us - round(curve.lead_s * 1e6) if extension.left else start_us + round(curve.lag_s * 1e6)
    right_us = end_us + round((curve.tail_s if extension.right else curve.lag_s) * 1e6)
    lead_s = (start_us - left_us) / 1e6 if extension.left else 0.0
    tail_s = (right_us - end_us) / 1e6 if extension.right else 0.0
    idle_w = known.power_w if known else 0.0
    length_s = (end_us - start_us) / 1e6
    gross_j = curve.energy_j(right_us) - curve.energy_j(left_us) - idle_w * (lead_s + tail_s)
    own = _own(curve, left_us, right_us, net_w=gross_j / length_s - idle_w, length_s=length_s, extension=extension)
    net_j = gross_j - idle_w * length_s
    gross = Quantity(
        value=gross_j,
        u=Components(
            gain=uncertainty.gain_j(curve.meter, gross_j),
            offset=uncertainty.offset_j(curve.meter, length_s),
            baseline=known.u_w * (lead_s + tail_s) if known else 0.0,
            **own,
        ),
    )
    net = Quantity(
        value=net_j,
        u=Components(
            gain=uncertainty.gain_j(curve.meter, net_j),
            baseline=known.u_w * (length_s + lead_s + tail_s) if known else 0.0,
            **own,
        ),
    )
    return Window(
        start_us=start_us,
        end_us=end_us,
        length_s=length_s,
        method="strict" if extension == STRICT else "extended",
        gross=gross,
        net=net if known else None,
        idle=_power(curve, idle_w, known.u_w) if known else None,
        no_idle=None if isinstance(idle, IdlePower) else idle,
        peak=_power(curve, curve.readings(start_us, right_us).peak_w, 0.0),
        estimated_share=curve.gap_share(start_us, end_us).estimated_s / length_s,
        stale_baseline=known.stale if known else False,
        final=curve.is_final(right_us),
    )


def _difference(curve: Curve, start_us: int, end_us: int) -> float:
    return curve.energy_j(end_us) - curve.energy_j(start_us)


def _own(
    curve: Curve, left_us: int, right_us: int, *, net_w: float, length_s: float, extension: Extension
) -> dict[str, float]:
    """The random components that gross and net share."""
    meter = curve.meter
    readings = curve.readings(left_us, right_us)
    strict_edges = (not extension.left) + (not extension.right)
    edges = uncertainty.edges_j(net_w, curve.smear_s, strict_edges)
    if strict_edges < 2:
        share = (2 - strict_edges) / 2
        edges = sqrt(edges**2 + share * uncertainty.extended_edge_j(net_w, curve.update_s, meter.poll_s) ** 2)
    sampling = 0.0
    if meter.kind == "power" and not curve.averaging:
        few = readings.count < 3
        deviation_w = abs(net_w) if few else readings.deviation_w
        sampling = uncertainty.sampling_j(length_s, deviation_w, readings.count if few else readings.effective)
    return {
        "quantisation": uncertainty.quantisation_j(meter, (right_us - left_us) / 1e6, readings.distinct),
        "edges": edges,
        "sampling": sampling,
        "gaps": curve.gap_share(left_us, right_us).u_j,
    }


def _power(curve: Curve, power_w: float, u_w: float) -> Quantity:
    meter = curve.meter
    step_w = meter.lsb / sqrt(12) if meter.kind == "power" else 0.0
    return Quantity(
        value=power_w,
        u=Components(
            gain=uncertainty.gain_j(meter, power_w),
            offset=uncertainty.offset_j(meter, 1.0),
            quantisation=0.0 if u_w else step_w,
            baseline=u_w,
        ),
    )


def with_clock(seen: Window, half_width_s: float) -> Window:
    """A window of another machine's meter, whose clock is known to ±`half_width_s` on ours."""
    above = seen.gross if seen.net is None else seen.net
    u_j = uncertainty.clock_j(above.value / seen.length_s, half_width_s)

    def widened(quantity: Quantity) -> Quantity:
        return replace(quantity, u=replace(quantity.u, clock=u_j))

    return replace(seen, gross=widened(seen.gross), net=None if seen.net is None else widened(seen.net))


def together(windows: Iterable[Window]) -> Window:
    """The sum of one window over several meters of different things, at least one."""
    terms = tuple(windows)
    return _sum(terms, terms[0].length_s, uncertainty.summed(term.peak for term in terms), linear_idle=True)


def in_sequence(windows: Iterable[Window]) -> Window:
    """The sum of several windows that follow each other, at least one, by the same meters."""
    terms = tuple(windows)
    length_s = sum(term.length_s for term in terms)
    return _sum(terms, length_s, max((term.peak for term in terms), key=lambda peak: peak.value), linear_idle=False)


def _sum(terms: Sequence[Window], length_s: float, peak: Quantity, *, linear_idle: bool) -> Window:
    nets = [term.net for term in terms if term.net is not None]
    idles = [term.idle if linear_idle else term.idle.scaled(term.length_s / length_s) for term in terms if term.idle]
    complete = len(nets) == len(terms)
    estimated_s = sum(term.estimated_share * term.length_s for term in terms)
    return Window(
        start_us=min(term.start_us for term in terms),
        end_us=max(term.end_us for term in terms),
        length_s=length_s,
        method="extended" if any(term.method == "extended" for term in terms) else "strict",
        gross=uncertainty.summed(term.gross for term in terms),
        net=uncertainty.summed(nets) if complete else None,
        idle=uncertainty.summed(idles) if complete else None,
        no_idle=next((term.no_idle for term in terms if term.no_idle is not None), None),
        peak=peak,
        estimated_share=min(1.0, estimated_s / length_s),
        stale_baseline=any(term.stale_baseline for term in terms),
        final=all(term.final for term in terms),
    )


def shortest_phase_s(smear_s: float, contrast_w: float, mean_w: float, error: float = PHASE_ERROR) -> float:
    """T_min(ε) = √2·s·|ΔP| / (√12·ε·P̄): a shorter phase is not told apart from its neighbours."""
    if mean_w <= 0:
        return float("inf")
    contrast_w = max(abs(contrast_w), LEAST_CONTRAST * mean_w)
    return sqrt(2) * smear_s * contrast_w / (sqrt(12) * error * mean_w)

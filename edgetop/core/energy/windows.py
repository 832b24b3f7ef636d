"""Energy of a window, a turn and its phases; strict or extended.

* strict: Ê(b) - Ê(a), both taken later by the sensor's lag;
* extended, for lagging sensors: the curve is followed from a lead before `a` to a tail L = W + 2U + τ after `b`, and
  the idle energy of lead and tail is taken off again. A filter of gain one keeps the integral, so the bias at the
  edges vanishes. The lead is needed because readings are held backwards: without it, what a slow sensor saw of the
  beginning lies before `a`. The method needs an idle baseline, and an idle device before and after. What that still
  draws above idle after the work (fans, clocks that fall slowly) then belongs to the window.

A window can be extended on one side only. That makes the two phases of an extended turn add up to it: the prefill is
extended to the left, the decode to the right, and between them they share one strict edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from math import hypot, sqrt
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core import quantity
from edgetop.core.energy import uncertainty
from edgetop.core.energy.baselines import BaselineTracker, IdlePower, Spans, no_other_load
from edgetop.core.energy.curves import CounterCurve, Curve, PowerCurve
from edgetop.core.quantity import Components, Quantity
from edgetop.core.sources import Meter, Unavailable

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
    no_idle: Unavailable | None
    """Why there is no net and no idle power."""
    peak: Quantity
    """W, the greatest single reading."""
    estimated_share: float
    stands_still: bool
    """For a part of it the readings stood still under a load."""
    stale_baseline: bool
    final: bool
    """No later reading can change it."""


GAUGE_UNKNOWN = Unavailable(
    "battery gauge: update period not known yet", "wait for three of its updates, which may take minutes"
)


def why_unmeasurable(curve: Curve, start_us: int, end_us: int) -> Unavailable | None:
    """Why the readings do not give the window's energy; `None` when they do."""
    if end_us <= start_us:
        return Unavailable("the window is empty")
    if curve.is_gauge and not curve.period.found:
        return GAUGE_UNKNOWN
    if not curve.starts_before(start_us):
        return Unavailable("the meter was not read from the beginning of the window", "start the meter before the turn")
    share = curve.gap_share(start_us, end_us)
    missing = None
    if share.suspended:
        missing = Unavailable("the machine slept during the window", "keep it awake and run the turn again")
    elif not curve.reaches(end_us):
        missing = _lost(curve, start_us)
    elif share.estimated_s > ESTIMATED_AT_MOST * (end_us - start_us) / 1e6:
        percent = 100 * share.estimated_s / ((end_us - start_us) / 1e6)
        missing = Unavailable(
            f"readings were missing for {percent:.0f} % of the window", "see the sensor's failures in edgetop doctor"
        )
    return missing


def _lost(curve: Curve, start_us: int) -> Unavailable:
    until_us = curve.last_us or start_us
    if curve.meter.kind == "energy" and curve.asked_us == curve.last_us:
        return Unavailable("the energy counter stands still", "choose another meter with --power")
    so_far = ""
    if until_us > start_us:
        so_far = f" after {(until_us - start_us) / 1e6:.1f} s and {_difference(curve, start_us, until_us):.1f} J"
    return Unavailable(f"the sensor was lost{so_far}", "see edgetop doctor for the sensor's state")


LOOK_AHEAD_S = 4.0
"""Readings that show the work are searched until so long after its end."""

CLEAR_SHARE = 0.25
"""A load is clear when it raises the power by more than this share of what it was before."""

LATE_AT_LEAST_S = 0.35
"""Work begins a moment after it is submitted, and a token may be under way when an answer is stopped (judgement: up to
0.2 s on small boards). Only what comes later than this, beside what the sensor smears, is the meter's."""

LATE_SLICES, EDGE_SLICES = 400, 2000
"""Means that are looked at beside each other, at most, however often a sensor says that it updates."""


def late_s(curve: Curve, tracker: BaselineTracker, start_us: int, end_us: int) -> float:
    """By how much the curve shows a load later than it was, in seconds; 0 where it does not, or cannot be seen.

    Both its rise and its fall have to be late, by the whole of what the sensor is known to smear and about alike, with
    an idle device before and after: work that begins slowly is late at one end only.
    """
    smear_us = round(curve.smear_s * 1e6)
    idle_us = tracker.idle_until(end_us)
    if curve.last_us is None or idle_us is None:
        return 0.0
    until_us = round(min(idle_us, end_us + LOOK_AHEAD_S * 1e6, curve.last_us))
    before_us = start_us - smear_us - 500_000
    if until_us - end_us < 2 * smear_us or not curve.starts_before(before_us) or not curve.reaches(until_us):
        return 0.0
    step_us = max(round(max(curve.update_s, curve.meter.poll_s) * 1e6), (until_us - start_us) // LATE_SLICES, 1)
    moments = range(start_us, until_us - step_us, step_us)
    powers = [curve.mean_w(t_us, t_us + step_us) for t_us in moments]
    before_w = curve.mean_w(before_us, start_us - round(curve.lead_s * 1e6))
    rise_w = max(powers, default=0.0) - before_w
    if rise_w <= CLEAR_SHARE * abs(before_w):
        return 0.0
    above = [t_us for t_us, power_w in zip(moments, powers, strict=True) if power_w > before_w + rise_w / 2]
    rises_s, falls_s = (above[0] - start_us) / 1e6, (above[-1] + step_us - end_us) / 1e6
    late = min(rises_s, falls_s)
    alike = abs(rises_s - falls_s) <= max(curve.smear_s, 0.5 * late)
    return late if late > curve.smear_s + LATE_AT_LEAST_S and alike else 0.0


def _too_late(late: float, *, is_stamped: bool) -> Unavailable:
    shown = f"the readings show the work {late:.1f} s late"
    if is_stamped:
        return Unavailable(f"{shown}: the meter's clock is wrong", "set the clock of the meter's computer")
    return Unavailable(
        f"{shown}, and no time of their own was recorded",
        'let the meter print when each reading was taken: {"t": UNIX_SECONDS, "w": WATTS}',
    )


def choose_extension(curve: Curve, tracker: BaselineTracker, start_us: int, end_us: int) -> Extension:
    """Extended on both sides when the sensor lags for over a fifth of the window and the device is idle all around."""
    tail_us, lead_us = curve.tail_s * 1e6, curve.lead_s * 1e6
    if tail_us <= EXTEND_FROM * (end_us - start_us):
        return STRICT
    before = tracker.is_idle(start_us - tail_us, start_us - lead_us)
    after = tracker.is_idle(end_us + lead_us, end_us + tail_us)
    left_us, right_us = round(start_us - tail_us), round(end_us + tail_us)
    # What is bridged between work and idle would be taken for work.
    bridged_s = sum(curve.gap_share(*ends).estimated_s for ends in ((left_us, start_us), (end_us, right_us)))
    covered = bridged_s == 0 and why_unmeasurable(curve, left_us, right_us) is None
    known = isinstance(tracker.idle(start_us, end_us), IdlePower)
    return BOTH if before and after and covered and known else STRICT


def measure(
    curve: Curve,
    start_us: int,
    end_us: int,
    idle: IdlePower | Unavailable,
    extension: Extension = STRICT,
    *,
    of_work: Extension = STRICT,
    step_w: float | None = None,
    still_s: float = 0.0,
) -> Window | Unavailable:
    """The energy between two moments. An extension without an idle power is ignored.

    `of_work` says at which sides the work begins or ends. A phase has one end in the middle of it, where the power
    steps by `step_w`. For `still_s` the readings stood still under a load.
    """
    missing = why_unmeasurable(curve, start_us, end_us)
    if missing is not None:
        return missing
    if still_s > ESTIMATED_AT_MOST * (end_us - start_us) / 1e6:
        return Unavailable(
            f"the sensor gave one and the same reading for {still_s:.1f} s of changing load",
            "start the meter again, or choose another with --power",
        )
    if of_work != STRICT and curve.meter.kind == "power" and curve.gap_share(start_us, end_us).estimated_s > 0:
        # All readings may be means of work and idle, so that how high the load was is nowhere to be seen.
        whole_us = start_us + round(curve.smear_s * 1e6) if of_work.left else start_us
        if whole_us >= end_us or curve.readings(whole_us, end_us).count < 1:
            return Unavailable("the sensor was not read while it showed the work alone", "use longer turns")
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
    gross_j += curve.gaps.unbridged_j(left_us, begins=True) if of_work.left else 0.0
    gross_j += curve.gaps.unbridged_j(right_us, begins=False) if of_work.right else 0.0
    own = _own(
        curve,
        left_us,
        right_us,
        net_w=gross_j / length_s - idle_w,
        length_s=length_s,
        extension=extension,
        step_w=step_w,
        still_s=still_s,
    )
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
        idle=power_of(curve, idle_w, known.u_w) if known else None,
        no_idle=None if isinstance(idle, IdlePower) else idle,
        peak=power_of(curve, curve.readings(start_us, right_us).peak_w, 0.0),
        estimated_share=min(1.0, (curve.gap_share(start_us, end_us).estimated_s + still_s) / length_s),
        stands_still=still_s > 0,
        stale_baseline=known.stale if known else False,
        final=curve.is_final(right_us),
    )


def _difference(curve: Curve, start_us: int, end_us: int) -> float:
    return curve.energy_j(end_us) - curve.energy_j(start_us)


def _own(
    curve: Curve,
    left_us: int,
    right_us: int,
    *,
    net_w: float,
    length_s: float,
    extension: Extension,
    step_w: float | None,
    still_s: float,
) -> dict[str, float]:
    """The random components that gross and net share."""
    meter = curve.meter
    readings = curve.readings(left_us, right_us)
    strict_edges = (not extension.left) + (not extension.right)
    inner_j = 0.0
    if step_w is not None:
        strict_edges -= 1
        inner_j = uncertainty.edges_j(max(abs(step_w), abs(net_w)), curve.smear_s, 1)
    outer_j = uncertainty.edges_j(net_w, curve.smear_s, strict_edges)
    extended_edges = extension.left + extension.right
    interval_s = curve.update_s + readings.unseen_s / max(1.0, readings.count)
    smoothed_j = sqrt(extended_edges / 2) * uncertainty.extended_edge_j(net_w, interval_s, meter.poll_s)
    sampling = 0.0
    if meter.kind == "power" and (not curve.averaging or curve.is_gauge):
        few = readings.count < 3
        scatter_w = abs(net_w) if few else readings.scatter_w
        polls = (right_us - left_us) / 1e6 / max(curve.update_s, meter.poll_s)
        sampling = hypot(
            uncertainty.sampling_j(length_s, scatter_w, readings.count),
            uncertainty.missed_polls_j(length_s, scatter_w, max(0.0, 1 - (readings.count + 1) / polls)),
        )
    elif meter.kind == "power":
        sampling = hypot(
            uncertainty.unseen_j(readings.unseen_s, curve.update_s, readings.scatter_w, readings.count),
            uncertainty.jitter_j(meter.poll_s, readings.scatter_w, readings.count),
        )
    share = curve.gap_share(left_us, right_us)
    unseen_s = share.estimated_s + still_s
    # Nobody saw the load there: it may have been as high as at its peak, or nothing.
    unseen_w = max(readings.peak_w - curve.mean_w(left_us, right_us), abs(net_w))
    return {
        "quantisation": uncertainty.quantisation_j(
            meter.kind, curve.step, (right_us - left_us) / 1e6, readings.distinct
        ),
        "edges": hypot(outer_j, inner_j, smoothed_j),
        "sampling": sampling,
        "gaps": max(share.u_j, unseen_s * unseen_w / sqrt(12)),
    }


def power_of(curve: Curve, power_w: float, u_w: float) -> Quantity:
    """A power in W on a channel's curve; `u_w` is the standard uncertainty of a mean, 0 of a single reading."""
    meter = curve.meter
    step_w = curve.step / sqrt(12) if meter.kind == "power" else 0.0
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


def sum_over_meters(windows: Iterable[Window]) -> Window:
    """The sum of one window over several meters of different things, at least one."""
    terms = tuple(windows)
    return _sum(terms, terms[0].length_s, quantity.summed(term.peak for term in terms), linear_idle=True)


def sum_over_turns(windows: Iterable[Window]) -> Window:
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
        gross=quantity.summed(term.gross for term in terms),
        net=quantity.summed(nets) if complete else None,
        idle=quantity.summed(idles) if complete else None,
        no_idle=next((term.no_idle for term in terms if term.no_idle is not None), None),
        peak=peak,
        estimated_share=min(1.0, estimated_s / length_s),
        stands_still=any(term.stands_still for term in terms),
        stale_baseline=any(term.stale_baseline for term in terms),
        final=all(term.final for term in terms),
    )


def shortest_phase_s(smear_s: float, contrast_w: float, mean_w: float, error: float = PHASE_ERROR) -> float:
    """T_min(ε) = √2·s·|ΔP| / (√12·ε·P̄): a shorter phase cannot be separated from its neighbours."""
    if mean_w <= 0:
        return float("inf")
    contrast_w = max(abs(contrast_w), LEAST_CONTRAST * mean_w)
    return sqrt(2) * smear_s * contrast_w / (sqrt(12) * error * mean_w)


class TurnSpan(Struct, frozen=True, kw_only=True):
    """The stamps and counts of a turn."""

    submitted_us: int
    first_token_us: int | None
    """`None` while there is none."""
    last_us: int
    """The last token, or the present moment of a turn that goes on."""
    evaluated_tokens: int
    """Prompt tokens, those reused from the KV cache not among them."""
    generated_tokens: int
    over: bool = True
    """Whether the turn has ended; of one that goes on, no energy is final."""
    is_load: bool = True
    """Whether it must show in the readings; other work may be a mere wait."""
    pauses: tuple[tuple[int, int], ...] = ()
    """When the model stood still in between, ascending; what that took is not the turn's."""

    def running(self) -> Iterator[TurnSpan]:
        """The spans between the pauses, without their tokens."""
        starts = (self.submitted_us, *(end_us for _start_us, end_us in self.pauses))
        ends = (*(start_us for start_us, _end_us in self.pauses), self.last_us)
        for start_us, end_us in zip(starts, ends, strict=True):
            if start_us < end_us:
                first_us = None if self.first_token_us is None else min(max(start_us, self.first_token_us), end_us)
                yield replace(self, submitted_us=start_us, first_token_us=first_us, last_us=end_us, pauses=())


class HostWindow(Struct, frozen=True, kw_only=True):
    """The part of one machine in a window."""

    host: str
    """Its name, `local` for this one."""
    source: str
    whole: Window


class TurnWindows(Struct, frozen=True, kw_only=True):
    """The energy of a turn and of its phases; the phases add up to the whole."""

    turn: Window
    prefill: Window | Unavailable
    decode: Window | Unavailable
    hosts: tuple[HostWindow, ...] = ()
    """The parts of several machines, which add up to the whole; none where there is one machine."""

    def with_clock(self, half_width_s: float) -> TurnWindows:
        """The same, of a meter whose clock is known to ±`half_width_s` on edgetop's."""
        prefill, decode = (
            part if isinstance(part, Unavailable) else with_clock(part, half_width_s)
            for part in (self.prefill, self.decode)
        )
        return TurnWindows(turn=with_clock(self.turn, half_width_s), prefill=prefill, decode=decode)


class ChannelEstimator:
    """One channel: its curve and its idle baseline.

    Fed with readings and with what the model is doing, each in order of time.
    """

    def __init__(self, meter: Meter, other_load: Spans = no_other_load) -> None:
        """`other_load` gives the parts of a span in which other programs used the device."""
        self.meter = meter
        self.curve: Curve = PowerCurve(meter) if meter.kind == "power" else CounterCurve(meter)
        self.sees_work = True
        """Whether the work runs on what is measured: a card without work may give one and the same reading."""
        self._other_load = other_load
        self.baseline = self.tracker()

    def tracker(self) -> BaselineTracker:
        """One that knows no idle span yet."""
        return BaselineTracker(self.curve, self._other_load)

    def mark(self) -> ChannelEstimator:
        """The estimator as it is now, which is only good for `resumed`."""
        return self._with(self.curve.mark())

    def resumed(self) -> ChannelEstimator:
        """From a mark, an estimator that goes on from there."""
        return self._with(self.curve.resumed())

    def _with(self, curve: Curve) -> ChannelEstimator:
        other = copy(self)
        other.curve, other.baseline = curve, self.baseline.on(curve)
        return other

    def read(self, t_us: int, value: float | None) -> None:
        """A reading in W or J, or `None` for one that failed."""
        self.curve.read(t_us, value)

    def suspended(self) -> None:
        """The machine slept; to be called before the first reading after it."""
        self.curve.suspended()

    def idle_from(self, t_us: int, temperature_c: float | None = None) -> None:
        """The model is loaded and a turn, if there was one, has ended."""
        self.baseline.idle_from(t_us, temperature_c)

    def busy_from(self, t_us: int) -> None:
        """A turn begins, or the model is unloaded."""
        self.baseline.busy_from(t_us)

    def window(
        self, start_us: int, end_us: int, temperature_c: float | None = None, *, is_load: bool = True
    ) -> Window | Unavailable:
        """The energy of work between two moments, extended when the sensor lags and the device is idle around it."""
        missing = why_unmeasurable(self.curve, start_us, end_us)
        if missing is not None:
            return missing
        idle = self.baseline.idle(start_us, end_us, temperature_c)
        extension = choose_extension(self.curve, self.baseline, start_us, end_us)
        still_s = self.curve.still_s(start_us, end_us) if self.sees_work and is_load else 0.0
        return measure(self.curve, start_us, end_us, idle, extension, of_work=BOTH, still_s=still_s)

    def strict(self, start_us: int, end_us: int) -> Window | Unavailable:
        """The plain difference of the curve between two moments, as for a session or a pause."""
        return measure(self.curve, start_us, end_us, self.baseline.idle(start_us, end_us))

    def turn(
        self, span: TurnSpan, temperature_c: float | None = None, clock_s: float | None = None
    ) -> TurnWindows | Unavailable:
        """The energy of a turn, and of each phase that is long enough for this sensor.

        `clock_s` is how far the stamps of its readings may be off, where the meter gives them. One that was paused is
        the sum of what lies between the pauses.
        """
        if span.pauses:
            return _sum_of_parts(
                [(each, self.turn(each, temperature_c, clock_s)) for each in span.running()], span.first_token_us
            )
        start_us, end_us = span.submitted_us, span.last_us
        whole = self.window(start_us, end_us, temperature_c, is_load=span.is_load)
        if isinstance(whole, Unavailable):
            return whole
        too_late_s = self.curve.tail_s if whole.method == "extended" else self.curve.smear_s
        if (late := late_s(self.curve, self.baseline, start_us, end_us)) > too_late_s + (clock_s or 0.0):
            return _too_late(late, is_stamped=clock_s is not None)
        whole = replace(whole, final=whole.final and span.over)
        extended = whole.method == "extended"
        idle = self.baseline.idle(start_us, end_us, temperature_c)
        middle_us = end_us if span.first_token_us is None else span.first_token_us
        step_w = self._step_at(middle_us, start_us, end_us)
        shortest_s = self._shortest_phase_s(whole, idle)

        def phase(begin_us: int, until_us: int, of_work: Extension) -> Window | Unavailable:
            if 0 < (until_us - begin_us) / 1e6 < shortest_s:
                return Unavailable(
                    f"the phase is shorter than the {shortest_s:.2g} s that this sensor can tell apart",
                    "use a faster sensor, or a longer prompt or reply",
                )
            still_s = 0.0
            if self.sees_work and span.is_load and self.curve.still_s(start_us, end_us):
                still_s = self.curve.still_s(begin_us, until_us)
            extension = of_work if extended else STRICT
            return measure(
                self.curve, begin_us, until_us, idle, extension, of_work=of_work, step_w=step_w, still_s=still_s
            )

        found = TurnWindows(
            turn=whole,
            prefill=phase(start_us, middle_us, Extension(left=True, right=False)),
            decode=phase(middle_us, end_us, Extension(left=False, right=True)),
        )
        return found if clock_s is None else found.with_clock(clock_s)

    def _step_at(self, t_us: int, start_us: int, end_us: int) -> float:
        """By how much the power differs about the edge that two phases share: what one gains there the other loses."""
        curve = self.curve
        about_us = round(2 * curve.smear_s * 1e6)
        begin_us, until_us = max(start_us, t_us - about_us), min(end_us, t_us + about_us)
        update_us = round(max(curve.update_s, curve.meter.poll_s) * 1e6)
        step_us = max(update_us, (until_us - begin_us) // EDGE_SLICES, 1)
        powers = [curve.mean_w(a, a + step_us) for a in range(begin_us, until_us - step_us, step_us)]
        return max(powers, default=0.0) - min(powers, default=0.0)

    def _shortest_phase_s(self, whole: Window, idle: IdlePower | Unavailable) -> float:
        idle_w = idle.power_w if isinstance(idle, IdlePower) else 0.0
        mean_w = whole.gross.value / whole.length_s
        return shortest_phase_s(self.curve.smear_s, mean_w - idle_w, mean_w)


def _sum_of_parts(
    parts: Sequence[tuple[TurnSpan, TurnWindows | Unavailable]], first_token_us: int | None
) -> TurnWindows | Unavailable:
    """A turn whose parts were measured, at least one."""
    known: list[tuple[TurnSpan, TurnWindows]] = []
    for span, part in parts:
        if isinstance(part, Unavailable):
            return Unavailable(f"the turn was paused, and of what lies between the pauses: {part.reason}", part.hint)
        known.append((span, part))
    prefills = [part.prefill for span, part in known if first_token_us is None or span.submitted_us < first_token_us]
    decodes = [part.decode for span, part in known if first_token_us is not None and span.last_us > first_token_us]
    return TurnWindows(
        turn=sum_over_turns(part.turn for _span, part in known),
        prefill=_sum_or_missing(prefills, sum_over_turns),
        decode=_sum_or_missing(decodes, sum_over_turns),
    )


def turn_over_meters(turns: Sequence[TurnWindows | Unavailable]) -> TurnWindows | Unavailable:
    """One turn seen by several meters that may be added; missing when one of them misses it."""
    known: list[TurnWindows] = []
    for turn in turns:
        if isinstance(turn, Unavailable):
            return turn
        known.append(turn)
    if len(known) == 1:
        return known[0]
    return TurnWindows(
        turn=sum_over_meters(turn.turn for turn in known),
        prefill=_sum_or_missing([turn.prefill for turn in known]),
        decode=_sum_or_missing([turn.decode for turn in known]),
    )


def _sum_or_missing(
    windows: Sequence[Window | Unavailable], add: Callable[[Iterable[Window]], Window] = sum_over_meters
) -> Window | Unavailable:
    known: list[Window] = []
    for each in windows:
        if isinstance(each, Unavailable):
            return each
        known.append(each)
    return add(known) if known else Unavailable("the window is empty")

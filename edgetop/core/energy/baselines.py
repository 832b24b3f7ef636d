"""Idle power: measured in idle spans, interpolated, aged.

It is measured in every idle span between turns; the idle power of a turn is interpolated between the baselines
around it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from copy import copy
from itertools import pairwise
from math import ceil, hypot, inf, sqrt
from statistics import fmean

from msgspec import Struct

from edgetop.core.energy.curves import Curve
from edgetop.core.sources import Unavailable

FIRST_AT_LEAST_S = 10.0
FIRST_UPDATES = 20
RENEWAL_UPDATES = 5
MEASURED_S = 60.0
"""The idle power drifts with temperature: of a long idle span, only this much next to the turns counts for them."""

STALE_US = 600_000_000
STALE_KELVIN = 5.0

IDLE_WITHIN_US = 200_000
"""A turn is over a moment after its last token."""

SLICES_AT_MOST = 32
SLICES_AT_LEAST = 4
SLOPE_T = 3.0
"""A slope of more than this many of its standard errors, and 2 % over the span, means not settled yet."""

SLOPE_SHARE = 0.02


class Baseline(Struct, frozen=True, kw_only=True):
    """Idle power measured over one idle span, with its standard uncertainty."""

    start_us: int
    end_us: int
    power_w: float
    u_w: float
    full: bool
    """Long enough to stand alone: at least 10 s and 20 updates. Shorter ones only renew."""
    temperature_c: float | None = None

    @property
    def middle_us(self) -> float:
        """The moment that it stands for."""
        return (self.start_us + self.end_us) / 2


class IdlePower(Struct, frozen=True, kw_only=True):
    """The idle power that belongs to a window."""

    power_w: float
    u_w: float
    stale: bool
    """The nearest baseline is more than 10 minutes or 5 °C away."""


class IdleSpan(Struct):
    """A span in which the loaded model had nothing to do; open while `end_us` is `None`."""

    start_us: int
    end_us: int | None = None
    temperature_c: float | None = None


Spans = Callable[[int, int], Sequence[tuple[int, int]]]
"""Gives the parts of a span in which something holds, in order of time."""


def no_other_load(start_us: int, end_us: int) -> Sequence[tuple[int, int]]:  # noqa: ARG001
    """What is known of other loads where nobody watches for them."""
    return ()


class BaselineTracker:
    """Knows the idle spans of a session and measures the idle power in them, on one channel's curve."""

    def __init__(self, curve: Curve, other_load: Spans = no_other_load) -> None:
        """`other_load` gives the parts of a span in which other programs used the device."""
        self._curve = curve
        self._other_load = other_load
        self._spans: list[IdleSpan] = []
        self._settled: list[Baseline] = []
        """Of the first spans, which no reading to come belongs to; valid for one revision of the curve."""
        self._settled_spans = 0
        self._settled_full = False
        """One of those is full."""
        self._full = False
        """One of `_found` is."""
        self._revision = curve.revision
        self._baselines_of: tuple[int | None, ...] = ()
        self._found: list[Baseline] = []
        self._changes = 0
        self._loaded: bool | None = None
        """Whether other programs used the device in idle spans; `None` until it is asked for."""

    def on(self, curve: Curve) -> BaselineTracker:
        """Another tracker that knows the same and goes on by itself, on a copy of the curve."""
        other = copy(self)
        other.separate(curve)
        return other

    def separate(self, curve: Curve) -> None:
        """Share nothing that changes with the tracker that this is a copy of, and use another curve."""
        self._curve = curve
        # Of the spans only the last one may change.
        self._spans = [*self._spans[:-1], *map(copy, self._spans[-1:])]
        self._settled = self._settled.copy()

    def idle_from(self, t_us: int, temperature_c: float | None = None) -> None:
        """The model is loaded and has nothing to do from now on."""
        if not self._spans or self._spans[-1].end_us is not None:
            self._spans.append(IdleSpan(t_us, temperature_c=temperature_c))

    def busy_from(self, t_us: int) -> None:
        """A turn begins, the model is unloaded, or something else keeps the device from being idle."""
        if self._spans and self._spans[-1].end_us is None:
            self._spans[-1].end_us = max(t_us, self._spans[-1].start_us)

    def is_idle(self, start_us: float, end_us: float) -> bool:
        """Whether the device was idle all the time between two moments."""
        for span in reversed(self._spans):
            if span.start_us <= start_us:
                return span.end_us is None or span.end_us >= end_us
        return False

    def idle_until(self, t_us: int) -> float | None:
        """Until when the device stayed idle from `t_us` on, infinite while it still is; `None` when it was not."""
        for span in reversed(self._spans):
            if span.start_us <= t_us + IDLE_WITHIN_US and (span.end_us is None or span.end_us > t_us):
                return inf if span.end_us is None else span.end_us
        return None

    def idle(self, start_us: int, end_us: int, temperature_c: float | None = None) -> IdlePower | Unavailable:
        """The idle power during a window: interpolated between the baselines before and after it.

        u² = u_b² + (P2-P1)²/12, the drift between the two being uniform. With one of the two, that one.
        """
        baselines = self._baselines()
        if not self._full:
            if self._had_other_load():
                return Unavailable(
                    "other programs used the processor while the device was left idle", "close them, and run again"
                )
            curve = self._curve
            updates_s = FIRST_UPDATES * max(curve.update_s, curve.meter.poll_s)
            need_s = ceil(max(FIRST_AT_LEAST_S, updates_s) + curve.tail_s + curve.lead_s)
            return Unavailable(
                "no idle baseline has been measured yet",
                f"leave the device idle for {need_s} s, a model loaded: run and measure have --idle {need_s}",
            )
        before = next((b for b in reversed(baselines) if b.end_us <= start_us), None)
        after_at = bisect_left(baselines, end_us, key=lambda baseline: baseline.start_us)
        after = baselines[after_at] if after_at < len(baselines) else None
        around = [b for b in (before, after) if b is not None]
        if not around:
            return Unavailable("the window lies inside a idle span", "")
        away_us = min(start_us - b.end_us if b is before else b.start_us - end_us for b in around)
        warmer = [
            abs(temperature_c - b.temperature_c) > STALE_KELVIN
            for b in around
            if temperature_c is not None and b.temperature_c is not None
        ]
        stale = away_us > STALE_US or (bool(warmer) and all(warmer))
        if before is None or after is None:
            return IdlePower(power_w=around[0].power_w, u_w=around[0].u_w, stale=stale)
        share = ((start_us + end_us) / 2 - before.middle_us) / (after.middle_us - before.middle_us)
        drift_w = after.power_w - before.power_w
        u_w = hypot((1 - share) * before.u_w, share * after.u_w, drift_w / sqrt(12))
        return IdlePower(power_w=before.power_w + share * drift_w, u_w=u_w, stale=stale)

    @property
    def is_known(self) -> bool:
        """Whether the idle power was measured long enough to stand alone."""
        self._baselines()
        return self._full

    def latest(self) -> Baseline | None:
        """The newest baseline, for the line in the power graph."""
        baselines = self._baselines()
        return baselines[-1] if baselines else None

    @property
    def changes(self) -> int:
        """Grows when what `idle` says of any window may have become another."""
        self._baselines()
        return self._changes

    def is_complete(self, end_us: int) -> bool:
        """Whether the idle power of a window that ends at `end_us` stays as it is while the curve's revision does."""
        self._baselines()
        return self._settled_full and self._settled[-1].start_us >= end_us

    def _baselines(self) -> list[Baseline]:
        curve, last = self._curve, self._spans[-1] if self._spans else None
        state = (curve.revision, curve.asked_us, len(self._spans), None if last is None else last.end_us)
        if state != self._baselines_of:
            self._baselines_of, self._loaded = state, None
            found, later = self._measure_all()
            # Until one is full enough to stand alone, none of them is used.
            self._full = self._settled_full or any(baseline.full for baseline in later)
            self._changes += found != self._found and self._full
            self._found = found
        return self._found

    def _measure_all(self) -> tuple[list[Baseline], list[Baseline]]:
        """All baselines, and those among them that are not settled."""
        if self._revision != self._curve.revision:
            self._settled, self._settled_spans, self._settled_full = [], 0, False
            self._revision = self._curve.revision
        while self._settled_spans < len(self._spans):
            span = self._spans[self._settled_spans]
            if span.end_us is None or not self._curve.is_complete(span.end_us):
                break
            measured = self._measure(span)
            self._settled.extend(measured)
            self._settled_full = self._settled_full or any(baseline.full for baseline in measured)
            self._settled_spans += 1
        later = [baseline for span in self._spans[self._settled_spans :] for baseline in self._measure(span)]
        return [*self._settled, *later], later

    def _measure(self, span: IdleSpan) -> tuple[Baseline, ...]:
        """Up to two baselines of a idle span: one near its beginning, one near its end."""
        curve = self._curve
        if curve.last_us is None or curve.first_us is None:
            return ()
        start_us = max(span.start_us + round(curve.tail_s * 1e6), curve.first_us)
        end_us = min(curve.last_us if span.end_us is None else span.end_us, curve.last_us) - round(curve.lead_s * 1e6)
        length_us = max(round(MEASURED_S * 1e6), round(FIRST_UPDATES * curve.update_s * 1e6))
        measured = [
            measured_baseline(curve, *each, span.temperature_c)
            for begin_us, until_us in self._without_other_load(start_us, end_us)
            for each in (
                [(begin_us, until_us)]
                if until_us - begin_us <= 2 * length_us
                else [(begin_us, begin_us + length_us), (until_us - length_us, until_us)]
            )
        ]
        return tuple(baseline for baseline in measured if baseline is not None)

    def _without_other_load(self, start_us: int, end_us: int) -> list[tuple[int, int]]:
        lead_us, tail_us = round(self._curve.lead_s * 1e6), round(self._curve.tail_s * 1e6)
        idle = []
        for begin_us, until_us in self._other_load(start_us, end_us):
            if begin_us - lead_us > start_us:
                idle.append((start_us, begin_us - lead_us))
            start_us = max(start_us, until_us + tail_us)
        return [*idle, (start_us, end_us)] if start_us < end_us else idle

    def _had_other_load(self) -> bool:
        if self._loaded is None:
            until_us = self._curve.last_us or 0
            spans = ((span.start_us, until_us if span.end_us is None else span.end_us) for span in self._spans)
            self._loaded = any(self._other_load(*span) for span in spans)
        return self._loaded


def measured_baseline(curve: Curve, start_us: int, end_us: int, temperature_c: float | None = None) -> Baseline | None:
    """The idle power over the settled part of a span; `None` when too little of it is left.

    The span is cut into slices of at least U + W, whose means are nearly independent. While they still slope, the first
    quarter is left out (fans and clocks take their time). u = s/√n_eff ⊕ q/√(12·distinct), n_eff = n(1-ρ)/(1+ρ).
    """
    step_s = curve.update_s + curve.window_s
    while True:
        length_s = (end_us - start_us) / 1e6
        updates = length_s / max(curve.update_s, curve.meter.poll_s)
        count = min(SLICES_AT_MOST, int(length_s / step_s)) if step_s > 0 else SLICES_AT_MOST
        if length_s < 3 * step_s or updates < RENEWAL_UPDATES or count < SLICES_AT_LEAST:
            return None
        share = curve.gap_share(start_us, end_us)
        if share.suspended or share.estimated_s > 0 or not curve.reaches(end_us):
            return None
        moments = [start_us + (end_us - start_us) * i / count for i in range(count + 1)]
        powers = [curve.mean_w(a, b) for a, b in pairwise(moments)]
        if not _slopes(powers):
            break
        start_us += (end_us - start_us) // 4
    readings = curve.readings(start_us, end_us)
    quantisation_w = 0.0 if curve.meter.kind == "energy" else curve.step / sqrt(12 * max(1, readings.distinct))
    return Baseline(
        start_us=start_us,
        end_us=end_us,
        power_w=curve.mean_w(start_us, end_us),
        u_w=hypot(_deviation_of_mean(powers), quantisation_w),
        full=length_s >= FIRST_AT_LEAST_S and updates >= FIRST_UPDATES,
        temperature_c=temperature_c,
    )


def _slopes(powers: list[float]) -> bool:
    n = len(powers)
    mean, middle = fmean(powers), (n - 1) / 2
    spread = sum((i - middle) ** 2 for i in range(n))
    slope = sum((i - middle) * (power - mean) for i, power in enumerate(powers)) / spread
    rest = sum((power - mean - slope * (i - middle)) ** 2 for i, power in enumerate(powers))
    error = sqrt(rest / (n - 2) / spread)
    return abs(slope) > SLOPE_T * error and abs(slope) * (n - 1) > SLOPE_SHARE * abs(mean)


def _deviation_of_mean(powers: list[float]) -> float:
    n = len(powers)
    mean = fmean(powers)
    squares = sum((power - mean) ** 2 for power in powers)
    if squares <= 0:
        return 0.0
    products = sum((a - mean) * (b - mean) for a, b in pairwise(powers))
    rho = min(max(products / squares, 0.0), 0.9)
    effective = max(1.0, n * (1 - rho) / (1 + rho))
    return sqrt(squares / (n - 1) / effective)

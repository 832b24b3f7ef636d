"""From readings and stamps to the energy of turns and of their phases."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy import window
from edgetop.core.energy.baseline import BaselineTracker, IdlePower
from edgetop.core.energy.counter_curve import CounterCurve
from edgetop.core.energy.curve import Curve
from edgetop.core.energy.meter import Meter
from edgetop.core.energy.power_curve import PowerCurve
from edgetop.core.energy.window import Extension, Window
from edgetop.core.records import Missing


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


class HostWindow(Struct, frozen=True, kw_only=True):
    """The part of one machine in a window."""

    host: str
    """Its name, `local` for this one."""
    source: str
    whole: Window


class TurnWindows(Struct, frozen=True, kw_only=True):
    """The energy of a turn and of its phases; the phases add up to the whole."""

    turn: Window
    prefill: Window | Missing
    decode: Window | Missing
    hosts: tuple[HostWindow, ...] = ()
    """The parts of several machines, which add up to the whole; none where there is one machine."""

    def with_clock(self, half_width_s: float) -> TurnWindows:
        """The same, of a machine whose clock is known to ±`half_width_s` on ours."""
        prefill, decode = (
            part if isinstance(part, Missing) else window.with_clock(part, half_width_s)
            for part in (self.prefill, self.decode)
        )
        return TurnWindows(turn=window.with_clock(self.turn, half_width_s), prefill=prefill, decode=decode)


class ChannelEstimator:
    """One channel: its curve and its idle baseline.

    Fed with readings and with what the model is doing, each in order of time.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.curve: Curve = PowerCurve(meter) if meter.kind == "power" else CounterCurve(meter)
        self.baseline = BaselineTracker(self.curve)

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
        """The machine slept; to be told before the first reading after it."""
        self.curve.suspended()

    def quiet_from(self, t_us: int, temperature_c: float | None = None) -> None:
        """The model is loaded and a turn, if there was one, has ended."""
        self.baseline.quiet_from(t_us, temperature_c)

    def busy_from(self, t_us: int) -> None:
        """A turn begins, or the model is unloaded."""
        self.baseline.busy_from(t_us)

    def window(self, start_us: int, end_us: int, temperature_c: float | None = None) -> Window | Missing:
        """The energy between two moments, extended when the sensor lags and there is quiet around."""
        idle = self.baseline.idle(start_us, end_us, temperature_c)
        extension = window.suggested(self.curve, self.baseline, start_us, end_us)
        return window.measure(self.curve, start_us, end_us, idle, extension)

    def strict(self, start_us: int, end_us: int) -> Window | Missing:
        """The plain difference of the curve between two moments, as for a session or a pause."""
        return window.measure(self.curve, start_us, end_us, self.baseline.idle(start_us, end_us))

    def turn(self, span: TurnSpan, temperature_c: float | None = None) -> TurnWindows | Missing:
        """The energy of a turn, and of each phase that is long enough for this sensor."""
        start_us, end_us = span.submitted_us, span.last_us
        whole = self.window(start_us, end_us, temperature_c)
        if isinstance(whole, Missing):
            return whole
        whole = replace(whole, final=whole.final and span.over)
        extended = whole.method == "extended"
        idle = self.baseline.idle(start_us, end_us, temperature_c)
        middle_us = end_us if span.first_token_us is None else span.first_token_us
        return TurnWindows(
            turn=whole,
            prefill=self._phase(whole, start_us, middle_us, idle, Extension(left=extended, right=False)),
            decode=self._phase(whole, middle_us, end_us, idle, Extension(left=False, right=extended)),
        )

    def _phase(
        self, whole: Window, start_us: int, end_us: int, idle: IdlePower | Missing, extension: Extension
    ) -> Window | Missing:
        idle_w = idle.power_w if isinstance(idle, IdlePower) else 0.0
        mean_w = whole.gross.value / whole.length_s
        shortest_s = window.shortest_phase_s(self.curve.smear_s, mean_w - idle_w, mean_w)
        if 0 < (end_us - start_us) / 1e6 < shortest_s:
            return Missing(
                f"the phase is shorter than the {shortest_s:.2g} s that this sensor can tell apart",
                "use a faster sensor, or a longer prompt or reply",
            )
        return window.measure(self.curve, start_us, end_us, idle, extension)


def turn_together(turns: Sequence[TurnWindows | Missing]) -> TurnWindows | Missing:
    """One turn seen by several meters that may be added; missing when one of them misses it."""
    known: list[TurnWindows] = []
    for turn in turns:
        if isinstance(turn, Missing):
            return turn
        known.append(turn)
    if len(known) == 1:
        return known[0]
    return TurnWindows(
        turn=window.together(turn.turn for turn in known),
        prefill=_all_of([turn.prefill for turn in known]),
        decode=_all_of([turn.decode for turn in known]),
    )


def _all_of(windows: Sequence[Window | Missing]) -> Window | Missing:
    known: list[Window] = []
    for each in windows:
        if isinstance(each, Missing):
            return each
        known.append(each)
    return window.together(known)

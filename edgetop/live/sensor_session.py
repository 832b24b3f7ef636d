"""Sensors read for a while, without a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import fsum, isnan

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.energy.readings import Plausibility
from edgetop.core.energy.scopes import Headline
from edgetop.core.format import format_significant
from edgetop.core.records import DeviceInfo
from edgetop.core.sources import Meter, Unavailable
from edgetop.live.live_session import Recorder
from edgetop.session.meters import ChannelFeed, headline_of, meters_of
from edgetop.telemetry.registry import Inventory
from edgetop.telemetry.sampler import Sampler

POLL_S = 0.05
"""How often the sampler is asked for what it has read."""

Span = tuple[int, int]
"""From when to when, in microseconds since the watch began."""


class MeanPower(Struct, frozen=True, kw_only=True):
    """What one channel showed over a span, in watts; of a counter all three are its rate."""

    mean_w: float
    least_w: float
    most_w: float
    readings: int
    failed: int = 0


class SensorSession:
    """Reads all sources of an inventory from its making until `close`, which closes them."""

    def __init__(self, inventory: Inventory, chosen: str | None = None) -> None:
        """`chosen` is the power source that the person named; `None` leaves the choice to edgetop."""
        self.session = Recorder(device=DeviceInfo(hostname=""), store=None, power=chosen).session
        self._sampler = Sampler(inventory)
        self.drain()
        self._sampler.start()

    @property
    def meters(self) -> Sequence[Meter]:
        """The channels of power and energy."""
        return meters_of(self.session)

    @property
    def headline(self) -> Headline | Unavailable:
        """The meters that stand for the device, or why there are none."""
        return headline_of(self.session, self.meters)

    def look(self, least_s: float, most_s: float) -> Span:
        """Go on until `least_s` seconds of the watch, and until every meter has answered, but no longer than `most_s`.

        The span is from the beginning of the watch. Without a meter nothing is waited for.
        """
        meters = self.meters
        while True:
            now_us = self.drain()
            answered = all(self._has_answered(meter, now_us) for meter in meters)
            if not meters or now_us >= most_s * 1e6 or (now_us >= least_s * 1e6 and answered):
                return 0, now_us
            time.sleep(POLL_S)

    def follow(self, seconds: float, tick: Callable[[float], None] | None = None) -> Span:
        """Go on for so many seconds from now; `tick` is told how many are left."""
        begin_us = self._now_us()
        while True:
            now_us = self.drain()
            left_s = seconds - (now_us - begin_us) / 1e6
            if left_s <= 0:
                return begin_us, now_us
            if tick is not None:
                tick(left_s)
            time.sleep(min(left_s, POLL_S))

    def power(self, meter: Meter, span: Span) -> MeanPower | Unavailable:
        """What a meter showed over a span: the mean of a power's readings, the rate of a counter."""
        return self._rate(meter, span) if meter.kind == "energy" else self._mean(meter, span)

    def close(self) -> None:
        """End the reading and close the sources."""
        self._sampler.stop()

    def _mean(self, meter: Meter, span: Span) -> MeanPower | Unavailable:
        stamps, values = self.session.window(meter.name, *span)
        gate = Plausibility(meter)
        read = [(t_us, value) for t_us, value in zip(stamps, values, strict=True) if not isnan(value)]
        known = [value for reading in read for _, value in gate.admit(*reading, meter.update_s or meter.poll_s)]
        if not known:
            if read:
                return Unavailable(f"{format_significant(read[-1][1])} W cannot be the power of this meter")
            return self._why_none(meter, span)
        return MeanPower(
            mean_w=fsum(known) / len(known),
            least_w=min(known),
            most_w=max(known),
            readings=len(known),
            failed=len(stamps) - len(known),
        )

    def _rate(self, meter: Meter, span: Span) -> MeanPower | Unavailable:
        """From the first change of the counter to the last: before and after, a part of a step is not seen."""
        stamps, values = self.session.window(meter.name, *span)
        feed = ChannelFeed(self.session, meter)
        feed.advance(span[1])
        curve = feed.estimator.curve
        if curve.last_us is None or all(isnan(value) for value in values):
            return self._why_none(meter, span)
        changes_us = _changes_us(stamps, values)
        if not changes_us:
            return Unavailable(f"the counter has not moved in {_length_s(span):.1f} s")
        if len(changes_us) == 1:
            return Unavailable(f"the counter has moved only once in {_length_s(span):.1f} s")
        power_w = curve.mean_w(changes_us[0], changes_us[-1])
        return MeanPower(mean_w=power_w, least_w=power_w, most_w=power_w, readings=len(stamps))

    def _why_none(self, meter: Meter, span: Span) -> Unavailable:
        found = self.session.find_channel(meter.name)
        count = 0 if found is None else found[0].count_until(span[1])
        if found is None or not count:
            return Unavailable("it has not answered yet")
        last = found[0].columns[found[1]].at(count - 1)
        return last if isinstance(last, Unavailable) else Unavailable(f"it gave no reading in {_length_s(span):.1f} s")

    def _has_answered(self, meter: Meter, now_us: int) -> bool:
        """Whether a power has been read, be it in vain, or a counter has moved twice."""
        stamps, values = self.session.window(meter.name, 0, now_us)
        if meter.kind == "energy" and len(values) and not isnan(values[-1]):
            return len(_changes_us(stamps, values)) > 1
        return len(values) > 0

    def drain(self) -> int:
        """Add what was read by now to the session; the time of this call."""
        now_us = self._now_us()
        for record in self._sampler.drain():
            self.session.apply(record)
        return now_us

    def _now_us(self) -> int:
        return self.session.relative(monotonic_us())


def _changes_us(stamps: Sequence[int], values: Sequence[float]) -> list[int]:
    """When a counter was seen to stand elsewhere than at the reading before."""
    read = [(t_us, value) for t_us, value in zip(stamps, values, strict=True) if not isnan(value)]
    return [t_us for (_, before), (t_us, value) in pairwise(read) if value != before]


def _length_s(span: Span) -> float:
    return (span[1] - span[0]) / 1e6

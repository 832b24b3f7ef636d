"""Meters and scripted readings for the tests of the estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edgetop.core.energy.curves import Curve
from edgetop.core.sources import Meter

S = 1_000_000


def point_meter(poll_s: float = 0.05, **properties: object) -> Meter:
    return _meter({"kind": "power", "scope": "module", "poll_s": poll_s, "window_s": 0.0, **properties})


def average_meter(poll_s: float = 0.05, window_s: float = 0.1, **properties: object) -> Meter:
    return _meter({"kind": "power", "scope": "gpu_board", "poll_s": poll_s, "window_s": window_s, **properties})


def counter_meter(poll_s: float = 0.05, **properties: object) -> Meter:
    return _meter({"kind": "energy", "scope": "cpu_package", "poll_s": poll_s, **properties})


def _meter(properties: dict[str, object]) -> Meter:
    return Meter(**{"name": "meter", "gain": 0.0, **properties})  # type: ignore[arg-type]


def feed(curve: Curve, readings: Iterable[tuple[float, float | None]]) -> None:
    """Readings with their times in seconds."""
    for t_s, value in readings:
        curve.read(round(t_s * S), value)


def polled(until_s: float, poll_s: float, value: Callable[[float], float | None]) -> list[tuple[float, float | None]]:
    """What a meter that follows `value` says when it is polled from 0 on."""
    return [(i * poll_s, value(i * poll_s)) for i in range(round(until_s / poll_s) + 1)]

"""Prometheus' text format, as far as counters and gauges of model servers need it (exposition format 0.0.4)."""

from __future__ import annotations

import re
from math import isfinite

_SAMPLE = re.compile(
    r'([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*'
)


def count_in(metrics: dict[str, float], name: str) -> int | None:
    """A sample that counts something; `None` where it is not there, or no number that may be believed."""
    value = metrics.get(name)
    return None if value is None or not 0 <= value < 2**53 else round(value)


def parse_metrics(text: str) -> dict[str, float]:
    """The samples by name, those of one name and several sets of labels added up.

    A line that is no sample is passed over, and so is a value that is no finite number.
    """
    values: dict[str, float] = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if match is None:
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if isfinite(value):
            values[match[1]] = values.get(match[1], 0.0) + value
    return values

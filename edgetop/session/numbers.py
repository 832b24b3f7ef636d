"""Numbers that no session has. What is beyond these bounds is refused, so that no arithmetic has to fear it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from edgetop.core.records import SourceInfo
from edgetop.session.series import LARGEST

LARGEST_FRACTION: Final = 1e30
"""Squares of these, and products of several, are still finite."""
COLUMNS: Final = frozenset({"dt_us", "chars", "done", "values", "missing"})
"""Fields that are not gone through: they are long, and have their bounds in their types or are judged as a whole."""
PERIODS_S: Final = (1e-6, 1e7)
"""How often a source can be read: once a microsecond, which is the clock's step, to once in four months."""


def number_problems(value: object, place: str = "$") -> Iterator[str]:
    """Where a number below `place` is beyond all bounds, each in one line that begins with the place.

    Goes through structs, mappings and sequences, but not through columns.
    """
    match value:
        case bool() | str() | None:
            return
        case int():
            if not -LARGEST <= value <= LARGEST:
                yield f"{place}: a whole number beyond 2^53"
        case float():
            # Also true of NaN, which no comparison holds for.
            if not -LARGEST_FRACTION <= value <= LARGEST_FRACTION:
                yield f"{place}: a number beyond {LARGEST_FRACTION:g}"
        case _:
            for step, part in _parts(value):
                yield from number_problems(part, f"{place}{step}")
            if isinstance(value, SourceInfo) and not PERIODS_S[0] <= value.period_s <= PERIODS_S[1]:
                yield f"{place}.period_s: a period of {value.period_s:g} s, in which nothing can be read"


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """The parts of a value, each with its step in a path."""
    match value:
        case Struct():
            names = (name for name in value.__struct_fields__ if name not in COLUMNS)
            yield from ((f".{name}", getattr(value, name)) for name in names)
        case Mapping():
            yield from ((f".{name}", each) for name, each in value.items())
        case list() | tuple():
            yield from ((f"[{index}]", each) for index, each in enumerate(value))

"""Numbers, units and spans as people read them, and the columns of a listing.

A missing number is `None` and reads `n/a`; it is never a zero.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from operator import attrgetter
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")

NOT_AVAILABLE = "n/a"
LEAST, MOST = 1e-9, 1e18
"""No figure of ours is beyond these; a file that was tampered with may say so, and must not fill the screen."""


def format_significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits: 12.4, 0.0721, 148; with an exponent only where nothing real lies."""
    if value == 0 or not math.isfinite(value) or not LEAST < abs(value) < MOST:
        return f"{value:.{digits}g}"
    magnitude = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{value:.{max(0, digits - 1 - magnitude)}f}"


def format_bytes(size_bytes: float | None) -> str:
    """A size in binary units, as memory is counted: 93.8 MiB, 1.31 GiB."""
    if size_bytes is None:
        return NOT_AVAILABLE
    return _scaled(size_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"), blank=" ")


def format_bytes_short(size_bytes: float | None) -> str:
    """A size for a meter, in htop's manner, binary units by one letter: 512M, 2.1G."""
    if size_bytes is None:
        return NOT_AVAILABLE
    return _scaled(size_bytes, 1024, ("B", "K", "M", "G", "T", "P"), blank="", digits=2)


def format_count(count: float | None) -> str:
    """A large count in decimal units: 134.5M is 135M, 3.8B."""
    if count is None:
        return NOT_AVAILABLE
    return _scaled(count, 1000, ("", "K", "M", "B", "T"), blank="")


def format_seconds(span_s: float | None) -> str:
    """A short span: 81 ms, 0.42 s, 12.4 s; longer ones as `format_duration`."""
    if span_s is None:
        return NOT_AVAILABLE
    if abs(span_s) < 0.1:
        return f"{format_significant(span_s * 1000, 2)} ms"
    if abs(span_s) < 100:
        return f"{format_significant(span_s, 2 if abs(span_s) < 1 else 3)} s"
    return format_duration(span_s)


def time_left(share_done: float, elapsed_s: float) -> str:
    """How long the rest takes if it goes on as fast: `, 71 s left`; empty where too little is done to say."""
    if not 0 < share_done <= 1 or elapsed_s <= 0:
        return ""
    left_s = elapsed_s * (1 - share_done) / share_done
    if left_s < TELL_MINUTES_S:
        return f", {left_s:.0f} s left"
    return f", about {format_duration(60 * round(left_s / 60)).removesuffix(' 0 s')} left"


TELL_MINUTES_S = 100.0
"""From here on seconds that are left are given in minutes."""


def format_duration(span_s: float | None) -> str:
    """A long span in two units: 3 min 12 s, 6 h 10 min, 2 d 4 h."""
    if span_s is None:
        return NOT_AVAILABLE
    whole_s = round(span_s)
    minutes, seconds = divmod(whole_s, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def format_time(stamp: str) -> str:
    """A moment of a file, ISO 8601, on this machine's clock and with its zone; text that is no moment stays."""
    try:
        moment = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
        found = _zone_on(moment.date(), time.tzname) if moment.tzinfo is timezone.utc else None
        if found is None:
            return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")
        return f"{(moment + found[0]).isoformat(' ')[:16]} {found[1]}"
    except (ValueError, OverflowError, OSError):
        return stamp


@lru_cache(maxsize=4096)
def _zone_on(day: date, _zones: tuple[str, str]) -> tuple[timedelta, str] | None:
    """By how much the clock here is ahead of UTC and what its zone is called; `None` if that changes within a day UTC.

    To ask for each of ten thousand sessions anew takes longer than to read their list.
    """
    begin = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
    ends = {(each.utcoffset(), each.tzname()) for each in (begin.astimezone(), (begin + timedelta(1)).astimezone())}
    offset, name = ends.pop()
    return None if ends or offset is None or name is None else (offset, name)


def unix_s(stamp: str) -> float | None:
    """A moment of a file, ISO 8601, in Unix seconds; `None` for text that is no moment."""
    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def format_clock(span_s: float) -> str:
    """A running time: 00:12:41."""
    minutes, seconds = divmod(int(span_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


def plural(count: int, what: str) -> str:
    """A count with its noun: 1 turn, 3 turns."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def format_rate(tokens_per_s: float | None) -> str:
    """A token rate: 12.4 tok/s."""
    return NOT_AVAILABLE if tokens_per_s is None else f"{format_significant(tokens_per_s)} tok/s"


def _scaled(value: float, base: int, units: tuple[str, ...], *, blank: str, digits: int = 3) -> str:
    scaled, unit = float(value), 0
    # 999.5 would be written 1000 with three digits, so it is already one of the next unit.
    while abs(scaled) >= min(base, 999.5) and unit < len(units) - 1:
        scaled /= base
        unit += 1
    number = str(round(scaled)) if unit == 0 else format_significant(scaled, digits)
    return f"{number}{blank if units[unit] else ''}{units[unit]}"


CellKind = Literal["text", "count", "number"]
"""What the cells of a column are: text, whole numbers, or numbers."""


class Column(Generic[T]):
    """A column of a listing, in a file, on the command line and on a screen, where widths are in cells."""

    def __init__(
        self,
        name: str = "",
        value: Callable[[T], object] | None = None,
        heading: str | None = None,
        text: Callable[[T], str] | None = None,
        *,
        rank: Callable[[T], Any] | None = None,
        importance: float = 0.0,
        least: int | None = None,
        most: int = 20,
        usual: int = 0,
        right: bool = False,
        greatest_first: bool = False,
        cut_in_middle: bool = False,
        role: Callable[[T], Any] | None = None,
        kind: CellKind = "text",
        meaning: str = "",
    ) -> None:
        self.name = name
        """In JSON and CSV; empty for a column that only people see."""
        self.value = value or attrgetter(name or "__class__")
        """What programs read; by itself the row's attribute of that name."""
        self.is_shown = heading is not None
        """Whether people see it."""
        self.heading = heading or ""
        self.text: Callable[[T], str] = text or self._value_text
        self.rank = rank
        """What rows are sorted by, those of rank `None` last. Without it the column cannot be sorted by."""
        self.importance = importance
        """The column of the least importance is left out first where there is too little room."""
        self.least = least
        """Texts are cut down to this width before the column is left out; `None` where they are never cut."""
        self.most = most
        self.usual = usual
        """What it has at least where there is room, so that it stays as wide when other rows come."""
        self.right = right
        """Aligned to the right."""
        self.greatest_first = greatest_first
        """What is looked for is the most of it."""
        self.cut_in_middle = cut_in_middle
        """What does not fit is left out of the middle: of names, whose ends differ."""
        self.role = role
        """The role of its span on a screen."""
        self.kind: CellKind = kind
        self.meaning = meaning
        """In one line; both for files that state the types of their columns."""

    def _value_text(self, item: T) -> str:
        value = self.value(item)
        return NOT_AVAILABLE if value is None else str(value)

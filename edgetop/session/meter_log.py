"""The log that a meter's own program wrote, as stamps and watts: CSV in any of its forms.

Read without options, since their headings tell enough: Joulescope (`#time,current,voltage,power,charge,energy`, and
`#time (s),current (A),voltage (V)`), loggers of FNIRSI's USB meters (`timestamp sample_in_packet voltage_V current_A`,
with blanks), WITRN's (`time (HH:MM:SS,MS);voltage (V);current (A)`), and whatever says the like. Nordic's Power
Profiler (`Timestamp(ms),Current(uA),D0-D7`) has no voltage and Otii's export of one channel (`Timestamp,Value`) no
unit: those two must be given.

A long log is read piece by piece, and what comes quicker than `BIN_S` is averaged on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line

Floats = npt.NDArray[np.float64]

BIN_S = 0.01
"""Readings that come quicker are averaged over this long: the edges of work are not known better than that."""

PIECE_BYTES = 2 * 2**20
HEAD_LINES = 200
"""The headings are searched in so many lines."""

SAMPLE_LINES = 20
LINE_CHARACTERS, FIELDS_MOST, HEADING_CHARACTERS, NUMBER_CHARACTERS = 2**16, 1000, 200, 60
"""Longer lines, headings and numbers are none, and lines of more fields."""

STAMP_MOST_S, READING_MOST = 1e11, 2.0**53
"""What is beyond is no time and no watts."""

DAY_S = 86_400.0

UNITS: Final[dict[str, tuple[str, float]]] = {
    "W": ("power", 1.0), "mW": ("power", 1e-3), "uW": ("power", 1e-6), "kW": ("power", 1e3),
    "A": ("current", 1.0), "mA": ("current", 1e-3), "uA": ("current", 1e-6), "nA": ("current", 1e-9),
    "V": ("voltage", 1.0), "mV": ("voltage", 1e-3),
    "J": ("energy", 1.0), "mJ": ("energy", 1e-3), "Ws": ("energy", 1.0), "Wh": ("energy", 3600.0),
    "mWh": ("energy", 3.6), "kWh": ("energy", 3.6e6),
}  # fmt: skip
"""What a unit is one of, and how much of W, A, V or J it is."""

TIME_UNITS: Final = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}

_TIME = re.compile(r"^(date ?time|time|timestamp|time ?stamp|elapsed|elapsed time|t|relative time|test time)$")
_WHICH = r"^((main|total|dc|bus|load|avg|average|active|instant|arc main) )?"
_NAMES = (
    ("power", re.compile(_WHICH + r"(power|watts?|pwr|p)( avg| mean)?$")),
    ("current", re.compile(_WHICH + r"(current|curr|amps?|i)( avg| mean)?$")),
    ("voltage", re.compile(_WHICH + r"(voltage|volts?|u|v|vbus)( avg| mean)?$")),
)
_UNIT = re.compile(r"^(?P<name>.*?)[\s_]*[(\[/_ ](?P<unit>[A-Za-zµμ:.,]+)[)\]]?$")
_CLOCK = re.compile(
    r"(?:(?P<day>\d{1,4}[-./]\d{1,2}[-./]\d{1,4})[T ]+)?"
    r"(?P<h>\d{1,3}):(?P<m>\d\d)(?::(?P<s>\d\d)(?:[.,:](?P<f>\d+))?)?"
)


class LogError(EdgetopError):
    """A log that cannot be read, or not without more being said."""


class MeterLog(Struct, frozen=True, kw_only=True):
    """What a meter measured, by its own clock."""

    t_s: Floats
    """Ascending: since 1970 where `has_date`, else since anything."""
    power_w: Floats
    """At each stamp, or the mean up to it since the stamp before."""
    period_s: float
    """Median time between two."""
    has_date: bool
    averaged: bool
    """Several readings make one: it is the mean since the one before it."""
    rows: int
    """Read, before averaging."""
    unread: int
    """Lines that are no readings."""
    columns: tuple[str, ...]
    """Headings of what was read, the time's first."""


class _Column(Struct, frozen=True, kw_only=True):
    index: int
    heading: str
    what: str
    """`time`, `power`, `current`, `voltage`, `energy` or empty."""
    factor: float = 1.0
    unit_of: str = ""
    """What its unit is one of."""


class _Form(Struct, frozen=True, kw_only=True):
    """How the lines are to be read."""

    encoding: str
    delimiter: str | None
    """`None` for any number of blanks."""
    decimal_comma: bool
    first_line: int
    columns: tuple[_Column, ...]
    """Of the time, then of what makes the power."""
    volts: float
    is_clock: bool
    """The time is written as a date or with colons."""
    fields: int


def read_log(
    path: Path,
    *,
    time_column: str | None = None,
    column: str | None = None,
    unit: str | None = None,
    volts: float | None = None,
) -> MeterLog:
    """Read a log. Columns are named by their heading or by number, from 1. Raises LogError."""
    try:
        with path.open("rb") as opened:
            head = opened.read(PIECE_BYTES)
        form = _form_of(head, time_column, column, unit, volts)
        with np.errstate(all="ignore"):  # what overflows is left out
            return _read(path, form)
    except OSError as error:
        raise LogError(f"{path}: {error.strerror or error}", "name a file that can be read") from None
    except LogError as error:
        raise LogError(f"{path}: {error.what}", error.hint) from None


def _form_of(head: bytes, time_column: str | None, column: str | None, unit: str | None, volts: float | None) -> _Form:
    encoding = _encoding(head)
    lines = head.decode(encoding, "replace").splitlines()[: HEAD_LINES + SAMPLE_LINES]
    begins = (_data_begin(lines, delimiter) for delimiter in (";", "\t", ",", None))
    found = next((each for each in begins if each is not None), None)
    if found is None:
        raise LogError("it has no lines of numbers", "export the meter's log as CSV")
    delimiter, first = found
    sample = [_split(line, delimiter) for line in lines[first : first + SAMPLE_LINES] if line.strip()]
    headings = _headings(lines[:first], delimiter, len(sample[0]))
    columns = [_column_of(index, heading) for index, heading in enumerate(headings)]
    time = _chosen_time(columns, time_column, sample)
    values = _chosen_values(columns, column, unit, time)
    kinds = {each.what for each in values}
    if kinds == {"current"} and volts is None:
        raise LogError("it has a current and no voltage", "give the voltage with --voltage, in V")
    comma = delimiter != "," and any(re.fullmatch(r"[-+]?\d+,\d+", each) for row in sample for each in row)
    is_clock = ":" in sample[0][time.index]
    return _Form(
        encoding=encoding,
        delimiter=delimiter,
        decimal_comma=comma,
        first_line=first,
        columns=(time, *values),
        volts=1.0 if volts is None or "voltage" in kinds or "current" not in kinds else volts,
        is_clock=is_clock,
        fields=len(sample[0]),
    )


def _encoding(head: bytes) -> str:
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"
    try:
        head[: len(head) - 4].decode("utf-8")
    except UnicodeDecodeError as error:
        return "latin-1" if error.start < len(head) - 8 else "utf-8-sig"
    return "utf-8-sig"


def _split(line: str, delimiter: str | None) -> list[str]:
    return [field.strip().strip("\"'").strip() for field in line.strip().rstrip(";,\t").split(delimiter)]


def _data_begin(lines: Sequence[str], delimiter: str | None) -> tuple[str | None, int] | None:
    """Where lines begin that have the same number of fields, two at least, of which two are numbers or times."""
    for index, line in enumerate(lines[:HEAD_LINES]):
        if not line.strip() or line.lstrip()[0] in "#;/":
            continue
        fields = _split(line, delimiter)
        if not 2 <= len(fields) <= FIELDS_MOST or sum(_is_number(field) for field in fields) < 2:
            continue
        later = [_split(each, delimiter) for each in lines[index + 1 : index + 4] if each.strip()]
        if all(len(each) == len(fields) for each in later[:-1]):
            return delimiter, index
    return None


def _is_number(field: str) -> bool:
    if len(field) > NUMBER_CHARACTERS:
        return False
    return bool(re.fullmatch(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?", field)) or _CLOCK.match(field) is not None


def _headings(lines: Sequence[str], delimiter: str | None, count: int) -> list[str]:
    """The headings above the data, each with its unit; numbers where there are none."""
    above = [_split(line.strip().lstrip("#/ "), delimiter) for line in lines if line.strip()]
    rows = [row for row in above[-2:] if len(row) == count]
    if not rows or above[-1] is not rows[-1]:
        return [""] * count
    if len(rows) == 2 and all(each.strip("()[]") in {*UNITS, *TIME_UNITS, "", "-"} for each in rows[-1]):
        return [f"{name} ({unit.strip('()[]')})" for name, unit in zip(*rows, strict=True)]
    return rows[-1]


def _column_of(index: int, heading: str) -> _Column:
    plain = heading[:HEADING_CHARACTERS].replace("µ", "u").replace("μ", "u").strip()
    found = _UNIT.match(plain)
    unit = "" if found is None else found["unit"].strip(".")
    name = (plain if found is None else found["name"]).lower().replace("_", " ").strip(" .:([")
    if _TIME.match(name) or (_TIME.match(plain.lower()) is not None):
        return _Column(index=index, heading=heading, what="time", factor=TIME_UNITS.get(unit.lower(), 0.0))
    known = UNITS.get(unit) or UNITS.get(unit.upper()) if unit else None
    what = next((what for what, pattern in _NAMES if pattern.match(name) or pattern.match(plain.lower())), "")
    if not what or (known is not None and known[0] != what):
        kind, factor = known or ("", 1.0)
        return _Column(index=index, heading=heading, what="", factor=factor, unit_of=kind)
    return _Column(index=index, heading=heading, what=what, factor=1.0 if known is None else known[1])


def _named(columns: Sequence[_Column], name: str, option: str) -> _Column:
    wanted = name.strip().lower()
    found = [each for each in columns if each.heading.lower() == wanted]
    found = found or [each for each in columns if each.heading.lower().startswith(wanted)]
    if not found and wanted.isdecimal() and 1 <= int(wanted) <= len(columns):
        found = [columns[int(wanted) - 1]]
    if len(found) != 1:
        raise LogError(f"{option}: no single column is called {name!r}", f"there are {_listed(columns)}")
    return found[0]


def _listed(columns: Sequence[_Column]) -> str:
    return ", ".join(one_line(each.heading) or str(each.index + 1) for each in columns[:20])


def _chosen_time(columns: Sequence[_Column], name: str | None, sample: Sequence[Sequence[str]]) -> _Column:
    if name is not None:
        column = _named(columns, name, "--time-column")
    else:
        found = [each for each in columns if each.what == "time"]
        # Of several a number, which is finer than the clock beside it.
        found.sort(key=lambda each: ":" in sample[0][each.index])
        if not found:
            raise LogError("no column is known to be the time", f"name it with --time-column: {_listed(columns)}")
        column = found[0]
    factor = _column_of(column.index, column.heading).factor if column.what == "time" else 0.0
    return _Column(index=column.index, heading=column.heading, what="time", factor=factor)


def _chosen_values(
    columns: Sequence[_Column], name: str | None, unit: str | None, time: _Column
) -> tuple[_Column, ...]:
    """One column of power or energy, or one of current and, where there is one, its voltage."""
    known = None if unit is None else UNITS.get(unit.replace("µ", "u").replace("μ", "u"))
    if unit is not None and (known is None or known[0] == "voltage"):
        raise LogError(f"--unit: {unit!r} is no unit of power, current or energy", f"there are {', '.join(UNITS)}")
    by_kind: dict[str, list[_Column]] = {}
    for each in columns:
        if each.index != time.index:
            by_kind.setdefault(each.what, []).append(each)
    if name is not None:
        chosen = _named(columns, name, "--column")
    else:
        kind = next((kind for kind in ("power", "current") if by_kind.get(kind)), "")
        candidates = by_kind.get(kind, []) if kind else [each for each in columns if each.index != time.index]
        if len(candidates) != 1:
            said = f"several columns may be the {kind}" if kind else "no column is known to be the power"
            raise LogError(said, f"name it with --column: {_listed(candidates)}")
        chosen = candidates[0]
    what, factor = known or (chosen.what or (chosen.unit_of if name is not None else ""), chosen.factor)
    if not what:
        raise LogError(f"the unit of {chosen.heading or chosen.index + 1!r} is not known", "give it with --unit")
    value = _Column(index=chosen.index, heading=chosen.heading, what=what, factor=factor)
    volts = by_kind.get("voltage", [])
    return (value, volts[0]) if what == "current" and len(volts) == 1 else (value,)


def _pieces(path: Path, form: _Form) -> Iterator[list[str]]:
    """The lines of data that are not blank, some at a time. Raises LogError for one that does not end."""
    with path.open(encoding=form.encoding, errors="replace", newline=None) as opened:
        for _ in range(form.first_line):
            opened.readline(PIECE_BYTES)
        rest = ""
        while text := opened.read(PIECE_BYTES):
            *lines, rest = (rest + text).split("\n")
            if len(rest) > LINE_CHARACTERS:
                raise LogError(f"it has a line of more than {LINE_CHARACTERS} characters", "export the log as CSV")
            if found := [line for line in lines if line.strip()]:
                yield found
        if rest.strip():
            yield [rest]


def _numbers(lines: Sequence[str], form: _Form, indices: Sequence[int]) -> tuple[Floats, int]:
    """The fields as numbers, a row a line, and how many lines were none."""
    if form.decimal_comma:
        lines = [line.replace(",", ".") for line in lines]
    if not form.is_clock:
        try:
            found = np.loadtxt(lines, delimiter=form.delimiter, usecols=indices, comments=None, ndmin=2, quotechar='"')
        except (ValueError, IndexError):
            pass
        else:
            return found[np.isfinite(found).all(axis=1)], int((~np.isfinite(found).all(axis=1)).sum())
    rows, unread = [], 0
    for line in lines:
        fields = _split(line, form.delimiter)
        try:
            clock = [_clock_s(fields[indices[0]])] if form.is_clock else [float(fields[indices[0]])]
            rows.append(clock + [float(fields[index]) for index in indices[1:]])
        except (ValueError, IndexError):
            unread += bool(line.strip())
    table = np.array(rows, dtype=np.float64).reshape(-1, len(indices))
    finite = np.isfinite(table).all(axis=1)
    return table[finite], unread + int((~finite).sum())


def _clock_s(text: str) -> float:
    """Seconds of an ISO stamp, of a date and a time, or of a time of the day. Raises ValueError."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00").replace(",", ".")).timestamp()
    except (OverflowError, OSError):
        raise ValueError(text) from None
    except ValueError:
        found = _CLOCK.match(text)
        if found is None:
            raise
    fraction = float(f"0.{found['f'] or 0}")
    time_s = int(found["h"]) * 3600 + int(found["m"]) * 60 + int(found["s"] or 0) + fraction
    if "PM" in text.upper() and int(found["h"]) < 12:
        time_s += DAY_S / 2
    return time_s


def _pairs(found: Floats, form: _Form, time_factor: float) -> Floats:
    """Seconds and watts, or joules, of the rows that can be such."""
    _, *values = form.columns
    power = found[:, 1] * values[0].factor * form.volts
    if len(values) > 1:
        power = power * found[:, 2] * values[1].factor
    pairs = np.column_stack([found[:, 0] * time_factor, power])
    return pairs[(np.abs(pairs) <= (STAMP_MOST_S, READING_MOST)).all(axis=1)]


def _read(path: Path, form: _Form) -> MeterLog:
    time, *values = form.columns
    indices = [each.index for each in form.columns]
    kept_t: list[Floats] = []
    kept_w: list[Floats] = []
    rows = unread = 0
    bin_s: float | None = None
    factor = 0.0
    carried = np.empty((0, 2))
    for lines in _pieces(path, form):
        found, bad = _numbers(lines, form, indices)
        unread += bad
        if not len(found):
            continue
        factor = factor or (1.0 if form.is_clock else time.factor or _time_factor(float(found[0, 0])))
        pair = _pairs(found, form, factor)
        rows, unread = rows + len(pair), unread + len(found) - len(pair)
        if not len(pair):
            continue
        t_s = pair[:, 0]
        if bin_s is None:
            step_s = float(np.median(np.abs(np.diff(t_s)))) if len(t_s) > 2 else 1.0
            bin_s = BIN_S if 0 < step_s < BIN_S / 2 and values[0].what != "energy" else 0.0
        if bin_s:
            pair = np.concatenate([carried, pair])
            pair = pair[np.argsort(pair[:, 0], kind="stable")]
            whole = pair[:, 0] < np.floor(pair[-1, 0] / bin_s) * bin_s
            carried, pair = pair[~whole], pair[whole]
            pair = _averaged(pair, bin_s)
        kept_t.append(pair[:, 0])
        kept_w.append(pair[:, 1])
    if bin_s:
        last = _averaged(carried, bin_s)
        kept_t.append(last[:, 0])
        kept_w.append(last[:, 1])
    if rows < MIN_ROWS:
        raise LogError(f"it has {rows} readings", "at least 10 are needed")
    t_s, power_w = np.concatenate(kept_t), np.concatenate(kept_w)
    if np.ptp(t_s) < MIN_ROWS * _STEP_LEAST_S or len(t_s) < 3:
        raise LogError("its times do not go on", "name the column of the time with --time-column")
    has_date = bool(t_s[0] > 1e9)
    if form.is_clock and not has_date:
        t_s = t_s + DAY_S * np.concatenate([[0], np.cumsum(np.diff(t_s) < -DAY_S / 2)])
    order = np.argsort(t_s, kind="stable")
    t_s, power_w = _spread(t_s[order]), power_w[order]
    if values[0].what == "energy":
        power_w = np.clip(np.diff(power_w) / np.maximum(np.diff(t_s), _STEP_LEAST_S), -READING_MOST, READING_MOST)
        t_s = t_s[1:]
    period_s = max(float(np.median(np.diff(t_s))), _STEP_LEAST_S)
    return MeterLog(
        t_s=t_s,
        power_w=power_w,
        period_s=period_s,
        has_date=has_date,
        averaged=bool(bin_s) or values[0].what == "energy",
        rows=rows,
        unread=unread,
        columns=tuple(each.heading or str(each.index + 1) for each in form.columns),
    )


MIN_ROWS, _STEP_LEAST_S = 10, 1e-6


def _time_factor(first: float) -> float:
    """Of a time without a unit: seconds, unless it is a time since 1970 in smaller parts."""
    return next((factor for least, factor in ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3)) if first >= least), 1.0)


def _averaged(pairs: npt.NDArray[np.float64], bin_s: float) -> npt.NDArray[np.float64]:
    """The mean power of each stretch of `bin_s`, stamped with its end."""
    if not len(pairs):
        return pairs
    bins = np.floor(pairs[:, 0] / bin_s)
    begins = np.flatnonzero(np.concatenate([[True], np.diff(bins) != 0]))
    counts = np.diff(np.concatenate([begins, [len(bins)]]))
    means = np.add.reduceat(pairs[:, 1], begins) / counts
    return np.column_stack([(bins[begins] + 1) * bin_s, means])


def _spread(t_s: Floats) -> Floats:
    """Stamps without repetition: of several that are alike, a clock that shows whole seconds, each gets its share."""
    begins = np.flatnonzero(np.concatenate([[True], np.diff(t_s) > 0]))
    if len(begins) == len(t_s):
        return t_s
    stamps = t_s[begins]
    steps = np.diff(stamps)
    step_s = float(np.median(steps)) if len(steps) else 1.0
    counts = np.diff(np.concatenate([begins, [len(t_s)]]))
    lengths = np.concatenate([np.minimum(steps, 2 * step_s), [step_s]])
    place = np.arange(len(t_s)) - np.repeat(begins, counts)
    return np.repeat(stamps, counts) + place * np.repeat(lengths / counts, counts)

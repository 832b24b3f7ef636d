"""Stdout and stderr: lines, progress, tables, JSON, CSV, Markdown; exit codes, and what ends a command.

Long work shows its progress on a terminal and stays silent in a pipe.
"""

from __future__ import annotations

import re
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from edgetop.core.energy.duty import Price, battery_hours, cost_of
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.format import NOT_AVAILABLE, Column, format_duration, format_significant
from edgetop.core.quantity import Interval, with_interval
from edgetop.core.text import MARKS_MAX, are_narrow, csv_lines, literal, markdown_table, one_line, one_lines
from edgetop.io import json
from edgetop.io.files import write_atomically
from edgetop.io.terminal import terminal_kind, terminal_size

if TYPE_CHECKING:
    from edgetop.core.energy.tokens import Energy
    from edgetop.core.figures import Summary


class ExitCode(IntEnum):
    """What the process returns, with its meaning for the manual."""

    meaning: str

    DONE = 0, "done"
    FAILED = 1, "failed: one line what, one line how to fix it"
    USAGE = 2, "wrong usage"
    NOT_LOADED = 3, "the model cannot be loaded"
    DOES_NOT_FIT = 4, "`check`: it does not fit"
    TOO_SLOW = 5, "`check`: it fits, but is slower than `--min-speed`"
    LIMIT_CROSSED = 6, "`compare --fail-if` or `--alert-exit`: a limit was crossed"
    INTERRUPTED = 130, "interrupted; what was measured is saved; from a screen ended by another signal 128 + its number"

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """A code that knows its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


@contextmanager
def handle_signals(*, on_interrupt: Callable[[], None], on_end: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Call these for SIGINT, and for SIGTERM, SIGHUP or SIGQUIT. What is ignored, as SIGHUP below nohup, stays ignored.

    Gives what tells the exit code of the last of the latter, 128 + its number, or 0.
    """
    code = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        on_interrupt()

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal code
        code = 128 + number
        on_end()

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGQUIT: end}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield lambda: code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Whether one of these signals has come; a second one ends at once."""
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    with handle_signals(on_interrupt=interrupt, on_end=interrupt):
        yield lambda: interrupted


T = TypeVar("T")


def print_status(text: str) -> None:
    """Write one line to stderr."""
    clear_progress()
    sys.stderr.write(f"{one_line(text)}\n")
    sys.stderr.flush()


def print_error(text: str, hint: str = "") -> None:
    """Write one line what, and one line how to fix it."""
    print_status(f"edgetop: {text}")
    if hint:
        sys.stderr.write(f"         {one_line(hint)}\n")


def show_progress(text: str) -> None:
    """Write over the line of progress."""
    if shows_progress():
        sys.stderr.write(f"\r{one_line(text)}\x1b[K")
        sys.stderr.flush()


def clear_progress() -> None:
    """Take the line of progress away."""
    if shows_progress():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def shows_progress() -> bool:
    """Whether stderr is a terminal on which a line can be written over."""
    return sys.stderr.isatty() and terminal_kind() != "dumb"


def print_saved(path: Path | None, why_not: str, *, quiet: bool = False) -> int:
    """Say where a session was saved, and why not where it was asked for; the exit code, 1 for the latter."""
    if path is not None and (why_not or not quiet):
        print_status(f"session: {path}{why_not and ', '}{why_not}")
    return 1 if why_not else 0


class ReplyWriter:
    """Writes the pieces of a reply to stdout as they come, harmless to a terminal however they are cut."""

    def __init__(self) -> None:
        self._last = ""
        """The end of what was written: more marks may come for its last character."""

    def __call__(self, text: str) -> None:
        """Write a piece at once."""
        shown = literal(self._last + text)
        shown = shown[len(self._last) :] if shown.startswith(self._last) else literal(text)
        self._last = (self._last + shown)[-MARKS_MAX - 1 :]
        sys.stdout.write(shown)
        sys.stdout.flush()


def write_data(text: str) -> None:
    """Write text that is data to stdout, harmless to a terminal."""
    sys.stdout.write(literal(text))


def require_free(path: Path | None, *, force: bool) -> None:
    """Raise UsageError where a file is in the way of what is to be written, and is not to be replaced by `force`."""
    if path is not None and (path.is_file() or path.is_dir()) and not force:  # a device or a pipe is written to
        raise UsageError(f"{path} exists already", "name another file with -o, or replace it with --force")


def write_file(path: Path, data: bytes) -> None:
    """Write the file that `-o` names. Raises EdgetopError."""
    try:
        write_atomically(path, [data])
    except OSError as error:
        raise EdgetopError(f"{path}: {error.strerror}", "name a file that can be written with -o") from None


def write_json(value: object) -> None:
    """Print one JSON value, indented."""
    write_data(json.encode(value, indented=True).decode() + "\n")


def write_listing(items: Sequence[T], columns: Sequence[Column[T]], form: str | None) -> None:
    """Print a row for each item: as `json`, `csv` or `md`, or as a table.

    Of columns with an importance the least important are left out of a table that is wider than the terminal.
    """
    named = [column for column in columns if column.name]
    shown = [column for column in columns if column.is_shown]
    if form == "json":
        write_json([{column.name: column.value(item) for column in named} for item in items])
        return
    if form == "csv":
        by_column = [(column.name, [column.value(item) for item in items]) for column in named]
        flat = [each for name, values in by_column for each in _csv_columns(name, values)]
        write_data(csv_lines([[name for name, _ in flat], *zip(*(values for _, values in flat), strict=True)]))
        return
    write_columns(shown, [list(map(column.text, items)) for column in shown], form)


def write_columns(shown: Sequence[Column[T]], texts: Iterable[Sequence[str]], form: str | None) -> None:
    """Print the texts of each column as a table, or as `md`, as `write_listing` does."""
    cells = [_encodable([column.heading, *each]) for column, each in zip(shown, texts, strict=True)]
    if form == "md":
        write_data(markdown_table(list(zip(*cells, strict=True))))
        return
    cells = [one_lines(each) for each in cells]
    room = _table_columns()
    if room < sys.maxsize:
        needed = [_least_width(each) + GAP for each in cells]
        order = [at for at, column in enumerate(shown) if column.importance]
        for at in sorted(order, key=lambda at: shown[at].importance):
            if sum(needed) - GAP > room:
                cells[at], needed[at] = [], 0
    sys.stdout.write(_laid_out([each for each in cells if each], room))


def _csv_columns(name: str, values: Sequence[object]) -> Iterator[tuple[str, list[object]]]:
    """A column as CSV has it: intervals in three."""
    if any(isinstance(value, Interval) for value in values):
        for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high")):
            yield f"{name}{suffix}", [getattr(value, part, None) for value in values]
    else:
        yield name, [" ".join(map(str, value)) if isinstance(value, tuple | list) else value for value in values]


def _encodable(texts: Sequence[str]) -> Sequence[str]:
    """With `+-` where stdout cannot write `±`."""
    try:
        "±".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return [text.replace("±", "+-") for text in texts]
    return texts


def table(rows: Sequence[Sequence[str]], columns: int | None = None) -> str:
    """Cells side by side, the last one of a row as long as it is; with headings also in so many `columns`.

    Texts are cut for that, figures never: where these alone do not fit, each row is a block of lines.
    """
    return _laid_out([one_lines(column) for column in zip(*rows, strict=True)], columns)


def _laid_out(cells: Sequence[Sequence[str]], room: int | None) -> str:
    """`table` of columns that are harmless."""
    widths = [max(_widths(column)) for column in cells]
    too_wide = sum(widths) + GAP * (len(widths) - 1) - (room or sys.maxsize)
    if too_wide > 0:
        least = list(map(_least_width, cells))
        if room is not None and sum(least) + GAP * (len(least) - 1) > room:
            return _blocks(list(zip(*cells, strict=True)))
        for _ in range(too_wide):
            widest = max(range(len(widths)), key=lambda index: (widths[index] > least[index], widths[index]))
            widths[widest] -= 1
    padded = [
        [cell.ljust(width) for cell in column]
        if are_narrow(column) and max(map(len, column)) <= width
        else [_padded(cell, width) for cell in column]
        for column, width in zip(cells, widths, strict=True)
    ]
    return "".join([f"{(' ' * GAP).join(row).rstrip()}\n" for row in zip(*padded, strict=True)])


GAP = 2
TEXT_LEAST = 16
"""A text is not cut to fewer characters."""

_FIGURE = r"[-+<>~≈]?\d|n/a$"


def _table_columns() -> int:
    """As many as there are on the terminal; in a pipe, where nothing must be cut, any number."""
    if not sys.stdout.isatty():
        return sys.maxsize
    return terminal_size().columns


def _least_width(column: Sequence[str]) -> int:
    long = [(width, cell) for width, cell in zip(_widths(column), column, strict=True) if width > TEXT_LEAST]
    if not long:
        return max(_widths(column))
    return max(width if re.match(_FIGURE, cell) else TEXT_LEAST for width, cell in long)


def _padded(cell: str, width: int) -> str:
    """A cell in `width` columns, cut where it is longer."""
    if cell.isascii():
        return cell.ljust(width) if len(cell) <= width else cell[: width - len(CUT)] + CUT
    if _width(cell) > width:
        while _width(cell) > width - len(CUT):
            cell = cell[:-1]
        cell += CUT
    return cell + " " * (width - _width(cell))


CUT = "~"
FIRST_MARK = "\u0300"
"""Harmless characters before it have one cell each."""


def _blocks(rows: Sequence[Sequence[str]]) -> str:
    """A line for each cell, behind its heading, and an empty one after each row."""
    headings, *others = rows
    width = max(map(_width, headings))
    return "\n".join(
        "".join(f"{_padded(name, width)}  {cell}\n" for name, cell in zip(headings, row, strict=True) if cell)
        for row in others
    )


def _widths(texts: Sequence[str]) -> Iterable[int]:
    return map(len if are_narrow(texts) else _width, texts)


def _width(text: str) -> int:
    if text.isascii() or max(text) < FIRST_MARK:
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in {"W", "F"} for character in text)
    marks = sum(unicodedata.category(character) in {"Mn", "Me", "Cf"} for character in text)
    return len(text) + wide - marks


def energy_text(summary: Summary) -> str:
    """Say what a session took and how sure that is, or why it is not known."""
    energy = summary.energy
    if energy is None:
        return f"{NOT_AVAILABLE}: {summary.energy_missing}"
    from edgetop.core.energy.tokens import grade_text  # noqa: PLC0415 - few verbs show an energy

    return (
        f"{with_interval(energy.j_per_token)} J/token gross, net {with_interval(energy.net_j_per_token)}, "
        f"in all {with_interval(energy.gross_j)} J ({energy.scope.replace('_', ' ')}, {energy.source}, "
        f"grade {grade_text(energy)}){hosts_text(energy)}"
    )


def hosts_text(energy: Energy) -> str:
    """Say what part each host had in the gross energy; empty where there is one machine."""
    parts = [f"{one_line(part.host)} {100 * part.share:.0f} %" for part in energy.hosts]
    return f", of which {', '.join(parts)}" if parts else ""


def cost_text(energy: Energy, price: Price) -> str:
    """Say what a session's energy cost, and what a million tokens cost at that rate."""
    cost = cost_of(energy, price)
    return (
        f"{with_interval(cost.total)} {cost.currency}, {with_interval(cost.per_million_tokens)} {cost.currency} per "
        f"million tokens, at {price.per_kwh:g} {price.currency}/kWh (gross, {energy.scope.replace('_', ' ')}, grade "
        f"{energy.grade})"
    )


def duty_text(summary: Summary) -> str:
    """Say what a day takes and how long a battery lasts at the rate of requests that was given; empty without one."""
    duty = summary.duty
    if duty.use.requests_per_hour is None or summary.energy is None:
        return ""
    ways = {"kept loaded": (duty.kept_wh_per_day, duty.kept_battery_h)}
    ways["loaded for each"] = (duty.reloaded_wh_per_day, duty.reloaded_battery_h)
    said = [
        f"{way} {with_interval(day)} Wh a day{'' if hours is None else f', {with_interval(hours)} h of battery'}"
        for way, (day, hours) in ways.items()
        if day is not None
    ] or [f"{NOT_AVAILABLE}: {duty.missing['kept_wh_per_day']}"]
    after = duty.unload_after_s
    said += [] if after is None else [f"unloading pays after a pause of {with_interval(after)} s"]
    return f"{duty.use.requests_per_hour:g} requests an hour: {'; '.join(said)}"


def battery_text(energy: Energy | None, remaining_j: float | None) -> str:
    """Say how long the battery lasts at a session's mean power; empty where that is not known or not its energy."""
    hours = None if energy is None else battery_hours(energy, remaining_j)
    if energy is None or hours is None:
        return ""
    low, middle, high = (format_duration(each * 3600) for each in (hours.low, hours.value, hours.high))
    return f"{middle} left ({low} to {high}) at {format_significant(energy.mean_w.value)} W"

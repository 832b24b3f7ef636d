"""`edgetop sessions recompute`: the figures of a session again, and what has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgetop.commands.console import say, write_data
from edgetop.commands.listing import write_json
from edgetop.core.errors import EdgetopError
from edgetop.core.format import NOT_AVAILABLE, format_significant
from edgetop.core.text import one_line
from edgetop.session.codec import SessionFileError
from edgetop.session.disk import load_file, rewrite
from edgetop.session.recomputation import Change, changes, recomputed

DIGITS = 6
"""Significant digits of what is told; figures that differ only behind them are told in full."""


def recompute(path: Path, *, power: str | None, dry_run: bool, as_json: bool) -> int:
    """Compute the figures of a session file again, say what is different, and write them into it.

    Raises SessionFileError or EdgetopError.
    """
    file = load_file(path)
    try:
        again = recomputed(file, power)
    except ValueError as error:
        raise SessionFileError(f"{path}: {error}", "`edgetop sessions validate` tells all that is wrong") from None
    found = changes(file, again)
    if found and not dry_run:
        try:
            rewrite(path, lambda _file: again)
        except OSError as error:
            raise EdgetopError(f"{path}: {error.strerror}", "make the file and its folder writable") from None
    if as_json:
        write_json({"path": str(path), "written": bool(found) and not dry_run, "changes": found})
        return 0
    for change in found:
        write_data(f"{one_line(_change_text(change))}\n")
    if not found:
        say(f"nothing changed: all figures of {path} are what was recorded gives")
    else:
        end = "; nothing is written, for --dry-run" if dry_run else "; the file is written"
        say(f"{len(found)} figure{'' if len(found) == 1 else 's'} of {path} changed{end}")
    return 0


def _change_text(change: Change) -> str:
    old, new = _value_text(change.old), _value_text(change.new)
    if old == new:
        old, new = _in_full(change.old), _in_full(change.new)
    return f"{change.place}: {old} -> {new}"


def _value_text(value: Any) -> str:  # noqa: ANN401 - any JSON
    match value:
        case None:
            return NOT_AVAILABLE
        case float():
            return format_significant(value, DIGITS)
        case {"value": float(middle), "low": float(low), "high": float(high)}:
            return " ".join(
                [format_significant(middle, DIGITS), f"({format_significant(low, 3)} to {format_significant(high, 3)})"]
            )
        case {"gross_j": dict(gross), "source": str(source), "grade": str(grade)}:
            return f"{_value_text(gross)} J by {source}, grade {grade}"
        case str():
            return value or "nothing"
    return _in_full(value)


def _in_full(value: Any) -> str:  # noqa: ANN401 - any JSON
    return msgspec.json.encode(value).decode()

"""Diagnostics for `--log FILE`: engine, sensors, servers, decisions and defects, each line with its time.

Neither prompts nor replies nor keys are written, and no password of an address. Without `--log` a call costs nothing.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from edgetop.core.text import one_line

Area = Literal["edgetop", "engine", "sensors", "servers", "decisions", "defect"]

LOG_VARIABLE = "EDGETOP_LOG"
"""Of the option --log."""

_CREDENTIALS = r"(?<=://)[^/@\s]+@|(?i:(?<=key=)|(?<=token=))[^&\s]+"


class _Log:
    """The one log of the process."""

    path: Path | None = None
    fd = -1


_LOG: Final = _Log()


def open_log(path: Path) -> None:
    """Append to a file that only its owner reads. Raises OSError."""
    # A pipe without a reader is refused, and one that is full takes nothing more: the log holds nobody up.
    _LOG.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    _LOG.path = path
    os.environ[LOG_VARIABLE] = str(path.absolute())


def inherit_log() -> None:
    """Write to the log of the process that started this one, if it has one."""
    if os.environ.get(LOG_VARIABLE):
        with suppress(OSError):
            open_log(Path(os.environ[LOG_VARIABLE]))


def close_log() -> None:
    """Write nothing more."""
    _LOG.path = None
    os.environ.pop(LOG_VARIABLE, None)
    os.close(_LOG.fd)


def log(area: Area, text: str) -> None:
    """One line."""
    if _LOG.path is not None:
        _write(f"{_stamp()} {area:<9} {re.sub(_CREDENTIALS, '…', one_line(text))}\n")


def log_exception(error: BaseException) -> None:
    """Where an error comes from, once."""
    if _LOG.path is not None and not hasattr(error, "edgetop_logged"):
        error.edgetop_logged = True  # type: ignore[attr-defined]
        log("defect", f"{type(error).__name__}: {error}")
        import traceback  # noqa: PLC0415 - few runs need it, and it takes milliseconds

        _write("".join(traceback.format_exception(error)))


def where_trace() -> str:
    """What a person is told of the trace of an error."""
    if _LOG.path is None:
        return "the same command with --log FILE writes down where this comes from"
    return f"where it comes from is written in {_LOG.path}"


def _stamp() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _write(text: str) -> None:
    try:
        os.write(_LOG.fd, text.encode("utf-8", "backslashreplace"))
    except OSError:
        _LOG.path = None  # a full disk must not end what is being logged

"""`edgetop sessions rm`: sessions deleted, once a person has said so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from edgetop.commands.console import say, say_trouble, write_data
from edgetop.commands.listing import table
from edgetop.core.errors import UsageError
from edgetop.core.format import format_bytes
from edgetop.core.text import one_line
from edgetop.session.codec import SessionFileError
from edgetop.session.disk import load_head
from edgetop.session.listing import models_of
from edgetop.session.store import Store, StoreError


def remove(store: Store, paths: Sequence[Path], *, yes: bool) -> int:
    """Delete session files and print the path of each that is gone; 1 if one could not be, or if nothing is wanted.

    Asks on a terminal. Raises UsageError where there is none and `yes` was not said.
    """
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("there is nobody to ask whether to delete sessions", "add --yes to delete them unasked")
        if not _wanted(paths):
            say("nothing is deleted")
            return 1
    failed = False
    for path in paths:
        try:
            store.remove(path)
        except StoreError as error:
            failed = True
            say_trouble(error.what, error.mend)
        except OSError as error:
            failed = True
            say_trouble(f"{path}: {error.strerror}", "it is still there")
        else:
            write_data(f"{one_line(str(path))}\n")
    return 1 if failed else 0


def _wanted(paths: Sequence[Path]) -> bool:
    sys.stderr.write(table([_told(path) for path in paths]))
    sys.stderr.write(f"Delete {'this session' if len(paths) == 1 else f'these {len(paths)} sessions'} for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}


def _told(path: Path) -> list[str]:
    try:
        head = load_head(path)
        size = format_bytes(path.stat().st_size)
    except (SessionFileError, OSError):
        return [str(path), "", "", "cannot be read"]
    return [str(path), head.started_at[:16].replace("T", " "), size, models_of(head) or "no model"]

"""`edgetop sessions tag` and `note`: what a person wants to remember of a session, in its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetop.commands.console import say, write_data
from edgetop.commands.listing import write_json
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.text import literal, one_line
from edgetop.session.disk import load_head
from edgetop.session.labels import LabelError, changed_tags, write_labels


def tag(paths: Sequence[Path], changes: Sequence[str], *, as_json: bool) -> int:
    """Add and take away tags, `+name` or `name` and `-name`, and print the tags there are then.

    Raises UsageError for what cannot be a tag, SessionFileError and EdgetopError.
    """
    told: dict[str, list[str]] = {}
    for path in paths:
        tags = load_head(path).tags
        try:
            wanted = changed_tags(tags, changes)
        except LabelError as error:
            raise UsageError(str(error), "such as: edgetop sessions tag 1 +baseline -draft") from None
        if wanted != tags:
            _write(path, tags=wanted)
        told[str(path)] = list(wanted)
    if as_json:
        write_json([{"path": path, "tags": tags} for path, tags in told.items()])
        return 0
    for name, names in told.items():
        if len(told) > 1:
            write_data(f"{one_line(name)}: {one_line(' '.join(names))}\n")
        elif names:
            write_data(f"{one_line(' '.join(names))}\n")
        else:
            say(f"{name} has no tags")
    return 0


def note(path: Path, words: Sequence[str]) -> int:
    """Print the note of a session, or put another one in its place. Raises SessionFileError and EdgetopError."""
    if words:
        _write(path, notes=" ".join(words).strip())
        return 0
    notes = load_head(path).notes
    if notes:
        write_data(f"{literal(notes)}\n")
    else:
        say(f"{path} has no note")
    return 0


def _write(path: Path, *, tags: tuple[str, ...] | None = None, notes: str | None = None) -> None:
    try:
        write_labels(path, tags=tags, notes=notes)
    except OSError as error:
        raise EdgetopError(f"{path}: {error.strerror}", "make the file and its folder writable") from None

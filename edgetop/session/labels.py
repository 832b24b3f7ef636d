"""Tags and notes of sessions: what can be a tag, how tags are changed by a few words, and writing both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from edgetop.core.text import one_line
from edgetop.session.disk import rewrite
from edgetop.session.file import SessionFile

LONGEST_TAG: Final = 40


class LabelError(ValueError):
    """A text that cannot be a tag."""


def changed_tags(tags: Sequence[str], changes: Sequence[str]) -> tuple[str, ...]:
    """The tags after `+name` or `name`, which adds one at the end, and `-name`, which takes one away.

    Raises LabelError for what cannot be a tag, and for taking away what is not there.
    """
    kept = list(tags)
    for change in changes:
        name = change[1:] if change[:1] in {"+", "-"} else change
        if change.startswith("-"):
            if name not in kept:
                raise LabelError(f"there is no tag {name!r}; there are: {', '.join(kept) or 'none'}")
            kept = [tag for tag in kept if tag != name]
        else:
            _require_tag(name)
            if name not in kept:
                kept.append(name)
    return tuple(kept)


def write_labels(path: Path, *, tags: tuple[str, ...] | None = None, notes: str | None = None) -> None:
    """Put other tags or another note into a session file; all else stays. Raises SessionFileError and OSError."""

    def labelled(file: SessionFile) -> SessionFile:
        return replace(file, tags=file.tags if tags is None else tags, notes=file.notes if notes is None else notes)

    rewrite(path, labelled)


def _require_tag(name: str) -> None:
    harmless = name == one_line(name) and not any(each.isspace() or each in ",+" for each in name)
    if not 0 < len(name) <= LONGEST_TAG or not harmless:
        raise LabelError(
            f"{one_line(name)!r} cannot be a tag: up to {LONGEST_TAG} characters without blanks and commas"
        )

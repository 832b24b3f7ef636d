"""What the chat is made of: blocks of text, and the lines they are drawn as."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip

Role = Literal["user", "assistant", "note", "system", "figures"]
BlockKind = Literal["user", "assistant", "reasoning", "note", "system", "figures"]
StyledLine = tuple[Segment, ...]
_FOUND, _CURRENT = Style(reverse=True), Style(reverse=True, bold=True, underline=True)


class Place(NamedTuple):
    """A line of a block; the blank line above a block counts as its line 0."""

    block: int
    line: int


class Mark(NamedTuple):
    """Characters of a line, from `start` to before `end`, that were searched for; `current` at the chosen one."""

    start: int
    end: int
    current: bool


class Row(NamedTuple):
    """One line as it is drawn: plain text in the style of its block, or styled segments."""

    kind: BlockKind
    content: str | StyledLine
    marks: tuple[Mark, ...] = ()

    @property
    def plain(self) -> str:
        """The line without its styles."""
        return plain_text(self.content)


@dataclass(slots=True, eq=False)
class Block:
    """Text of one kind in a message."""

    message: int
    kind: BlockKind
    text: str = ""
    """As it was written, hostile characters included."""
    markdown: bool = False
    folded: bool = False
    told: str = ""
    """What stands in the place of a folded text; its last line while this is empty."""
    width: int = 0
    """The width that `lines` are for; 0 while they are not laid out."""
    lines: list[str | StyledLine] = field(default_factory=list)
    unread: str = ""
    """A carriage return at the end of the growing text: half a line break, until the next piece tells."""


def plain_text(content: str | StyledLine) -> str:
    """A line without its styles."""
    return content if isinstance(content, str) else "".join(segment.text for segment in content)


def marked_segments(row: Row, style: Style) -> list[Segment]:
    """A line with its marks in reverse video, the chosen one underlined as well."""
    segments = [Segment(row.content, style)] if isinstance(row.content, str) else list(row.content)
    marked: list[Segment] = []
    begin = 0
    for segment in segments:
        cuts = {0, len(segment.text)}
        for mark in row.marks:
            cuts |= {min(max(0, edge - begin), len(segment.text)) for edge in mark[:2]}
        for start, end in pairwise(sorted(cuts)):
            found = next((mark for mark in row.marks if mark.start <= begin + start < mark.end), None)
            over = Style.null() if found is None else _CURRENT if found.current else _FOUND
            marked.append(Segment(segment.text[start:end], (segment.style or style) + over))
        begin += len(segment.text)
    return marked


def changed_cells(y: int, before: Row | None, after: Row | None, width: int) -> Region:
    """The part of line `y` to paint anew; only what is added or lost at the end, where the rest is plain and stays."""
    start, old, new = 0, _plain(before), _plain(after)
    if (
        before
        and after
        and before.kind == after.kind
        and not before.marks
        and not after.marks
        and old
        and new
        and old.isascii()
        and new.isascii()
    ):
        start = len(old) if new.startswith(old) else len(new) if old.startswith(new) else 0
    end = min(width, max(_cells(before), _cells(after)))
    return Region(start, y, end - start, 1) if end > start else Region()


def _plain(row: Row | None) -> str:
    return row.content if row and isinstance(row.content, str) else ""


def _cells(row: Row | None) -> int:
    if row is None:
        return 0
    return cell_len(row.content) if isinstance(row.content, str) else Strip(row.content).cell_length

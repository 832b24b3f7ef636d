"""Counting matches in the source text, marking them in the lines in view.

Nothing is laid out to be counted, so a chat of any length is searched within a frame; only the block of the current
match is laid out, and opened where it is folded. Where Markdown hides characters, as the stars of **strong**, they
may stand inside a match.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from edgetop.tui.chat.transcript import ChatLine, LinePosition, Mark, Transcript

_HIDDEN = "[*_`]*"
"""Characters by which Markdown marks text, and which it does not show."""

_SPACE_OR_BREAK, _BREAK = "\r", "\0"
"""What follows a full line when lines are joined. Markdown drops blanks at its end, so that it may stand for a space;
other text keeps them, so that the line ended inside a word. `\\s` matches the first and not the second."""

_IN_WORD = f"(?:[{_SPACE_OR_BREAK}{_BREAK}] *)?"

_BETWEEN_WORDS = rf"{_BREAK}?(?:\s{_BREAK}?)+"


class MatchSpan(NamedTuple):
    """Characters of a line, counted from the first line given."""

    line: int
    start: int
    end: int


class Query:
    """Words to look for: in either case, unless there is a capital among them."""

    def __init__(self, text: str) -> None:
        self._exact = text != text.lower()
        words = self._folded(text).split()
        characters = [[re.escape(character) for character in word] for word in words]
        self.empty = not words
        self._only = words[0] if len(words) == 1 else ""
        self._written = re.compile(r"\s+".join(map("".join, characters)))
        self._hidden = re.compile(rf"{_HIDDEN}\s+{_HIDDEN}".join(map(_HIDDEN.join, characters)))
        self._shown = re.compile(_BETWEEN_WORDS.join(map(_IN_WORD.join, characters)))

    def count(self, text: str, *, markdown: bool) -> int:
        """How often a text as it was written has the words."""
        text = self._folded(text)
        if markdown and any(mark in text for mark in "*_`"):
            return sum(1 for _ in self._hidden.finditer(text))
        return text.count(self._only) if self._only else sum(1 for _ in self._written.finditer(text))

    def spans(self, lines: Sequence[str], width: int, *, styled: bool = False) -> list[list[MatchSpan]]:
        """Where the lines show the words: for each match its part of every line that it stands on.

        A line that fills `width` cells, but for half a wide character, may end inside a word; `styled` lines come from
        Markdown.
        """
        starts, length = [], 0
        pieces = []
        full = _SPACE_OR_BREAK if styled else _BREAK
        for line in lines:
            starts.append(length)
            pieces.append(self._folded(line) + (full if cell_len(line) >= width - 1 else "\n"))
            length += len(line) + 1
        joined = "".join(pieces)
        return [self._by_line(match, starts, lines) for match in self._shown.finditer(joined)]

    def _by_line(self, match: re.Match[str], starts: Sequence[int], lines: Sequence[str]) -> list[MatchSpan]:
        found = []
        first = max(0, bisect_left(starts, match.start() + 1) - 1)
        for number in range(first, len(lines)):
            begin, end = match.start() - starts[number], match.end() - starts[number]
            if end <= 0:
                break
            begin, end = max(0, begin), min(len(lines[number]), end)
            if begin < end:
                found.append(MatchSpan(number, begin, end))
        return found

    def _folded(self, text: str) -> str:
        return text if self._exact else _lowered(text)


class ChatSearch:
    """The matches of one query in a transcript, and the current one."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._query = Query("")
        self._matches: list[tuple[int, int]] = []
        """The block of each match, and how many matches of that block come before it."""
        self._at = 0
        self._place: tuple[int, object, LinePosition, int] | None = None
        """Of the current match: its number, the lines of its block, and the line and character where it begins."""

    @property
    def count(self) -> int:
        """How many matches there were when they were last counted."""
        return len(self._matches)

    @property
    def summary(self) -> str:
        """Which match of how many: `3 of 12`."""
        if self._query.empty:
            return ""
        return f"{self._at + 1} of {self.count}" if self._matches else "not found"

    def begin(self, text: str, top: LinePosition) -> None:
        """Search for other words, first from the line `top` on, then from the beginning."""
        self._query = Query(text)
        self._count()
        at = bisect_left(self._matches, (top.block, 0))
        last = bisect_left(self._matches, (top.block + 1, 0))
        if at < last and not self._transcript.blocks[top.block].folded:
            gap, lines = self._transcript.lines_of(top.block)
            shown = self._spans(lines, top.block)
            at = min(last, at + sum(1 for spans in shown if gap + spans[0].line < top.line))
        self._at = at % max(1, self.count)

    def step(self, step: int) -> None:
        """Go to the next match or back to the previous one, around the ends; new text counts."""
        before = self._matches[self._at] if self._matches else None
        self._count()
        if self._matches:
            at = bisect_left(self._matches, before) if before is not None else -step
            self._at = (at + step) % self.count

    def place(self) -> LinePosition | None:
        """The line that the current match begins on, its block opened; `None` where there is none."""
        if self._matches and self._matches[self._at][0] < len(self._transcript.blocks):
            self._transcript.set_folded(self._matches[self._at][0], folded=False)
        found = self._located()
        return None if found is None else found[0]

    def marked(self, rows: Sequence[ChatLine | None], top: LinePosition) -> list[ChatLine | None]:
        """The rows from `top` on with their matches marked."""
        if self._query.empty:
            return list(rows)
        marked = list(rows)
        current = self._located()
        place = top
        index = 0
        while index < len(rows):
            block = place.block
            count = min(len(rows) - index, self._transcript.height(block) - place.line)
            self._mark_block(marked, index, count, place, current)
            index += count
            place = LinePosition(block + 1, 0)
        return marked

    def _mark_block(
        self,
        rows: list[ChatLine | None],
        first: int,
        count: int,
        place: LinePosition,
        current: tuple[LinePosition, int] | None,
    ) -> None:
        """Mark the rows of one block; a line above and one below them are read with them, for words across lines."""
        begin = max(0, place.line - 2)
        gap, lines = self._transcript.lines_of(place.block, begin, place.line + count + 1)
        marks: dict[int, list[Mark]] = {}
        for spans in self._spans(lines, place.block):
            here = LinePosition(place.block, gap + begin + spans[0].line), spans[0].start
            for span in spans:
                number = begin + span.line
                before = self._transcript.prefix_of(place.block, number)
                mark = Mark(span.start + before, span.end + before, here == current)
                marks.setdefault(gap + number - place.line, []).append(mark)
        for offset, of_line in marks.items():
            row = rows[first + offset] if 0 <= offset < count else None
            if row is not None:
                rows[first + offset] = row._replace(marks=tuple(of_line))

    def _count(self) -> None:
        self._place = None
        self._matches = []
        if not self._query.empty:
            for index, block in enumerate(self._transcript.blocks):
                found = self._query.count(block.text, markdown=block.markdown)
                self._matches += [(index, number) for number in range(found)]
        self._at = min(self._at, max(0, self.count - 1))

    def _located(self) -> tuple[LinePosition, int] | None:
        """Line and character where the current match is shown, or its block begins; `None` where that is folded."""
        if not self._matches or self._matches[self._at][0] >= len(self._transcript.blocks):
            return None
        block, number = self._matches[self._at]
        if self._transcript.blocks[block].folded:
            return None
        self._transcript.height(block)
        lines = self._transcript.blocks[block].lines
        if self._place is None or self._place[0] != self._at or self._place[1] is not lines:
            gap, plain = self._transcript.lines_of(block)
            spans = self._spans(plain, block)
            first = spans[min(number, len(spans) - 1)][0] if spans else MatchSpan(0, 0, 0)
            self._place = self._at, lines, LinePosition(block, gap + first.line), first.start
        return self._place[2], self._place[3]

    def _spans(self, lines: Sequence[str], block: int) -> list[list[MatchSpan]]:
        """The matches in lines of a block."""
        width = self._transcript.width - self._transcript.prefix_of(block, 0)
        return self._query.spans(lines, width, styled=self._transcript.is_styled(block))


def _lowered(text: str) -> str:
    """`text` in lower case, each character in its place."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)

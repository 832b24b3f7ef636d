"""Blocks of text laid out on demand, folded reasoning, positions, the scroll anchor.

A transcript is a sequence of blocks; a position in it is a block and a line of that block, so that nothing above it has
to be laid out to draw what is below, and a chat of any length follows a change of width at once. Reasoning is folded to
one line until the user opens it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip

from edgetop.core.records import ReplyPart
from edgetop.core.text import literal
from edgetop.tui.styled_text import TAB, fit_text, wrap
from edgetop.tui.themes import Glyphs

MessageRole = Literal["user", "assistant", "note", "system", "figures"]

BlockKind = Literal["user", "assistant", "reasoning", "note", "system", "figures"]
StyledLine = tuple[Segment, ...]

MARKDOWN_ROLES = (
    "heading", "strong", "emphasis", "code", "quote", "mark", "keyword", "string", "comment", "number",
)  # fmt: skip
"""What Markdown marks; a theme gives each its style."""

PACKED_FROM = 400
"""Characters of a text that are worth packing."""

_FOUND, _CURRENT = Style(reverse=True), Style(reverse=True, bold=True, underline=True)


FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")

FINISHED_AT_LEAST = 20
"""Characters of Markdown that are shown as such while an answer grows; shorter ones wait for what follows, so that a
reply of nothing but blank lines is no million blocks."""


class MarkdownScan:
    """Where the last whole block of a growing Markdown text ends; each line is looked at once.

    A block ends at a blank line that is in no fence, when a line follows that does not belong to an item above it.
    """

    __slots__ = ("_after_blank", "_fence", "_line", "end")

    def __init__(self) -> None:
        self.end = 0
        """Characters of whole blocks; 0 while there is none."""
        self._line = 0
        self._fence = ""
        self._after_blank = False

    def read(self, text: str) -> None:
        """Look at the lines that were not there before."""
        while self._line < len(text):
            if self._after_blank and not text[self._line].isspace():
                self.end = self._line
            stop = text.find("\n", self._line)
            if stop < 0:
                return
            line = text[self._line : stop]
            found = FENCE.match(line)
            if found is not None and not self._fence:
                self._fence = found[1]
            elif found is not None and found[1].startswith(self._fence) and not line[found.end() :].strip():
                self._fence = ""
            self._after_blank = not self._fence and not line.strip()
            self._line = stop + 1


class LinePosition(NamedTuple):
    """A line of a block; the blank line above a block counts as its line 0."""

    block: int
    line: int


class Mark(NamedTuple):
    """Characters of a line that match a search, from `start` to before `end`; `current` in the current match."""

    start: int
    end: int
    current: bool


class ChatLine(NamedTuple):
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
    _text: str = ""
    _packed: bytes = b""
    """The text as zlib packs it, in its place."""
    markdown: bool = False
    folded: bool = False
    summary: str = ""
    """What stands in place of a folded text; its last line while this is empty."""
    width: int = 0
    """The width that `lines` are for; 0 while they are not laid out."""
    lines: list[str | StyledLine] = field(default_factory=list)
    unread: str = ""
    """A carriage return at the end of the growing text: half a line break, until the next piece comes."""
    scan: MarkdownScan = field(default_factory=MarkdownScan)

    @property
    def text(self) -> str:
        """As it was written, hostile characters included."""
        return zlib.decompress(self._packed).decode("utf-8", "surrogatepass") if self._packed else self._text

    @text.setter
    def text(self, text: str) -> None:
        self._text, self._packed = text, b""

    def put_away(self) -> None:
        """Keep no lines, and of a longer text a third; all of it comes back when it is asked for."""
        self.lines, self.width = [], 0
        if len(self._text) >= PACKED_FROM:
            self._text, self._packed = "", zlib.compress(self._text.encode("utf-8", "surrogatepass"))


def plain_text(content: str | StyledLine) -> str:
    """A line without its styles."""
    return content if isinstance(content, str) else "".join(segment.text for segment in content)


def marked_segments(row: ChatLine, style: Style) -> list[Segment]:
    """A line with its marks in reverse video, the current one underlined as well."""
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


def changed_cells(y: int, before: ChatLine | None, after: ChatLine | None, width: int) -> Region:
    """The part of line `y` to repaint: only what is added or lost at the end, where the rest is plain and stays."""
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


def _plain(row: ChatLine | None) -> str:
    return row.content if row and isinstance(row.content, str) else ""


def _cells(row: ChatLine | None) -> int:
    if row is None:
        return 0
    return cell_len(row.content) if isinstance(row.content, str) else Strip(row.content).cell_length


RenderMarkdown = Callable[[str, int], "list[StyledLine] | None"]
"""Lines of at most that many cells for a Markdown text; `None` when it is to be shown as it is."""

FOLDED_TAIL = 2_000
"""Characters at the end of growing reasoning from which its last line is taken."""

LAID_OUT_MOST = 200
"""Blocks whose lines are kept, more than a terminal shows: lines take several times the memory of their text."""


class Transcript:
    """The messages of a chat and their lines."""

    def __init__(self, glyphs: Glyphs, render_markdown: RenderMarkdown) -> None:
        self._glyphs = glyphs
        self._render_markdown = render_markdown
        self._blocks: list[Block] = []
        self._laid_out_blocks: dict[Block, None] = {}
        """The one that was asked for last is the last."""
        self._messages = 0
        self._width = 1

    @property
    def blocks(self) -> Sequence[Block]:
        """The blocks from the first on."""
        return self._blocks

    @property
    def width(self) -> int:
        """The cells that lines are laid out for."""
        return self._width

    @property
    def end(self) -> LinePosition:
        """The position below the last line."""
        return LinePosition(len(self._blocks), 0)

    def set_width(self, width: int) -> None:
        """Lay out for `width` cells from now on."""
        self._width = max(1, width)

    def set_glyphs(self, glyphs: Glyphs) -> None:
        """Lay everything out anew with other characters."""
        self._glyphs = glyphs
        for block in self._blocks:
            block.width = 0

    def forget_styles(self) -> None:
        """Render Markdown again when it is next drawn, since its colours have changed."""
        for block in self._blocks:
            if block.markdown:
                block.width = 0

    def add(self, role: MessageRole, text: str = "") -> int:
        """Append a message; its number."""
        self._messages += 1
        self._blocks.append(Block(self._messages, role, _without_blank_lines(text)))
        return self._messages

    def reopen_reply(self) -> int | None:
        """The number of the last message if it is a reply, to continue it."""
        last = self._blocks[-1] if self._blocks else None
        return last.message if last is not None and last.kind in {"assistant", "reasoning", "figures"} else None

    def open_reply(self) -> int:
        """Begin a reply that has no text yet; its number."""
        self._messages += 1
        return self._messages

    def extend(self, message: int, text: str, part: ReplyPart) -> None:
        """Append to a reply; only the line that grows is wrapped again."""
        kind: BlockKind = "reasoning" if part == "reasoning" else "assistant"
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.message != message or last.kind != kind:
            text = text.lstrip("\r\n")
            if not text:
                return
            last = Block(message, kind, folded=kind == "reasoning")
            self._blocks.append(last)
        last.text += text
        if last.folded:
            last.width = 0
        elif last.width == self._width:
            self._grow(last, text)

    def has_finished(self, message: int) -> bool:
        """Whether whole blocks of Markdown are in a growing answer that are not yet shown as such."""
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.message != message or last.kind != "assistant" or last.markdown:
            return False
        last.scan.read(last.text)
        return last.scan.end >= FINISHED_AT_LEAST

    def finish_blocks(self, message: int) -> None:
        """Show as Markdown what is finished of a growing answer; the rest stays as it is written."""
        if self.has_finished(message):
            last = self._blocks[-1]
            end = last.scan.end
            self._blocks[-1:] = [
                Block(message, last.kind, last.text[:end], markdown=True),
                Block(message, last.kind, last.text[end:]),
            ]

    def turn_into_reasoning(self, message: int) -> None:
        """The answer of a reply so far was reasoning."""
        answer = [block for block in self._of(message) if block.kind == "assistant"]
        if answer:
            whole = Block(message, "reasoning", "".join(block.text for block in answer), folded=True)
            at = self._blocks.index(answer[0])
            others = [block for block in self._blocks[at:] if (block.message, block.kind) != (message, "assistant")]
            self._blocks[at:] = [whole, *others]

    def end_reasoning(self, message: int, summary: str) -> None:
        """Give the reasoning of a reply that has just ended its summary."""
        for block in self._of(message):
            if block.kind == "reasoning" and not block.summary:
                block.summary = summary
                block.width = 0

    def close_reply(self, message: int, figures: str) -> None:
        """End a reply: all of its answer is Markdown from now on, and `figures` stand below it."""
        self.end_reasoning(message, "thought")
        reply = self._of(message)
        for block in reply:
            if not block.markdown:
                block.markdown, block.width = block.kind == "assistant", 0
        if reply:
            reply[-1].text = reply[-1].text.rstrip("\r\n")
        if figures:
            self._blocks.append(Block(message, "figures", figures))

    def set_figures(self, message: int, figures: str) -> None:
        """Show other figures below a reply that has ended; nothing where it has been removed."""
        for block in self._of(message):
            if block.kind == "figures":
                block.text = figures
                block.width = 0

    def set_folded(self, index: int, *, folded: bool) -> None:
        """Fold a block of reasoning to one line, or open it."""
        block = self._blocks[index]
        if block.kind == "reasoning" and block.folded != folded:
            block.folded = folded
            block.width = 0

    def remove_last_turn(self) -> None:
        """Remove the last prompt and everything after it."""
        last = next((index for index, block in reversed(list(enumerate(self._blocks))) if block.kind == "user"), None)
        if last is not None:
            del self._blocks[last:]

    def clear(self) -> None:
        """Remove every message."""
        self._blocks.clear()
        self._laid_out_blocks.clear()

    def rows(self, top: LinePosition, count: int) -> list[ChatLine | None]:
        """At most `count` lines from `top` down; `None` is the blank line between blocks."""
        rows: list[ChatLine | None] = []
        line = top.line
        for index in range(top.block, len(self._blocks)):
            if len(rows) >= count:
                break
            block = self._laid_out(index)
            gap = self._gap(index)
            if line < gap:
                rows.append(None)
                line = gap
            wanted = block.lines[line - gap : line - gap + count - len(rows)]
            rows.extend([ChatLine(block.kind, content) for content in wanted])
            line = 0
        return rows

    def position_above(self, position: LinePosition, count: int) -> LinePosition:
        """The position `count` lines above, or the top."""
        block, line = position
        while count > line and block > 0:
            count -= line
            block -= 1
            line = self.height(block)
        return LinePosition(block, max(0, line - count))

    def position_below(self, position: LinePosition, count: int) -> LinePosition:
        """The position `count` lines below, or the end."""
        block, line = position
        while block < len(self._blocks):
            left = self.height(block) - line
            if count < left:
                return LinePosition(block, line + count)
            count -= left
            block, line = block + 1, 0
        return self.end

    def nearest(self, position: LinePosition) -> LinePosition:
        """`position`, or the line nearest to it after a block has become shorter or was removed."""
        if position.block >= len(self._blocks):
            return self.end
        return LinePosition(position.block, min(position.line, self.height(position.block) - 1))

    def lines_below(self, position: LinePosition, limit: int) -> int:
        """Lines from `position` to the end, counted up to `limit`."""
        block, line = position
        count = -line
        while block < len(self._blocks) and count < limit:
            count += self.height(block)
            block += 1
        return min(count, limit)

    def height(self, index: int) -> int:
        """Lines of a block, with the blank one above it."""
        return self._gap(index) + len(self._laid_out(index).lines)

    def lines_of(self, index: int, begin: int = 0, end: int | None = None) -> tuple[int, Sequence[str]]:
        """Blank lines above a block, and its lines from `begin` to before `end` without their prefixes."""
        block = self._laid_out(index)
        return self._gap(index), [
            plain_text(content)[self.prefix_of(index, number) :]
            for number, content in enumerate(block.lines[begin:end], begin)
        ]

    def prefix_of(self, index: int, line: int) -> int:
        """Characters of the prefix of a line, which its author did not write."""
        return 0 if self.is_styled(index) else len(self._prefix(self._blocks[index].kind)[min(line, 1)])

    def is_styled(self, index: int) -> bool:
        """Whether the lines of a block are rendered Markdown."""
        lines = self._blocks[index].lines
        return bool(lines) and not isinstance(lines[0], str)

    def _of(self, message: int) -> list[Block]:
        """The blocks of a message, which is one of the last."""
        found = list(takewhile(lambda block: block.message >= message, reversed(self._blocks)))
        return [block for block in reversed(found) if block.message == message]

    def _gap(self, index: int) -> int:
        """Figures stand directly below their reply, everything else below a blank line."""
        return 0 if index == 0 or self._blocks[index].kind == "figures" else 1

    def _prefix(self, kind: BlockKind) -> tuple[str, str]:
        """The prefix of the first and of the other lines of a block; it shows without colour who speaks."""
        if kind in {"user", "system"}:
            label = "you  " if kind == "user" else "system  "
            return label, " " * len(label)
        if kind == "reasoning":
            return (self._glyphs.vertical + " ",) * 2
        if kind == "note":
            return self._glyphs.dot + " ", "  "
        return (" ", " ") if kind == "figures" else ("", "")

    def _literal(self, text: str) -> str:
        return literal(text, ascii=self._glyphs.level == "ascii").replace("\t", TAB)

    def _laid_out(self, index: int) -> Block:
        block = self._blocks[index]
        self._laid_out_blocks.pop(block, None)
        self._laid_out_blocks[block] = None
        if len(self._laid_out_blocks) > LAID_OUT_MOST:
            oldest = next(iter(self._laid_out_blocks))
            del self._laid_out_blocks[oldest]
            oldest.put_away()
        if block.folded:
            if block.width != self._width:
                block.lines = [self._folded_line(block)]
                block.width = self._width
        elif block.width != self._width:
            text = _without_blank_lines(block.text) if block.markdown else block.text
            styled = self._render_markdown(text, self._width) if block.markdown else None
            if not styled:
                block.lines = [""]
                block.unread = ""
                self._grow(block, text)
            else:
                block.lines = list(styled)
            block.width = self._width
        return block

    def _grow(self, block: Block, text: str) -> None:
        text = block.unread + text
        block.unread = "\r" if text.endswith("\r") else ""
        first, other = self._prefix(block.kind)
        width = self._width - len(first)
        lines = block.lines
        last = str(lines.pop()).removeprefix(other if lines else first)
        for paragraph in self._literal(last + text.removesuffix("\r")).split("\n"):
            for line in wrap(paragraph, width):
                lines.append((other if lines else first) + line)

    def _folded_line(self, block: Block) -> str:
        """What stands for folded reasoning: how long it was, or its last line while it grows."""
        prefix, _ = self._prefix(block.kind)
        width = self._width - len(prefix)
        if not block.summary:
            paragraph = self._literal(block.text[-FOLDED_TAIL:].rstrip()).rpartition("\n")[2]
            return prefix + wrap(paragraph, width)[-1]
        opens = f"{block.summary} {self._glyphs.dot} o opens"
        return prefix + (opens if len(opens) <= width else fit_text(block.summary, width).rstrip())


def _without_blank_lines(text: str) -> str:
    return text.strip("\r\n")


class ScrollAnchor(NamedTuple):
    """A visible character of a block, counted without blanks, which change with the width."""

    block: int
    ink: int | None
    """`None` is the blank line above the block."""


def anchor_at(transcript: Transcript, position: LinePosition) -> ScrollAnchor:
    """What is read at the beginning of a line, in the present width."""
    if position.block >= len(transcript.blocks):
        return ScrollAnchor(position.block, None)
    gap, lines = transcript.lines_of(position.block)
    if position.line < gap:
        return ScrollAnchor(position.block, None)
    return ScrollAnchor(position.block, sum(map(_ink, lines[: position.line - gap])))


def position_of(transcript: Transcript, anchor: ScrollAnchor) -> LinePosition:
    """The line that has it, in the present width."""
    if anchor.block >= len(transcript.blocks) or anchor.ink is None:
        return transcript.nearest(LinePosition(anchor.block, 0))
    gap, lines = transcript.lines_of(anchor.block)
    left = anchor.ink
    for number, line in enumerate(lines):
        left -= _ink(line)
        if left < 0:
            return LinePosition(anchor.block, gap + number)
    here, *below = transcript.blocks[anchor.block : anchor.block + 2]
    if below and (below[0].message, below[0].kind) == (here.message, here.kind):
        # The block was one with the next when the anchor was set.
        return position_of(transcript, ScrollAnchor(anchor.block + 1, left))
    return LinePosition(anchor.block, gap + len(lines) - 1)


def _ink(line: str) -> int:
    return len("".join(line.split()))

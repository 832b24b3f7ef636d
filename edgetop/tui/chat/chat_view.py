"""The scrolling widget over a transcript, with search and the answer in view.

What is on the screen is compared line by line with what should be, and only cells that differ are painted. When a reply
grows past the bottom the view moves by half a page at once, since every move paints the whole view. There is no
scrollbar and no timer. A view that has been moved up stays at the same text, whatever its size.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.strip import Strip
from textual.widget import Widget

from edgetop.core.records import ReplyPart
from edgetop.tui.chat.transcript import (
    MARKDOWN_ROLES,
    BlockKind,
    ChatLine,
    LinePosition,
    Mark,
    MessageRole,
    ScrollAnchor,
    StyledLine,
    Transcript,
    anchor_at,
    changed_cells,
    marked_segments,
    position_of,
)
from edgetop.tui.styled_text import fit_text
from edgetop.tui.terminal_output import paint
from edgetop.tui.themes import GlyphLevel, glyphs_for

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


MARKDOWN_SIZE_MAX = 12_000
MARKDOWN_LINES_MAX = 500
"""Beyond either a reply stays plain text: hostile Markdown of this size takes the parser 0.2 s, and its time grows with
the square of the size."""

_WHEEL_LINES = 3

_PERHAPS_MARKDOWN = re.compile(r"[*_`|]|~~|^ {0,3}(?:#|>|[-+] |\d+[.)] |---|===|\t| {4})", re.MULTILINE)
_KINDS: tuple[BlockKind, ...] = ("user", "assistant", "reasoning", "note", "system", "figures")


class ChatView(Widget, can_focus=True):
    """The messages of a chat; it follows the end unless the user has moved up. A search marks its matches in view."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chat--{name}" for name in (*_KINDS, *MARKDOWN_ROLES)}
    """One for each kind of message, and one for each thing that Markdown marks."""
    DEFAULT_CSS = """
    ChatView {
        width: 1fr;
        height: 1fr;
        & .chat--user, & .chat--heading, & .chat--strong { text-style: bold; }
        & .chat--emphasis, & .chat--quote { text-style: italic; }
        & .chat--reasoning, & .chat--note, & .chat--system, & .chat--figures { text-style: dim; }
        & .chat--heading, & .chat--code, & .chat--number { color: $primary; }
        & .chat--keyword { color: $secondary; text-style: bold; }
        & .chat--string { color: $success; }
        & .chat--comment { text-style: italic dim; }
        & .chat--mark { text-style: dim; }
    }
    """

    def __init__(self, level: GlyphLevel = "braille", *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._glyphs = glyphs_for(level)
        self._transcript = Transcript(self._glyphs, self._render_markdown)
        self._reply: int | None = None
        self._top = LinePosition(0, 0)
        self._anchor: ScrollAnchor | None = None
        """What stood at the top when the view was last resized; `None` since it was moved."""
        self._following = True
        self._held = False
        self._text_hidden = False
        self._rows: list[ChatLine | None] = []
        self._styles_of: dict[str, Style] = {}
        self._search: ChatSearch | None = None
        self._search_origin = LinePosition(0, 0)
        """The line that a search begins from, whatever words are typed."""

    @property
    def following(self) -> bool:
        """Whether new lines are brought into view."""
        return self._following

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Draw what is changed inside together, when all of it is done."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._following:
                self._top = self._transcript.position_above(self._transcript.end, self.size.height)
            self._show()

    def add_message(self, role: MessageRole, text: str) -> int:
        """Append a whole message and return its number. A message of the user brings the end into view."""
        number = self._transcript.add(role, text)
        if role == "user":
            self._following, self._anchor = True, None
        self._show(page=role != "user")
        return number

    def continue_reply(self) -> None:
        """Append the next text to the last reply, which was stopped."""
        self._reply = self._transcript.reopen_reply()

    def append_text(self, text: str, part: ReplyPart = "answer", *, show: bool = True) -> None:
        """Append to the growing reply, beginning one if there is none.

        Showing costs as much for a token as for a hundred: without `show` the text is drawn by the next `show_text`.
        """
        if self._reply is None:
            self._reply = self._transcript.open_reply()
        self._transcript.extend(self._reply, text, part)
        if "\n" in text and part == "answer" and self._transcript.has_finished(self._reply):
            with self._at_same_text():
                self._transcript.finish_blocks(self._reply)
        self._text_hidden = True
        if show:
            self._show()

    def turn_into_reasoning(self) -> None:
        """Show the growing reply so far as reasoning."""
        if self._reply is not None:
            self._transcript.turn_into_reasoning(self._reply)
            self._text_hidden = True

    def show_text(self) -> None:
        """Draw the text that has been appended and not drawn."""
        if self._text_hidden:
            self._show()

    def end_reasoning(self, summary: str) -> None:
        """Fold the reasoning of the growing reply, which has ended, to a summary."""
        if self._reply is not None:
            self._transcript.end_reasoning(self._reply, summary)
            self._show()

    def finish(self, figures: str = "") -> int:
        """End the growing reply: draw its Markdown, and one line of figures below it. The number of the reply."""
        reply = self._transcript.open_reply() if self._reply is None else self._reply
        self._reply = None
        with self._at_same_text():
            self._transcript.close_reply(reply, figures)
        self._show(page=True)
        return reply

    def set_figures(self, reply: int, figures: str) -> None:
        """Show other figures below a reply that has ended."""
        with self._at_same_text():
            self._transcript.set_figures(reply, figures)
        self._show(page=self._reply is None)

    def remove_last_turn(self) -> None:
        """Remove the last prompt and everything after it."""
        self._reply = None
        self._transcript.remove_last_turn()
        self._fill()
        self._show(page=True)

    def has(self, kind: BlockKind) -> bool:
        """Whether a block of that kind is in the chat."""
        return any(block.kind == kind for block in self._transcript.blocks)

    def toggle_reasoning(self) -> bool:
        """Open or fold the reasoning in view, or else the last one; False where there is none."""
        blocks = self._transcript.blocks
        below = self._transcript.position_below(self._top, self.size.height)
        in_view = range(self._top.block, min(len(blocks), below.block + (below.line > 0)))
        reasoning = [index for index in in_view if blocks[index].kind == "reasoning"]
        if not reasoning:
            reasoning = [index for index, block in enumerate(blocks) if block.kind == "reasoning"][-1:]
        self._fold(reasoning, folded=not any(blocks[index].folded for index in reasoning))
        return bool(reasoning)

    def _fold(self, reasoning: Sequence[int], *, folded: bool) -> None:
        for index in reasoning:
            self._transcript.set_folded(index, folded=folded)
        if self._following and not folded:
            # The beginning of what was opened is wanted, not the end of the chat.
            self._following = False
        self._show(page=True)
        self.action_move(0)

    def on_click(self, event: events.Click) -> None:
        """Open or fold reasoning that is clicked on."""
        place = self._transcript.position_below(self._top, event.y)
        if place.block < len(self._transcript.blocks):
            block = self._transcript.blocks[place.block]
            if block.kind == "reasoning":
                self._fold([place.block], folded=not block.folded)

    def clear(self) -> None:
        """Remove every message."""
        self._reply = None
        self._transcript.clear()
        self._following, self._anchor = True, None
        self._show()

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        self._glyphs = glyphs_for(level)
        self._transcript.set_glyphs(self._glyphs)
        self._show(page=True)

    def render_line(self, y: int) -> Strip:
        """Line `y` of the view as Textual draws it."""
        return self._strip(y, self.size.width)

    def _strip(self, y: int, width: int) -> Strip:
        blank = self._style("assistant")
        row = self._rows[y] if y < len(self._rows) else None
        if row is None:
            return Strip.blank(width, blank)
        if row.marks:
            return Strip(marked_segments(row, self._style(row.kind))).adjust_cell_length(width, blank)
        if isinstance(row.content, tuple):
            return Strip(row.content).adjust_cell_length(width, blank)
        style = self._style(row.kind)
        cells = cell_len(row.content)
        if cells >= width:
            return Strip([Segment(fit_text(row.content, width), style)], width)
        # What follows a line looks the same after every kind of line, so that it need not be painted when a line goes.
        return Strip([Segment(row.content, style), Segment(" " * (width - cells), blank)], width)

    def notify_style_update(self) -> None:
        """Textual calls this when the theme or a class has changed, and gives the components their styles after it."""
        super().notify_style_update()
        if self.is_mounted:
            self.call_next(self._restyle)

    def _restyle(self) -> None:
        self._styles_of.clear()
        self._transcript.forget_styles()
        self._show(page=True)

    def action_move(self, lines: int) -> None:
        """Move the view by lines, downward where positive."""
        if lines < 0:
            self._move_to(self._transcript.position_above(self._top, -lines))
        else:
            lowest = self._transcript.position_above(self._transcript.end, self.size.height)
            self._move_to(max(self._top, min(lowest, self._transcript.position_below(self._top, lines))))
        height = self.size.height
        self._following = self._transcript.lines_below(self._top, height + 1) <= height
        self._show()

    def _move_to(self, place: LinePosition) -> None:
        self._top, self._anchor, self._following = place, None, False

    @contextmanager
    def _at_same_text(self) -> Iterator[None]:
        """Leave the text at the top where it is while lines change, unless the view follows the end."""
        if self._anchor is None and not self._following:
            self._anchor = anchor_at(self._transcript, self._top)
        yield
        if self._anchor is not None:
            lowest = self._transcript.position_above(self._transcript.end, self.size.height)
            self._top = min(lowest, position_of(self._transcript, self._anchor))

    def action_page(self, pages: int) -> None:
        """Move the view by pages that overlap by a line."""
        self.action_move(pages * max(1, self.size.height - 1))

    def action_to_top(self) -> None:
        """Show the first message."""
        self._move_to(LinePosition(0, 0))
        self.action_move(0)

    def action_to_end(self) -> None:
        """Show the newest message, and follow it."""
        self._following, self._anchor = True, None
        self._fill()
        self._show(page=True)

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-_WHEEL_LINES)

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(_WHEEL_LINES)

    def _on_resize(self) -> None:
        with self._at_same_text():
            self._transcript.set_width(self.size.width)
        self._rows = []
        self._fill()
        self._show(page=True)
        self.refresh()

    def _fill(self) -> None:
        """Let the page be full where it has become higher, or the chat shorter."""
        if self._following:
            self._top = LinePosition(0, 0)

    def _show(self, *, page: bool = False) -> None:
        """Bring the view up to date. Room is left below a growing reply, unless the end is to fill the `page`."""
        if self._held:
            return
        self._text_hidden = False
        width, height = self.size
        if not height:
            return
        transcript = self._transcript
        self._top = transcript.nearest(self._top)
        if self._following:
            below = transcript.lines_below(self._top, height + 1)
            if below > height or below == 0:
                self._top = transcript.position_above(
                    transcript.end, height if page or not below else height - height // 2
                )
        rows = self.rows_in_view()
        changed = enumerate(zip_longest(self._rows, rows))
        self._rows = rows
        regions = [changed_cells(y, before, after, width) for y, (before, after) in changed if before != after]
        paint(self, regions, lambda y: self._strip(y, width))

    def rows_in_view(self) -> list[ChatLine | None]:
        """The lines from the top of the view to its bottom, with matches of the search marked."""
        rows = self._transcript.rows(self._top, self.size.height)
        return rows if self._search is None else self._search.marked(rows, self._top)

    def _style(self, role: str) -> Style:
        style = self._styles_of.get(role)
        if style is None:
            style = self._styles_of[role] = self.get_component_rich_style(f"chat--{role}")
        return style

    def _render_markdown(self, text: str, width: int) -> list[StyledLine] | None:
        if len(text) > MARKDOWN_SIZE_MAX or text.count("\n") > MARKDOWN_LINES_MAX or not _PERHAPS_MARKDOWN.search(text):
            return None
        from edgetop.tui.chat.markdown import render_markdown  # noqa: PLC0415 - 3 MB that plain chats never pay

        roles = {role: self._style(role) for role in MARKDOWN_ROLES}
        return render_markdown(text, width, self._style("assistant"), roles, self._glyphs)

    @property
    def answer_in_view(self) -> str | None:
        """The answer that is being read, so far as it has come; `None` where the view follows the end or shows none."""
        if self._following:
            return None
        transcript = self._transcript
        below = transcript.position_below(self._top, self.size.height)
        blocks = transcript.blocks
        in_view = blocks[self._top.block : below.block + (below.line > 0)]
        message = next((block.message for block in in_view if block.kind == "assistant"), None)
        if message is None:
            return None
        return "".join(block.text for block in blocks if block.message == message and block.kind == "assistant")

    @property
    def growing_answer(self) -> str:
        """What has come of the answer that is being given."""
        blocks = self._transcript.blocks
        return "".join(block.text for block in blocks if block.message == self._reply and block.kind == "assistant")

    def search(self, words: str) -> str:
        """Mark words, and go to the first match from here on; its number and how many there are, as text."""
        if self._search is None:
            self._search_origin = self._top
        self._search = ChatSearch(self._transcript)
        self._search.begin(words, self._search_origin)
        return self._go_to_match(self._search)

    def search_on(self, step: int) -> str:
        """Go to the next match, or back to the previous one; its number and how many there are, as text."""
        if self._search is None:
            return ""
        self._search.step(step)
        return self._go_to_match(self._search)

    def end_search(self) -> None:
        """Remove the marks; the view stays where it is."""
        self._search = None
        self.action_move(0)

    def _go_to_match(self, search: ChatSearch) -> str:
        """Bring the match into view, which does not follow the end meanwhile."""
        place = search.place()
        transcript, height = self._transcript, self.size.height
        if place is not None:
            in_view = self._top <= place < transcript.position_below(self._top, height)
            lowest = transcript.position_above(transcript.end, height)
            above = min(lowest, transcript.position_above(place, height // 3))
            self._move_to(self._top if in_view else above)
        self._show()
        return search.summary

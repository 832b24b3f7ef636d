"""The chat as it is read: messages, the reply as it grows, its Markdown once it is finished.

What is on the screen is compared line by line with what should be, and only cells that differ are painted. When a reply
grows past the bottom the view moves by half a page at once, since every move paints the whole view. There is no
scrollbar and no timer; the terminal's own selection (Shift and drag) copies text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from edgetop.core.records import Part
from edgetop.tui.glyphs import GlyphLevel, glyphs_for
from edgetop.tui.line_paint import paint
from edgetop.tui.transcript import BlockKind, Place, Role, Row, StyledLine, Transcript
from edgetop.tui.wrap import fit

MARKDOWN_SIZE_MAX = 12_000
MARKDOWN_LINES_MAX = 500
"""Beyond either a reply stays plain text: hostile Markdown of this size takes the parser 0.2 s, and its time grows with
the square of the size."""
_WHEEL_LINES = 3

_PERHAPS_MARKDOWN = re.compile(r"[*_`|]|^ {0,3}(?:#|>|[-+] |\d+[.)] |---|===|\t| {4})", re.MULTILINE)
_KINDS: tuple[BlockKind, ...] = ("user", "assistant", "reasoning", "note", "system", "figures")
_MARKDOWN_ROLES = (
    "heading", "strong", "emphasis", "code", "quote", "mark", "keyword", "string", "comment", "number",
)  # fmt: skip


class ChatView(Widget, can_focus=True):
    """The messages of a chat; follows the end unless the person has moved up."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chat--{name}" for name in (*_KINDS, *_MARKDOWN_ROLES)}
    """One for each kind of message, and one for each thing that Markdown marks."""
    DEFAULT_CSS = """
    ChatView {
        width: 1fr;
        height: 1fr;
        & .chat--user, & .chat--heading, & .chat--strong { text-style: bold; }
        & .chat--emphasis, & .chat--quote { text-style: italic; }
        & .chat--reasoning, & .chat--note, & .chat--system, & .chat--figures { text-style: dim; }
    }
    """

    def __init__(self, level: GlyphLevel = "braille", *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._glyphs = glyphs_for(level)
        self._transcript = Transcript(self._glyphs, self._render_markdown)
        self._reply: int | None = None
        self._top = Place(0, 0)
        self._following = True
        self._held = False
        self._rows: list[Row | None] = []
        self._styles_of: dict[str, Style] = {}

    @property
    def following(self) -> bool:
        """Whether new lines are brought into view."""
        return self._following

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is changed inside is shown together, when all of it is done."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._following:
                self._top = self._transcript.place_above(self._transcript.end, self.size.height)
            self._show()

    def add_message(self, role: Role, text: str) -> int:
        """Append a whole message and return its number. A message of the person brings the end into view."""
        number = self._transcript.add(role, text)
        if role == "user":
            self._following = True
        self._show()
        return number

    def append_text(self, text: str, part: Part = "answer") -> None:
        """Append to the growing reply, beginning one if there is none. Call it a few times a second, not per token."""
        if self._reply is None:
            self._reply = self._transcript.open_reply()
        self._transcript.extend(self._reply, text, part)
        self._show()

    def finish(self, figures: str = "") -> None:
        """End the growing reply: draw its Markdown, and one line of figures below it."""
        reply = self._transcript.open_reply() if self._reply is None else self._reply
        self._reply = None
        self._transcript.close_reply(reply, figures)
        self._show(page=True)

    def remove_last(self) -> None:
        """Remove the last message, for a reply with its reasoning and its figures."""
        self._reply = None
        self._transcript.remove_last()
        self._show(page=True)

    def clear(self) -> None:
        """Remove every message."""
        self._reply = None
        self._transcript.clear()
        self._following = True
        self._show()

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        self._glyphs = glyphs_for(level)
        self._transcript.set_glyphs(self._glyphs)
        self._show(page=True)

    def render_line(self, y: int) -> Strip:
        """Line `y` of the view as Textual draws it."""
        width = self.size.width
        blank = self._style("assistant")
        row = self._rows[y] if y < len(self._rows) else None
        if row is None:
            return Strip.blank(width, blank)
        if isinstance(row.content, tuple):
            return Strip(row.content).adjust_cell_length(width, blank)
        style = self._style(row.kind)
        cells = cell_len(row.content)
        if cells >= width:
            return Strip([Segment(fit(row.content, width), style)], width)
        # What follows a line looks the same after every kind of line, so that it need not be painted when a line goes.
        return Strip([Segment(row.content, style), Segment(" " * (width - cells), blank)], width)

    def notify_style_update(self) -> None:
        """Textual calls this when the theme or a class has changed."""
        super().notify_style_update()
        self._styles_of.clear()
        self._transcript.forget_styles()
        if self.is_mounted:
            self._show(page=True)

    def action_move(self, lines: int) -> None:
        """Move the view by lines, downward where positive."""
        if lines < 0:
            self._top = self._transcript.place_above(self._top, -lines)
        else:
            lowest = self._transcript.place_above(self._transcript.end, self.size.height)
            self._top = max(self._top, min(lowest, self._transcript.place_below(self._top, lines)))
        height = self.size.height
        self._following = self._transcript.lines_below(self._top, height + 1) <= height
        self._show()

    def action_page(self, pages: int) -> None:
        """Move the view by pages that overlap by a line."""
        self.action_move(pages * max(1, self.size.height - 1))

    def action_to_top(self) -> None:
        """Show the first message."""
        self._top = Place(0, 0)
        self.action_move(0)

    def action_to_end(self) -> None:
        """Show the newest message, and follow it."""
        self._following = True
        self._show(page=True)

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-_WHEEL_LINES)

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(_WHEEL_LINES)

    def _on_resize(self) -> None:
        self._transcript.set_width(self.size.width)
        self._rows = []
        if self._following:
            self._top = Place(0, 0)  # so that the page is filled, where it has become higher
        self._show(page=True)
        self.refresh()

    def _show(self, *, page: bool = False) -> None:
        """Bring the view up to date. Room is left below a growing reply, unless the end is to fill the `page`."""
        if self._held:
            return
        width, height = self.size
        if not height:
            return
        transcript = self._transcript
        self._top = transcript.nearest(self._top)
        if self._following:
            below = transcript.lines_below(self._top, height + 1)
            if below > height or below == 0:
                self._top = transcript.place_above(
                    transcript.end, height if page or not below else height - height // 2
                )
        rows = transcript.rows(self._top, height)
        changed = enumerate(zip_longest(self._rows, rows))
        self._rows = rows
        paint(self, [_changed_cells(y, before, after, width) for y, (before, after) in changed if before != after])

    def _style(self, role: str) -> Style:
        style = self._styles_of.get(role)
        if style is None:
            style = self._styles_of[role] = self.get_component_rich_style(f"chat--{role}")
        return style

    def _render_markdown(self, text: str, width: int) -> list[StyledLine] | None:
        if len(text) > MARKDOWN_SIZE_MAX or text.count("\n") > MARKDOWN_LINES_MAX or not _PERHAPS_MARKDOWN.search(text):
            return None
        from edgetop.tui.markdown import render_markdown  # noqa: PLC0415 - 3 MB that plain chats never pay

        roles = {role: self._style(role) for role in _MARKDOWN_ROLES}
        return render_markdown(text, width, self._style("assistant"), roles, self._glyphs)


def _changed_cells(y: int, before: Row | None, after: Row | None, width: int) -> Region:
    """The part of line `y` to paint anew; only what is added or lost at the end, where the rest is plain and stays."""
    start, old, new = 0, _plain(before), _plain(after)
    if before and after and before.kind == after.kind and old and new and old.isascii() and new.isascii():
        start = len(old) if new.startswith(old) else len(new) if old.startswith(new) else 0
    end = min(width, max(_cells(before), _cells(after)))
    return Region(start, y, end - start, 1) if end > start else Region()


def _plain(row: Row | None) -> str:
    return row.content if row and isinstance(row.content, str) else ""


def _cells(row: Row | None) -> int:
    if row is None:
        return 0
    return cell_len(row.content) if isinstance(row.content, str) else Strip(row.content).cell_length

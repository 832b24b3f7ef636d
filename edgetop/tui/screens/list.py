"""`ListScreen`: columns with importance, sorting, filter by typing, marks, questions in the bottom line.

Whatever is typed filters, without a mode: actions are on Enter, Esc, Delete, arrows, F-keys and Ctrl+letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from rich.cells import cell_len
from textual import events, on, work
from textual.app import ComposeResult
from textual.screen import ScreenResultType
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import get_current_worker

from edgetop.core.format import Column
from edgetop.core.text import literal, one_line
from edgetop.io.files import with_tilde
from edgetop.tui.keys import KeySlot, key_slots
from edgetop.tui.styled_text import Line, Role, Span, fit, fit_text, for_level, joined, line_of, shortened, spread, wrap
from edgetop.tui.themes import GlyphLevel
from edgetop.tui.widgets import LONGEST, BaseScreen, InputLine, KeyBar, LinesWidget

Row = TypeVar("Row")

MARKS = 2
"""Cells before the columns: the cursor and the mark."""

MESSAGE_S = 6.0
"""How long a message stands in place of the keys, unless a key comes."""


class ColumnSlot(NamedTuple):
    """A column that is shown, and its width in cells."""

    column: Column[Any]
    width: int


FITTED = 500
"""So many rows at the beginning decide how wide columns are: to go through ten thousand at each key takes a second."""


def fit_columns(
    columns: Sequence[Column[Row]], rows: Sequence[Row], width: int, level: GlyphLevel, gap: int = 2
) -> list[ColumnSlot]:
    """The columns that there is room for in `width` cells, marks included, each as wide as its texts if possible.

    What is left makes them as wide as usual.
    """
    natural = [
        min(each.most, max([len(each.heading) + 1, *(cell_len(_cell(each, row, level)) for row in rows)]))
        for each in columns
    ]
    widths: dict[int, int] = {}
    left = width - MARKS + gap
    for at in sorted(range(len(columns)), key=lambda at: -columns[at].importance):
        least = columns[at].least
        needed = natural[at] if least is None else min(natural[at], least)
        if left < needed + gap:
            break
        widths[at] = needed
        left -= needed + gap
    for wanted in (natural, [max(full, each.usual) for full, each in zip(natural, columns, strict=True)]):
        for at, width_now in widths.items():
            more = min(left, wanted[at] - width_now)
            widths[at] = width_now + more
            left -= more
    return [ColumnSlot(columns[at], widths[at]) for at in sorted(widths)]


def cells_of(row: Row, slots: Sequence[ColumnSlot], level: GlyphLevel, gap: int = 2) -> list[Span]:
    """What stands in the columns of a row, each behind the gap before it."""
    spans = []
    for index, (column, width) in enumerate(slots):
        cut = _cut_in_middle if column.cut_in_middle else shortened
        text = _aligned(cut(_cell(column, row, level), width, level), width, column)
        text = " " * (gap if index else 0) + text
        spans.append(Span(text, "text" if column.role is None else column.role(row)))
    return spans


def _cut_in_middle(text: str, width: int, level: GlyphLevel) -> str:
    if cell_len(text) <= width:
        return text
    end = text[len(text) - width * 2 // 5 :]
    while cell_len(end) > width * 2 // 5:
        end = end[1:]
    return shortened(text, width - cell_len(end), level) + end


def _cell(column: Column[Row], row: Row, level: GlyphLevel) -> str:
    text = column.text(row)
    return one_line(text.replace("±", "+-"), ascii=True) if level == "ascii" else one_line(text)


def _headings(
    slots: Sequence[ColumnSlot], by: Column[Any] | None, *, reverse: bool, level: GlyphLevel, gap: int
) -> Line:
    """The headings; that of the column that is sorted by has an arrow."""
    up, down = ("^", "v") if level == "ascii" else ("▲", "▼")
    spans = [Span(" " * MARKS)]
    for index, (column, width) in enumerate(slots):
        heading = column.heading + ((down if reverse else up) if column is by else "")
        spans += [
            Span(" " * (gap if index else 0)),
            Span(_aligned(heading, width, column), "headline" if column is by else "title"),
        ]
    return tuple(span for span in spans if span.text)


def _aligned(text: str, width: int, column: Column[Any]) -> str:
    return " " * max(0, width - cell_len(text)) + text if column.right else fit_text(text, width)


class ListScreen(BaseScreen[ScreenResultType], Generic[Row, ScreenResultType]):
    """Rows in columns, of which one is chosen. Rows may be read in a thread; Esc goes back."""

    AUTO_FOCUS = ""
    GAP: ClassVar[int] = 2
    """Cells between columns."""
    BATCH: ClassVar[int] = 0
    """So many rows are shown as soon as they are read; 0 to wait for all of them."""
    CLICKS_TO_OPEN: ClassVar[int] = 2
    DEFAULT_CSS = """
    ListScreen { layout: vertical; }
    ListScreen LinesWidget { height: 1; width: 100%; padding: 0 1; }
    ListScreen #list { height: 1fr; }
    ListScreen > InputLine { display: none; }
    ListScreen.asking > InputLine { display: block; }
    ListScreen.asking > #keys { display: none; }
    """

    def __init__(self, level: GlyphLevel, columns: Sequence[Column[Row]], rows: Iterable[Row] | None = None) -> None:
        """`rows` of `None` are read by `load_rows`."""
        super().__init__(classes=level)
        self._level: GlyphLevel = level
        self._columns = columns
        self._all: list[Row] = list(rows or ())
        self._complete = rows is not None
        self._rows: list[Row] = list(self._all)
        """Those that are shown, in their order."""
        self._slots: list[ColumnSlot] = []
        self._asked = 0
        """How often they were filtered and sorted."""
        self._by = next((column for column in columns if column.rank is not None), None)
        self._reverse = False
        self._at = self._top = 0
        """The chosen row, and the first one in view."""
        self._marked: list[Any] = []
        """What marked rows are recognised by, in the order in which they were marked."""
        self._typed = ""
        self._words: list[str] = []
        """Of what is typed: a row must have them all."""
        self._question = ""
        """What the bottom line asks for; empty where it shows keys."""
        self._message: Line = ()
        self._message_timer: Timer | None = None

    # What a list brings

    def _read_rows(self) -> Iterable[Row]:
        """Read the rows, in a thread."""
        raise NotImplementedError

    def _identity(self, row: Row) -> object:
        """What a row is recognised by when rows are read again."""
        return row

    def _matches(self, row: Row, words: Sequence[str]) -> bool:
        """Whether a row has all words of the filter."""
        raise NotImplementedError

    def _in_one_piece(self, _row: Row) -> str | None:
        """The harmless text of a row that has no columns; `None` for one that has."""
        return None

    def _can_be_chosen(self, _row: Row) -> bool:
        return True

    def _is_marked(self, row: Row) -> bool:
        return self._identity(row) in self._marked

    def _mark_of(self, row: Row) -> str:
        """The character before a row."""
        return "*" if self._is_marked(row) else " "

    def _why_unmarkable(self, _row: Row) -> str:
        """Why a row cannot be marked; empty if it can."""
        return ""

    def _row_role(self, _row: Row) -> Role | None:
        """The role of a whole row; `None` where each column has its own."""
        return None

    def _title_line(self) -> Line:
        raise NotImplementedError

    def _empty_text(self) -> str:
        """Why no row is shown."""
        raise NotImplementedError

    def _key_slots(self) -> Sequence[KeySlot]:
        """What the key line shows: asking in turn only where rows are marked for it."""
        few = len(self._marked) < 2
        return [slot for slot in key_slots(self.keys.keys) if not (few and slot.actions[0].name == "ask")]

    def _open_row(self) -> None:
        """Do what Enter does with the chosen row."""
        raise NotImplementedError

    def _answer(self, question: str, text: str) -> None:
        """Act upon the answer to a question."""
        raise NotImplementedError

    # Widgets

    def compose(self) -> ComposeResult:
        """Title, headings, list, what is below it, and keys or a question."""
        yield LinesWidget(id="title")
        if self._columns:
            yield LinesWidget(id="heading")
        yield LinesWidget(id="list")
        yield from self._compose_below()
        yield KeyBar(id="keys")
        yield InputLine(self._level)

    def _compose_below(self) -> Iterable[Widget]:
        return ()

    def on_mount(self) -> None:
        """Read the rows without holding up the screen."""
        if not self._complete:
            self.load_rows()

    def on_resize(self, _event: events.Resize) -> None:
        """Draw everything for the size there is."""
        self.call_after_refresh(self._arrange)

    @work(thread=True, exclusive=True, group="rows")
    def load_rows(self) -> None:
        """Read the rows, or read them again."""
        worker = get_current_worker()
        batch: list[Row] = []
        fresh = True
        for row in self._read_rows():
            if worker.is_cancelled:
                return
            batch.append(row)
            if len(batch) == self.BATCH:
                self.call_from_worker(self._add_rows, batch, fresh=fresh, complete=False)
                batch, fresh = [], False
        self.call_from_worker(self._add_rows, batch, fresh=fresh, complete=True)

    def _add_rows(self, rows: list[Row], *, fresh: bool, complete: bool) -> None:
        """Show rows that have been read; `fresh` ones replace those there are."""
        self._all = rows if fresh else [*self._all, *rows]
        self._complete = complete
        self._arrange()

    def clear_draft(self) -> bool:
        """Clear the filter."""
        if not self._typed:
            return False
        self._type("")
        return True

    # Drawing

    def _matching(self) -> list[Row]:
        """The rows that have the words of the filter, sorted."""
        rows = [row for row in self._all if not self._words or self._matches(row, self._words)]
        rank = None if self._by is None else self._by.rank
        if rank is None:
            return rows
        ranked = [(value, row) for row in rows if (value := rank(row)) is not None]
        ranked.sort(key=lambda pair: pair[0], reverse=self._reverse)
        return [row for _, row in ranked] + [row for row in rows if rank(row) is None]

    def _arrange(self, *, follow: bool = True) -> None:
        """Filter, sort and lay out; with `follow` the chosen row stays chosen where it is still shown."""
        self._asked += 1
        if len(self._all) > FITTED:
            self._arrange_many(self._asked, follow=follow)
        else:
            self._lay_out(self._matching(), follow=follow)

    @work(thread=True, exclusive=True, group="arranged")
    def _arrange_many(self, asked: int, *, follow: bool) -> None:
        """The same without holding up the screen; what is typed meanwhile takes its place."""
        rows = self._matching()

        def lay_out() -> None:
            if asked == self._asked:
                self._lay_out(rows, follow=follow)

        self.call_from_worker(lay_out)

    def _lay_out(self, rows: list[Row], *, follow: bool) -> None:
        chosen = self._chosen if follow else None
        self._rows = rows
        if chosen is not None:
            known = self._identity(chosen)
            self._at = next((at for at, row in enumerate(self._rows) if self._identity(row) == known), self._at)
        self._at = self._nearest(self._at)
        with_cells = [row for row in self._rows[:FITTED] if self._in_one_piece(row) is None]
        self._slots = fit_columns(self._columns, with_cells, self._width, self._level, self.GAP)
        self._draw()

    def _draw(self) -> None:
        if not self.can_draw:
            return
        self._scroll()
        lines = [self._row_line(at) for at in range(self._top, min(self._top + self._height, len(self._rows)))]
        empty = () if lines else wrap(self._empty_text(), self._width - 1)
        self._show("list", lines or [line_of(Span(f" {row}", "dim")) for row in empty])
        self._draw_around()

    def _draw_around(self) -> None:
        """Draw what is above and below the list."""
        self._show("title", [self._title_line()])
        if self.query("#heading"):
            heading = _headings(self._slots, self._by, reverse=self._reverse, level=self._level, gap=self.GAP)
            self._show("heading", [heading])
        if self._message:
            self.query_one(KeyBar).show_text(self._message, self._level)
        else:
            self.query_one(KeyBar).show_keys(self._key_slots(), self._level)

    def _row_line(self, at: int) -> Line:
        """A row. The chosen one begins with `>`, a marked one has `*`."""
        row, chosen = self._rows[at], at == self._at
        marks = f"{'>' if chosen else ' '}{self._mark_of(row)}"
        whole = self._in_one_piece(row)
        if whole is None:
            spans = [Span(marks), *cells_of(row, self._slots, self._level, self.GAP)]
        else:
            text = marks + whole if self._can_be_chosen(row) else whole
            spans = [Span(shortened(text, self._width, self._level))]
        role = "key" if chosen else self._row_role(row)
        if role is None:
            return tuple(spans)
        return (Span(fit_text("".join(span.text for span in spans), self._width), role),)

    def _scroll(self) -> None:
        """Keep the chosen row in view, and a heading that stands above it."""
        height, at = max(1, self._height), self._at
        wanted = at - 1 if height > 1 and at and not self._can_be_chosen(self._rows[at - 1]) else at
        self._top = max(0, min(max(self._top, at - height + 1), wanted, len(self._rows) - height))

    def _show(self, name: str, lines: Sequence[Line]) -> None:
        shown = [for_level(fit(line, self._width), self._level) for line in lines]
        self.query_one(f"#{name}", LinesWidget).show_lines(shown)

    def _title(self, title: Line, *parts: Line, where: Path) -> Line:
        """The title with the filter and other parts, and at the end of the line where all this is stored."""
        parts = (title, *self._filter_part(), *parts, self._filter_hint)
        return spread(joined(parts, self._width), [line_of(Span(one_line(with_tilde(where)), "dim"))], self._width)

    def _filter_part(self) -> Sequence[Line]:
        """The filter for the title, with the end of what is typed where it is long; nothing without one."""
        if not self._typed:
            return ()
        text, room = one_line(self._typed, ascii=self._level == "ascii"), max(8, self._width // 2)
        while cell_len(text) > room:
            text = text[1:]
        return (line_of(Span(f"filter: {text}", "accent"), Span("_", "accent")),)

    @property
    def _filter_hint(self) -> Line:
        return () if self._typed else line_of(Span("type to filter", "dim"))

    @property
    def _width(self) -> int:
        return self.query_one("#list", LinesWidget).size.width

    @property
    def _height(self) -> int:
        return self.query_one("#list", LinesWidget).size.height

    @property
    def _chosen(self) -> Row | None:
        return self._rows[self._at] if self._at < len(self._rows) else None

    def _show_message(self, text: str, role: Role = "warning") -> None:
        """Show a message in place of the keys, for a while or until the next key."""
        self._clear_message()
        self._message = line_of(Span(one_line(text), role))
        self._message_timer = self.set_timer(MESSAGE_S, self._clear_message)
        self._draw()

    def _clear_message(self) -> None:
        if self._message_timer is not None:
            self._message_timer.stop()
        if self._message:
            self._message = ()
            self._draw()

    # Keys and mouse

    def on_key(self, event: events.Key) -> None:
        """Filter by what is typed; a character that the user gave an action has it where nothing is typed yet."""
        self._clear_message()
        text = event.character if event.is_printable and event.character else ""
        if self._question or (text and not self._typed and (event.key in self._action_keys or not text.strip())):
            return
        if text:
            self._type(self._typed + literal(text))
        elif event.key in {"backspace", "ctrl+h"} and self._typed:
            self._type(self._typed[:-1])
        elif event.key == "ctrl+u" and self._typed:
            self._type("")
        else:
            return
        event.stop()
        event.prevent_default()

    def on_paste(self, event: events.Paste) -> None:
        """Filter by what is pasted."""
        if not self._question:
            event.stop()
            self._type(self._typed + one_line(event.text))

    @property
    def _action_keys(self) -> set[str]:
        return {key for action in self.keys.keys for key in action.keys}

    def _type(self, text: str) -> None:
        self._typed = text[:LONGEST]
        self._filter(self._typed.split())

    def on_mouse_scroll_down(self, _event: events.MouseScrollDown) -> None:
        """Go down."""
        self.action_move(3)

    def on_mouse_scroll_up(self, _event: events.MouseScrollUp) -> None:
        """Go up."""
        self.action_move(-3)

    def on_click(self, event: events.Click) -> None:
        """Choose a row; a second click opens it."""
        region = self.query_one("#list", LinesWidget).region
        at = self._top + event.screen_y - region.y
        if (
            region.contains(event.screen_x, event.screen_y)
            and at < len(self._rows)
            and self._can_be_chosen(self._rows[at])
        ):
            self._choose(at)
            if event.chain >= self.CLICKS_TO_OPEN:
                self._open_row()

    def _choose(self, at: int) -> None:
        self._at = at
        self._draw()

    def action_move(self, rows: int) -> None:
        """Choose another row."""
        self._choose(self._nearest(self._at + rows, 1 if rows > 0 else -1))

    def _nearest(self, at: int, step: int = 1) -> int:
        """The row from `at` on, first in the direction of `step`, that can be chosen."""
        at = max(0, min(at, len(self._rows) - 1))
        below, above = range(at, len(self._rows)), range(at, -1, -1)
        order = (*below, *above) if step > 0 else (*above, *below)
        return next((row for row in order if self._rows and self._can_be_chosen(self._rows[row])), at)

    def action_page(self, pages: int) -> None:
        """Go on or back by what is in view."""
        self.action_move(pages * max(1, self._height - 1))

    def action_to_row(self, index: int) -> None:
        """Choose the first row, or the last one for -1."""
        self.action_move((-1 if index == 0 else 1) * len(self._rows))

    def action_close(self) -> None:
        """Drop the filter, or go back."""
        if not self.clear_draft():
            self.dismiss(None)

    def action_mark(self) -> None:
        """Mark or unmark the chosen row, and choose the next one."""
        if self._chosen is None:
            return
        known = self._identity(self._chosen)
        if known in self._marked:
            self._marked.remove(known)
        elif why := self._why_unmarkable(self._chosen):
            self._show_message(why)
            return
        else:
            self._marked.append(known)
        self.action_move(1)

    def action_unmark(self) -> None:
        """Unmark all."""
        self._marked.clear()
        self._draw()

    @property
    def _marked_rows(self) -> list[Row]:
        """In the order of their marks."""
        rows = {self._identity(row): row for row in self._all}
        return [rows[known] for known in self._marked if known in rows]

    def _marked_part(self) -> Line:
        """How many are marked, for the title."""
        return line_of(Span(f"{len(self._marked)} marked", "warning")) if self._marked else ()

    def _ask_marked(self, question: str, why_not: str = "") -> None:
        """Ask for the prompt that the models of the marked rows are to be asked in turn."""
        if why_not or len(self._marked) < 2:
            self._show_message(why_not or f"Mark two or more with {self.keys.key_of('mark')} first.")
        else:
            self._ask(question, f"Ask {len(self._marked)} in turn:")

    def action_sort(self, step: int) -> None:
        """Sort by the next column that is shown: rates from the greatest down, all else from the least up."""
        columns = [slot.column for slot in self._slots if slot.column.rank is not None]
        if columns:
            at = columns.index(self._by) if self._by in columns else -step
            self._by = columns[(at + step) % len(columns)]
            self._reverse = self._by.greatest_first
            self._at = 0
            self._arrange(follow=False)

    def action_sort_by(self, heading: str) -> None:
        """Sort by a column; by the same one again, the other way round."""
        column = next(column for column in self._columns if column.heading == heading.upper())
        self._reverse = not self._reverse if column is self._by else column.greatest_first
        self._by = column
        self._arrange()

    def action_reverse(self) -> None:
        """Reverse the order."""
        self._reverse = not self._reverse
        self._at = 0
        self._arrange(follow=False)

    # Questions

    def _filter(self, words: list[str]) -> None:
        """Show the rows that have these words."""
        self._words = words
        self._arrange()

    def _ask(self, question: str, label: str, text: str = "") -> None:
        self._question = question
        self.add_class("asking")
        self.query_one(InputLine).ask(label, text)

    @on(InputLine.Cancelled)
    def _end_question(self) -> str:
        question, self._question = self._question, ""
        self.remove_class("asking")
        self.set_focus(None)
        return question

    @on(InputLine.Submitted)
    def _on_submitted(self, message: InputLine.Submitted) -> None:
        self._answer(self._end_question(), message.text)

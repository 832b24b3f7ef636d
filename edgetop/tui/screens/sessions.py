"""Recorded sessions: mark, tag, delete, resume; opens comparison and replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from rich.cells import cell_len
from textual import events, work
from textual.app import App, ComposeResult
from textual.binding import Binding

from edgetop.core.energy.duty import Price
from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import read_all
from edgetop.session.compare.result import Result
from edgetop.session.file_io import load
from edgetop.session.replay import AlignmentName
from edgetop.session.store import (
    COLUMNS,
    LabelError,
    ListColumn,
    ListedSession,
    SessionEntry,
    Store,
    changed_tags,
    energy_cell,
    entry_of,
    write_labels,
)
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keys import SESSIONS
from edgetop.tui.screens.base import bindings
from edgetop.tui.screens.list import ListScreen
from edgetop.tui.styled_text import Line, Role, Span, fit_text, line_of, shortened
from edgetop.tui.widgets import InputLine, KeyBar, LinesWidget

GAP: Final = 2

MARKS: Final = 2
"""Cells before the columns: the cursor and the mark."""

IMPORTANCE: Final = ("#", "MODEL", "QUANT", "TOK/S", "J/TOKEN", "STARTED", "TAGS", "LENGTH", "DEVICE")
"""Those at the end go first where there is too little room."""

LEAST: Final = {"MODEL": 16, "TAGS": 10, "DEVICE": 12}
"""Columns that can be narrower than what stands in them, down to so many cells."""

MOST: Final = {"MODEL": 36, "TAGS": 40, "DEVICE": 24}

WIDEST: Final = 20
"""Of the other columns: only a file that was tampered with has more in them."""


class Placed(NamedTuple):
    """A column and its width in cells."""

    column: ListColumn
    width: int


def placed(entries: Sequence[SessionEntry], width: int, level: GlyphLevel) -> list[Placed]:
    """The columns that there is room for in `width` cells, marks included, as wide as what stands in them needs."""
    readable = [entry for entry in entries if entry.listed.head is not None]
    natural = {
        column.heading: max([len(column.heading) + 1, *(cell_len(cell_text(column, each, level)) for each in readable)])
        for column in COLUMNS
    }
    widths: dict[str, int] = {}
    left = width - MARKS + GAP
    for heading in IMPORTANCE:
        most = min(natural[heading], MOST.get(heading, WIDEST))
        least = min(most, LEAST.get(heading, most))
        if left < least + GAP:
            break
        widths[heading] = least
        left -= least + GAP
    for heading in LEAST:
        if heading in widths:
            more = min(left, min(natural[heading], MOST[heading]) - widths[heading])
            widths[heading] += more
            left -= more
    return [Placed(column, widths[column.heading]) for column in COLUMNS if column.heading in widths]


def heading_line(columns: Sequence[Placed], by: ListColumn, *, reverse: bool, level: GlyphLevel) -> Line:
    """The names of the columns; the one that is sorted by has an arrow."""
    up, down = ("^", "v") if level == "ascii" else ("▲", "▼")
    spans = [Span(" " * MARKS)]
    for index, (column, width) in enumerate(columns):
        sorted_by = column is by
        name = column.heading + ((down if reverse else up) if sorted_by else "")
        spans += [
            Span(" " * GAP if index else ""),
            Span(_aligned(name, width, column), "headline" if sorted_by else "title"),
        ]
    return tuple(span for span in spans if span.text)


def row_line(
    entry: SessionEntry, columns: Sequence[Placed], width: int, *, chosen: bool, marked: bool, level: GlyphLevel
) -> Line:
    """A session in `width` cells. The chosen one begins with `>`, a marked one has `*`."""
    marks = f"{'>' if chosen else ' '}{'*' if marked else ' '}"
    if entry.listed.head is None:
        number = fit_text(str(entry.listed.number), columns[0].width) if columns else ""
        name = one_line(f"{entry.listed.path.name}: {_problem(entry)}", ascii=level == "ascii")
        text = shortened(f"{number}{' ' * GAP}{name}", max(0, width - MARKS), level)
    else:
        cells = (_aligned(shortened(cell_text(each, entry, level), wide, level), wide, each) for each, wide in columns)
        text = (" " * GAP).join(cells)
    role: Role = "key" if chosen else "warning" if marked else "dim" if entry.listed.head is None else "text"
    return (Span(fit_text(marks + text, width), role),)


def cell_text(column: ListColumn, entry: SessionEntry, level: GlyphLevel) -> str:
    """What stands in a column, in the characters of the level."""
    if column.heading == "J/TOKEN":
        return energy_cell(entry, "+-" if level == "ascii" else "±")
    return one_line(column.text(entry), ascii=level == "ascii")


def sorted_entries(entries: Sequence[SessionEntry], by: ListColumn, *, reverse: bool) -> list[SessionEntry]:
    """In the order of a column, those of equal rank as in the list; those that have nothing there come last."""
    ranked = [(rank, entry) for entry in entries if (rank := by.rank(entry)) is not None]
    ranked.sort(key=lambda pair: pair[0], reverse=reverse)
    return [entry for _, entry in ranked] + [entry for entry in entries if by.rank(entry) is None]


def _aligned(text: str, width: int, column: ListColumn) -> str:
    return " " * max(0, width - cell_len(text)) + text if column.numeric else fit_text(text, width)


def _problem(entry: SessionEntry) -> str:
    """Why it cannot be read; the path stands before it already."""
    return entry.listed.problem.removeprefix(f"{entry.listed.path}: ")


Open = Callable[[Sequence[Path]], None]
"""Opens sessions, one or several."""

TAGS, DELETE = "tags", "delete"
"""What the bottom line asks for besides a filter."""


class SessionsScreen(ListScreen):
    """What is on disk is read when the screen opens and after each change. Esc goes back."""

    TABLE = SESSIONS
    BINDINGS: ClassVar[list[Binding]] = bindings(SESSIONS)  # type: ignore[assignment]

    def __init__(
        self,
        store: Store,
        level: GlyphLevel,
        *,
        replay: Open,
        compare: Open,
        go_on: Callable[[Path], None] | None = None,
    ) -> None:
        """`replay` gets the marked sessions, or else the chosen one; `compare` gets the marked ones, two or more.

        `go_on` gets the one whose conversation the chat below is to go on with; `None` where there is no chat.
        """
        super().__init__(level)
        self._store = store
        self._replay = replay
        self._compare = compare
        self._go_on = go_on
        self._all: list[SessionEntry] | None = None
        self._shown: list[SessionEntry] = []
        self._columns: list[Placed] = []
        self._by, self._reverse = COLUMNS[0], False
        self._marked: list[Path] = []
        """In the order in which they were marked."""

    def compose(self) -> ComposeResult:
        """Title, headings, list, and keys or a question."""
        yield LinesWidget(id="title")
        yield LinesWidget(id="heading")
        yield LinesWidget(id="list")
        yield KeyBar(id="keys")
        yield InputLine(self._level, id="input")

    def on_mount(self) -> None:
        """Read the list without holding up the screen."""
        self._look()

    def on_screen_resume(self) -> None:
        """Back from a replay, where the session may have got tags: read the list again."""
        if self._all is not None:
            self._look()

    def on_resize(self, _event: events.Resize) -> None:
        """Draw everything for the size there is."""
        self.call_after_refresh(self._arrange)

    @work(thread=True, exclusive=True)
    def _look(self) -> None:
        listed = self._store.list()
        self.app.call_from_thread(self._take, listed)

    def _take(self, listed: Sequence[ListedSession]) -> None:
        self._all = [entry_of(each) for each in listed]
        there = {each.path for each in listed}
        self._marked = [path for path in self._marked if path in there]
        self._arrange()

    # Drawing

    def _arrange(self, *, follow: bool = True) -> None:
        """Filter, sort and lay out; with `follow` the chosen session stays chosen where it is still shown."""
        chosen = self._chosen if follow else None
        matching = [entry for entry in self._all or () if entry.matches(self._words)]
        self._shown = sorted_entries(matching, self._by, reverse=self._reverse)
        paths = [entry.listed.path for entry in self._shown]
        if chosen is not None and chosen.listed.path in paths:
            self._at = paths.index(chosen.listed.path)
        self._at = max(0, min(self._at, len(self._shown) - 1))
        self._columns = placed(matching, self._width, self._level)
        self._draw()

    def _draw(self) -> None:
        if not self.is_whole:
            return
        self._scroll()
        heading = heading_line(self._columns, self._by, reverse=self._reverse, level=self._level)
        count = f"{len(self._shown)} of {len(self._all or ())}" if self._words else f"{len(self._all or ())}"
        marked = line_of(Span(f"{len(self._marked)} marked", "warning")) if self._marked else ()
        title = self._title(line_of(Span("sessions", "title"), f" {count}"), marked, where=str(self._store.folder))
        self._show("title", [title])
        self._show("heading", [heading])
        self._show("list", self._rows())
        self._show_keys()

    def _rows(self) -> list[Line]:
        if self._all is None:
            return [line_of(Span("reading ...", "dim"))]
        if not self._shown:
            why = f"none of {len(self._all)} has this in its tags, model, quantization or device" if self._all else ""
            return [line_of(Span(why or "none yet: every chat and every `edgetop run` is recorded", "dim"))]
        return [
            row_line(
                entry,
                self._columns,
                self._width,
                chosen=index == self._at,
                marked=entry.listed.path in self._marked,
                level=self._level,
            )
            for index, entry in enumerate(self._shown[self._top : self._top + self._height], self._top)
        ]

    def _scroll(self) -> None:
        """Keep the chosen row in view."""
        height = max(1, self._height)
        self._top = min(max(self._top, self._at - height + 1, 0), self._at, max(0, len(self._shown) - height))

    @property
    def _row_count(self) -> int:
        return len(self._shown)

    @property
    def _chosen(self) -> SessionEntry | None:
        return self._shown[self._at] if self._at < len(self._shown) else None

    # Keys

    def _open_row(self, index: int, *, twice: bool) -> None:
        if twice:
            self.action_replay()
        else:
            self.action_move(index - self._at)

    def action_move(self, rows: int) -> None:
        """Choose another row."""
        self._at = max(0, min(self._at + rows, len(self._shown) - 1))
        self._draw()

    def action_sort(self, step: int) -> None:
        """Sort by the next column that is shown: rates from the greatest down, all else from the least up."""
        columns = [each.column for each in self._columns]
        if columns:
            at = columns.index(self._by) if self._by in columns else -step
            self._by = columns[(at + step) % len(columns)]
            self._reverse = self._by.greatest_first
            self._at = 0
            self._arrange(follow=False)

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._reverse = not self._reverse
        self._at = 0
        self._arrange(follow=False)

    def action_mark(self) -> None:
        """Mark the chosen session, or take its mark away, and go on to the next."""
        chosen = self._chosen
        if chosen is None:
            return
        path = chosen.listed.path
        if path in self._marked:
            self._marked.remove(path)
        elif chosen.listed.head is None:
            self._say("This one cannot be read.")
            return
        else:
            self._marked.append(path)
        self.action_move(1)

    def action_unmark(self) -> None:
        """Take all marks away."""
        self._marked.clear()
        self._draw()

    def action_compare(self) -> None:
        """Compare the marked sessions."""
        if len(self._marked) < 2:
            self._say("Mark two or more with m first.")
        else:
            self._compare(tuple(self._marked))

    def action_replay(self) -> None:
        """Replay the marked sessions side by side, or the chosen one."""
        chosen = self._chosen
        if self._marked:
            self._replay(tuple(self._marked))
        elif chosen is not None and chosen.listed.head is not None:
            self._replay((chosen.listed.path,))
        elif chosen is not None:
            self._say(chosen.listed.problem)

    def action_go_on(self) -> None:
        """Go back to the chat, and there on with the conversation of the chosen session."""
        chosen = self._chosen
        if chosen is None:
            return
        if self._go_on is None:
            self._say("There is no chat here to go on in; `edgetop` opens one.")
        elif chosen.listed.head is None:
            self._say(chosen.listed.problem)
        else:
            self.dismiss()
            self._go_on(chosen.listed.path)

    # Questions

    def action_tags(self) -> None:
        """Ask for the tags of the chosen session."""
        chosen = self._chosen
        if chosen is not None and chosen.listed.head is not None:
            self._ask(TAGS, f"Tags of {chosen.listed.number}:", " ".join(chosen.tags))

    def action_delete(self) -> None:
        """Ask whether to delete the marked sessions, or the chosen one."""
        targets = self._to_delete()
        if targets:
            what = f"{len(targets)} marked sessions" if len(targets) > 1 else f"{_named(targets[0])}"
            self._ask(DELETE, f"Delete {what} for good? y/N:")

    def _to_delete(self) -> list[SessionEntry]:
        chosen = self._chosen
        marked = [entry for entry in self._all or () if entry.listed.path in self._marked]
        return marked or ([chosen] if chosen is not None else [])

    def _filter(self, words: list[str]) -> None:
        self._words = words
        self._arrange()

    def _answer(self, asked: str, text: str) -> None:
        if asked == TAGS:
            self._write_tags(text.split())
        elif asked == DELETE and text.strip().casefold() in {"y", "yes"}:
            self._remove()

    def _write_tags(self, words: Sequence[str]) -> None:
        chosen = self._chosen
        if chosen is None:
            return
        try:
            write_labels(chosen.listed.path, tags=changed_tags((), [f"+{word.removeprefix('+')}" for word in words]))
        except (LabelError, EdgetopError) as error:
            self._say(str(error))
        except OSError as error:
            self._say(f"The file could not be written: {error.strerror}.")
        self._look()

    def _remove(self) -> None:
        for entry in self._to_delete():
            try:
                self._store.remove(entry.listed.path)
            except EdgetopError as error:
                self._say(str(error))
            except OSError as error:
                self._say(f"It could not be deleted: {error.strerror}.")
        self._look()


def _named(entry: SessionEntry) -> str:
    what = f"{entry.model} {entry.quantization}".strip()
    return one_line(f"{entry.listed.number}, {entry.started}{', ' if what else ''}{what}")


TOLD_S = 8.0


def open_sessions(
    app: App[Any],
    store: Store,
    level: GlyphLevel,
    price: Price | None = None,
    go_on: Callable[[Path], None] | None = None,
) -> None:
    """Open the list of recorded sessions; `go_on` brings the conversation of one into the chat, where there is one."""

    def replay(paths: Sequence[Path]) -> None:
        open_replay(app, paths, level, price)

    def hold_against(paths: Sequence[Path]) -> None:
        open_comparison(app, paths, level, price)

    app.push_screen(SessionsScreen(store, level, replay=replay, compare=hold_against, go_on=go_on))


def open_comparison(app: App[Any], paths: Sequence[Path], level: GlyphLevel, price: Price | None = None) -> None:
    """Hold sessions against the first of them; what cannot be read is told."""
    from edgetop.tui.screens.compare import CompareScreen  # noqa: PLC0415 - brings numpy

    def replay(base: Result, chosen: Result) -> None:
        replay_results(app, base, chosen, level, price)

    try:
        comparison = compare(read_all(paths))
    except EdgetopError as error:
        _tell(app, error)
    else:
        app.push_screen(CompareScreen(comparison, level=level, replay=replay))


def replay_results(app: App[Any], base: Result, chosen: Result, level: GlyphLevel, price: Price | None = None) -> None:
    """Replay two results side by side, or one where both are the same; only recorded sessions can be replayed."""
    results = list({result.origin: result for result in (base, chosen) if result.kind == "session"}.values())
    if results:
        open_replay(app, [Path(result.origin) for result in results], level, price)
    else:
        _tell(app, EdgetopError("There is no recording of this result.", "Only sessions can be replayed."))


def open_replay(app: App[Any], paths: Sequence[Path], level: GlyphLevel, price: Price | None = None) -> None:
    """Play sessions again, side by side; what cannot be read is told."""
    from edgetop.tui.screens.replay import ReplayScreen  # noqa: PLC0415 - few sessions of the live screen need it

    try:
        sessions = [load(path) for path in paths]
    except EdgetopError as error:
        _tell(app, error)
    else:
        alignment: AlignmentName = "time" if len(sessions) == 1 else "turn"
        app.push_screen(ReplayScreen(sessions, level=level, alignment=alignment, price=price))


def _tell(app: App[Any], error: EdgetopError) -> None:
    app.notify(one_line(f"{error.what} {error.hint}"), severity="warning", timeout=TOLD_S, markup=False)

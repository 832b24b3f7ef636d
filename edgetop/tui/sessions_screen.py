"""The recorded sessions: a list to sort and to search, to mark for a comparison, to replay, to tag and to delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding

from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.session.labels import LabelError, changed_tags, write_labels
from edgetop.session.listing import COLUMNS, SessionEntry, entry_of
from edgetop.session.store import ListedSession, Store
from edgetop.tui.bindings import bindings
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keyed_screen import KeyedScreen
from edgetop.tui.keymap import places
from edgetop.tui.page_keys import SESSIONS
from edgetop.tui.sessions_table import Placed, heading_line, placed, row_line, sorted_entries
from edgetop.tui.widgets.input_line import InputLine
from edgetop.tui.widgets.key_bar import KeyBar
from edgetop.tui.widgets.lines import Line, LinesWidget, Span, fit, for_level, joined, line_of, spread

Open = Callable[[Sequence[Path]], None]
"""Opens sessions, one or several."""
Asked = Literal["", "filter", "tags", "delete"]
"""What the bottom line asks for."""


class SessionsScreen(KeyedScreen[None]):
    """What is on disk is read when the screen opens and after each change. Esc goes back."""

    AUTO_FOCUS = ""
    TABLE = SESSIONS
    BINDINGS: ClassVar[list[Binding]] = bindings(SESSIONS)  # type: ignore[assignment]
    DEFAULT_CSS = """
    SessionsScreen { layout: vertical; }
    SessionsScreen LinesWidget { height: 1; width: 100%; padding: 0 1; }
    SessionsScreen > #sessions { height: 1fr; }
    SessionsScreen > InputLine { display: none; }
    SessionsScreen.asking > InputLine { display: block; }
    SessionsScreen.asking > #keys { display: none; }
    """

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
        super().__init__(classes=level)
        self._store = store
        self._level: GlyphLevel = level
        self._replay = replay
        self._compare = compare
        self._go_on = go_on
        self._all: list[SessionEntry] | None = None
        self._shown: list[SessionEntry] = []
        self._columns: list[Placed] = []
        self._by, self._reverse = COLUMNS[0], False
        self._words: list[str] = []
        self._words_before: list[str] = []
        self._marked: list[Path] = []
        """In the order in which they were marked."""
        self._at = self._top = 0
        self._asked: Asked = ""
        self._said: Line = ()

    def compose(self) -> ComposeResult:
        """Title, headings, list, and keys or a question."""
        yield LinesWidget(id="title")
        yield LinesWidget(id="heading")
        yield LinesWidget(id="sessions")
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
        if not self.is_mounted or not self._width:
            return
        self._scroll()
        heading = heading_line(self._columns, self._by, reverse=self._reverse, level=self._level)
        self._show("title", [self._title()])
        self._show("heading", [heading])
        self._show("sessions", self._rows())
        if self._said:
            self.query_one(KeyBar).say(self._said, self._level)
        else:
            self.query_one(KeyBar).show_keys(places(self.keys.keys), self._level)

    def _show(self, name: str, lines: Sequence[Line]) -> None:
        shown = [for_level(fit(line, self._width), self._level) for line in lines]
        self.query_one(f"#{name}", LinesWidget).show_lines(shown)

    def _title(self) -> Line:
        count = f"{len(self._shown)} of {len(self._all or ())}" if self._words else f"{len(self._all or ())}"
        parts = [
            line_of(Span("sessions", "title"), f" {count}"),
            line_of(Span(f"filter: {' '.join(self._words)}", "accent")) if self._words else (),
            line_of(Span(f"{len(self._marked)} marked", "warning")) if self._marked else (),
        ]
        where = [line_of(Span(one_line(str(self._store.folder)), "dim"))]
        return spread(joined(parts, self._width), where, self._width)

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
    def _width(self) -> int:
        return max(0, self.size.width - 2)

    @property
    def _height(self) -> int:
        return self.query_one("#sessions", LinesWidget).size.height

    @property
    def _chosen(self) -> SessionEntry | None:
        return self._shown[self._at] if self._at < len(self._shown) else None

    def _say(self, text: str) -> None:
        """Say something in the place of the keys, until the next key."""
        self._said = line_of(Span(one_line(text), "warning"))
        self._draw()

    # Keys

    def on_key(self, _event: events.Key) -> None:
        """What was said has been read."""
        if self._said:
            self._said = ()
            self._draw()

    def on_mouse_scroll_down(self, _event: events.MouseScrollDown) -> None:
        """Go down."""
        self.action_move(3)

    def on_mouse_scroll_up(self, _event: events.MouseScrollUp) -> None:
        """Go up."""
        self.action_move(-3)

    def on_click(self, event: events.Click) -> None:
        """Choose a row; a click on the chosen one replays it."""
        region = self.query_one("#sessions", LinesWidget).region
        index = self._top + event.screen_y - region.y
        if not region.contains(event.screen_x, event.screen_y) or index >= len(self._shown):
            return
        if event.chain > 1:
            self.action_replay()
        else:
            self.action_move(index - self._at)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss()

    def action_move(self, rows: int) -> None:
        """Choose another row."""
        self._at = max(0, min(self._at + rows, len(self._shown) - 1))
        self._draw()

    def action_page(self, pages: int) -> None:
        """Go on or back by what is in view."""
        self.action_move(pages * max(1, self._height - 1))

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

    def action_filter(self) -> None:
        """Ask for words that a session must have."""
        self._words_before = self._words
        self._ask("filter", "Filter:", " ".join(self._words))

    def action_tags(self) -> None:
        """Ask for the tags of the chosen session."""
        chosen = self._chosen
        if chosen is not None and chosen.listed.head is not None:
            self._ask("tags", f"Tags of {chosen.listed.number}:", " ".join(chosen.tags))

    def action_delete(self) -> None:
        """Ask whether to delete the marked sessions, or the chosen one."""
        targets = self._to_delete()
        if targets:
            what = f"{len(targets)} marked sessions" if len(targets) > 1 else f"{_named(targets[0])}"
            self._ask("delete", f"Delete {what} for good? y/N:")

    def _to_delete(self) -> list[SessionEntry]:
        chosen = self._chosen
        marked = [entry for entry in self._all or () if entry.listed.path in self._marked]
        return marked or ([chosen] if chosen is not None else [])

    def _ask(self, asked: Asked, label: str, text: str = "") -> None:
        self._asked = asked
        self.add_class("asking")
        self.query_one(InputLine).ask(label, text)

    def _asked_no_more(self) -> Asked:
        asked, self._asked = self._asked, ""
        self.remove_class("asking")
        self.set_focus(None)
        return asked

    @on(InputLine.Changed)
    def _on_changed(self, message: InputLine.Changed) -> None:
        if self._asked == "filter" and type(message) is InputLine.Changed:
            self._words = message.text.split()
            self._arrange()

    @on(InputLine.Cancelled)
    def _on_cancelled(self) -> None:
        if self._asked_no_more() == "filter":
            self._words = self._words_before
        self._arrange()

    @on(InputLine.Submitted)
    def _on_submitted(self, message: InputLine.Submitted) -> None:
        match self._asked_no_more():
            case "filter":
                self._words = message.text.split()
            case "tags":
                self._write_tags(message.text.split())
            case "delete" if message.text.strip().casefold() in {"y", "yes"}:
                self._remove()
        self._arrange()

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

"""The models of this machine and how each would do: a table to sort, and all there is to say of the chosen row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from edgetop.core.text import literal
from edgetop.fit.wording import page
from edgetop.live.survey import Survey, Surveyed
from edgetop.tui.bindings import bindings
from edgetop.tui.check_table import COLUMNS, Column, heading, line_of_row, sorted_rows, widths
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keyed_screen import KeyedScreen
from edgetop.tui.keymap import places
from edgetop.tui.page_keys import CHECK, SORT_COLUMNS
from edgetop.tui.widgets.key_bar import KeyBar
from edgetop.tui.widgets.lines import LinesWidget, Span, fit, for_level, joined, line_of
from edgetop.tui.wrap import wrap

DETAIL_ROWS_LEAST = 18
"""Below this many rows on the screen there is no room for details beside the table."""
LABEL_COLUMNS = 9
BATCH = 8
"""Rows that are handed to the screen together: each time the whole table is sorted and written."""


class CheckChoice(NamedTuple):
    """The model and the context that a person chose."""

    path: Path
    n_ctx: int | None


class CheckScreen(KeyedScreen[CheckChoice | None]):
    """Enter chooses, Esc goes back; a column's letter sorts by it, and turns the order round when pressed again."""

    TABLE = CHECK
    BINDINGS: ClassVar[list[Binding]] = bindings(CHECK)  # type: ignore[assignment]
    DEFAULT_CSS = """
    CheckScreen { layout: vertical;
        #check-title, #check-heading { height: 1; width: 100%; padding: 0 1; }
        OptionList { height: 1fr; padding: 0 1; background: $background; scrollbar-size: 1 1;
            &, &:focus { border: none; }
            & > .option-list--option { padding: 0; }
        }
        &.ascii OptionList { scrollbar-size: 0 0; }
        #check-details { height: 50%; padding: 0 1; border-top: solid $edge; scrollbar-size: 1 1; }
        &.ascii #check-details { border-top: ascii $edge; scrollbar-size: 0 0; }
        &.small #check-details { display: none; }
    }
    """

    def __init__(
        self,
        level: GlyphLevel,
        survey: Survey,
        *,
        currency: str = "EUR",
        enter_does: str = "loads",
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """`enter_does` says what happens to the row that is chosen; `after` is called when all rows are there."""
        super().__init__(classes=level)
        self._level: GlyphLevel = level
        self._survey = survey
        self._currency = currency
        self._enter_does = enter_does
        self._after = after
        self._rows: list[Surveyed] = []
        self._complete = False
        self._column: Column = COLUMNS[0]
        self._reverse = False
        self._told: Surveyed | None = None

    def compose(self) -> ComposeResult:
        """Title, headings, table, details, keys."""
        yield LinesWidget(id="check-title")
        yield LinesWidget(id="check-heading")
        yield OptionList(id="check-rows")
        with VerticalScroll(id="check-details", can_focus=False):
            yield Static()
        yield KeyBar(id="check-keys")

    def on_mount(self) -> None:
        """Look at the models without holding up the screen."""
        self.query_one(OptionList).focus()
        self._look()

    def on_resize(self, event: events.Resize) -> None:
        """Write everything for the size there is."""
        self.set_class(event.size.height < DETAIL_ROWS_LEAST, "small")
        self._write()
        self._told = None
        self._tell()

    @work(thread=True, exclusive=True, group="look")
    def _look(self) -> None:
        worker = get_current_worker()
        batch: list[Surveyed] = []
        for surveyed in self._survey:
            if worker.is_cancelled:
                return
            batch.append(surveyed)
            if len(batch) >= BATCH:
                self.app.call_from_thread(self._take, batch, complete=False)
                batch = []
        if not worker.is_cancelled:
            self.app.call_from_thread(self._take, batch, complete=True)

    def _take(self, rows: list[Surveyed], *, complete: bool) -> None:
        self._rows += rows
        self._complete = complete
        self._write()
        self._tell()
        if complete:
            self._after()

    def _write(self) -> None:
        if not self.is_whole:
            return
        chosen = self._chosen()
        self._rows = sorted_rows(self._rows, self._column, reverse=self._reverse)
        width = self.size.width - 3
        columns = widths(width)
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(
            Option(Content(line_of_row(row, columns, self._level)), disabled=False) for row in self._rows
        )
        if self._complete and not self._rows:
            options.add_option(Option(Content("no models; `edgetop models` says where it looks"), disabled=True))
        if self._rows:
            options.highlighted = next((at for at, row in enumerate(self._rows) if row is chosen), 0)
        self._write_frame(columns)

    def _write_frame(self, columns: dict[str, int]) -> None:
        width = self.size.width - 2
        state = f"{len(self._rows)} rows" if self._complete else f"{len(self._rows)} rows, looking ..."
        order = f"{'reversed' if self._reverse else 'sorted'} by {self._column.short}"
        what = "will it fit, how fast, at what energy"
        title = joined(
            [line_of(Span("check", "title")), line_of(state), line_of(order), line_of(Span(what, "dim"))], width
        )
        useless = {name for name, column in SORT_COLUMNS.items() if column not in columns}
        useless |= {"page_details"} if self.has_class("small") else set()
        shown_keys = [
            place._replace(label=self._enter_does) if place.actions[0].name == "choose" else place
            for place in places(self.keys.keys)
            if place.actions[0].name not in useless
        ]
        self.query_one(KeyBar).show_keys(shown_keys, self._level)
        head = line_of(Span(heading(columns, self._column), "dim"))
        for name, shown in (("title", title), ("heading", head)):
            self.query_one(f"#check-{name}", LinesWidget).show_lines([for_level(fit(shown, width), self._level)])

    @on(OptionList.OptionHighlighted)
    def _highlighted(self) -> None:
        self._tell()

    def _tell(self) -> None:
        """Write the details of the row that is highlighted."""
        row = self._chosen()
        if row is None or row is self._told or self.has_class("small"):
            return
        self._told = row
        if row.assessment is None:
            self._show_details([("model", row.name), ("problem", row.problem)])
        else:
            self._detail(row)

    @work(thread=True, exclusive=True, group="details")
    def _detail(self, row: Surveyed) -> None:
        """Suggestions ask the predictors some dozen times, so they are made beside the screen."""
        if row.assessment is None:
            return
        suggestions = self._survey.suggestions(row)
        entries = page(row.assessment, self._survey.place, suggestions, currency=self._currency)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show_details, [(entry.label, entry.text) for entry in entries])

    def _show_details(self, entries: list[tuple[str, str]]) -> None:
        width = max(10, self.size.width - 3 - LABEL_COLUMNS)
        lines: list[str] = []
        for label, text in entries:
            for index, part in enumerate(wrap(" ".join(literal(text).split()), width)):
                lines.append(f"{label if index == 0 else '':<{LABEL_COLUMNS}}{part.rstrip()}")
        shown = ["".join(span.text for span in for_level(line_of(line), self._level)) if line else "" for line in lines]
        self.query_one("#check-details Static", Static).update(Content("\n".join(shown)))
        self.query_one("#check-details", VerticalScroll).scroll_home(animate=False)

    def _chosen(self) -> Surveyed | None:
        at = self.query_one(OptionList).highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    @on(OptionList.OptionSelected)
    def _selected(self) -> None:
        row = self._chosen()
        if row is not None and row.assessment is not None:
            self.dismiss(CheckChoice(row.path, row.assessment.settings.n_ctx))

    def action_close(self) -> None:
        """Go back without a choice."""
        self.dismiss(None)

    def action_choose(self) -> None:
        """Take the chosen row."""
        self.query_one(OptionList).action_select()

    def action_move(self, rows: int) -> None:
        """Go up or down the table."""
        options = self.query_one(OptionList)
        if rows > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def action_page_details(self) -> None:
        """Show the next page of the details, after the last one the first."""
        details = self.query_one("#check-details", VerticalScroll)
        if details.scroll_y >= details.max_scroll_y:
            details.scroll_home(animate=False)
        else:
            details.scroll_relative(y=max(1, details.size.height - 1), animate=False)

    def action_sort(self, name: str) -> None:
        """Sort by a column; by the same one again, the other way round."""
        column = next(each for each in COLUMNS if each.name == name)
        self._reverse = not self._reverse if column is self._column else False
        self._column = column
        self._write()

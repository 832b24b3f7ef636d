"""The table of models for F4 and F8 (and `edgetop check`): fit, speed, energy, details; a server's offers too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from edgetop.core.energy.duty import Price
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_bytes_short, format_significant
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable
from edgetop.core.text import literal, one_line
from edgetop.fit.assessment import FITS, PACES, Assessment, RunTarget
from edgetop.fit.model_assessments import ModelAssessments, Surveyed
from edgetop.fit.wording import page
from edgetop.inference.catalog import FoundModel, find_models
from edgetop.inference.server.address import ServerChoice
from edgetop.live.chat_session import LiveSession
from edgetop.live.this_machine import experience_of_session, own_place
from edgetop.telemetry.host import Host
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keys import CHECK, PICKER, SORT_COLUMNS, key_slots
from edgetop.tui.screens.base import BaseScreen, bindings
from edgetop.tui.styled_text import Span, fit, fit_text, for_level, joined, line_of, shortened, wrap
from edgetop.tui.widgets import KeyBar, LinesWidget

NAME_COLUMNS_LEAST = 14

NAME_COLUMNS_MOST = 40

Order = tuple[float | str, ...]
"""Ascending order puts first what is wanted first."""


class Column(NamedTuple):
    """One column."""

    name: str
    short: str
    """Its name in a sentence."""
    width: int
    """0 for the one that takes the rest."""
    importance: int
    """Those of the least importance go first where there is too little room."""
    cell: Callable[[Assessment], str] | None
    """`None` for the name that the model goes by on this machine."""
    order: Callable[[Assessment], Order]
    """Of equal rows the name decides."""
    right: bool = True


def _size(assessment: Assessment) -> str:
    return format_bytes_short(assessment.facts.size_bytes)


def _bits(assessment: Assessment) -> str:
    bits = assessment.facts.bits_per_weight
    return NOT_AVAILABLE if bits is None else f"{bits:.1f}"


def _memory(assessment: Assessment) -> str:
    return (
        NOT_AVAILABLE if isinstance(assessment.need, Unavailable) else format_bytes_short(assessment.need.needed_bytes)
    )


def _by_memory(assessment: Assessment) -> Order:
    return (float("inf") if isinstance(assessment.need, Unavailable) else float(assessment.need.needed_bytes),)


def _context(assessment: Assessment) -> str:
    return str(assessment.settings.n_ctx)


def _speed(assessment: Assessment) -> str:
    return _figure(assessment.decode)


def _by_speed(assessment: Assessment) -> Order:
    return (0.0 if assessment.decode is None else -assessment.decode.value,)


def _energy(assessment: Assessment) -> str:
    return _figure(None if isinstance(assessment.energy, Unavailable) else assessment.energy.decode_j_per_token)


def _by_energy(assessment: Assessment) -> Order:
    missing = isinstance(assessment.energy, Unavailable)
    return (
        float("inf") if isinstance(assessment.energy, Unavailable) else assessment.energy.decode_j_per_token.value,
        missing,
    )


def _fit(assessment: Assessment) -> str:
    return assessment.verdict.fit or NOT_AVAILABLE


def _by_fit(assessment: Assessment) -> Order:
    return (*map(float, assessment.verdict.rank), *_by_speed(assessment))


def _pace(assessment: Assessment) -> str:
    return (assessment.verdict.pace or NOT_AVAILABLE).removesuffix(" for reading")


def _by_pace(assessment: Assessment) -> Order:
    return (float(assessment.verdict.rank[1]), *_by_speed(assessment))


def _basis(assessment: Assessment) -> str:
    return NOT_AVAILABLE if isinstance(assessment.speed, Unavailable) else assessment.speed.basis


COLUMNS: tuple[Column, ...] = (
    Column("fits", "fit", max(map(len, FITS)), 9, _fit, _by_fit, right=False),
    Column("model", "name", 0, 10, None, lambda _each: (), right=False),
    Column("quant", "quant", 7, 3, lambda each: each.facts.file_type, lambda _each: (), right=False),
    Column("size", "size", 5, 2, _size, lambda each: (float(each.facts.size_bytes),)),
    Column("bits", "bits", 4, 1, _bits, lambda each: (each.facts.bits_per_weight or 0.0,)),
    Column("ctx", "context", 6, 5, _context, lambda each: (float(each.settings.n_ctx or 0),)),
    Column("memory", "memory", 6, 7, _memory, _by_memory),
    Column("tok/s", "decode", 5, 8, _speed, _by_speed),
    Column("J/tok", "energy", 5, 4, _energy, _by_energy),
    Column("reading", "reading", len(PACES[0]), 6, _pace, _by_pace, right=False),
    Column("basis", "basis", 12, 0, _basis, lambda _each: (), right=False),
)
"""From left to right, the first one being what rows are sorted by at first."""


def widths(width: int) -> dict[str, int]:
    """The columns that there is room for in `width` cells, and how wide each is."""
    shown = list(COLUMNS)
    while True:
        fixed = sum(column.width for column in shown) + len(shown) - 1
        left = width - fixed
        if left >= NAME_COLUMNS_LEAST or len(shown) <= 2:
            return {column.name: column.width or max(1, min(left, NAME_COLUMNS_MOST)) for column in shown}
        shown.remove(min(shown, key=lambda column: column.importance))


def heading(columns: dict[str, int], sorted_by: Column) -> str:
    """The names of the columns over them; that of the sorted one in capitals."""
    cells = []
    for column in COLUMNS:
        if column.name in columns:
            name = column.name.upper() if column is sorted_by else column.name
            cells.append(_placed(name, columns[column.name], right=column.right))
    return " ".join(cells)


def line_of_row(row: Surveyed, columns: dict[str, int], level: GlyphLevel) -> str:
    """One row as text."""
    ascii_only = level == "ascii"
    if row.assessment is None:
        text = one_line(f"cannot be read  {row.name}: {row.problem}", ascii=ascii_only)
        return shortened(text, sum(columns.values()) + len(columns) - 1, level)
    cells = []
    for column in COLUMNS:
        if column.name in columns:
            width = columns[column.name]
            text = one_line(row.name if column.cell is None else column.cell(row.assessment), ascii=ascii_only)
            cells.append(_placed(shortened(text, width, level), width, right=column.right))
    return " ".join(cells).rstrip()


def sorted_rows(rows: Sequence[Surveyed], by: Column, *, reverse: bool) -> list[Surveyed]:
    """Rows in the order of a column, those of equal value by name; what cannot be read comes last."""
    read = [(row, row.assessment) for row in rows if row.assessment is not None]
    named = sorted(read, key=lambda pair: (pair[0].name.lower(), pair[1].settings.n_ctx or 0))
    if by.cell is None:
        named = named[::-1] if reverse else named
    ordered = sorted(named, key=lambda pair: by.order(pair[1]), reverse=reverse and by.cell is not None)
    return [row for row, _ in ordered] + [row for row in rows if row.assessment is None]


def _placed(text: str, width: int, *, right: bool) -> str:
    padded = fit_text(text, width)
    return " " * (len(padded) - len(padded.rstrip())) + padded.rstrip() if right else padded


def _figure(figure: Interval | None) -> str:
    return NOT_AVAILABLE if figure is None else format_significant(figure.value, 3)


DETAIL_ROWS_LEAST = 18
"""Below this many rows on the screen there is no room for details beside the table."""

LABEL_COLUMNS = 9

BATCH = 8
"""Rows that are handed to the screen together: each time the whole table is sorted and written."""


class CheckChoice(NamedTuple):
    """The model and the context that a person chose."""

    path: Path
    n_ctx: int | None


class ModelsScreen(BaseScreen[CheckChoice | None]):
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
        survey: ModelAssessments,
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
            for place in key_slots(self.keys.keys)
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


def check_page(live: LiveSession, level: GlyphLevel, price: Price | None) -> ModelsScreen:
    """Every model that is found, with a short and a long context.

    What this session has measured counts too: it is asked here, since a session is used by one thread alone.
    """
    # Measuring the memory takes all cores for half a second, which an answer under way would not forgive.
    idle = live.conversation.phase in {"ready", "no_model"}
    lately = experience_of_session(live.session, live.now_us())

    def models() -> Iterator[tuple[str, Path]]:
        yield from (
            (each.name, each.path) for each in find_models(live.options.model_folders) if not each.missing_parts
        )

    def place() -> RunTarget:
        return own_place(
            Host(sysroot=live.options.sysroot),
            live.store.folder,
            probe="once" if idle else "never",
            tell=lambda *_: None,
            lately=lately,
        )

    survey = ModelAssessments(models, place, wish=live.options.engine)
    return ModelsScreen(level, survey, currency="EUR" if price is None else price.currency)


BOX_COLUMNS = 80

SIZE_COLUMNS, ORIGIN_COLUMNS = 10, 18

PICKER_NAME_COLUMNS_MIN = 30
"""Where the name would have less, sizes and origins are left out."""


class ModelChoice(NamedTuple):
    """The model a person chose."""

    path: Path


class ModelPicker(BaseScreen[ModelChoice | None], ModalScreen[ModelChoice | None]):
    """A list of what was found, with where and how large; Enter chooses, Esc leaves things as they are."""

    TABLE = PICKER
    BINDINGS: ClassVar[list[Binding]] = bindings(PICKER)  # type: ignore[assignment]
    DEFAULT_CSS = """
    ModelPicker { align: center middle; }
    ModelPicker > Vertical { width: 80; max-width: 100%; height: auto; max-height: 80%; border: round $accent;
        background: $surface; padding: 0 1; }
    ModelPicker.block > Vertical { border: solid $accent; }
    ModelPicker.ascii > Vertical { border: ascii $accent; }
    ModelPicker OptionList { height: auto; max-height: 100%; padding: 0; background: $surface; scrollbar-size: 1 1;
        &, &:focus { border: none; }
        & > .option-list--option { padding: 0; }
    }
    ModelPicker.ascii OptionList { scrollbar-size: 0 0; }
    """

    def __init__(self, level: GlyphLevel, folders: tuple[Path, ...] = (), server: ServerChoice | None = None) -> None:
        """`folders` are looked into besides the usual places; of a `server` the models it offers are listed instead."""
        super().__init__(classes=level)
        self._folders = folders
        self._server = server
        self._none = "none; `edgetop models` says where it looks"
        self._level: GlyphLevel = level
        self._found: list[FoundModel] | None = None

    def compose(self) -> ComposeResult:
        """The list, empty until the folders have been looked through."""
        with Vertical() as box:
            box.border_title = f"models: {self.keys.key_of('choose')} loads, {self.keys.key_of('close')} closes"
            yield OptionList(Option("looking ...", disabled=True))

    def on_mount(self) -> None:
        """Look for models without holding up the screen."""
        self._look()

    def on_resize(self, _event: events.Resize) -> None:
        """Write the list for the width there is."""
        self._write()

    @work(thread=True, exclusive=True)
    def _look(self) -> None:
        found = find_models(self._folders) if self._server is None else self._offered(self._server)
        self.app.call_from_thread(self._show, found)

    def _offered(self, server: ServerChoice) -> list[FoundModel]:
        from edgetop.inference.server.detection import survey  # noqa: PLC0415 - brings HTTP, which few need

        told = survey(server)
        self._none = told.problem or "the server offers no model"
        return [
            FoundModel(
                # llama-server names a model by its file; of `owner/name` both parts belong to the name.
                name=Path(offer.name).name if offer.name.startswith("/") else offer.name,
                path=Path(offer.name),
                origin="server",
                size_bytes=offer.size_bytes or 0,
            )
            for offer in told.offers
        ]

    def _show(self, found: list[FoundModel]) -> None:
        self._found = found
        self._write()

    def _write(self) -> None:
        if self._found is None:
            return
        options = self.query_one(OptionList)
        highlighted = options.highlighted or 0
        options.clear_options()
        width = min(BOX_COLUMNS, self.size.width) - 5
        for model in self._found:
            text = entry(model, width, self._level)
            options.add_option(Option(Content(text), disabled=bool(model.missing_parts)))
        if not self._found:
            options.add_option(Option(Content(shortened(self._none, width, self._level)), disabled=True))
        options.highlighted = highlighted
        options.focus()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        if self._found:
            self.dismiss(ModelChoice(self._found[event.option_index].path))

    def action_close(self) -> None:
        """Go back without a choice."""
        self.dismiss(None)

    def action_choose(self) -> None:
        """Take the highlighted model."""
        self.query_one(OptionList).action_select()

    def action_cursor_down(self) -> None:
        """Go down the list."""
        self.query_one(OptionList).action_cursor_down()

    def action_cursor_up(self) -> None:
        """Go up the list."""
        self.query_one(OptionList).action_cursor_up()


def entry(model: FoundModel, width: int, level: GlyphLevel) -> str:
    """A model in a line of at most `width` cells: name, size and where it was found, or that a part is missing."""
    name = one_line(model.name, ascii=level == "ascii")
    name_columns = width - SIZE_COLUMNS - ORIGIN_COLUMNS - 3
    if name_columns < PICKER_NAME_COLUMNS_MIN:
        return shortened(f"incomplete: {name}" if model.missing_parts else name, width, level)
    origin = "incomplete" if model.missing_parts else one_line(model.origin, ascii=level == "ascii")
    size = f"{format_bytes(model.size_bytes):>{SIZE_COLUMNS}}"
    shown = fit_text(shortened(name, name_columns, level), name_columns)
    return f"{shown} {size}  {shortened(origin, ORIGIN_COLUMNS, level)}"

"""The table of models, which F4, F8 and `edgetop check --screen` open: what is here, and what could be downloaded.

Typing filters; a path or `hf:owner/repo:quant` that is typed is taken by Enter where no row has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from textual import events, work
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from edgetop.core.energy.duty import Price
from edgetop.core.errors import ModelError
from edgetop.core.format import NOT_AVAILABLE, Column, format_bytes_short, format_count, format_significant
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable
from edgetop.core.text import literal, one_line
from edgetop.fit.assessment import PACES, Assessment, Fit, RunTarget
from edgetop.fit.suggestions import AssessedModel, Candidate, ModelAssessments
from edgetop.fit.wording import Entry, page
from edgetop.inference.catalog import find_models, problem_of
from edgetop.inference.server.address import ServerChoice
from edgetop.inference.server.backend import probe
from edgetop.live.chat_session import LiveSession
from edgetop.live.in_turn import Contestant
from edgetop.live.past_runs import past_runs_of_session
from edgetop.live.this_machine import own_run_target
from edgetop.telemetry.host import Host
from edgetop.tui.keys import CHECK, KeySlot
from edgetop.tui.screens.list import ListScreen
from edgetop.tui.styled_text import Line, Role, Span, for_level, joined, line_of, wrap
from edgetop.tui.themes import GlyphLevel


class ModelChoice(NamedTuple):
    """The model that was chosen."""

    path: Path
    n_ctx: int | None = None
    """With this context, where the row was for one."""


@dataclass(frozen=True, eq=False)
class ModelRow:
    """A model of the table, with one context where it was assessed."""

    name: str
    path: Path
    size_bytes: int = 0
    origin: str = ""
    loaded: bool = False
    """It is the model that runs now."""
    problem: str = ""
    """Why it cannot be chosen."""
    surveyed: AssessedModel | None = None
    """What was found out about it, where it was assessed."""

    @property
    def assessment(self) -> Assessment | None:
        """How it would run, where that could be assessed."""
        return None if self.surveyed is None else self.surveyed.assessment

    @property
    def choice(self) -> ModelChoice | None:
        """What choosing it means."""
        if self.problem:
            return None
        return ModelChoice(self.path, None if self.assessment is None else self.assessment.settings.n_ctx)


Order = tuple[float | str, ...]
"""Ascending order puts first what is wanted first."""


def _memory(assessment: Assessment) -> str:
    need = assessment.need
    return NOT_AVAILABLE if isinstance(need, Unavailable) else format_bytes_short(need.needed_bytes)


def _by_memory(assessment: Assessment) -> Order:
    return (float("inf") if isinstance(assessment.need, Unavailable) else float(assessment.need.needed_bytes),)


def _by_speed(assessment: Assessment) -> Order:
    return (0.0 if assessment.decode is None else -assessment.decode.value,)


def _energy(assessment: Assessment) -> Interval | None:
    return None if isinstance(assessment.energy, Unavailable) else assessment.energy.decode_j_per_token


def _by_energy(assessment: Assessment) -> Order:
    energy = _energy(assessment)
    return (float("inf") if energy is None else energy.value, energy is None)


def _by_fit(assessment: Assessment) -> Order:
    return (*map(float, assessment.verdict.rank), *_by_speed(assessment))


def _by_pace(assessment: Assessment) -> Order:
    return (float(assessment.verdict.rank[1]), *_by_speed(assessment))


def _fit(fit: Fit | None) -> str:
    """Below the heading FITS; what does not is told in a word that leaves room for the rest."""
    return NOT_AVAILABLE if fit is None else fit.replace("does not fit", "no")


def _figure(figure: Interval | None) -> str:
    return NOT_AVAILABLE if figure is None else format_significant(figure.value, 3)


def _assessed(
    heading: str,
    importance: float,
    usual: int,
    text: Callable[[Assessment], str],
    order: Callable[[Assessment], Order] | None = None,
    *,
    right: bool = True,
) -> Column[ModelRow]:
    """A column of what was assessed."""

    def cell(row: ModelRow) -> str:
        return "" if row.assessment is None else text(row.assessment)

    def rank(row: ModelRow) -> Order | None:
        return None if row.assessment is None or order is None else order(row.assessment)

    return Column(
        heading=heading, text=cell, rank=rank if order is not None else None, importance=importance, usual=usual,
        most=usual, right=right,
    )  # fmt: skip


NAME = Column[ModelRow](
    "name", heading="MODEL", rank=lambda row: row.name.lower(), importance=10, least=16, most=40, cut_in_middle=True
)

CHECK_COLUMNS: Sequence[Column[ModelRow]] = (
    _assessed("FITS", 9, 7, lambda each: _fit(each.verdict.fit), _by_fit, right=False),
    NAME,
    _assessed("QUANT", 7.5, 7, lambda each: each.facts.file_type, right=False),
    _assessed("PARAMS", 1, 7, lambda each: format_count(each.facts.parameters),
              lambda each: (-float(each.facts.parameters),)),
    Column(heading="SIZE", text=lambda row: format_bytes_short(row.size_bytes) if row.size_bytes else "",
           rank=lambda row: (float(row.size_bytes),), importance=5, usual=5, most=6, right=True),
    _assessed("CTX", 2, 6, lambda each: str(each.settings.n_ctx), lambda each: (float(each.settings.n_ctx or 0),)),
    _assessed("MEMORY", 7, 7, _memory, _by_memory),
    _assessed("TOK/S", 8, 6, lambda each: _figure(each.decode), _by_speed),
    _assessed("J/TOK", 4, 6, lambda each: _figure(_energy(each)), _by_energy),
    _assessed("READING", 4.5, len(PACES[0]),
              lambda each: (each.verdict.pace or NOT_AVAILABLE).removesuffix(" for reading"), _by_pace, right=False),
    Column("origin", heading="WHERE", importance=6, least=8, most=17),
)  # fmt: skip
"""From left to right; rows are sorted by the first one at first."""

DETAIL_ROWS_LEAST = 18
"""Below this many rows on the screen there is no room for details below the table."""

LABEL_COLUMNS = 9

PURPOSE = line_of(Span("will it fit, how fast, at what energy", "dim"))


class ModelsScreen(ListScreen[ModelRow, ModelChoice | None]):
    """Enter chooses, Esc goes back; what is typed filters, arrows to the left and right sort."""

    TABLE = CHECK
    GAP = 1
    BATCH = 8
    DEFAULT_CSS = """
    ModelsScreen { #details { height: 50%; padding: 0 1; border-top: solid $edge; scrollbar-size: 1 1; }
        &.ascii #details { border-top: ascii $edge; scrollbar-size: 0 0; }
        &.small #details { display: none; }
    }
    """

    def __init__(
        self,
        level: GlyphLevel,
        survey: ModelAssessments,
        *,
        currency: str = "EUR",
        enter_does: str = "Load",
        server: ServerChoice | None = None,
        loaded: Path | None = None,
        ask_in_turn: Callable[[Sequence[Contestant], str], None] | None = None,
    ) -> None:
        """`enter_does` says what happens to the row that is chosen; of a `server` the models that it offers are listed.

        `loaded` is the model that runs now, at which the cursor begins if it is to. `ask_in_turn` gets models and a
        prompt, where there is a chat.
        """
        super().__init__(level, CHECK_COLUMNS)
        self._survey = survey
        self._currency = currency
        self._enter_does = enter_does
        self._server = server
        self._loaded = loaded
        self._ask_in_turn = ask_in_turn
        self._seeks_loaded = True
        self._nothing = "no models; `edgetop models` says where it looks"
        self._detailed: ModelRow | None = None

    def _compose_below(self) -> Iterable[Widget]:
        yield VerticalScroll(Static(), id="details", can_focus=False)

    def on_resize(self, event: events.Resize) -> None:
        """Draw everything for the size there is."""
        self.set_class(event.size.height < DETAIL_ROWS_LEAST, "small")
        self._detailed = None
        super().on_resize(event)

    def _read_rows(self) -> Iterator[ModelRow]:
        if self._server is not None:
            yield from self._offers(self._server)
            return
        for each in self._survey:
            size_bytes = 0 if each.assessment is None else each.assessment.facts.size_bytes
            loaded = self._loaded is not None and each.path == self._loaded
            yield ModelRow(each.name, each.path, size_bytes, each.origin, loaded, each.problem, each)

    def _offers(self, server: ServerChoice) -> Iterator[ModelRow]:
        answer = probe(server)
        self._nothing = answer.problem or "the server offers no model"
        for offer in answer.offers:
            # llama-server names a model by its file; of `owner/name` both parts belong to the name.
            name = Path(offer.name).name if offer.name.startswith("/") else offer.name
            yield ModelRow(name, Path(offer.name), offer.size_bytes or 0, "server")

    def _add_rows(self, rows: list[ModelRow], *, fresh: bool, complete: bool) -> None:
        at_top = self._at == self._nearest(0, 1)
        super()._add_rows(rows, fresh=fresh, complete=complete)
        if at_top:  # nobody has moved it: the best one is first, and more of them come
            self._choose(self._nearest(0, 1))
        at = next((at for at, row in enumerate(self._rows) if row.loaded), None) if self._seeks_loaded else None
        if at is not None:
            self._seeks_loaded = False
            self._choose(at)

    def _matches(self, row: ModelRow, words: Sequence[str]) -> bool:
        text = f"{row.name} {row.origin} {'' if row.assessment is None else row.assessment.facts.file_type}".lower()
        return all(word.lower() in text for word in words)

    def _mark_of(self, row: ModelRow) -> str:
        return "*" if self._is_marked(row) else "+" if row.loaded else " "

    def _row_role(self, row: ModelRow) -> Role | None:
        return "warning" if self._is_marked(row) else None

    def _why_unmarkable(self, row: ModelRow) -> str:
        return row.problem

    def action_ask(self) -> None:
        """Ask for a prompt for the marked models."""
        self._ask_marked("ask", "" if self._ask_in_turn else "There is no chat here to ask in: `edgetop` opens one.")

    def _answer(self, question: str, text: str) -> None:
        if question == "ask" and text.strip() and self._ask_in_turn is not None:
            chosen = [(row.name, row.choice) for row in self._marked_rows]
            self.dismiss(None)
            self._ask_in_turn([Contestant(name, *each) for name, each in chosen if each is not None], text)

    def _open_row(self) -> None:
        self.action_choose()

    def action_choose(self) -> None:
        """Choose the row, if that can be loaded; without a row what was typed, if it is a path or on the hub."""
        typed = self._typed.strip()
        if not self._rows and (typed.startswith("hf:") or "/" in typed or typed.endswith(".gguf")):
            self.dismiss(ModelChoice(Path(typed).expanduser()))
        elif self._chosen is not None and self._chosen.choice is not None:
            self.dismiss(self._chosen.choice)

    def action_sort(self, step: int) -> None:
        """Sort by another column; the row that was chosen stays chosen."""
        chosen = self._chosen
        super().action_sort(step)
        self._follow(chosen)

    def action_reverse(self) -> None:
        """Reverse the order, the row that was chosen staying so."""
        chosen = self._chosen
        super().action_reverse()
        self._follow(chosen)

    def _follow(self, chosen: ModelRow | None) -> None:
        if chosen in self._rows:
            self._choose(self._rows.index(chosen))

    # Drawing

    def _matching(self) -> list[ModelRow]:
        """Sorted; rows of equal value by name and context."""
        self._all.sort(key=lambda row: (row.name.lower(), row.assessment.settings.n_ctx or 0 if row.assessment else 0))
        return super()._matching()

    def _in_one_piece(self, row: ModelRow) -> str | None:
        if row.assessment is not None:
            return None
        return one_line(f"cannot be read  {row.name}: {row.problem}", ascii=self._level == "ascii")

    def _title_line(self) -> Line:
        state = f"{len(self._rows)} rows" if self._complete else f"{len(self._rows)} rows, looking ..."
        by = "" if self._by is None else self._by.heading.lower()
        order = f"{'reversed' if self._reverse else 'sorted'} by {by}"
        title, marked = line_of(Span("models", "title")), self._marked_part()
        parts = [title, *self._filter_part(), marked, line_of(state), line_of(order), self._filter_hint, PURPOSE]
        return joined(parts, self._width)

    def _empty_text(self) -> str:
        if self._words:
            return "no model has these words; Enter takes a path or hf:owner/repo:quant as it is typed"
        return self._nothing if self._complete else "looking ..."

    def _key_slots(self) -> Sequence[KeySlot]:
        return [
            slot._replace(label=self._enter_does) if slot.actions[0].name == "choose" else slot
            for slot in super()._key_slots()
            if slot.actions[0].action != "page_details" or not self.has_class("small")
            if slot.actions[0].name not in {"mark", "ask"} or self._ask_in_turn is not None
        ]

    # Details

    def _draw_around(self) -> None:
        super()._draw_around()
        row = self._chosen
        if row is None or row is self._detailed or self.has_class("small"):
            return
        self._detailed = row
        if row.assessment is None:
            what = [("problem", row.problem)] if row.problem else [("where", row.origin)]
            self._show_details(row, [("model", row.name), *what])
        else:
            self._read_details(row)

    @work(thread=True, exclusive=True, group="details")
    def _read_details(self, row: ModelRow) -> None:
        """In a thread, since suggestions ask the predictors some dozen times."""
        if row.surveyed is None or row.assessment is None:
            return
        try:
            assessment, suggestions = self._survey.whole(row.surveyed)
            entries = page(assessment, self._survey.place, suggestions, currency=self._currency)
        except ModelError as error:
            entries = [Entry("problem", error.what)]
        self.call_from_worker(self._show_details, row, [(entry.label, entry.text) for entry in entries])

    def _show_details(self, row: ModelRow, entries: list[tuple[str, str]]) -> None:
        if row is not self._detailed:
            return  # another row has been chosen meanwhile
        width = max(10, self._width - 1 - LABEL_COLUMNS)
        lines: list[str] = []
        for label, text in entries:
            for index, part in enumerate(wrap(" ".join(literal(text).split()), width)):
                lines.append(f"{label if index == 0 else '':<{LABEL_COLUMNS}}{part.rstrip()}")
        shown = ["".join(span.text for span in for_level(line_of(line), self._level)) if line else "" for line in lines]
        self.query_one("#details Static", Static).update(Content("\n".join(shown)))
        self.query_one("#details", VerticalScroll).scroll_home(animate=False)

    # Keys

    def action_page_details(self) -> None:
        """Show the next page of the details, after the last one the first."""
        details = self.query_one("#details", VerticalScroll)
        if details.scroll_y >= details.max_scroll_y:
            details.scroll_home(animate=False)
        else:
            details.scroll_relative(y=max(1, details.size.height - 1), animate=False)


def models_screen(
    live: LiveSession,
    level: GlyphLevel,
    price: Price | None,
    ask_in_turn: Callable[[Sequence[Contestant], str], None],
) -> ModelsScreen:
    """Every model that is found, and those of the catalog that could be downloaded.

    What this session has measured counts too: it is asked here, since a session is used by one thread alone.
    """
    # Measuring the memory takes all cores for half a second, which an answer under way would not forgive.
    idle = live.conversation.phase in {"ready", "no_model"}
    recent = past_runs_of_session(live.session, live.now_us())

    def models() -> Iterator[Candidate]:
        yield from (
            Candidate(each.name, each.path, each.origin, problem_of(each))
            for each in find_models(live.options.model_folders)
        )

    def run_target() -> RunTarget:
        return own_run_target(
            Host(sysroot=live.options.sysroot),
            live.store.folder,
            probe="once" if idle else "never",
            report=lambda *_: None,
            recent=recent,
        )

    survey = ModelAssessments(models, run_target, contexts=None, requested=live.options.engine, with_catalog=True)
    model = live.conversation.model
    return ModelsScreen(
        level,
        survey,
        currency="EUR" if price is None else price.currency,
        server=ServerChoice.of_engine(live.options.engine_name),
        loaded=None if model is None else Path(model.model.path),
        ask_in_turn=ask_in_turn,
    )

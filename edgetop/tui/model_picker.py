"""Choose one of the models that are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NamedTuple

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from edgetop.core.format import format_bytes
from edgetop.core.text import one_line
from edgetop.inference.catalog import FoundModel, find_models
from edgetop.inference.server.address import ServerChoice
from edgetop.tui.bindings import bindings
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keyed_screen import KeyedScreen
from edgetop.tui.page_keys import PICKER
from edgetop.tui.widgets.lines import shortened
from edgetop.tui.wrap import fit

BOX_COLUMNS = 80
SIZE_COLUMNS, ORIGIN_COLUMNS = 10, 18
NAME_COLUMNS_LEAST = 30
"""Where the name would have less, sizes and origins are left out."""


class ModelChoice(NamedTuple):
    """The model a person chose."""

    path: Path


class ModelPicker(KeyedScreen[ModelChoice | None], ModalScreen[ModelChoice | None]):
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
        from edgetop.inference.server.survey import survey  # noqa: PLC0415 - brings HTTP, which few need

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
    if name_columns < NAME_COLUMNS_LEAST:
        return shortened(f"incomplete: {name}" if model.missing_parts else name, width, level)
    origin = "incomplete" if model.missing_parts else one_line(model.origin, ascii=level == "ascii")
    size = f"{format_bytes(model.size_bytes):>{SIZE_COLUMNS}}"
    return (
        f"{fit(shortened(name, name_columns, level), name_columns)} {size}  {shortened(origin, ORIGIN_COLUMNS, level)}"
    )

"""`edgetop check --screen`: the table to sort and to look through, and the page of the row that was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from edgetop.commands.check_output import write_page
from edgetop.commands.page import show_page
from edgetop.core.engine import EngineSettings
from edgetop.fit.assessment import Place, Talk, assess
from edgetop.fit.model_file import read_facts
from edgetop.inference.catalog import find_models, resolve
from edgetop.live.survey import CONTEXTS, Survey
from edgetop.settings import options
from edgetop.settings.resolve import Settings


def show_screen(
    models: Sequence[str], wishes: Sequence[EngineSettings], talk: Talk, place: Place, settings: Settings
) -> int:
    """Open the screen over `models`, or over all of this machine; print the page of the model that was chosen."""
    from edgetop.tui.check_screen import CheckScreen  # noqa: PLC0415 - Textual is slow to import

    contexts = tuple(wish.n_ctx for wish in wishes if wish.n_ctx is not None) or CONTEXTS
    survey = Survey(lambda: _files(models, settings), lambda: place, contexts=contexts, wish=wishes[0], talk=talk)
    currency = settings[options.CURRENCY]
    choice = show_page(
        lambda level: CheckScreen(level, survey, currency=currency, enter_does="prints the page"), settings
    )
    if choice is not None:
        wish = replace(wishes[0], n_ctx=choice.n_ctx)
        write_page(assess(read_facts(choice.path), wish, talk, place), place, currency=currency)
    return 0


def _files(models: Sequence[str], settings: Settings) -> Iterator[tuple[str, Path]]:
    folders: Iterable[Path] = settings[options.MODEL_DIR]
    if not models:
        yield from ((model.name, model.path) for model in find_models(folders) if not model.missing_parts)
    for name in models:
        yield name, resolve(name, folders=folders)

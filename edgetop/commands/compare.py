"""`edgetop compare`: sessions and bench results against each other, as a screen or as text."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgetop.commands.compare_data import write_csv, write_json_object, write_markdown
from edgetop.commands.console import say, say_trouble, write_data
from edgetop.commands.page import show_page, shows_screens
from edgetop.commands.session_import import IMPORTED_FOLDER
from edgetop.commands.storage import open_store
from edgetop.core.errors import UsageError
from edgetop.session.comparison.compare import compare
from edgetop.session.comparison.comparison import Comparison
from edgetop.session.comparison.reading import read_all
from edgetop.session.comparison.result import Result
from edgetop.session.comparison.thresholds import Threshold, judge, parse
from edgetop.session.comparison.wording import alike_text
from edgetop.session.store import Store, StoreError
from edgetop.settings import options
from edgetop.settings.resolve import Settings
from edgetop.tui.comparison_text import Piece, front_lines, layouts, paragraph, speed_lines, table_lines
from edgetop.tui.glyphs import GlyphLevel, detect_level, without_coerced_locale

if TYPE_CHECKING:
    from textual.screen import Screen

EXIT_CROSSED = 6
RESULTS_MOST = 1000
SPEED_ROWS = 20
WIDTH_LEAST, WIDTH_PIPED = 40, 120


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Compare, show, and return 6 when a limit was crossed."""
    thresholds = [parse(text) for text in arguments.fail_if]
    store = open_store(settings)
    comparison = compare_named(arguments.results, arguments.base, store)
    if any(threshold.relative for threshold in thresholds) and len(comparison.rows) < 2:
        raise UsageError("a limit in per cent needs something to compare with", "name two sessions or more")
    if arguments.format is None and not thresholds and shows_screens(settings):
        _show(comparison, settings)
        return 0
    match arguments.format:
        case "json":
            write_json_object(comparison, judge(comparison, thresholds))
        case "csv":
            write_csv(comparison)
        case "md":
            write_markdown(comparison)
        case _:
            write_data(as_text(comparison, _width(), _level(settings)))
    return _exit_code(comparison, thresholds, missing_ok=arguments.missing_ok)


def compare_named(texts: Sequence[str], base: str | None, store: Store) -> Comparison:
    """Hold what a person named against the first of them, or against `base`, which may be one more.

    Raises UsageError, StoreError or SessionFileError.
    """
    paths = list(dict.fromkeys(path for text in texts for path in find(text, store)))
    base_path = paths[0] if base is None else find(base, store)[0]
    results = read_all(list(dict.fromkeys([*paths, base_path])))
    if len(results) > RESULTS_MOST:
        raise UsageError(f"there are more than {RESULTS_MOST} results", "compare fewer at a time")
    return compare(results, next(at for at, result in enumerate(results) if str(base_path) in result.origins))


def find(text: str, store: Store) -> Sequence[Path]:
    """The files that a person means: paths, what the store finds, or the name of an imported result."""
    try:
        return store.find_all([text])
    except StoreError:
        imported = store.folder / IMPORTED_FOLDER
        if imported.is_dir() and "/" not in text:
            for path in sorted(imported.iterdir()):
                if text in {path.name, path.stem}:
                    return [path]
        raise


def as_text(comparison: Comparison, width: int, level: GlyphLevel) -> str:
    """The table, as many times as the width needs, both plots, and how the figures were made."""
    parts: list[Sequence[tuple[Piece, ...]]] = [
        paragraph(alike_text(comparison, " * " if level == "ascii" else " · "), width),
        *(
            [line.pieces for line in table_lines(comparison, layout, width, level)]
            for layout in layouts(comparison, width, level)
        ),
        front_lines(comparison, width, level),
        speed_lines(comparison, width, level, SPEED_ROWS),
    ]
    if len(comparison.rows) > 1:
        parts.append([line for note in comparison.notes for line in paragraph(note, width)])
    texts = (["".join(piece.text for piece in line).rstrip() for line in part] for part in parts if part)
    return "\n".join("\n".join(text) + "\n" for text in texts)


def _show(comparison: Comparison, settings: Settings) -> None:
    def make_screen(level: GlyphLevel) -> Screen[None]:
        from edgetop.tui.compare_screen import CompareScreen  # noqa: PLC0415 - Textual is slow to import
        from edgetop.tui.session_pages import replay_results  # noqa: PLC0415 - the same

        def replay(base: Result, chosen: Result) -> None:
            replay_results(screen.app, base, chosen, level)

        screen = CompareScreen(comparison, level=level, replay=replay)
        return screen

    show_page(make_screen, settings)


def _exit_code(comparison: Comparison, thresholds: Sequence[Threshold], *, missing_ok: bool) -> int:
    failed = False
    for verdict in judge(comparison, thresholds):
        if verdict.finding == "crossed" or (verdict.finding == "absent" and not missing_ok):
            failed = True
            say_trouble(verdict.text)
        elif verdict.text:
            say(f"edgetop: {verdict.text}")
    return EXIT_CROSSED if failed else 0


def _width() -> int:
    """Of the terminal; in a pipe as wide as most people's windows."""
    return max(WIDTH_LEAST, shutil.get_terminal_size((WIDTH_PIPED, 24)).columns)


def _level(settings: Settings) -> GlyphLevel:
    return "ascii" if settings[options.ASCII] else detect_level(without_coerced_locale(os.environ))

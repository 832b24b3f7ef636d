"""Verb compare."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgetop.commands.inputs import given_duty, open_store, show_screen, shows_screens
from edgetop.commands.output import (
    ExitCode,
    print_error,
    print_status,
    write_data,
    write_json,
    write_listing,
)
from edgetop.core.energy.duty import Duty
from edgetop.core.errors import UsageError
from edgetop.core.figures import BY_NAME
from edgetop.core.format import Column
from edgetop.core.text import markdown_table, markdown_text
from edgetop.io.terminal import terminal_size
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import IMPORTED_FOLDER, read_all
from edgetop.session.compare.result import Cell, Comparison, Result, Row
from edgetop.session.compare.wording import (
    LimitResult,
    Threshold,
    alike_text,
    cell_text,
    conclusion,
    flags_text,
    full_title,
    judge,
    label_of,
    parse,
)
from edgetop.session.store import Store, StoreError
from edgetop.settings import options
from edgetop.settings.resolve import Settings
from edgetop.tui.comparison_text import conclusion_lines, front_lines, layouts, speed_lines, table_lines
from edgetop.tui.styled_text import Line, paragraph
from edgetop.tui.themes import GlyphLevel, detect_level, without_coerced_locale

if TYPE_CHECKING:
    from textual.screen import Screen


DESCRIPTION = (
    "name", "origin", "kind", "when", "device", "host", "model", "quantization", "bits_per_weight", "size_bytes",
    "threads", "gpu_layers", "kv_types", "n_ctx", "depth", "power_mode", "engine", "prompts", "turns",
    "generated_tokens", "energy_scope", "energy_source", "energy_method", "energy_grade",
)  # fmt: skip
"""What JSON and CSV say of each result, under the names of `Result`."""

CELL = ("value", "low", "high", "change_percent", "change_low", "change_high", "p_value", "verdict", "why", "best")


def write_json_object(comparison: Comparison, limits: Sequence[LimitResult]) -> None:
    """Print the comparison as one JSON object."""
    write_json(
        {
            "base": comparison.base,
            "conclusion": conclusion(comparison),
            "results": [
                {
                    **_described(row.result),
                    "title": full_title(comparison, index),
                    "tags": row.result.tags,
                    "flags": row.flags,
                    "on_front": row.on_front,
                    "figures": {name: _figure(cell, row.result, name) for name, cell in row.cells.items()},
                    "speed": row.result.speed,
                }
                for index, row in enumerate(comparison.rows)
            ],
            "groups": comparison.groups,
            "differing": comparison.differing,
            "alike": comparison.alike,
            "front": comparison.front,
            "front_note": comparison.front_note,
            "limits": limits,
            "notes": comparison.notes,
        }
    )


class ComparedFigure(NamedTuple):
    """One figure of one result."""

    row: Row
    name: str

    @property
    def cell(self) -> Cell:
        """Its value and change."""
        return self.row.cells[self.name]


COLUMNS: tuple[Column[ComparedFigure], ...] = (
    *(Column(name, attrgetter(f"row.result.{name}")) for name in DESCRIPTION),
    Column("is_base", attrgetter("row.is_base")),
    Column("on_front", attrgetter("row.on_front")),
    Column("flags", lambda figure: flags_text(figure.row)),
    Column("figure", attrgetter("name")),
    Column("unit", lambda figure: BY_NAME[figure.name].unit),
    *(Column(name, attrgetter(f"cell.{name}")) for name in (*CELL, "repetitions", "missing")),
)


def write_figures(comparison: Comparison) -> None:
    """Print a row of CSV for each figure of each result."""
    write_listing([ComparedFigure(row, name) for row in comparison.rows for name in row.cells], COLUMNS, "csv")


def write_table(comparison: Comparison) -> None:
    """Print the conclusion, and a Markdown table with a column for each figure."""
    rows = [["", "result", *(BY_NAME[name].heading_with_unit for name in comparison.figures), "not alike"]]
    for index, row in enumerate(comparison.rows):
        title = full_title(comparison, index) + (" (base)" if row.is_base else "")
        cells = [_words(row.cells[name], name, is_base=row.is_base) for name in comparison.figures]
        rows.append([label_of(index), title, *cells, flags_text(row)])
    said = markdown_text(conclusion(comparison))
    write_data(f"{said}\n\n{markdown_table(rows)}" if said else markdown_table(rows))


def _words(cell: Cell, name: str, *, is_base: bool) -> str:
    said = cell_text(cell, name)
    return said.value if is_base or not said.change else f"{said.value}, {said.change}"


def _described(result: Result) -> dict[str, Any]:
    return {field: getattr(result, field) for field in DESCRIPTION}


def _figure(cell: Cell, result: Result, name: str) -> dict[str, Any]:
    if cell.value is None:
        return {"value": None, "missing": cell.missing}
    measured = result.figures[name]
    return {
        **{field: getattr(cell, field) for field in CELL},
        "unit": BY_NAME[name].unit,
        "repetitions": measured.repetitions,
        "u_random": measured.u_random,
        "u_systematic": measured.u_systematic,
    }


RESULTS_MOST = 1000
SPEED_ROWS = 20
WIDTH_LEAST, WIDTH_PIPED = 40, 120


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Compare, show, and return 6 when a limit was crossed."""
    thresholds = [parse(text) for text in arguments.fail_if]
    store = open_store(settings)
    comparison = compare_named(arguments.results, arguments.base, store, given_duty(settings))
    if any(threshold.relative for threshold in thresholds) and len(comparison.rows) < 2:
        raise UsageError("a limit in per cent needs something to compare with", "name two sessions or more")
    if arguments.format is None and not thresholds and shows_screens(settings):
        _show(comparison, settings)
        return 0
    match arguments.format:
        case "json":
            write_json_object(comparison, judge(comparison, thresholds))
        case "csv":
            write_figures(comparison)
        case "md":
            write_table(comparison)
        case _:
            write_data(as_text(comparison, _width(), _level(settings)))
    return _exit_code(comparison, thresholds, missing_ok=arguments.missing_ok)


def compare_named(texts: Sequence[str], base: str | None, store: Store, duty: Duty | None = None) -> Comparison:
    """Hold what a person named against the first of them, or against `base`, which may be one more.

    Raises UsageError, StoreError or SessionFileError.
    """
    paths = list(dict.fromkeys(path for text in texts for path in find(text, store)))
    base_path = paths[0] if base is None else find(base, store)[0]
    results = read_all(list(dict.fromkeys([*paths, base_path])), duty)
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
    """The conclusion, the table as many times as the width needs, both plots, and how the figures were made."""
    parts: list[Sequence[Line]] = [
        conclusion_lines(comparison, width),
        paragraph(alike_text(comparison, " * " if level == "ascii" else " · "), width),
        *(
            [line.spans for line in table_lines(comparison, layout, width, level)]
            for layout in layouts(comparison, width, level)
        ),
        front_lines(comparison, width, level),
        speed_lines(comparison, width, level, SPEED_ROWS),
    ]
    if len(comparison.rows) > 1:
        parts.append([line for note in comparison.notes for line in paragraph(note, width)])
    texts = (["".join(span.text for span in line).rstrip() for line in part] for part in parts if part)
    return "\n".join("\n".join(text) + "\n" for text in texts)


def _show(comparison: Comparison, settings: Settings) -> None:
    def make_screen(level: GlyphLevel) -> Screen[None]:
        from edgetop.tui.screens.compare import CompareScreen  # noqa: PLC0415 - Textual is slow to import
        from edgetop.tui.screens.sessions import replay_results  # noqa: PLC0415 - the same

        def replay(base: Result, chosen: Result) -> None:
            replay_results(screen.app, base, chosen, level)

        screen = CompareScreen(comparison, level=level, replay=replay)
        return screen

    show_screen(make_screen, settings)


def _exit_code(comparison: Comparison, thresholds: Sequence[Threshold], *, missing_ok: bool) -> int:
    failed = False
    for verdict in judge(comparison, thresholds):
        if verdict.finding == "crossed" or (verdict.finding == "absent" and not missing_ok):
            failed = True
            print_error(verdict.text)
        elif verdict.text:
            print_status(f"edgetop: {verdict.text}")
    return ExitCode.LIMIT_CROSSED if failed else 0


def _width() -> int:
    """Of the terminal; in a pipe as wide as most people's windows."""
    return max(WIDTH_LEAST, terminal_size(fallback=(WIDTH_PIPED, 24)).columns)


def _level(settings: Settings) -> GlyphLevel:
    return "ascii" if settings[options.ASCII] else detect_level(without_coerced_locale(os.environ))

"""A comparison as data: JSON, CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetop.commands.listing import write_json, write_rows
from edgetop.session.comparison.comparison import Cell, Comparison
from edgetop.session.comparison.figures import BY_NAME
from edgetop.session.comparison.result import Result
from edgetop.session.comparison.thresholds import Verdict
from edgetop.session.comparison.wording import cell_text, flags_text, full_title, heading, label_of

DESCRIPTION = (
    "name", "origin", "kind", "when", "device", "host", "model", "quantization", "bits_per_weight", "size_bytes",
    "threads", "gpu_layers", "kv_types", "n_ctx", "depth", "power_mode", "engine", "prompts", "turns",
    "generated_tokens", "energy_scope", "energy_source", "energy_method", "energy_grade",
)  # fmt: skip
"""What JSON and CSV say of each result, under the names of `Result`."""
CELL = ("value", "low", "high", "change_percent", "change_low", "change_high", "p_value", "verdict", "why", "best")


def write_json_object(comparison: Comparison, limits: Sequence[Verdict]) -> None:
    """Print the comparison as one JSON object."""
    write_json(
        {
            "base": comparison.base,
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


def write_csv(comparison: Comparison) -> None:
    """Print a row for each figure of each result."""
    rows = [
        {
            **_described(row.result),
            "is_base": row.is_base,
            "on_front": row.on_front,
            "flags": flags_text(row),
            "figure": name,
            "unit": BY_NAME[name].unit,
            **{field: getattr(cell, field) for field in CELL},
            "repetitions": cell.repetitions,
            "missing": cell.missing,
        }
        for row in comparison.rows
        for name, cell in row.cells.items()
    ]
    write_rows(rows, "csv", {})


def write_markdown(comparison: Comparison) -> None:
    """Print a table with a column for each figure."""
    shown = {
        "label": "",
        "result": "result",
        **{name: heading(name) for name in comparison.figures},
        "flags": "not alike",
    }
    rows: list[dict[str, Any]] = []
    for index, row in enumerate(comparison.rows):
        cells = {name: _words(row.cells[name], name, is_base=row.is_base) for name in comparison.figures}
        title = full_title(comparison, index) + (" (base)" if row.is_base else "")
        rows.append({"label": label_of(index), "result": title, **cells, "flags": flags_text(row)})
    write_rows(rows, "md", shown)


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

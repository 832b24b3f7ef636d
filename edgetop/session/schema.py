"""The JSON Schema of session files, and whether a file keeps to it and to itself."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

from edgetop.core.figures import Summary, TurnFigures
from edgetop.session.codec import SessionFileError
from edgetop.session.conversion import structure_problems, to_file, to_session
from edgetop.session.disk import load_file
from edgetop.session.file import SessionFile

SCHEMA_PATH: Final = Path(__file__).with_name("session.schema.json")
"""The schema as it is shipped; `python -m edgetop.session.schema` writes it anew."""
PROBLEMS_TOLD = 20
_JUDGED_OTHERWISE = frozenset({"limited_by", "bandwidth_use", "bandwidth_use_missing", "energy", "energy_missing"})
"""Figures that rest on more than the stamps and readings of the file, or on rules that get better."""


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a session file."""
    generated = msgspec.json.schema(SessionFile)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgetop session",
        **generated,
    }


def schema_text() -> str:
    """The schema as it is shipped."""
    return msgspec.json.format(msgspec.json.encode(schema(), order="sorted"), indent=2).decode() + "\n"


def validate(path: Path) -> list[str]:
    """What is wrong with a session file, a line for each, with the place in the file; empty if nothing is."""
    try:
        file = load_file(path)
    except SessionFileError as error:
        return [error.what]
    problems = list(islice(structure_problems(file), PROBLEMS_TOLD))
    if not problems:
        try:
            problems = _wrong_figures(file, to_file(to_session(file)))
        except ValueError as error:
            problems = [str(error)]
    return [f"{path}: {problem}" for problem in problems[:PROBLEMS_TOLD]]


def _wrong_figures(file: SessionFile, computed: SessionFile) -> list[str]:
    problems = _differences("$.summary", file.summary, computed.summary)
    for index, (turn, again) in enumerate(zip(file.turns, computed.turns, strict=True)):
        problems += _differences(f"$.turns[{index}].figures", turn.figures, again.figures)
    return problems


def _differences(place: str, told: Summary | TurnFigures, computed: Summary | TurnFigures) -> list[str]:
    found, expected = structs.asdict(told), structs.asdict(computed)
    return [
        f"{place}.{name}: it says {_short(value)}, but what was recorded gives {_short(expected[name])}"
        for name, value in found.items()
        if name not in _JUDGED_OTHERWISE and value != expected[name]
    ]


def _short(value: object) -> str:
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")

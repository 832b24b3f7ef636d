"""Files against their schema and their figures: computed again to the digit, and corrected where one was changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from edgetop.core.errors import EdgetopError
from edgetop.session.file import to_file
from edgetop.session.file_io import SCHEMA_PATH, changes, encode_file, recomputed, schema, schema_text, validate
from tests.support.recorded_power import SENSORS, with_energy
from tests.support.recorded_sessions import HEAD, MEMORY, S, event, fold, sample, turn
from tests.support.shipped_sessions import FOLDER


@pytest.mark.parametrize("kind", SENSORS)
def test_a_session_with_energy_gives_the_same_figures_to_the_digit(kind: str) -> None:
    file = with_energy(kind)
    assert file.summary.energy is not None
    assert all(turn.figures.energy is not None for turn in file.turns)
    again = recomputed(file)
    assert again == file
    assert changes(file, again) == []


def test_figures_that_were_tampered_with_are_put_right_and_each_is_told() -> None:
    file = with_energy()
    energy, figures = file.summary.energy, file.turns[1].figures
    assert energy is not None
    wrong_j = replace(energy.gross_j, value=1.0, low=0.9, high=1.1)
    wrong = replace(
        file,
        tags=("kept",),
        notes="kept too",
        summary=replace(file.summary, energy=replace(energy, gross_j=wrong_j, grade="A")),
        turns=(file.turns[0], replace(file.turns[1], figures=replace(figures, decode_tokens_per_s=1e6))),
    )
    again = recomputed(wrong)
    assert again == replace(file, tags=("kept",), notes="kept too")
    told = {change.place: (change.old, change.new) for change in changes(wrong, again)}
    assert set(told) == {"summary.energy.grade", "summary.energy.gross_j", "turn 2: decode_tokens_per_s"}
    assert told["turn 2: decode_tokens_per_s"] == (1e6, figures.decode_tokens_per_s)
    assert told["summary.energy.gross_j"][0]["value"] == 1.0
    assert told["summary.energy.gross_j"][1]["value"] == energy.gross_j.value


def test_energy_that_a_file_has_not_is_computed_from_its_readings() -> None:
    file = with_energy()
    stripped = replace(file, summary=replace(file.summary, energy=None, energy_missing="an older edgetop"))
    assert recomputed(stripped) == file


def test_another_source_may_be_chosen_and_the_choice_given_back() -> None:
    file = with_energy()
    by_rail = recomputed(file, "power.rail")
    whole, part = file.summary.energy, by_rail.summary.energy
    assert whole is not None
    assert part is not None
    assert (part.source, part.scope, by_rail.power) == ("power.rail", "component", "power.rail")
    assert part.gross_j.value == pytest.approx(whole.gross_j.value / 2, rel=0.02)
    assert recomputed(by_rail, "auto") == file
    assert changes(file, by_rail)[0].place == "power"


def test_power_may_be_left_out() -> None:
    without = recomputed(with_energy(), "none")
    assert without.summary.energy is None
    assert "switched off" in without.summary.energy_missing


def test_a_source_that_the_session_has_not_is_refused_with_those_it_has() -> None:
    with pytest.raises(EdgetopError, match="no power source called") as refused:
        recomputed(with_energy(), "power.nope")
    assert "power.board" in refused.value.hint


def _document() -> dict[str, Any]:
    turns = (*turn(1), event("throttled", 2 * S), *turn(2, at_us=9 * S, finished=False))
    session = fold((*HEAD, sample(MEMORY, 1 * S, 8e9, None), *turns))
    document: dict[str, Any] = json.loads(b"".join(encode_file(to_file(session))))
    return document


def test_the_shipped_schema_is_that_of_the_types() -> None:
    assert SCHEMA_PATH.read_text("utf-8") == schema_text(), "run `python -m edgetop.session.file_io`"


def test_a_written_session_keeps_to_the_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(_document())


def test_a_file_with_later_fields_keeps_to_the_schema_and_one_with_wrong_types_does_not() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    document = _document()
    document["turns"][0]["later"] = 1
    validator.validate(document)
    document["turns"][0]["tokens"]["dt_us"][0] = -1
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document)


def test_a_figure_that_an_older_edgetop_did_not_know_is_not_wrong(tmp_path: Path) -> None:
    document = json.loads(min(FOLDER.glob("*.json")).read_bytes())
    of_turn = document["turns"][0]["figures"]
    assert document["summary"]["prefill_tokens_per_s"]
    assert of_turn["energy"]["gross_j"]
    del document["summary"]["prefill_tokens_per_s"], of_turn["decode_tokens_per_s"]
    path = tmp_path / "older.json"
    path.write_text(json.dumps(document))
    assert validate(path) == []
    document["summary"]["prefill_tokens_per_s"] = None
    path.write_text(json.dumps(document))
    assert [problem.split(": ")[1] for problem in validate(path)] == ["$.summary.prefill_tokens_per_s"]


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (["duration_us"], 10**15, "11574 days are no length of a session"),
        (["turns", 0, "end", "prompt_tokens"], 2**40, "are more than any context holds"),
        (["turns", 0, "end", "generated_tokens"], 2**40, "are more than any context holds"),
        (["turns", 0, "end", "context_used"], 2**40, "are more than any context holds"),
        (["turns", 0, "end", "hidden_tokens"], 10**6, "more than were generated"),
        (["turns", 0, "end", "cached_tokens"], 10**6, "more than the prompt has"),
        (["turns", 0, "prefill", "total"], 2**40, "are more than any context holds"),
        (["turns", 0, "prefill", "done"], [0, 10**6], "more than there is to evaluate"),
        (["turns", 0, "prefill", "total"], 0, "more than there is to evaluate"),
    ],
)
def test_validate_knows_what_cannot_be(place: list[str | int], value: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    document = json.loads(min(FOLDER.glob("*.json")).read_bytes())
    path.write_text(json.dumps(document))
    assert validate(path) == []
    *holders, field = place
    holder = document
    for each in holders:
        holder = holder[each]
    holder[field] = value
    path.write_text(json.dumps(document))
    assert any(told in problem for problem in validate(path)), validate(path)

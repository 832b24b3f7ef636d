"""The recordings in `sessions/`: valid, true to their own readings, marked for what they are, and telling of nobody."""

from __future__ import annotations

import re
from math import isclose
from pathlib import Path
from typing import Any

import pytest

from edgetop.session.file import SessionFile
from edgetop.session.file_io import changes, load_file, recomputed, validate

FOLDER = Path(__file__).resolve().parents[1] / "sessions"
EXAMPLES = sorted(FOLDER.glob("*.json"))
LARGEST_BYTES = 150_000
LONG_US = 30_000_000
"""An answer of this length shows how the figures come and settle."""
FOLDERS = re.compile(rb'"(?:[A-Za-z]:\\\\|~|/(?!sys/|proc/))[^" ]+/[^"]*"')
"""Paths other than those of sensors."""


def is_rounding(old: Any, new: Any) -> bool:
    """Whether two values differ only as two machines' arithmetic may."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(is_rounding(old[name], new[name]) for name in old)
    if isinstance(old, float) and isinstance(new, float):
        return isclose(old, new, rel_tol=1e-9)
    return bool(old == new)


examples = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def settings_of(file: SessionFile) -> tuple[str, int | None]:
    (load,) = file.loads
    return load.model.quantization, load.settings.n_threads


def test_two_quantizations_are_there_that_differ_visibly_and_in_nothing_else() -> None:
    found = [settings_of(load_file(path)) for path in EXAMPLES]
    assert len({name for name, _ in found}) == len(found) >= 2
    assert len({threads for _, threads in found}) == 1
    summaries = [load_file(path).summary for path in EXAMPLES]
    rates = [summary.decode_tokens_per_s or 0.0 for summary in summaries]
    of_tokens = [
        summary.energy.j_per_token.value for summary in summaries if summary.energy and summary.energy.j_per_token
    ]
    assert max(rates) > 1.2 * min(rates) > 0
    assert max(of_tokens) > 1.2 * min(of_tokens)
    assert len(of_tokens) == len(found)


@examples
def test_it_has_an_answer_of_half_a_minute_and_uses_no_more_bandwidth_than_there_is(path: Path) -> None:
    file = load_file(path)
    assert max(sum(turn.tokens.dt_us) for turn in file.turns) >= LONG_US
    use = file.summary.bandwidth_use
    assert use is None or use <= 1


def test_all_were_asked_the_same_with_the_same_settings() -> None:
    asked = [
        [(turn.prompt, turn.sampling.temperature, turn.sampling.max_tokens) for turn in load_file(path).turns]
        for path in EXAMPLES
    ]
    assert len(asked[0]) >= 3
    assert all(each == asked[0] for each in asked)
    assert {temperature for turns in asked for _, temperature, _ in turns} == {0.0}


@examples
def test_it_is_valid_small_and_undisturbed(path: Path) -> None:
    assert validate(path) == []
    assert path.stat().st_size < LARGEST_BYTES
    summary = load_file(path).summary
    assert summary.limited_by != "contention"
    assert summary.energy is not None
    assert summary.energy.flags == ()


@examples
def test_its_figures_are_what_its_readings_give(path: Path) -> None:
    file = load_file(path)
    assert [change for change in changes(file, recomputed(file)) if not is_rounding(change.old, change.new)] == []


@examples
def test_it_has_net_energy_of_every_turn(path: Path) -> None:
    file = load_file(path)
    assert len(file.turns) >= 3
    for turn in file.turns:
        assert turn.figures.energy is not None
        assert turn.figures.energy.net_j_per_token is not None
        assert turn.figures.energy.final


@examples
def test_it_says_that_its_power_is_computed(path: Path) -> None:
    file = load_file(path)
    assert "Virtual board" in file.device.model
    assert "not measured" in file.device.model
    assert "simulated-power" in file.tags
    assert all(entry.source.properties["simulated"] for entry in file.series if entry.source.kind == "power")
    assert "not measured" in file.notes


@examples
def test_it_tells_of_no_person_and_no_machine(path: Path) -> None:
    file = load_file(path)
    assert file.device.hostname == "virtual-board"
    assert [load.model.path for load in file.loads] == [Path(load.model.path).name for load in file.loads]
    assert FOLDERS.findall(path.read_bytes()) == []
    assert not re.search(rb"https?://|@", path.read_bytes())

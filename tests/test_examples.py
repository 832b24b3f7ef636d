"""The recordings in `sessions/`: valid, true to their own readings, marked for what they are, and telling of nobody."""

from __future__ import annotations

import re
from math import isclose
from pathlib import Path
from typing import Any

import pytest

from edgetop.session.file import SessionFile
from edgetop.session.file_check import changes, recomputed, validate
from edgetop.session.file_io import load_file

FOLDER = Path(__file__).resolve().parents[1] / "sessions"
EXAMPLES = sorted(FOLDER.glob("*.json"))
LARGEST_BYTES = 150_000
SHORT_TOKENS = 16
"""Over in a fifth of a second: the sensor has two or three readings of it, and says so."""
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


def test_two_quantizations_with_two_thread_counts_each_are_there() -> None:
    found = [settings_of(load_file(path)) for path in EXAMPLES]
    assert len(set(found)) == len(found) >= 4
    threads = {name: {count for each, count in found if each == name} for name, _ in found}
    assert len(threads) >= 2
    assert all(counts == {1, 2} for counts in threads.values())


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
def test_it_has_net_energy_of_every_turn_that_the_sensor_can_tell(path: Path) -> None:
    file = load_file(path)
    short = [turn for turn in file.turns if turn.figures.energy is None]
    assert all(turn.figures.generated_tokens < SHORT_TOKENS for turn in short)
    assert all("too little" in turn.figures.energy_missing for turn in short)
    assert len(file.turns) - len(short) >= 3
    for turn in file.turns:
        if turn in short:
            continue
        assert turn.figures.energy is not None
        assert turn.figures.energy.net_j_per_token is not None
        assert turn.figures.energy.final


@examples
def test_it_says_that_its_power_is_computed(path: Path) -> None:
    file = load_file(path)
    assert "Virtual board" in file.device.model
    assert "not measured" in file.device.model
    assert "virtual-power" in file.tags
    assert "not measured" in file.notes


@examples
def test_it_tells_of_no_person_and_no_machine(path: Path) -> None:
    file = load_file(path)
    assert file.device.hostname == "virtual-board"
    assert [load.model.path for load in file.loads] == [Path(load.model.path).name for load in file.loads]
    assert FOLDERS.findall(path.read_bytes()) == []
    assert not re.search(rb"https?://|@", path.read_bytes())

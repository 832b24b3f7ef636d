"""Inputs that once failed, done again; and each kind of the fuzzers with a few new ones."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.hostile_kinds import CORPUS, NAMES, corpus, home_of, kinds

NEW = 3
"""New inputs of each kind; `make fuzz` makes thousands."""


@pytest.mark.parametrize("name", NAMES)
def test_nothing_hostile_is_an_unhandled_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in home_of(tmp_path).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("HF_ENDPOINT", "")
    chance = random.Random(20261130)  # noqa: S311 - the same every time
    with kinds(tmp_path) as made:
        kind = made[name]()
        for title, data in (corpus(name) | {f"new {number}": kind.make(chance) for number in range(NEW)}).items():
            for act in kind.acts(data, random.Random(data)):  # noqa: S311 - the same
                assert act.do() == "", f"{name}, {title}: {act.name}"


def test_every_kept_input_is_of_a_kind() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= {*NAMES}

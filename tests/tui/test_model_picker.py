from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from edgetop.inference.catalog import FoundModel
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.screens.models import entry
from tests.support.hostile_text import acts_on_a_terminal, hostile_text


def found(name: str, *, missing: tuple[int, ...] = ()) -> FoundModel:
    return FoundModel(name=name, path=Path("/m"), origin="Hugging Face", size_bytes=98_304_000, missing_parts=missing)


def test_a_model_is_named_with_its_size_and_where_it_was_found() -> None:
    assert entry(found("tiny"), 75, "braille").split("  ")[0] == "tiny"
    assert entry(found("tiny"), 75, "braille").endswith("93.8 MiB  Hugging Face")
    assert entry(found("tiny", missing=(2,)), 75, "braille").endswith("93.8 MiB  incomplete")


def test_where_there_is_little_room_the_name_and_what_is_wrong_come_first() -> None:
    assert entry(found("a-model-with-a-rather-long-name-q4_k_m"), 35, "ascii") == "a-model-with-a-rather-long-name-q4~"
    assert entry(found("tiny", missing=(2,)), 35, "braille") == "incomplete: tiny"


@given(hostile_text, st.integers(10, 90), st.sampled_from(LEVELS))
def test_a_name_cannot_leave_its_line(name: str, width: int, level: GlyphLevel) -> None:
    text = entry(found(name), width, level)
    assert cell_len(text) <= width
    assert not acts_on_a_terminal(text)

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.tui.charts import capacity, plot
from edgetop.tui.glyphs import LEVELS, GlyphLevel, detect_level, glyphs_for


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({"LANG": "en_GB.UTF-8", "TERM": "xterm-256color"}, "braille"),
        ({"LANG": "de_DE.utf8", "TERM": "tmux-256color"}, "braille"),
        ({"LC_ALL": "C", "LANG": "en_GB.UTF-8", "TERM": "xterm"}, "ascii"),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C", "TERM": "xterm"}, "braille"),
        ({"LC_ALL": "", "LANG": "en_GB.UTF-8", "TERM": "linux"}, "ascii"),
        ({"LANG": "en_GB.UTF-8", "TERM": "putty-256color"}, "block"),
        ({"LANG": "de_DE.ISO-8859-1", "TERM": "xterm"}, "ascii"),
        ({"LANG": "en_GB.UTF-8"}, "ascii"),
        ({}, "ascii"),
    ],
)
def test_level_follows_locale_and_terminal(environ: dict[str, str], level: GlyphLevel) -> None:
    assert detect_level(environ) == level


@pytest.mark.parametrize(
    ("level", "values", "lines"),
    [
        ("block", [0.0, 25.0, 50.0, 75.0, 100.0], ["▁▂▄▆█"]),
        ("ascii", [0.0, 50.0, 100.0], [".:|"]),
        ("braille", [0.0, 25.0, 50.0, 75.0, 100.0, 100.0], ["⣀⣴⣿"]),
        ("block", [10.0, None, 0.0, math.nan, 10.0], ["▁ ▁ ▁"]),
        ("braille", [100.0, None, None, 100.0, None, None], ["⡇⢸ "]),
        ("block", [-5.0, 900.0], ["   ▁█"]),
    ],
)
def test_draws_one_row(level: GlyphLevel, values: list[float | None], lines: list[str]) -> None:
    width = len(lines[0])
    assert plot(values, width, 1, 0.0, 100.0, level) == lines


def test_fills_upward_over_several_rows() -> None:
    assert plot([0.0, 50.0, 100.0], 3, 2, 0.0, 100.0, "block") == ["  █", "▁██"]
    assert plot([0.0, 50.0, 100.0], 3, 2, 0.0, 100.0, "ascii") == ["  |", ".||"]


def test_keeps_only_the_newest_values_and_sets_them_at_the_right_edge() -> None:
    assert plot([100.0] * 50 + [0.0, 0.0], 2, 1, 0.0, 100.0, "block") == ["▁▁"]
    assert plot([100.0], 4, 1, 0.0, 100.0, "block") == ["   █"]


@given(
    st.lists(st.none() | st.floats(), max_size=50),
    st.integers(0, 20),
    st.integers(0, 4),
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    st.sampled_from(LEVELS),
)
def test_any_series_gives_a_full_rectangle_with_marks_only_where_there_are_values(
    values: list[float | None], width: int, height: int, bounds: tuple[float, float], level: GlyphLevel
) -> None:
    low, high = bounds
    lines = plot(values, width, height, low, high, level)
    assert [len(line) for line in lines] == [width] * height
    shown = values[-capacity(width, level) :] if width else []
    drawn = any(value is not None and not math.isnan(value) for value in shown)
    assert any(line.strip() for line in lines) == (drawn and height > 0)


def test_the_ascii_level_is_ascii() -> None:
    glyphs = glyphs_for("ascii")
    assert (glyphs.horizontal + glyphs.vertical + glyphs.dot + plot([1.0, 2.0], 2, 2, 0, 2, "ascii")[0]).isascii()

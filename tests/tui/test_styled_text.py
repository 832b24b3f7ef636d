from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from edgetop.core.text import literal
from edgetop.tui.styled_text import (
    _ALL_NARROW,
    Line,
    Span,
    _harmless,
    _wrap_graphemes,
    fit,
    fit_text,
    for_level,
    joined,
    line_of,
    shortened,
    spread,
    width_of,
    wrap,
)
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.hostile_text import acts_on_a_terminal, hostile_text


def text_of(line: Line) -> str:
    return "".join(span.text for span in line)


@given(st.lists(hostile_text, max_size=4), st.integers(0, 50))
def test_a_line_of_anything_fits_and_does_nothing_to_a_terminal(texts: list[str], width: int) -> None:
    line = fit(line_of(*texts), width)
    assert cell_len(text_of(line)) == width
    assert not acts_on_a_terminal(text_of(line))


@given(hostile_text, st.integers(0, 50), st.sampled_from(LEVELS))
def test_what_is_shortened_fits_and_shows_that_it_was_cut(text: str, width: int, level: GlyphLevel) -> None:
    text = text_of(line_of(text))
    short = shortened(text, width, level)
    assert cell_len(short) <= width
    assert short in {text, ""} or short[-1] in "~…"


@given(hostile_text)
def test_another_level_of_glyphs_keeps_every_cell_in_its_place(text: str) -> None:
    line = line_of(Span(text, "accent"), " · ● …")
    assert width_of(for_level(line, "ascii")) == width_of(line)
    assert for_level(line, "block") == line


def test_of_several_endings_the_first_with_room_is_shown() -> None:
    left, rights = line_of("left"), [line_of("a long ending"), line_of("short")]
    assert text_of(spread(left, rights, 20)) == "left   a long ending"
    assert text_of(spread(left, rights, 17)) == "left        short"
    assert text_of(spread(left, rights, 8)) == "left    "


def test_parts_without_room_are_left_out_and_others_move_up() -> None:
    parts = [line_of("one"), (), line_of("much too long"), line_of("two")]
    assert text_of(joined(parts, 10)) == "one  two"


words = st.text("ab  \u00e9\u2014\u4e2d\U0001f469\u0301\u200d\ufe0f#", max_size=60)


widths = st.integers(2, 20)


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 10, [""]),
        ("the quick brown fox", 10, ["the quick ", "brown fox"]),
        ("the quick  brown", 9, ["the quick  ", "brown"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("see abcdefghij", 6, ["see ", "abcdef", "ghij"]),
        ("        indented", 12, ["        inde", "nted"]),
        ("中文字符宽", 5, ["中文", "字符", "宽"]),
        ("ab中文", 5, ["ab中", "文"]),
        ("中", 1, ["中"]),
    ],
)
def test_breaks_where_a_reader_expects(text: str, width: int, lines: list[str]) -> None:
    assert wrap(text, width) == lines


@given(words, widths)
@example("\u200d\u200daaa", 2)
def test_no_line_is_wider_than_the_width_and_nothing_is_dropped(text: str, width: int) -> None:
    text = _harmless(text)  # rich measures what begins with joiners in two ways
    lines = wrap(text, width)
    assert "".join(lines) == text
    assert all(cell_len(line.rstrip(" ")) <= width for line in lines)


@given(words, words, widths)
def test_appending_changes_only_the_last_line(text: str, more: str, width: int) -> None:
    lines = wrap(text, width)
    assert wrap(text + more, width) == lines[:-1] + wrap(lines[-1] + more, width)


@given(st.text("ab  .", max_size=80), widths)
def test_counting_and_measuring_agree(text: str, width: int) -> None:
    assert wrap(text, width) == _wrap_graphemes(text, width)


def test_the_characters_taken_as_narrow_are_one_cell_each() -> None:
    assert all(cell_len(chr(code)) == 1 for code in range(0x3000) if _ALL_NARROW.fullmatch(chr(code)))


@given(st.text(max_size=40), st.integers(0, 20))
def test_fit_gives_exactly_the_width(text: str, width: int) -> None:
    safe = literal(text).replace("\n", " ").replace("\t", " ")
    assert cell_len(fit_text(safe, width)) == width


def test_a_very_long_word_is_cut_into_full_lines() -> None:
    assert wrap("x" * 10_000, 60) == ["x" * 60] * 166 + ["x" * 40]

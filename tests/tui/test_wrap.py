from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from edgetop.core.text import literal
from edgetop.tui.styled_text import _ALL_NARROW, _wrap_graphemes, fit_text, wrap

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
def test_no_line_is_wider_than_the_width_and_nothing_is_dropped(text: str, width: int) -> None:
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

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.text import MARKS_MAX, literal, one_line, one_lines


@pytest.mark.parametrize(
    ("hostile", "shown", "shown_as_ascii"),
    [
        ("\x1b]0;x\x07", "␛]0;x␇", "^[]0;x^G"),
        ("\x1b[2J\b\x7f", "␛[2J␈␡", "^[[2J^H^?"),
        ("\x9b31m", "<U+009B>31m", "<U+009B>31m"),
        (
            "a\u202eb\u2066c\u200fd\u061ce",
            "a<U+202E>b<U+2066>c<U+200F>d<U+061C>e",
            "a<U+202E>b<U+2066>c<U+200F>d<U+061C>e",
        ),
        ("\ufeffx\u200by\xadz", "<U+FEFF>x<U+200B>y<U+00AD>z", "<U+FEFF>x<U+200B>y<U+00AD>z"),
        ("\U000e0041\U000e007f", "<U+E0041><U+E007F>", "<U+E0041><U+E007F>"),
        ("\ufffe\uffff", "<U+FFFE><U+FFFF>", "<U+FFFE><U+FFFF>"),
        ("\ud800x", "\ufffdx", "?x"),
        ("one\r\ntwo\rthree", "one\ntwo␍three", "one\ntwo^Mthree"),
        ("a\u200d\u200db", "a<U+200D><U+200D>b", "a<U+200D><U+200D>b"),
    ],
)
def test_what_would_act_or_hide_is_shown(hostile: str, shown: str, shown_as_ascii: str) -> None:
    assert literal(hostile) == shown
    assert literal(hostile, ascii=True) == shown_as_ascii


@pytest.mark.parametrize(
    "text",
    [
        "plain text [/ and [b +",
        "line\n\ttabbed",
        "👩‍👩‍👧 👍🏽 🏳️‍🌈",
        "می‌خواهم",
        "e\u0301 Việt นี้ กำลัง हिन्दी",
        "\u1112\u1161\u11ab\u1100\u116e\u11a8 ශ්\u200dරී ප්\u200dරජාතාන්ත්\u200dරික ကျွန်ုပ်တို့ ကျွှော်",
        "👩🏻\u200d❤️\u200d💋\u200d👨🏻" + " 👩\u200d👩\u200d👧" * 9,
        "日本語 한국어 Ελληνικά кириллица العربية",
        "x" * 10_000,
    ],
)
def test_honest_text_stays_as_it_is(text: str) -> None:
    assert literal(text) == text


@pytest.mark.parametrize("mark", [
    "\u0300", "\u0e47", "\u0489", "\ufe0f", "\U000e0100", "\u0903", "\u11a8", "\u1161", "\ud7b0", "\u2de0",
    "\U0001f3fd", "\U00013430",
])  # fmt: skip
def test_towers_of_marks_are_cut_and_counted(mark: str) -> None:
    assert literal("a" + mark * 40 + "b") == f"a{mark * MARKS_MAX}<{40 - MARKS_MAX} marks>b"


@pytest.mark.parametrize("part", ["b", "👩", "b\u0301\ufe0f", "👩🏻"])
def test_a_chain_of_joined_characters_is_parted(part: str) -> None:
    shown = literal(f"a\u200d{part}" + f"\u200d{part}" * 40)
    assert shown == f"a\u200d{part}" + f"\u200d{part}" * (MARKS_MAX - 1) + f"<U+200D>{part}" * (41 - MARKS_MAX)


def test_one_line_has_no_line_breaks_and_no_runs_of_blanks() -> None:
    assert one_line(" a\n\tb \x1b ") == "a b ␛"


@given(st.lists(st.text(st.one_of(st.sampled_from(" ab±\n\t\xad\xa0\u0300日"), st.characters()), max_size=8)))
def test_lines_together_are_what_each_is(texts: list[str]) -> None:
    assert list(one_lines(texts)) == [one_line(text) for text in texts]


@given(st.text(st.characters(), max_size=200))
def test_nothing_dangerous_is_left_of_any_text(text: str) -> None:
    shown = literal(text)
    for character in shown:
        category = unicodedata.category(character)
        assert character in "\n\t\u200c\u200d" or category not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(character) not in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }


@given(st.text(max_size=200))
def test_what_is_harmless_already_is_not_changed_again(text: str) -> None:
    assert literal(literal(text)) == literal(text)

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.segment import Segment

from edgetop.tui.chat.chat_view import ChatSearch, Query
from edgetop.tui.chat.transcript import ChatLine, LinePosition, StyledLine, Transcript
from edgetop.tui.styled_text import wrap
from edgetop.tui.themes import glyphs_for

TOP = LinePosition(0, 0)


def plain(text: str, width: int) -> list[StyledLine] | None:
    return None


def stars_hidden(text: str, width: int) -> list[StyledLine]:
    return [(Segment(line.rstrip()),) for line in wrap(text.replace("*", ""), width)]


def chat_of(*texts: str, width: int = 20) -> Transcript:
    chat = Transcript(glyphs_for("braille"), plain)
    chat.set_width(width)
    for text in texts:
        chat.add("user", text)
    return chat


def search(chat: Transcript, words: str, top: LinePosition = TOP) -> ChatSearch:
    begun = ChatSearch(chat)
    begun.begin(words, top)
    return begun


def marked_words(chat: Transcript, found: ChatSearch, count: int = 1000) -> list[str]:
    """What is marked, the chosen match in brackets; a match over two lines has two parts."""
    words = []
    for row in found.marked(chat.rows(TOP, count), TOP):
        for mark in row.marks if row is not None else ():
            assert row is not None
            text = row.plain[mark.start : mark.end]
            words.append(f"[{text}]" if mark.current else text)
    return words


@pytest.mark.parametrize(
    ("words", "text", "count"),
    [
        ("power", "Power, POWER and empowered", 3),
        ("Power", "Power, POWER and empowered", 1),
        ("aa", "aaaa", 2),
        ("one two", "one\ntwo, one   two, onetwo", 2),
        (" power ", "powerpower", 2),
        ("İ", "İstanbul and istanbul", 1),
        (".*", "a.*b", 1),
        ("", "anything", 0),
    ],
)
def test_words_are_counted_in_either_case_and_over_line_breaks(words: str, text: str, count: int) -> None:
    assert search(chat_of(text), words).count == count


def test_goes_on_round_both_ends_and_says_which_of_how_many() -> None:
    found = search(chat_of("one", "and one", "one more"), "one")
    said = [found.summary]
    for step in (1, 1, 1, -1):
        found.step(step)
        said.append(found.summary)
    assert said == ["1 of 3", "2 of 3", "3 of 3", "1 of 3", "3 of 3"]
    assert search(chat_of("one"), "two").summary == "not found"


def test_begins_with_the_first_match_that_is_not_above_the_view() -> None:
    chat = chat_of("one one", "\n".join(f"line {number} one" for number in range(30)))
    assert search(chat, "one").summary == "1 of 32"
    assert search(chat, "one", LinePosition(1, 11)).summary == "13 of 32"
    assert search(chat, "one", chat.end).summary == "1 of 32"


def test_the_chosen_match_is_where_its_words_are_shown() -> None:
    chat = chat_of("first needle", "hay " * 40 + "needle " + "hay " * 10 + "needle")
    found = search(chat, "needle")
    for _ in range(3):
        place = found.place()
        assert place is not None
        (row,) = chat.rows(place, 1)
        assert row is not None
        assert "needle" in row.plain
        found.step(1)


def test_what_is_said_while_the_search_is_open_is_found_too() -> None:
    chat = chat_of("one")
    found = search(chat, "one")
    chat.add("user", "one again")
    found.step(1)
    assert found.summary == "2 of 2"
    chat.clear()
    found.step(1)
    assert found.summary == "not found"
    assert found.place() is None


def test_a_word_that_is_broken_over_lines_is_marked_on_each() -> None:
    chat = chat_of("x" * 14 + "needle", width=20)
    assert marked_words(chat, search(chat, "needle")) == ["[n]", "[eedle]"]
    # A line that ends because the text has a line break does not break a word.
    assert marked_words(chat_of("need\nle"), search(chat_of("need\nle"), "needle")) == []


def test_words_beside_what_the_author_did_not_write_are_not_marked() -> None:
    chat = chat_of("you and you")
    assert marked_words(chat, search(chat, "you")) == ["[you]", "you"]
    rows = search(chat, "you").marked(chat.rows(TOP, 5), TOP)
    assert [mark.start for row in rows if row is not None for mark in row.marks] == [5, 13]


def test_markdown_may_hide_characters_inside_a_match() -> None:
    chat = Transcript(glyphs_for("braille"), stars_hidden)
    chat.set_width(20)
    reply = chat.open_reply()
    chat.extend(reply, "some **very strong** words, very *str*ong ones", "answer")
    chat.close_reply(reply, "")
    found = search(chat, "very strong")
    assert found.summary == "1 of 2"
    assert marked_words(chat, found) == ["[very strong]", "very strong"]


def test_a_folded_thought_is_opened_when_the_search_comes_to_it() -> None:
    chat = chat_of("question")
    reply = chat.open_reply()
    chat.extend(reply, "first\nthe needle of a thought", "reasoning")
    chat.extend(reply, "answer", "answer")
    chat.close_reply(reply, "")
    found = search(chat, "needle")
    assert found.summary == "1 of 1"
    assert marked_words(chat, found) == []
    found.place()
    assert marked_words(chat, found) == ["[needle]"]


def test_ten_thousand_lines_are_searched_without_laying_them_out() -> None:
    chat = chat_of(*("\n".join(f"line {each} of {number}" for each in range(100)) for number in range(100)), width=40)
    found = search(chat, "line 99 of 7", LinePosition(50, 0))
    assert found.count == 11
    place = found.place()
    assert place is not None
    assert place.block == 70
    assert sum(bool(block.lines) for block in chat.blocks) == 1


@given(
    # Without line breaks: a line as wide as the chat that ends in one looks like one that was wrapped.
    st.lists(st.text("ab c中*\t", max_size=60), min_size=1, max_size=5),
    st.text("ab 中", min_size=1, max_size=4).filter(str.strip),
    st.integers(10, 30),
)
@example(texts=["a中a中"], words="a 中", width=10)
def test_as_many_matches_are_marked_as_are_counted(texts: list[str], words: str, width: int) -> None:
    chat = chat_of(*texts, width=width)
    found = search(chat, words)
    starts = 0
    for index in range(len(chat.blocks)):
        _, lines = chat.lines_of(index)
        starts += len(Query(words).spans(lines, width - chat.prefix_of(index, 0)))
    assert starts == found.count


@given(st.text(st.characters(codec=None), max_size=80), st.text(st.characters(codec=None), min_size=1, max_size=8))
def test_marks_lie_inside_their_lines_whatever_the_text(text: str, words: str) -> None:
    chat = chat_of(text, width=12)
    rows: list[ChatLine | None] = search(chat, words).marked(chat.rows(TOP, 200), TOP)
    for row in rows:
        for mark in row.marks if row is not None else ():
            assert row is not None
            assert 0 <= mark.start < mark.end <= len(row.plain)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment

from edgetop.tui.chat.transcript import FINISHED_AT_LEAST, LinePosition, MarkdownScan, StyledLine, Transcript
from edgetop.tui.themes import LEVELS, GlyphLevel, glyphs_for
from tests.support.hostile_text import HOSTILE_REPLIES, acts_on_a_terminal, hostile_text

TOP = LinePosition(0, 0)


def no_markdown(text: str, width: int) -> list[StyledLine] | None:
    return None


def transcript(width: int = 20, level: GlyphLevel = "braille") -> Transcript:
    made = Transcript(glyphs_for(level), no_markdown)
    made.set_width(width)
    return made


def shown(of: Transcript, top: LinePosition = TOP, count: int = 10_000) -> list[str]:
    return ["" if row is None else str(row.content) for row in of.rows(top, count)]


def test_says_who_speaks_without_colour() -> None:
    chat = transcript()
    chat.add("system", "Be brief.")
    chat.add("user", "Explain what a PMIC does.")
    reply = chat.open_reply()
    chat.extend(reply, "Let me see", "reasoning")
    chat.extend(reply, "It makes voltages.", "answer")
    chat.close_reply(reply, "148 tok")
    chat.add("note", "The engine restarted.")
    assert shown(chat) == [
        "system  Be brief.",
        "",
        "you  Explain what a ",
        "     PMIC does.",
        "",
        "│ thought · o opens",
        "",
        "It makes voltages.",
        " 148 tok",
        "",
        "· The engine ",
        "  restarted.",
    ]


@given(st.lists(hostile_text, max_size=6), st.integers(10, 30), st.sampled_from(LEVELS))
def test_a_growing_reply_is_harmless_and_fits_at_every_moment(pieces: list[str], width: int, level: GlyphLevel) -> None:
    chat = transcript(width, level)
    reply = chat.open_reply()
    for piece in pieces:
        chat.extend(reply, piece, "answer")
        for line in shown(chat):
            assert not acts_on_a_terminal(line)
            assert cell_len(line.rstrip(" ")) <= width


@given(st.lists(st.text("ab \n\r\t中\u0301", max_size=12), max_size=8), st.integers(10, 20))
def test_text_that_came_in_pieces_looks_as_if_it_had_come_at_once(pieces: list[str], width: int) -> None:
    piecewise, at_once = transcript(width), transcript(width)
    for chat, texts in ((piecewise, pieces), (at_once, ["".join(pieces)])):
        reply = chat.open_reply()
        for text in texts:
            chat.extend(reply, text, "answer")
            shown(chat)
    assert shown(piecewise) == shown(at_once)


@pytest.mark.parametrize("text", HOSTILE_REPLIES, ids=range(len(HOSTILE_REPLIES)))
@pytest.mark.parametrize("level", LEVELS)
def test_hostile_messages_of_every_role_are_harmless(text: str, level: GlyphLevel) -> None:
    chat = transcript(24, level)
    chat.add("user", text)
    chat.add("note", text)
    reply = chat.open_reply()
    chat.extend(reply, text, "reasoning")
    chat.extend(reply, text, "answer")
    chat.close_reply(reply, text)
    lines = shown(chat)
    assert not acts_on_a_terminal("".join(lines))
    assert max(cell_len(line.rstrip(" ")) for line in lines) <= 24


def test_brackets_are_not_markup() -> None:
    chat = transcript(60)
    chat.add("assistant", "[/ and [b +, [red]x[/red]")
    assert shown(chat) == ["[/ and [b +, [red]x[/red]"]


@pytest.fixture
def long_chat() -> Transcript:
    chat = transcript(10)
    for number in range(30):
        chat.add("assistant", "\n".join(f"{number}.{line}" for line in range(number % 4 + 1)))
    return chat


def test_places_count_lines_up_and_down(long_chat: Transcript) -> None:
    lines = shown(long_chat)
    for index in range(len(lines)):
        place = long_chat.position_below(LinePosition(0, 0), index)
        assert shown(long_chat, place, 3) == lines[index : index + 3]
        assert long_chat.lines_below(place, 10_000) == len(lines) - index
        assert (
            shown(long_chat, long_chat.position_above(long_chat.end, len(lines) - index), 3) == lines[index : index + 3]
        )


def test_places_stop_at_both_ends(long_chat: Transcript) -> None:
    assert long_chat.position_above(long_chat.end, 10_000) == LinePosition(0, 0)
    assert long_chat.position_below(LinePosition(0, 0), 10_000) == long_chat.end


def test_only_what_is_looked_at_is_laid_out_again(long_chat: Transcript) -> None:
    shown(long_chat)
    long_chat.set_width(5)
    long_chat.rows(long_chat.position_above(long_chat.end, 5), 5)
    assert [block.width for block in long_chat._blocks].count(5) <= 6


def test_removing_the_last_turn_takes_everything_after_its_prompt() -> None:
    chat = transcript(40)
    chat.add("user", "hello")
    chat.add("note", "loaded")
    chat.add("user", "and now?")
    reply = chat.open_reply()
    chat.extend(reply, "thinking", "reasoning")
    chat.extend(reply, "hi", "answer")
    chat.close_reply(reply, "2 tok")
    chat.remove_last_turn()
    assert shown(chat) == ["you  hello", "", "· loaded"]


def test_only_the_lines_that_were_asked_for_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.tui.chat.transcript.LAID_OUT_MOST", 4)
    monkeypatch.setattr("edgetop.tui.chat.transcript.PACKED_FROM", 16)
    chat = transcript(14)
    for number in range(20):
        chat.add("user", f"hello, my number is {number} \udcff")
    texts = [block.text for block in chat.blocks]
    reply = chat.open_reply()
    chat.extend(reply, "a growing answer", "answer")
    whole = shown(chat)
    assert sum(bool(block.lines) for block in chat.blocks) == 4
    shown(chat, TOP, 40)
    assert [block.text for block in chat.blocks] == [*texts, "a growing answer"]
    chat.extend(reply, " that was away", "answer")
    assert shown(chat) == [*whole[:-1], "answer that ", "was away"]


def test_markdown_is_asked_for_once_when_the_reply_is_finished() -> None:
    asked: list[tuple[str, int]] = []

    def render(text: str, width: int) -> list[StyledLine]:
        asked.append((text, width))
        return [(Segment("styled"),)]

    chat = Transcript(glyphs_for("braille"), render)
    chat.set_width(30)
    chat.add("user", "**mine**")
    reply = chat.open_reply()
    chat.extend(reply, "**hm", "reasoning")
    chat.extend(reply, "\n\n**it", "answer")
    shown(chat)
    chat.extend(reply, "s**\n", "answer")
    shown(chat)
    assert asked == []
    chat.close_reply(reply, "")
    shown(chat)
    rows = chat.rows(LinePosition(0, 0), 100)
    assert asked == [("**its**", 30)]
    assert rows[-1] is not None
    assert rows[-1].content == (Segment("styled"),)


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("one paragraph that goes on", ""),
        ("one paragraph that ended\n\n", ""),
        ("one paragraph that ended\n\nn", "one paragraph that ended\n\n"),
        ("```python\na = 1\n\nb = 2\n", ""),
        ("```python\na = 1\n\nb = 2\n```\n\nnext", "```python\na = 1\n\nb = 2\n```\n\n"),
        ("~~~~\n~~~\n\nnot yet the end of it\n", ""),
        (
            "1. an item that is long\n\n   its second part\n\n2. next",
            "1. an item that is long\n\n   its second part\n\n",
        ),
        ("short\n\nx", ""),
    ],
)
def test_a_block_ends_at_a_blank_line_outside_of_fences_and_items(text: str, finished: str) -> None:
    scan = MarkdownScan()
    for end in range(len(text) + 1):
        scan.read(text[:end])
    assert text[: scan.end if scan.end >= FINISHED_AT_LEAST else 0] == finished
    at_once = MarkdownScan()
    at_once.read(text)
    assert at_once.end == scan.end


def test_an_answer_of_several_blocks_that_was_reasoning_is_one_thought() -> None:
    chat = transcript()
    message = chat.open_reply()
    chat.extend(message, "A first paragraph of it.\n\nA second one", "answer")
    chat.finish_blocks(message)
    assert len(chat.blocks) == 2
    chat.turn_into_reasoning(message)
    (thought,) = chat.blocks
    assert (thought.kind, thought.folded) == ("reasoning", True)
    assert thought.text == "A first paragraph of it.\n\nA second one"


def test_a_reply_of_nothing_but_blank_lines_makes_few_blocks() -> None:
    chat = transcript()
    message = chat.open_reply()
    for _ in range(3_000):
        chat.extend(message, "a\n\n", "answer")
        chat.finish_blocks(message)
    assert len(chat.blocks) <= 3_000 * 3 // FINISHED_AT_LEAST + 1


@pytest.mark.parametrize(
    "piece",
    ["\u0301", "\u0903", "\u0e33", "\u11a8", "\ufe0f", "👨\u200d", "b\u0301\u200d", "\u0915\u094d", "\U0001f3fd"],
)
def test_no_line_grows_beyond_bounds_whatever_has_no_width(piece: str) -> None:
    chat = transcript()
    message = chat.open_reply()
    chat.extend(message, "a", "answer")
    for _ in range(500):
        chat.extend(message, piece, "answer")
    assert max(map(len, shown(chat))) < 200

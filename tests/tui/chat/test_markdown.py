from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.segment import Segment
from rich.style import Style

from edgetop.tui.chat.markdown import render_markdown
from edgetop.tui.chat.transcript import MARKDOWN_ROLES, LinePosition, StyledLine, Transcript
from edgetop.tui.themes import LEVELS, GlyphLevel, glyphs_for
from tests.support.hostile_text import HOSTILE_REPLIES, acts_on_a_terminal, hostile_text

ROLE_STYLES = {role: Style(color=f"color({number})") for number, role in enumerate(MARKDOWN_ROLES, 20)}


def render(text: str, width: int = 40, level: GlyphLevel = "braille") -> list[StyledLine] | None:
    return render_markdown(text, width, Style(), ROLE_STYLES, glyphs_for(level))


def plain(lines: list[StyledLine] | None) -> list[str]:
    assert lines is not None
    return ["".join(segment.text for segment in line) for line in lines]


def role_of(lines: list[StyledLine] | None, word: str) -> list[str]:
    assert lines is not None
    styles = [segment.style for line in lines for segment in line if word in segment.text]
    return [role for role, style in ROLE_STYLES.items() for found in styles if found and found.color == style.color]


def test_marks_become_looks() -> None:
    text = "# Head\n\nSome *soft* and **hard** and `code`.\nNext line.\n\n- one • two\n  - inner\n\n1. first\n\n> said"
    assert plain(render(text)) == [
        "Head",
        "",
        "Some soft and hard and code.",
        "Next line.",
        "",
        " · one • two",
        "    · inner",
        "",
        " 1 first",
        "",
        "│ said",
    ]
    assert [role_of(render(text), word) for word in ("Head", "soft", "hard", "code", "said")] == [
        ["heading"],
        ["emphasis"],
        ["strong"],
        ["code"],
        ["quote"],
    ]


def test_code_is_highlighted_by_roles_and_kept_as_written() -> None:
    lines = render("```python\nif x:\n    return 'a'  # why\n```")
    assert plain(lines) == ["  if x:", "      return 'a'  # why"]
    assert role_of(lines, "return") == ["keyword"]
    assert role_of(lines, "why") == ["comment"]


def test_wrapped_code_is_marked_and_complete() -> None:
    line = "curl -sSL https://example.org/" + "x" * 90
    rows = plain(render(f"```sh\n{line}\n\ndone\n```", width=40))
    assert [row[0] for row in rows if row] == [" ", "↪", "↪", "↪", " "]
    assert "".join(row[2:] for row in rows if row).replace(" ", "") == f"{line}done".replace(" ", "")
    assert plain(render(f"```sh\n{line}\n```", width=40, level="ascii"))[1].startswith("> ")


def test_an_unfinished_fence_and_what_is_struck_through() -> None:
    assert plain(render("Try:\n\n```python\nx = 1")) == ["Try:", "", "  x = 1"]
    lines = render("~~gone~~ kept")
    assert plain(lines) == ["gone kept"]
    assert lines is not None
    assert [segment.text for segment in lines[0] if segment.style is not None and segment.style.strike] == ["gone"]


@pytest.mark.parametrize("block", ["- one\n- two", "1. one\n2. two", "> a quote", "```python\nx = 1\n```",
                                   "## A heading", "| a | b |\n|---|---|\n| 1 | 2 |"])  # fmt: skip
def test_an_answer_shown_block_by_block_as_it_grows_ends_as_if_it_had_come_at_once(block: str) -> None:
    text = f"A paragraph of some length.\n\n{block}\n\nAnother paragraph of some length.\n\n{block}\n\nThe end.\n"
    grown, whole = (Transcript(glyphs_for("braille"), render) for _ in range(2))
    for chat, pieces in ((grown, [text[at : at + 3] for at in range(0, len(text), 3)]), (whole, [text])):
        chat.set_width(40)
        reply = chat.open_reply()
        for piece in pieces:
            chat.extend(reply, piece, "answer")
            if chat is grown:
                chat.finish_blocks(reply)
        chat.close_reply(reply, "9 tok")
    assert len(grown.blocks) > len(whole.blocks)
    rows = [["" if row is None else row.plain for row in chat.rows(LinePosition(0, 0), 99)] for chat in (grown, whole)]
    assert rows[0] == rows[1]


def test_code_in_an_unknown_language_is_plain() -> None:
    lines = render("```nonesuch\nif x: [b]\n```")
    assert plain(lines) == ["  if x: [b]"]
    assert role_of(lines, "if") == ["code"]


@pytest.mark.parametrize(
    "text",
    [
        "[here][1] and ![it](c) and ![that](http://a.b/%1b)",
        "a <b>bold</b> <!-- hidden --> tag",
        "[name]: http://a.b",
        "&#x202e; &amp; &#27;",
        "~gone~ <http://a.b>",
    ],
)
def test_what_would_hide_text_is_shown_as_written(text: str) -> None:
    assert plain(render(text + " *x*", 80)) == [text + " x"]


def test_a_link_shows_its_address_as_it_was_written_behind_its_text() -> None:
    lines = render('see [here](http://ä.b/%1b "A *title*") and [](c)', 80)
    assert plain(lines) == ['see here (http://ä.b/%1b "A *title*") and  (c)']
    assert role_of(lines, "here") == ["code"]
    assert role_of(lines, "http") == ["mark"]
    assert plain(render("[x](javascript:alert)")) == ["[x](javascript:alert)"]


def test_a_table_keeps_words_whole_while_there_is_room_for_them() -> None:
    text = "|Model|Decode tok/s|Memory|Notes|\n|---|--:|--:|---|\n|SmolLM2-135M-Instruct|91.3|251 MiB|fits|\n"
    assert plain(render(text, width=60)) == [
        "                       Decode",
        "Model                   tok/s   Memory  Notes",
        "─" * 45,
        "SmolLM2-135M-Instruct    91.3  251 MiB  fits",
    ]


def test_a_table_without_room_becomes_a_list_of_its_rows() -> None:
    text = "| Model | Decode | Notes |\n|---|--:|---|\n| one | 91.3 | **fits** |\n| 模型 | 3 | |\n"
    lines = render(text, width=18)
    assert plain(lines) == ["Model: one", "Decode: 91.3", "Notes: fits", "", "Model: 模型", "Decode: 3", "Notes:"]
    assert role_of(lines, "Decode") == ["heading", "heading"]
    assert role_of(lines, "fits") == ["strong"]
    assert plain(render("|a" * 30 + "\n" + "|-" * 30 + "\n")) == ["a: a"] * 30


def test_a_table_breaks_long_words_instead_of_cutting_them() -> None:
    lines = plain(render("| a | b |\n|---|---|\n| 1 | " + "w" * 60 + " |"))
    assert "".join(lines).count("w") == 60


@pytest.mark.parametrize("text", [">" * 500 + " deep", "- " * 100 + "deep"])
def test_what_cannot_be_shown_whole_is_left_as_plain_text(text: str) -> None:
    assert render(text) is None


@pytest.mark.parametrize("text", HOSTILE_REPLIES, ids=range(len(HOSTILE_REPLIES)))
@pytest.mark.parametrize("level", LEVELS)
def test_hostile_replies_are_harmless(text: str, level: GlyphLevel) -> None:
    check(render(text[:6000], 40, level), 40)


@settings(deadline=None)
@given(hostile_text, st.integers(4, 60), st.sampled_from(LEVELS))
def test_any_text_gives_harmless_lines_that_fit(text: str, width: int, level: GlyphLevel) -> None:
    check(render(text, width, level), width)


def check(lines: list[StyledLine] | None, width: int) -> None:
    for line in lines or []:
        assert not acts_on_a_terminal("".join(segment.text for segment in line))
        assert Segment.get_line_length(list(line)) <= width
        assert not any(segment.control or (segment.style and segment.style.link) for segment in line)


def test_the_ascii_level_draws_with_ascii_only() -> None:
    lines = plain(render("- a\n\n> b\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---", 40, "ascii"))
    assert "".join(lines).isascii()

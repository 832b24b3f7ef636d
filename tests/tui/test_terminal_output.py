"""Short SGR sequences that draw the same picture, and text for the clipboard."""

from __future__ import annotations

import base64
import re

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color, ColorSystem
from rich.style import Style

from edgetop.tui.terminal_output import (
    BASE64_MAX,
    PLAIN,
    TEXT_MAX_BYTES,
    Run,
    SgrState,
    TooLongError,
    clipboard_requirement,
    clipboard_sequence,
    encode,
    sgr_state,
)

COLUMNS = 200


colours = st.one_of(
    st.none(),
    st.sampled_from(["red", "bright_blue", "default", "color(200)"]).map(Color.parse),
    st.tuples(*[st.integers(0, 255)] * 3).map(lambda rgb: Color.from_rgb(*rgb)),
)


styles = st.builds(
    lambda fore, back, bold, reverse, underline: Style(
        color=fore, bgcolor=back, bold=bold or None, reverse=reverse or None, underline=underline or None
    ),
    colours, colours, st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip


texts = st.text("abc ·│", max_size=5)


def picture(written: str) -> list[tuple[object, ...]]:
    """The cells of the first line, with all that is seen of them: of a blank, no colour of letters."""
    screen = pyte.Screen(COLUMNS, 1)
    pyte.Stream(screen).feed(written)
    cells = [screen.buffer[0][column] for column in range(COLUMNS)]
    return [
        tuple(cell._replace(fg="", bold=False) if cell.data == " " and not cell.reverse else cell) for cell in cells
    ]


def plain_after(written: str) -> bool:
    """Whether what is written next has no style."""
    screen = pyte.Screen(COLUMNS, 1)
    pyte.Stream(screen).feed(written + "\x1b[1;1HX")
    return tuple(screen.buffer[0][0]) == tuple(pyte.screens.Char("X"))


def look(style: Style) -> SgrState:
    drawn = style.render("x", color_system=ColorSystem.TRUECOLOR)
    return sgr_state(drawn[2 : drawn.index("m")]) if drawn != "x" else PLAIN


@given(st.lists(st.tuples(texts, styles), max_size=12))
def test_the_picture_is_the_same_and_no_longer(pieces: list[tuple[str, Style]]) -> None:
    drawn = "".join(style.render(text, color_system=ColorSystem.TRUECOLOR) for text, style in pieces)
    short = encode(Run(text, look(style)) for text, style in pieces)
    assert picture(short) == picture(drawn)
    assert len(short) <= len(drawn)
    assert plain_after(short)


FORE, FORE_2, BACK = "38;2;1;2;3", "38;2;7;7;7", "48;2;9;9;9"


def test_only_what_changes_is_said() -> None:
    looks = [sgr_state(f"1;{FORE};{BACK}"), sgr_state(f"1;{FORE_2};{BACK}"), sgr_state(f"{FORE_2};{BACK}")]
    runs = [Run(letter, each) for letter, each in zip("ABC", looks, strict=True)]
    assert encode(runs) == f"\x1b[1;{FORE};{BACK}mA\x1b[{FORE_2}mB\x1b[0;{FORE_2};{BACK}mC\x1b[0m"


def test_a_style_outlives_a_move_of_the_cursor() -> None:
    bold = sgr_state("1")
    runs = [Run("A", bold, "\x1b[2;3H"), Run("  ", bold, "\x1b[4;5H"), Run("B", bold)]
    assert encode(runs) == "\x1b[2;3H\x1b[1mA\x1b[4;5H  B\x1b[0m"


def test_a_move_is_made_even_where_nothing_is_written() -> None:
    assert encode([Run("", PLAIN, "\x1b[2;3H"), Run("A", PLAIN)]) == "\x1b[2;3HA"


def copied(sequence: str) -> str:
    """What a terminal would put into its clipboard."""
    match = re.fullmatch(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", sequence)
    assert match is not None
    return base64.b64decode(match[1]).decode("utf-8")


@given(st.text(st.characters(codec="utf-8")))
def test_a_terminal_gets_the_text_as_it_is(text: str) -> None:
    assert copied(clipboard_sequence(text, {})) == text


def test_tmux_gets_it_for_itself_and_wrapped_for_the_terminal_around_it() -> None:
    sequence = clipboard_sequence("naïve", {"TMUX": "/tmp/tmux-0/default,1,0"})
    own, _, wrapped = sequence.partition("\x1bPtmux;")
    assert copied(own) == "naïve"
    assert wrapped.endswith("\x1b\\")
    assert copied(wrapped.removesuffix("\x1b\\").replace("\x1b\x1b", "\x1b")) == "naïve"
    assert "tmux" in clipboard_requirement({"TMUX": "x"})
    assert "tmux" not in clipboard_requirement({})


def test_what_terminals_would_cut_off_is_refused() -> None:
    longest = "x" * TEXT_MAX_BYTES
    assert len(clipboard_sequence(longest, {})) <= BASE64_MAX + len("\x1b]52;c;\x07")
    with pytest.raises(TooLongError):
        clipboard_sequence(longest + "x", {})

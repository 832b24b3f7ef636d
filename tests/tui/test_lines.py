from __future__ import annotations

import random
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import ComposeResult

from edgetop.tui.app import BaseApp
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.styled_text import Line, Role, Span, fit, for_level, joined, line_of, shortened, spread, width_of
from edgetop.tui.widgets import LinesWidget
from tests.support.hostile_text import acts_on_a_terminal, hostile_text
from tests.tui.recording_terminal import attach_terminal


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


class LinesApp(BaseApp[None]):
    def compose(self) -> ComposeResult:
        yield LinesWidget()


async def test_only_lines_that_changed_are_written() -> None:
    app = LinesApp()
    terminal = attach_terminal(app)
    async with app.run_test(headless=False, size=(80, 24)) as pilot:
        widget = app.query_one(LinesWidget)
        lines = [line_of(f"line {number}") for number in range(20)]
        widget.show_lines(lines)
        await pilot.pause()
        before = terminal.written
        widget.show_lines(list(lines))
        await pilot.pause()
        assert terminal.written == before
        lines[7] = line_of("changed")
        widget.show_lines(lines)
        await pilot.pause()
        assert terminal.display[7].startswith("changed")
        assert 0 < terminal.written - before < 200
        widget.show_lines(lines[:5])
        await pilot.pause()
        assert [row.strip() for row in terminal.display[4:9]] == ["line 4", "", "", "", ""]


ROLES: tuple[Role, ...] = get_args(Role)


def random_line(chance: random.Random) -> Line:
    """Some words of several widths and roles."""
    words = [
        chance.choice(["", "a", "12", "tok/s ", "文字", "e\u0301", "·", "      ", "⣿", "❤\ufe0f"]) for _ in range(9)
    ]
    return line_of(*(Span(word, chance.choice(ROLES)) for word in words))


async def test_however_lines_change_they_look_as_if_drawn_at_once() -> None:
    chance = random.Random(1)  # noqa: S311 - the same every time
    app = LinesApp()
    terminal = attach_terminal(app)
    async with app.run_test(headless=False, size=(80, 24)) as pilot:
        widget = app.query_one(LinesWidget)
        for _ in range(40):
            lines = [random_line(chance) for _ in range(chance.randrange(20))]
            widget.show_lines(lines)
            await pilot.pause()
            # What stood there before shows nowhere: the same cells come from painting everything anew.
            grown = terminal.cells()
            widget.refresh()
            await pilot.pause()
            assert grown == terminal.cells()

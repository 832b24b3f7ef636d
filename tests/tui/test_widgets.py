"""What the line widget paints."""

from __future__ import annotations

import random
import threading
from typing import get_args

from textual.app import ComposeResult

from edgetop.tui.app import BaseApp
from edgetop.tui.keys import HELP
from edgetop.tui.styled_text import Line, Role, Span, line_of
from edgetop.tui.widgets import BaseScreen, KeyBar, LinesWidget
from tests.tui.recording_terminal import attach_terminal
from tests.tui.screen_text import until


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


async def test_a_line_below_the_end_of_a_terminal_that_shrinks_is_drawn_later() -> None:
    app = LinesApp()
    terminal = attach_terminal(app)
    async with app.run_test(headless=False, size=(80, 24)) as pilot:
        widget = app.query_one(LinesWidget)
        lines = [line_of(f"line {number}") for number in range(20)]
        widget.show_lines(lines)
        await pilot.pause()
        compositor = app.screen._compositor
        compositor._layers_visible = compositor.layers_visible[:5]
        lines[7] = line_of("changed")
        widget.show_lines(lines)
        await pilot.pause()
        assert terminal.display[7].startswith("changed")


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


class ScreenOfTwo(BaseScreen[None]):
    TABLE = HELP

    def compose(self) -> ComposeResult:
        yield LinesWidget()
        yield KeyBar()


async def test_a_worker_does_not_call_a_screen_that_closes() -> None:
    app = BaseApp[None]()
    async with app.run_test() as pilot:
        screen = ScreenOfTwo()
        await app.push_screen(screen)
        heard: list[str] = []
        closes = threading.Event()

        def work() -> None:
            screen.call_from_worker(heard.append, "open")
            assert closes.wait(60)
            screen.call_from_worker(heard.append, "closing")

        worker = screen.run_worker(work, thread=True)
        await until(pilot, lambda: heard == ["open"], "the first call")
        await screen.query_one(KeyBar).remove()
        closes.set()
        await worker.wait()
        assert heard == ["open"]

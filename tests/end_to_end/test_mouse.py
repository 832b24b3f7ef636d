"""The mouse as a terminal reports it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from edgetop.inference.scripted import Reply
from tests.end_to_end.recorded_terminal import RecordedTerminal
from tests.support.isolated_home import IsolatedHome

F10 = "\x1b[21~"
TRACKING = re.compile(rb"\x1b\[\?(100[0-3])([hl])")


def click(terminal: RecordedTerminal, words: str) -> None:
    """Press and release the left button on words of the screen."""
    row, line = next((row, line) for row, line in enumerate(terminal.text.splitlines(), 1) if words in line)
    place = f"0;{line.index(words) + 1};{row}"
    terminal.press(f"\x1b[<{place}M\x1b[<{place}m")


def test_a_click_does_what_the_key_does_and_moves_are_not_even_asked_for(
    open_terminal: Callable[[Sequence[str]], RecordedTerminal], home: IsolatedHome
) -> None:
    terminal = open_terminal(home.scripted(Reply(text="It is.")))
    terminal.sees("loaded in")
    terminal.sees("Esc Panes  F1 Help")  # "Esc Stop" until it is loaded: F1 moves
    asked = dict(TRACKING.findall(terminal.written))
    assert asked[b"1002"] == b"h"
    assert asked[b"1003"] == b"l"
    click(terminal, "F1 Help")
    terminal.sees("help: Esc closes")
    terminal.press("\x1b")
    terminal.sees("Esc Panes")
    terminal.press(F10)
    assert terminal.exit_code() == 0
    assert set(dict(TRACKING.findall(terminal.written)).values()) == {b"l"}


def test_without_the_mouse_the_terminal_keeps_it(
    open_terminal: Callable[[Sequence[str]], RecordedTerminal], home: IsolatedHome
) -> None:
    terminal = open_terminal([*home.scripted(Reply(text="It is.")), "--no-mouse"])
    terminal.sees("loaded in")
    terminal.press(F10)
    assert terminal.exit_code() == 0
    assert not TRACKING.findall(terminal.written)

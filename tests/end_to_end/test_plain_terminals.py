"""Terminals that show little: no UTF-8, the kernel's console, no colours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from edgetop.inference.scripted import Reply
from tests.end_to_end.recorded_terminal import RecordedTerminal
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome

Open = Callable[[Sequence[str]], RecordedTerminal]

_F10 = "\x1b[21~"
_REPLY = Reply(text="A **bold** word, a list:\n\n- one\n- two\n\n> quoted\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")


def visit(terminal: RecordedTerminal) -> None:
    """Ask, look at the help and at the models, go through a theme, and leave."""
    terminal.sees("loaded in")
    terminal.type("A question.")
    terminal.sees(r"\d+ tok . [\d.]+ tok/s")
    terminal.press("\x1bOP")
    terminal.sees("(?i)earlier prompts")
    terminal.press("\x1b")
    eventually(lambda: "earlier prompts" not in terminal.text.casefold(), "the help is closed")
    terminal.type("/stats")
    terminal.sees("1 turn")
    terminal.press(_F10)
    assert terminal.exit_code() == 0


@pytest.mark.parametrize("said", [{"LANG": "C"}, {"LANG": "C.UTF-8", "TERM": "linux"}], ids=["C", "linux"])
def test_only_ascii_is_written_where_nothing_else_can_be_shown(
    said: dict[str, str], open_terminal: Open, home: IsolatedHome
) -> None:
    command = home.scripted(_REPLY)
    home.environment.update(said)
    terminal = open_terminal(command)
    visit(terminal)
    strange = re.findall(rb"[\x20-\x7e]*[\x80-\xff]+[\x20-\x7e]*", terminal.written)
    assert strange == []


def colours(written: bytes) -> set[str]:
    """The parameters of all sequences that choose a colour other than the terminal's own."""
    chosen: set[str] = set()
    for parameters in re.findall(rb"\x1b\[([\d;:]*)m", written):
        codes = [int(code) for code in re.split(r"[;:]", parameters.decode()) if code]
        if any(30 <= code <= 38 or 40 <= code <= 48 or 90 <= code <= 107 for code in codes):
            chosen.add(parameters.decode())
    return chosen


def test_no_colours_are_written_where_none_are_wanted(open_terminal: Open, home: IsolatedHome) -> None:
    command = home.scripted(_REPLY)
    coloured = open_terminal(command)
    visit(coloured)
    assert colours(coloured.written)

    home.environment["NO_COLOR"] = "1"
    plain = open_terminal(command)
    visit(plain)
    assert colours(plain.written) == set()


EXTENDED = {"5": 256, "2": 2**24}


def colour_depth(written: bytes) -> int:
    """How many colours a terminal must have for what was written: 16, 256 or all of them."""
    extended = re.compile(r"(?:38|48)[;:](?:(5)[;:]\d+|(2)[;:]\d+[;:]\d+[;:]\d+)|\d+")
    kinds = {match[1] or match[2] for parameters in colours(written) for match in extended.finditer(parameters)}
    return max((EXTENDED[kind] for kind in kinds if kind), default=16)


@pytest.mark.parametrize(
    ("said", "depth"),
    [
        ({"TERM": "xterm"}, 16),
        ({"TERM": "screen"}, 16),
        ({"TERM": "tmux"}, 16),
        ({"TERM": "linux"}, 16),
        ({"TERM": "tmux-256color"}, 256),
        ({"TERM": "xterm-256color"}, 256),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, 2**24),
        ({"TERM": "xterm", "EDGETOP_THEME": "ansi"}, 16),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "EDGETOP_THEME": "light"}, 2**24),
    ],
    ids=["xterm", "screen", "tmux", "linux", "tmux-256", "xterm-256", "true colour", "own colours", "light"],
)
def test_no_terminal_is_asked_for_colours_that_it_has_not(
    said: dict[str, str], depth: int, open_terminal: Open, home: IsolatedHome
) -> None:
    command = home.scripted(_REPLY)
    home.environment.update(said)
    terminal = open_terminal(command)
    visit(terminal)
    assert colour_depth(terminal.written) == depth

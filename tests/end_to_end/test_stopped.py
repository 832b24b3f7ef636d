"""A process that is stopped from outside and goes on, and one whose terminal takes nothing any more or is gone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import psutil

from edgetop.inference.scripted import Reply
from tests.end_to_end.recorded_terminal import RecordedTerminal
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome, reply_of, words

ESCAPE, F10 = "\x1b", "\x1b[21~"


def test_the_screen_is_whole_again_and_ends_in_good_order(
    open_terminal: Callable[[Sequence[str]], RecordedTerminal], home: IsolatedHome
) -> None:
    terminal = open_terminal(home.scripted(Reply(text=words(60)), Reply(text="And an end.")))
    terminal.sees("loaded in")
    screen = home.screen()
    threads = screen.num_threads()
    for _ in range(3):
        screen.send_signal(signal.SIGSTOP)
        eventually(lambda: screen.status() == psutil.STATUS_STOPPED, "it has stopped")
        screen.send_signal(signal.SIGCONT)
        eventually(partial(draws_anew, terminal, len(terminal.written)), "all is drawn anew")
    assert screen.num_threads() <= threads
    terminal.type("Count.")
    terminal.sees("word60")
    terminal.sees(r"\d+ tok · ")
    terminal.type("And then?")
    terminal.sees("And an end.")
    terminal.press(F10)
    assert terminal.exit_code() == 0
    home.everyone_gone()
    assert [reply_of(turn) for turn in home.only_session().turns] == [words(60), "And an end."]


def draws_anew(terminal: RecordedTerminal, begin: int) -> bool:
    """Whether the line of keys has been written after the first `begin` bytes."""
    assert terminal.text
    return b"F10" in terminal.written[begin:]


def test_a_terminal_that_is_stuck_does_not_keep_the_session_from_being_saved(
    open_terminal: Callable[[Sequence[str]], RecordedTerminal], home: IsolatedHome
) -> None:
    terminal = open_terminal(home.scripted(Reply(text=words(5000))))
    terminal.sees("loaded in")
    terminal.type("Count.")
    terminal.sees("word20 ")
    # From here on nobody reads, and each change of the theme paints the whole screen.
    terminal.press(ESCAPE)
    for _ in range(200):
        terminal.press("t")
    screen = home.screen()
    eventually(lambda: waits_for_terminal(screen), "the screen waits for the terminal")
    screen.send_signal(signal.SIGTERM)
    home.everyone_gone()
    (turn,) = home.only_session().turns
    assert turn.figures.stop_reason == "cancelled"
    assert "word20 " in reply_of(turn)


def test_a_terminal_that_is_gone_ends_the_session_in_good_order(
    open_terminal: Callable[[Sequence[str]], RecordedTerminal], home: IsolatedHome
) -> None:
    """Below a shell that keeps the signal to itself, as `nohup` and some launchers do."""
    shell = ["/bin/sh", "-c", 'trap "" HUP; "$@"; true', "sh"]
    terminal = open_terminal([*shell, *home.scripted(Reply(text=words(5000)))])
    terminal.sees("loaded in")
    terminal.type("Count.")
    terminal.sees("word20 ")
    terminal.hang_up()
    home.everyone_gone()
    (turn,) = home.only_session().turns
    assert turn.figures.stop_reason == "cancelled"
    assert "word20 " in reply_of(turn)


def waits_for_terminal(process: psutil.Process) -> bool:
    """Whether a thread is held up in writing to a terminal (as the kernel names the place that it waits in)."""
    places = [Path(f"/proc/{process.pid}/task/{thread.id}/wchan").read_text() for thread in process.threads()]
    return any("tty_write" in place or place == "wait_woken" for place in places)

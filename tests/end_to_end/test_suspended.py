"""Ctrl+Z and `fg` in a shell, while a model answers."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import psutil

from edgetop.inference.scripted import Reply
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome, reply_of, words
from tests.support.tmux import Tmux


def test_the_screen_goes_to_the_shell_and_comes_back_whole_while_the_model_goes_on(
    open_tmux: Callable[..., Tmux], home: IsolatedHome
) -> None:
    command = home.scripted(Reply(text=words(150)), Reply(text="And an end."), tokens_per_s=60)
    window = open_tmux(["bash", "--norc", "--noprofile", "-i"])
    window.type(shlex.join(command))
    window.sees("loaded in")
    window.type("Count.")
    window.sees("word3")
    screen, worker = home.screen(), home.worker()
    window.press("C-z")
    eventually(lambda: screen.status() == psutil.STATUS_STOPPED, "the screen has stopped")
    window.sees("Stopped")
    assert worker.status() != psutil.STATUS_STOPPED
    window.type("fg")
    window.sees(r"F1 Help")
    window.sees("word150")
    window.sees(r"\d+ tok · ")
    assert "Stopped" not in window.text
    window.type("And then?")
    window.sees("And an end.")
    window.press("F10")
    window.sees("session: ")
    window.type("exit")
    assert window.exit_code() == 0
    home.everyone_gone()
    session = home.only_session()
    assert [reply_of(turn) for turn in session.turns] == [words(150), "And an end."]
    counted = session.turns[0]
    assert counted.figures.stop_reason == "end_of_generation"

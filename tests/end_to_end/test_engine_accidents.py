"""An engine that crashes once: the person's question is answered all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest

from edgetop.inference.scripted import InjectedFault, Reply
from tests.support.isolated_home import IsolatedHome, kinds, reply_of
from tests.support.tmux import Tmux

_ANSWER = "Paris is the capital of France."


@pytest.mark.parametrize("kind", ["segfault", "abort"])
def test_a_crash_in_the_first_decode_is_mended_by_itself(
    kind: Literal["segfault", "abort"], open_tmux: Callable[..., Tmux], home: IsolatedHome
) -> None:
    fault = InjectedFault(kind=kind, at_token=1, unless_extra_bufts_off=True)
    window = open_tmux(home.scripted(Reply(text=_ANSWER, fault=fault)))
    window.sees("loaded in")
    window.type("What is the capital of France?")
    window.sees(_ANSWER)
    window.sees(r"\d+ tok · [\d.]+ tok/s")
    window.press("F10")
    assert window.exit_code() == 0
    home.everyone_gone()

    file = home.only_session()
    crashed, answered = file.turns
    assert crashed.figures.stop_reason == "engine_died"
    assert answered.figures.stop_reason == "end_of_generation"
    assert answered.retry_of == crashed.turn
    assert answered.prompt == crashed.prompt == "What is the capital of France?"
    assert reply_of(answered) == _ANSWER
    assert [load.settings.use_extra_bufts for load in file.loads] == [True, False]
    assert kinds(file).count("engine_died") == kinds(file).count("engine_restarted") == 1


def test_without_a_screen_a_crash_in_the_first_decode_is_mended_by_itself(home: IsolatedHome) -> None:
    fault = InjectedFault(kind="segfault", unless_extra_bufts_off=True)
    home.scripted(Reply(text=_ANSWER, fault=fault))
    run = home.run("run", "-p", "What is the capital of France?")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(_ANSWER) == 1
    assert "engine_restarted" in kinds(home.only_session())


def test_an_engine_that_crashes_every_time_is_not_tried_for_ever(home: IsolatedHome) -> None:
    home.scripted(Reply(text=_ANSWER, fault=InjectedFault(kind="segfault")))
    run = home.run("run", "-p", "What is the capital of France?")
    assert run.returncode == 1
    assert "crashed in its first decode" in run.stderr
    assert "Traceback" not in run.stderr
    file = home.only_session()
    assert [turn.figures.stop_reason for turn in file.turns] == ["engine_died", "engine_died"]

"""The real model on a real terminal: what a person does in the first minutes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edgetop.core.format import format_rate
from edgetop.session.file import TurnEntry
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome, kinds, reply_of
from tests.support.tmux import Tmux

_FIGURES = r"\d+ tok · [\d.]+ tok/s · first token [\d.]+ m?s"
_STORY = "Tell a very long story about a river."


def context_used(screen: str) -> int:
    match = re.search(r"Ctx\[\|*\s*(\d+)/\d+\]", screen)
    return int(match[1]) if match else 0


def words_in(*lines: str) -> str:
    """Lines as one text, however it was wrapped."""
    return " ".join(" ".join(lines).split())


def chat(screen: str) -> str:
    """What the chat says."""
    return words_in(*re.findall(r"(?m)^│(.*?)│", screen))


def panes(screen: str) -> str:
    """What the panes beside the chat say."""
    return words_in(*re.findall(r"^│[^│]*││?([^│]*)│?$", screen, re.MULTILINE))


def ending(reply: str) -> str:
    """The last words of a reply, which are still in view however long it is."""
    return words_in(reply)[-30:]


def figures_of(turn: TurnEntry) -> str:
    return f"{turn.figures.generated_tokens} tok · {format_rate(turn.figures.decode_tokens_per_s)}"


def screen_after(window: Tmux, pattern: str) -> str:
    """The screen with the figures of a turn, once the panes, drawn more rarely than the chat, have them as well."""
    rate = re.search(r"[\d.]+ tok/s", window.sees(pattern)[0])
    assert rate is not None
    window.sees(decode_of(rate[0]))
    return window.text


def decode_of(rate: str) -> str:
    """The speed as the tokens pane has it, and as its one line where that is all there is room for."""
    return rf"decode {re.escape(rate)}|{re.escape(rate)} decode"


def test_chat_stop_resize_and_quit(open_tmux: Callable[..., Tmux], home: IsolatedHome, small_model: Path) -> None:
    window = open_tmux(home.command("-m", str(small_model), "--temp", "0", "--threads", "1"))
    window.sees("loaded in")
    window.type("/set max_tokens 40")
    window.type("Say hello.")
    first_screen = screen_after(window, _FIGURES)
    window.type("/set max_tokens none")
    window.type(_STORY)
    window.sees(rf"you  {_STORY}[\s\S]*[Rr]iver")
    window.resize(80, 24)
    narrow = window.sees(r"(?m)^ pwr .*$")
    grown_from = context_used(window.text)
    eventually(lambda: context_used(window.text) > grown_from, "the answer grows on", told=lambda: window.text)
    window.press("C-c")
    second_screen = screen_after(window, rf"{_FIGURES} · stopped")
    window.press("F10")
    assert window.exit_code() == 0
    home.everyone_gone()

    file = home.only_session()
    first, second = file.turns
    assert first.figures.stop_reason in {"end_of_generation", "max_tokens"}
    assert second.figures.stop_reason == "cancelled"
    assert (first.prompt, second.prompt) == ("Say hello.", _STORY)
    for turn in file.turns:
        assert len(turn.tokens.dt_us) == turn.figures.generated_tokens > 2
    assert {"model_loading", "session_ended"} <= set(kinds(file))
    assert {"cpu", "memory", "engine"} <= {series.source.name for series in file.series if len(series.dt_us) > 1}

    # What a person reads on the screen is what the file says.
    model = file.loads[0].model
    assert model.name in first_screen
    assert model.quantization in first_screen
    assert ending(reply_of(first)) in chat(first_screen)
    assert figures_of(first) in first_screen
    assert re.search(decode_of(format_rate(first.figures.decode_tokens_per_s)), first_screen)
    assert ending(reply_of(second)) in chat(second_screen)
    assert figures_of(second) in second_screen
    assert re.search(decode_of(format_rate(second.figures.decode_tokens_per_s)), second_screen)
    assert all(len(line) <= 80 for line in second_screen.splitlines())
    if file.summary.energy is None:
        begins = " ".join(file.absent["power"].reason.split()[:2]).casefold()
        assert "J/token n/a" in first_screen
        assert begins in first_screen.casefold()
        assert begins in narrow[0].casefold()
    window.sees(r"session: \S+")


def test_a_worker_killed_in_the_middle_of_an_answer_can_be_reloaded(
    open_tmux: Callable[..., Tmux], home: IsolatedHome, small_model: Path
) -> None:
    window = open_tmux(home.command("-m", str(small_model), "--temp", "0", "--threads", "1"))
    window.sees("loaded in")
    window.type(_STORY)
    eventually(lambda: context_used(window.text) > 70, "an answer grows", told=lambda: window.text)
    worker = home.worker()
    worker.kill()
    window.sees("· The engine was killed")
    eventually(lambda: "/reload" in chat(window.text), "what to do is said", told=lambda: window.text)
    assert "The engine was killed from outside (SIGKILL) in the middle of an answer." in chat(window.text)
    assert re.search(rf"{_FIGURES} · the engine died", window.text)
    window.type("/reload")
    eventually(lambda: window.text.count("loaded in") == 2, "the model is there again", told=lambda: window.text)
    window.type("/set max_tokens 40")
    window.type("Say hello.")
    window.sees(rf"you  Say hello\.[\s\S]*{_FIGURES}")
    window.press("F10")
    assert window.exit_code() == 0
    home.everyone_gone()

    file = home.only_session()
    broken, answered = file.turns
    assert broken.figures.stop_reason == "engine_died"
    assert broken.end is not None
    assert broken.end.error
    assert reply_of(broken)
    assert answered.figures.stop_reason in {"end_of_generation", "max_tokens"}
    assert len(file.loads) == 2
    assert "engine_died" in kinds(file)

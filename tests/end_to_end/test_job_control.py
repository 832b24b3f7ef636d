"""Background and foreground, redirected streams, a killed screen: the terminal as a shell leaves it."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable

import psutil

from edgetop.inference.scripted import Reply
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.tmux import Tmux

_BASH = ["bash", "--norc", "--noprofile", "-i"]


def stopped(home: IsolatedHome) -> bool:
    return [each.status() for each in home.processes()] == [psutil.STATUS_STOPPED]


def ended(window: Tmux, home: IsolatedHome) -> None:
    window.press("F10")
    window.sees("session: ")
    window.type("exit")
    assert window.exit_code() == 0
    home.everyone_gone()


def test_started_in_the_background_the_screen_appears_in_the_foreground(
    open_tmux: Callable[..., Tmux], home: IsolatedHome
) -> None:
    command = home.scripted(Reply(text="Paris."))
    window = open_tmux(_BASH)
    window.type(f"{shlex.join(command)} &")
    for again in ("", "bg"):
        eventually(lambda: stopped(home), "it has stopped", told=lambda: window.text)
        window.type(again)
    window.type("fg")
    window.sees("loaded in")
    window.type("Capital?")
    window.sees(r"Paris\.")
    ended(window, home)


def test_suspended_and_continued_in_the_background_it_waits_for_the_foreground(
    open_tmux: Callable[..., Tmux], home: IsolatedHome
) -> None:
    command = home.scripted(Reply(text="Paris."))
    window = open_tmux(_BASH)
    window.type(shlex.join(command))
    window.sees("loaded in")
    window.press("C-z")
    window.sees("Stopped")
    for _ in range(2):
        window.type("bg")
        eventually(lambda: home.screen().status() == psutil.STATUS_STOPPED, "it stops again")
    window.type("fg")
    window.sees("loaded in")
    window.type("Capital?")
    window.sees(r"Paris\.")
    ended(window, home)


def test_what_a_killed_screen_leaves_is_restored(open_tmux: Callable[..., Tmux], home: IsolatedHome) -> None:
    command = home.scripted(Reply(text="Paris."))
    window = open_tmux(_BASH)
    window.type(shlex.join(command))
    window.sees("loaded in")
    assert window.modes() == "1 1"
    home.screen().kill()
    eventually(lambda: window.modes() == "0 0", "neither mouse nor alternate screen is left", told=window.modes)
    window.type("stty -a | grep -c -e ' -echo ' -e ' -icanon'")
    window.sees(r"(?m)^0$")
    window.type("exit 0")
    assert window.exit_code() == 0


def test_an_interrupt_from_outside_saves_and_is_exit_130(open_tmux: Callable[..., Tmux], home: IsolatedHome) -> None:
    window = open_tmux(home.scripted(Reply(text="Paris.")))
    window.sees("loaded in")
    window.type("Capital?")
    window.sees(r"Paris\.")
    home.screen().send_signal(signal.SIGINT)
    assert window.exit_code() == 130
    assert "session: " in window.text
    assert "Traceback" not in window.text
    home.only_session()


def test_the_screen_belongs_to_the_terminal_wherever_errors_go(
    open_tmux: Callable[..., Tmux], home: IsolatedHome
) -> None:
    command = home.scripted(Reply(text="Paris."))
    window = open_tmux(["sh", "-c", f"{shlex.join(command)} 2>errors"])
    window.sees("loaded in")
    window.type("Capital?")
    window.sees(r"Paris\.")
    window.press("F10")
    assert window.exit_code() == 0
    assert "\x1b" not in (home.folder / "errors").read_text("utf-8")
    for verb in ("watch", "replay 1"):
        viewer = open_tmux(["sh", "-c", f"{shlex.join(command)} {verb} 2>/dev/null"])
        viewer.sees("q Quit")
        viewer.press("q")
        assert viewer.exit_code() == 0


def test_the_terminals_own_size_wins_over_the_environments(open_tmux: Callable[..., Tmux], home: IsolatedHome) -> None:
    command = home.scripted(Reply(text="Paris."))
    home.environment.update({"COLUMNS": "99999", "LINES": "5"})
    window = open_tmux(["env", "COLUMNS=99999", "LINES=5", *command], 100, 30)
    window.sees("loaded in")
    window.sees(r"(?m)^ .*F10 Quit.*$")
    assert len(window.text.rstrip("\n").splitlines()) == 30
    window.resize(80, 24)
    eventually(
        lambda: len(window.text.rstrip("\n").splitlines()) == 24, "it is drawn smaller", told=lambda: window.text
    )
    window.sees("F10 Quit")
    window.press("F10")
    assert window.exit_code() == 0

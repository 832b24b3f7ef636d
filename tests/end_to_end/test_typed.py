"""What a real terminal sends: late reports, pastes, keys in one packet, hostile sequences; and a defect of a screen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import pytest

from edgetop.inference.scripted import Reply
from tests.end_to_end.recorded_terminal import RecordedTerminal
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.tmux import Tmux

Open = Callable[[Sequence[str]], RecordedTerminal]

_F10 = "\x1b[21~"
_PASTE = "\x1b[200~first \x1b[31mERROR\x1b[0m line\rsecond line\rthird line"


def quit_with_prompts(terminal: RecordedTerminal, home: IsolatedHome, *prompts: str) -> None:
    """Leave, and compare what was asked."""
    terminal.press(_F10)
    assert terminal.exit_code() == 0
    asked = [turn.prompt for turn in home.only_session().turns]
    assert asked == list(prompts)


@pytest.fixture
def chat(open_terminal: Open, home: IsolatedHome) -> RecordedTerminal:
    terminal = open_terminal(home.scripted(*[Reply(text="An answer.")] * 5))
    terminal.sees("loaded in")
    return terminal


def test_late_reports_are_neither_typed_nor_keys(chat: RecordedTerminal, home: IsolatedHome) -> None:
    chat.type("One.")
    chat.sees(r"An answer\.[\s\S]*tok/s")
    for reports in ("", "\x1b"):
        chat.press(reports)
        if reports:
            chat.sees("q Quit")
        chat.press("\x1b]11;rgb:0000/ffff/1111\x07\x1b[?64;1;2c\x1bP>|q(1)\x1b\\")
        chat.press("\x1b]l/rail q\x1b\\\x1b_Gi=1;OK\x1b\\\x1b[>0;1;2c\x1b[48;99999;99999;1;1t")
    chat.press("i")
    chat.sees("Esc Panes")
    chat.type("Two.")
    chat.sees(r"Two\.[\s\S]*An answer\.")
    quit_with_prompts(chat, home, "One.", "Two.")


def test_a_coloured_paste_is_one_prompt_and_sends_nothing(chat: RecordedTerminal, home: IsolatedHome) -> None:
    chat.press(f"{_PASTE}\x1b[201~")
    chat.sees("third line")
    chat.press("!\r")
    chat.sees(r"An answer\.")
    quit_with_prompts(chat, home, "first ␛[31mERROR␛[0m line\nsecond line\nthird line!")


def test_a_paste_without_an_end_takes_no_key_for_good(chat: RecordedTerminal, home: IsolatedHome) -> None:
    chat.press(_PASTE)
    chat.sees("third line")  # after a second of silence
    chat.press("\r")
    chat.sees(r"An answer\.")
    chat.press("\x1b[200~and")
    chat.press("\x03")
    chat.sees("and")
    quit_with_prompts(chat, home, "first ␛[31mERROR␛[0m line\nsecond line\nthird line")


def test_keys_in_one_packet_go_where_each_belongs(chat: RecordedTerminal, home: IsolatedHome) -> None:
    chat.type("One.")
    chat.sees(r"An answer\.[\s\S]*tok/s")
    chat.press("\x1b")
    chat.sees("q Quit")
    chat.press("/rail")
    chat.sees(r"/ rail")
    chat.press("\x1b")
    eventually(lambda: "/ rail" not in chat.text, "the search is closed")
    chat.press("iTwo.\r")
    chat.sees(r"Two\.[\s\S]*An answer\.")
    quit_with_prompts(chat, home, "One.", "Two.")


def test_kitty_keys_never_end_the_screen(chat: RecordedTerminal, home: IsolatedHome) -> None:
    chat.press("\x1b[97:65;2;65u\x1b[97;1:3u\x1b[1114112u\x1b[13u")
    chat.sees(r"An answer\.")
    quit_with_prompts(chat, home, "A")


def test_a_click_beyond_the_screen_leaves_the_prompt_as_it_is(chat: RecordedTerminal, home: IsolatedHome) -> None:
    chat.press("First\x1b[<0;99999;99999M\x1b[<0;99999;99999m")
    chat.sees("First")
    chat.press(" second.\r")
    chat.sees(r"An answer\.")
    quit_with_prompts(chat, home, "First second.")


def test_a_paste_of_tmux_is_one_prompt(open_tmux: Callable[..., Tmux], home: IsolatedHome) -> None:
    window = open_tmux([*home.scripted(Reply(text="An answer."))])
    window.sees("loaded in")
    window.paste("first \x1b[31mERROR\x1b[0m line\nsecond line\nthird line")
    window.sees("third line")
    window.press("Enter")
    window.sees(r"An answer\.")
    window.press("F10")
    assert window.exit_code() == 0
    assert [turn.prompt for turn in home.only_session().turns] == ["first ␛[31mERROR␛[0m line\nsecond line\nthird line"]


def test_a_defect_of_a_screen_is_exit_1_without_a_trace(open_terminal: Open, home: IsolatedHome) -> None:
    home.scripted(Reply(text="An answer."))
    program = (
        "import sys; from edgetop.tui.screens.live import LiveScreen; "
        "LiveScreen.action_zoom_pane = lambda self: 1 // 0; "
        "sys.argv = ['edgetop', '-v', '--log', 'log']; from edgetop.cli import main; main()"
    )
    terminal = open_terminal([sys.executable, "-c", program])
    terminal.sees("loaded in")
    terminal.press("\x1b")
    terminal.sees("q Quit")
    terminal.press("z")
    assert terminal.exit_code() == 1
    assert "Traceback" not in terminal.text
    assert "internal error, please report it: ZeroDivisionError" in terminal.text
    assert "is written in log" in terminal.text
    assert "action_zoom_pane" not in terminal.text
    assert "ZeroDivisionError" in (home.folder / "log").read_text("utf-8")
    assert (home.folder / "log").stat().st_mode & 0o777 == 0o600

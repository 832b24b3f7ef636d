"""The chat in lines: in a pipe, and on a terminal whose every byte is looked at."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgetop.inference.scripted import InjectedFault, Reply
from tests.end_to_end.recorded_terminal import RecordedTerminal
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.recorded_sessions import journal_lines

Open = Callable[[Sequence[str]], RecordedTerminal]
LONG = Reply(text="word " * 20_000)
PARIS, ROME = Reply(text="Paris is the capital."), Reply(text="Rome.")


def texts(home: IsolatedHome) -> list[str]:
    """The answers in the one session."""
    return ["".join(span.text for span in turn.reply) for turn in home.only_session().turns]


def test_a_pipe_is_answered_line_by_line(home: IsolatedHome) -> None:
    home.scripted(PARIS, ROME)
    ran = home.run(
        "--plain", stdin="Capital of France?\n\n//usr?\n/stats\n/nothing\n/relod\n/help\n/quit\nnever asked\n"
    )
    assert (ran.returncode, ran.stdout) == (0, "Paris is the capital.\nRome.\n")
    figures = r"^\[\d+ tokens, .* tok/s, first token .*, context \d+ of 4096, energy"
    assert len(re.findall(figures, ran.stderr, re.MULTILINE)) == 2
    assert "2 turns" in ran.stderr
    assert "There is no command /nothing; /help lists them." in ran.stderr
    assert "There is no command /relod; did you mean /reload?" in ran.stderr
    assert "/retry: answer the last prompt once more." in ran.stderr
    assert "\x1b" not in ran.stdout + ran.stderr
    assert "\r" not in ran.stdout + ran.stderr
    assert [turn.prompt for turn in home.only_session().turns] == ["Capital of France?", "/usr?"]


def test_commands_change_the_conversation(home: IsolatedHome) -> None:
    home.scripted(PARIS, ROME)
    (home.folder / "notes.txt").write_text("First line.\nSecond line.\n")
    told = "One?\n/retry\n/edit\nTwo?\n/load notes.txt\nSum it up.\n/set temperature 0.1\n/system Be brief.\n"
    ran = home.run("--plain", stdin=f"{told}/save talk.md\n")
    assert ran.returncode == 0
    prompts = [turn.prompt for turn in home.only_session().turns]
    assert prompts == ["One?", "One?", "Two?", "First line.\nSecond line.\n\nSum it up."]
    assert "From the next prompt on: temperature 0.1." in ran.stderr
    saved = (home.folder / "talk.md").read_text()
    assert (home.folder / "talk.md").stat().st_mode & 0o777 == 0o600
    assert "Two?" in saved
    assert "One?" not in saved


def test_why_energy_is_missing_is_said_once(home: IsolatedHome) -> None:
    home.scripted(PARIS)
    (home.folder / "machine").mkdir()
    home.environment["EDGETOP_SYSROOT"] = str(home.folder / "machine")
    lines = [line for line in home.run("--plain", stdin="a\nb\n").stderr.splitlines() if line.startswith("[")]
    assert "energy n/a: " in lines[0]
    assert lines[1].endswith("energy n/a]")


def test_a_reply_cannot_steer_the_terminal(home: IsolatedHome) -> None:
    home.scripted(Reply(text="\x1b[2J\x07 \u202eabc"))
    ran = home.run("--plain", stdin="x\n")
    assert ran.stdout == "␛[2J␇ <U+202E>abc\n"


def test_an_engine_that_dies_is_told_and_starts_again(home: IsolatedHome) -> None:
    home.scripted(Reply(text="Once upon a time", fault=InjectedFault(kind="segfault", at_token=2)), PARIS)
    ran = home.run("--plain", stdin="x\nnot sent\n/reload\n")
    assert "The engine is gone; /reload starts it again." in ran.stderr
    assert ran.stderr.count("loaded in") == 2
    assert "Traceback" not in ran.stderr
    assert [turn.end.stop_reason for turn in home.only_session().turns if turn.end] == ["engine_died"]


def test_without_a_model_it_says_how_to_get_one(home: IsolatedHome) -> None:
    home.scripted(PARIS)
    ran = home.run("--plain", "-m", "gone", stdin="x\n")
    assert ran.returncode == 0
    del home.environment["EDGETOP_ENGINE"]
    ran = home.run("--plain", "-m", "/nowhere.gguf", stdin="x\n")
    assert (ran.returncode, ran.stdout) == (3, "")


def plain(open_terminal: Open, home: IsolatedHome, *replies: Reply, tokens_per_s: float = 200.0) -> RecordedTerminal:
    """The chat on a terminal, up to its first prompt."""
    terminal = open_terminal([*home.scripted(*replies, tokens_per_s=tokens_per_s), "--plain"])
    terminal.sees(r"Type a prompt.*\n+you>")
    return terminal


def test_a_terminal_gets_lines_and_nothing_else(open_terminal: Open, home: IsolatedHome) -> None:
    terminal = plain(open_terminal, home, PARIS, ROME)
    terminal.type("Capital of France?")
    terminal.sees(r"(?s)Paris is the capital.\n\[\d+ tokens.*\]\n+you>\s*$")
    assert b"\x1b" not in terminal.written
    assert b"\r" not in terminal.written.replace(b"\r\n", b"")
    terminal.press("\x1b[A\r")  # arrow up
    terminal.sees(r"Rome\.\n\[")
    terminal.press("\x04")
    terminal.sees(r"session: ")
    assert terminal.exit_code() == 0
    assert [turn.prompt for turn in home.only_session().turns] == ["Capital of France?"] * 2
    assert texts(home) == ["Paris is the capital.", "Rome."]


def test_a_dumb_terminal_gets_lines_by_itself(open_terminal: Open, home: IsolatedHome) -> None:
    home.environment["TERM"] = "dumb"
    terminal = open_terminal(home.scripted(PARIS))
    terminal.sees(r"you>")
    terminal.type("x")
    terminal.sees(r"Paris is the capital.\n\[")
    terminal.type("/quit")
    assert terminal.exit_code() == 0
    assert b"\x1b" not in terminal.written


def test_ctrl_c_stops_an_answer_and_empties_a_line(open_terminal: Open, home: IsolatedHome) -> None:
    terminal = plain(open_terminal, home, LONG, PARIS, tokens_per_s=50)
    terminal.type("Go on and on.")
    terminal.sees(r"word word word")
    terminal.press("\x03")
    terminal.sees(r"(?s)stopped.*\]\n+you>")
    terminal.press("nothing of this\x03")
    terminal.type("And now?")
    terminal.sees(r"Paris is the capital.\n\[")
    terminal.press("\x04")
    assert terminal.exit_code() == 0
    assert [turn.prompt for turn in home.only_session().turns] == ["Go on and on.", "And now?"]
    assert [turn.end.stop_reason for turn in home.only_session().turns if turn.end] == [
        "cancelled",
        "end_of_generation",
    ]


def test_the_last_prompt_is_given_back_to_be_changed(open_terminal: Open, home: IsolatedHome) -> None:
    terminal = plain(open_terminal, home, PARIS, ROME)
    terminal.type("Capital of France?")
    terminal.sees(r"(?s)Paris is the capital.\n\[.*\]\n+you>")
    terminal.type("/edit")
    terminal.sees(r"/edit\nyou> Capital of France\?")
    terminal.type(" And of Italy?")
    terminal.sees(r"Rome\.\n\[")
    terminal.type("/quit")
    assert terminal.exit_code() == 0
    assert home.only_session().turns[-1].prompt == "Capital of France? And of Italy?"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("answering", [True, False])
def test_a_signal_ends_it_and_the_session_is_saved(
    number: signal.Signals, answering: bool, open_terminal: Open, home: IsolatedHome
) -> None:
    terminal = plain(open_terminal, home, LONG, tokens_per_s=50)
    if answering:
        terminal.type("Go on and on.")
        terminal.sees(r"word word word")
    home.screen().send_signal(number)
    assert terminal.exit_code() == 128 + number
    home.everyone_gone()
    if answering:
        assert [turn.end.stop_reason for turn in home.only_session().turns if turn.end] == ["cancelled"]


def test_an_engine_that_dies_while_one_types_is_told_after_the_line(open_terminal: Open, home: IsolatedHome) -> None:
    terminal = plain(open_terminal, home, PARIS)
    home.worker().kill()
    terminal.press("half a ")
    eventually(
        lambda: any(b"engine_died" in journal_lines(journal) for journal in home.journal_paths), "the death is noticed"
    )
    assert "SIGKILL" not in terminal.text
    terminal.type("line")
    terminal.sees(r"(?s)half a line\n.*SIGKILL.*The engine is gone; /reload starts it again.")
    terminal.type("/reload")
    terminal.sees(r"(?s)/reload.*loaded in")
    terminal.type("x")
    terminal.sees(r"Paris is the capital.\n\[")
    terminal.type("/quit")
    assert terminal.exit_code() == 0


def test_in_a_pipe_what_happens_between_prompts_is_told_at_once(home: IsolatedHome) -> None:
    command = home.scripted(PARIS)
    told = home.folder / "told"
    with told.open("wb") as stderr:
        chat = subprocess.Popen(
            [*command, "--plain"], env=home.environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr
        )
        assert chat.stdin is not None
        chat.stdin.write(b"Capital of France?\n")
        chat.stdin.flush()
        eventually(lambda: "tok/s" in told.read_text(), "an answer", told=told.read_text)
        (journal,) = home.journal_paths
        journal.unlink()
        eventually(
            lambda: "Another program has taken the journal away" in told.read_text(), "a notice", told=told.read_text
        )
        chat.communicate(b"/quit\n")
    assert chat.returncode == 0
    assert texts(home) == ["Paris is the capital."]


def test_the_real_model_answers(home: IsolatedHome, small_model: Path) -> None:
    told = "Say hello.\n/stats\n"
    ran = home.run("--plain", "-m", str(small_model), "-n", "6", "--ctx", "512", "--temp", "0", stdin=told)
    assert ran.returncode == 0
    assert ran.stdout.strip()
    assert re.search(
        r"^\[\d+ tokens, [\d.]+ tok/s, first token .*, context \d+ of 512, token limit reached",
        ran.stderr,
        re.MULTILINE,
    )
    assert texts(home)[0].strip() in ran.stdout


def test_it_does_not_import_the_screen_library() -> None:
    code = "import sys, edgetop.commands.plain; print('textual' in sys.modules, 'rich' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_modules_that_lie_in_the_working_folder_are_not_imported(home: IsolatedHome) -> None:
    home.scripted(PARIS)
    names = (
        "argparse", "cProfile", "csv", "difflib", "http", "io", "json", "llama_cpp", "msgspec", "numpy", "orjson",
        "platform", "platformdirs", "psutil", "queue", "select", "shlex", "socket", "statistics",
        "subprocess",
        "tempfile", "textual", "threading", "tomli", "tomllib", "unicodedata", "uuid",
    )  # fmt: skip
    for name in names:
        (home.folder / f"{name}.py").write_text(f"open('planted', 'a').write('{name} ')\nraise SystemExit('planted')\n")
    home.environment.pop("PYTHONSAFEPATH", None)
    ran = home.run("--plain", stdin="One?\n")
    assert "planted" not in ran.stdout + ran.stderr
    assert "Paris" in ran.stdout
    for verb in (["sessions", "list"], ["doctor"], ["config"], ["models"]):
        assert "planted" not in home.run(*verb).stderr
    assert not (home.folder / "planted").exists()

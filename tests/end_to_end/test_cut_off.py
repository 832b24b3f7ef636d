"""edgetop cut off in the middle of an answer: by signals, and by a line that drops."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.inference.scripted import Reply
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome, kinds, last_token_us, reply_of, words
from tests.support.recorded_sessions import journal_lines
from tests.support.sshd import Sshd
from tests.support.tmux import Tmux

_LONG = Reply(text=words(5000))


def newest_word(screen: str) -> int:
    """Number of the last word of the reply on the screen that is there to its end."""
    return max((int(number) for number in re.findall(r"word(\d+)\s+(?=word)", screen)), default=0)


def begin_answer(window: Tmux) -> int:
    """Ask, and wait until some of the answer is on the screen; the number of the newest word."""
    window.sees("loaded in")
    window.type("Count.")
    window.sees("word20 ")
    return newest_word(window.text)


def test_after_sigkill_the_worker_goes_and_the_next_start_restores_the_session(
    open_tmux: Callable[..., Tmux], home: IsolatedHome, small_model: Path
) -> None:
    window = open_tmux(home.command("-m", str(small_model), "--temp", "0", "--threads", "1"))
    window.sees("loaded in")
    window.type("Tell a very long story about a river.")
    (journal,) = eventually(lambda: home.journal_paths, "there is a journal")
    eventually(lambda: b'"type":"tokens"' in journal_lines(journal), "tokens are in it")
    screen, worker = home.screen(), home.worker()
    screen.kill()
    eventually(lambda: not is_running(worker), "the worker has gone with its parent")
    home.everyone_gone()
    assert home.session_paths == []
    assert journal.exists()

    again = open_tmux(home.command("-m", str(small_model), "--threads", "1"))
    again.sees("restored")
    file = home.only_session()
    assert not journal.exists()
    (turn,) = file.turns
    assert turn.figures.stop_reason == "failed"
    assert turn.figures.generated_tokens == len(turn.tokens.dt_us) > 0
    assert reply_of(turn)
    assert kinds(file)[-1] == "recovered"
    again.press("F10")
    assert again.exit_code() == 0


def test_sigkill_loses_less_than_a_second(open_tmux: Callable[..., Tmux], home: IsolatedHome) -> None:
    window = open_tmux(home.scripted(_LONG, tokens_per_s=50))
    begin_answer(window)
    screen = home.screen()
    killed_us = monotonic_us()
    screen.kill()
    home.everyone_gone()
    home.environment.pop("EDGETOP_ENGINE")
    assert home.run("sessions", "recover").returncode == 0
    file = home.only_session()
    (turn,) = file.turns
    assert killed_us - US_PER_S < last_token_us(file, turn)
    assert words(5000).startswith(reply_of(turn))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_ending_signals_save_the_session(
    number: signal.Signals, open_tmux: Callable[..., Tmux], home: IsolatedHome
) -> None:
    window = open_tmux(home.scripted(_LONG))
    shown = begin_answer(window)
    home.screen().send_signal(number)
    home.everyone_gone()
    assert window.exit_code() == 128 + number
    assert home.journal_paths == []
    file = home.only_session()
    (turn,) = file.turns
    assert turn.figures.stop_reason == "cancelled"
    assert f"word{shown} " in reply_of(turn)
    assert kinds(file)[-1] == "session_ended"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_ending_signals_save_the_session_of_a_run_without_a_screen(number: signal.Signals, home: IsolatedHome) -> None:
    command = [*home.scripted(_LONG), "run", "-p", "Count."]
    run = subprocess.Popen(
        command, env=home.environment, cwd=home.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
    )
    assert run.stdout is not None
    read = run.stdout.read(100)
    run.send_signal(number)
    read += run.communicate(timeout=60)[0]
    assert run.returncode == 130
    home.everyone_gone()
    (turn,) = home.only_session().turns
    assert turn.figures.stop_reason == "cancelled"
    assert reply_of(turn) == read.decode().removesuffix("\n")


def test_a_defect_of_the_screen_keeps_the_session_and_is_a_failure(
    open_tmux: Callable[..., Tmux], home: IsolatedHome
) -> None:
    python = home.scripted(_LONG)[0]
    broken = (
        "from edgetop.tui.app import BaseApp; BaseApp.action_help = lambda self: 1 / 0; "
        "from edgetop.cli import main; raise SystemExit(main([]))"
    )
    window = open_tmux([python, "-c", broken])
    shown = begin_answer(window)
    window.press("F1")
    assert window.exit_code() == 1
    home.everyone_gone()
    (turn,) = home.only_session().turns
    assert f"word{shown} " in reply_of(turn)


def test_a_dropped_ssh_line_saves_the_session_and_leaves_no_process(
    open_tmux: Callable[..., Tmux], home: IsolatedHome, sshd: Sshd
) -> None:
    window = open_tmux(
        sshd.command(home.scripted(Reply(text="A short reply."), _LONG), home.environment, terminal=True)
    )
    window.sees("loaded in")
    window.type("Hello.")
    window.sees("A short reply.")
    window.sees(r"\d+ tok · ")
    shown = begin_answer(window)
    home.screen()
    (line,) = [process for process in psutil.process_iter(["cmdline"]) if is_line(process, sshd)]
    line.kill()
    home.everyone_gone()
    assert home.journal_paths == []
    file = home.only_session()
    first, second = file.turns
    assert reply_of(first) == "A short reply."
    assert second.figures.stop_reason == "cancelled"
    assert f"word{shown} " in reply_of(second)


def is_line(process: psutil.Process, sshd: Sshd) -> bool:
    """Whether this is the client's end of a line to the server."""
    command = process.info["cmdline"] or [""]
    return command[0] == "ssh" and sshd.user_key in command


def is_running(process: psutil.Process) -> bool:
    """Whether a process computes still; one that only waits to be fetched does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_reader_that_stops_does_not_stop_the_recording(home: IsolatedHome) -> None:
    home.scripted(Reply(text=words(20_000)), tokens_per_s=20_000)
    run = subprocess.Popen(
        home.command("run", "-p", "Count.", "-n", "20000"),
        env=home.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        # The answer is longer than what a pipe takes, which nobody reads.
        eventually(lambda: home.session_paths, "the session is saved")
        assert run.poll() is None
        reply = reply_of(home.only_session().turns[0])
        assert len(reply) > 65_536
        assert words(20_000).startswith(reply)
    finally:
        run.kill()
        run.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_that_cannot_be_saved_where_asked_fails_and_says_so(
    number: signal.Signals, home: IsolatedHome
) -> None:
    (home.folder / "file").write_text("no folder")
    command = [*home.scripted(_LONG), "run", "-p", "Count.", "-o", "file/mine.json"]
    run = subprocess.Popen(
        command,
        env=home.environment,
        cwd=home.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdout is not None
    run.stdout.read(100)
    run.send_signal(number)
    told = run.communicate(timeout=60)[1].decode()
    assert run.returncode == 1
    (path,) = home.session_paths
    assert f"session: {path}, not in file/mine.json: " in told

"""edgetop cut off in the middle of an answer: by signals, and by a line that drops."""

from __future__ import annotations

import getpass
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.inference.scripted import Reply
from tests.end_to_end.household import Household, kinds, last_token_us, reply_of, words
from tests.end_to_end.tmux import Tmux
from tests.eventually import eventually

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
    open_tmux: Callable[..., Tmux], home: Household, small_model: Path
) -> None:
    window = open_tmux(home.command("-m", str(small_model), "--temp", "0", "--threads", "1"))
    window.sees("loaded in")
    window.type("Tell a very long story about a river.")
    (journal,) = eventually(lambda: home.journal_paths, "there is a journal")
    eventually(lambda: b'"type":"tokens"' in journal.read_bytes(), "tokens are in it")
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


def test_sigkill_loses_less_than_a_second(open_tmux: Callable[..., Tmux], home: Household) -> None:
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_ending_signals_save_the_session(
    number: signal.Signals, open_tmux: Callable[..., Tmux], home: Household
) -> None:
    window = open_tmux(home.scripted(_LONG))
    shown = begin_answer(window)
    home.screen().send_signal(number)
    home.everyone_gone()
    window.exit_code()
    assert home.journal_paths == []
    file = home.only_session()
    (turn,) = file.turns
    assert turn.figures.stop_reason == "cancelled"
    assert f"word{shown} " in reply_of(turn)
    assert kinds(file)[-1] == "session_ended"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_ending_signals_save_the_session_of_a_run_without_a_screen(number: signal.Signals, home: Household) -> None:
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
    open_tmux: Callable[..., Tmux], home: Household
) -> None:
    python = home.scripted(_LONG)[0]
    broken = (
        "from edgetop.tui.live_screen import LiveScreen; LiveScreen.action_help = lambda self: 1 / 0; "
        "from edgetop.cli import main; raise SystemExit(main([]))"
    )
    window = open_tmux([python, "-c", broken])
    shown = begin_answer(window)
    window.press("F1")
    assert window.exit_code() == 1
    home.everyone_gone()
    (turn,) = home.only_session().turns
    assert f"word{shown} " in reply_of(turn)


class Sshd:
    """A server of OpenSSH on the loopback that knows one key."""

    def __init__(self, folder: Path) -> None:
        server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if server is None or shutil.which("ssh") is None:
            pytest.skip("install openssh-server and openssh-client")
        self._folder = folder
        self._port = unused_port()
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self._port}\nHostKey {folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            "PrintMotd no\nPrintLastLog no\n"
        )
        # Where it separates privileges, an sshd that root starts wants this folder, which only its service makes.
        if Path("/run").stat().st_uid == psutil.Process().uids().effective:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (folder / "sshd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [server, "-D", "-e", "-f", folder / "sshd_config"], stdin=subprocess.DEVNULL, stderr=log
            )
        eventually(self._answers, "sshd answers", told=(folder / "sshd.log").read_text)

    @property
    def user_key(self) -> str:
        """The file of the key that it knows."""
        return str(self._folder / "user_key")

    def command(self, home: Household, command: list[str]) -> list[str]:
        """The command line that runs a command over the line, in the home's environment."""
        options = [
            *("-F", "none", "-i", self.user_key, "-p", str(self._port), "-o", "IdentitiesOnly=yes"),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
        ]
        environment = [f"{name}={value}" for name, value in home.environment.items()]
        return ["ssh", "-tt", *options, f"{getpass.getuser()}@127.0.0.1", "env", *environment, *command]

    def close(self) -> None:
        """End the server; lines that are up stay."""
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "sshd.log").read_text()
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self._port)) == 0


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server of one's own."""
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    server = Sshd(folder)
    yield server
    server.close()


def test_a_dropped_ssh_line_saves_the_session_and_leaves_no_process(
    open_tmux: Callable[..., Tmux], home: Household, sshd: Sshd
) -> None:
    window = open_tmux(sshd.command(home, home.scripted(Reply(text="A short reply."), _LONG)))
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


def unused_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port

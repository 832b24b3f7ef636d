"""A person's home folder for one test: the environment edgetop is started in, what it leaves there, its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from edgetop import cli
from edgetop.inference.scripted import Reply, Script
from edgetop.session.file import SessionFile, TurnEntry
from edgetop.session.file_io import load_file, validate
from tests.support.eventually import eventually

_REPOSITORY = Path(__file__).resolve().parents[2]
_WORKER = "edgetop.inference.worker"
_KEPT = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR")


class IsolatedHome:
    """One test's home. Whatever runs for it is known by its data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.environment = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "PYTHONPATH": str(_REPOSITORY),
            "EDGETOP_DATA_DIR": str(self.data),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """The command line of edgetop with these arguments."""
        return [sys.executable, "-m", "edgetop", *arguments]

    def scripted(self, *replies: Reply, tokens_per_s: float = 200.0, n_ctx: int = 4096) -> list[str]:
        """The command line of edgetop with an engine that answers with these replies."""
        script = self.folder / "script.json"
        # The standard library writes lone surrogates.
        played = Script(replies=replies, tokens_per_s=tokens_per_s, n_ctx=n_ctx)
        script.write_text(json.dumps(msgspec.to_builtins(played)))
        self.environment["EDGETOP_ENGINE"] = f"scripted:{script}"
        return self.command()

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run edgetop without a terminal to its end; `stdin` of `None` is an empty device."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
            **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}),
        )

    # What is left on the disk

    @property
    def session_paths(self) -> list[Path]:
        """Session files, the oldest first."""
        return sorted(self.data.glob("sessions/*.json"))

    @property
    def journal_paths(self) -> list[Path]:
        """Journals of sessions that have not been saved."""
        return sorted(self.data.glob("sessions/*.journal"))

    def only_session(self) -> SessionFile:
        """The one session there is, which must be valid."""
        (path,) = self.session_paths
        assert validate(path) == []
        return load_file(path)

    # What runs

    def processes(self) -> list[psutil.Process]:
        """Every process of edgetop that runs in this home."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def screen(self) -> psutil.Process:
        """The process with the screen, as soon as it has the worker."""
        return eventually(self._parent_of_worker, "edgetop has a worker", told=self._told)

    def worker(self) -> psutil.Process:
        """The process with the model."""
        return eventually(self._worker, "a worker runs", told=self._told)

    def everyone_gone(self) -> None:
        """Wait until no process is left."""
        eventually(lambda: not self.processes(), "all processes have ended", told=self._told)

    def end(self) -> None:
        """End what a failed test has left running."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)

    def _worker(self) -> psutil.Process | None:
        return next((process for process in self.processes() if _WORKER in _arguments(process)), None)

    def _parent_of_worker(self) -> psutil.Process | None:
        worker = self._worker()
        with suppress(psutil.Error):
            return worker.parent() if worker is not None else None
        return None

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            # A zombie has ended; it waits for its parent, which may be a container's idle first process.
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            # tmux and ssh carry the command line of edgetop behind their own name.
            return (
                process.environ().get("EDGETOP_DATA_DIR") == str(self.data) and process.cmdline()[0] == sys.executable
            )
        except (psutil.Error, IndexError):
            return False

    def _told(self) -> str:
        return "\n".join(f"{process.pid}: {' '.join(_arguments(process))}" for process in self.processes())


def reply_of(turn: TurnEntry) -> str:
    """The whole text of a turn's reply."""
    return "".join(span.text for span in turn.reply)


def last_token_us(file: SessionFile, turn: TurnEntry) -> int:
    """When the last token of a turn came, on the clock of the machine."""
    assert turn.stamps.last_token_us is not None
    return file.clock_us + turn.stamps.last_token_us


def kinds(file: SessionFile) -> list[str]:
    """Kinds of the events, in order."""
    return [event.kind for event in file.events]


def words(count: int) -> str:
    """A text of numbered words, so that any part of it can be told from any other."""
    return " ".join(f"word{number}" for number in range(1, count + 1))


def _arguments(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return ()


DEADLINE_S = 60


class Shell:
    """Runs edgetop in an empty home, below a script instead of a model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "EDGETOP_DATA_DIR": str(folder / "data"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(cli.__file__).parents[1]),
        }

    def script(self, **script: Any) -> None:
        """Let the engine play this script."""
        file = self.folder / "script.json"
        file.write_text(json.dumps(script))
        self.environment["EDGETOP_ENGINE"] = f"scripted:{file}"

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "edgetop", *arguments],
            stdin=more.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
            **more,
        )

    def run(
        self, *arguments: str, told: str | None = None, environment: Mapping[str, str] | None = None
    ) -> FinishedCommand:
        ran = subprocess.run(
            [sys.executable, "-m", "edgetop", *arguments],
            input=b"" if told is None else told.encode(),
            capture_output=True,
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            timeout=DEADLINE_S,
            check=False,
        )
        return FinishedCommand(ran.returncode, ran.stdout, ran.stderr)

    def sessions(self) -> list[Path]:
        return sorted((self.folder / "data/sessions").glob("*.json"))


class FinishedCommand:
    """How a command ended."""

    def __init__(self, code: int, stdout: bytes, stderr: bytes) -> None:
        self.code = code
        self.stdout = stdout.decode()
        self.stderr = stderr.decode()

    def json(self) -> Any:
        return json.loads(self.stdout)

"""A home, terminals, and the promise that no process outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.recorded_terminal import RecordedTerminal
from tests.support.isolated_home import IsolatedHome
from tests.support.requirements import need_program
from tests.support.sshd import Sshd
from tests.support.tmux import Tmux


@pytest.fixture
def home(tmp_path: Path) -> Iterator[IsolatedHome]:
    """A home folder in which nothing is left running after the test."""
    isolated = IsolatedHome(tmp_path)
    yield isolated
    isolated.end()


@pytest.fixture
def open_tmux(home: IsolatedHome) -> Iterator[Callable[..., Tmux]]:
    """Starts programs in windows of tmux."""
    need_program("tmux")
    opened: list[Tmux] = []

    def open_window(command: Sequence[str], columns: int = 120, rows: int = 36) -> Tmux:
        opened.append(Tmux(command, environment=home.environment, folder=home.folder, columns=columns, rows=rows))
        return opened[-1]

    yield open_window
    for window in opened:
        window.close()


@pytest.fixture
def open_terminal(home: IsolatedHome) -> Iterator[Callable[[Sequence[str]], RecordedTerminal]]:
    """Starts programs on terminals that keep every byte."""
    opened: list[RecordedTerminal] = []

    def open_recorded(command: Sequence[str]) -> RecordedTerminal:
        opened.append(RecordedTerminal(command, environment=home.environment, folder=home.folder))
        return opened[-1]

    yield open_recorded
    for terminal in opened:
        terminal.close()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server of one's own."""
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    server = Sshd(folder)
    yield server
    server.close()

"""Which process listens on a port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from edgetop.core.sources import Unavailable
from edgetop.telemetry.host import Host
from edgetop.telemetry.model_processes import descendants, listening_pid
from tests.support.fake_processes import TCP_HEADING


class Proc:
    """A `/proc` with processes and sockets in it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "proc"
        (self.root / "net").mkdir(parents=True)
        self.host = Host(sysroot=root, system="linux")
        self.lines = [TCP_HEADING]

    def process(
        self, pid: int, name: str, *, parent: int = 1, uid: int = 1000, sockets: tuple[int, ...] | None = ()
    ) -> None:
        """`sockets` of `None` may not be looked at."""
        folder = self.root / str(pid)
        folder.mkdir()
        (folder / "comm").write_text(f"{name}\n")
        (folder / "stat").write_text(f"{pid} ({name} (x)) S {parent} 1 1 0\n")
        (folder / "status").write_text(f"Name:\t{name}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        if sockets is not None:
            (folder / "fd").mkdir()
            (folder / "fd" / "0").symlink_to("/dev/null")
            for number, inode in enumerate(sockets, 3):
                (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")

    def listen(self, port: int, inode: int, *, state: str = "0A", uid: int = 1000, table: str = "tcp") -> None:
        queues = "00000000:00000000 00:00000000 00000000"
        self.lines.append(f"   0: 0100007F:{port:04X} 00000000:0000 {state} {queues} {uid:5d} 0 {inode} 1\n")
        (self.root / "net" / table).write_text("".join(self.lines))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.mark.parametrize("table", ["tcp", "tcp6"])
def test_the_holder_of_the_listening_socket_is_found(proc: Proc, table: str) -> None:
    proc.process(11, "other", sockets=(500, 501))
    proc.process(12, "llama-server", sockets=(77,))
    proc.listen(8080, 500, state="01")  # somebody's connection
    proc.listen(8080, 77, table=table)
    assert listening_pid(proc.host, 8080) == 12
    assert listening_pid(proc.host, 8081) == Unavailable("nobody listens on port 8081 of this machine")


def test_a_program_that_passes_on_is_not_the_server(proc: Proc) -> None:
    proc.process(12, "ssh", sockets=(77,))
    proc.listen(8080, 77)
    found = listening_pid(proc.host, 8080)
    assert isinstance(found, Unavailable)
    assert "ssh listens on port 8080 and passes on" in found.reason


def test_another_users_server_is_found_by_user_and_name(proc: Proc) -> None:
    proc.process(20, "ollama", uid=997, sockets=None)
    proc.process(21, "ollama", uid=997, parent=20, sockets=None)
    proc.process(22, "ollama", uid=1000, sockets=())
    proc.listen(11434, 77, uid=997)
    assert listening_pid(proc.host, 11434, ["ollama"]) == 20
    hidden = listening_pid(proc.host, 11434, ["llama-server"])
    assert isinstance(hidden, Unavailable)
    assert "sudo" in hidden.hint


def test_two_servers_of_another_user_are_not_guessed_between(proc: Proc) -> None:
    proc.process(20, "ollama", uid=997, sockets=None)
    proc.process(30, "ollama", uid=997, sockets=None)
    proc.listen(11434, 77, uid=997)
    assert isinstance(listening_pid(proc.host, 11434, ["ollama"]), Unavailable)


def test_descendants_are_all_below_a_process(proc: Proc) -> None:
    for pid, parent in ((20, 1), (21, 20), (22, 21), (23, 20), (30, 1)):
        proc.process(pid, "ollama", parent=parent)
    assert sorted(descendants(proc.host, 20)) == [21, 22, 23]
    assert descendants(proc.host, 99) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the real /proc")
def test_this_machine_itself_is_read() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert listening_pid(Host(), listener.getsockname()[1]) == os.getpid()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in descendants(Host(), os.getpid())

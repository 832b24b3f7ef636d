"""`edgetop watch HOST ...` over real lines of OpenSSH: one host with edgetop, one without, one that dies."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetop.io.ssh import Shell
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.loopback_server import document, loopback_server
from tests.support.sshd import Sshd, ssh_with


class Fleet:
    """Three hosts, and edgetop that watches them."""

    def __init__(self, home: IsolatedHome, folder: Path) -> None:
        programs = folder / "programs"
        programs.mkdir()
        (programs / "edgetop").write_text(f'#!/bin/sh\nexec {sys.executable} -m edgetop "$@"\n')
        (programs / "edgetop").chmod(0o755)
        self.folder, self.home = folder, home
        far = {**home.environment, "EDGETOP_DATA_DIR": f"{folder}/far-data", "HOME": f"{folder}/far-home"}
        self.servers = {
            "jetson": self._server("jetson", {**far, "PATH": f"{programs}:/usr/bin:/bin"}),
            "pi1": self._server("pi1", {"HOME": f"{folder}/bare", "PATH": "/usr/bin:/bin"}),
            "pi2": self._server("pi2", {"HOME": f"{folder}/bare", "PATH": "/usr/bin:/bin"}),
        }
        parts = [server.configuration(name) for name, server in self.servers.items()]
        parts.append(self.servers["pi1"].configuration("stranger", known=False))
        home.environment["PATH"] = f"{ssh_with(''.join(parts), folder / 'bin')}:{home.environment['PATH']}"
        self.lines: list[dict[str, Any]] = []
        self.process: subprocess.Popen[str] | None = None
        self.sockets = folder

    def _server(self, name: str, environment: dict[str, str]) -> Sshd:
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        return Sshd(folder, environment)

    def watch(self, *arguments: str) -> None:
        self.output = (self.folder / "output").open("w+")
        self.process = subprocess.Popen(
            self.home.command("watch", *arguments, "--json"),
            env={**self.home.environment, "TMPDIR": str(self.sockets)},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=(self.folder / "errors").open("w"),
            text=True,
            start_new_session=True,
        )

    def now(self) -> dict[str, dict[str, Any]]:
        """The latest row of each host; none before all have answered or failed."""
        lines = (self.folder / "output").read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        return {row["host"]: row for row in json.loads(whole[-1])["hosts"]} if whole else {}

    def states(self) -> dict[str, str]:
        return {host: row["state"] for host, row in self.now().items()}

    def told(self) -> str:
        return f"{self.now()} {(self.folder / 'errors').read_text()}"

    def end(self) -> dict[str, Any]:
        """Interrupt it, and the summary."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.told()
        summary: dict[str, Any] = json.loads((self.folder / "output").read_text().splitlines()[-1])
        return summary

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for server in self.servers.values():
            server.hang_up()


@pytest.fixture
def fleet(home: IsolatedHome, tmp_path: Path) -> Iterator[Fleet]:
    opened = Fleet(home, tmp_path)
    # The path of a socket may not be as long as those of pytest.
    with tempfile.TemporaryDirectory(prefix="f") as short:
        opened.sockets = Path(short)
        yield opened
        opened.close()


def test_three_hosts_one_without_edgetop_one_that_dies(fleet: Fleet) -> None:
    fleet.watch("jetson", "pi1", "pi2")
    everyone = {"jetson": "answers", "pi1": "answers", "pi2": "answers"}
    eventually(lambda: fleet.states() == everyone, "all answer", told=fleet.told)
    assert {host: row["by"] for host, row in fleet.now().items()} == {
        "jetson": "edgetop", "pi1": "shell", "pi2": "shell",
    }  # fmt: skip
    total = fleet.now()["pi1"]["reading"]["memory_total_bytes"]
    assert total == fleet.now()["jetson"]["reading"]["memory_total_bytes"]
    fleet.servers["pi2"].hang_up()
    eventually(lambda: fleet.states()["pi2"] == "gone", "pi2 is gone", told=fleet.told)
    gone = fleet.now()["pi2"]
    assert gone["reading"] is None
    assert gone["missing"]["reason"]
    # It is tried again, and is gone since it went.
    eventually(
        lambda: fleet.now()["pi2"]["missing"]["reason"] == "nobody listens there for SSH", "tried", told=fleet.told
    )
    assert fleet.now()["pi2"]["since"] == gone["since"]
    summary = fleet.end()
    assert summary["total"]["answering"] == 2
    session = fleet.home.only_session()
    assert [series.source.name for series in session.series] == ["host.jetson", "host.pi1", "host.pi2"]
    assert [event.kind for event in session.events if event.kind == "host_gone"] == ["host_gone"]
    assert not (fleet.folder / "bare").exists()
    assert not list((fleet.folder / "far-data").rglob("*.json"))
    assert list(fleet.sockets.iterdir()) == []


def test_a_host_whose_key_is_not_known_is_not_connected_to(fleet: Fleet) -> None:
    fleet.watch("stranger", "--seconds", "0")
    assert fleet.process is not None
    fleet.process.wait(90)
    row = fleet.now()["stranger"]
    assert row["state"] == "gone"
    assert row["missing"] == {
        "reason": "its key is not among the known hosts", "hint": "type once: ssh stranger",
    }  # fmt: skip
    log = (fleet.folder / "pi1/sshd.log").read_text()
    assert "Accepted" not in log


def test_a_host_whose_key_has_changed_is_not_called_a_new_one(fleet: Fleet) -> None:
    known, other = fleet.folder / "pi1/known_hosts", fleet.folder / "pi2/host_key.pub"
    where, kind, _ = known.read_text().split()
    known.write_text(f"{where} {kind} {other.read_text().split()[1]}\n")
    fleet.watch("pi1", "--seconds", "0")
    assert fleet.process is not None
    fleet.process.wait(90)
    assert fleet.now()["pi1"]["missing"] == {
        "reason": "its key is another one than known", "hint": "find out why: ssh pi1",
    }  # fmt: skip
    assert "Accepted" not in (fleet.folder / "pi1/sshd.log").read_text()


def test_a_host_comes_back_and_its_name_is_hashed(fleet: Fleet) -> None:
    known = fleet.folder / "pi1/known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert known.read_text().startswith("|1|")
    fleet.watch("pi1")
    eventually(lambda: fleet.states() == {"pi1": "answers"}, "it answers", told=fleet.told)
    fleet.servers["pi1"].hang_up()
    eventually(lambda: fleet.states() == {"pi1": "gone"}, "it is gone", told=fleet.told)
    fleet.servers["pi1"].start()
    eventually(lambda: fleet.states() == {"pi1": "answers"}, "it is back", told=fleet.told)
    fleet.end()
    kinds = [event.kind for event in fleet.home.only_session().events]
    assert [kind for kind in kinds if kind.startswith("host_")] == ["host_answers", "host_gone", "host_answers"]


def test_what_is_no_host_is_told_at_once(fleet: Fleet) -> None:
    told = fleet.home.run("watch", "--seconds", "0", "--", "-oProxyCommand=touch x")
    assert told.returncode == 2, told.stdout
    assert "is no host" in told.stderr
    assert not (fleet.home.folder / "x").exists()


class SharedLine:
    """A connection to `pi1` that the user's own configuration shares, as `ControlMaster auto` has it."""

    def __init__(self, fleet: Fleet) -> None:
        self.path = fleet.sockets / "shared"
        config = fleet.folder / "bin/config"
        shared = f"  ControlMaster auto\n  ControlPath {self.path}\n  ControlPersist yes\n"
        config.write_text(config.read_text().replace("Host pi1\n", f"Host pi1\n{shared}"))
        self._fleet = fleet

    def ssh(self, *arguments: str) -> int:
        """Run the user's ssh; its exit code."""
        # What ssh leaves in the background would keep a pipe open.
        return subprocess.run(
            ["ssh", *arguments],
            env=self._fleet.home.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        ).returncode

    def logins(self) -> int:
        """How often somebody has logged in at `pi1`."""
        return (self._fleet.folder / "pi1/sshd.log").read_text().count("Accepted publickey")


@pytest.fixture
def shared(fleet: Fleet) -> Iterator[SharedLine]:
    line = SharedLine(fleet)
    assert line.ssh("pi1", "true") == 0
    yield line
    line.ssh("-O", "exit", "pi1")


def test_a_connection_that_the_user_shares_is_used_and_left(fleet: Fleet, shared: SharedLine) -> None:
    fleet.watch("pi1", "--seconds", "0")
    assert fleet.process is not None
    assert fleet.process.wait(90) == 0, fleet.told()
    assert fleet.states() == {"pi1": "answers"}
    assert (shared.logins(), shared.ssh("-O", "check", "pi1")) == (1, 0)


def test_when_it_ends_one_of_our_own_takes_its_place(fleet: Fleet, shared: SharedLine) -> None:
    fleet.watch("pi1")
    eventually(lambda: fleet.states() == {"pi1": "answers"}, "it answers", told=fleet.told)
    assert shared.ssh("-O", "exit", "pi1") == 0
    eventually(lambda: shared.logins() == 2, "another login", told=fleet.told)
    eventually(lambda: fleet.states() == {"pi1": "answers"}, "it answers again", told=fleet.told)
    # What edgetop makes for itself it leaves nobody.
    assert not shared.path.exists()
    fleet.end()


def test_a_port_comes_through_a_shared_connection_and_is_closed_with_the_shell(
    fleet: Fleet, shared: SharedLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", fleet.home.environment["PATH"])
    with loopback_server() as server, tempfile.TemporaryDirectory(prefix="f") as folder:
        server.answers["GET /health"] = document({"status": "ok"})
        port = int(server.url.rpartition(":")[2])
        shell = Shell("pi1", Path(folder))
        shell.open("")
        path = shell.reach("127.0.0.1", port)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"200" in connection.recv(65536)
        shell.close()
        assert not path.exists()
        assert (shared.logins(), shared.ssh("-O", "check", "pi1")) == (1, 0)
        # The same place can be had again: the forwarding was taken back, too.
        shell.open("")
        assert shell.reach("127.0.0.1", port) == path
        # Another address there with a server at the same port has a place of its own.
        assert shell.reach("localhost", port) != path
        assert shell.reach("127.0.0.1", port) == path
        shell.close()

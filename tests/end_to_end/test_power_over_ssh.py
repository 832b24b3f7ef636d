"""`--power-stream "ssh pi2 edgetop power --stream"` over a real line of OpenSSH, to a virtual board."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgetop.inference.scripted import Reply
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.sshd import Sshd

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Path]:
    """The tree of a board in a process of its own."""
    root = tmp_path / "board"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.virtual_board", "--root", str(root), "--kind", "ina3221"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield root
    process.terminate()
    process.communicate(timeout=10)


def stream(home: IsolatedHome, sshd: Sshd, board: Path) -> str:
    environment = {**home.environment, "EDGETOP_SYSROOT": str(board)}
    return f"pi2={shlex.join(sshd.command(home.command('power', '--stream'), environment))}"


def test_the_power_of_a_board_comes_over_ssh_into_the_session_and_nothing_is_left_there(
    home: IsolatedHome, sshd: Sshd, board: Path
) -> None:
    home.scripted(Reply(text="word " * 60), tokens_per_s=20.0)
    ran = home.run("run", "-m", "any.gguf", "-p", "Go.", "--json", "--power-stream", stream(home, sshd, board))
    assert ran.returncode == 0, ran.stderr
    energy = home.only_session().summary.energy
    assert energy is not None
    assert (energy.scope, energy.source, energy.hosts) == ("module", "power.host.pi2", ())
    assert 3.5 < energy.mean_w.value < 5
    eventually(lambda: not streams_running(board), "no stream runs on the board")


def test_doctor_and_power_name_the_hosts_of_the_sum_and_those_that_are_missed(
    home: IsolatedHome, sshd: Sshd, board: Path
) -> None:
    told = home.run("power", "--power-stream", stream(home, sshd, board), "--sysroot", str(board))
    assert "the sum of 2 hosts: local, pi2" in told.stdout, told.stderr
    dead = f"pi3={shlex.join([*sshd.command(['false'], home.environment)])}"
    command = ("power", "--power-stream", stream(home, sshd, board), "--power-stream", dead)
    # On a busy machine the hosts have not answered yet when it looks.
    eventually(lambda: "pi3: ssh exited with status 1" in home.run(*command).stdout, "the dead one is named")


def streams_running(board: Path) -> list[int]:
    """The processes that read this board for a stream."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if "edgetop power --stream" in command and str(board) in command:
            found.append(process.pid)
    return found

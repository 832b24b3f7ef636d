"""`edgetop bench` cut off in the middle of a plan, short of disk space and short of memory."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgetop.bench.run_log import FinishedRun, read_runs
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome

PLAN = ("-m", "a.gguf", "-m", "b.gguf", "-t", "1,2", "-p", "64", "-n", "40", "-r", "2", "--power", "none")
RUNS = 8
TOKENS_PER_S = 100.0


def runs_of(home: IsolatedHome) -> list[FinishedRun]:
    """What of the one plan has been done."""
    return [run for folder in home.data.glob("benches/*") for run in read_runs(folder)]


def begin(
    home: IsolatedHome, *arguments: str, limit: tuple[str, int] | None = None, real: bool = False
) -> subprocess.Popen[str]:
    """Start edgetop; `limit` is a resource of setrlimit(2) and how much of it there is."""
    command = [*(home.command() if real else home.scripted(tokens_per_s=TOKENS_PER_S)), "bench", *arguments]
    if limit is not None:
        name, amount = limit
        begin_limited = (
            "import os, resource, sys; "
            f"resource.setrlimit(resource.{name}, ({amount}, {amount})); os.execv(sys.argv[1], sys.argv[1:])"
        )
        command = [command[0], "-c", begin_limited, *command]
    return subprocess.Popen(
        command, env=home.environment, cwd=home.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def table(stdout: str) -> list[tuple[str, str, int, list[str]]]:
    """What does not depend on how quick it went: settings, tests, repetitions, problems."""
    rows: list[dict[str, Any]] = json.loads(stdout)
    return [(row["setting"], row["test"], len(row["samples_ts"]), row["problems"]) for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, int, list[str]]]:
    home = IsolatedHome(tmp_path_factory.mktemp("uninterrupted"))
    done, _ = begin(home, *PLAN, "-o", "json").communicate()
    return table(done)


@pytest.mark.parametrize("after", [0, 3, 6])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_run_under_way_is_lost_and_no_other(
    number: signal.Signals, after: int, home: IsolatedHome, uninterrupted: list[tuple[str, str, int, list[str]]]
) -> None:
    running = begin(home, *PLAN, "-o", "json")
    eventually(lambda: len(runs_of(home)) >= after and home.journal_paths, "a run is under way", told=lambda: "")
    running.send_signal(number)
    printed, told = running.communicate()
    home.everyone_gone()
    done = runs_of(home)
    assert after <= len(done) < RUNS
    assert {run.outcome for run in done} <= {"measured"}
    if number == signal.SIGKILL:
        assert running.returncode == -signal.SIGKILL
    else:
        assert running.returncode == 130, told
        assert sum(count for _, _, count, _ in table(printed)) == 2 * len(done), "what was measured is printed"
        assert home.journal_paths == []

    resumed = home.run("bench", "--resume", "-o", "json")
    assert resumed.returncode == 0, resumed.stderr
    assert table(resumed.stdout) == uninterrupted
    assert runs_of(home)[: len(done)] == done, "what was measured before is not measured again"
    assert len(runs_of(home)) == RUNS
    eventually(lambda: home.journal_paths == [], "what was cut off is restored as a session of its own")


def test_the_second_interruption_ends_at_once(home: IsolatedHome) -> None:
    running = begin(home, *PLAN)
    eventually(lambda: home.journal_paths, "a run is under way")
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGINT)
    assert running.wait() == 130
    home.everyone_gone()


def no_file_larger_than(size_bytes: int) -> tuple[str, int]:
    """A disk that is full: writes end in the middle, with an error."""
    return "RLIMIT_FSIZE", size_bytes


def test_a_full_disk_is_told_and_what_did_not_fit_is_measured_later(home: IsolatedHome) -> None:
    small = ("-t", "1,2", "-p", "64", "-n", "40", "-r", "1", "--power", "none")
    running = begin(home, *small, limit=no_file_larger_than(4096))
    printed, told = running.communicate()
    assert running.returncode == 1
    assert [run.outcome for run in runs_of(home)] == ["failed", "failed"]
    assert "File too large" in told
    assert "Traceback" not in told
    assert "No test of decode speed was measured." in printed
    resumed = home.run("bench", "--resume", "-o", "json")
    assert resumed.returncode == 0, resumed.stderr
    assert [(row[0], row[2], row[3]) for row in table(resumed.stdout)] == [
        ("scripted t1", 1, []), ("scripted t1", 1, []), ("scripted t2", 1, []), ("scripted t2", 1, []),
    ]  # fmt: skip


def test_a_disk_without_room_for_the_plan_is_told_in_two_lines(home: IsolatedHome) -> None:
    running = begin(home, *PLAN, limit=no_file_larger_than(256))
    _, told = running.communicate()
    assert running.returncode == 1
    assert len(told.splitlines()) == 2
    assert "File too large" in told
    assert list(home.data.glob("benches/*/*")) == []


def test_a_context_that_memory_cannot_hold_fails_its_run_and_the_next_one_is_tried(
    home: IsolatedHome, small_model: Path
) -> None:
    """The KV cache of 300,000 tokens takes 6.6 GiB in f16 and twice as much in f32."""
    running = begin(
        home, "-m", str(small_model), "--kv-type", "f32,f16", "-t", "1", "-p", "0", "-n", "4", "-d", "300000",
        "-r", "1", "--power", "none", "-o", "json", limit=("RLIMIT_AS", 5 * 2**30), real=True,
    )  # fmt: skip
    printed, told = running.communicate()
    assert running.returncode == 1, told
    assert json.loads(printed) == []
    assert "Traceback" not in told
    done = runs_of(home)
    assert [(run.setting.split("kv ")[-1], run.outcome) for run in done] == [
        ("f32", "failed"), (f"{small_model.stem} t1", "failed"),
    ]  # fmt: skip
    assert all("memory" in run.reason and "\n" not in run.reason for run in done)
    home.everyone_gone()

"""Unattended for months: the units of systemd, and what is kept."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.io.files import FILE_SUFFIX, JOURNAL_SUFFIX
from edgetop.session.file_io import encode_file, load_file
from edgetop.session.store import example_pair, write_labels
from tests.live.test_metrics import fetch, free_port
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.requirements import need_module, need_program

UNITS = sorted((Path(__file__).resolve().parents[1] / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_no_fault_in_a_unit(unit: Path, tmp_path: Path) -> None:
    analyze = need_program("systemd-analyze", "systemd")
    program = tmp_path / "edgetop"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"(?m)=(-?)\S+/bin/edgetop ", rf"=\g<1>{program} ", unit.read_text()))
    told = subprocess.run([analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    assert copy.name not in told.stderr, told.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_a_unit_starts_runs_serves_metrics_and_ends_at_sigterm(unit: Path, tmp_path: Path) -> None:
    need_module("prometheus_client")
    home, port = IsolatedHome(tmp_path), free_port()
    commands = dict(re.findall(r"(?m)^(ExecStart(?:Pre)?)=-?\S+/bin/edgetop (.*)$", unit.read_text()))
    assert home.run(*shlex.split(commands["ExecStartPre"])).returncode == 0
    words = [str(port) if word == "9091" else word for word in shlex.split(commands["ExecStart"])]
    process = subprocess.Popen(
        home.command(*words), env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    def scraped() -> bool:
        try:
            return "edgetop_info" in fetch(f"http://127.0.0.1:{port}/metrics")
        except OSError:
            return False

    eventually(scraped, "it serves metrics")
    process.send_signal(signal.SIGTERM)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert b"reading" not in printed


class Kept:
    """A sessions folder with one session for each age in days."""

    def __init__(self, folder: Path, ages: dict[str, int]) -> None:
        self.home = IsolatedHome(folder)
        self.folder = self.home.data / "sessions"
        self.folder.mkdir(parents=True)
        file = load_file(example_pair()[0])
        for name, days in ages.items():
            when = (datetime.now(timezone.utc) - timedelta(days)).isoformat()
            path = self.folder / f"{name}{FILE_SUFFIX}"
            path.write_bytes(b"".join(encode_file(replace(file, started_at=when, tags=()))))

    def prune(self, *arguments: str) -> list[str]:
        ran = self.home.run("sessions", "prune", *arguments)
        assert ran.returncode == 0, ran.stderr
        return [Path(line).stem for line in ran.stdout.splitlines()]

    @property
    def names(self) -> set[str]:
        return {path.stem for path in self.folder.glob(f"[!.]*{FILE_SUFFIX}")}


def test_what_is_older_is_named_first_and_deleted_when_told(tmp_path: Path) -> None:
    kept = Kept(tmp_path, {"old": 40, "older": 400, "new": 1, "tagged": 400})
    write_labels(kept.folder / f"tagged{FILE_SUFFIX}", tags=("keep",))
    assert set(kept.prune("--keep", "30d")) == {"old", "older"}
    assert kept.names == {"old", "older", "new", "tagged"}, "it only said so"
    assert set(kept.prune("--keep", "30d", "--yes")) == {"old", "older"}
    assert kept.names == {"new", "tagged"}


def test_the_oldest_go_until_the_rest_fits_and_nothing_else_is_touched(tmp_path: Path) -> None:
    kept = Kept(tmp_path, {f"{days:02}": days for days in range(1, 5)})
    size_bytes = (kept.folder / f"01{FILE_SUFFIX}").stat().st_size
    journal = kept.folder / f"running{JOURNAL_SUFFIX}"
    with journal.open("wb") as file:
        os.truncate(file.fileno(), (1 << 20) - 2 * size_bytes - 1000)
    (kept.folder / f"broken{FILE_SUFFIX}").write_text("{")
    assert kept.prune("--max", "1M", "--yes") == ["04", "03"]
    assert kept.names == {"01", "02", "broken"}
    assert journal.exists()


def test_nothing_is_deleted_where_nothing_says_what_to_keep(tmp_path: Path) -> None:
    ran = IsolatedHome(tmp_path).run("sessions", "prune", "--yes")
    assert ran.returncode == 2
    assert "--keep 30d --max 2G" in ran.stderr

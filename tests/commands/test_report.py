from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetop.commands.report import default_name
from tests.commands.machine import Machine
from tests.support.shipped_sessions import FOLDER, ONE, OTHER

PATHS = (str(FOLDER / f"{ONE}.json"), str(FOLDER / f"{OTHER}.json"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_report_lies_in_the_working_folder_under_the_names_of_its_sessions(machine: Machine) -> None:
    ran = machine.run("report", *PATHS)
    assert (ran.code, ran.stdout) == (0, "")
    path = Path(f"edgetop-{ONE}-vs-{OTHER}.html")
    assert str(path) in ran.stderr
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_it_replaces_no_file_unless_it_is_told_to(machine: Machine) -> None:
    path = Path("mine.html")
    path.write_text("precious")
    refused = machine.run("report", PATHS[0], "-o", str(path))
    assert refused.code == 2
    assert "--force" in refused.stderr
    assert path.read_text() == "precious"
    assert machine.run("report", PATHS[0], "-o", str(path), "--force").code == 0
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_a_dash_writes_it_to_stdout_and_nothing_else(machine: Machine) -> None:
    ran = machine.run("report", PATHS[0], "-o", "-")
    assert ran.code == 0
    assert ran.stdout.startswith("<!DOCTYPE html>")
    assert ran.stdout.endswith("</html>")
    assert ran.stderr == ""
    assert list(Path().glob("*.html")) == []


def test_results_of_llama_bench_stand_beside_sessions(machine: Machine, tmp_path: Path) -> None:
    bench = tmp_path / "bench.json"
    row = {"model_type": "llama 135M", "n_prompt": 0, "n_gen": 128, "avg_ts": 70.0, "samples_ts": [69.0, 70.0, 71.0]}
    bench.write_text(json.dumps([row]))
    ran = machine.run("report", PATHS[0], str(bench), "-o", "-")
    assert ran.code == 0, ran.stderr
    assert "2 results" in ran.stdout


@pytest.mark.parametrize("content", ['{"format": "edgetop-session", "version": 1}', "nothing of ours"])
def test_a_file_that_is_no_session_is_named_in_one_line(machine: Machine, tmp_path: Path, content: str) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text(content)
    ran = machine.run("report", PATHS[0], str(broken))
    assert ran.code == 1
    assert ran.stderr.count(str(broken)) == 1
    assert list(Path().glob("*.html")) == []


def test_a_folder_that_cannot_be_written_is_told(machine: Machine) -> None:
    ran = machine.run("report", PATHS[0], "-o", "/proc/nowhere/report.html")
    assert ran.code == 1
    assert "/proc/nowhere/report.html" in ran.stderr
    assert "-o" in ran.stderr


def test_many_sessions_and_odd_names_give_a_plain_file_name() -> None:
    names = [Path(f"/x/{name}.json") for name in ("a b/../c", "ü", "c", "d", "e")]
    assert default_name(names) == "edgetop-c-vs-ü-vs-c-and-2-more.html"
    assert len(default_name([Path("n" * 300)])) < 130

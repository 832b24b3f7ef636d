"""What of a plan is known to be done, whatever became of the edgetop that did it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.bench.plan import runs_of
from edgetop.bench.run_log import RUNS_FILE, BenchFolderError, FinishedRun, RunLog, read_plan
from tests.bench.test_plan import plan


def measured(setting: str, number: int, session: str = "x.json") -> FinishedRun:
    return FinishedRun(setting=setting, round=number, outcome="measured", session=session)


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    log = RunLog(tmp_path, plan())
    runs = runs_of(log.plan)
    log.add(measured("a t1", 1))
    log.add(FinishedRun(setting="a t2", round=1, outcome="failed", reason="killed"))
    again = RunLog(tmp_path, plan())
    assert again.finished == log.finished
    remaining = [run.key for run in again.remaining(runs)]
    assert ("a t1", 1) not in remaining
    assert ("a t2", 1) in remaining, "what failed has another chance"
    assert len(remaining) == len(runs) - 1
    assert read_plan(again.path) == plan()


def test_a_model_that_cannot_be_loaded_is_left_out_for_good(tmp_path: Path) -> None:
    log = RunLog(tmp_path, plan())
    log.add(FinishedRun(setting="a t1", round=1, outcome="not_loaded", reason="no file"))
    assert "a t1" not in {run.setting.key for run in log.remaining(runs_of(log.plan))}
    log.forget_failures()
    assert "a t1" in {run.setting.key for run in log.remaining(runs_of(log.plan))}


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_was_cut_off_costs_nothing_but_itself(tmp_path: Path, cut: int) -> None:
    log = RunLog(tmp_path, plan())
    log.add(measured("a t1", 1))
    log.add(measured("a t2", 1))
    runs = log.path / RUNS_FILE
    runs.write_bytes(runs.read_bytes()[:-cut])
    again = RunLog(tmp_path, plan())
    again.add(measured("b t1", 1))
    keys = [run.setting for run in RunLog(tmp_path, plan()).finished]
    # Without only its line break, the last line is whole.
    assert keys == (["a t1", "a t2", "b t1"] if cut == 1 else ["a t1", "b t1"])


def test_measuring_again_keeps_what_was_measured_before(tmp_path: Path) -> None:
    log = RunLog(tmp_path, plan())
    log.add(measured("a t1", 1))
    log.begin_again()
    assert log.finished == RunLog(tmp_path, plan()).finished == []
    assert [path.name for path in log.path.glob("runs-*.jsonl")] != []


def test_a_folder_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BenchFolderError, match="file"):
        RunLog(tmp_path / "file", plan())
    with pytest.raises(BenchFolderError):
        read_plan(tmp_path / "nowhere")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "plan.json").write_text('{"name": 3}')
    with pytest.raises(BenchFolderError, match=r"plan\.json"):
        read_plan(broken)

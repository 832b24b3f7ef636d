"""Plans carried out, interrupted, resumed, and what becomes of runs that go wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

from msgspec.structs import replace

from edgetop.bench.conclusions import conclusions_of
from edgetop.bench.plan import CoolDown, PromptTest, TokenTest, Until
from edgetop.bench.results import remaining_of, runs_until_known
from edgetop.bench.run_log import RUNS_FILE, FinishedRun, RunLog
from edgetop.bench.runner import Progress
from edgetop.io.model_file import content_key
from edgetop.session.file_io import load_file
from tests.bench.conftest import Bench
from tests.support.fake_sysfs import ORIN_NANO, plant


def test_every_run_is_a_session_that_says_which_part_it_is(bench: Bench) -> None:
    plan = bench.plan(
        tests=(TokenTest(n_prompt=64, depth=32), PromptTest(title="x", prompts=("Hi.", "More."), max_tokens=4))
    )
    finished, log = bench.run(plan)
    assert finished
    assert [(run.setting, run.round, run.outcome) for run in log.finished] == [
        ("a t1", 1, "measured"), ("a t2", 1, "measured"), ("b t1", 1, "measured"), ("b t2", 1, "measured"),
        ("b t2", 2, "measured"), ("b t1", 2, "measured"), ("a t2", 2, "measured"), ("a t1", 2, "measured"),
    ]  # fmt: skip
    file = load_file(Path(log.finished[-1].session))
    assert file.bench is not None
    assert (file.bench.plan, file.bench.setting, file.bench.round) == (plan.identity, "a t1", 2)
    assert [(turn.task, turn.warmup) for turn in file.turns] == [
        ("pp64+tg8", True), ("fill@d32", True), ("pp64@d32", False), ("prompt:x", False), ("prompt:x", False),
    ]  # fmt: skip
    assert file.turns[2].end is not None
    assert (file.turns[2].end.prompt_tokens, file.turns[2].end.cached_tokens) == (96, 32)
    assert [turn.prompt for turn in file.turns[3:]] == ["Hi.", "More."]
    doings = [said.doing for said in bench.said if isinstance(said, Progress)]
    assert doings[2].startswith("loading a.gguf 0%"), "how far the engine is"
    doings = [doing for doing in doings if not doing.startswith("loading a.gguf ")]
    assert doings[:6] == [
        "measuring idle power without the model", "loading", "waiting for the device to come to rest", "warm-up",
        "pp64@d32", "prompt:x",
    ]  # fmt: skip


def test_an_interruption_costs_only_the_run_under_way(bench: Bench) -> None:
    plan = bench.plan()
    uninterrupted = Bench(bench.folder / "whole")
    uninterrupted.folder.mkdir()
    assert uninterrupted.run(plan)[0]

    def after_three_runs() -> bool:
        # In the middle of the fourth run: it has been said that it loads.
        return sum(isinstance(said, Progress) and said.doing == "loading" for said in bench.said) > 3

    finished, log = bench.run(plan, after_three_runs)
    assert not finished
    assert len(log.finished) == 3
    assert bench.run(plan)[0]
    resumed, whole = bench.result(plan), uninterrupted.result(plan)
    for ours, theirs in zip(resumed.settings, whole.settings, strict=True):
        assert ours.setting == theirs.setting
        assert [(test.test, [each.round for each in test.repetitions]) for test in ours.tests] == [
            (test.test, [each.round for each in test.repetitions]) for test in theirs.tests
        ]


def test_a_model_that_cannot_be_loaded_is_told_once_and_left_out(bench: Bench) -> None:
    bench.script["load_fails"] = {"reason": "not_a_model", "message": "It is a picture.", "hint": "Take a model."}
    finished, log = bench.run(bench.plan())
    assert finished
    assert [(run.round, run.outcome, run.reason) for run in log.finished] == [(1, "not_loaded", "It is a picture.")] * 4
    assert all(setting.problems == ("round 1: It is a picture.",) for setting in bench.result(bench.plan()).settings)


def test_an_engine_that_is_killed_costs_its_run_and_is_tried_again_on_resuming(bench: Bench) -> None:
    test = PromptTest(title="x", prompts=("Hi.",), max_tokens=8)
    plan = bench.plan(models=1, tests=(test,), repetitions=1)
    bench.script["replies"] = [{"text": "A reply of some length.", "fault": {"kind": "kill", "at_token": 3}}]
    finished, log = bench.run(plan)
    assert finished
    assert [run.outcome for run in log.finished] == ["failed", "failed"]
    assert all("SIGKILL" in run.reason or "killed" in run.reason for run in log.finished)
    del bench.script["replies"]
    assert bench.run(plan)[0]
    assert [setting.problems for setting in bench.result(plan).settings] == [(), ()]
    assert all(setting.test("prompt:x") is not None for setting in bench.result(plan).settings)


def test_a_crash_in_the_first_decode_is_tried_again_without_extra_buffers(bench: Bench) -> None:
    test = PromptTest(title="x", prompts=("Hi.",), max_tokens=8)
    fault = {"kind": "segfault", "at_token": 0, "unless_extra_bufts_off": True}
    bench.script["replies"] = [{"text": "A reply of some length.", "fault": fault}]
    plan = bench.plan(models=1, threads=(1,), tests=(test,), repetitions=1, warmup=False)
    finished, log = bench.run(plan)
    assert finished
    assert [run.outcome for run in log.finished] == ["measured"]
    file = load_file(Path(log.finished[0].session))
    assert file.loads[-1].settings.use_extra_bufts is False


def test_a_session_that_is_saved_elsewhere_counts_and_is_told(bench: Bench) -> None:
    plan = bench.plan(models=1)
    bench.store.folder.parent.mkdir(exist_ok=True)
    bench.store.folder.write_text("a file where the folder should be")
    finished, log = bench.run(plan)
    assert finished
    assert {run.outcome for run in log.finished} == {"measured"}
    assert all("could be saved in" in run.notes[-1] and Path(run.session).is_file() for run in log.finished)
    for run in log.finished:
        shutil.rmtree(Path(run.session).parent)


def test_an_engine_that_dies_before_its_first_test_fails_the_run(bench: Bench) -> None:
    test = PromptTest(title="x", prompts=("Hi.",), max_tokens=8)
    bench.script["replies"] = [{"text": "A reply.", "fault": {"kind": "segfault", "at_token": 0}}]
    finished, log = bench.run(bench.plan(models=1, threads=(1,), tests=(test,), repetitions=1))
    assert finished
    assert [run.outcome for run in log.finished] == ["failed"]
    notes = bench.result(bench.plan(models=1, threads=(1,), tests=(test,), repetitions=1)).settings[0].problems
    assert len(notes) == 1


def test_a_file_that_is_not_the_plan_s_any_more_is_not_measured(bench: Bench) -> None:
    model = bench.folder / "a.gguf"
    model.write_bytes(b"a model")
    plan = bench.plan(models=1, threads=(1,))
    setting = replace(plan.settings[0], model=replace(plan.settings[0].model, content=content_key(model)))
    plan = replace(plan, settings=(setting,))
    assert [run.outcome for run in bench.run(plan)[1].finished] == ["measured"]
    model.write_bytes(b"another model")
    log = RunLog(bench.folder / "benches", plan)
    log.begin_again()
    assert [run.outcome for run in bench.run(plan)[1].finished] == ["not_loaded"]


def test_warm_ups_reach_as_far_as_the_largest_prompt(bench: Bench) -> None:
    assert bench.plan(tests=(TokenTest(n_prompt=200), TokenTest(n_prompt=64))).warmup_test.n_prompt == 200
    assert bench.plan(tests=(TokenTest(n_prompt=4096),)).warmup_test.n_prompt == 512
    assert bench.plan(tests=(TokenTest(n_gen=64),)).warmup_test.n_prompt == 32
    cold = bench.plan(models=1, threads=(1,), warmup=False)
    file = load_file(Path(bench.run(cold)[1].finished[0].session))
    assert not any(turn.warmup for turn in file.turns)


def test_where_power_is_measured_a_run_waits_for_the_idle_power_even_if_no_reading_has_come_yet(bench: Bench) -> None:
    plant(bench.folder / "root", ORIN_NANO)
    bench.script["tokens_per_s"] = 30.0
    plan = bench.plan(
        models=1, threads=(1,), repetitions=1, tests=(TokenTest(n_gen=16),),
        cool_down=CoolDown(idle_s=0.2, limit_s=0.5),
    )  # fmt: skip
    (run,) = bench.run(plan)[1].finished
    assert "the idle power was not yet known" in run.notes[0]
    assert load_file(Path(run.session)).events[-2].kind == "cool_down_cut_short"
    assert "the idle power was not yet known" in bench.result(plan).settings[0].problems[0]


def test_a_plan_goes_on_until_as_much_is_known_as_was_asked_for(bench: Bench) -> None:
    """No three repetitions are wider than ± 10000 %, and none are called narrower than 0.01 %: the limit ends those."""
    close = bench.plan(threads=(1,), until=Until(percent=10_000.0, limit=6))
    finished, log = bench.run(close)
    assert finished
    assert {run.round for run in log.finished} == {1, 2, 3}, "two repetitions may be equal by chance"
    result = bench.result(close)
    assert all(len(test.repetitions) == 3 for setting in result.settings for test in setting.tests)
    assert any(each.startswith("Known as asked: tok/s to ± 10000 %") for each in conclusions_of(result).sentences)
    assert remaining_of(log) == []

    unreachable = bench.plan(models=1, threads=(1,), until=Until(percent=0.01, limit=4))
    finished, log = bench.run(unreachable)
    assert finished
    tests = [test for setting in bench.result(unreachable).settings for test in setting.tests]
    assert [len(test.repetitions) for test in tests] == [4, 4]
    assert remaining_of(log) == []


def test_an_interrupted_wait_for_knowledge_goes_on_where_it_was(bench: Bench) -> None:
    plan = bench.plan(models=2, threads=(1,), until=Until(percent=0.01, limit=4))

    def after_five_runs() -> bool:
        runs = bench.folder / "benches" / plan.identity / RUNS_FILE
        return runs.exists() and len(runs.read_bytes().splitlines()) >= 5

    finished, log = bench.run(plan, interrupted=after_five_runs)
    assert (finished, len(log.finished)) == (False, 5)
    assert [(run.setting.model.label, run.round) for run in remaining_of(log)] == [("a", 4), ("b", 3)]
    finished, log = bench.run(plan)
    assert finished
    assert len(log.finished) == 8
    assert not any(run.outcome != "measured" for run in log.finished)


def test_a_further_run_that_fails_gives_its_setting_up(bench: Bench) -> None:
    plan = bench.plan(models=1, threads=(1,), until=Until(percent=0.01, limit=9))
    _, log = bench.run(bench.plan(models=1, threads=(1,)))
    log.add(FinishedRun(setting=plan.settings[0].key, round=2, outcome="failed", reason="killed"))
    assert runs_until_known(plan, log.finished) == []

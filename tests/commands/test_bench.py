"""`edgetop bench` from its command line to its exit code, with scripted engines in real worker processes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgetop.bench import runner
from edgetop.session.file_io import load_file
from tests.commands.machine import Machine, Ran

QUICK = ("-p", "64", "-n", "8", "-r", "2", "--power", "none")


@pytest.fixture
def machine(machine: Machine) -> Machine:
    machine.script(tokens_per_s=2000)
    return machine


def bench(machine: Machine, *arguments: str) -> Ran:
    return machine.run("bench", *arguments)


def settings_of(ran: Ran) -> list[tuple[str, str, int]]:
    return [(row["setting"], row["test"], len(row["samples_ts"])) for row in ran.json()]


def test_every_combination_is_measured_and_printed(machine: Machine) -> None:
    ran = bench(machine, "-m", "a.gguf", "-m", "b.gguf", "-t", "1,2", *QUICK, "-o", "json")
    assert ran.code == 0, ran.stderr
    assert settings_of(ran) == [
        (f"{model} t{threads}", test, 2) for model in "ab" for threads in (1, 2) for test in ("pp64", "tg8")
    ]
    assert all(row["avg_ts"] > 0 and row["problems"] == [] for row in ran.json())
    assert {row["n_threads"] for row in ran.json()} == {1, 2}


def test_what_llama_cpp_can_be_told_is_varied_too(machine: Machine) -> None:
    ran = bench(
        machine, "-m", "a.gguf", *QUICK, "-fa", "on,off", "-ctk", "q8_0", "-ot", "none,x=CPU;y=CPU", "-o", "json"
    )
    assert ran.code == 0, ran.stderr
    assert {row["setting"] for row in ran.json()} == {
        f"a ctk q8_0 fa {when} ot {rules}" for when in ("on", "off") for rules in ("none", "x=CPU;y=CPU")
    }
    assert {(row["type_k"], row["type_v"], row["tensor_buft_overrides"]) for row in ran.json()} == {
        ("q8_0", "f16", "none"), ("q8_0", "f16", "x=CPU;y=CPU"),
    }  # fmt: skip


def test_what_an_engine_would_refuse_at_each_load_is_refused_at_once(machine: Machine, small_model: Path) -> None:
    ran = bench(machine, "--engine", "auto", "-m", str(small_model), "--model-draft", "x.gguf")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("edgetop: --model-draft: llama.cpp's library does not carry this out")
    assert "--engine llama-server" in ran.stderr


@pytest.mark.parametrize("form", ["table", "md", "csv", "json", "jsonl", "sql", "paper", "latex"])
def test_each_form_is_all_that_goes_to_stdout(machine: Machine, form: str) -> None:
    ran = bench(machine, *QUICK, "-o", form)
    assert ran.code == 0
    match form:
        case "json":
            assert len(ran.json()) == 2
        case "jsonl":
            assert [json.loads(line)["test"] for line in ran.stdout.splitlines()] == ["pp64", "tg8"]
        case "csv":
            assert [row["test"] for row in csv.DictReader(io.StringIO(ran.stdout))] == ["pp64", "tg8"]
        case "sql":
            assert ran.stdout.startswith("CREATE TABLE")
        case "paper":
            assert ran.stdout.startswith("## Method\n\nMeasured on ")
            assert "| setting | " in ran.stdout
        case "latex":
            assert ran.stdout.startswith("\\begin{table}")
        case _:
            assert "pp64" in ran.stdout
            assert "Fastest (tg8)" in ran.stdout
            assert "Energy: n/a, power was switched off" in ran.stdout


def test_real_prompts_and_quality(machine: Machine) -> None:
    ran = bench(machine, "-p", "0", "-n", "0", "--prompts", "--max-tokens", "4", "-r", "1", "--quality", "--power",
                "none", "-o", "json")  # fmt: skip
    assert ran.code == 0, ran.stderr
    rows = {row["test"]: row for row in ran.json()}
    assert set(rows) == {"prompt:short", "prompt:long", "prompt:summary", "prompt:code", "prompt:turns"}
    assert all(len(row["samples_ts"]) == 1 and row["perplexity"] == 20.0 for row in rows.values())


def test_a_prompt_is_asked_of_both_models_and_compared(machine: Machine) -> None:
    ran = bench(machine, "-m", "a.gguf", "-m", "b.gguf", "--prompt", "What is a PMIC?", "--max-tokens", "4", "-r", "1",
                "--power", "none")  # fmt: skip
    assert ran.code == 0, ran.stderr
    assert ran.stdout.count("prompt:asked") >= 2
    assert "pp512" not in ran.stdout, "it stands in place of the usual tests"
    compared = r"^(b is \S+ % (faster|slower) than a|b is as fast as a|No significant .* speed between b and a)"
    assert re.search(compared, ran.stdout, re.MULTILINE), ran.stdout
    played = re.search(r"side by side: edgetop replay (\S+\.json) (\S+\.json)", ran.stderr)
    assert played is not None
    assert all(load_file(Path(path)).turns[-1].prompt == "What is a PMIC?" for path in played.groups())
    both = bench(machine, "--prompt", "Hi", "-p", "64", "--max-tokens", "4", "-r", "1", "--power", "none", "-o", "json")
    assert {row["test"] for row in both.json()} == {"pp64", "prompt:asked"}


def test_questions_of_a_file_are_scored_and_named(machine: Machine, tmp_path: Path) -> None:
    """The scripted engine likes the first choice best, in whole and per token; of six letters, one is a ninth."""
    file = tmp_path / "arc.jsonl"
    lines = [{"q": "Is it?", "choices": ["no", "it is"], "answer": answer} for answer in (0, 0, 1)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    asked = ("-p", "0", "-n", "0", "--questions", str(file), "--power", "none", "-o", "json")
    refused = bench(machine, *asked)
    assert (refused.code, refused.stdout) == (2, "")
    assert "arc.jsonl, line 1: it has no question" in refused.stderr
    ran = bench(machine, *asked, "--question-columns", "question=q", "--shots", "1")
    assert ran.code == 0, ran.stderr
    (row,) = ran.json()
    assert (row["questions"], row["accuracy"], row["accuracy_sum"]) == (2, 0.5, 0.5)
    assert row["questions_scoring"] == (
        "2 by log-likelihood per character (acc_norm), 1 examples before each, no chat template"
    )
    templated = bench(machine, *asked, "--question-columns", "question=q", "--question-template")
    assert templated.json()[0]["questions_scoring"].endswith(", in the chat template")
    alone = bench(machine, "-p", "0", "-n", "4", "--question-template")
    assert (alone.code, "says nothing without --quality" in alone.stderr) == (2, True)
    many = bench(machine, *asked, "--question-columns", "question=q", "--shots", "3")
    assert (many.code, "give fewer --shots" in many.stderr) == (2, True)


def test_quality_alone_needs_no_runs(machine: Machine) -> None:
    ran = bench(machine, "-p", "0", "-n", "0", "--quality", "--power", "none")
    assert ran.code == 0
    assert "Quality of scripted: perplexity 20.00" in ran.stdout
    assert len(list(sessions(machine))) == 1
    assert bench(machine, "--list").stdout.splitlines()[1].split()[1:4] == ["bench", "0", "0"], "scores are no runs"


def test_the_progress_says_what_is_done_and_what_comes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("edgetop.commands.bench.show_progress", shown.append)
    models = ("-m", "a.gguf", "-m", "b.gguf")
    ran = bench(machine, *models, "-p", "0", "-n", "4", "-r", "1", "--quality", "--power", "none")
    assert ran.code == 0, ran.stderr
    quality = [text for text in shown if text.startswith("quality: ")]
    assert all(", then quality of 2  " in text for text in shown if text not in quality)
    assert quality[0] == "quality: 1 of 2  loading a"
    assert any(re.fullmatch(r"quality: 1 of 2, \d+ s left  perplexity of a, 100%", text) for text in quality)
    assert any(re.fullmatch(r"quality: 2 of 2, 0 s left  questions to b, 100%", text) for text in quality)


def test_a_plan_s_file_and_flags_that_say_it_over(machine: Machine, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('models = ["a.gguf"]\nthreads = [1, 2]\nn_prompt = [32]\nn_gen = [4]\nrepetitions = 3\n')
    ran = bench(machine, "--plan", str(plan), "-r", "1", "-t", "2", "--power", "none", "-o", "json")
    assert settings_of(ran) == [("a t2", "pp32", 1), ("a t2", "tg4", 1)]
    plan.write_text("threads = [0]\n")
    broken = bench(machine, "--plan", str(plan))
    assert (broken.code, broken.stdout) == (2, "")
    assert len(broken.stderr.splitlines()) == 2


def test_a_study_is_levels_threads_prompts_quality_and_a_report(machine: Machine, tmp_path: Path) -> None:
    report = tmp_path / "study.html"
    ran = bench(machine, "--study", "-t", "1", "-p", "32", "-n", "4", "--max-tokens", "4", "-r", "1", "--power", "none",
                "--report", str(report), "-o", "json")  # fmt: skip
    assert ran.code == 0, ran.stderr
    tests = {row["test"] for row in ran.json()}
    assert {"pp32", "tg4", "prompt:turns"} <= tests
    assert all(row["perplexity"] == 20.0 for row in ran.json())
    assert report.read_bytes().startswith(b"<!DOCTYPE html>") or b"<html" in report.read_bytes()[:500].lower()


def test_a_dry_run_measures_nothing(machine: Machine) -> None:
    ran = bench(machine, *QUICK, "--dry-run")
    assert (ran.code, ran.stdout) == (0, "")
    assert not benches(machine).exists()


def test_an_interruption_is_130_and_can_be_resumed(machine: Machine) -> None:
    with interrupted_in("loading", times=3):
        ran = bench(machine, "-t", "1,2", *QUICK, "-o", "json")
    assert ran.code == 130
    assert "edgetop bench --resume" in ran.stderr
    assert [count for _, _, count in settings_of(ran)] == [1, 1, 1, 1], "what was measured is printed"
    listed = bench(machine, "--list")
    identity = listed.stdout.splitlines()[1].split()[0]
    assert listed.stdout.splitlines()[1].split()[1:4] == ["bench", "2", "4"]
    resumed = bench(machine, "--resume", identity[:6], "-o", "json")
    assert resumed.code == 0, resumed.stderr
    assert [count for _, _, count in settings_of(resumed)] == [2, 2, 2, 2]
    assert bench(machine, "--resume", "-o", "json").json() == resumed.json(), "there is nothing left to do"


def test_the_same_command_goes_on_too_and_once_done_measures_anew(machine: Machine) -> None:
    with interrupted_in("tg8, 2", times=1):
        assert bench(machine, *QUICK).code == 130
    assert len(runs_done(machine)) == 0
    first = bench(machine, *QUICK, "-o", "json").json()
    second = bench(machine, *QUICK, "-o", "json").json()
    assert first[0]["sessions"] != second[0]["sessions"]
    assert len(list(benches(machine).glob("*/runs-*.jsonl"))) == 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ({"load_fails": {"reason": "not_a_model", "message": "It is a picture.", "hint": "Take a model."}}, 3),
        ({"load_fails": {"reason": "no_memory", "message": "It is too large.", "hint": "Take less."}}, 1),
        ({"load_accident": {"kind": "kill"}}, 1),
    ],
)
def test_where_nothing_could_be_measured_the_exit_code_says_so(
    machine: Machine, script: dict[str, object], code: int
) -> None:
    machine.script(**script)
    ran = bench(machine, *QUICK)
    assert ran.code == code
    assert "scripted" in ran.stderr
    assert "No test of decode speed was measured." in ran.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("-r", "0"), ("-r", "many"), ("-t", "0"), ("--kv-type", "q9"), ("-p", "x"), ("--pg", "512"), ("--idle", "-1"),
        ("-p", "0", "-n", "0"), ("--device-price", "x"), ("--device-years", "3"), ("--report", "/nowhere/x.html"),
        ("--cpu-mask", "zz"), ("--prio", "9"), ("-ot", "ffn"), ("-fa", "yes"), ("-ctv", "none"), ("--n-cpu-moe", "-1"),
        ("--resume", "xyz"), ("--plan", "/nowhere.toml"), ("--quality", "/nowhere.txt"), ("-o", "xml"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_before_anything_is_measured(machine: Machine, arguments: tuple[str, ...]) -> None:
    ran = bench(machine, *arguments)
    assert (ran.code, ran.stdout) == (2, "")
    assert len(ran.stderr.splitlines()) <= 2
    assert not list(sessions(machine))


def test_a_model_that_is_gone_or_another_one_is_not_measured_on_resuming(machine: Machine, tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"one")
    with interrupted_in("loading", times=2):
        assert bench(machine, "-m", str(model), "-t", "1,2", *QUICK).code == 130
    model.write_bytes(b"another")
    ran = bench(machine, "--resume", "-o", "json")
    assert ran.code == 1, "a setting failed, though the first run stands"
    assert [row["setting"] for row in ran.json()] == ["m t1", "m t1"]
    assert "is not the file any more that the plan began with" in ran.stderr


def test_a_broken_model_and_one_that_vanishes_are_told_and_cost_no_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, small_model: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGETOP_ENGINE", "llama")
    broken, vanishing = tmp_path / "broken.gguf", tmp_path / "vanishing.gguf"
    broken.write_bytes(small_model.read_bytes()[:1_000_000])
    vanishing.symlink_to(small_model)
    with at("loading", 5, vanishing.unlink):
        ran = bench(machine, *(f"-m{each}" for each in (broken, vanishing, small_model)), "-t", "1", "-p", "32", "-n",
                    "4", "-r", "2", "--power", "none", "-o", "json")  # fmt: skip
    assert ran.code == 1, ran.stderr
    assert [(setting.split()[0], test, count) for setting, test, count in settings_of(ran)] == [
        ("vanishing", "pp32", 1), ("vanishing", "tg4", 1),
        (small_model.stem, "pp32", 2), (small_model.stem, "tg4", 2),
    ]  # fmt: skip
    told = ran.stderr.splitlines()
    assert sum("broken t1: round 1" in line for line in told) == 1
    assert any("vanishing t1: round 2" in line for line in told)


@contextmanager
def interrupted_in(doing: str, *, times: int) -> Iterator[None]:
    """Ctrl+C when a step of a run begins for so many times."""
    with at(doing, times, lambda: os.kill(os.getpid(), signal.SIGINT)):
        yield


@contextmanager
def at(doing: str, times: int, do: Callable[[], None]) -> Iterator[None]:
    """Do something when a step of a run begins for so many times."""
    say = runner.Measurement._report
    begun: list[str] = []

    def report(self: runner.Measurement, what: str) -> None:
        say(self, what)
        begun.append(what)
        if what == doing and begun.count(doing) == times:
            do()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.Measurement, "_report", report)
        yield


def benches(machine: Machine) -> Path:
    return Path(machine.environment["EDGETOP_DATA_DIR"]) / "benches"


def sessions(machine: Machine) -> Iterator[Path]:
    return Path(machine.environment["EDGETOP_DATA_DIR"]).glob("sessions/*.json")


def runs_done(machine: Machine) -> list[str]:
    return [line for file in benches(machine).glob("*/runs.jsonl") for line in file.read_text().splitlines()]

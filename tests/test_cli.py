"""The command line as a shell sees it: what goes to stdout and stderr, and the exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgetop import __version__, cli
from edgetop.commands.command_line import parser_of
from edgetop.commands.verbs import EXAMPLES, VERBS
from edgetop.io.log import close_log, open_log
from edgetop.session.file_io import validate
from tests.support.gguf_files import small_gguf
from tests.support.isolated_home import DEADLINE_S, Shell
from tests.support.recorded_sessions import journal_lines

HOSTILE = "[/ [b + \x1b]0;x\x07 \x1b[2J \u202eabc \ud800 " + "x" * 10_000


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    shell.script(replies=[{"text": "Paris."}, {"text": "Rome."}])
    return shell


def test_version_and_help(shell: Shell) -> None:
    assert shell.run("--version").stdout == f"edgetop {__version__}\n"
    help_ = shell.run("--help")
    assert help_.code == 0
    lines = help_.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b", help_.stdout)


@pytest.mark.parametrize("verb", list(VERBS))
def test_the_help_of_each_verb_has_examples_that_are_understood(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = parser_of(verb)
    text = parser.format_help()
    assert text.count("by default") == 0
    assert re.match(rf"usage: edgetop {verb} \[options\].*\n\n", text), "one line, each option is explained below"
    for words in EXAMPLES[verb]:
        assert f"edgetop {verb} {words}".rstrip() in text
        parser.parse_args(shlex.split(words))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["rum"], "no verb 'rum'\n         did you mean edgetop run?"),
        (["phi3.gguf"], "no verb 'phi3.gguf'\n         for a model: edgetop -m phi3.gguf"),
        (["chatter"], "no verb 'chatter'\n         "),
        (["run", "--nonsense"], "there is no option --nonsense\n         see edgetop run --help"),
        (["run", "--thread", "2"], "there is no option --thread\n         did you mean --threads?"),
        (["run", "-z", "2"], "there is no option -z\n         see edgetop run --help"),
        (["run", "--ctx", "4z", "-p", "x"], "--ctx: '4z' is not valid\n         expected"),
        (["run", "-f", "/nowhere", "-p", "x"], "cannot read /nowhere: No such file"),
        (["run", "-p", "x", "--config", "/nowhere"], "no configuration file /nowhere"),
        (["run", "llama3.2:1b", "hi"], "there is more than one prompt\n         put quotes around it"),
        (["run", "-", "-"], "there is more than one prompt"),
        (["run", "models/phi3-q4.gguf"], "models/phi3-q4.gguf looks like a model\n         name a model with -m"),
        (["models", "--ctx", "4k"], "there is no option --ctx"),
        (["sessions", "validate"], "arguments are required: SESSION"),
        (["\x1b[2J"], "no verb '␛[2J'"),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_2(shell: Shell, arguments: list[str], what: str) -> None:
    ran = shell.run(*arguments)
    assert (ran.code, ran.stdout) == (2, "")
    assert what in ran.stderr
    assert len(ran.stderr.splitlines()) == 2


def test_an_empty_prompt_is_wrong_usage(shell: Shell) -> None:
    assert "holds no prompt" in shell.run("run", "-").stderr
    assert shell.run("run").code == 2


@pytest.mark.parametrize("words", [["second"], ["--temp", "0", "second"], ["second", "--temp", "0"]], ids=str)
def test_a_prompt_needs_no_option(shell: Shell, words: list[str]) -> None:
    ran = shell.run("run", "--json", "-p", "first", *words)
    assert [turn["prompt"] for turn in ran.json()["turns"]] == ["first", "second"]


@pytest.mark.parametrize(
    ("words", "asked"),
    [(["Sum up:", "-"], "Sum up:\n\nthe text"), (["-", "Sum up."], "the text\n\nSum up."), (["-"], "the text")],
    ids=["above", "below", "alone"],
)
def test_what_is_piped_is_a_part_of_the_prompt_where_a_dash_stands(shell: Shell, words: list[str], asked: str) -> None:
    ran = shell.run("run", "--json", *words, told="the text\n")
    assert [turn["prompt"] for turn in ran.json()["turns"]] == [asked]
    assert "through the pipe" not in ran.stderr


def test_a_pipe_that_was_not_read_is_told(shell: Shell) -> None:
    ran = shell.run("run", "-p", "Sum up.", told="the text\n")
    assert ran.code == 0
    assert "what came through the pipe was not asked" in ran.stderr
    assert "the pipe" not in shell.run("run", "-q", "-p", "Sum up.", told="the text\n").stderr
    assert "the pipe" not in shell.run("run", "-p", "Sum up.").stderr


def test_replies_go_to_stdout_and_everything_else_to_stderr(shell: Shell) -> None:
    ran = shell.run("run", "-p", "Capital of France?", "-p", "Of Italy?")
    assert (ran.code, ran.stdout) == (0, "Paris.\nRome.\n")
    assert ran.stderr.count("tok/s · prefill") == 2
    assert "energy n/a: " in ran.stderr
    assert f"session: {shell.sessions()[0]}" in ran.stderr
    assert "\x1b" not in ran.stderr + ran.stdout
    assert "loading" not in ran.stderr


def test_quiet_says_nothing_when_all_is_well(shell: Shell) -> None:
    assert shell.run("run", "-q", "-p", "x").stderr == ""


def test_prompts_keep_the_order_of_the_command_line(shell: Shell) -> None:
    (shell.folder / "second.txt").write_text("from a file\n")
    ran = shell.run("run", "--json", "-p", "first", "-f", "second.txt", "-p", "third", "-", told="from a pipe")
    assert [turn["prompt"] for turn in ran.json()["turns"]] == ["first", "from a file", "third", "from a pipe"]


def test_the_object_holds_the_figures_of_the_session_file_to_the_digit(shell: Shell) -> None:
    ran = shell.run("run", "--json", "-p", "a", "-p", "b", "--seed", "7", "--temp", "0.5", "-n", "9")
    printed = ran.json()
    saved = json.loads(Path(printed["session"]).read_text())
    assert set(printed) == {"device", "model", "engine", "settings", "turns", "summary", "session"}
    assert printed["summary"] == saved["summary"]
    assert printed["device"] == saved["device"]
    for ours, theirs in zip(printed["turns"], saved["turns"], strict=True):
        assert theirs["figures"].items() <= ours.items()
        assert ours["sampling"] == theirs["sampling"]
        assert (ours["sampling"]["seed"], ours["sampling"]["max_tokens"]) == (7, 9)
    assert [turn["reply"] for turn in printed["turns"]] == ["Paris.", "Rome."]
    assert printed["summary"]["decode_tokens_per_s"] > 0
    assert validate(Path(printed["session"])) == []


def test_a_hostile_reply_is_harmless_on_stdout_and_whole_in_json(shell: Shell) -> None:
    shell.script(replies=[{"text": HOSTILE}])
    shown = shell.run("run", "-p", "x").stdout
    assert shown.startswith("[/ [b + ␛]0;x␇ ␛[2J <U+202E>abc ")
    assert "x" * 10_000 in shown
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    as_json = shell.run("run", "--json", "-p", "x")
    assert "\x1b" not in as_json.stdout
    assert as_json.json()["turns"][0]["reply"].startswith("[/ [b + \x1b]0;x\x07 \x1b[2J \u202eabc ")


def test_nothing_is_recorded_that_was_not_to_be(shell: Shell) -> None:
    assert shell.run("run", "--no-record", "-p", "secret").code == 0
    assert shell.sessions() == []
    printed = shell.run("run", "--no-text", "--json", "-p", "secret").json()
    assert "secret" not in Path(printed["session"]).read_text()
    assert printed["turns"][0]["reply"] is None
    assert printed["turns"][0]["generated_tokens"] > 0


def test_the_session_goes_where_it_is_told(shell: Shell) -> None:
    shell.run("run", "-o", "here.json", "-p", "x")
    assert validate(shell.folder / "here.json") == []
    assert shell.sessions() == []
    shell.run("run", "--data-dir", "elsewhere", "-p", "x")
    assert len(list((shell.folder / "elsewhere/sessions").glob("*.json"))) == 1


def test_without_a_terminal_the_default_verb_answers_one_question(shell: Shell) -> None:
    assert shell.run().stdout == "Paris.\n"
    shell.run(told="what a pipe says")
    shell.run("-p", "what a flag says", told="not this")
    prompts = [json.loads(path.read_text())["turns"][0]["prompt"] for path in shell.sessions()]
    assert len(prompts) == 3
    assert {"what a pipe says", "what a flag says"} < set(prompts)


def test_a_closed_standard_input_is_no_obstacle(shell: Shell) -> None:
    ran = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m edgetop <&-"], capture_output=True, cwd=shell.folder, env=shell.environment,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, b"Paris.\n")


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"GGUF\x03\0\0\0", small_gguf()[:300]])
def test_a_model_that_cannot_be_loaded_is_two_lines_and_exit_3(shell: Shell, content: bytes | None) -> None:
    del shell.environment["EDGETOP_ENGINE"]
    if content is not None:
        (shell.folder / "bad.gguf").write_bytes(content)
    ran = shell.run("run", "-m", "./bad.gguf", "-p", "x")
    assert (ran.code, ran.stdout) == (3, "")
    assert 1 <= len(ran.stderr.splitlines()) <= 2
    assert ran.stderr.startswith("edgetop: ")
    assert "Traceback" not in ran.stderr


def test_a_failed_load_prints_no_reply_but_an_object(shell: Shell) -> None:
    shell.script(load_fails={"reason": "no_memory", "message": "too large", "hint": "smaller"})
    ran = shell.run("run", "--json", "-p", "x")
    assert ran.code == 3
    assert ran.json()["model"] is None
    assert ran.stderr == "edgetop: too large\n         smaller\n"


def test_a_crash_in_an_answer_is_exit_1_and_what_was_said_is_saved(shell: Shell) -> None:
    shell.script(replies=[{"text": "Once upon a time there was a crash", "fault": {"kind": "segfault", "at_token": 4}}])
    ran = shell.run("run", "-p", "x")
    assert ran.code == 1
    assert ran.stdout == "Once upon a time\n"
    assert "edgetop: " in ran.stderr
    assert "Traceback" not in ran.stderr
    turn = json.loads(shell.sessions()[0].read_text())["turns"][0]
    assert turn["end"]["stop_reason"] == "engine_died"
    assert turn["reply"][0]["text"] == "Once upon a time"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_saves_what_was_measured_and_is_exit_130(shell: Shell, number: signal.Signals) -> None:
    shell.script(replies=[{"text": "word " * 20_000}], tokens_per_s=50)
    process = shell.start("run", "-p", "x", "-p", "never asked")
    read_some(process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert b"Traceback" not in stderr
    turns = json.loads(shell.sessions()[0].read_text())["turns"]
    assert [turn["end"]["stop_reason"] for turn in turns] == ["cancelled"]
    assert turns[0]["end"]["generated_tokens"] > 0
    assert validate(shell.sessions()[0]) == []


def test_a_reader_that_has_enough_ends_the_answer_quietly(shell: Shell) -> None:
    shell.script(replies=[{"text": "word " * 20_000}], tokens_per_s=50)
    process = shell.start("run", "-q", "-p", "x")
    read_some(process)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 130
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert len(shell.sessions()) == 1


def test_a_process_killed_outright_is_recovered(shell: Shell) -> None:
    shell.script(replies=[{"text": "word " * 20_000}], tokens_per_s=200)
    process = shell.start("run", "-p", "x")
    read_some(process)
    folder = shell.folder / "data/sessions"
    wait_until(lambda: any(b'"tokens"' in journal_lines(journal) for journal in folder.glob("*.journal")))
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    assert shell.sessions() == []
    ran = shell.run("sessions", "recover")
    assert (ran.code, ran.stdout.strip()) == (0, str(shell.sessions()[0]))
    assert shell.run("sessions", "validate", "1").code == 0
    assert json.loads(shell.sessions()[0].read_text())["turns"][0]["tokens"]["dt_us"]


def test_sessions_are_listed_newest_first_in_every_format(shell: Shell) -> None:
    assert "no sessions in" in shell.run("sessions").stderr
    assert shell.run("sessions", "list", "--json").json() == []
    shell.run("run", "-p", "one")
    shell.run("run", "-p", "one", "-p", "two")
    listed = shell.run("sessions", "list", "--json").json()
    rows = list(csv.DictReader(io.StringIO(shell.run("sessions", "list", "--csv").stdout)))
    assert {each["turns"] for each in listed} == {1, 2}
    assert [row["id"] for row in rows] == [each["id"] for each in listed]
    assert shell.run("sessions").stdout.splitlines()[0].split()[:2] == ["#", "STARTED"]
    assert shell.run("sessions", "list", "--md").stdout.count("\n| ") == 3


def test_a_session_is_shown_with_its_turns_and_its_limits(shell: Shell) -> None:
    shell.run("run", "-p", "Name a \x1b[31mcolour")
    shown = shell.run("sessions", "show").stdout
    assert "Name a ␛[31mcolour" in shown
    assert re.search(r"^energy +n/a: ", shown, re.MULTILINE)
    assert shell.run("sessions", "show", "1", "--json").json()["format"] == "edgetop-session"
    missing = shell.run("sessions", "show", "nothing-like-it")
    assert missing.code == 1
    assert len(missing.stderr.splitlines()) == 2


def test_a_changed_figure_is_found_by_validation(shell: Shell) -> None:
    shell.run("run", "-p", "x")
    path = shell.sessions()[0]
    document = json.loads(path.read_text())
    document["turns"][0]["figures"]["decode_tokens_per_s"] = 1e6
    path.write_text(json.dumps(document))
    ran = shell.run("sessions", "validate", str(path), "--json")
    assert ran.code == 1
    assert "decode_tokens_per_s" in ran.json()[0]["problems"][0]


def test_models_lists_what_is_in_the_working_folder(shell: Shell) -> None:
    (shell.folder / "tiny\u202e.gguf").write_bytes(small_gguf())
    (shell.folder / "torn.gguf").write_bytes(small_gguf()[:-64])
    listed = {each["name"]: each for each in shell.run("models", "--json").json()}
    tiny, torn = listed["tiny\u202e"], listed["torn"]
    assert (tiny["quantization"], tiny["parameters"], tiny["n_ctx_train"], tiny["problem"]) == ("Q4_1", 136, 2048, None)
    assert "truncated" in torn["problem"]
    assert torn["parameters"] is None
    table = shell.run("models").stdout
    assert "tiny<U+202E>" in table
    assert "\u202e" not in table


def test_doctor_says_what_works_and_where_settings_come_from(shell: Shell) -> None:
    found = shell.run("doctor", "--json", "--ctx", "4k", environment={"EDGETOP_THREADS": "2"}).json()
    assert found["settings"]["ctx"] == {"value": 4096, "origin": "--ctx"}
    assert found["settings"]["threads"] == {"value": 2, "origin": "EDGETOP_THREADS"}
    assert found["engine"]["info"]["name"]
    assert {source["name"] for source in found["sensors"]["sources"]} >= {"memory"}
    for missing in found["sensors"]["absent"].values():
        assert missing["reason"]
    assert found["terminal"]["is_terminal"] is False
    text = shell.run("doctor", "--ctx", "4k")
    assert text.code == 0
    assert "4096 (--ctx)" in text.stdout


def test_doctor_reads_below_the_sysroot(shell: Shell) -> None:
    (shell.folder / "root").mkdir()
    absent = shell.run("doctor", "--json", "--sysroot", "root").json()["sensors"]["absent"]
    assert "memory" in absent


def test_doctor_is_exit_1_when_the_engine_does_not_start(shell: Shell) -> None:
    ran = shell.run("doctor", environment={"EDGETOP_ENGINE": "scripted:/nowhere.json"})
    assert ran.code == 1
    assert "no  library" in ran.stdout


def test_a_mistake_in_the_configuration_is_told_by_every_verb(shell: Shell) -> None:
    config = shell.folder / "config/edgetop/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[screen]\ncolour = 1\n")
    for verb in ("run", "models", "sessions"):
        ran = shell.run(verb)
        assert ran.code == 2
        assert "no setting 'colour' in [screen]" in ran.stderr
    assert "no setting 'colour' in [screen]" in shell.run("doctor").stdout
    assert "no setting 'colour' in [screen]" in shell.run("config").stderr


def test_a_defect_is_told_without_a_trace_which_the_log_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(_given: list[str]) -> int:
        raise ValueError("bad \x1b[2J")

    monkeypatch.setattr(cli, "_carry_out", defect)
    monkeypatch.delenv("EDGETOP_VERBOSE", raising=False)
    assert cli.main(["models"]) == 1
    told = capsys.readouterr().err
    assert told.splitlines()[0] == "edgetop: internal error, please report it: ValueError: bad ␛[2J"
    assert len(told.splitlines()) == 2
    for level in ("-v", "--verbose"):
        cli.main(["models", level])
        assert "Traceback" not in capsys.readouterr().err
    open_log(tmp_path / "log")
    try:
        cli.main(["models"])
    finally:
        close_log()
    told = capsys.readouterr().err
    assert told.splitlines()[1] == f"         where it comes from is written in {tmp_path / 'log'}"
    assert "in defect" in (tmp_path / "log").read_text("utf-8")


def read_some(process: subprocess.Popen[bytes]) -> None:
    """Wait for the first of the reply."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
    assert ready
    assert os.read(process.stdout.fileno(), 8)


def wait_until(condition: Any) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize("level", [[], ["-v"]])
def test_a_trace_of_python_goes_to_the_log_and_nowhere_else(shell: Shell, level: list[str]) -> None:
    (shell.folder / "script.json").write_text("no script")
    shell.environment["EDGETOP_ENGINE"] = f"scripted:{shell.folder / 'script.json'}"
    ran = shell.run("run", "-p", "x", *level, "--log", "log.txt")
    assert ran.code == 3
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "internal error" not in ran.stderr
    assert "Traceback" in (shell.folder / "log.txt").read_text()


def test_a_thread_that_never_ends_does_not_keep_edgetop_from_ending() -> None:
    stuck = (
        "import threading; from edgetop import cli; cli._STUCK_S = 0.1; "
        "threading.Thread(target=threading.Event().wait).start(); cli._leave(7)"
    )
    assert subprocess.run([sys.executable, "-c", stuck], timeout=60, check=False).returncode == 7

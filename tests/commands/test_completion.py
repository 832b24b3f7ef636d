from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgetop.commands import completion
from edgetop.commands.command_line import actions_of, parser_of
from edgetop.commands.completion import BASH, FILES, FISH, FOLDERS, SCRIPTS, ZSH, candidates, execute, print_candidates
from edgetop.commands.verbs import VERBS
from edgetop.core.engine_choices import KV_TYPES
from tests.support.gguf_files import small_gguf
from tests.support.isolated_home import DEADLINE_S, Shell

THEMES = {path.stem for path in (Path(__file__).resolve().parents[2] / "themes").glob("*.toml")}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A home with a model in its working folder, and a program `edgetop` on the path."""
    shell = Shell(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in shell.environment.items():
        monkeypatch.setenv(name, value)
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "edgetop"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edgetop "$@"\n')
    program.chmod(0o755)
    shell.environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    (tmp_path / "tiny-q4.gguf").write_bytes(small_gguf())
    (tmp_path / "a folder").mkdir()
    return shell


def texts(*words: str) -> set[str]:
    return {each.text for each in candidates(words[:-1], words[-1])}


def test_the_first_word_is_a_verb() -> None:
    assert texts("") == set(VERBS)
    assert texts("re") == {name for name in VERBS if name.startswith("re")}


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_of_every_verb_is_offered_and_leads_on(verb: str) -> None:
    parser = parser_of(verb)
    offered = texts(verb, "-") | {"-h", "--help"}
    flags = [each.option_strings for each in actions_of(parser) if each.help != argparse.SUPPRESS]
    assert not [each for each in flags if each and offered.isdisjoint(each)]
    for action in actions_of(parser):
        if action.option_strings and action.help != argparse.SUPPRESS:
            candidates([verb, action.option_strings[0]], "")  # and nothing fails


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "--kv-type", ""), set(KV_TYPES)),
        (("run", "--kv-type=q8"), {"--kv-type=q8_0"}),
        (("--load-mode", "m"), {"mmap", "mlock"}),
        (("--theme", ""), THEMES),
        (("run", "--temp", ""), set()),
        (("run", "--config", ""), {FILES}),
        (("models", "--model-dir", "x"), {FOLDERS}),
        (("config", ""), {"set", "unset"}),
        (("config", "set", "thr"), {"threads", "threads_batch"}),
        (("config", "set", "record", ""), {"true", "false"}),
        (("completion", ""), set(SCRIPTS)),
        (("completion", "bash", ""), set()),
        (("sessions", "export", "1", "--to", "c"), {"csv"}),
        (("check", "--device", "pi"), {"pi4", "pi5"}),
        (("replay", "--align", ""), {"time", "turn", "token"}),
    ],
)
def test_values_are_offered_where_they_are_known(words: tuple[str, ...], expected: set[str]) -> None:
    assert texts(*words) == expected


def test_models_and_sessions_are_offered_by_name_and_number(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.script(replies=[{"text": "Paris."}])
    assert shell.run("run", "-p", "x").code == 0
    assert shell.run("sessions", "tag", "1", "+baseline").code == 0
    assert {"tiny-q4", FILES} <= texts("-m", "ti")
    assert texts("sessions", "show", "") == {"1", "baseline", FILES}
    monkeypatch.setenv("EDGETOP_MODEL_DIR", "/nowhere")
    assert {"tiny-q4", FILES} <= texts("check", "ti")


def test_nothing_is_said_where_something_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_words: object, _current: str) -> list[completion.Candidate]:
        raise ValueError("a defect")

    monkeypatch.setattr(completion, "candidates", fail)
    assert print_candidates(["bash", "run", ""]) == 0
    assert capsys.readouterr() == ("", "")


def test_no_name_can_act_on_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [completion.Candidate("a\nb"), completion.Candidate("\x1b[2J"), completion.Candidate("good", "x\x1by\tz\n")]
    monkeypatch.setattr(completion, "candidates", lambda *_: found)
    print_candidates(["zsh", ""])
    assert capsys.readouterr().out == "good\tx␛y z\n"


def in_bash(shell: Shell, *words: str) -> list[str]:
    """What bash would offer; `words` are as bash splits the line."""
    typed = " ".join(f"'{word}'" for word in words)
    script = (
        f"{BASH}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _edgetop; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        "complete -p edgetop"
    )
    ran = subprocess.run(
        ["bash", "--norc", "-c", script], env=shell.environment, cwd=shell.folder, capture_output=True, text=True,
        timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    assert ran.stderr == ""
    *offered, registered = ran.stdout.splitlines()
    assert registered == "complete -F _edgetop edgetop"
    return [each for each in offered if each]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_offers_it(shell: Shell) -> None:
    assert in_bash(shell, "edgetop", "run", "--thr") == ["--threads", "--threads-batch"]
    assert in_bash(shell, "edgetop", "--kv-type", "=", "q5") == ["q5_1", "q5_0"]
    assert set(in_bash(shell, "edgetop", "--model-dir", "")) == {"a folder", "programs"}
    assert "a folder" in in_bash(shell, "edgetop", "run", "-f", "a")
    (shell.folder / "tiny:1b.gguf").write_bytes(small_gguf())
    assert "1b" in in_bash(shell, "edgetop", "-m", "tiny", ":", "1")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_offers_it(shell: Shell) -> None:
    # What zsh would show is taken where the function hands it over.
    script = (
        "compdef() { :; }; _files() { print files $@; }\n"
        "_describe() { local -a given; given=(${(P)2}); print -rl -- $given; }\n"
        f"{ZSH}\nwords=(edgetop run --thr); CURRENT=3; _edgetop\nwords=(edgetop --model-dir ''); CURRENT=3; _edgetop"
    )
    ran = subprocess.run(
        ["zsh", "-f", "-c", script], env=shell.environment, cwd=shell.folder, capture_output=True, text=True,
        timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    assert ran.stderr == ""
    lines = ran.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["--threads", "--threads-batch"]
    assert "prefill" in lines[1]
    assert lines[2:] == ["files -/"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_offers_it(shell: Shell) -> None:
    script = f"{FISH}\ncomplete -C 'edgetop run --thr'\ncomplete -C 'edgetop --model-dir a'\n"
    ran = subprocess.run(
        ["fish", "--no-config", "-c", script], env=shell.environment, cwd=shell.folder, capture_output=True, text=True,
        timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    lines = ran.stdout.splitlines()
    assert [line.partition("\t")[0] for line in lines[:2]] == ["--threads", "--threads-batch"]
    assert any("a folder" in line.replace("\\", "") for line in lines[2:])


@pytest.mark.parametrize("shell_name", SCRIPTS)
def test_the_script_is_printed(shell_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from edgetop.settings.resolve import resolve  # noqa: PLC0415

    assert execute(argparse.Namespace(shell=shell_name), resolve({}, {})) == 0
    assert capsys.readouterr().out == SCRIPTS[shell_name]

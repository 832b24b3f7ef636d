"""What users of neighbouring programs met with models and files, in the real program without a screen."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgetop.session.file_io import load_file
from tests.support.gguf_files import write_sparse_model
from tests.support.isolated_home import IsolatedHome
from tests.support.playing_model import PROMPT, write_playing_model
from tests.support.requirements import need_program

LONG = "\n".join(map(str, range(400)))


@pytest.fixture
def player(home: IsolatedHome) -> Path:
    return write_playing_model(home.folder / "player.gguf", ["Hello", " there."])


def test_a_prompt_longer_than_the_context_ends_with_1_both_numbers_and_what_to_do(
    home: IsolatedHome, player: Path
) -> None:
    for arguments in (("run", "-m", str(player), "-p", LONG), ("run", "-m", str(player), "-")):
        run = home.run(*arguments, stdin=LONG)
        assert (run.returncode, run.stdout) == (1, "")
        assert "takes 1490 tokens and the context holds 256" in run.stderr
        assert "--ctx" in run.stderr
        assert "--full-context shift" in run.stderr
    run = home.run("run", "--json", "-m", str(player), "-p", LONG)
    assert run.returncode == 1
    (turn,) = json.loads(run.stdout)["turns"]
    assert "1490 tokens" in turn["error"]


def test_with_shift_the_beginning_of_a_long_prompt_is_left_out_and_that_is_said(
    home: IsolatedHome, player: Path
) -> None:
    run = home.run("run", "--full-context", "shift", "-n", "3", "--json", "-m", str(player), "-p", LONG)
    assert run.returncode == 0, run.stderr
    assert "its first 1298 tokens are left out" in run.stderr
    (turn,) = json.loads(run.stdout)["turns"]
    assert (turn["prompt_tokens"], turn["stop_reason"], turn["error"]) == (192, "end_of_generation", None)


def test_a_context_longer_than_the_positions_that_a_model_has_learnt_is_refused(
    home: IsolatedHome, player: Path
) -> None:
    run = home.run("run", "-m", str(player), "-p", PROMPT, "--ctx", "4096")
    assert (run.returncode, run.stdout) == (3, "")
    assert re.search(r"player.gguf knows (\d+) positions; a context of 4096 is too long", run.stderr)


def test_what_check_calls_impossible_even_with_paging_is_not_begun_to_be_loaded(home: IsolatedHome) -> None:
    path = write_sparse_model(home.folder / "huge.gguf", n_layer=200, n_embd=32_768, n_ff=131_072)
    check, run = home.run("check", str(path), "--json", "--no-probe"), home.run("run", "-m", str(path), "-p", "hi")
    (found,) = json.loads(check.stdout)
    assert check.returncode == 4
    assert found["verdict"]["paging"] == "impossible"
    assert (run.returncode, run.stdout) == (3, "")
    assert found["verdict"]["reason"] in run.stderr


def test_a_template_whose_output_cannot_fit_the_context_is_refused_with_that_reason(home: IsolatedHome) -> None:
    template = "{% for m in messages[-1:] %}{{ m.content }}{{ 'x' * 100000 * (m.content | length - 5) }}{% endfor %}"
    path = write_playing_model(home.folder / "long.gguf", ["Hi"], template=template)
    run = home.run("run", "-m", str(path), "-p", "Good morning.")
    assert run.returncode == 1
    assert "The chat template makes 800013 characters" in run.stderr
    assert "256 tokens" in run.stderr


def test_a_template_that_makes_nothing_of_a_prompt_ends_with_that_reason(home: IsolatedHome) -> None:
    template = "{% for m in messages %}{{ m.content if m.content != 'Bye' }}{% endfor %}"
    path = write_playing_model(home.folder / "mute.gguf", ["Hi"], template=template)
    run = home.run("run", "-m", str(path), "-p", "Bye")
    assert (run.returncode, run.stdout) == (1, "")
    assert "There is nothing to answer: the prompt has no tokens" in run.stderr
    assert "context" not in run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no such names")
def test_a_name_that_is_not_utf8_can_be_run(home: IsolatedHome, player: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(player.parent) + b"/caf\xe9.gguf"))
    player.rename(odd)
    for name in (str(odd), odd.name, odd.stem):
        run = home.run("run", "--temp", "0", "-m", name, "-p", PROMPT)
        assert (run.returncode, run.stdout) == (0, "Hello there.\n"), run.stderr
    assert "\ufffd" in home.run("models").stdout


def test_a_model_is_the_last_used_once_it_has_answered(home: IsolatedHome, player: Path) -> None:
    assert home.run("run", "-m", str(player), "-p", LONG).returncode == 1
    last = home.folder / "state/edgetop/last-model"
    assert not last.exists()
    assert home.run("run", "-m", str(player), "-p", PROMPT).returncode == 0
    assert last.read_text() == str(player)


def test_weights_that_the_kernel_did_not_lock_are_recorded_as_mapped(home: IsolatedHome, player: Path) -> None:
    need_program("setpriv")  # root may lock as much as it likes
    command = home.command("run", "-m", str(player), "-p", PROMPT, "--load-mode", "mlock")
    without = ("setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "prlimit", "--memlock=0:0")
    run = subprocess.run([*without, *command], env=home.environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "did not let the weights be locked" in run.stderr
    assert "ulimit -l" in run.stderr
    (path,) = home.session_paths
    assert load_file(path).loads[0].settings.load_mode == "mmap"


def test_a_recording_names_its_file_by_its_sha256_and_compare_says_when_two_differ(
    home: IsolatedHome, player: Path
) -> None:
    for reply in ("Hello there.", "Good morning."):
        write_playing_model(player, [reply])
        assert home.run("run", "-m", str(player), "-p", PROMPT).returncode == 0
        shown = home.run("sessions", "show", "1").stdout
        assert f"SHA-256 {hashlib.sha256(player.read_bytes()).hexdigest()}" in shown
    first, second = home.session_paths
    assert "other model file" in home.run("compare", str(first), str(second)).stdout
    write_playing_model(player, ["Something else."])
    unknown = first.read_text().replace(load_file(first).loads[0].model.sha256, "")
    first.write_text(unknown)
    assert "SHA-256 not yet computed" in home.run("sessions", "show", str(first)).stdout, "the file has changed since"

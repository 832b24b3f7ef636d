"""edgetop in a pipe: one question, its answer, and figures that agree wherever they are told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgetop.core.format import format_rate
from tests.support.isolated_home import IsolatedHome, reply_of


def test_answers_one_question_and_ends(home: IsolatedHome, small_model: Path) -> None:
    run = home.run("-m", str(small_model), "-n", "24", "--temp", "0", "--threads", "1")
    assert run.returncode == 0, run.stderr
    file = home.only_session()
    (turn,) = file.turns
    assert turn.figures.generated_tokens > 0
    assert run.stdout.strip() == reply_of(turn).strip()
    assert f"{turn.figures.generated_tokens} tokens" in run.stderr
    assert format_rate(turn.figures.decode_tokens_per_s) in run.stderr
    assert "energy n/a" in run.stderr or file.summary.energy is not None
    home.everyone_gone()


def test_the_question_may_come_through_a_pipe(home: IsolatedHome, small_model: Path) -> None:
    run = home.run("-m", str(small_model), "-n", "8", "--threads", "1", stdin="What is a river?\n")
    assert run.returncode == 0, run.stderr
    (turn,) = home.only_session().turns
    assert turn.prompt == "What is a river?"


def test_the_decode_rate_is_that_of_the_session_and_of_the_engine(home: IsolatedHome, small_model: Path) -> None:
    run = home.run(
        *("run", "--json", "-m", str(small_model), "-n", "129", "--temp", "0", "--threads", "1"),
        *("-p", "Write a long story about the sea and all who live in it."),
    )
    assert run.returncode == 0, run.stderr
    printed = json.loads(run.stdout)
    (path,) = home.session_paths
    assert printed["session"] == str(path)

    rate = re.compile(r'"decode_tokens_per_s": ?([\d.]+)')
    in_run, in_file = rate.findall(run.stdout), rate.findall(path.read_text("utf-8"))
    assert len(in_run) == len(in_file) == 2
    assert len({*in_run, *in_file}) == 1, "the same to the last digit, for the turn and for the session"

    (turn,) = home.only_session().turns
    assert turn.end is not None
    assert turn.end.perf is not None
    # The counters tell of decode calls that read one token; the first token of a reply is the prefill's, and the last
    # one drawn is decoded only when the reply goes on.
    assert turn.figures.generated_tokens >= 65, "the model says too little to compare"
    perf = turn.end.perf
    assert abs(perf.decode_tokens - (turn.figures.generated_tokens - 1)) <= 1
    # The session's span also holds what lies between the decode calls, which grows with whatever else the machine does:
    # `benchmarks/against_llama_bench.py` measures how much that is.
    engine_tokens_per_s = perf.decode_tokens / perf.decode_ms * 1000
    assert turn.figures.decode_tokens_per_s is not None
    assert engine_tokens_per_s / 2 < turn.figures.decode_tokens_per_s < engine_tokens_per_s * 1.1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no file"),
        (b"", "is empty"),
        (b"hello, this is no model\n" * 100, "not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
    ],
    ids=["missing", "empty", "text", "pointer"],
)
def test_a_bad_model_ends_with_code_3_and_two_lines(content: bytes | None, told: str, home: IsolatedHome) -> None:
    model = home.folder / "bad.gguf"
    if content is not None:
        model.write_bytes(content)
    check_refusal(home, model, told)


def test_a_model_that_is_cut_off_ends_with_code_3_and_two_lines(home: IsolatedHome, small_model: Path) -> None:
    model = home.folder / "cut.gguf"
    with small_model.open("rb") as whole:
        model.write_bytes(whole.read(4 * 2**20))
    check_refusal(home, model, "bytes after the file")


def check_refusal(home: IsolatedHome, model: Path, told: str) -> None:
    for arguments in (("run", "-m", str(model), "-p", "Hello."), ("-m", str(model))):
        run = home.run(*arguments)
        assert run.returncode == 3, run.stderr
        assert run.stdout == ""
        what, hint = run.stderr.splitlines()
        assert told in what
        assert hint.strip()
    assert home.session_paths == []
    home.everyone_gone()

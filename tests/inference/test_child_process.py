from __future__ import annotations

import signal
from pathlib import Path

import pytest

from edgetop.inference.child_process import explain_exit, last_lines, oom_kills


@pytest.mark.parametrize(
    ("return_code", "oom_killed", "words", "what", "hint"),
    [
        (
            -signal.SIGSEGV,
            False,
            "",
            "The engine crashed in the middle of an answer (SIGSEGV).",
            "Load the model again",
        ),
        (-signal.SIGILL, False, "", "The engine crashed in the middle of an answer (SIGILL).", "--engine portable"),
        (-signal.SIGKILL, True, "", "The engine was killed by the kernel for memory in the", "shorter context"),
        (-signal.SIGKILL, None, "", "The engine was killed from outside (SIGKILL) in the", "probably for memory"),
        (-signal.SIGKILL, False, "", "The engine was killed from outside (SIGKILL) in the", "Load the model again"),
        (-signal.SIGABRT, False, "terminate called\n  what():  std::bad_alloc\n", "aborted in the middle", "--ctx"),
        (-signal.SIGTERM, False, "", "The engine was ended by SIGTERM in the middle", "Load the model again"),
        (3, False, "a\nb\n", "The engine ended in the middle of an answer with exit code 3: b", "Load the model"),
        (-250, False, "", "The engine ended in the middle of an answer with exit code -250.", "Load the model"),
    ],
)
def test_says_what_happened_and_what_to_do(
    return_code: int, oom_killed: bool | None, words: str, what: str, hint: str
) -> None:
    death = explain_exit(return_code, "generating", last_lines(words.encode()), oom_killed=oom_killed)
    assert what in death.what
    assert hint in death.hint
    assert "\n" not in death.what + death.hint


def test_a_death_for_memory_in_the_first_decode_is_no_crash_to_work_around() -> None:
    words = last_lines(b"terminate called after throwing an instance of 'std::bad_alloc'")
    assert not explain_exit(-signal.SIGABRT, "first_decode", words, oom_killed=False).crashed_in_first_decode
    assert explain_exit(-signal.SIGABRT, "first_decode", (), oom_killed=False).crashed_in_first_decode


def test_an_assertion_of_llama_cpp_is_no_illegal_instruction_and_no_crash_to_work_around() -> None:
    words = last_lines(b"/src/ggml/src/ggml.c:42: GGML_ASSERT(ggml_can_mul_mat(a, b)) failed")
    for ended_by in (signal.SIGABRT, signal.SIGILL):
        death = explain_exit(-ended_by, "first_decode", words, oom_killed=False)
        assert not death.crashed_in_first_decode
        assert death.what.endswith("GGML_ASSERT(ggml_can_mul_mat(a, b)) failed")
        assert death.hint.startswith("llama.cpp cannot compute this model")


def test_reads_the_kernels_count_of_processes_killed_for_memory(tmp_path: Path) -> None:
    assert oom_kills(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 12\noom_kill 7\noom_kill_disable 1\n")
    assert oom_kills(tmp_path) == 7


def test_last_words_are_few_short_and_harmless() -> None:
    lines = last_lines(b"\n".join([b"old"] * 50 + [b"\x1b]0;title\x07\xff" + b"x" * 1000]))
    assert len(lines) == 20
    assert len(lines[-1]) <= 300
    assert not any(ord(character) < 32 for character in lines[-1])

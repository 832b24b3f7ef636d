"""What a load would allocate, asked of the library itself in a process that may crash.

Bad metadata makes the library abort, and no_alloc is a path that few have walked; so the question is asked in a child
that lives for a fraction of a second and is started afresh, never forked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from edgetop.core.engine import EngineSettings, MemoryBreakdown
from edgetop.core.records import Missing
from edgetop.inference.anonymous_file import anonymous_file
from edgetop.inference.death import explain, last_lines
from edgetop.inference.model_file import check_model_file

TIMEOUT_S = 30.0
"""A header with a large vocabulary takes a third of a second, on a slow card some seconds."""
_LAST_WORDS_BYTES = 2**14
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class DryLoad(Struct, frozen=True):
    """The question put to the child."""

    path: str
    settings: EngineSettings


class WouldAllocate(Struct, frozen=True, tag=True):
    """The child's answer where it has one."""

    memory: MemoryBreakdown


class WouldNotLoad(Struct, frozen=True, tag=True):
    """The child's answer where the library refuses."""

    missing: Missing


Answer = WouldAllocate | WouldNotLoad


def dry_load(path: Path, settings: EngineSettings, *, timeout_s: float = TIMEOUT_S) -> MemoryBreakdown | Missing:
    """What loading a model with these settings would allocate, or why that is not known. Nothing is loaded.

    The sizes are those that a real load reports, but for rounding: the library's log has two decimals of a MiB.
    """
    failed = check_model_file(path)
    if failed is not None:
        return Missing(failed.message, failed.mend)
    question = msgspec.msgpack.encode(DryLoad(str(path.absolute()), settings))
    output_fd = anonymous_file("edgetop-dry-load-output")
    try:
        return _ask(question, output_fd, timeout_s)
    except OSError as error:
        return Missing(f"the engine could not be started: {error.strerror or error}")
    finally:
        os.close(output_fd)


def _ask(question: bytes, output_fd: int, timeout_s: float) -> MemoryBreakdown | Missing:
    command = [sys.executable, "-m", "edgetop.inference.dry_load_process"]
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    try:
        done = subprocess.run(
            command,
            input=question,
            stdout=subprocess.PIPE,
            stderr=output_fd,
            cwd=_PACKAGE_ROOT,
            env=environment,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        mend = "The formulas answer instead; if it comes back, the file is probably damaged."
        return Missing(f"llama.cpp did not say within {timeout_s:g} s what it would allocate", mend)
    if done.returncode != 0:
        death = explain(done.returncode, "loading", last_lines(_tail(output_fd)), oom_killed=None)
        return Missing(death.what, death.mend)
    try:
        answer = msgspec.msgpack.decode(done.stdout, type=Answer)
    except msgspec.DecodeError as error:
        return Missing(f"the engine gave no answer that can be read: {error}")
    return answer.memory if isinstance(answer, WouldAllocate) else answer.missing


def _tail(fd: int) -> bytes:
    return os.pread(fd, _LAST_WORDS_BYTES, max(0, os.fstat(fd).st_size - _LAST_WORDS_BYTES))

"""Child processes: start, output, end with parent, why one ended; lower our own priority.

The screen and the sampler share the cores with the decoding threads, which wait for each other after every layer:
whatever occupies a core for a millisecond delays all of them. The engine's process has the normal priority; ours lowers
its own.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def anonymous_file(name: str) -> int:
    """A descriptor of a new empty file in memory or, where the system has no memfd, of a deleted temporary file.

    `name` only labels it in `/proc/<pid>/fd`. Raises OSError when none can be made.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def start_module(
    module: str,
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int,
    stderr: int,
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a module of this package with our Python. `environment` is added to ours. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        # `-m` puts the current folder before all others on the path; this one has no foreign modules.
        cwd=_PACKAGE_ROOT,
        # Without this llama.cpp runs a debugger on itself when it aborts.
        env={**os.environ, "GGML_NO_BACKTRACE": "1", **(environment or {})},
    )


class ModuleRun(NamedTuple):
    """What a module did."""

    return_code: int
    output: bytes
    """Of its standard output."""
    last_words: tuple[str, ...]
    """The last lines of its standard error, without control characters."""


def run_module(module: str, *arguments: str, data: bytes = b"", timeout_s: float | None = None) -> ModuleRun:
    """Run a module of this package to its end, with `data` as standard input.

    Raises OSError and subprocess.TimeoutExpired.
    """
    error_fd = anonymous_file("edgetop-child-output")
    try:
        process = start_module(module, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=error_fd)
        with process:
            try:
                output, _ = process.communicate(data, timeout_s)
            except BaseException:
                process.kill()
                raise
        return ModuleRun(process.returncode, output, last_lines(read_tail(error_fd)))
    finally:
        os.close(error_fd)


_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent's thread ends, even in the middle of a decode.

    Only Linux can; elsewhere the worker leaves when it next reads or writes the socket.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


Phase = Literal["starting", "idle", "loading", "first_decode", "generating"]
"""What the worker was doing. `first_decode` lasts from a load until decoding is proven to work: until the second token
was reported, since the first one comes from the prefill."""

_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT})
_RPC = re.compile(r"\bggml-rpc\b|\bRPC\b")

_ERROR_LINE = re.compile(
    r"GGML_ASSERT|GGML_ABORT|\bRPC\b|Failed to connect to|what\(\):|terminate called|out of memory|Error", re.IGNORECASE
)

_NO_MEMORY = re.compile(r"bad_alloc|out of memory|MemoryError|failed to allocate", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_PHASE_WORDS: dict[Phase, str] = {
    "starting": "while it started",
    "idle": "while it waited",
    "loading": "while it loaded the model",
    "first_decode": "in its first decode",
    "generating": "in the middle of an answer",
}

_SOURCE_FOLDER = re.compile(r"\S*/(?=[\w.-]+\.\w+:\d+)")
"""Where the library was built, which is of no use here."""

LAST_WORDS_LINES = 20

_LAST_WORDS_BYTES = 2**14

LINE_CHARACTERS = 300


class WorkerExit(Struct, frozen=True, kw_only=True):
    """A worker that ended unexpectedly."""

    what: str
    """One line: what happened."""
    hint: str
    """One line: what to do."""
    phase: Phase
    signal_name: str | None = None
    """Such as `SIGSEGV`; `None` when it left by itself."""
    exit_code: int | None = None
    out_of_memory: bool = False
    of_rpc: bool = False
    """It was ended for what an RPC server did or did not do."""
    last_words: tuple[str, ...] = ()
    """The last lines it printed, without control characters."""

    @property
    def crashed_in_first_decode(self) -> bool:
        """A crash in the first decode after a load; `use_extra_bufts=False` may be what it needs.

        An assertion of llama.cpp's is none: it says what was wrong.
        """
        crashes = {crash.name for crash in _CRASHES}
        blamed = self.out_of_memory or self.of_rpc or _asserted(self.last_words)
        return self.phase == "first_decode" and self.signal_name in crashes and not blamed


def oom_kills(sysroot: Path) -> int | None:
    """Processes that the kernel has killed for memory since it started (Linux 4.13); `None` if that is not known."""
    try:
        counters = (sysroot / "proc/vmstat").read_text("ascii", "replace")
    except OSError:
        return None
    match = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(match[1]) if match else None


def read_tail(fd: int) -> bytes:
    """The end of a file."""
    return os.pread(fd, _LAST_WORDS_BYTES, max(0, os.fstat(fd).st_size - _LAST_WORDS_BYTES))


def last_lines(output: bytes) -> tuple[str, ...]:
    """The last lines of what a child printed, made harmless."""
    text = output.decode("utf-8", "replace")
    lines = (_CONTROL.sub(" ", line).strip()[:LINE_CHARACTERS] for line in text.splitlines())
    return tuple([line for line in lines if line][-LAST_WORDS_LINES:])


def explain_exit(
    return_code: int,
    phase: Phase,
    last_words: tuple[str, ...],
    *,
    oom_killed: bool | None,
    rpc_servers: tuple[str, ...] = (),
) -> WorkerExit:
    """Explain an exit in words.

    `return_code` is negative for a signal, as in `subprocess`; `oom_killed`: whether the kernel's count of
    processes killed for memory rose during the worker's life, `None` if that is not known. `rpc_servers` are those that
    have layers of its model.
    """
    fatal = _signal(return_code)
    error_line = next((line for line in reversed(last_words) if _ERROR_LINE.search(line)), "")
    out_of_memory = bool(_NO_MEMORY.search(error_line))
    where = _PHASE_WORDS[phase]
    of_rpc = bool(rpc_servers and _RPC.search(error_line))
    gone = unreachable(rpc_servers) if of_rpc else ()
    if gone:
        where += f" since the RPC server{'s' if len(gone) > 1 else ''} at {', '.join(gone)} died or cannot be reached"
    if fatal is None:
        what = f"The engine ended {where} with exit code {return_code}"
    elif fatal == signal.SIGKILL:
        out_of_memory = out_of_memory or bool(oom_killed)
        how = "by the kernel for memory" if oom_killed else "from outside (SIGKILL)"
        what = f"The engine was killed {how} {where}"
    elif fatal == signal.SIGABRT:
        what = f"The engine aborted {where}"
    elif fatal in _CRASHES:
        what = f"The engine crashed {where} ({fatal.name})"
    else:
        what = f"The engine was ended by {fatal.name} {where}"
    quote = _SOURCE_FOLDER.sub("", error_line) or (last_words[-1] if last_words and fatal is None else "")
    return WorkerExit(
        what=f"{what}: {quote}" if quote else f"{what}.",
        hint=f"Check that the RPC servers at {', '.join(gone or rpc_servers)} run, then load the model again."
        if of_rpc
        else _ASSERTED
        if not out_of_memory and _asserted(last_words) and phase not in {"starting", "loading"}
        else _hint(fatal, phase, out_of_memory=out_of_memory, oom_killed=oom_killed),
        phase=phase,
        signal_name=fatal.name if fatal is not None else None,
        exit_code=return_code if fatal is None else None,
        out_of_memory=out_of_memory,
        of_rpc=of_rpc,
        last_words=last_words,
    )


REACHED_S = 1.5
"""A server that runs on a network that works accepts a connection in far less."""


def unreachable(servers: Sequence[str]) -> tuple[str, ...]:
    """Those of some servers, each `host:port`, where nobody accepts a connection now."""

    def is_gone(server: str) -> bool:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host, int(port)), REACHED_S).close()
        except OSError:
            return True
        return False

    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - slow to import, and seldom needed

    with ThreadPoolExecutor(max_workers=len(servers)) as pool:
        found = list(pool.map(is_gone, servers))
    return tuple(server for server, gone in zip(servers, found, strict=True) if gone)


_ASSERTED = "llama.cpp cannot compute this model: choose another one, or another llama.cpp (`edgetop engine show`)."


def _asserted(last_words: Sequence[str]) -> bool:
    return any("GGML_ASSERT" in line for line in last_words)


def _signal(return_code: int) -> signal.Signals | None:
    try:
        return signal.Signals(-return_code) if return_code < 0 else None
    except ValueError:
        return None


def _hint(fatal: signal.Signals | None, phase: Phase, *, out_of_memory: bool, oom_killed: bool | None) -> str:
    if out_of_memory:
        return "Use a shorter context (--ctx), a smaller KV type (--kv-type q8_0) or a smaller model."
    if fatal == signal.SIGKILL and oom_killed is None:
        return "If you did not end it, it was probably for memory: use a shorter context (--ctx) or a smaller model."
    if fatal == signal.SIGILL:
        return (
            "Its build uses instructions that this processor lacks: `edgetop engine install` brings one for any "
            "(then --engine portable), `edgetop engine build` makes one for this."
        )
    if phase == "loading":
        return "The model file is probably damaged: download it again, or choose another model."
    if phase == "starting":
        return "Run `edgetop doctor`, and install llama-cpp-python again if it reports the engine."
    return "Load the model again; if it comes back, choose another model or report it with `edgetop doctor`'s output."


OWN_NICENESS = 5
"""Enough to be put after the model where both want a core, little enough for a keystroke to be echoed at once."""


def raise_file_limit() -> None:
    """Allow this process as many open files as the system lets anybody have, up to 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def lower_priority() -> None:
    """Lower the priority of the calling thread and of those it starts; a lower one already in force stays.

    On Linux niceness belongs to a thread: one started before keeps its own, and what it spawns has that.
    """
    try:
        if sys.platform == "linux":
            thread = 0  # the calling one
            if os.getpriority(os.PRIO_PROCESS, thread) < OWN_NICENESS:
                os.setpriority(os.PRIO_PROCESS, thread, OWN_NICENESS)
        elif os.getpriority(os.PRIO_PROCESS, 0) < OWN_NICENESS:
            os.setpriority(os.PRIO_PROCESS, 0, OWN_NICENESS)
    except OSError:
        return

"""A llama-server of this machine that edgetop starts, asks and ends.

It listens on a loopback port with a key that nobody else has. It ends with its worker in every way that one can end:
the kernel kills it on Linux, and elsewhere, or behind a launcher, a process that waits for the worker's end does.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from edgetop.core.clock import monotonic_us, seconds
from edgetop.core.engine_settings import EngineInfo, EngineSettings, default_n_ctx
from edgetop.core.records import ModelLoaded, TurnFinished
from edgetop.inference.child_process import anonymous_file, die_with_parent, explain_exit
from edgetop.inference.engine import Reporter, Stop, file_failure
from edgetop.inference.llama.log import Line, explain_load_failure, memory_breakdown, offloaded_layers
from edgetop.inference.llama.model import model_name
from edgetop.inference.protocol import (
    Choose,
    Generate,
    Hello,
    Load,
    LoadFailed,
    Measure,
    Perplexity,
    Report,
    ScoreFailed,
    Waiting,
)
from edgetop.inference.server.address import ANY_MODEL, KEY_VARIABLE, ServerChoice
from edgetop.inference.server.engine import NO_LIKELIHOODS, ServerEngine
from edgetop.io.cpus import decode_threads
from edgetop.io.model_file import draft_type, read_model_header

PROGRAM: Final = "llama-server"

NAME: Final = "llama-server"
"""Of the engine; `llama-server=PATH` names the program."""

_START_S: Final = 300.0
"""How long it may take until it listens, which it does before it loads; a launcher may fetch it first."""

_PORTS_TRIED: Final = 3
"""Another program may take a port between our choice and the server's."""

_PORT_TAKEN: Final = re.compile(r"couldn't bind|address (?:is )?already in use", re.IGNORECASE)

_WITHOUT_KEY: Final = b"GET /props HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
"""llama-server answers it to nobody who does not name the key."""

_LOOK_S: Final = 0.05

_END_S: Final = 3.0
"""How long it may take to leave when it is asked to."""

_LOG_BYTES: Final = 2**20

_VERBOSITY: Final = "4"
"""At which the library's log with its buffers is printed (LOG_LEVEL_TRACE of common/log.h)."""

_INFO: Final = 2

_WATCH: Final = "trap '' HUP INT QUIT TERM; cat >/dev/null; kill -s KILL -- -$1 2>/dev/null"
"""Waits for the end of its standard input, which is that of the worker, and kills a group of processes."""


class ServerProcess:
    """A llama-server that runs, and what it prints."""

    def __init__(self, program: str, settings: EngineSettings, model: str) -> None:
        """Start it. Raises OSError."""
        self.port = free_port()
        self.key = secrets.token_urlsafe(24)
        self.asks_for_no_key = False
        """Who listens at its port answers anybody: another program, or a server that was not told its key."""
        self._output = anonymous_file("edgetop-llama-server")
        parent = os.getpid()

        def bind_to_parent() -> None:
            die_with_parent()
            if os.getppid() != parent:
                os._exit(1)

        environment = {
            name: value
            for name, value in os.environ.items()
            # What these would set is not recorded, and an address or a certificate of theirs would hide the server.
            if name != KEY_VARIABLE and not name.startswith("LLAMA_ARG_")
        }
        self._process = subprocess.Popen(
            [program, *server_arguments(settings, model, self.port)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            # The command line is shown to everybody on the machine, the environment is not.
            env={**environment, **server_variables(settings), "LLAMA_API_KEY": self.key},
            start_new_session=True,
            preexec_fn=bind_to_parent,  # noqa: PLW1509 - the worker has no other threads
        )
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "sh", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self, stop: Stop) -> bool:
        """Wait until it listens; False where it has ended, was stopped, takes too long or asks for no key."""
        deadline_s = time.monotonic() + _START_S
        while self.ended() is None and not stop.requested and time.monotonic() < deadline_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as asked:
                asked.sendall(_WITHOUT_KEY)
                self.asks_for_no_key = asked.recv(64).split()[1:2] == [b"200"]
                return not self.asks_for_no_key
            time.sleep(_LOOK_S)
        return False

    def wants_another_port(self) -> bool:
        """Whether it failed for another program at its port."""
        return self.asks_for_no_key or (
            self.ended() is not None and any(_PORT_TAKEN.search(line.text) for line in self.lines())
        )

    def ended(self) -> int | None:
        """Its exit code, negative for a signal; `None` while it runs."""
        return self._process.poll()

    def lines(self) -> list[Line]:
        """The last of what it printed."""
        size = os.fstat(self._output).st_size
        data = os.pread(self._output, _LOG_BYTES, max(0, size - _LOG_BYTES))
        return [Line(_INFO, line.strip()) for line in data.decode("utf-8", "replace").splitlines() if line.strip()]

    def end(self) -> None:
        """End it, and all that it started."""
        group = self._process.pid
        if self._process.poll() is None:
            self._signal(group, signal.SIGTERM)
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._signal(group, signal.SIGKILL)
                self._process.wait()
        if self._watch.stdin is not None:
            self._watch.stdin.close()
        self._watch.wait()
        os.close(self._output)

    @property
    def pid(self) -> int:
        """Its process, or that of its launcher."""
        return self._process.pid

    @staticmethod
    def _signal(group: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def server_variables(settings: EngineSettings) -> dict[str, str]:
    """What is said in the environment, where a llama-server that does not know a variable passes it over.

    -fa had no value until 2025, and its variable is understood by all. What a draft model is was not
    said before 2026.
    """
    chosen = {"on": "1", "off": "0"}.get(settings.flash_attention or "")
    attention = {"LLAMA_ARG_FLASH_ATTN": chosen} if chosen else {}
    header, _ = (None, "") if settings.draft_model is None else read_model_header(Path(settings.draft_model))
    kind = "" if header is None else draft_type(header)
    draft = {"LLAMA_ARG_SPEC_TYPE": kind} if kind else {}
    return {"LLAMA_ARG_LOG_VERBOSITY": _VERBOSITY, **attention, **draft}


def server_arguments(settings: EngineSettings, model: str, port: int) -> list[str]:
    """The command line, of flags that llama-server has had for long; a default of its own is not named."""
    chosen: list[tuple[str, object]] = [
        ("-m", model), ("--host", "127.0.0.1"), ("--port", port), ("-np", 1), ("-c", settings.n_ctx),
        ("-t", settings.n_threads), ("-tb", settings.n_threads_batch), ("-b", settings.n_batch),
        ("-ub", settings.n_ubatch), ("-ngl", settings.n_gpu_layers),
        ("-ctk", settings.type_k if settings.type_k != "f16" else None),
        ("-ctv", settings.type_v if settings.type_v != "f16" else None),
        ("--rpc", ",".join(settings.rpc_servers) or None), ("--cpu-mask", settings.cpu_mask), ("--prio", settings.prio),
        ("-ot", ",".join(settings.override_tensor) or None),
        *(("--lora", file) for file in settings.lora), ("-md", settings.draft_model),
    ]  # fmt: skip
    words = [word for flag, value in chosen if value is not None for word in (flag, str(value))]
    words += settings.expert_flags
    words += {"mlock": ["--mlock"], "copy": ["--no-mmap"]}.get(settings.load_mode or "auto", [])
    return words + (["--swa-full"] if settings.swa_full else []) + (["--jinja"] if settings.template_args else [])


def find_program(name: str) -> tuple[str, str]:
    """The whole name of a program, and why it cannot be run, if so. A folder stands for the llama-server in it."""
    wanted = Path(name) / PROGRAM if Path(name).is_dir() and "/" in name else Path(name)
    found = shutil.which(wanted)
    if found is not None:
        return str(found), ""
    is_file = "/" in name and wanted.is_file()
    return str(wanted), f"{wanted} may not be run: chmod +x it" if is_file else f"there is no program {wanted}"


class OwnedServerEngine:
    """One model at a time, each in a llama-server of its own."""

    def __init__(self, program: str = "") -> None:
        """`program` is a path; empty for the llama-server that is found as programs are."""
        self._program, self._missing = find_program(program or PROGRAM)
        self._server: ServerProcess | None = None
        self._asked: ServerEngine | None = None
        self._version = ""

    @property
    def info(self) -> EngineInfo:
        """What computes; its version is known once a model is loaded."""
        return EngineInfo(
            name=NAME,
            version=self._version,
            kind=NAME,
            build=self._program,
            missing=self._missing,
            stamps="arrival",
        )

    def load(self, command: Load, stop: Stop, report: Reporter) -> None:
        """Start a server in place of the one before; the last report is ModelLoaded or LoadFailed."""
        begin_us = monotonic_us()
        self.close()
        failed = self._program_failure() or file_failure(command.file, command.settings.n_ctx)
        if failed is not None:
            report(failed)
            return
        settings = _settled(command)
        server = self._started(command, settings, stop, report)
        if server is None:
            return
        os.environ[KEY_VARIABLE] = server.key
        self._asked = ServerEngine(ServerChoice(url=f"http://127.0.0.1:{server.port}", kind="llama-server"))

        def with_ours(message: Report) -> None:
            if isinstance(message, ModelLoaded):
                self._version = message.engine.version
                report(self._loaded(message, command, settings, begin_us))
            elif isinstance(message, LoadFailed):
                self._fail(command, stop, report, message)
            elif not isinstance(message, Waiting):
                report(message)

        self._asked.load(replace(command, path=str(ANY_MODEL)), stop, with_ours)

    def _started(self, command: Load, settings: EngineSettings, stop: Stop, report: Reporter) -> ServerProcess | None:
        """A server that listens; `None` where there is none, which is reported."""
        for tries_left in reversed(range(_PORTS_TRIED)):
            try:
                self._server = server = ServerProcess(self._program, settings, str(command.file))
            except OSError as error:
                message = f"{self._program} cannot be started: {error.strerror or error}."
                hint = "Name the program: --engine llama-server=PATH."
                report(LoadFailed(reason="failed", message=message, hint=hint))
                return None
            report(Hello(pid=server.pid, engine=self.info))
            if server.wait(stop):
                return server
            if stop.requested or not (tries_left and server.wants_another_port()):
                break
            self.close()
        self._fail(command, stop, report)
        return None

    def _loaded(self, message: ModelLoaded, command: Load, settings: EngineSettings, begin_us: int) -> ModelLoaded:
        """What the server says, with what its log and the file say beyond that."""
        lines = [] if self._server is None else self._server.lines()
        header, _ = read_model_header(command.file)
        model = replace(message.model, path=command.path)
        if header is not None:
            model = replace(
                model,
                name=model_name(Path(command.path), header.name),
                architecture=header.architecture,
                quantization=model.quantization or header.file_type,
                n_layer=header.n_layer,
                n_vocab=model.n_vocab or header.n_vocab,
            )
        memory = memory_breakdown(lines)
        return replace(
            message,
            t_us=monotonic_us(),
            load_s=seconds(monotonic_us() - begin_us),
            model=model,
            engine=self.info,
            settings=replace(
                settings, n_ctx=message.settings.n_ctx or settings.n_ctx, n_gpu_layers=offloaded_layers(lines)
            ),
            memory=memory if memory.by_buffer else message.memory,
        )

    def _fail(self, command: Load, stop: Stop, report: Reporter, failure: LoadFailed | None = None) -> None:
        server = self._server
        lines = [] if server is None else server.lines()
        code = None if server is None else server.ended()
        asks_for_no_key = server is not None and server.asks_for_no_key
        self.close()
        if stop.requested:
            report(LoadFailed(reason="cancelled", message="Loading was cancelled.", hint="Load the model again."))
        elif asks_for_no_key:
            message = f"{self._program} answers without the key that it was given."
            hint = "A launcher must hand LLAMA_API_KEY on; a llama-server from before 2024 does not know it."
            report(LoadFailed(reason="failed", message=message, hint=hint))
        elif code is None and failure is not None:
            report(failure)
        elif code is None:
            message = f"{self._program} does not listen within {_START_S:g} s."
            report(LoadFailed(reason="failed", message=message, hint="Start it by hand, and see what it prints."))
        elif code < 0:
            death = explain_exit(code, "loading", tuple(line.text for line in lines), oom_killed=None)
            report(LoadFailed(reason="failed", message=death.what, hint=death.hint))
        else:
            telling = [line.text for line in lines if "error" in line.text.lower() or "failed" in line.text.lower()]
            said = telling or [line.text for line in lines[-1:]]
            report(explain_load_failure(said, command.path) if said else _silent_end(self._program, code))

    def generate(self, command: Generate, stop: Stop, report: Reporter) -> None:
        """Answer; the last report is TurnFinished."""
        self._ask(lambda asked, reporter: asked.generate(command, stop, reporter), report)

    def measure(self, command: Measure, stop: Stop, report: Reporter) -> None:
        """Let the server do a test; the last report is TurnFinished."""
        self._ask(lambda asked, reporter: asked.measure(command, stop, reporter), report)

    def _ask(self, ask: Callable[[ServerEngine, Reporter], None], report: Reporter) -> None:
        # One that was never asked for a model says that none is loaded.
        asked, server = self._asked or ServerEngine(ServerChoice(url="http://127.0.0.1:1")), self._server

        def with_ours(message: Report) -> None:
            code = None if server is None else server.ended()
            if isinstance(message, TurnFinished) and message.error and code is not None:
                how = signal.Signals(-code).name if code < 0 else f"code {code}"
                message = replace(message, error=f"llama-server has ended ({how}): load the model again.")
            report(message)

        ask(asked, with_ours)

    def score(self, command: Perplexity | Choose, stop: Stop, report: Reporter) -> None:  # noqa: ARG002 - the same
        """Servers give no likelihoods; the last report is ScoreFailed."""
        report(ScoreFailed(message=NO_LIKELIHOODS, hint="Use --engine auto."))

    def close(self) -> None:
        """End the server."""
        server, self._server, self._asked = self._server, None, None
        if server is not None:
            server.end()

    def _program_failure(self) -> LoadFailed | None:
        if not self._missing:
            return None
        hint = "Install llama.cpp's llama-server, or name it: --engine llama-server=PATH."
        return LoadFailed(reason="unsupported", message=f"There is no engine: {self._missing}.", hint=hint)


def _silent_end(program: str, code: int) -> LoadFailed:
    message = f"{program} ended with code {code} before it listened, and printed nothing."
    return LoadFailed(reason="failed", message=message, hint="Is it a llama-server? Try it by hand: --version.")


def _settled(command: Load) -> EngineSettings:
    """The settings with what edgetop chooses where they leave it open, as for an engine of its own."""
    requested = command.settings
    header, _ = read_model_header(command.file)
    n_threads = requested.n_threads or decode_threads()
    return replace(
        requested,
        n_ctx=requested.n_ctx or default_n_ctx(None if header is None else header.n_ctx_train),
        n_threads=n_threads,
        n_threads_batch=requested.n_threads_batch or n_threads,
    )

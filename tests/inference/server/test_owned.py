"""A llama-server that edgetop starts: its command line, its ends. A stand-in listens and goes on loading for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import ModelLoaded, TurnFinished
from edgetop.inference.client import EngineProcess
from edgetop.inference.engine import Reporter, Stop, StopFlags
from edgetop.inference.protocol import Hello, Load, LoadFailed
from edgetop.inference.server import owned
from edgetop.inference.server.address import ServerChoice
from edgetop.inference.server.owned import OwnedServerEngine, server_arguments, server_variables
from tests.support.engine_worker import EngineWorker
from tests.support.eventually import eventually
from tests.support.gguf_files import file_bytes, small_gguf, write_model
from tests.support.isolated_home import IsolatedHome
from tests.support.requirements import need_module
from tests.support.server_launcher import launcher

_STAND_IN = """#!{python}
import os, socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1]))) as server:
    open({pids!r}, "a").write(f"{{os.getpid()}}\\n")
    while True:
        connection, _ = server.accept()
        body = b'{{"error": {{"code": 503, "message": "Loading model", "type": "unavailable_error"}}}}'
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\\r\\nContent-Type: application/json\\r\\nContent-Length: "
                           + str(len(body)).encode() + b"\\r\\nConnection: close\\r\\n\\r\\n" + body)
        connection.close()
"""


def model_file(folder: Path) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(small_gguf())
    return path


class StandIn:
    """A program that is started like llama-server, and the processes that it became."""

    def __init__(self, folder: Path, *, behind_a_shell: bool) -> None:
        self._pids = folder / "pids"
        program = folder / "stand-in"
        program.write_text(_STAND_IN.format(python=sys.executable, pids=str(self._pids)))
        program.chmod(0o755)
        self.program = program
        if behind_a_shell:
            self.program = folder / "wrapper"
            self.program.write_text(f'#!/bin/sh\n"{program}" "$@" &\nwait\n')
            self.program.chmod(0o755)
        self.model = model_file(folder)

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self._pids.read_text().split()] if self._pids.exists() else []

    def has_begun(self) -> bool:
        return bool(self.pids)

    def is_gone(self) -> bool:
        return not any(_runs(pid) for pid in self.pids)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(params=[False, True], ids=["a program", "a launcher"])
def stand_in(request: pytest.FixtureRequest, tmp_path: Path) -> StandIn:
    return StandIn(tmp_path, behind_a_shell=request.param)


def test_the_command_line_names_what_was_chosen_and_no_key() -> None:
    plain = server_arguments(EngineSettings(n_ctx=512, n_threads=2), "/m.gguf", 8080)
    assert plain == [
        "-m", "/m.gguf", "--host", "127.0.0.1", "--port", "8080", "-np", "1", "-c", "512", "-t", "2",
    ]  # fmt: skip
    chosen = EngineSettings(
        n_gpu_layers=0, type_k="q8_0", type_v="q4_0", flash_attention="on", load_mode="copy", swa_full=True,
        rpc_servers=("a:1", "b:2"), template_args={"x": True}, cpu_mask="f0", prio=-1, n_cpu_moe=8,
        override_tensor=("exps=CPU", "attn=CUDA0"), lora=("/a", "/b"), draft_model="/d",
    )  # fmt: skip
    assert server_arguments(chosen, "/m", 1)[8:] == [
        "-ngl", "0", "-ctk", "q8_0", "-ctv", "q4_0", "--rpc", "a:1,b:2", "--cpu-mask", "f0",
        "--prio", "-1", "-ot", "exps=CPU,attn=CUDA0", "--lora", "/a", "--lora", "/b", "-md", "/d",
        "--n-cpu-moe", "8", "--no-mmap", "--swa-full", "--jinja",
    ]  # fmt: skip
    # llama.cpp makes a pattern of each layer that --n-cpu-moe counts, and tries it on every tensor.
    assert server_arguments(EngineSettings(n_cpu_moe=512), "/m", 1)[8:] == ["--cpu-moe"]


def test_flash_attention_is_said_as_every_generation_understands_it() -> None:
    """-fa had no value before August 2025, and has had to have one since; the variable is 1 or 0 for both."""
    assert "LLAMA_ARG_FLASH_ATTN" not in server_variables(EngineSettings())
    assert server_variables(EngineSettings(flash_attention="on"))["LLAMA_ARG_FLASH_ATTN"] == "1"
    assert server_variables(EngineSettings(flash_attention="off"))["LLAMA_ARG_FLASH_ATTN"] == "0"


def test_a_draft_model_is_used_by_the_newest_generation_too(tmp_path: Path) -> None:
    """It loads one without a word of its own about it, and does not ask it."""
    draft = write_model(tmp_path / "draft.gguf")
    assert server_variables(EngineSettings(draft_model=str(draft)))["LLAMA_ARG_SPEC_TYPE"] == "draft-simple"
    eagle = tmp_path / "eagle.gguf"
    eagle.write_bytes(file_bytes({"general.architecture": "eagle3"}, {"blk.0.attn_q.weight": (64, 64)}))
    assert server_variables(EngineSettings(draft_model=str(eagle)))["LLAMA_ARG_SPEC_TYPE"] == "draft-eagle3"
    for other in (None, str(tmp_path / "none.gguf")):
        assert "LLAMA_ARG_SPEC_TYPE" not in server_variables(EngineSettings(draft_model=other))


def test_a_program_that_cannot_be_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("#!/bin/sh\n")
    for name, words in (("none", "there is no program {}"), ("text", "{} may not be run: chmod +x it")):
        assert OwnedServerEngine(str(tmp_path / name)).info.missing == words.format(tmp_path / name)


def test_a_folder_stands_for_the_llama_server_in_it(tmp_path: Path) -> None:
    assert OwnedServerEngine(str(tmp_path)).info.missing == f"there is no program {tmp_path / 'llama-server'}"
    (tmp_path / "llama-server").write_text("#!/bin/sh\n")
    (tmp_path / "llama-server").chmod(0o755)
    assert OwnedServerEngine(str(tmp_path)).info.missing == ""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\nexit 0\n", "ended with code 0 before it listened, and printed nothing"),
        ("#!/bin/sh\nexit 3\n", "ended with code 3 before it listened, and printed nothing"),
        ("echo no first line\n", "cannot be started: Exec format error"),
    ],
    ids=["leaves", "fails", "no program"],
)
def test_a_program_that_is_no_llama_server_is_no_damaged_model(
    script: str, words: str, tmp_path: Path, start: Callable[..., EngineWorker]
) -> None:
    program = tmp_path / "llama-server"
    program.write_text(script)
    program.chmod(0o755)
    failed = start(f"llama-server={program}").load(model_file(tmp_path))
    assert isinstance(failed, LoadFailed)
    assert words in failed.message
    assert failed.reason == "failed"


_ANSWERS_ANYBODY = """#!{python}
import http.server, os, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{{}}")
open({pids!r}, "a").write(f"{{os.getpid()}}\\n")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answers).serve_forever()
"""


def test_a_server_that_was_not_told_its_key_is_not_used(tmp_path: Path, start: Callable[..., EngineWorker]) -> None:
    program, pids = tmp_path / "llama-server", tmp_path / "pids"
    program.write_text(_ANSWERS_ANYBODY.format(python=sys.executable, pids=str(pids)))
    program.chmod(0o755)
    failed = start(f"llama-server={program}").load(model_file(tmp_path))
    assert isinstance(failed, LoadFailed)
    assert failed.message == f"{program} answers without the key that it was given."
    assert "LLAMA_API_KEY" in failed.hint
    eventually(lambda: not any(_runs(int(pid)) for pid in pids.read_text().split()), "the server is gone")


@pytest.mark.parametrize("answers", [True, False], ids=["another server", "another program"])
def test_a_port_that_another_program_takes_first_is_left_to_it(
    answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stranger's answers would be measured as ours."""
    stand_in = StandIn(tmp_path, behind_a_shell=False)
    port = owned.free_port()
    stranger = tmp_path / "stranger"
    stranger.write_text(_ANSWERS_ANYBODY.format(python=sys.executable, pids=str(tmp_path / "stranger-pids")))
    with socket.create_server(("127.0.0.1", port)) if not answers else contextlib.nullcontext():
        other = subprocess.Popen([sys.executable, str(stranger), "--port", str(port)]) if answers else None
        if other is not None:
            eventually(lambda: _listens(port), "the stranger listens")
        chosen = [port, owned.free_port()]
        monkeypatch.setattr(owned, "free_port", lambda: chosen[len(begun)])
        monkeypatch.setattr(owned, "ServerEngine", Asked)
        begun: list[Any] = []
        asked: list[Any] = []
        engine = OwnedServerEngine(str(stand_in.program))
        load = Load(path=str(stand_in.model), settings=EngineSettings())
        flags = StopFlags(fd := StopFlags.create())
        os.close(fd)
        engine.load(load, Stop(flags, 0), lambda report: (begun if isinstance(report, Hello) else asked).append(report))
        flags.close()
        if other is not None:
            other.kill()
            other.wait()
    assert len(begun) == 2
    assert [report.message for report in asked] == [f"http://127.0.0.1:{chosen[1]}"]
    assert stand_in.is_gone()


class Asked:
    """In place of the engine that asks a server: says which one it was to ask."""

    def __init__(self, choice: ServerChoice) -> None:
        self._url = choice.url

    def load(self, command: Load, stop: Stop, report: Reporter) -> None:
        report(LoadFailed(reason="failed", message=self._url, hint=""))


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def test_a_program_that_ends_at_once_is_no_model_with_its_words(
    tmp_path: Path, start: Callable[..., EngineWorker]
) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho 'error: unknown argument: -np'\nexit 1\n")
    program.chmod(0o755)
    talk = start(f"llama-server={program}")
    failed = talk.load(model_file(tmp_path))
    assert isinstance(failed, LoadFailed)
    assert "unknown argument: -np" in failed.message


def test_a_program_that_dies_by_a_signal_is_no_damaged_model(
    tmp_path: Path, start: Callable[..., EngineWorker]
) -> None:
    """A server of another processor's build: it said that AMX is not ready, and then met an unknown instruction."""
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho 'AMX is not ready to be used!'\nkill -ILL $$\n")
    program.chmod(0o755)
    failed = start(f"llama-server={program}").load(model_file(tmp_path))
    assert isinstance(failed, LoadFailed)
    assert failed.message == "The engine crashed while it loaded the model (SIGILL)."
    assert "instructions that this processor lacks" in failed.hint


def test_it_ends_with_its_worker_that_quits(stand_in: StandIn) -> None:
    worker = EngineProcess.start(engine=f"llama-server={stand_in.program}")
    worker.send(Load(path=str(stand_in.model), settings=EngineSettings()))
    eventually(stand_in.has_begun, "the server runs")
    worker.close()
    eventually(stand_in.is_gone, "the server is gone")


def test_it_ends_with_its_worker_that_is_killed(stand_in: StandIn) -> None:
    worker = EngineProcess.start(engine=f"llama-server={stand_in.program}")
    worker.send(Load(path=str(stand_in.model), settings=EngineSettings()))
    eventually(stand_in.has_begun, "the server runs")
    worker.kill()
    eventually(stand_in.is_gone, "the server is gone")
    worker.close()


ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]


@pytest.mark.parametrize("number", ENDINGS, ids=lambda it: it.name)
def test_it_ends_with_edgetop(number: signal.Signals, stand_in: StandIn, tmp_path: Path) -> None:
    home = IsolatedHome(tmp_path)
    engine = f"llama-server={stand_in.program}"
    process = subprocess.Popen(
        home.command("run", "-m", str(stand_in.model), "-p", "x", "--engine", engine, "--power", "none"),
        env=home.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    eventually(stand_in.has_begun, "the server runs")
    os.kill(process.pid, number)
    eventually(stand_in.is_gone, "the server is gone")
    process.wait()


def test_it_ends_when_the_terminal_is_closed(stand_in: StandIn, tmp_path: Path) -> None:
    home = IsolatedHome(tmp_path)
    command = home.command("-m", str(stand_in.model), "--engine", f"llama-server={stand_in.program}", "--power", "none")
    screen: Any = pexpect.spawn(command[0], command[1:], env=home.environment, dimensions=(30, 100))
    eventually(stand_in.has_begun, "the server runs")
    screen.ptyproc.fileobj.close()
    eventually(stand_in.is_gone, "the server is gone")
    os.waitpid(screen.pid, 0)


def test_a_real_server_answers_like_an_engine_of_our_own(
    tmp_path: Path, start: Callable[..., EngineWorker], small_model: Path
) -> None:
    need_module("xllamacpp")
    talk = start(f"llama-server={launcher(tmp_path)}")
    hello = talk.until(Hello)
    assert (hello.engine.name, hello.engine.kind, hello.engine.missing) == ("llama-server", "llama-server", "")
    loaded = talk.load(small_model, EngineSettings(n_ctx=512, n_threads=2))
    assert isinstance(loaded, ModelLoaded)
    assert (loaded.engine.kind, loaded.engine.server, loaded.engine.stamps) == ("llama-server", "", "arrival")
    assert (loaded.model.name, loaded.model.n_layer) == ("SmolLM2-135M-Instruct", 30)
    assert loaded.settings.n_ctx == 512
    # The KV cache of 30 layers, 2 tensors, 192 values of 2 bytes, 512 positions.
    assert loaded.memory.kv_bytes == 30 * 2 * 192 * 2 * 512
    assert loaded.memory.weights_bytes is not None
    finished = talk.ask("What is a river?", temperature=0, max_tokens=4)
    assert (finished.generated_tokens, finished.counted, finished.stop_reason) == (4, True, "max_tokens")
    assert finished.perf is not None
    assert finished.perf.prefill_tokens == finished.prompt_tokens
    talk.engine.close()
    assert isinstance(finished, TurnFinished)

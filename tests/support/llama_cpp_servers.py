"""Real servers of llama.cpp, each in a process of its own: llama-server and the RPC server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgetop.inference.llama.model import RpcError, protocol_version
from tests.support.eventually import eventually
from tests.support.requirements import NotInstalledError, need_module

_LLAMA_SERVER = """
import json, sys, xllamacpp
chosen = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = chosen.pop("model")
params.port, params.verbosity, params.warmup, params.endpoint_metrics = 0, 0, False, True
params.n_ctx, params.n_parallel = 1024, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = chosen.pop("threads", 2)
for name, value in chosen.items():
    setattr(params, name, value)
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def llama_server(
    model: Path, *, told: Mapping[str, str] | None = None, **settings: object
) -> Iterator[tuple[str, int]]:
    """Its address and process. `settings` are `threads` and fields of xllamacpp's CommonParams.

    `told` is what its environment says of them, where a server that is started as a program has its flags.

    Raises NotInstalledError.
    """
    need_module("xllamacpp")
    process = subprocess.Popen(
        [sys.executable, "-c", _LLAMA_SERVER, json.dumps({"model": str(model), **settings})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(told or {})},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), "the server did not start"
        yield url, process.pid
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


_RPC_SERVER = """
import ctypes, socket, sys
from edgetop.inference.llama.library import import_library
library = import_library()
if not library.llama_supports_rpc():
    sys.exit("no RPC")
shared = library._lib
def function(name, returned, *taken):
    made = getattr(shared, name)
    made.restype, made.argtypes = returned, taken
    return made
pointer = ctypes.c_void_p
registry = function("ggml_backend_reg_by_name", pointer, ctypes.c_char_p)(b"RPC")
begin = function("ggml_backend_reg_get_proc_address", pointer, pointer, ctypes.c_char_p)(
    registry, b"ggml_backend_rpc_start_server")
cpu = function("ggml_backend_dev_by_name", pointer, ctypes.c_char_p)(b"CPU")
with socket.socket() as free:
    free.bind((sys.argv[1], 0))
    port = free.getsockname()[1]
print(port, flush=True)
serve = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, pointer)(begin)
devices = (pointer * 1)(cpu)
serve(f"{sys.argv[1]}:{port}".encode(), None, 1, 1, ctypes.cast(devices, pointer))
"""


@contextmanager
def rpc_server(host: str = "127.0.0.1", *, netns: str = "") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address `host:port` and its process, which has the processor as its device.

    `netns` is the network namespace that it runs in. Raises NotInstalledError.
    """
    within = ["ip", "netns", "exec", netns] if netns else []
    process = subprocess.Popen(
        [*within, sys.executable, "-c", _RPC_SERVER, host], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            words = process.stderr.read()
            assert words.strip().endswith("no RPC"), words
            raise NotInstalledError("this llama.cpp was built without RPC (-DGGML_RPC=ON)")
        address = f"{host}:{port}"
        eventually(lambda: _answers(address), "the RPC server answers")
        yield address, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _answers(address: str) -> bool:
    try:
        return protocol_version(address) != ""
    except RpcError:
        return False

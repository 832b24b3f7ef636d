"""A real RPC server of llama.cpp in a process of its own, where the installed library was built with RPC."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edgetop.inference.llama.rpc import RpcError, greet
from tests.eventually import eventually

_PROGRAM = """
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
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
print(port, flush=True)
serve = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, pointer)(begin)
devices = (pointer * 1)(cpu)
serve(f"127.0.0.1:{port}".encode(), None, 1, 1, ctypes.cast(devices, pointer))
"""


@contextmanager
def rpc_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address `host:port` and its process, with the processor as its device and one thread. Skips without RPC."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            words = process.stderr.read()
            assert words.strip().endswith("no RPC"), words
            pytest.skip("this llama.cpp was built without RPC (-DGGML_RPC=ON)")
        address = f"127.0.0.1:{port}"
        eventually(lambda: _answers(address), "the RPC server answers")
        yield address, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _answers(address: str) -> bool:
    try:
        return greet(address) != ""
    except RpcError:
        return False

"""A real llama-server in a process of its own: the one inside the `xllamacpp` wheel, on a port of its choice."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PROGRAM = """
import json, sys, xllamacpp
chosen = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = chosen.pop("model")
params.port, params.verbosity, params.warmup, params.endpoint_metrics = 0, 0, False, True
params.n_ctx, params.n_parallel = 1024, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
for name, value in chosen.items():
    setattr(params, name, value)
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def llama_server(model: Path, **settings: object) -> Iterator[tuple[str, int]]:
    """Its address and process. `settings` are fields of xllamacpp's CommonParams. Skips where it is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("install xllamacpp")
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, json.dumps({"model": str(model), **settings})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
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

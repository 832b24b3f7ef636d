"""A program with llama-server's flags, as far as edgetop names them, around xllamacpp's server in its own process."""

from __future__ import annotations

import sys
from pathlib import Path

_PROGRAM = """#!{python}
import argparse, os, signal, sys
import xllamacpp
parser = argparse.ArgumentParser()
for flag in ("-m", "--host", "-ctk", "-ctv", "-fa", "--rpc"):
    parser.add_argument(flag)
for flag in ("--port", "-np", "-c", "-t", "-tb", "-b", "-ub", "-ngl"):
    parser.add_argument(flag, type=int)
for flag in ("--mlock", "--no-mmap", "--swa-full", "--jinja"):
    parser.add_argument(flag, action="store_true")
given = parser.parse_args()
if not open(given.m, "rb").read(4) == b"GGUF":
    sys.exit("error: no model")
params = xllamacpp.CommonParams()
params.model.path, params.port = given.m, given.port
params.n_ctx, params.n_parallel, params.warmup = given.c, given.np or 1, False
params.cpuparams.n_threads, params.cpuparams_batch.n_threads = given.t, given.tb
params.verbosity = int(os.environ.get("LLAMA_ARG_LOG_VERBOSITY", "3"))
params.api_keys = [os.environ["LLAMA_API_KEY"]]
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
signal.sigwait({{signal.SIGTERM}})
"""


def launcher(folder: Path) -> Path:
    """The program, in a folder."""
    program = folder / "llama-server"
    program.write_text(_PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    return program

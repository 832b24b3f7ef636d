"""What llama.cpp itself makes of model files, found out in processes that may die of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPT = """
import ctypes, json, os, sys
from edgetop.inference.llama.library import import_library
llama = import_library()
silent = llama.llama_log_callback(lambda level, text, data: None)
llama.llama_log_set(silent, None)
for path in sys.argv[1:]:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(2)
        model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        told = [llama.llama_model_n_params(model), llama.llama_model_size(model)] if model else None
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    print(text or '"aborted"', flush=True)
"""


def llama_verdicts(paths: Sequence[Path]) -> list[list[int] | str | None]:
    """For each file its parameters and bytes of weights, `None` where it is refused, or "aborted"."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        cwd=Path(__file__).parents[2],
    )
    return [json.loads(line) for line in done.stdout.splitlines()]

"""Processor time per token of every engine that is there, with one thread.

    python -m benchmarks.engine_speed MODEL.gguf

Processor time of one thread hardly depends on what else runs. Each engine is measured in a process of its own: 64
tokens of prefill, then the fastest of three times 24 tokens.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from edgetop.inference.llama.library import LIBRARY_VARIABLE, Library, engine_info, engines, load_engine
from edgetop.inference.llama.log import LibraryLog

PREFILL, DECODE, TIMES = 64, 24, 3


def measure(model: str) -> None:
    library: Library = load_engine().library
    log = LibraryLog(library)
    library.llama_backend_init()
    loaded = library.llama_model_load_from_file(model.encode(), library.llama_model_default_params())
    params = library.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 1024, 1, 1
    context = library.llama_init_from_model(loaded, params)
    prompt = (library.llama_token * PREFILL)(*range(100, 100 + PREFILL))
    one = (library.llama_token * 1)(5)
    begun_s = time.process_time()
    library.llama_decode(context, library.llama_batch_get_one(prompt, PREFILL))
    prefill_s = time.process_time() - begun_s
    best_s = float("inf")
    for _ in range(TIMES):
        begun_s = time.process_time()
        for _ in range(DECODE):
            library.llama_decode(context, library.llama_batch_get_one(one, 1))
        best_s = min(best_s, time.process_time() - begun_s)
    del log
    print(f"{engine_info(library).label:<72} {prefill_s / PREFILL * 1e3:10.2f} {best_s / DECODE * 1e3:10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Processor time per token of each engine.")
    parser.add_argument("model")
    parser.add_argument("--here", action="store_true", help="measure the engine that is used")
    options = parser.parse_args()
    if options.here:
        measure(options.model)
        return
    print(f"{'engine':<72} {'prefill ms':>10} {'decode ms':>10}", flush=True)
    for kind in dict.fromkeys(files.kind for files in engines()):
        choice = "auto" if kind == LIBRARY_VARIABLE else kind
        command = [sys.executable, "-m", "benchmarks.engine_speed", options.model, "--here"]
        subprocess.run(command, env={**os.environ, "EDGETOP_ENGINE": choice}, check=False)


if __name__ == "__main__":
    main()

"""How long the header of a model takes to read, of sparse files of 5 GB with the vocabularies of large models.

    python -m benchmarks.header_reading [MODEL.gguf ...]

Prints one JSON object. Each file is read --repeat times in this process after one warming read. `facts_ms` is
`fit.model_file.read_facts`, all of it, and `facts_cpu_ms` its time on the processor, which neighbours disturb less. The
first reading in a process is told apart, since it also compiles a pattern.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import run_benchmark
from edgetop.fit.model_facts import read_facts
from tests.support.gguf_files import ARRAY, F32, STRING, U32, array, gguf, pair, tensor, text, u32

SIZE_BYTES = 5 * 10**9
CASES = {
    "gemma 3: 262k tokens, 340 tensors": (262_144, 0, 26),
    "llama 3: 128k tokens, 280k merges, 291 tensors": (128_256, 280_147, 32),
    "qwen 3: 152k tokens, 151k merges, 400 tensors": (151_936, 151_387, 36),
    "gpt-oss: 201k tokens, 446k merges, 459 tensors": (201_088, 446_189, 24),
    "a large MoE: 129k tokens, 127k merges, 1100 tensors": (129_280, 127_741, 61),
}
FIRST = (
    "import sys,time; sys.path[:0]=['.']; from pathlib import Path; from edgetop.fit.model_facts import read_facts; \
t=time.perf_counter(); read_facts(Path(sys.argv[1])); print((time.perf_counter()-t)*1e3)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--repeat", type=int, default=15)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [measured(name, path, wanted.repeat) for name, path in files(Path(folder), wanted.models)]
    print(json.dumps({"load_average": os.getloadavg()[0], "results": results}, indent=1))


def files(folder: Path, models: list[Path]) -> Iterator[tuple[str, Path]]:
    for name, (tokens, merges, layers) in CASES.items():
        path = folder / "large.gguf"
        write_large(path, tokens, merges, layers, tensors=18 if "1100" in name else 9 if "291" in name else 13)
        yield name, path
        path.unlink()
    yield from ((model.name, model) for model in models)


def write_large(path: Path, tokens: int, merges: int, layers: int, tensors: int) -> None:
    """A sparse file with a header like that of a large model; texts are as long as those of real vocabularies."""
    chance = random.Random(1)  # noqa: S311 - to be repeated

    def texts(count: int, mean: float) -> list[bytes]:
        return [text("x" * min(120, 1 + int(chance.gammavariate(3.0, mean / 3.0)))) for _ in range(count)]

    pairs = [
        pair("general.architecture", STRING, text("llama")),
        pair("llama.block_count", U32, u32(layers)),
        pair("llama.context_length", U32, u32(8192)),
        pair("llama.embedding_length", U32, u32(1024)),
        pair("tokenizer.ggml.tokens", ARRAY, array(STRING, texts(tokens, 6.0))),
        pair("tokenizer.ggml.scores", ARRAY, array(F32, [bytes(4)] * tokens)),
        pair("tokenizer.ggml.token_type", ARRAY, array(U32, [bytes(4)] * tokens)),
        pair("tokenizer.ggml.merges", ARRAY, array(STRING, texts(merges, 8.0))),
        pair("tokenizer.chat_template", STRING, text("{{ messages }}" * 200)),
    ]
    count = layers * tensors
    rows = SIZE_BYTES // (count * 1024 * 4)
    described = [
        tensor(f"blk.{number % layers}.ffn_up{number // layers}.weight", [1024, rows], 0, number * rows * 4096)
        for number in range(count)
    ]
    header = gguf(pairs, described)
    path.write_bytes(header)
    os.truncate(path, len(header) + count * rows * 4096)


def measured(name: str, path: Path, repeat: int) -> dict[str, object]:
    first = subprocess.run([sys.executable, "-c", FIRST, str(path)], capture_output=True, text=True, check=True)
    facts = read_facts(path)
    times_ms, cpu_ms = [], []
    for _ in range(repeat):
        started, started_cpu = time.perf_counter(), time.process_time()
        read_facts(path)
        times_ms.append((time.perf_counter() - started) * 1e3)
        cpu_ms.append((time.process_time() - started_cpu) * 1e3)
    return {
        "file": name,
        "size_gb": round(facts.size_bytes / 1e9, 2),
        "tensors": len(facts.tensors),
        "facts_ms": {"min": round(min(times_ms), 1), "median": round(statistics.median(times_ms), 1)},
        "facts_cpu_ms": {"min": round(min(cpu_ms), 1), "median": round(statistics.median(cpu_ms), 1)},
        "first_in_process_ms": round(float(first.stdout), 1),
    }


if __name__ == "__main__":
    run_benchmark(main)

"""How far the predicted memory of a model is from what it really takes.

    python -m benchmarks.memory_prediction MODEL.gguf ... [--contexts 512,2048,4096,8192] [--kv f16,q8_0,q4_0] [--tiny]

Each model is loaded in a worker with each context length and each KV type, asked a question of more tokens than one
micro-batch holds, and its peak resident set is read from the kernel. Before that the library is asked without loading
(`dry`), and the formulas are (`formula`). Printed per model: the median and the worst difference from what the library
reports to have allocated, and from the peak resident set. `--tiny` adds the generated models of the tests: a mixture of
experts, sliding windows, latent attention, recurrent and hybrid ones.
"""

from __future__ import annotations

import argparse
import select
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import get_args

from msgspec import Struct

from benchmarks import run_benchmark
from edgetop.core.engine_choices import KvType
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, TurnFinished
from edgetop.core.sources import Unavailable
from edgetop.fit.memory import MemoryNeed, memory_need
from edgetop.fit.model_facts import ModelFacts, read_facts
from edgetop.inference.client import EngineProcess
from edgetop.inference.llama.dry_load import dry_load
from edgetop.inference.protocol import ChatMessage, Generate, Load, LoadFailed
from tests.support.gguf_architectures import ARCHITECTURES
from tests.support.gguf_files import write_model

PROMPT_TOKENS = 620
"""More than the 512 of a micro-batch, so that its whole buffer is touched."""
TINY_CONTEXTS = (512, 4096)


class Measured(Struct, frozen=True):
    """What a load really took."""

    allocated_bytes: int
    peak_bytes: int


class Row(Struct, frozen=True):
    """One model with one choice of settings."""

    model: str
    dry: MemoryNeed | Unavailable
    formula: MemoryNeed | Unavailable
    measured: Measured
    dry_s: float
    formula_s: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Predicted against real memory of models.")
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--contexts", default="512,2048,4096,8192")
    parser.add_argument("--kv", default="f16,q8_0,q4_0")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    contexts = [int(text) for text in options.contexts.split(",")]
    kv_types = [kv_type for kv_type in options.kv.split(",") if kv_type in get_args(KvType)]
    rows = []
    for model in options.models:
        rows += measure(model, model.stem, contexts, kv_types)
    if options.tiny:
        with tempfile.TemporaryDirectory() as folder:
            for name in ARCHITECTURES:
                path = write_model(Path(folder) / f"{name}.gguf", name)
                rows += measure(path, f"tiny {name}", TINY_CONTEXTS, ["f16"])
    print_table(rows)


def measure(path: Path, name: str, contexts: list[int] | tuple[int, ...], kv_types: list[KvType]) -> list[Row]:
    """Predict and load with every choice; those that the library refuses are left out and said."""
    facts = read_facts(path)
    rows = []
    for n_ctx in contexts:
        for kv_type in kv_types:
            # One thread, so that neighbours do not stop it at barriers; the memory is the same.
            settings = EngineSettings(n_ctx=n_ctx, type_k=kv_type, type_v=kv_type, n_threads=1)
            row = _row(path, name, facts, settings)
            if isinstance(row, Unavailable):
                print(f"{name} {n_ctx} {kv_type}: {row.reason}", file=sys.stderr)
                continue
            rows.append(row)
            print(f"{name} {n_ctx} {kv_type}: {_line(row)}", file=sys.stderr)
    return rows


def _row(path: Path, name: str, facts: ModelFacts, settings: EngineSettings) -> Row | Unavailable:
    begin = time.perf_counter()
    told = dry_load(path, settings)
    dry_s = time.perf_counter() - begin
    begin = time.perf_counter()
    formula = memory_need(facts, settings)
    formula_s = time.perf_counter() - begin
    dry = told if isinstance(told, Unavailable) else memory_need(facts, settings, allocated=told)
    measured = load_and_ask(path, settings, prompt_words=PROMPT_TOKENS, facts=facts)
    return measured if isinstance(measured, Unavailable) else Row(name, dry, formula, measured, dry_s, formula_s)


def load_and_ask(
    path: Path, settings: EngineSettings, *, prompt_words: int, facts: ModelFacts
) -> Measured | Unavailable:
    """Load a model, fill at least one micro-batch, draw a few tokens, and read what it took."""
    # A tiny model has a token per byte, others one per word.
    letters = facts.n_vocab is not None and facts.n_vocab < 1000
    n_ctx = settings.n_ctx or PROMPT_TOKENS
    question = "a" * (n_ctx - 20) if letters else "go " * min(prompt_words, n_ctx - 100)
    with EngineProcess.start() as engine:
        engine.send(Load(path=str(path), settings=settings))
        loaded = _wait(engine, ModelLoaded, LoadFailed)
        if isinstance(loaded, LoadFailed):
            return Unavailable(loaded.message, loaded.hint)
        assert isinstance(loaded, ModelLoaded)  # noqa: S101 - _wait gives no other
        sampling = SamplingSettings(max_tokens=8)
        engine.send(Generate(turn=0, messages=(ChatMessage("user", question),), sampling=sampling))
        finished = _wait(engine, TurnFinished)
        if isinstance(finished, TurnFinished) and finished.error:
            return Unavailable(finished.error)
        return Measured(sum(loaded.memory.by_buffer.values()), peak_bytes(engine.pid))


def peak_bytes(pid: int) -> int:
    """The largest resident set that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def print_table(rows: list[Row]) -> None:
    """One line per model, and one for all of them."""
    print("| model | loads | dry, allocated | formula, allocated | dry, peak RSS | formula, peak RSS | peak RSS |")
    print("|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row.model for row in rows):
        _print_line(name, [row for row in rows if row.model == name])
    _print_line("all", rows)
    dry_s, formula_s = [row.dry_s for row in rows], [row.formula_s for row in rows]
    print(f"\nmedian and worst time: dry {median(dry_s):.2f} s, {max(dry_s):.2f} s; ", end="")
    print(f"formula {1e3 * median(formula_s):.1f} ms, {1e3 * max(formula_s):.1f} ms")


def _print_line(name: str, rows: list[Row]) -> None:
    peaks = [row.measured.peak_bytes / 2**20 for row in rows]
    cells = (
        _errors([_error(row.dry, row, peak=False) for row in rows]),
        _errors([_error(row.formula, row, peak=False) for row in rows]),
        _errors([_error(row.dry, row, peak=True) for row in rows]),
        _errors([_error(row.formula, row, peak=True) for row in rows]),
    )
    print(f"| {name} | {len(rows)} | {' | '.join(cells)} | {min(peaks):.0f} to {max(peaks):.0f} MiB |")


def _error(need: MemoryNeed | Unavailable, row: Row, *, peak: bool) -> float | None:
    if isinstance(need, Unavailable):
        return None
    if peak:
        return need.total_bytes / row.measured.peak_bytes - 1
    return need.allocated_bytes / row.measured.allocated_bytes - 1


def _errors(found: list[float | None]) -> str:
    errors = [error for error in found if error is not None]
    if not errors:
        return "none"
    worst = max(errors, key=abs)
    absent = "" if len(errors) == len(found) else f" ({len(found) - len(errors)} none)"
    return f"{100 * median(abs(error) for error in errors):.2f} %, {100 * worst:+.2f} %{absent}"


def _line(row: Row) -> str:
    sizes = f"{row.measured.allocated_bytes / 2**20:.1f} MiB allocated, {row.measured.peak_bytes / 2**20:.1f} MiB peak"
    errors = [_error(need, row, peak=peak) for peak in (False, True) for need in (row.dry, row.formula)]
    return f"{sizes}; " + ", ".join("none" if error is None else f"{100 * error:+.2f} %" for error in errors)


def _wait(engine: EngineProcess, *kinds: type[object]) -> object:
    """The next report of one of these kinds. Raises RuntimeError when the worker dies."""
    while True:
        for report in engine.receive():
            if isinstance(report, kinds):
                return report
        death = engine.death()
        if death is not None:
            raise RuntimeError(death.what)
        select.select([engine], [], [], 1.0)


if __name__ == "__main__":
    run_benchmark(main)

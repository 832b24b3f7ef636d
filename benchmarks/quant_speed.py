"""The constants of `edgetop/fit/quant_speed.py`, measured on this machine.

    python -m benchmarks.quant_speed FOLDER [--seconds 60]

Makes llama models of random weights in FOLDER, once: two sizes whose matrices are all of one type, for each type, and
small ones with much attention. Decodes them with llama.cpp, one thread and all cores, in turn, and prints what remains
of the time of a token per weight when reading it from memory, at the rate that `edgetop check` measures, is taken off.
Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import gguf
import numpy as np

from benchmarks import run_benchmark
from edgetop.core.sources import Unavailable
from edgetop.fit.machine import AVX2, REFERENCE_DIGITS_PER_S, threads_worth
from edgetop.fit.machine_profile import MachineProfile, measure_machine
from edgetop.fit.model_facts import ModelFacts, read_facts
from edgetop.inference.llama.library import Handle, Library, import_library
from edgetop.io.cpus import decode_threads


class Shape(NamedTuple):
    """A llama model."""

    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    n_layer: int
    n_vocab: int
    head: int


SIZES = {"big": Shape(2048, 5632, 32, 8, 4, 4096, 64), "mid": Shape(1024, 2816, 16, 8, 4, 512, 64)}
ATTENTIVE = {
    "att64": Shape(256, 256, 16, 4, 8, 512, 64),
    "att128": Shape(256, 256, 8, 2, 8, 512, 128),
    "att64m": Shape(256, 256, 16, 16, 8, 512, 64),
}
"""Groups of four heads, and one whose heads have keys of their own."""
TYPES = {
    "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q2_K": 10, "q3_K": 11, "q4_K": 14, "q5_K": 16, "q6_K": 18,
    "iq4_nl": 25, "iq4_xs": 30, "bf16": 32,
}  # fmt: skip
"""llama.cpp's numbers of the file types."""
DEPTHS = (0, 4096)
TOKENS = 10
PIECE = 512


class Loaded:
    """A model with a context that is filled to a depth."""

    def __init__(self, library: Library, path: Path, depth: int) -> None:
        self._library, self._depth = library, depth
        self.facts: ModelFacts = read_facts(path)
        model: Handle = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
        params = library.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_outputs_max = depth + 256, PIECE, 1
        self._context: Handle = library.llama_init_from_model(model, params)
        tokens = (library.llama_token * PIECE)(*([100] * PIECE))
        for _ in range(depth // PIECE):
            self._decode(library.llama_batch_get_one(tokens, PIECE))

    def token_s(self, threads: int) -> float:
        """Median seconds per token."""
        library = self._library
        library.llama_set_n_threads(self._context, threads, threads)
        token = (library.llama_token * 1)(100)
        batch = library.llama_batch_get_one(token, 1)
        spans_s = []
        for _ in range(TOKENS + 2):
            begin_s = time.perf_counter()
            self._decode(batch)
            spans_s.append(time.perf_counter() - begin_s)
        library.llama_memory_seq_rm(library.llama_get_memory(self._context), 0, self._depth, -1)
        return median(spans_s[2:])

    def _decode(self, batch: object) -> None:
        if self._library.llama_decode(self._context, batch) != 0:
            raise SystemExit("llama_decode failed")
        self._library.llama_synchronize(self._context)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    library = import_library()
    quiet = library.llama_log_callback(lambda *_: None)
    library.llama_log_set(quiet, None)
    library.llama_backend_init()
    paths = _models(library, arguments.folder)
    threads = sorted({1, decode_threads()})
    profile = measure_machine("", max(threads))
    if isinstance(profile, Unavailable):
        raise SystemExit(profile.reason)
    print(f"core {profile.digits_per_s / REFERENCE_DIGITS_PER_S:.2f} of the reference; reads {_rates(profile)}")
    _report_types(library, paths, threads, profile, arguments.seconds)
    _report_attention(library, arguments.folder, arguments.seconds / 3)


def _report_types(
    library: Library, paths: dict[tuple[str, str], Path], threads: list[int], profile: MachineProfile, limit_s: float
) -> None:
    loaded = {key: Loaded(library, path, 0) for key, path in paths.items()}
    spans_s: dict[tuple[str, str, int], list[float]] = {}
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < limit_s or len(next(iter(spans_s.values()), [])) < 3:
        for (size, kind), model in loaded.items():
            for count in threads:
                spans_s.setdefault((size, kind, count), []).append(model.token_s(count))
    cases = [(size, count) for size in SIZES for count in threads]
    print(f"{'ps per weight':14}" + "".join(f"{f'{size} t{count}':>10}" for size, count in cases) + f"{'in use':>10}")
    for kind in ("f16", *TYPES):
        numbers = []
        for size, count in cases:
            facts = loaded[size, kind].facts
            fixed_s = (AVX2.layer_s if count == 1 else AVX2.layer_threaded_s) * (facts.n_layer or 0)
            read_s = facts.weight_bytes_per_token / profile.bandwidth_bytes_per_s[count]
            left_s = median(spans_s[size, kind, count]) - fixed_s - read_s
            numbers.append(left_s / facts.compute_parameters * threads_worth(count) * 1e12)
        in_use = AVX2.decode_s[kind] * 1e12
        print(f"{kind:14}" + "".join(f"{number:10.1f}" for number in numbers) + f"{in_use:10.1f}")


def _report_attention(library: Library, folder: Path, limit_s: float) -> None:
    loaded = {
        (name, depth): Loaded(library, folder / f"{name}.f16.gguf", depth) for name in ATTENTIVE for depth in DEPTHS
    }
    spans_s: dict[tuple[str, int], list[float]] = {key: [] for key in loaded}
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < limit_s or len(spans_s["att64", 0]) < 3:
        for key, model in loaded.items():
            spans_s[key].append(model.token_s(1))
    for name, shape in ATTENTIVE.items():
        pairs = shape.n_layer * shape.n_head * DEPTHS[1]
        measured_s = median(spans_s[name, DEPTHS[1]]) - median(spans_s[name, 0])
        rows = shape.n_head_kv / shape.n_head
        in_use = (AVX2.head_s + rows * AVX2.row_s) * 1e9
        print(f"{name}: {measured_s / pairs * 1e9:.1f} ns per head and position, in use {in_use:.1f}")


def _models(library: Library, folder: Path) -> dict[tuple[str, str], Path]:
    """The models by size and type, made where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in (SIZES | ATTENTIVE).items():
        if not (folder / f"{name}.f16.gguf").exists():
            _write(folder / f"{name}.f16.gguf", shape)
    paths = {(size, "f16"): folder / f"{size}.f16.gguf" for size in SIZES}
    for size in SIZES:
        for kind, number in TYPES.items():
            path = paths[size, kind] = folder / f"{size}.{kind}.gguf"
            if path.exists():
                continue
            params = library.llama_model_quantize_default_params()
            params.ftype, params.pure = number, True
            part = path.with_suffix(".part")
            source = str(paths[size, "f16"]).encode()
            if library.llama_model_quantize(source, str(part).encode(), ctypes.byref(params)):
                raise SystemExit(f"{path} could not be made")
            part.replace(path)
    return paths


def _write(path: Path, shape: Shape) -> None:
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(8192)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_rope_dimension_count(shape.head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(1)
    writer.add_tokenizer_model("llama")
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    tokens += [f"t{number}".encode() for number in range(shape.n_vocab - len(tokens))]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)])

    def matrix(name: str, rows: int, columns: int) -> None:
        numbers = random.standard_normal((rows, columns), dtype=np.float32) * 0.02
        writer.add_tensor(f"{name}.weight", numbers.astype(np.float16))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(shape.n_embd, dtype=np.float32))

    wide, narrow = shape.n_head * shape.head, shape.n_head_kv * shape.head
    matrix("token_embd", shape.n_vocab, shape.n_embd)
    matrix("output", shape.n_vocab, shape.n_embd)
    norm("output_norm")
    for layer in range(shape.n_layer):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm")
        norm(f"{block}.ffn_norm")
        matrix(f"{block}.attn_q", wide, shape.n_embd)
        matrix(f"{block}.attn_k", narrow, shape.n_embd)
        matrix(f"{block}.attn_v", narrow, shape.n_embd)
        matrix(f"{block}.attn_output", shape.n_embd, wide)
        matrix(f"{block}.ffn_gate", shape.n_ff, shape.n_embd)
        matrix(f"{block}.ffn_up", shape.n_ff, shape.n_embd)
        matrix(f"{block}.ffn_down", shape.n_embd, shape.n_ff)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _rates(profile: MachineProfile) -> str:
    return ", ".join(f"{rate / 1e9:.1f} GB/s t{count}" for count, rate in profile.bandwidth_bytes_per_s.items())


if __name__ == "__main__":
    run_benchmark(main)

"""A made-up machine and models whose predictions can be worked out by hand, for what is built on the predictors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings, MemoryBreakdown
from edgetop.core.gguf import TENSOR_TYPES, GgufHeader, Tensor, Value
from edgetop.core.quantity import Interval
from edgetop.core.records import PastRun
from edgetop.core.sources import Unavailable
from edgetop.fit.assessment import RunTarget
from edgetop.fit.machine import Machine, Processor
from edgetop.fit.memory import MemoryNeed, MemoryRoom
from edgetop.fit.model_facts import ModelFacts, facts_of
from edgetop.fit.speed import EnergyPrediction, SpeedPrediction

GIB = 2**30
_PACKING = {packing.name: packing for packing in TENSOR_TYPES.values()}


def figure(value: float, off: float = 0.2) -> Interval:
    return Interval(
        value=value, low=value / (1 + off), high=value * (1 + off), u_systematic=value * off / 2, u_random=0.0
    )


def llama_facts(
    name: str = "Llama 7B", *, kind: str = "q8_0", label: int = 7, n_layer: int = 32, n_embd: int = 4096,
    source: str = "/models/llama.gguf",
) -> ModelFacts:  # fmt: skip
    """A dense llama, 6.7 billion weights by default."""
    n_ff, n_vocab = n_embd * 43 // 16, 32_000
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_embd, n_vocab), "output.weight": (n_embd, n_vocab)}
    for layer in range(n_layer):
        for matrix in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{layer}.{matrix}.weight"] = (n_embd, n_embd)
        for matrix, shape in (("gate", (n_embd, n_ff)), ("up", (n_embd, n_ff)), ("down", (n_ff, n_embd))):
            shapes[f"blk.{layer}.ffn_{matrix}.weight"] = shape
        shapes[f"blk.{layer}.attn_norm.weight"] = (n_embd,)
    tensors = tuple(_tensor(name, shape, kind if len(shape) > 1 else "f32") for name, shape in shapes.items())
    metadata: dict[str, Value] = {
        "general.architecture": "llama", "general.name": name, "general.file_type": label,
        "general.license": "apache-2.0", "llama.block_count": n_layer, "llama.embedding_length": n_embd,
        "llama.context_length": 32_768, "llama.attention.head_count": 32, "llama.vocab_size": n_vocab,
        "tokenizer.chat_template": "{{ messages }}",
    }  # fmt: skip
    size_bytes = sum(tensor.size_bytes for tensor in tensors) + 1_000_000
    return facts_of([GgufHeader(3, metadata, tensors, 0)], source=source, sizes_bytes=[size_bytes])


def _tensor(name: str, shape: tuple[int, ...], kind: str) -> Tensor:
    elements = 1
    for length in shape:
        elements *= length
    packing = _PACKING[kind]
    return Tensor(name, shape, kind, 0, elements // packing.block_elements * packing.block_bytes)


MACHINE = Machine(
    name="Example Board",
    cpu=Processor(
        name="4x Cortex-A76",
        bandwidth_bytes_per_s={threads: figure(min(6.0 * threads, 16.0) * 1e9) for threads in (1, 2, 3, 4)},
    ),
    cores=4,
    memory_bytes=16 * GIB,
    basis="device table",
    explanation="16 GB/s, written out by hand",
)


def room_of(available_bytes: int, total_bytes: int = 16 * GIB) -> MemoryRoom:
    return MemoryRoom(available_bytes=available_bytes, limit="MemAvailable", total_bytes=total_bytes)


def place_of(available_bytes: int = 14 * GIB, *, machine: Machine = MACHINE, threads: int = 4) -> RunTarget:
    return RunTarget(machine=machine, threads=threads, room=room_of(available_bytes))


KV_ROW_BYTES = {
    "f32": 2_000_000, "f16": 1_000_000, "bf16": 1_000_000, "q8_0": 531_250, "q5_1": 375_000, "q5_0": 343_750,
    "q4_1": 312_500, "q4_0": 281_250, "iq4_nl": 281_250,
}  # fmt: skip
"""Of all layers, for one token."""
WATTS = 8.0


def need_of(
    facts: ModelFacts,
    settings: EngineSettings,
    *,
    allocated: MemoryBreakdown | None = None,
    features: frozenset[str] | None = None,
) -> MemoryNeed | Unavailable:
    kv_bytes = (settings.n_ctx or 0) * KV_ROW_BYTES[settings.type_k or "f16"]
    return MemoryNeed(
        weights_bytes=facts.tensor_bytes if allocated is None else allocated.weights_bytes or 0,
        repack_bytes=0,
        kv_bytes=kv_bytes,
        compute_bytes=100_000_000,
        output_bytes=0,
        process_bytes=60_000_000,
        basis="formula" if allocated is None else "llama.cpp",
    )


def context_of(
    facts: ModelFacts,
    settings: EngineSettings,
    fits: Callable[[MemoryNeed], bool],
    *,
    features: frozenset[str] | None = None,
) -> int | None:
    for n_ctx in range((facts.n_ctx_train or 65_536) // 256 * 256, 0, -256):
        need = need_of(facts, replace(settings, n_ctx=n_ctx))
        if isinstance(need, MemoryNeed) and fits(need):
            return n_ctx
    return None


def speed_of(
    facts: ModelFacts,
    machine: Machine,
    *,
    settings: EngineSettings,
    threads: int,
    depth_tokens: int,
    prompt_tokens: int,
    past_runs: Sequence[PastRun] = (),
) -> SpeedPrediction | Unavailable:
    """Weights and keys over bandwidth, and nothing else."""
    if machine.cpu is None:
        return Unavailable("nothing is known of its memory bandwidth", "measure it on the device itself")
    known = machine.cpu.bandwidth(threads)
    assert known is not None
    bandwidth = known.value
    kv_bytes = depth_tokens * KV_ROW_BYTES[settings.type_k or "f16"]
    return SpeedPrediction(
        decode_tokens_per_s=figure(bandwidth / (facts.weight_bytes_per_token + kv_bytes)),
        prefill_tokens_per_s=figure(50.0),
        first_token_s=figure(prompt_tokens / 50.0),
        basis="device table",
        explanation=f"{facts.weight_bytes_per_token} bytes at {bandwidth:.3g} bytes a second",
        limited_by="memory-bandwidth",
    )


def energy_of(
    facts: ModelFacts,
    machine: Machine,
    speed: SpeedPrediction,
    *,
    settings: EngineSettings,
    threads: int,
    depth_tokens: int,
    past_runs: Sequence[PastRun] = (),
) -> EnergyPrediction | Unavailable:
    if machine.power is None:
        return Unavailable("the power of this machine has never been seen", "attach a meter")
    return EnergyPrediction(
        decode_j_per_token=figure(WATTS / speed.decode_tokens_per_s.value, off=0.3),
        prefill_j_per_token=figure(WATTS / 50.0),
        scope="board_input",
        basis="device table",
        explanation="8 W, written out by hand",
    )


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets an assessment ask the predictors above."""
    for name, answer in (
        ("memory_need", need_of), ("largest_context", context_of), ("predict_speed", speed_of),
        ("predict_energy", energy_of),
    ):  # fmt: skip
        monkeypatch.setattr(f"edgetop.fit.assessment.{name}", answer)


def without_speed(machine: Machine = MACHINE) -> Machine:
    return replace(machine, cpu=None)

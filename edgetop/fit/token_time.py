"""Time of a token and a prompt, by parts."""

from __future__ import annotations

from math import hypot
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_settings import KV_TYPE, EngineSettings
from edgetop.core.quantity import Interval, sigma_of
from edgetop.core.sources import Unavailable
from edgetop.fit.kv_cache import layers_of, row_bytes
from edgetop.fit.machine import KV_DECODE, KV_PREFILL, Kernels, Machine, Processor, threads_worth
from edgetop.fit.memory import layers_on_gpu, on_gpu_of
from edgetop.fit.model_facts import ModelFacts, shape_of, uses_of

SpeedLimit = Literal["memory-bandwidth", "compute"]

_REPACKED = frozenset({"q4_0", "q4_K", "iq4_nl"})
_NOT_REPACKED = "q4_1"
"""Types that are fast because they are repacked take as long as this one when they are not."""

_UNKNOWN_SHAPE_SIGMA = 0.15
"""For models whose keys and values are not known."""


class TokenTime(Struct, frozen=True, kw_only=True):
    """Seconds to decode one token."""

    weights_s: float
    """Reading the weights and multiplying with them, and what is fixed per token and layer."""
    attention_s: float
    """Reading keys and values and computing with them."""
    read_s: float
    """Of both, what reading alone would take."""
    compute_s: float
    """Of both, what computing alone would take."""
    sigma: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.weights_s + self.attention_s

    @property
    def limited_by(self) -> SpeedLimit:
        """What more of would help most."""
        return "memory-bandwidth" if self.read_s >= self.compute_s else "compute"


class _Attention(Struct, frozen=True):
    """What the attention of one token has to do at a depth."""

    heads: float
    """Heads times positions, over all layers."""
    rows: float
    """The same of key and value heads."""
    size_bytes: float
    known: bool


def decode_time(
    facts: ModelFacts, machine: Machine, settings: EngineSettings, *, threads: int, depth_tokens: float
) -> TokenTime | Unavailable:
    """The time of a token with `depth_tokens` in the KV cache; GPU and CPU share the layers as the settings ask."""
    attention = _attention(facts, settings, depth_tokens)
    parts = []
    for processor, part, count in _sides(facts, machine, settings, threads):
        if processor is None or (bandwidth := processor.bandwidth(count)) is None:
            return Unavailable(
                f"nothing is known of how fast {machine.name} reads its memory",
                "measure it on the device itself, or describe the device in devices.toml",
            )
        parts.append((_decode(facts, processor, bandwidth, settings, threads=count, attention=attention), part))
    return TokenTime(
        weights_s=sum(time.weights_s * part.read for time, part in parts),
        attention_s=sum(time.attention_s * part.attention for time, part in parts),
        read_s=sum(time.read_s * part.read for time, part in parts),
        compute_s=sum(time.compute_s * part.compute for time, part in parts),
        sigma=max(time.sigma for time, _ in parts),
    )


def prefill_time(
    facts: ModelFacts, machine: Machine, settings: EngineSettings, *, threads: int, prompt_tokens: int
) -> tuple[float, float] | None:
    """Seconds to read a prompt, with the deviation of their logarithm; `None` where no arithmetic is known."""
    total_s, sigma = 0.0, 0.0
    for processor, share, count in _sides(facts, machine, settings, threads):
        part = share.compute
        found = None if processor is None else _prefill(facts, processor, settings, count, prompt_tokens)
        if found is None:
            return None
        total_s += found[0] * part
        sigma = max(sigma, found[1])
    return total_s, sigma


class _Share(NamedTuple):
    """Parts of a token's work that one processor does, 0 to 1."""

    read: float
    compute: float
    attention: float


def _sides(
    facts: ModelFacts, machine: Machine, settings: EngineSettings, threads: int
) -> list[tuple[Processor | None, _Share, int]]:
    """GPU and CPU with what each one does; layers differ, so it is counted by their tensors."""
    there = _gpu_part(facts, machine, settings)
    here = _Share(*(1.0 - part for part in there))
    sides = [(machine.gpu, there, 1), (machine.cpu, here, threads)]
    return [side for side in sides if max(side[1]) > 1e-9]


def _gpu_part(facts: ModelFacts, machine: Machine, settings: EngineSettings) -> _Share:
    if machine.gpu is None:
        return _Share(0.0, 0.0, 0.0)
    wanted = settings.n_gpu_layers
    every_layer = (facts.n_layer or 0) + 1
    if wanted is None or wanted < 0:
        settings = replace(settings, n_gpu_layers=every_layer)
    placed = on_gpu_of(facts, settings)
    return _Share(placed.share, placed.compute_share, layers_on_gpu(facts, settings) / max(1, facts.n_layer or 1))


def offloaded_share(facts: ModelFacts, machine: Machine, settings: EngineSettings) -> float:
    """Part of the weights that the GPU computes with: all of them by default where there is one."""
    return _gpu_part(facts, machine, settings).compute


def weights_by_type(facts: ModelFacts) -> dict[str, float]:
    """Weights that a token is multiplied with, by tensor type."""
    return facts.derived(_weights_by_type)


def _weights_by_type(facts: ModelFacts) -> dict[str, float]:
    weights: dict[str, float] = {}
    for tensor, use in zip(facts.tensors, uses_of(facts.tensors, shape_of(facts.header)), strict=True):
        if use.use == "multiplied":
            weights[tensor.type_name] = weights.get(tensor.type_name, 0.0) + tensor.elements * use.share
    return weights


def family_of(facts: ModelFacts) -> str:
    """The tensor type of most bytes."""
    return max(facts.bytes_by_type, key=lambda kind: facts.bytes_by_type[kind], default="")


def _decode(
    facts: ModelFacts,
    processor: Processor,
    bandwidth: Interval,
    settings: EngineSettings,
    *,
    threads: int,
    attention: _Attention,
) -> TokenTime:
    read_s = facts.weight_bytes_per_token / bandwidth.value
    read_kv_s = attention.size_bytes / bandwidth.value
    fixed_s = processor.token_s + processor.layer_s * (facts.n_layer or 0)
    kernels = processor.kernels
    if kernels is None:
        compute_s = compute_kv_s = 0.0
        weights_s, attention_s, sigma = read_s + fixed_s, read_kv_s, sigma_of(bandwidth)
    else:
        worth = threads_worth(threads)
        compute_s = _decode_compute_s(facts, kernels, settings) / worth
        compute_kv_s = _attention_compute_s(attention, kernels, settings) / worth
        layer_s = kernels.layer_s if threads == 1 else kernels.layer_threaded_s
        fixed_s += layer_s * (facts.n_layer or 0)
        weights_s = (read_s**kernels.overlap + compute_s**kernels.overlap) ** (1 / kernels.overlap) + fixed_s
        attention_s = max(read_kv_s, compute_kv_s)
        total_s = weights_s + attention_s
        sigma = hypot(kernels.sigma, sigma_of(bandwidth) * (read_s + read_kv_s) / total_s if total_s else 0.0)
    return TokenTime(
        weights_s=weights_s,
        attention_s=attention_s,
        read_s=read_s + read_kv_s,
        compute_s=compute_s + compute_kv_s + fixed_s,
        sigma=sigma if attention.known else hypot(sigma, _UNKNOWN_SHAPE_SIGMA),
    )


def _decode_compute_s(facts: ModelFacts, kernels: Kernels, settings: EngineSettings) -> float:
    total_s = 0.0
    for kind, count in weights_by_type(facts).items():
        as_kind = _NOT_REPACKED if kind in _REPACKED and not settings.use_extra_bufts else kind
        total_s += count * kernels.decode_s.get(as_kind, kernels.decode_other_s)
    return total_s


def _attention_compute_s(attention: _Attention, kernels: Kernels, settings: EngineSettings) -> float:
    factor = (KV_DECODE.get(settings.type_k or KV_TYPE, 1.0) + KV_DECODE.get(settings.type_v or KV_TYPE, 1.0)) / 2
    return (attention.heads * kernels.head_s + attention.rows * kernels.row_s) * factor


def _prefill(
    facts: ModelFacts, processor: Processor, settings: EngineSettings, threads: int, prompt_tokens: int
) -> tuple[float, float] | None:
    """Every weight with every token, but the output matrix with the last one only; each token sees those before it."""
    output = (facts.n_vocab or 0) * (facts.n_embd or 0)
    weights = max(facts.compute_parameters - output, facts.compute_parameters // 2)
    bandwidth = processor.bandwidth(threads)
    once_s = 0.0 if bandwidth is None else facts.weight_bytes_per_token / bandwidth.value
    if processor.prefill_flops is not None:
        spent_s = 2.0 * weights * prompt_tokens / processor.prefill_flops.value
        return max(spent_s, once_s) + processor.token_s, sigma_of(processor.prefill_flops)
    kernels = processor.kernels
    if kernels is None or not kernels.prefill_other_s:
        return None
    by_type = weights_by_type(facts)
    per_weight_s = sum(
        count * kernels.prefill_s.get(kind, kernels.prefill_other_s) for kind, count in by_type.items()
    ) / max(1.0, sum(by_type.values()))
    factor = (KV_PREFILL.get(settings.type_k or KV_TYPE, 1.0) + KV_PREFILL.get(settings.type_v or KV_TYPE, 1.0)) / 2
    heads = _attention(facts, settings, prompt_tokens / 2).heads * prompt_tokens
    computed_s = (weights * prompt_tokens * per_weight_s + heads * kernels.prefill_head_s * factor) / threads_worth(
        threads
    )
    return max(computed_s, once_s) + processor.token_s, kernels.prefill_sigma


def _attention(facts: ModelFacts, settings: EngineSettings, depth_tokens: float) -> _Attention:
    layers = layers_of(facts)
    if isinstance(layers, Unavailable):
        return _Attention(0.0, 0.0, 0.0, known=False)
    heads = rows = size_bytes = 0.0
    for layer in layers:
        if not layer.keeps_kv and layer.recurrent:
            continue
        seen = min(depth_tokens, layer.window) if layer.window else depth_tokens
        heads += seen * layer.n_head
        rows += seen * layer.n_head_kv
        size_bytes += seen * (
            row_bytes(layer.key_width, settings.type_k or KV_TYPE)
            + row_bytes(layer.value_width, settings.type_v or KV_TYPE)
        )
    return _Attention(heads, rows, size_bytes, known=True)

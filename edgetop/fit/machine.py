"""A machine as predicted: bandwidth, kernels, power; the time of a token and a prompt on it, by parts.

The constants of x86-64 with AVX2 were found with `benchmarks/quant_speed.py`: llama models of random weights (189 and
48 million of them multiplied per token, all of one type) decoded with llama.cpp 0c1e57098 as it is published (AVX2, no
AVX-512) on a virtual machine with two cores of an AMD EPYC 7003. Reading and computing took turns there:
`bytes / bandwidth + weights * constant / threads` meets most medians of 14 types, 2 sizes, 1 and 2 threads within 10 %.
Attention is by three shapes of heads there, by SmolLM2-135M 4096 tokens deep, and 2048 deep with quantized keys.
`benchmarks/speed_prediction.py` tests them on that same machine, but on another model.

Those of Arm with dot products follow from published rates of a Raspberry Pi 5 with one thread (see devices.toml); a
Cortex-A76 reads ahead well, so that of reading and computing nearly the longer one counts. Those of other processors
are no more than twice to three times these.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_settings import KV_TYPE, EngineSettings
from edgetop.core.quantity import Interval, sigma_of
from edgetop.core.sources import Scope, Unavailable
from edgetop.fit.kv_cache import layers_of, row_bytes
from edgetop.fit.memory import layers_on_gpu, on_gpu_of
from edgetop.fit.model_facts import ModelFacts, tensor_uses

_PS, _NS, _US = 1e-12, 1e-9, 1e-6

KernelSet = Literal["avx2", "arm-dotprod", "arm-neon", "plain"]
"""Which of llama.cpp's arithmetic is used."""

REFERENCE_DIGITS_PER_S = 1.11e9
"""What `compute_probe` shows on the machine that the constants of AVX2 were found on."""


class Kernels(Struct, frozen=True, kw_only=True):
    """Times of one thread; of several together they are divided by `threads_worth`."""

    decode_s: dict[str, float]
    """Seconds per weight when decoding, by tensor type."""
    decode_other_s: float
    """... for types that were not measured."""
    prefill_s: dict[str, float]
    """Seconds per weight and token in a prefill, by tensor type."""
    prefill_other_s: float
    head_s: float
    """Decoding: seconds per attention head and position in the KV cache, whatever the length of a head."""
    row_s: float
    """... and per row of keys and values, which the heads of a group share."""
    prefill_head_s: float
    """Prefill: seconds per token, head and position before it."""
    layer_s: float
    """Fixed seconds per layer and token with one thread: small operations."""
    layer_threaded_s: float
    """... with several threads, which wait for each other a dozen times a layer."""
    overlap: float
    """p of (read^p + compute^p)^(1/p): 1 where they take turns, 3 where nearly the longer one counts."""
    sigma: float
    """Deviation of the logarithm of decode times that are predicted with these constants and a measured bandwidth."""
    prefill_sigma: float

    def scaled(self, speed: float) -> Kernels:
        """The same arithmetic on a core that is `speed` times as fast."""
        return Kernels(
            decode_s={kind: each / speed for kind, each in self.decode_s.items()},
            decode_other_s=self.decode_other_s / speed,
            prefill_s={kind: each / speed for kind, each in self.prefill_s.items()},
            prefill_other_s=self.prefill_other_s / speed,
            head_s=self.head_s / speed,
            row_s=self.row_s / speed,
            prefill_head_s=self.prefill_head_s / speed,
            layer_s=self.layer_s / speed,
            layer_threaded_s=self.layer_threaded_s / speed,
            overlap=self.overlap,
            sigma=self.sigma,
            prefill_sigma=self.prefill_sigma,
        )


def threads_worth(threads: int) -> float:
    """How many single threads several are worth: 0.9 each. Work is not shared out evenly, and they wait."""
    return 1.0 if threads <= 1 else 0.9 * threads


KV_DECODE = {"q8_0": 0.93, "q5_0": 1.7, "q5_1": 1.7, "q4_0": 1.7, "q4_1": 1.7, "iq4_nl": 1.7, "f32": 1.2, "bf16": 1.2}
KV_PREFILL = {"q8_0": 4.3, "q5_0": 6.5, "q5_1": 6.5, "q4_0": 6.5, "q4_1": 6.5, "iq4_nl": 6.5}
"""Attention with other types of the KV cache takes so many times as long as with f16. Measured on the AVX2 machine for
q8_0 and q4_0 at a depth of 2048; the other types of 4 and 5 bits are taken as q4_0."""


def _times(unit: float, **numbers: float) -> dict[str, float]:
    return {kind: number * unit for kind, number in numbers.items()}


AVX2 = Kernels(
    decode_s=_times(
        _PS, f16=46, bf16=53, q8_0=33, q6_K=31, q5_K=36, q5_1=48, q5_0=48, q4_K=25, q4_1=43, q4_0=22, iq4_nl=23,
        iq4_xs=38, q3_K=35, q2_K=23, f32=60, mxfp4=30,
    ),
    decode_other_s=70 * _PS,
    prefill_s=_times(
        _PS, f16=27, bf16=38, q8_0=27, q6_K=26, q5_K=25, q5_1=64, q5_0=46, q4_K=23, q4_1=52, q4_0=26, iq4_nl=26,
        iq4_xs=26, q3_K=26, q2_K=24, f32=40, mxfp4=30,
    ),
    prefill_other_s=70 * _PS,
    head_s=27 * _NS,
    row_s=50 * _NS,
    prefill_head_s=13 * _NS,
    layer_s=10 * _US,
    layer_threaded_s=25 * _US,
    overlap=1.0,
    sigma=0.12,
    prefill_sigma=0.30,
)  # fmt: skip
"""The prefill was measured with 128 tokens and 1 and 2 threads, and lies 20 % above it: matrices of models below a
billion weights are multiplied less well."""

ARM_DOTPROD = Kernels(
    decode_s=_times(
        _PS, f16=90, bf16=110, q8_0=50, q6_K=108, q5_K=150, q5_1=160, q5_0=160, q4_K=82, q4_1=100, q4_0=77, iq4_nl=77,
        iq4_xs=100, q3_K=150, q2_K=110, f32=120,
    ),
    decode_other_s=170 * _PS,
    prefill_s=_times(_PS, q4_0=50, iq4_nl=50, q4_K=55, q8_0=60, q5_K=70, q6_K=70),
    prefill_other_s=110 * _PS,
    head_s=45 * _NS,
    row_s=70 * _NS,
    prefill_head_s=25 * _NS,
    layer_s=20 * _US,
    layer_threaded_s=40 * _US,
    overlap=3.0,
    sigma=0.20,
    prefill_sigma=0.45,
)  # fmt: skip
"""Of a Cortex-A76 at 2.4 GHz. Types in the published rows: q3_K, q4_K, q5_0, iq4_nl and q8_0; the others between them.
The attention is that of AVX2 by the clock."""

ARM_NEON = Kernels(
    decode_s=_times(
        _PS, f16=0, q8_0=46, q6_K=44, q5_K=44, q5_1=43, q5_0=43, q4_K=45, q4_1=45, q4_0=45, iq4_nl=50, q3_K=45,
        iq3_s=48,
    ),
    decode_other_s=50 * _PS,
    prefill_s=_times(
        _PS, f16=513, q8_0=353, q6_K=443, q5_K=423, q5_1=508, q5_0=474, q4_K=333, q4_1=374, q4_0=368, iq4_nl=452,
        q3_K=447, iq3_s=789,
    ),
    prefill_other_s=500 * _PS,
    head_s=90 * _NS,
    row_s=140 * _NS,
    prefill_head_s=50 * _NS,
    layer_s=0.0,
    layer_threaded_s=0.0,
    overlap=1.0,
    sigma=0.06,
    prefill_sigma=0.08,
)  # fmt: skip
"""Of a Cortex-A72 at 1.8 GHz, which has no dot products: `benchmarks/device_fit.py` fits them to 17 types. It reads so
slowly that arithmetic is a fifth of a token's time. The attention is that of ARM_DOTPROD, doubled."""

PLAIN = ARM_DOTPROD.scaled(1 / 2.5)
"""Other cores without dot products: by judgement, and with a band to match."""


def gpu_kernels(*, weight_s: float, layer_s: float, sigma: float) -> Kernels:
    """A GPU as one thread: unpacking weights of fewer than 8 bits takes time beside reading them."""
    whole = dict.fromkeys(("f32", "f16", "bf16", "q8_0"), 0.0)
    return Kernels(
        decode_s=whole,
        decode_other_s=weight_s,
        prefill_s={},
        prefill_other_s=0.0,
        head_s=0.0,
        row_s=0.0,
        prefill_head_s=0.0,
        layer_s=layer_s,
        layer_threaded_s=layer_s,
        overlap=1.0,
        sigma=sigma,
        prefill_sigma=0.0,
    )


KERNELS: dict[KernelSet, Kernels] = {"avx2": AVX2, "arm-dotprod": ARM_DOTPROD, "arm-neon": ARM_NEON, "plain": PLAIN}

PredictionBasis = Literal["own sessions", "calibrated", "device table", "formula"]
"""Where a prediction comes from, best first."""

TimePart = Literal["weights", "attention", "prefill"]
"""What a learned factor multiplies the predicted time of."""


class Processor(Struct, frozen=True, kw_only=True):
    """What decodes: the cores of a CPU, or a GPU."""

    name: str
    bandwidth_bytes_per_s: dict[int, Interval]
    """Rate of reading main memory by number of threads; a GPU has one entry, for 0 threads."""
    kernels: Kernels | None = None
    """Arithmetic of one thread; `None` where the rate of reading is all that is known, as of a GPU."""
    token_s: float = 0.0
    """Fixed time per token."""
    layer_s: float = 0.0
    """Fixed time per token and layer, that of the kernels not among it."""
    prefill_flops: Interval | None = None
    """Floating-point operations in a second that a prefill reaches, all threads together; goes before the kernels."""

    def bandwidth(self, threads: int) -> Interval | None:
        """The rate with so many threads: the next smaller number that is known, else the smallest."""
        known = self.bandwidth_bytes_per_s
        if not known:
            return None
        return known[max((count for count in known if count <= threads), default=min(known))]


class Power(Struct, frozen=True, kw_only=True):
    """What a machine draws by one meter, in watts, idle power among it."""

    scope: Scope
    decode_w: dict[int, Interval]
    """While it decodes, by number of threads; on a GPU one entry, for 0 threads."""
    weight_j: float = 0.0
    """Joules per weight that a token is multiplied with, beside those watts."""
    token_sigma: float | None = None
    """Deviation of the logarithm of joules per token, where it is known itself."""
    prefill_w: Interval | None = None
    idle_w: float | None = None
    meter: str = ""
    """Which rails or which meter, in words."""

    def decoding(self, threads: int) -> Interval | None:
        """With so many threads; of the number known that is nearest."""
        if not self.decode_w:
            return None
        return self.decode_w[min(self.decode_w, key=lambda count: abs(count - threads))]


class CorrectionFactor(Struct, frozen=True, kw_only=True):
    """By which factor a part of the predicted time was off, over several measured runs of this machine."""

    part: TimePart
    threads: int
    """0 for a GPU."""
    family: str = ""
    """Tensor type of most weights, such as `q4_K`; empty for all of them together."""
    factor: float
    """Measured time / predicted time, the median."""
    sigma: float
    """Deviation of the logarithm of that ratio from run to run, and for the small number of them."""
    runs: int


class Machine(Struct, frozen=True, kw_only=True):
    """A machine in one power mode."""

    name: str
    power_mode: str = ""
    cpu: Processor | None
    gpu: Processor | None = None
    gpu_shares_memory: bool = False
    cores: int | None = None
    memory_bytes: int | None = None
    power: Power | None = None
    price_usd: float | None = None
    features: frozenset[str] | None = None
    """Instructions by ggml's names; `None` for those of the usual builds for the machine that asks."""
    notes: tuple[str, ...] = ()
    """What a person should know of it, one sentence each."""
    key: str = ""
    """`machine_profile.machine_key` of this machine; empty for one of the device table."""
    learned: tuple[CorrectionFactor, ...] = ()
    basis: PredictionBasis
    """Of its figures, `learned` left aside."""
    explanation: str
    """One line: where the figures come from."""
    sources: tuple[str, ...] = ()


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


class AttentionWork(Struct, frozen=True):
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
    attention = attention_work(facts, settings, depth_tokens)
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
        sigma=_sigma_together([(time.weights_s * part.read + time.attention_s * part.attention, time.sigma)
                               for time, part in parts]),
    )  # fmt: skip


def _sigma_together(parts: Sequence[tuple[float, float]]) -> float:
    """The deviation of a sum of times, each with its own, that are off independently of each other."""
    total_s = sum(time_s for time_s, _ in parts)
    return hypot(*(time_s * sigma for time_s, sigma in parts)) / total_s if total_s else max(s for _, s in parts)


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


def compute_time(facts: ModelFacts, machine: Machine, settings: EngineSettings, *, threads: int) -> float:
    """Seconds of arithmetic with the weights for one token, beside reading them."""
    return sum(
        _decode_compute_s(facts, processor.kernels, settings) / threads_worth(count) * share.compute
        for processor, share, count in _sides(facts, machine, settings, threads)
        if processor is not None and processor.kernels is not None
    )


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
    for tensor, use in zip(facts.tensors, tensor_uses(facts), strict=True):
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
    attention: AttentionWork,
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


def _attention_compute_s(attention: AttentionWork, kernels: Kernels, settings: EngineSettings) -> float:
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
    heads = attention_work(facts, settings, prompt_tokens / 2).heads * prompt_tokens
    computed_s = (weights * prompt_tokens * per_weight_s + heads * kernels.prefill_head_s * factor) / threads_worth(
        threads
    )
    return max(computed_s, once_s) + processor.token_s, kernels.prefill_sigma


def attention_work(facts: ModelFacts, settings: EngineSettings, depth_tokens: float) -> AttentionWork:
    """What a token does with the cache at a depth."""
    layers = layers_of(facts)
    if isinstance(layers, Unavailable):
        return AttentionWork(0.0, 0.0, 0.0, known=False)
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
    return AttentionWork(heads, rows, size_bytes, known=True)

"""A machine as predicted: bandwidth, kernels, power.

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

from typing import Literal

from msgspec import Struct

from edgetop.core.quantity import Interval
from edgetop.core.sources import Scope

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

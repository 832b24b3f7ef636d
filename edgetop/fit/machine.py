"""A machine as the predictions see it: how fast it reads memory and computes, what it draws, what it has taught."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.core.energy.figure import Figure
from edgetop.core.records import Scope
from edgetop.fit.quant_speed import Kernels

Basis = Literal["own sessions", "calibrated", "device table", "formula"]
"""Where a prediction comes from, best first."""
Part = Literal["weights", "attention", "prefill"]
"""What a learned factor multiplies the predicted time of."""


class Processor(Struct, frozen=True, kw_only=True):
    """What decodes: the cores of a CPU, or a GPU."""

    name: str
    bandwidth_bytes_per_s: dict[int, Figure]
    """Rate of reading main memory by number of threads; a GPU has one entry, for 0 threads."""
    kernels: Kernels | None = None
    """Arithmetic of one thread; `None` where the rate of reading is all that is known, as of a GPU."""
    token_s: float = 0.0
    """Fixed time per token."""
    layer_s: float = 0.0
    """Fixed time per token and layer, that of the kernels not among it."""
    prefill_flops: Figure | None = None
    """Floating-point operations in a second that a prefill reaches, all threads together; goes before the kernels."""

    def bandwidth(self, threads: int) -> Figure | None:
        """The rate with so many threads: the next smaller number that is known, else the smallest."""
        known = self.bandwidth_bytes_per_s
        if not known:
            return None
        return known[max((count for count in known if count <= threads), default=min(known))]


class Power(Struct, frozen=True, kw_only=True):
    """What a machine draws by one meter, in watts, idle power among it."""

    scope: Scope
    decode_w: dict[int, Figure]
    """While it decodes, by number of threads; on a GPU one entry, for 0 threads."""
    prefill_w: Figure | None = None
    idle_w: float | None = None
    meter: str = ""
    """Which rails or which meter, in words."""

    def decoding(self, threads: int) -> Figure | None:
        """With so many threads; of the number known that is nearest."""
        if not self.decode_w:
            return None
        return self.decode_w[min(self.decode_w, key=lambda count: abs(count - threads))]


class Learned(Struct, frozen=True, kw_only=True):
    """By which factor a part of the predicted time was off, over several measured runs of this machine."""

    part: Part
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
    key: str = ""
    """`machine_profile.machine_key` of this machine; empty for one of the device table."""
    learned: tuple[Learned, ...] = ()
    basis: Basis
    """Of its figures, `learned` left aside."""
    explanation: str
    """One line: where the figures come from."""
    sources: tuple[str, ...] = ()

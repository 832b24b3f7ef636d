"""What limited the speed; bandwidth used.

The order is that of certainty: a device that says it is throttled, then memory that is being moved to and from the
disk, then cores that somebody else uses. Where nothing of that kind holds it back, it is the machine itself: its memory
bandwidth or its arithmetic.
"""

from __future__ import annotations

from array import array
from math import isfinite

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.figures import LimitedBy
from edgetop.core.format import format_rate
from edgetop.core.records import Prediction
from edgetop.core.sources import (
    CPU_OTHERS,
    CPU_QUOTA,
    CPU_STEAL,
    ENGINE_MAJOR_FAULTS,
    ENGINE_SWAP,
    SINCE_BOOT_SUFFIX,
    THROTTLE_PREFIX,
)
from edgetop.session.session import Session
from edgetop.session.turn import TurnProgress


class Traffic(Struct, frozen=True):
    """What was read from memory over some time, and what could have been, in bytes."""

    read_bytes: float = 0.0
    readable_bytes: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.read_bytes + other.read_bytes, self.readable_bytes + other.readable_bytes)

    @property
    def use(self) -> float | None:
        """The share of the bandwidth that was used, 0 to 1; `None` where nothing is known of it.

        More than was measured for a machine means that it was measured too low, as in a moment of other load: then all
        of it was used.
        """
        share = self.read_bytes / self.readable_bytes if self.readable_bytes > 0 else None
        return min(share, 1.0) if share is not None and isfinite(share) else None


NO_TRAFFIC = Traffic()


def decode_traffic(prediction: Prediction | None, progress: TurnProgress) -> Traffic:
    """Of a turn's decoding, from the first token to the last.

    Every token reads the weights that take part once, and the keys and values of all tokens before it.
    """
    depth_tokens = (progress.prompt_tokens or 0) + progress.generated / 2
    return traffic(prediction, tokens=progress.after_first or 0, depth_tokens=depth_tokens, span_us=progress.decode_us)


def traffic(prediction: Prediction | None, *, tokens: float, depth_tokens: float, span_us: float) -> Traffic:
    """Of `tokens` decoded in `span_us`, with so many in the KV cache in the mean."""
    if prediction is None or prediction.bandwidth_bytes_per_s is None or tokens <= 0 or span_us <= 0:
        return NO_TRAFFIC
    token_bytes = prediction.bytes_per_token + prediction.bytes_per_position * depth_tokens
    return Traffic(tokens * token_bytes, prediction.bandwidth_bytes_per_s * span_us / US_PER_S)


BOUNDS: tuple[LimitedBy, ...] = ("memory-bandwidth", "compute")
"""Limits of the machine itself: nothing is wrong, and it cannot do better with this model."""

OTHERS_PERCENT = 10.0
"""Of all cores. A process with this share of two cores slowed decoding with two threads by a quarter (measured)."""

STEAL_PERCENT = 5.0

QUOTA_PERCENT = 5.0
"""Of the scheduling periods, 100 ms each by default: in each of these, all threads wait for one that was stopped."""

MAJOR_FAULTS_PER_S = 20.0
"""A resident model has none; each is a read from the disk in the middle of a token."""

SWAPPED_BYTES = 16 * 2**20
"""Less than this in swap is the engine's start-up code, not its weights."""

MEMORY_BOUND_USE = 0.6
"""Of the bandwidth that a plain reading loop reaches. Decoding of the lightest quantizations, which hardly compute,
reached 0.5 to 0.7 of it on x86 and Arm boards (measured and published), and stood still with more threads."""


class Limit(Struct, frozen=True):
    """What limits the speed, and a sentence that says it to a person."""

    name: LimitedBy
    sentence: str
    hint: str = ""
    """What can be done about it, if anything can."""


COOL = "cool the device, or use fewer threads (--threads N); edgetop doctor shows the cause"
SMALLER = "use a smaller quantization or context: edgetop check"
CLOSE_OTHERS = "close them, or use fewer threads (--threads N)"

FEWER_OR_MORE_QUOTA = "use fewer threads (--threads N), or give the container more CPUs"

SHARED_HOST = "use another machine size, or run when the host is quieter"
LIGHTER = "a smaller quantization is faster, more threads are not"
MORE_CORES = "try more threads (--threads N) or another quantization: edgetop tune"
ALL_CORES = "all cores compute: another quantization may be faster: edgetop tune"

UNKNOWN = Limit("unknown", "Bottleneck: not known yet.")
UNKNOWN_AT_END = Limit("unknown", "Bottleneck: not known.")


def limit_between(session: Session, t0_us: int, t1_us: int) -> Limit:
    """What limited the speed from `t0_us` to `t1_us`, both since the session began."""
    for name in session.channels():
        if name.startswith(THROTTLE_PREFIX) and not name.endswith(SINCE_BOOT_SUFFIX):
            mean = _mean(session, name, t0_us, t1_us)
            if mean is not None and mean > 0:
                cause = name.removeprefix(THROTTLE_PREFIX).replace("_", " ")
                return Limit("throttled", f"The device was throttled: {cause}.", COOL)
    faults = _mean(session, ENGINE_MAJOR_FAULTS, t0_us, t1_us)
    if faults is not None and faults >= MAJOR_FAULTS_PER_S:
        swapped = _mean(session, ENGINE_SWAP, t0_us, t1_us)
        if swapped is not None and swapped >= SWAPPED_BYTES:
            return Limit("swap", f"Memory of the engine was in swap: {swapped / 2**20:.0f} MiB.", SMALLER)
        text = f"The weights were read from the disk again: {faults:.0f} major page faults a second."
        return Limit("paging", text, SMALLER)
    return _limit_of_processor(session, t0_us, t1_us)


def _limit_of_processor(session: Session, t0_us: int, t1_us: int) -> Limit:
    """Who else takes processor time: the quota, the host of a virtual machine, or other programs."""
    cut_short = _mean(session, CPU_QUOTA, t0_us, t1_us)
    if cut_short is not None and cut_short >= QUOTA_PERCENT:
        text = f"The container's CPU quota was used up in {cut_short:.0f} % of the time slices."
        return Limit("cpu-quota", text, FEWER_OR_MORE_QUOTA)
    steal = _mean(session, CPU_STEAL, t0_us, t1_us) or 0.0
    if steal >= STEAL_PERCENT:
        text = f"The host of this virtual machine withheld {steal:.0f} % of the processor."
        return Limit("contention", text, SHARED_HOST)
    others = (_mean(session, CPU_OTHERS, t0_us, t1_us) or 0.0) - steal
    if others >= OTHERS_PERCENT:
        return Limit("contention", f"Other processes used {others:.0f} % of the processor.", CLOSE_OTHERS)
    return UNKNOWN


def limit_of_machine(
    prediction: Prediction | None, traffic: Traffic, tokens_per_s: float | None, *, idle_cores: bool = True
) -> Limit:
    """What in the machine itself limits decoding: its bandwidth where most of that is used.

    Otherwise it is what was predicted, as long as the speed that was predicted is reached: what is slower than it
    should be has some other reason. `idle_cores` says whether more threads would find cores.
    """
    use = traffic.use
    if prediction is None or use is None:
        return UNKNOWN
    expected = prediction.decode_tokens_per_s
    as_expected = expected is not None and tokens_per_s is not None and tokens_per_s >= expected.low
    if use >= MEMORY_BOUND_USE or (as_expected and prediction.limited_by == "memory-bandwidth"):
        text = f"Memory-bound: {f'{use * 100:.0f} %' if use < 1 else 'all'} of the memory bandwidth is used."
        return Limit("memory-bandwidth", text, LIGHTER)
    if as_expected and prediction.limited_by == "compute":
        text = f"Compute-bound: {use * 100:.0f} % of the memory bandwidth is used."
        return Limit("compute", text, MORE_CORES if idle_cores else ALL_CORES)
    if expected is not None and tokens_per_s is not None and tokens_per_s < expected.low:
        return Limit("unknown", f"Below the predicted {format_rate(expected.low)}; no cause found.")
    return UNKNOWN


def _mean(session: Session, channel: str, t0_us: int, t1_us: int) -> float | None:
    _, values = session.window(channel, t0_us, t1_us)
    return mean_of_present(values)


def mean_of_present(values: array[float]) -> float | None:
    """Mean of the readings that are not NaN; `None` if there are none."""
    if not values:
        return None
    total = sum(values)
    if total == total:  # noqa: PLR0124 (only NaN differs from itself)
        return total / len(values)
    present = [value for value in values if value == value]  # noqa: PLR0124
    return sum(present) / len(present) if present else None

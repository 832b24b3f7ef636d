"""What an engineer wants to know first: does it fit, and is it fast enough."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.core.energy.figure import Figure
from edgetop.fit.memory import MemoryNeed
from edgetop.fit.memory_room import MemoryRoom
from edgetop.fit.reading_speed import Pace, Reader, pace_of

Fit = Literal["fits", "tight", "does not fit"]

MARGIN_SHARE = 0.10
MARGIN_BYTES_MAX = 2**30
"""What llama.cpp itself leaves free on a device when it fits a model to it (--fit-target)."""
FITS: tuple[Fit, ...] = ("fits", "tight", "does not fit")
PACES: tuple[Pace, ...] = ("comfortable", "usable", "too slow for reading")
"""From good to bad."""


class Thresholds(Struct, frozen=True, kw_only=True):
    """Where one word of the verdict ends and the next one begins."""

    margin_share: float = MARGIN_SHARE
    """Share of the memory that should stay free, but never more than 1 GiB of it. With less, another program that is
    started pushes the weights out of memory, and each token waits for the disk."""
    reader: Reader = Reader()

    def margin_bytes(self, room: MemoryRoom) -> int:
        """What should stay free of this room."""
        return min(MARGIN_BYTES_MAX, round(self.margin_share * room.total_bytes))


class Verdict(Struct, frozen=True, kw_only=True):
    """A model with its settings on a machine, in words. `None` where there is nothing to judge by."""

    fit: Fit | None
    left_bytes: int | None
    """Room less need, negative where it does not fit."""
    pace: Pace | None
    pace_at_worst: Pace | None
    pace_at_best: Pace | None
    """By the ends of the predicted interval."""

    @property
    def words(self) -> str:
        """`fits, comfortable`; what is not known is said to be so."""
        return f"{self.fit or 'room not known'}, {self.pace or 'speed not known'}"

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller is better; what is not known comes after what is good and before what is bad."""
        fit = 1 if self.fit is None else FITS.index(self.fit)
        return fit, 1 if self.pace is None else PACES.index(self.pace)


def judge(
    need: MemoryNeed | None,
    room: MemoryRoom | None,
    decode_tokens_per_s: Figure | None,
    thresholds: Thresholds,
    *,
    gpu_room: MemoryRoom | None = None,
) -> Verdict:
    """The verdict on what is needed, what there is and how fast it would be.

    `gpu_room` is that of a GPU with memory of its own, where the model takes some of it.
    """
    fit, left_bytes = _fit(need, room, gpu_room, thresholds)
    speed, reader = decode_tokens_per_s, thresholds.reader
    return Verdict(
        fit=fit,
        left_bytes=left_bytes,
        pace=None if speed is None else pace_of(speed.value, reader),
        pace_at_worst=None if speed is None else pace_of(speed.low, reader),
        pace_at_best=None if speed is None else pace_of(speed.high, reader),
    )


def _fit(
    need: MemoryNeed | None, room: MemoryRoom | None, gpu_room: MemoryRoom | None, thresholds: Thresholds
) -> tuple[Fit | None, int | None]:
    """The fit and what is left, in the tighter of the two memories."""
    if need is None or room is None:
        return None, None
    on_gpu_bytes = need.gpu_bytes if gpu_room is not None else 0
    sides = [(room, need.needed_bytes - on_gpu_bytes)]
    if gpu_room is not None and on_gpu_bytes:
        sides.append((gpu_room, on_gpu_bytes))
    judged: list[tuple[int, int]] = []
    for side, needed_bytes in sides:
        left_bytes = side.available_bytes - needed_bytes
        block_bytes = side.largest_block_bytes
        too_large = block_bytes is not None and need.gpu_block_bytes > block_bytes
        bad = 2 if left_bytes < 0 or too_large else 1 if left_bytes < thresholds.margin_bytes(side) else 0
        judged.append((-bad, left_bytes))
    bad, left_bytes = min(judged)
    return FITS[-bad], left_bytes

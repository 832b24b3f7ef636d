"""How much of the memory bandwidth decoding takes: what must be read for each token, against what the memory gives."""

from __future__ import annotations

from math import isfinite

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.figures import TurnProgress
from edgetop.core.prediction import Prediction


class Traffic(Struct, frozen=True):
    """What was read from memory over some time, and what could have been, in bytes."""

    read_bytes: float = 0.0
    readable_bytes: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.read_bytes + other.read_bytes, self.readable_bytes + other.readable_bytes)

    @property
    def use(self) -> float | None:
        """The share of the bandwidth that was used; `None` where nothing is known of it."""
        share = self.read_bytes / self.readable_bytes if self.readable_bytes > 0 else None
        return share if share is not None and isfinite(share) else None


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

"""What is expected of a run; a past run to learn from."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edgetop.core.quantity import Interval, scaled
from edgetop.core.sources import Scope

Count = Annotated[int, Meta(ge=0, le=2**53)]
SpeedLimit = Literal["memory-bandwidth", "compute", "unknown"]


class Prediction(Struct, frozen=True, kw_only=True):
    """The figures a model was expected to reach with the settings it was loaded with, on the machine it was loaded on.

    What could not be predicted is `None`. Nothing measured in the session itself is in it.
    """

    memory_bytes: Count | None = None
    """What the process that holds the model was expected to have resident at its peak."""
    decode_tokens_per_s: Interval | None = None
    """At `depth_tokens`."""
    decode_s_per_position: float = 0.0
    """What each token more in the KV cache adds to the time of a token."""
    prefill_tokens_per_s: Interval | None = None
    first_token_s: Interval | None = None
    """For a prompt of `prompt_tokens`."""
    decode_j_per_token: Interval | None = None
    depth_tokens: Count
    """Tokens in the KV cache while decoding."""
    prompt_tokens: Count
    basis: str
    """What the speed rests on: `own sessions`, `calibrated`, `device table` or `formula`."""
    limited_by: SpeedLimit = "unknown"
    """What is expected to limit decoding where nothing else holds it back."""
    bytes_per_token: Count
    """Read from memory to decode a token: the weights that take part."""
    bytes_per_position: Count
    """... and so many more for each token in the KV cache."""
    bandwidth_bytes_per_s: float | None = None
    """Of the memory the weights lie in, with as many threads as decode; `None` if it was never measured or stated."""

    def decode_at(self, depth_tokens: float) -> Interval | None:
        """The decode rate with so many tokens in the KV cache; `None` where it cannot be told."""
        rate = self.decode_tokens_per_s
        if rate is None or rate.value <= 0:
            return None
        token_s = 1 / rate.value + self.decode_s_per_position * (depth_tokens - self.depth_tokens)
        return scaled(rate, 1 / token_s / rate.value) if token_s > 0 else None

    def first_token_at(self, evaluated_tokens: float) -> Interval | None:
        """The time to the first token of a prompt of which so many tokens are evaluated."""
        if self.first_token_s is None or not self.prompt_tokens:
            return None
        return scaled(self.first_token_s, evaluated_tokens / self.prompt_tokens)


class PastRun(Struct, frozen=True, kw_only=True):
    """One measured run of a recorded session. Rates are of the whole run."""

    session: str
    """Where it is recorded, in words for a person: the session's name."""
    measured_at: str
    """Wall clock, ISO 8601."""
    machine_key: str
    """`edgetop.core.records.machine_key` of the device as it was then, power mode among it."""
    model_name: str
    architecture: str
    parameters: int
    size_bytes: int
    """Bytes of all weights, as the engine says."""
    file_type: str
    """llama.cpp's label of the quantization, such as `Q4_K_M`."""
    weight_bytes_per_token: int | None = None
    """`None` where the model's file is no longer there to be asked."""
    threads: int
    gpu_layers: int = 0
    type_k: str = "f16"
    type_v: str = "f16"
    depth_tokens: int
    """Mean number of tokens in the KV cache while the reply was decoded."""
    decode_tokens: int
    decode_tokens_per_s: float
    prefill_tokens: int = 0
    prefill_tokens_per_s: float | None = None
    decode_j_per_token: float | None = None
    prefill_j_per_token: float | None = None
    energy_scope: Scope | None = None
    disturbed: bool = False
    """Throttled, paging, swapping or beside other busy processes: not what the device can do."""

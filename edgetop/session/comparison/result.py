"""One thing to compare: a recorded session, or a result of another benchmark."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.core.energy.grade import Letter
from edgetop.core.records import Scope

Kind = Literal["session", "llama-bench", "ollama"]
Condition = Literal["throttled", "contention", "paging", "swap", "on battery", "edgetop disturbed"]
"""What kept a run from being a clean measurement. The first four are those of `limited_by`."""
Made = Literal["ratio", "mean", "median", "pooled", "single"]
"""How a value comes from its repetitions: a ratio of totals, their mean or median, a percentile of what is in all of
them, or there is only the one."""


class Measured(Struct, frozen=True, kw_only=True):
    """One figure of a result."""

    value: float
    """As the session's summary or the bench has it, in the figure's own unit."""
    made: Made
    repetitions: tuple[float, ...] = ()
    """The same figure of each turn or repetition."""
    weights: tuple[float, ...] = ()
    """What each repetition weighs in a ratio of totals: its seconds for tokens per second, its tokens for joules per
    token; empty where all weigh the same."""
    deviation: float | None = None
    """Standard deviation of one repetition, where a bench tells only that and `count`."""
    count: int | None = None
    """Number of repetitions behind `deviation`."""
    within: float | None = None
    """Relative standard uncertainty of the value from what happened inside the turns: block bootstrap of token gaps."""
    u_random: float = 0.0
    """The sensor's standard uncertainty of the value that differs from window to window."""
    u_systematic: float = 0.0
    """The part that all windows of this meter share; it cancels on the same device and source only."""


class Speed(Struct, frozen=True, kw_only=True):
    """Decode rate over a session, in equal steps; `None` where nothing was decoded."""

    step_s: float
    tokens_per_s: tuple[float | None, ...]


class Result(Struct, frozen=True, kw_only=True):
    """Figures of one run, and what it ran on. An empty text or `None` is not known."""

    name: str
    """Short: the file's name without its ending, and the place in it where a file holds several results."""
    origin: str
    """The file."""
    more_origins: tuple[str, ...] = ()
    """Other sessions of the same setting of a benchmark, whose repetitions are here as well."""
    bench: str = ""
    """The setting of the benchmark that it is a part of; results of the same one are repetitions of each other."""
    kind: Kind
    when: str = ""
    """Wall clock, ISO 8601."""
    device: str = ""
    """The kind of machine: its board, or else its processor."""
    host: str = ""
    """The one machine of that kind."""
    model: str = ""
    quantization: str = ""
    bits_per_weight: float | None = None
    size_bytes: int | None = None
    parameters: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    kv_types: str = ""
    """`f16/f16`: of keys and values."""
    n_ctx: int | None = None
    depth: int | None = None
    """Tokens in the context where decoding began: of a session the mean over its turns."""
    power_mode: str = ""
    """Of the device, or else the processor's governor."""
    engine: str = ""
    """Name and version or build."""
    prompts: str = ""
    """Fingerprint of the different prompts in their order; equal ones ask the same. Of a bench, its test: `pp512`."""
    sequence: str = ""
    """Fingerprint of all prompts with their repetitions: of equal ones, repetition belongs to repetition."""
    turns: int = 0
    """Turns or repetitions."""
    generated_tokens: int = 0
    tags: tuple[str, ...] = ()
    conditions: dict[Condition, str] = {}
    """With a sentence each."""
    energy_scope: Scope | None = None
    energy_source: str = ""
    energy_grade: Letter | None = None
    energy_grade_reason: str = ""
    energy_method: str = ""
    absent: dict[str, str] = {}
    """Why a figure is missing, by its name."""
    figures: dict[str, Measured] = {}
    """By the names of `edgetop.session.comparison.figures`."""
    speed: Speed | None = None

    @property
    def origins(self) -> tuple[str, ...]:
        """All files it was made from."""
        return (self.origin, *self.more_origins)

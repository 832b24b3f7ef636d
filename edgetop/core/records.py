"""The timeline: everything that happens in a session, as a union of small frozen records.

A session is the fold of these records, in order. The live screen folds them as they come, the journal keeps one a
line, and recovery folds the journal again, so all of them arrive at the same session.

`t_us` is the clock of `edgetop.core.clock` in microseconds.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.core.engine import (
    EngineInfo,
    EnginePerf,
    EngineSettings,
    MemoryBreakdown,
    ModelInfo,
    SamplingSettings,
)
from edgetop.core.prediction import Prediction
from edgetop.core.quality import Quality

FORMAT_VERSION = 1

StopReason = Literal[
    "end_of_generation", "max_tokens", "stop_string", "cancelled", "context_full", "engine_died", "failed"
]
Part = Literal["answer", "reasoning"]
Scope = Literal[
    "wall",
    "dc_in",
    "board_input",
    "module",
    "platform",
    "battery",
    "board_rails",
    "cpu_package",
    "gpu_board",
    "component",
]
"""What a power reading covers, widest first; the first available is the headline."""
SourceKind = Literal["gauge", "power", "energy"]
SessionKind = Literal["chat", "watch"]
"""Whether a model of our own answered, or model servers and processes of others were watched."""


class Missing(Struct, frozen=True):
    """Why a reading is not there, and what would bring it."""

    reason: str
    mend: str = ""


class Channel(Struct, frozen=True, kw_only=True):
    """One quantity that a source reads."""

    name: str
    """Dotted and unique in a session: `memory.available`, `cpu.0`, `power.VDD_IN`."""
    unit: str
    """`%`, `B`, `W`, `J`, `Cel`, `Hz`, `1/s` or `1`."""
    label: str = ""
    """As the device names it, where that differs."""
    digits: int = 0
    """Decimal places that mean anything; recorded values are rounded to them."""
    scope: Scope | None = None


class SourceInfo(Struct, frozen=True, kw_only=True):
    """Where readings come from."""

    name: str
    driver: str
    """The interface, such as `procfs` or `hwmon ina3221`."""
    path: str = ""
    kind: SourceKind = "gauge"
    period_s: float
    channels: tuple[Channel, ...]
    properties: dict[str, str | float | bool] = {}
    """What an estimator or a reader must know besides: window, gain, offset, calibration."""


class DeviceInfo(Struct, frozen=True, kw_only=True):
    """The machine a session was recorded on."""

    hostname: str
    model: str = ""
    cpu: str = ""
    cores_physical: int | None = None
    cores_logical: int | None = None
    memory_bytes: int | None = None
    system: str = ""
    governor: str = ""
    power_mode: str = ""
    virtualised: str = ""


class BenchRun(Struct, frozen=True, kw_only=True):
    """Which part of a benchmark a session is."""

    plan: str
    """The plan's identity; the sessions of one plan belong together."""
    setting: str
    """One combination of model, threads and so on; sessions of the same one are repetitions."""
    round: int
    """From 1."""


class SessionStarted(Struct, frozen=True, kw_only=True, tag="session"):
    """The first record: who measures, where and when."""

    t_us: int
    session_id: str
    started_at: str
    """Wall clock, ISO 8601 in UTC."""
    edgetop_version: str
    device: DeviceInfo
    text_recorded: bool = True
    power: str | None = None
    """The power source that the person chose by name, `none` for no power; `None` leaves the choice to edgetop."""
    bench: BenchRun | None = None
    kind: SessionKind = "chat"
    format_version: int = FORMAT_VERSION


class ModelLoaded(Struct, frozen=True, kw_only=True, tag="model"):
    """A model is resident; the turns that follow are its."""

    t_us: int
    load_s: float
    model: ModelInfo
    engine: EngineInfo
    settings: EngineSettings
    memory: MemoryBreakdown = MemoryBreakdown()


class Predicted(Struct, frozen=True, kw_only=True, tag="prediction"):
    """What is expected of the model that was loaded last."""

    t_us: int
    prediction: Prediction


class Scored(Struct, frozen=True, kw_only=True, tag="quality"):
    """How well the model that was loaded last predicts."""

    t_us: int
    quality: Quality


class SourceAdded(Struct, frozen=True, kw_only=True, tag="source"):
    """A source of readings was found; its `Sampled` records follow."""

    source: SourceInfo


class SourceMissing(Struct, frozen=True, kw_only=True, tag="no_source"):
    """A kind of reading that this machine does not give, and why."""

    name: str
    missing: Missing


TokensCounted = Literal["all", "ended", "running", "nothing"]
"""Which generated tokens a watched server tells the number of: all at once, those of a request when it has ended, those
of running requests alone, or none."""


class ServiceSeen(Struct, frozen=True, kw_only=True, tag="service"):
    """A model process or a model server that is watched was found, or more is known of it: the last one counts.

    What its users ask and what it answers is never looked at.
    """

    t_us: int
    number: int
    """From 1; its channels begin with `server.<number>.`."""
    kind: str
    """The program, such as `llama-server`, `ollama` or `llama-cli`."""
    version: str = ""
    address: str = ""
    """Where it is asked; empty for a process that is no server, or whose address is not known."""
    pid: int | None = None
    """Its process on this machine, where that is known."""
    models: tuple[str, ...] = ()
    counts: TokensCounted = "nothing"
    no_count: Missing | None = None
    """Why it does not count all of them, and what would make it."""


class TurnStarted(Struct, frozen=True, kw_only=True, tag="turn"):
    """A prompt was submitted."""

    turn: int
    t_us: int
    prompt: str | None
    """`None` when text is not recorded."""
    system: str | None = None
    sampling: SamplingSettings = SamplingSettings()
    retry_of: int | None = None
    task: str = ""
    """What a benchmark measures with it, such as `pp512`, `tg128@d4096` or `prompt:summary`."""
    warmup: bool = False
    """It only brings model and device into their stride; its figures do not count."""


class Prefill(Struct, frozen=True, kw_only=True, tag="prefill"):
    """Prompt tokens evaluated so far; the first one of a turn has `done` = 0 and marks its beginning."""

    turn: int
    t_us: int
    done: int
    total: int
    """Tokens to evaluate, those reused from the KV cache not among them."""
    cached: int


class Tokens(Struct, frozen=True, kw_only=True, tag="tokens"):
    """Tokens as they were decoded: one stamp and one piece of text each.

    A piece is empty while a character is still incomplete, and when it came together with the piece before it.
    """

    turn: int
    t_us: tuple[int, ...]
    pieces: tuple[str, ...]
    part: Part = "answer"
    counted: bool = True
    """False: each piece is a chunk of which a server does not say how many tokens it holds."""


class TurnFinished(Struct, frozen=True, kw_only=True, tag="turn_end"):
    """The reply ended, one way or another."""

    turn: int
    t_us: int
    stop_reason: StopReason
    prompt_tokens: int
    """All tokens of the prompt, reused ones among them."""
    cached_tokens: int
    generated_tokens: int
    """End-of-generation tokens not among them."""
    context_used: int
    """Tokens in the KV cache after the turn."""
    seed: int | None = None
    perf: EnginePerf | None = None
    error: str = ""
    counted: bool = True
    """False: a server did not say how many tokens it generated, and `generated_tokens` counts its chunks."""


class Sampled(Struct, frozen=True, kw_only=True, tag="sample"):
    """One reading of a source: a value per channel, in the source's order; `None` where it is missing."""

    source: str
    t_us: int
    values: tuple[float | None, ...]
    reasons: tuple[str, ...] = ()
    """Empty when nothing is missing; else one per channel, empty where there is a value."""


class Event(Struct, frozen=True, kw_only=True, tag="event"):
    """Something a reader of the figures must know."""

    t_us: int
    kind: str
    """`throttled`, `sensor_lost`, `engine_died`, `engine_restarted`, `suspended`, `recording_paused` ..."""
    text: str
    """One line for a person."""
    data: dict[str, str | float | bool] = {}


Record = (
    SessionStarted
    | ModelLoaded
    | Predicted
    | Scored
    | SourceAdded
    | SourceMissing
    | ServiceSeen
    | TurnStarted
    | Prefill
    | Tokens
    | TurnFinished
    | Sampled
    | Event
)

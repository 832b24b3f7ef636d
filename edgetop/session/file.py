"""The types of a session file.

A session file is one JSON object. Its first line holds everything but the long parts, so that a list of sessions reads
one line of each. Stamps are whole microseconds since the session began; columns of stamps hold differences, which are
short. `session.schema.json` is generated from these types.

A file says `version` 1. A newer edgetop may add fields, which older ones keep when they write the file again; anything
else that changes raises the version.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from edgetop.core.engine import EngineInfo, EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo, SamplingSettings
from edgetop.core.figures import Summary, TurnFigures
from edgetop.core.prediction import Prediction
from edgetop.core.quality import Quality
from edgetop.core.records import (
    FORMAT_VERSION,
    BenchRun,
    DeviceInfo,
    Missing,
    Part,
    SessionKind,
    SourceInfo,
    StopReason,
    TokensCounted,
)
from edgetop.core.watch_figures import WatchFigures
from edgetop.session.series import LARGEST, MissingRun

Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Stamp = Annotated[int, Meta(ge=-LARGEST, le=LARGEST, description="Microseconds since the session began.")]
Value = Annotated[int, Meta(ge=-LARGEST, le=LARGEST)] | Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] | None
"""A reading; whole ones are written without a fraction and read as they are written."""


class LoadEntry(Struct, frozen=True, kw_only=True):
    """A model that was loaded; the turns after `t_us` are its."""

    t_us: Stamp
    load_s: float
    model: ModelInfo
    engine: EngineInfo
    settings: EngineSettings
    memory: MemoryBreakdown


class PredictionEntry(Struct, frozen=True, kw_only=True):
    """What was expected of the model that was loaded last before `t_us`."""

    t_us: Stamp
    prediction: Prediction


class QualityEntry(Struct, frozen=True, kw_only=True):
    """How well the model that was loaded last before `t_us` predicts."""

    t_us: Stamp
    quality: Quality


class ServiceEntry(Struct, frozen=True, kw_only=True):
    """A model process or a model server of others that was watched; its channels begin with `server.<number>.`."""

    t_us: Stamp
    number: Count
    kind: str
    """The program."""
    version: str = ""
    address: str = ""
    pid: Count | None = None
    models: tuple[str, ...] = ()
    counts: TokensCounted = "nothing"
    no_count: Missing | None = None
    """Why it does not count all tokens, and what would make it."""


class SessionHead(Struct, frozen=True, kw_only=True):
    """The first line of a session file: who, where, which model, and the figures."""

    format: Literal["edgetop-session"] = "edgetop-session"
    version: int = FORMAT_VERSION
    id: str
    started_at: str
    """Wall clock, ISO 8601 in UTC."""
    clock_us: Count = 0
    """The recording machine's monotonic clock when the session began."""
    duration_us: Count
    edgetop_version: str
    text_recorded: bool = True
    power: str | None = None
    """The power source that the person chose by name; `none` for no power at all."""
    tags: tuple[str, ...] = ()
    notes: str = ""
    device: DeviceInfo
    loads: tuple[LoadEntry, ...] = ()
    predictions: tuple[PredictionEntry, ...] = ()
    """What was expected of them before they ran, at most one for each."""
    bench: BenchRun | None = None
    """Which part of a benchmark it is."""
    quality: tuple[QualityEntry, ...] = ()
    absent: dict[str, Missing] = {}
    """Kinds of reading that the machine does not give, and why."""
    kind: SessionKind = "chat"
    services: tuple[ServiceEntry, ...] = ()
    """What was watched, in the order in which it was found."""
    watch: WatchFigures | None = None
    """What they did for all their users; `null` where nothing was watched."""
    summary: Summary = Summary()


class TurnStamps(Struct, frozen=True, kw_only=True):
    """When a turn did what; `None` for what it did not come to."""

    submitted_us: Stamp
    prefill_us: Stamp | None = None
    """When the first prompt token was about to be evaluated."""
    first_token_us: Stamp | None = None
    last_token_us: Stamp | None = None
    finished_us: Stamp | None = None


class PrefillColumns(Struct, frozen=True, kw_only=True):
    """How the prefill went on."""

    total: Count
    """Tokens to evaluate, without the `cached` ones."""
    cached: Count
    dt_us: tuple[Count, ...]
    """The first one since the turn was submitted, each other one since its predecessor."""
    done: tuple[Count, ...]
    """Tokens evaluated by then."""


class TokenColumns(Struct, frozen=True, kw_only=True):
    """Tokens of a reply."""

    dt_us: list[Count] = []
    """The first one since the turn was submitted, each other one since its predecessor."""
    chars: list[Count] = []
    """Characters (code points) of the reply that each token gave."""
    counted: bool = True
    """False: the stamps are those of chunks, of which a server did not say how many tokens each holds."""


class ReplySpan(Struct, frozen=True, kw_only=True):
    """Tokens in a row of the same part of a reply."""

    part: Part
    tokens: Count
    text: str


class TurnEnd(Struct, frozen=True, kw_only=True):
    """How a turn ended, as the engine said."""

    stop_reason: StopReason
    prompt_tokens: Count
    cached_tokens: Count
    generated_tokens: Count
    context_used: Count
    seed: int | None = None
    perf: EnginePerf | None = None
    error: str = ""
    counted: bool = True
    """False: `generated_tokens` counts chunks."""


class TurnEntry(Struct, frozen=True, kw_only=True):
    """A prompt and its reply."""

    turn: int
    prompt: str | None
    """`None` when text was not recorded."""
    system: str | None = None
    retry_of: int | None = None
    task: str = ""
    """What a benchmark measures with it."""
    warmup: bool = False
    """Its figures do not count."""
    sampling: SamplingSettings
    stamps: TurnStamps
    figures: TurnFigures
    end: TurnEnd | None = None
    reply: tuple[ReplySpan, ...] = ()
    prefill: PrefillColumns | None = None
    tokens: TokenColumns = TokenColumns()


class EventEntry(Struct, frozen=True, kw_only=True):
    """Something a reader of the figures must know."""

    t_us: Stamp
    kind: str
    text: str
    data: dict[str, str | float | bool] = {}


class SeriesEntry(Struct, frozen=True, kw_only=True):
    """What one source read."""

    source: SourceInfo
    dt_us: list[Stamp]
    """The first one since the session began, each other one since its predecessor and not negative."""
    values: dict[str, list[Value]]
    """By channel, as long as `dt_us`; `null` where a reading is missing."""
    missing: dict[str, list[MissingRun]] = {}
    """By channel, for the readings that are missing: index of the first, how many, and why."""


class SessionFile(SessionHead, frozen=True, kw_only=True):
    """A session, whole."""

    turns: tuple[TurnEntry, ...] = ()
    events: tuple[EventEntry, ...] = ()
    series: tuple[SeriesEntry, ...] = ()


LONG_PARTS: Final = ("turns", "events", "series")
"""What does not stand on the first line."""

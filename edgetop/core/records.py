"""The timeline's records, once for journal and file; number bounds; device key; past runs to learn from.

A session is the fold of these records, in order. The live screen folds them as they come, the journal keeps one a
line, and recovery folds the journal again, so all of them arrive at the same session.

`t_us` is the clock of `edgetop.core.clock` in microseconds; in a session and in its file it counts from the session's
beginning. What a file holds under a name of its own is declared as an entry, and its record is the same with a tag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from edgetop.core.energy.duty import Duty
from edgetop.core.engine_settings import (
    EngineInfo,
    EnginePerf,
    EngineSettings,
    MemoryBreakdown,
    ModelInfo,
    SamplingSettings,
)
from edgetop.core.quantity import Interval, scaled
from edgetop.core.sources import Scope, SourceInfo, Unavailable


class Score(Struct, frozen=True, kw_only=True):
    """A score and its standard error."""

    value: float
    error: float


class Quality(Struct, frozen=True, kw_only=True):
    """Scores of one model on one text and one set of questions."""

    text: str
    """Its name: `built-in`, or the file's name."""
    text_digest: str
    """SHA-256 of the text; scores of different texts cannot be compared."""
    n_ctx: int
    """Tokens in a chunk; the second half of each is scored."""
    tokens: int
    """Positions that were scored."""
    perplexity: Score
    """exp of the mean negative log-likelihood of the next token: lower is better."""
    reference: str = ""
    """The level that this one was compared with; empty if it is the reference itself, or there is none."""
    kl_divergence: Score | None = None
    """Mean Kullback-Leibler divergence from the reference's predictions, in nats."""
    kl_p99: float | None = None
    top_agreement: float | None = None
    """Share of positions where the likeliest token is the reference's."""
    questions: int = 0
    accuracy: Score | None = None
    """Share of questions answered right: of multiple choice, those whose right choice is the likeliest as `scoring`
    says."""
    questions_name: str = ""
    """The file's name; empty for the built-in ones."""
    questions_digest: str = ""
    """SHA-256 of what was asked and how; only scores with the same one can be compared question by question."""
    scoring: str = ""
    """How choices were weighed and what stood before them."""
    accuracy_sum: float | None = None
    """The share where the whole choice is the likeliest: `acc` of lm-evaluation-harness."""
    accuracy_per_token: float | None = None
    """The share where it is so in the mean of its tokens, as llama-perplexity's --multiple-choice has it."""
    answers: str = ""
    """`1` for each question answered right and `0` for the others, in their order, by `accuracy`."""


FORMAT_VERSION = 1

REPLY_CHARACTERS_MAX: Final = 4 * 2**20
"""Of one reply, the text of some books. A file of two such replies can be read however their characters are written."""

REPLY_TOKENS_MAX: Final = 2**20

TOKENS_MAX: Final = 2**26
"""Of one answer, prompt or context; the longest context of any model is a sixth of it."""

LARGEST: Final = 2**53
"""Whole numbers up to here are exact in every JSON reader; as microseconds they are 285 years."""

Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Stamp = Annotated[int, Meta(ge=-LARGEST, le=LARGEST, description="Microseconds since the session began.")]

StopReason = Literal[
    "end_of_generation", "max_tokens", "stop_string", "cancelled", "context_full", "engine_died", "failed"
]

ReplyPart = Literal["answer", "reasoning"]

SessionKind = Literal["chat", "watch"]
"""Whether a model of our own answered, or model servers and processes of others were watched."""


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
    kernel: str = ""
    firmware: str = ""
    """Such as `JetPack's L4T 36.4.3`, a Raspberry Pi's EEPROM or a BIOS, each with its date or version."""
    microcode: str = ""
    cpu_quota: float | None = None
    """CPUs that a control group grants, as of a container; `None` without a limit."""


class BenchRun(Struct, frozen=True, kw_only=True):
    """Which part of a benchmark a session is."""

    plan: str
    """The plan's identity; the sessions of one plan belong together."""
    setting: str
    """One combination of model, threads and so on; sessions of the same one are repetitions."""
    round: int
    """From 1."""
    soak_s: float | None = None
    """How long the tests were done over and over; `None` where each was done its few times."""


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
    use: Duty = Duty()
    kind: SessionKind = "chat"
    format_version: int = FORMAT_VERSION


class LoadEntry(Struct, frozen=True, kw_only=True):
    """A model that was loaded; the turns after `t_us` are its."""

    t_us: Stamp
    load_s: float
    model: ModelInfo
    engine: EngineInfo
    settings: EngineSettings
    memory: MemoryBreakdown


class ModelLoaded(LoadEntry, frozen=True, kw_only=True, tag="model"):
    """A model is resident; the turns that follow are its."""

    memory: MemoryBreakdown = MemoryBreakdown()


class PredictionEntry(Struct, frozen=True, kw_only=True):
    """What was expected of the model that was loaded last before `t_us`."""

    t_us: Stamp
    prediction: Prediction


class Predicted(PredictionEntry, frozen=True, kw_only=True, tag="prediction"):
    """What is expected of the model that was loaded last."""


class QualityEntry(Struct, frozen=True, kw_only=True):
    """How well the model that was loaded last before `t_us` predicts."""

    t_us: Stamp
    quality: Quality


class Scored(QualityEntry, frozen=True, kw_only=True, tag="quality"):
    """How well the model that was loaded last predicts."""


class SourceAdded(Struct, frozen=True, kw_only=True, tag="source"):
    """A source of readings was found; its `Sampled` records follow."""

    source: SourceInfo


class SourceMissing(Struct, frozen=True, kw_only=True, tag="no_source"):
    """A kind of reading that this machine does not give, and why."""

    name: str
    missing: Unavailable


TokensCounted = Literal["all", "ended", "running", "nothing"]
"""Of which generated tokens a watched server reports the number: all at once, those of a request when it has ended,
those of running requests alone, or none."""


class HostServed(Struct, frozen=True, kw_only=True):
    """What the servers of one of several hosts have done since it was first connected to."""

    generated_tokens: Count | None = None
    at_least: bool = False
    measured_tokens: Count = 0
    """Those that the energy was spent on."""
    energy_j: Interval | None = None
    """Gross, over all the time that counts there."""
    scope: str = ""
    """What its meters cover."""
    energy_missing: str = ""


class ServiceEntry(Struct, frozen=True, kw_only=True):
    """A model process or a model server of others that was watched; its channels begin with `server.<number>.`."""

    t_us: Stamp
    number: Count
    """From 1."""
    kind: str
    """The program, such as `llama-server`, `ollama` or `llama-cli`."""
    version: str = ""
    address: str = ""
    """Where it is asked; empty for a process that is no server, or whose address is not known."""
    pid: Count | None = None
    """Its process on this machine, where that is known."""
    models: tuple[str, ...] = ()
    counts: TokensCounted = "nothing"
    no_count: Unavailable | None = None
    """Why it does not count all tokens, and what would make it."""
    served: HostServed | None = None
    """Of a host of several, told once a minute and at its end."""


class ServiceSeen(ServiceEntry, frozen=True, kw_only=True, tag="service"):
    """A watched process or server was found, or more is known of it: the last one counts.

    What its users ask and what it answers is never read.
    """


class RequestEntry(Struct, frozen=True, kw_only=True):
    """A request that another program, or a benchmark with several clients, sent to a server, and its answer."""

    t_us: Stamp
    """When it ended; it began `took_us` before."""
    took_us: Count
    client: str
    """Address, and the program as it calls itself."""
    model: str = ""
    path: str = ""
    status: Count | None = None
    """Of HTTP; `None` where no answer came."""
    outcome: str
    """`complete`, or who ended it before."""
    error: str = ""
    first_token_us: Count | None = None
    """Since it began; `None` for an answer that came as a whole."""
    last_token_us: Count | None = None
    chunks: Count = 0
    """Pieces with text that came; the first is taken to hold as many tokens as the mean one."""
    gap_p50_ms: float | None = None
    """Between tokens of the answer."""
    gap_p95_ms: float | None = None
    prompt_tokens: Count | None = None
    """All tokens of the prompt, as the server counts them."""
    cached_tokens: Count | None = None
    """Those of them that it had not to process again."""
    prefill_us: Count | None = None
    """How long it processed the others, as it says."""
    reread_tokens: Count | None = None
    """Tokens of the prompt that it processed though it had seen them; `None` where it does not say what it kept."""
    reread_why: str = ""
    generated_tokens: Count | None = None
    counted: bool = True
    """False: the server did not count, and `generated_tokens` are the chunks that came."""
    at_once: Count | None = None
    """How many clients a benchmark had then; `None` for a request of another program."""
    chunk_us: tuple[Count, ...] = ()
    """When each piece with text came, since it began; of a benchmark."""
    prompt: str | None = None
    """`None` unless texts are kept, as of the next one."""
    reply: str | None = None


class RequestServed(RequestEntry, frozen=True, kw_only=True, tag="request"):
    """Such a request has ended."""


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
    part: ReplyPart = "answer"
    counted: bool = True
    """False: each piece is a chunk of which a server does not say how many tokens it holds."""
    reasoned_before: bool = False
    """What came before in the reply was reasoning, as a mark says that ended it and had no beginning."""


class TurnFinished(Struct, frozen=True, kw_only=True, tag="turn_end"):
    """The reply ended, one way or another."""

    turn: int
    t_us: int
    stop_reason: StopReason
    prompt_tokens: int | None
    """All tokens of the prompt, reused ones among them; `None` where a server does not say."""
    cached_tokens: int | None
    generated_tokens: int
    """End-of-generation tokens not among them."""
    hidden_tokens: int = 0
    """Those of them that a server counted and did not show: reasoning."""
    context_used: int | None
    """Tokens in the KV cache after the turn; `None` where a server does not say."""
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


class EventEntry(Struct, frozen=True, kw_only=True):
    """Something a reader of the figures must know."""

    t_us: Stamp
    kind: str
    """`throttled`, `sensor_lost`, `engine_died`, `engine_restarted`, `suspended`, `paused`, `edgetop_paused`,
    `recording_paused` ..."""
    text: str
    """One line for a person."""
    data: dict[str, str | float | bool] = {}


STOOD_STILL: Final = "stopped, in a container that was paused, or on a machine that was halted or far overloaded"
"""Why a process did nothing for long."""


class Event(EventEntry, frozen=True, kw_only=True, tag="event"):
    """An event, as it happens."""


Record = (
    SessionStarted
    | ModelLoaded
    | Predicted
    | Scored
    | SourceAdded
    | SourceMissing
    | ServiceSeen
    | RequestServed
    | TurnStarted
    | Prefill
    | Tokens
    | TurnFinished
    | Sampled
    | Event
)

LARGEST_FRACTION: Final = 1e30
"""Squares of these, and products of several, are still finite."""

COLUMNS: Final = frozenset({"dt_us", "chars", "done", "values", "missing"})
"""Fields that are not gone through: they are long, and have their bounds in their types or are judged as a whole."""

PERIODS_S: Final = (1e-6, 1e7)
"""How often a source can be read: once a microsecond, which is the clock's step, to once in four months."""


def number_problems(value: object, place: str = "$") -> Iterator[str]:
    """Where a number below `place` is beyond all bounds, each in one line that begins with the place.

    Goes through structs, mappings and sequences, but not through columns.
    """
    match value:
        case bool() | str() | None:
            return
        case int():
            if not -LARGEST <= value <= LARGEST:
                yield f"{place}: a whole number beyond 2^53"
        case float():
            # Also true of NaN, which no comparison holds for.
            if not -LARGEST_FRACTION <= value <= LARGEST_FRACTION:
                yield f"{place}: a number beyond {LARGEST_FRACTION:g}"
        case _:
            for step, part in _parts(value):
                yield from number_problems(part, f"{place}{step}")
            if isinstance(value, SourceInfo) and not PERIODS_S[0] <= value.period_s <= PERIODS_S[1]:
                yield f"{place}.period_s: a period of {value.period_s:g} s, in which nothing can be read"


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """The parts of a value, each with its step in a path."""
    match value:
        case Struct():
            names = (name for name in value.__struct_fields__ if name not in COLUMNS)
            yield from ((f".{name}", getattr(value, name)) for name in names)
        case Mapping():
            yield from ((f".{name}", each) for name, each in value.items())
        case list() | tuple():
            yield from ((f"[{index}]", each) for index, each in enumerate(value))


def machine_key(device: DeviceInfo) -> str:
    """What a machine in one power mode is known by: model, CPU, cores, quota, memory, power mode and governor.

    The name of the host is not in it, nor what changes with an update of the system.
    """
    from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, and a device of the table has no key

    parts = (
        device.model, device.cpu, device.cores_physical, device.cores_logical, _gib(device.memory_bytes),
        device.power_mode, device.governor, *([] if device.cpu_quota is None else [device.cpu_quota]),
    )  # fmt: skip
    return sha256("\n".join("" if part is None else str(part) for part in parts).encode()).hexdigest()[:24]


def _gib(size_bytes: int | None) -> int | None:
    return None if size_bytes is None else round(size_bytes / 2**30)


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
        """The decode rate with so many tokens in the KV cache; `None` where it is not known."""
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
    type_k: str | None = "f16"
    type_v: str | None = "f16"
    depth_tokens: int
    """Mean number of tokens in the KV cache while the reply was decoded."""
    decode_tokens: int
    decode_tokens_per_s: float
    sustained_tokens_per_s: float | None = None
    """In the last minute of a soak, `sustained_after_s` after it began."""
    sustained_after_s: float | None = None
    prefill_tokens: int = 0
    prefill_tokens_per_s: float | None = None
    decode_j_per_token: float | None = None
    prefill_j_per_token: float | None = None
    energy_scope: Scope | None = None
    disturbed: bool = False
    """Throttled, paging, swapping or beside other busy processes: not what the device can do."""

"""The plan of a benchmark: what is asked for, in TOML or flags, and what is measured, as it is kept on disk.

Both have the same fields where they say the same; the bounds of a request are those of its types.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from edgetop.core.engine_choices import FlashAttention, KvType
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import UsageError
from edgetop.io.files import read_small
from edgetop.settings import options
from edgetop.settings.option import Option

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Order = Literal["interleaved", "blocks"]

Wanted = Literal["speed", "energy"]
"""Tokens a second of decoding, or joules a token."""


Positive = Annotated[int, Meta(ge=1, lt=2**31)]

TokenCount = Annotated[int, Meta(ge=0, lt=2**24)]

Seconds = Annotated[float, Meta(ge=0, le=86_400)]

MARGIN_TOKENS = 64
"""Left of the context beyond what the largest test takes, for the template of a prompt."""

WARMUP_PROMPT, WARMUP_PROMPT_LEAST, WARMUP_REPLY = 512, 32, 8
"""Tokens of a warm-up. The prompt is that of the largest test, up to one ubatch as llama.cpp has it by default: only
then has all the memory that prefill computes in been touched."""

CTX_STEP = 256
"""llama.cpp pads a context to a multiple of this."""


class ModelFile(Struct, frozen=True, kw_only=True):
    """One model at one quantization level."""

    path: str
    label: str
    """What tables call it, such as `SmolLM2-135M-Instruct Q4_0`."""
    content: str = ""
    """A digest of the file, so that a plan that is resumed goes on with the same model."""


class Setting(Struct, frozen=True, kw_only=True):
    """One combination of what is varied."""

    model: ModelFile
    threads: int | None = None
    threads_batch: int | None = None
    kv_type: KvType = "f16"
    gpu_layers: int | None = None
    batch: int | None = None
    ubatch: int | None = None
    cache_type_k: KvType | None = None
    cache_type_v: KvType | None = None
    flash_attn: FlashAttention | None = None
    cpu_mask: str | None = None
    prio: int | None = None
    n_cpu_moe: int | None = None
    override_tensor: str | None = None
    """Rules with semicolons between; as with the two below, `none` is a setting without."""
    lora: str | None = None
    """Files with semicolons between."""
    model_draft: str | None = None

    @property
    def key(self) -> str:
        """Says which setting it is, for people and to find its runs again."""
        chosen = {name: getattr(self, name) for name in _WORDS}
        words = [f"{_WORDS[name]}{value}" for name, value in chosen.items() if value is not None]
        return " ".join([self.model.label, *(word for word in words if word != "kv f16")])


_WORDS: dict[str, str] = {
    "threads": "t", "threads_batch": "tb", "kv_type": "kv ", "gpu_layers": "ngl ", "batch": "b", "ubatch": "ub",
    "cache_type_k": "ctk ", "cache_type_v": "ctv ", "flash_attn": "fa ", "cpu_mask": "mask ", "prio": "prio ",
    "n_cpu_moe": "ncmoe ", "override_tensor": "ot ", "lora": "lora ", "model_draft": "md ",
}  # fmt: skip
"""What stands before a value in a setting's key."""

WITHOUT = "none"
"""Of rules and files: a setting that has none."""


class TokenTest(Struct, frozen=True, kw_only=True, tag="tokens"):
    """Random tokens, as in llama-bench: a prompt, then one by one, at a depth of the context."""

    n_prompt: int = 0
    n_gen: int = 0
    depth: int = 0

    @property
    def name(self) -> str:
        """As llama-bench names it: `pp512`, `tg128`, `pp512+tg128`, `tg128@d4096`."""
        parts = [f"pp{self.n_prompt}"] if self.n_prompt else []
        parts += [f"tg{self.n_gen}"] if self.n_gen else []
        return "+".join(parts) + (f"@d{self.depth}" if self.depth else "")

    @property
    def tokens(self) -> int:
        """How much of the context it takes."""
        return self.n_prompt + self.n_gen + self.depth


class PromptTest(Struct, frozen=True, kw_only=True, tag="prompt"):
    """A real conversation: one or more prompts, answered greedily."""

    title: str
    prompts: tuple[str, ...]
    max_tokens: int

    @property
    def name(self) -> str:
        """Such as `prompt:summary`."""
        return f"prompt:{self.title}"

    @property
    def tokens(self) -> int:
        """How much of the context it takes at most: a token has rarely fewer than two characters."""
        return sum(len(prompt) // 2 for prompt in self.prompts) + self.max_tokens * len(self.prompts)


Test = TokenTest | PromptTest


class CoolDown(Struct, frozen=True, kw_only=True):
    """When a run may begin: the device has come to rest, or has had the time for it."""

    idle_s: float = 11.0
    """Idle time at least before each run where power is measured, and until the idle power is known: that takes ten
    steady seconds (`core.energy.baseline`). With 0 nothing is waited for."""
    limit_s: float = 120.0
    """After this the run begins anyway, and says so."""
    temperature_slope_c_per_min: float = 2.0
    """At rest, the hottest sensor falls or rises by less."""
    power_spread: float = 0.05
    """At rest, the power of the last seconds lies within this share of its mean."""


class QuestionItem(Struct, frozen=True):
    """One question, or with `raw` a text to be continued. `right` is the index of the right choice.

    One choice alone is to be matched exactly.
    """

    question: str
    choices: tuple[str, ...]
    right: int
    raw: bool = False


class QualityPlan(Struct, frozen=True, kw_only=True):
    """How quality is scored."""

    text: str
    """The text itself."""
    text_name: str = "built-in"
    n_ctx: int = 512
    chunks: int | None = None
    questions: bool = True
    asked: tuple[QuestionItem, ...] = ()
    """Questions of a file; none are the built-in ones."""
    asked_name: str = ""
    """The file's name."""
    shots: int = 0
    """So many of the first questions stand with their answers before each of the others, and are not scored."""


class Until(Struct, frozen=True, kw_only=True):
    """When a figure of decoding is known well enough."""

    percent: float
    """Half the 95 % interval of the mean is at most this much of it; of energy, what repetitions can make narrower."""
    of: Wanted = "speed"
    limit: int = 30
    """Repetitions of a setting at most."""


UNTIL_LEAST = 3
"""Repetitions before an interval is believed: two may be equal by chance."""


class Plan(Struct, frozen=True, kw_only=True):
    """All of it."""

    name: str
    settings: tuple[Setting, ...]
    tests: tuple[Test, ...]
    repetitions: int = 5
    order: Order = "interleaved"
    warmup: bool = True
    cool_down: CoolDown = CoolDown()
    quality: QualityPlan | None = None
    seed: int = 0
    server: str = ""
    """Address of the server whose models they are; empty for models of our own engine."""
    soak_s: float = 0.0
    """The tests are done over and over for so long, once for each setting; 0 for their repetitions."""
    until: Until | None = None
    """Further repetitions of those settings of which too little is known after `repetitions`."""

    @property
    def identity(self) -> str:
        """The same for the same plan: its runs are found again by it."""
        said = msgspec.to_builtins(self)
        if self.quality is not None and not self.quality.asked:
            for name in ("asked", "asked_name", "shots"):
                del said["quality"][name]
        for name in ("until", "soak_s"):
            if not said[name]:
                del said[name]
        for setting in said["settings"]:
            for name in _LATER_FIELDS:
                if setting[name] is None:
                    del setting[name]
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:12]

    @property
    def warmup_test(self) -> TokenTest:
        """What is done before the tests of a run, and does not count."""
        longest = max((test.n_prompt for test in self.tests if isinstance(test, TokenTest)), default=0)
        return TokenTest(n_prompt=max(WARMUP_PROMPT_LEAST, min(longest, WARMUP_PROMPT)), n_gen=WARMUP_REPLY)

    @property
    def n_ctx(self) -> int:
        """The context that every setting is loaded with, so that they can be compared: enough for the largest test."""
        needed = max((test.tokens for test in self.tests), default=0) + MARGIN_TOKENS
        return -(-needed // CTX_STEP) * CTX_STEP


_LATER_FIELDS = tuple(_WORDS)[6:]
"""Of a setting; a plan that does not use them is the same as before there were any."""


class BenchRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be measured, before models are looked for. Lists are varied against each other."""

    name: str = "bench"
    models: tuple[str, ...] = ()
    """As after `-m`; the last model used if there are none."""
    quant: tuple[str, ...] = ()
    """Levels to make of each model; none measures the models as they are."""
    threads: tuple[Positive, ...] = ()
    threads_batch: tuple[Positive, ...] = ()
    kv_type: tuple[KvType, ...] = ("f16",)
    gpu_layers: tuple[Annotated[int, Meta(ge=0, lt=2**32)], ...] = ()
    batch: tuple[Positive, ...] = ()
    ubatch: tuple[Positive, ...] = ()
    cache_type_k: tuple[KvType, ...] = ()
    cache_type_v: tuple[KvType, ...] = ()
    flash_attn: tuple[FlashAttention, ...] = ()
    cpu_mask: tuple[str, ...] = ()
    prio: tuple[Annotated[int, Meta(ge=-1, le=3)], ...] = ()
    n_cpu_moe: tuple[Annotated[int, Meta(ge=0, le=10_000)], ...] = ()
    override_tensor: tuple[str, ...] = ()
    lora: tuple[str, ...] = ()
    model_draft: tuple[str, ...] = ()
    n_prompt: tuple[TokenCount, ...] = (512,)
    n_gen: tuple[TokenCount, ...] = (128,)
    pairs: tuple[tuple[TokenCount, TokenCount], ...] = ()
    """Prompt and reply in one test, as with `-pg`."""
    n_depth: tuple[TokenCount, ...] = (0,)
    prompts: bool = False
    """The built-in prompts, too."""
    max_tokens: Positive | None = None
    """Shortens the answers to the prompts."""
    repetitions: Positive = 5
    until_percent: Annotated[float, Meta(ge=0.1, le=100)] | None = None
    """Repeat until half the 95 % interval is at most so much of the mean."""
    until_of: Wanted = "speed"
    until_limit: Positive = 30
    soak_s: Seconds = 0.0
    """Do the tests over and over for so long."""
    order: Order = "interleaved"
    warmup: bool = True
    idle_s: Seconds | None = None
    cool_down_limit_s: Seconds | None = None
    quality: bool | str = False
    """True for the built-in text, or the file of another one."""
    questions: str = ""
    """A file of JSON Lines with questions."""
    question_columns: str = ""
    """Such as `prompt=ctx,choices=endings,answer=label`."""
    shots: Annotated[int, Meta(ge=0, le=64)] = 0
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0


class Run(Struct, frozen=True, kw_only=True):
    """A setting's turn: the model is loaded, warmed up, and every test is done `repetitions` times."""

    setting: Setting
    round: int
    """From 1."""
    repetitions: int

    @property
    def key(self) -> tuple[str, int]:
        """Tells the runs of a plan apart."""
        return self.setting.key, self.round


def runs_of(plan: Plan) -> list[Run]:
    """The runs in their order.

    Interleaved, every setting has a turn in each round, and every second round goes backwards, so that a device that
    slows down steadily slows all of them alike. In blocks, a setting does all its repetitions at once. A plan without
    tests, which scores quality alone, has no runs.
    """
    if not plan.tests:
        return []
    if plan.soak_s:
        return [Run(setting=setting, round=1, repetitions=1) for setting in plan.settings]
    if plan.order == "blocks" or len(plan.settings) == 1:
        return [Run(setting=setting, round=1, repetitions=plan.repetitions) for setting in plan.settings]
    runs: list[Run] = []
    for number in range(1, plan.repetitions + 1):
        settings: Sequence[Setting] = plan.settings if number % 2 else plan.settings[::-1]
        runs += [Run(setting=setting, round=number, repetitions=1) for setting in settings]
    return runs


def decode_test(tests: Iterable[Test]) -> Test | None:
    """The test whose rate is decode speed: the longest tg at the least depth, else the first prompt."""
    known = list(tests)
    tokens = [test for test in known if isinstance(test, TokenTest) and test.n_gen and not test.n_prompt]
    if tokens:
        return min(tokens, key=lambda test: (test.depth, -test.n_gen))
    return next((test for test in known if isinstance(test, PromptTest)), None)


def settings_of(models: Sequence[ModelFile], request: BenchRequest) -> tuple[Setting, ...]:
    """Every combination of what is varied, the models varying slowest."""
    varied = product(
        models, *(getattr(request, name) or (None,) for name in Setting.__struct_fields__ if name != "model")
    )
    return tuple(Setting(**dict(zip(Setting.__struct_fields__, values, strict=True))) for values in varied)


def token_tests(request: BenchRequest) -> tuple[TokenTest, ...]:
    """llama-bench's tests: every prompt length and every reply length by itself, and pairs of both, at every depth."""
    lengths = [
        *((n_prompt, 0) for n_prompt in request.n_prompt if n_prompt),
        *((0, n_gen) for n_gen in request.n_gen if n_gen),
        *request.pairs,
    ]
    tests = product(request.n_depth, lengths)
    return tuple(dict.fromkeys(TokenTest(n_prompt=prompt, n_gen=gen, depth=depth) for depth, (prompt, gen) in tests))


def read_request(path: Path) -> BenchRequest:
    """The request in a TOML file. Raises UsageError, naming the file and the place."""
    try:
        text = read_small(path).decode("utf-8")
        return _checked(msgspec.convert(tomllib.loads(text), BenchRequest), f"{path}: ")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: {error}", "a plan is written in TOML") from None
    except msgspec.ValidationError as error:
        names = ", ".join(BenchRequest.__struct_fields__)
        raise UsageError(f"{path}: {error}", f"a plan may say {names}") from None


def changed_request(request: BenchRequest, **changes: object) -> BenchRequest:
    """The request with other values. Raises UsageError for one that is out of bounds."""
    try:
        return _checked(msgspec.convert({**msgspec.structs.asdict(request), **changes}, BenchRequest), "")
    except msgspec.ValidationError as error:
        raise UsageError(str(error), "see `edgetop bench --help`") from None


def _checked(request: BenchRequest, where: str) -> BenchRequest:
    """The request, if its texts are what the options of the same names take. Raises UsageError."""
    for option in options.BENCH_AXES:
        for value in getattr(request, option.name):
            try:
                _fields(option, value)
            except ValueError as error:
                raise UsageError(f"{where}$.{option.name}: {value!r} is not valid", f"expected {error}") from None
    return request


def require_tests(request: BenchRequest) -> None:
    """Raise UsageError where there is nothing to measure."""
    asked = request.pairs or request.prompts or request.quality or request.questions
    if not (any(request.n_prompt) or any(request.n_gen) or asked):
        raise UsageError("there is nothing to measure", "give -p, -n, --pg, --prompts or --quality")


def engine_settings(setting: Setting, n_ctx: int) -> EngineSettings:
    """How the engine is to be run for a setting."""
    fields: dict[str, object] = {"n_ctx": n_ctx}
    for option in options.BENCH_AXES:
        fields |= _fields(option, getattr(setting, option.name))
    return msgspec.convert(fields, EngineSettings)


def _fields(option: Option[object], value: object) -> dict[str, object]:
    """Fields of EngineSettings that an axis sets. Raises ValueError."""
    if value is None or value == WITHOUT:
        return {}
    if option is options.LORA:
        value = tuple(str(Path(file).expanduser().absolute()) for file in str(value).split(";"))
    elif option is options.MODEL_DRAFT:
        value = str(Path(str(value)).expanduser().absolute())
    elif isinstance(value, str):
        value = option.parse(value)
    return dict.fromkeys(option.sets, value)

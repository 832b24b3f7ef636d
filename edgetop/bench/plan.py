"""The plan of a benchmark: what is asked for, in TOML or flags, and what is measured, as it is kept on disk.

Both have the same fields where they say the same; the bounds of a request are those of its types. The built-in prompts
tell a damaged model from a sound one, not a good one from a better one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from itertools import product
from math import prod
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple, replace

from edgetop.core.engine_choices import FlashAttention, KvType
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import UsageError
from edgetop.core.records import number_problems
from edgetop.io.files import as_utf8, expanded, read_small, read_toml
from edgetop.settings import options
from edgetop.settings.option import Option, clock_limits_hz, fan_share, name_of_mode

Order = Literal["interleaved", "blocks"]

PageCache = Literal["cold", "warm"]

Wanted = Literal["speed", "energy"]
"""Tokens a second of decoding, or joules a token."""


Positive = Annotated[int, Meta(ge=1, lt=2**31)]

TOKENS_MOST = 2**24
TokenCount = Annotated[int, Meta(ge=0, lt=TOKENS_MOST)]

Seconds = Annotated[float, Meta(ge=0, le=86_400)]

MEASUREMENTS_MOST = 100_000
"""Of one plan, which at a second each would take more than a day."""

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
    """Rules with semicolons between; as with those below, `none` is a setting without."""
    lora: str | None = None
    """Files with semicolons between."""
    model_draft: str | None = None
    rpc: str | None = None
    """Hosts with commas between."""
    power_mode: str | None = None
    """Of the device, as its governor, clocks and fan are; what is `None` is left as it is."""
    governor: str | None = None
    cpu_clock: str | None = None
    fan: str | None = None
    memory_clock: str | None = None
    page_cache: PageCache | None = None
    """Whether the model's file stands in the page cache when it is loaded; `None` takes it as it is."""

    @property
    def key(self) -> str:
        """Says which setting it is, for people and to find its runs again."""
        chosen = {name: getattr(self, name) for name in _WORDS}
        words = [f"{_WORDS[name]}{value}" for name, value in chosen.items() if value is not None]
        return " ".join([self.model.label, *(word for word in words if word != "kv f16")])


_WORDS: dict[str, str] = {
    "threads": "t", "threads_batch": "tb", "kv_type": "kv ", "gpu_layers": "ngl ", "batch": "b", "ubatch": "ub",
    "cache_type_k": "ctk ", "cache_type_v": "ctv ", "flash_attn": "fa ", "cpu_mask": "mask ", "prio": "prio ",
    "n_cpu_moe": "ncmoe ", "override_tensor": "ot ", "lora": "lora ", "model_draft": "md ", "power_mode": "mode ",
    "governor": "governor ", "cpu_clock": "clock ", "fan": "fan ", "memory_clock": "memory ", "page_cache": "loaded ",
    "rpc": "rpc ",
}  # fmt: skip
"""What stands before a value in a setting's key."""

DEVICE_AXES: dict[str, Callable[[str], object]] = {
    "power_mode": name_of_mode, "governor": name_of_mode, "cpu_clock": clock_limits_hz, "fan": fan_share,
    "memory_clock": clock_limits_hz,
}  # fmt: skip
"""Fields of a setting that the device is set to, in the order in which they are set: a mode sets clocks too. Each with
what its text has to be."""

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
    """Idle time at least where power is measured, before the first run of each setting without the model and with it,
    and until the idle power is known: that takes ten steady seconds (`core.energy.baselines`). The other runs of a
    setting begin once the device is as it was, unless its meter is so slow that the energy of a test rests on the idle
    power. With 0 nothing is waited for."""
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
    template: bool = False
    """Each question stands in the model's chat template."""
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
        if self.quality is not None and not self.quality.template:
            del said["quality"]["template"]
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
    rpc: tuple[str, ...] = ()
    power_mode: tuple[str, ...] = ()
    governor: tuple[str, ...] = ()
    cpu_clock: tuple[str, ...] = ()
    fan: tuple[str, ...] = ()
    memory_clock: tuple[str, ...] = ()
    page_cache: tuple[PageCache, ...] = ()
    n_prompt: tuple[TokenCount, ...] = (512,)
    n_gen: tuple[TokenCount, ...] = (128,)
    pairs: tuple[tuple[TokenCount, TokenCount], ...] = ()
    """Prompt and reply in one test, as with `-pg`."""
    n_depth: tuple[TokenCount, ...] = (0,)
    prompts: bool = False
    """The built-in prompts, too."""
    prompt: tuple[str, ...] = ()
    """A prompt of one's own, or the turns of a conversation, in place of the usual tests."""
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
    question_template: bool = False
    """Ask each question in the model's chat template."""
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
        return _checked(msgspec.convert(read_toml(path, regular=False), BenchRequest), f"{path}: ")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "check the path") from None
    except msgspec.ValidationError as error:
        names = ", ".join(BenchRequest.__struct_fields__)
        raise UsageError(f"{path}: {error}", f"a plan may say {names}") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}", "a plan is written in TOML") from None


def changed_request(request: BenchRequest, **changes: object) -> BenchRequest:
    """The request with other values. Raises UsageError for one that is out of bounds."""
    try:
        return _checked(msgspec.convert({**msgspec.structs.asdict(request), **changes}, BenchRequest), "")
    except msgspec.ValidationError as error:
        raise UsageError(str(error), "see `edgetop bench --help`") from None


def _checked(request: BenchRequest, where: str) -> BenchRequest:
    """The request, if its texts are what the options of the same names take, and it can end. Raises UsageError."""
    axes = [len(getattr(request, name) or "1") for name in ("models", "quant", *Setting.__struct_fields__[1:])]
    tests = len(request.n_depth) * (len(request.n_prompt) + len(request.n_gen) + len(request.pairs)) + 1
    if (asked := prod(axes) * tests * request.repetitions) > MEASUREMENTS_MOST:
        raise UsageError(f"{where}that would be some {asked} measurements", f"{MEASUREMENTS_MOST} are the most")
    checks: dict[str, Callable[[Any], object]] = {each.name: partial(_fields, each) for each in options.BENCH_AXES}
    for name, check in {**checks, **DEVICE_AXES}.items():
        for value in getattr(request, name):
            try:
                check(value)
            except ValueError as error:
                raise UsageError(f"{where}$.{name}: {value!r} is not valid", f"expected {error}") from None
    return request


def require_possible(plan: Plan) -> None:
    """Raise ValueError for a plan of somebody else that no edgetop would have made, such as one that never ends."""
    for problem in number_problems(plan):
        raise ValueError(problem)
    if not 0 < plan.repetitions * max(1, len(plan.settings)) * max(1, len(plan.tests)) <= MEASUREMENTS_MOST:
        raise ValueError(f"it has more than {MEASUREMENTS_MOST} measurements, or none")
    for test in plan.tests:
        counts = astuple(test) if isinstance(test, TokenTest) else (test.max_tokens,)
        if not all(0 <= count < TOKENS_MOST for count in counts):
            raise ValueError(f"{test.name} has a number of tokens that cannot be")


def require_tests(request: BenchRequest) -> None:
    """Raise UsageError where there is nothing to measure."""
    asked = request.pairs or request.prompts or request.prompt or request.quality or request.questions
    if not (any(request.n_prompt) or any(request.n_gen) or asked):
        raise UsageError("there is nothing to measure", "give -p, -n, --pg, --prompt, --prompts or --quality")


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


def prompt_of(item: QuestionItem) -> str:
    """What stands before a choice; the choices begin with a space."""
    return item.question if item.raw else f"Question: {item.question}\nAnswer:"


COLUMNS: dict[str, tuple[str, ...]] = {
    "question": ("question", "query"),
    "prompt": ("prompt", "ctx", "input"),
    "choices": ("choices", "options", "endings"),
    "answer": ("answer", "answerKey", "label", "gold", "target"),
}
"""What a line of a file of questions may call its fields: MMLU, ARC, HellaSwag and their like."""

QUESTIONS_BYTES_MAX, QUESTIONS_MAX = 64 * 2**20, 100_000


def read_questions(path: Path, columns: str = "") -> tuple[QuestionItem, ...]:
    """The questions of a file of JSON Lines; `columns` names its fields, such as `prompt=ctx,choices=endings`.

    `choices` is a list of texts, or `{"text": [...], "label": [...]}`; `answer` is the right one's label, index, letter
    or text. Without choices, the answer is to be matched exactly. Raises UsageError with file and line.
    """
    names = dict(COLUMNS)
    for word in filter(None, columns.split(",")):
        ours, equals, theirs = word.partition("=")
        if not equals or not theirs or ours.strip() not in names:
            raise UsageError(f"--question-columns: {word!r} is not valid", f"such as prompt=ctx; {', '.join(names)}")
        names[ours.strip()] = (theirs.strip(),)
    try:
        with path.open("rb") as file:
            data = file.read(QUESTIONS_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "give a file of JSON Lines to --questions") from None
    if len(data) > QUESTIONS_BYTES_MAX:
        raise UsageError(f"{path}: it is larger than 64 MiB", "a few thousand questions are enough")
    items = []
    for number, line in enumerate(as_utf8(data).splitlines(), 1):
        if not line.strip():
            continue
        try:
            items.append(_item(msgspec.json.decode(line, type=dict[str, Any]), names))
        except (ValueError, RecursionError) as error:
            hint = "a line is an object with question (or prompt), choices and answer; --question-columns maps others"
            raise UsageError(f"{path}, line {number}: {error}", hint) from None
        if len(items) > QUESTIONS_MAX:
            raise UsageError(f"{path}: it has more than {QUESTIONS_MAX} questions", "a few thousand are enough")
    if not items:
        raise UsageError(f"{path}: it has no questions", "a line is an object with question, choices and answer")
    return tuple(items)


def _item(line: dict[str, Any], names: Mapping[str, tuple[str, ...]]) -> QuestionItem:
    """The question of a line. Raises ValueError."""
    found = {ours: next((line[name] for name in theirs if name in line), None) for ours, theirs in names.items()}
    raw = found["question"] is None
    question, answer = found["prompt" if raw else "question"], found["answer"]
    choices: Any = found["choices"]
    if not isinstance(question, str):
        raise ValueError("it has no question")  # noqa: TRY004 - told like all that is wrong with a line
    if answer is None or isinstance(answer, bool | dict | list):
        raise ValueError("it has no answer")
    if choices is None:
        return QuestionItem(question, (_continuation(str(answer)),), 0, raw)
    labels: Any = None
    if isinstance(choices, dict):
        labels, choices = choices.get("label"), choices.get("text")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(each, str) for each in choices):
        raise ValueError("its choices are not two or more texts")
    return QuestionItem(question, tuple(map(_continuation, choices)), _right(answer, choices, labels), raw)


def _continuation(text: str) -> str:
    """With the space that a choice begins with."""
    return text if text[:1].isspace() else f" {text}"


def _right(answer: Any, choices: list[str], labels: Any) -> int:  # noqa: ANN401 - what stands in the file
    if isinstance(labels, list) and answer in labels[: len(choices)]:
        return labels.index(answer)
    if answer in choices:
        return choices.index(answer)
    text = str(answer).strip()
    index = int(text) if text.isdecimal() else ascii_uppercase.find(text.upper()) if len(text) == 1 else -1
    if not 0 <= index < len(choices):
        raise ValueError(f"the answer {text[:40]!r} is none of its choices")
    return index


QUESTIONS: tuple[QuestionItem, ...] = tuple(
    QuestionItem(question, tuple(f" {choice}" for choice in choices), right)
    for question, choices, right in (
        ("Which planet is closest to the Sun?", ("Venus", "Mercury", "Mars", "Saturn"), 1),
        ("What is the capital of Italy?", ("Rome", "Madrid", "Athens", "Vienna"), 0),
        ("How many legs does a spider have?", ("six", "ten", "eight", "four"), 2),
        ("What do bees make?", ("milk", "honey", "bread", "silk"), 1),
        (
            "At what temperature does water freeze?",
            ("0 degrees Celsius", "50 degrees Celsius", "90 degrees Celsius"),
            0,
        ),
        ("Which animal says meow?", ("a dog", "a cow", "a cat", "a duck"), 2),
        ("What is the opposite of hot?", ("cold", "warm", "dry", "loud"), 0),
        ("Who wrote the play Hamlet?", ("Charles Dickens", "Isaac Newton", "William Shakespeare", "Mark Twain"), 2),
        ("What is two plus two?", ("three", "four", "seven", "nine"), 1),
        ("Which gas do plants take in from the air?", ("carbon dioxide", "helium", "neon", "argon"), 0),
        ("What is the largest ocean on Earth?", ("the Arctic Ocean", "the Pacific Ocean", "the Indian Ocean"), 1),
        ("Which month comes after June?", ("May", "July", "December", "March"), 1),
        ("What do you use to cut paper?", ("a spoon", "scissors", "a pillow", "a cup"), 1),
        ("Which of these is a fruit?", ("a carrot", "a potato", "an apple", "an onion"), 2),
        ("In which country are the pyramids of Giza?", ("Egypt", "Norway", "Japan", "Brazil"), 0),
        ("What is frozen water called?", ("steam", "ice", "sand", "smoke"), 1),
        ("Which part of the body pumps blood?", ("the liver", "the lungs", "the heart", "the stomach"), 2),
        ("What is the currency of Japan?", ("the yen", "the euro", "the peso", "the rupee"), 0),
        ("How many days are there in a week?", ("five", "six", "seven", "twelve"), 2),
        ("Which metal is liquid at room temperature?", ("iron", "mercury", "copper", "gold"), 1),
        ("What does a thermometer measure?", ("weight", "distance", "temperature", "speed"), 2),
        ("Which animal is known for its long neck?", ("the giraffe", "the pig", "the mouse", "the frog"), 0),
        ("In which direction does the Sun rise?", ("in the west", "in the north", "in the east", "in the south"), 2),
        ("What is the chemical symbol for gold?", ("Ag", "Fe", "Au", "Pb"), 2),
        ("What do people wear on their feet?", ("gloves", "shoes", "hats", "scarves"), 1),
        ("Which instrument has black and white keys?", ("the drum", "the flute", "the piano", "the violin"), 2),
        ("Which season is the coldest?", ("winter", "summer", "spring", "autumn"), 0),
        ("What is the main ingredient of bread?", ("flour", "sugar", "meat", "chocolate"), 0),
        ("Which language is spoken in Brazil?", ("Portuguese", "Chinese", "Arabic", "Finnish"), 0),
        ("What is the square root of nine?", ("two", "three", "five", "eight"), 1),
        ("Who developed the theory of relativity?", ("Albert Einstein", "Napoleon", "Mozart", "Columbus"), 0),
        ("Which vehicle flies?", ("a bus", "a train", "an airplane", "a bicycle"), 2),
        ("What is the tallest mountain on Earth?", ("Mount Fuji", "Mount Everest", "Mont Blanc", "Mount Etna"), 1),
        ("What happens to ice when it gets warm?", ("it melts", "it burns", "it grows", "it sings"), 0),
        ("Which of these is used to write?", ("a pencil", "a fork", "a brick", "a shoe"), 0),
        ("Which organ do we see with?", ("the ears", "the nose", "the eyes", "the tongue"), 2),
        ("What is the capital of Germany?", ("Munich", "Paris", "Berlin", "Zurich"), 2),
        ("Which number is even?", ("seven", "eleven", "fourteen", "nineteen"), 2),
        ("What falls from clouds?", ("rain", "stones", "leaves", "coins"), 0),
        ("Where do fish live?", ("in trees", "in water", "in the sky", "under a bed"), 1),
    )
)


@cache
def reading_text() -> str:
    """English prose of about 1,600 words, for perplexity and for a summary."""
    return files("edgetop.bench").joinpath("reading.txt").read_text("utf-8")


LARGEST_TEXT_BYTES = 16 * 2**20


def quality_plan(request: BenchRequest) -> QualityPlan | None:
    """How quality is scored; the questions of a file bring the text with them."""
    if not request.questions:
        if request.shots or request.question_columns:
            raise UsageError("--shots and --question-columns say nothing without --questions", "give a file of them")
        if request.question_template and request.quality is False:
            raise UsageError("--question-template says nothing without --quality or --questions", "give one of them")
        text = _text_plan(request.quality)
        return None if text is None else replace(text, template=request.question_template)
    path = expanded(request.questions)
    items = read_questions(path, request.question_columns)
    if len(items) <= request.shots:
        raise UsageError(f"{path}: it has {len(items)} questions", "give fewer --shots: the others are scored")
    plan = _text_plan(request.quality or True)
    assert plan is not None  # noqa: S101 - there is a text
    return replace(plan, asked=items, asked_name=path.name, shots=request.shots, template=request.question_template)


def _text_plan(asked: bool | str) -> QualityPlan | None:
    if asked is False:
        return None
    if asked is True:
        return QualityPlan(text=reading_text())
    path = expanded(str(asked))
    try:
        data = read_small(path, LARGEST_TEXT_BYTES)
    except OSError as error:
        hint = "give a text file to --quality; a few pages are enough"
        raise UsageError(f"{path}: {error.strerror or error}", hint) from None
    return QualityPlan(text=as_utf8(data).decode("utf-8", "replace"), text_name=path.name)


_SUMMARY_CHARACTERS = 4000
"""Of the text: about 900 tokens, which is a long prompt on a small device."""


def prompt_tests(max_tokens: int | None = None) -> tuple[PromptTest, ...]:
    """The built-in prompts. `max_tokens` shortens every answer."""

    def limited(tokens: int) -> int:
        return tokens if max_tokens is None else min(tokens, max_tokens)

    part = reading_text()[:_SUMMARY_CHARACTERS].rsplit("\n", 1)[0]
    return (
        PromptTest(title="short", prompts=("Name three things that float on water.",), max_tokens=limited(32)),
        PromptTest(
            title="long",
            prompts=("Explain in detail how a bicycle stays upright while it is ridden, and what a rider does.",),
            max_tokens=limited(256),
        ),
        PromptTest(
            title="summary",
            prompts=(f"Summarise the following text in three sentences.\n\n{part}",),
            max_tokens=limited(128),
        ),
        PromptTest(
            title="code",
            prompts=("Write a Python function that returns the n-th Fibonacci number, with a docstring and a test.",),
            max_tokens=limited(192),
        ),
        PromptTest(
            title="turns",
            prompts=(
                "I want to grow tomatoes on a balcony. What do I need?",
                "How often should I water them?",
                "And what if the leaves turn yellow?",
            ),
            max_tokens=limited(96),
        ),
    )


ASKED, ASKED_TOKENS = "asked", 256
"""Title of the test of a prompt of one's own, and how many tokens its answer has at most without --max-tokens."""


def tests_of(request: BenchRequest) -> tuple[Test, ...]:
    """All tests of a request."""
    own = PromptTest(title=ASKED, prompts=request.prompt, max_tokens=request.max_tokens or ASKED_TOKENS)
    built_in = prompt_tests(request.max_tokens) if request.prompts else ()
    return (*token_tests(request), *((own,) if request.prompt else ()), *built_in)


LOOK_S = 2.0
"""So long idle power is looked at, where it was measured before an earlier run of the setting."""

CHARACTERS_PER_TOKEN = 4
"""Of English, about."""

"""llama-server, the server of llama.cpp, and llamafile, which contains it."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import ClassVar, NamedTuple
from urllib.parse import quote

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.core.records import TokensCounted
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.server.backend import (
    AnswerStream,
    ChatRequest,
    Delta,
    LoadedModel,
    Offer,
    Program,
    ServerBackend,
    TestTimings,
    error_in_stream,
    random_tokens,
    reported_settings,
)
from edgetop.inference.server.connection import Count, Note, ServerClient, Total, UnreadableError, decode, error_words
from edgetop.inference.server.openai import CHAT_PATH, Timings, chat_body, chat_stream, perf_of
from edgetop.inference.server.usage import (
    TOO_FAST,
    EndedCount,
    Metrics,
    ReportedCount,
    RequestCount,
    RunningCount,
    Slot,
    TokenSum,
    Usage,
    combined,
    count_in,
    names_without_folders,
    parse_metrics,
    text_at,
)
from edgetop.io.http import RequestError

COMPLETION_PATH = "/completion"


class _Meta(Struct):
    n_vocab: Count | None = None
    n_ctx_train: Count | None = None
    n_params: Total | None = None
    size: Total | None = None
    ftype: str | None = None


class _Status(Struct):
    value: str = ""


class _Model(Struct):
    id: str
    aliases: list[str] = []
    meta: _Meta | None = None
    status: _Status | None = None
    """Of a server that has several models and loads them when they are asked for."""


class _Models(Struct):
    data: list[_Model]


class _Defaults(Struct):
    n_ctx: Count | None = None


class _Props(Struct):
    """What edgetop uses of `/props`."""

    default_generation_settings: _Defaults | None = None
    model_path: str | None = None
    model_alias: str | None = None
    model_ftype: str | None = None
    build_info: str | None = None
    role: str | None = None
    """`router` for a server that has several models."""
    is_sleeping: bool | None = None
    """Of servers that can, since 2025."""


class _NextToken(Struct):
    n_decoded: Count = 0


class _Slot(Struct):
    id: Count
    is_processing: bool = False
    id_task: int | None = None
    n_ctx: Count | None = None
    n_prompt_tokens: Count | None = None
    """All tokens of the slot's context, generated ones included."""
    next_token: list[_NextToken] | _NextToken | None = None
    """A list since 2025."""


class LlamaServerBackend(ServerBackend):
    """llama-server."""

    kind = "llama-server"
    name = "llama-server"
    programs = (
        Program(r"(ik_|com\.docker\.)?llama-server\b|llama serve\b", "llama-server", 8080, 9931),
        Program(r"(\S*\.)?llamafiler?\b", "llamafile", 8080),
    )
    process_names = ("llama-server", "llama", "ik_llama-server", "com.docker.llama")
    has_token_tests = has_depth_tests = True
    load_request: ClassVar[dict[str, object]] = {"ignore_eos": True, "cache_prompt": False}
    health_path = "/health"

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._usage = _UsageReader()
        self._router: _RouterReader | None = None
        self._version: str | None = None

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """Only llama-server has `/props`."""
        try:
            props = client.get("/props", _Props)
        except RequestError as error:
            if error.cause == "loading":
                return True
            raise
        # LM Studio answers every path with 200 and an error; KoboldCpp has some of these paths, and no build.
        if props.build_info is None and props.default_generation_settings is not None:
            return text_at(client, "/api/extra/version") is None
        return props.build_info is not None or props.role is not None

    def version(self, client: ServerClient) -> str:
        """Its build. Raises RequestError."""
        return client.get("/props", _Props).build_info or ""

    def wait_until_ready(self, client: ServerClient, loading_s: float) -> None:
        """Wait until its model is loaded. Raises RequestError."""
        _props_once_loaded(client, "/props", loading_s)

    def offers(self, client: ServerClient) -> list[Offer]:
        """The models it has, most often one. Raises RequestError."""
        models = client.get("/v1/models", _Models).data
        self._models = {model.id: model for model in models}
        return [_offer(model) for model in models]

    def load(self, client: ServerClient, offer: Offer, settings: EngineSettings, loading_s: float) -> LoadedModel:
        """Wait until the model is loaded, and describe it. Raises RequestError."""
        query = f"?model={quote(offer.name, safe='')}" if len(self._models) > 1 else ""
        props = _props_once_loaded(client, f"/props{query}", loading_s)
        model = self._models.get(offer.name)
        meta = (model.meta if model is not None else None) or _Meta()
        size, parameters = meta.size, meta.n_params
        defaults = props.default_generation_settings
        return LoadedModel(
            name=offer.name,
            info=ModelInfo(
                path=props.model_path or offer.name,
                name=(props.model_alias or offer.name).rpartition("/")[2].removesuffix(".gguf"),
                quantization=meta.ftype or props.model_ftype or "",
                bits_per_weight=8 * size / parameters if size and parameters else None,
                size_bytes=size,
                parameters=parameters,
                n_ctx_train=meta.n_ctx_train,
                n_vocab=meta.n_vocab,
                chat_template="model",
            ),
            settings=reported_settings(settings, n_ctx=None if defaults is None else defaults.n_ctx),
            memory=MemoryBreakdown(weights_bytes=size),
            version=props.build_info or "",
        )

    def chat_request(self, command: Generate, model: LoadedModel, settings: EngineSettings) -> ChatRequest:
        """The request for an answer; the server continues a conversation that ends with the assistant's text."""
        sampling = command.sampling
        body = {
            **chat_body(command, model, settings),
            "timings_per_token": True,
            "return_progress": True,
            "cache_prompt": True,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "repeat_last_n": sampling.repeat_last_n,
        }
        return ChatRequest(path=CHAT_PATH, body=body)

    def chat_stream(self) -> AnswerStream:
        """Parses one answer."""
        return chat_stream("timings")

    def run_test(self, client: ServerClient, command: Measure, model: LoadedModel) -> TestTimings:
        """Evaluate random tokens and generate the tokens that follow. Raises RequestError."""
        return _run_test(client, command, model)

    def read_usage(self, client: ServerClient) -> Usage:
        """`/metrics` and `/slots`, as far as they are switched on. Raises RequestError."""
        if self._version is None:
            props = client.get("/props", _Props)
            self._version = props.build_info or ""
            self._router = _RouterReader() if props.role == "router" else None
        if self._router is not None:
            return self._router.read(client, self._version)
        return self._usage.read(client, sleepless=self.sleepless)


BACKENDS = (LlamaServerBackend,)


def _offer(model: _Model) -> Offer:
    meta = model.meta or _Meta()
    return Offer(
        name=model.id,
        aliases=tuple(model.aliases),
        size_bytes=meta.size,
        quantization=meta.ftype or "",
        parameters=meta.n_params,
        n_ctx_train=meta.n_ctx_train,
        loaded=None if model.status is None else model.status.value == "loaded",
    )


def _props_once_loaded(client: ServerClient, path: str, loading_s: float) -> _Props:
    """`/props` once the model is loaded; until then its status is 503."""
    deadline_s = time.monotonic() + loading_s
    while True:
        try:
            return client.get(path, _Props)
        except RequestError as error:
            if error.cause != "loading":
                raise
            if time.monotonic() >= deadline_s:
                raise RequestError(
                    f"The server still loads its model after {loading_s:g} s.", "Try again when it is done."
                ) from error
        client.wait_for_model()


def _run_test(client: ServerClient, command: Measure, model: LoadedModel) -> TestTimings:
    n_vocab, n_ctx = model.info.n_vocab, model.settings.n_ctx
    if not n_vocab:
        raise RequestError("The server does not report its vocabulary.", "Use a newer llama-server.")
    needed = command.depth + command.n_prompt + command.n_gen
    if n_ctx is not None and needed > n_ctx:
        raise RequestError(
            f"The test takes {needed} tokens and the server's context holds {n_ctx}.",
            "Start the server with a longer context.",
            cause="context",
        )
    depth, prompt = random_tokens(command, n_vocab)
    body = {
        "model": model.name,
        "prompt": depth + prompt,
        "n_predict": command.n_gen + 1,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "timings_per_token": True,
        "return_progress": True,
        "cache_prompt": command.depth > 0,
        # The depth is in the cache of one slot.
        **({"id_slot": 0} if command.depth else {}),
    }
    follower = _Follower(cached=command.depth if prompt else 0)
    with client.request("POST", COMPLETION_PATH, body, is_reply=True) as answer:
        client.raise_for_status(answer)
        for t_us, delta in completion_stream().deltas(answer):
            follower.add(t_us, delta)
            if delta.done:
                break
    return follower.timings(command)


class _Follower:
    """Collects the timings of a test from its answer."""

    def __init__(self, *, cached: int) -> None:
        self._cached = cached
        self._begun_us = monotonic_us()
        self._prefilled_us: int | None = None
        self._stamps: list[int] = []
        self._last = Delta()

    def add(self, t_us: int, delta: Delta) -> None:
        # A long prompt is reported after each of its batches; the first token comes after the last one.
        begins = self._prefilled_us is None or not delta.generated
        if begins and not self._stamps and delta.perf is not None and delta.perf.prefill_tokens:
            self._prefilled_us = t_us
        self._stamps += [t_us] * ((delta.generated or 0) - len(self._stamps))
        self._last = delta

    def timings(self, command: Measure) -> TestTimings:
        perf, cached = self._last.perf, self._last.cached_tokens
        if not self._last.done or perf is None or self._prefilled_us is None:
            raise RequestError("The server ended the test without its timings.", "Check its log.")
        if command.n_prompt + command.n_gen and cached != self._cached:
            raise RequestError(
                f"The server cached {cached or 0} of the {self._cached} tokens that the test begins with.",
                "Its model or its settings do not allow more: measure without -d.",
            )
        if len(self._stamps) != command.n_gen + 1:
            raise RequestError(f"The server generated {len(self._stamps)} tokens instead of {command.n_gen + 1}.")
        return TestTimings(
            prefill_us=max(self._begun_us, self._prefilled_us - round(perf.prefill_ms * 1000)),
            prefilled_us=self._prefilled_us,
            stamps=tuple(self._stamps),
            perf=perf,
        )


class _CompletionChunk(Struct):
    stop: bool = False
    timings: Timings | None = None
    error: object = None


def completion_stream() -> AnswerStream:
    """Parses the answer to a streamed request for a completion, its text left out."""
    return AnswerStream(_completion_delta)


def _completion_delta(event: bytes, note: Note) -> Delta:
    chunk = decode(event, _CompletionChunk, note)
    if chunk.error is not None:
        raise error_in_stream(error_words(event))
    timings = chunk.timings
    return Delta(
        generated=None if timings is None else timings.predicted_n,
        cached_tokens=None if timings is None else timings.cache_n,
        perf=None if timings is None else _perf_so_far(timings),
        done=chunk.stop,
    )


def _perf_so_far(timings: Timings) -> EnginePerf | None:
    """Also before a token was generated."""
    perf = perf_of(timings)
    if perf is not None or timings.prompt_ms is None:
        return perf
    return EnginePerf(
        prefill_ms=timings.prompt_ms, prefill_tokens=timings.prompt_n or 0, decode_ms=0.0, decode_tokens=0
    )


TRIES = 3
"""How often the counters are read until the one of ended requests and the ones of running requests belong together."""

_PROCESSING = "llamacpp:requests_processing"

MAY_SLEEP = Unavailable(
    "llama-server counts nothing without --metrics, and asking for its slots would keep it from sleeping",
    "start it with --metrics",
)
METRICS_OFF = Unavailable("llama-server does not count its tokens", "start it with --metrics")
ENDED_ONLY = Unavailable("llama-server counts the tokens of a request when it has ended", "start it with --slots")
RUNNING_ONLY = Unavailable("only tokens of running requests are seen", "start llama-server with --metrics")


class _Counted(NamedTuple):
    tokens: ReportedCount
    counts: TokensCounted
    no_count: Unavailable | None = None
    uncertainty: float = 0.0


PROPS_EVERY = 5
"""Idle polls from one look at whether the server sleeps to the next; `/props` has the whole chat template."""


class _UsageReader:
    """`/metrics`, `/props` and `/slots`, as far as they are switched on, of one model.

    A server that sleeps when nobody asks (`--sleep-idle-seconds`) is woken, and kept awake, by `/slots` alone: they are
    read while a request runs, or where it is known that the server never sleeps.

    The gauges of tokens per second are means since anybody last read them, so they are not used. Reading the counters
    does not change them.
    """

    def __init__(self, query: str = "") -> None:
        """`query` names the model to a server that has several."""
        self._query = query
        self._props: _Props | None = None
        self._until_props = 0
        self._has_metrics = self._has_slots = True
        self._requests = RequestCount()
        self._running = RunningCount()
        self._ended = EndedCount()
        self._served: set[int] = set()
        """Slots that have been seen at work."""

    def read(self, client: ServerClient, *, sleepless: bool) -> Usage:
        """See `ServerBackend.read_usage`."""
        props = self._props
        if props is None:
            props = self._props = client.get(f"/props{self._query}", _Props)
        may_sleep = props.is_sleeping is not None and not sleepless
        metrics, slots, consistent = self._read(client, may_sleep=may_sleep)
        is_idle = metrics is not None and not metrics.get(_PROCESSING, 1)
        self._until_props -= 1
        if may_sleep and (is_idle or metrics is None) and self._until_props <= 0:
            self._until_props = PROPS_EVERY
            props = self._props = client.get(f"/props{self._query}", _Props)
        counted = self._counted(metrics, slots, consistent=consistent, may_sleep=may_sleep)
        values = metrics or Metrics()
        running = None if slots is None else sum(slot.is_processing for slot in slots)
        return Usage(
            kind="llama-server",
            version=props.build_info or "",
            models=names_without_folders(props.model_alias or props.model_path or ""),
            asleep=may_sleep and bool(props.is_sleeping) and not running and (is_idle or metrics is None),
            tokens=counted.tokens,
            counts=counted.counts,
            no_count=counted.no_count,
            uncertainty=counted.uncertainty,
            prompt_tokens=count_in(values, "llamacpp:prompt_tokens_total"),
            running=count_in(values, _PROCESSING) if running is None else running,
            waiting=count_in(values, "llamacpp:requests_deferred"),
            slots=tuple(self._slot(slot) for slot in slots or ()),
            context_share=_context_share(slots or ()),
        )

    def _read(self, client: ServerClient, *, may_sleep: bool) -> tuple[Metrics | None, list[_Slot] | None, bool]:
        """Metrics and slots, and whether they are consistent: no request ended in between.

        A request that ends moves from the slots to the counter at one moment, between two answers.
        """
        metrics = self._metrics(client)
        if may_sleep and (metrics is None or not metrics.get(_PROCESSING)):
            # Without a request there are none to count; where that is not known, nothing can be asked.
            return metrics, None if metrics is None else [], True
        slots = self._slots(client)
        for _ in range(TRIES):
            if metrics is None or slots is None:
                return metrics, slots, True
            again = self._metrics(client)
            if again is not None and _ended(again) == _ended(metrics):
                return again, slots, True
            metrics, slots = again, self._slots(client)
        return metrics, slots, False

    def _counted(
        self, metrics: Metrics | None, slots: list[_Slot] | None, *, consistent: bool, may_sleep: bool
    ) -> _Counted:
        running = {_request(slot): _generated(slot) for slot in slots or () if slot.is_processing}
        ended = None if metrics is None else _ended(metrics)
        if ended is not None and slots is not None:
            return _Counted(self._requests.update(ended, running) if consistent else TOO_FAST, "all")
        if ended is not None and metrics is not None:
            uncertainty = self._ended.uncertainty(ended, metrics.get(_PROCESSING, 0.0))
            return _Counted(ended, "ended", ENDED_ONLY, uncertainty)
        if slots is not None:
            return _Counted(self._running.update(running), "running", RUNNING_ONLY, self._running.unseen)
        missing = MAY_SLEEP if may_sleep else METRICS_OFF
        return _Counted(missing, "nothing", missing)

    def _metrics(self, client: ServerClient) -> Metrics | None:
        if not self._has_metrics:
            return None
        text = text_at(client, f"/metrics{self._query}")
        self._has_metrics = text is not None
        return None if text is None else parse_metrics(text)

    def _slots(self, client: ServerClient) -> list[_Slot] | None:
        if not self._has_slots:
            return None
        text = text_at(client, f"/slots{self._query}")
        self._has_slots = text is not None
        if text is None:
            return None
        slots = decode(text.encode(), list[_Slot])
        if len(slots) != len(decode(text.encode(), list[object])):
            # Without one of them the count would be too low.
            raise UnreadableError(text.encode())
        return slots

    def _slot(self, slot: _Slot) -> Slot:
        generated = _generated(slot)
        if slot.is_processing:
            self._served.add(slot.id)
        # A slot that has served nothing yet says little of itself, and its zeros mean nothing.
        is_known = slot.id in self._served or bool(slot.n_prompt_tokens)
        return Slot(
            number=slot.id,
            doing=("decode" if generated else "prefill") if slot.is_processing else "idle",
            generated=generated if slot.is_processing else None,
            context_used=slot.n_prompt_tokens if is_known else None,
            n_ctx=slot.n_ctx,
        )


class _RouterReader:
    """A server that has several models and loads them when they are asked for: each loaded one by itself."""

    def __init__(self) -> None:
        self._readers: dict[str, _UsageReader] = {}
        self._tokens = TokenSum()

    def read(self, client: ServerClient, version: str) -> Usage:
        """See `ServerBackend.read_usage`. No model is loaded by it."""
        models = client.get("/v1/models", _Models).data
        loaded = [model.id for model in models if model.status is not None and model.status.value in _LOADED]
        self._readers = {name: self._readers.get(name, _UsageReader(_query(name))) for name in loaded}
        usages: dict[Hashable, Usage] = {}
        for name, reader in self._readers.items():
            try:
                usages[name] = reader.read(client, sleepless=False)
            except RequestError as error:
                # It may have been unloaded since it was listed.
                if error.cause not in {"missing", "refused", "loading"}:
                    raise
        if not usages:
            tokens = self._tokens.update({})
            return Usage(kind="llama-server", version=version, tokens=tokens, counts="all", running=0)
        return combined(
            usages, Usage(kind="llama-server", version=version, models=tuple(map(str, usages)), tokens=0), self._tokens
        )


_LOADED = frozenset({"loaded", "sleeping"})


def _query(model: str) -> str:
    return f"?model={quote(model, safe='')}&autoload=false"


def _context_share(slots: Sequence[_Slot]) -> float | None:
    """Share of the KV cache that running requests use; `None` where it is not reported."""
    used = [slot.n_prompt_tokens for slot in slots if slot.is_processing]
    n_ctx = sum(slot.n_ctx or 0 for slot in slots)
    known = [tokens for tokens in used if tokens is not None]
    return sum(known) / n_ctx if n_ctx and len(known) == len(used) else None


def _request(slot: _Slot) -> int:
    return -1 - slot.id if slot.id_task is None else slot.id_task


def _generated(slot: _Slot) -> int:
    next_token = slot.next_token
    if isinstance(next_token, list):
        return max((each.n_decoded for each in next_token), default=0)
    return 0 if next_token is None else next_token.n_decoded


def _ended(metrics: Metrics) -> int | None:
    """Tokens of requests that have ended."""
    return count_in(metrics, "llamacpp:tokens_predicted_total")

"""Llama-server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.core.records import TokensCounted
from edgetop.core.sources import Unavailable
from edgetop.core.token_counts import TOO_FAST, ReportedCount, RequestCount, RunningCount
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.server.backend import (
    ChatRequest,
    Count,
    Delta,
    Found,
    Offer,
    TestTimings,
    deltas_of,
    random_tokens,
    require_tokens,
)
from edgetop.inference.server.connection import HttpClient, SseReader, decode, error_words
from edgetop.inference.server.openai import (
    CHAT_PATH,
    ChatStream,
    Timings,
    failure_in_stream,
    messages_of,
    perf_of,
    reported_settings,
    sampling_of,
)
from edgetop.inference.server.usage import Slot, Usage, count_in, parse_metrics, shown_names, text_at
from edgetop.io.http import RequestError

PATH = "/completion"


class _Chunk(Struct):
    stop: bool = False
    timings: Timings | None = None
    error: object = None


class CompletionStream:
    """The answer to a streamed request for a completion, its text left out."""

    def __init__(self) -> None:
        self._reader = SseReader()

    def feed(self, data: bytes) -> list[Delta]:
        """What `data` completes. Raises ServerFailure."""
        return [_delta(event) for event in self._reader.feed(data)]

    def finish(self) -> list[Delta]:
        """What the end of the stream completes."""
        return [_delta(event) for event in self._reader.finish()]

    def as_document(self) -> None:
        """A document is no event, so that nothing comes of it."""


def run_test(exchange: HttpClient, command: Measure, found: Found) -> TestTimings:
    """Let a server do a test. Raises ServerFailure."""
    n_vocab, n_ctx = found.model.n_vocab, found.settings.n_ctx
    if not n_vocab:
        raise RequestError("The server does not tell which tokens it has.", "Use a newer llama-server.")
    needed = command.depth + command.n_prompt + command.n_gen
    if n_ctx is not None and needed > n_ctx:
        raise RequestError(
            f"The test takes {needed} tokens and the server's context holds {n_ctx}.",
            "Start the server with a longer context.",
            cause="context",
        )
    depth, prompt = random_tokens(command, n_vocab)
    body = {
        "model": found.name,
        "prompt": depth + prompt,
        "n_predict": command.n_gen + 1,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "timings_per_token": True,
        "return_progress": True,
        "cache_prompt": command.depth > 0,
        # What a depth holds lies in the cache of one slot.
        **({"id_slot": 0} if command.depth else {}),
    }
    follower = _Follower(held=command.depth if prompt else 0)
    with exchange.ask("POST", PATH, body) as answer:
        exchange.require_success(answer)
        for t_us, delta in deltas_of(answer, CompletionStream()):
            follower.take(t_us, delta)
            if delta.done:
                break
    return follower.tested(command)


class _Follower:
    """Follows the answer to a test."""

    def __init__(self, *, held: int) -> None:
        self._held = held
        self._begun_us = monotonic_us()
        self._prefilled_us: int | None = None
        self._stamps: list[int] = []
        self._last = Delta()

    def take(self, t_us: int, delta: Delta) -> None:
        # A long prompt is told of after each of its batches; the first token comes after the last one.
        begins = self._prefilled_us is None or not delta.generated
        if begins and not self._stamps and delta.perf is not None and delta.perf.prefill_tokens:
            self._prefilled_us = t_us
        self._stamps += [t_us] * ((delta.generated or 0) - len(self._stamps))
        self._last = delta

    def tested(self, command: Measure) -> TestTimings:
        perf, cached = self._last.perf, self._last.cached_tokens
        if not self._last.done or perf is None or self._prefilled_us is None:
            raise RequestError("The server ended the test without saying how long it took.", "Look into its log.")
        if command.n_prompt + command.n_gen and cached != self._held:
            raise RequestError(
                f"The server kept {cached or 0} of the {self._held} tokens that the test begins with.",
                "Its model or its settings do not let it: measure without -d.",
            )
        require_tokens(len(self._stamps), command.n_gen + 1)
        return TestTimings(
            prefill_us=max(self._begun_us, self._prefilled_us - round(perf.prefill_ms * 1000)),
            prefilled_us=self._prefilled_us,
            stamps=tuple(self._stamps),
            perf=perf,
        )


def _delta(event: bytes) -> Delta:
    chunk = decode(event, _Chunk)
    if chunk.error is not None:
        raise failure_in_stream(error_words(event))
    timings = chunk.timings
    return Delta(
        generated=None if timings is None else timings.predicted_n,
        cached_tokens=None if timings is None else timings.cache_n,
        perf=None if timings is None else _perf(timings),
        done=chunk.stop,
    )


def _perf(timings: Timings) -> EnginePerf | None:
    """Also before a token was drawn."""
    told = perf_of(timings)
    if told is not None or timings.prompt_ms is None:
        return told
    return EnginePerf(
        prefill_ms=timings.prompt_ms, prefill_tokens=timings.prompt_n or 0, decode_ms=0.0, decode_tokens=0
    )


class _Meta(Struct):
    n_vocab: Count | None = None
    n_ctx_train: Count | None = None
    n_params: Count | None = None
    size: Count | None = None
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


class Props(Struct):
    """What `/props` tells, as far as it is wanted."""

    default_generation_settings: _Defaults | None = None
    model_path: str | None = None
    model_alias: str | None = None
    model_ftype: str | None = None
    build_info: str | None = None
    total_slots: Count | None = None
    role: str | None = None
    """`router` for a server that has several models."""


class LlamaServerDialect:
    """llama-server."""

    name = "llama-server"

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def version(self, exchange: HttpClient) -> str:
        """Its build. Raises ServerFailure."""
        return exchange.get("/props", Props).build_info or ""

    def wait(self, exchange: HttpClient, loading_s: float) -> None:
        """Wait until its model is loaded. Raises ServerFailure."""
        _once_loaded(exchange, "/props", loading_s)

    def offers(self, exchange: HttpClient) -> list[Offer]:
        """The models it has, most often one. Raises ServerFailure."""
        models = exchange.get("/v1/models", _Models).data
        self._models = {model.id: model for model in models}
        return [_offer(model) for model in models]

    def load(self, exchange: HttpClient, offer: Offer, settings: EngineSettings, loading_s: float) -> Found:
        """Wait until the model is loaded, and tell of it. Raises ServerFailure."""
        query = f"?model={quote(offer.name, safe='')}" if len(self._models) > 1 else ""
        props = _once_loaded(exchange, f"/props{query}", loading_s)
        model = self._models.get(offer.name)
        meta = (model.meta if model is not None else None) or _Meta()
        size, parameters = meta.size, meta.n_params
        defaults = props.default_generation_settings
        return Found(
            name=offer.name,
            model=ModelInfo(
                path=props.model_path or offer.name,
                name=_file_name(props.model_alias or offer.name),
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

    def question(self, command: Generate, found: Found, settings: EngineSettings) -> ChatRequest:
        """The request for an answer; a conversation that ends with the assistant's words is gone on with."""
        sampling = command.sampling
        body: dict[str, object] = {
            "model": found.name,
            "messages": messages_of(command.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
            "return_progress": True,
            "cache_prompt": True,
            **sampling_of(sampling),
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "repeat_last_n": sampling.repeat_last_n,
        }
        if settings.template_args:
            body["chat_template_kwargs"] = dict(settings.template_args)
        return ChatRequest(path=CHAT_PATH, body=body)

    def stream(self) -> ChatStream:
        """For one answer."""
        return ChatStream("timings")

    def test(self, exchange: HttpClient, command: Measure, found: Found) -> TestTimings:
        """Random tokens for a prompt, and the tokens that it answers with. Raises ServerFailure."""
        return run_test(exchange, command, found)


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


def _once_loaded(exchange: HttpClient, path: str, loading_s: float) -> Props:
    """What `/props` says once the model is loaded, which it says instead until then (503)."""
    deadline_s = time.monotonic() + loading_s
    while True:
        try:
            return exchange.get(path, Props)
        except RequestError as failure:
            if failure.cause != "loading":
                raise
            if time.monotonic() >= deadline_s:
                raise RequestError(
                    f"The server still loads its model after {loading_s:g} s.", "Ask again when it is done."
                ) from failure
        exchange.wait_for_model()


def _file_name(name: str) -> str:
    """A name without the folders and the ending of a file."""
    return name.rpartition("/")[2].removesuffix(".gguf")


TRIES = 3
"""How often llama-server is asked before a count of ended requests and one of running ones belong together."""

METRICS_OFF = Unavailable("llama-server does not count its tokens", "start it with --metrics")

ENDED_ONLY = Unavailable("llama-server counts the tokens of a request when it has ended", "start it with --slots")

RUNNING_ONLY = Unavailable("only tokens of running requests are seen", "start llama-server with --metrics")


class _NextToken(Struct):
    n_decoded: Count = 0


class _Slot(Struct):
    id: Count
    is_processing: bool = False
    id_task: int | None = None
    n_ctx: Count | None = None
    n_prompt_tokens: Count | None = None
    """All tokens of the slot's context, generated ones among them."""
    next_token: list[_NextToken] | _NextToken | None = None
    """A list since 2025."""


class _Props(Struct):
    build_info: str = ""
    model_path: str = ""
    model_alias: str | None = None


class _Counted(NamedTuple):
    tokens: ReportedCount
    counts: TokensCounted
    no_count: Unavailable | None = None
    unsure: float = 0.0
    """Of ended requests alone, each that is under way may have generated as much as came of one at most so far."""


class LlamaServerReader:
    """llama-server: `/metrics` and `/slots`, as far as they are switched on.

    Its gauges of tokens per second are means since the look before by whoever, so that they are not used. Its counters
    are not touched by looking at them.
    """

    health = "/health"

    def __init__(self) -> None:
        self._props: _Props | None = None
        self._has_metrics = self._has_slots = True
        self._requests = RequestCount()
        self._running = RunningCount()
        self._ended: int | None = None
        self._largest_step = 0

    def read(self, exchange: HttpClient) -> Usage:
        """See UsageReader."""
        if self._props is None:
            self._props = exchange.get("/props", _Props)
        metrics, slots, is_one = self._ask(exchange)
        counted = self._counted(metrics, slots, is_one=is_one)
        told = metrics or {}
        running = None if slots is None else sum(slot.is_processing for slot in slots)
        return Usage(
            kind="llama-server",
            version=self._props.build_info,
            models=shown_names(self._props.model_alias or self._props.model_path),
            tokens=counted.tokens,
            counts=counted.counts,
            no_count=counted.no_count,
            unsure=counted.unsure,
            prompt_tokens=count_in(told, "llamacpp:prompt_tokens_total"),
            running=count_in(told, "llamacpp:requests_processing") if running is None else running,
            waiting=count_in(told, "llamacpp:requests_deferred"),
            slots=tuple(_slot(slot) for slot in slots or ()),
            context_share=_context_share(slots or ()),
        )

    def _ask(self, exchange: HttpClient) -> tuple[dict[str, float] | None, list[_Slot] | None, bool]:
        """Metrics and slots, and whether no request ended in between, so that they belong together.

        A request that ends is counted by the one and leaves the other at the same moment, between two answers.
        """
        metrics = self._metrics(exchange)
        slots = self._slots(exchange)
        for _ in range(TRIES):
            if metrics is None or slots is None:
                return metrics, slots, True
            again = self._metrics(exchange)
            if again is not None and _ended(again) == _ended(metrics):
                return again, slots, True
            metrics, slots = again, self._slots(exchange)
        return metrics, slots, False

    def _counted(self, metrics: dict[str, float] | None, slots: list[_Slot] | None, *, is_one: bool) -> _Counted:
        running = {_request(slot): _generated(slot) for slot in slots or () if slot.is_processing}
        ended = None if metrics is None else _ended(metrics)
        if ended is not None and slots is not None:
            return _Counted(self._requests.look(ended, running) if is_one else TOO_FAST, "all")
        if ended is not None and metrics is not None:
            step = 0 if self._ended is None else max(0, ended - self._ended)
            self._ended, self._largest_step = ended, max(self._largest_step, step)
            under_way = metrics.get("llamacpp:requests_processing", 0.0)
            return _Counted(ended, "ended", ENDED_ONLY, max(1, self._largest_step) * under_way)
        if slots is not None:
            return _Counted(self._running.look(running), "running", RUNNING_ONLY, self._running.unseen)
        return _Counted(METRICS_OFF, "nothing", METRICS_OFF)

    def _metrics(self, exchange: HttpClient) -> dict[str, float] | None:
        if not self._has_metrics:
            return None
        text = text_at(exchange, "/metrics")
        self._has_metrics = text is not None
        return None if text is None else parse_metrics(text)

    def _slots(self, exchange: HttpClient) -> list[_Slot] | None:
        if not self._has_slots:
            return None
        text = text_at(exchange, "/slots")
        self._has_slots = text is not None
        return None if text is None else decode(text.encode(), list[_Slot])


def _context_share(slots: Sequence[_Slot]) -> float | None:
    """Share of the KV cache that requests under way use; `None` where it is not told."""
    used = [slot.n_prompt_tokens for slot in slots if slot.is_processing]
    n_ctx = sum(slot.n_ctx or 0 for slot in slots)
    known = [tokens for tokens in used if tokens is not None]
    return sum(known) / n_ctx if n_ctx and len(known) == len(used) else None


def _slot(slot: _Slot) -> Slot:
    generated = _generated(slot)
    return Slot(
        number=slot.id,
        doing=("decode" if generated else "prefill") if slot.is_processing else "idle",
        generated=generated if slot.is_processing else None,
        context_used=slot.n_prompt_tokens,
        n_ctx=slot.n_ctx,
    )


def _request(slot: _Slot) -> int:
    return -1 - slot.id if slot.id_task is None else slot.id_task


def _generated(slot: _Slot) -> int:
    told = slot.next_token
    if isinstance(told, list):
        return max((each.n_decoded for each in told), default=0)
    return 0 if told is None else told.n_decoded


def _ended(metrics: dict[str, float]) -> int | None:
    """Tokens of requests that have ended."""
    return count_in(metrics, "llamacpp:tokens_predicted_total")

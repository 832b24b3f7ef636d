"""Any server with the OpenAI chat API.

llama-server and vLLM say more in it than it asks for: how far the prompt has been read, how many tokens a chunk brings,
and how long they took.

It says which models it has and streams text. Where tokens are not counted with each chunk, their number comes at the
end; how the prompt was read, how much memory it takes and how fast it decodes, it does not say.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from edgetop.core.engine_settings import EnginePerf, EngineSettings, ModelInfo, SamplingSettings
from edgetop.core.records import StopReason
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import ChatMessage, Generate, Measure
from edgetop.inference.server.backend import ChatRequest, Count, Delta, Found, Offer, PromptProgress, TestTimings
from edgetop.inference.server.connection import (
    DocumentReader,
    HttpClient,
    SseReader,
    decode,
    error_words,
    is_of_context,
)
from edgetop.inference.server.usage import Usage, shown_names
from edgetop.io.http import RequestCancelledError, RequestError

CHAT_PATH = "/v1/chat/completions"

_DONE = b"[DONE]"

_STOP_REASONS: dict[str, StopReason] = {"length": "max_tokens"}


class Timings(Struct):
    """What llama-server counts and measures of an answer so far."""

    cache_n: Count | None = None
    prompt_n: Count | None = None
    prompt_ms: float | None = None
    predicted_n: Count | None = None
    predicted_ms: float | None = None
    predicted_per_second: float | None = None


class _PromptProgress(Struct):
    total: Count
    processed: Count
    cache: Count = 0
    time_ms: float | None = None


class _PromptDetails(Struct):
    cached_tokens: Count | None = None


class _Usage(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Message(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(Struct):
    delta: _Message | None = None
    message: _Message | None = None
    """In place of `delta` where a server answers at once although it was asked for a stream."""
    finish_reason: str | None = None
    stop_reason: object = None
    """vLLM: the stop string that was met."""


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: Timings | None = None
    prompt_progress: _PromptProgress | None = None
    error: object = None
    kind: object = field(default=None, name="object")


def messages_of(messages: tuple[ChatMessage, ...]) -> list[dict[str, str]]:
    """The conversation as the API has it."""
    return [{"role": message.role, "content": message.content} for message in messages]


def sampling_of(sampling: SamplingSettings) -> dict[str, object]:
    """What every server of the API understands."""
    asked: dict[str, object] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    if sampling.seed is not None:
        asked["seed"] = sampling.seed
    if sampling.max_tokens is not None:
        asked["max_tokens"] = sampling.max_tokens
    if sampling.stop:
        asked["stop"] = list(sampling.stop)
    return asked


class ChatStream:
    """The answer to a streamed chat request."""

    def __init__(self, counted_by: Literal["timings", "usage", "nothing"] = "nothing") -> None:
        """`counted_by` names what in each chunk says how many tokens have been generated."""
        self._reader: SseReader | DocumentReader = SseReader()
        self._counted_by = counted_by

    def feed(self, data: bytes) -> list[Delta]:
        """What `data` completes. Raises ServerFailure."""
        return [self._delta(event) for event in self._reader.feed(data)]

    def finish(self) -> list[Delta]:
        """What the end of the stream completes."""
        return [self._delta(event) for event in self._reader.finish()]

    def as_document(self) -> None:
        """The whole answer comes as one document, although a stream was asked for."""
        self._reader = DocumentReader()

    def _delta(self, event: bytes) -> Delta:
        if event.strip() == _DONE:
            return Delta(done=True)
        chunk = decode(event, _Chunk)
        if chunk.error is not None or chunk.kind == "error":
            raise failure_in_stream(error_words(event))
        choice = chunk.choices[0] if chunk.choices else _Choice()
        said = choice.delta or choice.message or _Message()
        usage = chunk.usage or _Usage()
        timings = chunk.timings
        details = usage.prompt_tokens_details
        progress = chunk.prompt_progress
        return Delta(
            text=said.content or "",
            reasoning=said.reasoning_content or said.reasoning or "",
            generated=self._generated(timings, usage),
            progress=None
            if progress is None
            else PromptProgress(progress.total, progress.cache, progress.processed, progress.time_ms),
            stop_reason=_stop_reason(choice),
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=timings.cache_n if timings is not None else details.cached_tokens if details else None,
            total_tokens=usage.completion_tokens,
            perf=None if timings is None else perf_of(timings),
        )

    def _generated(self, timings: Timings | None, usage: _Usage) -> int | None:
        match self._counted_by:
            case "timings":
                return None if timings is None else timings.predicted_n
            case "usage":
                return usage.completion_tokens
        return None


def failure_in_stream(words: str) -> RequestError:
    """An error that a server tells in the middle of an answer."""
    if is_of_context(words):
        return RequestError(
            f"The conversation does not fit the server's context: {words}.",
            "Clear it, or start the server with a longer context.",
            cause="context",
        )
    return RequestError(f"The server broke the answer off: {words or 'it does not say why'}.", "Look into its log.")


def _stop_reason(choice: _Choice) -> StopReason | None:
    if choice.finish_reason is None:
        return None
    if isinstance(choice.stop_reason, str):
        return "stop_string"
    return _STOP_REASONS.get(choice.finish_reason, "end_of_generation")


def perf_of(timings: Timings) -> EnginePerf | None:
    """The server's own counters. How many tokens its rate is of follows from the rate.

    llama-server divides by the tokens after the first one since 2026, before that by all of them.
    """
    if timings.prompt_ms is None or timings.predicted_ms is None or not timings.predicted_n:
        return None
    rate = timings.predicted_per_second or 0.0
    tokens = round(rate * timings.predicted_ms / 1000)
    return EnginePerf(
        prefill_ms=timings.prompt_ms,
        prefill_tokens=timings.prompt_n or 0,
        decode_ms=timings.predicted_ms,
        decode_tokens=min(max(tokens, 0), timings.predicted_n),
    )


CONVERSATIONS_ONLY = "This server takes conversations only, not a set number of tokens."

_COUNTING = frozenset({"vllm", "sglang"})
"""Owners of models, as they name themselves, that count the tokens of each chunk when they are asked to."""

_NOT_FOR_CHAT = frozenset({"embeddings", "embedding"})


class _Model(Struct):
    id: str
    owned_by: object = None
    max_model_len: Count | None = None
    """vLLM, SGLang: the context of the running server."""


class _Models(Struct):
    data: list[_Model]


class _StudioModel(Struct):
    """LM Studio, `/api/v0/models`."""

    id: str
    type: str = ""
    arch: str = ""
    quantization: str | None = None
    state: str = ""
    max_context_length: Count | None = None
    loaded_context_length: Count | None = None


class _StudioModels(Struct):
    data: list[_StudioModel]


class OpenAiBackend:
    """A server of which nothing more is known than its chat API."""

    name = "OpenAI API"

    def __init__(self) -> None:
        self._counts = False
        self._models: dict[str, _Model] = {}
        self._studio: dict[str, _StudioModel] = {}

    def version(self, exchange: HttpClient) -> str:  # noqa: ARG002 - the API has none
        """The API tells none."""
        return ""

    def wait(self, exchange: HttpClient, loading_s: float) -> None:
        """It answers once it is ready."""

    def offers(self, exchange: HttpClient) -> list[Offer]:
        """The models it has. Raises ServerFailure."""
        models = exchange.get("/v1/models", _Models).data
        owners = {str(model.owned_by).lower() for model in models}
        self._counts = bool(owners & _COUNTING)
        self._models = {model.id: model for model in models}
        self._studio = {} if self._counts else self._studio_models(exchange)
        if "organization_owner" in owners or self._studio:
            self.name = "LM Studio"
        elif "vllm" in owners:
            self.name = "vLLM"
        elif "sglang" in owners:
            self.name = "SGLang"
        studio = self._studio
        return [
            Offer(
                name=model.id,
                quantization=(studio[model.id].quantization or "") if model.id in studio else "",
                n_ctx_train=studio[model.id].max_context_length if model.id in studio else None,
                loaded=studio[model.id].state == "loaded" if model.id in studio else None,
            )
            for model in models
            if model.id not in studio or studio[model.id].type not in _NOT_FOR_CHAT
        ]

    def load(
        self,
        exchange: HttpClient,  # noqa: ARG002 - nothing more is asked
        offer: Offer,
        settings: EngineSettings,
        loading_s: float,  # noqa: ARG002 - it loads when it is asked
    ) -> Found:
        """Tell of a model; the API has no way to load one."""
        known, studio = self._models.get(offer.name), self._studio.get(offer.name)
        n_ctx = known.max_model_len if known is not None else None
        if studio is not None:
            n_ctx = studio.loaded_context_length
        return Found(
            name=offer.name,
            model=ModelInfo(
                path=offer.name,
                name=offer.name,
                architecture=studio.arch if studio is not None else "",
                quantization=offer.quantization,
                n_ctx_train=offer.n_ctx_train,
                chat_template="model",
            ),
            settings=reported_settings(settings, n_ctx=n_ctx),
        )

    def question(self, command: Generate, found: Found, settings: EngineSettings) -> ChatRequest:
        """The request for an answer. Raises ServerFailure where a stopped answer is to go on and cannot."""
        sampling = command.sampling
        body: dict[str, object] = {
            "model": found.name,
            "messages": messages_of(command.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **sampling_of(sampling),
        }
        if self._counts:
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
            body |= {"top_k": sampling.top_k, "min_p": sampling.min_p, "repetition_penalty": sampling.repeat_penalty}
        if settings.template_args:
            body["chat_template_kwargs"] = dict(settings.template_args)
        if command.continue_reply:
            if not self._counts:
                raise RequestError("This server cannot go on with an answer.", "Ask it to in a message of your own.")
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return ChatRequest(path=CHAT_PATH, body=body)

    def stream(self) -> ChatStream:
        """For one answer."""
        return ChatStream("usage" if self._counts else "nothing")

    def test(
        self,
        exchange: HttpClient,  # noqa: ARG002 - nothing is asked
        command: Measure,  # noqa: ARG002 - whatever it is
        found: Found,  # noqa: ARG002 - the same
    ) -> TestTimings:
        """The API has no prompts of a set number of tokens and no replies of a set length."""
        raise RequestError(CONVERSATIONS_ONLY, "Measure it with --prompts.", cause="missing")

    def _studio_models(self, exchange: HttpClient) -> dict[str, _StudioModel]:
        try:
            return {model.id: model for model in exchange.get("/api/v0/models", _StudioModels).data}
        except RequestCancelledError:
            raise
        except RequestError:
            return {}


def reported_settings(settings: EngineSettings, *, n_ctx: int | None, n_threads: int | None = None) -> EngineSettings:
    """The settings of a server's model: of what a server decides by itself only what it tells."""
    return EngineSettings(n_ctx=n_ctx, n_threads=n_threads, template_args=settings.template_args)


OTHER_TELLS_NONE = Unavailable(
    "this kind of server does not tell how many tokens it generates", "llama-server with --metrics and vLLM do"
)


class OtherReader:
    """Any other server with the OpenAI API: which models it has."""

    health = ""

    def read(self, exchange: HttpClient) -> Usage:
        """See UsageReader."""
        return Usage(
            kind="openai",
            models=_model_names(exchange),
            tokens=OTHER_TELLS_NONE,
            counts="nothing",
            no_count=OTHER_TELLS_NONE,
        )


class _Version(Struct):
    version: str = ""


def _version(exchange: HttpClient) -> str:
    try:
        return exchange.get("/version", _Version).version
    except RequestError:
        return ""


class _ListedModel(Struct):
    id: str = ""


class _ListedModels(Struct):
    data: list[_ListedModel] = []


def _model_names(exchange: HttpClient) -> tuple[str, ...]:
    """Names of the models it offers. Raises ServerFailure."""
    return tuple(name for model in exchange.get("/v1/models", _ListedModels).data for name in shown_names(model.id))

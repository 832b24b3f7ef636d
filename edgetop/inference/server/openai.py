"""Any server with the OpenAI chat API.

The API lists models and streams text. llama-server and vLLM add to it: how far the prompt has been evaluated, how many
tokens a chunk holds, and timings. Where tokens are not counted with each chunk, their number comes at the end.
"""

from __future__ import annotations

import json
from functools import partial
from typing import ClassVar, Literal

from msgspec import UNSET, Struct, field

from edgetop.core.engine_settings import EnginePerf, EngineSettings, ModelInfo
from edgetop.core.records import StopReason
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import ChatMessage, Generate
from edgetop.inference.server.backend import (
    AnswerStream,
    ChatRequest,
    Delta,
    LoadedModel,
    Offer,
    Program,
    PromptProgress,
    ServerBackend,
    error_in_stream,
    reported_settings,
)
from edgetop.inference.server.connection import (
    Count,
    Milliseconds,
    Note,
    Rate,
    ServerClient,
    decode,
    error_words,
    text_in,
)
from edgetop.inference.server.usage import Usage, names_without_folders, text_at
from edgetop.io.http import RequestError, quoted

CHAT_PATH = "/v1/chat/completions"

MODELS_PATH = "/v1/models"

NO_COUNTERS = Unavailable(
    "this kind of server does not report how many tokens it generates", "llama-server with --metrics and vLLM do"
)

CountedBy = Literal["timings", "usage", "nothing"]
"""What in each chunk says how many tokens have been generated."""

_DONE = b"[DONE]"
_STOP_REASONS: dict[str, StopReason] = {"length": "max_tokens"}


class ListedModel(Struct):
    """An entry of `/v1/models`."""

    id: str = ""
    name: str = ""
    owned_by: object = None
    max_model_len: Count | None = None
    """vLLM, SGLang: the context of the running server."""


class _Listing(Struct):
    data: list[ListedModel] = []
    models: list[ListedModel] = []
    """In place of `data`, with `name` for `id`."""


def listed_models(client: ServerClient) -> list[ListedModel]:
    """The models at `/v1/models`; none where the server has no such list. Raises RequestError."""
    try:
        listing = client.get(MODELS_PATH, _Listing | list[ListedModel])  # type: ignore[arg-type]
    except RequestError as error:
        if error.cause == "missing":
            return []
        raise
    models = listing if isinstance(listing, list) else listing.data or listing.models
    for model in models:
        model.id = model.id or model.name
    return [model for model in models if model.id]


def owners(models: list[ListedModel]) -> set[str]:
    """Owners of models, by which some servers name themselves, in lower case."""
    return {str(model.owned_by).lower() for model in models}


class Timings(Struct):
    """llama-server: counters and timings of an answer so far."""

    cache_n: Count | None = None
    prompt_n: Count | None = None
    prompt_ms: Milliseconds | None = None
    predicted_n: Count | None = None
    predicted_ms: Milliseconds | None = None
    predicted_per_second: Rate | None = None
    draft_n: Count | None = None
    draft_n_accepted: Count | None = None


class _PromptProgress(Struct):
    total: Count
    processed: Count
    cache: Count = 0
    time_ms: Milliseconds | None = None


class _PromptDetails(Struct):
    cached_tokens: Count | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: Count | None = None


class _Usage(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Function(Struct):
    name: str | None = None
    arguments: object = None


class ToolCall(Struct):
    """A call of a tool, or a piece of one."""

    function: _Function | None = None


class _Message(Struct):
    content: object = None
    reasoning_content: object = None
    reasoning: object = None
    tool_calls: list[ToolCall] | None = None


class _Choice(Struct):
    delta: _Message | None = None
    message: _Message | None = None
    """In place of `delta` where a server answers at once although it was asked for a stream."""
    text: object = None
    """In place of both where a server answers as to a request for a completion."""
    finish_reason: str | None = None
    stop_reason: object = UNSET
    """vLLM: the stop string that was met; `None` for the end of the reply."""


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: Timings | None = None
    prompt_progress: _PromptProgress | None = None
    content: object = None
    """In place of `choices` in what llama-server answers at `/completion`."""
    model: str | None = None
    error: object = None
    detail: object = None
    kind: object = field(default=None, name="object")


class OpenAiBackend(ServerBackend):
    """A server of which only its chat API is known."""

    kind = "openai"
    name = "OpenAI API"
    programs: ClassVar[tuple[Program, ...]] = (
        Program(r"(python\S* (-m |\S*/))?mlc_llm serve\b", "mlc_llm", 8000),
        Program(r"mistralrs(-server| serve)\b|mistralrs\b", "mistral.rs", 1234),
        Program(r"(python\S* \S*/)?(lemonade-server|lemonade|lemond)\b", "lemonade", 13305),
    )
    process_names: ClassVar[tuple[str, ...]] = ()
    counted_by: ClassVar[CountedBy] = "nothing"
    cuts = True

    def __init__(self) -> None:
        self._models: dict[str, ListedModel] = {}

    @classmethod
    def matches(cls, client: ServerClient) -> bool:  # noqa: ARG003 - whatever is not known is taken for one
        """Always."""
        return True

    def offers(self, client: ServerClient) -> list[Offer]:
        """The models it has. Raises RequestError."""
        models = listed_models(client)
        self._models = {model.id: model for model in models}
        return [Offer(name=model.id) for model in models]

    def load(
        self,
        client: ServerClient,  # noqa: ARG002 - the API has no way to load a model
        offer: Offer,
        settings: EngineSettings,
        loading_s: float,  # noqa: ARG002 - the server loads it with the first request
    ) -> LoadedModel:
        """Describe a model."""
        listed = self._models.get(offer.name, ListedModel())
        return LoadedModel(
            name=offer.name,
            info=ModelInfo(
                path=offer.name,
                name=offer.name,
                quantization=offer.quantization,
                n_ctx_train=offer.n_ctx_train,
                chat_template="model",
            ),
            settings=reported_settings(settings, n_ctx=listed.max_model_len),
        )

    def chat_request(self, command: Generate, model: LoadedModel, settings: EngineSettings) -> ChatRequest:
        """The request for an answer. Raises RequestError where a stopped answer is to be continued."""
        if command.continue_reply:
            raise RequestError("This server cannot continue an answer.", "Ask it to in a message of your own.")
        return ChatRequest(path=CHAT_PATH, body=chat_body(command, model, settings))

    def chat_stream(self) -> AnswerStream:
        """Parses one answer."""
        return chat_stream(self.counted_by)

    def read_usage(self, client: ServerClient) -> Usage:
        """The names of its models; the API has no counters. Raises RequestError."""
        return Usage(
            kind=self.kind,
            models=model_names(client),
            tokens=NO_COUNTERS,
            counts="nothing",
            no_count=NO_COUNTERS,
        )


class LlamaCppPythonBackend(OpenAiBackend):
    """llama-cpp-python's own server.

    It ends the answer it is giving as soon as anybody asks for anything of the model, the list of models among it
    (`interrupt_requests`, on by default), so it is known, and watched, by a page that it gives without its model.
    """

    kind = "llama_cpp.server"
    name = "llama_cpp.server"
    programs: ClassVar[tuple[Program, ...]] = (Program(r"python\S* -m llama_cpp\.server\b", "llama_cpp.server", 8000),)
    health_path = "/docs"
    cuts = False
    interrupts = True

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It names itself in the title of its documentation."""
        return "llama.cpp Python API" in (text_at(client, cls.health_path) or "")

    def read_usage(self, client: ServerClient) -> Usage:
        """That it answers. Raises RequestError."""
        text_at(client, self.health_path)
        return Usage(kind=self.kind, tokens=NO_COUNTERS, counts="nothing", no_count=NO_COUNTERS)


BACKENDS = (OpenAiBackend,)


def model_names(client: ServerClient) -> tuple[str, ...]:
    """Names of the models that a server offers. Raises RequestError."""
    return tuple(name for model in listed_models(client) for name in names_without_folders(model.id))


def chat_messages(messages: tuple[ChatMessage, ...]) -> list[dict[str, str]]:
    """The conversation as the API has it."""
    return [{"role": message.role, "content": message.content} for message in messages]


def chat_body(command: Generate, model: LoadedModel, settings: EngineSettings) -> dict[str, object]:
    """The fields of a chat request that every server of the API understands."""
    sampling = command.sampling
    body: dict[str, object] = {
        "model": model.name,
        "messages": chat_messages(command.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.max_tokens is not None:
        body["max_tokens"] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if template_args := settings.template_args | sampling.template_args:
        body["chat_template_kwargs"] = template_args
    return body


def chat_stream(counted_by: CountedBy = "nothing") -> AnswerStream:
    """Parses the answer to a streamed chat request."""
    return AnswerStream(partial(_delta, counted_by=counted_by))


def _delta(event: bytes, note: Note, *, counted_by: CountedBy) -> Delta:
    if event.strip() == _DONE:
        return Delta(done=True)
    chunk = decode(event, _Chunk, note)
    if chunk.error is not None or chunk.kind == "error" or (chunk.detail is not None and chunk.choices is None):
        raise error_in_stream(error_words(event))
    choice = chunk.choices[0] if chunk.choices else _Choice(text=chunk.content)
    message = choice.delta or choice.message or _Message(content=choice.text)
    usage = chunk.usage or _Usage()
    timings = chunk.timings
    details = usage.prompt_tokens_details
    hidden = usage.completion_tokens_details
    progress = chunk.prompt_progress
    generated = None
    if counted_by == "usage":
        generated = usage.completion_tokens
    elif counted_by == "timings" and timings is not None:
        generated = timings.predicted_n
    return Delta(
        text=text_in(message.content, note) + calls_in(message.tool_calls, note),
        reasoning=text_in(message.reasoning_content, note) or text_in(message.reasoning, note),
        generated=generated,
        progress=None
        if progress is None
        else PromptProgress(progress.total, progress.cache, progress.processed, progress.time_ms),
        stop_reason=_stop_reason(choice),
        is_end=choice.finish_reason is not None and choice.stop_reason is None,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=timings.cache_n if timings is not None else details.cached_tokens if details else None,
        total_tokens=usage.completion_tokens,
        hidden_tokens=None if hidden is None else hidden.reasoning_tokens,
        model=chunk.model or "",
        perf=None if timings is None else perf_of(timings),
    )


class _EventUsage(Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: _PromptDetails | None = None
    output_tokens_details: _CompletionDetails | None = None
    cache_read_input_tokens: Count | None = None
    """Of the API of messages, where they are no part of `input_tokens`."""


class _EventAnswer(Struct):
    model: str | None = None
    usage: _EventUsage | None = None


class _Event(_EventAnswer):
    """Of a stream of typed events, or a whole answer."""

    delta: object = None
    response: _EventAnswer | None = None
    message: _EventAnswer | None = None
    error: object = None
    kind: object = field(default=None, name="type")


_DELTA_TEXTS = ("text", "thinking", "partial_json")


def event_stream() -> AnswerStream:
    """Parses answers of the APIs of responses and of messages, which say with each event of what type it is."""
    return AnswerStream(_event_delta)


def _event_delta(data: bytes, note: Note) -> Delta:
    event = decode(data, _Event, note)
    if event.error is not None or event.kind == "error":
        raise error_in_stream(error_words(data))
    text = event.delta
    if isinstance(text, dict):
        text = next((text[name] for name in _DELTA_TEXTS if name in text), None)
    # An answer stands in its first event, or in its last one, or is all there is.
    answer = event.response or event.message or _EventAnswer()
    usage = event.usage or answer.usage or _EventUsage()
    cached, prompt = usage.cache_read_input_tokens, usage.input_tokens
    if cached is not None and prompt is not None:
        prompt += cached
    details, hidden = usage.input_tokens_details, usage.output_tokens_details
    return Delta(
        text=text if isinstance(text, str) else "",
        prompt_tokens=prompt,
        cached_tokens=details.cached_tokens if details is not None else cached,
        total_tokens=usage.output_tokens,
        hidden_tokens=None if hidden is None else hidden.reasoning_tokens,
        model=event.model or answer.model or "",
        done=event.kind in {"response.completed", "message_stop"},
    )


def calls_in(calls: list[ToolCall] | None, note: Note) -> str:
    """Calls of tools as text: they are what the model said."""
    parts = []
    for call in calls or ():
        function = call.function or _Function()
        if function.name:
            note(f"The model called a tool, which edgetop does not run: {quoted(function.name)}.")
        given = function.arguments
        parts += [function.name or "", given if isinstance(given, str) else "" if given is None else json.dumps(given)]
    return "".join(parts)


def _stop_reason(choice: _Choice) -> StopReason | None:
    if choice.finish_reason is None:
        return None
    if isinstance(choice.stop_reason, str):
        return "stop_string"
    return _STOP_REASONS.get(choice.finish_reason, "end_of_generation")


def perf_of(timings: Timings) -> EnginePerf | None:
    """The server's own counters. How many tokens its rate covers follows from the rate.

    Since 2026 llama-server divides by the tokens after the first one, before that by all of them.
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
        draft_tokens=timings.draft_n,
        draft_accepted=timings.draft_n_accepted,
    )

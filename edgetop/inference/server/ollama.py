"""Ollama.

It reports at the end how many tokens the prompt had and how long it took. When a test's prompt has another number of
tokens than planned, because of a token that the model adds, it is sent again with fewer or more words.
"""

from __future__ import annotations

import random
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.reply import FLUSH_PERIOD_US
from edgetop.inference.server.backend import (
    UNKNOWN,
    AnswerStream,
    ChatRequest,
    Delta,
    LoadedModel,
    Offer,
    Program,
    ServerBackend,
    TestTimings,
    error_in_stream,
)
from edgetop.inference.server.connection import (
    Count,
    JsonReader,
    Nanoseconds,
    Note,
    ServerClient,
    Total,
    decode,
    error_words,
    ignore_note,
    text_in,
)
from edgetop.inference.server.openai import ToolCall, calls_in, chat_messages
from edgetop.inference.server.usage import Usage
from edgetop.io.http import RequestCancelledError, RequestError

_TEXT = (
    "the of and to in is was for on that by this with you it not or be are from at as your all have new more an we can "
    "if my has but our one other do no they he up may what which their out use any there see only so his when here who "
    "also now get how were me some these its like than find back"
)

WORDS: Final = tuple(_TEXT.split())
"""Such as every vocabulary of a language model has as one token, with the space before it."""

COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,"
"""Hardly a model ends this early: Ollama cannot be made to continue after the end of a reply."""

TRIES = 4

NO_COUNTERS = Unavailable(
    "Ollama does not report how many tokens it generates for others", "llama-server with --metrics and vLLM do"
)

_NS_PER_MS = 1e6
_THINKING = "enable_thinking"
"""The template argument that Ollama has a field of its own for."""


class _Version(Struct):
    version: str


class _Details(Struct):
    family: str = ""
    quantization_level: str = ""


class _Model(Struct):
    """An entry of `/api/tags` and `/api/ps`."""

    name: str = ""
    size: Total | None = None
    details: _Details | None = None
    capabilities: list[str] | None = None
    remote_host: str | None = None
    """Of a model that runs in a cloud."""
    size_vram: Total | None = None
    context_length: Count | None = None


class _Models(Struct):
    models: list[_Model] | None = None


class _Shown(Struct):
    model_info: dict[str, Any] | None = None
    details: _Details | None = None


class _Message(Struct):
    content: object = None
    thinking: object = None
    tool_calls: list[ToolCall] | None = None


class _Line(Struct):
    """A line of the answer of `/api/chat` or `/api/generate`."""

    message: _Message | None = None
    response: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Count | None = None
    prompt_eval_cached_count: Count | None = None
    prompt_eval_duration: Nanoseconds | None = None
    eval_count: Count | None = None
    eval_duration: Nanoseconds | None = None
    load_duration: Nanoseconds | None = None
    model: str | None = None
    error: object = None

    @property
    def perf(self) -> EnginePerf | None:
        """Its counters; `None` before the last line."""
        if self.eval_count is None or not self.eval_duration:
            return None
        evaluated = (self.prompt_eval_count or 0) - (self.prompt_eval_cached_count or 0)
        return EnginePerf(
            prefill_ms=(self.prompt_eval_duration or 0) / _NS_PER_MS,
            prefill_tokens=max(0, evaluated),
            decode_ms=self.eval_duration / _NS_PER_MS,
            decode_tokens=self.eval_count,
        )


class OllamaBackend(ServerBackend):
    """Ollama."""

    kind = "ollama"
    name = "Ollama"
    programs = (
        Program(r"ollama serve\b", "ollama", 11434),
        Program(r"ollama runner\b|ollama_llama_server\b|ollama-llama-server\b", "ollama runner"),
    )
    process_names = ("ollama",)
    has_token_tests = True
    request_settings = ("threads", "gpu_layers", "batch")
    health_path = "/api/version"

    def __init__(self) -> None:
        self._version = ""
        self._clouds: dict[str, str] = {}

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It has `/api/version`; so has Open WebUI, which answers other paths with a page. Raises RequestError."""
        client.get("/api/version", _Version)
        try:
            client.get("/api/ps", _Models)
        except RequestError as error:
            if error.cause != "missing":
                raise
        return True

    def version(self, client: ServerClient) -> str:
        """Its version. Raises RequestError."""
        return client.get("/api/version", _Version).version

    def offers(self, client: ServerClient) -> list[Offer]:
        """The models that were pulled. Raises RequestError."""
        loaded = {model.name for model in _running(client)}
        models = client.get("/api/tags", _Models).models or []
        self._clouds = {model.name: model.remote_host for model in models if model.remote_host}
        return [
            Offer(
                name=model.name,
                size_bytes=model.size,
                quantization=model.details.quantization_level if model.details else "",
                loaded=model.name in loaded,
            )
            for model in models
            if model.name not in self._clouds and not _only_embeds(model)
        ]

    def load(self, client: ServerClient, offer: Offer, settings: EngineSettings, loading_s: float) -> LoadedModel:
        """Have it load the model, which it would otherwise do with the first request. Raises RequestError."""
        body: dict[str, object] = {"model": offer.name, "stream": False, "options": _options(settings)}
        client.post("/api/generate", body, _Line, idle_s=loading_s)
        shown = client.post("/api/show", {"model": offer.name}, _Shown)
        running = next((model for model in _running(client) if model.name == offer.name), None)
        info = shown.model_info or {}
        details = shown.details or _Details()
        architecture = str(info.get("general.architecture") or details.family)
        parameters = _count(info.get("general.parameter_count"))
        size = offer.size_bytes
        return LoadedModel(
            name=offer.name,
            info=ModelInfo(
                path=offer.name,
                name=offer.name,
                architecture=architecture,
                quantization=details.quantization_level or offer.quantization,
                # The size of all that was pulled: too much for a model with a vision part.
                bits_per_weight=8 * size / parameters if size and parameters else None,
                size_bytes=size,
                parameters=parameters,
                n_ctx_train=_count(info.get(f"{architecture}.context_length")),
                n_layer=_count(info.get(f"{architecture}.block_count")),
                chat_template="model",
            ),
            settings=_reported_settings(settings, running),
            memory=_memory(running),
            version=self.version(client),
        )

    def chat_request(self, command: Generate, model: LoadedModel, settings: EngineSettings) -> ChatRequest:
        """The request for an answer; the server continues a conversation that ends with the assistant's text."""
        sampling = command.sampling
        options: dict[str, object] = {
            **_options(settings),
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "repeat_last_n": sampling.repeat_last_n,
            "frequency_penalty": sampling.frequency_penalty,
            "presence_penalty": sampling.presence_penalty,
            "num_predict": -1 if sampling.max_tokens is None else sampling.max_tokens,
        }
        if sampling.seed is not None:
            options["seed"] = sampling.seed
        if sampling.stop:
            options["stop"] = list(sampling.stop)
        body: dict[str, object] = {
            "model": model.name,
            "messages": chat_messages(command.messages),
            "stream": True,
            "options": options,
            # A context that is full ends the reply, instead of forgetting its beginning unsaid.
            "truncate": False,
            "shift": False,
        }
        template_args = settings.template_args | sampling.template_args
        if _THINKING in template_args:
            body["think"] = template_args[_THINKING]
        return ChatRequest(path="/api/chat", body=body)

    def chat_stream(self) -> AnswerStream:
        """Parses one answer."""
        return chat_stream()

    def run_test(self, client: ServerClient, command: Measure, model: LoadedModel) -> TestTimings:
        """Evaluate words as a prompt, and a reply that hardly ends by itself. Raises RequestError."""
        return _run_test(client, command, model.name, _options(model.settings))

    def read_usage(self, client: ServerClient) -> Usage:
        """Names of the loaded models; Ollama has no counters. Raises RequestError."""
        self._version = self._version or self.version(client)
        return Usage(
            kind=self.kind,
            version=self._version,
            models=tuple(model.name for model in client.get("/api/ps", _Models).models or []),
            tokens=NO_COUNTERS,
            counts="nothing",
            no_count=NO_COUNTERS,
        )


BACKENDS = (OllamaBackend,)


def _only_embeds(model: _Model) -> bool:
    """Whether it makes vectors and no text; before 2025 the family alone tells."""
    if model.capabilities:
        return "completion" not in model.capabilities
    return model.details is not None and model.details.family.endswith("bert")


def _running(client: ServerClient) -> list[_Model]:
    try:
        return client.get("/api/ps", _Models).models or []
    except RequestCancelledError:
        raise
    except RequestError:
        return []  # before 0.1.33 it had no /api/ps


def _options(settings: EngineSettings) -> dict[str, object]:
    """Engine settings that a request may contain; Ollama loads the model again when they change."""
    chosen = {
        "num_ctx": settings.n_ctx,
        "num_thread": settings.n_threads,
        "num_batch": settings.n_batch,
        "num_gpu": settings.n_gpu_layers,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _reported_settings(settings: EngineSettings, running: _Model | None) -> EngineSettings:
    n_ctx = running.context_length if running is not None and running.context_length else settings.n_ctx
    return replace(
        UNKNOWN,
        n_ctx=n_ctx,
        n_threads=settings.n_threads,
        n_batch=settings.n_batch,
        n_gpu_layers=settings.n_gpu_layers,
        template_args=settings.template_args,
    )


def _memory(running: _Model | None) -> MemoryBreakdown:
    """What a loaded model takes: in all, and of that on GPUs."""
    if running is None or running.size is None:
        return MemoryBreakdown()
    sizes = {"Ollama, in all": running.size}
    if running.size_vram is not None:
        sizes["Ollama, on GPUs"] = running.size_vram
    return MemoryBreakdown(by_buffer=sizes)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**50 else None


def chat_stream() -> AnswerStream:
    """Parses the answer to a streamed chat request."""
    return AnswerStream(_delta)


def _line(data: bytes, note: Note = ignore_note) -> _Line:
    line = decode(data, _Line, note)
    if line.error is not None:
        raise error_in_stream(error_words(data))
    return line


def _delta(data: bytes, note: Note) -> Delta:
    line = _line(data, note)
    message = line.message or _Message()
    text = text_in(message.content, note) + calls_in(message.tool_calls, note)
    reasoning = text_in(message.thinking, note)
    if not line.done:
        return Delta(text=text, reasoning=reasoning, model=line.model or "")
    return Delta(
        text=text,
        reasoning=reasoning,
        stop_reason="max_tokens" if line.done_reason == "length" else "end_of_generation",
        # It leaves the count of a prompt out that was in its cache.
        prompt_tokens=line.prompt_eval_count or None,
        cached_tokens=line.prompt_eval_cached_count,
        total_tokens=line.eval_count,
        model=line.model or "",
        perf=line.perf,
        load_ms=None if line.load_duration is None else line.load_duration / _NS_PER_MS,
        done=True,
    )


class _Answer(Struct, frozen=True, kw_only=True):
    """The answer to one request of a test."""

    sent_us: int
    stamps: tuple[int, ...]
    """Of the lines with text."""
    end: _Line


def _run_test(client: ServerClient, command: Measure, model: str, options: dict[str, object]) -> TestTimings:
    if command.depth:
        raise RequestError("Ollama does not report what of a prompt was cached.", "Measure it without -d.")
    body = {
        "model": model,
        "raw": True,
        "stream": True,
        "options": {**options, "temperature": 0, "seed": command.seed, "num_predict": command.n_gen + 1},
    }
    if not command.n_prompt:
        answer = _generate(client, {**body, "prompt": COUNTING})
        return _timings(command, answer, answer.stamps[0] if answer.stamps else answer.sent_us)
    chosen = random.Random(command.seed)  # noqa: S311 - not for secrets
    words = count = command.n_prompt
    for _ in range(TRIES):
        # New words each time: a beginning shared with the prompt before would come from the cache.
        answer = _generate(client, {**body, "prompt": " ".join(chosen.choice(WORDS) for _ in range(words))})
        count = answer.end.prompt_eval_count or 0
        if answer.end.prompt_eval_cached_count:
            raise RequestError("A part of the prompt was cached by Ollama.", "Check whether somebody else uses it.")
        if count == command.n_prompt:
            return _timings(command, answer, _end_of_prompt_us(answer))
        words = max(1, words - (count - command.n_prompt))
    raise RequestError(
        f"No prompt of {command.n_prompt} tokens could be made for this model: it counts {count} in {words} words.",
        "Measure it with --prompts.",
    )


def _generate(client: ServerClient, body: object) -> _Answer:
    sent_us, reader = monotonic_us(), JsonReader()
    stamps: list[int] = []
    end = _Line()
    with client.request("POST", "/api/generate", body, is_reply=True) as answer:
        client.raise_for_status(answer)
        for piece in answer.pieces(FLUSH_PERIOD_US):
            for document in reader.feed(piece):
                end = _line(document)
                stamps += [answer.received_us] if end.response else []
            if end.done:
                break
    if not end.done:
        raise RequestError("Ollama ended the test without its timings.", "Check its log.")
    return _Answer(sent_us=sent_us, stamps=tuple(stamps), end=end)


def _end_of_prompt_us(answer: _Answer) -> int:
    """When the prompt had been evaluated: the first token came then."""
    if not answer.stamps:
        raise RequestError("Ollama answered the test without any text.", "Choose another model.")
    return answer.stamps[0]


def _timings(command: Measure, answer: _Answer, prefilled_us: int) -> TestTimings:
    end = answer.end
    if (end.eval_count or 0) < command.n_gen + 1:
        raise RequestError(
            f"The model ended its reply after {end.eval_count or 0} of {command.n_gen + 1} tokens, and Ollama cannot "
            "be made to continue.",
            "Measure a shorter reply (-n), or with --prompts.",
        )
    prompt_us = (end.prompt_eval_duration or 0) // 1000
    if command.n_prompt and not prompt_us:
        raise RequestError("Ollama does not report how long the prompt took.", "Use a newer one.")
    # A line may have several tokens: those without a line of their own came with the last one.
    stamps = answer.stamps[: command.n_gen + 1]
    stamps += (answer.stamps[-1:] or (prefilled_us,)) * (command.n_gen + 1 - len(stamps))
    return TestTimings(
        prefill_us=max(answer.sent_us, prefilled_us - prompt_us),
        prefilled_us=prefilled_us,
        stamps=stamps,
        perf=EnginePerf(
            prefill_ms=prompt_us / 1000,
            prefill_tokens=end.prompt_eval_count or 0,
            decode_ms=(end.eval_duration or 0) / _NS_PER_MS,
            decode_tokens=end.eval_count or 0,
        ),
    )

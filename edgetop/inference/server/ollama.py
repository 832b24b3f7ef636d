"""Ollama.

It says at the end how many tokens the prompt had and how long it took. A prompt of another number of tokens than was
wanted, by a mark that the model sets before it, is asked for once more with as many words fewer.
"""

from __future__ import annotations

import random
from typing import Any, Final

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.core.records import StopReason
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.server.backend import ChatRequest, Count, Delta, Found, Offer, TestTimings
from edgetop.inference.server.connection import HttpClient, NdjsonReader, decode, error_words
from edgetop.inference.server.openai import failure_in_stream, messages_of
from edgetop.inference.server.usage import Usage
from edgetop.io.http import RequestCancelledError, RequestError

PATH = "/api/generate"

_TEXT = (
    "the of and to in is was for on that by this with you it not or be are from at as your all have new more an we can "
    "if my has but our one other do no they he up may what which their out use any there see only so his when here who "
    "also now get how were me some these its like than find back"
)

WORDS: Final = tuple(_TEXT.split())
"""Such as every vocabulary of a language model has as one token, with the space before it."""

COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,"
"""Hardly a model ends this before it has to: Ollama cannot be told to go on after the end of a reply."""

TRIES = 4

_NS_PER_US = 1000


class _GenerateLine(Struct):
    response: str | None = None
    done: bool = False
    prompt_eval_count: Count | None = None
    prompt_eval_cached_count: Count | None = None
    prompt_eval_duration: Count | None = None
    eval_count: Count | None = None
    eval_duration: Count | None = None
    error: object = None


class _Asked(Struct, frozen=True, kw_only=True):
    """One request and what came of it."""

    sent_us: int
    stamps: tuple[int, ...]
    """Of the lines with text."""
    end: _GenerateLine


def run_test(exchange: HttpClient, command: Measure, *, model: str, options: dict[str, object]) -> TestTimings:
    """Let Ollama do a test. `options` are those of the model that is loaded. Raises ServerFailure."""
    if command.depth:
        raise RequestError("Ollama does not say what of a prompt it had kept.", "Measure it without -d.")
    body = {
        "model": model,
        "raw": True,
        "stream": True,
        "options": {**options, "temperature": 0, "seed": command.seed, "num_predict": command.n_gen + 1},
    }
    if not command.n_prompt:
        asked = _ask(exchange, {**body, "prompt": COUNTING})
        return _tested(command, asked, asked.stamps[0] if asked.stamps else asked.sent_us)
    chosen = random.Random(command.seed)  # noqa: S311 - not for secrets
    words = count = command.n_prompt
    for _ in range(TRIES):
        # New words each time: what a prompt begins with as the one before did, would not be evaluated again.
        asked = _ask(exchange, {**body, "prompt": " ".join(chosen.choice(WORDS) for _ in range(words))})
        count = asked.end.prompt_eval_count or 0
        if asked.end.prompt_eval_cached_count:
            raise RequestError("Ollama had kept a part of the prompt.", "Look whether somebody else uses it.")
        if count == command.n_prompt:
            return _tested(command, asked, _end_of_prompt_us(asked))
        words = max(1, words - (count - command.n_prompt))
    raise RequestError(
        f"No prompt of {command.n_prompt} tokens could be made for this model: it counts {count} in {words} words.",
        "Measure it with --prompts.",
    )


def _ask(exchange: HttpClient, body: object) -> _Asked:
    sent_us, reader = monotonic_us(), NdjsonReader()
    stamps: list[int] = []
    end = _GenerateLine()
    with exchange.ask("POST", PATH, body) as answer:
        exchange.require_success(answer)
        for piece in answer.stream():
            for document in reader.feed(piece):
                end = decode(document, _GenerateLine)
                if end.error is not None:
                    raise failure_in_stream(error_words(document))
                stamps += [answer.received_us] if end.response else []
            if end.done:
                break
    if not end.done:
        raise RequestError("Ollama ended the test without saying how long it took.", "Look into its log.")
    return _Asked(sent_us=sent_us, stamps=tuple(stamps), end=end)


def _end_of_prompt_us(asked: _Asked) -> int:
    """When the prompt had been evaluated: the first token came then."""
    if not asked.stamps:
        raise RequestError("Ollama answered the test without any text.", "Choose another model.")
    return asked.stamps[0]


def _tested(command: Measure, asked: _Asked, prefilled_us: int) -> TestTimings:
    end = asked.end
    if (end.eval_count or 0) < command.n_gen + 1:
        raise RequestError(
            f"The model ended its reply after {end.eval_count or 0} of {command.n_gen + 1} tokens, and Ollama cannot "
            "be told to go on.",
            "Measure a shorter reply (-n), or with --prompts.",
        )
    prompt_us = (end.prompt_eval_duration or 0) // _NS_PER_US
    if command.n_prompt and not prompt_us:
        raise RequestError("Ollama does not say how long it took for the prompt.", "Use a newer one.")
    # A line may hold several tokens: those that have none of their own came with the last one.
    stamps = asked.stamps[: command.n_gen + 1]
    stamps += (asked.stamps[-1:] or (prefilled_us,)) * (command.n_gen + 1 - len(stamps))
    return TestTimings(
        prefill_us=max(asked.sent_us, prefilled_us - prompt_us),
        prefilled_us=prefilled_us,
        stamps=stamps,
        perf=EnginePerf(
            prefill_ms=prompt_us / 1000,
            prefill_tokens=end.prompt_eval_count or 0,
            decode_ms=(end.eval_duration or 0) / _NS_PER_US / 1000,
            decode_tokens=end.eval_count or 0,
        ),
    )


_NS_PER_MS = 1e6

_THINKING = "enable_thinking"
"""The template argument that Ollama has a field of its own for."""


class _Version(Struct):
    version: str


class _Details(Struct):
    family: str = ""
    quantization_level: str = ""
    parameter_size: str = ""


class _Model(Struct):
    name: str
    size: Count | None = None
    details: _Details | None = None
    size_vram: Count | None = None
    context_length: Count | None = None


class _Models(Struct):
    models: list[_Model] | None = None


class _Shown(Struct):
    model_info: dict[str, Any] | None = None
    details: _Details | None = None


class _Message(Struct):
    content: str | None = None
    thinking: str | None = None


class _Line(Struct):
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    load_duration: Count | None = None
    prompt_eval_count: Count | None = None
    prompt_eval_cached_count: Count | None = None
    prompt_eval_duration: Count | None = None
    eval_count: Count | None = None
    eval_duration: Count | None = None
    error: object = None


class OllamaDialect:
    """Ollama."""

    name = "Ollama"

    def version(self, exchange: HttpClient) -> str:
        """Its version. Raises ServerFailure."""
        return exchange.get("/api/version", _Version).version

    def wait(self, exchange: HttpClient, loading_s: float) -> None:
        """It answers at once, and loads a model when it is asked for."""

    def offers(self, exchange: HttpClient) -> list[Offer]:
        """The models that were pulled. Raises ServerFailure."""
        loaded = {model.name for model in self._running(exchange)}
        return [
            Offer(
                name=model.name,
                size_bytes=model.size,
                quantization=model.details.quantization_level if model.details else "",
                loaded=model.name in loaded,
            )
            for model in exchange.get("/api/tags", _Models).models or []
        ]

    def load(self, exchange: HttpClient, offer: Offer, settings: EngineSettings, loading_s: float) -> Found:
        """Let it load the model, which it would else do with the first question. Raises ServerFailure."""
        body = {"model": offer.name, "stream": False, "options": _options(settings)}
        exchange.post("/api/generate", body, _Line, silence_s=loading_s)
        shown = exchange.post("/api/show", {"model": offer.name}, _Shown)
        running = next((model for model in self._running(exchange) if model.name == offer.name), None)
        info = shown.model_info or {}
        details = shown.details or _Details()
        architecture = str(info.get("general.architecture") or details.family)
        parameters = _count(info.get("general.parameter_count"))
        size = offer.size_bytes
        return Found(
            name=offer.name,
            model=ModelInfo(
                path=offer.name,
                name=offer.name,
                architecture=architecture,
                quantization=details.quantization_level or offer.quantization,
                # The size is that of all that was pulled: for a model with an eye of its own it is too much.
                bits_per_weight=8 * size / parameters if size and parameters else None,
                size_bytes=size,
                parameters=parameters,
                n_ctx_train=_count(info.get(f"{architecture}.context_length")),
                n_layer=_count(info.get(f"{architecture}.block_count")),
                chat_template="model",
            ),
            settings=_told(settings, running),
            memory=_memory(running),
            version=self.version(exchange),
        )

    def question(self, command: Generate, found: Found, settings: EngineSettings) -> ChatRequest:
        """The request for an answer; a conversation that ends with the assistant's words is gone on with."""
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
            "model": found.name,
            "messages": messages_of(command.messages),
            "stream": True,
            "options": options,
        }
        if _THINKING in settings.template_args:
            body["think"] = settings.template_args[_THINKING]
        return ChatRequest(path="/api/chat", body=body)

    def stream(self) -> OllamaStream:
        """For one answer."""
        return OllamaStream()

    def test(self, exchange: HttpClient, command: Measure, found: Found) -> TestTimings:
        """Words for a prompt, and a reply that hardly ends by itself. Raises ServerFailure."""
        return run_test(exchange, command, model=found.name, options=_options(found.settings))

    @staticmethod
    def _running(exchange: HttpClient) -> list[_Model]:
        try:
            return exchange.get("/api/ps", _Models).models or []
        except RequestCancelledError:
            raise
        except RequestError:
            return []  # before 0.1.33 it did not tell


class OllamaStream:
    """The answer to a streamed chat request."""

    def __init__(self) -> None:
        self._reader = NdjsonReader()

    def feed(self, data: bytes) -> list[Delta]:
        """What `data` completes. Raises ServerFailure."""
        return [_delta(line) for line in self._reader.feed(data)]

    def finish(self) -> list[Delta]:
        """What the end of the stream completes."""
        return [_delta(line) for line in self._reader.finish()]

    def as_document(self) -> None:
        """Its lines are read alike, whatever they are called."""


def _delta(data: bytes) -> Delta:
    line = decode(data, _Line)
    if line.error is not None:
        raise failure_in_stream(error_words(data))
    said = line.message or _Message()
    text, reasoning = said.content or "", said.thinking or ""
    if not line.done:
        return Delta(text=text, reasoning=reasoning)
    prompt, cached = line.prompt_eval_count, line.prompt_eval_cached_count
    return Delta(
        text=text,
        reasoning=reasoning,
        stop_reason=_stop_reason(line.done_reason),
        prompt_tokens=prompt,
        cached_tokens=cached,
        total_tokens=line.eval_count,
        perf=_perf(line),
        done=True,
    )


def _perf(line: _Line) -> EnginePerf | None:
    if line.eval_count is None or not line.eval_duration:
        return None
    evaluated = (line.prompt_eval_count or 0) - (line.prompt_eval_cached_count or 0)
    return EnginePerf(
        prefill_ms=(line.prompt_eval_duration or 0) / _NS_PER_MS,
        prefill_tokens=max(0, evaluated),
        decode_ms=line.eval_duration / _NS_PER_MS,
        decode_tokens=line.eval_count,
    )


def _stop_reason(done_reason: str | None) -> StopReason:
    return "max_tokens" if done_reason == "length" else "end_of_generation"


def _options(settings: EngineSettings) -> dict[str, object]:
    """What Ollama lets a request decide of how a model is run; it loads the model anew when it changes."""
    asked = {
        "num_ctx": settings.n_ctx,
        "num_thread": settings.n_threads,
        "num_batch": settings.n_batch,
        "num_gpu": settings.n_gpu_layers,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _told(settings: EngineSettings, running: _Model | None) -> EngineSettings:
    n_ctx = running.context_length if running is not None and running.context_length else settings.n_ctx
    return EngineSettings(
        n_ctx=n_ctx,
        n_threads=settings.n_threads,
        n_batch=settings.n_batch,
        n_gpu_layers=settings.n_gpu_layers,
        template_args=settings.template_args,
    )


def _memory(running: _Model | None) -> MemoryBreakdown:
    """What Ollama says a loaded model takes: in all, and of that on GPUs."""
    if running is None or running.size is None:
        return MemoryBreakdown()
    sizes = {"Ollama, in all": running.size}
    if running.size_vram is not None:
        sizes["Ollama, on GPUs"] = running.size_vram
    return MemoryBreakdown(by_buffer=sizes)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**50 else None


OLLAMA_TELLS_NONE = Unavailable(
    "Ollama does not tell how many tokens it generates for others", "llama-server with --metrics and vLLM do"
)


class _Loaded(Struct):
    name: str = ""


class _Ps(Struct):
    models: list[_Loaded] | None = None


class OllamaReader:
    """Ollama: which models are loaded; it tells nothing of what it does for others."""

    health = "/api/version"

    def __init__(self) -> None:
        self._version: str | None = None

    def read(self, exchange: HttpClient) -> Usage:
        """See UsageReader."""
        if self._version is None:
            self._version = OllamaDialect().version(exchange)
        loaded = exchange.get("/api/ps", _Ps).models or []
        return Usage(
            kind="ollama",
            version=self._version,
            models=tuple(model.name for model in loaded),
            tokens=OLLAMA_TELLS_NONE,
            counts="nothing",
            no_count=OLLAMA_TELLS_NONE,
        )

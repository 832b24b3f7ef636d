"""Ollama's own API: lines of JSON, with counts and durations in the last one."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from edgetop.core.engine import EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.core.records import StopReason
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.server.dialect import Count, Delta, Found, Offer, Question
from edgetop.inference.server.exchange import Exchange, decode, error_words
from edgetop.inference.server.failure import ServerFailure, Stopped
from edgetop.inference.server.lines import NdjsonReader
from edgetop.inference.server.ollama_measurement import run_test
from edgetop.inference.server.openai_chat import failure_in_stream, messages_of
from edgetop.inference.server.token_measurement import Tested

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

    def version(self, exchange: Exchange) -> str:
        """Its version. Raises ServerFailure."""
        return exchange.get("/api/version", _Version).version

    def wait(self, exchange: Exchange, loading_s: float) -> None:
        """It answers at once, and loads a model when it is asked for."""

    def offers(self, exchange: Exchange) -> list[Offer]:
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

    def load(self, exchange: Exchange, offer: Offer, settings: EngineSettings, loading_s: float) -> Found:
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

    def question(self, command: Generate, found: Found, settings: EngineSettings) -> Question:
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
        return Question(path="/api/chat", body=body)

    def stream(self) -> OllamaStream:
        """For one answer."""
        return OllamaStream()

    def test(self, exchange: Exchange, command: Measure, found: Found) -> Tested:
        """Words for a prompt, and a reply that hardly ends by itself. Raises ServerFailure."""
        return run_test(exchange, command, model=found.name, options=_options(found.settings))

    @staticmethod
    def _running(exchange: Exchange) -> list[_Model]:
        try:
            return exchange.get("/api/ps", _Models).models or []
        except Stopped:
            raise
        except ServerFailure:
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

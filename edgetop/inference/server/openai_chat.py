"""The chat API that OpenAI defined, as servers on one's own machine speak it: request and stream.

llama-server and vLLM say more in it than it asks for: how far the prompt has been read, how many tokens a chunk brings,
and how long they took.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from edgetop.core.engine import EnginePerf, SamplingSettings
from edgetop.core.records import StopReason
from edgetop.inference.protocol import ChatMessage
from edgetop.inference.server.dialect import Count, Delta, Progress
from edgetop.inference.server.exchange import decode, error_words, is_of_context
from edgetop.inference.server.failure import ServerFailure
from edgetop.inference.server.lines import DocumentReader, SseReader

PATH = "/v1/chat/completions"
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
            else Progress(progress.total, progress.cache, progress.processed, progress.time_ms),
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


def failure_in_stream(words: str) -> ServerFailure:
    """An error that a server tells in the middle of an answer."""
    if is_of_context(words):
        return ServerFailure(
            f"The conversation does not fit the server's context: {words}.",
            "Clear it, or start the server with a longer context.",
            cause="context",
        )
    return ServerFailure(f"The server broke the answer off: {words or 'it does not say why'}.", "Look into its log.")


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

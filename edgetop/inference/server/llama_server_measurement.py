"""Tests on a llama-server: it takes tokens for a prompt, evaluates them anew and goes on after the end of a reply."""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.engine import EnginePerf
from edgetop.inference.protocol import Measure
from edgetop.inference.server.dialect import Delta, Found
from edgetop.inference.server.exchange import Exchange, decode, error_words
from edgetop.inference.server.failure import ServerFailure
from edgetop.inference.server.lines import SseReader
from edgetop.inference.server.openai_chat import Timings, failure_in_stream, perf_of
from edgetop.inference.server.stream import deltas_of
from edgetop.inference.server.token_measurement import Tested, random_tokens, require_tokens

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


def run_test(exchange: Exchange, command: Measure, found: Found) -> Tested:
    """Let a server do a test. Raises ServerFailure."""
    n_vocab, n_ctx = found.model.n_vocab, found.settings.n_ctx
    if not n_vocab:
        raise ServerFailure("The server does not tell which tokens it has.", "Use a newer llama-server.")
    needed = command.depth + command.n_prompt + command.n_gen
    if n_ctx is not None and needed > n_ctx:
        raise ServerFailure(
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

    def tested(self, command: Measure) -> Tested:
        perf, cached = self._last.perf, self._last.cached_tokens
        if not self._last.done or perf is None or self._prefilled_us is None:
            raise ServerFailure("The server ended the test without saying how long it took.", "Look into its log.")
        if command.n_prompt + command.n_gen and cached != self._held:
            raise ServerFailure(
                f"The server kept {cached or 0} of the {self._held} tokens that the test begins with.",
                "Its model or its settings do not let it: measure without -d.",
            )
        require_tokens(len(self._stamps), command.n_gen + 1)
        return Tested(
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

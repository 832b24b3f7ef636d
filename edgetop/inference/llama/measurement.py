"""Random tokens evaluated for their time alone, in the manner of llama.cpp's llama-bench (tools/llama-bench)."""

from __future__ import annotations

import random

from edgetop.core.clock import monotonic_us
from edgetop.core.engine import EnginePerf
from edgetop.core.records import Prefill, StopReason, Tokens, TurnFinished
from edgetop.inference.engine import Reporter, Stop
from edgetop.inference.llama.context import Context, Counters, DecodeError
from edgetop.inference.llama.model import LoadedModel
from edgetop.inference.protocol import Measure

_NO_TOKEN = -1
REPORT_EVERY = 8
"""Tokens between two reports: as rare as those of a reply that is drawn a few times a second."""


class Measurement:
    """One test under way: a prompt of random tokens, then random tokens one by one, at a depth of the context."""

    def __init__(self, model: LoadedModel, command: Measure, *, stop: Stop, report: Reporter) -> None:
        self._context: Context = model.context
        self._vocabulary = model.vocabulary
        self._command = command
        self._stop = stop
        self._report = report
        self._random = random.Random(command.seed)  # noqa: S311 - not for secrets
        self._generated = 0
        self._stamps: list[int] = []
        self._prefill_counters = Counters(0.0, 0)

    def run(self) -> None:
        """Measure; the last report is TurnFinished."""
        command = self._command
        needed = command.depth + command.n_prompt + command.n_gen
        if needed > self._context.n_ctx:
            self._finish("context_full", f"The test takes {needed} tokens and the context holds {self._context.n_ctx}.")
            return
        self._context.watch(self._stop)
        try:
            finished = self._fill(command.depth) and self._prefill() and self._decode()
        except DecodeError as error:
            self._finish("failed", f"{error}. Load the model again.")
        else:
            self._finish("max_tokens" if finished else "cancelled")

    def _fill(self, depth: int) -> bool:
        """Bring the cache to the tokens of this depth; they are not part of what is measured."""
        always_the_same = random.Random(depth)  # noqa: S311 - not for secrets
        tokens = [always_the_same.randrange(self._vocabulary.size) for _ in range(depth)]
        held = self._context.reuse([*tokens, _NO_TOKEN])
        step = self._context.n_ubatch
        return all(self._evaluate(tokens[at : min(depth, at + step)]) for at in range(held, depth, step))

    def _prefill(self) -> bool:
        self._context.take_counters()
        total, cached = self._command.n_prompt, self._command.depth
        chunks = self._chunks(total)  # drawn before the clock is read
        done = 0
        self._tell_prefill(0, total, cached)
        for chunk in chunks:
            if not self._evaluate(chunk):
                return False
            done += len(chunk)
            self._tell_prefill(done, total, cached)
        self._prefill_counters = self._context.take_counters()
        return True

    def _decode(self) -> bool:
        tokens = [self._draw() for _ in range(self._command.n_gen)]
        for token in tokens:
            if not self._evaluate([token]):
                self._tell_tokens()
                return False
            self._stamps.append(monotonic_us())
            self._generated += 1
            if len(self._stamps) == REPORT_EVERY:
                self._tell_tokens()
        self._tell_tokens()
        return True

    def _evaluate(self, tokens: list[int]) -> bool:
        return not self._stop.requested and self._context.evaluate(tokens)

    def _chunks(self, count: int) -> list[list[int]]:
        step = self._context.n_ubatch
        return [[self._draw() for _ in range(min(step, count - begin))] for begin in range(0, count, step)]

    def _draw(self) -> int:
        return self._random.randrange(self._vocabulary.size)

    def _tell_prefill(self, done: int, total: int, cached: int) -> None:
        self._report(Prefill(turn=self._command.turn, t_us=monotonic_us(), done=done, total=total, cached=cached))

    def _tell_tokens(self) -> None:
        if self._stamps:
            stamps, self._stamps = tuple(self._stamps), []
            self._report(Tokens(turn=self._command.turn, t_us=stamps, pieces=("",) * len(stamps)))

    def _finish(self, reason: StopReason, error: str = "") -> None:
        decode = self._context.take_counters()
        self._report(
            TurnFinished(
                turn=self._command.turn,
                t_us=monotonic_us(),
                stop_reason=reason,
                prompt_tokens=self._command.depth + self._command.n_prompt,
                cached_tokens=self._command.depth,
                generated_tokens=self._generated,
                context_used=len(self._context.tokens),
                seed=self._command.seed,
                perf=EnginePerf(
                    prefill_ms=self._prefill_counters.evaluation_ms,
                    prefill_tokens=self._prefill_counters.tokens,
                    decode_ms=decode.evaluation_ms,
                    decode_tokens=decode.tokens,
                ),
                error=error,
            )
        )

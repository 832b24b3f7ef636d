"""One turn: a question to a server, and its answer as it arrives."""

from __future__ import annotations

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.engine import EnginePerf, EngineSettings
from edgetop.core.records import Prefill, StopReason, TurnFinished
from edgetop.inference.engine import Reporter
from edgetop.inference.protocol import Generate
from edgetop.inference.server.dialect import Delta, Dialect, Found, Progress, Question
from edgetop.inference.server.exchange import Answer, Exchange
from edgetop.inference.server.failure import ServerFailure, Stopped
from edgetop.inference.server.reply import ArrivingReply
from edgetop.inference.server.stream import deltas_of


class Turn:
    """A turn under way."""

    def __init__(
        self,
        exchange: Exchange,
        dialect: Dialect,
        found: Found,
        settings: EngineSettings,
        *,
        command: Generate,
        report: Reporter,
        loading_s: float,
    ) -> None:
        """`loading_s` is how long the server may be loading its model before it answers."""
        self._loading_s = loading_s
        self._exchange = exchange
        self._dialect = dialect
        self._found = found
        self._settings = settings
        self._command = command
        self._report = report
        self._reply = ArrivingReply(command.turn, report, goes_on=command.continue_reply)
        self._begun_us = monotonic_us()
        self._progress: Progress | None = None
        self._stop_reason: StopReason | None = None
        self._prompt_tokens: int | None = None
        self._cached_tokens: int | None = None
        self._total_tokens: int | None = None
        self._perf: EnginePerf | None = None

    def run(self) -> None:
        """Ask and follow the answer; the last report is TurnFinished."""
        reason: StopReason = "end_of_generation"
        error = ""
        try:
            self._ask()
            reason = self._reason()
        except Stopped:
            reason = "cancelled"
        except ServerFailure as failure:
            reason = "context_full" if failure.cause == "context" else "failed"
            error = failure.sentence
        self._reply.finish()
        self._report(self._finished(reason, error))

    def _ask(self) -> None:
        question = self._dialect.question(self._command, self._found, self._settings)
        with self._answer(question) as answer:
            for t_us, delta in deltas_of(answer, self._dialect.stream()):
                self._take(t_us, delta)
                if delta.done:
                    return
                if answer.is_drained:
                    self._reply.flush()
        if self._stop_reason is None:
            raise ServerFailure(
                "The server ended its answer without saying that it is complete.", "Look whether it still runs."
            )

    def _answer(self, question: Question) -> Answer:
        """The answer that begins; a server that was started anew is waited for until it has loaded its model."""
        deadline_us = monotonic_us() + round(self._loading_s * US_PER_S)
        while True:
            answer = self._exchange.ask("POST", question.path, question.body)
            try:
                self._exchange.require_success(answer)
            except ServerFailure as failure:
                answer.hang_up()
                loads = failure.cause == "loading" and "loading" in failure.what.lower()
                if not loads or monotonic_us() >= deadline_us:
                    raise
            else:
                return answer
            self._exchange.wait_for_model()

    def _take(self, t_us: int, delta: Delta) -> None:
        if delta.progress is not None:
            self._note_progress(t_us, delta.progress)
        if delta.reasoning:
            # A chunk has one part or the other; with both its tokens are counted with the answer.
            self._reply.add(t_us, delta.reasoning, "reasoning", generated=delta.generated)
        if delta.text:
            self._reply.add(t_us, delta.text, "answer", generated=delta.generated)
        self._stop_reason = delta.stop_reason or self._stop_reason
        self._perf = delta.perf or self._perf
        for name in ("prompt_tokens", "cached_tokens", "total_tokens"):
            told = getattr(delta, name)
            if told is not None:
                setattr(self, f"_{name}", told)

    def _note_progress(self, t_us: int, progress: Progress) -> None:
        cached = min(progress.cached, progress.total)
        total = progress.total - cached
        done = min(max(progress.processed - cached, 0), total)
        if self._progress is None and done > 0 and progress.time_ms is not None:
            begun_us = max(self._begun_us, t_us - round(progress.time_ms * 1000))
            self._report(Prefill(turn=self._command.turn, t_us=begun_us, done=0, total=total, cached=cached))
        self._progress = progress
        self._report(Prefill(turn=self._command.turn, t_us=t_us, done=done, total=total, cached=cached))

    def _reason(self) -> StopReason:
        """Why the answer ended; a length that nobody asked for is the end of the context."""
        reason = self._stop_reason or "end_of_generation"
        limit = self._command.sampling.max_tokens
        if reason == "max_tokens" and (limit is None or self._generated()[0] < limit - 1):
            return "context_full"
        return reason

    def _generated(self) -> tuple[int, bool]:
        """How many tokens were generated, the end-of-generation one left out, and whether that was counted.

        Servers count the token that ended the reply, which has no text. Where there is one more token than chunks, it
        is that one, and each chunk was a token.
        """
        reply, total = self._reply, self._total_tokens
        if reply.chunks and reply.counted:
            return reply.tokens, True
        if total is None:
            return reply.chunks, False
        ended = self._stop_reason in {"end_of_generation", "stop_string"}
        return (reply.chunks if ended and total == reply.chunks + 1 else total), True

    def _finished(self, reason: StopReason, error: str) -> TurnFinished:
        progress = self._progress
        prompt = self._prompt_tokens
        if prompt is None:
            prompt = progress.total if progress is not None else 0
        cached = self._cached_tokens
        if cached is None:
            cached = progress.cached if progress is not None else 0
        generated, counted = self._generated()
        return TurnFinished(
            turn=self._command.turn,
            t_us=monotonic_us(),
            stop_reason=reason,
            prompt_tokens=prompt,
            cached_tokens=min(cached, prompt),
            generated_tokens=generated,
            context_used=prompt + generated,
            seed=self._command.sampling.seed,
            perf=self._perf,
            error=error,
            counted=counted,
        )

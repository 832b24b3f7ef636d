"""A server behind the protocol; one turn."""

from __future__ import annotations

import os
from pathlib import Path

from edgetop.core.clock import US_PER_S, monotonic_us, seconds
from edgetop.core.engine_settings import EngineInfo, EnginePerf, EngineSettings
from edgetop.core.records import ModelLoaded, Prefill, StopReason, TurnFinished
from edgetop.inference.engine import Reporter, Stop
from edgetop.inference.protocol import Choose, Generate, Load, LoadFailed, Measure, Perplexity, ScoreFailed, Waiting
from edgetop.inference.reply import ServerReply
from edgetop.inference.server.address import KEY_VARIABLE, Address, ServerChoice, key_of
from edgetop.inference.server.backend import (
    ChatRequest,
    Delta,
    Found,
    PromptProgress,
    ServerBackend,
    choose,
    deltas_of,
    report_test,
)
from edgetop.inference.server.connection import HttpClient, HttpResponse
from edgetop.inference.server.detection import detect
from edgetop.io.http import RequestCancelledError, RequestError


class Generation:
    """A turn under way."""

    def __init__(
        self,
        exchange: HttpClient,
        dialect: ServerBackend,
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
        self._reply = ServerReply(command.turn, report, goes_on=command.continue_reply)
        self._begun_us = monotonic_us()
        self._progress: PromptProgress | None = None
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
        except RequestCancelledError:
            reason = "cancelled"
        except RequestError as failure:
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
            raise RequestError(
                "The server ended its answer without saying that it is complete.", "Look whether it still runs."
            )

    def _answer(self, question: ChatRequest) -> HttpResponse:
        """The answer that begins; a server that was started anew is waited for until it has loaded its model."""
        deadline_us = monotonic_us() + round(self._loading_s * US_PER_S)
        while True:
            answer = self._exchange.ask("POST", question.path, question.body)
            try:
                self._exchange.require_success(answer)
            except RequestError as failure:
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

    def _note_progress(self, t_us: int, progress: PromptProgress) -> None:
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


ANY_MODEL = Path()
"""In place of a model's name: the one that the server has loaded, or its only one."""

NO_LIKELIHOODS = "A server tells no likelihoods, so that quality cannot be scored with it."

_NOT_LOADED = "No model is loaded: load one first."

_HINT = "Leave --server out and name a model file."


class ServerEngine:
    """One model of one server at a time. Nothing is contacted before a model is asked for."""

    def __init__(self, choice: ServerChoice) -> None:
        """Raises ValueError for an address that is none."""
        self._choice = choice
        self._address: Address = choice.address
        self._ready: tuple[ServerBackend, Found, EngineSettings, str] | None = None

    @property
    def info(self) -> EngineInfo:
        """What computes, as far as it is known before the server was asked."""
        return self._info("server", "")

    def load(self, command: Load, stop: Stop, report: Reporter) -> None:
        """Ask the server for a model; the last report is ModelLoaded or LoadFailed."""
        begin_us = monotonic_us()
        self._ready = None
        try:
            key = key_of(self._choice, os.environ.get(KEY_VARIABLE))
            exchange = self._exchange(stop, key, report)
            dialect = detect(exchange, self._choice.kind)
            dialect.wait(exchange, self._choice.loading_s)
            wanted = None if command.path == str(ANY_MODEL) else command.path
            offer = choose(dialect.offers(exchange), wanted)
            found = dialect.load(exchange, offer, command.settings, self._choice.loading_s)
        except RequestCancelledError:
            hint = "Load the model again."
            report(LoadFailed(reason="cancelled", message="Loading was cancelled.", hint=hint))
            return
        except RequestError as failure:
            missing = failure.cause == "missing"
            report(LoadFailed(reason="missing" if missing else "failed", message=failure.what, hint=failure.hint))
            return
        except ValueError as error:
            report(LoadFailed(reason="failed", message=f"{error}.", hint="Put the key alone into it."))
            return
        self._ready = (dialect, found, command.settings, key)
        now_us = monotonic_us()
        report(
            ModelLoaded(
                t_us=now_us,
                load_s=seconds(now_us - begin_us),
                model=found.model,
                engine=self._info(dialect.name, found.version),
                settings=found.settings,
                memory=found.memory,
            )
        )

    def generate(self, command: Generate, stop: Stop, report: Reporter) -> None:
        """Answer; the last report is TurnFinished."""
        if self._ready is None:
            report(_failed(command.turn, _NOT_LOADED))
            return
        dialect, found, settings, key = self._ready
        exchange = self._exchange(stop, key, report)
        loading_s = self._choice.loading_s
        Generation(exchange, dialect, found, settings, command=command, report=report, loading_s=loading_s).run()

    def measure(self, command: Measure, stop: Stop, report: Reporter) -> None:
        """Let the server do a test, where its kind has such; the last report is TurnFinished."""
        if self._ready is None:
            report(_failed(command.turn, _NOT_LOADED))
            return
        dialect, found, _, key = self._ready
        try:
            tested = dialect.test(self._exchange(stop, key, report), command, found)
        except RequestCancelledError:
            report(_failed(command.turn, "", "cancelled"))
        except RequestError as failure:
            reason: StopReason = "context_full" if failure.cause == "context" else "failed"
            report(_failed(command.turn, failure.sentence, reason))
        else:
            report_test(command, tested, report)

    def score(self, command: Perplexity | Choose, stop: Stop, report: Reporter) -> None:  # noqa: ARG002 - the same
        """Servers give no likelihoods; the last report is ScoreFailed."""
        report(ScoreFailed(message=NO_LIKELIHOODS, hint=_HINT))

    def close(self) -> None:
        """Nothing is held: each request has a connection of its own."""

    def _exchange(self, stop: Stop, key: str, report: Reporter) -> HttpClient:
        return HttpClient(
            self._address,
            key=key,
            silence_s=self._choice.timeout_s,
            stopped=lambda: stop.requested,
            on_loading=lambda: report(Waiting(text="The server is still loading its model, and is waited for.")),
        )

    def _info(self, name: str, version: str) -> EngineInfo:
        return EngineInfo(name=name, version=version, server=str(self._address), stamps="arrival")


def _failed(turn: int, error: str, reason: StopReason = "failed") -> TurnFinished:
    return TurnFinished(
        turn=turn,
        t_us=monotonic_us(),
        stop_reason=reason,
        prompt_tokens=0,
        cached_tokens=0,
        generated_tokens=0,
        context_used=0,
        error=error,
        counted=False,
    )

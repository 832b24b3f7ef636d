"""A server behind the protocol; one turn."""

from __future__ import annotations

import os

from edgetop.core.clock import US_PER_S, monotonic_us, seconds
from edgetop.core.engine_settings import EngineInfo, EnginePerf, EngineSettings
from edgetop.core.records import ModelLoaded, Prefill, StopReason, TurnFinished
from edgetop.inference.engine import NO_MODEL, Reporter, Stop, empty_turn
from edgetop.inference.protocol import Choose, Generate, Load, LoadFailed, Measure, Perplexity, ScoreFailed, Waiting
from edgetop.inference.reply import ReplyBatcher
from edgetop.inference.server.address import ANY_MODEL, KEY_VARIABLE, Address, ServerChoice, key_of
from edgetop.inference.server.backend import (
    ChatRequest,
    Delta,
    LoadedModel,
    PromptProgress,
    ServerBackend,
    choose,
    report_test,
)
from edgetop.inference.server.connection import ServerClient
from edgetop.inference.server.detection import detect
from edgetop.io.http import HttpResponse, RequestCancelledError, RequestError

NO_LIKELIHOODS = "A server reports no likelihoods, so that quality cannot be scored with it."


class Generation:
    """One turn."""

    def __init__(
        self,
        client: ServerClient,
        backend: ServerBackend,
        model: LoadedModel,
        settings: EngineSettings,
        *,
        command: Generate,
        report: Reporter,
        loading_s: float,
    ) -> None:
        """`loading_s` is how long the server may load its model before it answers."""
        self._loading_s = loading_s
        self._client = client
        self._backend = backend
        self._model = model
        self._settings = settings
        self._command = command
        self._report = report
        self._reply = ReplyBatcher(command.turn, report, continued=command.continue_reply)
        self._begun_us = monotonic_us()
        self._progress: PromptProgress | None = None
        self._stop_reason: StopReason | None = None
        self._prompt_tokens: int | None = None
        self._cached_tokens: int | None = None
        self._total_tokens: int | None = None
        self._perf: EnginePerf | None = None

    def run(self) -> None:
        """Send the request and report its answer; the last report is TurnFinished."""
        reason: StopReason
        text = ""
        try:
            self._receive()
            reason = self._reason()
        except RequestError as error:
            reason, text = _failure(error)
        self._reply.finish()
        self._report(self._finished(reason, text))

    def _receive(self) -> None:
        request = self._backend.chat_request(self._command, self._model, self._settings)
        with self._send(request) as answer:
            for t_us, delta in self._backend.chat_stream().deltas(answer):
                self._add(t_us, delta)
                if delta.done:
                    return
                if answer.is_drained:
                    self._reply.flush()
        if self._stop_reason is None:
            raise RequestError(
                "The server ended its answer without saying that it is complete.", "Check whether it still runs."
            )

    def _send(self, request: ChatRequest) -> HttpResponse:
        """The answer, once it begins; a server that was restarted may have to load its model first."""
        deadline_us = monotonic_us() + round(self._loading_s * US_PER_S)
        while True:
            answer = self._client.request("POST", request.path, request.body)
            try:
                self._client.raise_for_status(answer)
            except RequestError as error:
                answer.close()
                is_loading = error.cause == "loading" and "loading" in error.what.lower()
                if not is_loading or monotonic_us() >= deadline_us:
                    raise
            else:
                return answer
            self._client.wait_for_model()

    def _add(self, t_us: int, delta: Delta) -> None:
        if delta.progress is not None:
            self._report_progress(t_us, delta.progress)
        if delta.reasoning:
            # A chunk has one part or the other; with both, its tokens are counted with the first one.
            self._reply.add_chunk(t_us, delta.reasoning, "reasoning", generated=delta.generated)
        if delta.text:
            self._reply.add_chunk(t_us, delta.text, "answer", generated=delta.generated)
        self._stop_reason = delta.stop_reason or self._stop_reason
        self._perf = delta.perf or self._perf
        for name in ("prompt_tokens", "cached_tokens", "total_tokens"):
            count = getattr(delta, name)
            if count is not None:
                setattr(self, f"_{name}", count)

    def _report_progress(self, t_us: int, progress: PromptProgress) -> None:
        cached = min(progress.cached, progress.total)
        total = progress.total - cached
        done = min(max(progress.processed - cached, 0), total)
        if self._progress is None and done > 0 and progress.time_ms is not None:
            begun_us = max(self._begun_us, t_us - round(progress.time_ms * 1000))
            self._report(Prefill(turn=self._command.turn, t_us=begun_us, done=0, total=total, cached=cached))
        self._progress = progress
        self._report(Prefill(turn=self._command.turn, t_us=t_us, done=done, total=total, cached=cached))

    def _reason(self) -> StopReason:
        """Why the answer ended; a length that was not requested is the end of the context."""
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


class ServerEngine:
    """One model of one server at a time. Nothing is contacted before a model is loaded."""

    def __init__(self, choice: ServerChoice) -> None:
        """Raises ValueError for an address that is none."""
        self._choice = choice
        self._address: Address = choice.address
        self._loaded: tuple[ServerBackend, LoadedModel, EngineSettings, str] | None = None

    @property
    def info(self) -> EngineInfo:
        """What computes, as far as it is known before the server was contacted."""
        return self._info("server", "")

    def load(self, command: Load, stop: Stop, report: Reporter) -> None:
        """Have the server load a model; the last report is ModelLoaded or LoadFailed."""
        begin_us = monotonic_us()
        self._loaded = None
        try:
            key = key_of(self._choice, os.environ.get(KEY_VARIABLE))
            client = self._client(stop, key, report)
            backend = detect(client, self._choice.kind)
            backend.wait_until_ready(client, self._choice.loading_s)
            wanted = None if command.path == str(ANY_MODEL) else command.path
            offer = choose(backend.offers(client), wanted)
            model = backend.load(client, offer, command.settings, self._choice.loading_s)
        except RequestCancelledError:
            hint = "Load the model again."
            report(LoadFailed(reason="cancelled", message="Loading was cancelled.", hint=hint))
            return
        except RequestError as error:
            missing = error.cause == "missing"
            report(LoadFailed(reason="missing" if missing else "failed", message=error.what, hint=error.hint))
            return
        except ValueError as error:
            report(LoadFailed(reason="failed", message=f"{error}.", hint="Put nothing but the key into it."))
            return
        self._loaded = (backend, model, command.settings, key)
        now_us = monotonic_us()
        report(
            ModelLoaded(
                t_us=now_us,
                load_s=seconds(now_us - begin_us),
                model=model.info,
                engine=self._info(backend.name, model.version),
                settings=model.settings,
                memory=model.memory,
            )
        )

    def generate(self, command: Generate, stop: Stop, report: Reporter) -> None:
        """Answer; the last report is TurnFinished."""
        if self._loaded is None:
            report(empty_turn(command.turn, "failed", NO_MODEL))
            return
        backend, model, settings, key = self._loaded
        client = self._client(stop, key, report)
        loading_s = self._choice.loading_s
        Generation(client, backend, model, settings, command=command, report=report, loading_s=loading_s).run()

    def measure(self, command: Measure, stop: Stop, report: Reporter) -> None:
        """Have the server run a test, where its kind can; the last report is TurnFinished."""
        if self._loaded is None:
            report(empty_turn(command.turn, "failed", NO_MODEL))
            return
        backend, model, _, key = self._loaded
        try:
            timings = backend.run_test(self._client(stop, key, report), command, model)
        except RequestError as error:
            report(empty_turn(command.turn, *_failure(error)))
        else:
            report_test(command, timings, report)

    def score(self, command: Perplexity | Choose, stop: Stop, report: Reporter) -> None:  # noqa: ARG002 - cannot
        """Servers report no likelihoods; the last report is ScoreFailed."""
        report(ScoreFailed(message=NO_LIKELIHOODS, hint="Leave --server out and name a model file."))

    def close(self) -> None:
        """Nothing is open: each request has a connection of its own."""

    def _client(self, stop: Stop, key: str, report: Reporter) -> ServerClient:
        return ServerClient(
            self._address,
            key=key,
            idle_s=self._choice.timeout_s,
            stopped=lambda: stop.requested,
            on_loading=lambda: report(Waiting(text="The server is still loading its model; waiting for it.")),
        )

    def _info(self, name: str, version: str) -> EngineInfo:
        return EngineInfo(name=name, version=version, server=str(self._address), stamps="arrival")


def _failure(error: RequestError) -> tuple[StopReason, str]:
    """Why a turn ended, and the text for a person."""
    if isinstance(error, RequestCancelledError):
        return "cancelled", ""
    return "context_full" if error.cause == "context" else "failed", error.sentence

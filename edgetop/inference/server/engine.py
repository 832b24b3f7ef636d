"""A server behind the protocol; one turn."""

from __future__ import annotations

import os
from collections.abc import Iterator

from msgspec.structs import replace

from edgetop.core.clock import US_PER_S, monotonic_us, seconds
from edgetop.core.engine_settings import EngineInfo, EngineSettings
from edgetop.core.records import (
    REPLY_CHARACTERS_MAX,
    REPLY_TOKENS_MAX,
    ModelLoaded,
    Prefill,
    StopReason,
    TurnFinished,
)
from edgetop.inference.engine import NO_MODEL, Reporter, Stop, empty_turn
from edgetop.inference.protocol import (
    Choose,
    Generate,
    Load,
    LoadFailed,
    Measure,
    Noted,
    Perplexity,
    ScoreFailed,
    Waiting,
)
from edgetop.inference.reply import ReplyBatcher
from edgetop.inference.server.address import ANY_MODEL, KEY_VARIABLE, Address, ServerChoice, key_of
from edgetop.inference.server.backend import (
    ChatRequest,
    Delta,
    LoadedModel,
    PromptProgress,
    ServerBackend,
    choose,
    detect,
    failures_named,
    report_test,
)
from edgetop.inference.server.connection import ServerClient, with_short_names
from edgetop.io.http import HttpResponse, RequestCancelledError, RequestError, quoted

TEXTLESS_MAX = 64
"""Tokens at the end of a reply without text; more of them are a mistake of the server."""

MANY_IN_CHUNK = 1.5
"""Tokens in a piece of text in the mean, above which some may be hidden."""

BURST_CHUNKS = 8

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
        self._reported = Delta()
        """The latest of each thing that the server said."""
        self._characters = 0
        self._last_us = 0
        """When the latest chunk came that said how many tokens there are."""
        self._stream = backend.chat_stream()

    def run(self) -> None:
        """Send the request and report its answer; the last report is TurnFinished."""
        reason: StopReason
        text = ""
        try:
            with failures_named(self._backend):
                self._receive()
                reason = self._reason()
        except RequestError as error:
            reason, text = _failure(error)
        self._add_textless(reason)
        self._reply.finish()
        finished = self._finished(reason, text)
        for note in (*self._stream.notes.values(), *self._doubts(finished)):
            self._report(Noted(text=note))
        self._report(finished)

    def _receive(self) -> None:
        request = self._backend.chat_request(self._command, self._model, self._settings)
        with self._send(request) as answer:
            for t_us, delta in self._stream.deltas(answer):
                self._add(t_us, delta)
                if delta.done:
                    return
                if answer.is_drained:
                    self._reply.flush()
        if self._reported.stop_reason is None:
            raise RequestError(
                "The server ended its answer without saying that it is complete.", "Check whether it still runs."
            )

    def _send(self, request: ChatRequest) -> HttpResponse:
        """The answer, once it begins; a server that was restarted may have to load its model first."""
        deadline_us = monotonic_us() + round(self._loading_s * US_PER_S)
        while True:
            answer = self._client.request("POST", request.path, request.body, is_reply=True)
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
        self._characters += len(delta.reasoning) + len(delta.text)
        if self._characters > REPLY_CHARACTERS_MAX or self._reply.tokens + self._reply.chunks > REPLY_TOKENS_MAX:
            most = f"{REPLY_CHARACTERS_MAX // 2**20} million characters or {REPLY_TOKENS_MAX // 2**20} million tokens"
            raise RequestError(f"The reply was ended at {most}, the most that a session holds of one.")
        if delta.reasoning:
            # A chunk has one part or the other; with both, its tokens are counted with the first one.
            self._reply.add_chunk(t_us, delta.reasoning, "reasoning", generated=delta.generated)
        if delta.text:
            self._reply.add_chunk(t_us, delta.text, "answer", generated=delta.generated)
        reported = {
            name: value
            for name in ("generated", "stop_reason", "is_end", "prompt_tokens", "cached_tokens", "total_tokens",
                         "hidden_tokens", "model", "perf", "load_ms")
            if (value := getattr(delta, name)) is not None and value is not False and value != ""
        }  # fmt: skip
        if "generated" in reported or "total_tokens" in reported:
            self._last_us = t_us
        # A count never falls, and none is 0 where there is a text.
        for name in ("generated", "total_tokens"):
            least = max(getattr(self._reported, name) or 0, int(self._reply.chunks > 0))
            if name in reported and reported[name] < least:
                self._stream.note(
                    f"The server's count of generated tokens was left out: {reported.pop(name)} cannot be."
                )
        if reported.get("prompt_tokens") == 0:
            self._stream.note("The server's count of the prompt was left out: 0 tokens cannot be.")
            del reported["prompt_tokens"]
        self._reported = replace(self._reported, **reported)

    def _report_progress(self, t_us: int, progress: PromptProgress) -> None:
        before = self._progress
        if before is not None and (progress.total != before.total or progress.processed < before.processed):
            self._stream.note("The server's progress of the prompt was left out: it goes back.")
            return
        cached = min(progress.cached, progress.total)
        total = progress.total - cached
        done = min(max(progress.processed - cached, 0), total)
        if before is None and done > 0 and progress.time_ms is not None:
            begun_us = max(self._begun_us, t_us - round(progress.time_ms * 1000))
            self._report(Prefill(turn=self._command.turn, t_us=begun_us, done=0, total=total, cached=cached))
        self._progress = progress
        self._report(Prefill(turn=self._command.turn, t_us=t_us, done=done, total=total, cached=cached))

    def _reason(self) -> StopReason:
        """Why the answer ended; a length that nobody asked for is a full context, if it is none of the server's own."""
        reason = self._reported.stop_reason or "end_of_generation"
        sampling = self._command.sampling
        if reason == "max_tokens":
            count = self._reported.total_tokens or self._reported.generated
            too_short = count is not None and sampling.max_tokens is not None and count < sampling.max_tokens - 1
            unasked = sampling.max_tokens is None and not (self._backend.cuts and not self._is_full(count))
            return "context_full" if too_short or unasked else reason
        if reason == "end_of_generation" and any(sampling.stop) and not self._reported.is_end:
            # It says the same of both.
            return "stop_string"
        return reason

    def _is_full(self, generated: int | None) -> bool:
        """Whether prompt and answer are known to fill the context."""
        n_ctx, prompt = self._model.settings.n_ctx, self._reported.prompt_tokens
        return None not in {n_ctx, prompt, generated} and (prompt or 0) + (generated or 0) >= (n_ctx or 0) - 1

    def _add_textless(self, reason: StopReason) -> None:
        """Add the last tokens, where they brought no text: half a character, or a stop string that was held back."""
        count = max(self._reported.generated or 0, self._reported.total_tokens or 0)
        # The token that ended the reply is none of it.
        missing = count - self._reply.tokens - (reason in {"end_of_generation", "stop_string"})
        if self._reply.counted and self._reply.chunks and 0 < missing <= TEXTLESS_MAX:
            self._reply.add_chunk(self._last_us, "", "answer", generated=self._reply.tokens + missing)

    def _generated(self) -> tuple[int, bool]:
        """How many tokens were generated, the end-of-generation one left out, and whether that was counted.

        Servers count the token that ended the reply, which has no text. Where there is one more token than chunks, it
        is that one, and each chunk was a token.
        """
        reply, total = self._reply, self._reported.total_tokens
        if reply.chunks and reply.counted:
            return reply.tokens, True
        if total is None:
            return reply.chunks, False
        ended = self._reported.stop_reason in {"end_of_generation", "stop_string"}
        return (reply.chunks if ended and total == reply.chunks + 1 else total), True

    def _hidden(self, generated: int) -> int:
        """Tokens of reasoning that the server counts and does not show."""
        if self._reply.has_reasoning:
            return 0
        return min(self._reported.hidden_tokens or 0, generated)

    def _finished(self, reason: StopReason, error: str) -> TurnFinished:
        progress, reported = self._progress, self._reported
        prompt = reported.prompt_tokens if reported.prompt_tokens is not None or progress is None else progress.total
        cached = reported.cached_tokens if reported.cached_tokens is not None or progress is None else progress.cached
        generated, counted = self._generated()
        perf = reported.perf
        if perf is not None and reported.load_ms is not None:
            perf = replace(perf, load_ms=reported.load_ms)
        return TurnFinished(
            turn=self._command.turn,
            t_us=monotonic_us(),
            stop_reason=reason,
            prompt_tokens=prompt,
            cached_tokens=None if cached is None or prompt is None else min(cached, prompt),
            generated_tokens=generated,
            hidden_tokens=self._hidden(generated),
            context_used=None if prompt is None else prompt + generated,
            seed=self._command.sampling.seed,
            perf=perf,
            error=error,
            counted=counted,
        )

    def _doubts(self, finished: TurnFinished) -> Iterator[str]:
        """What makes a rate of this turn weaker than it looks."""
        reply = self._reply
        if finished.hidden_tokens:
            yield f"{finished.hidden_tokens} tokens of reasoning were not shown: the rate is that of the others."
        elif not reply.counted and finished.counted and finished.generated_tokens > MANY_IN_CHUNK * reply.chunks > 0:
            yield (
                f"{finished.generated_tokens} tokens came in {reply.chunks} pieces: the rate takes each piece to hold "
                "as many, and is too high where the server hides some."
            )
        if reply.chunks >= BURST_CHUNKS and reply.arrivals * 2 < reply.chunks:
            yield f"The reply came in bursts, {reply.chunks} pieces in {reply.arrivals}: its rate is that of bursts."
        if finished.stop_reason == "max_tokens" and self._command.sampling.max_tokens is None:
            yield "The server ended the reply at a length of its own, or with its context full; it does not say which."
        if self._reported.model and not self._backend.is_same_model(self._model.name, self._reported.model):
            yield (
                f"Another model answers at this address: {quoted(self._reported.model)}, not "
                f"{quoted(self._model.name)}. Load it to have its own figures."
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
            with failures_named(backend):
                _refuse_flags(self._choice, backend)
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
        for note in client.notes:
            report(Noted(text=note))
        self._loaded = (backend, model, command.settings, key)
        now_us = monotonic_us()
        report(
            ModelLoaded(
                t_us=now_us,
                load_s=seconds(now_us - begin_us),
                model=with_short_names(model.info),
                engine=with_short_names(self._info(backend.name, model.version)),
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


def _refuse_flags(choice: ServerChoice, backend: ServerBackend) -> None:
    """Raises RequestError for a flag that the server would not obey."""
    obeyed = {"ctx", *backend.request_settings} if backend.request_settings else set()
    refused = [f"--{flag.replace('_', '-')}" for flag in choice.chosen if flag not in obeyed]
    if refused:
        raise RequestError(
            f"{backend.name} decides by itself what {' and '.join(refused)} would set.",
            "Leave it out here, and start the server with its own flag for it.",
        )


def _failure(error: RequestError) -> tuple[StopReason, str]:
    """Why a turn ended, and the text for a person."""
    if isinstance(error, RequestCancelledError):
        return "cancelled", ""
    return "context_full" if error.cause == "context" else "failed", error.sentence

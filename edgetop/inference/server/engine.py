"""A server behind the worker's protocol."""

from __future__ import annotations

import os
from pathlib import Path

from edgetop.core.clock import monotonic_us, seconds
from edgetop.core.engine import EngineInfo, EngineSettings
from edgetop.core.records import ModelLoaded, StopReason, TurnFinished
from edgetop.inference.engine import Reporter, Stop
from edgetop.inference.protocol import (
    Choose,
    Generate,
    Load,
    LoadFailed,
    Measure,
    Perplexity,
    ScoreFailed,
    Waiting,
)
from edgetop.inference.server.address import KEY_VARIABLE, Address, ServerChoice, key_of
from edgetop.inference.server.detection import detect
from edgetop.inference.server.dialect import Dialect, Found, choose
from edgetop.inference.server.exchange import Exchange
from edgetop.inference.server.failure import ServerFailure, Stopped
from edgetop.inference.server.token_measurement import report_test
from edgetop.inference.server.turn import Turn

ANY_MODEL = Path()
"""In place of a model's name: the one that the server has loaded, or its only one."""
NO_LIKELIHOODS = "A server tells no likelihoods, so that quality cannot be scored with it."
_NOT_LOADED = "No model is loaded: load one first."
_MEND = "Leave --server out and name a model file."


class ServerEngine:
    """One model of one server at a time. Nothing is contacted before a model is asked for."""

    def __init__(self, choice: ServerChoice) -> None:
        """Raises ValueError for an address that is none."""
        self._choice = choice
        self._address: Address = choice.address
        self._ready: tuple[Dialect, Found, EngineSettings, str] | None = None

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
        except Stopped:
            mend = "Load the model again."
            report(LoadFailed(reason="cancelled", message="Loading was cancelled.", mend=mend))
            return
        except ServerFailure as failure:
            missing = failure.cause == "missing"
            report(LoadFailed(reason="missing" if missing else "failed", message=failure.what, mend=failure.mend))
            return
        except ValueError as error:
            report(LoadFailed(reason="failed", message=f"{error}.", mend="Put the key alone into it."))
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
        Turn(exchange, dialect, found, settings, command=command, report=report, loading_s=loading_s).run()

    def measure(self, command: Measure, stop: Stop, report: Reporter) -> None:
        """Let the server do a test, where its kind has such; the last report is TurnFinished."""
        if self._ready is None:
            report(_failed(command.turn, _NOT_LOADED))
            return
        dialect, found, _, key = self._ready
        try:
            tested = dialect.test(self._exchange(stop, key, report), command, found)
        except Stopped:
            report(_failed(command.turn, "", "cancelled"))
        except ServerFailure as failure:
            reason: StopReason = "context_full" if failure.cause == "context" else "failed"
            report(_failed(command.turn, failure.sentence, reason))
        else:
            report_test(command, tested, report)

    def score(self, command: Perplexity | Choose, stop: Stop, report: Reporter) -> None:  # noqa: ARG002 - the same
        """Servers give no likelihoods; the last report is ScoreFailed."""
        report(ScoreFailed(message=NO_LIKELIHOODS, mend=_MEND))

    def close(self) -> None:
        """Nothing is held: each request has a connection of its own."""

    def _exchange(self, stop: Stop, key: str, report: Reporter) -> Exchange:
        return Exchange(
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

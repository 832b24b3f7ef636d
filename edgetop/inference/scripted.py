"""Scripted engine for tests.

It runs in the same worker process behind the same protocol as the real one, so that what a test sees of processes,
pipes, stamps and deaths is real; only the text is made up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Literal

import msgspec

from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EngineInfo, EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.core.records import ModelLoaded, Prefill, StopReason, Tokens, TurnFinished
from edgetop.inference.engine import Reporter, Stop
from edgetop.inference.protocol import (
    ChoiceScore,
    ChoicesScored,
    Choose,
    Divergence,
    Generate,
    Load,
    LoadFailed,
    LoadProgress,
    Measure,
    Perplexity,
    ScoreFailed,
    ScoreProgress,
    TextScored,
)
from edgetop.inference.reply import ReplyBatcher

_TICK_S = 0.002
_CHARACTERS_PER_TOKEN = 4


class InjectedFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the worker fails."""

    kind: Literal["segfault", "abort", "kill", "hang", "error"]
    at_token: int = 0
    """Just before this token of the reply, counted from 0."""
    unless_extra_bufts_off: bool = False
    """It does not happen with `use_extra_bufts=False`, like the crash of a faulty AMX build."""
    last_words: str = ""
    """Written to standard error first."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one turn answers. Lone surrogates in JSON stand for bytes that are no UTF-8."""

    text: str
    fault: InjectedFault | None = None


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the engine does; the JSON form of this is a script file."""

    replies: tuple[Reply, ...] = (Reply(text="A scripted reply."),)
    """Turn after turn, from the beginning again when they are used up."""
    tokens_per_s: float = 200.0
    prefill_tokens_per_s: float = 20_000.0
    load_s: float = 0.0
    load_fails: LoadFailed | None = None
    load_accident: InjectedFault | None = None
    n_ctx: int = 4096
    perplexity: float = 20.0
    kl_mean: float = 0.01


def split_tokens(text: str) -> list[bytes]:
    """The text in pieces of a few bytes, which split characters as real tokens do."""
    data = text.encode("utf-8", "surrogatepass")
    return [data[at : at + _CHARACTERS_PER_TOKEN] for at in range(0, len(data), _CHARACTERS_PER_TOKEN)]


class ScriptedEngine:
    """Plays a script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._settings = EngineSettings()
        self._turns = 0
        self._cached = 0

    @classmethod
    def from_file(cls, path: str) -> ScriptedEngine:
        """Read a script. Raises msgspec.ValidationError when it is none."""
        return cls(msgspec.convert(json.loads(Path(path).read_text("utf-8")), Script))

    @property
    def info(self) -> EngineInfo:
        """What computes."""
        return EngineInfo(name="scripted")

    def load(self, command: Load, stop: Stop, report: Reporter) -> None:
        """Pretend to load for `load_s`."""
        begin_us = monotonic_us()
        self._settings = command.settings
        self._inject(self._script.load_accident)
        for step in range(11):
            if not _wait_until(begin_us + int(step * self._script.load_s * 100_000), stop):
                cancelled = "Loading was cancelled."
                report(LoadFailed(reason="cancelled", message=cancelled, hint="Load the model again."))
                return
            report(LoadProgress(step / 10))
        if self._script.load_fails is not None:
            report(self._script.load_fails)
            return
        chosen = msgspec.structs.replace(
            command.settings,
            n_ctx=command.settings.n_ctx or self._script.n_ctx,
            n_threads=command.settings.n_threads or 1,
            n_threads_batch=command.settings.n_threads_batch or 1,
            n_batch=command.settings.n_batch or 2048,
            n_ubatch=command.settings.n_ubatch or 512,
            n_gpu_layers=0,
        )
        now_us = monotonic_us()
        report(
            ModelLoaded(
                t_us=now_us,
                load_s=(now_us - begin_us) / 1e6,
                model=ModelInfo(
                    path=command.path,
                    name="Scripted",
                    architecture="scripted",
                    quantization="Q4_0",
                    bits_per_weight=4.5,
                    size_bytes=64 * 2**20,
                    parameters=119_000_000,
                    n_ctx_train=self._script.n_ctx,
                    n_layer=12,
                    n_vocab=256,
                    chat_template="model",
                ),
                engine=self.info,
                settings=chosen,
                memory=MemoryBreakdown(
                    weights_bytes=64 * 2**20, kv_bytes=32 * 2**20, compute_bytes=16 * 2**20, output_bytes=2**18
                ),
            )
        )

    def generate(self, command: Generate, stop: Stop, report: Reporter) -> None:
        """Play the next reply at the script's rate."""
        reply = self._script.replies[self._turns % len(self._script.replies)]
        self._turns += 1
        prompt_tokens = max(1, sum(len(split_tokens(message.content)) + 4 for message in command.messages))
        cached = min(self._cached, prompt_tokens - 1)
        total = prompt_tokens - cached
        begin_us = monotonic_us()
        report(Prefill(turn=command.turn, t_us=begin_us, done=0, total=total, cached=cached))
        pieces = split_tokens(reply.text)[: command.sampling.max_tokens]
        stream = ReplyBatcher(command.turn, report, stop=command.sampling.stop)
        reason: StopReason = "end_of_generation"
        generated = 0
        due_us = begin_us + int(total / self._script.prefill_tokens_per_s * 1e6)
        if reply.fault is not None and reply.fault.at_token == 0:
            self._inject(reply.fault)
        if _wait_until(due_us, stop):
            first_us = monotonic_us()
            report(Prefill(turn=command.turn, t_us=first_us, done=total, total=total, cached=cached))
        for index, piece in enumerate(pieces):
            if reply.fault is not None and reply.fault.at_token == index > 0:
                stream.flush()
                self._inject(reply.fault)
            if not _wait_until(due_us + int(index / self._script.tokens_per_s * 1e6), stop):
                reason = "cancelled"
                break
            stream.add(monotonic_us(), piece)
            generated += 1
            if stream.stopped:
                reason = "stop_string"
                break
        else:
            if generated == command.sampling.max_tokens:
                reason = "max_tokens"
        stream.finish()
        self._cached = prompt_tokens + generated
        times_us = (begin_us, due_us, monotonic_us())
        seed = command.sampling.seed if command.sampling.seed is not None else 1
        decoded = max(generated - 1, 0)
        report(_finished(command.turn, reason, (cached, total, generated), times_us, decoded=decoded, seed=seed))

    def measure(self, command: Measure, stop: Stop, report: Reporter) -> None:
        """Pass the time that the script's rates give the tokens."""
        begin_us = monotonic_us()
        progress = Prefill(turn=command.turn, t_us=begin_us, done=0, total=command.n_prompt, cached=command.depth)
        report(progress)
        due_us = begin_us + int(command.n_prompt / self._script.prefill_tokens_per_s * 1e6)
        reason: StopReason = "max_tokens" if _wait_until(due_us, stop) else "cancelled"
        prefill_us = monotonic_us()
        report(msgspec.structs.replace(progress, t_us=prefill_us, done=command.n_prompt))
        generated = 0
        while generated < command.n_gen and reason == "max_tokens":
            if not _wait_until(due_us + int((generated + 1) / self._script.tokens_per_s * 1e6), stop):
                reason = "cancelled"
                break
            generated += 1
            report(Tokens(turn=command.turn, t_us=(monotonic_us(),), pieces=("",)))
        counts, times_us = (command.depth, command.n_prompt, generated), (begin_us, prefill_us, monotonic_us())
        report(_finished(command.turn, reason, counts, times_us, decoded=generated, seed=command.seed))

    def score(self, command: Perplexity | Choose, stop: Stop, report: Reporter) -> None:
        """Report the script's scores; of choices the first is always the likeliest."""
        if stop.requested:
            report(ScoreFailed(message="Scoring was stopped."))
            return
        report(ScoreProgress(1.0))
        if isinstance(command, Choose):
            lengths = [tuple(len(split_tokens(choice)) for choice in each.choices) for each in command.questions]
            scores = [
                ChoiceScore(
                    tuple(-1.0 - at for at in range(len(tokens))), tokens, tuple(at == 0 for at in range(len(tokens)))
                )
                for tokens in lengths
            ]
            report(ChoicesScored(tuple(scores)))
            return
        if command.write_reference:
            Path(command.reference).write_bytes(b"scripted")
        compared = command.reference and not command.write_reference
        report(
            TextScored(
                perplexity=self._script.perplexity,
                perplexity_error=0.1,
                tokens=len(split_tokens(command.text)),
                chunks=command.chunks or 1,
                divergence=Divergence(kl_mean=self._script.kl_mean, kl_error=0.001, kl_p99=0.1, top_agreement=0.95)
                if compared
                else None,
            )
        )

    def close(self) -> None:
        """Nothing is open."""

    def _inject(self, fault: InjectedFault | None) -> None:
        if fault is None or (fault.unless_extra_bufts_off and not self._settings.use_extra_bufts):
            return
        if fault.last_words:
            sys.stderr.write(fault.last_words + "\n")
            sys.stderr.flush()
        match fault.kind:
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "abort":
                os.abort()
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                while True:
                    time.sleep(3600)
            case "error":
                raise RuntimeError(fault.last_words or "an error in the script")


def _finished(
    turn: int,
    reason: StopReason,
    counts: tuple[int, int, int],
    times_us: tuple[int, int, int],
    *,
    decoded: int,
    seed: int,
) -> TurnFinished:
    """The end of a turn: cached, evaluated and generated tokens; when it began, had its prompt and ended."""
    (cached, evaluated, generated), (begin_us, prefill_us, end_us) = counts, times_us
    return TurnFinished(
        turn=turn,
        t_us=end_us,
        stop_reason=reason,
        prompt_tokens=cached + evaluated,
        cached_tokens=cached,
        generated_tokens=generated,
        context_used=cached + evaluated + generated,
        seed=seed,
        perf=EnginePerf(
            prefill_ms=(prefill_us - begin_us) / 1e3,
            prefill_tokens=evaluated,
            decode_ms=(end_us - prefill_us) / 1e3,
            decode_tokens=decoded,
        ),
    )


def _wait_until(due_us: int, stop: Stop) -> bool:
    """Wait for a moment on the clock; False when stopped before."""
    while not stop.requested:
        remaining_s = (due_us - monotonic_us()) / 1e6
        if remaining_s <= 0:
            return True
        time.sleep(min(remaining_s, _TICK_S))
    return False

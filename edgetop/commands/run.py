"""Verb run."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgetop.commands.exit import ExitCode, handle_signals
from edgetop.commands.inputs import (
    given_prompts,
    has_own_engine,
    live_options,
    named_model,
    open_store,
    price_of,
    read_prompt,
)
from edgetop.commands.output import (
    battery_text,
    clear_progress,
    cost_text,
    duty_text,
    energy_text,
    print_error,
    print_status,
    show_progress,
    write_json,
    write_reply,
)
from edgetop.core.errors import EdgetopError, ModelError, UsageError
from edgetop.core.format import format_rate, format_seconds
from edgetop.core.records import Tokens, TurnFinished
from edgetop.core.sources import BATTERY_ENERGY
from edgetop.inference.catalog import last_model, resolve
from edgetop.inference.protocol import LoadFailed, LoadProgress, Log, Report
from edgetop.live.chat_session import LiveOptions, LiveSession
from edgetop.live.conversation import Notice
from edgetop.session.file import TurnEntry, to_file
from edgetop.session.session import Session
from edgetop.session.snapshot import Reading, Snapshot
from edgetop.session.store import Store
from edgetop.session.turn import server_words
from edgetop.settings import options
from edgetop.settings.option import parse_value, real
from edgetop.settings.resolve import Settings

WAIT_S = 0.1
"""How soon an interruption is noticed."""

GIVE_UP_S = 3.0
"""How long an interrupted engine may take to stop; then it is ended."""


class RunOutcome(Struct, frozen=True, kw_only=True):
    """How it went."""

    session: Session
    path: Path | None
    """Where the session was saved; `None` if it was not."""
    interrupted: bool = False
    failure: EdgetopError | None = None


def converse(
    model: Path,
    prompts: Sequence[str],
    settings: Settings,
    write: Callable[[str], None],
    *,
    live: LiveOptions,
    idle_s: float = 0.0,
) -> RunOutcome:
    """Ask one prompt after the other in one conversation, give each piece of a reply to `write`, and save the session.

    The device is left idle for `idle_s` before the model is loaded, and again with it.
    An interruption (Ctrl+C, SIGTERM, SIGHUP, a closed stdout) stops the model; what was measured is saved all the same.
    """
    talk = _Talk(settings, write)
    with handle_signals(on_interrupt=talk.interrupt, on_end=talk.interrupt):
        talk.open(live, open_store(settings))
        try:
            if idle_s and settings[options.SERVER] is None:
                talk.wait_for_sensors()
                talk.rest(idle_s, "without the model")
            talk.load(model)
            talk.rest(idle_s, "with the model loaded")
            for prompt in prompts:
                if talk.interrupted or talk.failure is not None:
                    break
                talk.ask(prompt)
        finally:
            path = talk.close()
    return RunOutcome(session=talk.live.session, path=path, interrupted=talk.interrupted, failure=talk.failure)


class _Talk:
    """One conversation, driven from here until it is over."""

    live: LiveSession

    def __init__(self, settings: Settings, write: Callable[[str], None]) -> None:
        self.interrupted = False
        self.failure: EdgetopError | None = None
        self._write = write
        self._settings = settings
        self._quiet = settings[options.QUIET]
        self._verbose = settings[options.VERBOSE]
        self._price = price_of(settings)
        self._ends_with_newline = True
        self._stop_by_s: float | None = None

    def interrupt(self) -> None:
        """Stop as soon as the model can; what was measured is saved."""
        self.interrupted = True

    def open(self, live: LiveOptions, store: Store) -> None:
        self.live = LiveSession(live, store, self._take)

    def load(self, model: Path) -> None:
        conversation = self.live.conversation
        conversation.load(model, self.live.settings_for(model))
        if self._verbose and self.live.tuned is not None:
            print_status(f"{self.live.tuned.label}: {self.live.tuned.words}")
        self._follow({"ready", "no_model", "dead"})
        self.wait_for_sensors()
        clear_progress()
        loaded = conversation.model
        if self._quiet or loaded is None:
            return
        if loaded.model.template_note:
            print_status(loaded.model.template_note)
        for share in loaded.memory.layers:
            print_status(share.words(loaded.model.n_layer))

    def wait_for_sensors(self) -> None:
        """Read on until it is known which sensors there are."""
        while not self.live.has_sensors:
            self.live.pump(wait_s=WAIT_S)

    def rest(self, seconds: float, how: str) -> None:
        """Leave the device idle, while its idle power is measured."""
        until_s = time.monotonic() + seconds
        while not self.interrupted and self.failure is None and (left_s := until_s - time.monotonic()) > 0:
            if not self._quiet:
                show_progress(f"measuring idle power {how}, {left_s:.0f} s left")
            self.live.pump(wait_s=min(WAIT_S, left_s))
        clear_progress()

    def ask(self, prompt: str) -> None:
        self.live.conversation.submit(prompt)
        self._follow({"ready", "no_model", "dead"})
        if not self._ends_with_newline:
            self._write_piece("\n")
        turn = self.live.snapshot().turn
        if turn is not None and not self._quiet:
            figures = turn.figures
            reason = (figures.stop_reason or "").replace("_", " ")
            print_status(
                f"{figures.generated_tokens} tokens · {format_rate(figures.decode_tokens_per_s)}"
                f" · prefill {format_rate(figures.prefill_tokens_per_s)}"
                f" · first token {format_seconds(figures.first_token_s)} · {reason}"
            )
            last = self.live.session.turns[-1].finished
            if last is not None and last.perf is not None and self._settings[options.SERVER] is not None:
                print_status(server_words(last.perf, figures.decode_tokens_per_s, figures.prefill_tokens_per_s))

    def close(self) -> Path | None:
        if not self.interrupted:
            self.live.settle()
        try:
            path = self.live.close()
        except EdgetopError as error:
            self.failure = self.failure or error
            return None
        if not self._quiet and self.live.session.turns:
            self._say_energy(self.live.snapshot())
        if path is not None and not self._quiet:
            print_status(f"session: {path}")
        return path

    def _say_energy(self, now: Snapshot) -> None:
        print_status(f"energy {energy_text(now.summary)}")
        if self._price is not None and now.summary.energy is not None:
            print_status(f"cost {cost_text(now.summary.energy, self._price)}")
        remaining = now.readings.get(BATTERY_ENERGY)
        battery = battery_text(now.summary.energy, remaining.value if isinstance(remaining, Reading) else None)
        if battery:
            print_status(f"battery {battery}")
        if duty := duty_text(now.summary):
            print_status(duty)

    def _follow(self, until: set[str]) -> None:
        """Pump until the conversation is in one of these phases, or does not stop when it should."""
        conversation = self.live.conversation
        checked_s = time.monotonic()
        while True:
            if self.interrupted and self._stop_by_s is None:
                conversation.stop()
                self._stop_by_s = time.monotonic() + GIVE_UP_S
            if self._stop_by_s is not None and time.monotonic() > self._stop_by_s:
                return
            if conversation.phase in until and conversation.phase != "starting":
                return
            self.live.pump(wait_s=WAIT_S)
            if time.monotonic() - checked_s >= 1:
                checked_s = time.monotonic()
                self.live.check()

    def _take(self, report: Report | Notice) -> None:
        match report:
            case LoadProgress() if not self._quiet:
                show_progress(f"loading {report.fraction:.0%}")
            case LoadFailed() if report.reason != "cancelled":
                self.failure = ModelError(report.message, report.hint)
            case Tokens() if report.part == "answer":
                self._write_piece("".join(report.pieces))
            case TurnFinished() if report.stop_reason == "failed":
                self.failure = EdgetopError(report.error or "the engine could not answer")
            case Notice():
                self._tell(report)
            case Log() if self._verbose:
                print_status(f"engine: {report.text}")

    def _tell(self, notice: Notice) -> None:
        if notice.severity == "error":
            self.failure = EdgetopError(notice.text, notice.hint)
        elif not self._quiet:
            print_error(notice.text, notice.hint)

    def _write_piece(self, piece: str) -> None:
        if not piece:
            return
        try:
            self._write(piece)
        except BrokenPipeError:
            self.interrupted = True
        self._ends_with_newline = piece.endswith("\n")


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Ask, print, and say how it went."""
    prompts = given_prompts(arguments)
    if arguments.stdin or (not prompts and not _is_terminal()):
        prompts.append(read_prompt(None))
    if not prompts:
        raise UsageError("there is no prompt", "give one with -p TEXT, -f FILE, or - for standard input")
    idle_s = 0.0 if arguments.idle is None else parse_value("--idle", arguments.idle, real(0, 3600))
    return answer(prompts, settings, as_json=arguments.json, idle_s=idle_s)


def answer(prompts: Sequence[str], settings: Settings, *, as_json: bool = False, idle_s: float = 0.0) -> int:
    """Let the model answer the prompts and return the exit code. Raises EdgetopError."""
    if has_own_engine(settings):
        model = resolve(settings[options.MODEL], folders=settings[options.MODEL_DIR], last_used=last_model())
    else:
        model = named_model(settings)
    write = _ignore if as_json else write_reply
    conversed = converse(model, prompts, settings, write, live=live_options(settings), idle_s=idle_s)
    if as_json:
        write_json(as_object(conversed))
    if conversed.failure is not None and not conversed.interrupted:
        raise conversed.failure
    return ExitCode.INTERRUPTED if conversed.interrupted else 0


def as_object(conversed: RunOutcome) -> dict[str, Any]:
    """Make the object of `run --json`: the figures of the session file, under the same names."""
    file = to_file(conversed.session)
    load = file.loads[-1] if file.loads else None
    return {
        "device": file.device,
        "model": load.model if load else None,
        "engine": load.engine if load else None,
        "settings": load.settings if load else None,
        "turns": [_turn(turn, text_recorded=file.text_recorded) for turn in file.turns],
        "summary": file.summary,
        "session": str(conversed.path) if conversed.path else None,
    }


def _turn(turn: TurnEntry, *, text_recorded: bool) -> dict[str, Any]:
    parts = {part: "".join(span.text for span in turn.reply if span.part == part) for part in ("answer", "reasoning")}
    return {
        "turn": turn.turn,
        "prompt": turn.prompt,
        "reply": parts["answer"] if text_recorded else None,
        "reasoning": parts["reasoning"] or None,
        "sampling": turn.sampling,
        "seed": turn.end.seed if turn.end else None,
        **msgspec.structs.asdict(turn.figures),
    }


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _ignore(_text: str) -> None:
    """Drop the text; the object will have it."""

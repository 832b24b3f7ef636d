"""Verb run."""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import stat
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgetop.commands.inputs import (
    alerts_of,
    exporters_of,
    given_prompts,
    has_own_engine,
    live_options,
    local_model,
    named_model,
    open_store,
    read_prompt,
)
from edgetop.commands.output import (
    ExitCode,
    ReplyWriter,
    battery_text,
    clear_progress,
    cost_text,
    duty_text,
    energy_text,
    handle_signals,
    print_error,
    print_saved,
    print_status,
    show_progress,
    write_json,
)
from edgetop.core.errors import EdgetopError, ModelError, UsageError
from edgetop.core.format import format_rate, format_seconds
from edgetop.core.records import Prefill, Tokens, TurnFinished
from edgetop.core.sources import BATTERY_ENERGY
from edgetop.core.text import one_line
from edgetop.inference.protocol import LoadFailed, LoadProgress, Log, Report
from edgetop.live.chat_session import IDLE_PHASES, PUMP_WAIT_S, LiveOptions, LiveSession
from edgetop.live.conversation import Notice
from edgetop.session.file import TurnEntry, to_file
from edgetop.session.session import Session
from edgetop.session.snapshot import Reading, Snapshot
from edgetop.settings import options
from edgetop.settings.resolve import Settings, price_of

_MODEL_NAME = re.compile(r"\S+\.gguf|[\w./-]+:[\w.-]+", re.IGNORECASE)
"""A file, or a name with its tag: what other programs take in the place of the prompt."""

GIVE_UP_S = 3.0
"""How long an interrupted engine may take to stop; then it is ended."""


class RunOutcome(Struct, frozen=True, kw_only=True):
    """How it went."""

    session: Session
    path: Path | None
    """Where the session was saved; `None` if it was not."""
    is_displaced: bool = False
    """It was saved, but not where that was asked for."""
    interrupted: bool = False
    failure: EdgetopError | None = None
    unsaved: EdgetopError | None = None
    """Why the session could not be saved."""


def run_prompts(
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
    run = _HeadlessRun(settings, write)
    with handle_signals(on_interrupt=run.interrupt, on_end=run.interrupt):
        run.live = LiveSession(live, open_store(settings), run.on_engine_event)
        try:
            run.wait_for_pulse()
            if idle_s and settings[options.SERVER] is None:
                run.wait_for_sensors()
                run.measure_idle(idle_s, "without the model")
            run.load(model)
            run.measure_idle(idle_s, "with the model loaded")
            for prompt in prompts:
                if run.interrupted or run.failure is not None:
                    break
                run.ask(prompt)
        finally:
            path = run.close()
    return RunOutcome(
        session=run.live.session,
        path=path,
        is_displaced=run.is_displaced,
        interrupted=run.interrupted,
        failure=run.failure,
        unsaved=run.unsaved,
    )


class _HeadlessRun:
    """One conversation without a screen."""

    live: LiveSession

    def __init__(self, settings: Settings, write: Callable[[str], None]) -> None:
        self._interrupted = False
        self.failure: EdgetopError | None = None
        self.unsaved: EdgetopError | None = None
        self.is_displaced = False
        self._failed_turn: EdgetopError | None = None
        self._write = write
        self._quiet = settings[options.QUIET]
        self._verbose = settings[options.VERBOSE]
        self._price = price_of(settings)
        self._ends_with_newline = True
        self._stop_by_s: float | None = None

    def interrupt(self) -> None:
        """Stop as soon as the model can; what was measured is saved."""
        self._interrupted = True

    @property
    def interrupted(self) -> bool:
        """Whether it is to stop: it was told to, or an alert ends it."""
        return self._interrupted or self.live.is_ended_by_alert

    def load(self, model: Path) -> None:
        conversation = self.live.conversation
        conversation.load(model, self.live.settings_for(model))
        if self._verbose and self.live.tuned is not None:
            print_status(f"{self.live.tuned.label}: {self.live.tuned.words}")
        self.live.pump_until(IDLE_PHASES, ended=self._gives_up)
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
        """Pump until it is known which sensors there are, or the run is interrupted."""
        while not self.live.has_sensors and not self.interrupted:
            self.live.pump(wait_s=PUMP_WAIT_S)

    def wait_for_pulse(self) -> None:
        """Let a load pulse end, if there is one."""
        while self.live.pulse is not None and not self.live.pulse.is_over and not self.interrupted:
            self.live.pump(wait_s=PUMP_WAIT_S)

    def measure_idle(self, seconds: float, how: str) -> None:
        """Leave the device idle, while its idle power is measured."""
        until_s = time.monotonic() + seconds
        while not self.interrupted and self.failure is None and (left_s := until_s - time.monotonic()) > 0:
            if not self._quiet:
                show_progress(f"measuring idle power {how}, {left_s:.0f} s left")
            self.live.pump(wait_s=min(PUMP_WAIT_S, left_s))
        clear_progress()

    def ask(self, prompt: str) -> None:
        self._failed_turn = None
        self.live.conversation.submit(prompt)
        self.live.pump_until(IDLE_PHASES, ended=self._gives_up)
        self.failure = self.failure or self._failed_turn
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
            if turn.server:
                print_status(turn.server)

    def close(self) -> Path | None:
        if not self.interrupted:
            self.live.settle()
        try:
            path = self.live.close()
        except EdgetopError as error:
            self.unsaved = error
            return None
        if not self._quiet and self.live.session.turns:
            self._print_energy(self.live.snapshot())
        self.is_displaced = print_saved(path, self.live.recorder.why_not, quiet=self._quiet) != 0
        return path

    def _print_energy(self, now: Snapshot) -> None:
        print_status(f"energy {energy_text(now.summary)}")
        if self._price is not None and now.summary.energy is not None:
            print_status(f"cost {cost_text(now.summary.energy, self._price)}")
        remaining = now.readings.get(BATTERY_ENERGY)
        battery = battery_text(now.summary.energy, remaining.value if isinstance(remaining, Reading) else None)
        if battery:
            print_status(f"battery {battery}")
        if duty := duty_text(now.summary):
            print_status(duty)

    def _gives_up(self) -> bool:
        """Whether an engine that was told to stop does not; tells it."""
        if self.interrupted and self._stop_by_s is None:
            self.live.conversation.stop()
            self._stop_by_s = time.monotonic() + GIVE_UP_S
        return self._stop_by_s is not None and time.monotonic() > self._stop_by_s

    def on_engine_event(self, event: Report | Notice) -> None:
        match event:
            case LoadProgress() if not self._quiet:
                show_progress(self.live.conversation.doing)
            case Prefill() if not self._quiet and (doing := self.live.conversation.doing):
                show_progress(doing)
            case LoadFailed() if event.reason != "cancelled":
                self.failure = ModelError(event.message, event.hint)
            case Tokens() if event.part == "answer":
                self._write_piece("".join(event.pieces))
            case TurnFinished() if event.error or event.stop_reason == "failed":
                is_long = event.stop_reason == "context_full"
                hint = "shorten the prompt, or choose --full-context shift" if is_long else ""
                self._failed_turn = EdgetopError(event.error.rstrip(".") or "the engine could not answer", hint)
            case TurnFinished():  # perhaps of a second try
                self._failed_turn = None
            case Notice(severity="error"):
                self.failure = EdgetopError(event.text, event.hint)
            case Notice() if not self._quiet:
                print_error(event.text, event.hint)
            case Log() if self._verbose:
                print_status(f"engine: {event.text}")

    def _write_piece(self, piece: str) -> None:
        if not piece:
            return
        try:
            self._write(piece)
        except BrokenPipeError:
            self._interrupted = True
        self._ends_with_newline = piece.endswith("\n")


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Ask, print, and report how it went."""
    prompts = given_prompts(arguments)
    match arguments.text:
        case [] if prompts or _is_terminal():
            pass
        case [] | ["-"]:
            prompts.append(read_prompt(None))
        case [text] | [text, "-"] | ["-", text] if text != "-":
            if _MODEL_NAME.fullmatch(text):
                hint = "name a model with -m, and say a prompt with -p"
                raise UsageError(f"{one_line(text)} looks like a model", hint)
            parts = [read_prompt(None) if each == "-" else each for each in arguments.text]
            prompts.append("\n\n".join(parts))
        case _:
            raise UsageError("there is more than one prompt", "put quotes around it; a model goes after -m")
    if not prompts:
        raise UsageError("there is no prompt", "give one with -p TEXT, -f FILE, or - for standard input")
    return answer(prompts, settings, as_json=arguments.json, idle_s=arguments.idle)


def answer(prompts: Sequence[str], settings: Settings, *, as_json: bool = False, idle_s: float = 0.0) -> int:
    """Let the model answer the prompts and return the exit code. Raises EdgetopError."""
    if has_own_engine(settings):
        model = local_model(settings[options.MODEL], settings, with_store_settings=True)
    else:
        model = named_model(settings)
    write = _ignore if as_json else ReplyWriter()
    alerts = alerts_of(settings, "chat")
    outcome = run_prompts(
        model, prompts, settings, write, live=live_options(settings, alerts, exporters_of(settings)), idle_s=idle_s
    )
    if _is_unread_pipe() and not settings[options.QUIET]:
        print_error("what came through the pipe was not asked", 'edgetop run "TEXT" - puts it below the text')
    if as_json:
        write_json(as_object(outcome))
    if alerts is not None:
        alerts.raise_if_ended()
    if outcome.failure is not None and not outcome.interrupted:
        if outcome.unsaved is not None:
            print_error(outcome.unsaved.what, outcome.unsaved.hint)
        raise outcome.failure
    if outcome.unsaved is not None:
        raise outcome.unsaved
    if outcome.is_displaced:
        return ExitCode.FAILED
    return ExitCode.INTERRUPTED if outcome.interrupted else 0


def as_object(outcome: RunOutcome) -> dict[str, Any]:
    """Make the object of `run --json`: the figures of the session file, under the same names."""
    file = to_file(outcome.session)
    load = file.loads[-1] if file.loads else None
    return {
        "device": file.device,
        "model": load.model if load else None,
        "engine": load.engine if load else None,
        "settings": load.settings if load else None,
        "turns": [_turn(turn, text_recorded=file.text_recorded) for turn in file.turns],
        "summary": file.summary,
        "session": str(outcome.path) if outcome.path else None,
    }


def _turn(turn: TurnEntry, *, text_recorded: bool) -> dict[str, Any]:
    parts = {part: "".join(span.text for span in turn.reply if span.part == part) for part in ("answer", "reasoning")}
    return {
        "turn": turn.turn,
        "prompt": turn.prompt,
        "reply": parts["answer"] if text_recorded else None,
        "reasoning": parts["reasoning"] or None,
        "error": (turn.end.error if turn.end else "") or None,
        "sampling": turn.sampling,
        "seed": turn.end.seed if turn.end else None,
        **msgspec.structs.asdict(turn.figures),
    }


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _is_unread_pipe() -> bool:
    """Whether something waits in standard input.

    It is read only for `-`: in a loop of a shell, a job or `ssh` without a terminal it is another's, or never ends.
    """
    if sys.stdin is None or not stat.S_ISFIFO(os.fstat(0).st_mode):
        return False
    return any(fcntl.ioctl(0, termios.FIONREAD, bytes(4)))


def _ignore(_text: str) -> None:
    """Drop the text; the object will have it."""

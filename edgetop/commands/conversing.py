"""A live session without a screen: prompts in, replies and figures out."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from msgspec import Struct

from edgetop.commands.console import clear_progress, say, say_trouble, show_progress
from edgetop.commands.energy_text import battery_text, cost_text, energy_text
from edgetop.commands.server_choice import server_choice
from edgetop.commands.storage import open_store
from edgetop.core.energy.supply import Price
from edgetop.core.errors import EdgetopError, ModelError
from edgetop.core.format import format_rate, format_seconds
from edgetop.core.records import Tokens, TurnFinished
from edgetop.inference.protocol import LoadFailed, LoadProgress, Log, Report
from edgetop.live.conversation import Notice
from edgetop.live.live_session import LiveOptions, LiveSession
from edgetop.session.channels import BATTERY_ENERGY
from edgetop.session.session import Session
from edgetop.session.snapshot import Reading, Snapshot
from edgetop.session.store import Store
from edgetop.settings import options
from edgetop.settings.engine import engine_settings, left_open, sampling_settings
from edgetop.settings.resolve import Settings
from edgetop.telemetry.power_choice import PowerChoice

WAIT_S = 0.1
"""How soon an interruption is noticed."""
GIVE_UP_S = 3.0
"""How long an interrupted engine may take to stop; then it is ended."""
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Conversed(Struct, frozen=True, kw_only=True):
    """How it went."""

    session: Session
    path: Path | None
    """Where the session was saved; `None` if it was not."""
    interrupted: bool = False
    failure: EdgetopError | None = None


def live_options(settings: Settings) -> LiveOptions:
    """How the live session is to be run. Raises UsageError."""
    server = server_choice(settings)
    return LiveOptions(
        engine=engine_settings(settings),
        left_open=left_open(settings) if server is None and not settings[options.RPC] else frozenset(),
        sampling=sampling_settings(settings),
        system=settings[options.SYSTEM],
        sysroot=settings[options.SYSROOT],
        power=power_choice(settings),
        record=settings[options.RECORD],
        text_recorded=settings[options.TEXT],
        output=settings[options.OUTPUT],
        model_folders=settings[options.MODEL_DIR],
        engine_name=_engine_name(settings[options.ENGINE]) if server is None else server.engine_name,
    )


def _engine_name(name: str) -> str:
    """The engine as its worker, whose working folder is another one, is to be told of it."""
    kind, colon, file = name.partition(":")
    return f"{kind}:{Path(file).absolute()}" if colon else name


def power_choice(settings: Settings) -> PowerChoice:
    """The power sources that the person asked for."""
    return PowerChoice(
        name=settings[options.POWER],
        command=settings[options.POWER_EXEC],
        streams=settings[options.POWER_STREAM],
    )


def price_of(settings: Settings) -> Price | None:
    """What energy costs, if the person said so."""
    per_kwh = settings[options.PRICE_PER_KWH]
    return None if per_kwh is None else Price(per_kwh=per_kwh, currency=settings[options.CURRENCY])


def converse(
    model: Path, prompts: Sequence[str], settings: Settings, write: Callable[[str], None], *, live: LiveOptions
) -> Conversed:
    """Ask one prompt after the other in one conversation, give each piece of a reply to `write`, and save the session.

    An interruption (Ctrl+C, SIGTERM, SIGHUP, a closed stdout) stops the model; what was measured is saved all the same.
    """
    talk = _Talk(settings, write)
    with talk.interruptible():
        talk.open(live, open_store(settings))
        try:
            talk.load(model)
            for prompt in prompts:
                if talk.interrupted or talk.failure is not None:
                    break
                talk.ask(prompt)
        finally:
            path = talk.close()
    return Conversed(session=talk.live.session, path=path, interrupted=talk.interrupted, failure=talk.failure)


class _Talk:
    """One conversation, driven from here until it is over."""

    live: LiveSession

    def __init__(self, settings: Settings, write: Callable[[str], None]) -> None:
        self.interrupted = False
        self.failure: EdgetopError | None = None
        self._write = write
        self._quiet = settings[options.QUIET]
        self._verbose = settings[options.VERBOSE]
        self._price = price_of(settings)
        self._ends_with_newline = True
        self._stop_by_s: float | None = None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the ending signals only set `interrupted` meanwhile."""

        def interrupt(_number: int, _frame: FrameType | None) -> None:
            self.interrupted = True

        # What is ignored, as SIGHUP below nohup, stays ignored.
        heard = [number for number in ENDING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, interrupt) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def open(self, live: LiveOptions, store: Store) -> None:
        self.live = LiveSession(live, store, self._take)

    def load(self, model: Path) -> None:
        conversation = self.live.conversation
        conversation.load(model, self.live.settings_for(model))
        if self._verbose and self.live.tuned is not None:
            say(f"{self.live.tuned.label}: {self.live.tuned.words}")
        self._follow({"ready", "no_model", "dead"})
        while not self.live.senses:
            self.live.pump(wait_s=WAIT_S)
        clear_progress()
        loaded = conversation.model
        if self._quiet or loaded is None:
            return
        if loaded.model.template_note:
            say(loaded.model.template_note)
        for share in loaded.memory.layers:
            say(share.words(loaded.model.n_layer))

    def ask(self, prompt: str) -> None:
        self.live.conversation.submit(prompt)
        self._follow({"ready", "no_model", "dead"})
        if not self._ends_with_newline:
            self._write_piece("\n")
        turn = self.live.snapshot().turn
        if turn is not None and not self._quiet:
            figures = turn.figures
            reason = (figures.stop_reason or "").replace("_", " ")
            say(
                f"{figures.generated_tokens} tokens · {format_rate(figures.decode_tokens_per_s)}"
                f" · prefill {format_rate(figures.prefill_tokens_per_s)}"
                f" · first token {format_seconds(figures.first_token_s)} · {reason}"
            )

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
            say(f"session: {path}")
        return path

    def _say_energy(self, now: Snapshot) -> None:
        say(f"energy {energy_text(now.summary)}")
        if self._price is not None and now.summary.energy is not None:
            say(f"cost {cost_text(now.summary.energy, self._price)}")
        remaining = now.readings.get(BATTERY_ENERGY)
        battery = battery_text(now.summary.energy, remaining.value if isinstance(remaining, Reading) else None)
        if battery:
            say(f"battery {battery}")

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
                self.failure = ModelError(report.message, report.mend)
            case Tokens() if report.part == "answer":
                self._write_piece("".join(report.pieces))
            case TurnFinished() if report.stop_reason == "failed":
                self.failure = EdgetopError(report.error or "the engine could not answer")
            case Notice():
                self._tell(report)
            case Log() if self._verbose:
                say(f"engine: {report.text}")

    def _tell(self, notice: Notice) -> None:
        if notice.severity == "error":
            self.failure = EdgetopError(notice.text, notice.mend)
        elif not self._quiet:
            say_trouble(notice.text, notice.mend)

    def _write_piece(self, piece: str) -> None:
        if not piece:
            return
        try:
            self._write(piece)
        except BrokenPipeError:
            self.interrupted = True
        self._ends_with_newline = piece.endswith("\n")

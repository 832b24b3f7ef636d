"""Chat without a screen, line by line.

Nothing is drawn twice and no cursor is moved. Prompts are read from standard input, answers go to stdout; figures and
messages go to stderr.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from edgetop.commands.inputs import alerts_of, exporters_of, live_options, open_store
from edgetop.commands.output import ReplyWriter, handle_signals, print_saved
from edgetop.core.energy.tokens import grade_text
from edgetop.core.errors import EdgetopError
from edgetop.core.format import NOT_AVAILABLE, format_rate, format_seconds
from edgetop.core.quantity import with_interval
from edgetop.core.records import ReplyPart, TurnFinished
from edgetop.core.text import literal, one_line
from edgetop.inference.catalog import find_models
from edgetop.io.terminal import drain
from edgetop.live.chat_commands import SLASH_COMMANDS, Chat, completions, parse_slash_command, stop_words
from edgetop.live.chat_session import IDLE_PHASES, LiveSession
from edgetop.live.conversation import UNRESPONSIVE_AFTER_S
from edgetop.live.history import RecordedTurn
from edgetop.session.listing import entry_of
from edgetop.session.snapshot import Snapshot
from edgetop.session.store import Store
from edgetop.settings.resolve import Settings

if TYPE_CHECKING:
    from edgetop.live.alerts import Alerts

RECENT_SESSIONS = 10


def turn_line(now: Snapshot, finished: TurnFinished, known_reason: str = "") -> str:
    """How much the last answer was, how fast, why it ended where that is worth a word, and what it took.

    `known_reason` is why energy is missing where that has been printed before; it is not repeated.
    """
    if now.turn is None:
        return ""
    figures = now.turn.figures
    unit = "tokens" if finished.counted or not figures.generated_tokens else "chunks"
    parts = [f"{figures.generated_tokens} {unit}", format_rate(figures.decode_tokens_per_s)]
    parts.append(f"first token {format_seconds(figures.first_token_s)}")
    if now.context_used is not None and now.n_ctx:
        parts.append(f"context {now.context_used} of {now.n_ctx}")
    parts += stop_words(finished)
    parts += filter(None, [now.turn.server])
    energy = figures.energy
    if energy is None or energy.j_per_token is None:
        why = figures.energy_missing or "the answer was too short"
        parts.append(f"energy {NOT_AVAILABLE}" + (f": {why}" if why != known_reason else ""))
    else:
        parts.append(f"{with_interval(energy.j_per_token)} J/token gross, grade {grade_text(energy)}")
    return ", ".join(parts)


def command_lines() -> Iterator[str]:
    """The commands that can be typed."""
    yield "Type a prompt, or one of these:"
    for each in SLASH_COMMANDS:
        yield f"{each.usage}: {each.description}."


def model_lines(folders: Iterable[Path]) -> Iterator[str]:
    """The models of this machine, and how to load one."""
    names = list(dict.fromkeys(model.name for model in find_models(folders)))
    yield from names
    yield (
        "/model NAME loads one."
        if names
        else "There is no model here; `edgetop models` says where they are looked for."
    )


def session_lines(store: Store) -> Iterator[str]:
    """The latest sessions, and how to go on with one."""
    listed = [each for each in store.list() if each.head is not None][:RECENT_SESSIONS]
    for entry in map(entry_of, listed):
        yield f"{entry.listed.number}: {entry.started}, {entry.model} {entry.quantization}".rstrip()
    yield "/open NUMBER goes on with one." if listed else "There is no recorded session yet."


MEANWHILE_S = 0.5
"""How often `meanwhile` is called while a line is awaited."""

_STEERING = ("enable-bracketed-paste off", "enable-meta-key off", "bell-style none")
"""What readline would otherwise send to the terminal besides the line itself."""


class LineReader:
    """On a terminal with Python's readline: a line can be edited, and earlier ones come back with the arrow up."""

    def __init__(self, completions: Callable[[str], Sequence[str]]) -> None:
        """`completions` gives the texts that a line may become, for Tab."""
        self._completions = completions
        self._is_terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
        self.is_disturbed = self._is_terminal and sys.stderr is not None and sys.stderr.isatty()
        """What is written to stderr would stand in the line that is being typed."""
        self._readline = _readline() if self._is_terminal else None
        self._found: Sequence[str] = ()
        self.is_waiting = False
        """A signal may end the waiting now: KeyboardInterrupt begins the line anew, other exceptions go through."""
        if self._readline is not None:
            for setting in _STEERING:
                self._readline.parse_and_bind(f"set {setting}")
            self._readline.set_completer_delims("")
            self._readline.set_completer(self._complete)
            self._readline.parse_and_bind("tab: complete")

    def prefill(self, text: str) -> bool:
        """Let the next line begin with `text`; False where it cannot be edited, or has more than one harmless line."""
        readline = self._readline
        if readline is None or not text.isprintable():
            return False
        readline.set_startup_hook(lambda: readline.insert_text(text))
        return True

    def read(self, label: str, *, meanwhile: Callable[[], None], ended: Callable[[], bool]) -> str | None:
        """The next line without its end; `None` when there is none, or when `ended` says so.

        Ctrl+C begins the line anew. `meanwhile` is called in another thread, but never while this one does anything but
        wait; what it raises is raised here, after the line.
        """
        stop = threading.Event()
        raised: list[Exception] = []

        def call_meanwhile() -> None:
            try:
                while not stop.wait(MEANWHILE_S):
                    meanwhile()
            except Exception as error:  # noqa: BLE001 - it is raised below
                raised.append(error)

        other = threading.Thread(target=call_meanwhile, name="edgetop-between-lines")
        other.start()
        try:
            line = self._line(label, ended)
        finally:
            stop.set()
            other.join()
            if self._readline is not None:
                self._readline.set_startup_hook(None)
        if raised:
            raise raised[0]
        return line

    def _line(self, label: str, ended: Callable[[], bool]) -> str | None:
        while True:
            try:
                self.is_waiting = True
                if ended():
                    return None
                drain()
                return input(label) if self._is_terminal else input().removeprefix("\ufeff")
            except EOFError:
                if self._is_terminal:
                    sys.stdout.write("\n")
                return None
            except KeyboardInterrupt:
                sys.stdout.write("\n")
            finally:
                self.is_waiting = False

    def _complete(self, text: str, state: int) -> str | None:
        if state == 0:
            self._found = [found for found in self._completions(text) if found.isprintable()]
        return self._found[state] if state < len(self._found) else None


def _readline() -> ModuleType | None:
    """Python's readline, which not every build of Python has."""
    try:
        import readline  # noqa: PLC0415 - a pipe has no use for it
    except ImportError:
        return None
    return readline


SETTLE_S = 2.0
"""How long the figures of a turn wait for its energy."""


def run_plain_chat(model: Path | None, settings: Settings) -> int:
    """Chat until the person ends it. Returns the exit code; raises StoreError when the session cannot be saved."""
    alerts = alerts_of(settings, "chat")
    chat = PlainChat(settings, alerts)
    with handle_signals(on_interrupt=chat.stop, on_end=chat.end) as signal_code:
        try:
            chat.begin(model)
            chat.run()
        finally:
            saved = chat.live.close()
    code = print_saved(saved, chat.live.recorder.why_not)
    if alerts is not None:
        alerts.raise_if_ended()
    return code or signal_code()


def print_line(text: str) -> None:
    """Write one line to stderr, and nothing that would clear a line of progress, since there is none."""
    sys.stderr.write(f"{one_line(text)}\n")
    sys.stderr.flush()


class PlainChat(Chat):
    """One conversation in lines."""

    def __init__(self, settings: Settings, alerts: Alerts | None = None) -> None:
        super().__init__(
            LiveSession(
                live_options(settings, alerts, exporters_of(settings)), open_store(settings), self.on_engine_event
            )
        )
        self._reader = LineReader(completions=completions)
        self._queued: list[str] | None = None
        """Lines that wait until the person has typed one; `None` while nobody types on the terminal they go to."""
        self._attached = ""
        """Text of several lines that goes before the next prompt."""
        self._instead = False
        """The next prompt replaces the last one."""
        self._is_reasoning = False
        self._ends_with_newline = True
        self._write_piece = ReplyWriter()
        self._figures_due: TurnFinished | None = None
        self._energy_missing = ""
        """Why energy was missing the last time."""
        self._stops = 0
        self._ended = False

    def begin(self, model: Path | None) -> None:
        """Load the first model, if there is one."""
        if model is None:
            self.note("No model is there yet. /model lists those of this machine, /model NAME loads one.")
        else:
            self.note(f"Loading {model.name or 'the model of the server'}.")
            self.load(model, self.live.settings_for(model))
        self._follow()
        self.note("Type a prompt, or /help. Ctrl+C stops an answer, Ctrl+D or /quit ends.")

    def run(self) -> None:
        """Read, answer, and read again, until the input or the person ends it."""
        while not self._is_over:
            line = self._read()
            if line is None:
                return
            match parse_slash_command(line):
                case None:
                    self._ask(line.removeprefix("/") if line.startswith("//") else line)
                case ("quit", _):
                    return
                case ("help", _):
                    self.note("\n".join(command_lines()))
                case ("model", ""):
                    self.note("\n".join(model_lines(self.live.options.model_folders)))
                case ("open", ""):
                    self.note("\n".join(session_lines(self.live.store)))
                case (name, argument):
                    self.run_slash_command(name, argument)
            self._follow()

    # How it is shown

    def note(self, text: str) -> None:
        """A line or a few on stderr; what would disturb the line that the person types waits for Enter."""
        for line in text.splitlines():
            if self._queued is not None:
                self._queued.append(line)
            else:
                self._end_line()
                print_line(line)

    def fill_prompt(self, text: str) -> None:
        """The beginning of the next prompt."""
        if not self._reader.prefill(text.strip()):
            self._attached = text
            self.note("The text goes before what you type next; an empty line sends it alone.")

    def edit_prompt(self, text: str) -> None:
        """The last prompt, to be typed in another way."""
        self._instead = True
        if not self._reader.prefill(text):
            self.note(f"What you type next replaces: {text}")

    def clear_chat(self) -> None:
        """Nothing stands on a screen that could be removed."""
        self.note("The conversation is cleared.")

    def remove_last_turn(self) -> None:
        """Nothing stands on a screen that could be removed."""
        self.note("The last prompt and its answer are removed.")

    def continue_reply(self) -> None:
        """The rest of the answer comes below."""
        self.note("Continued:")

    def show_turns(self, turns: Sequence[RecordedTurn]) -> None:
        """Turns of an earlier session."""
        for _, turn in turns:
            self.note(f"you> {turn.started.prompt or ''}")
            self._write("".join(span.text for span in turn.reply if span.part == "answer"))
            self._end_line()

    def copy(self, text: str, what: str) -> None:  # noqa: ARG002 - as the base has it
        """There is no clipboard without sequences that steer the terminal."""
        self.note(f"Without a screen {what} cannot be copied; /save FILE writes the conversation to a file.")

    def turn_into_reasoning(self) -> None:
        """End the line of what was printed; it cannot be taken back."""
        self._write("\n")

    def add_reply(self, text: str, part: ReplyPart) -> None:
        """Print a piece of the answer; of reasoning only that it goes on."""
        if part == "answer":
            self._write(text)
        elif not self._is_reasoning:
            self._is_reasoning = True
            self.note("Thinking ...")

    def end_reasoning(self, summary: str) -> None:
        """Print how long it was."""
        self._is_reasoning = False
        self.note(f"{summary.capitalize()}.")

    def end_reply(self, finished: TurnFinished) -> None:
        """The line of figures follows when the energy is known."""
        self._figures_due = finished

    # The person

    def _read(self) -> str | None:
        """One prompt or command; `None` at the end of the input. Engine and sensors are followed meanwhile."""
        self._queued = [] if self._reader.is_disturbed else None
        try:
            while True:
                line = self._reader.read("you> ", meanwhile=self.live.pump, ended=lambda: self._is_over)
                if line is None or line.strip() or self._attached:
                    break
        except EndedError:
            line = None
        queued, self._queued = self._queued, None
        for text in queued or ():
            self.note(text)
        return line

    def _ask(self, typed: str) -> None:
        if self.refusal:
            self.note(self.refusal)
            return
        prompt = "\n\n".join(part for part in (self._attached.strip(), typed.strip()) if part)
        instead, self._instead, self._attached = self._instead, False, ""
        if not (instead and self.live.conversation.replace_prompt(prompt)):
            self.live.conversation.submit(prompt)

    # The engine

    def _follow(self) -> None:
        """Pump until the engine has nothing more to do; the first Ctrl+C stops it, a later one may kill it."""
        conversation = self.live.conversation
        self._stops = handled = 0
        stopped_s = 0.0

        def ended() -> bool:
            nonlocal handled, stopped_s
            if self._stops > handled:
                handled = self._stops
                if handled == 1:
                    stopped_s = time.monotonic()
                    conversation.stop()
                elif time.monotonic() - stopped_s > UNRESPONSIVE_AFTER_S:
                    conversation.kill()
            return self._is_over

        self.live.pump_until(IDLE_PHASES, ended=ended)
        self._print_figures()

    def _print_figures(self) -> None:
        """One line of figures below an answer, energy among them as far as it is known by then."""
        finished, self._figures_due = self._figures_due, None
        if finished is None:
            return
        self._end_line()
        if not self._is_over:
            self.live.settle(SETTLE_S)
        now = self.live.snapshot()
        line = turn_line(now, finished, self._energy_missing)
        if now.turn is not None:
            self._energy_missing = now.turn.figures.energy_missing
            self.note(f"[{line}]")

    def _write(self, text: str) -> None:
        if not text:
            return
        try:
            self._write_piece(text)
        except BrokenPipeError:
            self._ended = True
            self.live.conversation.stop()
        self._ends_with_newline = literal(text).endswith("\n")

    def _end_line(self) -> None:
        if not self._ends_with_newline:
            self._write("\n")

    @property
    def _is_over(self) -> bool:
        return self._ended or self.live.is_ended_by_alert

    # Signals

    def stop(self) -> None:
        """Ctrl+C: stop the answer; where a line is being typed, begin it anew."""
        if self._reader.is_waiting:
            raise KeyboardInterrupt
        self._stops += 1

    def end(self) -> None:
        """A signal that ends programs: end the conversation in good order."""
        self._ended = True
        if self._reader.is_waiting:
            raise EndedError


class EndedError(EdgetopError):
    """A signal has ended the conversation while a line was being read."""

    def __init__(self) -> None:
        super().__init__("ended by a signal")

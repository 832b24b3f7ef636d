"""Chat without a screen, line by line.

Nothing is drawn twice and no cursor is moved. Prompts are read from standard input, answers go to stdout; figures and
everything else that is said go to stderr.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from edgetop.commands.exit import handle_signals
from edgetop.commands.inputs import live_options, open_store
from edgetop.commands.output import write_reply
from edgetop.core.energy.tokens import grade_text
from edgetop.core.errors import EdgetopError
from edgetop.core.format import NOT_AVAILABLE, format_rate, format_seconds
from edgetop.core.quantity import with_interval
from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.core.text import literal, one_line
from edgetop.inference.protocol import LoadFailed, Report
from edgetop.live.chat_commands import BUSY, ChatCommands
from edgetop.live.chat_session import LiveSession
from edgetop.live.conversation import UNRESPONSIVE_AFTER_S, Notice
from edgetop.session.snapshot import Snapshot
from edgetop.session.store import Store
from edgetop.session.turn import Turn, server_words
from edgetop.settings.resolve import Settings
from edgetop.tui.chat import slash_commands
from edgetop.tui.chat.turns import STOP_WORDS, loaded_line, reasoning_summary

RECENT_SESSIONS = 10


def say_line(text: str) -> None:
    """Write one line to stderr, and nothing that would clear a line of progress, since there is none."""
    sys.stderr.write(f"{one_line(text)}\n")
    sys.stderr.flush()


def turn_line(now: Snapshot, finished: TurnFinished, told: str = "") -> str:
    """How much the last answer was, how fast, why it ended where that is worth a word, and what it took.

    `told` is why energy is missing where that has been said before; it is not said again.
    """
    if now.turn is None:
        return ""
    figures = now.turn.figures
    unit = "tokens" if finished.counted or not figures.generated_tokens else "chunks"
    parts = [f"{figures.generated_tokens} {unit}", format_rate(figures.decode_tokens_per_s)]
    parts.append(f"first token {format_seconds(figures.first_token_s)}")
    if now.context_used is not None and now.n_ctx:
        parts.append(f"context {now.context_used} of {now.n_ctx}")
    if finished.stop_reason == "failed":
        parts.append(finished.error or "failed")
    elif finished.stop_reason in STOP_WORDS:
        parts.append(STOP_WORDS[finished.stop_reason])
    if now.load is not None and now.load.engine.server:
        parts += filter(None, [server_words(finished.perf, figures.decode_tokens_per_s, figures.prefill_tokens_per_s)])
    energy = figures.energy
    if energy is None or energy.j_per_token is None:
        why = figures.energy_missing or "the answer was too short"
        parts.append(f"energy {NOT_AVAILABLE}" + (f": {why}" if why != told else ""))
    else:
        parts.append(f"{with_interval(energy.j_per_token)} J/token gross, grade {grade_text(energy)}")
    return ", ".join(parts)


def command_lines() -> Iterator[str]:
    """The commands that can be typed."""
    yield "Type a prompt, or one of these:"
    for each in slash_commands.COMMANDS:
        yield f"{f'/{each.name} {each.argument}'.rstrip()}: {each.description.rstrip(' .')}."


def model_lines(folders: Iterable[Path]) -> Iterator[str]:
    """The models of this machine, and how to load one."""
    from edgetop.inference.catalog import find_models  # noqa: PLC0415 - only when asked for

    names = list(dict.fromkeys(model.name for model in find_models(folders)))
    yield from names
    yield (
        "/model NAME loads one."
        if names
        else "There is no model here; `edgetop models` says where they are looked for."
    )


def session_lines(store: Store) -> Iterator[str]:
    """The latest sessions, and how to go on with one."""
    from edgetop.session.store import entry_of  # noqa: PLC0415 - only when asked for

    listed = [each for each in store.list() if each.head is not None][:RECENT_SESSIONS]
    for entry in map(entry_of, listed):
        yield f"{entry.listed.number}: {entry.started}, {entry.model} {entry.quantization}".rstrip()
    yield "/open NUMBER goes on with one." if listed else "There is no recorded session yet."


LOOK_AFTER_S = 0.5
"""How often `meanwhile` is called while a line is awaited."""

_STEERING = ("enable-bracketed-paste off", "enable-meta-key off", "bell-style none")
"""What readline would otherwise send to the terminal besides the line itself."""


class LineReader:
    """On a terminal with Python's readline: a line can be edited, and earlier ones come back with the arrow up."""

    def __init__(self, completions: Callable[[str], Sequence[str]]) -> None:
        """`completions` gives the texts that a line may become, for Tab."""
        self._completions = completions
        self._is_terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
        self._readline = _readline() if self._is_terminal else None
        self._found: Sequence[str] = ()
        self.waits = False
        """A signal may end the waiting now: KeyboardInterrupt begins the line anew, other exceptions go through."""
        if self._readline is not None:
            for setting in _STEERING:
                self._readline.parse_and_bind(f"set {setting}")
            self._readline.set_completer_delims("")
            self._readline.set_completer(self._complete)
            self._readline.parse_and_bind("tab: complete")

    @property
    def is_edited(self) -> bool:
        """Whether the next line can be given a beginning to edit."""
        return self._readline is not None

    def prefill(self, text: str) -> None:
        """Let the next line begin with `text`."""
        readline = self._readline
        if readline is not None:
            readline.set_startup_hook(lambda: readline.insert_text(text))

    def read(self, label: str, *, meanwhile: Callable[[], None], ended: Callable[[], bool]) -> str | None:
        """The next line without its end; `None` when there is none, or when `ended` says so.

        Ctrl+C begins the line anew. `meanwhile` is called in another thread, but never while this one does anything but
        wait; what it raises is raised here, after the line.
        """
        stop = threading.Event()
        raised: list[Exception] = []

        def look_after() -> None:
            try:
                while not stop.wait(LOOK_AFTER_S):
                    meanwhile()
            except Exception as error:  # noqa: BLE001 - it is raised below
                raised.append(error)

        other = threading.Thread(target=look_after, name="edgetop-between-lines")
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
                self.waits = True
                if ended():
                    return None
                return input(label) if self._is_terminal else input()
            except EOFError:
                if self._is_terminal:
                    sys.stdout.write("\n")
                return None
            except KeyboardInterrupt:
                sys.stdout.write("\n")
            finally:
                self.waits = False

    def _complete(self, text: str, state: int) -> str | None:
        if state == 0:
            self._found = self._completions(text)
        return self._found[state] if state < len(self._found) else None


def _readline() -> ModuleType | None:
    """Python's readline, which not every build of Python has."""
    try:
        import readline  # noqa: PLC0415 - a pipe has no use for it
    except ImportError:
        return None
    return readline


WAIT_S = 0.1
"""How soon an interruption is noticed, and how often text is written."""

SETTLE_S = 2.0
"""How long the figures of a turn wait for its energy."""

IDLE = frozenset({"ready", "no_model", "dead"})


def talk(model: Path | None, settings: Settings) -> int:
    """Chat until the person ends it. Returns the exit code; raises StoreError when the session can be kept nowhere."""
    plain = PlainChat(settings)
    with handle_signals(on_interrupt=plain.stop, on_end=plain.end):
        try:
            plain.begin(model)
            plain.converse()
        finally:
            saved = plain.live.close()
    if saved is not None:
        say_line(f"session: {saved}")
    return 0


class PlainChat:
    """One conversation in lines; the `ChatPlace` of its commands."""

    def __init__(self, settings: Settings) -> None:
        self.live = LiveSession(live_options(settings), open_store(settings), self._hear)
        self._commands = ChatCommands(self.live, self)
        self._reader = LineReader(completions=slash_commands.completions)
        self._held: list[str] | None = None
        """What came to be said while a line was being typed."""
        self._attached = ""
        """Text of several lines that goes before the next prompt."""
        self._instead = False
        """The next prompt takes the place of the last one."""
        self._thinks = False
        self._ends_with_newline = True
        self._figures_due: TurnFinished | None = None
        self._energy_missing = ""
        """Why energy was missing the last time."""
        self._stops = 0
        self._ended = False

    def begin(self, model: Path | None) -> None:
        """Load the first model, if there is one."""
        if model is None:
            self.say("No model is there yet. /model lists those of this machine, /model NAME loads one.")
        else:
            self.say(f"Loading {model.name or 'the model of the server'}.")
            self._commands.load(model, self.live.settings_for(model))
        self._follow()
        self.say("Type a prompt, or /help. Ctrl+C stops an answer, Ctrl+D or /quit ends.")

    def converse(self) -> None:
        """Read, answer, and read again, until the input or the person ends it."""
        while not self._ended:
            line = self._read()
            if line is None:
                return
            command = slash_commands.parse(line)
            match command:
                case None:
                    self._ask(line.removeprefix("/") if line.startswith("//") else line)
                case ("quit", _):
                    return
                case ("help", _):
                    self.say("\n".join(command_lines()))
                case ("model", ""):
                    self.say("\n".join(model_lines(self.live.options.model_folders)))
                case ("open", ""):
                    self.say("\n".join(session_lines(self.live.store)))
                case (name, argument):
                    if not self._commands.run_slash_command(name, argument):
                        self.say(f"There is no command /{name}; /help lists them. Two slashes begin a prompt with one.")
            self._follow()

    # What the commands do here (`ChatPlace`)

    def say(self, text: str) -> None:
        """A line or a few on stderr; what comes while the person types waits for Enter."""
        for line in text.splitlines():
            if self._held is not None:
                self._held.append(line)
            else:
                self._end_line()
                say_line(line)

    def put(self, text: str) -> None:
        """The beginning of the next prompt."""
        if "\n" in text.strip() or not self._reader.is_edited:
            self._attached = text
            self.say("The text goes before what you type next; an empty line sends it alone.")
        else:
            self._reader.prefill(text.strip())

    def edit(self, text: str) -> None:
        """The last prompt, to be typed in another way."""
        self._instead = True
        if "\n" in text or not self._reader.is_edited:
            self.say(f"What you type next takes the place of: {text}")
        else:
            self._reader.prefill(text)

    def clear_chat(self) -> None:
        """Nothing stands on a screen that could be taken away."""
        self.say("The conversation begins anew.")

    def remove_last_turn(self) -> None:
        """Nothing stands on a screen that could be taken away."""
        self.say("The last prompt and its answer are taken back.")

    def go_on_with_answer(self) -> None:
        """The rest of the answer comes below."""
        self.say("It goes on:")

    def show_turns(self, turns: Sequence[Turn]) -> None:
        """Turns of an earlier session."""
        for turn in turns:
            self.say(f"you> {turn.started.prompt or ''}")
            self._write("".join(span.text for span in turn.reply if span.part == "answer"))
            self._end_line()

    def copy(self, text: str, what: str) -> None:  # noqa: ARG002 - as ChatPlace has it
        """There is no clipboard without sequences that steer the terminal."""
        self.say(f"Without a screen {what} cannot be copied; /save FILE writes the conversation to a file.")

    def growing_answer(self) -> str:
        """Commands are read between answers only."""
        return ""

    # The person

    def _read(self) -> str | None:
        """One prompt or command; `None` at the end of the input. Meanwhile engine and sensors are looked after."""
        self._held = []
        try:
            while True:
                line = self._reader.read("you> ", meanwhile=self._look_after, ended=lambda: self._ended)
                if line is None or line.strip() or self._attached:
                    break
        except EndedError:
            line = None
        held, self._held = self._held, None
        for said in held:
            self.say(said)
        return line

    def _look_after(self) -> None:
        self.live.pump()
        self.live.check()

    def _ask(self, typed: str) -> None:
        prompt = "\n\n".join(part for part in (self._attached.strip(), typed.strip()) if part)
        match self.live.conversation.phase:
            case "ready":
                instead, self._instead, self._attached = self._instead, False, ""
                if not (instead and self.live.conversation.replace_prompt(prompt)):
                    self.live.conversation.submit(prompt)
            case "dead":
                self.say("The engine is gone; /reload starts it again.")
            case "no_model":
                self.say("No model is loaded; /model lists those of this machine, /model NAME loads one.")
            case _:
                self.say(BUSY)

    # The engine

    def _follow(self) -> None:
        """Look after everything until the engine has nothing more to do."""
        conversation = self.live.conversation
        self._stops = 0
        stopped_s = 0.0
        heard, checked_s = 0, time.monotonic()
        while conversation.phase not in IDLE and not self._ended:
            if self._stops > heard:
                heard = self._stops
                if heard == 1:
                    stopped_s = time.monotonic()
                    conversation.stop()
                elif time.monotonic() - stopped_s > UNRESPONSIVE_AFTER_S:
                    conversation.kill()
            self.live.pump(wait_s=WAIT_S)
            if time.monotonic() - checked_s >= 1:
                checked_s = time.monotonic()
                self.live.check()
        self._tell_figures()

    def _hear(self, said: Report | Notice) -> None:
        match said:
            case Tokens() if said.part == "reasoning":
                if not self._thinks:
                    self._thinks = True
                    self.say("Thinking ...")
            case Tokens():
                self._end_thought()
                self._write("".join(said.pieces))
            case TurnFinished():
                self._end_thought()
                self._figures_due = said
            case ModelLoaded():
                self.say(loaded_line(said))
                if said.model.template_note:
                    self.say(said.model.template_note)
            case LoadFailed(reason="cancelled"):
                self.say("Loading was stopped; /model chooses a model.")
            case LoadFailed():
                self.say(f"{said.message}\n{said.hint}")
            case Notice():
                self.say(f"{said.text}\n{said.hint}")
            case _:
                pass

    def _end_thought(self) -> None:
        if self._thinks:
            self._thinks = False
            turn = self.live.session.turns[-1]
            parts = [span.part for span in turn.reply]
            self.say(f"{reasoning_summary(turn, len(parts) - 1 - parts[::-1].index('reasoning')).capitalize()}.")

    def _tell_figures(self) -> None:
        """One line of figures below an answer, energy among them as far as it is known by then."""
        finished, self._figures_due = self._figures_due, None
        if finished is None:
            return
        self._end_line()
        if not self._ended:
            self.live.settle(SETTLE_S)
        now = self.live.snapshot()
        line = turn_line(now, finished, self._energy_missing)
        if now.turn is not None:
            self._energy_missing = now.turn.figures.energy_missing
            self.say(f"[{line}]")

    def _write(self, text: str) -> None:
        if not text:
            return
        try:
            write_reply(text)
        except BrokenPipeError:
            self._ended = True
            self.live.conversation.stop()
        self._ends_with_newline = literal(text).endswith("\n")

    def _end_line(self) -> None:
        if not self._ends_with_newline:
            self._write("\n")

    # Signals

    def stop(self) -> None:
        """Ctrl+C: stop the answer; where a line is being typed, begin it anew."""
        if self._reader.waits:
            raise KeyboardInterrupt
        self._stops += 1

    def end(self) -> None:
        """A signal that ends programs: end the conversation in good order."""
        self._ended = True
        if self._reader.waits:
            raise EndedError


class EndedError(EdgetopError):
    """A signal has ended the conversation while a line was being read."""

    def __init__(self) -> None:
        super().__init__("ended by a signal")

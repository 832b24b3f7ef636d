"""A chat: slash commands, their completion, and what the engine reports, for screen and lines."""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, NamedTuple

from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.scopes import CHOOSE, SCOPE_LABELS
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.errors import EdgetopError
from edgetop.core.format import format_bytes, format_rate, format_seconds, format_significant, plural
from edgetop.core.records import ModelLoaded, ReplyPart, Tokens, TurnFinished
from edgetop.core.sources import Unavailable
from edgetop.core.text import literal, one_line
from edgetop.inference.catalog import find_models, problem_of
from edgetop.inference.protocol import LoadFailed, Report
from edgetop.io.files import FILE_SUFFIX, as_utf8
from edgetop.live.chat_session import LiveSession
from edgetop.live.conversation import Notice
from edgetop.live.history import (
    NAME_LENGTH,
    RecordedTurn,
    as_markdown,
    code_blocks,
    estimated_tokens,
    find_in,
    harmless,
    recorded_conversation,
)
from edgetop.session.file_io import load
from edgetop.session.meters import choices_of, headline_of, meters_of
from edgetop.session.turn import Turn
from edgetop.settings.option import integer, key_value, real
from edgetop.settings.options import OPTIONS

AUTO = "auto"
"""Of `/power`: no meter in particular."""


class SettingError(ValueError):
    """A sampling setting that cannot be; the text says why."""


PARSERS: dict[str, Callable[[str], object]] = {
    # But for texts that stop a reply: there may be several, and one line cannot tell them apart.
    **{
        field: option.parse
        for option in OPTIONS
        if option.section == "sampling"
        for field in option.sets
        if field != "stop"
    },
    "frequency_penalty": real(-2, 100),
    "presence_penalty": real(-2, 100),
    "repeat_last_n": integer(-1),
}
"""By the name of each setting, what reads its value: that of the option, where there is one."""

TEMPLATE_SWITCHES = ("enable_thinking", "thinking", "reasoning_effort")
"""What many chat templates ask for; these are known without an equals sign."""

_UNSET = {"seed": "random", "max_tokens": "none"}


def settings_words(sampling: SamplingSettings) -> str:
    """The present settings, in the words that `with_setting` reads."""
    values = {name: getattr(sampling, name) for name in sampling.__struct_fields__ if name in PARSERS}
    words = [f"{name} {_UNSET[name] if value is None else value}" for name, value in values.items()]
    words += [f"{name}={json.dumps(value)}" for name, value in sampling.template_args.items()]
    return ", ".join(words)


def with_setting(sampling: SamplingSettings, argument: str) -> SamplingSettings:
    """`sampling` with one setting changed, as in `temperature 0.2` or `enable_thinking=false`. Raises SettingError."""
    name, text, *_ = *re.split(r"\s*=\s*|\s+", argument.strip(), maxsplit=1), ""
    name = {"temp": "temperature"}.get(name, name)
    if name not in PARSERS:
        if name and text and ("=" in argument or name in TEMPLATE_SWITCHES):
            return replace(sampling, template_args=sampling.template_args | dict(key_value(f"{name}={text}")))
        raise SettingError(
            f"There is no setting {name!r}. There are: {', '.join(PARSERS)}, and NAME=VALUE for the chat template."
        )
    try:
        value = None if text == _UNSET.get(name) else PARSERS[name](text)
    except ValueError as error:
        raise SettingError(f"{name}: {text!r} is not valid; expected {error}.") from None
    return replace(sampling, **{name: value})


LOAD_FILE_BYTES = 2**18
"""More text than this fits into no context that such a device holds."""


class SlashCommand(NamedTuple):
    """One command, its argument, and what it does."""

    name: str
    argument: str
    description: str

    @property
    def usage(self) -> str:
        """How it is typed: `/load FILE`."""
        return f"/{self.name} {self.argument}".rstrip()


SLASH_COMMANDS: tuple[SlashCommand, ...] = (
    SlashCommand("help", "", "keys and commands"),
    SlashCommand("model", "[NAME]", "load another model; without a name, choose one"),
    SlashCommand("system", "[TEXT]", "show or set the system prompt; - removes it"),
    SlashCommand("set", "[NAME VALUE]", "show or set sampling: temperature, seed ...; or enable_thinking=false"),
    SlashCommand("clear", "", "clear the conversation; the session keeps what was recorded"),
    SlashCommand("retry", "", "answer the last prompt once more"),
    SlashCommand("edit", "", "edit the last prompt and ask again in its place"),
    SlashCommand("undo", "", "remove the last prompt and its answer"),
    SlashCommand("continue", "", "continue an answer that was stopped"),
    SlashCommand("reload", "", "restart the engine with the same model"),
    SlashCommand("load", "FILE", "put a file's text into the prompt"),
    SlashCommand("copy", "[N|code|all]", "copy the last answer, the Nth last, the last code, or the conversation"),
    SlashCommand("save", "FILE", "write the conversation to a file (Markdown); /save! overwrites one"),
    SlashCommand("open", "[SESSION]", "continue the conversation of a recorded session; without one, choose"),
    SlashCommand("power", "[NAME]", "show the power meters, or choose the one that measures the device; auto for none"),
    SlashCommand("advice", "", "what to change for more speed or fewer joules, by what this session shows"),
    SlashCommand("stats", "", "the figures of this session"),
    SlashCommand("quit", "", "quit; the session is saved"),
)


def parse_slash_command(text: str) -> tuple[str, str] | None:
    """Name and argument of a command; `None` for a prompt. A prompt may begin with two slashes to mean one."""
    if not text.startswith("/") or text.startswith("//"):
        return None
    name, *argument = text[1:].split(maxsplit=1) or [""]
    return name, "".join(argument).strip()


def completions(text: str) -> list[str]:
    """Commands that `text` may become."""
    if not text.startswith("/") or " " in text:
        return []
    return [f"/{command.name}" for command in SLASH_COMMANDS if command.name.startswith(text[1:])]


MODELS_WAIT_S = 0.2
"""How long the first Tab may wait for the models of the machine; a later Tab finds them."""

OFFERED_MAX = 200


class Completion:
    """Completes what is typed; models are searched for once, in a thread."""

    def __init__(self, live: LiveSession) -> None:
        self._live = live
        self._models: Future[list[str]] | None = None

    def __call__(self, text: str) -> Sequence[str]:
        """Texts that `text` may become, the likeliest first."""
        command = parse_slash_command(text)
        if command is None or " " not in text or "\n" in text:
            return completions(text)
        name, begun = text[1:].split(" ", 1)
        return [f"/{name} {argument}" for argument in self._arguments(name, begun) if argument != begun][:OFFERED_MAX]

    def _arguments(self, name: str, begun: str) -> Sequence[str]:
        match name:
            case "set":
                return _settings_begun(begun)
            case "model":
                return _containing(self._model_names(), begun)
            case "open":
                return _containing(self._session_names(), begun)
            case "load" | "save" | "save!":
                return _paths(begun)
            case "power" | "copy":
                names = ("code", "all") if name == "copy" else (AUTO, *choices_of(self._live.session))
                return [each for each in names if each.startswith(begun)]
        return ()

    def _model_names(self) -> Sequence[str]:
        if self._models is None:
            pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edgetop-models")
            self._models = pool.submit(_find_models, self._live.options.model_folders)
            pool.shutdown(wait=False)
        try:
            return self._models.result(timeout=MODELS_WAIT_S)
        except TimeoutError:
            return ()

    def _session_names(self) -> Sequence[str]:
        folder = self._live.store.folder
        names = [path.name.removesuffix(FILE_SUFFIX) for path in folder.glob("[!.]*" + FILE_SUFFIX)]
        return sorted((name for name in names if literal(name) == name), reverse=True)


def _find_models(folders: Sequence[Path]) -> list[str]:
    names = dict.fromkeys(model.name for model in find_models(folders) if not problem_of(model))
    return [name for name in names if literal(name) == name]


def _containing(names: Sequence[str], begun: str) -> Sequence[str]:
    """Names that begin with what was typed, and after them those that have it inside."""
    wanted = begun.casefold()
    having = [name for name in names if wanted in name.casefold()]
    return sorted(having, key=lambda name: not name.casefold().startswith(wanted))


def _settings_begun(begun: str) -> Sequence[str]:
    name, blank, value = begun.partition(" ")
    if not blank:
        return [f"{each} " for each in PARSERS if each.startswith(name)]
    word = _UNSET.get(name, "")
    return [f"{name} {word}"] if word and word.startswith(value) else ()


def _paths(begun: str) -> Sequence[str]:
    """Files and folders that a path may become; hidden ones only after a dot."""
    head, tail = os.path.split(begun)
    found = []
    try:
        with os.scandir(Path(head or ".").expanduser()) as entries:
            for entry in entries:
                name = entry.name
                if (
                    name.startswith(tail)
                    and (tail.startswith(".") or not name.startswith("."))
                    and literal(name) == name
                ):
                    found.append(os.path.join(head, name) + ("/" if entry.is_dir() else ""))  # noqa: PTH118 - as typed
    except (OSError, RuntimeError, ValueError):
        return ()
    return sorted(found)


BUSY = "The model is still answering; Ctrl+C stops it."
_BINARY_SHARE = 0.1
"""A file in which more than this of the characters are controls or no text at all is not text."""


STOP_WORDS = {
    "cancelled": "stopped",
    "max_tokens": "token limit reached",
    "context_full": "the context is full: /undo or /clear makes room",
    "engine_died": "the engine died",
    "stop_string": "stop string",
}


def stop_words(finished: TurnFinished) -> list[str]:
    """Why an answer ended, where that is worth a word."""
    if finished.stop_reason == "failed":
        return [finished.error or "failed"]
    return [STOP_WORDS[finished.stop_reason]] if finished.stop_reason in STOP_WORDS else []


def reasoning_summary(turn: Turn, index: int) -> str:
    """How long the part of a reply with this index thought, until the answer began or the turn ended."""
    begin = sum(span.tokens for span in turn.reply[:index])
    tokens = turn.reply[index].tokens
    stamps = turn.token_t_us
    if not tokens or begin >= len(stamps):
        return "thought"
    span_s = (stamps[min(begin + tokens, len(stamps) - 1)] - stamps[begin]) / US_PER_S
    unit = "token" if turn.counted else "chunk"
    return f"thought for {format_seconds(span_s)}, {plural(tokens, unit)}"


def loaded_line(loaded: ModelLoaded) -> str:
    """What was loaded, how long it took, and with which settings."""
    model, settings = loaded.model, loaded.settings
    known = []
    if settings.n_ctx is not None:
        known.append(f"context {settings.n_ctx} tokens")
    if settings.n_threads is not None:
        known.append(plural(settings.n_threads, "thread"))
    if loaded.engine.server:
        known.append(f"{loaded.engine.name} at {loaded.engine.server}")
    known += [share.words(model.n_layer) for share in loaded.memory.layers]
    size = "" if model.size_bytes is None else f", {format_bytes(model.size_bytes)}"
    more = f"; {', '.join(known)}" if known else ""
    name = " ".join(part for part in (model.name, model.quantization) if part)
    return f"{name}{size}, loaded in {format_seconds(loaded.load_s)}{more}."


PRIVATE_MODE = 0o600
"""Of what holds a conversation, as of the session's own file."""


def _open_private(name: str, flags: int) -> int:
    return os.open(name, flags, PRIVATE_MODE)


class Chat(ABC):
    """Carries out commands and follows the engine; a subclass shows it, on the live screen or line by line."""

    HOW_TO_CHOOSE: ClassVar[str] = "/model"
    """How the user chooses a model."""

    def __init__(self, live: LiveSession) -> None:
        self.live = live
        self._reasons = False
        """The text that came last was reasoning."""

    # How it is shown

    @abstractmethod
    def note(self, text: str) -> None:
        """Show a message, in one line or a few."""

    @abstractmethod
    def fill_prompt(self, text: str) -> None:
        """Put a text into the prompt, to edit and to send."""

    @abstractmethod
    def edit_prompt(self, text: str) -> None:
        """The same; what is sent then replaces the last prompt (`Conversation.replace_prompt`)."""

    @abstractmethod
    def clear_chat(self) -> None:
        """Remove what was shown."""

    @abstractmethod
    def remove_last_turn(self) -> None:
        """Remove the last prompt and what followed it."""

    @abstractmethod
    def continue_reply(self) -> None:
        """What comes next belongs to the last answer."""

    @abstractmethod
    def show_turns(self, turns: Sequence[RecordedTurn]) -> None:
        """Show turns of an earlier session in place of what is shown."""

    @abstractmethod
    def copy(self, text: str, what: str) -> None:
        """Put a harmless text where it can be pasted from, and name it."""

    @abstractmethod
    def add_reply(self, text: str, part: ReplyPart) -> None:
        """Append a piece of the reply."""

    @abstractmethod
    def turn_into_reasoning(self) -> None:
        """What was shown of the reply was reasoning."""

    @abstractmethod
    def end_reasoning(self, summary: str) -> None:
        """The reasoning has ended; `summary` says how long it was."""

    @abstractmethod
    def end_reply(self, finished: TurnFinished) -> None:
        """The answer is complete."""

    @property
    def partial_answer(self) -> str:
        """What has come of the answer that is being given; empty while none is."""
        return ""

    # The engine

    def on_engine_event(self, event: Report | Notice) -> None:
        """Show what the engine reports."""
        match event:
            case Tokens():
                if event.reasoned_before:
                    self.turn_into_reasoning()
                    self._reasons = True
                if event.part == "answer":
                    self._end_reasoning()
                self._reasons = event.part == "reasoning"
                if text := "".join(event.pieces):
                    self.add_reply(text, event.part)
            case TurnFinished():
                self._end_reasoning()
                self.end_reply(event)
            case ModelLoaded():
                self.note(loaded_line(event))
                if event.model.template_note:
                    self.note(event.model.template_note)
                self._offer_power()
            case LoadFailed(reason="cancelled"):
                self.note(f"Loading was stopped; {self.HOW_TO_CHOOSE} chooses a model.")
            case LoadFailed():
                self.note_with_hint(event.message, event.hint)
            case Notice():
                self.note_with_hint(event.text, event.hint)

    def note_with_hint(self, what: str, hint: str) -> None:
        """What happened in one line, and what to do in another."""
        again = "/reload starts the engine again." if self.live.conversation.phase == "dead" else ""
        self.note("\n".join(line for line in (what, f"{hint} {again}".strip()) if line))

    @property
    def refusal(self) -> str:
        """Why no prompt can be sent now; empty where one can."""
        match self.live.conversation.phase:
            case "ready":
                return ""
            case "starting" | "loading":
                return "The model is still being loaded."
            case "dead":
                return "The engine is gone; /reload starts it again."
            case "no_model":
                return f"No model is loaded; {self.HOW_TO_CHOOSE} chooses one."
        return BUSY

    def _end_reasoning(self) -> None:
        if self._reasons:
            self._reasons = False
            turn = self.live.session.turns[-1]
            parts = [span.part for span in turn.reply]
            self.end_reasoning(reasoning_summary(turn, len(parts) - 1 - parts[::-1].index("reasoning")))

    # Commands

    def run_slash_command(self, name: str, argument: str) -> bool:
        """Run a command that needs nothing of a screen. False, and a note, if there is no such command."""
        match name:
            case "model":
                self._load_named(argument)
            case "system":
                self._set_system(argument)
            case "set":
                self._set_sampling(argument)
            case "clear" | "retry" | "continue" | "reload" | "undo" | "edit":
                self._change_conversation(name)
            case "load":
                self._load_text(argument)
            case "save" | "save!":
                self._save(argument, over=name.endswith("!"))
            case "open":
                self._open(argument)
            case "copy":
                self._copy(argument)
            case "power":
                self._choose_power(argument)
            case "advice":
                self.live.advise(self.note)
            case "stats":
                self.note(self._stats())
            case _:
                close = difflib.get_close_matches(name, [command.name for command in SLASH_COMMANDS], n=1)
                meant = f"did you mean /{close[0]}? " if close else ""
                self.note(f"There is no command /{name}; {meant}/help lists them. Two slashes begin a prompt with one.")
                return False
        return True

    def load(self, path: Path, settings: EngineSettings) -> None:
        """Load a model, in place of the one there is."""
        self.live.conversation.load(path, settings)
        if self.live.tuned is not None:
            self.note(f"{self.live.tuned.label}: {self.live.tuned.words}.")

    def resume(self, path: Path) -> None:
        """Go on with the conversation in a session file."""
        live = self.live
        try:
            found = recorded_conversation(load(path), find_in(live.store))
        except EdgetopError as error:
            self.note_with_hint(error.what, error.hint)
            return
        messages = found.messages
        if not live.conversation.resume(messages, system=found.system, session_id=found.session_id):
            self.note(BUSY)
            return
        self.show_turns([each for exchange in found.exchanges for each in exchange.turns])
        count = len(found.exchanges)
        text = f"This continues session {found.name}: {plural(count, 'turn')}"
        tokens = found.context_used or estimated_tokens("".join(each.content for each in messages), live.session)
        n_ctx = live.snapshot().n_ctx
        about = "" if found.context_used else "about "
        if n_ctx and tokens >= n_ctx:
            text += f", {about}{tokens} tokens, {tokens - n_ctx} more than the context of {n_ctx} holds: /undo drops"
            text += " turns from its end, --ctx makes it longer"
        else:
            text += f", {about}{tokens} tokens, which the model reads with the next prompt"
        lacking = (
            f"\nIts beginning was in session {found.lacking[:NAME_LENGTH]}, which is not here." if found.lacking else ""
        )
        self.note(f"{text}.{lacking}")

    # The conversation

    def _change_conversation(self, name: str) -> None:
        conversation = self.live.conversation
        if conversation.phase in {"answering", "stopping"}:
            self.note(BUSY)
            return
        match name:
            case "clear":
                conversation.clear()
                self.clear_chat()
            case "reload":
                conversation.reload()
                if conversation.phase != "loading":
                    self.note(f"No model has been loaded yet; {self.HOW_TO_CHOOSE} chooses one.")
            case "retry":
                self.note("Once more:" if conversation.retry() else "There is no prompt to answer once more.")
            case "undo" if conversation.undo():
                self.remove_last_turn()
            case "undo":
                self.note("There is no turn to take back.")
            case "edit" if conversation.history.last_prompt is not None:
                self.edit_prompt(conversation.history.last_prompt)
            case "edit":
                self.note("There is no prompt to change.")
            case "continue" if conversation.continue_answer():
                self.continue_reply()
            case _:
                self.note("There is no answer to go on with.")

    def _set_system(self, text: str) -> None:
        conversation = self.live.conversation
        if text:
            conversation.system = None if text == "-" else text
        self.note(f"System prompt: {conversation.system}" if conversation.system else "There is no system prompt.")

    def _set_sampling(self, argument: str) -> None:
        conversation = self.live.conversation
        if not argument:
            self.note(f"Sampling: {settings_words(conversation.sampling)}.")
            return
        try:
            conversation.sampling = with_setting(conversation.sampling, argument)
        except SettingError as error:
            self.note(str(error))
        else:
            self.note(f"From the next prompt on: {argument}.")

    def _offer_power(self) -> None:
        """Where only the person knows which meter measures the device, say so, and how it is chosen."""
        missing = headline_of(self.live.session, meters_of(self.live.session))
        if isinstance(missing, Unavailable) and missing.hint.startswith(CHOOSE):
            self.note(f"No energy yet: {missing.reason}.\n/power NAME chooses it.")

    def _choose_power(self, name: str) -> None:
        if name:
            found = self.live.recorder.choose_power(None if name == AUTO else name)
        else:
            found = headline_of(self.live.session, meters_of(self.live.session))
        if isinstance(found, Unavailable):
            text = f"There is no power: {found}."
        else:
            text = f"Power comes from {' + '.join(meter.name for meter in found.meters)}, {SCOPE_LABELS[found.scope]}."
        read = ", ".join(
            each if power_w is None else f"{each} {format_significant(power_w)} W"
            for each, power_w in choices_of(self.live.session).items()
        )
        if read and not name:
            text += f"\nMeters: {read}.\n/power NAME chooses one, /power {AUTO} none."
        self.note(text)

    def _load_named(self, name: str) -> None:
        if not name.startswith("hf:"):
            self._load_found(lambda: self.live.find_model(name))
            return
        self.note(f"Looking for {name} ...")
        self.live.download(name, self.note, self._load_found)

    def _load_found(self, find: Callable[[], Path]) -> None:
        try:
            path = find()
        except EdgetopError as error:
            self.note_with_hint(error.what, error.hint)
        else:
            self.load(path, self.live.settings_for(path))

    def _open(self, text: str) -> None:
        try:
            path = self.live.store.find(text)
        except EdgetopError as error:
            self.note_with_hint(error.what, error.hint)
        else:
            self.resume(path)

    # Files and the clipboard

    def _load_text(self, name: str) -> None:
        try:
            path = Path(name).expanduser()
            if not path.is_file():
                self.note(f"{name or 'Nothing'} is no file; /load FILE puts a file's text into the prompt.")
                return
            with path.open("rb") as file:
                data = file.read(LOAD_FILE_BYTES + 1)
        except (OSError, RuntimeError, ValueError) as error:
            self.note(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.")
            return
        if len(data) > LOAD_FILE_BYTES:
            self.note(f"{name} is longer than {format_bytes(LOAD_FILE_BYTES)}, more than a context holds.")
        elif _is_binary(data := as_utf8(data)):
            self.note(f"{name} is not a text file; only text can be put into the prompt.")
        else:
            text = data.decode("utf-8", "replace")
            self.fill_prompt(text)
            tokens, n_ctx = estimated_tokens(text, self.live.session), self.live.snapshot().n_ctx
            of = f" of the {n_ctx} that the context holds" if n_ctx else ""
            self.note(f"{name}: {format_bytes(len(data))}, about {tokens} tokens{of}.")

    def _save(self, name: str, *, over: bool) -> None:
        conversation = self.live.conversation
        if not name or not conversation.history.messages:
            self.note("There is nothing to save yet." if name else "/save FILE writes the conversation to a file.")
            return
        try:
            path = Path(name).expanduser()
            with open(path, "w" if over else "x", encoding="utf-8", newline="\n", opener=_open_private) as file:
                if over and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    os.fchmod(file.fileno(), PRIVATE_MODE)
                written = file.write(self._conversation_text())
        except FileExistsError:
            self.note(f"{name} is there already; /save! {name} writes over it.")
        except (OSError, RuntimeError, ValueError) as error:
            self.note(f"{name} cannot be written: {getattr(error, 'strerror', None) or error}.")
        else:
            self.note(f"The conversation is saved as {path} ({written} characters).")

    def _copy(self, argument: str) -> None:
        messages = self.live.conversation.history.messages
        answers = [message.content for message in messages if message.role == "assistant"]
        if self.partial_answer:
            answers.append(self.partial_answer)
        match argument:
            case "all":
                self._copy_text(self._conversation_text() if messages else "", "the conversation")
            case "code":
                blocks = next((blocks for answer in reversed(answers) if (blocks := code_blocks(answer))), [""])
                self._copy_text(blocks[-1], "the last code")
            case "" | "1":
                self._copy_text(answers[-1] if answers else "", "the last answer")
            case number if number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= len(answers):
                self._copy_text(answers[-int(number)], f"answer {number} from the end")
            case _:
                self.note("/copy takes the number of an answer from the last one back, `code` or `all`.")

    def _copy_text(self, text: str, what: str) -> None:
        text = harmless(text)
        if text:
            self.copy(text, what)
        else:
            self.note("There is nothing to copy.")

    def _conversation_text(self) -> str:
        conversation = self.live.conversation
        loaded = conversation.model
        model = "" if loaded is None else f"{loaded.model.name} {loaded.model.quantization}"
        return as_markdown(conversation.history.messages, system=conversation.system, model=one_line(model))

    def _stats(self) -> str:
        summary = self.live.snapshot().summary
        energy = summary.energy
        if energy is not None and energy.j_per_token is not None:
            spent = f"{format_significant(energy.j_per_token.value)} J/token gross, grade {energy.grade}"
        else:
            spent = f"n/a ({summary.energy_missing or 'no figure yet'})"
        return (
            f"{plural(summary.turns, 'turn')}, {summary.generated_tokens} tokens at "
            f"{format_rate(summary.decode_tokens_per_s)}; prefill {format_rate(summary.prefill_tokens_per_s)}, "
            f"first token {format_seconds(summary.first_token_s)}.\n"
            f"Most memory {format_bytes(summary.memory.rss_peak_bytes)}. Energy {spent}.\n"
            f"Sampling: {settings_words(self.live.conversation.sampling)}."
        )


def _is_binary(data: bytes) -> bool:
    if b"\0" in data:
        return True
    text = data.decode("utf-8", "replace")
    strange = sum(1 for each in text if each == "\ufffd" or (each < " " and each not in "\t\n\r\f"))
    return strange > _BINARY_SHARE * len(text)

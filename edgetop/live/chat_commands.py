"""Slash commands, for screen and lines.

The commands know nothing of how a chat is shown: a `ChatPlace` shows it, on the live screen or line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from edgetop.core.energy.scopes import CHOOSE, SCOPE_LABELS
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.errors import EdgetopError
from edgetop.core.format import format_bytes, format_rate, format_seconds, format_significant
from edgetop.core.sources import Unavailable
from edgetop.core.text import one_line
from edgetop.live.chat_session import LiveSession
from edgetop.live.history import as_markdown, code_blocks, estimated_tokens, harmless
from edgetop.session.meters import choices_of, headline_of, meters_of
from edgetop.session.turn import Turn
from edgetop.settings.option import integer, real
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

_UNSET = {"seed": "random", "max_tokens": "none"}


def settings_words(sampling: SamplingSettings) -> str:
    """The present settings, in the words that `with_setting` reads."""
    values = {name: getattr(sampling, name) for name in sampling.__struct_fields__ if name in PARSERS}
    return ", ".join(f"{name} {_UNSET[name] if value is None else value}" for name, value in values.items())


def with_setting(sampling: SamplingSettings, argument: str) -> SamplingSettings:
    """`sampling` with one setting changed, as in `temperature 0.2`. Raises SettingError."""
    name, _, text = argument.partition(" ")
    name, text = {"temp": "temperature"}.get(name, name), text.strip()
    if name not in PARSERS:
        raise SettingError(f"There is no setting {name!r}. There are: {', '.join(PARSERS)}.")
    try:
        value = None if text == _UNSET.get(name) else PARSERS[name](text)
    except ValueError as error:
        raise SettingError(f"{name}: {text!r} is not valid; expected {error}.") from None
    return replace(sampling, **{name: value})


LOAD_FILE_BYTES = 2**18
"""More text than this fits into no context that such a device holds."""

BUSY = "The model is still answering; Ctrl+C stops it."
_BINARY_SHARE = 0.1
"""A file in which more than this of the characters are controls or no text at all is not text."""


class ChatView(Protocol):
    """Where a chat is shown and typed."""

    def say(self, text: str) -> None:
        """Tell the person something, in one line or a few."""

    def put(self, text: str) -> None:
        """Give the person a text to change and to send."""

    def edit(self, text: str) -> None:
        """The same; what is sent then takes the place of the last prompt (`Conversation.replace_prompt`)."""

    def clear_chat(self) -> None:
        """Forget what was shown."""

    def remove_last_turn(self) -> None:
        """Forget the last prompt and what followed it."""

    def go_on_with_answer(self) -> None:
        """What comes next belongs to the last answer."""

    def show_turns(self, turns: Sequence[Turn]) -> None:
        """Show turns of an earlier session in place of what is shown."""

    def copy(self, text: str, what: str) -> None:
        """Put a harmless text where it can be pasted from, and say what it was."""

    def growing_answer(self) -> str:
        """What has come of the answer that is being given; empty while none is."""


class ChatCommands:
    """Carries out commands; what is to be told goes to the place."""

    def __init__(self, live: LiveSession, place: ChatView) -> None:
        self._live = live
        self._place = place

    def run_slash_command(self, name: str, argument: str) -> bool:
        """Carry out a command that needs nothing of a screen. False if there is no such command."""
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
            case "stats":
                self._place.say(self._stats())
            case _:
                return False
        return True

    def load(self, path: Path, settings: EngineSettings) -> None:
        """Load a model, in place of the one there is."""
        self._live.conversation.load(path, settings)
        if self._live.tuned is not None:
            self._place.say(f"{self._live.tuned.label}: {self._live.tuned.words}.")

    def resume(self, path: Path) -> None:
        """Go on with the conversation in a session file."""
        from edgetop.live.history import (  # noqa: PLC0415 - only when asked for
            NAME_LENGTH,
            find_in,
            recorded_conversation,
        )
        from edgetop.session.file_io import load  # noqa: PLC0415 - the same

        live = self._live
        try:
            found = recorded_conversation(load(path), find_in(live.store))
        except EdgetopError as error:
            self._place.say(f"{error.what}\n{error.hint}".rstrip())
            return
        messages = found.messages
        if not live.conversation.resume(messages, system=found.system, session_id=found.session_id):
            self._place.say(BUSY)
            return
        self._place.show_turns([turn for exchange in found.exchanges for turn in exchange.turns])
        count = len(found.exchanges)
        told = f"This goes on with session {found.name}: {count} turn{'' if count == 1 else 's'}"
        tokens = found.context_used or estimated_tokens("".join(each.content for each in messages), live.session)
        n_ctx = live.snapshot().n_ctx
        about = "" if found.context_used else "about "
        if n_ctx and tokens >= n_ctx:
            told += f", {about}{tokens} tokens, {tokens - n_ctx} more than the context of {n_ctx} holds: /undo drops"
            told += " turns from its end, --ctx makes it longer"
        else:
            told += f", {about}{tokens} tokens, which the model reads with the next prompt"
        lacking = (
            f"\nIts beginning was in session {found.lacking[:NAME_LENGTH]}, which is not here." if found.lacking else ""
        )
        self._place.say(f"{told}.{lacking}")

    # The conversation

    def _change_conversation(self, name: str) -> None:
        conversation, place = self._live.conversation, self._place
        if conversation.phase in {"answering", "stopping"}:
            place.say(BUSY)
            return
        match name:
            case "clear":
                conversation.clear()
                place.clear_chat()
            case "reload":
                conversation.reload()
                if conversation.phase != "loading":
                    place.say("No model has been loaded yet; F4 or /model chooses one.")
            case "retry":
                place.say("Once more:" if conversation.retry() else "There is no prompt to answer once more.")
            case "undo" if conversation.undo():
                place.remove_last_turn()
            case "undo":
                place.say("There is no turn to take back.")
            case "edit" if conversation.history.last_prompt is not None:
                place.edit(conversation.history.last_prompt)
            case "edit":
                place.say("There is no prompt to change.")
            case "continue" if conversation.continue_answer():
                place.go_on_with_answer()
            case _:
                place.say("There is no answer to go on with.")

    def _set_system(self, text: str) -> None:
        conversation = self._live.conversation
        if text:
            conversation.system = None if text == "-" else text
        told = f"System prompt: {conversation.system}" if conversation.system else "There is no system prompt."
        self._place.say(told)

    def _set_sampling(self, argument: str) -> None:
        conversation = self._live.conversation
        if not argument:
            self._place.say(f"Sampling: {settings_words(conversation.sampling)}.")
            return
        try:
            conversation.sampling = with_setting(conversation.sampling, argument)
        except SettingError as error:
            self._place.say(str(error))
        else:
            self._place.say(f"From the next prompt on: {argument}.")

    def offer_power(self) -> None:
        """Where only the person knows which meter measures the device, say so, and how it is chosen."""
        missing = headline_of(self._live.session, meters_of(self._live.session))
        if isinstance(missing, Unavailable) and missing.hint.startswith(CHOOSE):
            self._place.say(f"No energy yet: {missing.reason}.\n/power NAME chooses it.")

    def _choose_power(self, name: str) -> None:
        if name:
            found = self._live.recorder.choose_power(None if name == AUTO else name)
        else:
            found = headline_of(self._live.session, meters_of(self._live.session))
        if isinstance(found, Unavailable):
            told = f"There is no power: {found}."
        else:
            told = f"Power comes from {' + '.join(meter.name for meter in found.meters)}, {SCOPE_LABELS[found.scope]}."
        read = ", ".join(
            each if power_w is None else f"{each} {format_significant(power_w)} W"
            for each, power_w in choices_of(self._live.session).items()
        )
        if read and not name:
            told += f"\nMeters: {read}.\n/power NAME chooses one, /power {AUTO} none."
        self._place.say(told)

    def _load_named(self, name: str) -> None:
        from edgetop.inference.catalog import resolve  # noqa: PLC0415 - only when asked for

        try:
            path = resolve(name, folders=self._live.options.model_folders)
        except EdgetopError as error:
            self._place.say(f"{error.what}\n{error.hint}".rstrip())
        else:
            self.load(path, self._live.settings_for(path))

    def _open(self, text: str) -> None:
        try:
            path = self._live.store.find(text)
        except EdgetopError as error:
            self._place.say(f"{error.what}\n{error.hint}".rstrip())
        else:
            self.resume(path)

    # Files and the clipboard

    def _load_text(self, name: str) -> None:
        try:
            path = Path(name).expanduser()
            if not path.is_file():
                self._place.say(f"{name or 'Nothing'} is no file; /load FILE puts a file's text into the prompt.")
                return
            with path.open("rb") as file:
                data = file.read(LOAD_FILE_BYTES + 1)
        except (OSError, RuntimeError, ValueError) as error:
            self._place.say(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.")
            return
        if len(data) > LOAD_FILE_BYTES:
            self._place.say(f"{name} is longer than {format_bytes(LOAD_FILE_BYTES)}, more than a context holds.")
        elif _is_binary(data):
            self._place.say(f"{name} is not a text file; only text can be put into the prompt.")
        else:
            text = data.decode("utf-8", "replace")
            self._place.put(text)
            tokens, n_ctx = estimated_tokens(text, self._live.session), self._live.snapshot().n_ctx
            of = f" of the {n_ctx} that the context holds" if n_ctx else ""
            self._place.say(f"{name}: {format_bytes(len(data))}, about {tokens} tokens{of}.")

    def _save(self, name: str, *, over: bool) -> None:
        conversation = self._live.conversation
        if not name or not conversation.history.messages:
            self._place.say(
                "There is nothing to save yet." if name else "/save FILE writes the conversation to a file."
            )
            return
        try:
            path = Path(name).expanduser()
            with path.open("w" if over else "x", encoding="utf-8", newline="\n") as file:
                written = file.write(self._conversation_text())
        except FileExistsError:
            self._place.say(f"{name} is there already; /save! {name} writes over it.")
        except (OSError, RuntimeError, ValueError) as error:
            self._place.say(f"{name} cannot be written: {getattr(error, 'strerror', None) or error}.")
        else:
            self._place.say(f"The conversation is saved as {path} ({written} characters).")

    def _copy(self, argument: str) -> None:
        messages = self._live.conversation.history.messages
        answers = [message.content for message in messages if message.role == "assistant"]
        growing = self._place.growing_answer()
        if growing:
            answers.append(growing)
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
                self._place.say("/copy takes the number of an answer from the last one back, `code` or `all`.")

    def _copy_text(self, text: str, what: str) -> None:
        text = harmless(text)
        if text:
            self._place.copy(text, what)
        else:
            self._place.say("There is nothing to copy.")

    def _conversation_text(self) -> str:
        conversation = self._live.conversation
        loaded = conversation.model
        model = "" if loaded is None else f"{loaded.model.name} {loaded.model.quantization}"
        return as_markdown(conversation.history.messages, system=conversation.system, model=one_line(model))

    def _stats(self) -> str:
        summary = self._live.snapshot().summary
        energy = summary.energy
        if energy is not None and energy.j_per_token is not None:
            spent = f"{format_significant(energy.j_per_token.value)} J/token gross, grade {energy.grade}"
        else:
            spent = f"n/a ({summary.energy_missing or 'no figure yet'})"
        return (
            f"{summary.turns} turn{'' if summary.turns == 1 else 's'}, {summary.generated_tokens} tokens at "
            f"{format_rate(summary.decode_tokens_per_s)}; prefill {format_rate(summary.prefill_tokens_per_s)}, "
            f"first token {format_seconds(summary.first_token_s)}.\n"
            f"Most memory {format_bytes(summary.memory.rss_peak_bytes)}. Energy {spent}.\n"
            f"Sampling: {settings_words(self._live.conversation.sampling)}."
        )


def _is_binary(data: bytes) -> bool:
    if b"\0" in data:
        return True
    text = data.decode("utf-8", "replace")
    strange = sum(1 for each in text if each == "\ufffd" or (each < " " and each not in "\t\n\r\f"))
    return strange > _BINARY_SHARE * len(text)

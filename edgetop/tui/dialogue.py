"""What the person and the engine say to each other, on its way into the chat.

The live screen has the widgets, the keys and the time; here are prompts, commands behind a slash, and answers.
"""

from __future__ import annotations

from pathlib import Path

from edgetop.core.engine import EngineSettings
from edgetop.core.errors import EdgetopError
from edgetop.core.format import format_bytes, format_rate, format_seconds, format_significant
from edgetop.core.records import ModelLoaded, Part, Tokens, TurnFinished
from edgetop.inference.protocol import LoadFailed, Report
from edgetop.live.conversation import Notice
from edgetop.live.live_session import LiveSession
from edgetop.session.snapshot import Snapshot
from edgetop.tui import slash
from edgetop.tui.chat_lines import figures_line, loaded_line
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.widgets.chat_view import ChatView
from edgetop.tui.widgets.prompt import Prompt

LOAD_FILE_BYTES = 2**18
"""More text than this fits into no context that such a device holds."""
CONTEXT_WARNING_SHARE = 0.8
"""An answer of some length would not fit into what is left."""
BUSY = "The model is still answering; Ctrl+C stops it."


class Dialogue:
    """Prompts and commands into a conversation, its answers into a chat view."""

    def __init__(self, live: LiveSession, chat: ChatView, prompt: Prompt, level: GlyphLevel) -> None:
        self.level: GlyphLevel = level
        self._live = live
        self._chat = chat
        self._prompt = prompt
        self._text: list[tuple[Part, str]] = []
        self._waiting_prompt: str | None = None
        self._warned_of_context = False

    # What the engine says

    def hear(self, said: Report | Notice) -> None:
        """Show what the conversation has to tell; text is gathered until `flush`."""
        match said:
            case Tokens():
                self._text.append((said.part, "".join(said.pieces)))
            case TurnFinished():
                self.flush()
                now = self._live.snapshot()
                self._chat.finish("" if now.turn is None else figures_line(now.turn.figures, said, self.level))
                self._warn_of_context(now)
            case ModelLoaded():
                self._loaded(said)
            case LoadFailed():
                self._load_failed(said)
            case Notice():
                self.flush()
                self._tell(said.text, said.mend)
            case _:
                pass

    def flush(self) -> None:
        """Append the text that has come since the last time."""
        run, self._text = self._text, []
        while run:
            part = run[0][0]
            count = next((index for index, (other, _) in enumerate(run) if other != part), len(run))
            text = "".join(text for _, text in run[:count])
            if text:
                self._chat.append_text(text, part)
            run = run[count:]

    def _loaded(self, loaded: ModelLoaded) -> None:
        self.say(loaded_line(loaded))
        if loaded.model.template_note:
            self.say(loaded.model.template_note)
        self._warned_of_context = False
        prompt, self._waiting_prompt = self._waiting_prompt, None
        if prompt is not None:
            self._submit(prompt)

    def _load_failed(self, failed: LoadFailed) -> None:
        if failed.reason == "cancelled":
            self.say("Loading was stopped; F4 or /model chooses a model.")
        else:
            self._tell(failed.message, failed.mend)
        prompt, self._waiting_prompt = self._waiting_prompt, None
        if prompt is not None and not self._prompt.text:
            self._prompt.put(prompt)

    def _warn_of_context(self, now: Snapshot) -> None:
        """Say once that the context is nearly full, before an answer is cut short by it."""
        used, n_ctx = now.context_used, now.n_ctx
        if used is None or not n_ctx or used < CONTEXT_WARNING_SHARE * n_ctx:
            self._warned_of_context = False
        elif not self._warned_of_context and now.load is not None:
            self._warned_of_context = True
            shifts = now.load.settings.full_context == "shift"
            then = (
                "its oldest half is dropped when it is" if shifts else "an answer ends where it is; /clear begins anew"
            )
            self.say(f"The context is nearly full ({used} of {n_ctx} tokens): {then}.")

    # What the person says

    def ask(self, prompt: str) -> None:
        """Send a prompt, now or when the model is there; where it cannot be sent, give it back and say why."""
        refusal = ""
        match self._live.conversation.phase:
            case "ready":
                self._submit(prompt)
            case "starting" | "loading" if self._waiting_prompt is None:
                self._waiting_prompt = prompt
                self.say("The model is still being loaded; your prompt is sent when it is there.")
            case "starting" | "loading":
                refusal = "One prompt is waiting for the model already."
            case "answering" | "stopping":
                refusal = BUSY
            case "dead":
                refusal = "The engine is gone; /reload starts it again."
            case _:
                refusal = "No model is loaded; F4 or /model chooses one."
        if refusal:
            self.say(refusal)
            self._prompt.put(prompt)

    def carry_out(self, name: str, argument: str) -> None:
        """Carry out a command that needs nothing of the screen."""
        match name:
            case "model":
                self._load_named(argument)
            case "system":
                self._set_system(argument)
            case "set":
                self._set_sampling(argument)
            case "clear" | "retry" | "continue" | "reload":
                self._change_conversation(name)
            case "load":
                self._load_text(argument)
            case "stats":
                self.say(self._stats())
            case _:
                self.say(f"There is no command /{name}; /help lists them. Two slashes begin a prompt with one.")
                self._prompt.put(f"/{name} {argument}".rstrip())

    def load(self, path: Path, settings: EngineSettings) -> None:
        """Load a model, in place of the one there is."""
        self._live.conversation.load(path, settings)
        if self._live.tuned is not None:
            self.say(f"{self._live.tuned.label}: {self._live.tuned.words}.")

    def say(self, text: str) -> None:
        """A note in the chat."""
        self._chat.add_message("note", text)

    def _tell(self, what: str, mend: str) -> None:
        """What happened in one line, and what to do in another."""
        again = "/reload starts the engine again." if self._live.conversation.phase == "dead" else ""
        self.say("\n".join(line for line in (what, f"{mend} {again}".strip()) if line))

    def _submit(self, prompt: str) -> None:
        self._chat.add_message("user", prompt)
        self._live.conversation.submit(prompt)

    def _change_conversation(self, name: str) -> None:
        conversation = self._live.conversation
        if conversation.phase in {"answering", "stopping"}:
            self.say(BUSY)
        elif name == "clear":
            conversation.clear()
            self._chat.clear()
            self._warned_of_context = False
        elif name == "reload":
            conversation.reload()
            if conversation.phase != "loading":
                self.say("No model has been loaded yet; F4 or /model chooses one.")
        elif name == "retry":
            if conversation.retry():
                self.say("Once more:")
            else:
                self.say("There is no prompt to answer once more.")
        elif not conversation.go_on():
            self.say("There is no answer to go on with.")

    def _set_system(self, text: str) -> None:
        conversation = self._live.conversation
        if text:
            conversation.system = None if text == "-" else text
        self.say(f"System prompt: {conversation.system}" if conversation.system else "There is no system prompt.")

    def _set_sampling(self, argument: str) -> None:
        conversation = self._live.conversation
        if not argument:
            self.say(f"Sampling: {slash.settings_words(conversation.sampling)}.")
            return
        try:
            conversation.sampling = slash.with_setting(conversation.sampling, argument)
        except slash.SettingError as error:
            self.say(str(error))
        else:
            self.say(f"From the next prompt on: {argument}.")

    def _load_text(self, name: str) -> None:
        try:
            path = Path(name).expanduser()
            if not path.is_file():
                self.say(f"{name or 'Nothing'} is no file; /load FILE puts a file's text into the prompt.")
                return
            with path.open("rb") as file:
                data = file.read(LOAD_FILE_BYTES + 1)
        except (OSError, RuntimeError) as error:
            self.say(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.")
            return
        if len(data) > LOAD_FILE_BYTES:
            self.say(f"{name} is longer than {format_bytes(LOAD_FILE_BYTES)}, more than a context holds.")
            return
        self._prompt.put(data.decode("utf-8", "replace"))

    def _load_named(self, name: str) -> None:
        from edgetop.inference.catalog import resolve  # noqa: PLC0415 - only when asked for

        try:
            path = resolve(name, folders=self._live.options.model_folders)
        except EdgetopError as error:
            self.say(f"{error.what}\n{error.mend}".rstrip())
        else:
            self.load(path, self._live.settings_for(path))

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
            f"Most memory {format_bytes(summary.memory.rss_peak_bytes)}. Energy {spent}."
        )

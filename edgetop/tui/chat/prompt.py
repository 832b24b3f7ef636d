"""The prompt with history, completion and editing the last prompt, and the panel of chat, search line and prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.markup import escape
from textual.message import Message
from textual.widgets import TextArea

from edgetop.core.text import literal
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.themes import LEVELS, GlyphLevel
from edgetop.tui.widgets import InputLine, is_text

HISTORY_MAX = 200

LINE_MAX = 20_000
"""Characters of a line that is shown whole."""

_LONG_LINE = re.compile(f"[^\n]{{{LINE_MAX},}}")

_LEFT_TO_THE_SCREEN = {"f6", "f7", "ctrl+c,super+c", "ctrl+z,super+z", "pageup", "pagedown"}
"""Keys of TextArea that mean something else on the screens of edgetop."""

_ONLY_INSIDE = {"ctrl+v"}
"""Pastes what this process has copied, past `literal`; the terminal's own paste arrives as an event."""


class Prompt(TextArea, inherit_bindings=False):
    """Enter sends; Alt+Enter and Ctrl+J begin a new line. Whatever comes in is shown and sent as `literal` gives it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            binding
            for binding in TextArea.BINDINGS
            if isinstance(binding, Binding) and binding.key not in _LEFT_TO_THE_SCREEN | _ONLY_INSIDE
        ),
        Binding("ctrl+underscore", "undo", show=False),
    ]
    DEFAULT_CSS = """
    Prompt {
        height: auto;
        max-height: 6;
        padding: 0;
        border: none;
        border-top: solid $edge;
        background: transparent;
        scrollbar-size: 0 0;
        &:focus { border: none; border-top: solid $accent; }
        &.ascii { border-top: ascii $edge; }
        &.ascii:focus { border-top: ascii $accent; }
    }
    """

    class Submitted(Message):
        """A prompt was sent."""

        def __init__(self, text: str, *, instead: bool = False) -> None:
            """`instead`: it replaces the last prompt."""
            super().__init__()
            self.text = text
            self.instead = instead

    def __init__(
        self,
        level: GlyphLevel = "braille",
        *,
        completions: Callable[[str], Sequence[str]] | None = None,
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        """`completions` gives the completions of a text."""
        super().__init__(id=id, highlight_cursor_line=False, placeholder="Ask the model, or type /help")
        self.cursor_blink = False
        self._completions = completions
        self._offered: list[str] = []
        self._history: list[str] = []
        self._folded: dict[str, str] = {}
        """What stands in the prompt for a long line, and that line."""
        self._recalled = 0
        self._draft = ""
        self._editing_last = False
        self._progress = ""
        self._title: str | None = None
        self._draft_before = ""
        self.set_level(level)

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        self._ascii = level == "ascii"
        self.set_class(self._ascii, "ascii")

    def edit_last(self, text: str) -> None:
        """Put the last prompt back, to edit it; what was typed comes back when the edit is cancelled."""
        if not self._editing_last:
            self._draft_before = self.text
        self._set_editing_last(on=True)
        self.put(text)

    def cancel_edit(self) -> bool:
        """Leave the last prompt as it was; False if it is not being edited."""
        if not self._editing_last:
            return False
        self._set_editing_last(on=False)
        self.put(self._draft_before)
        return True

    def _on_text_area_changed(self) -> None:
        """When all of the last prompt is deleted, the next one is a new one; a line that has become long is folded."""
        if self._editing_last and not self.text:
            self._set_editing_last(on=False)
        row = self.cursor_location[0]
        line = self.document.get_line(row)
        if len(line) >= LINE_MAX:
            shown = self._folded_as(self._whole(line))
            self.replace(shown, (row, 0), (row, len(line)), maintain_selection_offset=False)

    def show_progress(self, text: str) -> None:
        """Say above the prompt what is waited for; nothing for an empty text."""
        self._progress = text
        self._show_title()

    def _set_editing_last(self, *, on: bool) -> None:
        self._editing_last = on
        self._show_title()

    def _show_title(self) -> None:
        title = "edit the last prompt; Esc cancels" if self._editing_last else escape(self._progress)
        if (shown := f" {title} " if title else None) != self._title:
            self.border_title = self._title = shown

    def put(self, text: str) -> None:
        """Replace what is typed, with the cursor at the end."""
        self.load_text(self._harmless(text))
        self.move_cursor(self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        handled = True
        match event.key:
            case "enter":
                self._submit()
            case "alt+enter" | "ctrl+j":
                self.insert("\n")
            case "tab":
                handled = self._complete()
            case "up" if self.navigator.is_first_wrapped_line(self.cursor_location):
                self._recall(-1)
            case "down" if self.navigator.is_last_wrapped_line(self.cursor_location):
                self._recall(1)
            case _ if event.character is not None and not event.is_printable and is_text(event.character):
                self.insert(self._harmless(event.character))
            case _:
                handled = False
        if event.key != "tab":
            self._offered = []
        if handled:
            event.stop()
            event.prevent_default()

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self.insert(self._harmless(event.text))

    def _harmless(self, text: str) -> str:
        """Every kind of line break becomes a newline, every other control character its symbol; long lines are folded.

        TextArea wraps and draws a line anew for every key, which for a megabyte takes seconds.
        """
        text = literal(text.replace("\r\n", "\n").replace("\r", "\n"), ascii=self._ascii)
        return _LONG_LINE.sub(lambda line: self._folded_as(line[0]), text) if len(text) > LINE_MAX else text

    def _folded_as(self, line: str) -> str:
        shown = next((shown for shown, folded in self._folded.items() if folded == line), None)
        if shown is None:
            shown = f"[a line of {len(line)} characters, {len(self._folded) + 1}]"
            self._folded[shown] = line
        return shown

    def _whole(self, text: str) -> str:
        """A text with the long lines."""
        for shown, line in self._folded.items():
            text = text.replace(shown, line)
        return text

    def _submit(self) -> None:
        text = self._whole(self.text)
        if not text.strip():
            return
        if not self._history or self._history[-1] != text:
            self._history = [*self._history, text][-HISTORY_MAX:]
        self._recalled = len(self._history)
        self.load_text("")
        instead, self._draft_before = self._editing_last, ""
        self._set_editing_last(on=False)
        self.post_message(self.Submitted(text, instead=instead))

    def _recall(self, step: int) -> None:
        """Go through earlier prompts; the draft comes after the newest of them."""
        wanted = self._recalled + step
        if not 0 <= wanted <= len(self._history):
            return
        if self._recalled == len(self._history):
            self._draft = self.text
        self._recalled = wanted
        self.put(self._draft if wanted == len(self._history) else self._history[wanted])

    def _complete(self) -> bool:
        """Take the first completion, and with every further Tab the next one. False where Tab may leave the prompt."""
        if self._completions is None or not self.text:
            return False
        if self.text not in self._offered:
            self._offered = [self.text, *self._completions(self.text)]
        self.put(self._offered[(self._offered.index(self.text) + 1) % len(self._offered)])
        return True


class ChatPanel(Vertical):
    """Chat, prompt and search."""

    DEFAULT_CSS = """
    ChatPanel > InputLine { display: none; padding: 0; }
    ChatPanel.searching > InputLine { display: block; }
    ChatPanel.searching > Prompt { display: none; }
    """

    def __init__(
        self,
        level: GlyphLevel,
        *,
        completions: Callable[[str], Sequence[str]],
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(id=id)
        self.chat = ChatView(level, id="chat")
        self.prompt = Prompt(level, completions=completions, id="prompt")
        self._words = InputLine(level, id="search")

    def compose(self) -> ComposeResult:
        """One over the other."""
        yield self.chat
        yield self._words
        yield self.prompt

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        self.remove_class(*LEVELS).add_class(level)
        self.chat.set_level(level)
        self.prompt.set_level(level)
        self._words.set_level(level)

    def begin_search(self) -> None:
        """Ask for words to search for."""
        self.add_class("searching")
        self._words.set_note("")
        self._words.ask("/")

    def search_on(self, step: int) -> None:
        """Go to the next match, or back to the previous one."""
        if self.has_class("searching"):
            self._words.set_note(self.chat.search_on(step))

    def end_search(self) -> bool:
        """Show the prompt again; False if there was no search."""
        if not self.has_class("searching"):
            return False
        self.remove_class("searching")
        self.chat.end_search()
        if self._words.has_focus:
            self.chat.focus()
        return True

    @on(InputLine.Changed)
    def _on_changed(self, message: InputLine.Changed) -> None:
        message.stop()
        self._words.set_note(self.chat.search(message.text))

    @on(InputLine.Submitted)
    def _on_submitted(self, message: InputLine.Submitted) -> None:
        message.stop()
        if message.text.strip():
            self.chat.focus()
        else:
            self.end_search()

    @on(InputLine.Cancelled)
    def _on_cancelled(self, message: InputLine.Cancelled) -> None:
        message.stop()
        self.end_search()

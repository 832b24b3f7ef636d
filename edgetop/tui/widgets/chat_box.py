"""The chat with the line it is typed into; while the chat is searched, the words are typed there instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.widgets.input_line import InputLine
from edgetop.tui.widgets.prompt import Prompt
from edgetop.tui.widgets.searched_chat import SearchedChat


class ChatBox(Vertical):
    """Chat, prompt and search."""

    DEFAULT_CSS = """
    ChatBox > InputLine { display: none; padding: 0; }
    ChatBox.searching > InputLine { display: block; }
    ChatBox.searching > Prompt { display: none; }
    """

    def __init__(
        self,
        level: GlyphLevel,
        *,
        completions: Callable[[str], Sequence[str]],
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(id=id)
        self.chat = SearchedChat(level, id="chat")
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
        self._words.tell("")
        self._words.ask("/")

    def search_on(self, step: int) -> None:
        """Go on to the next match, or back to the one before."""
        if self.has_class("searching"):
            self._words.tell(self.chat.search_on(step))

    def end_search(self) -> bool:
        """Give the prompt its place back; False if nothing was searched for."""
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
        self._words.tell(self.chat.search(message.text))

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

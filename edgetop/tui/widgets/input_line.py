"""One line to type a few words into, below a table: a filter, tags, or the answer to a question."""

from __future__ import annotations

from textual import events
from textual.message import Message

from edgetop.core.text import one_line
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.widgets.lines import LinesWidget, Span, fit, for_level, line_of, spread, width_of

LONGEST = 400


class InputLine(LinesWidget, can_focus=True):
    """Takes all keys while it has the keyboard: Enter sends, Esc gives up. What is pasted is made harmless."""

    DEFAULT_CSS = """
    InputLine { height: 1; width: 100%; padding: 0 1; }
    """

    class Changed(Message):
        """The text is another one."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Submitted(Changed):
        """The person is done."""

    class Cancelled(Message):
        """The person gave up."""

    def __init__(self, level: GlyphLevel, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._level: GlyphLevel = level
        self._label = ""
        self._told = ""
        self.text = ""

    def ask(self, label: str, text: str = "") -> None:
        """Begin, with a label before the text and the text that is to be changed."""
        self._label, self.text = label, text
        self.focus()
        self._write()

    def tell(self, words: str) -> None:
        """Say something about the text, at the end of the line."""
        self._told = words
        self._write()

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        self._level = level
        self._write()

    def on_resize(self, _event: events.Resize) -> None:
        """Write the line for the width there is."""
        self._write()

    def on_key(self, event: events.Key) -> None:
        """Type, delete, send or give up; no key reaches the screen below."""
        if event.key in {"ctrl+c", "f10", "ctrl+q"}:
            return
        event.stop()
        event.prevent_default()
        match event.key:
            case "enter":
                self.post_message(self.Submitted(self.text))
            case "escape":
                self.post_message(self.Cancelled())
            case "backspace" | "ctrl+h":
                self._change(self.text[:-1])
            case "ctrl+u":
                self._change("")
            case "ctrl+w":
                self._change(self.text.rstrip()[: self.text.rstrip().rfind(" ") + 1])
            case _ if event.character is not None and event.is_printable:
                self._change(self.text + event.character)

    def on_paste(self, event: events.Paste) -> None:
        """Add what was pasted, in one line."""
        event.stop()
        self._change(self.text + one_line(event.text))

    def _change(self, text: str) -> None:
        self.text = text[:LONGEST]
        self._write()
        self.post_message(self.Changed(self.text))

    def _write(self) -> None:
        width = self.content_size.width
        if not width:
            return
        label = line_of(Span(f"{self._label} ", "title"))
        told = line_of(Span(f" {self._told}", "dim")) if self._told else ()
        room = max(1, width - width_of(label) - width_of(told) - 1)
        shown = line_of(self.text)
        # The end is what is being typed, so that is what must be seen.
        text = self.text
        while width_of(shown) > room:
            text = text[1:]
            shown = line_of(text)
        typed = (*label, *shown, Span("_", "accent"))
        self.show_lines([for_level(fit(spread(typed, [told], width), width), self._level)])

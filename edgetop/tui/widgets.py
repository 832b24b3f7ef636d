"""The three widgets everything else is made of: styled lines, key bar, one-line input.

Everything that moves on the live screen besides the chat is one of these: a repaint of a whole widget, or a layout for
each new figure, would be paid for by the model that decodes on the same cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from edgetop.core.text import one_line
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keys import KeySlot
from edgetop.tui.styled_text import Line, Role, Span, changed_runs, fit, for_level, line_of, spread, width_of
from edgetop.tui.terminal_output import paint


class LinesWidget(Widget):
    """Shows the lines it was given last; `COMPONENT_CLASSES` give each role its style."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "lines--text", "lines--dim", "lines--title", "lines--headline", "lines--good", "lines--warning", "lines--bad",
        "lines--graph", "lines--prefill", "lines--accent", "lines--border", "lines--key",
    }  # fmt: skip
    DEFAULT_CSS = """
    LinesWidget .lines--dim { color: $quiet; }
    LinesWidget .lines--title { color: $foreground; text-style: bold; }
    LinesWidget .lines--headline { color: $accent; text-style: bold; }
    LinesWidget .lines--good { color: $success; }
    LinesWidget .lines--warning { color: $warning; text-style: bold; }
    LinesWidget .lines--bad { color: $error; text-style: bold; }
    LinesWidget .lines--graph { color: $primary; }
    LinesWidget .lines--prefill { color: $secondary; }
    LinesWidget .lines--accent { color: $accent; }
    LinesWidget .lines--border { color: $edge; }
    LinesWidget .lines--key { color: $background; background: $primary; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._lines: tuple[Line, ...] = ()
        self._fitted: tuple[int, Sequence[Line]] | None = None
        """The lines cut and padded to so many cells."""
        self._role_styles: dict[Role, Style] = {}

    @property
    def plain(self) -> list[str]:
        """What the lines say, without styles."""
        return ["".join(span.text for span in line) for line in self._lines]

    def show_lines(self, lines: Sequence[Line], fitted_to: int | None = None) -> None:
        """Show `lines` from the top; only those that differ from before are painted.

        `fitted_to` is their width where that is known to be the widget's, and each of them has exactly so many cells.
        """
        new = tuple(lines)
        if new == self._lines:
            return
        width = self.size.width if fitted_to is None else fitted_to
        old = self._fitted_to(width)
        self._lines, self._fitted = new, None if fitted_to is None else (width, new)
        blank = (Span(" " * width),)
        changed = []
        for y, (before, after) in enumerate(zip_longest(old, self._fitted_to(width), fillvalue=blank)):
            if before != after:
                changed += [Region(begin, y, end - begin, 1) for begin, end in changed_runs(before, after, width)]
        paint(self, changed, lambda y: self._strip(y, width))

    def _fitted_to(self, width: int) -> Sequence[Line]:
        """The lines in `width` cells each."""
        if self._fitted is None or self._fitted[0] != width:
            self._fitted = (width, [fit(line, width) for line in self._lines])
        return self._fitted[1]

    def notify_style_update(self) -> None:
        """Styles are looked up again, since the theme may be another one."""
        super().notify_style_update()
        self._role_styles.clear()

    def render_line(self, y: int) -> Strip:
        """One line, as wide as the widget."""
        return self._strip(y, self.size.width)

    def _strip(self, y: int, width: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        return Strip([Segment(span.text, self._style(span.role)) for span in self._fitted_to(width)[y]], width)

    def _style(self, role: Role) -> Style:
        style = self._role_styles.get(role)
        if style is None:
            base = self.rich_style
            style = base if role == "text" else base + self.get_component_rich_style(f"lines--{role}", partial=True)
            self._role_styles[role] = style
        return style


ESSENTIAL = frozenset({"help", "quit", "close", "leave_prompt", "enter_prompt"})
"""Actions that get room before the others."""

GAP = 2


class KeysInLine(NamedTuple):
    """What has room in a line, and where: for each cell that does something, the action."""

    line: Line
    actions: dict[int, str]


def keys_in_line(places: Sequence[KeySlot], width: int, before: Line = ()) -> KeysInLine:
    """Those of `places` that have room in `width` cells behind `before`: first the essential ones, drawn in order."""
    left = width - width_of(before)
    wanted = sorted(range(len(places)), key=lambda index: places[index].actions[0].name not in ESSENTIAL)
    chosen = []
    gap = GAP if before else 0
    for index in wanted:
        needed = gap + width_of(_drawn(places[index]))
        if needed <= left:
            chosen.append(index)
            left -= needed
            gap = GAP
    line = before
    actions: dict[int, str] = {}
    for index in sorted(chosen):
        line = (*line, Span(" " * GAP)) if line else line
        start, drawn = width_of(line), _drawn(places[index])
        cells = width_of(drawn)
        share = places[index].actions
        # Of several keys in one place the left part does what the first one does.
        actions |= {start + cell: share[cell * len(share) // cells].action for cell in range(cells)}
        line = (*line, *drawn)
    return KeysInLine(line, actions)


def _drawn(place: KeySlot) -> Line:
    return line_of(Span(place.printed, "key"), f" {place.label}")


class KeyBar(LinesWidget):
    """One line."""

    DEFAULT_CSS = """
    KeyBar { height: 1; width: 100%; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._actions: dict[int, str] = {}
        self._write: Callable[[int], None] = lambda _width: None
        """Writes what is to be shown in so many cells: it may be asked for while the line is hidden."""
        self._chosen: tuple[object, KeysInLine] = (None, KeysInLine((), {}))
        """The last choice of keys, which is the same as long as what it was made of."""

    def show_keys(
        self,
        places: Sequence[KeySlot],
        level: GlyphLevel,
        *,
        before: Line = (),
        rights: Sequence[Line] = (),
        kept: int = 0,
    ) -> None:
        """Show keys behind `before`, and at the end the first of `rights` that has room; `kept` cells are its own."""

        def write(width: int) -> None:
            made_of = (places, width - kept, before)
            if self._chosen[0] != made_of:
                self._chosen = (made_of, keys_in_line(places, width - kept, before))
            line, self._actions = self._chosen[1]
            self.show_lines([for_level(fit(spread(line, rights, width), width), level)], width)

        self._show(write)

    def say(self, line: Line, level: GlyphLevel) -> None:
        """Show a line in the place of the keys."""

        def write(width: int) -> None:
            self._actions = {}
            self.show_lines([for_level(fit(line, width), level)], width)

        self._show(write)

    def _show(self, write: Callable[[int], None]) -> None:
        self._write = write
        if self.content_size.width > 0:
            write(self.content_size.width)

    def on_resize(self, _event: events.Resize) -> None:
        """Write the same for the width there is."""
        self._show(self._write)

    async def on_click(self, event: events.Click) -> None:
        """Do what the key under the pointer does."""
        action = self._actions.get(event.x - self.styles.padding.left)
        if action is not None:
            event.stop()
            await self.screen.run_action(action)


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

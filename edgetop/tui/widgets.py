"""What every screen is made of: styled lines, key bar, one-line input; and `BaseScreen`, with bindings from its keys.

Everything that moves on the live screen besides the chat is one of these: a repaint of a whole widget, or a layout for
each new figure, would be paid for by the model that decodes on the same cores.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region
from textual.message import Message
from textual.screen import Screen, ScreenResultType
from textual.strip import Strip
from textual.widget import Widget
from textual.worker import get_current_worker

from edgetop.core.text import literal, one_line
from edgetop.tui.keys import TABLES, KeySlot, ScreenKeys
from edgetop.tui.styled_text import Line, Role, Span, changed_runs, fit, for_level, line_of, spread, width_of
from edgetop.tui.terminal_output import paint
from edgetop.tui.themes import LEVELS, GlyphLevel, next_theme

if TYPE_CHECKING:
    from edgetop.live.chat_commands import SlashCommand


class LinesWidget(Widget):
    """Shows styled lines; `COMPONENT_CLASSES` give each role its style."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "lines--text", "lines--dim", "lines--title", "lines--headline", "lines--good", "lines--warning", "lines--bad",
        "lines--graph", "lines--prefill", "lines--accent", "lines--border", "lines--key", "lines--energy",
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
    LinesWidget .lines--energy { color: $warning; text-style: bold; }
    LinesWidget .lines--border { color: $edge; }
    LinesWidget .lines--key { color: $background; background: $primary; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._lines: tuple[Line, ...] = ()
        self._fitted: tuple[int, Sequence[Line]] | None = None
        """A width in cells, and the lines cut and padded to it."""
        self._role_styles: dict[Role, Style] = {}

    @property
    def plain(self) -> list[str]:
        """The lines as text, without styles."""
        return ["".join(span.text for span in line) for line in self._lines]

    def show_lines(self, lines: Sequence[Line], fitted_to: int | None = None) -> None:
        """Show `lines` from the top; only those that differ from before are painted.

        `fitted_to` is the widget's width, where the lines are known to have exactly that many cells.
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
        """Drop the cached styles: the theme may have changed."""
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
"""Actions that are shown first where there is little room."""

GAP = 2


class KeysInLine(NamedTuple):
    """The keys that have room in a line, and for each cell that can be clicked, the action."""

    line: Line
    actions: dict[int, str]


def keys_in_line(slots: Sequence[KeySlot], width: int, before: Line = ()) -> KeysInLine:
    """Those of `slots` that have room in `width` cells after `before`, the essential ones first, drawn in order."""
    left = width - width_of(before)
    by_importance = sorted(range(len(slots)), key=lambda index: slots[index].actions[0].name not in ESSENTIAL)
    chosen = []
    gap = GAP if before else 0
    for index in by_importance:
        needed = gap + width_of(_drawn(slots[index]))
        if needed <= left:
            chosen.append(index)
            left -= needed
            gap = GAP
    line = before
    actions: dict[int, str] = {}
    for index in sorted(chosen):
        line = (*line, Span(" " * GAP)) if line else line
        start, drawn = width_of(line), _drawn(slots[index])
        cells = width_of(drawn)
        actions_here = slots[index].actions
        # A slot with several keys is divided among them from left to right.
        actions |= {start + cell: actions_here[cell * len(actions_here) // cells].action for cell in range(cells)}
        line = (*line, *drawn)
    return KeysInLine(line, actions)


def _drawn(slot: KeySlot) -> Line:
    return line_of(Span(slot.printed, "key"), f" {slot.label}")


class KeyBar(LinesWidget):
    """One line."""

    DEFAULT_CSS = """
    KeyBar { height: 1; width: 100%; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._actions: dict[int, str] = {}
        self._write: Callable[[int], None] = lambda _width: None
        """Writes the line in a width; called again when the width changes, which may be 0 at first."""
        self._chosen: tuple[object, KeysInLine] = (None, KeysInLine((), {}))
        """Cached: what the keys were chosen from, and the result."""

    def show_keys(
        self,
        slots: Sequence[KeySlot],
        level: GlyphLevel,
        *,
        before: Line = (),
        rights: Sequence[Line] = (),
        reserved: int = 0,
    ) -> None:
        """Show keys after `before`, and at the end the first of `rights` with room; `reserved` cells are for that."""

        def write(width: int) -> None:
            key = (slots, width - reserved, before)
            if self._chosen[0] != key:
                self._chosen = (key, keys_in_line(slots, width - reserved, before))
            line, self._actions = self._chosen[1]
            self.show_lines([for_level(fit(spread(line, rights, width), width), level)], width)

        self._show(write)

    def show_text(self, line: Line, level: GlyphLevel) -> None:
        """Show a line instead of the keys."""

        def write(width: int) -> None:
            self._actions = {}
            self.show_lines([for_level(fit(line, width), level)], width)

        self._show(write)

    def _show(self, write: Callable[[int], None]) -> None:
        self._write = write
        if self.content_size.width > 0:
            write(self.content_size.width)

    def on_resize(self, _event: events.Resize) -> None:
        """Write the line in the new width."""
        self._show(self._write)

    async def on_click(self, event: events.Click) -> None:
        """Run the action of the key that was clicked."""
        action = self._actions.get(event.x - self.styles.padding.left)
        if action is not None:
            event.stop()
            await self.screen.run_action(action)


LONGEST = 400


def is_text(character: str) -> bool:
    """Whether a typed character is part of a text: also those without a picture, which join letters and emoji."""
    return character.isprintable() or unicodedata.category(character) == "Cf"


class InputLine(LinesWidget, can_focus=True):
    """Gets all keys while it has the focus: Enter submits, Esc cancels. Pasted text is made harmless."""

    DEFAULT_CSS = """
    InputLine { height: 1; width: 100%; padding: 0 1; }
    """

    class Changed(Message):
        """The text has changed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Submitted(Changed):
        """Enter was pressed."""

    class Cancelled(Message):
        """Esc was pressed."""

    def __init__(self, level: GlyphLevel, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._level: GlyphLevel = level
        self._label = ""
        self._note = ""
        self.text = ""

    def ask(self, label: str, text: str = "") -> None:
        """Start editing `text`, after a label."""
        self._label, self.text = label, text
        self.focus()
        self._write()

    def set_note(self, text: str) -> None:
        """Show a note at the end of the line."""
        self._note = text
        self._write()

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        self._level = level
        self._write()

    def on_resize(self, _event: events.Resize) -> None:
        """Write the line in the new width."""
        self._write()

    def on_key(self, event: events.Key) -> None:
        """Type, delete, submit or cancel; no key reaches the screen below."""
        if event.key in {"f10", "ctrl+q"} or (event.key == "ctrl+c" and not self.text):
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
            case "ctrl+u" | "ctrl+c":
                self._change("")
            case "ctrl+w":
                self._change(self.text.rstrip()[: self.text.rstrip().rfind(" ") + 1])
            case _ if event.character is not None and is_text(event.character):
                self._change(self.text + literal(event.character))

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
        note = line_of(Span(f" {self._note}", "dim")) if self._note else ()
        room = max(1, width - width_of(label) - width_of(note) - 1)
        shown = line_of(self.text)
        # The end is what is being typed, so it must be visible.
        text = self.text
        while width_of(shown) > room:
            text = text[1:]
            shown = line_of(text)
        typed = (*label, *shown, Span("_", "accent"))
        self.show_lines([for_level(fit(spread(typed, [note], width), width), self._level)])


class BaseScreen(Screen[ScreenResultType]):
    """A screen names its key table in `TABLE`; its bindings are made from that."""

    TABLE: ClassVar[ScreenKeys]
    KEYS_FIRST: ClassVar[bool] = False
    """The screen has its keys before the widget that has the focus, and not after it."""
    SLASH_COMMANDS: ClassVar[Sequence[SlashCommand]] = ()
    """What can be typed behind a slash here."""
    _level: GlyphLevel

    def __init_subclass__(cls, **options: bool) -> None:
        if "TABLE" in vars(cls):
            cls.BINDINGS = [*bindings(cls.TABLE, first=cls.KEYS_FIRST)]
        super().__init_subclass__(**options)

    @property
    def keys(self) -> ScreenKeys:
        """The table with the keys that the user has chosen."""
        tables = getattr(self.app, "key_tables", TABLES)
        keys: ScreenKeys = tables.get(self.TABLE.name, self.TABLE)
        return keys

    @property
    def level(self) -> GlyphLevel:
        """The glyphs that it is drawn with."""
        return self._level

    @property
    def can_draw(self) -> bool:
        """Whether every widget is there, and has a size."""
        return self._is_whole and self.size.width > 0

    @property
    def _is_whole(self) -> bool:
        """A screen that closes loses its widgets from its last line up."""
        return self.is_mounted and any(isinstance(child, KeyBar) for child in self.children)

    def call_from_worker(self, callback: Callable[..., None], *arguments: object, **options: object) -> None:
        """Call back from a worker's thread, unless the worker was cancelled or the screen closes before the call."""

        def call() -> None:
            if self._is_whole:
                callback(*arguments, **options)

        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(call)

    @property
    def help_notes(self) -> Sequence[tuple[str, Sequence[tuple[str, str]]]]:
        """What stands above the keys in the help: headings, and below each the terms and what they mean."""
        return ()

    def run_command(self, command: SlashCommand) -> None:
        """Run one of `SLASH_COMMANDS`."""
        raise NotImplementedError(command.name)

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        self._level = level
        self.remove_class(*LEVELS).add_class(level)

    def clear_draft(self) -> bool:
        """Clear what was typed and not sent; whether there was anything."""
        return False

    def notify_text(self, text: str) -> None:
        """Show a message that goes away by itself."""
        self.app.notify(text, timeout=NOTICE_S, markup=False)

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        next_theme(self.app)

    def action_next_glyphs(self) -> None:
        """Change between braille, block and ASCII."""
        self.set_level(LEVELS[(LEVELS.index(self._level) + 1) % len(LEVELS)])

    def action_screenshot(self) -> None:
        """Save what is on the screen as SVG in the working folder."""
        try:
            self.notify_text(f"The screen is saved as {self.app.save_screenshot()}.")
        except OSError as error:
            self.notify_text(f"The picture could not be saved: {error.strerror}.")


NOTICE_S = 6.0

NO_KEY = "no_key"
"""A key that no terminal sends. Every action has it, too: Textual leaves out keys that the prompt would type before it
looks for what is to get another key, and would not find an action that had only such keys."""


def bindings(screen: ScreenKeys, *, first: bool = False) -> list[Binding]:
    """The bindings of a screen's table.

    A widget that has the focus, such as the prompt, gets each key before them; with `first` it gets what they leave.
    """
    return [
        Binding(",".join((*key.keys, NO_KEY)), key.action, show=False, priority=first, id=_identity(screen, key.name))
        for key in screen.keys
    ]


def keymap(screens: Iterable[ScreenKeys]) -> dict[str, str]:
    """The tables for `App.set_keymap`, where they differ from those that the screens were made with."""
    return {_identity(screen, key.name): ",".join(key.keys) or NO_KEY for screen in screens for key in screen.keys}


def _identity(screen: ScreenKeys, name: str) -> str:
    return f"{screen.name}.{name}"

"""A line of keys and what they do; a click on one does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from textual import events

from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keymap import Place
from edgetop.tui.widgets.lines import Line, LinesWidget, Span, fit, for_level, line_of, spread, width_of

ESSENTIAL = frozenset({"help", "quit", "close", "leave_prompt", "enter_prompt"})
"""Actions that get room before the others."""
GAP = 2


class KeysInLine(NamedTuple):
    """What has room in a line, and where: for each cell that does something, the action."""

    line: Line
    actions: dict[int, str]


def keys_in_line(places: Sequence[Place], width: int, before: Line = ()) -> KeysInLine:
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


def _drawn(place: Place) -> Line:
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
        places: Sequence[Place],
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

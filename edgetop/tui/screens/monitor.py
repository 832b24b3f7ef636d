"""What the live, watch and replay screens share: when to redraw, and at which sizes.

The decoding threads wait for each other after every layer, so what the screen takes of one core all of them lose. On a
fast machine a draw each second is nothing; on a small board the same draw takes many times as long, and is made more
rarely there: text and panes have a fixed share of a core, whatever the core.

One timer drives everything: it takes in what the engine and the sampler have sent, appends text to the chat, and every
so many ticks draws the panes. Nothing else wakes this process up while a model decodes.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from textual import events

from edgetop.core.energy.duty import Price
from edgetop.core.format import format_bytes_short
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keys import LIVE, KeySlot, ScreenKeys, key_slots
from edgetop.tui.panes.column import PaneColumn
from edgetop.tui.panes.pane import Pane
from edgetop.tui.panes.view import View
from edgetop.tui.styled_text import Line, Span, fit, for_level, line_of, spread, width_of
from edgetop.tui.widgets import KeyBar, keys_in_line


class PaneActions:
    """Mixed into a screen; each key acts upon all of its columns at once."""

    @abstractmethod
    def pane_columns(self) -> Sequence[PaneColumn]:
        """The columns of panes on the screen."""

    @abstractmethod
    def panes_changed(self) -> None:
        """Draw what the keys have changed."""

    def give_keys_to_panes(self) -> None:
        """Let the keys act upon the panes, where something else may have the keyboard."""

    def on_click(self, event: events.Click) -> None:
        """Give the focus to the pane that was clicked; a second click zooms it."""
        if not isinstance(event.widget, Pane):
            return
        for column in self.pane_columns():
            column.focus_on(event.widget.title)
        self.give_keys_to_panes()
        if event.chain == 2:
            self.action_zoom_pane()
        self.panes_changed()

    def action_toggle_pane(self, number: int) -> None:
        """Show or hide a pane."""
        for column in self.pane_columns():
            column.toggle(number)
        self.panes_changed()

    def action_focus_pane(self, step: int) -> None:
        """Give the focus to the pane below or above."""
        for column in self.pane_columns():
            column.move_focus(step)
        self.panes_changed()

    def action_zoom_pane(self) -> None:
        """Give all of the room to the focused pane, or take it back."""
        for column in self.pane_columns():
            column.zoom()
        self.panes_changed()

    def action_change_span(self, step: int) -> None:
        """Show a longer or shorter time in the graphs."""
        for column in self.pane_columns():
            column.traces.change_span(step)
        self.panes_changed()

    def action_move_pane(self, step: int) -> None:
        """Put the focused pane one place down or up."""
        for column in self.pane_columns():
            column.move_pane(step)
        self.panes_changed()


TEXT_SHARE = 0.0025

PANES_SHARE = 0.0025
"""Of one core. Sensors and the journal take as much again and more, and all of it is to stay below one percent."""

TEXT_STEPS_S = (0.25, 0.35, 0.5)
"""More often than the first would cost tokens that nobody reads the sooner for; more rarely than the last stutters."""

PANES_STEP_S = 0.5

PANES_MOST_S = 5.0

LEARNING = 0.2
"""Weight of the latest cost in the mean."""


class RedrawBudget:
    """Learns what text and panes cost, in processor time of this thread."""

    def __init__(self, chosen_below_s: float, clock: Callable[[], float] = time.thread_time) -> None:
        self._chosen_below_s = chosen_below_s
        """A person who wants the panes sooner than this has chosen so."""
        self._clock = clock
        self._text_s = 0.0
        self._panes_s = 0.0
        self._drew = False

    @contextmanager
    def measured(self) -> Iterator[None]:
        """One round: text is appended, and the panes are drawn where `draws` says so inside."""
        self._drew = False
        begin_s = self._clock()
        yield
        cost_s = self._clock() - begin_s
        if self._drew:
            self._panes_s += LEARNING * (max(0.0, cost_s - self._text_s) - self._panes_s)
        else:
            self._text_s += LEARNING * (cost_s - self._text_s)

    def draws(self) -> None:
        """The panes are drawn in this round."""
        self._drew = True

    @property
    def text_every_s(self) -> float:
        """Seconds from one round to the next."""
        least_s = self._text_s / TEXT_SHARE
        return next((step_s for step_s in TEXT_STEPS_S if step_s >= least_s), TEXT_STEPS_S[-1])

    def panes_every_s(self, wanted_s: float) -> float:
        """Seconds from one drawing of the panes to the next, not less than `wanted_s`."""
        if wanted_s < self._chosen_below_s:
            return wanted_s
        affordable_s = math.ceil(self._panes_s / PANES_SHARE / PANES_STEP_S) * PANES_STEP_S
        return max(wanted_s, min(affordable_s, PANES_MOST_S))


class DisplayOptions(NamedTuple):
    """Glyphs, refresh interval and price of energy."""

    level: GlyphLevel
    delay_s: float
    price: Price | None


KEYS_COLUMNS = 58
"""Where the keys have so much room left, our own cost stands beside them; keys without room are left to the help."""


class KeyLine(KeyBar):
    """One line, and what changes it: who has the keyboard."""

    in_panes = False
    """The panes have the keyboard, not the prompt."""

    def show(self, view: View, *, delay_s: float, keys: ScreenKeys = LIVE) -> None:
        """Draw the keys that work now, how often the panes are drawn, and our own cost."""
        width = self.content_size.width
        if width > 0:
            self.show_keys(
                shown_places(keys, in_panes=self.in_panes),
                view.level,
                before=_paused(view, keys),
                rights=_own_cost(view, delay_s),
                kept=_kept(view, width, delay_s),
            )


def draw(view: View, width: int, *, in_panes: bool, delay_s: float, keys: ScreenKeys = LIVE) -> Line:
    """The line in `width` cells. What is left out where there is little room is in the help."""
    rights = _own_cost(view, delay_s)
    left = width - _kept(view, width, delay_s)
    line = keys_in_line(shown_places(keys, in_panes=in_panes), left, _paused(view, keys)).line
    return for_level(fit(spread(line, rights, width), width), view.level)


@lru_cache(maxsize=8)
def shown_places(keys: ScreenKeys, *, in_panes: bool) -> Sequence[KeySlot]:
    """The way into the other mode, and the keys of this one."""
    other, label = ("enter_prompt", "Prompt") if in_panes else ("leave_prompt", "Panes")
    first = [KeySlot(keys.key_of(other), label, (key,)) for key in keys.keys if key.name == other and key.keys]
    return [*first, *key_slots(keys.keys, typing=not in_panes)]


def key_and_label(name: str, label: str) -> Line:
    """A key and the word for what it does."""
    return line_of(Span(name, "key"), f" {label}")


def _paused(view: View, keys: ScreenKeys) -> Line:
    return line_of(Span(f"PAUSED: {keys.key_of('pause')} goes on", "warning")) if view.paused else ()


def _kept(view: View, width: int, delay_s: float) -> int:
    """Cells that the keys leave to our own cost."""
    needed = (2 + width_of(words) for words in _own_cost(view, delay_s))
    return next((cells for cells in needed if width - cells >= KEYS_COLUMNS), 0)


def _own_cost(view: View, delay_s: float) -> Sequence[Line]:
    """What edgetop costs and how often it draws, the longest words first."""
    cost = view.snapshot.own_cost
    percent = "n/a" if cost.cpu_percent is None else f"{cost.cpu_percent:.1f} % cpu"
    words = f"edgetop {percent} {format_bytes_short(cost.rss_bytes)}"
    return [line_of(Span(each, "dim")) for each in (f"{words} · every {delay_s:g} s", words, f"edgetop {percent}")]


TICK_S = 0.25
"""While a model loads."""

IDLE_TICK_S = 0.5

DECODING, BEGINNING = frozenset({"answering", "stopping"}), frozenset({"loading", "starting"})
"""Phases of a conversation in which there is something to see."""

DELAYS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Refresh intervals of the panes that the keys walk through."""

WIDE_COLUMNS, WIDE_ROWS = 100, 24

SMALL_COLUMNS, SMALL_ROWS = 60, 16

"""The bottom line: keys on the left, what edgetop itself costs on the right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from edgetop.core.format import format_bytes_short
from edgetop.tui.keymap import LIVE, Place, ScreenKeys, places
from edgetop.tui.view import View
from edgetop.tui.widgets.key_bar import KeyBar, keys_in_line
from edgetop.tui.widgets.lines import Line, Span, fit, for_level, line_of, spread, width_of

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
def shown_places(keys: ScreenKeys, *, in_panes: bool) -> Sequence[Place]:
    """The way into the other mode, and the keys of this one."""
    other, label = ("enter_prompt", "Prompt") if in_panes else ("leave_prompt", "Panes")
    first = [Place(keys.key_of(other), label, (key,)) for key in keys.keys if key.name == other and key.keys]
    return [*first, *places(keys.keys, typing=not in_panes)]


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

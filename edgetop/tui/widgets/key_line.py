"""The bottom line: keys on the left, what edgetop itself costs on the right."""

from __future__ import annotations

from edgetop.core.format import format_bytes_short
from edgetop.tui.keymap import KEYS, key_name
from edgetop.tui.view import View
from edgetop.tui.widgets.lines import Line, LinesWidget, Span, fit, for_level, joined, line_of, spread, width_of

COST_COLUMNS = 78
"""Where there is so much room, our own cost stands beside the keys, and the last of these may be left to the help."""


class KeyLine(LinesWidget):
    """One line."""

    DEFAULT_CSS = """
    KeyLine { height: 1; width: 100%; padding: 0 1; }
    """
    in_panes = False
    """The panes have the keyboard, not the prompt."""

    def show(self, view: View, *, delay_s: float) -> None:
        """Draw the keys that work now, how often the panes are drawn, and our own cost."""
        width = self.content_size.width
        if width > 0:
            self.show_lines([draw(view, width, in_panes=self.in_panes, delay_s=delay_s)])


def draw(view: View, width: int, *, in_panes: bool, delay_s: float) -> Line:
    """The line in `width` cells. What is left out where there is little room is in the help."""
    paused = line_of(Span("PAUSED: Space goes on", "warning")) if view.paused else ()
    mode = key_and_label("i", "Prompt") if in_panes else key_and_label("Esc", "Panes")
    labelled = [key_and_label(key_name(key.keys[0]), key.label) for key in KEYS if key.label]
    own = [line_of(Span(words, "dim")) for words in _own_cost(view, delay_s)]
    kept = 2 + width_of(own[-1]) if width >= COST_COLUMNS else 0
    keys = joined([paused, mode, *labelled], width - kept)
    return for_level(fit(spread(keys, own, width), width), view.level)


def key_and_label(name: str, label: str) -> Line:
    """A key and the word for what it does."""
    return line_of(Span(name, "key"), f" {label}")


def _own_cost(view: View, delay_s: float) -> list[str]:
    """What edgetop costs and how often it draws, the longest words first."""
    cost = view.snapshot.own_cost
    percent = "n/a" if cost.cpu_percent is None else f"{cost.cpu_percent:.1f} % cpu"
    words = f"edgetop {percent} {format_bytes_short(cost.rss_bytes)}"
    return [f"{words} · every {delay_s:g} s", words, f"edgetop {percent}"]

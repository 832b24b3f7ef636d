"""The panes there are, in the order in which they stand unless the person wants another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgetop.tui.view import PaneDrawing, View
from edgetop.tui.widgets import (
    energy_detail,
    energy_pane,
    memory_detail,
    memory_pane,
    power_detail,
    power_pane,
    tokens_detail,
    tokens_pane,
)
from edgetop.tui.widgets.lines import Line


class PaneKind(NamedTuple):
    """How one pane is drawn, and how many rows it is worth, its border included."""

    title: str
    short: str
    """Its name where it is folded into a line."""
    draw: PaneDrawing
    all_of: PaneDrawing
    """Draws it with all of the room."""
    headline: Callable[[View], Line]
    beside: Callable[[View], list[Line]]
    """What stands beside the headline where it is folded, the longest first."""
    least: int
    good: int
    ample: int
    """Rows that it needs, that show all it has to say, and that give its graph room."""


TOKENS = PaneKind(
    tokens_pane.TITLE, tokens_pane.SHORT, tokens_pane.draw, tokens_detail.all_of,
    tokens_pane.headline, tokens_pane.beside, 6, 12, 16,
)  # fmt: skip
MEMORY = PaneKind(
    memory_pane.TITLE, memory_pane.SHORT, memory_pane.draw, memory_detail.all_of,
    memory_pane.headline, memory_pane.beside, 5, 5, 10,
)  # fmt: skip
POWER = PaneKind(
    power_pane.TITLE, power_pane.SHORT, power_pane.draw, power_detail.all_of,
    power_pane.headline, power_pane.beside, 5, 8, 12,
)  # fmt: skip
ENERGY = PaneKind(
    energy_pane.TITLE, energy_pane.SHORT, energy_pane.draw, energy_detail.all_of,
    energy_pane.headline, energy_pane.beside, 4, 7, 8,
)  # fmt: skip
PANES = (TOKENS, MEMORY, POWER, ENERGY)
TITLES = tuple(kind.title for kind in PANES)
_GROWING = (ENERGY, POWER, TOKENS, MEMORY)
"""Who gets rows first: a few of them complete the energy, while a graph can always use more."""


def kind_of(title: str) -> PaneKind:
    """The pane of a title."""
    return PANES[TITLES.index(title)]


def heights(titles: tuple[str, ...], rows: int) -> dict[str, int]:
    """How `rows` are shared among the panes of some titles; 0 for those that there is no room for.

    Each gets what it needs, the first ones first, then what shows all of it, then what gives its graph room; what is
    left goes to the first one that has a graph.
    """
    shares = dict.fromkeys(titles, 0)
    left = rows
    for title in titles:
        least = kind_of(title).least
        if left >= least:
            shares[title] = least
            left -= least
    shown = [kind for kind in _GROWING if shares.get(kind.title)]
    for wanted in ("good", "ample"):
        for kind in shown:
            more = min(left, max(0, getattr(kind, wanted) - shares[kind.title]))
            shares[kind.title] += more
            left -= more
    for title in sorted(shares, key=lambda title: (title == ENERGY.title, titles.index(title))):
        if shares[title]:
            shares[title] += left
            break
    return shares

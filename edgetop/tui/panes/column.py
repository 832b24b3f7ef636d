"""The list of panes; order, focus, zoom, rows per pane, and the layout file that keeps them.

What is said by flag, environment or configuration file goes before it. A file that cannot be read is as none.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical

from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.panes import energy, memory, power, tokens
from edgetop.tui.panes.pane import Pane, PaneKind
from edgetop.tui.panes.view import ChartHistory, View

TOKENS = PaneKind(
    tokens.TITLE, tokens.SHORT, tokens.draw, tokens.render_zoomed,
    tokens.headline, tokens.summary, 6, 12, 16,
)  # fmt: skip

MEMORY = PaneKind(
    memory.TITLE, memory.SHORT, memory.draw, memory.render_zoomed,
    memory.headline, memory.summary, 5, 5, 10,
)  # fmt: skip

POWER = PaneKind(
    power.TITLE, power.SHORT, power.draw, power.render_zoomed,
    power.headline, power.summary, 5, 8, 12,
)  # fmt: skip

ENERGY = PaneKind(
    energy.TITLE, energy.SHORT, energy.draw, energy.render_zoomed,
    energy.headline, energy.summary, 4, 7, 8,
)  # fmt: skip

PANES = (TOKENS, MEMORY, POWER, ENERGY)

TITLES = tuple(kind.title for kind in PANES)

_GROWING = (ENERGY, POWER, TOKENS, MEMORY)
"""Who gets rows first: a few of them complete the energy, while a graph can always use more."""


def kind_of(title: str) -> PaneKind:
    """The pane of a title."""
    return PANES[TITLES.index(title)]


def share_rows(titles: tuple[str, ...], rows: int) -> dict[str, int]:
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


FILE_NAME = "layout.json"

SIZE_MAX = 65_536


class Arrangement(Struct, frozen=True, kw_only=True):
    """Panes, graphs, theme and glyphs."""

    hidden: tuple[str, ...] = ()
    """Titles of the panes that are not shown."""
    order: tuple[str, ...] = ()
    """Titles of the panes from the top; empty for the usual order."""
    span: str = ""
    """How much time the graphs show; empty for the usual one."""
    theme: str = ""
    """The theme that was chosen last; empty for the usual one."""
    glyphs: dict[GlyphLevel, GlyphLevel] = {}
    """The level that was chosen where another one was found: a person may sit at several terminals."""


class LayoutStore:
    """The arrangement as it is now; each change is written at once."""

    def __init__(self, file: Path | None = None, detected: GlyphLevel = "braille") -> None:
        """`detected` is what this terminal seems to be able to show. Without a file nothing is kept."""
        self.file = file
        self.detected: GlyphLevel = detected
        self.arrangement = Arrangement() if file is None else _read(file)

    @property
    def level(self) -> GlyphLevel:
        """The glyphs for a terminal like this one."""
        return self.arrangement.glyphs.get(self.detected, self.detected)

    def choose_level(self, level: GlyphLevel) -> None:
        """Note the glyphs that were chosen at a terminal like this one."""
        self.change(glyphs={**self.arrangement.glyphs, self.detected: level})

    def change(self, **changes: Any) -> None:  # noqa: ANN401 - fields of several types
        """Note fields of the arrangement. Where the file cannot be written the change lasts as long as the screen."""
        changed = replace(self.arrangement, **changes)
        if changed == self.arrangement:
            return
        self.arrangement = changed
        if self.file is not None:
            with suppress(OSError):
                _write(self.file, changed)


def remembered_file() -> Path:
    """Where the arrangement of this user is kept."""
    import platformdirs  # noqa: PLC0415 - tests put another folder in its place

    return platformdirs.user_state_path("edgetop", appauthor=False) / FILE_NAME


def _read(file: Path) -> Arrangement:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(SIZE_MAX), type=Arrangement)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return Arrangement()


def _write(file: Path, arrangement: Arrangement) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        new.write_bytes(msgspec.json.format(msgspec.json.encode(arrangement)) + b"\n")
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


class PaneColumn(Vertical):
    """Draws the panes that can be seen, and shares its rows among them."""

    DEFAULT_CSS = """
    PaneColumn.empty { display: none; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self.order: tuple[str, ...] = TITLES
        self.hidden: frozenset[str] = frozenset()
        self.zoomed = ""
        """Title of the pane that has all of the room; empty where none has."""
        self.has_keys = False
        """The keyboard works the panes, so that the focus is to be seen."""
        self.traces = ChartHistory()
        """What the graphs show, and how much time of it."""
        self._focused = TITLES[0]
        self._panes = {kind.title: Pane(kind) for kind in PANES}

    def compose(self) -> ComposeResult:
        """One pane below the other."""
        for title in self.order:
            yield self._panes[title]

    def on_mount(self) -> None:
        """Show what was chosen before there was a screen."""
        self._arrange()

    def on_resize(self, event: events.Resize) -> None:
        """Share the rows anew."""
        self._share(event.size.height)

    @property
    def shown(self) -> tuple[str, ...]:
        """Titles of the panes that the person wants to see, from the top."""
        return tuple(title for title in self.order if title not in self.hidden)

    @property
    def focused(self) -> str:
        """Title of the pane that the keys act upon; empty where no pane is shown."""
        return self._focused if self._focused in self.shown else next(iter(self.shown), "")

    @property
    def rows_least(self) -> int:
        """What the shown panes need above each other."""
        return sum(kind_of(title).least for title in self.shown)

    def with_layout(self, view: View) -> View:
        """`view` with what a person has chosen of the panes."""
        return replace(
            view,
            hidden=self.hidden,
            order=self.order,
            focus=self.focused if self.has_keys else "",
        )

    def show(self, view: View) -> None:
        """Draw the panes that can be seen."""
        view = self.with_layout(view)
        for title in [self.zoomed] if self.zoomed else self.shown:
            self._panes[title].show(view, zoomed=bool(self.zoomed))

    def take(self, arrangement: Arrangement) -> None:
        """Take over an arrangement; what it does not name stays as usual, and what is no pane is left out."""
        known = [title for title in dict.fromkeys(arrangement.order) if title in TITLES]
        self.order = (*known, *(title for title in TITLES if title not in known))
        self.hidden = frozenset(arrangement.hidden) & frozenset(TITLES)
        self.traces = ChartHistory(arrangement.span)
        self._arrange()

    @property
    def arrangement(self) -> dict[str, Any]:
        """Fields of an `Arrangement`, as they are now."""
        return {"order": self.order, "hidden": tuple(sorted(self.hidden)), "span": self.traces.span}

    def toggle(self, number: int) -> None:
        """Show or hide a pane; the numbers go with the panes, wherever they stand."""
        title = TITLES[number - 1]
        self.hidden ^= {title}
        if self.zoomed == title:
            self.zoomed = ""
        self._arrange()

    def move_focus(self, step: int) -> None:
        """Give the focus to the pane below or above; where one is zoomed, that one is shown instead."""
        shown = self.shown
        if not shown:
            return
        if self.has_keys:
            self._focused = shown[(shown.index(self.focused) + step) % len(shown)]
        self.has_keys = True
        if self.zoomed:
            self.zoomed = self._focused
            self._arrange()

    def focus_on(self, title: str) -> None:
        """Give the focus to a pane."""
        if title in self.shown:
            self._focused = title

    def zoom(self, *, on: bool | None = None) -> None:
        """Give all of the room to the focused pane, or to all of them again."""
        wanted = not self.zoomed if on is None else on
        self.zoomed = self.focused if wanted else ""
        self._arrange()

    def move_pane(self, step: int) -> None:
        """Put the focused pane one place down or up."""
        shown, title = self.shown, self.focused
        if not title or not 0 <= shown.index(title) + step < len(shown):
            return
        other = shown[shown.index(title) + step]
        places = {title: self.order.index(other), other: self.order.index(title)}
        order = list(self.order)
        for name, place in places.items():
            order[place] = name
        self.order = tuple(order)
        self._arrange()

    def _arrange(self) -> None:
        self.set_class(not self.shown, "empty")
        if not self.is_mounted:
            return
        for place, title in enumerate(self.order):
            pane = self._panes[title]
            pane.display = title == self.zoomed if self.zoomed else title not in self.hidden
            if self.children[place] is not pane:
                self.move_child(pane, before=place)
        self._share(self.size.height)

    def _share(self, rows: int) -> None:
        if self.zoomed:
            self._panes[self.zoomed].styles.height = "1fr"
            return
        for title, height in share_rows(self.shown, rows).items():
            self._panes[title].styles.height = height

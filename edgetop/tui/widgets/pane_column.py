"""The panes of one session above each other: which are shown, in which order, which has the focus, which is zoomed."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical

from edgetop.tui.remembered import Arrangement
from edgetop.tui.traces import Traces
from edgetop.tui.view import View
from edgetop.tui.widgets.pane import Pane
from edgetop.tui.widgets.pane_kind import PANES, TITLES, heights, kind_of


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
        self.traces = Traces()
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
        self.traces = Traces(arrangement.span)
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
        for title, height in heights(self.shown, rows).items():
            self._panes[title].styles.height = height

"""What the keys of the panes do, on every screen that has panes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from textual import events

from edgetop.tui.widgets.pane import Pane
from edgetop.tui.widgets.pane_column import PaneColumn


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

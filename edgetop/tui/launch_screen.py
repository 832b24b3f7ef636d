"""What is seen while everything else is still being imported and started: the frame of the live screen."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen

from edgetop.tui.widgets.lines import LinesWidget, Span, line_of


class LaunchScreen(Screen[None]):
    """One line that says what this is and that it is coming."""

    DEFAULT_CSS = """
    LaunchScreen > LinesWidget { height: 100%; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        """The line."""
        yield LinesWidget()

    def on_resize(self, _event: events.Resize) -> None:
        """Draw it as soon as there is a size."""
        self.query_one(LinesWidget).show_lines([line_of(Span("edgetop", "title"), Span("  starting", "dim"))])

"""Painting a few lines of a widget at once, past the compositor.

Textual composes every widget that shares a line with a change, which takes about 3 ms for one grown line, and writes
the line from the widget's left edge on. Here only the changed cells are drawn and written. The widget's `render_line`
gives them, as it gives them to Textual for any later repaint, so both draw the same as long as the widget has no
opacity, tint or hatch. This is the one module that touches what Textual 8.2.8 keeps private.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from rich.console import Console
from textual._compositor import CompositorUpdate
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from edgetop.tui.sgr import shortened


class _CellsUpdate(CompositorUpdate):
    """Strips and where they begin on the screen."""

    def __init__(self, cells: Sequence[tuple[int, int, Strip]]) -> None:
        self._cells = cells

    def render_segments(self, console: Console) -> str:
        """The escape sequences that draw the strips."""
        return shortened("".join(f"\x1b[{y + 1};{x + 1}H{strip.render(console)}" for x, y, strip in self._cells))


def paint(widget: Widget, changes: Sequence[Region]) -> None:
    """Draw these parts of a line-API widget again; `changes` are one line high, in cells of its content.

    Painted at once where the widget is in full view, otherwise with Textual's next refresh.
    """
    changes = [region for region in changes if region]
    if not changes:
        return
    regions = [region.translate(widget.content_offset) for region in changes]
    origin = _origin_in_full_view(widget, regions)
    if origin is None:
        widget.refresh(*changes)
        return
    widget._styles_cache.set_dirty(*regions)  # noqa: SLF001
    cells = []
    filters, background = widget.get_line_filters(), widget.background_colors[1]
    for content, region in zip(changes, regions, strict=True):
        strip = widget.render_line(content.y).crop(content.x, content.right)
        for line_filter in filters:
            strip = strip.apply_filter(line_filter, background)
        cells.append((origin.x + region.x, origin.y + region.y, strip))
    widget.app._display(widget.screen, _CellsUpdate(cells))  # type: ignore[arg-type] # noqa: SLF001


def _origin_in_full_view(widget: Widget, regions: Sequence[Region]) -> Region | None:
    """Where on the terminal the widget is; `None` if it is not all there or something lies over these parts of it."""
    if not widget.is_attached or widget.app.screen is not widget.screen or widget.app._batch_count:  # noqa: SLF001
        return None
    compositor = widget.screen._compositor  # noqa: SLF001
    place, clip = compositor.visible_widgets.get(widget, (Region(), Region()))
    if not place or not clip.contains_region(place) or place.size != widget.outer_size:
        return None
    for region in regions:
        on_screen = region.translate(place.offset)
        # From the front to the back: whatever comes before the widget lies over it.
        over = takewhile(lambda layer: layer[0] is not widget, compositor.layers_visible[on_screen.y])
        if not place.contains_region(on_screen) or any(visible.overlaps(on_screen) for _, visible, _ in over):
            return None
    return place

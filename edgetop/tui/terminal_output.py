"""What is written past Textual's compositor: changed cells, short SGR sequences, OSC 52.

Rich writes every style in full before each piece of text and resets it afterwards, which on a true-colour terminal is
40 bytes for a word of five letters. Over SSH those bytes are what a screen costs. Here only the difference between two
styles is written, and cached, since a screen has few styles and draws them every second.

Textual composes every widget that shares a line with a change, about 3 ms for one grown line, and writes the line from
the widget's left edge on. Here only the changed cells are drawn and written. The widget gives the same lines to Textual
for any later repaint, so both draw the same as long as the widget has no opacity, tint or hatch. Besides the terminal
driver this is the only module that uses private names of Textual 8.2.8.

OSC 52 (xterm's control sequences, "Manipulate Selection Data") carries the text in base64 through SSH and through tmux.
Whether a terminal accepts it is its user's choice, and the terminal does not answer.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from rich.console import COLOR_SYSTEMS, Console
from rich.segment import Segment
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.geometry import Region
from textual.widget import Widget

if TYPE_CHECKING:
    from rich.color import ColorSystem
    from rich.style import Style
    from textual.color import Color
    from textual.filter import LineFilter
    from textual.screen import Screen
    from textual.strip import Strip


_COLOUR_KINDS = {"2": 5, "5": 3}
"""How many numbers an extended colour has, including its 38 or 48 (ECMA-48 SGR, ITU-T T.416)."""

_VISIBLE_ON_BLANKS = {"background", "4", "7", "9", "21", "53"}
"""The background; lines under, through and over the cell; and reverse video."""

_REVERSE = "7"

SgrState = tuple[tuple[str, str], ...]
"""The active attributes (foreground, background, others by their numbers), each with the numbers that set it."""

PLAIN: SgrState = ()


class Run(NamedTuple):
    """Text in one style. `before` is written unchanged, such as a cursor movement."""

    text: str
    state: SgrState
    before: str = ""


def encode(runs: Iterable[Run]) -> str:
    """The escape sequences that draw `runs`: only the differences between them, and a reset at the end."""
    parts: list[str] = []
    shown = PLAIN
    for text, state, before in runs:
        if before:
            parts.append(before)
        if text:
            sequence, shown = _change(shown, state, not text.strip(" "))
            parts += [sequence, text]
    if shown:
        parts.append("\x1b[0m")
    return "".join(parts)


@lru_cache(maxsize=1024)
def sgr_state(numbers: str) -> SgrState:
    """The state that a sequence of numbers sets, as Rich writes them for a style."""
    state: dict[str, str] = {}
    for name, each in _settings(numbers):
        if name == "0":
            state.clear()
        else:
            state[name] = each
    return tuple(state.items())


@lru_cache(maxsize=4096)
def _change(before: SgrState, after: SgrState, blank: bool) -> tuple[str, SgrState]:
    """The sequence from one state to the other, and the state that the terminal then has."""
    now, then = dict(before), dict(after)
    if blank and _REVERSE not in then:
        # The colour of the text does not show on blanks, so it need not change.
        seen = {name: numbers for name, numbers in then.items() if name in _VISIBLE_ON_BLANKS}
        unseen = {name: numbers for name, numbers in now.items() if name not in _VISIBLE_ON_BLANKS}
        then = seen if now.keys() - seen.keys() - unseen.keys() else {**unseen, **seen}
    if now.keys() - then.keys():
        sequence = f"\x1b[{';'.join(['0', *then.values()])}m"
    else:
        changed = [numbers for name, numbers in then.items() if now.get(name) != numbers]
        sequence = f"\x1b[{';'.join(changed)}m" if changed else ""
    return sequence, tuple(then.items())


def _settings(numbers: str) -> Iterator[tuple[str, str]]:
    """The attributes that a sequence sets; `0` for a reset."""
    each = numbers.split(";") if numbers else []
    at = 0
    while at < len(each):
        number = each[at]
        length = _COLOUR_KINDS.get(each[at + 1], 1) if number in {"38", "48"} and at + 1 < len(each) else 1
        yield _name(number), ";".join(each[at : at + length])
        at += length


def _name(number: str) -> str:
    """The attribute that a number sets."""
    code = int(number or 0)
    if 30 <= code <= 39 or 90 <= code <= 97:
        return "foreground"
    if 40 <= code <= 49 or 100 <= code <= 107:
        return "background"
    return str(code)


_batches: WeakKeyDictionary[Screen[Any], list[_Cells]] = WeakKeyDictionary()
"""Cells that wait for the end of `batched_paint`."""


class _Cells:
    """A strip, where on the terminal it begins, and its background."""

    __slots__ = ("_background", "_filters", "_strip", "_x", "_y")

    def __init__(self, x: int, y: int, strip: Strip, filters: tuple[LineFilter, ...], background: Color) -> None:
        self._x, self._y = x, y
        self._strip = strip
        self._filters = filters
        self._background = background

    def runs(self, colors: ColorSystem | None) -> Iterator[Run]:
        """The strip as runs."""
        move = f"\x1b[{self._y + 1};{self._x + 1}H"
        for segment in self._strip:
            style = segment.style
            state = PLAIN if style is None else _state(style, self._filters, self._background, colors)
            yield Run(segment.text, state, move)
            move = ""


@lru_cache(maxsize=1024)
def _state(style: Style, filters: tuple[LineFilter, ...], background: Color, colors: ColorSystem | None) -> SgrState:
    """A style on this terminal."""
    segments = [Segment("x", style)]
    for line_filter in filters:
        segments = line_filter.apply(segments, background)
    shown = segments[0].style
    drawn = "x" if shown is None else shown.render("x", color_system=colors)
    return sgr_state(drawn[2 : drawn.index("m")]) if drawn.startswith("\x1b[") else PLAIN


class _CellsUpdate(CompositorUpdate):
    """Cells anywhere on the screen."""

    def __init__(self, cells: Sequence[_Cells]) -> None:
        self._cells = cells

    def render_segments(self, console: Console) -> str:
        """The escape sequences that draw them."""
        colors = COLOR_SYSTEMS.get(console.color_system or "")
        return encode(run for cells in self._cells for run in cells.runs(colors))


@contextmanager
def batched_paint(screen: Screen[Any]) -> Iterator[None]:
    """Writes everything that is painted inside to the terminal at once, at the end."""
    if screen in _batches:
        yield
        return
    batch = _batches[screen] = []
    try:
        yield
    finally:
        del _batches[screen]
        if batch:
            _write(screen, batch)


def paint(widget: Widget, changes: Sequence[Region], line_at: Callable[[int], Strip]) -> None:
    """Repaint parts of a line-API widget; `changes` are one line high, in cells of its content.

    `line_at` gives a line as `render_line` does, but without asking Textual for the widget's width, which costs time.
    Painted at once where the widget is fully visible, otherwise with Textual's next refresh.
    """
    changes = [region for region in changes if region]
    if not changes:
        return
    offset = widget.content_offset
    regions = [region.translate(offset) for region in changes]
    origin = _visible_origin(widget, regions)
    if origin is None:
        widget.refresh(*changes)
        return
    widget._styles_cache.set_dirty(*regions)  # noqa: SLF001
    filters, background = tuple(widget.get_line_filters()), widget.background_colors[1]
    cells: list[_Cells] = []
    y, line = -1, None
    for content, region in zip(changes, regions, strict=True):
        if line is None or content.y != y:
            y, line = content.y, line_at(content.y)
        strip = line.crop(content.x, content.right)
        cells.append(_Cells(origin.x + region.x, origin.y + region.y, strip, filters, background))
    screen = widget.screen
    batch = _batches.get(screen)
    if batch is None:
        _write(screen, cells)
    else:
        batch += cells


def _write(screen: Screen[Any], cells: Sequence[_Cells]) -> None:
    screen.app._display(screen, _CellsUpdate(cells))  # type: ignore[arg-type] # noqa: SLF001


def _visible_origin(widget: Widget, regions: Sequence[Region]) -> Region | None:
    """Where on the terminal the widget is; `None` if it is partly hidden, or something covers these parts of it."""
    if not widget.is_attached:
        return None
    app, screen = widget.app, widget.screen
    if app.screen is not screen or app._batch_count:  # noqa: SLF001
        return None
    compositor = screen._compositor  # noqa: SLF001
    place, clip = compositor.visible_widgets.get(widget, (Region(), Region()))
    if not place or not clip.contains_region(place) or place.size != widget.outer_size:
        return None
    layers = compositor.layers_visible
    for region in regions:
        on_screen = region.translate(place.offset)
        if not 0 <= on_screen.y < len(layers):
            return None  # the terminal has become smaller, and the widgets are not yet arranged anew
        # From the front to the back: widgets before this one cover it.
        over = takewhile(lambda layer: layer[0] is not widget, layers[on_screen.y])
        if not place.contains_region(on_screen) or any(visible.overlaps(on_screen) for _, visible, _ in over):
            return None
    return place


BASE64_MAX = 74_994
"""Many terminals cut a sequence off at 100,000 bytes; hterm and older tmux and screen at this length."""

TEXT_MAX_BYTES = BASE64_MAX // 4 * 3


class TooLongError(ValueError):
    """The text is longer than terminals accept."""


def clipboard_sequence(text: str, environ: Mapping[str, str]) -> str:
    r"""The escape sequences that copy a harmless text to the clipboard. Raises TooLongError.

    tmux accepts OSC 52 with `set-clipboard on`, and forwards wrapped sequences with `allow-passthrough on`. Inside tmux
    both are sent, since its settings cannot be read.
    """
    data = text.encode("utf-8")
    if len(data) > TEXT_MAX_BYTES:
        raise TooLongError
    sequence = f"\x1b]52;c;{base64.b64encode(data).decode('ascii')}\x07"
    if environ.get("TMUX"):
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"{sequence}\x1bPtmux;{doubled}\x1b\\"
    return sequence


def clipboard_requirement(environ: Mapping[str, str]) -> str:
    """What must be allowed for the text to arrive, as text."""
    if environ.get("TMUX"):
        return "tmux must have `set -g set-clipboard on`, and the terminal must allow OSC 52"
    return "the terminal must allow it (OSC 52)"


def write_to_terminal(app: App[Any], sequence: str) -> None:
    """Write a sequence that draws nothing, in order with everything that is drawn."""
    if app._driver is not None:  # noqa: SLF001 - Textual's own `copy_to_clipboard` does the same, without tmux
        app._driver.write(sequence)  # noqa: SLF001

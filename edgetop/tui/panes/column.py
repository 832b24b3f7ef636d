"""The list of panes, the large digits above it; their order, focus, zoom and rows, and the layout file that keeps them.

Flags, environment and configuration file override the layout file. One that cannot be read counts as missing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from msgspec import Struct
from msgspec.structs import replace
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.geometry import Size

from edgetop.core.sources import Unavailable
from edgetop.session.energy import NOT_REACHED
from edgetop.tui.panes.energy import EnergyPane, contents, measuring
from edgetop.tui.panes.memory import MemoryPane
from edgetop.tui.panes.pane import BORDER_COLUMNS, ChartHistory, Pane, PaneWidget, View, framed
from edgetop.tui.panes.power import PowerPane
from edgetop.tui.panes.tokens import TokensPane
from edgetop.tui.styled_text import Line, Span, fit, for_level, line_of, paragraph, spread, width_of, wrap
from edgetop.tui.themes import GlyphLevel
from edgetop.tui.widgets import LinesWidget

TALL_ROWS = 28
"""From this height of the column on the digits are three rows high, as on 120x36."""

BOX_ROWS = 5

_HIGH = dict(zip("0123456789.", zip(
    *(row.split(",") for row in (
        "█▀█,▀█ ,▀▀█,▀▀█,█ █,█▀▀,█▀▀,▀▀█,█▀█,█▀█, ",
        "█ █, █ ,█▀▀, ▀█,▀▀█,▀▀█,█▀█,  █,█▀█,▀▀█, ",
        "▀▀▀,▀▀▀,▀▀▀,▀▀▀,  ▀,▀▀▀,▀▀▀,  ▀,▀▀▀,▀▀▀,▀",
    )), strict=True), strict=True))  # fmt: skip
_HIGH_ASCII = dict(zip("0123456789.", zip(
    *(row.split(",") for row in (
        " _ ,   , _ , _ ,   , _ , _ , _ , _ , _ , ",
        "| |,  |, _|, _|,|_|,|_ ,|_ ,  |,|_|,|_|, ",
        "|_|,  |,|_ , _|,  |, _|,|_|,  |,|_|, _|,.",
    )), strict=True), strict=True))  # fmt: skip
"""The three rows of each digit."""

_TOKENS, _ENERGY = TokensPane(), EnergyPane()


def has_no_power(view: View) -> bool:
    """There is neither power nor energy, nor will there be: one line says why in place of two panes."""
    now = view.snapshot
    energy = None if now.turn is None else now.turn.figures.energy
    return (
        isinstance(now.power, Unavailable)
        and now.power is not NOT_REACHED
        and now.phase != "starting"
        and (now.watch is None or now.watch.figures.energy is None)
        and energy is None
        and now.summary.energy is None
    )


def now_line(view: View) -> Line:
    """Both figures in one row."""
    energy = _ENERGY.headline(view)
    waiting = measuring(view)
    shown = line_of(Span(waiting, "dim")) if waiting else energy[:1]
    if not waiting and energy and energy[0].text == "n/a":
        shown = line_of(Span("J/token n/a", "dim"))
    *name, speed = _TOKENS.headline(view)
    return (speed, *(Span(f" {span.text.strip()}", "dim") for span in name), Span("   "), *shown)


def box(view: View, width: int) -> list[Line]:
    """Both figures three rows high, in a border; `width` by `BOX_ROWS` cells."""
    inner = width - BORDER_COLUMNS
    half = inner // 2
    tokens, energy = _TOKENS.headline(view), _ENERGY.headline(view)
    name = "".join(span.text for span in tokens[:-1]).strip()
    left = _figure(tokens[-1], name, half - 1, view.level)
    if energy[0].role == "energy":
        grade = "".join(span.text for span in energy[1:2]).strip(" ·")
        right = _figure(energy[0], f"grade {grade}", inner - half, view.level)
    else:
        right = [(), *paragraph(measuring(view) or "J/token n/a", inner - half, "dim")]
    lines = [(*fit(one, half), *two) for one, two in zip_longest(left, right[:3], fillvalue=())]
    return framed("now", line_of(contents(view)), lines, width, view.level)


def _figure(headline: Span, caption: str, width: int, level: GlyphLevel) -> list[Line]:
    """A figure in three rows, beside it its unit and what it is; as text where it is no number or has no room."""
    digits = _HIGH_ASCII if level == "ascii" else _HIGH
    number, *words = headline.text.split(" ")
    unit = next((word for word in words if "/" in word and not word[0].isdigit()), "")
    more = " ".join(word for word in words if word != unit)
    below = line_of(Span(caption, "dim"))
    if not set(number) <= set(digits):
        return [(), (headline,), below]
    rows = [" ".join(digits[character][row] for character in number) for row in range(3)]
    if len(rows[0]) + 1 + len(unit) > width:
        return [(), (headline,), below]
    room = width - len(rows[0]) - 1
    # Of an interval that is cut, other digits would be read.
    more = next((text for text in (more, more.replace(" ", "")) if len(text) <= room), "")
    beside = (line_of(Span(more, "dim")), line_of(Span(unit, "title")), below)
    return [(Span(f"{row} ", headline.role), *text) for row, text in zip(rows, beside, strict=True)]


def _no_power(missing: Unavailable, width: int) -> list[Line]:
    """Why there is no power, whole, and the key to what would give it."""
    key = line_of(Span("F1", "key"), " what to do ")
    reason = wrap(f"No power: {missing.reason}", max(10, width - width_of(key) - 2))
    return [
        spread(line_of(Span(f" {text}", "dim")), [key] if not at else [()], width) for at, text in enumerate(reason)
    ]


class NowWidget(LinesWidget):
    """The two figures, and below them why there is no power where there is none."""

    DEFAULT_CSS = """
    NowWidget { height: 1; width: 100%; }
    """

    def __init__(self) -> None:
        super().__init__(id="now")
        self._view: View | None = None

    def rows(self, column: Size, view: View | None) -> int:
        """How many rows it takes of a column, which may have another width than it has yet."""
        return (BOX_ROWS if column.height >= TALL_ROWS else 1) + len(self._reason(view, column.width))

    def _reason(self, view: View | None, width: int) -> list[Line]:
        """Why there is no power, where that is so."""
        power = None if view is None or not has_no_power(view) else view.snapshot.power
        return _no_power(power, width) if isinstance(power, Unavailable) else []

    def show(self, view: View) -> None:
        """Draw `view`."""
        self._view = view
        width, height = self.size
        if not self.display or width < 20 or height < 1:
            return
        reason = self._reason(view, width)
        head = box(view, width) if height - len(reason) >= BOX_ROWS else [line_of(" ", *now_line(view))]
        lines = [*head, *reason]
        self.show_lines([for_level(fit(line, width), view.level) for line in lines[:height]], width)

    def on_resize(self) -> None:
        """Fill the new size with the last view."""
        if self._view is not None:
            self.show(self._view)


PANES: dict[str, Pane] = {
    pane.title: pane
    for pane in (
        TokensPane(),
        MemoryPane(),
        PowerPane(),
        EnergyPane(),
    )
}
"""All panes by title, in their usual order, which is that of their digits in `tui/keys.py`."""

TITLES = tuple(PANES)

FILE_NAME = "layout.json"
SIZE_MAX = 65_536


class SavedLayout(Struct, frozen=True, kw_only=True):
    """The layout file: panes, graphs, theme and glyphs."""

    hidden: tuple[str, ...] = ()
    """Titles of the panes that are not shown."""
    order: tuple[str, ...] = ()
    """Titles of the panes from the top; empty for the usual order."""
    span: str = ""
    """How much time the graphs show; empty for the usual one."""
    theme: str = ""
    """The theme that was chosen last; empty for the usual one."""
    glyphs: dict[GlyphLevel, GlyphLevel] = {}
    """The level that was chosen where another one was detected: one person may use several terminals."""


class LayoutStore:
    """The saved layout; each change is written at once."""

    def __init__(self, file: Path | None = None, detected: GlyphLevel = "braille") -> None:
        """`detected` is the glyph level of this terminal. Without a file nothing is saved."""
        self.file = file
        self.detected: GlyphLevel = detected
        self.layout = SavedLayout() if file is None else _read(file)

    @property
    def level(self) -> GlyphLevel:
        """The glyphs for a terminal like this one."""
        return self.layout.glyphs.get(self.detected, self.detected)

    def choose_level(self, level: GlyphLevel) -> None:
        """Save the glyphs that were chosen on a terminal like this one."""
        self.change(glyphs={**self.layout.glyphs, self.detected: level})

    def change(self, **changes: Any) -> None:  # noqa: ANN401 - fields of several types
        """Change fields of the layout. Where the file cannot be written the change lasts as long as the screen."""
        changed = replace(self.layout, **changes)
        if changed == self.layout:
            return
        self.layout = changed
        if self.file is not None:
            with suppress(OSError):
                _write(self.file, changed)


def layout_file() -> Path:
    """The layout file of this user."""
    return platformdirs.user_state_path("edgetop", appauthor=False) / FILE_NAME


def _read(file: Path) -> SavedLayout:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(SIZE_MAX), type=SavedLayout)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return SavedLayout()


def _write(file: Path, layout: SavedLayout) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        new.write_bytes(msgspec.json.format(msgspec.json.encode(layout)) + b"\n")
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def share_rows(titles: tuple[str, ...], rows: int) -> dict[str, int]:
    """How `rows` are shared among the panes of some titles; 0 for those that there is no room for.

    Each gets what it needs, the first ones first, then what shows all of its text, then what gives its graph room.
    The rest goes to the first one with a graph.
    """
    shares = dict.fromkeys(titles, 0)
    left = rows
    for title in titles:
        if left >= PANES[title].rows_min:
            shares[title] = PANES[title].rows_min
            left -= shares[title]
    shown = sorted((PANES[title] for title in titles if shares[title]), key=lambda pane: pane.growth_order)
    for target in ("rows_full", "rows_ample"):
        for pane in shown:
            more = min(left, max(0, getattr(pane, target) - shares[pane.title]))
            shares[pane.title] += more
            left -= more
    if shown:
        shares[min(shown, key=lambda pane: (not pane.has_graph, titles.index(pane.title))).title] += left
    return shares


class PaneColumn(Vertical):
    """Draws the panes that are shown, and shares its rows among them."""

    DEFAULT_CSS = """
    PaneColumn.empty { display: none; }
    """

    def __init__(self, *, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self.order: tuple[str, ...] = TITLES
        self.hidden: frozenset[str] = frozenset()
        self.zoomed = ""
        """Title of the zoomed pane; empty where none is."""
        self.has_keys = False
        """The keys act on the panes, so that the focus is drawn."""
        self.history = ChartHistory()
        """The series behind the graphs, and how much time they show."""
        self.now = NowWidget()
        self._view: View | None = None
        self._folded: frozenset[str] = frozenset()
        """Titles of the panes that could only say that there is no power."""
        self._focused = TITLES[0]
        self._widgets = {title: PaneWidget(pane) for title, pane in PANES.items()}

    def compose(self) -> ComposeResult:
        """The headline figures, and one pane below the other."""
        yield self.now
        for title in self.order:
            yield self._widgets[title]

    def on_mount(self) -> None:
        """Apply what was set before there was a screen."""
        self._apply()

    def on_resize(self, event: events.Resize) -> None:
        """Share the new number of rows."""
        self._share(event.size)

    @property
    def shown(self) -> tuple[str, ...]:
        """Titles of the panes that are not hidden, from the top."""
        return tuple(title for title in self.order if title not in self.hidden | self._folded)

    @property
    def focused(self) -> str:
        """Title of the pane that the keys act on; empty where no pane is shown."""
        return self._focused if self._focused in self.shown else next(iter(self.shown), "")

    @property
    def rows_min(self) -> int:
        """Rows that the shown panes need."""
        return 1 + sum(PANES[title].rows_min for title in self.shown)

    @property
    def missing_power(self) -> Unavailable | None:
        """Why there is no power, if that is what folded the panes."""
        power = None if self._view is None else self._view.snapshot.power
        return power if self._folded and isinstance(power, Unavailable) else None

    def with_layout(self, view: View) -> View:
        """`view` with the layout of the panes."""
        return replace(
            view,
            hidden=self.hidden,
            order=self.order,
            focus=self.focused if self.has_keys else "",
        )

    def show(self, view: View) -> None:
        """Draw the panes that can be seen."""
        folded = frozenset({"power", "energy"}) if has_no_power(view) else frozenset()
        self._view = view
        if folded != self._folded:
            self._folded = folded
            self._apply()
        elif folded and not self.zoomed and self.now.rows(self.size, view) != self.now.size.height:
            self._share(self.size)  # the reason has become longer or shorter
        view = self.with_layout(view)
        self.now.show(view)
        for title in [self.zoomed] if self.zoomed else self.shown:
            self._widgets[title].show(view, zoomed=bool(self.zoomed))

    def apply_layout(self, layout: SavedLayout) -> None:
        """Apply a saved layout; panes that it does not name come last, and names that are no panes are ignored."""
        known = [title for title in dict.fromkeys(layout.order) if title in TITLES]
        self.order = (*known, *(title for title in TITLES if title not in known))
        self.hidden = frozenset(layout.hidden) & frozenset(TITLES)
        self.history = ChartHistory(layout.span, self.history.scales)
        self._apply()

    @property
    def layout_fields(self) -> dict[str, Any]:
        """Fields of a `SavedLayout`, as they are now."""
        return {"order": self.order, "hidden": tuple(sorted(self.hidden)), "span": self.history.span}

    def toggle(self, number: int) -> None:
        """Show or hide a pane by its number, which does not depend on the order."""
        title = TITLES[number - 1]
        self.hidden ^= {title}
        if self.zoomed == title:
            self.zoomed = ""
        self._apply()

    def move_focus(self, step: int) -> None:
        """Move the focus to the pane below or above, and the zoom with it."""
        shown = self.shown
        if not shown:
            return
        if self.has_keys:
            self._focused = shown[(shown.index(self.focused) + step) % len(shown)]
        self.has_keys = True
        if self.zoomed:
            self.zoomed = self._focused
            self._apply()

    def focus_on(self, title: str) -> None:
        """Focus a pane."""
        if title in self.shown:
            self._focused = title

    def zoom(self, *, on: bool | None = None) -> None:
        """Zoom the focused pane, or show all again."""
        zoomed = not self.zoomed if on is None else on
        self.zoomed = self.focused if zoomed else ""
        self._apply()

    def move_pane(self, step: int) -> None:
        """Move the focused pane one place down or up."""
        shown, title = self.shown, self.focused
        if not title or not 0 <= shown.index(title) + step < len(shown):
            return
        other = shown[shown.index(title) + step]
        swapped = {title: other, other: title}
        self.order = tuple(swapped.get(each, each) for each in self.order)
        self._apply()

    def _apply(self) -> None:
        self.set_class(not self.shown, "empty")
        if not self.is_mounted:
            return
        self.now.display = not self.zoomed
        for index, title in enumerate(self.order, 1):
            pane = self._widgets[title]
            pane.display = title == self.zoomed if self.zoomed else title in self.shown
            if self.children[index] is not pane:
                self.move_child(pane, before=index)
        self._share(self.size)

    def _share(self, size: Size) -> None:
        if self.zoomed:
            self._widgets[self.zoomed].styles.height = "1fr"
            return
        head = self.now.rows(size, self._view)
        self.now.styles.height = head
        for title, height in share_rows(self.shown, max(0, size.height - head)).items():
            self._widgets[title].styles.height = height

"""The settings: editor (value, origin, effect, writing), rows, and how a change reaches a running session."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from msgspec.structs import replace
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding

from edgetop.core.energy.duty import Price
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.text import one_line
from edgetop.live.chat_session import LiveSession
from edgetop.settings import options
from edgetop.settings.config_file import in_words, set_in_file, shown, texts_of, unset_in_file
from edgetop.settings.option import TITLES, Option, Section
from edgetop.settings.resolve import (
    DEFAULT,
    Settings,
    default_config_file,
    engine_settings,
    is_of_file,
    left_open,
    read_value,
    resolve,
    sampling_settings,
)
from edgetop.tui.glyphs import GlyphLevel, detect_level, without_coerced_locale
from edgetop.tui.keys import SETTINGS
from edgetop.tui.screens.base import bindings
from edgetop.tui.screens.list import ListScreen
from edgetop.tui.screens.monitor import DisplayOptions
from edgetop.tui.styled_text import Line, Span, fit_text, line_of, shortened, wrap
from edgetop.tui.themes import DEFAULT_THEME, PREFIX
from edgetop.tui.widgets import LONGEST, InputLine, KeyBar, LinesWidget

if TYPE_CHECKING:
    from edgetop.tui.screens.live import LiveScreen


CHANGED: Final = "changed here"

Effect = Literal["at once", "from the next prompt on", "when a model is loaded", "from the next start on"]

_EFFECTS: Final[dict[Section, Effect]] = {
    "search": "at once",
    "engine": "when a model is loaded",
    "sampling": "from the next prompt on",
    "screen": "at once",
    "price": "at once",
}

_AT_START: Final = (options.ENGINE, options.NO_COLOR)

Apply = Callable[[Settings, Option[object]], None]
"""Lets a changed setting take effect."""


def effect_of(option: Option[object]) -> Effect:
    """When a change of the setting takes effect."""
    return "from the next start on" if option in _AT_START else _EFFECTS.get(option.section, "from the next start on")


class SettingsEditor:
    """Every setting as it is now; `apply` hears of each change that can take effect before the next start."""

    def __init__(self, settings: Settings, file: Path, *, apply: Apply, themes: Sequence[str] = ()) -> None:
        """`settings` are those that edgetop was started with, `file` is the configuration file that is written."""
        self.settings = settings
        self.file = file
        self._apply = apply
        self._themes = tuple(themes)
        self._kept = settings
        """What the next start would find, as far as nothing else is changed."""

    def choices(self, option: Option[object]) -> tuple[str, ...]:
        """The texts that the setting walks through; empty where its value is typed."""
        if option.is_switch:
            return ("true", "false")
        return self._themes if option is options.THEME else option.choices

    def origin(self, option: Option[object]) -> str:
        """Where the value comes from, in one word or two."""
        origin = self.settings.origin(option)
        if origin in {DEFAULT, CHANGED}:
            return origin
        if origin.startswith("-"):
            return "flag"
        return "environment" if origin in {option.env, option.also_env} else "file"

    def is_changed(self, option: Option[object]) -> bool:
        """Whether it was changed since the start, and not written."""
        return self.settings[option] != self._kept[option]

    def changed(self) -> list[Option[object]]:
        """The settings that were changed and could be written."""
        return [option for option in options.OPTIONS if is_of_file(option) and self.is_changed(option)]

    def text(self, option: Option[object]) -> str | None:
        """The value as it is typed; `None` for one that has no room in a line."""
        texts = texts_of(self.settings[option])
        text = shlex.join(texts) if option.join is not None else "".join(texts)
        return text if text.isprintable() else None

    def change(self, option: Option[object], typed: str) -> str:
        """Give the setting what was typed; nothing is the default. Says what comes of it. Raises UsageError."""
        if not is_of_file(option):
            raise UsageError(f"{option.name} is for one run", f"give it as {option.flags[-1]} when edgetop starts")
        if not typed.strip():
            return self._take(option, option.default, DEFAULT)
        try:
            texts = shlex.split(typed) if option.join is not None else [typed]
        except ValueError:
            raise UsageError(f"{option.name}: a quotation mark is open", "close it") from None
        return self._take(option, read_value(option, texts, option.name), CHANGED)

    def step(self, option: Option[object]) -> str:
        """Go on to the next of the setting's choices; the first one is what holds where none was made."""
        choices = self.choices(option)
        now = "".join(texts_of(self.settings[option]))
        index = choices.index(now) if now in choices else 0
        return self.change(option, choices[(index + 1) % len(choices)])

    def write(self, chosen: Sequence[Option[object]]) -> str:
        """Write settings into the configuration file; those that are the default are taken out of it.

        Raises EdgetopError.
        """
        above = []
        for option in chosen:
            texts = texts_of(self.settings[option])
            if self.settings.origin(option) == DEFAULT:
                unset_in_file(self.file, option)
            elif texts or option.join is not None:
                set_in_file(self.file, option, texts)
            before = self._kept.origin(option)
            if before.startswith("-") or before in {option.env, option.also_env}:
                above.append(before)
            self._kept = self._kept.changed(option, self.settings[option], before)
            if self.origin(option) == CHANGED:
                self.settings = self.settings.changed(option, self.settings[option], str(self.file))
        what = chosen[0].name if len(chosen) == 1 else f"{len(chosen)} settings"
        over = f"; {', '.join(above)} still comes before it" if above else ""
        return f"{what} written to {self.file}{over}"

    def _take(self, option: Option[object], value: object, origin: str) -> str:
        self.settings = self.settings.changed(option, value, origin)
        effect = effect_of(option)
        if effect == "from the next start on":
            return f"{option.name}: {shown(value)}, from the next start on if it is written (w)"
        self._apply(self.settings, option)
        return f"{option.name}: {shown(value)}, {effect}"


Row = str | Option[object]
"""The heading of a section, or a setting."""

MARKS = 2

NAME_COLUMNS, ORIGIN_COLUMNS = 17, 12

WIDE_COLUMNS = 56
"""Below this there is no room for where a value comes from."""


def rows_of(words: Sequence[str]) -> list[Row]:
    """The settings that have all of `words` in their name, section, flags or description, below their headings."""
    wanted = [word.casefold() for word in words]
    rows: list[Row] = []
    for option in options.OPTIONS:
        told = " ".join([option.name, option.section, *option.flags, option.help]).casefold()
        if all(word in told for word in wanted):
            if TITLES[option.section] not in rows:
                rows.append(TITLES[option.section])
            rows.append(option)
    return rows


def row_line(row: Row, desk: SettingsEditor, width: int, *, chosen: bool, level: GlyphLevel) -> Line:
    """A row in `width` cells. The chosen one begins with `>`, one that was changed and not written has `*`."""
    if isinstance(row, str):
        return line_of(Span(fit_text(row, width), "title"))
    changed = desk.is_changed(row)
    marks = f"{'>' if chosen else ' '}{'*' if changed else ' '}"
    origin = f" {desk.origin(row):<{ORIGIN_COLUMNS}}" if width >= WIDE_COLUMNS else ""
    room = width - MARKS - NAME_COLUMNS - 1 - len(origin)
    value = shortened(one_line(shown(desk.settings[row]), ascii=level == "ascii"), room, level)
    is_default = desk.origin(row) == "default"
    if chosen:
        return (Span(fit_text(f"{marks}{row.name:<{NAME_COLUMNS}} {fit_text(value, room)}{origin}", width), "key"),)
    return (
        Span(f"{marks}{row.name:<{NAME_COLUMNS}} ", "warning" if changed else "text"),
        Span(fit_text(value, room), "dim" if is_default else "text"),
        Span(origin, "dim"),
    )


def about_lines(row: Row | None, desk: SettingsEditor, width: int, height: int) -> list[Line]:
    """What the setting does, where its value comes from and when a change takes effect, in `height` lines."""
    if not isinstance(row, Option):
        return []
    takes = f"takes effect {effect_of(row)}"
    ways = ", ".join(part for part in (*row.flags, row.env if not row.flag_only else "") if part)
    origin = f"from {one_line(desk.settings.origin(row))}" if desk.origin(row) == "file" else desk.origin(row)
    choices = ", ".join(desk.choices(row)) if not row.is_switch else ""
    told = [in_words(row), f"One of {choices}." if choices else "", row.about, f"Also {ways}."]
    head = Span(shortened(f"{origin}; {takes}", width, "ascii"), "accent")
    text = " ".join(part for part in told if part)
    wrapped = [line_of(part.rstrip()) for part in wrap(text, max(1, width))]
    return [line_of(head), *wrapped][:height]


Attempt = Callable[[], str]
"""Something that says what came of it, or raises EdgetopError."""

VALUE = "value"
"""What the bottom line asks for besides a filter."""

TALL_ROWS = 20

ABOUT_ROWS, ABOUT_ROWS_SMALL = 6, 3


class SettingsScreen(ListScreen):
    """Esc goes back; what was changed stays as it is, and is gone at the end unless it was written."""

    TABLE = SETTINGS
    BINDINGS: ClassVar[list[Binding]] = bindings(SETTINGS)  # type: ignore[assignment]
    DEFAULT_CSS = """
    SettingsScreen > #about { height: 3; }
    SettingsScreen.high > #about { height: 7; padding: 1 1 0 1; }
    """

    def __init__(self, desk: SettingsEditor, level: GlyphLevel) -> None:
        super().__init__(level, at=1)
        self._desk = desk
        self._rows: list[Row] = rows_of(())

    def compose(self) -> ComposeResult:
        """Title, list, what the chosen setting is, and keys or a question."""
        yield LinesWidget(id="title")
        yield LinesWidget(id="list")
        yield LinesWidget(id="about")
        yield KeyBar(id="keys")
        yield InputLine(self._level, id="input")

    def on_resize(self, event: events.Resize) -> None:
        """Draw everything for the size there is."""
        self.set_class(event.size.height >= TALL_ROWS, "high")
        self.call_after_refresh(self._draw)

    # Drawing

    def _draw(self) -> None:
        if not self.is_whole:
            return
        self._scroll()
        changed = len(self._desk.changed())
        unwritten = line_of(Span(f"{changed} not written", "warning")) if changed else ()
        title = self._title(line_of(Span("settings", "title")), unwritten, where=str(self._desk.file))
        self._show("title", [title])
        shown = range(self._top, min(self._top + self._height, len(self._rows)))
        nothing = line_of(Span("no setting has this in its name or description", "dim"))
        rows = [
            row_line(self._rows[index], self._desk, self._width, chosen=index == self._at, level=self._level)
            for index in shown
        ]
        self._show("list", rows or [nothing])
        height = ABOUT_ROWS if self.has_class("high") else ABOUT_ROWS_SMALL
        self._show("about", about_lines(self._row, self._desk, self._width, height))
        self._show_keys()

    def _scroll(self) -> None:
        """Keep the chosen row in view, and the heading above the first one."""
        height = max(1, self._height)
        wanted = self._at - 1 if self._at == 1 else self._at
        self._top = min(max(self._top, self._at - height + 1, 0), wanted, max(0, len(self._rows) - height))
        self._top = max(0, self._top)

    @property
    def _row_count(self) -> int:
        return len(self._rows)

    @property
    def _row(self) -> Row | None:
        return self._rows[self._at] if self._at < len(self._rows) else None

    @property
    def _chosen(self) -> Option[object] | None:
        return self._row if isinstance(self._row, Option) else None

    # Keys

    def _open_row(self, index: int, *, twice: bool) -> None:
        if isinstance(self._rows[index], Option):
            self._at = index
            self._draw()
            if twice:
                self.action_edit()

    def action_move(self, rows: int) -> None:
        """Choose another setting."""
        at = max(0, min(self._at + rows, len(self._rows) - 1))
        if self._rows and not isinstance(self._rows[at], Option):
            at += 1 if rows > 0 or at == 0 else -1
        self._at = at
        self._draw()

    def action_step(self) -> None:
        """Switch the chosen setting, or go on to the next of its values."""
        option = self._chosen
        if option is not None and self._desk.choices(option):
            self._attempt(lambda: self._desk.step(option))

    def action_edit(self) -> None:
        """Change the chosen setting: the next of its values, or a line to type into."""
        option = self._chosen
        if option is None:
            return
        if self._desk.choices(option):
            self._attempt(lambda: self._desk.step(option))
            return
        text = self._desk.text(option)
        if text is None or len(text) > LONGEST:
            self._say(f"{option.name} has more than one line; change it in {self._desk.file}")
        else:
            self._ask(VALUE, f"{option.name}:", text)

    def action_reset(self) -> None:
        """Go back to the default."""
        option = self._chosen
        if option is not None:
            self._attempt(lambda: self._desk.change(option, ""))

    def action_write(self) -> None:
        """Write the chosen setting into the configuration file."""
        option = self._chosen
        if option is not None:
            self._attempt(lambda: self._desk.write([option]))

    def action_write_all(self) -> None:
        """Write all settings that were changed."""
        changed = self._desk.changed()
        if changed:
            self._attempt(lambda: self._desk.write(changed))
        else:
            self._say("nothing was changed", "accent")

    # Questions

    def _attempt(self, change: Attempt) -> None:
        try:
            said = change()
        except EdgetopError as error:
            self._say(f"{error.what}; {error.hint}")
        else:
            self._say(said, "accent")

    def _filter(self, words: list[str]) -> None:
        """Show the settings with these words; the one that is called so is chosen, else the one that was, if it can."""
        chosen = self._chosen
        self._words = words
        self._rows = rows_of(words)
        named = [index for index, row in enumerate(self._rows) if isinstance(row, Option) and [row.name] == words]
        kept = [index for index, row in enumerate(self._rows) if row is chosen]
        self._at = (named or kept or [1])[0]
        self._top = 0
        self._draw()

    def _answer(self, asked: str, text: str) -> None:
        option = self._chosen
        if asked == VALUE and option is not None:
            self._attempt(lambda: self._desk.change(option, text))


_SAMPLING: dict[str, Option[Any]] = {
    "temperature": options.TEMP,
    "top_k": options.TOP_K,
    "top_p": options.TOP_P,
    "min_p": options.MIN_P,
    "repeat_penalty": options.REPEAT_PENALTY,
    "seed": options.SEED,
    "max_tokens": options.MAX_TOKENS,
    "stop": options.STOP,
}


def open_settings(screen: LiveScreen, live: LiveSession) -> None:
    """Open the page over the live screen."""
    if screen.desk is None:
        started = screen.settings or resolve({})
        screen.desk = SettingsEditor(
            started,
            started.config_file or default_config_file(),
            apply=lambda changed, option: _apply(changed, option, screen, live),
            themes=[name.removeprefix(PREFIX) for name in screen.app.available_themes if name.startswith(PREFIX)],
        )
    screen.desk.settings = _as_they_are(screen.desk.settings, screen, live)
    screen.app.push_screen(SettingsScreen(screen.desk, screen.looks.level))


def _as_they_are(settings: Settings, screen: LiveScreen, live: LiveSession) -> Settings:
    """The settings with what has been changed by keys and by commands since the start."""
    sampling, looks = live.conversation.sampling, screen.looks
    now: list[tuple[Option[Any], object]] = [
        *((option, getattr(sampling, field)) for field, option in _SAMPLING.items()),
        (options.SYSTEM, live.conversation.system),
        (options.DELAY, looks.delay_s),
        (options.PRICE_PER_KWH, None if looks.price is None else looks.price.per_kwh),
    ]
    theme = screen.app.theme
    if theme != PREFIX + (settings[options.THEME] or DEFAULT_THEME).removeprefix(PREFIX):
        now.append((options.THEME, theme.removeprefix(PREFIX)))
    if looks.level != _level(settings):
        now.append((options.ASCII, looks.level == "ascii"))
    for option, value in now:
        if settings[option] != value:
            settings = settings.changed(option, value, CHANGED)
    return settings


def _apply(settings: Settings, option: Option[object], screen: LiveScreen, live: LiveSession) -> None:
    """Let a change take effect where it can before the next start."""
    conversation = live.conversation
    if option is options.SYSTEM:
        conversation.system = settings[options.SYSTEM]
    elif option.section == "sampling":
        drawn = sampling_settings(settings)
        conversation.sampling = replace(conversation.sampling, **{field: getattr(drawn, field) for field in _SAMPLING})
    elif option.section in {"engine", "search"}:
        live.options = replace(
            live.options,
            engine=engine_settings(settings),
            left_open=left_open(settings) if settings[options.SERVER] is None else frozenset(),
            model_folders=settings[options.MODEL_DIR],
        )
    elif option is options.THEME:
        screen.app.theme = PREFIX + (settings[options.THEME] or DEFAULT_THEME).removeprefix(PREFIX)
    else:
        per_kwh = settings[options.PRICE_PER_KWH]
        price = None if per_kwh is None else Price(per_kwh=per_kwh, currency=settings[options.CURRENCY])
        level = _level(settings) if option is options.ASCII else screen.looks.level
        screen.look(DisplayOptions(level, settings[options.DELAY], price))


def _level(settings: Settings) -> GlyphLevel:
    return "ascii" if settings[options.ASCII] else detect_level(without_coerced_locale(os.environ))

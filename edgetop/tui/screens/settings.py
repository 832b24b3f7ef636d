"""The settings: editor (value, origin, effect, writing), rows, and how a change reaches a running session."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from msgspec.structs import replace
from textual import events
from textual.app import App
from textual.widget import Widget

from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.format import Column
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
    price_of,
    read_value,
    resolve,
    sampling_settings,
)
from edgetop.tui.keys import SETTINGS
from edgetop.tui.screens.list import MARKS, ListScreen
from edgetop.tui.screens.monitor import DisplayOptions
from edgetop.tui.styled_text import Line, Role, Span, line_of, shortened, wrap
from edgetop.tui.themes import PREFIX, GlyphLevel, default_theme, detect_level, without_coerced_locale
from edgetop.tui.widgets import LONGEST, LinesWidget

CHANGED: Final = "changed here"
Effect = Literal["at once", "from the next prompt on", "when a model is loaded", "from the next start on"]

_EFFECTS: Final[dict[Section, Effect]] = {
    "search": "at once",
    "engine": "when a model is loaded",
    "sampling": "from the next prompt on",
    "screen": "at once",
    "price": "at once",
    "use": "at once",
}

_AT_START: Final = (options.ENGINE, options.NO_COLOR)
Apply = Callable[[Settings, Option[object]], None]
"""Lets a changed setting take effect."""


def effect_of(option: Option[object]) -> Effect:
    """When a change of the setting takes effect."""
    return "from the next start on" if option in _AT_START else _EFFECTS.get(option.section, "from the next start on")


class SettingsEditor:
    """Every setting as it is now; `apply` is called with each change that can take effect before the next start."""

    def __init__(self, settings: Settings, file: Path, *, apply: Apply, themes: Sequence[str] = ()) -> None:
        """`settings` are those that edgetop was started with, `file` is the configuration file that is written."""
        self.settings = settings
        self.file = file
        self._apply = apply
        self._themes = tuple(themes)
        self._written = settings
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
        return self.settings[option] != self._written[option]

    def changed(self) -> list[Option[object]]:
        """The settings that were changed and could be written."""
        return [option for option in options.OPTIONS if is_of_file(option) and self.is_changed(option)]

    def text(self, option: Option[object]) -> str | None:
        """The value as it is typed; `None` for one that has no room in a line."""
        texts = texts_of(self.settings[option])
        text = shlex.join(texts) if option.is_list else "".join(texts)
        return text if text.isprintable() else None

    def change(self, option: Option[object], typed: str) -> str:
        """Give the setting what was typed; nothing is the default. Says what comes of it. Raises UsageError."""
        if not is_of_file(option):
            raise UsageError(f"{option.name} is for one run", f"give it as {option.flags[-1]} when edgetop starts")
        if not typed.strip():
            return self._set(option, option.default, DEFAULT)
        try:
            texts = shlex.split(typed) if option.is_list else [typed]
        except ValueError:
            raise UsageError(f"{option.name}: a quotation mark is open", "close it") from None
        return self._set(option, read_value(option, texts, option.name), CHANGED)

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
            elif texts or option.is_list:
                set_in_file(self.file, option, texts)
            before = self._written.origin(option)
            if before.startswith("-") or before in {option.env, option.also_env}:
                above.append(before)
            self._written = self._written.changed(option, self.settings[option], before)
            if self.origin(option) == CHANGED:
                self.settings = self.settings.changed(option, self.settings[option], str(self.file))
        what = chosen[0].name if len(chosen) == 1 else f"{len(chosen)} settings"
        over = f"; {', '.join(above)} still comes before it" if above else ""
        return f"{what} written to {self.file}{over}"

    def _set(self, option: Option[object], value: object, origin: str) -> str:
        self.settings = self.settings.changed(option, value, origin)
        effect = effect_of(option)
        if effect == "from the next start on":
            return f"{option.name}: {shown(value)}, from the next start on if it is written (Ctrl+S)"
        self._apply(self.settings, option)
        return f"{option.name}: {shown(value)}, {effect}"


Row = str | Option[object]
"""The heading of a section, or a setting."""


def rows_of(words: Sequence[str]) -> list[Row]:
    """The settings that have all of `words` in their name, section, flags or description, below their headings."""
    wanted = [word.casefold() for word in words]
    rows: list[Row] = []
    for option in options.OPTIONS:
        text = " ".join([option.name, option.section, *option.flags, option.help]).casefold()
        if all(word in text for word in wanted):
            if TITLES[option.section] not in rows:
                rows.append(TITLES[option.section])
            rows.append(option)
    return rows


def _columns(editor: SettingsEditor, width: int) -> Sequence[Column[Row]]:
    """Name, value and origin in `width` cells; where there is little room, without the origin."""

    def cell(text: Callable[[Option[object]], str]) -> Callable[[Row], str]:
        return lambda row: text(row) if isinstance(row, Option) else ""

    def role(marked: Role, is_marked: Callable[[Option[object]], bool]) -> Callable[[Row], Role]:
        return lambda row: marked if isinstance(row, Option) and is_marked(row) else "text"

    room = width - MARKS - 17 - 1 - (13 if width >= WIDE_COLUMNS else 0)
    names = Column(
        heading="",
        text=cell(lambda option: option.name),
        usual=17,
        importance=2,
        role=role("warning", editor.is_changed),
    )
    values = Column(
        heading="",
        text=cell(lambda option: shown(editor.settings[option])),
        usual=room,
        most=room,
        importance=1,
        role=role("dim", lambda option: editor.origin(option) == DEFAULT),
    )
    origins = Column[Row](heading="", text=cell(editor.origin), usual=12, role=lambda _row: "dim")
    return (names, values, origins) if width >= WIDE_COLUMNS else (names, values)


def about_lines(row: Row | None, editor: SettingsEditor, width: int, height: int, level: GlyphLevel) -> list[Line]:
    """What the setting does, where its value comes from and when a change takes effect, in `height` lines."""
    if not isinstance(row, Option):
        return []
    ways = ", ".join(part for part in (*row.flags, row.env if not row.flag_only else "") if part)
    origin = f"from {one_line(editor.settings.origin(row))}" if editor.origin(row) == "file" else editor.origin(row)
    choices = ", ".join(editor.choices(row)) if not row.is_switch else ""
    parts = [in_words(row), f"One of {choices}." if choices else "", row.about, f"Also {ways}."]
    head = Span(shortened(f"{origin}; takes effect {effect_of(row)}", width, level), "accent")
    wrapped = [line_of(part.rstrip()) for part in wrap(" ".join(part for part in parts if part), max(1, width))]
    return [line_of(head), *wrapped][:height]


VALUE = "value"
"""What the bottom line asks for besides a filter."""

WIDE_COLUMNS = 56
"""Below this there is no room for where a value comes from."""

TALL_ROWS = 20
ABOUT_ROWS, ABOUT_ROWS_SMALL = 6, 3


class SettingsScreen(ListScreen[Row, None]):
    """Esc goes back; changes stay until the end, and are gone then unless they were written."""

    TABLE = SETTINGS
    GAP = 1
    DEFAULT_CSS = """
    SettingsScreen > #about { height: 3; }
    SettingsScreen.high > #about { height: 7; padding: 1 1 0 1; }
    """

    def __init__(self, editor: SettingsEditor, level: GlyphLevel) -> None:
        super().__init__(level, (), rows_of(()))
        self._editor = editor

    def _compose_below(self) -> Iterable[Widget]:
        yield LinesWidget(id="about")

    def on_resize(self, event: events.Resize) -> None:
        """Draw everything for the size there is."""
        self.set_class(event.size.height >= TALL_ROWS, "high")
        super().on_resize(event)

    # Drawing

    def _arrange(self, *, follow: bool = True) -> None:
        self._columns = _columns(self._editor, self._width)
        super()._arrange(follow=follow)

    def _matching(self) -> list[Row]:
        return rows_of(self._words)

    def _in_one_piece(self, row: Row) -> str | None:
        return row if isinstance(row, str) else None

    def _can_be_chosen(self, row: Row) -> bool:
        return isinstance(row, Option)

    def _is_marked(self, row: Row) -> bool:
        return isinstance(row, Option) and self._editor.is_changed(row)

    def _row_role(self, row: Row) -> Role | None:
        return "title" if isinstance(row, str) else None

    def _title_line(self) -> Line:
        changed = len(self._editor.changed())
        unwritten = line_of(Span(f"{changed} not written", "warning")) if changed else ()
        return self._title(line_of(Span("settings", "title")), unwritten, where=self._editor.file)

    def _empty_text(self) -> str:
        return "no setting has this in its name or description"

    def _draw_around(self) -> None:
        super()._draw_around()
        height = ABOUT_ROWS if self.has_class("high") else ABOUT_ROWS_SMALL
        self._show("about", about_lines(self._chosen, self._editor, self._width, height, self._level))

    @property
    def _option(self) -> Option[object] | None:
        """The chosen setting."""
        return self._chosen if isinstance(self._chosen, Option) else None

    def _filter(self, words: list[str]) -> None:
        """Show the settings with these words; the one that is called so is chosen, else the one that was, if it can."""
        chosen = self._option
        self._words = words
        rows = rows_of(words)
        named = [at for at, row in enumerate(rows) if isinstance(row, Option) and [row.name] == words]
        same = [at for at, row in enumerate(rows) if row is chosen]
        self._at, self._top = (named or same or [1])[0], 0
        self._arrange(follow=False)

    # Keys

    def _open_row(self) -> None:
        self.action_edit()

    def action_edit(self) -> None:
        """Change the chosen setting: the next of its values, or a line to type into."""
        option = self._option
        if option is None:
            return
        if self._editor.choices(option):
            self._attempt(lambda: self._editor.step(option))
            return
        text = self._editor.text(option)
        if text is None or len(text) > LONGEST:
            self._show_message(f"{option.name} has more than one line; change it in {self._editor.file}")
        else:
            self._ask(VALUE, f"{option.name}:", text)

    def action_reset(self) -> None:
        """Go back to the default."""
        option = self._option
        if option is not None:
            self._attempt(lambda: self._editor.change(option, ""))

    def action_write(self) -> None:
        """Write the chosen setting into the configuration file."""
        option = self._option
        if option is not None:
            self._attempt(lambda: self._editor.write([option]))

    def action_write_all(self) -> None:
        """Write all settings that were changed."""
        changed = self._editor.changed()
        if changed:
            self._attempt(lambda: self._editor.write(changed))
        else:
            self._show_message("nothing was changed", "accent")

    # Questions

    def _attempt(self, change: Callable[[], str]) -> None:
        try:
            message = change()
        except EdgetopError as error:
            self._show_message(f"{error.what}; {error.hint}")
        else:
            self._show_message(message, "accent")

    def _answer(self, question: str, text: str) -> None:
        option = self._option
        if question == VALUE and option is not None:
            self._attempt(lambda: self._editor.change(option, text))


_SAMPLING: dict[str, Option[Any]] = {
    field: option for option in options.OPTIONS if option.section == "sampling" for field in option.sets
}


class SettingsTarget(Protocol):
    """What the settings reach while it runs: the live screen."""

    settings: Settings | None
    """What edgetop was started with."""
    settings_editor: SettingsEditor | None
    """The settings as they were changed, once their screen has been opened."""

    @property
    def app(self) -> App[Any]:
        """The application, for its theme."""

    @property
    def display_options(self) -> DisplayOptions:
        """How it is drawn now."""

    def apply_display(self, options: DisplayOptions) -> None:
        """Draw it in another way."""


def open_settings(target: SettingsTarget, live: LiveSession) -> None:
    """Open the settings over the live screen."""
    app = target.app
    if target.settings_editor is None:
        started = target.settings or resolve({})
        target.settings_editor = SettingsEditor(
            started,
            started.config_file or default_config_file(),
            apply=lambda changed, option: _apply(changed, option, target, live),
            themes=[name.removeprefix(PREFIX) for name in app.available_themes if name.startswith(PREFIX)],
        )
    editor = target.settings_editor
    editor.settings = _as_changed(editor.settings, target, live)
    app.push_screen(SettingsScreen(editor, target.display_options.level))


def _as_changed(settings: Settings, target: SettingsTarget, live: LiveSession) -> Settings:
    """The settings with what has been changed by keys and by commands since the start."""
    sampling, display, theme = live.conversation.sampling, target.display_options, target.app.theme
    now: list[tuple[Option[Any], object]] = [
        *((option, getattr(sampling, field)) for field, option in _SAMPLING.items()),
        (options.SYSTEM, live.conversation.system),
        (options.DELAY, display.delay_s),
        (options.PRICE_PER_KWH, None if display.price is None else display.price.per_kwh),
    ]
    if theme != _theme_name(settings):
        now.append((options.THEME, theme.removeprefix(PREFIX)))
    if display.level != _level(settings):
        now.append((options.ASCII, display.level == "ascii"))
    for option, value in now:
        if settings[option] != value:
            settings = settings.changed(option, value, CHANGED)
    return settings


def _apply(settings: Settings, option: Option[object], target: SettingsTarget, live: LiveSession) -> None:
    """Let a change take effect where it can before the next start."""
    conversation = live.conversation
    if option is options.SYSTEM:
        conversation.system = settings[options.SYSTEM]
    elif option.section == "sampling":
        chosen = sampling_settings(settings)
        conversation.sampling = replace(conversation.sampling, **{field: getattr(chosen, field) for field in _SAMPLING})
    elif option.section in {"engine", "search"}:
        live.options = replace(
            live.options,
            engine=engine_settings(settings),
            left_open=left_open(settings) if settings[options.SERVER] is None else frozenset(),
            model_folders=settings[options.MODEL_DIR],
        )
    elif option is options.THEME:
        target.app.theme = _theme_name(settings)
    else:
        level = _level(settings) if option is options.ASCII else target.display_options.level
        target.apply_display(DisplayOptions(level, settings[options.DELAY], price_of(settings)))


def _theme_name(settings: Settings) -> str:
    return PREFIX + (settings[options.THEME] or default_theme(os.environ)).removeprefix(PREFIX)


def _level(settings: Settings) -> GlyphLevel:
    return "ascii" if settings[options.ASCII] else detect_level(without_coerced_locale(os.environ))

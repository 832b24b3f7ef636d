"""Settings that are changed while edgetop runs: what they are now, what came of a change, and what was written."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings.config_file import set_in_file, unset_in_file
from edgetop.settings.lookup import is_of_file
from edgetop.settings.option import Option, Section
from edgetop.settings.resolve import DEFAULT, Settings, read_value
from edgetop.settings.shown import shown, texts_of

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


class SettingsDesk:
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

"""The settings page of the live screen: what holds there now, and how a change takes effect in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from edgetop.core.energy.supply import Price
from edgetop.live.live_session import LiveSession
from edgetop.settings import options
from edgetop.settings.engine import engine_settings, left_open, sampling_settings
from edgetop.settings.option import Option
from edgetop.settings.resolve import Settings, default_config_file, resolve
from edgetop.tui.glyphs import GlyphLevel, detect_level, without_coerced_locale
from edgetop.tui.looks import Looks
from edgetop.tui.settings_desk import CHANGED, SettingsDesk
from edgetop.tui.settings_screen import SettingsScreen
from edgetop.tui.themes import DEFAULT_THEME, PREFIX

if TYPE_CHECKING:
    from edgetop.tui.live_screen import LiveScreen

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
        screen.desk = SettingsDesk(
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
        screen.look(Looks(level, settings[options.DELAY], price))


def _level(settings: Settings) -> GlyphLevel:
    return "ascii" if settings[options.ASCII] else detect_level(without_coerced_locale(os.environ))

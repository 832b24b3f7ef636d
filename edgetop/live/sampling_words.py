"""Sampling settings in the words that a person types behind /set."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from edgetop.core.engine import SamplingSettings


class SettingError(ValueError):
    """A sampling setting that cannot be; the text says why."""


PARSERS: dict[str, Callable[[str], float | int | None]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repeat_penalty": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "repeat_last_n": int,
    "seed": lambda text: None if text == "random" else int(text),
    "max_tokens": lambda text: None if text == "none" else int(text),
}
"""By the name of each setting, what reads its value."""
_LEAST = {"temperature": 0.0, "top_k": 0, "top_p": 0.0, "min_p": 0.0, "repeat_penalty": 0.0, "max_tokens": 1, "seed": 0}
_MOST = {"top_p": 1.0, "min_p": 1.0, "seed": 2**32 - 2}


def settings_words(sampling: SamplingSettings) -> str:
    """The present settings, in the words that `with_setting` takes."""
    absent = {"seed": "random", "max_tokens": "none"}
    values = {name: getattr(sampling, name) for name in PARSERS}
    return ", ".join(f"{name} {absent[name] if value is None else value}" for name, value in values.items())


def with_setting(sampling: SamplingSettings, argument: str) -> SamplingSettings:
    """`sampling` with one setting changed, as in `temperature 0.2`. Raises SettingError."""
    name, _, text = argument.partition(" ")
    name = {"temp": "temperature"}.get(name, name)
    if name not in PARSERS:
        raise SettingError(f"There is no setting {name!r}. There are: {', '.join(PARSERS)}.")
    try:
        value = PARSERS[name](text.strip())
    except ValueError:
        raise SettingError(f"{name} wants a number.") from None
    if value is not None and not _LEAST.get(name, -2.0) <= value <= _MOST.get(name, 1e9):
        raise SettingError(f"{name} cannot be {text.strip()}.")
    return replace(sampling, **{name: value})

"""Commands that are typed into the prompt behind a slash."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from edgetop.core.engine import SamplingSettings


class SlashCommand(NamedTuple):
    """One command, what follows it, and what it does."""

    name: str
    argument: str
    does: str


COMMANDS: tuple[SlashCommand, ...] = (
    SlashCommand("help", "", "keys and commands"),
    SlashCommand("model", "[NAME]", "load another model in place of this one; without a name, choose"),
    SlashCommand("system", "[TEXT]", "show or set the system prompt; - removes it"),
    SlashCommand("set", "[NAME VALUE]", "show or set sampling: temperature, top_k, max_tokens, seed ..."),
    SlashCommand("clear", "", "forget the conversation; the session keeps what was recorded"),
    SlashCommand("retry", "", "answer the last prompt once more"),
    SlashCommand("continue", "", "go on with an answer that was stopped"),
    SlashCommand("reload", "", "start the engine again with the same model"),
    SlashCommand("load", "FILE", "put a file's text into the prompt"),
    SlashCommand("stats", "", "the figures of this session"),
    SlashCommand("quit", "", "quit; the session is saved"),
)


class SettingError(ValueError):
    """A sampling setting that cannot be; the text says why."""


def parse(text: str) -> tuple[str, str] | None:
    """Name and argument of a command; `None` for a prompt. A prompt may begin with two slashes to mean one."""
    if not text.startswith("/") or text.startswith("//"):
        return None
    name, *argument = text[1:].split(maxsplit=1) or [""]
    return name, "".join(argument).strip()


def completions(text: str) -> list[str]:
    """Commands that `text` may become."""
    if not text.startswith("/") or " " in text:
        return []
    return [f"/{command.name}" for command in COMMANDS if command.name.startswith(text[1:])]


_PARSERS: dict[str, Callable[[str], float | int | None]] = {
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
_LEAST = {"temperature": 0.0, "top_k": 0, "top_p": 0.0, "min_p": 0.0, "repeat_penalty": 0.0, "max_tokens": 1, "seed": 0}
_MOST = {"top_p": 1.0, "min_p": 1.0, "seed": 2**32 - 2}


def settings_words(sampling: SamplingSettings) -> str:
    """The present settings, in the words that `with_setting` takes."""
    absent = {"seed": "random", "max_tokens": "none"}
    values = {name: getattr(sampling, name) for name in _PARSERS}
    return ", ".join(f"{name} {absent[name] if value is None else value}" for name, value in values.items())


def with_setting(sampling: SamplingSettings, argument: str) -> SamplingSettings:
    """`sampling` with one setting changed, as in `temperature 0.2`. Raises SettingError."""
    name, _, text = argument.partition(" ")
    name = {"temp": "temperature"}.get(name, name)
    if name not in _PARSERS:
        raise SettingError(f"There is no setting {name!r}. There are: {', '.join(_PARSERS)}.")
    try:
        value = _PARSERS[name](text.strip())
    except ValueError:
        raise SettingError(f"{name} wants a number.") from None
    if value is not None and not _LEAST.get(name, -2.0) <= value <= _MOST.get(name, 1e9):
        raise SettingError(f"{name} cannot be {text.strip()}.")
    return replace(sampling, **{name: value})

"""Values of settings as text: for a person to read, as their parsers read them, and for the configuration file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetop.settings.option import Option

TomlValue = bool | int | float | str | list[str] | dict[str, bool | int | float | str]
NOT_SET = "not set"


def shown(value: object) -> str:
    """A value for a person."""
    match value:
        case None:
            return NOT_SET
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(_text(part) for part in value) or "none"
    return _text(value)


def texts_of(value: object) -> list[str]:
    """A value as texts that its setting's parser reads again; none for a value that is not set."""
    match value:
        case None:
            return []
        case tuple():
            return [_text(part) for part in value]
    return [_text(value)]


def plain(value: object) -> object:
    """A value as JSON has it."""
    match value:
        case Path():
            return str(value)
        case tuple():
            return [plain(part) for part in value]
    return value


def toml_value(option: Option[object], texts: Sequence[str]) -> TomlValue:
    """What stands in the configuration file for texts that the setting's parser has accepted.

    A number that was written in another way, such as 4k, stays a text, and so does a path with ~.
    """
    parsed = [option.parse(text) for text in texts]
    if option.join is None:
        value = parsed[0]
        return value if isinstance(value, bool) else _number(value, texts[0])
    pairs = [pair for several in parsed if isinstance(several, tuple) for pair in several if isinstance(pair, tuple)]
    return dict(pairs) if pairs else list(texts)


def _number(value: object, text: str) -> TomlValue:
    """The number that `text` is when it is written as numbers are, whole if it is; else `text`."""
    if not isinstance(value, int | float) or _text(value) != text.strip():
        return text
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: object) -> str:
    match value:
        case (str() as key, part):
            return f"{key}={_text(part)}"
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)

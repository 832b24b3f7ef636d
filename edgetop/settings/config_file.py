"""Values as text and TOML; change the file; template; listing."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetop.core.errors import EdgetopError, UsageError
from edgetop.io.files import changing, replacement, toml_text
from edgetop.settings import options
from edgetop.settings.option import SECTIONS, Option
from edgetop.settings.resolve import Settings, is_of_file, read_value

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


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
    if not option.is_list:
        value = parsed[0]
        return value if isinstance(value, bool) else _number(value, texts[0])
    pairs = [pair for several in parsed if isinstance(several, tuple) for pair in several if isinstance(pair, tuple)]
    return {key: str(part) if isinstance(part, Path) else part for key, part in pairs} if pairs else list(texts)


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


NEW_FILE_MODE = 0o644


def set_in_file(file: Path, option: Option[object], texts: Sequence[str]) -> None:
    """Give a setting a value, or several where it takes several; the file is made if there is none.

    Raises UsageError for a value that the setting cannot have, and EdgetopError when the file cannot be written.
    """
    import tomlkit  # noqa: PLC0415 - only where a setting is changed

    _require_file_setting(option)
    read_value(option, texts, option.name)
    with _changing(file):
        document = _read(file)
        table = document.get(option.section)
        if table is None:
            if document.body:
                document.add(tomlkit.nl())
            table = tomlkit.table()
            document[option.section] = table
        value = toml_value(option, texts)
        if isinstance(value, dict):
            in_one_line = tomlkit.inline_table()
            in_one_line.update(value)
            table[option.name] = in_one_line
        else:
            table[option.name] = value
        _replace(file, document.as_string())


def unset_in_file(file: Path, option: Option[object]) -> bool:
    """Take a setting out of the file; false if it was not there. Raises EdgetopError."""
    _require_file_setting(option)
    with _changing(file):
        document = _read(file)
        table = document.get(option.section)
        if table is None or option.name not in table:
            return False
        del table[option.name]
        _replace(file, document.as_string())
    return True


@contextmanager
def _changing(file: Path) -> Iterator[None]:
    folder = Path(os.path.realpath(file)).parent
    with suppress(OSError):  # writing tells
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with changing(folder):
        yield


def _require_file_setting(option: Option[object]) -> None:
    if not is_of_file(option):
        raise UsageError(
            f"{option.name} is for one run and stands in no configuration file", f"give it as {option.flags[-1]}"
        )


def _read(file: Path) -> TOMLDocument:
    import tomlkit  # noqa: PLC0415 - only where a setting is changed
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415 - the same

    try:
        return tomlkit.parse(toml_text(file))
    except FileNotFoundError:
        return tomlkit.document()
    except OSError as error:
        raise EdgetopError(f"cannot read {file}: {error.strerror}", "make it readable") from None
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not TOML: {error}", "fix that line") from None


def _replace(file: Path, text: str) -> None:
    """Write the whole file in one step; through a symbolic link, as people who keep such files elsewhere have it."""
    target = Path(os.path.realpath(file))
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else NEW_FILE_MODE
        with replacement(target) as new:
            new.write_bytes(text.encode("utf-8"))
            new.chmod(mode)
    except OSError as error:
        raise EdgetopError(
            f"cannot write {file}: {error.strerror}", "make the folder writable, or choose another file with --config"
        ) from None


COLUMNS = 100

_KEYS = """\
[keys]

# Keys of the screens by the names of their actions, which `edgetop keys` lists: one key, a list of keys, or
# "" for none. For one screen only, such as the replay, in a table [keys.replay].
#next_theme = "ctrl+t"   # an example
"""

_HEAD = """\
# edgetop's settings. A flag comes before the environment, the environment before this file.
# To set one, take away the # before its name. `edgetop config` shows what holds now, and why.
"""


def config_template() -> str:
    """The text of such a file: it says nothing until a line is uncommented, and then what that line says."""
    parts = [_HEAD]
    for section in SECTIONS:
        chosen = [option for option in options.OPTIONS if option.section == section and is_of_file(option)]
        if chosen:
            parts.append(f"[{section}]\n\n" + "\n".join(_entry(option) for option in chosen))
    return "\n".join([*parts, _KEYS])


def _entry(option: Option[object]) -> str:
    about = textwrap.wrap(" ".join([in_words(option), option.about]).strip(), COLUMNS - 2)
    default = "" if texts_of(option.default) else "   # an example; not set by default"
    return "".join(f"# {line}\n" for line in about) + f"#{option.name} = {_example(option)}{default}\n"


def _example(option: Option[object]) -> str:
    """The default as TOML writes it, or something of the right kind where there is none."""
    texts = texts_of(option.default) or [option.example]
    return _toml(toml_value(option, texts)) if texts[0] else f'"{option.metavar}"'


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            return f'"{escaped}"'
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return "{ " + ", ".join(f"{_key(key)} = {_toml(part)}" for key, part in value.items()) + " }"
    return str(value)


def _key(name: str) -> str:
    """A key as TOML has it: quoted where it is no bare one."""
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else f'"{name}"'


def in_words(option: Option[object]) -> str:
    """What the setting is, as a sentence; for one whose flag switches it off, what `false` means."""
    if option.is_switch and option.default is True:
        return f"With false: {option.help}."
    return f"{option.help[:1].upper()}{option.help[1:]}."


def settings_rows(settings: Settings) -> list[list[str]]:
    """Name and value with its origin, for a table."""
    return [
        [f"{option.section}.{option.name}", f"{shown(settings[option])} ({settings.origin(option)})"]
        for option in options.OPTIONS
    ]


def problems_of(settings: Settings) -> list[dict[str, str]]:
    """What could not be read, for JSON."""
    return [{"problem": each.what, "hint": each.hint} for each in settings.problems]


def settings_by_name(settings: Settings) -> dict[str, Any]:
    """Value and origin by name, for JSON."""
    return {
        option.name: {"value": plain(settings[option]), "origin": settings.origin(option)} for option in options.OPTIONS
    }

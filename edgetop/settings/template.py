"""A configuration file with every setting in a comment, to begin one's own from."""

from __future__ import annotations

import textwrap

from edgetop.settings import options
from edgetop.settings.lookup import is_of_file
from edgetop.settings.option import SECTIONS, Option
from edgetop.settings.shown import texts_of, toml_value

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
    told = textwrap.wrap(" ".join([in_words(option), option.about]).strip(), COLUMNS - 2)
    default = "" if texts_of(option.default) else "   # an example; not set by default"
    return "".join(f"# {line}\n" for line in told) + f"#{option.name} = {_example(option)}{default}\n"


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
            return "{ " + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + " }"
    return str(value)


def in_words(option: Option[object]) -> str:
    """What the setting is, as a sentence; for one whose flag switches it off, what `false` means."""
    if option.is_switch and option.default is True:
        return f"With false: {option.help}."
    return f"{option.help[:1].upper()}{option.help[1:]}."

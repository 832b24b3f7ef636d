"""Verb man."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator

from edgetop import __version__
from edgetop.commands.command_line import actions_of, is_of_setting, parser_of, sub_parsers
from edgetop.commands.output import ExitCode, write_data
from edgetop.commands.verbs import DEFAULT_VERB, VERBS
from edgetop.live.chat_commands import SLASH_COMMANDS
from edgetop.settings import options
from edgetop.settings.config_file import NOT_SET, in_words, shown
from edgetop.settings.option import SECTIONS, TITLES, Option
from edgetop.settings.resolve import Settings, is_of_file

ABOUT = (
    "chats with a local quantized language model; beside the chat, live panes show token rate, memory, power and "
    "energy per token, and what limits the speed now. Every session is recorded, to be compared and replayed. "
    "Without a terminal, in a pipe or a CI job, it asks the model one question, prints the answer and its figures, and "
    "ends."
)

MODELS = (
    "A MODEL is a GGUF file, a name that `edgetop models` lists, or hf:owner/repo[:quant], which is downloaded. "
    "Without one: the model used last, else the small one that comes along, else the screen lets you choose."
)

SESSIONS = (
    "Refer to a SESSION by its file, its number in the list, the beginning of its id, a tag, or part of the model's "
    "name; where several may be meant, also by a range such as 1-4, a folder, or a pattern such as '*q4*'."
)

PRECEDENCE = (
    "Each setting is a flag, a variable of the environment and a key of the configuration file. A flag comes before "
    "the environment, the environment before the file, the file before the default. Not every command takes every "
    "flag; `edgetop COMMAND --help` lists those that it takes. `edgetop config` shows what holds, and why."
)

FILES = (
    ("~/.config/edgetop/config.toml", "The configuration file. `edgetop config --template` prints one to begin with."),
    ("~/.config/edgetop/themes/", "Your own colour themes, one file NAME.toml each."),
    ("~/.config/edgetop/devices.toml", "Your own devices for `edgetop check --device`."),
    ("~/.local/share/edgetop/sessions/", "Recorded sessions, one JSON file each; a journal while one runs."),
)

ENVIRONMENT = (
    ("EDGETOP_NAME", "The setting NAME, for each name below SETTINGS, in capitals."),
    ("EDGETOP_SERVER_KEY", "The API key of the server. Neither recorded nor shown."),
    ("NO_COLOR", "No colours, if it is set and not empty."),
    ("XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_STATE_HOME", "Where configuration, sessions and what was used last lie."),
)

EXAMPLES = (
    ("edgetop -m llama3.2:1b --ctx 4k", "Chat, and watch."),
    ('edgetop run -p "Name a colour." --temp 0 --json', "One answer and its figures as JSON."),
    ("edgetop check phi3-q4.gguf --ctx 2k,8k", "Will it fit, and how fast will it be?"),
    ("edgetop compare '*q4*' '*q8*'", "Is the difference more than noise?"),
    ("edgetop config set theme light", "Write a setting into the configuration file."),
)


def execute(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - as every verb
    """Print the page, as man(7) has it."""
    write_data(manual_page())
    return 0


def manual_page() -> str:
    """The page in the macros of man(7)."""
    lines = [
        '.\\" Made by `edgetop man` from the tables of the program.',
        f'.TH EDGETOP 1 "" "edgetop {__version__}" "User Commands"',
        *_section("NAME", ["edgetop \\- htop for language models on small devices"]),
        *_section("SYNOPSIS", [".B edgetop", "[\\-m MODEL] [options]", ".br", ".B edgetop", "COMMAND [options]"]),
        *_section("DESCRIPTION", [".B edgetop", _text(ABOUT), ".PP", _text(MODELS), ".PP", _text(SESSIONS)]),
        *_section("COMMANDS", [_text(f"Without a command: {DEFAULT_VERB}."), *_verbs()]),
        *_section("SETTINGS", [_text(PRECEDENCE), *_settings()]),
        *_section("IN THE CHAT", _chat()),
        *_section("EXIT STATUS", _listed([(str(code.value), code.meaning) for code in ExitCode])),
        *_section("ENVIRONMENT", _listed(ENVIRONMENT)),
        *_section("FILES", _listed(FILES)),
        *_section("EXAMPLES", _listed(EXAMPLES)),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return [f".SH {title}", *lines]


def _listed(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, about in rows:
        yield from (".TP", f".B {_text(term)}", _text(about))


def _verbs() -> Iterator[str]:
    for name, verb in VERBS.items():
        parser = parser_of(name)
        yield from (f'.SS "edgetop {name}"', _text(f"{verb.help[:1].upper()}{verb.help[1:]}."))
        yield from _arguments(parser)
        for word, about, further in sub_parsers(parser):
            yield from (".TP", f".B {_text(_usage(f'{name} {word}', further))}", _text(f"{about}."))
            nested = list(_arguments(further))
            if nested:
                yield from (".RS", *nested, ".RE")


def _usage(words: str, parser: argparse.ArgumentParser) -> str:
    """The words and what stands behind them without a flag."""
    names = [_value(action) for action in actions_of(parser) if not action.option_strings]
    return " ".join([words, *names])


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in actions_of(parser):
        if is_of_setting(action) or not action.help or action.help == argparse.SUPPRESS:
            continue
        value = "" if action.nargs == 0 else _value(action)
        flags = ", ".join(action.option_strings)
        about = action.help.replace("%%", "%")
        yield from (".TP", f".B {_text(f'{flags} {value}'.strip())}", _text(f"{about[:1].upper()}{about[1:]}."))


def _value(action: argparse.Action) -> str:
    name = action.metavar if isinstance(action.metavar, str) else "|".join(map(str, action.choices or [action.dest]))
    return f"{name} ..." if action.nargs in {"+", "*", argparse.REMAINDER} else name


def _settings() -> Iterator[str]:
    for section in SECTIONS:
        yield f'.SS "{TITLES[section]}"'
        for option in options.OPTIONS:
            if option.section == section:
                yield from _setting(option)


def _setting(option: Option[object]) -> Iterator[str]:
    flags = ", ".join(f"{flag} {option.metavar}".strip() for flag in option.flags)
    yield from (".TP", f".B {_text(flags or option.name)}", _text(f"{in_words(option)} {option.about}".strip()))
    default = shown(option.default)
    about = [f"Default: {default}."] if default not in {NOT_SET, "none"} else []
    if is_of_file(option):
        about.append(f"Variable {option.env}; key {option.name} in [{option.section}].")
    if about:
        yield from (".br", _text(" ".join(about)))


def _chat() -> Iterator[str]:
    yield _text(
        "Enter sends, Alt+Enter begins a new line. Ctrl+C stops the answer, and quits when there is none. Esc gives "
        "the keyboard to the panes, i takes it back. F1 shows all keys, `edgetop keys` prints "
        "them. Commands, typed as a prompt:"
    )
    yield from _listed((f"/{each.name} {each.argument}".rstrip(), f"{each.description}.") for each in SLASH_COMMANDS)


def _text(text: str) -> str:
    """Text that roff takes for nothing but text, with what stands between backquotes in bold."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    escaped = escaped.replace('"', "\\(dq").replace("'", "\\(aq")
    marked = re.sub(r"`([^`]*)`", r"\\fB\1\\fP", escaped)
    return f"\\&{marked}" if marked.startswith(".") else marked

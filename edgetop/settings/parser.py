"""Command-line parsers made from the table of settings."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import NoReturn

from edgetop.core.errors import UsageError
from edgetop.settings.option import Option, Section
from edgetop.settings.options import OPTIONS

TITLES: dict[Section, str] = {
    "model": "model",
    "search": "where models lie",
    "server": "a server in place of a model of our own",
    "engine": "engine",
    "sampling": "replies",
    "recording": "recording",
    "storage": "where sessions lie",
    "screen": "screen",
    "device": "device",
    "price": "price of energy",
    "fit": "what is enough",
    "progress": "progress",
    "general": "general",
}


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of leaving, so that every failure is told in the same two lines."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, f"see {self.prog} --help")


def add_options(
    parser: argparse.ArgumentParser, sections: Collection[Section], without: Collection[Option[object]] = ()
) -> None:
    """Give `parser` the flags of these sections, but for settings that the verb takes in another form.

    Their text is read later, by the same code as the environment's.
    """
    for section, title in TITLES.items():
        if section in sections:
            group = parser.add_argument_group(title)
            for option in OPTIONS:
                if option.section == section and option.flags and option not in without:
                    _add(group, option)


def given_flags(arguments: argparse.Namespace) -> dict[str, str | list[str] | None]:
    """What was given for each setting, as `resolve` wants it."""
    return {option.name: getattr(arguments, f"option_{option.name}", None) for option in OPTIONS}


def _add(group: argparse._ArgumentGroup, option: Option[object]) -> None:
    destination = f"option_{option.name}"
    if option.is_switch:
        group.add_argument(
            *option.flags, dest=destination, action="store_const", const=option.switched, default=None, help=option.help
        )
        return
    group.add_argument(
        *option.flags,
        dest=destination,
        metavar=option.metavar,
        action="append" if option.join is not None else "store",
        default=None,
        help=option.help.replace("%", "%%"),
    )

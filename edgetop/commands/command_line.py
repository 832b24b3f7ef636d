"""Parsers made from verbs and options.

`--help` needs this, so nothing heavy is imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

from edgetop import __version__
from edgetop.commands.verbs import DEFAULT_VERB, VERBS
from edgetop.core.errors import UsageError
from edgetop.settings.option import TITLES, Option, Section
from edgetop.settings.options import OPTIONS


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of leaving, so that every failure is told in the same two lines."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, f"see {self.prog} --help")


def add_options(
    parser: argparse.ArgumentParser,
    sections: Collection[Section],
    without: Collection[Option[object]] = (),
    more: Collection[Option[object]] = (),
) -> None:
    """Give `parser` the flags of these sections, but for settings that the verb takes in another form, and of `more`.

    Their text is read later, by the same code as the environment's.
    """
    for section, title in TITLES.items():
        wanted = [
            option
            for option in OPTIONS
            if option.section == section and option.flags and option not in without
            if section in sections or option in more
        ]
        if wanted:
            group = parser.add_argument_group(title)
            for option in wanted:
                _add(group, option)


def given_flags(arguments: argparse.Namespace) -> dict[str, str | list[str] | None]:
    """What was given for each setting, as `resolve` wants it."""
    return {option.name: getattr(arguments, f"option_{option.name}", None) for option in OPTIONS}


def _add(group: argparse._ArgumentGroup, option: Option[object]) -> None:
    destination = f"option_{option.name}"
    if option.is_switch:
        group.add_argument(
            *option.flags, dest=destination, action="store_const", const=option.switched, default=argparse.SUPPRESS,
            help=option.help,
        )  # fmt: skip
        return
    group.add_argument(
        *option.flags,
        dest=destination,
        metavar=option.metavar,
        action="append" if option.is_list else "store",
        default=argparse.SUPPRESS,
        help=option.help.replace("%", "%%"),
    )


OPTION_PREFIX = "option_"
"""Begins the name of what was given for a setting, in what the parser returns."""


def parser_of(named: str) -> Parser:
    """The parser of a verb; of the command line without a verb for an empty name."""
    verb = VERBS[named or DEFAULT_VERB]
    parser = Parser(prog=f"edgetop {named}".strip(), description=verb.help, allow_abbrev=False)
    if not named:
        _describe_all(parser)
    verb.add_arguments(parser)
    for _, _, further in sub_parsers(parser):
        add_options(further, {"general"})
    add_options(parser, verb.sections, verb.replaced, verb.more)
    return parser


def verb_first(given: list[str]) -> list[str]:
    """The command line with a verb before the flags that every verb takes, such as --config FILE."""
    flags = {flag: option for option in OPTIONS if option.section == "general" for flag in option.flags}
    at = 0
    while at < len(given) and (option := flags.get(given[at].partition("=")[0])) is not None:
        at += 1 if option.is_switch or "=" in given[at] else 2
    return [given[at], *given[:at], *given[at + 1 :]] if at < len(given) and given[at] in VERBS else given


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What the parser takes, `--help` and words that choose a further parser left out."""
    kinds = (argparse._HelpAction, argparse._VersionAction, argparse._SubParsersAction)  # noqa: SLF001 - no other way
    return [action for action in parser._actions if not isinstance(action, kinds)]  # noqa: SLF001 - the same


def sub_parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """The words that choose a further parser, what each is for, and that parser."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001 - the same
            choices: dict[str, Any] = dict(action.choices)
            yield from ((name, helps.get(name, ""), chosen) for name, chosen in choices.items())


def is_of_setting(action: argparse.Action) -> bool:
    """Whether it is the flag of a setting."""
    return action.dest.startswith(OPTION_PREFIX)


def _describe_all(parser: Parser) -> None:
    """Let the help without a verb tell of all verbs."""
    width = max(len(name) for name in VERBS)
    verbs = "\n".join(f"  edgetop {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"A terminal monitor for language models on small devices.\n\n{verbs}"
    parser.epilog = f"Without a verb: {DEFAULT_VERB}, whose options these are. `edgetop VERB --help` tells the others'."
    parser.add_argument("-V", "--version", action="version", version=f"edgetop {__version__}")

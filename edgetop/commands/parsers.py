"""The parser of each verb's command line, for the command line itself and for what is told of it.

`--help` needs this, so nothing heavy is imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from edgetop import __version__
from edgetop.commands.verbs import DEFAULT_VERB, VERBS
from edgetop.settings.parser import Parser, add_options

OPTION_PREFIX = "option_"
"""Begins the name of what was given for a setting, in what the parser returns."""


def parser_of(named: str) -> Parser:
    """The parser of a verb; of the command line without a verb for an empty name."""
    verb = VERBS[named or DEFAULT_VERB]
    parser = Parser(prog=f"edgetop {named}".strip(), description=verb.help, allow_abbrev=False)
    if not named:
        _describe_all(parser)
    verb.add_arguments(parser)
    add_options(parser, verb.sections, verb.replaced)
    return parser


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

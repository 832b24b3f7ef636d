"""Parsers made from verbs and options.

`--help` needs this, so nothing heavy is imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from edgetop import __version__
from edgetop.commands.verbs import DEFAULT_VERB, EXAMPLES, FIRST, VERBS
from edgetop.core.errors import UsageError
from edgetop.core.text import one_line
from edgetop.io.terminal import terminal_size
from edgetop.settings.option import TITLES, OneOf, Option, Section
from edgetop.settings.options import OPTIONS


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal. argparse makes one for each argument, and asks shutil, which brings compression."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal_size().columns - 2)

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        """Name what is no option: each of these has its own lines below."""
        others = [action for action in actions if not action.option_strings]
        self._prog += " [options]" if prefix is None else ""
        super().add_usage(usage, others, groups, prefix)


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of leaving, so that every failure is reported in the same two lines."""

    _given: Sequence[str] = ()

    whole_help: Callable[[], str] | None = None
    """What makes the help, where that is not made of the options."""

    def format_help(self) -> str:
        """What `--help` prints, with the words that other packages bring for options."""
        for option in OPTIONS:
            brought = option.parse.brought() if isinstance(option.parse, OneOf) else ()
            for action in self._actions if brought else ():
                if action.dest == f"option_{option.name}" and action.help:
                    names = ", ".join(map(one_line, sorted(brought))).replace("%", "%%")
                    action.help = f"{action.help} [{names}]"
        if self.whole_help is not None:
            return self.whole_help()
        import textwrap  # noqa: PLC0415 - only for the help

        self.description = textwrap.fill(self.description or "", HELP_COLUMNS)
        return super().format_help()

    def parse_known_args(  # type: ignore[override]  # the base class has overloads
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Keep what was given, to find the flag in it that there is not."""
        self._given = args or ()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        for flag in self._unknown_flags():
            import difflib  # noqa: PLC0415 - only for what is not known

            close = difflib.get_close_matches(flag, self._shown_flags(), n=1, cutoff=0.75)
            hint = f"did you mean {close[0]}?" if close else f"see {self.prog} --help"
            raise UsageError(f"there is no option {one_line(flag)}", hint)
        raise UsageError(message, f"see {self.prog} --help")

    def _unknown_flags(self) -> Iterator[str]:
        for word in self._given:
            if word == "--":
                return
            flag = word.partition("=")[0]
            known = self._option_string_actions
            if len(flag) < 2 or flag[0] != "-" or flag[1].isdigit() or flag in known:
                continue
            if flag.startswith("--") or flag[:2] not in known:  # -n5 is -n with its value
                yield flag

    def _shown_flags(self) -> list[str]:
        shown = (action.option_strings for action in self._actions if action.help != argparse.SUPPRESS)
        return [flag for flags in shown for flag in flags]


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
        help=_with_default(option).replace("%", "%%"),
    )
    taken = group._option_string_actions  # noqa: SLF001 - argparse has no other way to ask
    for flag in option.also:
        if flag not in taken:
            group.add_argument(
                flag,
                dest=destination,
                type=f"{HUB_PREFIX}{{}}".format if flag.startswith(("-hf", "--hf")) else str,
                action="append" if option.is_list else "store",
                default=None,
                help=argparse.SUPPRESS,
            )


def _with_default(option: Option[object]) -> str:
    """The help of an option, which says what holds without it."""
    if "(default: " in option.help or isinstance(option.default, tuple) or option.default in {None, ""}:
        return option.help
    return f"{option.help} (default: {option.default})"


HELP_COLUMNS = 78

HUB_PREFIX = "hf:"
"""Before a repository where a model is named."""

OPTION_PREFIX = "option_"
"""Begins the name of what was given for a setting, in what the parser returns."""


def parser_of(named: str) -> Parser:
    """The parser of a verb; of the command line without a verb for an empty name."""
    name = named or DEFAULT_VERB
    verb = VERBS[name]
    examples = "\n".join(f"  edgetop {name} {words}".rstrip() for words in EXAMPLES.get(name, ("",)))
    parser = Parser(
        prog=f"edgetop {named}".strip(),
        description=f"{verb.help[:1].upper()}{verb.help[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    if not named:
        parser.whole_help = _first_help
        parser.add_argument("-V", "--version", action="version", version=f"edgetop {__version__}")
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


def _first_help() -> str:
    """The help without a verb, on one screen of 80x24: the verbs, and where their options are explained."""
    width = max(map(len, FIRST))
    verbs = [f"  edgetop {name:<{width}}  {words}" for name, words in FIRST.items()]
    import textwrap  # noqa: PLC0415 - only for the help

    others = textwrap.fill(
        ", ".join(name for name in VERBS if name not in FIRST), HELP_COLUMNS, initial_indent="  and: edgetop ",
        subsequent_indent=" " * 15,
    )  # fmt: skip
    return f"""usage: edgetop [-m MODEL] [-p TEXT] [options]    chat, with the live screen
       edgetop VERB [options]

{chr(10).join(verbs)}
{others}

  edgetop                        chat with the model used last, or choose one
  edgetop -m phi3-q4.gguf        chat with this one
  edgetop replay --demo          see it without a model

All options: edgetop {DEFAULT_VERB} --help, or edgetop VERB --help; -V: the version
"""

"""Finds the verb, parses, turns errors into exit codes.

Everything is imported when it is needed, so that `--version` and `--help` are quick.
"""

from __future__ import annotations

import importlib
import io
import os
import sys

from edgetop import __version__

TYPE_CHECKING = False

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from edgetop.settings.resolve import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if given and given[0] in {"-V", "--version"}:
        sys.stdout.write(f"edgetop {__version__}\n")
        return 0
    try:
        code = _carry_out(given)
        sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError) as error:
        from edgetop.commands.exit import ExitCode

        if isinstance(error, BrokenPipeError):
            # Whoever read our output has enough. Python flushes stdout once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - no trace reaches a person who did not ask for one
        return _tell(error, traced=_wants_trace(given))
    return code


def _carry_out(given: list[str]) -> int:
    if given[:1] == ["__complete"]:
        from edgetop.commands.completion import print_candidates

        return print_candidates(given[1:])
    from edgetop.commands.command_line import given_flags, parser_of
    from edgetop.commands.verbs import DEFAULT_VERB, VERBS
    from edgetop.settings.options import ENGINE
    from edgetop.settings.resolve import resolve

    named = given[0] if given and given[0] in VERBS else ""
    if not named and given and not given[0].startswith("-"):
        raise _unknown_verb(given[0])
    verb = named or DEFAULT_VERB
    arguments = parser_of(named).parse_args(given[1:] if named else given)
    settings = resolve(given_flags(arguments))
    # Processes that load llama.cpp are not given settings but our environment.
    if settings[ENGINE] != os.environ.get(ENGINE.env, ENGINE.default):
        os.environ[ENGINE.env] = settings[ENGINE]
    execute: Callable[[Namespace, Settings], int] = importlib.import_module(f"edgetop.commands.{verb}").execute
    return execute(arguments, settings)


def _unknown_verb(given: str) -> Exception:
    import difflib

    from edgetop.commands.verbs import VERBS
    from edgetop.core.errors import UsageError
    from edgetop.core.text import one_line

    close = difflib.get_close_matches(given, VERBS, n=1)
    hint = f"did you mean edgetop {close[0]}?" if close else f"the verbs are {', '.join(VERBS)}; a model goes after -m"
    return UsageError(f"there is no verb {one_line(given)!r}", hint)


def _wants_trace(given: Sequence[str]) -> bool:
    return "-v" in given or "--verbose" in given or bool(os.environ.get("EDGETOP_VERBOSE"))


def _tell(error: Exception, *, traced: bool) -> int:
    """Say in two lines what happened and how to fix it, and return the exit code."""
    from edgetop.core.errors import EdgetopError
    from edgetop.core.text import one_line

    if traced:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, EdgetopError):
        what, hint, code = error.what, error.hint, error.exit_code
    elif isinstance(error, OSError):
        what, hint, code = f"{error.filename or 'the system'}: {error.strerror or error}", "", 1
    else:
        what, hint, code = f"internal error, please report it: {type(error).__name__}: {error}", "", 1
    if not hint and not traced:
        hint = "the same command with -v shows where this comes from"
    sys.stderr.write(f"edgetop: {one_line(what)}\n")
    if hint:
        sys.stderr.write(f"         {one_line(hint)}\n")
    return code

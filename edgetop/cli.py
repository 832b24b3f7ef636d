"""Finds the verb, parses, turns errors into exit codes.

Everything is imported when it is needed, so that `--version` and `--help` are quick.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys

from edgetop import __version__

TYPE_CHECKING = False

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from types import FrameType

    from edgetop.settings.resolve import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return the exit code; without `arguments` that of this process."""
    if arguments is not None:
        return _run(list(arguments))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)
    from edgetop.io.terminal import secure_standard_streams

    secure_standard_streams()
    gc.disable()  # until everything is imported: it stays, and looking through it takes a tenth of a short run
    code = _INTERRUPTED
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        pass
    finally:
        _leave(code)
    return code


_INTERRUPTED = 130

_STUCK_S = 10.0
"""How long the end waits for threads, one of which may hang in a disk or a sensor that does not answer."""

_LAST_WORDS_S = 1.0
"""How long the end of an interrupted edgetop waits for whoever reads what it says."""


def _leave(code: int) -> None:
    """End without taking Python apart, in which threads of libraries may crash and Ctrl+C kills."""
    import atexit
    import threading
    from contextlib import suppress

    from edgetop.io.terminal import drain

    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(_INTERRUPTED))
    drain(_LAST_WORDS_S if code >= _INTERRUPTED else None)
    # What Python itself does before it takes itself apart.
    stuck = threading.Timer(_STUCK_S, os._exit, (code,))
    stuck.daemon = True
    with suppress(RuntimeError):  # no more threads are to be had
        stuck.start()
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - there is no other way
    atexit._run_exitfuncs()  # noqa: SLF001 - the same
    sys.stderr.flush()
    os._exit(code)


def _on_interrupt(_number: int, frame: FrameType | None) -> None:
    """Ctrl+C. In the middle of an import it ends at once, since libraries crash when their import fails half-way."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"edgetop: interrupted\n")
            os._exit(_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _run(given: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    from edgetop.io.terminal import drain

    try:
        try:
            code = _carry_out(given)
        except SystemExit as leaving:  # argparse has printed its help
            code = leaving.code if isinstance(leaving.code, int) else 0
        finally:
            sys.stdout.flush()
        drain(_LAST_WORDS_S if code >= _INTERRUPTED else None)
    except KeyboardInterrupt:
        _discard_output()
        sys.stderr.write("edgetop: interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough.
        _discard_output()
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - no trace reaches a person
        return _report(error)
    return code


def _discard_output() -> None:
    from edgetop.io.terminal import discard

    discard(sys.stdout)


def _carry_out(given: list[str]) -> int:
    if given and given[0] in {"-V", "--version"}:
        sys.stdout.write(f"edgetop {__version__}\n")
        return 0
    if given[:1] == ["__complete"]:
        from edgetop.commands.completion import print_candidates

        return print_candidates(given[1:])
    from edgetop.commands.command_line import given_flags, parser_of, verb_first
    from edgetop.commands.verbs import DEFAULT_VERB, VERBS
    from edgetop.io.files import ensure_home
    from edgetop.settings.options import DATA_DIR, ENGINE, LOG
    from edgetop.settings.resolve import resolve

    given = verb_first(given)
    named = given[0] if given and given[0] in VERBS else ""
    if not named and given and not given[0].startswith("-"):
        raise _unknown_verb(given[0])
    verb = named or DEFAULT_VERB
    arguments = parser_of(named).parse_args(given[1:] if named else given)
    temporary_home = ensure_home()
    settings = resolve(given_flags(arguments), repairing=VERBS[verb].repairs)
    if settings[LOG] is not None:
        _begin_log(verb, settings)
    if temporary_home is not None and "storage" in VERBS[verb].sections and settings[DATA_DIR] is None:
        sys.stderr.write(
            f"edgetop: there is no home folder; what is recorded goes to {temporary_home}\n"
            "         set HOME, or choose a folder with --data-dir\n"
        )
    # Processes that load llama.cpp are not given settings but our environment.
    if settings[ENGINE] != os.environ.get(ENGINE.env, ENGINE.default):
        os.environ[ENGINE.env] = settings[ENGINE]
    _import_msgspec()
    execute: Callable[[Namespace, Settings], int] = importlib.import_module(f"edgetop.commands.{verb}").execute
    _catch_stray_errors()
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    return execute(arguments, settings)


def _import_msgspec() -> None:
    """Import msgspec without typing_extensions, from which it takes what `typing` has since Python 3.11.

    With it come inspect, ast and tokenize: a tenth of the processor time of a short verb.
    """
    if sys.version_info >= (3, 11) and "typing_extensions" not in sys.modules:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment] # as the documentation of `import` has it
        try:
            import msgspec  # noqa: F401
        finally:
            del sys.modules["typing_extensions"]


def _unknown_verb(given: str) -> Exception:
    import difflib

    from edgetop.commands.verbs import VERBS
    from edgetop.core.errors import UsageError
    from edgetop.core.text import one_line

    close = difflib.get_close_matches(given, VERBS, n=1)
    hint = f"did you mean edgetop {close[0]}?" if close else f"the verbs are {', '.join(VERBS)}; a model goes after -m"
    if given.lower().endswith(".gguf") or {":", "/"} & set(given):
        hint = f"for a model: edgetop -m {one_line(given)}"
    return UsageError(f"there is no verb {one_line(given)!r}", hint)


def _begin_log(verb: str, settings: Settings) -> None:
    """Open the log and write what was asked for. Raises UsageError."""
    import platform

    from edgetop.core.errors import UsageError
    from edgetop.io.log import log, open_log
    from edgetop.settings.options import LOG
    from edgetop.settings.resolve import loggable

    file = settings[LOG]
    if file is None:
        return
    try:
        open_log(file)
    except OSError as error:
        raise UsageError(
            f"{settings.origin(LOG)}: cannot write {file}: {error.strerror}", "choose another file"
        ) from None
    log("edgetop", f"edgetop {__version__} {verb}, Python {platform.python_version()}, {platform.platform()}")
    for line in loggable(settings):
        log("decisions", line)


def _catch_stray_errors() -> None:
    """Threads and finalizers print no trace either."""
    import threading

    from edgetop.io.log import log_exception

    def on_thread(failed: threading.ExceptHookArgs) -> None:
        if isinstance(failed.exc_value, Exception):
            _report(failed.exc_value)

    def on_unraisable(failed: sys.UnraisableHookArgs) -> None:
        if failed.exc_value is not None:
            log_exception(failed.exc_value)

    threading.excepthook = on_thread
    sys.unraisablehook = on_unraisable


_NO_MORE = (
    "no further process or thread can be started",
    "raise the limit: `ulimit -u` or `-v`, a container's --pids-limit, or TasksMax= of a service",
)
_NO_MORE_FILES = ("no further file can be opened", "raise the limit: `ulimit -n`, or LimitNOFILE= of a service")


def _report(error: Exception) -> int:
    """Say in two lines what happened and how to fix it, and return the exit code."""
    import errno

    from edgetop.core.errors import EdgetopError
    from edgetop.core.text import one_line
    from edgetop.io.log import log_exception, where_trace

    log_exception(error)
    code = 1
    if isinstance(error, EdgetopError):
        what, hint, code = error.what, error.hint, error.exit_code
    elif (isinstance(error, OSError) and error.errno == errno.EAGAIN) or "can't start new thread" in str(error):
        what, hint = _NO_MORE
    elif isinstance(error, OSError) and error.errno == errno.EMFILE:
        what, hint = _NO_MORE_FILES
    elif isinstance(error, FileNotFoundError) and error.filename is None:
        what, hint = "the working folder is gone", "change to one that exists"
    elif isinstance(error, OSError):
        what, hint = f"{error.filename or 'the system'}: {error.strerror or error}", ""
    elif isinstance(error, MemoryError):
        what, hint = "there is not enough memory", "close other programs, or use a smaller model or context"
    else:
        what, hint = f"internal error, please report it: {type(error).__name__}: {error}", where_trace()
    sys.stderr.write(f"edgetop: {one_line(what)}\n")
    if hint:
        sys.stderr.write(f"         {one_line(hint)}\n")
    return code

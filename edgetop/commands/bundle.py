"""What an issue needs: versions, what doctor says, the files of sensors that were read, the end of the log."""

from __future__ import annotations

import argparse
import io
import os
import platform
import re
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from importlib.metadata import distributions
from pathlib import Path

from edgetop import __version__
from edgetop.commands.output import print_status, write_data
from edgetop.core.errors import EdgetopError
from edgetop.core.text import literal, one_line
from edgetop.io.files import write_atomically
from edgetop.settings import options
from edgetop.settings.resolve import Settings

ROOTS = ("sys", "proc/device-tree", "proc/cpuinfo", "proc/meminfo")
"""Below these, what was read is shown: nothing of a person's files or of other programs."""

FILE_CHARACTERS, LOG_CHARACTERS = 400, 20_000
_PRIVATE = re.compile(r"serial|uuid|machine-id|address|asset", re.IGNORECASE)
"""Files whose contents tell one machine from another."""

Examine = Callable[[argparse.Namespace, Settings], int]


def write_bundle(arguments: argparse.Namespace, settings: Settings, examine: Examine) -> int:
    """Print it, then write it; nothing is asked, and nothing is sent. Raises EdgetopError."""
    read: set[str] = set()
    sys.addaudithook(lambda event, given: _note(read, event, given))
    told = io.StringIO()
    with redirect_stdout(told):
        code = examine(arguments, settings)
    log = settings[options.LOG]
    parts = {
        "versions": _versions(),
        "doctor": told.getvalue(),
        "files that were read": _files(sorted(read), settings[options.SYSROOT]),
        "log": "" if log is None else _tail(log),
    }
    text = "".join(f"===== {title} =====\n{literal(part).rstrip()}\n\n" for title, part in parts.items() if part)
    text = _without_names(text, settings)
    file = Path(arguments.bundle)
    write_data(text)
    try:
        write_atomically(file, [text.encode("utf-8", "replace")])
    except OSError as error:
        raise EdgetopError(f"{file}: {error.strerror}", "name a file that can be written: --bundle FILE") from None
    print_status(f"this is now in {file}: look through it before you attach it to an issue")
    return code


def _note(read: set[str], event: str, given: tuple[object, ...]) -> None:
    if event == "open" and given and isinstance(given[0], str | bytes):
        read.add(os.fsdecode(given[0]))


def _versions() -> str:
    lines = [f"edgetop {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    known = sorted(f"{each.name} {each.version}" for each in distributions() if each.name)
    return "\n".join([*lines, ", ".join(dict.fromkeys(known))])


def _files(paths: list[str], sysroot: Path) -> str:
    lines = []
    for name in paths:
        below = os.path.relpath(name, sysroot)
        if below.startswith(ROOTS):
            text = "(not shown)" if _PRIVATE.search(below) else _contents(Path(name))
            lines.append(f"/{below}: {one_line(text)[:FILE_CHARACTERS]}")
    return "\n".join(lines)


def _contents(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return " | ".join(file.read(FILE_CHARACTERS).decode("utf-8", "replace").split("\n")).strip(" |\0")
    except OSError as error:
        return f"({error.strerror})"


def _tail(file: Path) -> str:
    with suppress(OSError):
        return file.read_text("utf-8", "replace")[-LOG_CHARACTERS:]
    return ""


def _without_names(text: str, settings: Settings) -> str:
    """Without the person's home folder, the host's name, and the system prompt."""
    private = {str(Path.home()): "~", socket.gethostname(): "HOST", settings[options.SYSTEM] or "": "(not shown)"}
    for name, instead in private.items():
        if len(name) > 1:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _: instead, text)  # noqa: B023 - used at once
    return text

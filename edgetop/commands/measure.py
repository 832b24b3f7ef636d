"""Verb measure: the energy of a command."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from edgetop.commands.inputs import power_choice
from edgetop.commands.output import handle_signals, print_error, print_status, write_json
from edgetop.core.errors import UsageError
from edgetop.core.format import NOT_AVAILABLE
from edgetop.core.text import one_line
from edgetop.live.energy_meter import SensorMeter
from edgetop.settings import options
from edgetop.settings.resolve import Settings

NOT_FOUND, NOT_EXECUTABLE, SIGNALLED = 127, 126, 128
"""As shells say it."""


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run the command, and say on stderr, or as JSON on stdout, what it took. Returns the command's exit code."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise UsageError("there is no command to be measured", "type: edgetop measure -- COMMAND ...")
    if shutil.which(command[0]) is None:  # before anything is waited for
        name = shlex.quote(one_line(command[0]))
        is_there = "/" in command[0] and Path(command[0]).exists()
        print_error(f"{name} cannot be run: {os.strerror(errno.EACCES if is_there else errno.ENOENT)}")
        return NOT_EXECUTABLE if is_there else NOT_FOUND
    with SensorMeter(power_choice(settings), sysroot=settings[options.SYSROOT], idle_s=arguments.idle) as meter:
        try:
            code = _run(command, apart=arguments.json)
        except OSError as error:
            print_error(f"{one_line(command[0])} cannot be run: {error.strerror}")
            return NOT_EXECUTABLE
        meter.stop(tokens=arguments.tokens)
    if arguments.json:
        measured = meter.result
        write_json({
            "command": command,
            "exit_code": code,
            "seconds": measured.seconds,
            "energy": measured.energy,
            "energy_missing": measured.energy_missing,
        })  # fmt: skip
    else:
        print_status(f"edgetop: {meter.result}")
        if arguments.idle and meter.result.energy is not None and meter.result.net_missing:
            print_status(f"edgetop: {NOT_AVAILABLE} J net: {meter.result.net_missing}")
    return code


def _run(command: list[str], *, apart: bool) -> int:
    """Its exit code; with `apart` it writes to stderr, so that stdout is ours. Raises OSError."""
    process = subprocess.Popen(command, stdout=sys.stderr if apart else None)
    # The terminal sends Ctrl+C to the command as well, which decides what it means.
    with process, handle_signals(on_interrupt=lambda: None, on_end=process.terminate):
        code = process.wait()
    return code if code >= 0 else SIGNALLED - code

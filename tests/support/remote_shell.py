"""A POSIX shell that takes a folder for the root of its machine."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from edgetop.telemetry.host import SHELL_SETUP

_ROOTED = re.compile(r"(?<![\w.-])/(?=proc/|sys/|etc/os|run/|\.dockerenv)")


def remote_shell(root: Path, programs: Path | None = None, *, shell: str = "sh") -> Callable[[str], list[str]]:
    """Runs a command of `RemoteFiles` on the tree below `root`; `programs` are found before those of this machine."""
    path = os.environ["PATH"] if programs is None else f"{programs}:{os.environ['PATH']}"

    def ask(command: str) -> list[str]:
        script = _ROOTED.sub(f"{root}/", f"{SHELL_SETUP}\n{command}\n")
        done = subprocess.run(
            [*shell.split(), "-c", script], env={"PATH": path}, capture_output=True, text=True, check=False
        )
        return done.stdout.replace(f"{root}/", "/").splitlines()

    return ask

"""edgetop in a tmux of its own, as a person sees it and types into it."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.requirements import need_program

_numbers = itertools.count(1)
_ENDED = r"exit code (\d+)"


class Tmux:
    """One window of a tmux server that nobody else uses. What a program leaves on it stays after its end.

    Raises NotInstalledError.
    """

    _SHELL = ("sh", "-c", '"$@"; echo "exit code $?"; exec cat', "sh")
    """tmux itself loses the exit code of a program every now and then."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        columns: int = 120,
        rows: int = 36,
    ) -> None:
        need_program("tmux")
        self._socket = f"edgetop-test-{os.getpid()}-{next(_numbers)}"
        self._environment = dict(environment)
        self._tmux(
            *("new-session", "-d", "-x", str(columns), "-y", str(rows), "-c", str(folder), *self._SHELL, *command)
        )

    def type(self, text: str) -> None:
        """Type a line and press Enter."""
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names: F10, C-c."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def paste(self, text: str) -> None:
        """Paste a text, as tmux does for a program that has asked for brackets around it."""
        self._tmux("set-buffer", "--", text)
        self._tmux("paste-buffer", "-p")

    def modes(self) -> str:
        """Whether the program has asked for the mouse, and for the alternate screen: 1 or 0 each."""
        return self._tmux("display-message", "-p", "#{mouse_any_flag} #{alternate_on}").strip()

    @property
    def text(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p")

    @property
    def styled(self) -> str:
        """The same with its colours, as escape sequences."""
        return self._tmux("capture-pane", "-p", "-e", "-N")

    def sees(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows what a regular expression says, and give it."""

        def shown() -> re.Match[str] | None:
            text = self.text
            match = re.search(pattern, text)
            assert match or not re.search(_ENDED, text), f"the program ended without {pattern!r}\n{text}"
            return match

        return eventually(shown, f"the screen shows {pattern!r}", told=lambda: self.text)

    def exit_code(self) -> int:
        """Wait for the program's end; its exit code as a shell has it."""
        return int(self.sees(_ENDED)[1])

    def close(self) -> None:
        """End the server, and with it the terminal."""
        self._tmux("kill-server", check=False)

    def _tmux(self, *arguments: str, check: bool = True) -> str:
        return subprocess.run(
            ["tmux", "-u", "-L", self._socket, "-f", "/dev/null", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=check,
            timeout=30,
        ).stdout

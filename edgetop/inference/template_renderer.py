"""The worker's end of the template process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import Any

from edgetop.inference import wire
from edgetop.inference.template_messages import Answer, NotRendered, Render, Rendered

TIME_S = 2.0
"""How long one rendering may take."""


class TemplateError(Exception):
    """A template gave no text; the message says why in one line."""


class TemplateRenderer:
    """Renders chat templates in a child process, which is started at once and again when a template has killed it."""

    def __init__(self, time_s: float = TIME_S) -> None:
        self._time_s = time_s
        self._process = _spawn()

    def render(self, template: str, variables: dict[str, Any]) -> str:
        """The text of a template. Raises TemplateError, also when it went beyond its memory or its time."""
        if self._process.poll() is not None:
            self._process = _spawn()
        answer = self._ask(Render(template=template, variables=variables, time_s=self._time_s))
        match answer:
            case Rendered():
                return answer.text
            case NotRendered():
                raise TemplateError(answer.reason)
            case None:
                raise TemplateError(f"it took longer than {self._time_s:g} s or more memory than it may")

    def close(self) -> None:
        """End the child process."""
        self._process.kill()
        self._bury()

    def _ask(self, request: Render) -> Answer | None:
        """The child's answer, or `None` when the template has killed it."""
        assert self._process.stdin is not None  # noqa: S101 - both are pipes, see _spawn
        assert self._process.stdout is not None  # noqa: S101
        reader = wire.FrameReader[Answer](Answer)
        try:
            self._process.stdin.write(wire.encode(request))
            self._process.stdin.flush()
            while data := os.read(self._process.stdout.fileno(), 65536):
                if answers := reader.feed(data):
                    return answers[0]
        except (BrokenPipeError, wire.StreamError):
            self._process.kill()
        self._bury()
        return None

    def _bury(self) -> None:
        """Wait for a child that is ending and close its pipes."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _spawn() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgetop.inference.template_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )

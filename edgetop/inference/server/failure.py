"""What can go wrong with a server, in the words a person reads."""

from __future__ import annotations

from typing import Literal

from edgetop.core.text import one_line

TEXT_MAX = 300
"""Characters of a server's own words that are passed on."""

Cause = Literal["unreachable", "refused", "key", "missing", "loading", "context", "broken", "silent", "stopped"]


class ServerFailure(Exception):  # noqa: N818 - it says what happened; it is no programmer's error
    """A server did not do what it was asked for."""

    def __init__(self, what: str, mend: str = "", *, cause: Cause = "broken") -> None:
        super().__init__(what)
        self.what = what
        """One line, a sentence."""
        self.mend = mend
        """One line, a sentence; may be empty."""
        self.cause: Cause = cause

    @property
    def sentence(self) -> str:
        """Both lines together."""
        return f"{self.what} {self.mend}".strip()


class Stopped(ServerFailure):
    """The person stopped it."""

    def __init__(self) -> None:
        super().__init__("It was stopped.", cause="stopped")


def quoted(text: str) -> str:
    """A server's own words, made harmless, in one line of bounded length, without a full stop."""
    line = one_line(text[: 4 * TEXT_MAX])
    return (line if len(line) <= TEXT_MAX else f"{line[:TEXT_MAX]}...").rstrip(".")

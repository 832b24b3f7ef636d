"""Errors with message, hint and exit code."""

from __future__ import annotations

from typing import Literal


class EdgetopError(Exception):
    """A failure that is reported without a traceback. `exit_code` is what the command line returns for it."""

    exit_code = 1
    LONGEST = 2000
    """Characters of a text, which may quote a file of strangers."""

    def __init__(self, what: str, hint: str = "") -> None:
        what, hint = (f"{text[: self.LONGEST]}..." if len(text) > self.LONGEST else text for text in (what, hint))
        super().__init__(what)
        self.what = what
        self.hint = hint


class UsageError(EdgetopError):
    """The command line, the environment or the configuration file says something that cannot be meant."""

    exit_code = 2


class ModelError(EdgetopError):
    """The model cannot be loaded: missing, not a GGUF, truncated, unsupported."""

    exit_code = 3

    def __init__(
        self, what: str, hint: str = "", *, reason: Literal["missing", "not_a_model", "unsupported"] = "not_a_model"
    ) -> None:
        super().__init__(what, hint)
        self.reason = reason

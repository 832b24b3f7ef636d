"""Prompts that are given on the command line, in files and on standard input."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgetop.core.errors import UsageError

PROMPT_BYTES_MAX = 16 * 2**20
"""No context holds as much; a device such as /dev/zero has no end."""


def given_prompts(arguments: argparse.Namespace) -> list[str]:
    """Texts and files of the command line, in its order. Raises UsageError."""
    return [
        text if source == "text" else read_prompt(None if text == "-" else Path(text))
        for source, text in arguments.prompts
    ]


def read_prompt(file: Path | None) -> str:
    """Read a prompt from a file, or from standard input for `None`. Raises UsageError."""
    try:
        if file is None:
            data = sys.stdin.buffer.read(PROMPT_BYTES_MAX + 1) if sys.stdin is not None else b""
        else:
            with file.open("rb") as opened:
                data = opened.read(PROMPT_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file or 'standard input'}: {error.strerror}", "name a file of text") from None
    if len(data) > PROMPT_BYTES_MAX:
        raise UsageError(f"{file or 'standard input'} is larger than any context", "give a shorter prompt")
    text = data.decode("utf-8", "replace").strip()
    if not text:
        raise UsageError(f"{file or 'standard input'} holds no prompt", "give one with -p TEXT")
    return text

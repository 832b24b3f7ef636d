r"""Copying into the clipboard of the terminal that a person sits at, wherever edgetop runs.

OSC 52 (xterm's control sequences, "Manipulate Selection Data") carries the text in base64 through SSH and through tmux;
whether the terminal takes it is its owner's choice, and it does not answer.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from textual.app import App

BASE64_MAX = 74_994
"""What a sequence may have: many terminals cut off at 100,000 bytes, hterm and older tmux and screen here."""
TEXT_MAX_BYTES = BASE64_MAX // 4 * 3


class TooLongError(ValueError):
    """A text is longer than terminals take."""


def clipboard_sequence(text: str, environ: Mapping[str, str]) -> str:
    r"""The escape sequences that put a harmless text into the clipboard. Raises TooLongError.

    tmux takes OSC 52 itself with `set-clipboard on`, and passes on what is wrapped for it with `allow-passthrough on`;
    inside of tmux both are sent, since it does not tell which holds.
    """
    data = text.encode("utf-8")
    if len(data) > TEXT_MAX_BYTES:
        raise TooLongError
    sequence = f"\x1b]52;c;{base64.b64encode(data).decode('ascii')}\x07"
    if environ.get("TMUX"):
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"{sequence}\x1bPtmux;{doubled}\x1b\\"
    return sequence


def what_is_needed(environ: Mapping[str, str]) -> str:
    """What must be allowed for the text to arrive, for a person."""
    if environ.get("TMUX"):
        return "tmux must have `set -g set-clipboard on`, and the terminal must allow OSC 52"
    return "the terminal must allow it (OSC 52)"


def write_to_terminal(app: App[Any], sequence: str) -> None:
    """Write a sequence that draws nothing, in order with what is drawn."""
    if app._driver is not None:  # noqa: SLF001 - Textual's own `copy_to_clipboard` does the same, without tmux
        app._driver.write(sequence)  # noqa: SLF001

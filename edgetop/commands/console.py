"""What is said to a person, on stderr; stdout is for data.

Long work shows its progress on a terminal and stays silent in a pipe.
"""

from __future__ import annotations

import os
import sys

from edgetop.core.text import literal, one_line


def say(text: str) -> None:
    """Write one line to stderr."""
    clear_progress()
    sys.stderr.write(f"{one_line(text)}\n")
    sys.stderr.flush()


def say_trouble(text: str, mend: str = "") -> None:
    """Write one line what, and one line how to mend it."""
    say(f"edgetop: {text}")
    if mend:
        sys.stderr.write(f"         {one_line(mend)}\n")


def show_progress(text: str) -> None:
    """Write over the line of progress."""
    if shows_progress():
        sys.stderr.write(f"\r{one_line(text)}\x1b[K")
        sys.stderr.flush()


def clear_progress() -> None:
    """Take the line of progress away."""
    if shows_progress():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def shows_progress() -> bool:
    """Whether stderr is a terminal on which a line can be written over."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def write_reply(text: str) -> None:
    """Write a piece of a reply to stdout at once, harmless to a terminal."""
    sys.stdout.write(literal(text))
    sys.stdout.flush()


def write_data(text: str) -> None:
    """Write text that is data, and already harmless, to stdout."""
    sys.stdout.write(text)

"""How a running command is stopped: one page that both processes map.

Each command owns two bytes of the page, numbered by its place in the stream of commands. The second byte is always
zero, so that libc's `strlen` on the first one returns 0 to go on and 1 to stop. llama.cpp calls its abort callback once
per graph node, several hundred times a token; `strlen` is a callback that needs no interpreter lock.

Since a flag belongs to one command, a stop can neither be lost before its command begins nor reach the one after it.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from edgetop.inference.anonymous_file import anonymous_file

PAGE_BYTES = 4096
FLAG_BYTES = 2
FLAGS = PAGE_BYTES // FLAG_BYTES
"""Flags are used again after so many commands; far more than are ever under way at once."""


class StopFlags:
    """The page. The side with the screen clears and sets flags, the worker only reads them."""

    def __init__(self, fd: int) -> None:
        """Map the page behind `fd`, which stays the caller's to close."""
        self._page = mmap.mmap(fd, PAGE_BYTES)

    @staticmethod
    def create() -> int:
        """A descriptor of a new page with all flags clear."""
        fd = anonymous_file("edgetop-stop")
        os.ftruncate(fd, PAGE_BYTES)
        return fd

    def clear(self, command: int) -> None:
        """Make ready for a command that is about to be sent; `command` counts from 0."""
        self._page[command % FLAGS * FLAG_BYTES] = 0

    def set(self, command: int) -> None:
        """Stop a command, whether it runs already or not."""
        self._page[command % FLAGS * FLAG_BYTES] = 1

    def is_set(self, command: int) -> bool:
        """Whether a command is to stop."""
        return self._page[command % FLAGS * FLAG_BYTES] != 0

    def address(self, command: int) -> int:
        """Where the flag of a command lies in this process, as a C string; valid until `close`."""
        page = ctypes.c_char.from_buffer(self._page)
        return ctypes.addressof(page) + command % FLAGS * FLAG_BYTES

    def close(self) -> None:
        """Unmap the page. Addresses handed out before must not be used any more."""
        self._page.close()

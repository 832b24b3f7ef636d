"""A child process that must not outlive the one it works for."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent's thread ends, even in the middle of a decode.

    Only Linux can; elsewhere the worker leaves when it next reads or writes the socket.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

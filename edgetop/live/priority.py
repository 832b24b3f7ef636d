"""Giving way to the model.

The screen and the sampler share the cores with the decoding threads, which wait for each other after every layer:
whoever holds a core for a millisecond holds all of them up. The engine's process keeps the normal priority; ours steps
back.
"""

from __future__ import annotations

import os
import sys

OWN_NICENESS = 5
"""Enough to be put after the model where both want a core, little enough for a keystroke to be echoed at once."""


def give_way() -> None:
    """Lower the priority of the calling thread and of those it starts; a lower one already in force stays.

    On Linux niceness belongs to a thread: one started before keeps its own, and what it spawns has that.
    """
    try:
        if sys.platform == "linux":
            thread = 0  # the calling one
            if os.getpriority(os.PRIO_PROCESS, thread) < OWN_NICENESS:
                os.setpriority(os.PRIO_PROCESS, thread, OWN_NICENESS)
        elif os.getpriority(os.PRIO_PROCESS, 0) < OWN_NICENESS:
            os.setpriority(os.PRIO_PROCESS, 0, OWN_NICENESS)
    except OSError:
        return

"""Waiting for something to become true, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE_S = 60.0
"""A test that waits so long has failed; nothing is measured with it."""
_LOOK_AGAIN_S = 0.05


def eventually(
    condition: Callable[[], T | None],
    what: str,
    *,
    deadline_s: float = DEADLINE_S,
    told: Callable[[], str] = lambda: "",
) -> T:
    """What `condition` gives as soon as that is true; fails with `what`, and with what is `told` of the state then."""
    end_s = time.monotonic() + deadline_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {deadline_s:g} s: {what}\n{told()}")
        time.sleep(_LOOK_AGAIN_S)

"""Series for graphs that are asked for once a second: steps that are over are kept, and only new ones computed.

So a graph costs what has happened since it was drawn last, however long the session is and whatever it shows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class RollingHistory(Generic[Value]):
    """One series in equal steps that are aligned to multiples of their length."""

    def __init__(self, compute: Callable[[int, int, int], list[Value]]) -> None:
        """`compute(t_us, steps, step_us)` gives the values of the last `steps` steps up to that of `t_us`."""
        self.computed = 0
        """How many steps were computed so far: the work that it has done."""
        self._compute = compute
        self._kept: list[Value] = []
        self._first = 0
        """The number of the first step that is kept."""
        self._t_us = 0
        self._under: tuple[int, object] = (0, None)

    def until(self, t_us: int, steps: int, step_us: int, settled_us: int, version: object = None) -> list[Value]:
        """The last `steps` values, that of the step in which `t_us` lies at the end.

        What ended by `settled_us` is taken to stay as it is, as long as `version` is the same and time goes forward.
        """
        if (step_us, version) != self._under or t_us < self._t_us:
            self._kept, self._under = [], (step_us, version)
        self._t_us = t_us
        end = t_us // step_us + 1
        first = end - steps
        kept_end = self._first + len(self._kept)
        begin = kept_end if self._first <= first < kept_end else first
        old = self._kept[first - self._first :] if begin != first else []
        values = [*old, *self._compute(t_us, end - begin, step_us)]
        self.computed += end - begin
        self._first = first
        self._kept = values[: max(0, min(settled_us // step_us, end) - first)]
        return values

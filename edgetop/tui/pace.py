"""How often a screen draws while a model decodes.

The decoding threads wait for each other after every layer, so what the screen takes of one core all of them lose. On a
fast machine a draw each second is nothing; on a small board the same draw takes many times as long, and is made more
rarely there: text and panes have a fixed share of a core, whatever the core.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TEXT_SHARE = 0.0025
PANES_SHARE = 0.0025
"""Of one core. Sensors and the journal take as much again and more, and all of it is to stay below one percent."""
TEXT_STEPS_S = (0.25, 0.35, 0.5)
"""More often than the first would cost tokens that nobody reads the sooner for; more rarely than the last stutters."""
PANES_STEP_S = 0.5
PANES_MOST_S = 5.0
LEARNING = 0.2
"""Weight of the latest cost in the mean."""


class Pace:
    """Learns what text and panes cost, in processor time of this thread."""

    def __init__(self, chosen_below_s: float, clock: Callable[[], float] = time.thread_time) -> None:
        self._chosen_below_s = chosen_below_s
        """A person who wants the panes sooner than this has chosen so."""
        self._clock = clock
        self._text_s = 0.0
        self._panes_s = 0.0
        self._drew = False

    @contextmanager
    def measured(self) -> Iterator[None]:
        """One round: text is appended, and the panes are drawn where `draws` says so inside."""
        self._drew = False
        begin_s = self._clock()
        yield
        cost_s = self._clock() - begin_s
        if self._drew:
            self._panes_s += LEARNING * (max(0.0, cost_s - self._text_s) - self._panes_s)
        else:
            self._text_s += LEARNING * (cost_s - self._text_s)

    def draws(self) -> None:
        """The panes are drawn in this round."""
        self._drew = True

    @property
    def text_every_s(self) -> float:
        """Seconds from one round to the next."""
        least_s = self._text_s / TEXT_SHARE
        return next((step_s for step_s in TEXT_STEPS_S if step_s >= least_s), TEXT_STEPS_S[-1])

    def panes_every_s(self, wanted_s: float) -> float:
        """Seconds from one drawing of the panes to the next, not less than `wanted_s`."""
        if wanted_s < self._chosen_below_s:
            return wanted_s
        affordable_s = math.ceil(self._panes_s / PANES_SHARE / PANES_STEP_S) * PANES_STEP_S
        return max(wanted_s, min(affordable_s, PANES_MOST_S))

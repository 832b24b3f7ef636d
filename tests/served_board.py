"""A virtual board whose power follows one process of this machine, for a watch of servers; its truth is kept."""

from __future__ import annotations

import random
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.virtual_board import KINDS, TICK_S, Board, _cpu_s, plant


class ServedBoard:
    """Stepped by a thread; stamps are those of the monotonic clock."""

    def __init__(self, root: Path, kind: str, pid: int, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - the same every time
        plant(root / "proc/device-tree/model", f"Virtual board ({kind})")
        (root / "proc" / str(pid)).symlink_to(f"/proc/{pid}")
        (root / "proc/net").mkdir(parents=True, exist_ok=True)
        for table in ("tcp", "tcp6", "stat", "meminfo"):
            where = f"net/{table}" if table.startswith("tcp") else table
            if not (root / "proc" / where).exists():
                (root / "proc" / where).symlink_to(f"/proc/{where}")
        self._pid = pid
        self._board = Board(KINDS[kind](root, chance), chance)
        self._used_s = _cpu_s(pid) or 0.0
        self._t_us: list[int] = []
        self._energy_j: list[float] = []
        self.step()

    def step(self) -> None:
        """Go on to now."""
        used_s = _cpu_s(self._pid) or self._used_s
        busy_s, self._used_s = used_s - self._used_s, used_s
        now_us = time.monotonic_ns() // 1000
        self._board.step(now_us / 1e6, busy_s)
        self._t_us.append(now_us)
        self._energy_j.append(self._board.energy_j)

    def energy_j(self, start_us: int, end_us: int) -> float:
        """True energy between two moments."""
        return self._until_j(end_us) - self._until_j(start_us)

    def _until_j(self, t_us: int) -> float:
        k = min(max(1, bisect_right(self._t_us, t_us)), len(self._t_us) - 1)
        begin_us, end_us = self._t_us[k - 1], self._t_us[k]
        share = (t_us - begin_us) / (end_us - begin_us)
        return self._energy_j[k - 1] + share * (self._energy_j[k] - self._energy_j[k - 1])


@contextmanager
def served_board(root: Path, kind: str, pid: int, seed: int = 1) -> Iterator[ServedBoard]:
    """A board that goes on until the end."""
    board = ServedBoard(root, kind, pid, seed)
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(TICK_S):
            board.step()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield board
    finally:
        ended.set()
        thread.join()

"""What the watched processes take together: the same channels as those of a model of our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgetop.core.clock import US_PER_S
from edgetop.core.records import Missing
from edgetop.telemetry.processes import FIRST_READING, EngineProcessUse, OwnUse, ProcessUse, process_use
from edgetop.telemetry.source import Absent, Host, Source

ENDED = Missing("it has ended")


def probe(host: Host) -> Iterator[Source | Absent]:
    """The processes of `host.worker_pid` and `host.helper_pids` together, below the sysroot; and this process."""
    yield EngineProcessUse(host, host.path("/proc"))
    yield OwnUse(host)


class GroupUse:
    """Memory and processor time of one process and of those that work for it, from reading to reading."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._before: tuple[int, dict[int, ProcessUse]] | None = None

    def read(self, pids: Sequence[int]) -> tuple[float | Missing, float | Missing]:
        """Resident bytes, shared pages counted in each process that has them, and per cent of one core."""
        now_us, proc = self._host.clock(), self._host.path("/proc")
        found = {pid: process_use(pid, self._host.system, proc) for pid in pids}
        uses = {pid: use for pid, use in found.items() if use is not None}
        before, self._before = self._before, (now_us, uses)
        if not uses:
            return ENDED, ENDED
        resident_bytes = float(sum(use.resident_bytes for use in uses.values()))
        if before is None or before[0] >= now_us:
            return resident_bytes, FIRST_READING
        earlier = before[1]
        spent_s = sum(max(0.0, use.cpu_s - earlier[pid].cpu_s) for pid, use in uses.items() if pid in earlier)
        return resident_bytes, 100.0 * spent_s * US_PER_S / (now_us - before[0])

"""A session without a model of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.sources import MEMORY_USED, SINCE_BOOT_SUFFIX, THROTTLE_PREFIX, Unavailable
from edgetop.inference.child_process import lower_priority
from edgetop.inference.server.address import Address
from edgetop.live.live_session import RecordedSession, Recorder
from edgetop.live.server_monitor import ServerMonitor, ServerStatus
from edgetop.session.snapshot import Reading, Snapshot
from edgetop.session.store import Store
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host
from edgetop.telemetry.processes import watched_probe as probe_watched
from edgetop.telemetry.registry import Inventory, PowerChoice, take_inventory

if TYPE_CHECKING:
    from edgetop.live.alerts import Alerts
    from edgetop.live.metrics import Exporter

NOTHING_RUNS = Unavailable("no model process was found on this machine")


class WatchOptions(Struct, frozen=True, kw_only=True):
    """What is watched, and how it is recorded."""

    servers: Mapping[Address, str] = {}
    """Servers to ask besides those that are found on this machine, each with its key, which no other server is sent and
    which is never recorded; empty without one."""
    sysroot: Path = Path("/")
    power: PowerChoice = PowerChoice()
    record: bool = True
    text_recorded: bool = False
    """Of requests that are passed on; a watch reads no texts."""
    output: Path | None = None
    alerts: Alerts | None = None
    exporters: Sequence[Exporter] = ()


class WatchSession(RecordedSession):
    """Starts everything, and brings together what comes in when `pump` is called, about once a second."""

    def __init__(self, options: WatchOptions, store: Store, on_trouble: Callable[[str], None]) -> None:
        self._options = options
        lower_priority()
        self._watch: ServerMonitor | None = None
        self._host = Host(
            sysroot=options.sysroot,
            worker_pid=self._first_pid,
            helper_pids=self._other_pids,
            no_worker=lambda: NOTHING_RUNS,
            uses_gpu=lambda: None if self._watch is None else self._watch.uses_gpu,
        )
        recorder = Recorder(
            device=describe(self._host),
            store=store if options.record else None,
            text_recorded=options.text_recorded,
            power=options.power.headline,
            output=options.output,
            kind="watch",
            on_trouble=on_trouble,
        )
        super().__init__(recorder, store, alerts=options.alerts, exporters=options.exporters)
        self._watch = ServerMonitor(self._host, options.servers, remote_counts=bool(options.power.streams))
        self._watch.start()
        self._find_sensors(self._inventory_of_machine)

    @property
    def rows(self) -> Sequence[ServerStatus]:
        """The services as they were at the last look."""
        return () if self._watch is None else self._watch.rows

    @property
    def has_searched(self) -> bool:
        """Whether everything has been looked for and the sensors are being read."""
        return self._watch is not None and self._watch.rounds > 0 and self.has_sensors

    def pump(self) -> None:
        """Process what was seen and read since the last call."""
        self._record_samples()
        if self._watch is not None:
            for record in self._watch.drain():
                self.recorder.record(record)
        self._check_when_due()

    def close(self) -> Path | None:
        """End the reading and save the session; its path, or `None` if there was nothing to keep.

        Raises StoreError when the session can be written nowhere.
        """
        if self._watch is not None:
            self._watch.stop()
        self._stop_sensors()
        self.pump()
        self._background.shutdown(wait=False)
        return self.recorder.finish()

    def _inventory_of_machine(self) -> Inventory:
        power = self._options.power
        families = [(family, probe_watched if family == "processes" else probe) for family, probe in power.families]
        return take_inventory(self._host, [*power.probes, *families])

    def _first_pid(self) -> int | None:
        pids = () if self._watch is None else self._watch.pids
        return next(iter(pids), None)

    def _other_pids(self) -> tuple[int, ...]:
        return () if self._watch is None else self._watch.pids[1:]


def reading_of(now: Snapshot, rows: Sequence[ServerStatus]) -> dict[str, object]:
    """The object of `watch --json` for a moment."""
    view = now.watch
    energy = None if view is None else view.figures.energy
    power = None if isinstance(now.power, Unavailable) else now.power
    throttles = [
        (name.removeprefix(THROTTLE_PREFIX), reading)
        for name, reading in now.readings.items()
        if name.startswith(THROTTLE_PREFIX) and not name.endswith(SINCE_BOOT_SUFFIX) and isinstance(reading, Reading)
    ]
    return {
        "type": "reading",
        "t_s": round(now.t_us / US_PER_S, 3),
        "tokens_per_s": None if view is None else view.recent_tokens_per_s,
        "generated_tokens": None if view is None else view.figures.generated_tokens,
        "at_least": view is not None and view.figures.at_least,
        "requests_running": None if view is None else view.requests_running,
        "requests_waiting": None if view is None else view.requests_waiting,
        "power_w": None if power is None else power.power_w,
        "power_scope": None if power is None else power.scope,
        "rss_bytes": now.memory.rss_bytes,
        "j_per_token": None if energy is None else energy.j_per_token,
        "energy_j": None if energy is None else energy.gross_j,
        "energy_missing": "" if view is None else view.figures.energy_missing,
        "temperature_cpu_c": _value(now, "temperature.cpu"),
        "throttling": [name for name, reading in throttles if reading.value > 0] if throttles else None,
        "memory_used_bytes": _value(now, MEMORY_USED),
        "memory_total_bytes": _value(now, "memory.total"),
        "models": sorted({model for row in rows for model in row.models}),
        "services": [_service(row) for row in rows],
    }


def _value(now: Snapshot, channel: str) -> float | None:
    reading = now.readings.get(channel)
    return reading.value if isinstance(reading, Reading) else None


def _service(row: ServerStatus) -> dict[str, object]:
    """A service in a reading, without what the summary tells of it."""
    usage = row.usage
    return {
        "number": row.number,
        "kind": row.kind,
        "pid": row.pid,
        "address": row.address,
        "state": row.state,
        "tokens_per_s": row.tokens_per_s,
        "generated_tokens": usage.tokens if usage is not None and isinstance(usage.tokens, int) else None,
        "requests_running": None if usage is None else usage.running,
        "requests_waiting": None if usage is None else usage.waiting,
        "context_share": None if usage is None else usage.context_share,
        "slots": [] if usage is None else usage.slots,
        "rss_bytes": row.resident_bytes,
        "cpu_percent": row.cpu_percent,
        "gpu_bytes": row.gpu_bytes,
    }

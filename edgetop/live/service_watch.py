"""All model processes and model servers of others, looked at by one thread about once a second.

Only addresses that the person gave, or on which a model server of this machine listens, are ever contacted. Readings
wait here until `drain` fetches them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable, Sequence
from itertools import count

from edgetop.core.clock import US_PER_S
from edgetop.core.records import Channel, Event, Missing, Record, Sampled, SourceAdded, SourceInfo
from edgetop.core.token_counts import TokenSum, Told
from edgetop.inference.server.address import Address
from edgetop.inference.server.usage import ServerObserver
from edgetop.inference.server.usage_readers import recognise
from edgetop.live.server_place import PROGRAMS, ServerPlace
from edgetop.live.watched_service import PERIOD_S, ServiceRow, WatchedService, address_of
from edgetop.session import channels
from edgetop.telemetry.listening import listening_pid
from edgetop.telemetry.model_processes import ModelProcess, ModelProcesses
from edgetop.telemetry.nvml_processes import GpuProcesses
from edgetop.telemetry.source import Host

FIND_EVERY = 5
"""Rounds from one look for processes to the next."""
SERVICES_MOST = 32
STOP_S = 5.0
"""How long `stop` waits for a server that is just being asked."""
NOTHING_FOUND = Missing("no model server that counts its tokens was found")
SOURCE = SourceInfo(
    name="servers",
    driver="http",
    period_s=PERIOD_S,
    channels=(
        Channel(name=channels.SERVED_TOKENS, unit="1"),
        Channel(name=channels.SERVED_PROMPT_TOKENS, unit="1"),
        Channel(name=channels.SERVED_RUNNING, unit="1"),
        Channel(name=channels.SERVED_WAITING, unit="1"),
        Channel(name=channels.SERVED_UNSURE, unit="1", digits=1),
    ),
)


class ServiceWatch:
    """Looks from `start` to `stop`."""

    def __init__(
        self, host: Host, given: Sequence[Address] = (), *, key: str = "", elsewhere_counts: bool = False
    ) -> None:
        """`given` are servers to ask besides those that are found; only they are sent the `key`.

        `elsewhere_counts` says that the power of other machines is brought here, so that their tokens count.
        """
        self._host = host
        self._processes = ModelProcesses(host)
        self._gpu = GpuProcesses()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._records: list[Record] = [SourceAdded(source=SOURCE)]
        self.rows: tuple[ServiceRow, ...] = ()
        """The services as they were at the last round."""
        self.pids: tuple[int, ...] = ()
        """All watched processes that run."""
        self.rounds = 0
        """How many times all were looked at."""
        self._tokens, self._prompts = TokenSum(), TokenSum()
        self._numbers = count(1)
        self._services: list[WatchedService] = []
        for address in given:
            place = ServerPlace(address)
            missing = None if place.is_here or elsewhere_counts else place.power_elsewhere
            observer = self._observer(address, key)
            self._services.append(WatchedService(next(self._numbers), host, observer=observer, elsewhere=missing))
        self._thread = threading.Thread(target=self._run, name="edgetop-watch", daemon=True)

    def start(self) -> None:
        """Begin to look, once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the round that is under way, which is cut short."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def drain(self) -> list[Record]:
        """What was seen since the call before."""
        with self._lock:
            records, self._records = self._records, []
        return records

    def round(self) -> None:
        """Look at everything once."""
        if self.rounds % FIND_EVERY == 0:
            self._find()
        begin_us = self._host.clock()
        for service in self._services:
            service.ask()
        t_us = (begin_us + self._host.clock()) // 2
        for service in self._services:
            service.measure()
        records = [record for service in self._services for record in service.records(t_us)]
        records.append(self._together(t_us))
        ended = [service for service in self._services if service.has_ended]
        records += [_ending(service, t_us) for service in ended]
        self._services = [service for service in self._services if service not in ended]
        with self._lock:
            self._records += records
        self.rows = tuple(service.row() for service in self._services)
        self.pids = tuple(pid for service in self._services for pid in service.pids)
        self.rounds += 1

    def _run(self) -> None:
        period_us = round(PERIOD_S * US_PER_S)
        while not self._stop.is_set():
            try:
                self.round()
            except Exception as error:  # noqa: BLE001 - whatever a process or server shows, the others are watched on
                words = " ".join(f"{type(error).__name__}: {error}".split())
                event = Event(t_us=self._host.clock(), kind="watch_failed", text=f"Looking at servers failed: {words}")
                with self._lock:
                    self._records.append(event)
                self.rounds += 1
            now_us = self._host.clock()
            due_us = ((now_us + period_us // 4) // period_us + 1) * period_us
            self._stop.wait((due_us - now_us) / US_PER_S)

    def _observer(self, address: Address, key: str = "") -> ServerObserver:
        return ServerObserver(address, recognise, key=key, clock=self._host.clock, stopped=self._stop.is_set)

    # Finding

    def _find(self) -> None:
        found = list(self._processes.look())
        gpu = self._gpu.bytes_by_pid() if found else {}
        for service in self._services:
            service.process = self._still(service, found)
            if service.process in found:
                found.remove(service.process)
        for process in found:
            if len(self._services) < SERVICES_MOST:
                self._services.append(self._new(process))
        for service in self._services:
            self._give_observer(service)
            held = [gpu[pid] for pid in service.pids if pid in gpu]
            service.gpu_bytes = sum(held) if held else None

    def _still(self, service: WatchedService, found: Sequence[ModelProcess]) -> ModelProcess | None:
        """The process of a service: the one that it was, else the one that listens at its address now."""
        before = service.process
        for process in found:
            if before is not None and (process.pid, process.started) == (before.pid, before.started):
                return process
        if service.observer is None:
            return before
        address = service.observer.address
        for process in found:
            if any(port == address.port for _, port in process.addresses) and ServerPlace(address).is_here:
                return process
        return self._by_port(address, found) if service.is_given else None

    def _by_port(self, address: Address, found: Sequence[ModelProcess]) -> ModelProcess | None:
        """The process that listens at an address that was given, whatever its program."""
        if not ServerPlace(address).is_here:
            return None
        pid = listening_pid(self._host, address.port, PROGRAMS)
        if isinstance(pid, Missing) or pid == os.getpid():
            return None
        return next((process for process in found if process.pid == pid), ModelProcess(pid=pid, kind=""))

    def _new(self, process: ModelProcess) -> WatchedService:
        service = WatchedService(next(self._numbers), self._host)
        service.process = process
        return service

    def _give_observer(self, service: WatchedService) -> None:
        if service.observer is None and service.process is not None:
            address = address_of(service.process)
            if address is not None:
                service.observer = self._observer(address)

    # All together

    def _together(self, t_us: int) -> Sampled:
        counting = [service for service in self._services if service.counts != "nothing"]
        tokens = self._tokens.look({service.number: service.told for service in counting})
        usages = [
            service.look.usage
            for service in self._services
            if service.look is not None and service.look.usage is not None
        ]
        told_prompts: dict[Hashable, Told] = {
            service.number: service.told_prompts for service in counting if service.told_prompts is not None
        }
        values: tuple[float | Missing, ...] = (
            tokens if counting else self._why_none(),
            self._prompts.look(told_prompts) if told_prompts else Missing("no server tells it"),
            _sum([usage.running for usage in usages]),
            _sum([usage.waiting for usage in usages]),
            sum(service.unsure_at(t_us) for service in counting),
        )
        return Sampled(
            source=SOURCE.name,
            t_us=t_us,
            values=tuple(None if isinstance(value, Missing) else float(value) for value in values),
            reasons=tuple(value.reason if isinstance(value, Missing) else "" for value in values),
        )

    def _why_none(self) -> Missing:
        reasons = [service.no_count for service in self._services if service.observer is not None]
        return next((reason for reason in reasons if reason is not None), NOTHING_FOUND)


def _ending(service: WatchedService, t_us: int) -> Event:
    pid = "" if service.process is None else f" (process {service.process.pid})"
    return Event(t_us=t_us, kind="service_ended", text=f"{service.kind}{pid} has ended.")


def _sum(parts: Sequence[int | None]) -> float | Missing:
    known = [part for part in parts if part is not None]
    return float(sum(known)) if known else Missing("no server tells it")

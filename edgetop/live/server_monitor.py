"""Model servers of others: found, polled, recorded.

Only addresses that the person gave, or on which a model server of this machine listens, are ever contacted. Readings
wait here until `drain` fetches them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core import sources
from edgetop.core.clock import US_PER_S
from edgetop.core.records import Event, Record, Sampled, ServiceSeen, SourceAdded, TokensCounted
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.core.text import one_line
from edgetop.core.token_counts import ReportedCount, TokenSum
from edgetop.inference.server.address import Address
from edgetop.inference.server.detection import recognise
from edgetop.inference.server.usage import PollResult, ServerPoller, State, Usage
from edgetop.live.server_location import PROGRAMS, ServerLocation
from edgetop.telemetry.host import Host
from edgetop.telemetry.model_processes import ModelProcess, ModelProcesses, listening_pid
from edgetop.telemetry.nvidia import GpuProcesses
from edgetop.telemetry.processes import ENDED, GroupUse

PERIOD_S = 1.0

LEFT_ALONE_S = (1.0, 2.0, 5.0, 10.0)
"""How long a server that did not answer in time is not asked; the last one from then on."""

NOT_ASKED = Unavailable("it is no server that can be asked")

_SERVER_CHANNELS = (
    ("up", "1", 0),
    ("generated_tokens", "1", 0),
    ("prompt_tokens", "1", 0),
    ("requests_running", "1", 0),
    ("requests_waiting", "1", 0),
    ("context_use", "%", 1),
    ("answer_time", "s", 4),
)

_PROCESS_CHANNELS = (("rss", "B", 0), ("cpu", "%", 1))


class ServerStatus(Struct, frozen=True, kw_only=True):
    """A service as it was at the last look, for a person."""

    number: int
    kind: str
    version: str = ""
    models: tuple[str, ...] = ()
    address: str = ""
    pid: int | None = None
    state: State | None = None
    """`None` for a process that is not asked."""
    trouble: Unavailable | None = None
    """Why it does not answer, or has no address."""
    usage: Usage | None = None
    tokens_per_s: float | None = None
    resident_bytes: float | None = None
    cpu_percent: float | None = None
    threads: int | None = None
    gpu_bytes: int | None = None
    is_open: bool = True
    """False: another user's process, of which little is shown."""


class MonitoredServer:
    """Found once, then looked at once a second; all from one thread."""

    def __init__(
        self, number: int, host: Host, *, observer: ServerPoller | None = None, elsewhere: Unavailable | None = None
    ) -> None:
        """`elsewhere` says why the tokens of a server on another machine do not count here."""
        self.number = number
        self.process: ModelProcess | None = None
        self.observer = observer
        self.is_given = observer is not None
        self.look: PollResult | None = None
        self._elsewhere = elsewhere
        self._host = host
        self._use = GroupUse(host)
        self._resident: float | Unavailable = NOT_ASKED
        self._cpu: float | Unavailable = NOT_ASKED
        self.gpu_bytes: int | None = None
        self._usage: Usage | None = None
        """The latest that was told."""
        self._rate: float | None = None
        self._counted: tuple[int, int] | None = None
        self._failures = 0
        self._due_s = 0.0
        self._seen: ServiceSeen | None = None
        self._state: State | None = None

    @property
    def address(self) -> str:
        """Where it is asked."""
        return "" if self.observer is None else str(self.observer.address)

    @property
    def kind(self) -> str:
        """The program, as the server itself says or else as its process looks."""
        told = "" if self._usage is None or self._usage.kind == "openai" else self._usage.kind
        return one_line(told or ("" if self.process is None else self.process.kind)) or "server"

    @property
    def pids(self) -> tuple[int, ...]:
        """Its process and those that work for it."""
        return () if self.process is None else (self.process.pid, *self.process.workers)

    @property
    def counts(self) -> TokensCounted:
        """Which tokens it counts that belong to this machine's energy."""
        return "nothing" if self._usage is None or self._elsewhere is not None else self._usage.counts

    @property
    def told(self) -> ReportedCount:
        """Its count, or why it is not known."""
        return Unavailable("it has not answered yet") if self.look is None else self.look.told

    @property
    def told_prompts(self) -> int | None:
        """Its count of prompt tokens, if it answered with one."""
        return None if self.look is None or self.look.usage is None else self.look.usage.prompt_tokens

    @property
    def no_count(self) -> Unavailable | None:
        """Why it does not count all tokens at once."""
        if self._elsewhere is not None:
            return self._elsewhere
        if self._usage is not None:
            return self._usage.no_count
        if self.look is not None and self.look.trouble is not None:
            return self.look.trouble
        if self.process is not None and self.process.port_missing:
            return Unavailable(self.process.port_missing, "give its address: --server URL")
        return NOT_ASKED

    def unsure_at(self, t_us: int) -> float:
        """Tokens by which its count may be off at a moment near its look."""
        if self.look is None or self.look.usage is None:
            return 0.0
        return self.look.usage.unsure + (self._rate or 0.0) * abs(self.look.t_us - t_us) / US_PER_S

    def ask(self) -> None:
        """Look at the server, unless it is to be left alone for a while."""
        if self.observer is None or time.monotonic() < self._due_s:
            return
        look = self.look = self.observer.look()
        if look.state in {"silent", "refuses"}:
            self._due_s = time.monotonic() + LEFT_ALONE_S[min(self._failures, len(LEFT_ALONE_S) - 1)]
            self._failures += 1
        else:
            self._failures = 0
        self._rate = None
        counted, self._counted = self._counted, None
        if look.usage is not None:
            self._usage = look.usage
            if isinstance(look.usage.tokens, int):
                self._counted = (look.t_us, look.usage.tokens)
                if counted is not None and look.t_us > counted[0] and look.usage.tokens >= counted[1]:
                    self._rate = (look.usage.tokens - counted[1]) * US_PER_S / (look.t_us - counted[0])

    def measure(self) -> None:
        """Read what its processes take."""
        if self.process is None:
            self._resident = self._cpu = Unavailable("its process is not known")
        else:
            self._resident, self._cpu = self._use.read(self.pids)

    @property
    def has_ended(self) -> bool:
        """Its process is gone, and it cannot be asked either."""
        return self.observer is None and self._resident is ENDED

    def records(self, t_us: int) -> Iterator[Record]:
        """What is new since the call before, and a reading. Stamped with `t_us`."""
        seen = ServiceSeen(
            t_us=t_us,
            number=self.number,
            kind=self.kind,
            version="" if self._usage is None else one_line(self._usage.version),
            address=self.address,
            pid=None if self.process is None else self.process.pid,
            models=self.models,
            counts=self.counts,
            no_count=self.no_count,
        )
        if self._seen is None:
            yield SourceAdded(source=self._source())
        if self._seen is None or replace(self._seen, t_us=t_us) != seen:
            self._seen = seen
            yield seen
        state = None if self.look is None else self.look.state
        if state is not None and state != self._state:
            # Whatever is told first is what it was found in, which is no event.
            if self._state is not None:
                yield Event(t_us=t_us, kind=f"server_{state}", text=self._sentence(state), data={"server": self.number})
            self._state = state
        yield self._sample(t_us)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that it has."""
        told = () if self._usage is None else self._usage.models
        if told or self.process is None or not self.process.model:
            return tuple(map(one_line, told))
        return (one_line(_file_name(self.process.model)),)

    def row(self) -> ServerStatus:
        """As it was at the last look."""
        process = self.process
        trouble = None if self.look is None else self.look.trouble
        if self.look is None and process is not None and process.port_missing:
            trouble = Unavailable(process.port_missing, "give its address: --server URL")
        return ServerStatus(
            number=self.number,
            kind=self.kind,
            version="" if self._usage is None else one_line(self._usage.version),
            models=self.models,
            address=self.address,
            pid=None if process is None else process.pid,
            state=None if self.look is None else self.look.state,
            trouble=trouble,
            usage=None if self.look is None else self.look.usage,
            tokens_per_s=self._rate,
            resident_bytes=None if isinstance(self._resident, Unavailable) else self._resident,
            cpu_percent=None if isinstance(self._cpu, Unavailable) else self._cpu,
            threads=None if process is None or not process.threads else process.threads,
            gpu_bytes=self.gpu_bytes,
            is_open=process is None or process.is_open,
        )

    def _source(self) -> SourceInfo:
        is_server = self.observer is not None or (self.process is not None and bool(self.process.port_missing))
        self._channels = (*(_SERVER_CHANNELS if is_server else ()), *_PROCESS_CHANNELS)
        return SourceInfo(
            name=f"server.{self.number}",
            driver="http" if is_server else "procfs",
            path=self.address,
            period_s=PERIOD_S,
            channels=tuple(
                Channel(name=f"server.{self.number}.{name}", unit=unit, digits=digits)
                for name, unit, digits in self._channels
            ),
        )

    def _sample(self, t_us: int) -> Sampled:
        values = self._values()
        chosen = [values[name] for name, _, _ in self._channels]
        reasons = tuple(value.reason if isinstance(value, Unavailable) else "" for value in chosen)
        return Sampled(
            source=f"server.{self.number}",
            t_us=t_us,
            values=tuple(None if isinstance(value, Unavailable) else float(value) for value in chosen),
            reasons=reasons if any(reasons) else (),
        )

    def _values(self) -> dict[str, float | Unavailable]:
        values: dict[str, float | Unavailable] = {"rss": self._resident, "cpu": self._cpu}
        look = self.look
        trouble = self.no_count or NOT_ASKED if look is None else look.trouble or Unavailable("it does not tell that")
        values.update(dict.fromkeys((name for name, _, _ in _SERVER_CHANNELS), trouble))
        if look is None:
            return values
        values["up"] = 0.0 if look.state == "down" else 1.0 if look.usage is not None else trouble
        if look.usage is None:
            return values
        usage, not_told = look.usage, Unavailable("it does not tell that")
        share = usage.context_share
        values.update(
            generated_tokens=not_told if usage.tokens == "not running" else usage.tokens,
            prompt_tokens=_or(usage.prompt_tokens, not_told),
            requests_running=_or(usage.running, not_told),
            requests_waiting=_or(usage.waiting, not_told),
            context_use=not_told if share is None else 100 * share,
            answer_time=look.answer_s,
        )
        return values

    def _sentence(self, state: State) -> str:
        name = f"{self.kind} at {self.address}"
        match state:
            case "answers":
                return f"{name} answers."
            case "down":
                return f"{name} has ended: nobody listens there."
            case "loading":
                return f"{name} loads its model."
            case "busy":
                return f"{name} is well, but too busy to tell more."
        trouble = None if self.look is None else self.look.trouble
        return f"{name} does not answer{'' if trouble is None else f': {trouble.reason}'}."


def address_of(process: ModelProcess) -> Address | None:
    """Where a process of this machine is asked."""
    if not process.addresses:
        return None
    host, port = process.addresses[0]
    return Address("http", host, port)


def _or(value: float | None, missing: Unavailable) -> float | Unavailable:
    return missing if value is None else value


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


FIND_EVERY = 5
"""Rounds from one look for processes to the next."""

SERVICES_MOST = 32

STOP_S = 5.0
"""How long `stop` waits for a server that is just being asked."""

NOTHING_FOUND = Unavailable("no model server that counts its tokens was found")

SOURCE = SourceInfo(
    name="servers",
    driver="http",
    period_s=PERIOD_S,
    channels=(
        Channel(name=sources.SERVED_TOKENS, unit="1"),
        Channel(name=sources.SERVED_PROMPT_TOKENS, unit="1"),
        Channel(name=sources.SERVED_RUNNING, unit="1"),
        Channel(name=sources.SERVED_WAITING, unit="1"),
        Channel(name=sources.SERVED_UNSURE, unit="1", digits=1),
    ),
)


class ServerMonitor:
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
        self.rows: tuple[ServerStatus, ...] = ()
        """The services as they were at the last round."""
        self.pids: tuple[int, ...] = ()
        """All watched processes that run."""
        self.rounds = 0
        """How many times all were looked at."""
        self._tokens, self._prompts = TokenSum(), TokenSum()
        self._numbers = count(1)
        self._services: list[MonitoredServer] = []
        for address in given:
            place = ServerLocation(address)
            missing = None if place.is_here or elsewhere_counts else place.power_elsewhere
            observer = self._observer(address, key)
            self._services.append(MonitoredServer(next(self._numbers), host, observer=observer, elsewhere=missing))
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

    def _observer(self, address: Address, key: str = "") -> ServerPoller:
        return ServerPoller(address, recognise, key=key, clock=self._host.clock, stopped=self._stop.is_set)

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

    def _still(self, service: MonitoredServer, found: Sequence[ModelProcess]) -> ModelProcess | None:
        """The process of a service: the one that it was, else the one that listens at its address now."""
        before = service.process
        for process in found:
            if before is not None and (process.pid, process.started) == (before.pid, before.started):
                return process
        if service.observer is None:
            return before
        address = service.observer.address
        for process in found:
            if any(port == address.port for _, port in process.addresses) and ServerLocation(address).is_here:
                return process
        return self._by_port(address, found) if service.is_given else None

    def _by_port(self, address: Address, found: Sequence[ModelProcess]) -> ModelProcess | None:
        """The process that listens at an address that was given, whatever its program."""
        if not ServerLocation(address).is_here:
            return None
        pid = listening_pid(self._host, address.port, PROGRAMS)
        if isinstance(pid, Unavailable) or pid == os.getpid():
            return None
        return next((process for process in found if process.pid == pid), ModelProcess(pid=pid, kind=""))

    def _new(self, process: ModelProcess) -> MonitoredServer:
        service = MonitoredServer(next(self._numbers), self._host)
        service.process = process
        return service

    def _give_observer(self, service: MonitoredServer) -> None:
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
        told_prompts: dict[Hashable, ReportedCount] = {
            service.number: service.told_prompts for service in counting if service.told_prompts is not None
        }
        values: tuple[float | Unavailable, ...] = (
            tokens if counting else self._why_none(),
            self._prompts.look(told_prompts) if told_prompts else Unavailable("no server tells it"),
            _sum([usage.running for usage in usages]),
            _sum([usage.waiting for usage in usages]),
            sum(service.unsure_at(t_us) for service in counting),
        )
        return Sampled(
            source=SOURCE.name,
            t_us=t_us,
            values=tuple(None if isinstance(value, Unavailable) else float(value) for value in values),
            reasons=tuple(value.reason if isinstance(value, Unavailable) else "" for value in values),
        )

    def _why_none(self) -> Unavailable:
        reasons = [service.no_count for service in self._services if service.observer is not None]
        return next((reason for reason in reasons if reason is not None), NOTHING_FOUND)


def _ending(service: MonitoredServer, t_us: int) -> Event:
    pid = "" if service.process is None else f" (process {service.process.pid})"
    return Event(t_us=t_us, kind="service_ended", text=f"{service.kind}{pid} has ended.")


def _sum(parts: Sequence[int | None]) -> float | Unavailable:
    known = [part for part in parts if part is not None]
    return float(sum(known)) if known else Unavailable("no server tells it")

"""Model servers that others use: found, polled, recorded; which machine and process one is.

Only addresses that the user gave, or on which a model server of this machine listens, are ever contacted.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct
from msgspec.structs import replace

from edgetop.core import sources
from edgetop.core.clock import US_PER_S
from edgetop.core.records import Event, Record, Sampled, ServiceSeen, SourceAdded, TokensCounted
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.core.text import one_line
from edgetop.inference.server.address import KEY_BYTES_MAX, Address
from edgetop.inference.server.backend import detect, server_process_names, server_programs
from edgetop.inference.server.usage import (
    NOT_RUNNING,
    PollResult,
    ReportedCount,
    ServerPoller,
    State,
    TokenSum,
    Usage,
    combined,
)
from edgetop.live.server_request import ASLEEP, SpeedProbe, probe_speed
from edgetop.session.watch import RECENT_US
from edgetop.telemetry.host import NO_ENGINE, Host
from edgetop.telemetry.model_processes import ModelProcess, ModelProcesses, descendants, listening_pid
from edgetop.telemetry.nvidia import GpuProcesses
from edgetop.telemetry.processes import ENDED, GroupUse, holds_gpu

RESCAN_S = 5.0
"""A scan of all processes takes some milliseconds."""


class ServerLocation:
    """Where one server is. Called from the threads of the sampler."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.is_here = address.is_loopback or _is_own(address.host)
        self._found: int | Unavailable = NO_ENGINE
        self._helpers: tuple[int, ...] = ()
        self._scanned_s = -RESCAN_S
        self._host = Host()

    def use(self, host: Host) -> None:
        """Look for the process on this host."""
        self._host = host

    @property
    def no_readings(self) -> Unavailable:
        """Why this machine's sensors say nothing about the server."""
        return Unavailable(f"the server is on {self._address.authority}: this machine's readings are not its own")

    @property
    def no_power(self) -> Unavailable:
        """Why this machine's power says nothing about the server, and how to measure that of its machine."""
        hint = f'--power-stream "ssh {self._address.host} edgetop power --stream" reads it over your own SSH'
        return Unavailable(f"the server is on {self._address.authority}", hint)

    def pid(self) -> int | None:
        """The process that answers, if it runs here and we may see it."""
        self._scan()
        return None if isinstance(self._found, Unavailable) else self._found

    def helper_pids(self) -> tuple[int, ...]:
        """The processes that work for it, such as Ollama's runner, which has the model."""
        self._scan()
        return self._helpers

    def missing(self) -> Unavailable:
        """Why `pid` is `None`."""
        if not self.is_here:
            return self.no_readings
        return self._found if isinstance(self._found, Unavailable) else NO_ENGINE

    def _scan(self) -> None:
        if not self.is_here:
            return
        found, now_s = self._found, time.monotonic()
        gone = not isinstance(found, Unavailable) and not psutil.pid_exists(found)
        if now_s - self._scanned_s < RESCAN_S and not gone:
            return
        self._scanned_s = now_s
        if isinstance(found, Unavailable) or gone:
            found = listening_pid(self._host, self._address.port, server_process_names())
        self._helpers = () if isinstance(found, Unavailable) else descendants(self._host, found)
        self._found = found


def _is_own(name: str) -> bool:
    """Whether a name or an address is one of this machine's, without any request to a name server."""
    if name.lower() in {socket.gethostname().lower(), socket.gethostname().partition(".")[0].lower()}:
        return True
    own = {each.address.partition("%")[0].lower() for several in psutil.net_if_addrs().values() for each in several}
    return name.lower() in own


PERIOD_S = 1.0

BACKOFF_S = (1.0, 2.0, 5.0, 10.0)
"""How long a server that did not answer in time is not polled; the last one from then on."""

NOT_POLLED = Unavailable("it is no server that can be polled")

NOT_REPORTED = Unavailable("it does not report that")

NO_SERVER_REPORTS = Unavailable("no server reports it")

_SERVERS = dict.fromkeys(program.name for program in server_programs() if program.port is not None)

SEARCHED_FOR = f"{', '.join(_SERVERS)}, llama.cpp's tools, and any process that has a .gguf file mapped"
"""The model processes that are found, for a person."""

SCAN_EVERY = 5
"""Rounds from one scan for processes to the next."""

SERVERS_MAX = 32

_KEY_FLAGS, _KEY_VARIABLE, _KEY_FILE_VARIABLE = ("--api-key",), "LLAMA_API_KEY", "LLAMA_ARG_API_KEY_FILE"
_PREFIX: Final = (("--api-prefix",), "LLAMA_ARG_API_PREFIX")
_CERTIFICATE: Final = (("--ssl-cert-file",), "LLAMA_ARG_SSL_CERT_FILE")

FOR_OLLAMA = "set LLAMA_ARG_ENDPOINT_METRICS=1 in Ollama's environment"

STOP_S = 5.0
"""How long `stop` waits for a poll under way."""

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

_USAGE_CHANNELS: tuple[tuple[Channel, Callable[[Usage], ReportedCount | float | None]], ...] = (
    (Channel(name="generated_tokens", unit="1"), lambda usage: usage.tokens),
    (Channel(name="prompt_tokens", unit="1"), lambda usage: usage.prompt_tokens),
    (Channel(name="requests_running", unit="1"), lambda usage: usage.running),
    (Channel(name="requests_waiting", unit="1"), lambda usage: usage.waiting),
    (
        Channel(name="context_use", unit="%", digits=1),
        lambda usage: None if usage.context_share is None else 100 * usage.context_share,
    ),
)

_SERVER_CHANNELS = (
    Channel(name="up", unit="1"),
    *(channel for channel, _ in _USAGE_CHANNELS),
    Channel(name="answer_time", unit="s", digits=4),
)

_PROCESS_CHANNELS = (Channel(name="rss", unit="B"), Channel(name="cpu", unit="%", digits=1))


STATE_WORDS: Final[Mapping[State, str]] = {
    "answers": "answers",
    "asleep": "asleep",
    "loading": "loading its model",
    "busy": "busy",
    "silent": "no answer",
    "down": "ended",
    "needs_key": "needs a key",
    "refuses": "refuses",
}
"""For a person."""


class ServerStatus(Struct, frozen=True, kw_only=True):
    """A server as it was in the last round, for a person."""

    number: int
    kind: str
    version: str = ""
    models: tuple[str, ...] = ()
    address: str = ""
    pid: int | None = None
    state: State | None = None
    """`None` for a process that is not polled."""
    trouble: Unavailable | None = None
    """Why it does not answer, or has no address."""
    usage: Usage | None = None
    tokens_per_s: float | None = None
    """Over the last seconds, as of all servers together."""
    resident_bytes: float | None = None
    cpu_percent: float | None = None
    threads: int | None = None
    gpu_bytes: int | None = None
    probe: SpeedProbe | None = None
    """What came of the last small request, which only a person asks for."""
    is_open: bool = True
    """False: another user's process, of which little is shown."""


class MonitoredServer:
    """One server or model process, polled once a second; all from one thread."""

    def __init__(
        self,
        number: int,
        host: Host,
        *,
        poller: ServerPoller | None = None,
        remote: Unavailable | None = None,
        wants_probe: bool = False,
    ) -> None:
        """`remote` says why the tokens of a server on another machine do not count here."""
        self.number = number
        self.process: ModelProcess | None = None
        self.poller = poller
        self.is_given = poller is not None
        self.last_poll: PollResult | None = None
        self.engines: dict[int, ServerPoller] = {}
        """Of the servers that answer for it, by process."""
        self._of_engines = TokenSum()
        self._remote = remote
        self._host = host
        self._use = GroupUse(host)
        self._resident: float | Unavailable = NOT_POLLED
        self._cpu: float | Unavailable = NOT_POLLED
        self.gpu_bytes: int | None = None
        self.wants_probe = wants_probe
        self.probe: SpeedProbe | None = None
        self._told_probe: SpeedProbe | None = None
        self._usage: Usage | None = None
        """The latest that was reported."""
        self._rate: float | None = None
        self._counts: deque[tuple[int, int]] = deque()
        """Of the last seconds: when, and how many tokens."""
        self._failures = 0
        self._due_s = 0.0
        self._seen: ServiceSeen | None = None
        self._state: State | None = None

    @property
    def address(self) -> str:
        """Where it is polled."""
        return "" if self.poller is None else str(self.poller.address)

    @property
    def kind(self) -> str:
        """The program, as the server itself says or else as its process looks."""
        reported = "" if self._usage is None or self._usage.kind == "openai" else self._usage.kind
        return one_line(reported or ("" if self.process is None else self.process.kind)) or "server"

    @property
    def pids(self) -> tuple[int, ...]:
        """Its process and those that work for it."""
        return () if self.process is None else (self.process.pid, *self.process.workers)

    @property
    def counts(self) -> TokensCounted:
        """Which tokens it counts that belong to this machine's energy."""
        return "nothing" if self._usage is None or self._remote is not None else self._usage.counts

    @property
    def count(self) -> ReportedCount:
        """Its count, or why it is not known."""
        return Unavailable("it has not answered yet") if self.last_poll is None else self.last_poll.count

    @property
    def usage(self) -> Usage | None:
        """What the last poll reported."""
        return None if self.last_poll is None else self.last_poll.usage

    @property
    def no_count(self) -> Unavailable | None:
        """Why it does not count all tokens at once."""
        if self._remote is not None:
            return self._remote
        if self._usage is not None:
            return self._usage.no_count
        if self.last_poll is not None and self.last_poll.trouble is not None:
            return self.last_poll.trouble
        if self.process is not None and self.process.port_missing:
            return Unavailable(self.process.port_missing, "give its address: --server URL")
        return NOT_POLLED

    def uncertainty_at(self, t_us: int) -> float:
        """Tokens by which its count may be off at a moment near its last poll."""
        if self.last_poll is None or self.last_poll.usage is None:
            return 0.0
        return self.last_poll.usage.uncertainty + (self._rate or 0.0) * abs(self.last_poll.t_us - t_us) / US_PER_S

    def poll(self) -> None:
        """Poll the server, unless it is not due yet."""
        if self.poller is None or time.monotonic() < self._due_s:
            return
        result = self._with_engines(self.poller.poll())
        if self.poller.was_stopped and self.last_poll is not None:
            # The end of the watch cut it short: what was known of the server still holds.
            return
        self.last_poll = result
        if result.state in {"silent", "refuses", "needs_key"}:
            self._due_s = time.monotonic() + BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
            self._failures += 1
        else:
            self._failures = 0
        self._rate = None
        tokens = None if result.usage is None else result.usage.tokens
        self._usage = result.usage or self._usage
        counts = self._counts
        if not isinstance(tokens, int) or (counts and tokens < counts[-1][1]):
            counts.clear()
        if isinstance(tokens, int):
            if counts:
                self._rate = _per_s(counts[-1], (result.t_us, tokens))
            counts.append((result.t_us, tokens))
        while len(counts) > 2 and counts[-1][0] - counts[1][0] >= RECENT_US:
            counts.popleft()

    def _with_engines(self, result: PollResult) -> PollResult:
        """With what the servers count that answer for it, where it counts nothing itself."""
        text = {pid: poller.poll().usage for pid, poller in self.engines.items()}
        usages: dict[Hashable, Usage] = {pid: usage for pid, usage in text.items() if usage is not None}
        if result.usage is None or result.usage.counts != "nothing" or len(usages) < len(text) or not usages:
            return result
        usage = combined(usages, result.usage, self._of_engines)
        if usage.kind == "ollama" and usage.no_count is not None:
            usage = replace(usage, no_count=Unavailable(usage.no_count.reason, FOR_OLLAMA))
        return replace(result, usage=usage)

    @property
    def can_be_probed(self) -> bool:
        """Whether it answers, or would if it were not asleep."""
        return self.poller is not None and self.last_poll is not None and self.last_poll.state in {"answers", "asleep"}

    @property
    def has_probe_ahead(self) -> bool:
        """Whether it is to be probed yet, or what came of that has not been told."""
        return (self.wants_probe and self.can_be_probed) or self.probe is not self._told_probe

    def ask_for_speed(self, stopped: Callable[[], bool]) -> None:
        """Ask for a few tokens, in a thread of its own; one that sleeps is let sleep."""
        if self.poller is not None and self.last_poll is not None:
            sleeps = self.last_poll.state == "asleep"
            self.probe = (
                SpeedProbe(trouble=ASLEEP) if sleeps else probe_speed(self.poller.address, self.poller.key, stopped)
            )

    def measure(self) -> None:
        """Read what its processes use."""
        if self.process is None:
            self._resident = self._cpu = Unavailable("its process is not known")
        else:
            self._resident, self._cpu = self._use.read(self.pids)

    @property
    def has_ended(self) -> bool:
        """Its process is gone, and it cannot be polled either."""
        return self.poller is None and self._resident is ENDED

    def records(self, t_us: int) -> Iterator[Record]:
        """What is new since the last call, and a reading. Stamped with `t_us`."""
        status = self.status()
        seen = ServiceSeen(
            t_us=t_us,
            number=self.number,
            kind=status.kind,
            version=status.version,
            address=status.address,
            pid=status.pid,
            models=status.models,
            counts=self.counts,
            no_count=self.no_count,
        )
        if self._seen is None:
            yield SourceAdded(source=self._source())
        if self._seen is None or replace(self._seen, t_us=t_us) != seen:
            self._seen = seen
            yield seen
        state = status.state
        if state is not None and state != self._state:
            # The first state is the one it was found in, which is no event.
            if self._state is not None:
                yield Event(t_us=t_us, kind=f"server_{state}", text=self._sentence(state), data={"server": self.number})
            self._state = state
        if (probe := self.probe) is not None and probe is not self._told_probe:
            self._told_probe = probe
            figures = {name: value for name in ("first_token_s", "tokens_per_s", "tokens")
                       if (value := getattr(probe, name)) is not None}  # fmt: skip
            text = f"{self.kind} at {self.address}, {probe.words}."
            yield Event(t_us=t_us, kind="server_probed", text=text, data={"server": self.number, **figures})
        yield _sampled(f"server.{self.number}", t_us, tuple(self._values()))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that it has."""
        reported = () if self._usage is None else self._usage.models
        if reported or self.process is None or not self.process.model:
            return tuple(map(one_line, reported))
        return (one_line(self.process.model.rpartition("/")[2]),)

    def status(self) -> ServerStatus:
        """As it was in the last round."""
        process = self.process
        trouble = None if self.last_poll is None else self.last_poll.trouble
        if self.last_poll is None and process is not None and process.port_missing:
            trouble = Unavailable(process.port_missing, "give its address: --server URL")
        return ServerStatus(
            number=self.number,
            kind=self.kind,
            version="" if self._usage is None else one_line(self._usage.version),
            models=self.models,
            address=self.address,
            pid=None if process is None else process.pid,
            state=None if self.last_poll is None else self.last_poll.state,
            trouble=trouble,
            usage=self.usage,
            tokens_per_s=_per_s(self._counts[0], self._counts[-1]) if self._counts else None,
            resident_bytes=None if isinstance(self._resident, Unavailable) else self._resident,
            cpu_percent=None if isinstance(self._cpu, Unavailable) else self._cpu,
            threads=None if process is None or not process.threads else process.threads,
            gpu_bytes=self.gpu_bytes,
            probe=self.probe,
            is_open=process is None or process.is_open,
        )

    def _source(self) -> SourceInfo:
        self._is_server = self.poller is not None or (self.process is not None and bool(self.process.port_missing))
        channels = (*(_SERVER_CHANNELS if self._is_server else ()), *_PROCESS_CHANNELS)
        name = f"server.{self.number}"
        return SourceInfo(
            name=name,
            driver="http" if self._is_server else "procfs",
            path=self.address,
            period_s=PERIOD_S,
            channels=tuple(replace(channel, name=f"{name}.{channel.name}") for channel in channels),
        )

    def _values(self) -> Iterator[float | Unavailable]:
        """A value for each channel."""
        last = self.last_poll
        if self._is_server:
            trouble = self.no_count or NOT_POLLED if last is None else last.trouble or NOT_REPORTED
            if last is not None and last.usage is not None:
                yield 1.0
                for _, read in _USAGE_CHANNELS:
                    value = read(last.usage)
                    yield NOT_REPORTED if value is None or value == NOT_RUNNING else value
                yield last.answer_s
            else:
                yield 0.0 if last is not None and last.state == "down" else trouble
                yield from [trouble] * (len(_SERVER_CHANNELS) - 1)
        yield from (self._resident, self._cpu)

    def _sentence(self, state: State) -> str:
        name = f"{self.kind} at {self.address}"
        match state:
            case "answers":
                return f"{name} answers."
            case "down":
                return f"{name} has ended: nobody listens there."
            case "loading":
                return f"{name} is loading its model."
            case "busy":
                return f"{name} is healthy, but too busy for more."
        trouble = None if self.last_poll is None else self.last_poll.trouble
        return f"{name} does not answer{'' if trouble is None else f': {trouble.reason}'}."


def _per_s(before: tuple[int, int], now: tuple[int, int]) -> float | None:
    """Tokens per second between two counts; `None` where they are of one moment."""
    return (now[1] - before[1]) * US_PER_S / (now[0] - before[0]) if now[0] > before[0] else None


def _sampled(source: str, t_us: int, values: Sequence[float | Unavailable]) -> Sampled:
    reasons = tuple(value.reason if isinstance(value, Unavailable) else "" for value in values)
    return Sampled(
        source=source,
        t_us=t_us,
        values=tuple(None if isinstance(value, Unavailable) else float(value) for value in values),
        reasons=reasons if any(reasons) else (),
    )


class ServerMonitor:
    """Polls from `start` to `stop`, in a thread of its own; records wait until `drain`."""

    def __init__(
        self,
        host: Host,
        given: Mapping[Address, str] | None = None,
        *,
        remote_counts: bool = False,
        probes: bool = False,
        reach: Callable[[Address], Address] | None = None,
    ) -> None:
        """`given` are servers in addition to those that are found, each with its key.

        `remote_counts` says that the power of other machines is measured as well, so that their tokens count. With
        `probes` each server that answers is asked for a few tokens, once, which costs it as much. `reach` gives
        the address here of a server on the other machine that `host` is the copy of.
        """
        self._host = host
        self._probes = probes
        self._prober: threading.Thread | None = None
        self._reach = reach
        self._processes = ModelProcesses(host, server_programs())
        self._gpu = None if reach is not None else GpuProcesses(host)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._records: list[Record] = [SourceAdded(source=SOURCE)]
        self.rows: tuple[ServerStatus, ...] = ()
        """The servers as they were in the last round."""
        self.pids: tuple[int, ...] = ()
        """All watched processes that run."""
        self.rounds = 0
        """How many have ended."""
        self.uses_gpu: bool | None = False
        """Whether a GPU computes for the servers; `None` where one holds a model, or that is not shown."""
        self._tokens, self._prompts = TokenSum(), TokenSum()
        self._tokens_before: float | None = None
        self._numbers = count(1)
        self._servers: list[MonitoredServer] = []
        for address, key in (given or {}).items():
            location = ServerLocation(address)
            missing = None if location.is_here or remote_counts else location.no_power
            poller = self._new_poller(address, key)
            self._servers.append(
                MonitoredServer(next(self._numbers), host, poller=poller, remote=missing, wants_probe=probes)
            )
        self._thread = threading.Thread(target=self._run, name="edgetop-watch", daemon=True)

    def start(self) -> None:
        """Start polling, once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the round that is under way, which is cut short."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def drain(self) -> list[Record]:
        """What was recorded since the last call."""
        with self._lock:
            records, self._records = self._records, []
        return records

    def probe(self) -> None:
        """Ask each server for a few tokens, one after the other: the next round begins with it."""
        for server in self._servers:
            server.wants_probe = True

    @property
    def is_probing(self) -> bool:
        """Whether such an answer is awaited."""
        asking = self._prober is not None and self._prober.is_alive()
        return asking or any(server.has_probe_ahead for server in self._servers)

    def _probe_next(self) -> None:
        """One at a time, so that none slows another down; who does not answer yet is asked later."""
        if self._prober is None or not self._prober.is_alive():
            server = next((each for each in self._servers if each.wants_probe and each.can_be_probed), None)
            if server is not None:
                server.wants_probe = False
                run = partial(server.ask_for_speed, self._stop.is_set)
                self._prober = threading.Thread(target=run, name="edgetop-probe", daemon=True)
                self._prober.start()

    def round(self) -> None:
        """Scan for processes when it is due, and poll everything once."""
        if self.rounds % SCAN_EVERY == 0:
            self._scan()
        begin_us = self._host.clock()
        for server in self._servers:
            server.poll()
        self._probe_next()
        t_us = (begin_us + self._host.clock()) // 2
        for server in self._servers:
            server.measure()
        records = [record for server in self._servers for record in server.records(t_us)]
        records.append(self._totals(t_us))
        ended = [server for server in self._servers if server.has_ended]
        records += [_ending(server, t_us) for server in ended]
        self._servers = [server for server in self._servers if server not in ended]
        with self._lock:
            self._records += records
        self.rows = tuple(server.status() for server in self._servers)
        self.pids = tuple(pid for server in self._servers for pid in server.pids)
        self.uses_gpu = self._use_of_gpus(records)
        self.rounds += 1

    def _use_of_gpus(self, records: Sequence[Record]) -> bool | None:
        """See `uses_gpu`. A server computes while tokens come or requests run; one that does not tell may always."""
        if all(holds_gpu(self._host, pid) is False for pid in self.pids):
            return False
        before, self._tokens_before = self._tokens_before, None
        for record in records:
            if isinstance(record, Sampled) and record.source == SOURCE.name:
                self._tokens_before, _, running, *_ = record.values
                known = self._tokens_before is not None and before is not None
                return True if running or not known or self._tokens_before != before else None
        return True

    def _run(self) -> None:
        period_us = round(PERIOD_S * US_PER_S)
        while not self._stop.is_set():
            try:
                self.round()
            except Exception as error:  # noqa: BLE001 - whatever one server does, the others are polled
                words = " ".join(f"{type(error).__name__}: {error}".split())
                event = Event(t_us=self._host.clock(), kind="watch_failed", text=f"Polling servers failed: {words}")
                with self._lock:
                    self._records.append(event)
                self.rounds += 1
            now_us = self._host.clock()
            due_us = ((now_us + period_us // 4) // period_us + 1) * period_us
            self._stop.wait((due_us - now_us) / US_PER_S)

    def _new_poller(self, address: Address, key: str = "") -> ServerPoller:
        if self._reach is not None:
            address = self._reach(address)
        return ServerPoller(address, detect, key=key, clock=self._host.clock, stopped=self._stop.is_set)

    def _scan(self) -> None:
        found = list(self._processes.scan())
        gpu = self._gpu.bytes_by_pid() if found and self._gpu is not None else {}
        for server in self._servers:
            server.process = self._process_of(server, found)
            if server.process in found:
                found.remove(server.process)
        for process in found:
            if len(self._servers) < SERVERS_MAX:
                server = MonitoredServer(next(self._numbers), self._host, wants_probe=self._probes)
                server.process = process
                self._servers.append(server)
        for server in self._servers:
            if server.process is not None:
                self._poll_process(server, server.process)
            used = [gpu[pid] for pid in server.pids if pid in gpu]
            server.gpu_bytes = sum(used) if used else None

    def _poll_process(self, server: MonitoredServer, process: ModelProcess) -> None:
        """Poll a process that has an address, and those that answer for it."""
        if server.poller is None:
            server.poller = self._poller_of(process)
        elif server.is_given:
            server.poller.sleepless = self._never_sleeps(process)
        running = {engine.pid for engine in process.engines}
        server.engines = {pid: poller for pid, poller in server.engines.items() if pid in running}
        for engine in process.engines:
            if engine.pid not in server.engines and (poller := self._poller_of(engine)) is not None:
                server.engines[engine.pid] = poller

    def _poller_of(self, process: ModelProcess) -> ServerPoller | None:
        """One that has the key with which a server of one's own was started."""
        if not process.addresses:
            return None
        of_own = process.uid == self._host.user_id
        secret = bool(of_own and process.setting(self._host, *_CERTIFICATE))
        prefix = (process.setting(self._host, *_PREFIX) or "").rstrip("/") if of_own else ""
        address = Address("https" if secret else "http", *process.addresses[0], prefix)
        poller = self._new_poller(address, self._key_of(process))
        poller.sleepless = self._never_sleeps(process)
        return poller

    def _key_of(self, process: ModelProcess) -> str:
        if process.uid != self._host.user_id:
            return ""
        key = (process.setting(self._host, _KEY_FLAGS, _KEY_VARIABLE) or "").partition(",")[0]
        # A file that the command line of another machine names lies there, and what lies here is none of its business.
        named = ("--api-key-file",), _KEY_FILE_VARIABLE
        if not key and self._reach is None and (file := process.setting(self._host, *named)):
            key = _first_key(self._host.path(f"/proc/{process.pid}/cwd") / file)
        return key if key.isascii() and key.isprintable() else ""

    def _never_sleeps(self, process: ModelProcess) -> bool:
        after_s = process.setting(self._host, ("--sleep-idle-seconds",), "LLAMA_ARG_SLEEP_IDLE_SECONDS")
        return after_s is not None and (not after_s or after_s.startswith("-"))

    def _process_of(self, server: MonitoredServer, found: Sequence[ModelProcess]) -> ModelProcess | None:
        """The process of a server: the one it was, else the one that listens at its address now."""
        before = server.process
        for process in found:
            if before is not None and (process.pid, process.started) == (before.pid, before.started):
                return process
        if server.poller is None:
            return before
        address = server.poller.address
        for process in found:
            if any(port == address.port for _, port in process.addresses) and ServerLocation(address).is_here:
                return process
        return self._by_port(address, found) if server.is_given else None

    def _by_port(self, address: Address, found: Sequence[ModelProcess]) -> ModelProcess | None:
        """The process that listens at an address that was given, whatever its program."""
        if not ServerLocation(address).is_here:
            return None
        pid = listening_pid(self._host, address.port, server_process_names())
        if isinstance(pid, Unavailable) or pid == os.getpid():
            return None
        return next((process for process in found if process.pid == pid), ModelProcess(pid=pid, kind=""))

    def _totals(self, t_us: int) -> Sampled:
        counting = [server for server in self._servers if server.counts != "nothing"]
        tokens = self._tokens.update({server.number: server.count for server in counting})
        usages = [server.usage for server in self._servers if server.usage is not None]
        prompts: dict[Hashable, ReportedCount] = {
            server.number: server.usage.prompt_tokens
            for server in counting
            if server.usage is not None and server.usage.prompt_tokens is not None
        }
        values: tuple[float | Unavailable, ...] = (
            tokens if counting else self._why_no_count(),
            self._prompts.update(prompts) if prompts else NO_SERVER_REPORTS,
            _sum([usage.running for usage in usages]),
            _sum([usage.waiting for usage in usages]),
            sum(server.uncertainty_at(t_us) for server in counting),
        )
        return _sampled(SOURCE.name, t_us, values)

    def _why_no_count(self) -> Unavailable:
        reasons = [server.no_count for server in self._servers if server.poller is not None]
        return next((reason for reason in reasons if reason is not None), NOTHING_FOUND)


def _first_key(file: Path) -> str:
    """The first key of a file as llama-server takes it: one a line, with comments; empty where it cannot be read."""
    try:
        with file.open("r", encoding="utf-8", errors="replace") as lines:
            keys = (line.strip() for line in lines.read(KEY_BYTES_MAX).splitlines())
            return next((key for key in keys if key and not key.startswith("#")), "")
    except OSError:
        return ""


def _ending(server: MonitoredServer, t_us: int) -> Event:
    pid = "" if server.process is None else f" (process {server.process.pid})"
    return Event(t_us=t_us, kind="service_ended", text=f"{server.kind}{pid} has ended.")


def _sum(parts: Sequence[int | None]) -> float | Unavailable:
    known = [part for part in parts if part is not None]
    return float(sum(known)) if known else NO_SERVER_REPORTS

"""One model process or model server of others: what is known of it, and the records that it gives."""

from __future__ import annotations

import time
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.records import (
    Channel,
    Event,
    Missing,
    Record,
    Sampled,
    ServiceSeen,
    SourceAdded,
    SourceInfo,
    TokensCounted,
)
from edgetop.core.text import one_line
from edgetop.core.token_counts import Told
from edgetop.inference.server.address import Address
from edgetop.inference.server.usage import ServerLook, ServerObserver, State, Usage
from edgetop.telemetry.model_processes import ModelProcess
from edgetop.telemetry.source import Host
from edgetop.telemetry.watched_use import ENDED, GroupUse

PERIOD_S = 1.0
LEFT_ALONE_S = (1.0, 2.0, 5.0, 10.0)
"""How long a server that did not answer in time is not asked; the last one from then on."""
NOT_ASKED = Missing("it is no server that can be asked")
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


class ServiceRow(Struct, frozen=True, kw_only=True):
    """A service as it was at the last look, for a person."""

    number: int
    kind: str
    version: str = ""
    models: tuple[str, ...] = ()
    address: str = ""
    pid: int | None = None
    state: State | None = None
    """`None` for a process that is not asked."""
    trouble: Missing | None = None
    """Why it does not answer, or has no address."""
    usage: Usage | None = None
    tokens_per_s: float | None = None
    resident_bytes: float | None = None
    cpu_percent: float | None = None
    threads: int | None = None
    gpu_bytes: int | None = None
    is_open: bool = True
    """False: another user's process, of which little is shown."""


class WatchedService:
    """Found once, then looked at once a second; all from one thread."""

    def __init__(
        self, number: int, host: Host, *, observer: ServerObserver | None = None, elsewhere: Missing | None = None
    ) -> None:
        """`elsewhere` says why the tokens of a server on another machine do not count here."""
        self.number = number
        self.process: ModelProcess | None = None
        self.observer = observer
        self.is_given = observer is not None
        self.look: ServerLook | None = None
        self._elsewhere = elsewhere
        self._host = host
        self._use = GroupUse(host)
        self._resident: float | Missing = NOT_ASKED
        self._cpu: float | Missing = NOT_ASKED
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
    def told(self) -> Told:
        """Its count, or why it is not known."""
        return Missing("it has not answered yet") if self.look is None else self.look.told

    @property
    def told_prompts(self) -> int | None:
        """Its count of prompt tokens, if it answered with one."""
        return None if self.look is None or self.look.usage is None else self.look.usage.prompt_tokens

    @property
    def no_count(self) -> Missing | None:
        """Why it does not count all tokens at once."""
        if self._elsewhere is not None:
            return self._elsewhere
        if self._usage is not None:
            return self._usage.no_count
        if self.look is not None and self.look.trouble is not None:
            return self.look.trouble
        if self.process is not None and self.process.port_missing:
            return Missing(self.process.port_missing, "give its address: --server URL")
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
            self._resident = self._cpu = Missing("its process is not known")
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

    def row(self) -> ServiceRow:
        """As it was at the last look."""
        process = self.process
        trouble = None if self.look is None else self.look.trouble
        if self.look is None and process is not None and process.port_missing:
            trouble = Missing(process.port_missing, "give its address: --server URL")
        return ServiceRow(
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
            resident_bytes=None if isinstance(self._resident, Missing) else self._resident,
            cpu_percent=None if isinstance(self._cpu, Missing) else self._cpu,
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
        reasons = tuple(value.reason if isinstance(value, Missing) else "" for value in chosen)
        return Sampled(
            source=f"server.{self.number}",
            t_us=t_us,
            values=tuple(None if isinstance(value, Missing) else float(value) for value in chosen),
            reasons=reasons if any(reasons) else (),
        )

    def _values(self) -> dict[str, float | Missing]:
        values: dict[str, float | Missing] = {"rss": self._resident, "cpu": self._cpu}
        look = self.look
        trouble = self.no_count or NOT_ASKED if look is None else look.trouble or Missing("it does not tell that")
        values.update(dict.fromkeys((name for name, _, _ in _SERVER_CHANNELS), trouble))
        if look is None:
            return values
        values["up"] = 0.0 if look.state == "down" else 1.0 if look.usage is not None else trouble
        if look.usage is None:
            return values
        usage, not_told = look.usage, Missing("it does not tell that")
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


def _or(value: float | None, missing: Missing) -> float | Missing:
    return missing if value is None else value


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]

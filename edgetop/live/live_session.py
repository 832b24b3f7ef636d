"""What live sessions share: a recorder that writes the journal, sensors, clock, saving; one without a model of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from edgetop import __version__
from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.energy.duty import Duty
from edgetop.core.energy.scopes import Headline, headline_over_hosts
from edgetop.core.records import (
    BenchRun,
    DeviceInfo,
    Event,
    ModelLoaded,
    Predicted,
    Record,
    ServiceSeen,
    SessionKind,
    SessionStarted,
    Tokens,
    TurnFinished,
    TurnStarted,
)
from edgetop.core.sources import MEMORY_USED, SINCE_BOOT_SUFFIX, THROTTLE_PREFIX, Unavailable
from edgetop.inference.child_process import lower_priority
from edgetop.inference.server.address import Address
from edgetop.io.extensions import FAILURES, new_troubles
from edgetop.io.log import log, log_exception
from edgetop.io.terminal import write_late
from edgetop.live.server_monitor import ServerMonitor, ServerStatus
from edgetop.session.journal import Journal
from edgetop.session.meters import headline_of, meters_of
from edgetop.session.session import POWER_CHOSEN, Session, new_session_id
from edgetop.session.snapshot import Reading, Snapshot, snapshot
from edgetop.session.store import Store, file_stamp
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host
from edgetop.telemetry.processes import watched_probe as probe_watched
from edgetop.telemetry.registry import Inventory, PowerChoice, take_inventory
from edgetop.telemetry.sampler import Sampler

if TYPE_CHECKING:
    from edgetop.live.alerts import Alerts
    from edgetop.live.metrics import Exporter


HELD_UP_US, HELD_UP_TIMES = 5 * US_PER_S, 3
"""An exporter that takes so long so often waits for something, and the screen with it."""

JOURNAL_WAIT_S = 0.5
"""How long a question waits for a disk that does not answer; usually it is a millisecond."""


class Recorder:
    """Folds records into a session and, unless told not to, writes each to a journal.

    The journal is opened with the first model, whose name its file carries, or with the first model process or server
    that is watched; a session without either is not kept.
    """

    def __init__(
        self,
        *,
        device: DeviceInfo,
        store: Store | None,
        text_recorded: bool = True,
        power: str | None = None,
        output: Path | None = None,
        bench: BenchRun | None = None,
        use: Duty = Duty(),  # noqa: B008 - frozen
        kind: SessionKind = "chat",
        on_trouble: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Begin a session.

        `store` is `None` for one that is not to be kept; `output` names its file instead of the store, `power` the
        source of power that the person chose, `bench` the part of a
        benchmark that the session is, and `use` how the model is used.
        """
        self.session = Session()
        self._store = store
        self._output = output
        self._replaces = None if output is None else file_stamp(output)
        self._text_recorded = text_recorded
        self.on_trouble = on_trouble
        self._journal: Journal | None = None
        self._before_journal: list[Record] = []
        self._trouble_reported = False
        self.why_not = ""
        """Why a saved session is not in the file that was asked for."""
        self._power_sources = ""
        self.record(
            SessionStarted(
                t_us=monotonic_us(),
                session_id=new_session_id(),
                started_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                edgetop_version=__version__,
                device=device,
                text_recorded=text_recorded,
                power=power,
                bench=bench,
                use=use,
                kind=kind,
            )
        )

    @property
    def is_recorded(self) -> bool:
        """Whether the session is to be kept at all."""
        return self._store is not None

    @property
    def trouble(self) -> str:
        """Why nothing can be written at present; empty when all is well."""
        return self._journal.trouble if self._journal is not None else ""

    def record(self, record: Record) -> None:
        """Add one record to the session and the journal."""
        if not self._text_recorded:
            record = _without_text(record)
        self.session.apply(record)
        self._write_to_journal(record)
        _log_record(record)
        if isinstance(record, TurnStarted):
            self._note_power_source(record.t_us)

    def _note_power_source(self, t_us: int) -> None:
        """Say so when another source of power measures from now on."""
        found = headline_of(self.session, meters_of(self.session))
        sources = "" if isinstance(found, Unavailable) else " + ".join(meter.name for meter in found.meters)
        before, self._power_sources = self._power_sources, sources or self._power_sources
        if before and sources and before != sources:
            text = f"Power comes from {sources} instead of {before}."
            self.record(Event(t_us=t_us, kind="power_source_changed", text=text, data={"source": sources}))

    def choose_power(self, name: str | None) -> Headline | Unavailable:
        """Take the named source for that of the device, in all turns of the session; by default the widest.

        The meters that stand for the device from now on. Where there are none by that name, all stays as it is.
        """
        if name is not None and isinstance(found := headline_over_hosts(meters_of(self.session), name), Unavailable):
            return found
        text = "Power comes from the widest source." if name is None else f"Power comes from {name}, as chosen."
        self.record(Event(t_us=monotonic_us(), kind=POWER_CHOSEN, text=text, data={"source": name or ""}))
        return headline_of(self.session, meters_of(self.session))

    def _write_to_journal(self, record: Record) -> None:
        if self._store is None:
            return
        if self._journal is not None:
            self._journal.append(record)
            if isinstance(record, TurnStarted):
                # Before a word of the answer is shown; the engine is asked after it.
                self._journal.flush(JOURNAL_WAIT_S)
            return
        self._before_journal.append(record)
        if isinstance(record, ModelLoaded):
            self._open_journal(self._store, record.model.name)
        elif isinstance(record, ServiceSeen):
            self._open_journal(self._store, f"watch {record.kind}")

    def check(self) -> None:
        """Say so, once each, when writing fails and when it works again, and when a watch has another source of power.

        To be called about once a second.
        """
        if self.session.header is not None and self.session.header.kind == "watch":
            self._note_power_source(monotonic_us())
        while self._journal is not None and self._journal.notices:
            text = self._journal.notices.popleft()
            self.record(Event(t_us=monotonic_us(), kind="journal_touched", text=text))
            self.on_trouble(text)
        trouble = self.trouble
        if trouble and not self._trouble_reported:
            self._trouble_reported = True
            self.record(Event(t_us=monotonic_us(), kind="recording_paused", text=trouble))
            self.on_trouble(f"{trouble} All goes on, and what happens is kept in memory until it can be written.")
        elif self._trouble_reported and not trouble:
            self._trouble_reported = False
            self.record(
                Event(t_us=monotonic_us(), kind="recording_resumed", text="Recording goes on; nothing was lost.")
            )
            self.on_trouble("Recording goes on; nothing was lost.")

    @property
    def is_empty_chat(self) -> bool:
        """Whether it is a chat in which nothing was asked, and of which no file was asked for."""
        header = self.session.header
        assert header is not None  # noqa: S101 - recorded by __init__
        return header.kind == "chat" and header.bench is None and not self.session.turns and self._output is None

    def finish(self) -> Path | None:
        """Turn the journal into the session's file and return its path; `None` if there is nothing to keep.

        Raises StoreError when the file can be written nowhere; the journal, if there is one on the disk, stays then.
        """
        if self._journal is None or self._store is None:
            return None
        if self.is_empty_chat:
            self._journal.remove()
            self._journal = self._store = None
            return None
        self.record(Event(t_us=monotonic_us(), kind="session_ended", text="The session was closed."))
        path, self.why_not = self._store.finish(self.session, self._journal, self._output, self._replaces)
        self._journal = None
        self._store = None
        return path

    def _open_journal(self, store: Store, model_name: str) -> None:
        header = self.session.header
        assert header is not None  # noqa: S101 - recorded by __init__
        self._journal = store.new_journal(header.session_id, header.started_at, model_name)
        for record in self._before_journal:
            self._journal.append(record)
        self._before_journal.clear()
        self._journal.flush(JOURNAL_WAIT_S)


class RecordingOptions(Struct, frozen=True, kw_only=True):
    """What is read, and how it is recorded."""

    sysroot: Path = Path("/")
    power: PowerChoice = PowerChoice()
    record: bool = True
    text_recorded: bool = True
    output: Path | None = None
    alerts: Alerts | None = None
    exporters: Sequence[Exporter] = ()


class RecordedSession:
    """A session that grows by the readings of sensors, and by what a subclass records.

    Looking for sensors may take a second, so it happens in the background.
    """

    def __init__(
        self,
        options: RecordingOptions,
        store: Store,
        device: DeviceInfo,
        on_trouble: Callable[[str], None],
        *,
        kind: SessionKind = "chat",
        bench: BenchRun | None = None,
        use: Duty = Duty(),  # noqa: B008 - frozen
        threads: int = 1,
    ) -> None:
        """Begin a session of `device`; see Recorder for the others."""
        write_late()
        self.recorder = Recorder(
            device=device,
            store=store if options.record else None,
            text_recorded=options.text_recorded,
            power=options.power.headline,
            output=options.output,
            bench=bench,
            use=use,
            kind=kind,
            on_trouble=on_trouble,
        )
        self.alerts = options.alerts
        self._exporters = list(options.exporters)
        self._held_up = Counter[int]()
        self.store = store
        """Where sessions are kept, whether or not this one is."""
        self._background = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="edgetop-start")
        self._checked_us = monotonic_us()
        self._inventory: Future[Inventory] | None = None
        self._sampler: Sampler | None = None

    @property
    def session(self) -> Session:
        """The session so far."""
        return self.recorder.session

    @property
    def has_sensors(self) -> bool:
        """Whether the sensors have been found and are being read."""
        return self._sampler is not None

    @property
    def is_ended_by_alert(self) -> bool:
        """Whether an alert was raised that ends the program."""
        return self.alerts is not None and self.alerts.ended_by is not None

    @property
    def rows(self) -> Sequence[ServerStatus]:
        """The servers that are watched, as they were at the last look."""
        return ()

    def now_us(self) -> int:
        """Microseconds since the session began."""
        return self.session.relative(monotonic_us())

    def snapshot(self) -> Snapshot:
        """The session as it is now."""
        return snapshot(self.session, self.now_us())

    def check(self) -> None:
        """Report trouble with the recording, and what crosses a limit; `pump` does it about once a second.

        Raises UsageError for an alert on what nothing reads here.
        """
        self.recorder.check()
        self._report_extensions()
        if self.alerts is not None and self.has_sensors:
            for event in self.alerts.check(self.session, self.now_us(), self.recorder.on_trouble):
                self.recorder.record(event)

    def _check_when_due(self) -> None:
        self._export()
        now_us = monotonic_us()
        if now_us - self._checked_us >= US_PER_S:
            self._checked_us = now_us
            self.check()

    def _export(self) -> None:
        for exporter in tuple(self._exporters):
            begin_us = monotonic_us()
            try:
                exporter.update(self)
            except FAILURES as error:
                self._exporters.remove(exporter)
                self._report_exporter(exporter, error)
                continue
            self._held_up[id(exporter)] += monotonic_us() - begin_us > HELD_UP_US
            if self._held_up[id(exporter)] == HELD_UP_TIMES:
                self._exporters.remove(exporter)
                self._report_exporter(exporter, TimeoutError("it held the session up for seconds, again and again"))

    def _report_exporter(self, exporter: Exporter, error: BaseException) -> None:
        log_exception(error)
        self.recorder.on_trouble(f"{type(exporter).__name__} failed and is switched off: {error}")

    def _report_extensions(self) -> None:
        for text in new_troubles():
            self.recorder.on_trouble(text)

    def _find_sensors(self, find: Callable[[], Inventory]) -> None:
        """Look for sensors in the background, and read them from then on."""
        self._inventory = self._background.submit(find)

    def _record_samples(self) -> None:
        """Record what the sensors have read since the last call."""
        if self._inventory is not None and self._inventory.done():
            self._start_sampler()
        if self._sampler is not None:
            for record in self._sampler.drain():
                self.recorder.record(record)

    def _stop_sensors(self) -> None:
        """Read all sensors a last time and record it; nothing is exported any more."""
        for exporter in self._exporters:
            try:
                exporter.close()
            except FAILURES as error:
                self._report_exporter(exporter, error)
        self._exporters.clear()
        self._report_extensions()
        self._start_sampler()
        if self._sampler is not None:
            self._sampler.stop()
        self._record_samples()

    def _start_sampler(self) -> None:
        if self._inventory is not None:
            inventory, self._inventory = self._inventory, None
            self._sampler = Sampler(inventory.result())
            self._sampler.start()


def _log_record(record: Record) -> None:
    """Everything but readings and texts."""
    match record:
        case ModelLoaded(model=model, engine=engine):
            log("engine", f"{model.name} {model.quantization} loaded by {engine.label} in {record.load_s:.2f} s")
            log("engine", f"settings {record.settings}")
            log("engine", f"memory {record.memory}")
        case TurnStarted():
            log("engine", f"turn {record.turn} begins")
        case TurnFinished():
            tokens = f"{record.prompt_tokens} + {record.generated_tokens} tokens"
            log("engine", f"turn {record.turn} ends: {record.stop_reason}, {tokens} {record.error}")
        case Predicted():
            log("decisions", f"expected: {record.prediction}")
        case ServiceSeen():
            log("servers", f"{record.kind} seen")
        case Event():
            log("decisions", f"{record.kind}: {record.text}")


def _without_text(record: Record) -> Record:
    match record:
        case TurnStarted():
            return replace(record, prompt=None, system=None)
        case Tokens():
            return replace(record, pieces=("",) * len(record.pieces))
        case _:
            return record


NOTHING_RUNS = Unavailable("no model process was found on this machine")


class WatchOptions(RecordingOptions, frozen=True, kw_only=True):
    """What is watched, and how it is recorded."""

    servers: Mapping[Address, str] = {}
    """Servers to ask besides those that are found on this machine, each with its key, which no other server is sent and
    which is never recorded; empty without one."""
    text_recorded: bool = False
    """Of requests that are passed on; a watch reads no texts."""
    probes: bool = False
    """Each server is asked for a few tokens, once."""


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
        super().__init__(options, store, describe(self._host), on_trouble, kind="watch")
        self._watch = ServerMonitor(
            self._host, options.servers, remote_counts=bool(options.power.streams), probes=options.probes
        )
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

    @property
    def is_probing(self) -> bool:
        """Whether a server that was asked for a few tokens has not answered yet."""
        return self._watch is not None and self._watch.is_probing

    def probe(self) -> None:
        """Ask each server for a few tokens, to measure its speed."""
        if self._watch is not None:
            self._watch.probe()

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
        "probe": row.probe,
    }

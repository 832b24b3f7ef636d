"""Several machines at once, each over the user's own OpenSSH.

Where edgetop is installed there, it watches and tells; where not, a shell there is asked for files, and what reads
sensors and servers here reads their copies. Either way a host has the reading of `edgetop watch --json` once a second.
Figures of a host are those since it last connected.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from edgetop import __version__
from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.errors import UsageError
from edgetop.core.format import NOT_AVAILABLE, format_bytes_short, format_significant
from edgetop.core.quantity import Interval, plus_minus
from edgetop.core.records import (
    LARGEST,
    Event,
    HostServed,
    Sampled,
    ServiceSeen,
    SessionStarted,
    SourceAdded,
    SourceMissing,
)
from edgetop.core.sources import HOST_STREAM, Channel, Scope, SourceInfo, Unavailable, with_stamp
from edgetop.core.text import one_line
from edgetop.inference.child_process import lower_priority, raise_file_limit
from edgetop.inference.server.address import UNIX, Address
from edgetop.io.log import log, log_exception
from edgetop.io.ssh import LINE_BYTES, LINE_COST, TOO_MUCH, Shell, SshError
from edgetop.live.live_session import RecordedSession, WatchOptions, reading_of
from edgetop.live.server_monitor import ServerMonitor
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot
from edgetop.session.store import Store
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import SCAN_EVERY, SHELL_SETUP, Host, RemoteFiles
from edgetop.telemetry.registry import remote_probes, take_inventory
from edgetop.telemetry.sampler import ScheduledSource
from edgetop.telemetry.source import Source, Values

PERIOD_S, PROBING_S, SOONEST_S = 1.0, 0.05, 0.2
FIRST_S, SILENT_S = 60.0, 15.0
"""How long the first reading may take where Python has to start, and any later one."""

RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
STOP_S = 5.0
TOLD_EVERY_US = 60 * US_PER_S
FOLDER_MAX = 48
NAME_MAX, TEXT_MAX, MODELS_MAX = 40, 240, 16

SCRIPT = """PATH="$PATH:$HOME/.local/bin:$HOME/bin:/usr/local/bin"; export PATH
if command -v edgetop >/dev/null 2>&1; then echo edgetop; edgetop watch --json --no-record </dev/null 2>/dev/null; fi
echo shell
"""
"""Run by the shell there. An edgetop that is too old, or ends, leaves the shell."""


class HostReading(Struct, frozen=True, kw_only=True):
    """What a host tells in a second, as far as it is shown here. Anything may come from there."""

    tokens_per_s: float | None = None
    generated_tokens: int | None = None
    at_least: bool = False
    requests_running: float | None = None
    requests_waiting: float | None = None
    power_w: float | None = None
    power_scope: str | None = None
    j_per_token: Interval | None = None
    energy_j: Interval | None = None
    energy_missing: str = ""
    temperature_cpu_c: float | None = None
    throttling: tuple[str, ...] | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        numbers = [getattr(self, name) for name in _NUMBERS]
        for figure in (self.j_per_token, self.energy_j):
            numbers += () if figure is None else astuple(figure)
        # Not true of NaN either.
        if not all(number is None or abs(number) <= LARGEST for number in numbers):
            raise ValueError("a number that cannot be")


_NUMBERS = (
    "tokens_per_s", "generated_tokens", "requests_running", "requests_waiting", "power_w", "temperature_cpu_c",
    "memory_used_bytes", "memory_total_bytes",
)  # fmt: skip

HostState = Literal["connecting", "answers", "gone"]


class HostRow(Struct, frozen=True, kw_only=True):
    """A host as it is now."""

    host: str
    state: HostState = "connecting"
    since: float
    """Unix time from which on it has been so."""
    by: str = ""
    """`edgetop` or `shell`: who reads there."""
    missing: Unavailable | None = None
    """Why it is gone."""
    reading: HostReading | None = None
    """`None` unless it answers."""


class _Copied:
    """A source over copied files: read when they have come, and stamped with how long that took."""

    blocking = False

    def __init__(self, source: Source, stamp_s: float) -> None:
        self._source = source
        self.info = replace(with_stamp(source.info, stamp_s), period_s=max(PERIOD_S, source.info.period_s))

    def read(self) -> Values:
        """See Source."""
        return self._source.read()

    def close(self) -> None:
        """See Source."""
        self._source.close()


class RemoteHost:
    """One host, followed in a thread of its own, and connected to again when it has gone away."""

    def __init__(self, name: str, folder: Path) -> None:
        """Raises UsageError for what is no host."""
        try:
            self._shell = Shell(name, folder)
        except ValueError as error:
            raise UsageError(str(error), "hosts are named as for ssh") from None
        self._folder = folder
        self._stop = threading.Event()
        self._again = threading.Event()
        self.tried = threading.Event()
        """Set once it has answered or failed."""
        self.wants_user = False
        """Whether it failed for want of somebody who answers what ssh asks."""
        self.row = HostRow(host=name, since=time.time())
        self.read_us = 0
        """When the reading came, on our clock."""
        self._batch_us = 0
        self._thread = threading.Thread(target=self._run, name=f"edgetop-{name}", daemon=True)

    def start(self) -> None:
        """Connect, once."""
        self._thread.start()

    def ask(self) -> None:
        """Try again at once, and let ssh ask on the terminal."""
        self._shell.asks = True
        self.tried.clear()
        self._again.set()

    def stop(self) -> None:
        """Begin to end."""
        self._stop.set()
        self._again.set()
        self._shell.interrupt()

    def join(self, until_s: float) -> None:
        """Wait for the end until a moment of the monotonic clock."""
        self._thread.join(max(0.0, until_s - time.monotonic()))

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self._follow()
            except SshError as error:
                self.wants_user = error.wants_user
                missing = Unavailable(error.reason, error.hint)
            except Exception as error:  # noqa: BLE001 - whatever one host sends, the others are watched
                log_exception(error)
                missing = Unavailable(one_line(f"{type(error).__name__}: {error}")[:TEXT_MAX], "please report this")
            finally:
                self._shell.close()
                self._shell.asks = False
            if self._stop.is_set():
                return
            failures = 0 if self.row.state == "answers" else failures + 1
            since = self.row.since if self.row.state == "gone" else time.time()
            self.row = HostRow(host=self.row.host, state="gone", since=since, missing=missing)
            log("servers", f"{self.row.host} is gone: {missing.reason}")
            self.tried.set()
            self._again.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])
            if not self._stop.is_set():
                self._again.clear()

    def _follow(self) -> None:
        """Connect, and read until it ends. Raises SshError."""
        self._shell.open(SCRIPT)
        deadline_s, size = time.monotonic() + FIRST_S, 0
        while not self._stop.is_set():
            line = self._shell.line(deadline_s)
            if line == "shell":
                self._follow_files()
                return
            size += len(line) + LINE_COST
            if line.startswith("{") and self._show_line(line):
                deadline_s, size = time.monotonic() + SILENT_S, 0
                # One that tells more often is read so often.
                self._stop.wait(SOONEST_S)
            elif size > LINE_BYTES:
                raise SshError(TOO_MUCH)

    def _show_line(self, line: str) -> bool:
        """Take in a line of `edgetop watch --json`; whether it was a reading."""
        try:
            document = msgspec.json.decode(line)
            if not isinstance(document, dict) or document.get("type") != "reading":
                return False
            self._show(document, "edgetop")
        except (ValueError, RecursionError) as error:
            raise SshError(f"its edgetop tells what cannot be read: {one_line(str(error))[:TEXT_MAX]}") from None
        return True

    def _show(self, document: dict[str, object], by: str) -> None:
        reading = msgspec.convert(document, HostReading)
        shown = replace(
            reading,
            models=tuple(one_line(name)[:TEXT_MAX] for name in reading.models[:MODELS_MAX]),
            throttling=None
            if reading.throttling is None
            else tuple(one_line(name)[:NAME_MAX] for name in reading.throttling[:MODELS_MAX]),
            energy_missing=one_line(reading.energy_missing)[:TEXT_MAX],
        )
        since = self.row.since if self.row.state == "answers" else time.time()
        self.read_us = monotonic_us()
        self.row = HostRow(host=self.row.host, state="answers", since=since, by=by, reading=shown)
        self.tried.set()

    def _follow_files(self) -> None:
        root = Path(tempfile.mkdtemp(prefix="files-", dir=self._folder))
        files = RemoteFiles(root)
        try:
            self._shell.send(SHELL_SETUP)
            files.fetch_all(self._ask)
            files.scan(self._ask, ())
            FileReader(
                self._ask, files, self._stop, lambda document: self._show(document, "shell"), reach=self._reach
            ).run()
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def _ask(self, command: str) -> list[str]:
        return list(self._shell.answer(command, SILENT_S))

    def _reach(self, address: Address) -> Address:
        """Where a server of the host is reached from here."""
        return Address(UNIX, str(self._shell.reach(address.host, address.port)), 0)


class FileReader:
    """Reads the copied files of a host into a session of its own, which makes the figures."""

    def __init__(
        self,
        ask: Callable[[str], list[str]],
        files: RemoteFiles,
        stop: threading.Event,
        show: Callable[[dict[str, object]], None],
        *,
        reach: Callable[[Address], Address],
    ) -> None:
        """`ask` runs a command there, and `reach` gives the address here of a server there."""
        self._ask, self._files, self._stop, self._show = ask, files, stop, show
        self._host = Host(
            sysroot=files.root, system="linux", own_pid=0, user_id=self._user_id(), uses_gpu=lambda: False
        )
        self._monitor = ServerMonitor(self._host, reach=reach)
        self._session = Session()
        self._batch_us = monotonic_us()
        self._took_s = 0.0
        self._sources: list[ScheduledSource] = []

    def run(self) -> None:
        """Read until it is to stop. Raises SshError."""
        self._session.apply(
            SessionStarted(
                t_us=monotonic_us(),
                session_id="host",
                started_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                edgetop_version=__version__,
                device=describe(self._host),
                kind="watch",
            )
        )
        try:
            self._find_sensors()
            rounds = 0
            while not self._stop.is_set():
                rounds += 1
                if rounds % SCAN_EVERY == 0:
                    self._files.scan(self._ask, self._monitor.pids)
                self._read()
                now_us = monotonic_us()
                self._stop.wait(PERIOD_S - now_us % US_PER_S / US_PER_S)
        finally:
            for scheduled in self._sources:
                with contextlib.suppress(Exception):
                    scheduled.source.close()

    def _find_sensors(self) -> None:
        """Probe, while the files go on changing: a counter that stands still is none."""
        found = threading.Thread(target=self._probe, daemon=True)
        found.start()
        while found.is_alive() and not self._stop.is_set():
            self._refresh()
            found.join(PROBING_S)

    def _probe(self) -> None:
        inventory = take_inventory(self._host, remote_probes())
        root = str(self._files.root)
        for source in inventory.sources:
            copied = _Copied(source, self._took_s / 2)
            self._session.apply(SourceAdded(source=copied.info))
            self._sources.append(ScheduledSource(copied, lambda: self._batch_us, lambda: 0))
        for absent in inventory.absent:
            missing = Unavailable(absent.missing.reason.replace(root, ""), absent.missing.hint.replace(root, ""))
            self._session.apply(SourceMissing(name=absent.name, missing=missing))

    def _refresh(self) -> None:
        begin_us = monotonic_us()
        self._files.refresh(self._ask, self._monitor.pids)
        end_us = monotonic_us()
        self._batch_us = (begin_us + end_us) // 2
        self._took_s = (end_us - begin_us) / US_PER_S

    def _read(self) -> None:
        self._refresh()
        for scheduled in self._sources:
            if scheduled.due_us <= self._batch_us + US_PER_S // 4:
                for record in scheduled.read():
                    self._session.apply(record)
        self._monitor.round()
        for record in self._monitor.drain():
            # What single servers do is no figure of the host, and a session grows by all that it is given.
            if not isinstance(record, SourceAdded | Sampled) or "server." not in _name_of(record):
                self._session.apply(record)
        now_us = self._session.relative(monotonic_us())
        self._show(msgspec.to_builtins(reading_of(snapshot(self._session, now_us), self._monitor.rows)))

    def _user_id(self) -> int:
        answers = [line for line in self._ask("id -u") if line.isdecimal()]
        return int(answers[0][:9]) if answers else -1


def _name_of(record: SourceAdded | Sampled) -> str:
    return record.source if isinstance(record, Sampled) else record.source.name


class Total(Struct, frozen=True, kw_only=True):
    """All hosts together; a sum over some of those that answer says over how many."""

    answering: int
    hosts: int
    tokens_per_s: float | None = None
    tokens_of: int = 0
    power_w: float | None = None
    power_of: int = 0
    power_missing: str = ""
    j_per_token: Interval | None = None
    """Of those that have an energy per token, measured alike."""
    energy_of: int = 0
    fastest: str = ""
    """Empty where several are."""
    thriftiest: str = ""
    """The host with the least energy per token: with all of its interval below that of the next."""


def total_of(rows: Sequence[HostRow]) -> Total:
    """The sum over the hosts, and the best of them."""
    readings = {row.host: row.reading for row in rows if row.reading is not None}
    speeds = {host: reading.tokens_per_s for host, reading in readings.items() if reading.tokens_per_s is not None}
    powers = {host: reading.power_w for host, reading in readings.items() if reading.power_w is not None}
    alike = len({readings[host].power_scope for host in powers}) < 2
    energies = {
        host: (reading.energy_j, reading.j_per_token)
        for host, reading in readings.items()
        if reading.energy_j is not None and reading.j_per_token is not None and reading.j_per_token.value > 0
    }
    tokens = sum(energy.value / each.value for energy, each in energies.values())
    order = sorted(energies, key=lambda host: energies[host][1].value)
    is_clear = len(order) > 1 and energies[order[0]][1].high < energies[order[1]][1].low
    return Total(
        answering=len(readings),
        hosts=len(rows),
        tokens_per_s=sum(speeds.values()) if speeds else None,
        tokens_of=len(speeds),
        power_w=sum(powers.values()) if powers and alike else None,
        power_of=len(powers),
        power_missing="" if alike else "the hosts' power is not measured at the same place",
        j_per_token=_sum_per_token([energy for energy, _ in energies.values()], tokens) if alike and tokens else None,
        energy_of=len(energies),
        fastest=_alone_first(speeds),
        thriftiest=order[0] if is_clear else "",
    )


def _alone_first(speeds: Mapping[str, float]) -> str:
    most = max(speeds.values(), default=0.0)
    first = [host for host, speed in speeds.items() if speed == most > 0]
    return first[0] if len(first) == 1 else ""


def _sum_per_token(energies: Sequence[Interval], tokens: float) -> Interval:
    """Errors of several machines are added up, as if they were all to one side."""
    parts = {name: sum(getattr(each, name) for each in energies) / tokens for name in Interval.__struct_fields__}
    return Interval(**parts)


HEADINGS = ("HOST", "MODEL", "TOK/S", "W", "J/TOKEN", "°C", "THROTTLED", "MEMORY")


def host_cells(row: HostRow) -> list[str]:
    """The row of a host."""
    reading = row.reading
    if reading is None:
        state = "connecting" if row.missing is None else f"gone since {_clock(row.since)}"
        return [row.host, state, *[NOT_AVAILABLE] * (len(HEADINGS) - 2)]
    throttled = NOT_AVAILABLE if reading.throttling is None else ", ".join(reading.throttling).replace("_", " ") or "no"
    used = format_bytes_short(reading.memory_used_bytes)
    memory = used if reading.memory_total_bytes is None else f"{used}/{format_bytes_short(reading.memory_total_bytes)}"
    return [
        row.host,
        ", ".join(reading.models) or "no model",
        _figure(reading.tokens_per_s),
        _figure(reading.power_w),
        plus_minus(reading.j_per_token),
        NOT_AVAILABLE if reading.temperature_cpu_c is None else f"{reading.temperature_cpu_c:.0f}",
        throttled,
        memory,
    ]


def total_cells(total: Total) -> list[str]:
    """The row of all hosts together."""
    return [
        "all",
        f"{total.answering} of {total.hosts} hosts",
        _of(_figure(total.tokens_per_s), total.tokens_of, total),
        _of(_figure(total.power_w), total.power_of, total),
        _of(plus_minus(total.j_per_token), total.energy_of, total),
        *[""] * 3,
    ]


def fleet_notes(rows: Sequence[HostRow], total: Total) -> list[str]:
    """What the table has no room for: the best hosts, and why others are gone or have no energy."""
    best = [f"{total.fastest} is the fastest"] if total.fastest and total.answering > 1 else []
    best += [f"{total.thriftiest} needs the least energy per token"] if total.thriftiest else []
    notes = [f"Best: {', '.join(best)}."] if best else []
    notes += [f"W: {total.power_missing}."] if total.power_missing else []
    for row in rows:
        if row.missing is not None:
            hint = f" ({row.missing.hint})" if row.missing.hint else ""
            notes.append(f"{row.host}: gone since {_clock(row.since)}: {row.missing.reason}{hint}")
        elif row.reading is not None and row.reading.j_per_token is None and row.reading.energy_missing:
            notes.append(f"{row.host}: no J/token: {row.reading.energy_missing}")
    return notes


def _of(text: str, count: int, total: Total) -> str:
    return text if text == NOT_AVAILABLE or count == total.answering else f"{text} of {count}"


def _figure(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else format_significant(value)


def _clock(since: float) -> str:
    """A moment by the wall clock, with its day where that is not today."""
    begun = datetime.fromtimestamp(since).astimezone()
    return begun.strftime("%H:%M:%S" if begun.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M")


CHANNELS = (
    Channel(name="up", unit="1"),
    Channel(name="tokens_per_s", unit="1/s", digits=3),
    Channel(name="generated_tokens", unit="1"),
    Channel(name="power", unit="W", digits=3, label="power"),
    Channel(name="j_per_token", unit="1", digits=4, label="J per token"),
    Channel(name="j_per_token_low", unit="1", digits=4),
    Channel(name="j_per_token_high", unit="1", digits=4),
    Channel(name="temperature_cpu", unit="Cel", digits=1),
    Channel(name="throttled", unit="1"),
    Channel(name="memory_used", unit="B"),
    Channel(name="memory_total", unit="B"),
)
"""Of each host, behind HOST_STREAM and its name: one stream of a session. `edgetop.live.metrics` exports them."""

NOT_REPORTED = "the host does not tell it"


def channel_values(row: HostRow) -> tuple[tuple[float | None, ...], tuple[str, ...]]:
    """A value for each of `CHANNELS`, and the reasons of those that are missing."""
    reading = row.reading
    if reading is None:
        reason = "it is being connected to" if row.missing is None else row.missing.reason
        return (0.0, *(None,) * (len(CHANNELS) - 1)), ("", *(reason,) * (len(CHANNELS) - 1))
    energy = reading.j_per_token
    values = (
        1.0,
        reading.tokens_per_s,
        reading.generated_tokens,
        reading.power_w,
        *((None,) * 3 if energy is None else (energy.value, energy.low, energy.high)),
        reading.temperature_cpu_c,
        None if reading.throttling is None else float(bool(reading.throttling)),
        reading.memory_used_bytes,
        reading.memory_total_bytes,
    )
    energy_reason = reading.energy_missing or NOT_REPORTED
    reasons = tuple(
        "" if value is not None else energy_reason if channel.name.startswith("j_per") else NOT_REPORTED
        for value, channel in zip(values, CHANNELS, strict=True)
    )
    return values, reasons


class FleetSession(RecordedSession):
    """Follows all hosts, and records each once a second in a stream of its own."""

    def __init__(
        self, hosts: Sequence[str], options: WatchOptions, store: Store, on_trouble: Callable[[str], None]
    ) -> None:
        """Raises UsageError for what is no host, or is named twice."""
        twice = next((host for host in hosts if hosts.count(host) > 1), None)
        if twice is not None:
            raise UsageError(f"{twice} is named twice", "")
        lower_priority()
        # The readers hold the copied files of a host open.
        raise_file_limit()
        # The path of a socket may have no more than some hundred letters, of which ssh wants 17 itself.
        usual = tempfile.gettempdir()
        self._folder = Path(tempfile.mkdtemp(prefix="edgetop-", dir=usual if len(usual) < FOLDER_MAX else "/tmp"))  # noqa: S108 - it makes one of its own
        self._hosts: list[RemoteHost] = []
        for number, name in enumerate(hosts):
            folder = self._folder / str(number)
            folder.mkdir()
            self._hosts.append(RemoteHost(name, folder))
        super().__init__(replace(options, text_recorded=True), store, describe(Host()), on_trouble, kind="watch")
        self._seen: dict[str, ServiceSeen] = {}
        self._states: dict[str, HostState] = {}
        self._before: dict[str, HostServed] = {}
        """What was done until a host went away, of those that did."""
        self._now: dict[str, HostServed] = {}
        self._told_us: dict[str, int] = {}
        """When what a host has done is to be recorded again."""
        self._due_us = 0
        self.last_hosts: Sequence[HostRow] = ()
        """As they were when the session was closed."""
        for number, host in enumerate(self._hosts):
            name = host.row.host
            self.recorder.record(SourceAdded(source=source_of(name)))
            self._note_service(number + 1, host.row)
            host.start()

    @property
    def hosts(self) -> Sequence[HostRow]:
        """The hosts as they are now."""
        return [host.row for host in self._hosts]

    @property
    def has_searched(self) -> bool:
        """Whether each host has answered or failed."""
        return all(host.tried.is_set() for host in self._hosts)

    @property
    def has_sensors(self) -> bool:
        """See RecordedSession."""
        return self.has_searched

    def warned_by(self, on_trouble: Callable[[str], None]) -> FleetSession:
        """The session, which tells of trouble with the recording to another one from now on."""
        self.recorder.on_trouble = on_trouble
        return self

    def ask_user(self, ended: threading.Event) -> None:
        """Let ssh ask on the terminal for the hosts that want it, one after another, before anything is drawn."""
        while not self.has_searched and not ended.wait(0.05):
            pass
        for host in self._hosts:
            if host.wants_user and not ended.is_set():
                host.ask()
                while not host.tried.is_set() and not ended.wait(0.05):
                    pass

    def pump(self) -> None:
        """Record each host once a second, and what has changed at once."""
        now_us = monotonic_us()
        is_due = now_us >= self._due_us
        if is_due:
            self._due_us = now_us - now_us % US_PER_S + US_PER_S
        for number, host in enumerate(self._hosts):
            row = host.row
            if is_due or row.state != self._states.get(row.host, "connecting"):
                self._record(number + 1, row, now_us)
        self._check_when_due()

    def close(self) -> Path | None:
        """End all connections and save the session; its path, or `None` if there was nothing to keep.

        Raises StoreError when the session can be written nowhere.
        """
        self.last_hosts = self.hosts
        self._told_us.clear()
        for number, row in enumerate(self.last_hosts):
            self._note_service(number + 1, row)
        for host in self._hosts:
            host.stop()
        until_s = time.monotonic() + STOP_S
        for host in self._hosts:
            host.join(until_s)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._stop_sensors()
        self._background.shutdown(wait=False)
        return self.recorder.finish()

    def _record(self, number: int, row: HostRow, now_us: int) -> None:
        before = self._states.get(row.host, "connecting")
        if row.state != before:
            self._states[row.host] = row.state
            why = "" if row.missing is None else f": {row.missing.reason}"
            text = f"{row.host} answers." if row.state == "answers" else f"{row.host} is gone{why}."
            kind = f"host_{row.state}"
            self.recorder.record(Event(t_us=now_us, kind=kind, text=text, data={"host": row.host}))
        if row.state == "gone" and before == "answers":
            self._before[row.host] = self._served(row.host)
            self._now.pop(row.host, None)
            self._told_us.pop(row.host, None)
        elif row.reading is not None:
            self._now[row.host] = served_of(row.reading)
        self._note_service(number, row)
        values, reasons = channel_values(row)
        self.recorder.record(Sampled(source=f"{HOST_STREAM}{row.host}", t_us=now_us, values=values, reasons=reasons))

    def _served(self, host: str) -> HostServed:
        """Since the host was first connected to."""
        return _plus(self._before.get(host), self._now.get(host))

    def _note_service(self, number: int, row: HostRow) -> None:
        models = () if row.reading is None else row.reading.models
        before = self._seen.get(row.host)
        seen = ServiceSeen(
            t_us=monotonic_us(),
            number=number,
            kind=f"host {row.host}",
            address=f"ssh:{row.host}",
            models=models or (() if before is None else before.models),
            counts="nothing",
            no_count=Unavailable(f"it is counted in the stream {HOST_STREAM}{row.host}"),
            served=None if before is None else before.served,
        )
        if seen.t_us >= self._told_us.get(row.host, 0):
            self._told_us[row.host] = seen.t_us + TOLD_EVERY_US
            seen = replace(seen, served=self._served(row.host))
        if before is None or replace(before, t_us=seen.t_us) != seen:
            self._seen[row.host] = seen
            self.recorder.record(seen)


def served_of(reading: HostReading) -> HostServed:
    """What a reading says of all the time since the host was connected to."""
    energy, each = reading.energy_j, reading.j_per_token
    scope = reading.power_scope if reading.power_scope in get_args(Scope) else None
    tokens = None if reading.generated_tokens is None else max(0, reading.generated_tokens)
    measured = -1.0 if energy is None or each is None or each.value <= 0 else energy.value / each.value
    if scope is None or not 0 <= measured < LARGEST:
        missing = reading.energy_missing or NOT_REPORTED
        return HostServed(generated_tokens=tokens, at_least=reading.at_least, energy_missing=missing)
    return HostServed(
        generated_tokens=tokens,
        at_least=reading.at_least,
        measured_tokens=min(tokens or 0, round(measured)),
        energy_j=energy,
        scope=scope,
    )


def _plus(before: HostServed | None, now: HostServed | None) -> HostServed:
    """Two times together."""
    if before is None or now is None:
        return before or now or HostServed(energy_missing="it has told nothing yet")
    energies = [each.energy_j for each in (before, now) if each.energy_j is not None]
    tokens = [each.generated_tokens for each in (before, now) if each.generated_tokens is not None]
    alike = before.scope == now.scope or not before.scope or not now.scope
    names = Interval.__struct_fields__
    return HostServed(
        generated_tokens=sum(tokens) if tokens else None,
        at_least=before.at_least or now.at_least,
        measured_tokens=before.measured_tokens + now.measured_tokens if alike else 0,
        energy_j=Interval(**{name: sum(getattr(each, name) for each in energies) for name in names})
        if energies and alike
        else None,
        scope=before.scope or now.scope if alike else "",
        energy_missing="" if energies and alike else now.energy_missing or "it was measured at different places",
    )


def source_of(host: str) -> SourceInfo:
    """The stream of a host."""
    name = f"{HOST_STREAM}{host}"
    return SourceInfo(
        name=name,
        driver="ssh",
        path=host,
        period_s=PERIOD_S,
        channels=tuple(replace(channel, name=f"{name}.{channel.name}") for channel in CHANNELS),
    )

"""Hostile input of every kind: how it is made from chance, and all that is done with it.

An input is bytes; whatever else is drawn for it is drawn from those bytes, so that a kept input does the same again.
What each kind found stands in `corpus/KIND`; `tests/test_hostile_corpus.py` does it all again, and the fuzzers
(`python -m benchmarks.hostile_inputs`) begin with it and damage it further.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import os
import random
import shlex
import socket
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec
from msgspec.structs import replace

from edgetop import cli
from edgetop.api import load_session
from edgetop.bench.output import read_archive
from edgetop.bench.plan import read_questions, read_request
from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.errors import EdgetopError
from edgetop.core.quantity import Interval
from edgetop.core.records import (
    Event,
    ModelLoaded,
    Prefill,
    Record,
    RequestServed,
    SourceAdded,
    Tokens,
    TurnFinished,
    TurnStarted,
)
from edgetop.fit.devices import load_devices
from edgetop.inference.engine import Stop, StopFlags
from edgetop.inference.protocol import ChatMessage, Generate, Load
from edgetop.inference.server.address import Address, ServerChoice
from edgetop.inference.server.backend import server_programs
from edgetop.inference.server.engine import ServerEngine
from edgetop.io.ssh import SshError
from edgetop.live.fleet import RemoteHost, channel_values, fleet_notes, host_cells, total_cells, total_of
from edgetop.live.live_session import WatchOptions
from edgetop.live.proxy_session import ProxySession
from edgetop.session.attached_power import align, session_of, with_log
from edgetop.session.file import to_file
from edgetop.session.file_io import encode_file, save, validate
from edgetop.session.journal import Journal
from edgetop.session.meter_log import read_log
from edgetop.session.session import Session
from edgetop.session.store import Store
from edgetop.session.summary import turn_result
from edgetop.settings.config_file import config_template
from edgetop.telemetry import plugs
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host, RemoteFiles
from edgetop.telemetry.model_processes import ModelProcesses
from edgetop.telemetry.power_feed import Connection
from edgetop.telemetry.power_stream import HostSource, StreamSource
from edgetop.telemetry.registry import remote_probes, take_inventory
from edgetop.telemetry.sampler import ScheduledSource
from edgetop.telemetry.source import SourceLost
from edgetop.tui.themes import ThemeError, read_theme
from tests.session.mutation import look_at, mutants, tell_of
from tests.support import attached_logs, mutated_streams, server_replies
from tests.support.benchmark_outputs import OLLAMA, PP, TG
from tests.support.fake_processes import MODEL_PATH, FakeProcesses
from tests.support.fake_sources import FakeClock
from tests.support.fake_sysfs import JETSON, LAPTOP, ORIN_NANO, plant
from tests.support.hostile_text import acts_on_a_terminal
from tests.support.loopback_server import LoopbackServer, head, loopback_server
from tests.support.mutated_gguf import good_headers, mutated
from tests.support.recorded_power import SENSORS, record, record_watch
from tests.support.recorded_sessions import HEAD, LOADED, STARTED, fold, journal_lines, turn
from tests.support.remote_shell import remote_shell
from tests.support.shipped_sessions import FOLDER

CORPUS = Path(__file__).resolve().parent / "corpus"
REPOSITORY = Path(__file__).resolve().parents[2]


class Act(NamedTuple):
    """Something done with an input."""

    name: str
    do: Callable[[], str]
    """What is wrong with what came of it, or nothing."""


class Kind(NamedTuple):
    """One kind of input."""

    make: Callable[[random.Random], bytes]
    acts: Callable[[bytes, random.Random], list[Act]]
    """With chance that begins with the input."""


_TOKENS: tuple[bytes, ...] = (
    b"\x00", b"\xff", b"[" * 5000, b"]", b"{", b'"', b"9" * 5000, b"-1", b"NaN", b"1e999", b"1e308", b"-1e308",
    b"5e-324", b"\x1b]52;c;eA==\x07", b"\n" * 999, "\u202e\u2028\x9b\U000e0041".encode(), b"../" * 40,
    b"a." * 5000, b"=", b"\\ud800", b"18446744073709551616", "\u0663\u00b2\u00df".encode(),
    b"0001-01-01T00:00:00+23:59", b"null", b"{}",
)  # fmt: skip


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Bytes changed, left out, doubled, cut off, or something odd put between or in place of a number or a word."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(6):
            case 0:
                made[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del made[at : at + chance.choice((1, 4, 100))]
            case 2:
                made[at:at] = made[at : at + chance.choice((1, 8, 400))] * chance.choice((1, 50))
            case 3:
                made[at:at] = chance.choice(_TOKENS)
            case 4:
                end = at
                while end < len(made) and chr(made[end]).isalnum():
                    end += 1
                made[at:end] = chance.choice(_TOKENS)
            case 5 if chance.random() < 0.3:
                del made[at:]
    return bytes(made)


def is_harmless(text: str) -> bool:
    """Whether text may be written to a terminal."""
    return not acts_on_a_terminal(text.replace("\n", "").replace("\t", ""))


def command(*arguments: str) -> Act:
    """A command line, carried out in this process."""
    return Act(f"edgetop {' '.join(arguments)}", partial(_carried_out, arguments))


def commands(lines: str, **words: object) -> list[Act]:
    """Command lines, written as for a shell; what stands in braces is one of the words."""
    return [command(*(word.format(**words) for word in shlex.split(line))) for line in lines.split(";")]


def _carried_out(arguments: Sequence[str]) -> str:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        cli.main(arguments)
    said, told = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err))
    if "internal error" in told or "Traceback" in told or "please report" in told or "Warning:" in told:
        return told[:300]
    return "" if is_harmless(said) and is_harmless(told) else "what it prints acts on a terminal"


def _tried(do: Callable[[], object], *refusals: type[Exception]) -> str:
    """What is wrong with something that may be refused in words that can be shown."""
    try:
        do()
    except refusals as error:
        told = " ".join(filter(None, (getattr(error, "what", str(error)), getattr(error, "hint", ""))))
        return "" if told and len(told) < 4100 else f"it is refused with {told[:200]!r}"
    return ""


# Headers of models


def _ggufs(folder: Path) -> Kind:
    headers = good_headers()
    file = folder / "models" / "stranger.gguf"
    file.parent.mkdir()

    def acts(data: bytes, chance: random.Random) -> list[Act]:
        file.write_bytes(data)
        more = chance.choice(("", "--kv-type q8_0", "--device pi5:8gb", "--json", "-v", "--ctx 2k,64k"))
        return commands(f"check {{file}} {more}; models --model-dir {{folder}} --json", file=file, folder=file.parent)

    return Kind(lambda chance: mutated(chance, headers), acts)


# Sessions and journals


@cache
def _small_sessions() -> list[bytes]:
    made: list[list[Record]] = [
        [*HEAD, *turn(), *turn(2, at_us=3_000_000)],
        record(SENSORS["slow average"], 1).records,
        record(SENSORS["gain and offset"], 2).records,
        record_watch(SENSORS["slow average"], 3).records,
    ]
    return [b"".join(encode_file(to_file(fold(records)))) for records in made]


def _sessions(folder: Path, seed: int) -> Kind:
    store = folder / "data" / "sessions"
    store.mkdir(parents=True, exist_ok=True)
    file, out, other = store / "stranger.json", folder / "out", folder / "good.json"
    other.write_bytes(_small_sessions()[1])
    log = folder / "meter.csv"
    attached_logs.write_log(log, attached_logs.record(3), 10, 3.2, 3)
    shipped = [path.read_bytes() for path in sorted(FOLDER.glob("*.json"))]
    small = mutants(_small_sessions(), sys.maxsize, seed)
    large = mutants(shipped, sys.maxsize, seed)
    every = commands(
        """
        sessions show {one}; sessions show {one} --json; sessions validate {one} --json; sessions list;
        sessions list --json; sessions list --csv; sessions totals --by model,month,host,scope;
        sessions totals --json --price 0.3; sessions tag {one} +x; sessions note {one} x;
        sessions prune --keep 1d; sessions prune --max 1k --json; sessions recompute {one} --dry-run;
        sessions recompute {one} --json; sessions recompute {one} --power none; sessions export {one} -o {out};
        sessions export {one} --to json -o {out}.j; sessions export {one} --to html -o {out}.x.html;
        sessions import {one}; sessions attach-power {log} {one} --json; replay {one} --at 1;
        replay {one} --at 9 --json; replay {one} {good} --at 2 --align token; compare {good} {one} --json;
        compare {one} {good} --md; compare {one} {good} --fail-if 'decode_tokens_per_s < -5%';
        report {one} {good} -o {out}.html --force; card {one}; card {one} --json; card {one} --svg;
        check --history
        """,
        one=file, good=other, out=out, log=log,
    )  # fmt: skip
    every.append(Act("edgetop.load_session", partial(_api, file)))

    def acts(data: bytes, chance: random.Random) -> list[Act]:
        for path in (*store.iterdir(), *folder.glob("out*")):
            if path.is_file():
                path.unlink()
        file.write_bytes(data)
        return chance.sample(every, 4)

    return Kind(lambda chance: next(large if chance.random() < 0.03 else small), acts)


def _api(file: Path) -> str:
    def all_of_it() -> None:
        session = load_session(file)
        session.row()
        for name in ("turns", "samples", "tokens"):
            session.rows(name)
        for channel in session.channels:
            session.stream(channel)

    return _tried(all_of_it, EdgetopError, ValueError)


def _journals(folder: Path) -> Kind:
    store = folder / "data" / "sessions"
    store.mkdir(parents=True, exist_ok=True)
    wholes, lines = [], []
    for number, records in enumerate(
        (
            (*HEAD, *turn(), Event(t_us=STARTED.t_us + 9, kind="throttled", text="x")),
            record_watch(SENSORS["slow average"], 3).records,
        )
    ):
        path = folder / f"whole-{number}.journal"
        journal = Journal(path)
        for each in records:
            journal.append(each)
        journal.close()
        wholes.append(path.read_bytes())
        lines.append(journal_lines(path))

    after = commands(
        """
        sessions list; sessions list --json; sessions validate {store}; sessions show 1 --json;
        sessions totals --json; replay 1 --at 1
        """,
        store=store,
    )

    def make(chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return damaged(chance, chance.choice(wholes))
        made = damaged(chance, chance.choice(lines))
        return made if chance.random() < 0.5 else gzip.compress(made, 6, mtime=0)

    def acts(data: bytes, chance: random.Random) -> list[Act]:
        for path in store.iterdir():
            path.unlink()
        (store / chance.choice(("a.journal", "20261130-101112-x-0123456789ab.journal"))).write_bytes(data)
        return [command("sessions", "recover", "--json"), *chance.sample(after, 2)]

    return Kind(make, acts)


# Tables in TOML


def _toml(folder: Path) -> Kind:
    documents = [
        config_template().replace("\n#", "\n").encode(),
        b'[general]\nascii = true\n[keys.replay]\nquit = "q"\n[server.keys]\n"http://a:1" = "/x"\n',
        *(path.read_bytes() for path in sorted((REPOSITORY / "edgetop").rglob("themes/*.toml"))[:2]),
        b'models = ["a.gguf"]\nthreads = [1, 2]\nn_prompt = [32]\nrepetitions = 2\ncpu_clock = ["1.5GHz"]\n',
        b'[box]\nname = "Box"\nmemory_gb = 8\n',
    ]
    file, theme = folder / "config.toml", folder / "theme.toml"
    every = commands(
        """
        config --config {file}; config --config {file} --json; sessions list --config {file};
        config --config {file} set ctx 4k; config --config {file} unset screen.theme; keys --config {file}
        """,
        file=file,
    )
    every += [
        Act("a theme", partial(_tried, partial(read_theme, theme), ThemeError)),
        Act("a plan", partial(_tried, partial(read_request, theme), EdgetopError)),
        Act("devices", partial(_tried, partial(load_devices, theme), EdgetopError)),
    ]

    def acts(data: bytes, chance: random.Random) -> list[Act]:
        file.write_bytes(data)
        theme.write_bytes(data)
        return chance.sample(every, 3)

    return Kind(lambda chance: damaged(chance, chance.choice(documents)), acts)


# Text of meters

_ODD = (
    "nan", "inf", "-inf", "1e308", "1e309", "-1", "0", "-0", "1e-300", "5e-324", "1e6", "999999", "1e99", "1e20", "2e9",
    "\u0663", "\u00b2", "0x10", "1_0", "1e-9", "86400", "86401", "true", "\x1b[31m5", "9" * 400, "9" * 4000, "",
)  # fmt: skip
_ODD_TEXTS = (
    "\x1b]52;c;eA==\x07", "\u202e", "x" * 500, "a+" * 1500, "<script>", "../..", "\x9b31m", "\u2028x", "power", "-",
    "\x00",
    ",".join(f"c{number}" for number in range(700)),
)  # fmt: skip
_GOOD = {
    "kind": "power", "unit": "W", "scope": "wall", "update": "0.5", "window": "0.5", "gain": "0.01", "offset": "0.2",
    "max": "60", "lsb": "0.1", "host": "pi2", "source": "power.rapl", "channels": "a+b", "calibration": "own",
    "flags": "slow", "clock": "monotonic",
}  # fmt: skip
_TEXTS = ("source", "channels", "calibration", "flags", "host", "clock", "kind", "unit", "scope")
_METER_S = 30


def _meter_text(chance: random.Random) -> bytes:
    """A header with some odd fields, and half a minute of lines of which some have odd values."""
    words = dict(_GOOD)
    is_energy = chance.random() < 0.4
    if is_energy:
        words |= {"kind": "energy", "unit": chance.choice(("J", "Wh"))}
    for key in ("host", "clock", "window", "offset", "lsb", "source", "channels", "calibration", "flags", "max"):
        if chance.random() < 0.5:
            del words[key]
    for key in chance.sample([*words], chance.choice((0, 0, 1, 1, 2))):
        odd = chance.random() < 0.7
        words[key] = chance.choice((_ODD_TEXTS if key in _TEXTS else _ODD) if odd else ("1000000", "1", "0.001"))
    begin = f"# edgetop-power/1 {' '.join(f'{key}={value}' for key, value in words.items())}"
    lines = [begin] if chance.random() < 0.9 else []
    odd_share = chance.choice((0.0, 0.02, 0.2))
    counter = 0.0
    for number in range(4 * _METER_S):
        counter += 2.0
        value = str(counter if is_energy else 8 + number % 3)
        if chance.random() < odd_share:
            value = chance.choice(_ODD)
        match chance.randrange(3) if chance.random() < 0.5 else 0:
            case 0:
                lines.append(value)
            case 1:
                t_s = str(1_782_936_360 + number / 4) if chance.random() > odd_share else chance.choice(_ODD)
                lines.append(f'{{"{"j" if is_energy else "w"}": {value}, "t": {t_s}}}')
            case _:
                n, m, age = (
                    good if chance.random() > odd_share else chance.choice(_ODD)
                    for good in (str(number), str(100 + number / 4), "0.01")
                )
                why = chance.choice(_ODD_TEXTS) if chance.random() < odd_share else ""
                missing = f', "missing": {json.dumps(why)}' if why else ""
                lines.append(f'{{"n": {n}, "m": {m}, "age": {age}{missing}, "{"j" if is_energy else "w"}": {value}}}')
    data = "\n".join(lines).encode("utf-8", "replace") + b"\n"
    return damaged(chance, data) if chance.random() < 0.3 else data


class _Feed:
    """A meter whose lines come four times a second, on a clock that goes on while it is waited for."""

    name = "meter"

    def __init__(self, data: bytes, time: FakeClock, *, repeat: int = 1) -> None:
        lines = data.splitlines(keepends=True)
        self._due = [(time.now_us + number * US_PER_S // 4, line) for number, line in enumerate(lines)] * repeat
        self._time = time

    def start(self) -> None:
        """Go on with what is left."""

    def receive(self, timeout_s: float) -> bytes | None:
        if not self._due:
            return None
        due_us = self._due[0][0]
        if due_us > self._time.now_us and timeout_s > 0:
            self._time.now_us = min(due_us, self._time.now_us + round(timeout_s * US_PER_S))
        if due_us > self._time.now_us:
            return b""
        return self._due.pop(0)[1][:65536] or b""

    def send(self, line: str) -> bool:
        del line
        return True

    def why_ended(self) -> str:
        return "it ended"

    def close(self) -> None:
        """Say nothing more."""


def _counted(data: bytes, folder: Path, *, as_host: bool) -> str:
    """A session with a turn whose energy this meter counts: its figures, its file, and what verbs say of it."""
    time = FakeClock(STARTED.t_us)
    host = Host(clock=time)
    connection = Connection(_Feed(data, time), time)
    try:
        source = (
            HostSource(connection, "pi2", host)
            if as_host
            else StreamSource(
                connection, host, wall_clock=lambda: 1_782_936_360.0 + (time.now_us - STARTED.t_us) / US_PER_S
            )
        )
    except SourceLost as lost:
        return "" if lost.missing.reason else "it is refused without a reason"
    records: list[Record] = [STARTED, SourceAdded(source=source.info), LOADED]
    turns = turn(at_us=13 * US_PER_S, gaps_us=(US_PER_S // 5,) * 60)
    scheduled = ScheduledSource(source, time, lambda: 0)
    end_us = STARTED.t_us + _METER_S * US_PER_S
    while time.now_us < end_us:
        time.now_us += US_PER_S // 4
        while turns and _stamp(turns[0]) <= time.now_us:
            records.append(turns.pop(0))
        if scheduled.due_us <= time.now_us:
            records += scheduled.read()
    records += turns
    wrong = next((str(each) for each in records if "reading failed" in str(each) or "please report" in str(each)), "")
    if wrong:
        return wrong[:300]
    return _recorded(fold(records), folder)


def _stamp(record: Record) -> int:
    stamp = getattr(record, "t_us", 0)
    return int(stamp[-1] if isinstance(stamp, tuple) else stamp)


def _recorded(session: Session, folder: Path) -> str:
    """What is wrong with a session, its figures, its file, or with what is printed of it."""
    look_at(session)
    tell_of(to_file(session))
    for number in range(len(session.turns)):
        figures = turn_result(session, number, session.end_us).figures
        for figure in () if figures.energy is None else msgspec.structs.astuple(figures.energy):
            if isinstance(figure, Interval) and not (
                math.isfinite(figure.value) and figure.low <= figure.value <= figure.high
            ):
                return f"{figure} is no figure"
        if figures.energy is None and not figures.energy_missing:
            return "the energy is missing without a reason"
    path = folder / "counted.json"
    save(path, session)
    problems = validate(path)
    if problems:
        return f"what was recorded is not valid: {problems[0]}"
    return _carried_out(("sessions", "show", str(path))) or _carried_out(("replay", str(path), "--at", "20", "--json"))


def _flooded(data: bytes) -> str:
    """All of it at once, four hundred times."""
    time = FakeClock(STARTED.t_us)
    connection = Connection(_Feed(data, time, repeat=400), time)
    with contextlib.suppress(SourceLost):
        source = StreamSource(connection, Host(clock=time))
        for _ in range(20):
            time.now_us += US_PER_S // 4
            source.read_stamped()
    return ""


def _plugged(data: bytes) -> str:
    with (
        mock.patch.object(plugs, "get_json", lambda host, _port, _path: plugs.decode_json(host, data)),
        mock.patch.object(plugs, "exchange", return_value=plugs.Kasa.encipher(data)),
    ):
        for kind in ("shelly:plug", "shelly:plug/1", "tasmota:plug", "tasmota:plug/3", "kasa:plug"):
            told = _tried(partial(plugs.plug, kind), SourceLost)
            if told:
                return told
    return ""


_PLUGS = (
    b'{"gen":2,"id":0,"apower":5.0,"meters":[{"power":5,"is_valid":true}],"emeters":[{"power":4}]}',
    b'{"StatusSNS":{"ENERGY":{"Power":[3,4],"Total":1}}}',
    b'{"emeter":{"get_realtime":{"power_mw":5000,"power":5.0}}}',
)


def _meters(folder: Path) -> Kind:
    def make(chance: random.Random) -> bytes:
        return _meter_text(chance) if chance.random() < 0.9 else damaged(chance, chance.choice(_PLUGS))

    def acts(data: bytes, _chance: random.Random) -> list[Act]:
        if data.lstrip().startswith(b"{"):
            return [Act("a plug", partial(_plugged, data))]
        return [
            Act("a session counted by a meter of this machine", partial(_counted, data, folder, as_host=False)),
            Act("a session counted by a host", partial(_counted, data, folder, as_host=True)),
            Act("a flood", partial(_flooded, data)),
        ]

    return Kind(make, acts)


# Streams of servers

_SERVERS: dict[str, tuple[Callable[[LoopbackServer], None], str, str]] = {
    "llama-server": (server_replies.as_llama_server, server_replies.CHAT, "text/event-stream"),
    "vllm": (server_replies.as_vllm, server_replies.CHAT, "text/event-stream"),
    "ollama": (server_replies.as_ollama, "POST /api/chat", "application/x-ndjson"),
}


class _Asked:
    """A server of one kind, and the engine that asks it, with its model loaded."""

    def __init__(self, name: str, wire: LoopbackServer, stop: Stop) -> None:
        set_up, self._path, self._media = _SERVERS[name]
        set_up(wire)
        self._wire, self._stop = wire, stop
        self.engine = ServerEngine(msgspec.convert({"url": wire.url, "timeout_s": 1.0}, ServerChoice))
        reports: list[Any] = []
        self.engine.load(Load(path=".", settings=EngineSettings()), stop, reports.append)
        self._loaded = next(each for each in reports if isinstance(each, ModelLoaded))

    def answered(self, data: bytes, folder: Path) -> str:
        self._wire.answers[self._path] = [head(media=self._media), data]
        self._wire.requests.clear()
        begin_us = monotonic_us()
        records: list[Record] = [replace(STARTED, t_us=begin_us), replace(self._loaded, t_us=begin_us, load_s=0.0)]
        records.append(TurnStarted(turn=1, t_us=monotonic_us(), prompt="Hello"))
        reports: list[Any] = []
        self.engine.generate(
            Generate(turn=1, messages=(ChatMessage("user", "Hello"),), sampling=SamplingSettings()),
            self._stop,
            reports.append,
        )
        records += [each for each in reports if isinstance(each, Prefill | Tokens | TurnFinished)]
        return _recorded(fold(records), folder)


def _streams(folder: Path, resources: ExitStack) -> Kind:
    fd = StopFlags.create()
    flags = StopFlags(fd)
    os.close(fd)
    resources.callback(flags.close)
    asked = {name: _Asked(name, resources.enter_context(loopback_server()), Stop(flags, 0)) for name in _SERVERS}

    return Kind(
        mutated_streams.mutated,
        lambda data, _: [
            Act(f"an answer of {name}", partial(each.answered, data, folder)) for name, each in asked.items()
        ],
    )


# Hubs


def _hubs(wire: LoopbackServer) -> Kind:
    listing = json.dumps({"id": "o/r", "sha": "a" * 40, "siblings": [{"rfilename": "m-q4_0.gguf"}]}).encode()
    header = good_headers()[0]

    def make(chance: random.Random) -> bytes:
        data = damaged(chance, listing) if chance.random() < 0.7 else listing
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)
        return (damaged(chance, answer) if chance.random() < 0.5 else answer) + data

    def acts(data: bytes, chance: random.Random) -> list[Act]:
        wire.requests.clear()
        wire.answers = {f"GET /api/models/o/r{more}": [data] for more in ("", "?blobs=true", "/tree/main")}
        file = [damaged(chance, head(Content_Length=str(len(header)), ETag='"a"')) + header]
        wire.answers |= {f"GET /o/r/resolve/{'a' * 40}/m-q4_0.gguf": file, "GET /m.gguf": file}
        os.environ["HF_ENDPOINT"] = wire.url
        return [command("check", "hf:o/r", "--no-probe"), command("check", f"{wire.url}/m.gguf", "--no-probe")]

    return Kind(make, acts)


# Other machines over SSH, and clients and servers of a proxy

_READING = (
    b'{"type":"reading","tokens_per_s":12.5,"generated_tokens":100,"requests_running":1,"power_w":4.2,'
    b'"power_scope":"module","j_per_token":{"value":0.4,"low":0.3,"high":0.5,"u_systematic":0.05,"u_random":0.0},'
    b'"energy_j":{"value":40,"low":30,"high":50,"u_systematic":5,"u_random":0},"temperature_cpu_c":50.5,'
    b'"throttling":["soft_temp"],"memory_used_bytes":1e9,"memory_total_bytes":8e9,"models":["a.gguf"]}'
)


def _far_answers(folder: Path) -> dict[str, list[str]]:
    """What a real shell answers to each command, by its first word."""
    root = folder / "far"
    fake = FakeProcesses(root)
    fake.process(40, "/usr/bin/llama-server", "-m", MODEL_PATH, "--port", "8080", mapped=MODEL_PATH, ports=(8080,))
    plant(root, JETSON | ORIN_NANO | LAPTOP)
    ask = remote_shell(root)
    answers: dict[str, list[str]] = {}

    def noted(line: str) -> list[str]:
        answers[line.split(" ", maxsplit=1)[0]] = found = ask(line)
        return found

    files = RemoteFiles(folder / "remote-copy")
    files.root.mkdir()
    files.fetch_all(noted)
    files.scan(noted, (40,))
    return answers


def _far(data: bytes, folder: Path) -> str:
    """What a shell there answered, read by the usual readers."""
    answers = {}
    for block in data.decode("utf-8", "replace").split("\x1e"):
        name, _, text = block.partition("\x1f")
        answers[name] = text.split("\n")
    with tempfile.TemporaryDirectory(dir=folder) as made:
        files = RemoteFiles(Path(made))
        host = Host(sysroot=files.root, system="linux", own_pid=0, uses_gpu=lambda: False)

        def ask(line: str) -> list[str]:
            return answers.get(line.split(" ", maxsplit=1)[0], [])

        files.fetch_all(ask)
        files.scan(ask, (40,))
        files.refresh(ask, (40,))
        describe(host)
        processes = ModelProcesses(host, server_programs())
        for process in (*processes.scan(), *processes.scan()):
            str(process)
        inventory = take_inventory(host, remote_probes())
        wrong = [each.missing.reason for each in inventory.absent if "looking for it failed" in each.missing.reason]
        for source in inventory.sources:
            said = map(str, ScheduledSource(source, lambda: 0, lambda: 0).read())
            wrong += [each for each in said if "reading failed" in each]
        inventory.close()
        outside = [
            path
            for path in Path(made).rglob("*")
            if not path.is_symlink() and not path.resolve().is_relative_to(Path(made).resolve())
        ]
    return (wrong[0][:300] if wrong else "") or ("it wrote outside of its folder" if outside else "")


def _told_by_edgetop(data: bytes, folder: Path) -> str:
    """What an edgetop there tells, line by line."""
    hosts = [RemoteHost("pi1", folder), RemoteHost("pi2", folder)]
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n")):
        with contextlib.suppress(SshError):
            if line.startswith("{"):
                hosts[number % 2]._show_line(line)
        rows = [host.row for host in hosts]
        total = total_of(rows)
        cells = [*total_cells(total), *fleet_notes(rows, total), *(cell for row in rows for cell in host_cells(row))]
        values = [value for row in rows for value in channel_values(row)[0] if value is not None]
        if not is_harmless("".join(cells)) or not all(math.isfinite(value) for value in values):
            return f"{cells} {values}"[:300]
    return ""


def _hosts(folder: Path) -> Kind:
    answers = _far_answers(folder)
    good = "\x1e".join(f"{name}\x1f" + "\n".join(lines) for name, lines in answers.items()).encode()

    def make(chance: random.Random) -> bytes:
        made = good if chance.random() < 0.6 else b"\n".join([_READING] * 4)
        for _ in range(chance.choice((1, 2, 4))):
            made = damaged(chance, made)
        return made

    def acts(data: bytes, _chance: random.Random) -> list[Act]:
        if b"\x1f" in data:
            return [Act("a shell on another machine", partial(_far, data, folder))]
        return [Act("an edgetop on another machine", partial(_told_by_edgetop, data, folder))]

    return Kind(make, acts)


def _proxied(data: bytes, proxy: ProxySession, wire: LoopbackServer, seen: list[RequestServed]) -> str:
    request, _, answer = data.partition(b"\x00\x00--\x00\x00")
    for path in ("POST /v1/chat/completions", "POST /api/chat"):
        wire.answers[path] = [answer]
    wire.requests.clear()
    with socket.create_connection(("127.0.0.1", proxy.relay.port), timeout=2) as client, contextlib.suppress(OSError):
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(0.5)
        while client.recv(65536):
            pass
    proxy.pump()
    for each in seen:
        if not is_harmless(f"{each.client}{each.model}{each.path}{each.error}"):
            return str(each)[:300]
    seen.clear()
    return ""


def _proxies(folder: Path, resources: ExitStack, wire: LoopbackServer) -> Kind:
    seen: list[RequestServed] = []
    with mock.patch("edgetop.live.live_session.lower_priority"):
        proxy = ProxySession(
            WatchOptions(servers={Address.parse(wire.url): ""}, sysroot=folder / "nothing", text_recorded=True),
            Store(folder / "proxied"), lambda _text: None, listen=("127.0.0.1", 0), on_request=seen.append,
        )  # fmt: skip
    resources.callback(proxy.close)
    body = json.dumps(
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}
    ).encode()

    def make(chance: random.Random) -> bytes:
        path = chance.choice(("/v1/chat/completions", "/api/chat"))
        sent = damaged(chance, body) if chance.random() < 0.5 else body
        asked = b"POST %s HTTP/1.1\r\nHost: a\r\nUser-Agent: x/1\r\nContent-Length: %d\r\n\r\n" % (
            path.encode(),
            len(sent),
        )
        asked = damaged(chance, asked) if chance.random() < 0.3 else asked
        said = mutated_streams.mutated(chance)
        packed = chance.random() < 0.2
        told = head(media="text/event-stream", **({"Content_Encoding": "gzip"} if packed else {}))
        told = damaged(chance, told) if chance.random() < 0.4 else told
        return asked + sent + b"\x00\x00--\x00\x00" + told + (gzip.compress(said, 6, mtime=0) if packed else said)

    return Kind(make, lambda data, _: [Act("a request through a proxy", partial(_proxied, data, proxy, wire, seen))])


# Logs of meters, questions and archives of benchmarks


def _logs(folder: Path) -> Kind:
    board = attached_logs.record(3)
    good = []
    for number, hz in enumerate((1, 10)):
        path = folder / f"good-{number}.csv"
        attached_logs.write_log(path, board, hz, 3.2, 3)
        good.append(path.read_bytes())
    good += [data.replace(b",", b";") for data in good]
    good.append(
        b"datetime,power_w\n" + b"".join(b"2026-11-30T12:00:%02dZ,%d\n" % (number, number % 7) for number in range(59))
    )
    file = folder / "log.csv"
    session = to_file(board.session)

    def read() -> None:
        log = read_log(file)
        found = align(log, session_of(session), 1.7e9)
        changed = with_log(session, log, found, path=file.name, scope=None, gain=None)
        b"".join(encode_file(changed))

    def acts(data: bytes, _chance: random.Random) -> list[Act]:
        file.write_bytes(data)
        return [Act("a log joined to a session", partial(_tried, read, EdgetopError))]

    return Kind(lambda chance: damaged(chance, chance.choice(good)), acts)


def _benches(folder: Path) -> Kind:
    lines = b"".join(
        json.dumps(each).encode() + b"\n"
        for each in (
            {"question": "A?", "choices": ["x", "y"], "answer": "B"},
            {"question": "B?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
            {"prompt": "C", "answer": "d"},
            {"question": "D?", "choices": ["x", "y"], "answer": 1},
        )
    )
    questions, file, result = folder / "questions.jsonl", folder / "archive.zip", folder / "result.txt"
    heading = ",".join(f'"{name}"' for name in (*TG,))
    results = [
        json.dumps([PP, TG]).encode(),
        b"\n".join(json.dumps(each).encode() for each in (PP, TG)),
        OLLAMA.encode(),
        f"{heading}\n{','.join(json.dumps(str(value)) for value in TG.values())}\n".encode(),
    ]
    plan = {
        "name": "x",
        "settings": [{"model": {"path": "a.gguf", "label": "a", "content": "c"}}],
        "tests": [{"type": "tokens", "n_prompt": 8}],
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {
            "plan.json": json.dumps(plan).encode(),
            "runs.jsonl": b"",
            "SHA256SUMS": b"",
            "sessions/0001-a.json": b"{}" * 99,
        }.items():
            archive.writestr(name, data)

    def make(chance: random.Random) -> bytes:
        return damaged(chance, chance.choice((lines, packed.getvalue(), *results)))

    def acts(data: bytes, _chance: random.Random) -> list[Act]:
        for path in (questions, file, result):
            path.write_bytes(data)
        return [
            command("compare", str(result), "--json"),
            command("card", str(result)),
            Act("questions", partial(_tried, partial(read_questions, questions), EdgetopError)),
            Act("an archive", partial(_tried, partial(read_archive, file, folder / "unpacked"), EdgetopError)),
        ]

    return Kind(make, acts)


_KINDS: dict[str, Callable[[Path, ExitStack, int], Kind]] = {
    "gguf": lambda folder, *_: _ggufs(folder),
    "session": lambda folder, _, seed: _sessions(folder, seed),
    "journal": lambda folder, *_: _journals(folder),
    "toml": lambda folder, *_: _toml(folder),
    "meter": lambda folder, *_: _meters(folder),
    "stream": lambda folder, resources, _: _streams(folder, resources),
    "hub": lambda _, resources, __: _hubs(resources.enter_context(loopback_server())),
    "host": lambda folder, *_: _hosts(folder),
    "proxy": lambda folder, resources, _: _proxies(folder, resources, resources.enter_context(loopback_server())),
    "log": lambda folder, *_: _logs(folder),
    "bench": lambda folder, *_: _benches(folder),
}
NAMES = tuple(_KINDS)


@contextlib.contextmanager
def kinds(folder: Path, seed: int = 0) -> Iterator[dict[str, Callable[[], Kind]]]:
    """The kinds by their names, each made when it is called for; `folder` is an empty one."""
    with ExitStack() as resources:
        yield {name: partial(make, folder, resources, seed) for name, make in _KINDS.items()}


def corpus(kind: str) -> dict[str, bytes]:
    """The kept inputs of a kind, by their names."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / kind).glob("*"))}


def home_of(folder: Path) -> dict[str, str]:
    """The environment in which command lines touch nothing outside of a folder."""
    return {
        "EDGETOP_DATA_DIR": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache"), "TERM": "dumb",
    }  # fmt: skip

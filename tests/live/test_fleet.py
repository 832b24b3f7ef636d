"""Rows, sums, records and metrics of several hosts; a machine that tells nonsense."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from edgetop.commands.completion import candidates
from edgetop.core.errors import UsageError
from edgetop.core.quantity import Interval
from edgetop.core.records import Sampled, SourceAdded
from edgetop.core.sources import Unavailable
from edgetop.io.ssh import TOO_MUCH, Shell, SshError, configured_hosts
from edgetop.live.fleet import (
    CHANNELS,
    HEADINGS,
    FileReader,
    FleetSession,
    HostReading,
    HostRow,
    RemoteHost,
    channel_values,
    fleet_notes,
    host_cells,
    served_of,
    source_of,
    total_cells,
    total_of,
)
from edgetop.live.live_session import WatchOptions
from edgetop.live.metrics import HOSTS, Metrics
from edgetop.session.file_io import load_file, load_head
from edgetop.session.listing import totals
from edgetop.session.session import Session
from edgetop.session.store import Store
from edgetop.telemetry.host import RemoteFiles
from tests.support.eventually import eventually
from tests.support.fake_processes import MODEL_PATH, FakeProcesses
from tests.support.fake_sysfs import LAPTOP, Tree, below, plant
from tests.support.loopback_server import document, loopback_server
from tests.support.recorded_sessions import STARTED, S
from tests.support.remote_shell import remote_shell
from tests.support.server_usage import llama_metrics, llama_slots, serve_usage


def interval(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half, u_systematic=half / 2, u_random=0.0)


def row(host: str, **told: object) -> HostRow:
    return HostRow(host=host, state="answers", since=0.0, by="edgetop", reading=HostReading(**told))  # type: ignore[arg-type]


def measured(host: str, tokens: float, j_per_token: float, half: float, scope: str = "module") -> HostRow:
    return row(
        host,
        tokens_per_s=10.0,
        power_w=5.0,
        power_scope=scope,
        j_per_token=interval(j_per_token, half),
        energy_j=interval(tokens * j_per_token, tokens * half),
    )


GONE = HostRow(host="pi3", state="gone", since=0.0, missing=Unavailable("it does not answer", "see to it"))


def test_the_sum_is_over_energies_and_tokens_and_not_a_mean_of_ratios() -> None:
    total = total_of([measured("a", 100, 2.0, 0.1), measured("b", 300, 1.0, 0.1), GONE])
    assert (total.answering, total.hosts) == (2, 3)
    assert total.tokens_per_s == 20
    assert total.power_w == 10
    assert total.j_per_token is not None
    assert total.j_per_token.value == pytest.approx(500 / 400)
    assert total.j_per_token.high - total.j_per_token.value == pytest.approx(0.1)  # all to one side
    assert total.thriftiest == "b"


def test_power_that_is_not_measured_alike_is_not_added_up() -> None:
    total = total_of([measured("a", 100, 2.0, 0.1), measured("b", 300, 1.0, 0.1, scope="wall")])
    assert total.power_w is None
    assert total.j_per_token is None
    assert "not measured at the same place" in total.power_missing


def test_a_sum_over_some_says_over_how_many() -> None:
    total = total_of([measured("a", 100, 2.0, 0.1), row("b", tokens_per_s=4.0), GONE])
    assert total_cells(total)[1:5] == ["2 of 3 hosts", "14.0", "5.00 of 1", "2.00 ± 0.10 of 1"]


def test_nobody_is_the_best_where_the_intervals_overlap() -> None:
    assert total_of([measured("a", 100, 1.1, 0.2), measured("b", 300, 1.0, 0.2)]).thriftiest == ""


def test_nobody_is_the_fastest_where_two_are() -> None:
    rows = [row("a", tokens_per_s=4.0), row("b", tokens_per_s=4.0), row("c", tokens_per_s=1.0)]
    assert total_of(rows).fastest == ""
    assert total_of(rows[1:]).fastest == "b"
    assert total_of([row("a", tokens_per_s=0.0)]).fastest == ""


def test_nothing_known_is_no_zero() -> None:
    total = total_of([row("a"), GONE])
    assert (total.tokens_per_s, total.power_w, total.j_per_token) == (None, None, None)
    assert host_cells(row("a"))[2:6] == ["n/a"] * 4
    assert len(host_cells(GONE)) == len(host_cells(row("a"))) == len(HEADINGS)
    values, reasons = channel_values(GONE)
    assert values == (0.0, *[None] * (len(CHANNELS) - 1))
    assert set(reasons[1:]) == {"it does not answer"}


def test_a_host_that_is_gone_says_since_when_and_why() -> None:
    (note,) = fleet_notes([GONE], total_of([GONE]))
    assert note.startswith("pi3: gone since ")
    assert note.endswith("it does not answer (see to it)")


@pytest.mark.parametrize(
    "told",
    [
        b'{"type":"reading","tokens_per_s":"many"}',
        b'{"type":"reading","power_w":1e300}',
        b'{"type":"reading","j_per_token":{"value":1}}',
        b'{"type":"reading","models":[1]}',
        b'{"type":"reading","generated_tokens":%s}' % (b"9" * 400),
        b'{"type":"reading","j_per_token":{"value":1,"low":1,"high":1,"u_systematic":1e308,"u_random":0}}',
    ],
    ids=["text", "beyond", "part", "number", "400 digits", "error beyond"],
)
def test_a_reading_that_cannot_be_is_refused(told: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.json.decode(told), HostReading)


def test_what_a_host_calls_its_models_moves_no_cursor(tmp_path: Path) -> None:
    host = RemoteHost("pi", tmp_path)
    assert host._show_line(b'{"type":"reading","models":["\\u001b[2Jevil"],"throttling":["a\\nb"]}'.decode())
    assert "\x1b" not in "".join(host_cells(host.row))
    assert not host._show_line('{"type":"summary"}')


def test_what_no_edgetop_tells_ends_the_connection_with_a_reason(tmp_path: Path) -> None:
    host = RemoteHost("pi", tmp_path)
    for told in ('{"type":"reading","x":' + "[" * 100_000, '{"type":"reading","models":"a"}', '{"type"'):
        with pytest.raises(SshError, match="its edgetop tells what cannot be read"):
            host._show_line(told)


FLOODS = {
    "before it begins": "yes begin",
    "lines": 'read -r hello; eval "$hello"; yes garbage',
    "documents": 'read -r hello; eval "$hello"; yes \'{"type":"x"}\'',
    "a line without an end": 'read -r hello; eval "$hello"; cat /dev/zero',
    "an answer": 'read -r hello; eval "$hello"; echo shell; yes',
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_host_that_sends_without_an_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(f'#!/bin/sh\n[ "$1" = -O ] && exit 255\n{FLOODS[name]}\n')
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    host = RemoteHost("pi1", tmp_path)
    host.start()
    try:
        eventually(lambda: host.row.missing, "it is left", told=lambda: str(host.row))
        assert host.row.missing is not None
        assert host.row.missing.reason in {TOO_MUCH, "it sends a line without an end"}
    finally:
        host.stop()
        host.join(time.monotonic() + 30)


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "", "a b", "a;b", "$(x)", "a\nb", "--"])
def test_what_is_no_host_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        Shell(name, tmp_path)


def test_a_host_named_twice_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        FleetSession(["a", "a"], WatchOptions(), Store(tmp_path), pytest.fail)


def test_each_host_is_a_stream_and_has_its_metrics() -> None:
    session = Session()
    session.apply(STARTED)
    session.apply(SourceAdded(source=source_of("pi1.lan")))
    values, reasons = channel_values(measured("pi1.lan", 100, 2.0, 0.1))
    session.apply(Sampled(source="host.pi1.lan", t_us=STARTED.t_us + S, values=values, reasons=reasons))
    told = {(each.metric.name, each.labels): each.value for each in Metrics(session).now(S)}
    assert told["edgetop_host_energy_per_token_joules", ("pi1.lan",)] == 2.0
    assert told["edgetop_host_up", ("pi1.lan",)] == 1
    assert ("edgetop_host_temperature_celsius", ("pi1.lan",)) not in told
    assert set(HOSTS) == {channel.name for channel in CHANNELS}


def test_what_a_host_did_is_told_for_the_totals_over_all_its_connections(tmp_path: Path) -> None:
    fleet = FleetSession(["pi1"], WatchOptions(), Store(tmp_path), pytest.fail)
    try:
        (host,) = fleet._hosts
        host.stop()
        host.join(time.monotonic() + 30)
        for reading in (measured("pi1", 100, 2.0, 0.1), GONE, measured("pi1", 50, 4.0, 0.1)):
            told = reading if reading.reading is None else replace(reading.reading, generated_tokens=200)
            host.row = replace(reading, host="pi1") if told is reading else replace(reading, reading=told)
            fleet._due_us = 0
            fleet.pump()
    finally:
        path = fleet.close()
    assert path is not None
    (service,) = load_file(path).services
    served = service.served
    assert served is not None
    assert served.energy_j is not None
    assert (served.generated_tokens, served.measured_tokens, served.energy_j.value) == (400, 150, 400.0)
    assert served.scope == "module"
    (row,) = totals([load_head(path)], ["host"])
    assert (row.group["host"], row.generated_tokens, row.unmeasured_tokens) == ("pi1", 400, 250)


@pytest.mark.parametrize(
    "told", [{"power_scope": "moon"}, {"generated_tokens": -5}, {"j_per_token": interval(1e-300, 0.0)}, {}],
    ids=["scope", "negative", "tiny", "nothing"],
)  # fmt: skip
def test_what_a_host_tells_wrongly_is_no_energy(told: dict[str, object]) -> None:
    reading = measured("x", 10, 1.0, 0.1).reading
    assert reading is not None
    served = served_of(msgspec.structs.replace(reading, **told) if told else HostReading())
    assert served.energy_j is None or served.measured_tokens == 0
    assert (served.generated_tokens or 0) >= 0


def test_hosts_of_the_configuration_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, everybody = tmp_path / "home", tmp_path / "etc"
    (home / ".ssh/more and more").mkdir(parents=True)
    everybody.mkdir()
    (home / ".ssh/config").write_text(
        'Include "more and more/*.conf" nowhere ~nobody-here/x\nHost pi1 "pi2" # the kitchen\n  HostName 10.0.0.1\n'
        'Host * !x pi?\nhost=jetson\nInclude config pipe\nMatch originalhost pi3,pi4,pi* exec "test -e x"\n'
        'Match Host="orin2"\nMatch user me\n#Host none\nHost \'unended\n'
    )
    (home / ".ssh/more and more/a.conf").write_text("Host orin\nInclude config")
    (home / ".ssh/known_hosts").write_text("|1|c2FsdA==|aGFzaA== ssh-ed25519 AAAA\n")
    os.mkfifo(home / ".ssh/pipe")
    (everybody / "ssh_config").write_text("Include here.d/*\n")
    (everybody / "here.d").mkdir()
    for number in range(50):
        (everybody / f"here.d/{number}").write_text(f"Include here.d/* here.d/*\nHost desk{number % 2}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("edgetop.io.ssh.CONFIGURATIONS", ("~/.ssh/config", str(everybody / "ssh_config")))
    assert configured_hosts()[:7] == ["orin", "pi1", "pi2", "jetson", "pi3", "pi4", "orin2"]
    assert sorted(configured_hosts()[7:]) == ["desk0", "desk1"]
    assert [each.text for each in candidates(["watch", "pi1"], "p")] == ["pi1", "pi2", "pi3", "pi4"]


def test_a_host_learns_nothing_of_the_files_here(tmp_path: Path) -> None:
    """Its server's command line says that the key is in a file, which is one of ours."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "token").write_text("hf_secret")
    plant(tmp_path / "far", LAPTOP)
    told, stop = list[dict[str, Any]](), threading.Event()
    with loopback_server() as wire:
        port = int(wire.url.rpartition(":")[2])
        serve_usage(wire, metrics=llama_metrics(0, running=1), slots=llama_slots(1))
        command = ("/usr/bin/llama-server", "--port", str(port), "--api-key-file", str(tmp_path / "token"))
        FakeProcesses(tmp_path / "far").process(40, *command, uid=os.getuid(), mapped=MODEL_PATH, ports=(port,))
        shell = remote_shell(tmp_path / "far")

        def ask(line: str) -> list[str]:
            return [str(os.getuid())] if line == "id -u" else shell(line)

        def show(reading: dict[str, object]) -> None:
            told.append(reading)
            if len(told) == 2:
                stop.set()

        files = RemoteFiles(tmp_path / "copy")
        files.fetch_all(ask)
        files.scan(ask, ())
        FileReader(ask, files, stop, show, reach=lambda address: address).run()
        assert wire.requests
        assert "hf_secret" not in "".join(str(request.headers) for request in wire.requests)


def test_energy_per_token_of_a_host_that_has_a_shell_alone(tmp_path: Path) -> None:
    """10 W and 20 tokens a second: half a joule a token, within the interval that is told."""
    (tmp_path / "copy").mkdir()
    rapl: Tree = {"name": "package-0", "energy_uj": 5_000_000, "max_energy_range_uj": 10**12}
    plant(tmp_path / "far", LAPTOP | below("/sys/class/powercap/intel-rapl:0", rapl))
    stop, told = threading.Event(), list[dict[str, Any]]()
    ask = remote_shell(tmp_path / "far")
    with loopback_server() as wire:
        port = int(wire.url.rpartition(":")[2])
        serve_usage(wire, metrics=llama_metrics(0, running=1), slots=llama_slots(1))
        FakeProcesses(tmp_path / "far").process(
            40, "/usr/bin/llama-server", "-m", MODEL_PATH, "--port", str(port), mapped=MODEL_PATH, ports=(port,)
        )
        counter = os.open(tmp_path / "far/sys/class/powercap/intel-rapl:0/energy_uj", os.O_WRONLY)
        begin_s = time.monotonic()

        def go_on() -> None:
            while not stop.wait(0.002):
                spent_s = time.monotonic() - begin_s
                os.pwrite(counter, b"%012d\n" % (5_000_000 + spent_s * 10_000_000), 0)
                wire.answers["GET /slots"] = document(llama_slots(1 + int(20 * spent_s)))

        files = RemoteFiles(tmp_path / "copy")
        files.fetch_all(ask)
        files.scan(ask, ())
        reader = FileReader(ask, files, stop, told.append, reach=lambda address: address)
        threads = [threading.Thread(target=go_on), threading.Thread(target=reader.run)]
        for thread in threads:
            thread.start()
        try:
            eventually(
                lambda: told and told[-1]["j_per_token"], "there is an energy per token", told=lambda: f"{told[-1:]}"
            )
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            os.close(counter)
    reading = told[-1]
    assert reading["j_per_token"]["low"] < 0.5 < reading["j_per_token"]["high"]
    assert reading["power_scope"] == "cpu_package"
    assert reading["temperature_cpu_c"] == 72

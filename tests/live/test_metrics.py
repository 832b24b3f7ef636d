"""Metrics: what a scrape says of a session, what it leaves out, and what a real Prometheus makes of it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import termios
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from edgetop.core.records import DeviceInfo
from edgetop.inference.child_process import OWN_NICENESS
from edgetop.inference.scripted import Reply
from edgetop.live import live_session, metrics
from edgetop.live.metrics import FIGURES, FIRST_TOKEN, LiveView, Metrics, PrometheusExporter
from edgetop.session.file_io import load
from edgetop.session.snapshot import snapshot
from edgetop.session.store import Store, example_pair
from tests.support.eventually import eventually
from tests.support.fake_sysfs import plant
from tests.support.isolated_home import IsolatedHome
from tests.support.loopback_server import loopback_server
from tests.support.requirements import need_module, need_program
from tests.support.server_usage import llama_metrics, llama_slots, serve_usage

DASHBOARD = Path(__file__).parents[2] / "docs/grafana.json"
METER = "# edgetop-power/1 kind=power unit=W scope=wall update=0.05 window=0.05 gain=0.01"


class Loaded:
    """A session that is over."""

    rows = ()

    def __init__(self) -> None:
        self.session = load(example_pair()[0])

    def now_us(self) -> int:
        return self.session.end_us


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - a server of ours
        return str(answer.read().decode())


def parsed(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - an extra

    series: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append((sample.labels, sample.value))
    return series


def scrape_file(live: Loaded, file: Path) -> str:
    need_module("prometheus_client")
    exporter = PrometheusExporter(file=file)
    exporter.update(live)
    text = file.read_text()
    exporter.close()
    assert not file.exists()
    return text


def test_a_scrape_has_the_figures_with_their_intervals_and_no_series_for_what_is_missing(tmp_path: Path) -> None:
    live = Loaded()
    series = parsed(scrape_file(live, tmp_path / "edgetop.prom"))
    summary = snapshot(live.session, live.session.end_us).summary
    assert summary.energy is not None
    known = summary.energy.j_per_token
    assert known is not None
    for suffix, value in (("", known.value), ("_low", known.low), ("_high", known.high)):
        ((labels, shown),) = series[f"edgetop_energy_per_token_joules{suffix}"]
        assert labels == {"scope": "module", "source": "power.jetson"}
        assert shown == value
    ((labels, tokens),) = series["vllm:generation_tokens_total"]
    assert tokens == summary.generated_tokens == series["llamacpp:tokens_predicted_total"][0][1]
    assert labels["model_name"] == "SmolLM2-135M-Instruct Q4_1"
    assert series[f"{FIRST_TOKEN.name}_count"][0][1] == summary.turns
    ((_, energy_j),) = series["edgetop_energy_joules_total"]
    assert series["edgetop_energy_joules_low"][0][1] < energy_j < series["edgetop_energy_joules_high"][0][1]
    assert energy_j > summary.energy.gross_j.value
    assert "edgetop_energy_missing" not in series
    assert "vllm:num_requests_waiting" not in series, "nobody counts them here"
    for name, metric in FIGURES.items():
        if "generating" in name or "waiting" in name or name == "tokens_per_s":
            assert metric.name not in series


def test_without_energy_it_says_why_and_gives_no_number(tmp_path: Path) -> None:
    live = Loaded()
    live.session.series = {name: each for name, each in live.session.series.items() if "power" not in name}
    series = parsed(scrape_file(live, tmp_path / "edgetop.prom"))
    assert [name for name in series if "joules" in name or "watts" in name] == []
    ((labels, value),) = series["edgetop_energy_missing"]
    assert value == 1
    assert labels["reason"]


def test_a_counter_of_energy_never_falls() -> None:
    live = Loaded()
    metrics = Metrics(live.session)
    seen = [
        sample.value
        for t_us in range(0, live.session.end_us, 500_000)
        for sample in metrics.now(t_us)
        if sample.metric.name == "edgetop_energy_joules"
    ]
    assert len(seen) > 20
    assert seen == sorted(seen)


def test_promtool_parses_it_and_minds_only_the_names_of_others(tmp_path: Path) -> None:
    promtool = need_program("promtool", "prometheus")
    text = scrape_file(Loaded(), tmp_path / "edgetop.prom")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    minded = [line for line in checked.stderr.splitlines() if not re.match(r"(llamacpp|vllm):", line)]
    assert minded == []


@contextmanager
def running(home: IsolatedHome, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        home.command(*arguments), env=home.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def meter(tmp_path: Path) -> str:
    """A meter until a file is there."""
    script, gone = tmp_path / "meter.sh", tmp_path / "gone"
    wait = f"while sleep 0.05; do [ ! -e {shlex.quote(str(gone))} ] || exit 1; echo 5.$((i = (i + 1) % 9)); done"
    script.write_text(f"[ ! -e {shlex.quote(str(gone))} ] || exit 1\ni=0; echo '{METER}'\n{wait}\n")
    return f"sh {shlex.quote(str(script))}"


def test_a_sensor_that_is_unplugged_leaves_no_series_behind(tmp_path: Path) -> None:
    need_module("prometheus_client")
    home, port = IsolatedHome(tmp_path), free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    names = ("edgetop_power_watts", "edgetop_energy_joules_total", "edgetop_sensor_watts")
    with running(home, "watch", "--export", str(port), "--power-stream", meter(tmp_path), "--no-record"):

        def scrape() -> str:
            try:
                return fetch(url)
            except OSError:
                return ""

        eventually(lambda: all(name in scrape() for name in names), "the meter is exported")
        (tmp_path / "gone").touch()
        eventually(lambda: (text := scrape()) and not any(name in text for name in names), "it is gone", told=scrape)


@contextmanager
def prometheus(tmp_path: Path, ports: Sequence[int]) -> Iterator[str]:
    """The address of one that scrapes these ports once a second."""
    program, port = need_program("prometheus"), free_port()
    targets = json.dumps([f"127.0.0.1:{each}" for each in ports])
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: edgetop, static_configs: [{{targets: {targets}}}]}}]\n"
    )
    process = subprocess.Popen(
        [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def answered(address: str, query: str) -> list[Any]:
    """What Prometheus answers; nothing where it is not up."""
    try:
        told = json.loads(fetch(f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            return []
        raise
    except OSError:
        return []
    assert told["status"] == "success"
    return list(told["data"]["result"])


def test_every_query_of_the_dashboard_is_answered_by_a_real_prometheus(tmp_path: Path) -> None:
    need_program("prometheus")
    need_module("prometheus_client")
    queries = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    root = tmp_path / "root"
    zone = "/sys/class/thermal/thermal_zone0"
    plant(root, {f"{zone}/type": "cpu-thermal", f"{zone}/temp": 48000})
    (root / "proc").symlink_to("/proc")
    chatting, watching = free_port(), free_port()
    home = IsolatedHome(tmp_path)
    home.scripted(*[Reply(text="word " * 60)] * 200, tokens_per_s=80.0)
    prompts = [word for number in range(200) for word in ("-p", f"prompt {number}")]
    file = tmp_path / "edgetop.prom"
    with ExitStack() as stack:
        wire = stack.enter_context(loopback_server())
        serve_usage(wire, metrics=llama_metrics(120, running=1), slots=llama_slots(42))
        common = ("--power-stream", meter(tmp_path), "--sysroot", str(root), "--no-record")
        stack.enter_context(
            running(home, "run", *prompts, "--export", str(chatting), "--export-file", str(file), *common)
        )
        stack.enter_context(running(home, "watch", "--server", wire.url, "--export", str(watching), *common))
        address = stack.enter_context(prometheus(tmp_path, (chatting, watching)))
        for query in queries:
            asked = query.replace("$__rate_interval", "30s").replace("$__range", "30s")
            eventually(
                partial(answered, address, asked),
                f"an answer to {asked}",
                told=lambda: fetch(f"{address}/api/v1/targets"),
            )
        assert parsed(file.read_text())["edgetop_info"]
    assert not file.exists()


def test_an_exporter_that_waits_again_and_again_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_session, "HELD_UP_US", -1)
    updates: list[LiveView] = []

    class Waiting:
        def update(self, live: LiveView) -> None:
            updates.append(live)

        def close(self) -> None:
            """Nothing is open."""

    told: list[str] = []
    options = live_session.RecordingOptions(record=False, exporters=[Waiting()])
    session = live_session.RecordedSession(options, Store(tmp_path), DeviceInfo(hostname=""), told.append)
    for _ in range(5):
        session._export()
    assert len(updates) == live_session.HELD_UP_TIMES
    assert told == ["Waiting failed and is switched off: it held the session up for seconds, again and again"]


def test_a_pipe_gets_whole_texts_and_a_reader_that_stalls_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "FILE_S", 0.0)
    live, pipe = Loaded(), tmp_path / "pipe"
    expected = scrape_file(live, tmp_path / "file")
    os.mkfifo(pipe)
    exporter = PrometheusExporter(file=pipe)
    exporter.update(live)  # nobody reads
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:  # noqa: PTH123 - of a descriptor
        assert fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096) < len(expected)

        def begun() -> bool:
            exporter.update(live)
            return any(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))

        eventually(begun, "the pipe has the beginning of a text")
        for _ in range(3):
            exporter.update(live)
        os.set_blocking(reader.fileno(), True)
        assert reader.read().decode() == expected
    exporter.close()
    assert pipe.is_fifo()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is that of the process")
def test_a_scrape_is_answered_at_the_priority_of_the_screen_and_not_of_the_model() -> None:
    need_module("prometheus_client")
    live, port, asked = Loaded(), free_port(), list[int]()

    class Asking:
        def collect(self) -> Sequence[Any]:
            asked.append(os.getpriority(os.PRIO_PROCESS, 0))  # of the thread
            return ()

    exporter = PrometheusExporter(address=("127.0.0.1", port))
    exporter._registry.register(Asking())
    asked.clear()
    with ThreadPoolExecutor() as pool:
        told = pool.submit(fetch, f"http://127.0.0.1:{port}/metrics")

        def is_answered() -> bool:
            exporter.update(live)
            return told.done()

        eventually(is_answered, "the scrape is answered")
    exporter.close()
    assert "edgetop_info" in told.result()
    assert asked
    assert min(asked) >= OWN_NICENESS


def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    need_module("prometheus_client")
    home = IsolatedHome(tmp_path)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        ran = home.run("watch", "--export", str(port))
    assert ran.returncode == 1
    assert f"--export: cannot listen at 127.0.0.1:{port}: Address already in use" in ran.stderr
    assert home.run("watch", "--export", "nowhere").returncode == 2


def test_what_is_no_file_of_metrics_is_not_replaced_by_them(tmp_path: Path) -> None:
    need_module("prometheus_client")
    home, notes = IsolatedHome(tmp_path), tmp_path / "notes.txt"
    notes.write_text("mine")
    for file, words in (
        (notes, "exists already and holds no metrics of edgetop"),
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere/x.prom", "is no folder that can be written to"),
    ):
        ran = home.run("watch", "--export-file", str(file), "--seconds", "0", "--no-record")
        assert ran.returncode == 1
        assert f"--export-file: {file.parent if 'nowhere' in str(file) else file} {words}" in ran.stderr
    assert notes.read_text() == "mine"
    left = tmp_path / "left.prom"
    left.write_text(scrape_file(Loaded(), left))
    exporter = PrometheusExporter(file=left)
    exporter.update(Loaded())
    exporter.close()
    assert not left.exists(), "one that a killed edgetop left is replaced"


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/prometheus_client.py").write_text("raise ImportError\n")
    home = IsolatedHome(tmp_path)
    home.environment["PYTHONPATH"] = f"{tmp_path / 'hidden'}:{home.environment['PYTHONPATH']}"
    ran = home.run("watch", "--export-file", str(tmp_path / "x.prom"), "--seconds", "0")
    assert ran.returncode == 1
    assert "pip install 'edgetop[prometheus]'" in ran.stderr

"""Metrics of a running session for Prometheus: served over HTTP, or written into a file.

Names are those by which such things are known: GenAI semantic conventions of OpenTelemetry for the time to the first
and per further token, llama.cpp's and vLLM's for tokens and requests, and `edgetop_` for the rest. What is not known
has no series, and is never 0; the ends of an interval are series of their own, with `_low` and `_high` behind the name.

A scrape is answered by the thread that has the session, when it next pumps. So nothing is computed while nobody asks,
and no lock is needed.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from edgetop import __version__
from edgetop.core.energy.scopes import host_name
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import value_of
from edgetop.core.quantity import Interval
from edgetop.core.sources import HOST_STREAM, Unavailable
from edgetop.core.text import one_line
from edgetop.inference.child_process import lower_priority
from edgetop.io.files import may_replace, write_atomically
from edgetop.io.log import log
from edgetop.session.energy import energy_of
from edgetop.session.session import Session
from edgetop.session.snapshot import Reading, Snapshot, snapshot
from edgetop.session.turn import Turn

if TYPE_CHECKING:
    from edgetop.live.server_monitor import ServerStatus

SCRAPE_S = 8.0
"""How long a scrape waits for the session's thread; Prometheus itself gives up after 10 s."""

FIRST_LINE: Final = b"# HELP edgetop_info "
"""How metrics begin."""

FILE_S = 15.0
"""How often the file is written: the scrape interval of many a Prometheus."""

Kind = Literal["counter", "gauge", "histogram", "info"]


class Metric(NamedTuple):
    """A metric: its name, what it is, and its labels."""

    name: str
    """Without the `_total` of a counter."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    """A series of a metric as it is now."""

    metric: Metric
    labels: tuple[str, ...]
    value: float
    buckets: tuple[tuple[str, float], ...] = ()
    """Of a histogram; `value` is then the sum."""


_METER = ("scope", "source", "host")
_MODEL = ("model_name", "server", "address")
_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

INFO = Metric("edgetop", "info", "The edgetop that measures.", ("version", "kind"))
POWER = Metric("edgetop_power_watts", "gauge", "Power now, by the widest meter that reads.", _METER)
ENERGY = Metric("edgetop_energy_joules", "counter", "Energy since the meter was first read.", _METER)
GRADE = Metric("edgetop_energy_grade", "gauge", "1 for the grade of the energy per token, A to D.", ("grade", "reason"))
MISSING = Metric("edgetop_energy_missing", "gauge", "1 while there is no energy per token, and why.", ("reason",))
TOKENS: Final = tuple(
    Metric(name, "counter", text, _MODEL)
    for name, text in (
        ("llamacpp:tokens_predicted", "Tokens generated, by llama.cpp's name."),
        ("vllm:generation_tokens", "Tokens generated, by vLLM's name."),
    )
)
PROMPT_TOKENS: Final = tuple(
    Metric(f"{program}:prompt_tokens", "counter", f"Prompt tokens evaluated, by {word} name.", _MODEL)
    for program, word in (("llamacpp", "llama.cpp's"), ("vllm", "vLLM's"))
)
RUNNING: Final = (
    Metric("llamacpp:requests_processing", "gauge", "Running requests, by llama.cpp's name.", _MODEL),
    Metric("vllm:num_requests_running", "gauge", "Running requests, by vLLM's name.", _MODEL),
)
WAITING: Final = (
    Metric("llamacpp:requests_deferred", "gauge", "Waiting requests, by llama.cpp's name.", _MODEL),
    Metric("vllm:num_requests_waiting", "gauge", "Waiting requests, by vLLM's name.", _MODEL),
)
FIRST_TOKEN = Metric(
    "gen_ai_server_time_to_first_token_seconds", "histogram", "From the request to the first token.", _GEN_AI
)
PER_TOKEN = Metric(
    "gen_ai_server_time_per_output_token_seconds", "histogram", "Per token after the first, of a request.", _GEN_AI
)
BUCKETS_S: Final = {
    FIRST_TOKEN: (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    PER_TOKEN: (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
}
"""Boundaries as the semantic conventions for generative AI metrics advise them."""

FIGURES: Final = {
    name: Metric(f"edgetop_{metric}", "gauge", text, ("scope", "source") if name.startswith("energy.") else ())
    for name, metric, text in (
        ("energy.j_per_token", "energy_per_token_joules", "Gross energy per token generated."),
        ("energy.net_j_per_token", "net_energy_per_token_joules", "Energy per token above idle."),
        ("energy.decode_j_per_token", "decode_energy_per_token_joules", "Gross energy per decoded token."),
        ("energy.prefill_j_per_token", "prefill_energy_per_token_joules", "Gross energy per prompt token."),
        ("energy.generating_j_per_token", "generating_energy_per_token_joules", "While requests were under way."),
        ("energy.waiting_j_per_token", "waiting_energy_per_token_joules", "While none was, over all tokens."),
        ("energy.idle_w", "idle_power_watts", "Power with the model loaded and nothing to do."),
        ("energy.mean_w", "mean_power_watts", "Mean power while it was measured."),
        ("decode_tokens_per_s", "decode_tokens_per_second", "Decoding speed of all turns."),
        ("prefill_tokens_per_s", "prefill_tokens_per_second", "Speed of evaluating prompts in all turns."),
        ("tokens_per_s", "tokens_per_second", "Speed over all users while generating."),
    )
}
"""The figures that are exported, by their names in `edgetop.core.figures`."""

SENSORS: Final = {
    unit: (Metric(f"edgetop_sensor_{suffix}", "gauge", text, ("channel",)), scale)
    for unit, suffix, text, scale in (
        ("W", "watts", "Power by each sensor.", 1.0),
        ("J", "joules", "Energy counters of sensors, and what is left in batteries.", 1.0),
        ("B", "bytes", "Memory.", 1.0),
        ("%", "ratio", "Loads and shares.", 0.01),
        ("Cel", "celsius", "Temperatures.", 1.0),
        ("Hz", "hertz", "Clocks.", 1.0),
        ("1/s", "per_second", "Rates.", 1.0),
    )
}
"""Readings, by the unit of their channel, and what they are multiplied with."""

HOSTS: Final[dict[str, Metric]] = {
    name: Metric(f"edgetop_host_{metric}", "counter" if name == "generated_tokens" else "gauge", text, ("host",))
    for name, metric, text in (
        ("up", "up", "1 while the host answers, else 0."),
        ("tokens_per_s", "tokens_per_second", "Tokens per second now, of all its servers."),
        ("generated_tokens", "generated_tokens", "Tokens generated since it was connected to."),
        ("power", "power_watts", "Power now, by its widest meter."),
        ("j_per_token", "energy_per_token_joules", "Gross energy per token generated."),
        ("j_per_token_low", "energy_per_token_joules_low", "Low end of its 95 % interval."),
        ("j_per_token_high", "energy_per_token_joules_high", "High end of its 95 % interval."),
        ("temperature_cpu", "temperature_celsius", "Temperature of its processor."),
        ("throttled", "throttled", "1 while something holds it back."),
        ("memory_used", "memory_used_bytes", "Memory in use."),
        ("memory_total", "memory_bytes", "Memory in all."),
    )
}
"""Of each host that is watched over SSH, by the channels of its stream."""

STALE_US = 30_000_000
"""An older reading says nothing of now."""

Labels = tuple[str, ...]
Counts = tuple[int | None, int | None]


class Metrics:
    """The metrics of one session; sums go on from one call to the next."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turns = 0
        """How many have been added for good."""
        self._tokens: dict[Labels, Counts] = {}
        """Prompt tokens evaluated and tokens generated in those turns, by model."""
        self._times: dict[tuple[Metric, Labels], list[float]] = {}
        """For a histogram: how many lie in each of its buckets, those beyond, and the sum."""
        self._energy_j: dict[Labels, float] = {}
        """A counter never falls, while an estimate may be revised."""

    def now(self, t_us: int, services: Sequence[ServerStatus] = ()) -> Iterator[Sample]:
        """All that is known at a moment of the session."""
        session = self._session
        view = snapshot(session, t_us)
        kind = "chat" if session.header is None else session.header.kind
        yield Sample(INFO, (__version__, kind), 1.0)
        yield from self._power(view)
        yield from self._energy(t_us)
        yield from _figures(view)
        yield from _readings(session, view)
        if view.watch is None:
            yield from self._of_turns(t_us)
        for row in services:
            yield from _of_service(row)

    def _power(self, view: Snapshot) -> Iterator[Sample]:
        power = view.power
        if isinstance(power, Unavailable):
            return
        source = "+".join(power.channels)
        for host, power_w in [(each.host, each.power_w) for each in power.hosts] or [("local", power.power_w)]:
            yield Sample(POWER, (power.scope, source, host), power_w)

    def _energy(self, t_us: int) -> Iterator[Sample]:
        sums: dict[Labels, list[Interval]] = {}
        for meter, energy_j in energy_of(self._session, t_us).counted_j():
            sums.setdefault((meter.scope, meter.source, host_name(meter)), []).append(energy_j)
        for labels, parts in sums.items():
            value, low, high = (sum(getattr(part, end) for part in parts) for end in ("value", "low", "high"))
            counted_j = self._energy_j[labels] = max(value, self._energy_j.get(labels, 0.0))
            yield Sample(ENERGY, labels, counted_j)
            yield from _ends(ENERGY, labels, low, high)

    def _of_turns(self, t_us: int) -> Iterator[Sample]:
        """Tokens and times, by model; those of the running turn are counted as they come."""
        turns = self._session.turns
        for turn in turns[self._turns :]:
            if turn.finished is None:
                break
            self._add(turn)
            self._turns += 1
        tokens, running = dict(self._tokens), turns[self._turns :]
        for turn in running:
            labels, progress = self._model(turn), turn.progress(t_us)
            tokens[labels] = _sums(
                tokens.get(labels, (0, 0)), progress.evaluated, progress.generated * progress.counted
            )
        for labels, counts in tokens.items():
            is_running = any(self._model(turn) == labels for turn in running)
            for metrics, count in zip((PROMPT_TOKENS, TOKENS, RUNNING), (*counts, is_running), strict=True):
                if count is not None:
                    yield from (Sample(metric, labels, count) for metric in metrics)
        for (metric, labels), (*filled, total_s) in self._times.items():
            ends = [*(f"{bound:g}" for bound in BUCKETS_S[metric]), "+Inf"]
            yield Sample(metric, labels, total_s, tuple(zip(ends, accumulate(filled), strict=True)))

    def _add(self, turn: Turn) -> None:
        progress, labels = turn.progress(turn.last_us), self._model(turn)
        generated = progress.generated if progress.counted else None
        self._tokens[labels] = _sums(self._tokens.get(labels, (0, 0)), progress.evaluated, generated)
        if progress.first_token_us is not None:
            self._observe(FIRST_TOKEN, labels, progress.first_token_us / 1e6)
        if progress.after_first and progress.decode_us > 0:
            self._observe(PER_TOKEN, labels, progress.decode_us / 1e6 / progress.after_first)

    def _observe(self, metric: Metric, model: Labels, seconds: float) -> None:
        labels = ("chat", model[1], model[0])
        bounds = BUCKETS_S[metric]
        row = self._times.setdefault((metric, labels), [0.0] * (len(bounds) + 2))
        row[next((index for index, bound in enumerate(bounds) if seconds <= bound), len(bounds))] += 1
        row[-1] += seconds

    def _model(self, turn: Turn) -> Labels:
        load = next((each for each in reversed(self._session.loads) if each.t_us <= turn.started.t_us), None)
        if load is None:
            return ("", "edgetop", "")
        name = f"{load.model.name} {load.model.quantization}".strip()
        return (name, load.engine.server or "edgetop", "")


def _figures(view: Snapshot) -> Iterator[Sample]:
    of: Any = view.summary if view.watch is None else view.watch.figures
    energy = of.energy
    for name, metric in FIGURES.items():
        if (energy is None and name.startswith("energy.")) or not _has(of, name):
            continue
        value = value_of(of, name)
        labels = () if energy is None or not metric.labels else (energy.scope, energy.source)
        if isinstance(value, Interval):
            yield Sample(metric, labels, value.value)
            yield from _ends(metric, labels, value.low, value.high)
        elif value is not None:
            yield Sample(metric, labels, value)
    if energy is None:
        yield Sample(MISSING, (of.energy_missing,), 1.0)
    else:
        yield Sample(GRADE, (energy.grade, energy.grade_reason), 1.0)


def _has(of: object, name: str) -> bool:
    first, _, second = name.partition(".")
    return hasattr(of, first) and (not second or hasattr(getattr(of, first), second))


def _ends(metric: Metric, labels: Labels, low: float, high: float) -> Iterator[Sample]:
    for suffix, value in (("low", low), ("high", high)):
        text = f"{suffix.capitalize()} end of the 95 % interval of {metric.name}."
        yield Sample(Metric(f"{metric.name}_{suffix}", "gauge", text, metric.labels), labels, value)


def _readings(session: Session, view: Snapshot) -> Iterator[Sample]:
    for name, reading in view.readings.items():
        if name.startswith(HOST_STREAM):
            host, _, each = name.removeprefix(HOST_STREAM).rpartition(".")
            if each in HOSTS and isinstance(reading, Reading) and reading.age_us < STALE_US:
                yield Sample(HOSTS[each], (host,), reading.value)
            continue
        channel = session.channel(name)
        metric, scale = SENSORS.get("" if channel is None else channel.unit, (None, 1.0))
        if metric is not None and isinstance(reading, Reading) and reading.age_us < STALE_US:
            yield Sample(metric, (name,), reading.value * scale)


def _of_service(row: ServerStatus) -> Iterator[Sample]:
    usage = row.usage
    if usage is None or row.state != "answers":
        return
    labels = (", ".join(row.models), row.kind, row.address)
    tokens = usage.tokens if isinstance(usage.tokens, int) else None
    for metrics, value in (
        (TOKENS, tokens),
        (PROMPT_TOKENS, usage.prompt_tokens),
        (RUNNING, usage.running),
        (WAITING, usage.waiting),
    ):
        if value is not None:
            yield from (Sample(metric, labels, value) for metric in metrics)


def _sums(counts: Counts, prompt: int, generated: int | None) -> Counts:
    """With more tokens; what one turn does not tell is not known of the sum."""
    known = counts[1]
    return (counts[0] or 0) + prompt, None if known is None or generated is None else known + generated


class LiveView(Protocol):
    """A session that an exporter is shown."""

    @property
    def session(self) -> Session:
        """The session so far."""

    @property
    def rows(self) -> Sequence[ServerStatus]:
        """The servers that are watched."""

    def now_us(self) -> int:
        """Microseconds since the session began."""


class Exporter(Protocol):
    """Gives what a session measures to another program."""

    def update(self, live: LiveView) -> None:
        """Called by the session's thread, once a second or more often; what it raises switches the exporter off."""

    def close(self) -> None:
        """The session has ended."""


class PrometheusExporter:
    """Answers scrapes at an address, or writes a file for the textfile collector of node_exporter."""

    def __init__(self, *, address: tuple[str, int] | None = None, file: Path | None = None) -> None:
        """Raises EdgetopError where prometheus-client is missing, and for an address or a file that cannot be used."""
        self._client = _client()
        if file is not None:
            _require_usable(file)
        self._registry = self._client.CollectorRegistry()
        self._registry.register(self)
        self._file, self._due_s = file, 0.0
        self._metrics: Metrics | None = None
        self._lock = threading.Lock()
        self._asked: Future[list[Any]] | None = None
        self._families: list[Any] | None = None
        self._to_pipe: threading.Thread | None = None
        self._server: _Server | None = None
        if address is not None:
            try:
                self._server = _Server(address, self._text)
            except OSError as error:
                where = f"{address[0]}:{address[1]}"
                raise EdgetopError(f"--export: cannot listen at {where}: {error.strerror or error}") from None
            threading.Thread(target=self._serve, args=(self._server,), name="edgetop-metrics", daemon=True).start()

    def describe(self) -> Iterable[Any]:
        """Nothing: what there is shows with the first scrape."""
        return ()

    def collect(self) -> Iterable[Any]:
        """The metrics now; in the thread of a scrape it waits for the session's."""
        if self._families is not None:
            return self._families
        with self._lock:
            asked = self._asked = self._asked or Future()
        return asked.result(SCRAPE_S)

    def update(self, live: LiveView) -> None:
        """See Exporter."""
        with self._lock:
            asked, self._asked = self._asked, None
        is_due = self._file is not None and time.monotonic() >= self._due_s
        if asked is None and not is_due:
            return
        try:
            families = self._collected(live)
        except Exception as error:
            if asked is not None:
                asked.set_exception(error)
            raise
        if asked is not None:
            asked.set_result(families)
        if self._file is not None and is_due:
            self._due_s = time.monotonic() + FILE_S
            self._write(self._file, families)

    def close(self) -> None:
        """See Exporter. The file is removed: what it says would soon be wrong."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._file is not None and self._file.is_file():
            with suppress(OSError):
                self._file.unlink()

    @staticmethod
    def _serve(server: _Server) -> None:
        # Begun before the session, which lowers the priority of its own threads alone.
        lower_priority()
        server.serve_forever()

    def _text(self) -> bytes:
        """The answer to a scrape. Raises TimeoutError when the session's thread does not come to it."""
        text: bytes = self._client.generate_latest(self._registry)
        return text

    def _collected(self, live: LiveView) -> list[Any]:
        if self._metrics is None:
            self._metrics = Metrics(live.session)
        return list(_families(self._metrics.now(live.now_us(), live.rows)))

    def _write(self, file: Path, families: list[Any]) -> None:
        self._families = families
        try:
            if file.exists() and not file.is_file():
                # A device or a pipe, which prometheus_client would replace; a slow reader is left out, not waited for.
                if self._to_pipe is None or not self._to_pipe.is_alive():
                    self._to_pipe = threading.Thread(target=_pass_on, args=(file, self._text()), daemon=True)
                    self._to_pipe.start()
            else:
                self._client.write_to_textfile(str(file), self._registry)
        except OSError as error:
            log("decisions", f"{file}: {error.strerror or error}")
        finally:
            self._families = None


def _require_usable(file: Path) -> None:
    """Raises EdgetopError where metrics cannot be written, or would take the place of something else."""
    problem = ""
    try:
        if not may_replace(file, FIRST_LINE):
            problem = f"{file} exists already and holds no metrics of edgetop"
        elif file.is_dir():
            problem = f"{file} is a folder"
        elif not file.exists() and not os.access(file.parent, os.W_OK):
            problem = f"{file.parent} is no folder that can be written to"
    except OSError as error:
        problem = f"{file}: {error.strerror}"
    if problem:
        raise EdgetopError(f"--export-file: {problem}", "name another file")


def _pass_on(file: Path, text: bytes) -> None:
    try:
        write_atomically(file, [text])
    except OSError as error:
        log("decisions", f"{file}: {error.strerror or error}")


class _Server(ThreadingHTTPServer):
    """Answers scrapes in the text format alone: in OpenMetrics prometheus_client takes the colons out of names."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], text: Callable[[], bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.text = text
        super().__init__(address, _Scrape)

    def handle_error(self, *_: object) -> None:
        """Whoever asked is gone."""


class _Scrape(BaseHTTPRequestHandler):
    server: _Server
    timeout = SCRAPE_S

    def do_GET(self) -> None:
        """Answer."""
        if self.path.partition("?")[0] not in {"/", "/metrics"}:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            text = self.server.text()
        except Exception as error:  # noqa: BLE001 - of the session's thread, which tells of it
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, type(error).__name__)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def _client() -> Any:  # noqa: ANN401 - a module of an extra
    try:
        import prometheus_client  # noqa: PLC0415 - an extra
    except ImportError:
        raise EdgetopError(
            "metrics need prometheus-client, which is not installed", "type: pip install 'edgetop[prometheus]'"
        ) from None
    return prometheus_client


def _families(samples: Iterable[Sample]) -> Iterator[Any]:
    """The samples as prometheus_client has them, those of one metric together."""
    from prometheus_client import metrics_core as core  # noqa: PLC0415 - an extra

    kinds = {
        "gauge": core.GaugeMetricFamily,
        "counter": core.CounterMetricFamily,
        "histogram": core.HistogramMetricFamily,
        "info": core.InfoMetricFamily,
    }
    families: dict[str, Any] = {}
    for metric, labels, value, buckets in samples:
        if not isfinite(value):
            continue
        family = families.get(metric.name)
        if family is None:
            family = families[metric.name] = kinds[metric.kind](metric.name, metric.help, labels=metric.labels)
        words = [one_line(label) for label in labels]
        if metric.kind == "histogram":
            family.add_metric(words, buckets=buckets, sum_value=value)
        elif metric.kind == "info":
            family.add_metric((), dict(zip(metric.labels, words, strict=True)))
        else:
            family.add_metric(words, value)
    yield from families.values()

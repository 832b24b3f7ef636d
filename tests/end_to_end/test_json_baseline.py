"""What scripts read of edgetop, against a recorded baseline: keys, types and numbers of all JSON, CSV and files.

A case is a command line on fixed input: recorded sessions, a fake tree, a scripted engine, the small model's header.
What it prints is kept in `baseline/`, with each text put as `<text>`, since texts may change; words that programs tell
apart (`module`, `max_tokens`) are kept. What is measured is named by `MEASURED`, and only its type is kept.

`EDGETOP_RECORD_BASELINE=1` writes the baseline anew; look at what has changed before you keep it, and name the keys in
the commit.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from edgetop import cli
from tests.support.fake_sysfs import flickering
from tests.support.recorded_sessions import journal_lines

REPOSITORY = Path(__file__).resolve().parents[2]
BASELINE = Path(__file__).with_name("baseline")
INPUT = BASELINE / "input"
RECORDING = bool(os.environ.get("EDGETOP_RECORD_BASELINE"))
EXAMPLES = sorted((INPUT / "recorded").glob("*.json"))
RENAMED = {"mend": "hint", "grade_mend": "grade_hint"}
"""Old names that count as the new ones, in the baseline and in what is printed."""

WORD = re.compile(r"(?!\d{4}-\d\d)[A-Za-z0-9][\w.%+:-]*(/[a-z]\w*)?")
"""A word that programs tell apart, not a text for a person."""
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", re.IGNORECASE)
TEXTS = ("reason", "hint", "label", "words", "text", "title", "does", "help", "note", "notes", "why", "effect", "what")
"""Keys whose values are texts even where they are a single word."""
LONG = 12
"""Longer lists of numbers and words are kept as their number, their ends and their sum."""
CLOSE = 1e-9
"""Machines round differently."""

Form = Literal["json", "jsonl", "csv", "md", "sql"]


class Case(NamedTuple):
    """A command line and what of its output is measured."""

    line: str
    """`{model}`, `{input}` and `{home}` stand for the small model, `baseline/input` and the case's own folder."""
    form: Form = "json"
    measured: Sequence[str] = ()
    """The paths that vary."""
    code: int = 0
    tree: str = "jetson"


# What varies from run to run, as patterns of paths (`-` stands for each element of a list). At these a number, a word
# or a list of them is kept as its type; after `many` the list's length varies, after `any` even the type; a key after
# `rare` is there only at times.
TIMES = ("*_us", "*.load_s", "*.first_token_s", "*_tokens_per_s", "*.token_gap_ms.*", "*_ms")
ENERGY = ("*_j.*", "*j_per_token.*", "*_w.*", "*.idle_w", "*tokens_per_wh.*")
MEMORY = ("*.rss_peak_bytes", "any *.own_cost.cpu_percent", "*.own_cost.*")
RUN = (*TIMES, *ENERGY, *MEMORY, "*.id", "*.hostname", "*.kernel", "*.firmware", "*.microcode")
RECORDED = (
    *RUN,
    "*.series.-.values.*",
    "any *.values.engine.*",
    "any *.values.edgetop.*",
    "*.series.-.absent.*",
    "any *.series.-.missing",
    "any *.reasons",
    "*.source.period_s",
    "rare *.properties.stamp_s",
    "*.watched_s",
    "*.left_out_s",
)
METERED = (
    "*.energy.grade",
    "any $.turns.*energy",
    "any $.turns.*energy_missing",
    "any *.duty.missing.load_j",
    "*.measured_tokens",
)
"""How sure the energy of so short answers is depends on how busy the machine is; the summary has all its keys."""
RECOVERED = (
    *RECORDED,
    *METERED,
    *(f"any $.summary.{each}" for each in ("energy", "energy_missing", "duty", "memory.*")),
    "*.generated_tokens",
    "*.context_used",
    "*.reply.-.tokens",
    "*.tokens.chars",
)
JOURNAL = (
    *RUN,
    *(f"many $.{each}" for each in ("tokens", "event", "prefill")),
    "any $.source",
    "any $.sample",
    "any *.values",
    "any *.reasons",
    "any *.pieces",
    "*.session_id",
    "*.pid",
)
"""Which sources are known by the time of the kill, and how slow they are, depends on how busy the machine is."""
BENCHED = (*RUN, "*_ns", "*_ts", "*.ts_low", "*.ts_high", "*.ts_least_difference_percent", "*.test_time", "*.sessions")
TUNED = ("*.cost", "*.relative_deviation", "*.chosen", "*.repetitions", "*.disturbed")
SHOWN_TUNED = ("*.n_threads", "*.n_threads_batch", "*.n_ubatch", "*.kv_type", "*.flash_attn")
WATCHED = (
    *RUN,
    "many $",
    "*.t_s",
    "*.watched_s",
    "*.left_out_s",
    "any *.power_w",
    "any *.power_scope",
    "any *.tokens_per_s",
    "any *.temperature_cpu_c",
    "any *.throttling",
    "any *.memory_used_bytes",
    "any *.memory_total_bytes",
)
STREAMED = ("*.m", "any *.age", "*.header.host")
DOCTOR = ("*.hostname", "$.python", "$.platform")

SCRIPT = {
    "replies": [{"text": "A scripted reply, to be counted. " * 8}, {"text": "<think>Hm.</think>Another."}],
    "tokens_per_s": 50.0,
    "n_ctx": 4096,
}
SLOW = {"replies": [{"text": "word " * 400}], "tokens_per_s": 40.0}
TUNE = "tune m.gguf -r 2 --test 0.1 --power none -q"
ASK = "run -m m.gguf -p Hi. -p Again. --seed 1 --max-tokens 60"
BENCH = "bench -m m.gguf -p 32 -n 8 --pg 16,4 -r 2 -t 1,2 --power none -q"
PAIR = " ".join(f"{{examples}}/{path.name}" for path in EXAMPLES[:2])
OTHERS = " ".join(f"{{examples}}/{path.name}" for path in EXAMPLES[::2])
ALL = " ".join(f"{{examples}}/{path.name}" for path in EXAMPLES)
ONE = f"{{examples}}/{EXAMPLES[0].name}"
CHECK = "check {model} --no-probe"

CASES: dict[str, Case] = {
    "run": Case(f"{ASK} --json", measured=(*RUN, *METERED)),
    "run-without-power": Case(f"{ASK} --json --power none --no-text", measured=RUN),
    "models": Case("models --json"),
    "models-csv": Case("models --csv", "csv"),
    "models-of-a-server": Case("models --server {server} --json"),
    "power": Case("power --json"),
    "doctor": Case("doctor --json --power auto", measured=DOCTOR),
    "doctor-of-a-server": Case("doctor --server {server} --json --power none", measured=DOCTOR),
    "config": Case("config --json"),
    "keys": Case("keys --json"),
    "check": Case(f"{CHECK} --ctx 512,8k --json"),
    "check-csv": Case(f"{CHECK} --ctx 512,8k --csv", "csv"),
    "check-pi5": Case(f"{CHECK} --device pi5 --price 0.3 --json"),
    "check-pi5-csv": Case(f"{CHECK} --device pi5 --csv", "csv"),
    "check-pi5-md": Case(f"{CHECK} --device pi5 --md", "md"),
    "check-jetson": Case(f"{CHECK} --device orin-nano --ctx 2k --json"),
    "check-devices": Case("check --device list --json"),
    "check-devices-csv": Case("check --device list --csv", "csv"),
    "check-history": Case("check --history --json", tree="virtual-board"),
    "check-history-csv": Case("check --history --csv", "csv", tree="virtual-board"),
    "tune": Case(f"{TUNE} --json", measured=TUNED),
    "compare": Case(f"compare {ALL} --json"),
    "compare-csv": Case(f"compare {PAIR} --csv", "csv"),
    "compare-md": Case(f"compare {PAIR} --md", "md"),
    "compare-others": Case("compare {input}/llama-bench.json {input}/ollama.txt --json"),
    "compare-limits": Case(f"compare {OTHERS} --fail-if energy.j_per_token>0.001 --json", code=6),
    "replay": Case(f"replay {PAIR} --at 2 --align token --json"),
    "replay-watched": Case("replay {input}/watched.json --json"),
    "sessions-list": Case("sessions list --json"),
    "sessions-list-csv": Case("sessions list --csv", "csv"),
    "sessions-list-md": Case("sessions list --md", "md"),
    "sessions-show": Case(f"sessions show {ONE} --json"),
    "sessions-show-watched": Case("sessions show {input}/watched.json --json"),
    "sessions-validate": Case(f"sessions validate {ONE} {{input}}/broken.json --json", code=1),
    "sessions-tag": Case(f"sessions tag --json {ONE} +baseline -example"),
    "sessions-import": Case("sessions import {input}/llama-bench.json {input}/ollama.txt --json"),
    "sessions-recompute": Case(f"sessions recompute {ONE} --power none --dry-run --json"),
    "calibrate": Case("calibrate --point 5:6 --point 10:12 --meter-name plug --json"),
}  # fmt: skip


STRANGE = ("EDGETOP_", "XDG_", "LC_", "LANG", "HF_", "LLAMA_", "OLLAMA_", "SSH_", "COLORTERM", "NO_COLOR")
"""Variables by which a machine's own settings would show."""


class Ran(NamedTuple):
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class House:
    """A person's folders with a fake tree below `root`, the examples as recorded sessions, and a scripted engine."""

    def __init__(
        self,
        folder: Path,
        tree: str,
        server: str,
        monkeypatch: pytest.MonkeyPatch,
        captured: pytest.CaptureFixture[str],
    ) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.captured = captured
        self.data = folder / "data"
        self.server = server
        self.sessions = self.data / "sessions"
        self.sessions.mkdir(parents=True)
        for path in EXAMPLES:
            shutil.copy(path, self.sessions)
        plant(folder / "root", json.loads((INPUT / f"{tree}.json").read_text()))
        (folder / "m.gguf").write_bytes(b"a model")
        self.script(SCRIPT)

    def script(self, script: object) -> None:
        (self.folder / "script.json").write_text(json.dumps(script))

    @property
    def environment(self) -> dict[str, str]:
        places = {name: str(self.folder / name.lower()) for name in
                  ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}  # fmt: skip
        return {
            **{name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV") if name in os.environ},
            **places,
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            "COLUMNS": "100",
            "LINES": "30",
            "PYTHONPATH": str(REPOSITORY),
            "EDGETOP_SYSROOT": str(self.folder / "root"),
            "EDGETOP_DATA_DIR": str(self.data),
            "EDGETOP_ENGINE": f"scripted:{self.folder / 'script.json'}",
        }

    def command(self, line: str, model: Path) -> list[str]:
        """The arguments of a case's line, each placeholder filled in."""
        places = {"model": model, "input": INPUT, "home": self.folder, "examples": self.sessions, "server": self.server}
        return [word.format_map(places) for word in line.split()]

    def run(self, *arguments: str) -> Ran:
        """edgetop in this process."""
        for variable in [each for each in os.environ if each.startswith(STRANGE)]:
            self.monkeypatch.delenv(variable)
        for variable, value in self.environment.items():
            self.monkeypatch.setenv(variable, value)
        self.monkeypatch.chdir(self.folder)
        self.captured.readouterr()
        with flickering(self.folder / "root") if arguments[0] == "run" else nullcontext():
            code = cli.main(arguments)
        told = self.captured.readouterr()
        return Ran(code, told.out, told.err)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """edgetop as a process of its own, in a group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "edgetop", *arguments], cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip


class LlamaServer(BaseHTTPRequestHandler):
    """What llama-server says of itself while it does nothing."""

    ANSWERS = {
        "/props": {"default_generation_settings": {"n_ctx": 512}, "total_slots": 1, "model_alias": "small",
                   "model_path": "small.gguf", "build_info": "b6123", "endpoint_slots": True, "endpoint_metrics": True},
        "/health": {"status": "ok"},
        "/slots": [{"id": 0, "n_ctx": 512, "is_processing": False}],
        "/metrics": "llamacpp:prompt_tokens_total 33\nllamacpp:tokens_predicted_total 120\n"
                    "llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n",
        "/v1/models": {"data": [{"id": "small", "meta": {"n_params": 134515008, "n_ctx_train": 8192, "size": 1000}}]},
    }  # fmt: skip

    def do_GET(self) -> None:
        answer = self.ANSWERS.get(self.path.partition("?")[0])
        body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(200 if answer is not None else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    serving = ThreadingHTTPServer(("127.0.0.1", 0), LlamaServer)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


@pytest.fixture
def house(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> House:
    return House(tmp_path, getattr(request, "param", "jetson"), server, monkeypatch, capsys)


def plant(root: Path, files: Mapping[str, str | int]) -> None:
    """Write files, given by absolute path, below `root`."""
    for absolute, content in files.items():
        path = root / absolute.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


@pytest.mark.parametrize(
    ("name", "house"), [(name, case.tree) for name, case in CASES.items()], indirect=["house"], ids=list(CASES)
)
def test_what_a_verb_prints_is_as_it_was(name: str, house: House, small_model: Path) -> None:
    case = CASES[name]
    ran = house.run(*house.command(case.line, small_model))
    assert ran.code == case.code, ran.stderr
    compare_with_baseline(name, read(ran.stdout, case.form), case.measured)


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
@pytest.mark.parametrize("kind", ["chat", "watched"])
def test_what_an_export_holds_is_as_it_was(form: str, kind: str, house: House) -> None:
    session = EXAMPLES[0] if kind == "chat" else INPUT / "watched.json"
    output = house.folder / ("exported.json" if form == "json" else "exported")
    if form == "parquet":
        pytest.importorskip("pyarrow")
    ran = house.run("sessions", "export", str(session), "--to", form, "-o", str(output))
    assert ran.code == 0, ran.stderr
    if form == "json":
        assert json.loads(output.read_text()) == json.loads(session.read_text())
        return
    tables = {path.stem: table_in(path) for path in sorted(output.iterdir())}
    compare_with_baseline(f"sessions-export-{kind}-{form}", tables, ())


def table_in(path: Path) -> Any:
    if path.suffix == ".csv":
        return read(path.read_text(), "csv")
    from pyarrow import parquet  # noqa: PLC0415 - it may be missing

    table = parquet.read_table(path)
    return [
        {"column": field.name, "type": str(field.type), "cells": column.to_pylist()}
        for field, column in zip(table.schema, table.columns, strict=True)
    ]


def test_what_a_benchmark_prints_is_as_it_was_in_every_form(house: House) -> None:
    """Of a plan that is done already, the results are printed again."""
    house.script({"tokens_per_s": 1000.0})
    forms: tuple[Form, ...] = ("json", "jsonl", "csv", "sql", "md")
    for form in forms:
        ran = house.run(*house.command(f"{BENCH} -o {form}", Path()))
        assert ran.code == 0, ran.stderr
        compare_with_baseline(f"bench-{form}", read(ran.stdout, form), ("*",) if form == "md" else BENCHED)
    made = {*house.sessions.glob("*.json")} - {house.sessions / path.name for path in EXAMPLES}
    first = min((json.loads(path.read_text()) for path in made), key=lambda file: file["clock_us"])
    compare_with_baseline("file-of-a-benchmark", steady_sources(first), RECORDED)


def test_the_file_of_a_session_is_as_it_was(house: House) -> None:
    output = house.folder / "recorded.json"
    ran = house.run(*house.command(f"{ASK} -q -o {output}", Path()))
    assert ran.code == 0, ran.stderr
    compare_with_baseline("file-of-a-session", steady_sources(json.loads(output.read_text())), (*RECORDED, *METERED))


def test_the_file_of_a_watched_machine_is_as_it_was(house: House) -> None:
    output = house.folder / "watched.json"
    process = house.start("watch", "--server", house.server, "--seconds", "1.2", "--json", "-o", str(output))
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    compare_with_baseline("watch", read(stdout, "jsonl"), WATCHED)
    compare_with_baseline("file-of-a-watched-machine", steady_sources(json.loads(output.read_text())), RECORDED)


def test_the_journal_and_what_is_recovered_from_it_are_as_they_were(house: House) -> None:
    house.script(SLOW)
    process = house.start(*house.command(f"{ASK.replace(' --max-tokens 60', '')} -q", Path()))
    journal = until(lambda: next(iter(house.sessions.glob("*.journal")), None))
    samples = [f'"type":"sample","source":"{name}"'.encode() for name in ("cpu", "memory", "engine", "power.jetson")]
    until(
        lambda: (
            all((data := journal_lines(journal)).count(each) > 1 for each in samples) and data.count(b'"tokens"') > 2
        )
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    records: dict[str, list[Any]] = {}
    for line in journal_lines(journal).splitlines():
        record = json.loads(line)
        records.setdefault(record["type"], []).append(record)
    compare_with_baseline("journal", records, JOURNAL)
    recovered = house.run("sessions", "recover")
    assert recovered.code == 0, recovered.stderr
    (file,) = [path for path in house.sessions.glob("*.json") if path.name not in {each.name for each in EXAMPLES}]
    compare_with_baseline("file-of-a-recovered-session", steady_sources(json.loads(file.read_text())), RECOVERED)


def test_the_stream_of_power_is_as_it_was(house: House) -> None:
    process = house.start("power", "--stream", "--interval", "0.05")
    assert process.stdout is not None
    header, *lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    words = [word.partition("=") for word in header.split()]
    said = {"header": {name: cell_of(word) for name, _, word in words}}
    compare_with_baseline("power-stream", {**said, "readings": [json.loads(line) for line in lines]}, STREAMED)


def test_what_was_made_before_is_told_as_it_was(house: House, small_model: Path) -> None:
    for line in ("calibrate --point 5:6 --point 10:12", f"{TUNE} --csv"):
        ran = house.run(*house.command(line, small_model))
        assert ran.code == 0, ran.stderr
    compare_with_baseline("tune-csv", read(ran.stdout, "csv"), TUNED)
    compare_with_baseline("calibrate-show", house.run("calibrate", "--show", "--json").json, ("*.made_at",))
    compare_with_baseline("tune-show", house.run("tune", "--show", "--json").json, SHOWN_TUNED)
    power = house.run("power", "--json")
    compare_with_baseline("power-calibrated", power.json, ())


def steady_sources(file: Any) -> Any:
    """A session without the series of the zones, one of which may answer late, and the others in one order."""
    series = [each for each in file["series"] if not each["source"]["name"].startswith("thermal")]
    file["series"] = sorted(series, key=lambda each: str(each["source"]["name"]))
    return file


def until(found: Callable[[], Any]) -> Any:
    """What there is at last."""
    end_s = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < end_s
        time.sleep(0.02)
    return value


# --- canonical form ---------------------------------------------------------------------------------------------------


def read(text: str, form: Form) -> Any:
    """Printed data as JSON would have it; of rows, a list for each column."""
    match form:
        case "json":
            return json.loads(text)
        case "jsonl":
            return [json.loads(line) for line in text.splitlines()]
        case "csv":
            header, *rows = csv.reader(io.StringIO(text))
            return columns(header, [[cell_of(cell) for cell in row] for row in rows])
        case "sql":
            database = sqlite3.connect(":memory:")
            database.executescript(text)
            ((table, _),) = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            rows = database.execute(f'SELECT * FROM "{table}"').fetchall()  # noqa: S608 - a test's own table
            header = [column[1] for column in database.execute(f'PRAGMA table_info("{table}")')]
            types = [column[2] for column in database.execute(f'PRAGMA table_info("{table}")')]
            return {"table": table, "types": types, "columns": columns(header, rows)}
        case "md":
            lines = [line for line in text.splitlines() if line.startswith("|")]
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            return [[cell_of(cell) for cell in line] for line in cells]


def columns(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [{"column": name, "cells": [row[at] for row in rows]} for at, name in enumerate(header)]


def cell_of(text: str) -> Any:
    """A cell as the value that it is written for; an empty one has none."""
    if NUMBER.fullmatch(text):
        return float(text) if set(text) & set(".eE") else int(text)
    return text or None


def with_new_names(value: Any) -> Any:
    """The value with keys, and columns of rows, under their present names."""
    match value:
        case {"column": str(name), **others}:
            return {"column": RENAMED.get(name, name), **others}
        case dict():
            return {RENAMED.get(name, name): with_new_names(each) for name, each in value.items()}
        case list():
            return [with_new_names(each) for each in value]
    return value


def canonical(value: Any, measured: Sequence[str], path: str = "$") -> Any:  # noqa: PLR0911 - one for each kind
    """The value without its texts and without what is measured."""
    if is_among(measured, path, "any"):
        return "<any>"
    if is_among(measured, path) and value is not None and not has_parts(value):
        return f"<{kind_of(value)}>"
    match value:
        case {"column": str(name), "cells": cells, **others}:
            return {"column": name, **others, "cells": canonical(cells, measured, f"{path}.{name}")}
        case dict():
            return {
                name: canonical(each, measured, f"{path}.{name}")
                for name, each in value.items()
                if not is_among(measured, f"{path}.{name}", "rare")
            }
        case list():
            kept = [canonical(each, measured, f"{path}.-") for each in value]
            if not is_among(measured, path, "many"):
                return shortened(kept)
            distinct = {json.dumps(each, sort_keys=True): each for each in kept}
            return {"<any number of>": [distinct[key] for key in sorted(distinct)]}
        case str() if not is_word(value, path):
            return "<text>"
    return value


def is_among(patterns: Sequence[str], path: str, before: str = "") -> bool:
    """Whether one of the patterns that begin with this word, or with none, is that of the path."""
    split = [pattern.rpartition(" ") for pattern in patterns]
    return any(word == before and fnmatchcase(path, pattern) for word, _, pattern in split)


def has_parts(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict | list) for each in value))


def kind_of(value: Any) -> str:
    """The type of a value; of a list those of its elements, nulls left out."""
    if isinstance(value, list):
        return " ".join(["list", *sorted({type(each).__name__ for each in value if each is not None})])
    return type(value).__name__


def is_word(text: str, path: str) -> bool:
    """Whether a program could look for just this; the empty string is one, for it says that there is no text."""
    return not text or (WORD.fullmatch(text) is not None and path.removesuffix(".-").rpartition(".")[2] not in TEXTS)


def shortened(values: list[Any]) -> Any:
    """A long list of plain values as how many they are, its ends and its sum."""
    if len(values) <= LONG or any(isinstance(each, dict | list) for each in values):
        return values
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    return {"<list>": [*values[:4], *values[-2:]], "length": len(values), "sum": float(math.fsum(numbers)),
            "types": sorted({type(each).__name__ for each in values})}  # fmt: skip


def differences(before: Any, now: Any, path: str = "$") -> Iterator[str]:
    """Where two canonical values differ, one line each."""
    match before, now:
        case dict(), dict():
            for name in before.keys() - now.keys():
                yield f"{path}.{name} is gone (it was {brief(before[name])})"
            for name in now.keys() - before.keys():
                yield f"{path}.{name} is new: {brief(now[name])}"
            for name in before.keys() & now.keys():
                yield from differences(before[name], now[name], f"{path}.{name}")
        case list(), list() if len(before) == len(now):
            for at, (old, new) in enumerate(zip(before, now, strict=True)):
                yield from differences(old, new, f"{path}[{at}]")
        case float(), float() if math.isclose(before, now, rel_tol=CLOSE):
            pass
        case _ if type(before) is not type(now) or before != now:
            yield f"{path} was {brief(before)} and is {brief(now)}"


def brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def compare_with_baseline(name: str, printed: Any, measured: Sequence[str]) -> None:
    file = BASELINE / f"{name}.json"
    now = canonical(with_new_names(printed), measured)
    if RECORDING:
        file.write_text(pretty(now) + "\n")
    found = sorted(differences(with_new_names(json.loads(file.read_text())), now))
    assert not found, "\n".join([f"{len(found)} differences from {file.name}:", *found])


def pretty(value: Any, indent: str = "") -> str:
    """JSON with a line for each thing that has parts, and what fits on a line on one."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= 110 or not isinstance(value, dict | list):
        return line
    inner = f"{indent} "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(name)}: {pretty(each, inner)}" for name, each in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{inner}{pretty(each, inner)}" for each in value) + f"\n{indent}]"

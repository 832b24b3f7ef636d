"""The API of edgetop, the meter for anything, its command line and its plugin of pytest.

A program stands for the meter: it draws 3 W, or what a file says.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
import tomlkit

import edgetop
from edgetop.commands.command_line import parser_of, sub_parsers
from edgetop.commands.verbs import VERBS
from edgetop.core.clock import monotonic_us
from edgetop.core.energy import baselines
from edgetop.core.records import FORMAT_VERSION
from edgetop.io.extensions import EXPORTERS, SENSORS, SERVERS
from edgetop.live import energy_meter
from edgetop.live.energy_meter import SensorSession
from edgetop.session.export import tables_of
from edgetop.session.file_io import load_file, schema_text, validate
from edgetop.session.store import example_pair
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.requirements import need_module
from tests.support.virtual_board import process_board

HEADER = "# edgetop-power/1 kind=power unit=W scope=wall update=0.02 window=0.02 gain=0.01"


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A meter that shows the watts in a file."""
    level = tmp_path / "watts"
    level.write_text("3\n")
    script = tmp_path / "meter.sh"
    script.write_text(f"echo '{HEADER}'\nwhile sleep 0.02; do cat {shlex.quote(str(level))}; done\n")
    return f"sh {shlex.quote(str(script))}"


@pytest.fixture
def home(tmp_path: Path, program: str) -> IsolatedHome:
    isolated = IsolatedHome(tmp_path)
    isolated.environment["EDGETOP_POWER_STREAM"] = program
    return isolated


def busy(seconds: float) -> None:
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        sum(range(1000))


def test_to_import_it_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import edgetop; print(*(set(sys.modules) - before))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["edgetop"]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        edgetop.nothing  # type: ignore[attr-defined]  # noqa: B018
    names = dir(edgetop)
    assert set(names) == {name for name in names if getattr(edgetop, name, None)}


def test_the_stub_has_the_names_of_the_module() -> None:
    names = dir(edgetop)
    stub = Path(edgetop.__file__).with_suffix(".pyi").read_text()
    assert {word for word in names if word != "__version__"} == {
        line.rpartition(" as ")[2] for line in stub.splitlines() if " as " in line
    }


def test_a_session_has_the_figures_and_readings_of_its_file() -> None:
    path = example_pair()[0]
    session, file = edgetop.load_session(path), load_file(path)
    assert session.figure("decode_tokens_per_s") == file.summary.decode_tokens_per_s
    assert file.summary.energy is not None
    known = file.summary.energy.j_per_token
    assert known is not None
    assert session.interval("energy.j_per_token") == (known.low, known.high)
    assert session.row()["energy.j_per_token.low"] == known.low
    with pytest.raises(KeyError):
        session.figure("nothing")
    for series in file.series:
        for name, values in series.values.items():
            times_s, read = session.stream(name)
            np.testing.assert_array_equal(read, np.array(values, float))
            assert len(times_s) == len(read)
            assert list(times_s) == sorted(times_s)
    for table in tables_of(file):
        rows = [tuple(row.values()) for row in session.rows(table.name)]  # type: ignore[arg-type]
        assert rows == list(table.rows)
    for turn in file.turns:
        assert len(session.token_times(turn.turn)) == len(turn.tokens.dt_us)
    assert all(session.why_missing(name) for name, value in session.figures.items() if value is None)


def test_sessions_are_found_by_words_and_what_cannot_be_read_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sessions"
    folder.mkdir()
    for path in example_pair():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.json").write_text("{")
    with pytest.warns(UserWarning, match=r"broken\.json"):
        assert len(edgetop.sessions(folder=folder)) == 2
    (folder / "broken.json").unlink()
    (found,) = edgetop.sessions("smollm2", "f16", folder=folder)
    assert found.quantization == "F16"
    monkeypatch.setenv("EDGETOP_DATA_DIR", str(tmp_path))
    assert edgetop.load_session(found.id).path == found.path
    assert edgetop.load_session(1).path == edgetop.load_session("1").path
    with pytest.raises(edgetop.EdgetopError, match="No session matches"):
        edgetop.load_session("nothing like it")


def test_what_lies_between_begin_and_end_is_measured_above_idle_too(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "FIRST_AT_LEAST_S", 0.5)
    # Below an empty root nobody sees what else the machine does.
    meter = edgetop.EnergyMeter(power_stream=[program], idle_s=1.5, sysroot=tmp_path / "root")
    meter.start()
    (tmp_path / "watts").write_text("9\n")
    meter.begin("work")
    busy(0.8)
    meter.end("work", tokens=4)
    (tmp_path / "watts").write_text("3\n")
    meter.stop()
    work = meter["work"]
    assert work.energy is not None, work.energy_missing
    assert work.energy.gross_j.low < 9 * work.seconds < work.energy.gross_j.high
    assert work.energy.net_j is not None, work.energy.missing
    assert work.energy.net_j.low < 6 * work.seconds < work.energy.net_j.high
    assert work.joules_per_token == pytest.approx(work.energy.gross_j.value / 4)
    assert work.row()["joules"] == work.joules
    assert meter.results == [work]
    assert repr(work) == f"<edgetop measurement work: {work}>"
    meter.stop()
    with pytest.raises(RuntimeError, match="was stopped"):
        meter.begin("more")


def test_a_reading_that_stands_still_is_believed_of_a_wait_and_not_of_work(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_s = 0.0  # on a crowded machine reading alone can take more than a wait may
    monkeypatch.setattr(energy_meter, "_cpu_s", lambda: cpu_s)
    with edgetop.EnergyMeter(power_stream=[program]) as meter:
        meter.begin("wait")
        time.sleep(1.1)
        meter.end("wait")
        meter.begin("work")
        time.sleep(1.1)
        cpu_s += 1.1
        meter.end("work")
    wait = meter["wait"]
    assert wait.interval_j is not None, wait.energy_missing
    assert wait.interval_j[0] < 3 * wait.seconds < wait.interval_j[1]
    assert meter["work"].joules is None
    assert "one and the same reading" in meter["work"].energy_missing


def test_a_meter_is_told_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = edgetop.EnergyMeter(power="none")
    with pytest.raises(RuntimeError, match="not started"):
        meter.end("work")
    assert meter.result.joules is None
    with meter:
        meter.begin("work")
        with pytest.raises(ValueError, match="has not ended"):
            meter.begin("work")
        with pytest.raises(ValueError, match="not begun"):
            meter.end("other")
        with pytest.raises(KeyError):
            meter["work"]
    assert meter.result.energy_missing == "power was switched off with --power none"
    with pytest.raises(RuntimeError, match="make another one"):
        meter.start()
    monkeypatch.setenv("EDGETOP_CONFIG", "no such file")
    with pytest.raises(edgetop.EdgetopError):
        edgetop.EnergyMeter()


def test_nothing_waits_on_after_an_exception_and_an_interrupt_closes_the_sensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    closed: list[SensorSession] = []
    close = SensorSession.close

    def note(sensors: SensorSession) -> None:
        closed.append(sensors)
        close(sensors)

    monkeypatch.setattr(SensorSession, "read_for", lambda _sensors, seconds: rests.append(seconds))
    monkeypatch.setattr(SensorSession, "close", note)

    def work(meter: edgetop.EnergyMeter) -> None:
        with meter:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work(edgetop.EnergyMeter(power="none", idle_s=60, sysroot=tmp_path))
    assert (rests, len(closed)) == ([60], 1)

    def interrupt(_sensors: SensorSession, _seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SensorSession, "read_for", interrupt)
    with pytest.raises(KeyboardInterrupt):
        work(edgetop.EnergyMeter(power="none", idle_s=60, sysroot=tmp_path))
    assert len(closed) == 2


def test_measure_passes_on_the_exit_code_and_keeps_its_json_apart(home: IsolatedHome) -> None:
    code = "import time; print('its words'); time.sleep(1); raise SystemExit(7)"
    ran = home.run("measure", "--json", "--tokens", "10", "--", sys.executable, "-c", code)
    assert ran.returncode == 7
    assert ran.stderr == "its words\n"
    told = json.loads(ran.stdout)
    assert told["command"] == [sys.executable, "-c", code]
    assert told["exit_code"] == 7
    gross = told["energy"]["gross_j"]
    assert gross["low"] < 3 * told["seconds"] < gross["high"]
    assert told["energy"]["j_per_token"]["value"] == pytest.approx(gross["value"] / 10)


def test_measure_says_why_there_is_nothing_above_idle(home: IsolatedHome) -> None:
    ran = home.run("measure", "--idle", "0.1", "--sysroot", str(home.folder), "--", "sleep", "1")
    assert ran.returncode == 0
    assert re.search(r"edgetop: n/a J net: no idle baseline has .*: .* measure have --idle 1\d\n", ran.stderr), (
        ran.stderr
    )


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["sh", "-c", "kill -9 $$"], 137, "J in"),
        ([""], 127, "edgetop: '' cannot be run: No such file"),
        (["no-such-program"], 127, "no-such-program cannot be run: No such file"),
        (["/"], 126, "cannot be run: Permission denied"),
        ([], 2, "edgetop measure -- COMMAND"),
    ],
    ids=["killed", "no name", "not found", "not executable", "nothing"],
)
def test_measure_says_what_became_of_the_command(home: IsolatedHome, command: list[str], code: int, words: str) -> None:
    ran = home.run("measure", "--power", "none", "--", *command)
    assert ran.returncode == code
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr


def test_measure_leaves_an_interrupt_to_the_command_and_still_says_what_it_took(
    home: IsolatedHome, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: exit(5))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        home.command("measure", "--power", "none", "--", sys.executable, "-c", code),
        env=home.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    eventually(ready.exists, "the command runs")
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "J in" in said


BOARD_WORK_S = 1.5


@pytest.mark.parametrize(("kind", "seed"), [("ina3221", 1), ("rapl", 5)])
def test_its_intervals_hold_the_truth_of_a_virtual_board(tmp_path: Path, kind: str, seed: int) -> None:
    spans: dict[str, tuple[int, int]] = {}
    with process_board(tmp_path, kind, os.getpid(), seed) as board, edgetop.EnergyMeter(sysroot=tmp_path) as meter:
        for name in ("one", "two"):
            begin_us = monotonic_us()
            meter.begin(name)
            busy(BOARD_WORK_S)
            meter.end(name, tokens=10)
            spans[name] = begin_us, monotonic_us()
    for name, (begin_us, end_us) in spans.items():
        measured, true_j = meter[name], board.truth.energy_j(begin_us, end_us)
        assert measured.interval_j is not None, measured.energy_missing
        low, high = measured.interval_j
        assert low <= true_j <= high, (measured, true_j)
        assert measured.row()["joules_per_token"] == pytest.approx((measured.joules or 0.0) / 10)


PLUGIN_TEST = """
import time, pytest

@pytest.mark.energy(at_most_j=100)
def test_cheap():
    time.sleep(0.5)

@pytest.mark.energy(at_most_j=0.1)
def test_dear():
    time.sleep(0.5)

def test_in_parts(energy):
    with energy(100):
        time.sleep(0.5)
"""


@pytest.fixture
def run_pytest(home: IsolatedHome, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(*arguments: str, source: str = PLUGIN_TEST, **environment: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_it.py").write_text(source)
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "edgetop.testing",
                "-p",
                "no:cacheprovider",
                "test_it.py",
                *arguments,
            ],
            cwd=tmp_path,
            env=home.environment | environment | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_test_that_costs_more_than_it_may_fails(run_pytest: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ran = run_pytest()
    assert "1 failed, 2 passed" in ran.stdout, ran.stdout
    assert "it may cost at most 0.1 J and took" in ran.stdout
    assert ran.stdout.count("energy: test_it.py::") == 3


def test_a_limit_that_cannot_be_checked_is_a_warning_or_required(
    run_pytest: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ran = run_pytest("-W", "ignore::DeprecationWarning", EDGETOP_POWER="none")
    assert "3 passed, 3 warnings" in ran.stdout, ran.stdout
    assert re.search(r"test_it\.py:\d+: EnergyNotMeasuredWarning: power was switched off", ran.stdout), ran.stdout
    ran = run_pytest("--require-energy", EDGETOP_POWER="none")
    assert "3 failed" in ran.stdout, ran.stdout
    assert "its energy was not measured: power was switched off" in ran.stdout


def test_pytest_does_not_rewrite_what_measures() -> None:
    of_edgetop = {name: type(module.__loader__).__name__ for name, module in sys.modules.items() if "edgetop." in name}
    assert "edgetop.live.energy_meter" in of_edgetop
    assert {name for name, loader in of_edgetop.items() if "Rewriting" in loader} <= {"edgetop.testing"}


def test_workers_of_xdist_tell_what_was_measured_and_the_xml_has_it(
    run_pytest: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    ran = run_pytest("-p", "xdist.plugin", "-n", "1", "--junit-xml", "told.xml")
    assert ran.stdout.count("energy: test_it.py::test_in_parts: ") == 1, ran.stdout
    cases = ElementTree.parse(tmp_path / "told.xml").iter("testcase")  # noqa: S314 - written by pytest
    told = {case.attrib["name"]: [each.attrib for each in case.iter("property")] for case in cases}
    assert [len(told[name]) for name in ("test_cheap", "test_dear", "test_in_parts")] == [1, 1, 1]
    assert told["test_cheap"][0]["name"] == "energy"
    assert " J in " in told["test_cheap"][0]["value"]


@pytest.mark.parametrize("given", ["", "5, 6", "limit=5", "'5'"], ids=["nothing", "two", "another name", "text"])
def test_a_marker_that_says_no_limit_is_told(
    run_pytest: Callable[..., subprocess.CompletedProcess[str]], given: str
) -> None:
    ran = run_pytest(source=f"import pytest\n@pytest.mark.energy({given})\ndef test_it(): ...\n")
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_it.py::test_it: the marker takes one number: @pytest.mark.energy(at_most_j=5)" in ran.stderr


def indented(page: str) -> list[str]:
    """The examples of a page that doctest does not see: those that are indented by four."""
    blocks: list[list[str]] = [[]]
    text = re.sub(r"(?ms)^```.*?^```$", "", (ROOT / "docs" / page).read_text())
    for line in text.splitlines():
        if line.startswith("    ") or (not line and blocks[-1]):
            blocks[-1].append(line[4:])
        elif blocks[-1]:
            blocks.append([])
    return ["\n".join(block).strip() for block in blocks if any(block)]


def test_what_doctest_does_not_see_of_the_page_runs_too(
    home: IsolatedHome, tmp_path: Path, run_pytest: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    install, meter, command, plugin = indented("api.md")
    assert install == "pip install edgetop"  # test_wheel.py does it
    work = "import time, edgetop\nrun_something = lambda: time.sleep(1)\n"
    environment = home.environment | {"PATH": f"{Path(sys.executable).parent}:{home.environment['PATH']}"}

    def run(*arguments: str) -> str:
        ran = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout + ran.stderr

    assert re.search(
        r"\(\S+ to \S+\) J in [1-9]\S* s, .*\) W \(wall, power\.stream, grade", run(sys.executable, "-c", work + meter)
    )
    (tmp_path / "run-something").write_text("#!/bin/sh\nexec sleep 1\n")
    (tmp_path / "run-something").chmod(0o755)
    for line in re.findall(r"(?m)^\$ (.*)$", command):
        said = run("sh", "-c", line.replace("--idle 30", "--idle 1"))
    assert said == ""
    told = json.loads((tmp_path / "measured.json").read_text())
    assert (told["command"], told["energy"]["scope"]) == (["./run-something"], "wall")
    assert told["energy"]["j_per_token"]["value"] == pytest.approx(told["energy"]["gross_j"]["value"] / 128)
    ran = run_pytest(source=plugin)
    assert "2 passed" in ran.stdout, ran.stdout


def test_the_entry_points_of_the_page_are_those_that_are_looked_for() -> None:
    (block,) = re.findall(r"(?ms)^```toml\n(.*?)^```", (ROOT / "docs/extensions.md").read_text())
    assert set(tomlkit.parse(block)["project"]["entry-points"]) == {SENSORS, SERVERS, EXPORTERS}


def test_examples_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(edgetop.examples()) == 2


TYPED = """
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import edgetop

session = edgetop.load_session(Path("session.json"))
assert_type(edgetop.load_session(1), edgetop.SavedSession)
assert_type(session, edgetop.SavedSession)
assert_type(session.figure("decode_tokens_per_s"), float | int | str | None)
times_s, values = session.stream("power.VDD_IN")
assert_type(times_s, NDArray[np.float64])
assert_type([each.id for each in edgetop.sessions("pi5")], list[str])
with edgetop.EnergyMeter(idle_s=10) as meter:
    meter.begin("decode")
    meter.end("decode", tokens=3)
assert_type(meter.result, edgetop.Measurement)
assert_type(meter["decode"].joules, float | None)
assert_type(meter.result.interval_j, tuple[float, float] | None)
edgetop.load_session(3.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
"""
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def typed(tmp_path: Path) -> Path:
    program = tmp_path / "program.py"
    program.write_text(TYPED)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    return program


def test_a_program_of_a_user_passes_mypy(typed: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={ROOT / '.mypy_cache'}", str(typed)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_a_program_of_a_user_passes_pyright(typed: Path) -> None:
    need_module("pyright", "'pyright[nodejs]'")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(typed.parent)]
    ran = subprocess.run(command, cwd=typed.parent, capture_output=True, text=True, check=False)
    if "0 errors" not in ran.stdout and "error:" not in ran.stdout:
        pytest.skip(f"pyright could not be run: {ran.stderr[-200:]}")
    assert ran.returncode == 0, ran.stdout


NO_DATA = {
    "chat": "a conversation",
    "report": "an HTML file",
    "completion": "a script of a shell",
    "man": "a page",
    "serve": "pages",
    "engine install": "progress",
    "engine build": "progress",
    "sessions export": "files, --to json among them",
    "config set": "nothing",
    "config unset": "nothing",
}


def test_every_verb_that_prints_data_takes_json() -> None:
    without = set()
    for verb in VERBS:
        parser = parser_of(verb)
        parts = [(f"{verb} {name}", sub) for name, _, sub in sub_parsers(parser)] or [(verb, parser)]
        without |= {name for name, each in parts if "--json" not in each._option_string_actions}
        if parts[0][1] is not parser and "also without a word" in parser.format_help():
            assert "--json" in parser._option_string_actions, verb
    assert without == set(NO_DATA)


def test_the_published_schema_is_that_of_the_files_and_has_a_valid_example() -> None:
    published = ROOT / "docs/session-1.schema.json"
    assert published.read_text() == schema_text()
    example = ROOT / "docs/session-1.example.json"
    assert validate(example) == []
    jsonschema.Draft202012Validator(json.loads(published.read_text())).validate(json.loads(example.read_text()))
    assert json.loads(example.read_text())["version"] == FORMAT_VERSION == 1

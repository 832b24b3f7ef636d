"""Energy per token of real runs beside a virtual board that knows the truth, and of runs whose sensor fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from edgetop.core.energy.tokens import Energy
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable
from edgetop.inference.scripted import Reply, Script
from edgetop.live.chat_session import LiveOptions, LiveSession
from edgetop.session.file_io import load
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot
from edgetop.session.store import Store
from edgetop.session.summary import turn_result
from edgetop.telemetry.rapl import PERMISSION_HINT
from edgetop.telemetry.registry import PowerChoice
from edgetop.tui.panes.column import PANES
from edgetop.tui.panes.pane import view_of
from tests.support.fake_sysfs import deny, plant
from tests.support.virtual_board import Truth

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 90.0
HWMON = "/sys/class/hwmon/hwmon1"
ZONE = "/sys/class/powercap/intel-rapl:0"
ORIN_NANO: dict[str, str | int] = {
    f"{HWMON}/name": "ina3221",
    f"{HWMON}/in1_label": "VDD_IN",
    f"{HWMON}/in1_input": 5032,
    f"{HWMON}/curr1_input": 1000,
    f"{HWMON}/shunt1_resistor": 5000,
}


class Board:
    """A virtual board in a process of its own."""

    def __init__(self, root: Path, kind: str, seed: int) -> None:
        self.root = root
        self._log = root / "truth"
        root.mkdir()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.virtual_board", "--root", str(root), "--kind", kind),
                *("--worker-of", str(os.getpid()), "--seed", str(seed), "--log", str(self._log)),
            ],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def truth(self) -> Truth:
        """End the board and read what it kept to itself."""
        self.stop()
        return Truth.read(self._log)

    def stop(self) -> None:
        """End the board."""
        self._process.terminate()
        self._process.communicate(timeout=10)


class Run:
    """A live session that is driven as a command without a screen drives one."""

    def __init__(self, folder: Path, root: Path, **options: object) -> None:
        chosen = msgspec.structs.replace(LiveOptions(sysroot=root), **options)
        self.live = LiveSession(chosen, Store(folder / "sessions"), lambda _said: None)
        self._snapshot_due_s = 0.0
        self._is_closed = False

    def until(self, condition: Callable[[], bool]) -> None:
        """Pump until the condition holds, taking a snapshot a second as the screen does."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"it did not come about: {self.live.snapshot()}"
            self.live.pump(wait_s=0.05)
            if time.monotonic() >= self._snapshot_due_s:
                self._snapshot_due_s = time.monotonic() + 1
                self.live.check()
                self.live.snapshot()

    def load(self, path: Path, settings: EngineSettings) -> None:
        """Load the model and find the sensors."""
        self.live.conversation.load(path, settings)
        self.until(lambda: self.live.conversation.phase == "ready" and self.live.has_sensors)

    def rest(self, seconds: float) -> None:
        """Let the session grow by so much with nothing to do."""
        until_us = self.live.now_us() + round(seconds * 1e6)
        self.until(lambda: self.live.now_us() >= until_us)

    def ask(self, prompt: str, *, stop_after_s: float) -> Energy | None:
        """One turn that is stopped after a while, and its energy when it is final."""
        self.live.conversation.submit(prompt)
        begin_us = self.live.now_us()

        def is_over() -> bool:
            if self.live.now_us() > begin_us + stop_after_s * 1e6:
                self.live.conversation.stop()
            return self.live.conversation.phase == "ready"

        self.until(is_over)
        self.live.settle(30.0)
        turn = self.live.snapshot().turn
        assert turn is not None
        return turn.figures.energy

    def close(self) -> Path:
        """End it and save it."""
        self._is_closed = True
        path = self.live.close()
        assert path is not None
        return path

    def end(self) -> None:
        """End it, however the test went."""
        if not self._is_closed:
            self._is_closed = True
            self.live.close()

    def panes(self) -> str:
        """What the power and the energy pane say."""
        return panes(self.live.session, self.live.now_us())


def panes(session: Session, t_us: int) -> str:
    view = view_of(session, t_us, "ascii")
    panes = [PANES[title] for title in ("power", "energy")]
    lines = [line for pane in panes for line in (pane.headline(view), *pane.render(view, 60, 12))]
    return " ".join(" ".join("".join(span.text for span in line).split()) for line in lines)


def same_moment(session: Session, other: Session) -> tuple[Snapshot, Snapshot]:
    return snapshot(session, session.end_us), snapshot(other, session.end_us)


def holds(figure: Interval | None, truth: float, widened: float = 1.0) -> bool:
    if figure is None:
        return False
    reach = widened * (figure.high - figure.low) / 2
    return abs(truth - figure.value) <= reach


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Callable[[str, int], Board]]:
    started: list[Board] = []

    def start(kind: str, seed: int) -> Board:
        started.append(Board(tmp_path / "root", kind, seed))
        return started[-1]

    yield start
    for board in started:
        board.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started: list[Run] = []

    def _start(**options: object) -> Run:
        started.append(Run(tmp_path, tmp_path / "root", **options))
        return started[-1]

    yield _start
    for run in started:
        run.end()


@pytest.fixture
def script(tmp_path: Path) -> str:
    """An engine that takes four seconds for a turn."""
    path = tmp_path / "script.json"
    path.write_bytes(msgspec.json.encode(Script(replies=(Reply(text="abcd" * 80),), tokens_per_s=20.0)))
    return f"scripted:{path}"


class Case(NamedTuple):
    kind: str
    seed: int
    quiet_s: float
    """Before the first turn; the idle baseline takes ten seconds of it."""
    turn_s: float
    """A slow sensor tells nothing of a short turn."""


@pytest.mark.parametrize("case", [Case("ina3221", 1, 12.0, 3.0), Case("rapl", 2, 0.0, 3.0), Case("acpi", 3, 0.0, 6.5)])
def test_the_interval_of_a_real_run_holds_the_truth(
    boards: Callable[[str, int], Board], start: Callable[..., Run], small_model: Path, case: Case
) -> None:
    board = boards(case.kind, case.seed)
    run = start(sampling=SamplingSettings(temperature=0.0))
    run.load(small_model, EngineSettings(n_ctx=2048, n_threads=1, n_threads_batch=1))
    run.rest(case.quiet_s)
    for _ in range(2):
        run.live.conversation.clear()
        running = run.ask("Repeat the word lighthouse a thousand times.", stop_after_s=case.turn_s)
        assert running is not None
        assert running.final
    path = run.close()
    truth = board.truth()
    session = load(path)
    now, again = same_moment(run.live.session, session)
    assert now == again
    for index, turn in enumerate(session.turns):
        figures = turn_result(session, index, session.end_us).figures
        energy = figures.energy
        assert energy is not None, figures.energy_missing
        start_us, tokens = session.start_us + turn.started.t_us, len(turn.token_t_us)
        first_us, last_us = (session.start_us + turn.token_t_us[index] for index in (0, -1))
        true_j = truth.energy_j(start_us, last_us)
        assert holds(energy.gross_j, true_j), (true_j, energy.gross_j)
        assert holds(energy.j_per_token, true_j / tokens)
        if energy.decode_j_per_token is not None:
            assert holds(energy.decode_j_per_token, truth.energy_j(first_us, last_us) / (tokens - 1))
        if case.quiet_s:
            loaded_us = session.start_us + session.loads[0].t_us
            idle_w = truth.energy_j(loaded_us + 1_000_000, loaded_us + 11_000_000) / 10
            # The board drifts, and its idle power during the turn is not quite what it was before: of the few figures
            # whose truth is itself a little uncertain, one in twenty would miss by chance.
            assert holds(energy.net_j, true_j - idle_w * (last_us - start_us) / 1e6, widened=2)
        else:
            assert energy.net_j is None
            assert "no idle baseline" in energy.missing["net_j"].reason


def test_a_sensor_lost_in_the_middle_of_a_turn_leaves_the_session_going_and_says_so(
    start: Callable[..., Run], tmp_path: Path, script: str
) -> None:
    plant(tmp_path / "root", ORIN_NANO)
    run = start(engine_name=script)
    run.load(tmp_path / "any.gguf", EngineSettings())
    run.live.conversation.submit("Go.")
    run.until(lambda: len(run.live.session.turns[0].token_t_us) > 10)
    assert run.live.snapshot().turn is not None
    for file in ("in1_input", "curr1_input"):
        (tmp_path / f"root{HWMON}/{file}").unlink()
    run.until(lambda: any(event.kind == "sensor_lost" for event in run.live.session.events))
    run.until(lambda: run.live.conversation.phase == "ready")
    run.until(lambda: isinstance(run.live.snapshot().power, Unavailable))
    turn = run.live.snapshot().turn
    assert turn is not None
    assert turn.figures.stop_reason == "end_of_generation"
    assert turn.figures.energy is None
    assert turn.figures.energy_missing.startswith("the sensor was lost after ")
    said = run.panes()
    assert "curr1_input" in said or "in1_input" in said
    assert "No energy per token" in said
    assert run.close().exists()


def test_permission_withdrawn_in_the_middle_of_a_turn_leaves_no_figure(
    start: Callable[..., Run], tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "root", ORIN_NANO)
    run = start(engine_name=script)
    run.load(tmp_path / "any.gguf", EngineSettings())
    run.live.conversation.submit("Go.")
    run.until(lambda: len(run.live.session.turns[0].token_t_us) > 10)
    deny(monkeypatch, "curr1_input")
    # What is open stays open; a driver that was loaded anew has new files.
    for file in ("in1_input", "curr1_input"):
        path = tmp_path / f"root{HWMON}/{file}"
        text = path.read_text()
        path.unlink()
        path.write_text(text)
    run.until(lambda: any(event.kind == "sensor_lost" for event in run.live.session.events))
    run.until(lambda: run.live.conversation.phase == "ready")
    run.until(lambda: isinstance(run.live.snapshot().power, Unavailable))
    assert "may not be read" in run.panes()
    turn = run.live.snapshot().turn
    assert turn is not None
    assert turn.figures.energy is None
    run.close()


def test_a_counter_without_permission_tells_the_commands_in_the_pane(
    start: Callable[..., Run], tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone: dict[str, str | int] = {
        f"{ZONE}/name": "package-0",
        f"{ZONE}/max_energy_range_uj": 262143328850,
        f"{ZONE}/energy_uj": 5_000_000,
    }
    plant(tmp_path / "root", {**zone, "/proc/cpuinfo": "vendor_id\t: GenuineIntel"})
    deny(monkeypatch, "energy_uj")
    run = start(engine_name=script)
    run.load(tmp_path / "any.gguf", EngineSettings())
    run.until(lambda: "power.rapl" in run.live.session.absent)
    power = run.live.snapshot().power
    assert isinstance(power, Unavailable)
    assert power.reason.endswith("energy_uj may not be read")
    assert power.hint == PERMISSION_HINT
    said = run.panes().replace(" ", "")
    for command in (
        "sudochmoda+r/sys/class/powercap/intel-rapl*:*/energy_uj",
        "sudotee/etc/tmpfiles.d/edgetop-rapl.conf",
    ):
        assert command in said
    run.end()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("none", "switched off"), ("power.nothing", "no power source called"), ("power.jetson", ""), ("power.VDD_IN", "")],
)
def test_the_source_that_was_chosen_is_the_headline_or_the_reason(
    start: Callable[..., Run], tmp_path: Path, script: str, name: str, expected: str
) -> None:
    plant(tmp_path / "root", ORIN_NANO)
    run = start(engine_name=script, power=PowerChoice(name=name))
    run.load(tmp_path / "any.gguf", EngineSettings())
    run.rest(1.5)
    power = run.live.snapshot().power
    run.end()
    if expected:
        assert isinstance(power, Unavailable)
        assert expected in power.reason
        assert expected in run.panes()
    else:
        assert not isinstance(power, Unavailable)
        assert power.channels == ("power.VDD_IN",)
        assert power.power_w == pytest.approx(5.032, rel=0.01)


CARD: dict[str, str | int] = {
    f"{HWMON}/name": "amdgpu",
    f"{HWMON}/in1_label": "vddgfx",
    f"{HWMON}/power1_average": 60_000_000,
    f"{HWMON}/power1_cap": 100_000_000,
    f"{HWMON}/device/power/control": "auto",
    f"{HWMON}/device/power/runtime_status": "active",
}


@pytest.mark.parametrize("name", ["power.amdgpu", None])
def test_a_card_that_may_sleep_is_read_where_a_person_measures_by_it(
    start: Callable[..., Run], tmp_path: Path, script: str, name: str | None
) -> None:
    plant(tmp_path / "root", CARD)
    run = start(engine_name=script, power=PowerChoice(name=name))
    run.load(tmp_path / "any.gguf", EngineSettings())
    if name is None:
        run.until(lambda: "power.amdgpu" in run.live.session.absent)
        assert "left alone so that it can sleep" in run.live.session.absent["power.amdgpu"].reason
    else:
        run.until(lambda: not isinstance(run.live.snapshot().power, Unavailable))
        power = run.live.snapshot().power
        assert not isinstance(power, Unavailable)
        assert power.power_w == pytest.approx(60.0)
    run.end()

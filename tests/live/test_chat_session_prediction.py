"""Predictions made beside the loading, in a session whose engine plays a script and whose model's header is real."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineInfo, EngineSettings, ModelInfo
from edgetop.core.errors import ModelError
from edgetop.core.records import ModelLoaded, Prediction, machine_key
from edgetop.fit.learning import TimingSample
from edgetop.fit.machine_profile import MachineProfile, load_profile, save_profile
from edgetop.fit.model_facts import ModelFacts, read_facts
from edgetop.inference.scripted import Script
from edgetop.live import this_machine
from edgetop.live.chat_session import BackgroundPrediction, LiveOptions, LiveSession
from edgetop.live.this_machine import learn_from
from edgetop.session.file_io import load, load_file, save
from edgetop.session.store import Store
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host
from tests.support.eventually import eventually
from tests.support.gguf_files import write_model
from tests.support.recorded_sessions import HEAD, MS, PREDICTED, PREDICTION, fold, turn


class Later(Executor):
    """Carries out nothing until it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, function: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run_slash_command() -> None:
            try:
                future.set_result(function(*given, **named))
            except Exception as error:  # noqa: BLE001 - as an executor does
                future.set_exception(error)

        self.waiting.append(run_slash_command)
        return future

    def go_on(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def loaded(path: Path, n_ctx: int = 4096) -> ModelLoaded:
    return ModelLoaded(
        t_us=1, load_s=0.5, model=ModelInfo(path=str(path), name="Tiny"), engine=EngineInfo(name="llama.cpp"),
        settings=EngineSettings(n_ctx=n_ctx, n_threads=2),
    )  # fmt: skip


def foreseen(load: ModelLoaded, facts: ModelFacts) -> Prediction:
    return replace(PREDICTION, bytes_per_token=facts.weight_bytes_per_token, depth_tokens=load.settings.n_ctx or 0)


def test_the_header_is_read_while_the_model_loads_and_nothing_waits_for_it(tmp_path: Path) -> None:
    path, later = write_model(tmp_path / "tiny.gguf"), Later()
    forecast = BackgroundPrediction(later, foreseen, clock=lambda: 77)
    forecast.begin(path)
    assert len(later.waiting) == 1
    forecast.loaded(loaded(path))
    assert forecast.poll() is None
    later.go_on()
    predicted = forecast.poll()
    assert predicted is not None
    assert predicted.t_us == 77
    assert predicted.prediction.bytes_per_token == read_facts(path).weight_bytes_per_token
    assert predicted.prediction.depth_tokens == 4096
    assert forecast.poll() is None


def test_the_prediction_is_of_the_model_that_was_loaded_last(tmp_path: Path) -> None:
    small, other = write_model(tmp_path / "small.gguf"), write_model(tmp_path / "other.gguf", "gemma2")
    later = Later()
    forecast = BackgroundPrediction(later, foreseen)
    for path in (small, other):
        forecast.begin(path)
        forecast.loaded(loaded(path))
    later.go_on()
    predicted = forecast.poll()
    assert predicted is not None
    assert predicted.prediction.bytes_per_token == read_facts(other).weight_bytes_per_token
    assert forecast.facts == read_facts(other)


@pytest.mark.parametrize("error", [ModelError("no"), OSError("gone"), ValueError("odd"), ZeroDivisionError()])
def test_a_model_that_cannot_be_predicted_is_chatted_with_all_the_same(tmp_path: Path, error: Exception) -> None:
    def fails(_load: ModelLoaded, _facts: ModelFacts) -> Prediction:
        raise error

    with ThreadPoolExecutor(max_workers=1) as pool:
        missing = BackgroundPrediction(pool, foreseen)
        missing.begin(tmp_path / "absent.gguf")
        missing.loaded(loaded(tmp_path / "absent.gguf"))
        failing = BackgroundPrediction(pool, fails)
        failing.loaded(loaded(write_model(tmp_path / "tiny.gguf")))
    assert missing.poll() is None
    assert missing.facts is None
    assert failing.poll() is None


def test_this_machine_s_profile_and_nothing_measured_now_make_the_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(this_machine, "measure_machine", None)  # would raise
    host = Host(sysroot=tmp_path / "root")
    sessions = tmp_path / "data/sessions"
    facts = read_facts(write_model(tmp_path / "tiny.gguf"))
    before = this_machine.predict_load(loaded(tmp_path), facts, host, sessions)
    assert before.bandwidth_bytes_per_s == pytest.approx(15e9)  # of any machine
    save_profile(this_machine.profile_file(sessions), profile_of(host, 5e9))
    after = this_machine.predict_load(loaded(tmp_path), facts, host, sessions)
    assert after.bandwidth_bytes_per_s == pytest.approx(5e9)
    assert after.memory_bytes is not None
    assert after.bytes_per_position == after.memory_bytes * 0 + before.bytes_per_position > 0


def test_the_calibration_learns_from_a_session_that_nothing_disturbed(tmp_path: Path) -> None:
    host, sessions = Host(sysroot=tmp_path / "root"), tmp_path / "sessions"
    file = this_machine.profile_file(sessions)
    facts = read_facts(write_model(tmp_path / "tiny.gguf"))
    path = sessions / "one.json"
    save(path, fold([*HEAD, PREDICTED, *turn(gaps_us=(100 * MS,) * 40)]))
    assert not learn_from(path, facts, host, sessions)  # nobody has measured the machine yet
    save_profile(file, profile_of(host, 5e9))
    assert learn_from(path, facts, host, sessions)
    profile = load_profile(file, machine_key(describe(host)))
    assert isinstance(profile, MachineProfile)
    run = profile.runs[0]
    assert isinstance(run, TimingSample)
    assert run.threads == 2
    assert run.measured_s == pytest.approx(0.1)
    save(path, fold([*HEAD, *turn(gaps_us=(100 * MS,) * 40)]))
    assert not learn_from(path, facts, host, sessions)  # nothing was predicted
    assert not learn_from(tmp_path / "absent.json", facts, host, sessions)


def profile_of(host: Host, bandwidth_bytes_per_s: float) -> MachineProfile:
    return MachineProfile(
        key=machine_key(describe(host)),
        measured_at="2026-10-12T14:00:00+00:00",
        bandwidth_bytes_per_s={1: bandwidth_bytes_per_s, 2: bandwidth_bytes_per_s},
        digits_per_s=1e9,
    )


def test_a_session_keeps_what_was_expected_of_its_model(
    tmp_path: Path, script_file: Callable[[Script], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.live.chat_session.lower_priority", lambda: None)
    sysroot, sessions = tmp_path / "root", tmp_path / "data/sessions"
    sysroot.mkdir()
    save_profile(this_machine.profile_file(sessions), profile_of(Host(sysroot=sysroot), 5e9))
    options = LiveOptions(sysroot=sysroot, engine_name=script_file(Script(tokens_per_s=400.0)))
    live = LiveSession(options, Store(sessions), lambda _said: None)
    try:
        live.conversation.load(write_model(tmp_path / "tiny.gguf"), EngineSettings(n_threads=2))

        def predicted() -> bool:
            live.pump(wait_s=0.02)
            return bool(live.session.predictions) and live.conversation.phase == "ready"

        eventually(predicted, "the prediction is recorded")
        live.conversation.submit("Go on.")
        eventually(predicted, "it has answered")
        said: list[str] = []

        def advised() -> list[str]:
            live.pump(wait_s=0.02)
            return said

        live.advise(said.append)
        eventually(advised, "what to change is said")
        assert "proved by: edgetop bench -m" in said[0] or "no change is known" in said[0].lower()
    finally:
        path = live.close()
    assert path is not None
    file = load_file(path)
    assert len(file.predictions) == 1
    assert file.predictions[0].t_us >= file.loads[0].t_us
    assert file.predictions[0].prediction.bandwidth_bytes_per_s == pytest.approx(5e9)
    assert file.summary.bandwidth_use is not None
    assert load(path).predictions[0].prediction == file.predictions[0].prediction

"""`edgetop tune`, and where its defaults stand."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from edgetop.bench import runner
from tests.commands.machine import JETSON, Machine
from tests.support.fake_sysfs import flickering

QUICK = ("-r", "2", "--test", "0.1")


@pytest.fixture
def machine(machine: Machine) -> Machine:
    machine.script(tokens_per_s=2000)
    machine.plant({"/proc/cpuinfo": "processor\t: 0\nprocessor\t: 1\n"})
    return machine


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"a model")
    return path


def settings_used(machine: Machine, model: Path, *flags: str) -> dict[str, object]:
    ran = machine.run("run", "-m", str(model), "-p", "Hi.", "--json", "-q", "--power", "none", *flags)
    assert ran.code == 0, ran.stderr
    used: dict[str, object] = ran.json()["settings"]
    return used


def test_what_was_found_is_told_saved_and_used(machine: Machine, model: Path) -> None:
    before = settings_used(machine, model)
    assert (before["type_k"], before["n_ubatch"]) == ("f16", 512)
    tuned = machine.run("tune", str(model), *QUICK, "--json", "--power", "none")
    assert tuned.code == 0, tuned.stderr
    rows = tuned.json()
    assert {row["question"] for row in rows} >= {"threads", "prefill threads", "ubatch", "kv cache"}
    chosen = {row["question"]: row["setting"] for row in rows if row["chosen"]}
    assert chosen["kv cache"] == "q8_0", "to a script all are alike, and this one takes less memory"
    assert all(row["cost"] > 0 and row["cost_unit"] == "s/token" for row in rows)
    after = settings_used(machine, model)
    assert after["type_k"] == after["type_v"] == "q8_0"
    assert str(after["n_ubatch"]) == chosen["ubatch"]
    assert str(after["n_threads"]) == chosen["threads"]
    assert settings_used(machine, model, "--kv-type", "f16")["type_k"] == "f16", "what a person says wins"
    said = machine.run("run", "-m", str(model), "-p", "Hi.", "-v", "--power", "none")
    assert "tuned for speed" in said.stderr
    benched = machine.run("bench", "-m", str(model), "-p", "32", "-n", "4", "-r", "1", "--power", "none", "-o", "json")
    assert {row["type_k"] for row in benched.json()} == {"f16"}, "a benchmark measures what its plan says"
    assert "tuned for speed" in machine.run("tune", "--show").stdout
    assert [each["kv_type"] for each in machine.run("tune", "--show", "--json").json()] == ["q8_0"]


def test_environment_and_configuration_win_over_what_was_tuned(
    machine: Machine, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.run("tune", str(model), *QUICK, "--power", "none").code == 0
    monkeypatch.setenv("EDGETOP_KV_TYPE", "f16")
    assert settings_used(machine, model)["type_k"] == "f16"
    monkeypatch.delenv("EDGETOP_KV_TYPE")
    config = Path(machine.environment["XDG_CONFIG_HOME"]) / "edgetop" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[engine]\nkv_type = "f16"\n')
    assert settings_used(machine, model)["type_k"] == "f16"
    config.unlink()
    assert settings_used(machine, model)["type_k"] == "q8_0"


def test_removing_gives_the_usual_settings_back(machine: Machine, model: Path) -> None:
    assert machine.run("tune", str(model), *QUICK, "--power", "none").code == 0
    removed = machine.run("tune", str(model), "--remove")
    assert (removed.code, removed.stdout) == (0, "")
    assert settings_used(machine, model)["type_k"] == "f16"
    assert "was not tuned" in machine.run("tune", str(model), "--remove").stderr
    assert "no model was tuned" in machine.run("tune", "--show").stderr


def test_a_dry_run_tells_and_saves_nothing(machine: Machine, model: Path) -> None:
    ran = machine.run("tune", str(model), *QUICK, "--dry-run", "--power", "none")
    assert ran.code == 0
    assert "chosen" in ran.stdout
    assert "not saved" in ran.stderr
    assert settings_used(machine, model)["type_k"] == "f16"


def test_for_energy_without_a_sensor_it_says_what_would_give_one(machine: Machine, model: Path) -> None:
    ran = machine.run("tune", str(model), "--for", "energy")
    assert (ran.code, ran.stdout) == (1, "")
    told = ran.stderr.splitlines()
    assert len(told) == 2
    assert told[0].startswith("edgetop: no energy can be measured here: ")
    assert told[1].strip()
    off = machine.run("tune", str(model), "--for", "energy", "--power", "none")
    assert "switched off" in off.stderr


def test_for_energy_a_board_with_a_sensor_is_measured(machine: Machine, model: Path) -> None:
    machine.plant(JETSON)
    machine.script(tokens_per_s=100, prefill_tokens_per_s=100)
    from edgetop.bench.plan import CoolDown  # noqa: PLC0415 - put in the place of ten seconds of rest
    from edgetop.commands import tune  # noqa: PLC0415 - the same

    with pytest.MonkeyPatch.context() as patch, flickering(machine.root):
        patch.setattr(tune, "thread_counts", lambda _physical, _logical: (1,))
        patch.setitem(tune.COOL_DOWN, "energy", CoolDown(idle_s=0, limit_s=0))
        ran = machine.run("tune", str(model), "--for", "energy", "-r", "2", "--test", "0.5", "--json")
    assert ran.code == 0, ran.stderr
    assert {row["cost_unit"] for row in ran.json()} == {"J/token"}
    assert "tuned for energy" in machine.run("tune", "--show").stdout


def interrupt_at(monkeypatch: pytest.MonkeyPatch, test: str, time: int) -> None:
    """Press Ctrl+C when a test whose name begins so is begun for that time."""
    say, begun = runner.Measurement._report, 0

    def report(self: runner.Measurement, what: str) -> None:
        nonlocal begun
        say(self, what)
        begun += what.startswith(test)
        if what.startswith(test) and begun == time:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(runner.Measurement, "_report", report)


def test_an_interruption_before_the_first_answer_saves_nothing(
    machine: Machine, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, "tg", 1)
    ran = machine.run("tune", str(model), *QUICK, "--power", "none")
    assert (ran.code, ran.stdout) == (130, "")
    assert "nothing was saved" in ran.stderr


def test_an_interruption_keeps_what_was_answered_but_not_in_place_of_more(
    machine: Machine, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # The first is a part of the first look, the second of the second question.
        interrupt_at(patch, "pp", 2)
        ran = machine.run("tune", str(model), *QUICK, "--power", "none", "--json")
    assert ran.code == 130
    assert {row["question"] for row in ran.json()} == {"threads"}
    assert "interrupted after 1 of 5 questions; saved in " in ran.stderr
    (threads,) = (row["setting"] for row in ran.json() if row["chosen"])
    used = settings_used(machine, model)
    assert (str(used["n_threads"]), used["type_k"]) == (threads, "f16")
    assert machine.run("tune", str(model), *QUICK, "--power", "none").code == 0
    assert settings_used(machine, model)["type_k"] == "q8_0"
    with monkeypatch.context() as patch:
        interrupt_at(patch, "pp", 2)
        ran = machine.run("tune", str(model), *QUICK, "--power", "none", "--json")
    assert "interrupted after 1 of 5 questions; the settings that were found earlier stay" in ran.stderr
    assert settings_used(machine, model)["type_k"] == "q8_0"


def test_its_progress_names_the_question_and_how_long_the_rest_takes(
    machine: Machine, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("edgetop.commands.tune.show_progress", shown.append)
    assert machine.run("tune", str(model), *QUICK, "--power", "none").code == 0
    assert shown[0].startswith("a first look  ")
    found = [re.match(r"question (\d) of 5, ([a-z ]+)(, \d+ s left)?  ", text) for text in shown]
    asked = [(each[1], each[2], bool(each[3])) for each in found if each is not None]
    assert list(dict.fromkeys((number, name) for number, name, _ in asked)) == [
        ("1", "threads"), ("2", "prefill threads"), ("3", "ubatch"), ("4", "flash attention"), ("5", "kv cache"),
    ]  # fmt: skip
    assert all(has_time for number, _, has_time in asked if number != "1")


def test_a_model_that_cannot_be_loaded_is_told_in_two_lines(machine: Machine, model: Path) -> None:
    machine.script(load_fails={"reason": "not_a_model", "message": "It is a picture.", "hint": "Take a model."})
    ran = machine.run("tune", str(model), *QUICK, "--power", "none", "-q")
    assert ran.code == 1
    assert "It is a picture." in ran.stderr


def test_defaults_that_cannot_be_read_are_told_and_the_chat_goes_on(machine: Machine, model: Path) -> None:
    file = Path(machine.environment["EDGETOP_DATA_DIR"]) / "tuned.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{")
    ran = machine.run("run", "-m", str(model), "-p", "Hi.", "--power", "none")
    assert ran.code == 0
    assert "tuned.json cannot be used" in ran.stderr
    found = machine.run("doctor")
    assert "tuned.json cannot be used" in found.stdout

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetop.session.file_io import encode_file, load_file
from tests.commands.machine import Machine
from tests.support.recorded_power import with_energy


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "session.json"
    path.write_bytes(b"".join(encode_file(with_energy())))
    return path


def tamper(path: Path) -> None:
    document = json.loads(path.read_text())
    document["summary"]["energy"]["gross_j"]["value"] = 1.0
    document["summary"]["of_a_newer_edgetop"] = "kept"
    path.write_text(json.dumps(document))


def test_nothing_changed_is_said_and_the_file_is_not_touched(machine: Machine, session: Path) -> None:
    before = session.stat().st_mtime_ns
    ran = machine.run("sessions", "recompute", str(session))
    assert (ran.code, ran.stdout) == (0, "")
    assert "nothing changed" in ran.stderr
    assert session.stat().st_mtime_ns == before


def test_a_figure_that_was_tampered_with_is_told_and_corrected(machine: Machine, session: Path) -> None:
    tamper(session)
    ran = machine.run("sessions", "recompute", str(session))
    energy = with_energy().summary.energy
    assert energy is not None
    (line,) = ran.stdout.splitlines()
    assert line.startswith("summary.energy.gross_j: 1.00000 (")
    assert f" -> {energy.gross_j.value:.6g} (" in line
    assert load_file(session) == with_energy()
    assert json.loads(session.read_text())["summary"]["of_a_newer_edgetop"] == "kept"


def test_a_dry_run_tells_and_writes_nothing(machine: Machine, session: Path) -> None:
    tamper(session)
    before = session.read_bytes()
    ran = machine.run("sessions", "recompute", str(session), "--dry-run", "--json")
    assert [change["place"] for change in ran.json()["changes"]] == ["summary.energy.gross_j"]
    assert ran.json()["written"] is False
    assert session.read_bytes() == before


def test_another_headline_source_can_be_chosen(machine: Machine, session: Path) -> None:
    ran = machine.run("sessions", "recompute", str(session), "--power", "power.rail")
    assert "power: auto -> power.rail" in ran.stdout
    assert load_file(session).power == "power.rail"
    refused = machine.run("sessions", "recompute", str(session), "--power", "power.nope")
    assert (refused.code, refused.stdout) == (1, "")
    assert "choose one of" in refused.stderr


def test_figures_that_differ_in_the_last_digit_are_told_in_full(machine: Machine, session: Path) -> None:
    document = json.loads(session.read_text())
    rate = document["summary"]["decode_tokens_per_s"]
    document["summary"]["decode_tokens_per_s"] = rate * (1 + 1e-12)
    session.write_text(json.dumps(document))
    (line,) = machine.run("sessions", "recompute", str(session), "--dry-run").stdout.splitlines()
    old, new = line.removeprefix("summary.decode_tokens_per_s: ").split(" -> ")
    assert float(new) == rate != float(old)


def test_a_file_that_is_no_session_is_two_lines_at_most(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_text('{"format": "edgetop-session"')
    ran = machine.run("sessions", "recompute", str(tmp_path / "torn.json"))
    assert (ran.code, ran.stdout) == (1, "")
    assert len(ran.stderr.splitlines()) <= 2

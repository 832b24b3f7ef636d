"""A meter's log joined to a session afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop import cli
from edgetop.io.files import write_atomically
from edgetop.session.attached_power import NotAlignedError, align, session_of
from edgetop.session.file import to_file
from edgetop.session.file_io import encode_file, load_file
from edgetop.session.meter_log import read_log
from tests.support.attached_logs import BoardSession, record, write_log

SHIFT_S = 3.217


@pytest.mark.parametrize("hz", [1, 10, 1000])
@pytest.mark.parametrize("seed", [3, 4])
def test_the_offset_lies_within_what_is_told(tmp_path: Path, hz: float, seed: int) -> None:
    board = record(seed)
    write_log(tmp_path / "log.csv", board, hz, SHIFT_S, seed)
    found = align(read_log(tmp_path / "log.csv"), board.session)
    assert abs(found.offset_s + SHIFT_S) <= found.u_s
    assert found.u_s < max(0.1, 0.5 / hz)


def test_a_load_that_repeats_is_refused_and_a_pulse_tells_the_place(tmp_path: Path) -> None:
    def cut(board: BoardSession, begin_us: int) -> BoardSession:
        """With a log that began and ended among turns that are all alike."""
        return board._replace(begin_us=begin_us, end_us=begin_us + 50_000_000)

    path = tmp_path / "log.csv"
    periodic = record(1, turns=16, period_s=6.0)
    write_log(path, cut(periodic, 24_000_000), 10, SHIFT_S, 1)
    with pytest.raises(NotAlignedError) as refused:
        align(read_log(path), periodic.session)
    assert refused.value.hint
    pulsed = record(1, turns=8, period_s=6.0, pulse=True)
    write_log(path, pulsed, 10, SHIFT_S, 1)
    found = align(read_log(path), pulsed.session)
    assert abs(found.offset_s + SHIFT_S) <= found.u_s


def test_a_log_of_something_else_is_refused(tmp_path: Path) -> None:
    write_log(tmp_path / "log.csv", record(5), 10, SHIFT_S, 5)
    with pytest.raises(NotAlignedError):
        align(read_log(tmp_path / "log.csv"), record(9).session)


def test_attach_power_gives_the_session_its_energy_and_keeps_the_original(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = record(3)
    path, log = tmp_path / "s.json", tmp_path / "log.csv"
    write_atomically(path, encode_file(to_file(board.session)))
    before = path.read_bytes()
    write_log(log, board, 10, SHIFT_S, 3)
    odd = tmp_path / "odd.json"
    write_atomically(odd, encode_file(replace(to_file(board.session), started_at="some day")))
    assert cli.main(["sessions", "attach-power", str(log), str(odd)]) == 0
    capsys.readouterr()
    assert (
        cli.main(["sessions", "attach-power", str(log), str(path), "--meter-gain", "1", "--scope", "wall", "--json"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert abs(told["offset_s"] + SHIFT_S) <= told["u_s"]
    assert Path(told["original"]).read_bytes() == before
    file = load_file(path)
    energy = file.summary.energy
    assert energy is not None
    assert (energy.scope, energy.source) == ("wall", "power.attached")
    for turn, entry in zip(board.session.turns, file.turns, strict=True):
        found = entry.figures.energy
        assert found is not None
        begin_us = board.session.start_us + turn.started.t_us
        last_us = board.session.start_us + turn.token_t_us[-1]
        assert found.gross_j.low <= board.truth.energy_j(begin_us, last_us) <= found.gross_j.high
    assert any(event.kind == "power_attached" for event in file.events)
    assert cli.main(["sessions", "validate", str(path)]) == 0
    assert cli.main(["sessions", "show", str(path)]) == 0
    assert "power.attached" in capsys.readouterr().out
    # Once more: the log replaces itself, and the original stays what it was.
    assert cli.main(["sessions", "attach-power", str(log), str(path)]) == 0
    again = load_file(path)
    assert [entry.source.name for entry in again.series].count("power.attached") == 1
    assert Path(told["original"]).read_bytes() == before
    assert session_of(again).end_us == board.session.end_us

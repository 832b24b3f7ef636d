from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from edgetop.session.file_io import encode_file, load_head
from edgetop.session.journal import RecoveredJournal
from tests.commands.machine import Machine
from tests.support.recorded_power import with_energy

BOARDS = ("Raspberry Pi 5", "Jetson Orin Nano", "\x1b[2J=evil|")


@pytest.fixture
def folder(machine: Machine) -> Path:
    """The store, with three sessions of three boards; number 1 has the tag `base`, 3 is hostile."""
    folder = Path(machine.environment["EDGETOP_DATA_DIR"]) / "sessions"
    folder.mkdir(parents=True)
    for index, board in enumerate(BOARDS):
        file = with_energy()
        file = replace(
            file,
            id=f"{index}abc",
            tags=("base",) if index == 0 else (),
            device=replace(file.device, model=board),
            turns=(replace(file.turns[0], prompt='=HYPERLINK("x")\x1b[2J'), *file.turns[1:]),
        )
        (folder / f"2026010{3 - index}-080000-tiny-{index}abc.json").write_bytes(b"".join(encode_file(file)))
    return folder


def document(path: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads(path.read_text())
    return read


def test_the_list_has_device_model_figures_with_intervals_and_tags(machine: Machine, folder: Path) -> None:
    heading, first, second, third = machine.run("sessions").stdout.splitlines()
    assert heading.split() == [
        "#",
        "STARTED",
        "DEVICE",
        "TITLE",
        "MODEL",
        "QUANT",
        "TOK/S",
        "J/TOKEN",
        "LENGTH",
        "TAGS",
    ]
    assert " ".join(first.split()).startswith(
        '1 2026-10-12 14:03 UTC Raspberry Pi 5 =HYPERLINK("x")␛[2J Tiny Instruct Q4_0 10.0 0.96'
    )
    assert " ± " in first
    assert first.endswith("base")
    assert "Jetson Orin Nano" in second
    assert "␛[2J=evil|" in third
    (row, *_) = machine.run("sessions", "list", "--json").json()
    assert row["tags"] == ["base"]
    assert row["j_per_token_low"] < row["j_per_token"] < row["j_per_token_high"]
    assert row["quantization"] == "Q4_0"


def test_the_list_can_be_narrowed_to_words(machine: Machine, folder: Path) -> None:
    numbers = [row["number"] for row in machine.run("sessions", "list", "q4", "jetson", "--json").json()]
    assert numbers == [2]
    ran = machine.run("sessions", "list", "q8")
    assert (ran.code, ran.stdout) == (0, "")
    assert "none of 3 sessions has q8" in ran.stderr


def test_hostile_text_stays_in_its_cell_in_every_form(machine: Machine, folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(machine.run("sessions", "list", "--csv").stdout)))
    assert rows[2]["device"] == "␛[2J=evil|"
    assert (rows[0]["tags"], rows[1]["tags"]) == ("base", "")
    lines = machine.run("sessions", "list", "--md").stdout.splitlines()
    assert r"␛\[2J=evil\|" in lines[-1]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_tags_and_notes_are_written_and_all_else_is_kept(machine: Machine, folder: Path) -> None:
    path = next(folder.glob("*0abc.json"))
    path.write_text(json.dumps({**document(path), "of_a_newer_edgetop": {"a": [1]}}))
    before = document(path)
    assert machine.run("sessions", "tag", "1", "+fan", "-base", "cold").stdout == "fan cold\n"
    machine.run("sessions", "note", "1", "third", "-q", "run,", "with -v")
    assert document(path) == {**before, "tags": ["fan", "cold"], "notes": "third -q run, with -v"}
    assert machine.run("sessions", "note", "1").stdout == "third -q run, with -v\n"
    assert machine.run("sessions", "tag", "1").stdout == "fan cold\n"
    machine.run("sessions", "note", "1", "")
    assert "has no note" in machine.run("sessions", "note", "1").stderr
    assert len(machine.run("sessions", "tag", "1-3", "+all").stdout.splitlines()) == 3
    assert {"all"} <= set(load_head(path).tags)
    told = machine.run("sessions", "tag", "--json", "2").json()
    assert told[0]["tags"] == ["all"]


def test_a_wrong_tag_is_a_wrong_usage_and_changes_nothing(machine: Machine, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    ran = machine.run("sessions", "tag", "1", "+ok", "-nothing")
    assert (ran.code, ran.stdout) == (2, "")
    assert "there is no tag 'nothing'; there are: base, ok" in ran.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_export_writes_tables_that_a_spreadsheet_can_open(
    machine: Machine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = machine.run("sessions", "export", "1")
    stem = next(folder.glob("*0abc.json")).stem
    assert ran.stdout.splitlines() == [f"{stem}/{name}.csv" for name in ("turns", "samples", "tokens")]
    rows = list(csv.DictReader(io.StringIO((tmp_path / stem / "turns.csv").read_text())))
    assert rows[0]["prompt"] == '\'=HYPERLINK("x")␛[2J'
    assert machine.run("sessions", "export", "1", "--to", "parquet", "-o", "out").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "samples.parquet",
        "tokens.parquet",
        "turns.parquet",
    ]


def test_an_export_as_json_is_the_whole_session_and_never_takes_its_place(
    machine: Machine, folder: Path, tmp_path: Path
) -> None:
    path = next(folder.glob("*0abc.json"))
    target = tmp_path / "copy.json"
    assert machine.run("sessions", "export", "1", "--to", "json", "-o", str(target)).stdout == f"{target}\n"
    assert document(target) == document(path)
    before = path.read_bytes()
    ran = machine.run("sessions", "export", "1", "--to", "json", "-o", str(path))
    assert ran.code == 1
    assert "is the session itself" in ran.stderr
    assert path.read_bytes() == before


def test_an_export_that_cannot_be_is_told_in_two_lines(
    machine: Machine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for arguments, told in (
        (["--to", "parquet", "-o", str(tmp_path / "out")], "pip install"),
        (["-o", "/dev/null/x"], "choose another place with -o"),
    ):
        ran = machine.run("sessions", "export", "1", *arguments)
        assert (ran.code, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 2)
        assert told in ran.stderr
    assert not (tmp_path / "out").exists()


class _Answer(io.StringIO):
    """Standard input of a person who sits before a terminal."""

    def isatty(self) -> bool:
        return True


def test_nothing_is_deleted_without_a_yes(machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unasked = machine.run("sessions", "rm", "1")
    assert (unasked.code, unasked.stdout) == (2, "")
    assert "--yes" in unasked.stderr
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for answer in ("n\n", "\n", ""):
        monkeypatch.setattr("sys.stdin", _Answer(answer))
        ran = machine.run("sessions", "rm", "1..2")
        assert (ran.code, ran.stdout) == (1, "")
        assert "Delete these 2 sessions for good? [y/N]" in ran.stderr
    assert len(list(folder.iterdir())) == 3


def test_what_is_deleted_is_told(machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = sorted(folder.iterdir(), reverse=True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", _Answer("y\n"))
    ran = machine.run("sessions", "rm", "2")
    assert (ran.code, ran.stdout) == (0, f"{second}\n")
    assert machine.run("sessions", "rm", "--yes", "1", "2").stdout == f"{first}\n{third}\n"
    assert list(folder.iterdir()) == []


def test_the_journal_of_a_running_session_is_never_deleted(machine: Machine, folder: Path) -> None:
    journal = folder / "20260105-080000-tiny-9abc.journal"
    journal.write_text("")
    ran = machine.run("sessions", "rm", "--yes", str(journal), "1")
    assert ran.code == 1
    assert str(journal) in ran.stderr
    assert journal.exists()
    assert len(list(folder.glob("*.json"))) == 2


def test_totals_by_model_have_cost_in_every_form(machine: Machine, folder: Path) -> None:
    (row,) = machine.run("sessions", "totals", "--by", "model,month", "--price", "0.3", "--json").json()
    assert row["sessions"] == 3
    assert row["model"] == "Tiny Instruct Q4_0"
    assert row["energy_j_low"] < row["energy_j"] < row["energy_j_high"]
    assert row["cost"] == pytest.approx(0.3 * row["kwh"])
    assert row["energy_j"] == pytest.approx(3.6e6 * row["kwh"])
    lines = machine.run("sessions", "totals", "--by", "host").stdout.splitlines()
    assert len(lines) == 2
    assert len(list(csv.reader(io.StringIO(machine.run("sessions", "totals", "--csv").stdout)))) == 2


def test_a_group_that_is_none_is_a_wrong_usage(machine: Machine, folder: Path) -> None:
    ran = machine.run("sessions", "totals", "--by", "modle")
    assert ran.code == 2
    assert "model, month, host, scope" in ran.stderr


def test_a_file_that_cannot_be_read_is_not_passed_over_in_silence(machine: Machine, folder: Path) -> None:
    (folder / "20260109-080000-broken.json").write_text("{")
    ran = machine.run("sessions", "totals", "--json")
    assert ran.json()[0]["sessions"] == 3
    assert "1 files cannot be read" in ran.stderr


def test_an_interrupted_recovery_prints_what_is_saved_and_says_how_to_go_on(
    machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        (folder / f"{number}.journal").write_bytes(b"")
    saved = RecoveredJournal(journal=folder / "0.journal", path=folder / "0.json")
    monkeypatch.setattr("edgetop.session.store.recover_journal", Mock(side_effect=[saved, KeyboardInterrupt]))
    ran = machine.run("sessions", "recover")
    assert (ran.code, ran.stdout) == (130, f"{folder / '0.json'}\n")
    assert "`edgetop sessions recover` goes on" in ran.stderr

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.quantity import Interval, plus_minus
from edgetop.core.text import one_line
from edgetop.session.file_io import encode_file
from edgetop.session.listing import COLUMNS, ROWS_NAME, SHOWN, SessionEntry, energy_cell, entry_of, shown_rows
from edgetop.session.store import CACHE_NAME, ListedSession, Store, write_labels
from tests.support.recorded_power import with_energy


def entry(*, tags: tuple[str, ...] = ("baseline", "fan off"), board: str = "Raspberry Pi 5") -> SessionEntry:
    file = with_energy()
    head = replace(file, tags=tags, device=replace(file.device, model=board))
    return entry_of(ListedSession(number=3, path=Path("x.json"), head=head))


def test_a_session_is_told_by_device_model_figures_length_and_tags() -> None:
    told = {column.heading: column.text(entry()) for column in COLUMNS if column.is_shown}
    energy = with_energy().summary.energy
    assert energy is not None
    assert energy.j_per_token is not None
    assert told == {
        "#": "3",
        "STARTED": "2026-10-12 14:03 UTC",
        "DEVICE": "Raspberry Pi 5",
        "TITLE": "",
        "MODEL": "Tiny Instruct",
        "QUANT": "Q4_0",
        "TOK/S": "10.0",
        "J/TOKEN": f"{plus_minus(energy.j_per_token)} {energy.grade}",
        "LENGTH": "41 s",
        "TAGS": "baseline fan off",
    }
    assert energy_cell(entry()) == told["J/TOKEN"]


def test_a_board_without_a_name_is_told_by_its_host() -> None:
    assert entry(board="").device == "pi"


def test_a_figure_stands_with_half_its_interval() -> None:
    assert plus_minus(Interval(value=0.72, low=0.67, high=0.77, u_systematic=0.0, u_random=0.025)) == "0.720 ± 0.050"
    assert plus_minus(None) == "n/a"


def test_a_file_that_cannot_be_read_is_told_by_its_name() -> None:
    torn = entry_of(ListedSession(number=1, path=Path("torn.json"), head=None, problem="torn.json: byte 2: truncated"))
    assert torn.started == "torn.json"
    assert [column.rank and column.rank(torn) for column in COLUMNS if column.heading in {"TOK/S", "J/TOKEN"}] == [
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("words", "matches"),
    [
        ([], True),
        (["q4"], True),
        (["TINY", "raspberry"], True),
        (["off"], True),
        (["tiny", "q8"], False),
        (["2026"], False),
    ],
)
def test_all_words_have_to_be_in_device_model_quantization_or_tags(words: list[str], matches: bool) -> None:
    assert entry().matches(words) is matches


def test_rows_say_what_the_columns_say_whatever_is_kept_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.session.store.FEW_READ", 2)
    monkeypatch.setattr("edgetop.session.store.UNSETTLED_NS", -(10**18))
    store, file = Store(tmp_path), with_energy()
    for number in range(5):
        path = tmp_path / f"2026101{number}-140322-tiny-{number}.json"
        path.write_bytes(b"".join(encode_file(replace(file, id=f"{number}bcd", tags=(f"t{number}", "a  b\x1b")))))
    (tmp_path / "20260101-torn.json").write_bytes(b"{")

    def columns(*words: str) -> list[tuple[str, ...]]:
        entries = [entry for each in store.list() if (entry := entry_of(each)).matches(words)]
        return [tuple(one_line(column.text(entry)) for column in SHOWN) for entry in entries]

    for _ in range(2):
        assert shown_rows(store, ()) == (columns(), 6)
        assert shown_rows(store, ("T3", "tiny")) == (columns("T3", "tiny"), 6)
    assert (tmp_path / ROWS_NAME).is_file()
    write_labels(path, tags=("other",))
    (tmp_path / CACHE_NAME).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "list", lambda _store: pytest.fail("all were read"))
        rows, _ = shown_rows(store, ())
    assert rows == columns()
    assert rows[0][-1] == "other"

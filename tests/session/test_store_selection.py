from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.session.file_io import load_head
from edgetop.session.store import LabelError, Store, StoreError, changed_tags, write_labels
from tests.support.recorded_sessions import LOADED, STARTED, fold, turn


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Five sessions; number 1 is of May, and 2 and 4 have the tag `fan`."""
    store = Store(tmp_path / "sessions")
    for month in range(1, 6):
        started_at = f"2026-0{month}-01T08:00:00+00:00"
        head = replace(STARTED, session_id=f"{month}{month}bbccddee01", started_at=started_at)
        loaded = replace(LOADED, model=replace(LOADED.model, name="Tiny" if month == 3 else "Llama"))
        store.finish(fold([head, loaded, *turn()]), store.new_journal(head.session_id, started_at, "m"))
    for path in (store.find("2"), store.find("4")):
        write_labels(path, tags=("fan",))
    return store


def numbers(store: Store, *texts: str) -> list[int]:
    by_path = {each.path: each.number for each in store.list()}
    return [by_path[path] for path in store.find_all(texts)]


@pytest.mark.parametrize(
    ("texts", "meant"),
    [
        (["3"], [3]),
        (["2..4"], [2, 3, 4]),
        (["2-4"], [2, 3, 4]),
        (["4..2"], [4, 3, 2]),
        (["5", "1-3", "2"], [5, 1, 2, 3]),
        (["fan"], [2, 4]),
        (["tiny"], [3]),
        (["33b"], [3]),
        (["33b..5"], [3, 4, 5]),
        (["*-33*"], [3]),
        (["202604*.json", "tiny"], [2, 3]),
        ([], []),
    ],
)
def test_words_mean_one_or_several_sessions_each_once(store: Store, texts: list[str], meant: list[int]) -> None:
    assert numbers(store, *texts) == meant


def test_a_folder_and_a_pattern_of_paths_mean_the_files_in_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sorted(numbers(store, str(store.folder))) == [1, 2, 3, 4, 5]
    assert sorted(numbers(store, f"{store.folder}/*0[45]01*")) == [1, 2]
    monkeypatch.chdir(store.folder)
    assert [path.name for path in store.find_all(["."])] == sorted(each.path.name for each in store.list())
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="has no session files"):
        store.find_all([str(tmp_path / "empty")])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("llama", "4 sessions match 'llama'."),
        ("nothing", "No session matches 'nothing'."),
        ("3..9", "No session has the number 9."),
        ("0-2", "No session has the number 0."),
        ("1..99999999999999", "No session has the number 99999999999999."),
        ("*nothing*", "No session matches '*nothing*'."),
        ("", "No session matches ''."),
        ("a\x00b", "No session matches 'a\\x00b'."),
        ("x" * 5000 + "*", "No session matches"),
    ],
)
def test_a_word_that_means_none_or_one_of_several_is_refused(store: Store, text: str, what: str) -> None:
    with pytest.raises(StoreError) as error:
        store.find_all([text])
    assert error.value.what.startswith(what)


def test_a_range_is_of_sessions_in_the_list(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "mine.json"
    elsewhere.write_bytes(store.find("1").read_bytes())
    assert store.find_all([str(elsewhere)]) == [elsewhere]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is not in"):
        store.find_all(["2..mine.json"])


def test_tags_are_added_at_the_end_and_taken_away(store: Store) -> None:
    assert changed_tags(("a", "b"), ["+c", "a", "-b", "d"]) == ("a", "c", "d")
    path = store.find("2")
    write_labels(path, tags=(), notes="kept cool")
    assert (load_head(path).tags, load_head(path).notes) == ((), "kept cool")
    write_labels(path, tags=("x",))
    assert (load_head(path).tags, load_head(path).notes) == (("x",), "kept cool")


@pytest.mark.parametrize("change", ["-gone", "+", "", "+a b", "a,b", "\x1b[2J", "x" * 41, "++a", "a\u202eb"])
def test_what_cannot_be_a_tag_is_refused(change: str) -> None:
    with pytest.raises(LabelError):
        changed_tags(("a",), [change])


def test_only_sessions_are_removed(store: Store, tmp_path: Path) -> None:
    journal = store.folder / "20260701-080000-x-77.journal"
    journal.write_text("{}")
    letter = tmp_path / "letter.json"
    letter.write_text("{}")
    broken = store.folder / "20260801-080000-x-88.json"
    broken.write_text("{")
    for path in (journal, letter):
        with pytest.raises(StoreError):
            store.remove(path)
        assert path.exists()
    outside = tmp_path / "mine.json"
    outside.write_bytes(store.find("3").read_bytes())
    for path in (broken, outside, store.find("5")):
        store.remove(path)
        assert not path.exists()
    assert len(store.list()) == 4

from __future__ import annotations

import errno
import gzip
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from edgetop.core.records import ModelLoaded, Record, TurnFinished, TurnStarted
from edgetop.io.files import data_folder, replacement
from edgetop.io.json import encode_record
from edgetop.report.plots import time_series
from edgetop.session import file_io
from edgetop.session.file import SessionHead, to_file
from edgetop.session.file_io import copy_of, encode_session, load, load_head, save, validate
from edgetop.session.session import Session
from edgetop.session.store import CACHE_NAME, FEW_READ, Store, StoreError, file_stamp, retag, write_labels
from tests.session.conditions import disk_of, eventually
from tests.support import recorded_power
from tests.support.recorded_power import SENSORS, ended
from tests.support.recorded_sessions import HEAD, LOADED, STARTED, S, event, fold, journal_lines, turn

RECORDS: list[Record] = [*HEAD, *turn(), event("throttled", 3 * S)]


def _keep(store: Store, session_id: str, started_at: str, model: str) -> Path:
    """A finished session in the store."""
    head = replace(STARTED, session_id=session_id, started_at=started_at)
    loaded = replace(LOADED, model=replace(LOADED.model, name=model))
    journal = store.new_journal(session_id, started_at, model)
    return store.finish(fold([head, loaded, *turn()]), journal).path


def _orphan(folder: Path, data: bytes, name: str = "20261012-140322-tiny-instruct-01234567.journal") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / name
    journal.write_bytes(data)
    return journal


def _lines(records: list[Record]) -> list[bytes]:
    return [encode_record(record) + b"\n" for record in records]


def test_a_finished_session_takes_the_place_of_its_journal(tmp_path: Path) -> None:
    store = Store(tmp_path / "data" / "sessions")
    session = Session()
    journal = store.new_journal(STARTED.session_id, STARTED.started_at, "Tiny Instruct (Q4_0)/../x")
    for record in RECORDS:
        session.apply(record)
        journal.append(record)
    path = store.finish(session, journal).path
    assert path == store.folder / "20261012-140322-tiny-instruct-q4-0-x-01234567.json"
    assert list(store.folder.iterdir()) == [path]
    assert to_file(load(path)) == to_file(session)
    assert validate(path) == []


def test_a_session_can_be_put_elsewhere(tmp_path: Path) -> None:
    store = Store(tmp_path / "sessions")
    output = tmp_path / "mine.json"
    assert store.finish(fold(RECORDS), store.new_journal("a", STARTED.started_at), output) == (output, "")
    assert store.list() == []
    assert load(output).turns


def test_a_file_that_another_program_has_written_meanwhile_stays(tmp_path: Path) -> None:
    store, output = Store(tmp_path / "sessions"), tmp_path / "mine.json"
    begun = [(store.new_journal(name, STARTED.started_at), file_stamp(output)) for name in "ab"]
    first, second = (store.finish(fold(RECORDS), journal, output, replaces) for journal, replaces in begun)
    assert first == (output, "")
    assert second.path.parent == store.folder
    assert second.why_not == f"not in {output}: another program has written that file meanwhile"
    assert load(output).turns
    assert load(second.path).turns
    third = store.finish(fold(RECORDS), store.new_journal("c", STARTED.started_at), output, replaces=file_stamp(output))
    assert third == (output, "")


def test_where_the_output_cannot_be_written_the_store_takes_the_session(tmp_path: Path) -> None:
    store = Store(tmp_path / "sessions")
    (tmp_path / "file").write_text("no folder")
    asked = tmp_path / "file" / "mine.json"
    path, why_not = store.finish(fold(RECORDS), store.new_journal("a", STARTED.started_at), asked)
    assert why_not == f"not in {asked}: File exists"
    assert path.parent == store.folder
    assert load(path).turns


def test_when_the_disk_is_full_at_the_end_the_journal_stays_and_can_be_recovered(tmp_path: Path) -> None:
    store = Store(tmp_path)
    session = fold(RECORDS)
    journal = store.new_journal(STARTED.session_id, STARTED.started_at, "Tiny")
    for record in RECORDS:
        journal.append(record)
    whole = len(b"".join(_lines(RECORDS)))
    eventually(lambda: journal.path.exists() and len(journal_lines(journal.path)) == whole)
    with disk_of(1000), pytest.raises(StoreError) as error:
        store.finish(session, journal)
    assert str(journal.path) in error.value.hint
    assert [each.name for each in tmp_path.iterdir()] == [journal.path.name]
    (recovered,) = store.recover()
    assert recovered.path is not None
    assert load(recovered.path).turns[0].text == session.turns[0].text


def test_without_any_room_in_the_store_the_session_goes_to_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").write_text("no folder")
    store = Store(tmp_path / "file" / "sessions")
    path, why_not = store.finish(fold(RECORDS), store.new_journal("a", STARTED.started_at, "Tiny"))
    assert why_not.startswith(f"not in {store.folder}")
    assert path.parent.name.startswith("edgetop-")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert load(path).turns


def test_a_journal_that_cannot_be_deleted_hides_nothing_of_a_saved_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(_path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = Store(tmp_path)
    journal = store.new_journal(STARTED.session_id, STARTED.started_at, "Tiny")
    for record in RECORDS:
        journal.append(record)
    assert journal.flush(60.0)
    with monkeypatch.context() as faulty:
        faulty.setattr(Path, "unlink", unlink)
        path, why_not = store.finish(fold(RECORDS), journal)
        (left,) = store.recover()
    assert (load(path).turns[0].text, why_not) == (fold(RECORDS).turns[0].text, "")
    assert left.path == path
    assert left.problem == f"{path} has all of it, but its journal {journal.path.name} could not be deleted: " + (
        os.strerror(errno.EIO)
    )
    assert store.recover() == []
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "make room"), (errno.EIO, "disk"), (errno.EROFS, "mount")]
)
def test_the_remedy_is_that_of_the_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def no_save(_path: Path, _session: Session) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("edgetop.session.store.save", no_save)
    store = Store(tmp_path)
    journal = store.new_journal(STARTED.session_id, STARTED.started_at, "Tiny")
    journal.append(RECORDS[0])
    with pytest.raises(StoreError, match=os.strerror(number)) as error:
        store.finish(fold(RECORDS), journal)
    assert remedy in error.value.hint


def test_an_orphaned_journal_becomes_a_session_that_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    journal = _orphan(tmp_path, b"".join(_lines(RECORDS)[:-3]) + b'{"type":"tok')
    (recovered,) = store.recover()
    assert (recovered.journal, recovered.problem, recovered.unreadable) == (journal, "", ())
    assert recovered.path is not None
    session = load(recovered.path)
    only = session.turns[0]
    assert only.finished is not None
    assert (only.finished.stop_reason, only.finished.error) == ("failed", "edgetop ended before the reply did")
    assert (only.finished.prompt_tokens, only.finished.cached_tokens) == (60, 10)
    assert only.finished.generated_tokens == len(only.token_t_us) == 4
    assert session.events[-1].kind == "recovered"
    assert not journal.exists()
    assert validate(recovered.path) == []
    assert store.recover() == []


def test_recovery_says_how_far_it_is_and_keeps_what_is_done_when_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"".join(_lines(RECORDS)[:-3])
    journals = [_orphan(tmp_path, lines, f"20260101-00000{number}-tiny-{number:08x}.journal") for number in range(3)]
    said: list[str] = []
    recovering = Store(tmp_path).recovering(said.append)
    assert next(recovering).path == journals[0].with_suffix(".json")
    with monkeypatch.context() as patch:
        patch.setattr("edgetop.session.journal.save", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            next(recovering)
    assert [journal.exists() for journal in journals] == [False, True, True]
    assert len(list(Store(tmp_path).recovering(said.append))) == 2
    words = "restoring sessions that were cut off"
    assert [text.partition(", ")[0] for text in said] == [
        f"{words}: 1 of 3", f"{words}: 2 of 3", f"{words}: 1 of 2", f"{words}: 2 of 2",
    ]  # fmt: skip
    assert all(re.fullmatch(r".* of \d(, \d+ s left)?", text) for text in said)


def test_recovery_tells_which_lines_it_could_not_read(tmp_path: Path) -> None:
    lines = _lines(RECORDS)
    lines[8] = b"\x00" * 40 + b"\n"
    _orphan(tmp_path, b"".join(lines))
    (recovered,) = Store(tmp_path).recover()
    assert [each.line for each in recovered.unreadable] == [9]
    assert recovered.path is not None
    assert "could not be read: 9." in load(recovered.path).events[-1].text
    assert recovered.journal.read_bytes() == b"".join(lines)
    assert recovered.journal.name in recovered.problem
    assert sorted(tmp_path.iterdir()) == sorted([recovered.path, recovered.journal])


def test_a_line_longer_than_any_hides_none_of_those_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.session.journal.LONGEST_LINE_BYTES", 4096)
    _orphan(tmp_path, b"x" * 10_000 + b"\n" + b"".join(_lines(RECORDS)))
    (recovered,) = Store(tmp_path).recover()
    assert [each.line for each in recovered.unreadable] == [1]
    assert recovered.path is not None
    assert load(recovered.path).turns[0].text == fold(RECORDS).turns[0].text


def test_a_journal_of_nothing_but_line_breaks_is_given_up_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.session.journal.UNREADABLE_MOST", 50)
    _orphan(tmp_path, gzip.compress(b"\n" * 2**20))
    (recovered,) = Store(tmp_path).recover()
    assert len(recovered.unreadable) == 0
    assert recovered.path is None
    assert [path.name for path in tmp_path.iterdir()] == [recovered.journal.name]
    recovered.journal.unlink()
    _orphan(tmp_path, gzip.compress(b"".join(_lines(RECORDS)) + b"\n" * 2**20))
    (recovered,) = Store(tmp_path).recover()
    assert len(recovered.unreadable) == 50
    assert recovered.path is not None
    assert recovered.journal.exists()


def test_a_journal_that_unpacks_to_more_than_any_session_is_read_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = b"".join(_lines(RECORDS))
    monkeypatch.setattr("edgetop.session.journal.LARGEST_FILE_BYTES", len(whole))
    monkeypatch.setattr("edgetop.session.journal.PACKED_MOST", 0)
    _orphan(tmp_path, gzip.compress(whole + _lines(RECORDS)[-1]))
    (recovered,) = Store(tmp_path).recover()
    assert "unpacked" in recovered.unreadable[0].problem
    assert recovered.path is not None
    assert load(recovered.path).turns[0].text == fold(RECORDS).turns[0].text


def test_tokens_whose_turn_was_lost_are_saved(tmp_path: Path) -> None:
    _orphan(tmp_path, b"".join(_lines([each for each in RECORDS if not isinstance(each, TurnStarted)])))
    (recovered,) = Store(tmp_path).recover()
    assert recovered.path is not None
    assert load(recovered.path).turns[0].text == fold(RECORDS).turns[0].text
    assert validate(recovered.path) == []


def test_readings_without_a_model_are_set_aside(tmp_path: Path) -> None:
    _orphan(tmp_path, b"".join(_lines([each for each in HEAD if not isinstance(each, ModelLoaded)])))
    (recovered,) = Store(tmp_path).recover()
    assert (recovered.path, recovered.journal.suffix) == (None, ".unread")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_has_the_name_of_a_journal_and_is_no_file_stays(tmp_path: Path, kind: str) -> None:
    journal = tmp_path / "20261012-140322-tiny-instruct-01234567.journal"
    match kind:
        case "pipe":
            os.mkfifo(journal)
        case "folder":
            journal.mkdir()
        case _:
            journal.symlink_to("/dev/zero")
    (recovered,) = Store(tmp_path).recover()
    assert "it is not a regular file" in recovered.problem
    assert os.path.lexists(journal)


def test_a_file_of_the_beginning_of_a_journal_becomes_whole_and_keeps_its_tags(tmp_path: Path) -> None:
    journal = _orphan(tmp_path, b"".join(_lines(RECORDS)))
    path = journal.with_suffix(".json")
    save(path, fold(RECORDS[:-3]))
    write_labels(path, tags=("mine",), notes="a note")
    (recovered,) = Store(tmp_path).recover()
    assert recovered.path == path
    assert load(path).turns[0].text == fold(RECORDS).turns[0].text
    assert (load_head(path).tags, load_head(path).notes) == (("mine",), "a note")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("other", ["another session", "a newer format", "no session"])
def test_another_file_with_the_name_of_a_journals_stays(tmp_path: Path, other: str) -> None:
    journal = _orphan(tmp_path, b"".join(_lines(RECORDS)))
    path = journal.with_suffix(".json")
    save(path, fold([replace(STARTED, session_id="fedcba987654"), *RECORDS[1:]]))
    if other != "another session":
        path.write_bytes(
            path.read_bytes().replace(b'"version":', b'"version":9' if other == "a newer format" else b"x")
        )
    before = path.read_bytes()
    (recovered,) = Store(tmp_path).recover()
    assert recovered.path == path.with_name(path.stem + "-2.json")
    assert load(recovered.path).turns[0].text == fold(RECORDS).turns[0].text
    assert path.read_bytes() == before


def test_a_journal_that_lost_its_beginning_is_named_after_its_file(tmp_path: Path) -> None:
    _orphan(tmp_path, b"".join(_lines(RECORDS)[1:]))
    (recovered,) = Store(tmp_path).recover()
    assert recovered.path is not None
    session = load(recovered.path)
    assert session.header is not None
    assert session.header.session_id == "01234567"
    assert session.header.started_at == "2026-10-12T14:03:22+00:00"
    assert session.turns[0].text == fold(RECORDS).turns[0].text


def test_a_journal_without_a_turn_or_a_model_is_dropped(tmp_path: Path) -> None:
    _orphan(tmp_path, b"")
    _orphan(tmp_path, _lines(RECORDS)[0], "20261012-140323-0abc.journal")
    assert Store(tmp_path).recover() == []
    assert list(tmp_path.iterdir()) == []


def test_a_journal_whose_file_was_written_already_only_goes(tmp_path: Path) -> None:
    journal = _orphan(tmp_path, b"".join(_lines(RECORDS)))
    save(journal.with_suffix(".json"), fold(RECORDS))
    before = journal.with_suffix(".json").read_bytes()
    assert Store(tmp_path).recover() == []
    assert journal.with_suffix(".json").read_bytes() == before
    assert not journal.exists()


def test_the_list_has_the_newest_first_and_does_not_hide_what_it_cannot_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.list() == []
    old = _keep(store, "aaa111", "2026-01-01T08:00:00+00:00", "Tiny")
    new = _keep(store, "bbb222", "2026-02-01T08:00:00+00:00", "Small")
    broken = tmp_path / "20260301-080000-x.json"
    broken.write_text("{")
    listed = store.list()
    assert [(each.number, each.path) for each in listed] == [(1, broken), (2, new), (3, old)]
    assert listed[0].head is None
    assert "truncated" in listed[0].problem
    assert listed[1].head is not None
    assert listed[1].head.loads[0].model.name == "Small"
    assert listed[1].head.summary.generated_tokens == 5


def test_a_session_is_found_by_path_number_name_id_tag_or_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    first = _keep(store, "aaa111", "2026-01-01T08:00:00+00:00", "Tiny Llama")
    second = _keep(store, "bbb222", "2026-02-01T08:00:00+00:00", "Small Llama")
    document = json.loads(first.read_bytes())
    first.write_text(json.dumps({**document, "tags": ["baseline"]}))
    monkeypatch.chdir(tmp_path)
    for text, path in (
        (str(first), first),
        (first.name, Path(first.name)),
        ("1", second),
        ("2", first),
        (second.stem, second),
        ("bbb", second),
        ("baseline", first),
        ("tiny", first),
    ):
        assert store.find(text) == path


@pytest.mark.parametrize("text", ["none", "3", "17", "", "x" * 5000, "9" * 5000, "a\x00b"])
def test_a_session_that_is_not_there_is_not_found(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    _keep(store, "aaa111", "2026-01-01T08:00:00+00:00", "Tiny")
    with pytest.raises(StoreError, match="No session"):
        store.find(text)


def test_of_several_that_could_be_meant_the_numbers_are_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for month in range(1, 8):
        _keep(store, f"{month}bc", f"2026-0{month}-01T08:00:00+00:00", "Llama")
    with pytest.raises(StoreError) as error:
        store.find("llama")
    assert error.value.what == "7 sessions match 'llama'."
    assert error.value.hint == "Give the number of one: 1, 2, 3, 4, 5, ...."


def test_the_data_folder_can_be_chosen() -> None:
    assert data_folder({"EDGETOP_DATA_DIR": "/mnt/card"}) == Path("/mnt/card/sessions")
    assert data_folder({}).parts[-2:] == ("edgetop", "sessions")


def _many(folder: Path) -> Store:
    """More sessions than are read without a cache; long ago, as their clocks say."""
    store = Store(folder)
    for number in range(FEW_READ + 1):
        path = _keep(store, f"{number:012x}", f"2026-10-12T14:{number:02}:22.000+00:00", "Tiny")
        write_labels(path, tags=(f"t{number}",))
    return store


def test_a_cache_lists_what_the_files_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _many(tmp_path)
    (tmp_path / "20260101-torn.json").write_bytes(b"{")
    monkeypatch.setattr("edgetop.session.store.UNSETTLED_NS", -(10**18))
    first = store.list()
    assert (tmp_path / CACHE_NAME).is_file()
    with monkeypatch.context() as patch:
        patch.setattr("edgetop.session.store.load_head", None)  # nothing is read again
        assert store.list() == first
    assert first[-1].problem
    assert store.find("t7") == first[-9].path


def test_a_cache_knows_a_changed_a_new_and_a_removed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _many(tmp_path)
    monkeypatch.setattr("edgetop.session.store.UNSETTLED_NS", -(10**18))
    first = store.list()
    write_labels(first[0].path, tags=("other",))
    store.remove(first[1].path)
    _keep(store, "f" * 12, "2027-01-01T14:00:22.000+00:00", "Tiny")
    heads = [each.head for each in store.list()]
    assert [head.id for head in heads if head][:2] == ["f" * 12, f"{FEW_READ:012x}"]
    assert heads[1] is not None
    assert heads[1].tags == ("other",)
    assert len(heads) == len(first)


@pytest.mark.parametrize("data", [b"", b"\x93", b"{}", b"\x82\xa7version\xa1x\xa5files\x80", bytes(100)])
def test_a_damaged_cache_is_as_good_as_none(tmp_path: Path, data: bytes) -> None:
    store = _many(tmp_path)
    (tmp_path / CACHE_NAME).write_bytes(data)
    assert all(each.head is not None for each in store.list())


def test_a_file_that_may_still_change_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _many(tmp_path)
    monkeypatch.setattr("edgetop.session.store.UNSETTLED_NS", 10**18)
    store.list()
    path = store.list()[0].path
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"t32"', b'"u32"', 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    head = store.list()[0].head
    assert head is not None
    assert head.tags == ("u32",)


def test_changes_of_several_at_once_keep_each_other(tmp_path: Path) -> None:
    path = _keep(Store(tmp_path), "aaa111", "2026-01-01T08:00:00+00:00", "Tiny")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: retag(path, [f"t{number}"]), range(8)))
    assert sorted(load_head(path).tags) == [f"t{number}" for number in range(8)]


def test_what_a_killed_edgetop_began_to_write_is_removed_and_what_another_one_writes_stays(tmp_path: Path) -> None:
    killed = tmp_path / ".a.json.x1.part"
    killed.touch()
    os.utime(killed, (0, 0))
    with replacement(tmp_path / "b.json") as written:
        os.utime(written, (0, 0))
        assert Store(tmp_path).recover() == []
        assert list(tmp_path.iterdir()) == [written]


def test_a_journal_that_another_one_sets_aside_meanwhile_is_nobodys_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = _orphan(tmp_path, b"".join(_lines(RECORDS)))
    monkeypatch.setattr("edgetop.session.journal._is_ours", lambda _fd, _path: bool(journal.rename(tmp_path / "aside")))
    assert Store(tmp_path).recover() == []


def test_labels_are_those_of_the_list_whatever_the_cache_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.session.store.FEW_READ", 0)
    monkeypatch.setattr("edgetop.session.store.UNSETTLED_NS", -(10**18))
    store = Store(tmp_path)
    for number in range(3):
        save(tmp_path / f"{number}.json", fold([replace(STARTED, session_id=f"{number}bcdef012345"), LOADED]))
    (tmp_path / "9.json").write_text("no session")

    def labelled() -> list[object]:
        return [
            (each.number, each.name, each.head and (each.head.id, each.head.tags, each.head.loads[0].model.name))
            for each in store.labels()
        ]

    def listed() -> list[object]:
        return [
            (each.number, each.path.name, each.head and (each.head.id, each.head.tags, each.head.loads[0].model.name))
            for each in store.list()
        ]

    assert labelled() == listed()  # nothing is known
    assert (tmp_path / CACHE_NAME).is_file()
    assert labelled() == listed()
    assert not any(isinstance(each.head, SessionHead) for each in store.labels())
    write_labels(tmp_path / "1.json", tags=("new",))
    assert labelled() == listed()
    assert store.find("new") == tmp_path / "1.json"


def test_an_id_is_found_by_the_names_of_files_without_reading_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"20261012-14032{number}-smollm2-{number}bcdef01.json" for number in range(3)]
    for number, name in enumerate(names):
        save(tmp_path / name, fold([replace(STARTED, session_id=f"{number}bcdef012345"), LOADED]))
    save(tmp_path / "renamed.json", fold([replace(STARTED, session_id="fedcba987654"), LOADED]))
    store = Store(tmp_path)
    assert store.find("fedcba98") == tmp_path / "renamed.json"
    monkeypatch.setattr(Store, "labels", lambda _store: pytest.fail("all were read"))
    assert store.find("1bcdef01") == store.find("1bcdef012345") == tmp_path / names[1]


def test_an_id_of_two_files_is_not_decided_by_their_names(tmp_path: Path) -> None:
    for number in range(2):
        head = replace(STARTED, session_id=f"0bcdef01{number}345")
        save(tmp_path / f"20261012-14032{number}-smollm2-0bcdef01.json", fold([head, LOADED]))
    with pytest.raises(StoreError, match="2 sessions match"):
        Store(tmp_path).find("0bcdef01")
    assert Store(tmp_path).find("0bcdef011") == tmp_path / "20261012-140321-smollm2-0bcdef01.json"


@pytest.fixture(params=["whole", "broken off within an answer"])
def copied(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A session that is long enough to have a copy beside it."""
    monkeypatch.setattr(file_io, "COPIED_FROM", 1)
    monkeypatch.setattr("edgetop.core.numbers.BLOCK", 4)
    recorded = recorded_power.record(SENSORS["slow average"], seed=1, turns_s=(4.0, 3.0))
    path = tmp_path / "20261012-140322-tiny-01234567.json"
    records = list(ended(recorded.records))
    if request.param != "whole":
        last = max(index for index, each in enumerate(records) if isinstance(each, TurnFinished))
        del records[last:]
    save(path, fold(records))
    return path


def test_a_copy_of_a_long_session_is_the_session_and_is_read_in_its_place(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = copied.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(file_io, "_load_by_lines", Mock(side_effect=AssertionError))
        session = load(copied)
    assert b"".join(encode_session(session)) == written
    of_copy = time_series(session)
    copy_of(copied).unlink()
    assert time_series(load(copied)) == of_copy


def test_a_copy_outlives_a_change_of_the_tags_and_goes_with_its_session(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retag(copied, ["+kept"])
    monkeypatch.setattr(file_io, "_load_by_lines", Mock(side_effect=AssertionError))
    assert load(copied).turns
    assert load_head(copied).tags == ("kept",)
    store = Store(copied.parent)
    store.remove(copied)
    assert list(copied.parent.iterdir()) == []


@pytest.mark.parametrize("why", ["damaged", "empty", "of another edgetop", "of another file"])
def test_a_copy_that_may_not_be_of_the_file_is_not_read(copied: Path, why: str) -> None:
    copy, written = copy_of(copied), copied.read_bytes()
    data = copy.read_bytes()
    match why:
        case "damaged":
            copy.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "empty":
            copy.write_bytes(b"")
        case "of another edgetop":
            copy.write_bytes(b"9" + data[1:])
        case _:
            copied.unlink()
            copied.write_bytes(written)
    assert b"".join(encode_session(load(copied))) == written


def test_a_copy_without_its_session_is_removed(copied: Path) -> None:
    copied.rename(copied.with_name("renamed.json"))
    Store(copied.parent).recover()
    assert [path.name for path in copied.parent.iterdir()] == ["renamed.json"]

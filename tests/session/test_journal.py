from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.records import Event, Record, TurnFinished
from edgetop.io.json import encode_record
from edgetop.session.file import to_file
from edgetop.session.journal import GZIP_BEGINNING, Journal, UnreadableLine, read_journal, recover_journal
from edgetop.session.store import Store
from tests.session.conditions import disk_of, eventually
from tests.support.recorded_sessions import HEAD, MEMORY, START_US, event, fold, journal_lines, recordings, sample, turn


def _read(path: Path) -> list[Record | UnreadableLine]:
    with path.open("rb") as file:
        return list(read_journal(file.fileno()))


def test_what_is_appended_is_read_again_in_order(tmp_path: Path) -> None:
    records = [*HEAD, *turn(), event("throttled", 3)]
    journal = Journal(tmp_path / "new" / "a.journal")
    for record in records:
        journal.append(record)
    assert journal.close()
    assert _read(journal.path) == records
    assert journal.path.stat().st_mode & 0o777 == 0o600


@given(records=recordings())
def test_folding_a_journal_gives_the_session_that_was_folded_live(
    records: list[Record], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "folded.journal"
    path.write_bytes(b"".join(encode_record(record) + b"\n" for record in records))
    read = [record for record in _read(path) if not isinstance(record, UnreadableLine)]
    assert to_file(fold(read)) == to_file(fold(records))


@given(records=recordings(), data=st.data())
def test_a_journal_cut_anywhere_holds_what_was_complete(
    records: list[Record], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [encode_record(record) + b"\n" for record in records]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.getbasetemp() / "cut.journal"
    path.write_bytes(whole[:cut])
    complete = whole[:cut].count(b"\n")
    assert _read(path) == _read_lines(lines[:complete], path)


def _read_lines(lines: list[bytes], path: Path) -> list[Record | UnreadableLine]:
    path.write_bytes(b"".join(lines))
    return _read(path)


def test_damaged_lines_are_told_by_number_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    good = encode_record(HEAD[0]) + b"\n"
    path.write_bytes(
        good + b"\x00\xff\n" + good + b'{"type":"other"}\n' + b"[" * 100_000 + b"\n" + good + b'{"type":"eve'
    )
    read = _read(path)
    first = HEAD[0]
    assert [each.line if isinstance(each, UnreadableLine) else each for each in read] == [first, 2, first, 4, 5, first]


def packed(path: Path, records: Sequence[Record], member_bytes: int) -> bytes:
    """A journal of which each record was written by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgetop.session.journal.MEMBER_BYTES", member_bytes)
        path.unlink(missing_ok=True)
        journal = Journal(path)
        for record in records:
            journal.append(record)
            assert journal.flush(60.0)
        assert journal.close()
    return path.read_bytes()


RECORDS = [*HEAD, *turn(), *(event("throttled", at_us) for at_us in range(3, 40))]


@pytest.mark.parametrize("member_bytes", [1, 1000, 10**6])
def test_a_packed_journal_cut_anywhere_holds_what_was_written(tmp_path: Path, member_bytes: int) -> None:
    path = tmp_path / "a.journal"
    data = packed(path, RECORDS, member_bytes)
    kept = 0
    for size_bytes in (*range(0, len(data), 29), len(data)):
        path.write_bytes(data[:size_bytes])
        read = _read(path)
        assert read == RECORDS[: len(read)]
        assert len(read) >= kept
        kept = len(read)
    assert kept == len(RECORDS)


def test_damage_costs_a_packed_journal_the_rest_of_its_member(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    data = packed(path, RECORDS, 1000)
    begins = [at for at in range(len(data)) if data.startswith(GZIP_BEGINNING, at)]
    assert len(begins) > 4
    path.write_bytes(data[: begins[1]])
    first = len(_read(path))
    path.write_bytes(data[begins[2] :])
    later = _read(path)
    assert not any(isinstance(each, UnreadableLine) for each in later)
    chance = random.Random(1)  # noqa: S311 - the same every time
    for _ in range(60):
        at = chance.randrange(begins[1], begins[2])
        path.write_bytes(data[:at] + chance.randbytes(min(8, begins[2] - at)) + data[min(begins[2], at + 8) :])
        read = _read(path)
        assert read[:first] == RECORDS[:first]
        assert read[-len(later) :] == later
    path.write_bytes(data + bytes(4096))
    assert _read(path)[:-1] == RECORDS
    assert isinstance(_read(path)[-1], UnreadableLine)


def test_a_third_is_written_of_what_the_lines_have(tmp_path: Path) -> None:
    chance = random.Random(1)  # noqa: S311 - the same every time
    journal = Journal(tmp_path / "a.journal")
    missing = "no permission to read it; add yourself to the group video"
    for second in range(120):
        for tick in range(5):
            at_us = second * 1_000_000 + tick * 200_000 + chance.randrange(900)
            journal.append(sample(MEMORY, at_us, round(4e9 + chance.gauss(0, 1e6)), None, reasons=("", missing)))
        assert journal.flush(60.0)
    assert journal.close()
    assert 3 * journal.path.stat().st_size < len(journal_lines(journal.path))


def test_records_reach_the_file_while_the_session_runs(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.journal")
    journal.append(HEAD[0])
    eventually(lambda: journal.path.exists() and _read(journal.path) == [HEAD[0]])
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_turn_is_forced_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[int] = []
    monkeypatch.setattr("os.fdatasync", forced.append, raising=False)
    journal = Journal(tmp_path / "a.journal")
    journal.append(HEAD[0])
    eventually(lambda: journal.path.exists() and journal.path.stat().st_size > 0)
    assert not forced
    journal.append(turn()[-1])
    eventually(lambda: len(forced) == 1)
    assert journal.close()


def test_a_full_disk_keeps_records_in_memory_and_writing_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.session.journal.RETRY_S", 0.05)
    journal = Journal(tmp_path / "a.journal")
    chance = random.Random(1)  # noqa: S311 - what cannot be packed
    records = [Event(t_us=START_US + index, kind="note", text=chance.randbytes(50).hex()) for index in range(200)]
    journal.append(HEAD[0])
    eventually(lambda: journal.path.exists() and journal.path.stat().st_size > 0)
    with disk_of(4000):
        for record in records:
            journal.append(record)
        eventually(lambda: bool(journal.trouble))
        assert str(tmp_path) in journal.trouble
        # What a full disk cut off is taken back, so that the file ends with a whole line.
        eventually(lambda: journal_lines(journal.path).endswith(b"\n"))
    eventually(lambda: not journal.trouble)
    assert journal.close()
    assert _read(journal.path) == [HEAD[0], *records]


def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.session.journal.RETRY_S", 0.05)
    folder = tmp_path / "sessions"
    folder.write_text("a file where the folder should be")
    journal = Journal(folder / "a.journal")
    journal.append(HEAD[0])
    eventually(lambda: bool(journal.trouble))
    folder.unlink()
    eventually(lambda: not journal.trouble)
    assert journal.close()
    assert _read(journal.path) == [HEAD[0]]


def test_closing_tells_when_not_everything_could_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    folder.write_text("a file where the folder should be")
    journal = Journal(folder / "a.journal")
    journal.append(HEAD[0])
    assert not journal.close()


def test_text_that_json_cannot_hold_does_not_stop_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.journal")
    journal.append(Event(t_us=1, kind="odd", text="a\udcffb"))
    assert journal.close()
    assert _read(journal.path) == [Event(t_us=1, kind="odd", text="a\ufffdb")]


_WRITER = """
    import sys, time
    from pathlib import Path
    from edgetop.core.records import DeviceInfo, Event, ModelLoaded, SessionStarted
    from edgetop.core.engine_settings import EngineInfo, EngineSettings, ModelInfo
    from edgetop.session.store import Store

    journal = Store(Path(sys.argv[1])).new_journal("abcdef", "2026-10-12T14:03:22+00:00", "Tiny")
    journal.append(SessionStarted(
        t_us=0, session_id="abcdef", started_at="2026-10-12T14:03:22+00:00", edgetop_version="1",
        device=DeviceInfo(hostname="pi")))
    journal.append(ModelLoaded(
        t_us=0, load_s=0.1, model=ModelInfo(path="x", name="Tiny"), engine=EngineInfo(name="e"),
        settings=EngineSettings()))
    while True:
        now_us = time.monotonic_ns() // 1000
        journal.append(Event(t_us=now_us, kind="beat", text=""))
        print(now_us, flush=True)
        time.sleep(0.005)
"""


@pytest.mark.parametrize("beats", [150, 330])
def test_after_a_sigkill_less_than_a_second_is_lost(tmp_path: Path, beats: int) -> None:
    store = Store(tmp_path)
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_WRITER), str(tmp_path)], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    try:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(beats)]
        assert store.recover() == []  # It lives, so its journal is left alone.
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        rest, _ = writer.communicate()
    last_beat_us = int([*told, *(line for line in rest.splitlines(keepends=True) if line.endswith(b"\n"))][-1])
    (recovered,) = store.recover()
    assert recovered.problem == ""
    assert recovered.path is not None
    kept = store.list()[0]
    assert kept.head is not None
    assert last_beat_us - kept.head.duration_us < 1_000_000
    assert [each.suffix for each in tmp_path.iterdir()] == [".json"]


def test_flushing_waits_until_the_kernel_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.session.journal.FLUSH_S", 3600.0)
    journal = Journal(tmp_path / "a.journal")
    for record in HEAD:
        journal.append(record)
        assert journal.flush(60.0)
        assert _read(journal.path)[-1] == record
    assert journal.close()


def test_flushing_does_not_wait_for_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "sessions").write_text("a file where the folder should be")
    journal = Journal(tmp_path / "sessions" / "a.journal")
    journal.append(HEAD[0])
    assert not journal.flush(3600.0)
    assert journal.trouble
    journal.remove()


def test_the_end_of_a_turn_wakes_the_writer_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.session.journal.FLUSH_S", 3600.0)
    journal = Journal(tmp_path / "a.journal")
    end = turn()[-1]
    assert isinstance(end, TurnFinished)
    journal.append(end)
    eventually(lambda: journal.path.exists() and _read(journal.path) == [end])
    assert journal.close()


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_journal_that_is_taken_away_is_made_anew_with_all_that_was_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("edgetop.session.journal.LOOK_S", 0.0)
    journal = Journal(tmp_path / "a.journal")
    journal.append(HEAD[0])
    assert journal.flush(60.0)
    if how == "moved":
        journal.path.rename(tmp_path / "elsewhere")
    else:
        journal.path.unlink()
    if how == "replaced":
        (tmp_path / "a.journal").write_text("of somebody else")
    journal.append(HEAD[1])
    assert journal.flush(60.0)
    assert _read(journal.path) == [*HEAD[:2]]
    assert journal.path.name in journal.notices.popleft()
    assert recover_journal(journal.path) is None  # It is locked again.
    journal.remove()
    assert not journal.path.exists()
    if how == "replaced":
        assert (tmp_path / "a.journal").read_text() == "of somebody else"


def test_a_journal_that_cannot_be_made_anew_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.session.journal.LOOK_S", 0.0)
    monkeypatch.setattr("edgetop.session.journal.RETRY_S", 0.05)
    folder = tmp_path / "sessions"
    journal = Journal(folder / "a.journal")
    journal.append(HEAD[0])
    assert journal.flush(60.0)
    journal.path.unlink()
    folder.rmdir()
    folder.write_text("a file where the folder should be")
    journal.append(HEAD[1])
    eventually(lambda: bool(journal.trouble))
    folder.unlink()
    eventually(lambda: not journal.trouble)
    assert journal.close()
    assert _read(journal.path) == [*HEAD[:2]]


def test_a_journal_that_was_cut_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.session.journal.LOOK_S", 0.0)
    journal = Journal(tmp_path / "a.journal")
    for record in HEAD:
        journal.append(record)
    assert journal.flush(60.0)
    os.truncate(journal.path, 5)
    journal.append(HEAD[-1])
    assert journal.flush(60.0)
    assert _read(journal.path)[-1] == HEAD[-1]
    assert "cut" in journal.notices.popleft()
    journal.remove()


@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOSYS, None], ids=["ENOLCK", "ENOSYS", "locks do nothing"])
def test_without_locks_a_journal_is_written_and_left_alone_while_its_heart_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int | None
) -> None:
    def flock(_fd: int, _how: int) -> None:
        if answer is not None:
            raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.setattr("edgetop.session.journal.LOOK_S", 0.0)
    monkeypatch.setattr("edgetop.session.journal.BEAT_S", 0.0)
    store = Store(tmp_path)
    journal = store.new_journal("abc", "2026-10-12T14:03:22+00:00")
    for record in [*HEAD, *turn()]:
        journal.append(record)
    assert journal.flush(60.0)
    os.utime(journal.path, (0, 0))
    eventually(lambda: journal.path.stat().st_mtime > 0)
    assert store.recover() == []
    assert journal.close()
    os.utime(journal.path, (0, 0))
    (recovered,) = store.recover()
    assert recovered.path is not None


def test_no_failure_ends_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.session.journal.RETRY_S", 0.05)
    journal = Journal(tmp_path / "a.journal")
    with monkeypatch.context() as short:
        short.setattr("edgetop.io.json.encode_record", _no_memory)
        journal.append(HEAD[0])
        eventually(lambda: "memory" in journal.trouble)
    journal.append(HEAD[1])
    eventually(lambda: not journal.trouble)
    with monkeypatch.context() as odd:
        odd.setattr("edgetop.io.json.encode_record", _not_encodable)
        journal.append(HEAD[2])
        eventually(lambda: len(journal.notices) == 1)
    with monkeypatch.context() as crowded:
        crowded.setattr("threading.Thread.start", _no_thread)
        journal.append(turn()[-1])
        assert journal.flush(60.0)
    assert journal.close()
    assert _read(journal.path) == [*HEAD[:2], turn()[-1]]


def test_a_journal_without_a_thread_gets_one_with_a_later_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crowded:
        crowded.setattr("threading.Thread.start", _no_thread)
        journal = Journal(tmp_path / "a.journal")
        journal.append(HEAD[0])
        assert "can't start new thread" in journal.trouble
    journal.append(HEAD[1])
    assert journal.close()
    assert _read(journal.path) == [*HEAD[:2]]


def _no_memory(_record: Record) -> bytes:
    raise MemoryError


def _not_encodable(_record: Record) -> bytes:
    raise TypeError("it is odd")


def _no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    "data",
    [b"\0" * 4096, b'{"type":"v2_session"}\n', b'{"type":"session', b"\x1f\x8b\x08\n"],
    ids=["zeros", "newer", "torn", "packed"],
)
def test_a_journal_that_cannot_be_read_is_renamed_and_named(tmp_path: Path, data: bytes) -> None:
    journal = tmp_path / "20261129-161117-model-4d1a1034.journal"
    journal.write_bytes(data)
    recovered = recover_journal(journal)
    assert recovered is not None
    assert recovered.path is None
    assert recovered.journal.name in recovered.problem
    assert recovered.journal.read_bytes() == data
    assert not journal.exists()


def test_an_empty_journal_is_deleted(tmp_path: Path) -> None:
    journal = tmp_path / "20261129-161117-model-4d1a1034.journal"
    journal.touch()
    assert recover_journal(journal) is None
    assert list(tmp_path.iterdir()) == []

"""Journal of a running session, and its recovery.

A journal is lines of JSON, packed: members of gzip (RFC 1952) one after the other. What is written at a time can be
unpacked at once (Z_SYNC_FLUSH of zlib), and damage costs at most the rest of its member. Those of earlier versions are
not packed.

A journal that was not turned into a session file belongs to an edgetop that died; `edgetop.session.store` recovers it.
The lock on the file tells whether its edgetop is still alive, since the kernel releases it with the process.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import stat
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from edgetop.core.records import (
    DeviceInfo,
    Event,
    Prefill,
    Record,
    SessionStarted,
    Tokens,
    TurnFinished,
    TurnStarted,
)
from edgetop.io import json
from edgetop.io.files import FILE_SUFFIX, sync_folder, unused
from edgetop.io.log import log_exception
from edgetop.session.file import SessionHead, with_current_names
from edgetop.session.file_io import LARGEST_FILE_BYTES, SessionFileError, load, load_head, save
from edgetop.session.session import REFUSED, Session

FLUSH_S = 0.4
"""Records wait at most this long before they are given to the kernel, so that less than a second is ever lost."""

SYNC_S = 10.0
"""What the kernel has is forced to the disk this often, and when a turn ends; in between only a power cut loses it."""

RETRY_S = 2.0
"""Pause after a write that failed."""

LOOK_S = 1.0
"""How often it is checked that the file is still there."""

BEAT_S, SILENT_S = 10.0, 30.0
"""How often a journal that is not written to is touched, and when one that is not is taken for that of a dead edgetop.

Only where the file system has no locks that exclude anybody."""

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What flock(2) answers where there are no locks, as on some network file systems."""

CLOSE_S = 5.0
"""How long closing waits for a disk that does not answer."""

WRITE_BYTES = 256 * 2**10
"""Lines are written together up to about this size."""

MEMBER_BYTES = 64 * 2**10
"""A member of gzip holds at least so much: two minutes of an idle machine, seven seconds of a sensor of 50 Hz."""

GZIP = 31
"""`wbits` of zlib that mean gzip."""

GZIP_BEGINNING = b"\x1f\x8b\x08" + bytes(5)
"""Of a member as zlib writes it: without a name or a time."""

LONGEST_LINE_BYTES = 64 * 2**20

UNREADABLE_MOST = 10_000
"""Lines that are no records, after which nothing more is read: the journal is kept whatever it is."""


class Journal:
    """An append-only file of records.

    `append` only queues. A thread of the journal's own encodes and writes; while the disk is full, the folder cannot
    be written or anything else fails, records stay in memory and it tries again every two seconds. A file that another
    program deletes or moves is made anew with all that was in it.
    """

    def __init__(self, path: Path) -> None:
        """Begin a journal at `path`, which must not exist; its folder is made if need be."""
        self.path = path
        self.trouble = ""
        """Why nothing can be written at present, in one line; empty when all is well."""
        self.notices: deque[str] = deque()
        """What has happened to the file and is to be reported."""
        self._records: deque[Record] = deque()
        self._lines: deque[bytes] = deque()
        """Encoded and not yet written."""
        self._fd: int | None = None
        self._written_bytes = 0
        """Size of the file after the last whole line."""
        self._torn = False
        """There may be a part of a line after `_written_bytes`."""
        self._packer: Any = None
        """A compressor of zlib, as it was after `_written_bytes`; `None` before a member begins."""
        self._member_bytes = 0
        """How much the member holds, unpacked."""
        self._synced_s = self._beat_s = self._looked_s = time.monotonic()
        self._sync_wanted = False
        self._syncing: threading.Thread | None = None
        self._closing = False
        self._wake = threading.Event()
        self._tried = threading.Event()
        """An attempt to write has ended, well or not."""
        self._thread: threading.Thread | None = None
        self._ensure_thread()

    def append(self, record: Record) -> None:
        """Queue a record. Takes about a microsecond and never fails."""
        self._records.append(record)
        self._ensure_thread()
        if isinstance(record, TurnFinished):
            self._wake.set()

    def _ensure_thread(self) -> None:
        if self._closing or (self._thread is not None and self._thread.is_alive()):
            return
        thread = threading.Thread(target=self._run, name="edgetop-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads are to be had; the next record tries again
            self.trouble = self._explained(error)
        else:
            self._thread = thread

    def _explained(self, error: Exception) -> str:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        else:
            reason = "there is not enough memory" if isinstance(error, MemoryError) else str(error)
        return f"The session cannot be recorded to {self.path.parent}: {reason or type(error).__name__}."

    def flush(self, limit_s: float) -> bool:
        """Wait until the kernel has what was appended, so that SIGKILL loses nothing of it.

        False where that fails or takes longer than `limit_s`; all goes on then.
        """
        until_s = time.monotonic() + limit_s
        while (self._records or self._lines) and not self.trouble:
            self._tried.clear()
            self._wake.set()
            if not self._tried.wait(max(0.0, until_s - time.monotonic())):
                break
        return not self._records and not self._lines

    def close(self) -> bool:
        """Write what is queued, force it to the disk and let go of the file. False if not all of it got there."""
        self._stop()
        complete = self._fd is not None and not self._lines and not self._records
        if complete and self._fd is not None:
            try:
                os.fsync(self._fd)
            except OSError:
                complete = False
        self._release()
        return complete

    def remove(self) -> None:
        """Delete the journal: its session has been written, or is not wanted."""
        self._stop()
        try:
            if self._fd is not None and _is_there(self.path, self._fd):
                # Deleted before the lock is released, so that nobody recovers it in between.
                self.path.unlink(missing_ok=True)
        finally:
            self._release()

    def _stop(self) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _release(self) -> None:
        if self._syncing is not None:
            self._syncing.join(CLOSE_S)
        if self._fd is not None and (self._thread is None or not self._thread.is_alive()):
            with suppress(OSError):
                os.close(self._fd)
            self._fd = None

    # On the journal's thread

    def _run(self) -> None:
        try_again_s = 0.0
        while True:
            closing = self._closing
            if closing or time.monotonic() >= try_again_s:
                try:
                    self._write_all()
                except Exception as error:  # noqa: BLE001 - whatever it is, what follows must reach the disk
                    try_again_s = time.monotonic() + RETRY_S
                    self.trouble = self._explained(error)
                    log_exception(error)
                else:
                    self.trouble = ""
                self._tried.set()
            if closing:
                return
            self._wake.wait(FLUSH_S)
            self._wake.clear()

    def _write_all(self) -> None:
        fd = self._made() if self._fd is None else self._looked_after(self._fd)
        self._encode_queued()
        while self._lines:
            size_bytes = count = 0
            while count < len(self._lines) and size_bytes < WRITE_BYTES:
                size_bytes += len(self._lines[count])
                count += 1
            self._write(fd, b"".join(self._lines[index] for index in range(count)))
            for _ in range(count):
                self._lines.popleft()
            self._beat_s = time.monotonic()
        if self._sync_wanted or time.monotonic() - self._synced_s >= SYNC_S:
            self._sync(fd)

    def _encode_queued(self) -> None:
        while self._records:
            record = self._records[0]
            try:
                line = json.encode_record(record)
            except (TypeError, ValueError, RecursionError) as error:
                self.notices.append(f"A record of kind {type(record).__name__} could not be recorded: {error}.")
                line = None
            if line is not None:
                self._lines.append(line + b"\n")
            self._records.popleft()
            self._sync_wanted |= isinstance(record, TurnFinished)

    def _made(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(fd)
                self.path.unlink(missing_ok=True)
                raise
        self._fd = fd
        return fd

    def _looked_after(self, fd: int) -> int:
        """The file, or a new one where another program has deleted, moved or replaced it."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return fd
        if not _is_there(self.path, fd):
            fd = self._renewed(fd)
        elif (size_bytes := os.fstat(fd).st_size) < self._written_bytes:
            self._written_bytes, self._packer = size_bytes, None
            self.notices.append(
                f"Another program has cut the journal {self.path.name}; the session is whole in memory."
            )
        elif now_s - self._beat_s >= BEAT_S:
            os.utime(fd)
            self._beat_s = now_s
        self._looked_s = now_s
        return fd

    def _renewed(self, lost: int) -> int:
        was, written_bytes = self.path, self._written_bytes
        self.path = unused(was)
        try:
            fd = self._made()
            try:
                for start in range(0, written_bytes, WRITE_BYTES):
                    self._write_at_end(fd, os.pread(lost, min(WRITE_BYTES, written_bytes - start), start))
            except BaseException:
                self.path.unlink(missing_ok=True)
                os.close(fd)
                raise
        except BaseException:
            self.path, self._fd = was, lost
            raise
        if self._syncing is not None:
            self._syncing.join(CLOSE_S)
        os.close(lost)
        self._sync_wanted = True
        text = "Another program has taken the journal away; all that was in it is recorded in a new one"
        self.notices.append(f"{text}, {self.path.name}.")
        return fd

    def _write(self, fd: int, data: bytes) -> None:
        if self._torn:
            os.ftruncate(fd, self._written_bytes)
        self._torn = True
        # A copy, since all of it is to be packed again where the disk does not take it.
        packer = zlib.compressobj(wbits=GZIP) if self._packer is None else self._packer.copy()
        member_bytes = len(data) + (0 if self._packer is None else self._member_bytes)
        is_full = member_bytes >= MEMBER_BYTES
        packed = packer.compress(data) + packer.flush(zlib.Z_FINISH if is_full else zlib.Z_SYNC_FLUSH)
        try:
            self._write_at_end(fd, packed)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, self._written_bytes)
                self._torn = False
            raise
        self._torn = False
        self._written_bytes += len(packed)
        self._packer, self._member_bytes = None if is_full else packer, member_bytes

    @staticmethod
    def _write_at_end(fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def _sync(self, fd: int) -> None:
        # A card may take seconds for this, so it does not hold up the lines that come meanwhile.
        if self._syncing is not None and self._syncing.is_alive():
            return
        self._sync_wanted = False
        self._synced_s = time.monotonic()
        syncing = threading.Thread(target=_sync_data, args=(fd,), name="edgetop-journal-sync", daemon=True)
        try:
            syncing.start()
        except RuntimeError:  # no more threads are to be had
            _sync_data(fd)
        else:
            self._syncing = syncing


def _is_there(path: Path, fd: int) -> bool:
    """Whether an open file is still the one of its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


PACKED_BYTES = 16 * 2**10

DAMAGED = b"?\n"
"""No record, in place of what cannot be unpacked."""


class _Unpacked(io.RawIOBase):
    """The lines of a packed journal; where it is damaged a line that is no record, and then the next member.

    A last member without its end is what a running or dying edgetop leaves.
    """

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__()
        self._packed = packed
        self._member_at = 0
        self._unpacker = zlib.decompressobj(GZIP)
        self._ready = b""

    def readable(self) -> bool:
        """See RawIOBase."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 (any writable buffer)
        """See RawIOBase."""
        while not self._ready:
            packed = self._unpacker.unconsumed_tail or self._packed.read(PACKED_BYTES)
            before = self._unpacker.copy()
            try:
                self._ready = self._unpacker.decompress(packed, PACKED_BYTES)
            except zlib.error:
                self._ready = _until_damage(before, packed) + DAMAGED
                self._seek_member()
                continue
            if self._unpacker.eof:
                self._begin(self._packed.tell() - len(self._unpacker.unused_data))
            elif not packed and not self._ready:
                # Damage can make what follows look like a part of the member.
                if not self._seek_member():
                    break
                self._ready = DAMAGED
        data, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """See RawIOBase."""
        self._packed.close()
        super().close()

    def _begin(self, member_at: int) -> None:
        self._packed.seek(member_at)
        self._member_at, self._unpacker = member_at, zlib.decompressobj(GZIP)

    def _seek_member(self) -> bool:
        """Go to the next beginning of a member; False, and to the end, where there is none."""
        at, kept = self._packed.seek(self._member_at + 1), b""
        while data := self._packed.read(WRITE_BYTES):
            found = (kept + data).find(GZIP_BEGINNING)
            if found >= 0:
                self._begin(at - len(kept) + found)
                return True
            at += len(data)
            kept = data[1 - len(GZIP_BEGINNING) :]
        self._begin(at)
        return False


def _until_damage(unpacker: Any, packed: bytes) -> bytes:  # noqa: ANN401 (zlib's own type has no name)
    unpacked = b""
    with suppress(zlib.error):
        for at in range(len(packed)):
            unpacked += unpacker.decompress(packed[at : at + 1])
    return unpacked


def open_journal(fd: int) -> BinaryIO:
    """The lines of a journal, from its beginning, packed or not; the descriptor stays open."""
    file = os.fdopen(os.dup(fd), "rb")
    file.seek(0)
    is_packed = file.read(1) == GZIP_BEGINNING[:1]
    file.seek(0)
    return io.BufferedReader(_Unpacked(file), WRITE_BYTES) if is_packed else file


PACKED_MOST = 64
"""A journal has at most so many times its size unpacked: records pack to a tenth, what floods to a thousandth."""


class UnreadableLine(Struct, frozen=True):
    """A line of a journal that is no record."""

    line: int
    """From 1."""
    problem: str


COUNTED_LINES = 1000


def read_journal(fd: int, on_read: Callable[[int], None] = lambda _bytes: None) -> Iterator[Record | UnreadableLine]:
    """The records in a journal, in order; a line that is none is reported with its number.

    A last line without its line break is what a dying edgetop did not come to write, and is left out. `on_read` hears
    now and then how many bytes have been read.
    """
    decoder = msgspec.json.Decoder(Record)
    most_bytes = LARGEST_FILE_BYTES + PACKED_MOST * os.fstat(fd).st_size
    with open_journal(fd) as file:
        number = size_bytes = 0
        while line := file.readline(LONGEST_LINE_BYTES):
            if number % COUNTED_LINES == 0:
                on_read(os.lseek(fd, 0, os.SEEK_CUR))
            number += 1
            size_bytes += len(line)
            if size_bytes > most_bytes:
                yield UnreadableLine(number, f"it has more than {most_bytes // 2**20} MiB unpacked")
                return
            if not line.endswith(b"\n"):
                if len(line) == LONGEST_LINE_BYTES:
                    yield UnreadableLine(number, f"it is longer than {LONGEST_LINE_BYTES / 2**20:.0f} MiB")
                    while line and not line.endswith(b"\n"):
                        line = file.readline(LONGEST_LINE_BYTES)
                    continue
                if not line.startswith(_BEGINNING[: len(line)]):
                    yield UnreadableLine(number, "it is no beginning of a record")
                return
            try:
                yield decoder.decode(with_current_names(line))
            except (msgspec.MsgspecError, RecursionError, ValueError) as error:
                yield UnreadableLine(number, str(error))


_BEGINNING = b'{"type":"'
"""Of every record's line."""


def _sync_data(fd: int) -> None:
    # What cannot be forced to the disk now will be when the journal is closed, or its failure reported then.
    with suppress(OSError):
        (os.fsync if not hasattr(os, "fdatasync") else os.fdatasync)(fd)


LINES_SHOWN = 10


class Recovered(Struct, frozen=True):
    """What the records of a journal gave."""

    session: Session
    unreadable: tuple[UnreadableLine, ...]


def recover_session(lines: Iterable[Record | UnreadableLine], session_id: str, started_at: str) -> Recovered | None:
    """Fold a journal and end what its edgetop did not come to end; `None` if no record could be read.

    `session_id` and `started_at` are for a journal whose beginning is lost.
    """
    session = Session()
    unreadable: list[UnreadableLine] = []
    for line in lines:
        if isinstance(line, UnreadableLine):
            unreadable.append(line)
            if len(unreadable) >= UNREADABLE_MOST:
                break
            continue
        if session.header is None and not isinstance(line, SessionStarted):
            session.apply(_lost_beginning(line, session_id, started_at))
        if isinstance(line, Prefill | Tokens) and (not session.turns or session.turns[-1].started.turn < line.turn):
            session.apply(TurnStarted(turn=line.turn, t_us=_stamp_of(line), prompt=None))
        session.apply(line)
    if session.header is None:
        return None
    _end_running_turn(session)
    text = "Recovered from the journal of an edgetop that ended without saving the session."
    if unreadable:
        numbers = ", ".join(str(line.line) for line in unreadable[:LINES_SHOWN])
        more = ", ..." if len(unreadable) > LINES_SHOWN else ""
        text += f" Lines that could not be read: {numbers}{more}."
    session.apply(Event(t_us=session.start_us + session.end_us, kind="recovered", text=text))
    return Recovered(session, tuple(unreadable))


def _stamp_of(record: Record) -> int:
    stamp = getattr(record, "t_us", 0)
    return (stamp[0] if stamp else 0) if isinstance(stamp, tuple) else stamp


def _lost_beginning(first: Record, session_id: str, started_at: str) -> SessionStarted:
    return SessionStarted(
        t_us=_stamp_of(first),
        session_id=session_id,
        started_at=started_at,
        edgetop_version="unknown",
        device=DeviceInfo(hostname="unknown"),
    )


def _end_running_turn(session: Session) -> None:
    if not session.turns or session.turns[-1].finished is not None:
        return
    turn = session.turns[-1]
    progress = turn.progress(session.end_us)
    cached = progress.cached or 0
    session.apply(
        TurnFinished(
            turn=turn.started.turn,
            t_us=session.start_us + session.end_us,
            stop_reason="failed",
            prompt_tokens=cached + (progress.to_evaluate or 0),
            cached_tokens=cached,
            generated_tokens=progress.generated,
            context_used=cached + progress.evaluated + progress.generated,
            error="edgetop ended before the reply did",
            counted=turn.counted,
        )
    )


_NAME = re.compile(r"(?P<date>\d{8})-(?P<time>\d{6})-(?:.*-)?(?P<id>[^-]+)")


class RecoveredJournal(Struct, frozen=True, kw_only=True):
    """A journal that was found without an edgetop that writes it."""

    journal: Path
    """Where it was, or where it has been set aside."""
    path: Path | None = None
    """The session file made of it; `None` if there is none, and the journal is still there."""
    unreadable: tuple[UnreadableLine, ...] = ()
    """Lines of the journal that are not in the session."""
    problem: str = ""


def recover_journal(journal: Path, on_read: Callable[[int], None] = lambda _bytes: None) -> RecoveredJournal | None:
    """The session of one journal; `None` if its edgetop lives, or if there is nothing in it, when it is deleted.

    A journal of which not every line is in a session afterwards is renamed, never deleted. `on_read` hears now and then
    how many bytes have been read.
    """
    try:
        fd = os.open(journal, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # Another edgetop has recovered it.
    except OSError as error:
        return RecoveredJournal(journal=journal, problem=f"{journal}: {error.strerror}")
    try:
        if not _is_ours(fd, journal) and abs(time.time() - os.fstat(fd).st_mtime) < SILENT_S:
            return None
        return _recover_locked(fd, journal, on_read)
    except BlockingIOError:
        return None
    except OSError as error:
        return RecoveredJournal(journal=journal, problem=f"{journal}: {error.strerror or error}")
    finally:
        os.close(fd)


def _is_ours(fd: int, journal: Path) -> bool:
    """Lock the journal; False where a lock excludes nobody. Raises BlockingIOError where its edgetop lives."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    again = os.open(journal, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(again)
    return False


def _recover_locked(fd: int, journal: Path, on_read: Callable[[int], None]) -> RecoveredJournal | None:
    if not _is_there(journal, fd):
        return None  # It was finished, recovered or set aside between our opening and our locking it.
    name = _NAME.fullmatch(journal.stem)
    session_id, started_at = (journal.stem, "") if name is None else (name["id"], _iso(name["date"] + name["time"]))
    recovered = recover_session(read_journal(fd, on_read), session_id, started_at)
    unreadable = () if recovered is None else recovered.unreadable
    if recovered is None or not (recovered.session.turns or recovered.session.loads or recovered.session.services):
        holds_something = bool(os.fstat(fd).st_size) if recovered is None else bool(recovered.session.series)
        if holds_something or unreadable:
            aside = _set_aside(journal)
            problem = f"{journal}: nothing in it could be read by this edgetop; it is kept as {aside.name}"
            return RecoveredJournal(journal=aside, unreadable=unreadable, problem=problem)
        journal.unlink()
        return None
    path, has_all, labels = _file_for(journal.with_suffix(FILE_SUFFIX), recovered.session)
    if not has_all:
        save(path, recovered.session, labels=labels)
    if unreadable or any(event.kind == REFUSED for event in recovered.session.events):
        aside = _set_aside(journal)
        problem = f"{journal}: not all of it could be read; the rest is in {path.name}, and it is kept as {aside.name}"
        return RecoveredJournal(journal=aside, path=path, unreadable=unreadable, problem=problem)
    try:
        journal.unlink()
        sync_folder(journal.parent)
    except OSError as error:
        kept = f"{path} has all of it, but its journal {journal.name} could not be deleted"
        return RecoveredJournal(journal=journal, path=path, problem=f"{kept}: {error.strerror or error}")
    return None if has_all else RecoveredJournal(journal=journal, path=path)


def _set_aside(journal: Path) -> Path:
    aside = unused(journal.with_name(journal.name + ".unread"))
    journal.rename(aside)
    sync_folder(journal.parent)
    return aside


def _file_for(path: Path, session: Session) -> tuple[Path, bool, SessionHead | None]:
    """Where the session of a journal goes, whether all of it is there already, and whose tags and note it takes over.

    A file beside the journal may be of an edgetop that died before it deleted the journal, or have been made of the
    beginning of this journal; whatever else it is, it stays.
    """
    if not os.path.lexists(path):
        return path, False, None
    try:
        file = load_head(path)
        amounts, written = _amounts(session), _amounts(load(path))
    except SessionFileError:
        return unused(path), False, None
    if session.header is not None and file.id == session.header.session_id:
        if all(written[what] >= amount for what, amount in amounts.items()):
            return path, True, None
        if all(amounts[what] >= amount for what, amount in written.items()):
            return path, False, file
    return unused(path), False, None


def _amounts(session: Session) -> Counter[tuple[str, object]]:
    """How much a session has of everything, without the event of its recovery."""
    amounts: Counter[tuple[str, object]] = Counter()
    for number, turn in enumerate(session.turns):
        amounts["turn", number], amounts["tokens", number] = 1, len(turn.token_t_us)
    for name, series in session.series.items():
        amounts["readings", name] = len(series.t_us)
    for name, records in (("model", session.loads), ("score", session.scores), ("prediction", session.predictions)):
        amounts[name, ""] = len(records)
    amounts["service", ""], amounts["request", ""] = len(session.services), len(session.requests)
    amounts["event", ""] = sum(event.kind != "recovered" for event in session.events)
    return amounts


def _iso(digits: str) -> str:
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{digits[12:14]}+00:00"

"""The folder of recorded sessions: journals of running ones, files of ended ones."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from edgetop.core.errors import EdgetopError
from edgetop.session.codec import SessionFileError
from edgetop.session.disk import load, load_head, save, sync_folder
from edgetop.session.file import SessionHead
from edgetop.session.folder import FILE_SUFFIX, JOURNAL_SUFFIX
from edgetop.session.journal import Journal, UnreadableLine, read_journal
from edgetop.session.recovery import recover_session
from edgetop.session.session import Session

_NAME = re.compile(r"(?P<date>\d{8})-(?P<time>\d{6})-(?:.*-)?(?P<id>[^-]+)")
_CANDIDATES_TOLD = 5


class StoreError(EdgetopError):
    """A session that cannot be found or written."""


class ListedSession(Struct, frozen=True, kw_only=True):
    """A session file in the store."""

    number: int
    """From 1, the newest first."""
    path: Path
    head: SessionHead | None
    """Everything but turns, events and series; `None` if the file cannot be read."""
    problem: str = ""
    """Why it cannot, in one line."""


class RecoveredJournal(Struct, frozen=True, kw_only=True):
    """A journal that was found without an edgetop that writes it."""

    journal: Path
    path: Path | None = None
    """The session file made of it; `None` if that failed and the journal is still there."""
    unreadable: tuple[UnreadableLine, ...] = ()
    """Lines of the journal that are not in the session."""
    problem: str = ""


class Store:
    """Sessions in one folder. File names sort by time and carry the model's name and the beginning of the id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new_journal(self, session_id: str, started_at: str, model_hint: str = "") -> Journal:
        """Begin the journal of a session. `started_at` is ISO 8601 in UTC, `model_hint` goes into the file's name."""
        return Journal(self.folder / (_stem(session_id, started_at, model_hint) + JOURNAL_SUFFIX))

    def finish(self, session: Session, journal: Journal, output: Path | None = None) -> Path:
        """Write the file of an ended session, delete its journal and return where the file is.

        That is `output`, or else beside the journal. If it cannot be written there, it is put into the store, and if
        the journal is not whole either, into a new temporary folder: the caller tells the returned path.
        Raises StoreError when the journal is all there is.
        """
        beside_journal = journal.path.with_suffix(FILE_SUFFIX)
        reason = ""
        for path in (output or beside_journal, beside_journal):
            try:
                save(path, session)
            except OSError as error:
                reason = reason or f"{path}: {error.strerror or error}"
                continue
            journal.remove()
            return path
        what = f"The session could not be written to {reason}."
        if journal.close():
            raise StoreError(what, f"It is safe in {journal.path}: make room, then type `edgetop sessions recover`.")
        try:
            path = Path(tempfile.mkdtemp(prefix="edgetop-")) / beside_journal.name
            save(path, session)
        except OSError:
            raise StoreError(what, f"The journal {journal.path} has what could be written of it.") from None
        with suppress(OSError):
            journal.path.unlink()
        return path

    def recover(self) -> list[RecoveredJournal]:
        """Turn the journals of edgetops that died into session files; those of running ones are left alone."""
        journals = sorted(self.folder.glob("*" + JOURNAL_SUFFIX)) if self.folder.is_dir() else []
        return [recovered for journal in journals if (recovered := _recover(journal)) is not None]

    def list(self) -> list[ListedSession]:
        """All session files, the newest first, unreadable ones among them."""
        return [_listed(number, path) for number, path in enumerate(self._paths(), 1)]

    def find(self, text: str) -> Path:
        """The session file that a person means.

        In this order: a path, a number of `list`, a file's name, the beginning of an id, a tag, a part of a model's
        name or quantization. Raises StoreError when there is none or more than one.
        """
        with suppress(OSError):  # such as a name that is too long
            if Path(text).is_file():
                return Path(text)
        paths = self._paths()
        if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= len(paths):
            return paths[int(text) - 1]
        for path in paths:
            if text in {path.name, path.stem}:
                return path
        listed = self.list()
        wanted = text.casefold()
        found = [each for each in listed if each.head is not None and wanted and each.head.id.startswith(wanted)]
        found = found or [each for each in listed if each.head is not None and text in each.head.tags]
        found = found or [each for each in listed if each.head is not None and wanted and wanted in _models(each.head)]
        if len(found) == 1:
            return found[0].path
        if not found:
            raise StoreError(f"No session is meant by {text!r}.", "`edgetop sessions list` shows those there are.")
        numbers = ", ".join(str(each.number) for each in found[:_CANDIDATES_TOLD])
        more = ", ..." if len(found) > _CANDIDATES_TOLD else ""
        raise StoreError(f"{len(found)} sessions are meant by {text!r}.", f"Give the number of one: {numbers}{more}.")

    def find_all(self, texts: Sequence[str]) -> Sequence[Path]:
        """The session files that a person means by several words (`edgetop.session.selection`). Raises StoreError."""
        from edgetop.session.selection import find_all  # noqa: PLC0415 - it stands on the store

        return find_all(self, texts)

    def remove(self, path: Path) -> None:
        """Delete a session file; also one of the list that cannot be read.

        Raises StoreError for anything else, such as the journal of a session that is being recorded, and OSError.
        """
        if path not in self._paths():
            try:
                load_head(path)
            except SessionFileError as error:
                raise StoreError(f"{error.what}.", "It is not removed: it may be anything.") from None
        path.unlink()
        sync_folder(path.parent)

    def _paths(self) -> Sequence[Path]:
        if not self.folder.is_dir():
            return ()
        return sorted(self.folder.glob("[!.]*" + FILE_SUFFIX), key=lambda path: path.name, reverse=True)


def _listed(number: int, path: Path) -> ListedSession:
    try:
        return ListedSession(number=number, path=path, head=load_head(path))
    except SessionFileError as error:
        return ListedSession(number=number, path=path, head=None, problem=error.what)


def _models(head: SessionHead) -> str:
    return " ".join(f"{load.model.name} {load.model.quantization}" for load in head.loads).casefold()


def _stem(session_id: str, started_at: str, model_hint: str) -> str:
    """`20261012-140322-smollm2-135m-instruct-1a2b3c4d`."""
    digits = re.sub(r"\D", "", started_at, flags=re.ASCII)
    model = re.sub(r"[^a-z0-9]+", "-", model_hint.lower())[:40].strip("-")
    identity = re.sub(r"[^A-Za-z0-9]", "", session_id)[:8]
    return "-".join(part for part in (digits[:8], digits[8:14], model, identity) if part)


def _recover(journal: Path) -> RecoveredJournal | None:
    """The session of one journal; `None` if its edgetop lives, or if there is nothing in it, when it is deleted."""
    try:
        fd = os.open(journal, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return RecoveredJournal(journal=journal, problem=f"{journal}: {error.strerror}")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _recover_locked(fd, journal)
    except BlockingIOError:
        return None
    except OSError as error:
        return RecoveredJournal(journal=journal, problem=f"{journal}: {error.strerror or error}")
    finally:
        os.close(fd)


def _recover_locked(fd: int, journal: Path) -> RecoveredJournal | None:
    if os.fstat(fd).st_nlink == 0:
        return None  # Its edgetop finished it between our opening and our locking it.
    path = journal.with_suffix(FILE_SUFFIX)
    if _is_written(path):
        # Its edgetop died after it wrote the file and before it deleted the journal.
        journal.unlink()
        return None
    name = _NAME.fullmatch(journal.stem)
    session_id, started_at = (journal.stem, "") if name is None else (name["id"], _iso(name["date"] + name["time"]))
    recovered = recover_session(read_journal(fd), session_id, started_at)
    if recovered is None or not (recovered.session.turns or recovered.session.loads or recovered.session.services):
        journal.unlink()
        return None
    save(path, recovered.session)
    journal.unlink()
    sync_folder(journal.parent)
    return RecoveredJournal(journal=journal, path=path, unreadable=recovered.unreadable)


def _is_written(path: Path) -> bool:
    try:
        load(path)
    except SessionFileError:
        return False
    return True


def _iso(digits: str) -> str:
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{digits[12:14]}+00:00"

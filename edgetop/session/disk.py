"""Session files on disk: read within bounds, written whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from edgetop.core.text import one_line
from edgetop.session.codec import (
    MESSAGE_LENGTH,
    SessionFileError,
    carry_over,
    decode_document,
    decode_file,
    decode_head,
    encode_file,
    to_document,
)
from edgetop.session.conversion import to_file, to_session
from edgetop.session.file import SessionFile, SessionHead
from edgetop.session.numbers import number_problems
from edgetop.session.session import Session

Head = TypeVar("Head", bound=SessionHead)
LARGEST_FILE_BYTES = 128 * 2**20
"""More than fifteen hours at ten samples a second in ten channels; what is larger is not read."""
USUAL_HEAD_BYTES, LONGEST_HEAD_BYTES = 16 * 2**10, 256 * 2**10
"""The first line of a session has some kilobytes; of a file without one, the whole is read."""


def load(path: Path) -> Session:
    """The session in a file. Raises SessionFileError, one line that names the file and the place in it."""
    file = load_file(path)
    try:
        return to_session(file)
    except ValueError as error:
        raise SessionFileError(f"{path}: {one_line(str(error)[:MESSAGE_LENGTH])}") from None


def load_file(path: Path) -> SessionFile:
    """A session file as its types. Raises SessionFileError."""
    try:
        return decode_file(read_bytes(path))
    except SessionFileError as error:
        raise _at(path, error) from None


def load_head(path: Path) -> SessionHead:
    """Everything of a session file but its long parts. Raises SessionFileError."""
    try:
        with _open_regular(path) as fd:
            data = os.read(fd, USUAL_HEAD_BYTES)
            if b"\n" not in data:
                data += os.read(fd, LONGEST_HEAD_BYTES)
            line, line_break, _ = data.partition(b"\n")
    except OSError as error:
        raise SessionFileError(f"{path}: {error.strerror}") from None
    except SessionFileError as error:
        raise _at(path, error) from None
    if line_break and line.endswith(b","):
        with suppress(SessionFileError):
            return _sound(path, decode_head(line))
    return _sound(path, load_file(path))


def _sound(path: Path, head: Head) -> Head:
    for problem in number_problems(head):
        raise SessionFileError(f"{path}: {one_line(problem[:MESSAGE_LENGTH])}")
    return head


def save(path: Path, session: Session) -> None:
    """Write a session to a file. Raises OSError."""
    write_atomically(path, encode_file(to_file(session)))


def rewrite(path: Path, change: Callable[[SessionFile], SessionFile]) -> None:
    """Change a session file and keep what a newer edgetop wrote into it. Raises SessionFileError or OSError."""
    try:
        data = read_bytes(path)
        file = decode_file(data)
        original = decode_document(data)
    except SessionFileError as error:
        raise _at(path, error) from None
    changed = carry_over(original, to_document(file), to_document(change(file)))
    write_atomically(path, encode_file(changed))


def read_bytes(path: Path) -> bytes:
    """The bytes of a session file. Raises SessionFileError if there is none or it is larger than any session."""
    try:
        with _open_regular(path) as fd:
            size_bytes = os.fstat(fd).st_size
            if size_bytes > LARGEST_FILE_BYTES:
                raise SessionFileError(f"it has {size_bytes / 2**20:.0f} MiB, more than any session")
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(LARGEST_FILE_BYTES)
    except OSError as error:
        raise SessionFileError(error.strerror or "it cannot be read") from None


@contextmanager
def _open_regular(path: Path) -> Iterator[int]:
    """A descriptor of a regular file. Raises SessionFileError for a pipe or a device, which may never end."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SessionFileError("it is not a regular file")
        yield fd
    finally:
        os.close(fd)


def _at(path: Path, error: SessionFileError) -> SessionFileError:
    return SessionFileError(f"{path}: {error.what}", error.mend)


def write_atomically(path: Path, pieces: Iterable[bytes]) -> None:
    """Put a file in the place of `path`, readable by its owner only, when all of it is on disk. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder last; on a file system that cannot, do nothing."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

"""Atomic writes, bounded reads, locks; data, config, cache folders."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

FILE_SUFFIX = ".json"

JOURNAL_SUFFIX = ".journal"


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where sessions are kept: below EDGETOP_DATA_DIR if that is set, else below the user's data folder."""
    chosen = environ.get("EDGETOP_DATA_DIR", "")
    if chosen:
        return Path(chosen).expanduser() / "sessions"
    from platformdirs import user_data_path  # noqa: PLC0415 - not needed where the folder was chosen

    return user_data_path("edgetop") / "sessions"


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

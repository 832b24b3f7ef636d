"""Atomic writes, bounded reads, locks; data, config, cache folders."""

from __future__ import annotations

import codecs
import errno
import fcntl
import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

from edgetop.core.errors import UsageError
from edgetop.core.text import one_line

FILE_SUFFIX = ".json"
JOURNAL_SUFFIX = ".journal"


def expanded(text: str) -> Path:
    """A path that a person wrote, `~` being the home folder. Raises UsageError where there is no such home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.split("/", 1)[0]
        raise UsageError(
            f"{one_line(text)}: there is no home folder {one_line(user)}", "write the whole path"
        ) from None


def with_tilde(path: Path | str) -> str:
    """The path as a person writes it, `~` being the home folder."""
    home = os.environ.get("HOME", "").rstrip("/") + "/"
    return f"~/{str(path).removeprefix(home)}" if home != "/" and str(path).startswith(home) else str(path)


def ensure_home() -> Path | None:
    """Have a home folder where the user has none, as in containers and services: a temporary one, which is returned.

    Otherwise configuration and state would be looked for below `/` or in the working folder. Raises OSError.
    """
    home = os.environ.get("HOME")
    if home is None:
        home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises
    if os.path.isabs(home) and os.path.isdir(home):  # noqa: PTH112, PTH117 - pathlib is slower, and every start does this
        return None
    import tempfile  # noqa: PLC0415 - as in `replacement`

    folder = Path(tempfile.gettempdir()) / f"edgetop-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        folder = Path(tempfile.mkdtemp(prefix="edgetop-"))
    os.environ["HOME"] = str(folder)
    return folder


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of sessions: below EDGETOP_DATA_DIR if that is set, else below the user's data folder."""
    chosen = environ.get("EDGETOP_DATA_DIR", "")
    if chosen:
        return expanded(chosen) / "sessions"
    return user_folder("data") / "sessions"


_XDG: Final = {
    "cache": ("XDG_CACHE_HOME", ".cache"), "config": ("XDG_CONFIG_HOME", ".config"),
    "data": ("XDG_DATA_HOME", ".local/share"),
}  # fmt: skip


def user_folder(kind: Literal["cache", "config", "data"]) -> Path:
    """The folder of edgetop of a kind, where platformdirs has it.

    To import that takes longer than to read a model's header, so on Linux its rule is followed here where it is not
    loaded yet.
    """
    home = os.environ.get("HOME", "")
    if sys.platform.startswith("linux") and "platformdirs" not in sys.modules and home.startswith("/"):
        variable, below = _XDG[kind]
        named = os.environ.get(variable, "")
        return Path(named if named.startswith("/") else f"{home}/{below}") / "edgetop"
    import platformdirs  # noqa: PLC0415 - as it says

    found: Path = getattr(platformdirs, f"user_{kind}_path")("edgetop", appauthor=False)
    return found


def hub_home(environment: Mapping[str, str]) -> Path:
    """Hugging Face's folder, which holds cache and token."""
    home = Path(environment.get("HOME") or Path.home())
    return Path(
        environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface"
    )


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Hugging Face's cache."""
    named = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    return Path(named or hub_home(environment) / "hub")


@contextmanager
def replacement(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """A new file next to `path`, readable by its owner only, that replaces it when all of it is on disk.

    On an exception it is removed and `path` stays as it was. One that need not be `synced` may be broken after a power
    cut. A device or a pipe, such as /dev/null, is never replaced: all of the file is written to it. Raises OSError.
    """
    import tempfile  # noqa: PLC0415 - `--help` imports this module, and makes no files

    is_special = _is_special(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = None if is_special else path.parent
    fd, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=PART_SUFFIX)
    temporary = Path(name)
    try:
        with suppress(OSError):  # where there are no locks, age tells
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
        if is_special:
            # A pipe that nobody reads is refused; one that is read slowly is waited for.
            to_device = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            os.set_blocking(to_device, True)
            with open(to_device, "wb") as device:  # noqa: PTH123 - nothing is created
                device.write(temporary.read_bytes())
            temporary.unlink()
            return
        if synced:
            sync_folder(temporary)  # by its name: whoever wrote it may have put another file there
            os.fsync(fd)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(fd)
    if synced:
        sync_folder(path.parent)


def _is_special(path: Path) -> bool:
    """Whether a path leads to a device or a pipe. Raises OSError for a disk."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    if stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a disk, not a file", str(path))
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_small(path: Path, largest_bytes: int = 2**20, *, regular: bool = True) -> bytes:
    """All of a file. Raises OSError, also for one that is larger, or is a pipe or a device.

    Without `regular` it may be one: it was named by the person, and not found in a folder.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | (os.O_NONBLOCK if regular else 0))

    with open(path, "rb", opener=opener) as file:
        if regular and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        data = file.read(largest_bytes + 1)
    if len(data) > largest_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {largest_bytes / 2**20:g} MiB", str(path))
    return data


def as_utf8(data: bytes) -> bytes:
    """The bytes of a text without a byte order mark, which editors write; UTF-16, which has one, as UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace").encode()
    return data.removeprefix(codecs.BOM_UTF8)


TOML_BYTES_MAX = 2**18
"""A file of this size that is nothing but tables takes the parser a second and 110 MiB; ours have some kilobytes."""

TOML_PARTS_MAX = 16
"""Parts of a dotted key, of which each becomes a table."""

_TOML_TEXT = (
    r'"""[\s\S]*?(?:"""|\Z)'
    r"|'''[\s\S]*?(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*"
)
"""Strings and comments; one that does not end goes to the end of its line or file."""

_TOML_DOTTED = rf'(?a)(?<![\w"-])(?:[\w"-]+[ \t]*\.[ \t]*){{{TOML_PARTS_MAX},}}'


def read_toml(path: Path, *, regular: bool = True) -> dict[str, Any]:
    """The tables of a TOML file. Raises OSError as `read_small` does, and ValueError for what is no usable TOML."""
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415 - few starts read a file
    else:
        import tomli as tomllib  # noqa: PLC0415 - the same
    text = toml_text(path, regular=regular)
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            raise
        raise ValueError("a number has more digits than can be read") from None
    return tables


def toml_text(path: Path, *, regular: bool = True) -> str:
    """The text of a TOML file that a parser can take; raises as `read_toml` does."""
    text = read_small(path, TOML_BYTES_MAX, regular=regular).decode("utf-8-sig")
    if re.search(_TOML_DOTTED, re.sub(_TOML_TEXT, '""', text)):
        raise ValueError(f"a key has more than {TOML_PARTS_MAX} parts")
    return text


PART_SUFFIX, PART_AGE_S = ".part", 60.0


def remove_parts(folder: Path, pattern: str = ".*") -> None:
    """Remove what edgetops that died have begun to write in a folder: a lock tells what another one is writing."""
    for part in folder.glob(pattern + PART_SUFFIX):
        with suppress(OSError):
            fd = os.open(part, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if time.time() - os.fstat(fd).st_mtime > PART_AGE_S:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    part.unlink()
            finally:
                os.close(fd)


LOCK_S = 10.0
"""How long a change waits for others of the same folder."""


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Wait until no other edgetop changes a file in the folder: who reads a file to change it writes what it read.

    Where there are no locks, and after LOCK_S, all goes on without one.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        until_s = time.monotonic() + LOCK_S
        while time.monotonic() < until_s:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            except OSError:
                pass
            break
        yield
    finally:
        os.close(fd)


def write_atomically(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that is complete or not there. Raises OSError."""
    with replacement(path) as temporary, temporary.open("wb") as file:
        file.writelines(pieces)


def may_replace(path: Path, first: bytes) -> bool:
    """Whether nothing of value is lost when `path` is written: what is there is empty, or begins as ours do.

    A device or a pipe is written to. Raises OSError.
    """
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(len(first)) in {b"", first}


def unused(path: Path) -> Path:
    """`path`, or the first with a number at the end of its stem that names nothing."""
    found, number = path, 1
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable, or the contents of a file, where the file system can."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

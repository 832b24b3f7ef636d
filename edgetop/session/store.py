"""Sessions folder: list, find, select, tag, remove."""

from __future__ import annotations

import errno
import gc
import glob
import math
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct, structs
from msgspec.structs import replace

from edgetop import __version__
from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import DutyFigures
from edgetop.core.engine_settings import MemoryBreakdown
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import MemoryFigures
from edgetop.core.format import time_left, unix_s
from edgetop.core.text import one_line
from edgetop.io import json
from edgetop.io.files import (
    FILE_SUFFIX,
    JOURNAL_SUFFIX,
    changing,
    read_small,
    remove_parts,
    sync_folder,
    write_atomically,
)
from edgetop.io.model_file import compute_digest
from edgetop.session.file import SessionHead
from edgetop.session.file_io import COPY_SUFFIX, SessionFileError, copy_of, load_head, load_titled, rewrite_head, save
from edgetop.session.journal import Journal, RecoveredJournal, recover_journal
from edgetop.session.session import Session

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (_PACKAGE / "data" / "sessions", _PACKAGE.parent / "sessions")
"""In an installed wheel, and in a checkout."""

PAIR = ("smollm2-135m-q4_1", "smollm2-135m-f16")
"""Two that differ in their quantization alone."""


def example_pair() -> list[Path]:
    """Two recordings to be looked at side by side. Raises EdgetopError where edgetop was installed without them."""
    for folder in FOLDERS:
        paths = [folder / f"{name}{FILE_SUFFIX}" for name in PAIR]
        if all(path.is_file() for path in paths):
            return paths
    raise EdgetopError("the examples are missing from this installation", "record a session, and replay that one")


LONGEST_TAG: Final = 40


class LabelError(ValueError):
    """A text that cannot be a tag."""


def changed_tags(tags: Sequence[str], changes: Sequence[str]) -> tuple[str, ...]:
    """The tags after `+name` or `name`, which adds one at the end, and `-name`, which takes one away.

    Raises LabelError for what cannot be a tag, and for taking away what is not there.
    """
    kept = list(tags)
    for change in changes:
        name = change[1:] if change[:1] in {"+", "-"} else change
        if change.startswith("-"):
            if name not in kept:
                raise LabelError(f"there is no tag {name!r}; there are: {', '.join(kept) or 'none'}")
            kept = [tag for tag in kept if tag != name]
        else:
            _require_tag(name)
            if name not in kept:
                kept.append(name)
    return tuple(kept)


def retag(path: Path, changes: Sequence[str]) -> tuple[str, ...]:
    """Change the tags of a session file as `changed_tags` does; those it has then.

    Raises LabelError, SessionFileError and OSError.
    """
    tags: tuple[str, ...] = ()

    def retagged(file: SessionHead) -> SessionHead:
        nonlocal tags
        tags = changed_tags(file.tags, changes)
        return file if tags == file.tags else replace(file, tags=tags)

    rewrite_head(path, retagged)
    return tags


def write_labels(path: Path, *, tags: tuple[str, ...] | None = None, notes: str | None = None) -> None:
    """Put other tags or another note into a session file; all else stays. Raises SessionFileError and OSError."""

    def labelled(file: SessionHead) -> SessionHead:
        return replace(file, tags=file.tags if tags is None else tags, notes=file.notes if notes is None else notes)

    rewrite_head(path, labelled)


def complete_digests(path: Path, limit_s: float) -> None:
    """Add the SHA-256 of models that a session lacks, if their files are as they were and it does not take long.

    Nothing is done while a session is being recorded beside it: its model might decode. Raises SessionFileError.
    """
    head = load_head(path)
    started = unix_s(head.started_at) or 0.0
    until = time.monotonic() + limit_s
    found: dict[str, str] = {}
    for load in head.loads:
        model = Path(load.model.path)
        try:
            unchanged = not load.model.sha256 and not load.engine.server and model.stat().st_mtime < started
        except (OSError, ValueError):
            continue
        if unchanged and not any(path.parent.glob(f"*{JOURNAL_SUFFIX}")):
            found[load.model.path] = compute_digest(model, goes_on=lambda: time.monotonic() < until)

    def completed(file: SessionHead) -> SessionHead:
        loads = [
            replace(load, model=replace(load.model, sha256=load.model.sha256 or found.get(load.model.path, "")))
            for load in file.loads
        ]
        return replace(file, loads=tuple(loads))

    if any(found.values()):
        with suppress(OSError, SessionFileError):
            rewrite_head(path, completed)


def _require_tag(name: str) -> None:
    harmless = name == one_line(name) and not any(each.isspace() or each in ",+" for each in name)
    if not 0 < len(name) <= LONGEST_TAG or not harmless:
        raise LabelError(
            f"{one_line(name)!r} cannot be a tag: up to {LONGEST_TAG} characters without blanks and commas"
        )


_CANDIDATES_SHOWN = 5

T = TypeVar("T")


class StoreError(EdgetopError):
    """A session that cannot be found or written."""


class Saved(NamedTuple):
    """Where a session was saved."""

    path: Path
    why_not: str = ""
    """`not in PATH: REASON` where it is not in the file that was asked for."""


_REMEDIES: Final = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "mount the file system so that it can be written",
    errno.EACCES: "allow writing there",
    errno.EIO: "see what is wrong with the disk (`dmesg`)",
}


FileStamp = tuple[int, int, int]
"""Tells a file that was written anew."""


def file_stamp(path: Path) -> FileStamp | None:
    """Of a regular file; of anything else, and of nothing, `None`."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size) if stat.S_ISREG(status.st_mode) else None


def _save_unless_changed(path: Path, session: Session, replaces: FileStamp | None) -> None:
    """Write a file that was not there, or was as `replaces` says, when the session began. Raises OSError."""
    with changing(path.parent):
        if file_stamp(path) not in {None, replaces}:
            raise FileExistsError(errno.EEXIST, "another program has written that file meanwhile")
        save(path, session)


def _why_not(asked: Path, failure: OSError) -> str:
    return f"not in {asked}: {failure.strerror or failure}"


class ListedSession(Struct, frozen=True, kw_only=True):
    """A session file in the store."""

    number: int
    """From 1, the newest first."""
    path: Path
    head: SessionHead | None
    """What lists are made of: no predictions, quality, memory, use, nor what is absent. `None` if it cannot be read."""
    problem: str = ""
    """Why it cannot, in one line."""
    first_prompt: str = ""
    """Its beginning; empty where there is none, or where no text was recorded."""


ID_IN_NAMES: Final = 8
"""So much of a session's id is in the name of its file."""


class _LabelledModel(Struct, frozen=True):
    name: str = ""
    quantization: str = ""


class _LabelledLoad(Struct, frozen=True):
    model: _LabelledModel = _LabelledModel()


class Labels(Struct, frozen=True, kw_only=True):
    """What sessions are found by, of a head; under the same names."""

    id: str
    started_at: str = ""
    tags: tuple[str, ...] = ()
    loads: tuple[_LabelledLoad, ...] = ()


class LabelledSession(NamedTuple):
    """As `ListedSession`, with no more than the labels."""

    number: int
    name: str
    head: Labels | None


class Store:
    """Sessions in one folder. File names sort by time and carry the model's name and the beginning of the id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new_journal(self, session_id: str, started_at: str, model_hint: str = "") -> Journal:
        """Begin the journal of a session. `started_at` is ISO 8601 in UTC, `model_hint` goes into the file's name."""
        return Journal(self.folder / (_stem(session_id, started_at, model_hint) + JOURNAL_SUFFIX))

    def finish(
        self, session: Session, journal: Journal, output: Path | None = None, replaces: FileStamp | None = None
    ) -> Saved:
        """Write the file of an ended session and delete its journal.

        It goes to `output`, or else beside the journal. If it cannot be written there, or what is there is not what it
        `replaces`, it is put into the store, and if the journal is not whole either, into a new temporary folder.
        Raises StoreError when the journal is all there is.
        """
        beside_journal = journal.path.with_suffix(FILE_SUFFIX)
        asked, failure = output or beside_journal, OSError()
        for path in dict.fromkeys((asked, beside_journal)):
            try:
                if path == output:
                    _save_unless_changed(path, session, replaces)
                else:
                    save(path, session)
            except OSError as error:
                failure = failure if path != asked else error
                continue
            # One that cannot be deleted now is at the next start, when all of it is in the file.
            with suppress(OSError):
                journal.remove()
            return Saved(path, "" if path == asked else _why_not(asked, failure))
        why_not = _why_not(asked, failure)
        if journal.close():
            remedy = _REMEDIES.get(failure.errno or 0, "see why it cannot be written")
            raise StoreError(
                f"The session is in its journal only, {why_not}.",
                f"It is safe in {journal.path}: {remedy}, then type `edgetop sessions recover`.",
            )
        try:
            path = Path(tempfile.mkdtemp(prefix="edgetop-")) / beside_journal.name
            save(path, session)
        except OSError:
            raise StoreError(
                f"The session could not be saved, {why_not}.",
                f"The journal {journal.path} has what could be written of it.",
            ) from None
        with suppress(OSError):
            journal.path.unlink()
        return Saved(path, why_not)

    @property
    def has_journals(self) -> bool:
        """Whether there are journals: of edgetops that died, or that live."""
        return any(name.endswith(JOURNAL_SUFFIX) for name in self._entries())

    def recover(self) -> list[RecoveredJournal]:
        """Turn the journals of edgetops that died into session files; those of running ones are left alone."""
        return list(self.recovering(lambda _words: None))

    def recovering(self, say: Callable[[str], None]) -> Iterator[RecoveredJournal]:
        """The same, one after the other; `say` hears which one it is of how many, and how long the rest takes."""
        if not self.folder.is_dir():
            return
        remove_parts(self.folder)
        for name in self._entries():
            if name.endswith(COPY_SUFFIX) and not (self.folder / name[1 : -len(COPY_SUFFIX)]).exists():
                with suppress(OSError):
                    (self.folder / name).unlink()
        journals = sorted(self.folder.glob("*" + JOURNAL_SUFFIX))
        sizes = [_size_bytes(journal) for journal in journals]
        begun_s = time.monotonic()
        for at, journal in enumerate(journals):

            def on_read(read_bytes: int, at: int = at) -> None:
                done_bytes = sum(sizes[:at]) + READ_SHARE * read_bytes
                left = time_left(done_bytes / max(1, sum(sizes)), time.monotonic() - begun_s)
                say(f"restoring sessions that were cut off: {at + 1} of {len(journals)}{left}")

            recovered = recover_journal(journal, on_read)
            if recovered is not None:
                yield recovered

    def _named_by_id(self, names: Sequence[str], wanted: str) -> Path | None:
        """The only file whose name ends with an id's beginning, if its session has the id; a short one may be others'.

        Names carry the beginning of the id, so that no other file need be read.
        """
        if len(wanted) < ID_IN_NAMES:
            return None
        end = f"-{wanted[:ID_IN_NAMES]}{FILE_SUFFIX}"
        found = [self.folder / name for name in names if name.endswith(end)]
        with suppress(SessionFileError):
            return found[0] if len(found) == 1 and load_head(found[0]).id.startswith(wanted) else None
        return None

    def labels(self) -> Sequence[LabelledSession]:
        """As `list`, with no more than what sessions are found by: quicker where all files are known already."""
        found = self.kept(LABELS_NAME, Labels | None, lambda each: None if each.head is None else _labels_of(each.head))
        return [LabelledSession(number, name, head) for number, (name, head) in enumerate(found, 1)]

    def list(self) -> list[ListedSession]:
        """All session files, the newest first, unreadable ones among them; of their heads what lists are made of."""
        found = self._kept(CACHE_NAME, _Listed, lambda names: (_read_head(self.folder / name) for name in names))
        return [_listed(self.folder, number, name, each) for number, (name, each) in enumerate(found, 1)]

    def kept(self, cache_name: str, kind: Any, make: Callable[[ListedSession], T]) -> Sequence[tuple[str, T]]:  # noqa: ANN401 (a type of msgspec's)
        """What is made of each session file, the newest first, with its name.

        It is kept in the sessions folder as MessagePack of a kind, and made again of a file of another size or time.
        `make` is given no number that means anything: the next session changes all of them.
        """

        def make_all(names: Sequence[str]) -> Iterator[tuple[T, bool]]:
            known = {each.path.name: each for each in self.list()} if len(names) > FEW_READ else {}
            for name in names:
                if name in known:
                    yield make(known[name]), known[name].head is not None
                else:
                    read, lasting = _read_head(self.folder / name)
                    yield make(_listed(self.folder, 0, name, read)), lasting

        return self._kept(cache_name, kind, make_all)

    def _kept(
        self,
        cache_name: str,
        kind: Any,  # noqa: ANN401 (the same)
        make: Callable[[Sequence[str]], Iterable[tuple[T, bool]]],
    ) -> Sequence[tuple[str, T]]:
        """`make` gives what belongs to each of some names, and whether it stays so while the files are as they are."""
        with without_collecting():
            known = _read_cache(self.folder / cache_name, kind)
            files = list(self._files())
            unknown = {name: stamp for name, stamp in files if name not in known or known[name].stamp != stamp}
            settled_ns = time.time_ns() - UNSETTLED_NS
            fleeting = set()
            for (name, stamp), (value, lasting) in zip(unknown.items(), make(list(unknown)), strict=True):
                known[name] = _Kept(stamp, value)
                if not lasting or max(stamp[1:]) >= settled_ns:
                    fleeting.add(name)
            if len(unknown) - len(fleeting) > FEW_READ:
                _write_cache(self.folder / cache_name, {name: known[name] for name, _ in files if name not in fleeting})
            return [(name, known[name].value) for name, _ in files]

    def find(self, text: str) -> Path:
        """The session file that a person means.

        In this order: a path, a number of `list`, a file's name, the beginning of an id, a tag, a part of a model's
        name or quantization. Raises StoreError when there is none or more than one.
        """
        with suppress(OSError):  # such as a name that is too long
            if Path(text).is_file():
                return Path(text)
        names, wanted = self._names(), text.casefold()
        if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= len(names):
            return self.folder / names[int(text) - 1]
        for name in names:
            if text in {name, name.removesuffix(FILE_SUFFIX)}:
                return self.folder / name
        if (named := self._named_by_id(names, wanted)) is not None:
            return named
        listed = self.labels()
        found = [each for each in listed if each.head is not None and wanted and each.head.id.startswith(wanted)]
        found = found or [each for each in listed if each.head is not None and text in each.head.tags]
        found = found or [each for each in listed if each.head is not None and wanted and wanted in _models(each.head)]
        if len(found) == 1:
            return self.folder / found[0].name
        if not found:
            raise StoreError(f"No session matches {text!r}.", "`edgetop sessions list` shows those there are.")
        numbers = ", ".join(str(each.number) for each in found[:_CANDIDATES_SHOWN])
        more = ", ..." if len(found) > _CANDIDATES_SHOWN else ""
        raise StoreError(f"{len(found)} sessions match {text!r}.", f"Give the number of one: {numbers}{more}.")

    def find_all(self, texts: Sequence[str]) -> Sequence[Path]:
        """The session files that a person means, in the order of the words, each once.

        A word is what `find` takes, and besides: a tag of several sessions; `3..7` or `3-7`, all from one number of the
        list to the other, or `A..B` for any two that `find` takes; a folder, for the session files in it; a pattern
        such as `*q4*`, of names in the store or of paths. Raises StoreError for a word that means none, and for part of
        a model's name or of an id that several have.
        """
        found: dict[str, Path] = {}
        for text in texts:
            for path in _meant(self, text):
                found.setdefault(os.path.realpath(path), path)
        return list(found.values())

    def remove(self, path: Path) -> None:
        """Delete a session file; also one of the list that cannot be read.

        Raises StoreError for anything else, such as the journal of a session that is being recorded, and OSError.
        """
        if path not in self.paths():
            try:
                load_head(path)
            except SessionFileError as error:
                raise StoreError(f"{error.what}.", "It is not removed: it may be anything.") from None
        path.unlink()
        copy_of(path).unlink(missing_ok=True)
        sync_folder(path.parent)

    def paths(self) -> Sequence[Path]:
        """All session files, the newest first."""
        return [self.folder / name for name in self._names()]

    def _names(self) -> Sequence[str]:
        names = (name for name in self._entries() if name.endswith(FILE_SUFFIX) and name[0] != ".")
        return sorted(names, reverse=True)

    def _entries(self) -> Sequence[str]:
        return os.listdir(self.folder) if self.folder.is_dir() else ()  # noqa: PTH208 - ten thousand names, not paths

    def _files(self) -> Iterator[tuple[str, _Stamp]]:
        """Names, the newest first, with what tells a changed file."""
        for name in self._names():
            try:
                status = os.stat(f"{self.folder}/{name}")  # noqa: PTH116 - the same
            except OSError:
                yield name, (-1, 0, 0)
            else:
                yield name, (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


_Stamp = tuple[int, int, int]
"""Size, and when contents and status changed, in nanoseconds."""

CACHE_NAME: Final = ".heads"
LABELS_NAME: Final = ".labels"
"""In the sessions folder; they can be deleted at any time."""

CACHE_BYTES_MAX: Final = 2**28

FEW_READ: Final = 32
"""So many files are read sooner than the cache is written again, which wears an SD card."""

UNSETTLED_NS: Final = 2_000_000_000
"""A file can change again within the clock of some file systems, without a sign."""


class _Kept(Struct, Generic[T], frozen=True, array_like=True, gc=False):
    """What was made of a file as it was."""

    stamp: _Stamp
    value: T


class _Cache(Struct, Generic[T]):
    version: str
    """Of the edgetop that wrote it: another one may understand more of a file."""
    files: dict[str, _Kept[T]]


class _Listed(Struct, frozen=True, kw_only=True):
    """A `ListedSession` without its place."""

    head: SessionHead | None = None
    problem: str = ""
    first_prompt: str = ""


def _listed(folder: Path, number: int, name: str, read: _Listed) -> ListedSession:
    return ListedSession(number=number, path=folder / name, **structs.asdict(read))


def _labels_of(head: SessionHead) -> Labels:
    loads = (_LabelledLoad(_LabelledModel(load.model.name, load.model.quantization)) for load in head.loads)
    return Labels(id=head.id, started_at=head.started_at, tags=head.tags, loads=tuple(loads))


def _read_head(path: Path) -> tuple[_Listed, bool]:
    """The head with the first prompt, or the problem, and whether it stays so while the file is as it is."""
    try:
        head, first_prompt = load_titled(path)
    except SessionFileError as error:
        return _Listed(problem=error.what), not isinstance(error.__context__, OSError)
    parts = {name: getattr(head, name) for name in SessionHead.__struct_fields__}
    parts["loads"] = tuple(replace(load, memory=MemoryBreakdown()) for load in head.loads)
    parts["summary"] = replace(head.summary, memory=MemoryFigures(), duty=DutyFigures())
    head = SessionHead(**(parts | {"predictions": (), "absent": {}, "quality": ()}))
    return _Listed(head=head, first_prompt=first_prompt), True


@contextmanager
def without_collecting() -> Iterator[None]:
    """The collector would look through all heads again and again while they are made, for two thirds of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _read_cache(path: Path, kind: Any) -> dict[str, _Kept[Any]]:  # noqa: ANN401 (a type of msgspec's)
    try:
        found = msgspec.msgpack.decode(read_small(path, CACHE_BYTES_MAX), type=_Cache[kind])
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return found.files if found.version == __version__ else {}


def _write_cache(path: Path, files: Mapping[str, _Kept[Any]]) -> None:
    """Nothing depends on it: where it cannot be written, files are read."""
    packed = msgspec.msgpack.encode(
        {
            "version": __version__,
            "files": {name: (each.stamp, _without_defaults(each.value)) for name, each in files.items()},
        }
    )
    with suppress(OSError):
        write_atomically(path, [packed])


@cache
def _defaults(kind: type[Struct]) -> Mapping[str, object]:
    return {field.name: field.default for field in structs.fields(kind)}


def _without_defaults(value: Any) -> Any:  # noqa: ANN401 (any part of a head)
    """A part of a head without fields that are as they are by default, which a list need not read."""
    if isinstance(value, Struct):
        if value.__struct_config__.array_like:
            return value
        defaults = _defaults(type(value))
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return {name: _without_defaults(part) for name, part in fields.items() if part != defaults[name]}
    if isinstance(value, dict):
        return {name: _without_defaults(part) for name, part in value.items()}
    return [_without_defaults(part) for part in value] if isinstance(value, list | tuple) else value


def _models(head: Labels) -> str:
    return " ".join(f"{load.model.name} {load.model.quantization}" for load in head.loads).casefold()


def _stem(session_id: str, started_at: str, model_hint: str) -> str:
    """`20261012-140322-smollm2-135m-instruct-1a2b3c4d`."""
    digits = re.sub(r"\D", "", started_at, flags=re.ASCII)
    model = re.sub(r"[^a-z0-9]+", "-", model_hint.lower())[:40].strip("-")
    identity = re.sub(r"[^A-Za-z0-9]", "", session_id)[:ID_IN_NAMES]
    return "-".join(part for part in (digits[:8], digits[8:14], model, identity) if part)


class Prunable(NamedTuple):
    """A session that is to go."""

    path: Path
    size_bytes: int
    why: Literal["older", "more"]
    """Than is to be kept."""


def prunable(store: Store, now_s: float, keep_s: float | None, max_bytes: int | None) -> Sequence[Prunable]:
    """The sessions to be deleted so that none is older than `keep_s` and all together take no more than `max_bytes`.

    The oldest go first. A tag keeps a session; files that cannot be read and journals, of sessions that are being
    recorded, are left alone, and only count for the size.
    """
    total_bytes = sum(map(_size_bytes, store.folder.glob("*")))
    dated = [
        (started_s + head.duration_us / US_PER_S, listed)
        for listed in store.list()
        if (head := listed.head) is not None and not head.tags and (started_s := unix_s(head.started_at)) is not None
    ]
    found: list[Prunable] = []
    for ended_s, listed in sorted(dated, key=lambda each: each[0]):
        size_bytes = _size_bytes(listed.path) + _size_bytes(copy_of(listed.path))
        if keep_s is not None and now_s - ended_s > keep_s:
            found.append(Prunable(listed.path, size_bytes, "older"))
        elif max_bytes is not None and total_bytes > max_bytes:
            found.append(Prunable(listed.path, size_bytes, "more"))
        else:
            continue
        total_bytes -= size_bytes
    return found


_RANGE_OF_NUMBERS = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)
_PATTERN = re.compile(r"[*?\[]")


def _meant(store: Store, text: str) -> Iterable[Path]:
    with suppress(OSError, ValueError):  # such as a name that is too long, or has a NUL
        if text and Path(text).is_dir():
            return _inside(Path(text))
        if Path(text).is_file():
            return [Path(text)]
    ends = _ends(text)
    if ends is not None:
        return _between(store, *ends)
    if _PATTERN.search(text):
        return _matching(store, text)
    try:
        return [store.find(text)]
    except StoreError:
        tagged = [store.folder / name for _, name, head in store.labels() if head is not None and text in head.tags]
        if not tagged:
            raise
        return tagged


def _inside(folder: Path) -> Sequence[Path]:
    paths = sorted(folder.glob("[!.]*" + FILE_SUFFIX))
    if not paths:
        raise StoreError(f"{folder} has no session files in it.", "`edgetop sessions list` shows those there are.")
    return paths


def _ends(text: str) -> tuple[str, str] | None:
    """The two ends of a range; `None` for a text that is none."""
    numbers = _RANGE_OF_NUMBERS.fullmatch(text)
    if numbers is not None:
        return numbers[1], numbers[2]
    first, dots, last = text.partition("..")
    return (first, last) if first and dots and last and "/" not in text else None


def _between(store: Store, first: str, last: str) -> Sequence[Path]:
    paths = store.paths()
    places = []
    for end in (first, last):
        if end.isascii() and end.isdigit():
            if len(end) > 9 or not 1 <= int(end) <= len(paths):
                raise StoreError(f"No session has the number {end[:20]}.", f"They go from 1 to {len(paths)}.")
            places.append(int(end) - 1)
            continue
        path = store.find(end)
        if path not in paths:
            raise StoreError(f"{path} is not in {store.folder}.", "A range is of sessions in the list.")
        places.append(paths.index(path))
    low, high = sorted(places)
    between = paths[low : high + 1]
    return between if places[0] <= places[1] else between[::-1]


def _matching(store: Store, pattern: str) -> Sequence[Path]:
    """Names in the store, or else paths; a pattern with a `/` is one of paths."""
    if os.sep not in pattern:
        inside = [path for path in store.paths() if fnmatchcase(path.name, pattern) or fnmatchcase(path.stem, pattern)]
        if inside:
            return inside
    named = sorted(glob.glob(pattern))  # noqa: PTH207 - the pattern may begin at the root
    paths = [Path(name) for name in named if Path(name).is_file()]
    if not paths:
        raise StoreError(f"No session matches {pattern!r}.", "`edgetop sessions list` shows those there are.")
    return paths


READ_SHARE = 0.5
"""Of the time that a journal takes; the rest is for writing the session."""


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


SAID_S = 2.0
"""What takes longer is said."""


def print_recovered(store: Store) -> None:
    """Recover, and print what came of it as JSON in the last line; before it, where it takes long, a line of words."""
    said_s = time.monotonic() + SAID_S

    def say(words: str) -> None:
        nonlocal said_s
        if time.monotonic() > said_s:
            said_s = math.inf
            sys.stdout.buffer.write(f"{words}\n".encode())
            sys.stdout.buffer.flush()

    recovered = list(store.recovering(say))
    sys.stdout.buffer.write(json.encode(recovered))


if __name__ == "__main__":
    os.nice(19)
    print_recovered(Store(Path(sys.argv[1])))

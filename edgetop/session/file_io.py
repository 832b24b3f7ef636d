"""Session files as bytes on disk; rewriting keeps unknown fields; whether a file is what it should be."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from zlib import crc32

import msgspec
from msgspec import Struct, structs
from msgspec.structs import replace

from edgetop import __version__
from edgetop.core.clock import US_PER_S, seconds
from edgetop.core.energy.scopes import Headline
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import FIGURES, Figure, Summary, TurnFigures
from edgetop.core.numbers import BLOCK
from edgetop.core.records import FORMAT_VERSION, TOKENS_MAX, Event, EventEntry, RequestServed, number_problems
from edgetop.core.sources import SourceInfo, Unavailable
from edgetop.core.text import one_line
from edgetop.io import json
from edgetop.io.files import changing, read_small, write_atomically
from edgetop.session.energy import POWER_OVER_TIME, PowerOverTime
from edgetop.session.file import (
    LINES,
    LONG_PARTS,
    SessionFile,
    SessionHead,
    compact,
    encoded_series,
    finished,
    head_of,
    long_parts,
    series_entry,
    series_of_text,
    session_of_head,
    session_of_lines,
    structure_problems,
    to_file,
    to_session,
    with_current_names,
)
from edgetop.session.meters import headline_of, meters_of
from edgetop.session.requests import ClientFigures, LevelFigures, RereadFigures
from edgetop.session.session import PackedSeries, Series, Session, UnfittingError
from edgetop.session.turn import PackedTurn, Turn

MESSAGE_LENGTH = 200
DEEPEST = 100
"""Brackets in brackets; a session has about ten."""

LINE_BREAK = b"\n"
_MARKS = re.compile(rb'["\\\[\]{}]')

TITLE_CHARACTERS = 200
_FIRST_PROMPT = re.compile(
    rb'(?:"\w+":\[\],\n)*"turns":\[\n\{"turn":\d+,"prompt":"((?:[^"\\]|\\.){0,%d})' % (4 * TITLE_CHARACTERS), re.DOTALL
)

_HEAD = msgspec.json.Decoder(SessionHead)
_FILE = msgspec.json.Decoder(SessionFile)


class SessionFileError(EdgetopError):
    """A file that is not a session, or not a whole one."""


def encode_file(file: SessionFile | Mapping[str, Any]) -> Iterator[bytes]:
    """The bytes of a session file, in pieces. A mapping is a document with fields that the types do not know."""
    fields: Mapping[str, Any] = file if isinstance(file, Mapping) else structs.asdict(file)
    yield json.encode({name: value for name, value in fields.items() if name not in LONG_PARTS})[:-1]
    for name in LONG_PARTS:
        yield b',\n"%s":[' % name.encode("ascii")
        separator = b"\n"
        for item in fields[name]:
            yield separator
            if isinstance(item, Series):
                yield from encoded_series(item)
            else:
                yield json.encode(item)
            separator = b",\n"
        yield b"]"
    yield b"}\n"


def encode_session(session: Session, labels: SessionHead | None = None) -> Iterator[bytes]:
    """The bytes of a session's file, with the tags and the note of `labels`; nothing of it is held twice."""
    head = head_of(session)
    if labels is not None:
        head = structs.replace(head, tags=labels.tags, notes=labels.notes)
    return encode_file({**structs.asdict(head), **long_parts(session)})


def decode_file(data: bytes) -> SessionFile:
    """The session file in `data`. Raises SessionFileError, which names the place where `data` is not one."""
    try:
        file = _FILE.decode(with_current_names(data))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise _explained(error, data) from None
    require_version(file)
    return file


def decode_head(line: bytes) -> SessionHead:
    """The first line of a session file, which must end with the line break. Raises SessionFileError."""
    try:
        head = _HEAD.decode(with_current_names(line.rstrip(b"\r\n,") + b"}"))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise _explained(error, line) from None
    require_version(head)
    return head


def decode_document(data: bytes) -> dict[str, Any]:
    """Everything in a session file, known or not, as plain Python objects. Raises SessionFileError."""
    try:
        return msgspec.json.decode(with_current_names(data), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise _explained(error, data) from None


def carry_over(original: Any, understood: Any, changed: Any) -> Any:  # noqa: ANN401 (any JSON)
    """`changed` with what was in `original` but not `understood`, at any depth: fields of a newer edgetop.

    All three are plain Python objects of the same document: as it was read, as the types had it, and as the types
    have it now. Items of lists belong together by their index. `original` is not changed, `changed` may be.
    """
    if isinstance(original, dict) and isinstance(understood, dict) and isinstance(changed, dict):
        for name, value in original.items():
            if name not in understood:
                changed.setdefault(name, value)
            elif name in changed:
                changed[name] = carry_over(value, understood[name], changed[name])
    elif isinstance(original, list) and isinstance(understood, list) and isinstance(changed, list):
        if not (original and isinstance(original[0], dict | list)):
            return changed
        for index, (was, knew) in enumerate(zip(original, understood, strict=False)):
            if index < len(changed):
                changed[index] = carry_over(was, knew, changed[index])
    return changed


def to_document(file: SessionFile) -> dict[str, Any]:
    """What the types hold of a file, as plain Python objects."""
    return decode_document(b"".join(encode_file(file)))


def require_version(head: SessionHead) -> None:
    """Refuse a file of a newer format. Raises SessionFileError."""
    if head.version > FORMAT_VERSION or head.version < 1:
        shown = str(head.version)[:20]
        raise SessionFileError(
            f"$.version: it is a session of format {shown}, and this edgetop reads format {FORMAT_VERSION}",
            "a newer edgetop reads it",
        )


def _explained(error: Exception, data: bytes) -> SessionFileError:
    """The error in one line that begins with the place: a path from the root `$`, a line, or an offset in bytes."""
    message = str(error)
    if isinstance(error, RecursionError):
        message = f"byte {_too_deep_at(data)}: it is nested too deeply for a session"
    elif isinstance(error, UnicodeDecodeError) or "UTF-8" in message:  # as msgspec 0.23 says it
        message = f"byte {_not_utf8_at(data)}: it is not UTF-8"
    elif (found := re.fullmatch(r"(?P<what>.*) - at `(?P<place>\$.*)`", message, re.DOTALL)) is not None:
        message = f"{found['place']}: {found['what']}"
    elif (byte := re.search(r"\(byte (\d+)\)", message)) is not None:
        message = f"line {data.count(LINE_BREAK, 0, int(byte[1])) + 1}: {message}"
    elif "truncated" in message:
        message = f"byte {len(data)}: {message}"
    else:
        message = f"$: {message}"
    return SessionFileError(one_line(message[:MESSAGE_LENGTH]))


def _not_utf8_at(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _too_deep_at(data: bytes) -> int:
    """Where the brackets that are open become more than any session has."""
    depth, after = 0, 0
    in_text = False
    for found in _MARKS.finditer(data):
        mark, at = found[0], found.start()
        if at < after:
            continue
        if mark == b"\\":
            after = at + 2
        elif mark == b'"':
            in_text = not in_text
        elif not in_text:
            depth += 1 if mark in b"[{" else -1
        if depth > DEEPEST:
            return at
    return 0


Head = TypeVar("Head", bound=SessionHead)
LARGEST_FILE_BYTES = 2**30
"""More than four days at ten samples a second in ten channels; what is larger is not read."""

USUAL_HEAD_BYTES, LONGEST_HEAD_BYTES = 16 * 2**10, 256 * 2**10
"""The first line of a session has some kilobytes; of a file without one, the whole is read."""


class _Copy(Struct, frozen=True, array_like=True):
    """The long parts of a session as they are in memory, beside its file: they are read at once, whatever they hold."""

    turns: list[PackedTurn]
    events: list[Event]
    requests: list[RequestServed]
    series: list[PackedSeries]
    power: PowerOverTime | None


_COPY: Final = msgspec.msgpack.Decoder(_Copy)
_COPY_HEAD: Final = struct.Struct("<16sQqqQI")
"""Of which edgetop; size, times and number of the session's file; the checksum of what follows."""

COPY_SUFFIX: Final = ".packed"

COPIED_FROM: Final = 2**20
"""A session with fewer numbers is read from its file within a second."""


def copy_of(path: Path) -> Path:
    """Where the copy of a session file is, if it has one."""
    return path.with_name(f".{path.name}{COPY_SUFFIX}")


def _copy_head(path: Path, checksum: int) -> bytes:
    status = path.stat()
    version = f"{__version__} {BLOCK}".encode()[:16]
    # Who sends a session with a copy of it cannot know its place on this disk.
    place = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return _COPY_HEAD.pack(version, *place, checksum)


def _is_current(path: Path) -> bool:
    with suppress(OSError, struct.error), copy_of(path).open("rb") as copy:
        head = copy.read(_COPY_HEAD.size)
        return head == _copy_head(path, _COPY_HEAD.unpack(head)[-1])
    return False


def _keep_copy(path: Path, session: Session) -> None:
    """Nothing depends on it: where it cannot be written, the file is read."""
    tokens = sum(span.tokens for turn in session.turns for span in turn.reply)
    if tokens + sum(len(each.t_us) * (1 + len(each.columns)) for each in session.series.values()) < COPIED_FROM:
        return
    turns = [turn.packed() for turn in session.turns]
    series = [each.packed() for each in session.series.values()]
    power = POWER_OVER_TIME.of(session)
    drawn = None if isinstance(power, Unavailable) else power
    copy = _Copy(turns, session.events, session.requests, series, drawn)
    with suppress(OSError, ValueError):  # ValueError of text that is no Unicode
        checksum = 0
        for piece in _pieces(copy):
            checksum = crc32(piece, checksum)
        write_atomically(copy_of(path), chain((_copy_head(path, checksum),), _pieces(copy)))


def _pieces(value: object, depth: int = 6) -> Iterator[bytes]:
    """A value as MessagePack has it; at once it would take the memory of the session once more."""
    parts = structs.astuple(value) if isinstance(value, Struct) and value.__struct_config__.array_like else value
    if depth and isinstance(parts, list | tuple):
        yield b"\xdd" + len(parts).to_bytes(4, "big")  # an array of so many
        for part in parts:
            yield from _pieces(part, depth - 1)
    else:
        yield msgspec.msgpack.encode(value)


def _load_copy(path: Path) -> Session | None:
    with suppress(OSError, ValueError, msgspec.MsgspecError, UnfittingError):
        data = memoryview(read_small(copy_of(path), LARGEST_FILE_BYTES) if _is_current(path) else b"")
        head, data = data[: _COPY_HEAD.size], data[_COPY_HEAD.size :]
        if data and head == _copy_head(path, crc32(data)):
            copy = _COPY.decode(data)
            session = session_of_head(load_head(path))
            session.turns = [Turn.of(each) for each in copy.turns]
            session.events, session.requests = copy.events, copy.requests
            for each in copy.series:
                session.add_series(Series.of(each))
            if copy.power is not None:
                POWER_OVER_TIME.replace(session, copy.power)
            return finished(session)
    return None


def load_checked(path: Path) -> SessionFile:
    """A session file whose parts fit together. Raises SessionFileError."""
    file = load_file(path)
    for problem in structure_problems(file):
        raise SessionFileError(f"{path}: {one_line(problem)}", "`edgetop sessions validate` tells all that is wrong")
    return file


def load(path: Path) -> Session:
    """The session in a file. Raises SessionFileError, one line that names the file and the place in it."""
    copied = _load_copy(path)
    if copied is not None:
        return copied
    with suppress(SessionFileError, OSError, msgspec.MsgspecError, RecursionError, ValueError, UnfittingError):
        return _load_by_lines(path)
    file = load_file(path)
    try:
        return to_session(file)
    except ValueError as error:
        raise SessionFileError(f"{path}: {one_line(str(error)[:MESSAGE_LENGTH])}") from None


def _load_by_lines(path: Path) -> Session:
    with _open_regular(path) as fd, os.fdopen(os.dup(fd), "rb") as file:
        return session_of_lines(load_head(path), _items(file))


def load_file(path: Path) -> SessionFile:
    """A session file as its types. Raises SessionFileError."""
    try:
        return decode_file(read_bytes(path))
    except SessionFileError as error:
        raise _at(path, error) from None


def load_without_readings(path: Path, wanted: Callable[[SourceInfo], bool] = lambda _: False) -> SessionFile:
    """A session file as its types, but with the series of no other sources than wanted. Raises SessionFileError.

    Readings are most of a long session, and few of its figures need them again.
    """
    head = load_head(path)
    decoders = {name: each.decode for name, each in LINES.items()}
    parts = _parts(path, decoders | {"turns": lambda line: compact(LINES["turns"].decode(line))}, wanted)
    if parts is None:
        whole = load_file(path)
        return replace(whole, series=tuple(each for each in whole.series if wanted(each.source)))
    return SessionFile(**_fields(head) | parts)


def _fields(head: SessionHead) -> dict[str, Any]:
    return {name: getattr(head, name) for name in SessionHead.__struct_fields__}


def _parts(
    path: Path, decoders: Mapping[str, Callable[[bytes], Any]], wanted: Callable[[SourceInfo], bool] | None = None
) -> dict[str, Any] | None:
    """The items of the long parts that have a decoder, and the series of wanted sources.

    `None` for a file that is not as edgetop wrote it, or is damaged. Raises SessionFileError.
    """
    parts: dict[str, list[Any]] = {name: [] for name in (*decoders, *(() if wanted is None else ("series",)))}
    try:
        with _open_regular(path) as fd, os.fdopen(os.dup(fd), "rb") as file:
            for name, item in _items(file, to="series" if wanted is None else ""):
                if name in decoders:
                    parts[name].append(decoders[name](item))
                elif name == "series" and wanted is not None:
                    series = series_of_text(item, wanted)
                    parts[name] += [] if series is None else [series_entry(series)]
    except OSError as error:
        raise SessionFileError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return {name: tuple(items) for name, items in parts.items()}


def load_head(path: Path) -> SessionHead:
    """Everything of a session file but its long parts. Raises SessionFileError."""
    return load_titled(path)[0]


def load_titled(path: Path) -> tuple[SessionHead, str]:
    """The head of a session file, and the beginning of its first prompt; empty where there is none.

    Raises SessionFileError.
    """
    try:
        with _open_regular(path) as fd:
            data = os.read(fd, USUAL_HEAD_BYTES)
            if b"\n" not in data:
                data += os.read(fd, LONGEST_HEAD_BYTES)
            line, line_break, rest = data.partition(b"\n")
    except OSError as error:
        raise SessionFileError(f"{path}: {error.strerror}") from None
    except SessionFileError as error:
        raise _at(path, error) from None
    if line_break and line.endswith(b","):
        with suppress(SessionFileError):
            return _checked_head(path, decode_head(line)), _first_prompt(rest)
    file = _checked_head(path, load_file(path))
    return file, ((file.turns[0].prompt or "") if file.turns else "")[:TITLE_CHARACTERS]


class ShownTurn(Struct, frozen=True, kw_only=True):
    """A turn without what was recorded of its tokens."""

    turn: int
    prompt: str | None
    figures: TurnFigures


class ShownSession(SessionHead, frozen=True, kw_only=True):
    """A session without what was recorded token by token and reading by reading."""

    clients: tuple[ClientFigures, ...] = ()
    levels: tuple[LevelFigures, ...] = ()
    rereads: tuple[RereadFigures, ...] = ()
    turns: tuple[ShownTurn, ...] = ()
    events: tuple[EventEntry, ...] = ()


_ITEMS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    **{name: LINES[name].decode for name in ("clients", "levels", "rereads", "events")},
    "turns": msgspec.json.Decoder(ShownTurn).decode,
}


def load_shown(path: Path) -> ShownSession:
    """What a person is shown of a session file, read line by line up to the readings. Raises SessionFileError."""
    head = load_head(path)
    parts = _parts(path, _ITEMS)
    if parts is None:
        whole = load_file(path)
        turns = tuple(ShownTurn(turn=each.turn, prompt=each.prompt, figures=each.figures) for each in whole.turns)
        parts = {name: getattr(whole, name) for name in _ITEMS} | {"turns": turns}
    return ShownSession(**_fields(head) | parts)


def _items(file: BinaryIO, to: str = "") -> Iterator[tuple[str, Any]]:
    """The items of the long parts up to one of them, with their names, of a file as edgetop writes it.

    An item is a line, but a series comes in pieces, with what stands behind it: a day of a quick sensor is longer than
    memory. Raises ValueError for a file of another layout, or without its end.
    """
    file.seek(-len(_END), os.SEEK_END)
    if file.read() != _END:
        raise ValueError("it has no end")
    file.seek(0)
    file.readline()
    names = iter((*LONG_PARTS, ""))
    name, is_open = "", False
    while line := file.readline(PIECE_BYTES if is_open and name == "series" else LARGEST_FILE_BYTES):
        if is_open and line.startswith(b"{"):
            if name == "series":
                pieces = _Pieces(file, line)
                yield name, pieces
                line = pieces.to_end()
            # The last one of a part has a bracket behind it, and that of the last part a brace.
            item = line[:-1].removesuffix(b",") if line.endswith(b",\n") else line[: -len(_END)]
            is_open = not item.endswith(b"]")
            if name != "series":
                yield name, with_current_names(item.removesuffix(b"]"))
            continue
        name = next(names)
        beginning = b'"%s":[' % name.encode()
        if is_open or not name or not line.startswith(beginning):
            break
        if name == to:
            return
        rest = line[len(beginning) :]
        is_open = rest == b"\n"
        if not is_open and rest not in {b"],\n", b"]" + _END}:
            break
    else:
        if not is_open and next(names) == "":
            return
    raise ValueError("it is laid out in another way")


PIECE_BYTES: Final = 2**18


class _Pieces:
    """The rest of a line of a file, a piece at a time."""

    def __init__(self, file: BinaryIO, first: bytes) -> None:
        self._file = file
        self._piece, self._last = first, b""

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._piece:
            self._last = (self._last + piece)[-8:]
            self._piece = b"" if piece.endswith(b"\n") else self._file.readline(PIECE_BYTES)
            yield piece

    def to_end(self) -> bytes:
        """Pass over what was not read; the end of the line."""
        for _ in self:
            pass
        return self._last


_END: Final = b"}\n"


def _first_prompt(rest: bytes) -> str:
    """The beginning of the first turn's prompt, which stands at the beginning of what follows the head."""
    found = _FIRST_PROMPT.match(rest)
    if found is None:
        return ""
    # A longer prompt is cut within a character or an escape at the worst, which is then left out.
    text = found[1]
    for end in range(len(text), max(0, len(text) - len("\\ud83d\\ude00")), -1):
        with suppress(msgspec.MsgspecError, ValueError):
            return msgspec.json.decode(b'"' + text[:end] + b'"', type=str)[:TITLE_CHARACTERS]
    return ""


def _checked_head(path: Path, head: Head) -> Head:
    for problem in number_problems(head):
        raise SessionFileError(f"{path}: {one_line(problem[:MESSAGE_LENGTH])}")
    return head


def save(path: Path, session: Session, *, labels: SessionHead | None = None) -> None:
    """Write a session to a file, with the tags and the note of `labels`. Raises OSError."""
    write_atomically(path, encode_session(session, labels))
    _keep_copy(path, session)


def rewrite(path: Path, change: Callable[[SessionFile], SessionFile]) -> None:
    """Change a session file and keep what a newer edgetop wrote into it. Raises SessionFileError or OSError.

    `change` is given the file as it is, while no other edgetop changes it; the same file back leaves it as it is.
    """
    with changing(path.parent):
        try:
            data = read_bytes(path)
            file = decode_file(data)
            original = decode_document(data)
        except SessionFileError as error:
            raise _at(path, error) from None
        changed = change(file)
        if changed is not file:
            document = carry_over(original, to_document(file), to_document(changed))
            write_atomically(path, encode_file(document))


def rewrite_head(path: Path, change: Callable[[SessionHead], SessionHead]) -> None:
    """Change what stands on the first line of a session file, as `rewrite` does; the rest is copied as it is."""
    with changing(path.parent):
        copied = _is_current(path)
        try:
            with _open_regular(path) as fd, os.fdopen(os.dup(fd), "rb") as file:
                line = file.readline(USUAL_HEAD_BYTES + LONGEST_HEAD_BYTES)
                head = None if not line.endswith(b",\n") else decode_head(line)
                changed = None if head is None else change(head)
                if head is not None and changed is not None and changed is not head:
                    original, understood, now = (
                        decode_document(each)
                        for each in (line.rstrip(b"\r\n,") + b"}", json.encode(head), json.encode(changed))
                    )
                    first = json.encode(carry_over(original, understood, now))[:-1] + b",\n"
                    write_atomically(path, chain((first,), iter(lambda: file.read(PIECE_BYTES), b"")))
        except SessionFileError as error:
            raise _at(path, error) from None
        if copied:
            with suppress(OSError), copy_of(path).open("r+b") as copy:
                *_, checksum = _COPY_HEAD.unpack(copy.read(_COPY_HEAD.size))
                copy.seek(0)
                copy.write(_copy_head(path, checksum))
    if head is None:
        rewrite(path, lambda file: replace(file, **structs.asdict(change(file))))


def read_bytes(path: Path, first: int | None = None) -> bytes:
    """The bytes of a session file, or the first of them.

    Raises SessionFileError if there is none or it is larger than any that is read at once.
    """
    try:
        with _open_regular(path) as fd:
            size_bytes = os.fstat(fd).st_size
            if size_bytes > LARGEST_FILE_BYTES and first is None:
                raise SessionFileError(f"it has {size_bytes / 2**20:.0f} MiB, more than any session")
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(LARGEST_FILE_BYTES if first is None else first)
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
    return SessionFileError(f"{path}: {error.what}", error.hint)


AUTOMATIC, NONE = "auto", "none"
"""Names of no source: the choice left to edgetop, and no power at all."""


class Change(Struct, frozen=True, kw_only=True):
    """A figure that was another one before."""

    place: str
    """Such as `summary.energy.gross_j` or `turn 2: decode_tokens_per_s`."""
    old: Any
    new: Any
    """As JSON has them: a number, a text, `null`, or a figure with its interval."""


def recomputed(file: SessionFile, power: str | None = None) -> SessionFile:
    """The file with all figures computed again; everything that was recorded stays as it is.

    `power` names another headline source, `auto` or `none`. Raises ValueError where the parts of the file do not fit
    together, EdgetopError when it has no source of that name.
    """
    session = to_session(file)
    chosen = file.power if power is None else None if power == AUTOMATIC else power
    if session.header is not None:
        session.header = replace(session.header, power=chosen)
    if power not in {None, AUTOMATIC, NONE}:
        headline = headline_of(session, meters_of(session))
        if not isinstance(headline, Headline):
            raise EdgetopError(headline.reason, headline.hint)
    computed = to_file(session)
    return replace(
        file,
        power=chosen,
        summary=computed.summary,
        turns=tuple(
            replace(turn, figures=again.figures) for turn, again in zip(file.turns, computed.turns, strict=True)
        ),
    )


def changes(old: SessionFile, new: SessionFile) -> list[Change]:
    """Which figures differ, in the order of the file."""
    was_chosen, is_chosen = old.power or AUTOMATIC, new.power or AUTOMATIC
    found = [] if was_chosen == is_chosen else [Change(place="power", old=was_chosen, new=is_chosen)]
    found += _differences("summary.", old.summary, new.summary)
    for was, now in zip(old.turns, new.turns, strict=True):
        found += _differences(f"turn {was.turn}: ", was.figures, now.figures)
    return found


def _differences(place: str, old: Summary | TurnFigures, new: Summary | TurnFigures) -> list[Change]:
    return _changed(place, msgspec.to_builtins(old), msgspec.to_builtins(new))


def _changed(place: str, old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    found = []
    for name in dict.fromkeys([*old, *new]):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict) and not {"low", "high"} <= was.keys() & now.keys():
            found += _changed(f"{place}{name}.", was, now)
        else:
            found.append(Change(place=f"{place}{name}", old=was, new=now))
    return found


SCHEMA_PATH: Final = Path(__file__).with_name("session.schema.json")
"""The schema as it is shipped; `python -m edgetop.session.file_io` writes it anew."""

PROBLEMS_SHOWN = 20

_BY_RULES = frozenset(figure.name.partition(".")[0] for figure in FIGURES if "rules" in figure.rests_on)
"""What rests on more than the stamps and readings of the file, or on rules that get better."""


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a session file, each figure with what it is."""
    from inspect import cleandoc  # noqa: PLC0415 - for this alone

    generated = msgspec.json.schema(SessionFile)
    definitions = generated["$defs"]
    for each in definitions.values():
        if "description" in each:  # from msgspec 0.23 on without the indentation of a docstring
            each["description"] = cleandoc(each["description"])
    for subject, holder in (("watch", "WatchFigures"), ("turn", "TurnFigures"), ("session", "Summary")):
        for figure in FIGURES:
            if subject in figure.of:
                _described(definitions, holder, figure)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgetop session",
        **generated,
    }


def _described(definitions: dict[str, Any], holder: str, figure: Figure) -> None:
    """Put what a figure is into the schema of the struct that holds it."""
    *parts, name = figure.name.split(".")
    for part in parts:
        field = definitions[holder]["properties"][part]
        references = [each["$ref"] for each in (field, *field.get("anyOf", ())) if "$ref" in each]
        holder = references[0].rpartition("/")[2]
    unit = f" ({figure.unit})" if figure.unit else ""
    definitions[holder]["properties"][name]["description"] = f"{figure.label}{unit}: {figure.formula}"


def schema_text() -> str:
    """The schema as it is shipped."""
    return msgspec.json.format(msgspec.json.encode(schema(), order="sorted"), indent=2).decode() + "\n"


def validate(path: Path) -> list[str]:
    """What is wrong with a session file, a line for each, with the place in the file; empty if nothing is."""
    try:
        file = load_file(path)
    except SessionFileError as error:
        return [error.what]
    problems = list(islice(chain(structure_problems(file), _impossible(file)), PROBLEMS_SHOWN))
    if not problems:
        try:
            problems = _wrong_figures(path, file, to_file(to_session(file)))
        except ValueError as error:
            problems = [str(error)]
    return [f"{path}: {problem}" for problem in problems[:PROBLEMS_SHOWN]]


LONGEST_S: Final = 10 * 366 * 86_400
"""No session has been recorded for ten years."""


def _impossible(file: SessionFile) -> Iterator[str]:
    """What no recording says, though the parts of the file fit together."""
    if file.duration_us > LONGEST_S * US_PER_S:
        yield f"$.duration_us: {seconds(file.duration_us) / 86_400:.0f} days are no length of a session"
    for index, turn in enumerate(file.turns):
        end, prefill = turn.end, turn.prefill
        counts: dict[str, int | None] = {}
        if end is not None:
            names = ("prompt_tokens", "cached_tokens", "generated_tokens", "hidden_tokens", "context_used")
            counts = {f"end.{name}": getattr(end, name) for name in names}
            if (end.cached_tokens or 0) > (end.prompt_tokens or TOKENS_MAX):
                yield f"$.turns[{index}].end.cached_tokens: more than the prompt has"
            if end.hidden_tokens > end.generated_tokens:
                yield f"$.turns[{index}].end.hidden_tokens: more than were generated"
        if prefill is not None:
            counts |= {"prefill.total": prefill.total, "prefill.cached": prefill.cached}
            if max(prefill.done, default=0) > prefill.total:
                yield f"$.turns[{index}].prefill.done: more than there is to evaluate"
        for name, count in counts.items():
            if count is not None and count > TOKENS_MAX:
                yield f"$.turns[{index}].{name}: {count} tokens are more than any context holds"


class _StatedTurn(Struct):
    figures: dict[str, Any] = {}


class _StatedFigures(Struct):
    """The figures of a file as they stand there: an older edgetop did not know all of them."""

    summary: dict[str, Any] = {}
    turns: list[_StatedTurn] = []


def _wrong_figures(path: Path, file: SessionFile, computed: SessionFile) -> list[str]:
    """Figures that the file states, and that are not what its stamps and readings give."""
    found = [("$.summary.", _differences("", file.summary, computed.summary))]
    for index, (turn, again) in enumerate(zip(file.turns, computed.turns, strict=True)):
        found.append((f"$.turns[{index}].figures.", _differences("", turn.figures, again.figures)))
    found = [
        (place, kept)
        for place, several in found
        if (kept := [change for change in several if not _BY_RULES & set(change.place.split("."))])
    ]
    if not found:
        return []
    stated = msgspec.json.decode(with_current_names(read_bytes(path)), type=_StatedFigures)
    of_place = {"$.summary.": stated.summary}
    of_place |= {f"$.turns[{index}].figures.": turn.figures for index, turn in enumerate(stated.turns)}
    return [
        f"{place}{change.place}: it says {_short(change.old)}, but what was recorded gives {_short(change.new)}"
        for place, several in found
        for change in several
        if _is_stated(of_place[place], change.place)
    ]


def _is_stated(figures: Any, place: str) -> bool:  # noqa: ANN401 (any JSON)
    for name in place.split("."):
        if not isinstance(figures, dict) or name not in figures:
            return False
        figures = figures[name]
    return True


def _short(value: object) -> str:
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")

"""Session files that went wrong: seeded mutants of real ones, and what becomes of a file when it is opened."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgetop.core.clock import US_PER_S
from edgetop.session.export import csv_pieces, tables_of
from edgetop.session.file import SessionFile, to_file, to_session
from edgetop.session.file_io import SessionFileError, decode_file, encode_file
from edgetop.session.listing import COLUMNS, entry_of
from edgetop.session.session import Session
from edgetop.session.snapshot import decode_rate_history, snapshot
from edgetop.session.store import ListedSession

Verdict = Literal["opened", "refused"]

_PIECES = (
    b"-", b"9" * 25, b"null", b"[", b"]", b'"', b"1e999", b"1e-999", b"{}", b",", b"NaN", b"\xff", b"\xed\xa0\x80",
    b"\n",
)  # fmt: skip
_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, -0.0, 0.5, -0.5, 1e-9, 5e-324, -1e-9, 1e6, 1e12, 1e15, -1e15, 2**31, 2**53, -(2**53), 2**53 + 1, 2**63,
    2**64, 10**30, 10**400, 1e16, 1e30, 1e150, 1e200, 1.7e308, -1.7e308,
)  # fmt: skip
_OTHERS: tuple[Any, ...] = (
    None, True, False, "", "x", "\x1b[2J", "0", [], [[]], {}, {"a": 1}, [0, 1], "W", "J", "wall",
)  # fmt: skip


def mutants(files: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` damaged files, more of the small ones; the same ones for the same seed."""
    documents = [msgspec.json.decode(data) for data in files]
    weights = [1 / len(data) for data in files]
    chance = random.Random(seed)  # noqa: S311 - the same every time
    for _ in range(count):
        (which,) = chance.choices(range(len(files)), weights=weights)
        changes = chance.choice((1, 1, 1, 2, 3, 6))
        if chance.random() < 0.3:
            yield _damaged(files[which], changes, chance)
            continue
        document = msgspec.json.decode(files[which])
        for _ in range(changes):
            _change(document, documents[which], chance)
        yield msgspec.json.encode(document)


def _damaged(data: bytes, changes: int, chance: random.Random) -> bytes:
    """Bytes flipped, left out, doubled, cut off or put between."""
    damaged = bytearray(data)
    for _ in range(changes):
        if not damaged:
            break
        at = chance.randrange(len(damaged))
        match chance.randrange(6):
            case 0:
                damaged[at] ^= 1 << chance.randrange(8)
            case 1:
                del damaged[at : at + chance.randrange(1, 40)]
            case 2:
                damaged[at:at] = damaged[at : at + chance.randrange(1, 200)]
            case 3:
                damaged[at:at] = chance.choice(_PIECES)
            case 4:
                damaged[at : at + 1] = b"%d" % chance.randrange(10)
            case _:
                del damaged[max(1, at) :]
    return bytes(damaged)


def _change(document: Any, original: Any, chance: random.Random) -> None:
    """One value somewhere in the document is another one, gone, doubled, or has changed places with a neighbour."""
    # Half of all changes go to the series: most arithmetic is done with them.
    series = document.get("series") if isinstance(document, dict) and chance.random() < 0.5 else None
    holder, key = _place(series or document, chance)
    if holder is None:
        return
    match chance.randrange(8):
        case 0 | 1 | 2:
            holder[key] = chance.choice(_NUMBERS)
        case 3:
            holder[key] = deepcopy(chance.choice(_OTHERS))
        case 4:
            del holder[key]
        case 5:
            if isinstance(holder, list):
                holder.insert(key, deepcopy(holder[key]))
            else:
                holder[f"{key}2"] = deepcopy(holder[key])
        case 6:
            other, other_key = _place(original, chance)
            if other is not None:
                holder[key] = deepcopy(other[other_key])
        case _:
            if isinstance(holder[key], int | float) and abs(holder[key]) < 1e200:
                holder[key] = holder[key] * chance.choice((-1, 0, 2, 10, 1e3, 1e6, 1e9, 0.1, 1e-6))
            elif isinstance(holder, list):
                holder[key], holder[-1] = holder[-1], holder[key]


def _place(document: Any, chance: random.Random) -> tuple[Any, Any]:
    """A random place: each step down is as likely into a small part as into a large one."""
    holder: Any = None
    key: Any = None
    at = document
    while isinstance(at, dict | list) and at and (holder is None or chance.random() < 0.9):
        holder = at
        key = chance.choice(list(at)) if isinstance(at, dict) else chance.randrange(len(at))
        at = at[key]
    return holder, key


def opened(data: bytes) -> Verdict:
    """Do with the bytes of a file all that is done with a session. Raises whatever is not a plain refusal."""
    try:
        file = decode_file(data)
    except SessionFileError as error:
        assert_one_line(error.what)
        return "refused"
    try:
        session = to_session(file)
    except ValueError as error:
        if not str(error).startswith("$."):
            raise
        return "refused"
    look_at(session)
    tell_of(file)
    return "opened"


def look_at(session: Session) -> None:
    """Everything that is computed of a session, forwards and back."""
    file = to_file(session)
    for t_us in (session.end_us // 2, session.end_us):
        snapshot(session, t_us)
        decode_rate_history(session, t_us, 20, US_PER_S)
    assert to_file(to_session(decode_file(b"".join(encode_file(file))))) == file


def tell_of(file: SessionFile) -> None:
    """All that is told of a file without computing anything again: a row of the list, and its tables."""
    entry = entry_of(ListedSession(number=1, path=Path("x.json"), head=file))
    for column in COLUMNS:
        if column.is_shown:
            assert len(column.text(entry)) < 1000
        if column.rank is not None:
            column.rank(entry)
    for table in tables_of(file):
        b"".join(csv_pieces(table))


def assert_one_line(what: str) -> None:
    """A refusal is one line that can be shown, and short."""
    assert what.isprintable(), what
    assert len(what) < 300, what

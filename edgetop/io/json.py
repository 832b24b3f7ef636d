"""JSON as edgetop writes it, and the files of it in which edgetop keeps what it has learned.

Whatever is not printable Unicode is escaped, so that it may be shown as it is.

orjson writes structs, mappings and long columns two to three times as fast as msgspec and in the same form, except that
a small record of a journal, which msgspec writes in an eighth of the time, stays with it, and so does reading.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from edgetop.core.errors import EdgetopError
from edgetop.io.files import as_utf8, read_small, write_atomically

T = TypeVar("T")


def encode(value: object, *, indented: bool = False) -> bytes:
    """JSON of structs, containers and plain values; NaN and infinity become null.

    Lone surrogates, which no file can hold, become U+FFFD. Raises TypeError for what JSON cannot have.
    """
    import orjson  # noqa: PLC0415 - many runs write none, and it brings dataclasses and inspect

    try:
        return printable(orjson.dumps(value, _parts, orjson.OPT_INDENT_2 if indented else None))
    except TypeError:
        # A lone surrogate, a whole number beyond 64 bits, or a key that is no text.
        encoded = encode_record(value)
        return msgspec.json.format(encoded, indent=2) if indented else encoded


def encode_record(value: object) -> bytes:
    """The same for a small struct, such as one line of a journal."""
    try:
        return printable(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return printable(msgspec.json.encode(_without_surrogates(msgspec.to_builtins(value))))


def printable(encoded: bytes) -> bytes:
    r"""JSON that means the same, with controls, bidirectional marks, tags and the like as \u escapes."""
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return re.sub("[^\x00-\x7e]+", _escaped, encoded.decode()).encode()


def _escaped(match: re.Match[str]) -> str:
    run = match[0]
    if run.isprintable():
        return run
    return "".join(
        each if each.isprintable() else re.sub("....", r"\\u\g<0>", each.encode("utf-16-be").hex()) for each in run
    )


def load_kept(file: Path, kind: type[T], error: type[EdgetopError], hint: str) -> T | None:
    """What was kept in a file, `None` where there is no file. Raises `error`, with `hint` for what is not of `kind`."""
    try:
        return msgspec.json.decode(as_utf8(read_small(file)), type=kind)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise error(f"{file}: {problem.strerror or problem}", f"make {file} readable") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise error(f"{file} cannot be used: {problem}", hint) from None


def save_kept(file: Path, value: Struct, error: type[EdgetopError]) -> None:
    """Keep a value in a file, all of it or nothing. Raises `error`."""
    try:
        write_atomically(file, [msgspec.json.format(encode_record(value), indent=1), b"\n"])
    except OSError as problem:
        raise error(f"{file}: {problem.strerror or problem}", f"make {file.parent} writable, or make room") from None


def _parts(value: object) -> object:
    if isinstance(value, Struct):
        config = value.__struct_config__
        if config.tag is None and not config.array_like:
            return structs.asdict(value)
    if isinstance(value, PurePath):
        return str(value)
    return msgspec.to_builtins(value)


def _without_surrogates(value: Any) -> Any:  # noqa: ANN401 - any JSON
    match value:
        case str():
            return re.sub("[\ud800-\udfff]", "\ufffd", value)
        case dict():
            return {_without_surrogates(name): _without_surrogates(each) for name, each in value.items()}
        case list() | tuple():
            return [_without_surrogates(each) for each in value]
    return value

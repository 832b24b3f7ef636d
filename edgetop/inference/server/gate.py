"""The gate for what servers say: finite, in range, of its type, of bounded length.

One odd field is no reason to drop an answer: what does not pass is left out and noted, and the rest is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from edgetop.core.records import TOKENS_MAX
from edgetop.io.http import RequestError, quoted

Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
"""Tokens of one answer, prompt or context."""

Total = Annotated[int, Meta(ge=0, le=2**53)]
"""Tokens since a server was started, parameters, bytes."""

Milliseconds = Annotated[float, Meta(ge=0, le=1e9)]
"""At most eleven days: a reply on a slow device takes hours."""

Nanoseconds = Annotated[int, Meta(ge=0, le=10**15)]

Rate = Annotated[float, Meta(ge=0, le=1e6)]
"""Per second."""

Note = Callable[[str], None]
"""Takes a sentence about something that was left out."""

NAME_CHARACTERS: Final = 200
"""Of a name that is shown or recorded; what is longer is cut."""

_SHOWN_CHARACTERS = 40
_WHOLE_DIGITS = 20

T = TypeVar("T")


class UnreadableError(RequestError):
    """What came is no document of the kind that it should be."""

    def __init__(self, data: bytes) -> None:
        start = quoted(data[:80].decode("utf-8", "replace"))
        hint = "Is it the kind of server that --server-kind says?"
        super().__init__(f"The server sent what cannot be read: {start}.", hint)


def unheard(_note: str) -> None:
    """For where nobody would read a note."""


def decode(data: bytes, kind: type[T], note: Note = unheard) -> T:
    """A document of a kind, its odd fields left out. Raises UnreadableError where it is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    # A second, slower try: half a surrogate pair, NaN or one odd field.
    try:
        document = json.loads(data.decode("utf-8", "replace"), parse_int=_whole)
        return cast("T", _kept(document, kind, "", note))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UnreadableError(data) from None


def _whole(digits: str) -> int | float:
    """A whole number; one of more digits than any has is as good as none."""
    return int(digits) if len(digits) <= _WHOLE_DIGITS else math.inf


def _kept(value: object, kind: Any, place: str, note: Note) -> object:  # noqa: ANN401 - a type, or a form of typing
    """What of a value is of a kind. Raises ValidationError or ValueError where nothing is."""
    try:
        kept: object = msgspec.convert(value, kind)
    except (msgspec.MsgspecError, ValueError):
        pass
    else:
        if not isinstance(kept, float) or math.isfinite(kept):
            return kept
        raise ValueError
    for each in get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,):
        if isinstance(value, dict) and isinstance(each, type) and issubclass(each, Struct):
            return _struct(value, each, place, note)
        if isinstance(value, list) and get_origin(each) is list:
            return _list(value, get_args(each)[0], place, note)
    if isinstance(value, float) and value.is_integer():
        return cast("object", msgspec.convert(int(value), kind))
    raise ValueError


def _struct(value: dict[str, object], kind: type[Struct], place: str, note: Note) -> Struct:
    kept = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name not in value:
            continue
        given, inner = value[field.encode_name], f"{place}.{field.encode_name}".lstrip(".")
        try:
            kept[field.name] = _kept(given, field.type, inner, note)
        except (msgspec.MsgspecError, ValueError):
            if given is not None:
                note(f"The server's {inner} was left out: {_shown(given)} cannot be.")
    try:
        return kind(**kept)
    except TypeError:
        raise ValueError from None


def _list(values: list[object], kind: Any, place: str, note: Note) -> list[object]:  # noqa: ANN401 - the same
    kept = []
    for number, value in enumerate(values):
        try:
            kept.append(_kept(value, kind, f"{place}[{number}]", note))
        except (msgspec.MsgspecError, ValueError):
            note(f"The server's {place}[{number}] was left out: {_shown(value)} cannot be.")
    return kept


def _shown(value: object) -> str:
    return quoted(repr(value)[:_SHOWN_CHARACTERS])


def named(name: str) -> str:
    """A name as it is shown and recorded."""
    return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 3]}..."


def with_short_names(value: T) -> T:
    """The same with every text cut to the length of a name. Goes through structs, tuples and mappings."""
    match value:
        case str():
            return cast("T", named(value))
        case Struct():
            given = {name: getattr(value, name) for name in value.__struct_fields__}
            short = {name: with_short_names(each) for name, each in given.items()}
            changed = {name: each for name, each in short.items() if each is not given[name]}
            return cast("T", msgspec.structs.replace(value, **changed)) if changed else value
        case tuple():
            shorter = tuple(map(with_short_names, value))
            return cast("T", shorter) if any(a is not b for a, b in zip(shorter, value, strict=True)) else value
        case dict():
            return cast("T", {named(name): with_short_names(each) for name, each in value.items()})
    return value


def text_in(content: object, note: Note) -> str:
    """The text of a message's content, which is a text or a list of parts."""
    match content:
        case None:
            return ""
        case str():
            return content
        case list():
            return "".join(text_in(part, note) for part in content)
        case {"text": str() as text}:
            return text
    note(f"The server sent content that is no text: {_shown(content)}.")
    return ""

"""Several sessions that a person means by a few words."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from edgetop.session.folder import FILE_SUFFIX
from edgetop.session.store import Store, StoreError

_RANGE_OF_NUMBERS = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)
_PATTERN = re.compile(r"[*?\[]")


def find_all(store: Store, texts: Sequence[str]) -> list[Path]:
    """The session files that a person means, in the order of the words, each once.

    A word is what `Store.find` takes, and besides: a tag of several sessions; `3..7` or `3-7`, all from one number of
    the list to the other, or `A..B` for any two that `Store.find` takes; a folder, for the session files in it; a
    pattern such as `*q4*`, of names in the store or of paths. Raises StoreError for a word that means none, and for
    part of a model's name or of an id that several have.
    """
    found: dict[str, Path] = {}
    for text in texts:
        for path in _meant(store, text):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


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
        tagged = [each.path for each in store.list() if each.head is not None and text in each.head.tags]
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
    paths = [each.path for each in store.list()]
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
        paths = [each.path for each in store.list()]
        inside = [path for path in paths if fnmatchcase(path.name, pattern) or fnmatchcase(path.stem, pattern)]
        if inside:
            return inside
    named = sorted(glob.glob(pattern))  # noqa: PTH207 - the pattern may begin at the root
    paths = [Path(name) for name in named if Path(name).is_file()]
    if not paths:
        raise StoreError(f"No session matches {pattern!r}.", "`edgetop sessions list` shows those there are.")
    return paths

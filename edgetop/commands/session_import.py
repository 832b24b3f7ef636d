"""`edgetop sessions import`: results of other benchmarks, kept beside the sessions to compare with."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from edgetop.commands.console import say, write_data
from edgetop.commands.listing import write_json
from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.session.comparison.figures import DECODE
from edgetop.session.comparison.reading import is_session, read_results
from edgetop.session.disk import read_bytes, write_atomically
from edgetop.session.store import Store

IMPORTED_FOLDER = "imported"
NAMES_MOST = 1000


def import_results(files: Sequence[str], store: Store, *, as_json: bool = False) -> int:
    """Copy files into the store's folder for imported results, after reading them. Raises EdgetopError."""
    imported = []
    for text in files:
        source = Path(text)
        results = read_results(source)
        data = read_bytes(source)
        # A session belongs among the sessions, where every verb finds it.
        folder = store.folder if is_session(data) else store.folder / IMPORTED_FOLDER
        path = _free_path(folder, source, data)
        try:
            write_atomically(path, [data])
        except OSError as error:
            raise EdgetopError(f"{path}: {error.strerror or error}", "make the folder writable") from None
        imported.append({"from": text, "path": str(path), "kind": results[0].kind, "results": len(results)})
        measured = sum(DECODE in result.figures for result in results)
        said = (
            f"{len(results)} result{'s' if len(results) > 1 else ''} of {results[0].kind}, {measured} with decode speed"
        )
        say(f"{source.name}: {said}; compare with: edgetop compare {path.stem} ...")
    if as_json:
        write_json(imported)
    else:
        for each in imported:
            write_data(f"{one_line(str(each['path']))}\n")
    return 0


def _free_path(folder: Path, source: Path, data: bytes) -> Path:
    """A path that is free, or has the same bytes already. Names are made safe: they may come from anywhere."""
    stem = re.sub(r"[^\w.-]+", "-", source.stem).strip(".-")[:80] or "result"
    suffix = source.suffix if re.fullmatch(r"\.\w{1,8}", source.suffix) else ".txt"
    if is_session(data):
        suffix = ".json"
    for number in range(1, NAMES_MOST):
        path = folder / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
        if not os.path.lexists(path) or (path.is_file() and path.read_bytes() == data):
            return path
    raise EdgetopError(f"{folder}: there are {NAMES_MOST} files named {stem}", "remove some of them")

"""Results from files, whatever wrote them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgetop.session.codec import SessionFileError, decode_file
from edgetop.session.comparison import from_llama_bench, from_ollama
from edgetop.session.comparison.from_session import result_of
from edgetop.session.comparison.pool import pooled
from edgetop.session.comparison.result import Result
from edgetop.session.disk import read_bytes

SESSION_MARK = b'"edgetop-session"'
MARK_WITHIN_BYTES = 4096
IMPORT_LARGEST_BYTES = 16 * 2**20
"""Of a file that is not a session."""
KINDS = "a session of edgetop, llama-bench's JSON, JSONL or CSV, or what `ollama run --verbose` prints"


def read_results(path: Path) -> list[Result]:
    """The results in a file: one, or several where it holds several configurations.

    Raises SessionFileError, one line that names the file and the place in it.
    """
    try:
        data = read_bytes(path)
        if is_session(data):
            return [result_of(decode_file(data), path)]
        return _imported(data, path)
    except SessionFileError as error:
        raise SessionFileError(f"{path}: {error.what}", error.mend or f"it must be {KINDS}") from None


def read_all(paths: Iterable[Path]) -> list[Result]:
    """The results in all of the files; sessions of the same setting of a benchmark are one result.

    Raises SessionFileError.
    """
    return pooled([result for path in paths for result in read_results(path)])


def is_session(data: bytes) -> bool:
    """Whether these are the bytes of a session file, be it whole or broken."""
    return data.lstrip()[:1] == b"{" and SESSION_MARK in data[:MARK_WITHIN_BYTES]


def _imported(data: bytes, path: Path) -> list[Result]:
    if len(data) > IMPORT_LARGEST_BYTES:
        raise SessionFileError(f"it has {len(data) / 2**20:.0f} MiB, more than any result of a bench")
    begin = data.lstrip()[:1]
    if begin in {b"[", b"{"}:
        return from_llama_bench.results_of(from_llama_bench.read_json(data), path.stem, str(path))
    text = data.decode("utf-8", "replace")
    heading = text.partition("\n")[0]
    if "avg_ts" in heading and "," in heading:
        return from_llama_bench.results_of(from_llama_bench.read_csv(text), path.stem, str(path))
    if from_ollama.looks_like_ollama(text):
        return [from_ollama.result_of(text, path.stem, str(path))]
    raise SessionFileError("it is no result that can be compared")

"""Log-probabilities of a reference model in a file, to compare other quantization levels of it with.

Half precision holds a logarithm of a probability to 0.05 %, which is far below what quantization changes. A header
names the text and the vocabulary, so that nothing else is compared.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from edgetop.inference.llama.likelihood import Rows

_MAGIC = b"edgetop-logprobs-1\n"


class ReferenceMismatchError(Exception):
    """The file is not the reference of this text; the message says why."""


class ReferenceWriter:
    """Writes rows as they come."""

    def __init__(self, path: Path, tokens: list[int], n_vocab: int) -> None:
        self._file = path.open("wb")
        self._file.write(_header(tokens, n_vocab))

    def write(self, rows: Rows) -> None:
        """Append rows. Raises OSError."""
        self._file.write(rows.astype(np.float16).tobytes())

    def close(self) -> None:
        """Finish the file. Raises OSError."""
        self._file.close()


class ReferenceReader:
    """Reads rows in the order they were written."""

    def __init__(self, path: Path, tokens: list[int], n_vocab: int) -> None:
        self._n_vocab = n_vocab
        self._file = path.open("rb")
        header = _header(tokens, n_vocab)
        if self._file.read(len(header)) != header:
            self._file.close()
            raise ReferenceMismatchError("the reference was made from another text or with another vocabulary")

    def read(self, count: int) -> Rows:
        """The next `count` rows. Raises ReferenceMismatchError if there are fewer."""
        data = self._file.read(count * self._n_vocab * 2)
        if len(data) != count * self._n_vocab * 2:
            raise ReferenceMismatchError("the reference ends too early")
        return np.frombuffer(data, dtype=np.float16).reshape(count, self._n_vocab).astype(np.float32)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _header(tokens: list[int], n_vocab: int) -> bytes:
    digest = hashlib.sha256(np.asarray(tokens, dtype=np.int32).tobytes()).hexdigest()
    return _MAGIC + f"{n_vocab} {len(tokens)} {digest}\n".encode()

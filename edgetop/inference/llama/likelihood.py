"""Log-probabilities of tokens at every position, for scores of quality.

numpy comes with llama-cpp-python and is imported only here, when something is scored.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgetop.inference.llama.context import Context, DecodeError
from edgetop.inference.llama.library import Library

Rows = npt.NDArray[np.float32]
"""Natural logarithms of probabilities, one row of the whole vocabulary for each position."""


class LikelihoodReader:
    """Evaluates tokens and reads what the model thinks of each next one. Free it when done."""

    def __init__(self, library: Library, context: Context, *, n_vocab: int, rows_max: int) -> None:
        self._library = library
        self._context = context
        self._n_vocab = n_vocab
        self.rows_max = min(rows_max, context.n_ubatch)
        """At most so many rows at once; the context must be made with as many outputs."""
        self._batch = library.llama_batch_init(self.rows_max, 0, 1)

    def read(self, tokens: Sequence[int]) -> Rows | None:
        """Evaluate up to `rows_max` tokens after those in the cache; a row after each. `None` when stopped.

        Raises DecodeError.
        """
        library, batch, held = self._library, self._batch, len(self._context.tokens)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = held + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = 1
        code = library.llama_decode(self._context.handle, batch)
        library.llama_synchronize(self._context.handle)
        if code == 2:
            return None
        if code != 0:
            raise DecodeError(f"llama_decode failed: code {code}")
        self._context.tokens += tokens
        pointer = ctypes.cast(library.llama_get_logits(self._context.handle), ctypes.POINTER(ctypes.c_float))
        logits: npt.NDArray[np.float32] = np.ctypeslib.as_array(pointer, shape=(len(tokens), self._n_vocab))
        return log_softmax(logits)

    def free(self) -> None:
        """Give the batch back."""
        self._library.llama_batch_free(self._batch)


def log_softmax(logits: Rows) -> Rows:
    """Logarithms of the softmax of each row; the sum is taken in double precision."""
    shifted: Rows = logits - logits.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
    return shifted

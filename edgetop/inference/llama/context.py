"""KV cache: decode, reuse, shift."""

from __future__ import annotations

import ctypes

from msgspec import Struct

from edgetop.inference.engine import Stop
from edgetop.inference.llama.library import Handle, Library

_SEQUENCE = 0
_ABORTED = 2
"""Returned by llama_decode after its abort callback returned true (llama.h)."""

_NO_SLOT = 1


class Counters(Struct, frozen=True):
    """What the library counted."""

    evaluation_ms: float
    tokens: int


class DecodeError(Exception):
    """llama_decode failed; the text says how."""


class Context:
    """One sequence of tokens and its KV cache."""

    def __init__(self, library: Library, handle: Handle, *, n_swa: int) -> None:
        self._library = library
        self._n_swa = n_swa
        """Window of the sliding-window layers whose cache has no more than that; 0 if there are none."""
        self.handle = handle
        self._memory = library.llama_get_memory(handle)
        self.n_ctx: int = library.llama_n_ctx(handle)
        self.n_ubatch: int = library.llama_n_ubatch(handle)
        self.tokens: list[int] = []
        """Tokens in the KV cache."""
        self._chunk = (library.llama_token * self.n_ubatch)()
        self._single = (library.llama_token * 1)()
        self._single_batch = library.llama_batch_get_one(self._single, 1)
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
        self._abort_callback = library.ggml_abort_callback(strlen)

    def watch(self, stop: Stop) -> None:
        """From now on an evaluation ends early when `stop` asks for it, where the device can (CPU and Metal)."""
        self._library.llama_set_abort_callback(self.handle, self._abort_callback, stop.address)

    def evaluate(self, tokens: list[int]) -> bool:
        """Evaluate up to `n_ubatch` tokens after those in the cache and wait until it is done.

        False when it was stopped; the cache then has none or a part of them. Raises DecodeError.
        """
        if len(tokens) == 1:  # once per token of a reply, so it has to be cheap
            self._single[0] = tokens[0]
            batch = self._single_batch
        else:
            self._chunk[: len(tokens)] = tokens
            batch = self._library.llama_batch_get_one(self._chunk, len(tokens))
        code = self._library.llama_decode(self.handle, batch)
        self._library.llama_synchronize(self.handle)
        if code == 0:
            self.tokens += tokens
            return True
        if self._memory:
            cached = self._library.llama_memory_seq_pos_max(self._memory, _SEQUENCE) + 1
            self.tokens = (self.tokens + tokens)[:cached]
        if code == _ABORTED:
            return False
        reason = "the KV cache is full" if code == _NO_SLOT else f"code {code}"
        raise DecodeError(f"llama_decode failed: {reason}")

    def reuse(self, prompt: list[int]) -> int:
        """Keep of the cache what begins `prompt`; returns how many tokens that is, at most all but the last one.

        Where the cache cannot go back (recurrent layers, a sliding window that has moved on) it is emptied.
        """
        common = 0
        for cached, wanted in zip(self.tokens, prompt[:-1], strict=False):
            if cached != wanted:
                break
            common += 1
        if common < len(self.tokens) and not self._go_back(common):
            self.clear()
        return len(self.tokens)

    def clear(self) -> None:
        """Forget everything."""
        if self._memory:
            self._library.llama_memory_clear(self._memory, True)
        self.tokens = []

    def shift(self, keep: int) -> bool:
        """Drop the older half of what follows the first `keep` tokens; False where the cache cannot be shifted."""
        dropped = (len(self.tokens) - keep) // 2
        if dropped <= 0 or not self._memory or not self._library.llama_memory_can_shift(self._memory):
            return False
        if not self._library.llama_memory_seq_rm(self._memory, _SEQUENCE, keep, keep + dropped):
            return False
        self._library.llama_memory_seq_add(self._memory, _SEQUENCE, keep + dropped, len(self.tokens), -dropped)
        del self.tokens[keep : keep + dropped]
        return True

    def read_and_reset_counters(self) -> Counters:
        """The library's own counters since the last call. It counts a lone token as decoding, wherever it stands."""
        data = self._library.llama_perf_context(self.handle)
        self._library.llama_perf_context_reset(self.handle)
        # It never reports less than one token, so that it can divide.
        prefilled = data.n_p_eval if data.t_p_eval_ms > 0 else 0
        decoded = data.n_eval if data.t_eval_ms > 0 else 0
        return Counters(data.t_p_eval_ms + data.t_eval_ms, prefilled + decoded)

    def free(self) -> None:
        """Give the memory back; the context must not be used any more."""
        self._library.llama_free(self.handle)

    def _go_back(self, length: int) -> bool:
        if not self._memory or length == 0:
            return False
        if self._n_swa:
            oldest = self._library.llama_memory_seq_pos_min(self._memory, _SEQUENCE)
            if oldest > max(0, length - self._n_swa):
                return False
        if not self._library.llama_memory_seq_rm(self._memory, _SEQUENCE, length, -1):
            return False
        del self.tokens[length:]
        return True

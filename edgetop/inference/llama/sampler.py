"""How the next token is drawn."""

from __future__ import annotations

import secrets

from edgetop.core.engine import SamplingSettings
from edgetop.inference.llama.library import Library

_SEEDS = 2**32 - 1
"""llama.cpp takes 2**32 - 1 for "draw one", so it is no seed."""
_MIN_KEEP = 1


class Sampler:
    """A chain of llama.cpp's samplers, in its own programs' order; steps that would change nothing are left out."""

    def __init__(self, library: Library, sampling: SamplingSettings, *, n_vocab: int, n_ctx: int) -> None:
        self._library = library
        self.seed: int | None = None
        """The seed in use; `None` when nothing is drawn."""
        params = library.llama_sampler_chain_default_params()
        params.no_perf = False
        self._chain = library.llama_sampler_chain_init(params)
        penalties = (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty)
        last_n = n_ctx if sampling.repeat_last_n < 0 else sampling.repeat_last_n
        self._penalised_tokens = last_n if penalties != (1.0, 0.0, 0.0) else 0
        if self._penalised_tokens:
            self._add(library.llama_sampler_init_penalties(n_vocab, last_n, *penalties))
        if sampling.temperature <= 0:
            self._add(library.llama_sampler_init_greedy())
            return
        self.seed = (secrets.randbits(32) if sampling.seed is None else sampling.seed) % _SEEDS
        if sampling.top_k > 0:
            self._add(library.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            self._add(library.llama_sampler_init_top_p(sampling.top_p, _MIN_KEEP))
        if sampling.min_p > 0:
            self._add(library.llama_sampler_init_min_p(sampling.min_p, _MIN_KEEP))
        self._add(library.llama_sampler_init_temp(sampling.temperature))
        self._add(library.llama_sampler_init_dist(self.seed))

    def accept_prompt(self, tokens: list[int]) -> None:
        """Let the penalties see the end of the prompt."""
        for token in tokens[-self._penalised_tokens :] if self._penalised_tokens else ():
            self._library.llama_sampler_accept(self._chain, token)

    def sample(self, context: object) -> int:
        """Draw from the logits of the last token decoded. Without any, the library aborts."""
        return int(self._library.llama_sampler_sample(self._chain, context, -1))

    @property
    def spent_ms(self) -> float:
        """Time spent in the chain so far, by the library's own counter."""
        return float(self._library.llama_perf_sampler(self._chain).t_sample_ms)

    def free(self) -> None:
        """Free the chain; the sampler must not be used any more."""
        self._library.llama_sampler_free(self._chain)

    def _add(self, sampler: object) -> None:
        self._library.llama_sampler_chain_add(self._chain, sampler)

"""How fast an answer must come to be read as it comes.

Adults read English non-fiction silently at 238 words a minute in the mean, most of them at 175 to 300 (Brysbaert 2019,
"How many words do we read per minute?", Journal of Memory and Language 109, 104047, a meta-analysis of 190 studies).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Pace = Literal["comfortable", "usable", "too slow for reading"]

WORDS_PER_MINUTE = 238.0
SLOW_SHARE = 175.0 / 238.0
FAST_SHARE = 300.0 / 238.0
"""Slow and fast readers, by the mean one."""
TOKENS_PER_WORD = 1.3
"""Of English text with the vocabularies in use, 30,000 tokens and more; other languages take more tokens per word."""


class Reader(Struct, frozen=True, kw_only=True):
    """Who reads along."""

    words_per_minute: float = WORDS_PER_MINUTE
    tokens_per_word: float = TOKENS_PER_WORD

    @property
    def tokens_per_s(self) -> float:
        """The rate at which tokens are read: 5.2 a second by default."""
        return self.words_per_minute / 60 * self.tokens_per_word


def pace_of(decode_tokens_per_s: float, reader: Reader) -> Pace:
    """How it is to read along: comfortable if even a fast reader never waits, too slow if a slow one does."""
    share = decode_tokens_per_s / reader.tokens_per_s
    if share >= FAST_SHARE:
        return "comfortable"
    return "usable" if share >= SLOW_SHARE else "too slow for reading"

"""What is enough, for `edgetop check`."""

from __future__ import annotations

from typing import Final

from edgetop.settings.option import Option, real

WORDS_PER_MINUTE: Final = Option[float](
    "words_per_minute",
    "fit",
    default=238.0,
    metavar="N",
    parse=real(10, 10_000),
    help="how fast you read; 238 is the mean of adults who read English (Brysbaert 2019)",
    about="`edgetop check` says whether a model writes faster than you read.",
)

TOKENS_PER_WORD: Final = Option[float](
    "tokens_per_word",
    "fit",
    default=1.3,
    metavar="N",
    parse=real(0.1, 100),
    help="tokens that a word takes; 1.3 is for English",
    about="More for other languages and for small vocabularies.",
)

MEMORY_MARGIN: Final = Option[float](
    "memory_margin",
    "fit",
    default=10.0,
    metavar="PERCENT",
    parse=real(0, 90),
    help="share of the memory, at most 1 GiB of it, that should stay free; with less a model is said to fit tightly",
    about="What the system and other programs may need while a model is loaded.",
)

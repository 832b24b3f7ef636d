"""How replies are drawn."""

from __future__ import annotations

from typing import Final

from edgetop.settings.option import Option, integer, joined, one_text, real, text, token_count

SYSTEM: Final = Option[str | None](
    "system",
    "sampling",
    "--system",
    default=None,
    metavar="TEXT",
    parse=text,
    help="system prompt",
    about="Stands before the conversation and takes part of the context. /system changes it in the chat.",
    example="Answer briefly.",
)

MAX_TOKENS: Final = Option[int | None](
    "max_tokens",
    "sampling",
    "-n",
    "--max-tokens",
    default=None,
    metavar="N",
    parse=token_count,
    help="stop a reply after this many tokens",
    about="Without it a reply ends where the model ends it, or where the context is full.",
    example="500",
)

SEED: Final = Option[int | None](
    "seed",
    "sampling",
    "--seed",
    default=None,
    metavar="N",
    parse=integer(0, 2**32 - 1),
    help="seed for drawing tokens; drawn anew for each turn by default, and recorded",
    about="With the same seed, settings and build of the engine the same prompt gets the same reply.",
    example="1",
)

TEMP: Final = Option[float](
    "temp",
    "sampling",
    "--temp",
    default=0.8,
    metavar="T",
    parse=real(0, 100),
    help="temperature, 0 for greedy",
    about="How freely tokens are drawn: at 0 always the likeliest one, above 1 more and more unlikely ones.",
)

TOP_P: Final = Option[float](
    "top_p",
    "sampling",
    "--top-p",
    default=0.95,
    metavar="P",
    parse=real(0, 1),
    help="nucleus sampling, 1 for off",
    about="Only the likeliest tokens are drawn from that together have this probability.",
)

TOP_K: Final = Option[int](
    "top_k",
    "sampling",
    "--top-k",
    default=40,
    metavar="K",
    parse=integer(0),
    help="draw from the K likeliest tokens, 0 for all",
    about="Comes before the other filters.",
)

MIN_P: Final = Option[float](
    "min_p",
    "sampling",
    "--min-p",
    default=0.05,
    metavar="P",
    parse=real(0, 1),
    help="leave out tokens less likely than P times the likeliest, 0 for off",
    about="Unlike top_p it keeps more tokens where the model is unsure.",
)

REPEAT_PENALTY: Final = Option[float](
    "repeat_penalty",
    "sampling",
    "--repeat-penalty",
    default=1.0,
    metavar="X",
    parse=real(0.01, 100),
    help="make tokens that were said lately less likely, 1 for off",
    about="Values above 1.2 tend to damage the text.",
)

STOP: Final = Option[tuple[str, ...]](
    "stop",
    "sampling",
    "--stop",
    default=(),
    metavar="TEXT",
    parse=one_text,
    join=joined,
    help="end a reply before this text; may be given several times",
    about="The text itself is not part of the reply.",
    example="END",
)

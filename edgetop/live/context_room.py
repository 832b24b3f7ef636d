"""How many tokens a text will be, and whether it has room in the context, before the engine has counted them.

Only the engine can count; it lives in another process and may be busy. What it has generated in this session tells how
many bytes of text a token of this model and this subject has.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from edgetop.inference.protocol import ChatMessage
from edgetop.session.session import Session

USUAL_BYTES_PER_TOKEN = 4.0
"""In the vocabulary of SmolLM2 the README of edgetop has 3.5 of them, its Python 3.8, its licence 5.1."""
LEAST_TOKENS = 100
"""Fewer generated tokens than these say little about a text."""
BYTES_PER_TOKEN_BOUNDS = (1.5, 6.0)
MESSAGE_TOKENS = 6
"""What a chat template adds to each message: marks of its role, its beginning and its end."""
SURE_SHARE = 0.7
"""Texts differ; so much of an estimate is taken to be certain."""


class Room(Struct, frozen=True, kw_only=True):
    """A conversation with one more prompt, against the context. Tokens, estimated unless the engine counted them."""

    needed: int
    certain: int
    """At least so many of them."""
    n_ctx: int

    @property
    def cannot_fit(self) -> bool:
        """Whether the engine would refuse it."""
        return self.certain >= self.n_ctx

    @property
    def excess(self) -> int:
        """How many tokens there are too many; one must be left for the answer."""
        return max(0, self.needed - self.n_ctx + 1)


def bytes_per_token(session: Session) -> float:
    """Bytes of UTF-8 in a token, as measured with the text of this session; the usual number where that is short."""
    tokens = size_bytes = 0
    loaded_us = session.loads[-1].t_us if session.loads else 0
    for turn in reversed(session.turns):
        if turn.started.t_us < loaded_us or tokens > 50 * LEAST_TOKENS:
            break
        if turn.counted:
            tokens += len(turn.token_t_us)
            size_bytes += _size_bytes(turn.text)
    if tokens < LEAST_TOKENS:
        return USUAL_BYTES_PER_TOKEN
    least, most = BYTES_PER_TOKEN_BOUNDS
    return min(max(size_bytes / tokens, least), most)


def estimated_tokens(text: str, session: Session) -> int:
    """About how many tokens a text is."""
    return round(_size_bytes(text) / bytes_per_token(session))


def room_for(
    prompt: str,
    messages: Sequence[ChatMessage],
    system: str | None,
    *,
    counted_tokens: int | None,
    session: Session,
    n_ctx: int,
) -> Room:
    """What the context would have to hold with `prompt`; `counted_tokens` are those of system prompt and messages."""
    texts = [prompt]
    if counted_tokens is None:
        texts += [message.content for message in messages] + ([system] if system else [])
    counted, estimated = counted_tokens or 0, estimated_tokens("".join(texts), session)
    return Room(
        needed=counted + estimated + MESSAGE_TOKENS * len(texts),
        certain=counted + int(SURE_SHARE * estimated),
        n_ctx=n_ctx,
    )


def _size_bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))

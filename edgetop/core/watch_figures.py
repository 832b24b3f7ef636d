"""The figures of a session that watched model servers in use by others."""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.energy.served import ServedEnergy


class WatchFigures(Struct, frozen=True, kw_only=True):
    """What the servers did for all their users together, from the first look at them on.

    A figure that is not known is `None`, never 0.
    """

    watched_s: float = 0.0
    """From the first look at a server that counts its tokens to the last one."""
    left_out_s: float = 0.0
    """Of that, the time in which it is not known what was generated: a server was started anew, or did not answer."""
    left_out: str = ""
    """Why, the last time."""
    generating_s: float = 0.0
    """Time in which a request was under way, or tokens came."""
    generated_tokens: int | None = None
    prompt_tokens: int | None = None
    """Prompt tokens evaluated; those reused from the KV cache are not among them, as far as the servers tell."""
    tokens_per_s: float | None = None
    """Generated tokens over `generating_s`: of all requests together, their prefill included."""
    energy: ServedEnergy | None = None
    energy_missing: str = "no power source was recorded"
    """Why `energy` is null, and what would give it; empty when it is there."""

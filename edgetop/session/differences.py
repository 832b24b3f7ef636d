"""How one session differs from another at the moments they are at."""

from __future__ import annotations

from msgspec import Struct

from edgetop.session.snapshot import Snapshot


class Differences(Struct, frozen=True, kw_only=True):
    """The other less the first; `None` where one of them has no such figure."""

    decode_tokens_per_s: float | None
    """Of the current turns."""
    j_per_token: float | None
    """Gross, of the current turns."""
    rss_bytes: int | None
    """Resident memory of the engines now."""


def differences(first: Snapshot, other: Snapshot) -> Differences:
    """How `other` differs from `first`, by the figures that stand in the panes' titles."""
    rss = first.memory.rss_bytes, other.memory.rss_bytes
    return Differences(
        decode_tokens_per_s=_less(_tokens_per_s(first), _tokens_per_s(other)),
        j_per_token=_less(_j_per_token(first), _j_per_token(other)),
        rss_bytes=None if rss[0] is None or rss[1] is None else rss[1] - rss[0],
    )


def _less(first: float | None, other: float | None) -> float | None:
    return None if first is None or other is None else other - first


def _tokens_per_s(snapshot: Snapshot) -> float | None:
    return None if snapshot.turn is None else snapshot.turn.figures.decode_tokens_per_s


def _j_per_token(snapshot: Snapshot) -> float | None:
    energy = None if snapshot.turn is None else snapshot.turn.figures.energy
    return None if energy is None or energy.j_per_token is None else energy.j_per_token.value

"""What is not like for like: told beside the figures, never a reason to hide them."""

from __future__ import annotations

from edgetop.session.comparison.comparison import Flag, FlagName
from edgetop.session.comparison.result import Result
from edgetop.session.comparison.traits import KIND_NAMES

DEPTH_RATIO, DEPTH_TOKENS = 1.25, 64
"""Contexts at the beginning of decoding differ when one is longer by both."""


def flags_of(result: Result, base: Result) -> tuple[Flag, ...]:
    """What sets a result apart from the base, and what kept it from being a clean measurement.

    What one of the two does not tell is not taken for a difference. The base is held against itself.
    """
    flags = [
        _other("other kind", "Measured by", KIND_NAMES[result.kind], KIND_NAMES[base.kind]),
        _other("other device", "It ran on", result.device, base.device)
        or _other("other device", "It ran on another machine of the same kind,", result.host, base.host),
        _other("other power mode", "Its power mode was", result.power_mode, base.power_mode),
        _other("other engine build", "Its engine was", result.engine, base.engine),
        _other("other context length", "Its context length was", _text(result.n_ctx), _text(base.n_ctx)),
        _depth(result, base),
        _prompts(result, base),
        _scope(result, base),
        _source(result, base),
        _other("other grade", "Its energy has grade", result.energy_grade or "", base.energy_grade or ""),
        *(Flag(name=name, text=text) for name, text in result.conditions.items()),
    ]
    return tuple(flag for flag in flags if flag is not None)


def _other(name: FlagName, words: str, value: str, base: str) -> Flag | None:
    if not value or not base or value == base:
        return None
    return Flag(name=name, text=f"{words} {value}, the base {base}.")


def _depth(result: Result, base: Result) -> Flag | None:
    if result.depth is None or base.depth is None:
        return None
    low, high = sorted((result.depth, base.depth))
    if high <= DEPTH_RATIO * low or high - low < DEPTH_TOKENS:
        return None
    return Flag(
        name="other depth",
        text=f"Decoding began with {result.depth} tokens in the context, the base with {base.depth}.",
    )


def _prompts(result: Result, base: Result) -> Flag | None:
    if not result.prompts or not base.prompts or result.prompts == base.prompts or result.kind != base.kind:
        return None
    if result.kind == "llama-bench":
        return Flag(name="other prompts", text=f"Its test was {result.prompts}, the base's {base.prompts}.")
    return Flag(name="other prompts", text="It was asked other prompts than the base.")


def _scope(result: Result, base: Result) -> Flag | None:
    scopes = [(each.energy_scope or "").replace("_", " ") for each in (result, base)]
    return _other("other power scope", "Its energy covers", *scopes)


def _source(result: Result, base: Result) -> Flag | None:
    if result.energy_scope != base.energy_scope:
        return None  # told already
    return _other("other power source", "Its energy was read from", result.energy_source, base.energy_source)


def _text(value: int | None) -> str:
    return "" if value is None else str(value)

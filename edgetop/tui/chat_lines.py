"""Lines in a chat that tell of a turn or of a load."""

from __future__ import annotations

from edgetop.core.figures import TurnFigures
from edgetop.core.format import format_bytes, format_rate, format_seconds
from edgetop.core.records import ModelLoaded, TurnFinished
from edgetop.tui.glyphs import GlyphLevel, glyphs_for

STOP_WORDS = {
    "cancelled": "stopped",
    "max_tokens": "token limit reached",
    "context_full": "the context is full: /clear begins anew",
    "engine_died": "the engine died",
    "stop_string": "stop string",
}


def figures_line(figures: TurnFigures, finished: TurnFinished, level: GlyphLevel) -> str:
    """What stands below an answer: how much it was, how fast, and why it ended where that is worth a word."""
    unit = "tok" if finished.counted or not figures.generated_tokens else "chunks"
    parts = [f"{figures.generated_tokens} {unit}", format_rate(figures.decode_tokens_per_s)]
    parts.append(f"first token {format_seconds(figures.first_token_s)}")
    if finished.stop_reason == "failed":
        parts.append(finished.error or "failed")
    elif finished.stop_reason in STOP_WORDS:
        parts.append(STOP_WORDS[finished.stop_reason])
    return f" {glyphs_for(level).dot} ".join(parts)


def loaded_line(loaded: ModelLoaded) -> str:
    """What was loaded, how long it took, and with which settings."""
    model, settings = loaded.model, loaded.settings
    known = []
    if settings.n_ctx is not None:
        known.append(f"context {settings.n_ctx} tokens")
    if settings.n_threads is not None:
        known.append(f"{settings.n_threads} thread{'' if settings.n_threads == 1 else 's'}")
    if loaded.engine.server:
        known.append(f"{loaded.engine.name} at {loaded.engine.server}")
    size = "" if model.size_bytes is None else f", {format_bytes(model.size_bytes)}"
    told = f"; {', '.join(known)}" if known else ""
    name = " ".join(part for part in (model.name, model.quantization) if part)
    return f"{name}{size}, loaded in {format_seconds(loaded.load_s)}{told}."

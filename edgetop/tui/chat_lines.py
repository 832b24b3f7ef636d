"""Lines in a chat that tell of a turn or of a load."""

from __future__ import annotations

from edgetop.core.clock import US_PER_S
from edgetop.core.figures import TurnFigures
from edgetop.core.format import format_bytes, format_rate, format_seconds, format_significant
from edgetop.core.records import ModelLoaded, TurnFinished
from edgetop.session.turn import Turn
from edgetop.tui.glyphs import GlyphLevel, glyphs_for

STOP_WORDS = {
    "cancelled": "stopped",
    "max_tokens": "token limit reached",
    "context_full": "the context is full: /undo or /clear makes room",
    "engine_died": "the engine died",
    "stop_string": "stop string",
}


def figures_line(figures: TurnFigures, finished: TurnFinished, level: GlyphLevel) -> str:
    """What stands below an answer: how much, how fast, its energy once that is final, and why it ended if strange."""
    unit = "tok" if finished.counted or not figures.generated_tokens else "chunks"
    parts = [f"{figures.generated_tokens} {unit}", format_rate(figures.decode_tokens_per_s)]
    energy = figures.energy
    if energy is not None and energy.final and energy.j_per_token is not None:
        parts.append(f"{format_significant(energy.j_per_token.value)} J/tok")
    parts.append(f"first token {format_seconds(figures.first_token_s)}")
    if finished.stop_reason == "failed":
        parts.append(finished.error or "failed")
    elif finished.stop_reason in STOP_WORDS:
        parts.append(STOP_WORDS[finished.stop_reason])
    return f" {glyphs_for(level).dot} ".join(parts)


def thought_words(turn: Turn, index: int) -> str:
    """How long the part of a reply with this index thought, until the answer began or the turn ended."""
    begin = sum(span.tokens for span in turn.reply[:index])
    tokens = turn.reply[index].tokens
    stamps = turn.token_t_us
    if not tokens or begin >= len(stamps):
        return "thought"
    span_s = (stamps[min(begin + tokens, len(stamps) - 1)] - stamps[begin]) / US_PER_S
    unit = "token" if turn.counted else "chunk"
    return f"thought for {format_seconds(span_s)}, {tokens} {unit}{'' if tokens == 1 else 's'}"


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
    known += [share.words(model.n_layer) for share in loaded.memory.layers]
    size = "" if model.size_bytes is None else f", {format_bytes(model.size_bytes)}"
    told = f"; {', '.join(known)}" if known else ""
    name = " ".join(part for part in (model.name, model.quantization) if part)
    return f"{name}{size}, loaded in {format_seconds(loaded.load_s)}{told}."

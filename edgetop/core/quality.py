"""How well a model at some quantization level still predicts: the scores, and what they were made with."""

from __future__ import annotations

from msgspec import Struct


class Score(Struct, frozen=True, kw_only=True):
    """A score and its standard error."""

    value: float
    error: float


class Quality(Struct, frozen=True, kw_only=True):
    """Scores of one model on one text and one set of questions."""

    text: str
    """Its name: `built-in`, or the file's name."""
    text_digest: str
    """SHA-256 of the text; scores of different texts cannot be compared."""
    n_ctx: int
    """Tokens in a chunk; the second half of each is scored."""
    tokens: int
    """Positions that were scored."""
    perplexity: Score
    """exp of the mean negative log-likelihood of the next token: lower is better."""
    reference: str = ""
    """The level that this one was compared with; empty if it is the reference itself, or there is none."""
    kl_divergence: Score | None = None
    """Mean Kullback-Leibler divergence from the reference's predictions, in nats."""
    kl_p99: float | None = None
    top_agreement: float | None = None
    """Share of positions where the likeliest token is the reference's."""
    questions: int = 0
    accuracy: Score | None = None
    """Share of multiple-choice questions whose right answer is the likeliest per byte."""

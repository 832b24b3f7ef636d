"""Prompts and a text to score, written for edgetop: what people ask of a small model, in five kinds."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from edgetop.bench.plan import PromptTest


@cache
def reading_text() -> str:
    """English prose of about 1,600 words, for perplexity and for a summary."""
    return files("edgetop.bench").joinpath("reading.txt").read_text("utf-8")


_SUMMARY_CHARACTERS = 4000
"""Of the text: about 900 tokens, which is a long prompt on a small device."""


def prompt_tests(max_tokens: int | None = None) -> tuple[PromptTest, ...]:
    """The built-in prompts. `max_tokens` shortens every answer."""

    def limited(tokens: int) -> int:
        return tokens if max_tokens is None else min(tokens, max_tokens)

    part = reading_text()[:_SUMMARY_CHARACTERS].rsplit("\n", 1)[0]
    return (
        PromptTest(title="short", prompts=("Name three things that float on water.",), max_tokens=limited(32)),
        PromptTest(
            title="long",
            prompts=("Explain in detail how a bicycle stays upright while it is ridden, and what a rider does.",),
            max_tokens=limited(256),
        ),
        PromptTest(
            title="summary",
            prompts=(f"Summarise the following text in three sentences.\n\n{part}",),
            max_tokens=limited(128),
        ),
        PromptTest(
            title="code",
            prompts=("Write a Python function that returns the n-th Fibonacci number, with a docstring and a test.",),
            max_tokens=limited(192),
        ),
        PromptTest(
            title="turns",
            prompts=(
                "I want to grow tomatoes on a balcony. What do I need?",
                "How often should I water them?",
                "And what if the leaves turn yellow?",
            ),
            max_tokens=limited(96),
        ),
    )

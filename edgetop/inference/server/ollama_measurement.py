"""Tests on Ollama, which takes text only: words that are a token each, and something to count on with.

It says at the end how many tokens the prompt had and how long it took. A prompt of another number of tokens than was
wanted, by a mark that the model sets before it, is asked for once more with as many words fewer.
"""

from __future__ import annotations

import random
from typing import Final

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.engine import EnginePerf
from edgetop.inference.protocol import Measure
from edgetop.inference.server.dialect import Count
from edgetop.inference.server.exchange import Exchange, decode, error_words
from edgetop.inference.server.failure import ServerFailure
from edgetop.inference.server.lines import NdjsonReader
from edgetop.inference.server.openai_chat import failure_in_stream
from edgetop.inference.server.token_measurement import Tested

PATH = "/api/generate"
_TEXT = (
    "the of and to in is was for on that by this with you it not or be are from at as your all have new more an we can "
    "if my has but our one other do no they he up may what which their out use any there see only so his when here who "
    "also now get how were me some these its like than find back"
)
WORDS: Final = tuple(_TEXT.split())
"""Such as every vocabulary of a language model has as one token, with the space before it."""
COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,"
"""Hardly a model ends this before it has to: Ollama cannot be told to go on after the end of a reply."""
TRIES = 4
_NS_PER_US = 1000


class _Line(Struct):
    response: str | None = None
    done: bool = False
    prompt_eval_count: Count | None = None
    prompt_eval_cached_count: Count | None = None
    prompt_eval_duration: Count | None = None
    eval_count: Count | None = None
    eval_duration: Count | None = None
    error: object = None


class _Asked(Struct, frozen=True, kw_only=True):
    """One request and what came of it."""

    sent_us: int
    stamps: tuple[int, ...]
    """Of the lines with text."""
    end: _Line


def run_test(exchange: Exchange, command: Measure, *, model: str, options: dict[str, object]) -> Tested:
    """Let Ollama do a test. `options` are those of the model that is loaded. Raises ServerFailure."""
    if command.depth:
        raise ServerFailure("Ollama does not say what of a prompt it had kept.", "Measure it without -d.")
    body = {
        "model": model,
        "raw": True,
        "stream": True,
        "options": {**options, "temperature": 0, "seed": command.seed, "num_predict": command.n_gen + 1},
    }
    if not command.n_prompt:
        asked = _ask(exchange, {**body, "prompt": COUNTING})
        return _tested(command, asked, asked.stamps[0] if asked.stamps else asked.sent_us)
    chosen = random.Random(command.seed)  # noqa: S311 - not for secrets
    words = count = command.n_prompt
    for _ in range(TRIES):
        # New words each time: what a prompt begins with as the one before did, would not be evaluated again.
        asked = _ask(exchange, {**body, "prompt": " ".join(chosen.choice(WORDS) for _ in range(words))})
        count = asked.end.prompt_eval_count or 0
        if asked.end.prompt_eval_cached_count:
            raise ServerFailure("Ollama had kept a part of the prompt.", "Look whether somebody else uses it.")
        if count == command.n_prompt:
            return _tested(command, asked, _end_of_prompt_us(asked))
        words = max(1, words - (count - command.n_prompt))
    raise ServerFailure(
        f"No prompt of {command.n_prompt} tokens could be made for this model: it counts {count} in {words} words.",
        "Measure it with --prompts.",
    )


def _ask(exchange: Exchange, body: object) -> _Asked:
    sent_us, reader = monotonic_us(), NdjsonReader()
    stamps: list[int] = []
    end = _Line()
    with exchange.ask("POST", PATH, body) as answer:
        exchange.require_success(answer)
        for piece in answer.stream():
            for document in reader.feed(piece):
                end = decode(document, _Line)
                if end.error is not None:
                    raise failure_in_stream(error_words(document))
                stamps += [answer.received_us] if end.response else []
            if end.done:
                break
    if not end.done:
        raise ServerFailure("Ollama ended the test without saying how long it took.", "Look into its log.")
    return _Asked(sent_us=sent_us, stamps=tuple(stamps), end=end)


def _end_of_prompt_us(asked: _Asked) -> int:
    """When the prompt had been evaluated: the first token came then."""
    if not asked.stamps:
        raise ServerFailure("Ollama answered the test without any text.", "Choose another model.")
    return asked.stamps[0]


def _tested(command: Measure, asked: _Asked, prefilled_us: int) -> Tested:
    end = asked.end
    if (end.eval_count or 0) < command.n_gen + 1:
        raise ServerFailure(
            f"The model ended its reply after {end.eval_count or 0} of {command.n_gen + 1} tokens, and Ollama cannot "
            "be told to go on.",
            "Measure a shorter reply (-n), or with --prompts.",
        )
    prompt_us = (end.prompt_eval_duration or 0) // _NS_PER_US
    if command.n_prompt and not prompt_us:
        raise ServerFailure("Ollama does not say how long it took for the prompt.", "Use a newer one.")
    # A line may hold several tokens: those that have none of their own came with the last one.
    stamps = asked.stamps[: command.n_gen + 1]
    stamps += (asked.stamps[-1:] or (prefilled_us,)) * (command.n_gen + 1 - len(stamps))
    return Tested(
        prefill_us=max(asked.sent_us, prefilled_us - prompt_us),
        prefilled_us=prefilled_us,
        stamps=stamps,
        perf=EnginePerf(
            prefill_ms=prompt_us / 1000,
            prefill_tokens=end.prompt_eval_count or 0,
            decode_ms=(end.eval_duration or 0) / _NS_PER_US / 1000,
            decode_tokens=end.eval_count or 0,
        ),
    )

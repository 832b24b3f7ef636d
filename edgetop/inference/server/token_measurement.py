"""Tests in the manner of llama-bench on a server: a prompt of a set length, then a set number of tokens.

A server draws the first token from the prompt itself, so that a reply of `n` decode calls has `n + 1` tokens, of which
the first is no part of the test.
"""

from __future__ import annotations

import random

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.engine import EnginePerf
from edgetop.core.records import Prefill, Tokens, TurnFinished
from edgetop.inference.engine import Reporter
from edgetop.inference.protocol import Measure
from edgetop.inference.server.failure import ServerFailure


class Tested(Struct, frozen=True, kw_only=True):
    """How a test went."""

    prefill_us: int
    """When the prompt was begun."""
    prefilled_us: int
    """When all of it had been evaluated."""
    stamps: tuple[int, ...]
    """When each token arrived, the first one among them."""
    perf: EnginePerf | None = None


def random_tokens(command: Measure, n_vocab: int) -> tuple[list[int], list[int]]:
    """The tokens of the depth, which are the same for all tests of it, and those of the prompt, at least one."""
    same, other = random.Random(command.depth), random.Random(command.seed)  # noqa: S311 - not for secrets
    depth = [same.randrange(n_vocab) for _ in range(command.depth)]
    return depth, [other.randrange(n_vocab) for _ in range(command.n_prompt or (1 if command.n_gen else 0))]


def require_tokens(told: int, wanted: int) -> None:
    """Raise ServerFailure where a test has not as many tokens as it is to have."""
    if told != wanted:
        raise ServerFailure(f"The server generated {told} tokens of the {wanted} that the test has.")


def report_test(command: Measure, tested: Tested, report: Reporter) -> None:
    """Report a test as our own engine does; the last report is TurnFinished."""
    turn, total, depth = command.turn, command.n_prompt, command.depth
    begin_us = tested.prefill_us if total else tested.prefilled_us
    report(Prefill(turn=turn, t_us=begin_us, done=0, total=total, cached=depth))
    if total:
        report(Prefill(turn=turn, t_us=tested.prefilled_us, done=total, total=total, cached=depth))
    stamps = tested.stamps[1 : command.n_gen + 1]
    if stamps:
        report(Tokens(turn=turn, t_us=stamps, pieces=("",) * len(stamps)))
    report(
        TurnFinished(
            turn=turn,
            t_us=monotonic_us(),
            stop_reason="max_tokens",
            prompt_tokens=depth + total,
            cached_tokens=depth,
            generated_tokens=len(stamps),
            context_used=depth + total + len(stamps),
            seed=command.seed,
            perf=tested.perf,
        )
    )

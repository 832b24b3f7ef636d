"""The questions of `edgetop tune`, one after the other: each begins with the answers of those before."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.plan import Setting, TokenTest
from edgetop.bench.tuning import Measure, Stage, StageResult, choose
from edgetop.core.engine import KvType

KV_TYPES: tuple[KvType, ...] = ("q8_0", "f16")
"""The one that takes less memory first. Others cost noticeable quality."""
UBATCHES = (128, 256, 512)
"""llama.cpp's default is the last one."""
FEW_CORES = 8
"""Up to so many cores, every number of threads is tried; beyond, powers of two."""


class Probe(Struct, frozen=True, kw_only=True):
    """How fast the model is about, found out first so that tests are neither too short nor too long."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float


class Lengths(Struct, frozen=True, kw_only=True):
    """Tokens of the tests."""

    n_prompt: int
    n_gen: int


def lengths_for(probe: Probe, *, test_s: float) -> Lengths:
    """Tests of about `test_s` seconds, within what says something at all."""
    return Lengths(
        n_prompt=_bounded(probe.prefill_tokens_per_s * test_s, 64, 512),
        n_gen=_bounded(probe.decode_tokens_per_s * test_s, 16, 128),
    )


def thread_counts(physical: int, logical: int) -> tuple[int, ...]:
    """Numbers of threads worth trying, in ascending order."""
    counts = set(range(1, physical + 1)) if physical <= FEW_CORES else {2**power for power in range(20)}
    return tuple(sorted({count for count in counts if count <= physical} | {physical, max(physical, logical)}))


def answers(
    start: Setting, threads: tuple[int, ...], lengths: Lengths, rounds: int, measure: Measure
) -> Iterator[StageResult]:
    """Answer one question after the other: threads, threads of prefill, its pieces, type of the KV cache.

    `start` is the model as it is run where nothing was chosen. Raises NothingMeasuredError.
    """
    decode, prefill = TokenTest(n_gen=lengths.n_gen), TokenTest(n_prompt=lengths.n_prompt)
    deep = TokenTest(n_gen=lengths.n_gen, depth=lengths.n_prompt)
    yield (found := _ask("threads", decode, [replace(start, threads=count) for count in threads], rounds, measure))
    chosen = found.chosen
    counts = sorted({chosen.threads or 1, *threads[-2:]})
    yield (
        found := _ask(
            "prefill threads", prefill, [replace(chosen, threads_batch=count) for count in counts], rounds, measure
        )
    )
    chosen = found.chosen
    sizes = [size for size in UBATCHES if size <= lengths.n_prompt]
    if len(sizes) > 1:
        yield (found := _ask("ubatch", prefill, [replace(chosen, ubatch=size) for size in sizes], rounds, measure))
        chosen = found.chosen
    yield _ask("kv cache", deep, [replace(chosen, kv_type=kind) for kind in KV_TYPES], rounds, measure)


def _ask(name: str, test: TokenTest, candidates: list[Setting], rounds: int, measure: Measure) -> StageResult:
    return choose(Stage(name=name, test=test, candidates=tuple(candidates)), rounds, measure)


def _bounded(value: float, least: int, most: int) -> int:
    """A multiple of 16 next to a value."""
    return min(most, max(least, round(value / 16) * 16))

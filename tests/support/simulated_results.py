"""Results and session files whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from msgspec.structs import replace

from edgetop.core.energy.tokens import Energy
from edgetop.core.engine_settings import EngineInfo, EngineSettings, MemoryBreakdown, ModelInfo, SamplingSettings
from edgetop.core.figures import MemoryFigures, Summary, TokenGaps, TurnFigures
from edgetop.core.quantity import Interval
from edgetop.core.records import DeviceInfo, LoadEntry
from edgetop.session.compare.reading import session_result
from edgetop.session.compare.result import Result
from edgetop.session.file import PrefillColumns, SessionFile, TokenColumns, TurnEntry, TurnStamps

S = 1_000_000
TOKENS, PROMPT_TOKENS = 64, 40
DECODE_TOKENS_PER_S, PREFILL_TOKENS_PER_S, J_PER_TOKEN = 12.0, 60.0, 0.72
SMALLEST_SHARE = 0.05


def session_file(
    seed: int = 1,
    *,
    turns: int = 10,
    noise: float = 0.03,
    slower: float = 0.0,
    own_noise: bool = False,
    energy: bool = True,
    quantization: str = "Q4_K_M",
    threads: int = 4,
    question: str = "How much is",
    gap_noise: float = 0.05,
    hard_prompts: float = 0.0,
) -> SessionFile:
    """A session whose turns vary in speed by `noise` (relative standard deviation), `slower` than its kind by a share.

    Energy per token and gaps follow the speed, with a little noise of their own or, with `own_noise`, with as much
    noise that has nothing to do with it: the worst case for asking many questions at once. `hard_prompts` is
    how much the speed varies from prompt to prompt, alike in all sessions.
    """
    chance = np.random.default_rng((seed, 20))

    def spread(share: float) -> float:
        return max(SMALLEST_SHARE, float(1 + share * chance.standard_normal()))

    entries: list[TurnEntry] = []
    t_us = 2 * S
    for number in range(1, turns + 1):
        hard = float(np.exp(hard_prompts * np.random.default_rng(number).standard_normal()))
        speed = DECODE_TOKENS_PER_S * (1 - slower) * hard * spread(noise)
        reading = PREFILL_TOKENS_PER_S * spread(noise)
        gaps_us = [round(S / speed * spread(gap_noise)) for _ in range(TOKENS - 1)]
        gaps_us = [round(gap_us * (S / speed * (TOKENS - 1)) / sum(gaps_us)) for gap_us in gaps_us]
        first_us = round(S * (PROMPT_TOKENS / reading + 0.02 * spread(noise)))
        joules = (
            J_PER_TOKEN / (1 - slower) * (spread(noise) if own_noise else spread(0.01) * DECODE_TOKENS_PER_S / speed)
        )
        if own_noise:
            gaps_us = [round(S / (DECODE_TOKENS_PER_S * spread(gap_noise))) for _ in gaps_us]
        p95 = float(np.percentile(gaps_us, 95)) / 1000 * (1 / (1 - slower) if own_noise else 1.0)
        figures = TurnFigures(
            decode_tokens_per_s=speed,
            prefill_tokens_per_s=reading,
            first_token_s=first_us / S,
            token_gap_ms=TokenGaps(p50=1000 / speed, p95=p95, p99=p95, max=p95),
            prompt_tokens=PROMPT_TOKENS,
            cached_tokens=0,
            generated_tokens=TOKENS,
            stop_reason="max_tokens",
            energy=energy_of(joules, random=0.01) if energy else None,
            energy_missing="" if energy else "this device offers no power reading",
        )
        last_us = t_us + first_us + sum(gaps_us)
        entries.append(
            TurnEntry(
                turn=number,
                prompt=f"{question} {number}?",
                sampling=SamplingSettings(),
                stamps=TurnStamps(submitted_us=t_us, first_token_us=t_us + first_us, last_token_us=last_us),
                figures=figures,
                prefill=PrefillColumns(total=PROMPT_TOKENS, cached=0, dt_us=(0, first_us), done=(0, PROMPT_TOKENS)),
                tokens=TokenColumns(dt_us=[first_us, *gaps_us], chars=[4] * TOKENS),
            )
        )
        t_us = last_us + 2 * S
    return SessionFile(
        id=f"{seed:012x}",
        started_at="2026-10-12T14:03:22+00:00",
        duration_us=t_us,
        edgetop_version="0.1.0",
        device=DeviceInfo(hostname="pi5", model="Raspberry Pi 5", governor="ondemand"),
        loads=(
            LoadEntry(
                t_us=S,
                load_s=1.4 * spread(0.1),
                model=ModelInfo(path="tiny.gguf", name="tiny", quantization=quantization, bits_per_weight=4.8),
                engine=EngineInfo(name="llama.cpp", version="b9999"),
                settings=EngineSettings(n_ctx=4096, n_threads=threads),
                memory=MemoryBreakdown(),
            ),
        ),
        summary=_summary(entries, energy=energy),
        turns=tuple(entries),
    )


def result(seed: int = 1, **described: object) -> Result:
    """The result of such a session."""
    return session_result(session_file(seed, **described), Path(f"{seed}.json"))  # type: ignore[arg-type]


def energy_of(joules: float, *, random: float = 0.01, gain: float = 0.04) -> Energy:
    """Energy per token, of a board meter with so much random and systematic uncertainty as shares."""

    def figure(value: float) -> Interval:
        reach = 2 * value * (random**2 + gain**2) ** 0.5
        return Interval(
            value=value, low=value - reach, high=value + reach, u_systematic=gain * value, u_random=random * value
        )

    return Energy(
        scope="board_input", source="power.board", method="strict", grade="B", grade_reason="", grade_hint="",
        flags=(), final=True, estimated_share=0.0, gross_j=figure(joules * TOKENS), net_j=figure(joules * 40),
        idle_w=figure(3.0), mean_w=figure(8.0), peak_w=figure(9.0), j_per_token=figure(joules),
        net_j_per_token=figure(joules * 0.7), decode_j_per_token=figure(joules * 0.95), prefill_j_per_token=None,
        tokens_per_wh=figure(3600 / joules),
    )  # fmt: skip


def _summary(turns: list[TurnEntry], *, energy: bool) -> Summary:
    figures = [turn.figures for turn in turns]
    speeds = np.array([each.decode_tokens_per_s for each in figures], dtype=float)
    reading = np.array([each.prefill_tokens_per_s for each in figures], dtype=float)
    joules = [each.energy.j_per_token.value for each in figures if each.energy and each.energy.j_per_token]
    gaps_ms = [gap_us / 1000 for turn in turns for gap_us in turn.tokens.dt_us[1:]]
    p50, p95 = (float(each) for each in np.percentile(gaps_ms, (50, 95)))
    first_s = [each.first_token_s for each in figures if each.first_token_s is not None]
    return Summary(
        decode_tokens_per_s=float(len(speeds) / (1 / speeds).sum()),
        prefill_tokens_per_s=float(len(reading) / (1 / reading).sum()),
        first_token_s=float(np.median(first_s)),
        token_gap_ms=TokenGaps(p50=p50, p95=p95, p99=p95, max=p95),
        load_s=1.4,
        turns=len(turns),
        generated_tokens=TOKENS * len(turns),
        memory=MemoryFigures(rss_peak_bytes=900_000_000),
        energy=energy_of(float(np.mean(joules)), random=0.01 / len(joules) ** 0.5) if energy else None,
        energy_missing="" if energy else "this device offers no power reading",
    )


def with_summary(file: SessionFile, **changed: object) -> SessionFile:
    """The file with other figures in its summary."""
    return replace(file, summary=replace(file.summary, **changed))

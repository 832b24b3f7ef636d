"""From the turns of a session to the repetitions of a test, each with its rate, its energy and its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from msgspec import Struct

from edgetop.bench.conditions import Conditions, conditions_between
from edgetop.bench.means import per_token
from edgetop.bench.plan import Test, TokenTest
from edgetop.core.clock import US_PER_S
from edgetop.core.energy.figures import Figure
from edgetop.session.file import SessionFile, TurnEntry
from edgetop.session.session import Session

NS_PER_US = 1000


class Repetition(Struct, frozen=True, kw_only=True):
    """One test done once."""

    round: int
    tokens_per_s: float
    duration_ns: int
    """Of a test of tokens, as llama-bench measures it; of prompts, from submitting each to its last token."""
    j_per_token: Figure | None = None
    """Gross, over the tokens that the test is about: of prompts, those generated."""
    net_j_per_token: Figure | None = None
    energy_source: str = ""
    """Which sensors the energy is from; empty without one."""
    energy_missing: str = ""
    """Why `j_per_token` is not there; empty when it is."""
    first_token_s: float | None = None
    """In the mean of its turns."""
    conditions: Conditions = Conditions()


class DoneTest(Struct, frozen=True, kw_only=True):
    """A test as one session has it."""

    repetitions: tuple[Repetition, ...]
    without_rate: int
    """Repetitions that cannot be counted, such as an answer of a single token."""


def done_in(test: Test, number: int, file: SessionFile, session: Session) -> DoneTest:
    """The repetitions of a test in the session of round `number`; `session` is that of `file`."""
    turns = [turn for turn in file.turns if turn.task == test.name and not turn.warmup]
    size = 1 if isinstance(test, TokenTest) else len(test.prompts)
    groups = [turns[begin : begin + size] for begin in range(0, len(turns), size)]
    found = [_repetition(test, number, group, session) if len(group) == size else None for group in groups]
    repetitions = tuple(each for each in found if each is not None)
    return DoneTest(repetitions=repetitions, without_rate=len(found) - len(repetitions))


class _Timing(Struct, frozen=True, kw_only=True):
    """What a repetition is counted by."""

    tokens: int
    """That energy is divided by."""
    tokens_per_s: float
    duration_us: int
    begin_us: int
    end_us: int


def _repetition(test: Test, number: int, turns: Sequence[TurnEntry], session: Session) -> Repetition | None:
    if any(turn.end is None or turn.end.error for turn in turns):
        return None
    timing = _token_timing(test, turns[0]) if isinstance(test, TokenTest) else _prompt_timing(turns)
    if timing is None:
        return None
    energies = [energy for turn in turns if (energy := turn.figures.energy) is not None]
    gross = [energy.gross_j for energy in energies]
    net = [energy.net_j for energy in energies if energy.net_j is not None]
    first_s = [turn.figures.first_token_s for turn in turns if turn.figures.first_token_s is not None]
    whole = len(gross) == len(turns)
    return Repetition(
        round=number,
        tokens_per_s=timing.tokens_per_s,
        duration_ns=timing.duration_us * NS_PER_US,
        j_per_token=per_token(gross, timing.tokens) if whole else None,
        net_j_per_token=per_token(net, timing.tokens) if len(net) == len(turns) else None,
        energy_source=energies[0].source if whole else "",
        energy_missing=next((turn.figures.energy_missing for turn in turns if turn.figures.energy is None), ""),
        first_token_s=fmean(first_s) if first_s else None,
        conditions=conditions_between(session, timing.begin_us, timing.end_us),
    )


def _token_timing(test: TokenTest, turn: TurnEntry) -> _Timing | None:
    """llama-bench's: all tokens over the time from before the first decode call to after the last one."""
    begin_us = turn.stamps.prefill_us
    end_us = turn.stamps.last_token_us if test.n_gen else _end_of_prefill_us(turn)
    complete = turn.figures.generated_tokens == test.n_gen
    if begin_us is None or end_us is None or end_us <= begin_us or not complete:
        return None
    tokens = test.n_prompt + test.n_gen
    return _Timing(
        tokens=tokens,
        tokens_per_s=tokens * US_PER_S / (end_us - begin_us),
        duration_us=end_us - begin_us,
        begin_us=begin_us,
        end_us=end_us,
    )


def _prompt_timing(turns: Sequence[TurnEntry]) -> _Timing | None:
    """Decode speed over all turns: the tokens but the first of each, over the time from its first to its last."""
    intervals = decode_us = duration_us = 0
    for turn in turns:
        stamps = turn.stamps
        if stamps.first_token_us is None or stamps.last_token_us is None:
            return None
        intervals += turn.figures.generated_tokens - 1
        decode_us += stamps.last_token_us - stamps.first_token_us
        duration_us += stamps.last_token_us - stamps.submitted_us
    if intervals < 1 or decode_us <= 0:
        return None
    return _Timing(
        tokens=sum(turn.figures.generated_tokens for turn in turns),
        tokens_per_s=intervals * US_PER_S / decode_us,
        duration_us=duration_us,
        begin_us=turns[0].stamps.submitted_us,
        end_us=turns[-1].stamps.last_token_us or turns[-1].stamps.submitted_us,
    )


def _end_of_prefill_us(turn: TurnEntry) -> int | None:
    if turn.prefill is None or not turn.prefill.done or turn.prefill.done[-1] < turn.prefill.total:
        return None
    return turn.stamps.submitted_us + sum(turn.prefill.dt_us)

"""What a benchmark will take, said before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetop.bench.estimate import Expected, estimate
from edgetop.bench.plan import ModelFile, Plan, Run, Setting, engine_settings
from edgetop.bench.run_log import RunLog
from edgetop.commands.bench_power import power_headline
from edgetop.commands.console import say
from edgetop.commands.server_choice import has_own_engine
from edgetop.core.errors import ModelError
from edgetop.core.format import format_bytes, format_duration
from edgetop.core.records import Missing
from edgetop.fit.assessment import Place, Talk, assess
from edgetop.fit.model_file import read_facts
from edgetop.live.own_machine import own_place
from edgetop.session.store import Store
from edgetop.settings import options
from edgetop.settings.resolve import Settings
from edgetop.telemetry.source import Host

LOAD_BYTES_PER_S = 500e6
"""Of an SD card or an eMMC it is a fifth of this, of an NVMe drive several times; said as an estimate."""
KEYS_SHOWN = 3
TALK = Talk(prompt_tokens=512, answer_tokens=128)


def say_estimate(log: RunLog | Plan, runs: Sequence[Run], settings: Settings, store: Store) -> None:
    """Say how long what remains will take, and which settings are not expected to fit; `log` or a plan not begun."""
    plan, unscored = (log, _models_to_score(log)) if isinstance(log, Plan) else (log.plan, log.unscored)
    if not has_own_engine(settings) or not (runs or unscored):
        return
    place = own_place(Host(sysroot=settings[options.SYSROOT]), store.folder, probe="once", tell=lambda *_: None)
    expected = {each.key: _expected(each, plan.n_ctx, place) for each in plan.settings}
    has_power = not isinstance(power_headline(settings), Missing)
    found = estimate(plan, runs, expected, has_power=has_power, unscored=unscored)
    words = [f"{found.runs} run{'s' if found.runs != 1 else ''}"]
    words += [f"scores of {len(unscored)} model{'s' if len(unscored) != 1 else ''}"] if unscored else []
    if found.duration_s is not None:
        words.append(f"about {format_duration(found.duration_s)}")
    if found.memory_bytes is not None:
        words.append(f"up to {format_bytes(found.memory_bytes)} of memory")
    if found.session_bytes:
        words.append(f"{format_bytes(found.session_bytes)} of sessions")
    say(", ".join(words))
    for key in found.too_large:
        say(f"{key} is not expected to fit into memory; it is tried all the same")
    if found.unknown:
        more = f" and {len(found.unknown) - KEYS_SHOWN} more" if len(found.unknown) > KEYS_SHOWN else ""
        say(f"the speed of {', '.join(found.unknown[:KEYS_SHOWN])}{more} is not known yet, so the time is not either")


def _models_to_score(plan: Plan) -> list[ModelFile]:
    return [] if plan.quality is None else list(dict.fromkeys(each.model for each in plan.settings))


def _expected(setting: Setting, n_ctx: int, place: Place) -> Expected:
    try:
        facts = read_facts(Path(setting.model.path))
    except ModelError:
        return Expected()
    found = assess(facts, engine_settings(setting, n_ctx), TALK, place)
    speed, need = found.speed, found.need
    prefill = None if isinstance(speed, Missing) else speed.prefill_tokens_per_s
    return Expected(
        prefill_tokens_per_s=None if prefill is None else prefill.value,
        decode_tokens_per_s=None if isinstance(speed, Missing) else speed.decode_tokens_per_s.value,
        load_s=facts.size_bytes / LOAD_BYTES_PER_S,
        memory_bytes=None if isinstance(need, Missing) else need.total_bytes,
        fits=None if found.verdict.fit is None else found.verdict.fit != "does not fit",
    )

"""What a session that has ended teaches the predictions of this machine."""

from __future__ import annotations

from pathlib import Path

from edgetop.core.errors import EdgetopError
from edgetop.core.records import Missing
from edgetop.fit.calibration import run_of
from edgetop.fit.machine_profile import add_run, load_profile, machine_key
from edgetop.fit.model_facts import ModelFacts
from edgetop.live.experience import outcome_in
from edgetop.live.own_machine import own_machine, profile_file
from edgetop.telemetry.device import describe
from edgetop.telemetry.source import Host


def learn_from(session: Path, facts: ModelFacts, host: Host, sessions: Path) -> bool:
    """Let the calibration learn from a session's file; whether it did.

    It learns from sessions of one model that was predicted and that nothing disturbed, on a machine that has been
    measured. A profile that cannot be written is left as it is: nobody waits for it.
    """
    try:
        return _learn(session, facts, host, sessions)
    except (EdgetopError, OSError, ValueError, ArithmeticError):
        return False


def _learn(session: Path, facts: ModelFacts, host: Host, sessions: Path) -> bool:
    outcome = outcome_in(session)
    if outcome is None or outcome.measured.decode_tokens_per_s is None:
        return False
    device, file = describe(host), profile_file(sessions)
    profile = load_profile(file, machine_key(device))
    if isinstance(profile, Missing):
        return False
    measured, settings = outcome.measured, outcome.load.settings
    run = run_of(
        facts,
        own_machine(device, profile),
        settings,
        threads=settings.n_threads or 1,
        depth_tokens=round(measured.depth_tokens),
        decode_tokens_per_s=outcome.measured.decode_tokens_per_s or 0.0,
        prompt_tokens=round(measured.evaluated_tokens),
        prefill_tokens_per_s=measured.prefill_tokens_per_s,
        measured_at=outcome.started_at,
    )
    if isinstance(run, Missing):
        return False
    add_run(file, profile, run)
    return True

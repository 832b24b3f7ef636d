"""What this machine has done before, from its recorded sessions, as the predictions want it.

What reads sessions is imported when there are any: it takes longer than all the rest of a check.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgetop.core.clock import US_PER_S
from edgetop.core.records import DeviceInfo, ModelLoaded
from edgetop.fit.experience import Experience
from edgetop.fit.machine_profile import machine_key
from edgetop.session.folder import FILE_SUFFIX

if TYPE_CHECKING:
    from edgetop.session.predictions import Outcome
    from edgetop.session.session import Session

TURNS_MAX = 40
"""Of one load, the newest."""
SESSIONS_MAX = 200
"""The newest ones; older ones say little of today's engine and today's machine."""


def experience_in(folder: Path, device: DeviceInfo, *, limit: int) -> tuple[Experience, ...]:
    """What the newest sessions of a folder teach of `device` in its present power mode."""
    outcomes = outcomes_in(folder, device, limit=limit)
    return tuple(each for each in map(experience_of, outcomes) if each is not None)


def outcomes_in(folder: Path, device: DeviceInfo, *, limit: int = SESSIONS_MAX) -> list[Outcome]:
    """Predictions and measurements of the newest sessions of a folder that were recorded on `device`, as it is now."""
    paths = _newest(folder, limit)
    return list(_outcomes(paths, machine_key(device))) if paths else []


def experience_of(outcome: Outcome) -> Experience | None:
    """An outcome as experience; `None` where nothing was decoded long enough to be measured."""
    measured, load = outcome.measured, outcome.load
    if measured.decode_tokens_per_s is None:
        return None
    return Experience(
        session=outcome.session_id,
        measured_at=outcome.started_at,
        machine_key=machine_key(outcome.device),
        model_name=load.model.name,
        architecture=load.model.architecture,
        parameters=load.model.parameters or 0,
        size_bytes=load.model.size_bytes or 0,
        file_type=load.model.quantization,
        weight_bytes_per_token=outcome.prediction.bytes_per_token,
        threads=load.settings.n_threads or 1,
        gpu_layers=load.settings.n_gpu_layers or 0,
        type_k=load.settings.type_k,
        type_v=load.settings.type_v,
        depth_tokens=round(measured.depth_tokens),
        decode_tokens=measured.decode_tokens,
        decode_tokens_per_s=measured.decode_tokens_per_s,
        prefill_tokens=round(measured.evaluated_tokens),
        prefill_tokens_per_s=measured.prefill_tokens_per_s,
        decode_j_per_token=outcome.decode_j_per_token,
        prefill_j_per_token=outcome.prefill_j_per_token,
        energy_scope=outcome.energy_scope,
    )


def experience_of_session(session: Session, t_us: int) -> tuple[Experience, ...]:
    """What a session that goes on teaches of its machine, each model for itself, the last one first.

    Turns that something disturbed are left out, as those of recorded sessions are.
    """
    if session.header is None:
        return ()
    found = []
    until_us = t_us
    for load in reversed(session.loads):
        run = _run(session, load, until_us, t_us)
        until_us = load.t_us - 1
        if run is not None:
            found.append(run)
    return tuple(found)


def _run(session: Session, load: ModelLoaded, until_us: int, now_us: int) -> Experience | None:
    """The newest turns of one load together; `None` where too little was decoded to be measured."""
    from edgetop.session.predictions import DISTURBED, GENERATED_MIN, PREFILLED_MIN  # noqa: PLC0415 - see above
    from edgetop.session.summary import account_of  # noqa: PLC0415 - see above

    last = session.turn_at(until_us)
    turns = [] if last is None else range(max(0, last + 1 - TURNS_MAX), last + 1)
    progresses = [
        session.turns[index].progress(now_us)
        for index in turns
        if session.turns[index].started.t_us >= load.t_us
        and account_of(session, index, now_us).figures.limited_by not in DISTURBED
    ]
    decoded = [each for each in progresses if each.after_first and each.decode_us]
    generated = sum(each.generated for each in decoded)
    decode_us = sum(each.decode_us for each in decoded)
    header = session.header
    if header is None or generated < GENERATED_MIN:
        return None
    evaluated, prefill_us = sum(each.evaluated for each in decoded), sum(each.prefill_us for each in decoded)
    prediction = session.prediction_at(until_us)
    return Experience(
        session="this session",
        measured_at=header.started_at,
        machine_key=machine_key(header.device),
        model_name=load.model.name,
        architecture=load.model.architecture,
        parameters=load.model.parameters or 0,
        size_bytes=load.model.size_bytes or 0,
        file_type=load.model.quantization,
        weight_bytes_per_token=None if prediction is None else prediction.bytes_per_token,
        threads=load.settings.n_threads or 1,
        gpu_layers=load.settings.n_gpu_layers or 0,
        type_k=load.settings.type_k,
        type_v=load.settings.type_v,
        depth_tokens=round(sum((each.prompt_tokens or 0) + each.generated / 2 for each in decoded) / len(decoded)),
        decode_tokens=generated,
        decode_tokens_per_s=sum(each.after_first or 0 for each in decoded) * US_PER_S / decode_us,
        prefill_tokens=round(evaluated / len(decoded)),
        prefill_tokens_per_s=(
            evaluated * US_PER_S / prefill_us if prefill_us and evaluated >= PREFILLED_MIN * len(decoded) else None
        ),
    )


def outcome_in(path: Path) -> Outcome | None:
    """Prediction and measurement in one session's file; `None` where there are none, or the file is not a session."""
    from edgetop.session.codec import SessionFileError  # noqa: PLC0415 - see above
    from edgetop.session.disk import load_file, load_head  # noqa: PLC0415 - see above
    from edgetop.session.predictions import outcome_of  # noqa: PLC0415 - see above

    try:
        head = load_head(path)
        if not head.predictions:
            return None
        return outcome_of(head, None if head.bench is None else load_file(path).turns)
    except SessionFileError:
        return None  # `edgetop sessions validate` tells of it


def _outcomes(paths: Iterable[Path], key: str) -> Iterable[Outcome]:
    for path in paths:
        outcome = outcome_in(path)
        if outcome is not None and machine_key(outcome.device) == key:
            yield outcome


def _newest(folder: Path, limit: int) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(folder.glob("[!.]*" + FILE_SUFFIX), key=lambda path: path.name, reverse=True)[:limit]

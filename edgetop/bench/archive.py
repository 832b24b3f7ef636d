"""An archive of a benchmark, to be run again elsewhere: plan, runs, sessions, environment, tables, digests of all."""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from math import log
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from edgetop.bench.plan import ModelFile, Plan
from edgetop.bench.results import PlanResult, TestResult
from edgetop.bench.run_log import PLAN_FILE, RUNS_FILE, FinishedRun, RunLog
from edgetop.core.errors import UsageError
from edgetop.core.statistics import Difference, welch_difference
from edgetop.io import json
from edgetop.io.files import replacement, write_atomically

DIGESTS_FILE = "SHA256SUMS"
ENVIRONMENT_FILE = "environment.json"
_SESSION = re.compile(r"sessions/\w[\w.+-]*")

LARGEST_BYTES = 2 * 2**30
"""Of all that is in an archive, unpacked."""


class Archive(Struct, frozen=True, kw_only=True):
    """What an archive holds; its sessions are unpacked, and `finished` names them there."""

    plan: Plan
    finished: tuple[FinishedRun, ...]


def write_archive(path: Path, benchmark: RunLog, result: PlanResult, texts: Mapping[str, str], version: str) -> int:
    """Write it, `texts` being further files; how many sessions it holds. Models are named by file, not by folder.

    A session that is gone is left out, with its run. Raises OSError.
    """
    content: dict[str, bytes | Path] = {}
    runs = []
    for number, run in enumerate(benchmark.finished, 1):
        session = Path(run.session)
        if run.session and session.is_file():
            name = f"sessions/{number:04}-{re.sub(r'[^A-Za-z0-9_.+-]', '_', session.name)}"
            content[name] = session
            runs.append(replace(run, session=name))
        elif run.outcome != "measured":
            runs.append(replace(run, session=""))
    plan = _with_models(benchmark.plan, lambda model: replace(model, path=Path(model.path).name))
    environment = {
        "edgetop": version,
        "python": platform.python_version(),
        "platform": sys.platform,
        "machine": platform.machine(),
        "engines": list(dict.fromkeys(each.load.engine.label for each in result.settings if each.load is not None)),
        "device": None if result.device is None else asdict(replace(result.device, hostname="")),
        "models": {model.label: model.content for model in _models(plan)},
    }
    files: dict[str, bytes | Path] = {
        PLAN_FILE: msgspec.json.encode(plan),
        RUNS_FILE: b"".join(msgspec.json.encode(run) + b"\n" for run in runs),
        ENVIRONMENT_FILE: json.encode(environment, indented=True),
        **{name: text.encode("utf-8", "replace") for name, text in texts.items()},
        **content,
    }
    sums = []
    with replacement(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, held in files.items():
            data = held.read_bytes() if isinstance(held, Path) else held
            sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
            archive.writestr(name, data)
        archive.writestr(DIGESTS_FILE, "".join(sums))
    return len(content)


def read_archive(path: Path, folder: Path) -> Archive:
    """Unpack the sessions of an archive below `folder`. Raises UsageError for what is no archive, or was changed."""
    hint = "give a file that `edgetop bench --archive FILE` wrote"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if sum(each.file_size for each in archive.infolist()) > LARGEST_BYTES:
                raise UsageError(f"{path}: it is larger than 2 GiB", hint)
            sums = {
                name: digest
                for digest, _, name in (
                    line.partition("  ") for line in archive.read(DIGESTS_FILE).decode().splitlines()
                )
            }
            held = {}
            for name in names:
                if name in {PLAN_FILE, RUNS_FILE} or _SESSION.fullmatch(name):
                    held[name] = archive.read(name)
                    if hashlib.sha256(held[name]).hexdigest() != sums.get(name):
                        raise UsageError(f"{path}: {name} is not what its digest says", "get the archive once more")
        plan = msgspec.json.decode(held[PLAN_FILE], type=Plan)
        runs = [msgspec.json.decode(line, type=FinishedRun) for line in held[RUNS_FILE].splitlines()]
        for name in filter(_SESSION.fullmatch, held):
            (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(folder / name, [held[name]])
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", hint) from None
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"{path}: it is no archive of a benchmark ({error})", hint) from None
    finished = [replace(run, session=str(folder / run.session)) if run.session in held else run for run in runs]
    return Archive(plan=plan, finished=tuple(finished))


def here(plan: Plan, find: Callable[[str], list[Path]], digest_of: Callable[[Path], str]) -> Plan:
    """The plan with the models of this machine: those that `find` gives for a file's name and that are the same file.

    Raises UsageError.
    """

    def located(model: ModelFile) -> ModelFile:
        if not model.content or plan.server:
            return model
        found = find(model.path)
        for path in found:
            if digest_of(path) == model.content:
                return replace(model, path=str(path))
        if found:
            raise UsageError(f"{found[0]} is not the file that was measured", f"get the {model.path} of the archive")
        raise UsageError(f"{model.path} is not on this machine", "name it with -m, or add its folder with --model-dir")

    return _with_models(plan, located)


def held_against(first: PlanResult, again: PlanResult) -> list[str]:
    """What was measured now against the archive, setting by setting and test by test."""
    before = {each.setting.key: each for each in first.settings}
    sentences = []
    for setting in again.settings:
        archived = before.get(setting.setting.key)
        for test in setting.tests:
            other = None if archived is None else archived.test(test.test.name)
            if other is None:
                continue
            parts = [_against("tok/s", test.tokens_per_s.mean, other.tokens_per_s.mean, _speed(test, other))]
            ours, theirs = test.j_per_token, other.j_per_token
            if ours is not None and theirs is not None and min(ours.value, theirs.value) > 0:
                parts.append(_against("J/token", ours.value, theirs.value, _energy(test, other)))
            sentences.append(f"{setting.setting.key}, {test.test.name}: {'; '.join(parts)}.")
    return sentences


def _against(unit: str, now: float, then: float, difference: Difference | None) -> str:
    text = f"{now:.4g} {unit}, {then:.4g} in the archive"
    if difference is None:
        return f"{text} (a single repetition tells no difference)"
    low, high = difference.interval()
    verdict = ", within noise" if low <= 0 <= high else ""
    return f"{text} ({low:+.1f} to {high:+.1f} %{verdict})"


def _speed(test: TestResult, other: TestResult) -> Difference | None:
    if min(len(test.repetitions), len(other.repetitions)) < 2:
        return None
    ratio = test.tokens_per_s.mean / other.tokens_per_s.mean
    return welch_difference(log(ratio), test.speed_spread, other.speed_spread)


def _energy(test: TestResult, other: TestResult) -> Difference | None:
    """By the random part alone: how far two meters differ, no repetition says."""
    ours, theirs, first, second = test.energy_spread, other.energy_spread, test.j_per_token, other.j_per_token
    if ours is None or theirs is None or first is None or second is None:
        return None
    return welch_difference(log(first.value / second.value), ours, theirs)


def _models(plan: Plan) -> list[ModelFile]:
    return list(dict.fromkeys(each.model for each in plan.settings))


def _with_models(plan: Plan, change: Callable[[ModelFile], ModelFile]) -> Plan:
    changed = {model: change(model) for model in _models(plan)}
    return replace(plan, settings=tuple(replace(each, model=changed[each.model]) for each in plan.settings))

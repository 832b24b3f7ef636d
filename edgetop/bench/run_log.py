"""What of a plan is done, on disk; the benchmarks that were begun."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from edgetop.bench.device_settings import ColdFile
from edgetop.bench.plan import ModelFile, Plan, Run, runs_of
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.format import format_time
from edgetop.io.files import read_small, write_atomically

PLAN_FILE = "plan.json"
RUNS_FILE = "runs.jsonl"


class BenchFolderError(EdgetopError):
    """The folder of a benchmark cannot be read or written."""


class FinishedRun(Struct, frozen=True, kw_only=True):
    """How a run ended."""

    setting: str
    round: int
    outcome: Literal["measured", "failed", "not_loaded"]
    """`not_loaded`: the model cannot be loaded, so that the setting's other rounds are left out."""
    session: str = ""
    """The session's file."""
    reason: str = ""
    """What went wrong, in one line."""
    cold: ColdFile | None = None
    """How the model's file was put out of memory before it was loaded."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know, such as a cool-down that was cut short."""


class RunLog:
    """The folder of one plan, below `folder`."""

    def __init__(self, folder: Path, plan: Plan, *, path: Path | None = None) -> None:
        """Begin, or go on where an earlier edgetop ended; `path` is the folder if it has another name already.

        Raises BenchFolderError.
        """
        self.plan = plan
        self.path = path or folder / plan.identity
        self.finished: list[FinishedRun] = []
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (self.path / PLAN_FILE).exists():
                write_atomically(self.path / PLAN_FILE, [msgspec.json.format(msgspec.json.encode(plan), indent=1)])
            self.finished = read_runs(self.path)
        except OSError as error:
            raise _unusable(self.path, error) from None

    def remaining(self, runs: list[Run]) -> list[Run]:
        """Those that have not been measured, without the settings whose model cannot be loaded.

        A run that failed is tried again when the plan is resumed.
        """
        measured = {(run.setting, run.round) for run in self.finished if run.outcome == "measured"}
        return [run for run in runs if run.key not in measured and run.setting.key not in self.unloadable]

    @property
    def done(self) -> int:
        """How many of the plan's runs have been measured; scores of quality are no runs."""
        measured = {(run.setting, run.round) for run in self.finished if run.outcome == "measured"}
        return sum(run.key in measured for run in runs_of(self.plan))

    @property
    def unloadable(self) -> set[str]:
        """Settings whose model could not be loaded."""
        return {run.setting for run in self.finished if run.outcome == "not_loaded"}

    def add(self, run: FinishedRun) -> None:
        """Note the end of a run, on the disk before this returns. Raises BenchFolderError."""
        try:
            fd = os.open(self.path / RUNS_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # A line that an earlier edgetop wrote half is ended first, and then no line of ours.
                line = b"\n" * self._ends_in_the_middle() + msgspec.json.encode(run) + b"\n"
                while line:
                    line = line[os.write(fd, line) :]
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise _unusable(self.path, error) from None
        self.finished.append(run)

    @property
    def unscored(self) -> list[ModelFile]:
        """The models whose quality the plan asks for and that have no scores yet, but for those that cannot be loaded.

        All of the plan's where one is missing: they are held against each other.
        """
        if self.plan.quality is None:
            return []
        unloadable = self.unloadable
        models = list(dict.fromkeys(each.model for each in self.plan.settings if each.key not in unloadable))
        measured = {run.setting for run in self.finished if run.outcome == "measured"}
        return [] if all(quality_key(model) in measured for model in models) else models

    def forget_failures(self) -> None:
        """Give what failed another chance; the lines stay in the file."""
        self.finished = [run for run in self.finished if run.outcome == "measured"]

    def begin_again(self) -> None:
        """Measure all of it once more; what was measured before stays where it is, under a name with its date.

        Raises BenchFolderError.
        """
        runs = self.path / RUNS_FILE
        if not self.finished:
            return
        try:
            runs.rename(self.path / f"runs-{runs.stat().st_mtime_ns}.jsonl")
        except OSError as error:
            raise _unusable(self.path, error) from None
        self.finished = []

    def _ends_in_the_middle(self) -> bool:
        path = self.path / RUNS_FILE
        if not path.exists() or not (size := path.stat().st_size):
            return False
        with path.open("rb") as file:
            file.seek(size - 1)
            return file.read(1) != b"\n"


def quality_key(model: ModelFile) -> str:
    """What the scores of a model stand under."""
    return f"quality of {model.label}"


PLAN_BYTES_MAX, RUNS_BYTES_MAX = 64 * 2**20, 512 * 2**20


def read_runs(path: Path) -> list[FinishedRun]:
    """The runs that a plan's folder tells of; lines that an edgetop could not finish are left out. Raises OSError."""
    runs = path / RUNS_FILE
    if not runs.exists():
        return []
    finished = []
    for line in read_small(runs, RUNS_BYTES_MAX).splitlines():
        try:
            finished.append(msgspec.json.decode(line, type=FinishedRun))
        except (ValueError, RecursionError):
            continue
    return finished


def read_plan(path: Path) -> Plan:
    """The plan of a folder. Raises BenchFolderError."""
    try:
        return msgspec.json.decode(read_small(path / PLAN_FILE, PLAN_BYTES_MAX), type=Plan)
    except OSError as error:
        raise _unusable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise BenchFolderError(f"{path / PLAN_FILE}: {error}.", "Start the benchmark anew.") from None


def find_log(folder: Path, identity: str) -> RunLog:
    """The benchmark whose identity begins so; `last` is the one begun last. Raises UsageError."""
    paths = _folders(folder)
    found = paths[:1] if identity == "last" else [path for path in paths if path.name.startswith(identity)]
    if not found:
        raise UsageError(f"no benchmark is called {identity!r}", "`edgetop bench --list` shows those there are")
    if len(found) > 1:
        raise UsageError(f"{len(found)} benchmarks begin with {identity!r}", "give more of its identity")
    return RunLog(folder, read_plan(found[0]), path=found[0])


def list_logs(folder: Path) -> list[list[str]]:
    """One row for each: identity, name, runs done, runs in all, when it was begun."""
    rows = []
    for path in _folders(folder):
        begun = format_time(datetime.fromtimestamp((path / PLAN_FILE).stat().st_mtime, timezone.utc).isoformat())
        try:
            log = RunLog(folder, read_plan(path), path=path)
        except BenchFolderError as error:
            rows.append([path.name, error.what, "", "", begun])
            continue
        rows.append([path.name, log.plan.name, str(log.done), str(len(runs_of(log.plan))), begun])
    return rows


def _folders(folder: Path) -> list[Path]:
    """Newest first."""
    paths = [path.parent for path in folder.glob(f"*/{PLAN_FILE}")]
    return sorted(paths, key=lambda path: -(path / PLAN_FILE).stat().st_mtime)


def _unusable(path: Path, error: OSError) -> BenchFolderError:
    return BenchFolderError(f"{path}: {error.strerror or error}.", "Make room there, or choose another --data-dir.")

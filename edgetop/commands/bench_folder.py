"""Benchmarks that were begun, on the disk."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from edgetop.bench.plan import runs_of
from edgetop.bench.run_log import PLAN_FILE, BenchFolderError, RunLog, read_plan
from edgetop.core.errors import UsageError


def find_log(folder: Path, identity: str) -> RunLog:
    """The benchmark whose identity begins so; `last` is the one begun last. Raises UsageError."""
    paths = _paths(folder)
    found = paths[:1] if identity == "last" else [path for path in paths if path.name.startswith(identity)]
    if not found:
        raise UsageError(f"no benchmark is called {identity!r}", "`edgetop bench --list` shows those there are")
    if len(found) > 1:
        raise UsageError(f"{len(found)} benchmarks begin with {identity!r}", "give more of its identity")
    return RunLog(folder, read_plan(found[0]), path=found[0])


def list_logs(folder: Path) -> list[list[str]]:
    """One row for each: identity, name, runs done, runs in all, when it was begun."""
    rows = []
    for path in _paths(folder):
        begun = datetime.fromtimestamp((path / PLAN_FILE).stat().st_mtime).astimezone().strftime("%Y-%m-%d %H:%M")
        try:
            log = RunLog(folder, read_plan(path), path=path)
        except BenchFolderError as error:
            rows.append([path.name, error.what, "", "", begun])
            continue
        rows.append([path.name, log.plan.name, str(log.done), str(len(runs_of(log.plan))), begun])
    return rows


def _paths(folder: Path) -> list[Path]:
    """Newest first."""
    paths = [path.parent for path in folder.glob(f"*/{PLAN_FILE}")]
    return sorted(paths, key=lambda path: -(path / PLAN_FILE).stat().st_mtime)

"""Fake `/sys`, `/proc` and `/etc` trees below a folder, and what a probe says of them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from edgetop.core.records import Missing
from edgetop.telemetry import sysfs_file
from edgetop.telemetry.source import Absent, Host, Source


def plant(root: Path, files: Mapping[str, str | int]) -> Host:
    """Write files, given by absolute path, below `root`; a host that reads them."""
    for absolute, content in files.items():
        path = root / absolute.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return Host(sysroot=root)


def below(folder: str, files: Mapping[str, str | int]) -> dict[str, str | int]:
    """The same files in a folder."""
    return {f"{folder}/{name}": content for name, content in files.items()}


def sources(found: Iterable[Source | Absent]) -> dict[str, Source]:
    """The sources among what a probe yields, by name."""
    return {each.info.name: each for each in found if not isinstance(each, Absent)}


def absences(found: Iterable[Source | Absent]) -> dict[str, Missing]:
    """What a probe says that it cannot read, by name."""
    return {each.name: each.missing for each in found if isinstance(each, Absent)}


def readings(source: Source) -> dict[str, float | Missing]:
    """One reading by channel name."""
    return dict(zip((channel.name for channel in source.info.channels), source.read(), strict=True))


def no_pause(_seconds: float) -> None:
    """Let no time pass."""


def adding(root: Path, steps: Mapping[str, int], wrap: int | None = None) -> Callable[[float], None]:
    """A pause during which counters advance by their steps, wrapping at `wrap`."""

    def pause(_seconds: float) -> None:
        for absolute, step in steps.items():
            path = root / absolute.lstrip("/")
            value = int(path.read_text()) + step
            path.write_text(f"{value % wrap if wrap else value}\n")

    return pause


def deny(monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """Refuse to open paths that contain one of `parts`. Tests may run as root, whom no mode bits stop."""
    really_open = sysfs_file.open_file

    def refuse(path: Path) -> int:
        if any(part in str(path) for part in parts):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really_open(path)

    monkeypatch.setattr(sysfs_file, "open_file", refuse)

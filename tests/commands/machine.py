"""A fake Orin Nano for the commands, which run in the test's own process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgetop import cli
from tests.support.fake_sysfs import ORIN_NANO, plant

CURRENT = "/sys/class/hwmon/hwmon1/curr1_input"
IDENTITY: dict[str, str | int] = {"/etc/machine-id": "0123456789abcdef"}
JETSON: dict[str, str | int] = {**ORIN_NANO, **IDENTITY}
VOLTS = 4.968
"""Of VDD_IN, whose current is 1.52 A at first."""


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


class Machine:
    """A home folder and a fake tree below `folder`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = folder / "root"
        self.calibrations = folder / "config/edgetop/calibration.json"
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.environment = {
            "EDGETOP_SYSROOT": str(self.root),
            "EDGETOP_DATA_DIR": str(folder / "data"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "TERM": "dumb",
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def plant(self, tree: Mapping[str, str | int]) -> None:
        """Add files to the tree."""
        plant(self.root, tree)

    def script(self, **script: Any) -> None:
        """Let the engine play a script."""
        file = self.root.parent / "script.json"
        file.write_text(json.dumps(script))
        self._monkeypatch.setenv("EDGETOP_ENGINE", f"scripted:{file}")

    def run(self, *arguments: str) -> Ran:
        """Carry out a command line."""
        self._capsys.readouterr()
        code = cli.main(arguments)
        told = self._capsys.readouterr()
        return Ran(code, told.out, told.err)

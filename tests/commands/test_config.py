from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgetop.settings import options
from tests.support.isolated_home import Shell

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def config_file(shell: Shell) -> Path:
    return shell.folder / "config/edgetop/config.toml"


def test_every_setting_is_listed_with_its_origin(shell: Shell) -> None:
    listed = shell.run("config", environment={"EDGETOP_CTX": "4k"})
    assert listed.code == 0
    assert "engine.ctx" in listed.stdout
    assert "4096 (EDGETOP_CTX)" in listed.stdout
    assert str(config_file(shell)) in listed.stderr
    assert "edgetop config --template" in listed.stderr
    found = shell.run("config", "--json", environment={"EDGETOP_CTX": "4k"}).json()
    assert set(found["settings"]) == {option.name for option in options.OPTIONS}
    assert found["settings"]["ctx"] == {"value": 4096, "origin": "EDGETOP_CTX"}
    assert (found["file"], found["exists"]) == (str(config_file(shell)), False)


def test_what_is_set_holds_until_it_is_unset(shell: Shell) -> None:
    assert shell.run("config", "set", "ctx", "4k").code == 0
    assert shell.run("config", "set", "stop", "END", "--", "-x").code == 0
    written = tomllib.loads(config_file(shell).read_text())
    assert written == {"engine": {"ctx": "4k"}, "sampling": {"stop": ["END", "--", "-x"]}}
    assert shell.run("config", "--json").json()["settings"]["ctx"] == {"value": 4096, "origin": str(config_file(shell))}
    assert "is taken out" in shell.run("config", "unset", "--", "ctx").stderr
    assert "was not there" in shell.run("config", "unset", "ctx").stderr
    assert shell.run("config", "--json").json()["settings"]["ctx"]["origin"] == "default"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("set", "thread", "4"), "there is no setting 'thread'\n         did you mean threads?"),
        (("set", "threads", "0"), "threads: '0' is not valid\n         expected a whole number from 1 to 512"),
        (("set", "threads"), "threads: there can be only one value"),
        (("set", "output", "x"), "output is for one run"),
        (("set", "config", "x"), "config is for one run"),
        (("unset", "output"), "output is for one run"),
    ],
)
def test_what_cannot_be_is_two_lines_and_writes_nothing(shell: Shell, arguments: tuple[str, ...], what: str) -> None:
    ran = shell.run("config", *arguments)
    assert (ran.code, ran.stdout) == (2, "")
    assert what in ran.stderr
    assert len(ran.stderr.splitlines()) == 2
    assert not config_file(shell).exists()


def test_another_file_can_be_changed(shell: Shell) -> None:
    (shell.folder / "mine.toml").write_text("# mine\n")
    assert shell.run("config", "--config", "mine.toml", "set", "theme", "light").code == 0
    assert (shell.folder / "mine.toml").read_text() == '# mine\n\n[screen]\ntheme = "light"\n'
    assert not config_file(shell).exists()


def test_the_printed_template_can_be_used_as_it_is(shell: Shell) -> None:
    config_file(shell).parent.mkdir(parents=True)
    config_file(shell).write_text(shell.run("config", "--template").stdout)
    found = shell.run("config", "--json").json()
    assert found["exists"] is True
    assert {each["origin"] for each in found["settings"].values()} <= {"default", "EDGETOP_DATA_DIR"}


def test_the_key_of_a_server_is_nowhere_to_be_seen(shell: Shell) -> None:
    (shell.folder / "key").write_text("hunter2")
    shell.environment |= {"EDGETOP_SERVER_KEY": "hunter3", "EDGETOP_SERVER_KEY_FILE": "key"}
    for arguments in (("config",), ("config", "--json"), ("config", "--template"), ("man",)):
        ran = shell.run(*arguments)
        assert ran.code == 0
        assert "hunter" not in ran.stdout + ran.stderr

"""Redirected and closed streams, containers and service users, settings that cannot be read, the log."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edgetop.commands.verbs import VERBS
from edgetop.inference.server.address import ServerChoice, key_of
from edgetop.settings.options import OPTIONS
from tests.support.gguf_files import small_gguf
from tests.support.isolated_home import DEADLINE_S, Shell
from tests.support.requirements import need_program

_EDGETOP = f"{sys.executable} -m edgetop"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    (tmp_path / "home").mkdir()
    shell.script(replies=[{"text": "Paris."}])
    return shell


def redirected(shell: Shell, redirections: str, arguments: str = "run -q -p x", **more: str) -> tuple[int, str, str]:
    ran = subprocess.run(
        ["sh", "-c", f"{_EDGETOP} {arguments} {redirections}"], capture_output=True, text=True, cwd=shell.folder,
        env={**shell.environment, **more}, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize(
    ("arguments", "redirections", "code", "stdout", "stderr"),
    [
        ("run -q -p x", "2>&-", 0, "Paris.\n", ""),
        ("run -q -p x", ">&-", 0, "", ""),
        ("run -q -p x", "<&- >&-", 0, "", ""),
        ("run -q -p x", "<&- >&- 2>&-", 0, "", ""),
        ("run -p x", "2>/dev/full", 0, "Paris.\n", ""),
        ("run -q -p x", ">/dev/full", 1, "", "the output cannot be written: No space left on device"),
        ("--version", ">/dev/full", 1, "", "the output cannot be written: No space left on device"),
        ("--help", ">/dev/full", 1, "", "the output cannot be written: No space left on device"),
        ("config --json", ">/dev/full", 1, "", "the output cannot be written: No space left on device"),
        ("run -q -p x", ">/dev/full 2>&1", 1, "", ""),
        ("config --template", "| head -1", 0, "# edgetop's settings", ""),
    ],
)
def test_a_stream_that_is_closed_or_full_is_told_in_one_line(  # noqa: PLR0917 - a table
    shell: Shell, arguments: str, redirections: str, code: int, stdout: str, stderr: str
) -> None:
    for unbuffered in ("", "1"):
        ended, out, err = redirected(shell, redirections, arguments, PYTHONUNBUFFERED=unbuffered)
        assert ended == code
        assert out.startswith(stdout)
        assert err == (f"edgetop: {stderr}\n" if stderr else "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_v_and_log(shell: Shell, verb: str) -> None:
    ran = shell.run(verb, "-v", "--log", "log", "--help")
    assert ran.code == 0
    assert "--log FILE" in ran.stdout
    assert "--verbose" in ran.stdout


def test_the_log_has_decisions_and_engine_with_times_but_no_prompts(shell: Shell) -> None:
    assert shell.run("run", "-q", "-p", "secretprompt", "--system", "secretsystem", "--log", "log").code == 0
    text = (shell.folder / "log").read_text("utf-8")
    assert "secret" not in text
    assert "Paris" not in text
    for area in ("edgetop", "engine", "sensors", "decisions"):
        assert re.search(rf"(?m)^\d{{4}}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d {area} ", text), area
    assert (shell.folder / "log").stat().st_mode & 0o777 == 0o600
    refused = shell.run("run", "-p", "x", "--log", "/nowhere/log")
    assert (refused.code, len(refused.stderr.splitlines())) == (2, 2)


def test_a_password_of_an_address_is_not_logged(shell: Shell) -> None:
    shell.run("run", "-p", "x", "--server", "http://user:hunter2@127.0.0.1:9", "--log", "log")
    assert "hunter2" not in (shell.folder / "log").read_text("utf-8")


_INTERRUPTING = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["edgetop", "run", "-p", "x"]
from edgetop.cli import main
main()
"""


@pytest.mark.parametrize(
    "module",
    ["argparse", "edgetop.commands.verbs", "edgetop.commands.run", "msgspec", "psutil"],
)
def test_ctrl_c_in_the_middle_of_an_import_is_one_line_and_130(shell: Shell, module: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _INTERRUPTING.format(module=module)], capture_output=True, text=True, cwd=shell.folder,
        env=shell.environment, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "edgetop: interrupted\n")


@pytest.mark.parametrize("home", [None, "", "relative", "/nowhere/at/all"])
def test_without_a_home_a_temporary_store_is_named(shell: Shell, tmp_path: Path, home: str | None) -> None:
    for name in ("EDGETOP_DATA_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "HOME"):
        del shell.environment[name]
    shell.environment["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    if home is not None:
        shell.environment["HOME"] = home
    no_user = "import os, sys; os.getuid = lambda: 54321; import pwd; pwd.getpwuid = lambda uid: {}[uid]; "
    program = f"{no_user}sys.argv = ['edgetop', 'run', '-p', 'x']; from edgetop.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=shell.folder, env=shell.environment,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "Paris.\n"), ran.stderr
    named = re.search(r"there is no home folder; what is recorded goes to (\S+)", ran.stderr)
    assert named is not None
    assert Path(named[1]).parent == tmp_path / "tmp"
    assert list(Path(named[1]).rglob("*.json"))
    assert not (shell.folder / "~").exists()


@pytest.mark.parametrize("arguments", [("--data-dir", "~nouser/x"), ("-o", "~nouser/x"), ("--config", "~nouser/x")])
def test_a_home_that_nobody_has_is_wrong_usage(shell: Shell, arguments: tuple[str, str]) -> None:
    ran = shell.run("run", "-p", "x", *arguments)
    assert (ran.code, len(ran.stderr.splitlines())) == (2, 2)
    assert "no home folder ~nouser" in ran.stderr


@pytest.mark.parametrize("limit", [1, 3, 6])
def test_too_few_processes_are_two_lines(shell: Shell, limit: int) -> None:
    need_program("setpriv", "util-linux")
    if os.getuid() != 0:
        pytest.skip("only root can run as another user")
    subprocess.run(["chmod", "-R", "a+rwX", str(shell.folder)], check=True)
    # Nobody else runs as this user, and it may read Python's files wherever they are.
    rights = "+dac_override,+dac_read_search"
    user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", f"--inh-caps={rights}"]
    ran = subprocess.run(
        ["prlimit", f"--nproc={limit}:{limit}", *user, f"--ambient-caps={rights}",
         sys.executable, "-m", "edgetop", "run", "-q", "-p", "x"],
        capture_output=True, text=True, cwd=shell.folder, env=shell.environment, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    if ran.returncode == 126:
        pytest.skip("this container keeps setpriv from giving rights")
    assert ran.returncode == 1
    what, _hint = ran.stderr.splitlines()
    assert what == "edgetop: no further process or thread can be started"


@pytest.mark.parametrize("proxy", ["http://[bad", "foo://x:y", "http://h:99999", "::::", "http://"])
def test_an_ill_formed_proxy_is_two_lines(shell: Shell, proxy: str) -> None:
    ran = shell.run("check", "hf:owner/model", environment={"http_proxy": proxy, "https_proxy": proxy})
    assert len(ran.stderr.splitlines()) == 2
    assert "https_proxy is no" in ran.stderr


def test_a_variable_that_is_set_and_empty_is_unset(shell: Shell) -> None:
    needed = {"EDGETOP_ENGINE", "EDGETOP_DATA_DIR"}
    empty = {option.env: "" for option in OPTIONS if option.env not in needed}
    empty |= dict.fromkeys(("EDGETOP_SERVER_KEY", "EDGETOP_CACHE_DIR", "TERM", "COLUMNS", "LINES", "NO_COLOR"), "")
    empty |= dict.fromkeys(("http_proxy", "https_proxy", "HF_HOME", "XDG_CACHE_HOME", "TMPDIR", "LC_ALL"), "")
    assert shell.run("run", "-q", "-p", "x", environment=empty).stdout == "Paris.\n"
    assert len(shell.sessions()) == 1
    chosen = shell.run("config", "--json", environment={**empty, **dict.fromkeys(needed, "")}).json()
    assert {each["origin"] for each in chosen["settings"].values()} == {"default"}
    assert not chosen.get("problems")


@pytest.mark.parametrize(
    "wrong",
    ['[engine]\nctx = 256\nthreads = "abc"\n', "[engine]\nctx = 256\nthread = 2\nthreads = 0\n", "[engin]\nx = 1\n"],
    ids=["value", "name", "table"],
)
def test_a_bad_setting_does_not_block_its_repair(shell: Shell, wrong: str) -> None:
    file = shell.folder / "c.toml"
    file.write_text(wrong)
    assert shell.run("--config", "c.toml", "run", "-p", "x").code == 2
    assert "c.toml" in shell.run("--config", "c.toml", "doctor").stdout
    assert json.loads(shell.run("--config=c.toml", "config", "--json").stdout)["problems"]
    for arguments in (("set", "threads", "2"), ("unset", "ctx")):
        assert shell.run("-v", "--config", "c.toml", "config", *arguments).code == 0
    assert "threads = 2" in file.read_text()
    assert "ctx" not in file.read_text()


def test_a_byte_order_mark_is_no_part_of_the_first_setting(shell: Shell) -> None:
    file = shell.folder / "c.toml"
    file.write_bytes(b'\xef\xbb\xbf[engine]\r\nctx = "256"\r\n')
    assert shell.run("config", "--config", "c.toml", "--json").json()["settings"]["ctx"]["value"] == 256
    assert shell.run("config", "--config", "c.toml", "set", "threads", "2").code == 0
    assert shell.run("config", "--config", "c.toml", "--json").json()["settings"]["ctx"]["value"] == 256


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_text(shell: Shell, encoding: str) -> None:
    for name, text in (("question.txt", "Größe?"), ("key", "secret")):
        (shell.folder / name).write_bytes(text.encode(encoding))
    ran = shell.run("run", "--json", "-f", "question.txt")
    assert [turn["prompt"] for turn in ran.json()["turns"]] == ["Größe?"]
    assert key_of(ServerChoice(url="http://127.0.0.1:9", key_file=str(shell.folder / "key")), None) == "secret"
    (session,) = shell.sessions()
    session.write_bytes(session.read_text("utf-8").encode("utf-8-sig"))
    assert shell.run("sessions", "show", "1", "--json").json()["turns"]
    assert shell.run("sessions", "validate", "1").code == 0


def test_a_log_holds_nobody_up(shell: Shell) -> None:
    os.mkfifo(shell.folder / "pipe")
    ran = shell.run("run", "-p", "x", "--log", "pipe")
    assert (ran.code, len(ran.stderr.splitlines())) == (2, 2)
    reader = os.open(shell.folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    try:
        assert shell.run("run", "-q", "-v", "-p", "x", "--log", "pipe").stdout == "Paris.\n"
    finally:
        os.close(reader)


def test_a_working_folder_that_is_gone_is_missed_only_where_it_is_needed(shell: Shell) -> None:
    def there(arguments: str) -> subprocess.CompletedProcess[str]:
        script = f"mkdir gone && cd gone && rmdir ../gone && exec {_EDGETOP} {arguments}"
        return subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, cwd=shell.folder, env=shell.environment,
            timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    assert there("models").returncode == 0
    refused = there("check ./model.gguf --log log")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 2)


def test_bytes_that_are_no_text_are_a_prompt_all_the_same(shell: Shell) -> None:
    shell.environment["PYTHONUTF8"] = "0"
    ran = subprocess.run(
        [sys.executable, "-m", "edgetop", "--plain"], input=b"\xef\xbb\xbfGr\xf6\xdfe?\n", capture_output=True,
        cwd=shell.folder, env=shell.environment, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, b"Paris.\n")
    (session,) = shell.sessions()
    assert json.loads(session.read_text("utf-8"))["turns"][0]["prompt"] == "Gr\ufffd\ufffde?"


def test_times_are_local_with_their_zone(shell: Shell) -> None:
    shell.run("run", "-q", "-p", "x")
    started = json.loads(shell.sessions()[0].read_text())["started_at"]
    there = datetime.fromisoformat(started).astimezone(timezone(timedelta(hours=9)))
    for arguments in ((), ("show",)):
        listed = shell.run("sessions", *arguments, environment={"TZ": "JST-9"})
        assert f"{there:%Y-%m-%d %H:%M} JST" in listed.stdout


def test_no_hostile_model_prints_a_trace_at_any_level(shell: Shell) -> None:
    del shell.environment["EDGETOP_ENGINE"]
    (shell.folder / "bad.gguf").write_bytes(small_gguf()[:300])
    for level in ((), ("-v",), ("--verbose", "--log", "log")):
        ran = shell.run("run", "-m", "./bad.gguf", "-p", "x", *level)
        assert ran.code == 3
        assert "Traceback" not in ran.stderr
        assert "report it" not in ran.stderr

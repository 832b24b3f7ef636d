"""The recipes of CONTRIBUTING.md and the map in docs/architecture.md: that they are true."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.requirements import need_program

_ROOT = Path(__file__).parents[1]
_EXAMPLES = _ROOT / "docs" / "examples"
_COPIED = ("edgetop", "themes", "sessions", "tests/support")

FILES = {
    "add-a-sensor": 2,
    "add-a-verb": 2,
    "add-a-pane": 3,
    "add-a-server-kind": 2,
    "add-a-figure": 3,
    "add-an-option": 1,
}


def changed_files(patch: Path) -> list[str]:
    """Files of edgetop that a patch touches; tests are not counted."""
    names = re.findall(r"^\+\+\+ b/(\S+)", patch.read_text("utf-8"), re.MULTILINE)
    return [name for name in names if not name.startswith("tests/")]


def test_every_recipe_has_its_example_and_every_example_its_recipe() -> None:
    assert {path.stem for path in _EXAMPLES.glob("*.patch")} == set(FILES)
    linked = re.findall(r"docs/examples/([a-z-]+)\.patch\)", (_ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert sorted(linked) == sorted(FILES)


@pytest.mark.parametrize(("name", "count"), FILES.items())
def test_an_example_touches_so_many_files(name: str, count: int) -> None:
    assert len(changed_files(_EXAMPLES / f"{name}.patch")) == count


@pytest.mark.parametrize("name", FILES)
def test_an_example_works(tmp_path: Path, name: str) -> None:
    need_program("git")
    for folder in _COPIED:
        shutil.copytree(_ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "__init__.py").touch()
    patch = _EXAMPLES / f"{name}.patch"
    subprocess.run(["git", "apply", "-C1", str(patch)], cwd=tmp_path, check=True)
    shown = subprocess.run(
        [sys.executable, "-c", SHOWS[name]], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr


def test_the_files_that_the_map_names_exist() -> None:
    text = (_ROOT / "docs" / "architecture.md").read_text("utf-8")
    answers = re.findall(r"`(edgetop/[a-z_/]+\.py)`", text.partition("## Ten questions")[2])
    assert len(answers) == 10
    assert [name for name in answers if not (_ROOT / name).is_file()] == []
    folders = re.findall(
        r"(?<![\w/])((?:core|io|telemetry|inference|fit|settings|session|live|tui|commands|bench)/[a-z_/]*\.py)", text
    )
    assert folders
    assert [name for name in folders if not (_ROOT / "edgetop" / name).is_file()] == []


SHOWS = {
    "add-a-sensor": """
from pathlib import Path
from edgetop.telemetry.host import Host
from edgetop.telemetry.registry import take_inventory
root = Path("machine")
meter = root / "sys/class/powermeter/dc_in/power_uw"
meter.parent.mkdir(parents=True)
meter.write_text("6500000\\n")
inventory = take_inventory(Host(sysroot=root))
source = next(source for source in inventory.sources if source.info.name == "power.dc_in")
assert list(source.read()) == [6.5]
""",
    "add-a-verb": """
import contextlib, io
from edgetop.cli import main
out = io.StringIO()
with contextlib.redirect_stdout(out):
    assert main(["threads", "--json"]) == 0
assert '"decode"' in out.getvalue()
""",
    "add-a-pane": """
from edgetop.tui import keys
from edgetop.tui.panes.column import PANES, TITLES
from tests.support.demo_session import demo_view
assert keys.PANES == TITLES
drawn = ["".join(span.text for span in line) for line in PANES["thermal"].boxed(demo_view(), 50, 6)]
assert "61 °C" in drawn[0] and "frequency" in drawn[-2]
""",
    "add-a-server-kind": """
import json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from edgetop.inference.server.address import Address
from edgetop.inference.server.backend import detect, server_programs
from edgetop.inference.server.connection import ServerClient
class Lemonade(BaseHTTPRequestHandler):
    def do_GET(self):
        answer = {"version": "8.1", "model_loaded": "tiny", "all_models_loaded": []}
        body = json.dumps(answer if self.path == "/api/v1/health" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = HTTPServer(("127.0.0.1", 0), Lemonade)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = ServerClient(Address("http", "127.0.0.1", server.server_address[1]), idle_s=5.0, stopped=lambda: False)
found = detect(client)
usage = found.read_usage(client)
assert (found.name, usage.version, usage.models) == ("Lemonade", "8.1", ("tiny",))
assert "lemonade" in {program.name for program in server_programs()}
""",
    "add-a-figure": """
import contextlib, csv, io, json
from pathlib import Path
from edgetop.cli import main
from edgetop.session.file import to_file
from edgetop.session.file_io import encode_file
from tests.support.recorded_sessions import LOADED, STARTED, fold, turn
FILE, OTHER = "new.json", "sessions/smollm2-135m-f16.json"
def printed(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(list(arguments)) == 0
    return out.getvalue()
Path(FILE).write_bytes(b"".join(encode_file(to_file(fold([STARTED, LOADED, *turn(1, at_us=0)])))))
summary = json.loads(printed("sessions", "show", FILE, "--json"))["summary"]
assert round(summary["decode_ms_per_token"] * summary["decode_tokens_per_s"]) == 1000
assert "time per decoded token" in printed("sessions", "show", FILE)
printed("sessions", "export", FILE, "-o", "tables")
assert "decode_ms_per_token" in next(csv.reader(Path("tables/turns.csv").read_text().splitlines()))
assert "decode_ms_per_token" in printed("compare", FILE, OTHER, "--json")
printed("compare", OTHER, FILE, "--fail-if", "decode_ms_per_token > 100000")
""",
    "add-an-option": """
import contextlib, io, os
from edgetop.cli import main
def printed(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(list(arguments))
    return out.getvalue()
assert "bell" in printed("config", "--json")
assert "--bell" in printed("chat", "--help")
""",
}

"""The wheel as a stranger gets it: built, installed into an empty environment, and run from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgetop import __version__
from edgetop.inference.llama.library import BINDINGS_VERSION
from edgetop.inference.llama.portable import BINDING_NAMES
from packages.wheels import ANYWHERE, REQUIREMENT, TREE, engine_wheel
from tests.support.requirements import NotInstalledError, need_program

ROOT = Path(__file__).resolve().parents[1]


def run(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    """What a command prints; no option of ours and no module of the checkout reaches it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGETOP_", "PYTHON", "XDG_"))}
    ran = subprocess.run(command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel. Hatchling is here already, so nothing is fetched for it."""
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], cwd=folder)
    (built,) = folder.glob("edgetop-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment with the wheel in it.

    What edgetop depends on is not installed again, since that would need the network and a compiler: the environment is
    told where this one has it. Its own packages come first, so that edgetop itself is the wheel's.
    """
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder], cwd=folder)
    programs = folder / "bin"
    where = run([programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", programs / "python"]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], folder)
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(where.strip(), "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(paths)))
    return programs


def test_the_published_wheel_is_built_from_all_that_the_project_names() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    tables = project.split("\n[")
    files = [
        line for table in tables if table.startswith("tool.hatch.build.targets.wheel.") for line in table.split("\n")
    ]
    named = {line.split("=")[0].strip().strip('"').partition("/")[0] for line in files if " = " in line}
    assert {"themes", "share"} <= named
    assert named <= set(TREE)
    assert "\ndependencies = [\n" in project, "where edgetop-engine is asked for"
    assert f"edgetop-engine=={BINDINGS_VERSION}" == REQUIREMENT


@pytest.mark.parametrize("machine", ["aarch64", ANYWHERE])
def test_the_engine_s_wheel_is_one_and_holds_its_licences(machine: str, installed: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (*(f"llama_cpp/{each}" for each in BINDING_NAMES), "LICENSE.md", "vendor/llama.cpp/LICENSE",
                 "vendor/llama.cpp/AUTHORS"):  # fmt: skip
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f'__version__ = "{BINDINGS_VERSION}"\n')
    library = tmp_path / "libllama.so"
    library.write_bytes(b"llama")
    libraries = [] if machine == ANYWHERE else [library]
    built = engine_wheel(machine, libraries, source=source, dist=tmp_path, digest={"a": "b"})
    names = set(zipfile.ZipFile(built).namelist())
    assert len([name for name in names if "/licenses/" in name]) == 3
    assert ("edgetop_engine/llama_cpp/lib/libllama.so" in names) == bool(libraries)
    target = tmp_path / "installed"
    platform = "linux_armv7l" if machine == ANYWHERE else "manylinux_2_28_aarch64"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, "--only-binary", ":all:", "--platform", platform, "--target", target, built], ROOT)
    shown: list[str | Path] = [installed / "edgetop", "engine", "show", "--json"]
    ran = subprocess.run(
        shown, env={**os.environ, "PYTHONPATH": str(target), "EDGETOP_ENGINE": "portable"}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    of_wheel = [each for each in json.loads(ran.stdout)["engines"] if each["folder"].startswith(str(target))]
    assert [each["build"] for each in of_wheel] == (
        [] if machine == ANYWHERE else [f"edgetop-engine {BINDINGS_VERSION}"]
    )
    if of_wheel:
        assert "its library does not load" in of_wheel[0]["problem"]


def test_themes_sessions_and_schema_are_in_the_wheel(wheel: Path) -> None:
    files = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("themes", "sessions"):
        shipped = {f"edgetop/data/{folder}/{path.name}" for path in (ROOT / folder).iterdir() if path.is_file()}
        assert shipped
        assert shipped <= files
    assert {"edgetop/session/session.schema.json", "edgetop/py.typed", "edgetop/__init__.pyi"} <= files
    assert not [name for name in files if name.startswith(("tests/", "benchmarks/"))]


def test_all_that_git_knows_is_in_the_source_distribution(tmp_path: Path) -> None:
    git = need_program("git")
    if not (ROOT / ".git").exists():
        raise NotInstalledError("this is no checkout, so that git knows nothing")
    known = {name for name in run([git, "ls-files", "-z"], ROOT).split("\0") if name and (ROOT / name).exists()}
    run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT], tmp_path)
    (built,) = tmp_path.glob("edgetop-*.tar.gz")
    with tarfile.open(built) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert known
    assert known <= packed


def test_the_installed_edgetop_is_the_wheel_s(installed: Path, tmp_path: Path) -> None:
    where = run([installed / "python", "-c", "import edgetop; print(edgetop.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert run([installed / "edgetop", "--version"], tmp_path) == f"edgetop {__version__}\n"


def test_it_finds_models_and_themes(installed: Path, tmp_path: Path, small_model: Path) -> None:
    listed = json.loads(run([installed / "edgetop", "models", "--json"], tmp_path, HOME=str(tmp_path)))
    assert [(model["name"], model["origin"]) for model in listed] == [(small_model.stem, "demo")]
    code = "from edgetop.tui.themes import load_themes; print(*(theme.name for theme in load_themes()))"
    names = run([installed / "python", "-c", code], tmp_path, HOME=str(tmp_path)).split()
    assert {f"edgetop-{path.stem}" for path in (ROOT / "themes").glob("*.toml")} <= set(names)


def test_the_page_of_the_api_holds_for_the_wheel(installed: Path, tmp_path: Path) -> None:
    page = ROOT / "docs/api.md"
    assert run([installed / "python", "-m", "doctest", page], tmp_path, HOME=str(tmp_path)) == ""


def test_it_answers_with_the_real_model_and_records_it(installed: Path, tmp_path: Path, small_model: Path) -> None:
    command: list[str | Path] = [
        installed / "edgetop",
        "run",
        "-p",
        "Say hello.",
        "-n",
        "4",
        "--ctx",
        "512",
        "--temp",
        "0",
        "--json",
    ]
    printed = json.loads(run(command, tmp_path, HOME=str(tmp_path)))
    assert printed["model"]["path"] == str(small_model)
    assert printed["summary"]["generated_tokens"] == 4
    assert printed["summary"]["decode_tokens_per_s"] > 0
    assert Path(printed["session"]).is_relative_to(tmp_path)
    assert "is valid" in run([installed / "edgetop", "sessions", "validate", "1"], tmp_path, HOME=str(tmp_path))

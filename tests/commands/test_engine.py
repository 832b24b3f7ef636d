"""Verb engine, and what is said where there is no engine."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from edgetop.inference.llama.library import BINDINGS_VERSION, EngineFiles, chosen_engine, engines
from tests.support.isolated_home import Shell

HERE: list[EngineFiles] = engines("auto", {})


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    shell.environment.pop("EDGETOP_ENGINE", None)
    return shell


@pytest.fixture
def absent() -> str:
    """A choice of which there is no engine."""
    kinds = {each.kind for each in HERE if Path(sys.prefix) in each.libraries.parents}
    return next((kind for kind in ("portable", "installed") if kind not in kinds), "") or pytest.skip("both are here")


def test_the_engine_that_is_used_is_shown(shell: Shell) -> None:
    shown = shell.run("engine", "show", "--json").json()
    assert shown["choice"] == "auto"
    used = [each for each in shown["engines"] if each["used"]]
    assert [each["kind"] for each in used] == [HERE[0].kind]
    assert used[0]["problem"] == ""
    assert f"used  {HERE[0].kind}" in shell.run("engine").stdout


def test_an_engine_that_is_refused_is_shown_with_the_reason(shell: Shell, tmp_path: Path) -> None:
    ran = shell.run("engine", environment={"LLAMA_CPP_LIB_PATH": str(tmp_path)})
    assert ran.code == 0
    assert f"no    LLAMA_CPP_LIB_PATH  {tmp_path} has no libllama" in ran.stdout
    assert f"used  {HERE[0].kind}" in ran.stdout
    found = shell.run("doctor", "--json", environment={"LLAMA_CPP_LIB_PATH": str(tmp_path)}).json()["engine"]
    assert found["info"]["refused"] == [f"LLAMA_CPP_LIB_PATH: {tmp_path} has no libllama"]
    assert "an engine is not used" in found["advice"][0]["what"]


def test_a_backend_that_finds_no_gpu_is_told_from_one_that_is_not_there(shell: Shell, tmp_path: Path) -> None:
    assert "this build has no GPU backend" in shell.run("doctor", environment={"LLAMA_CPP_LIB_PATH": ""}).stdout
    for library in HERE[0].libraries.iterdir():
        (tmp_path / library.name).symlink_to(library)
    (tmp_path / "libggml-vulkan.so").touch()
    named = {"LLAMA_CPP_LIB_PATH": str(tmp_path)}
    assert "GPU offload  no: this build has vulkan, which finds no GPU" in shell.run("doctor", environment=named).stdout
    assert shell.run("doctor", "--json", environment=named).json()["engine"]["backends"] == ["vulkan"]


def test_without_an_engine_everything_says_so_and_how_to_get_one(shell: Shell, absent: str) -> None:
    none = {"EDGETOP_ENGINE": absent}
    shown = shell.run("engine", environment=none)
    assert shown.code == 1
    assert "There is no engine." in shown.stdout
    assert "edgetop engine install" in shown.stdout
    doctor = shell.run("doctor", environment=none)
    assert doctor.code == 1
    assert f"no  library  no {absent} engine" in doctor.stdout
    flagged = shell.run("doctor", "--json", "--engine", absent)
    assert flagged.json()["engine"]["info"] is None


def test_a_prompt_without_an_engine_says_what_to_do(shell: Shell, absent: str, small_model: Path) -> None:
    ran = shell.run("run", "-m", str(small_model), "-p", "x", "--engine", absent)
    assert ran.code == 3
    assert f"There is no engine: no {absent} engine." in ran.stderr
    assert "edgetop engine install" in ran.stderr


def test_an_engine_that_is_there_is_not_installed_again(shell: Shell) -> None:
    ran = shell.run("engine", "install")
    assert ran.code == 0
    assert f"{HERE[0].kind} engine: {HERE[0].build}" in ran.stdout
    assert "Downloading" not in ran.stderr


def test_a_build_for_which_something_is_missing_says_what(shell: Shell) -> None:
    ran = shell.run("engine", "build", "--vulkan", environment={"PATH": str(shell.folder)})
    assert ran.code == 1
    assert "a build needs a C++ compiler and glslc" in ran.stderr
    assert f"the {HERE[0].kind} engine stays" in ran.stderr
    assert "apt-get install build-essential" in ran.stderr


BACKEND = """
import os, subprocess, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    print("[1/1] Building CUDA object ggml-cuda.cu.o")
    subprocess.run(["nvcc", os.environ["CMAKE_ARGS"]], check=True)
    name, info = "llama_cpp_python-{version}-py3-none-any.whl", "llama_cpp_python-{version}.dist-info"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("llama_cpp/__init__.py", "")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: llama_cpp_python\\nVersion: {version}\\n")
        wheel.writestr(info + "/RECORD", "")
    return name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "llama_cpp_python"
version = "{version}"
"""


def test_a_build_for_cuda_hands_its_flags_to_pip_and_what_does_not_work_is_not_installed(shell: Shell) -> None:
    """The programs and llama-cpp-python's sources are stand-ins; pip is not, and builds them."""
    folder = shell.folder
    for name, script in (("c++", "exit 0"), ("nvcc", f'echo "$@" >{folder}/compiled')):
        (folder / "cuda/bin").mkdir(parents=True, exist_ok=True)
        (folder / "cuda/bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "cuda/bin" / name).chmod(0o755)
    sources = f"llama_cpp_python-{BINDINGS_VERSION}"
    with tarfile.open(folder / f"{sources}.tar.gz", "w:gz") as tar:
        for name, text in (("backend.py", BACKEND), ("pyproject.toml", PROJECT)):
            content = text.replace("{version}", BINDINGS_VERSION).encode()
            member = tarfile.TarInfo(f"{sources}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    environment = {
        "PATH": f"{folder}/cuda/bin:{os.environ['PATH']}", "CMAKE_ARGS": "", "CUDA_PATH": str(folder / "cuda"),
        "XDG_CACHE_HOME": str(folder / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
    }  # fmt: skip
    if not any(Path("/usr/include").glob("**/cublas_v2.h")):
        ran = shell.run("engine", "build", "--cuda", environment=environment)
        assert "a build needs cuBLAS of the CUDA toolkit" in ran.stderr
    (folder / "cuda/include").mkdir()
    (folder / "cuda/include/cublas_v2.h").touch()
    ran = shell.run("engine", "build", "--cuda", environment=environment)
    assert (folder / "compiled").exists(), ran.stderr
    assert "-DGGML_CUDA=ON" in (folder / "compiled").read_text()
    assert "1 of 1 files compiled" in ran.stderr
    assert ran.code == 1
    assert "the build does not work here" in ran.stderr
    assert "edgetop goes on with the engine it has" in ran.stderr
    assert f"used  {HERE[0].kind}" in shell.run("engine").stdout


@pytest.mark.parametrize(
    ("given", "choice"), [("", "auto"), ("llama", "auto"), ("installed", "installed"), ("x", "auto")]
)
def test_the_variable_chooses(given: str, choice: str) -> None:
    assert chosen_engine({"EDGETOP_ENGINE": given}) == choice

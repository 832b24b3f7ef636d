"""The portable engine: which packages, what is checked, what is unpacked. pip and npm are played by files."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.inference.llama import portable
from edgetop.inference.llama.library import BINDINGS_VERSION, cpu_flags, engines
from edgetop.inference.llama.portable import (
    BINDINGS,
    NODE_LLAMA_CPP,
    XLLAMACPP,
    InstallError,
    Pin,
    install_portable,
    no_engine_hint,
    pins_for,
)

AVX2 = frozenset({"sse4_2", "avx", "avx2"})
NEHALEM = frozenset({"sse4_2"})
NODE_X64, NODE_ARM64, NODE_ARMV7 = (NODE_LLAMA_CPP[name] for name in ("x86_64", "aarch64", "armv7l"))


@pytest.mark.parametrize(
    ("machine", "flags", "system", "has_npm", "glibc", "pins"),
    [
        ("x86_64", AVX2, "Linux", True, (2, 36), [NODE_X64, XLLAMACPP]),
        ("x86_64", AVX2, "Linux", False, (2, 36), [XLLAMACPP]),
        ("x86_64", AVX2, "Linux", True, (2, 31), [XLLAMACPP]),
        ("x86_64", NEHALEM, "Linux", True, (2, 36), [NODE_X64]),
        ("x86_64", NEHALEM, "Linux", False, (2, 36), []),
        ("aarch64", frozenset({"asimd"}), "Linux", True, (2, 36), [NODE_ARM64, XLLAMACPP]),
        ("aarch64", frozenset(), "Linux", False, (2, 31), [XLLAMACPP]),
        ("armv7l", frozenset({"neon"}), "Linux", True, (2, 36), [NODE_ARMV7]),
        ("armv7l", frozenset({"neon"}), "Linux", False, (2, 36), []),
        ("aarch64", frozenset(), "Darwin", True, (), [XLLAMACPP]),
        ("riscv64", frozenset(), "Linux", True, (2, 40), []),
    ],
)
def test_the_packages_run_on_the_machine(
    *, machine: str, flags: frozenset[str], system: str, has_npm: bool, glibc: tuple[int, ...], pins: list[Pin]
) -> None:
    assert pins_for(machine, flags, system=system, has_npm=has_npm, glibc=glibc) == pins


def test_flags_of_the_processor_are_read_on_x86_and_on_arm(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    file = tmp_path / "proc/cpuinfo"
    assert cpu_flags(tmp_path) == frozenset()
    file.write_text("processor\t: 0\nmodel name\t: Intel(R) Celeron(R) J4125\nflags\t\t: fpu sse4_2\nbugs\t: avx2\n")
    assert cpu_flags(tmp_path) == {"fpu", "sse4_2"}
    file.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert cpu_flags(tmp_path) == {"fp", "asimd", "asimddp"}


def test_a_processor_without_avx2_is_not_given_the_build_that_dies_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "machine_name", lambda: "x86_64")
    monkeypatch.setattr(portable, "cpu_flags", lambda: NEHALEM)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    assert "x86-64 without AVX2" in no_engine_hint()
    assert "apt-get install npm" in no_engine_hint()
    monkeypatch.setattr(portable, "cpu_flags", lambda: AVX2)
    assert no_engine_hint() == "`edgetop engine install` downloads one (110 MB); it needs no compiler"


class FakePackages:
    """Plays pip and npm: gives a file for each package and notes what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.asked: list[str] = []

    def run(self, command: Sequence[str], client: str, folder: Path, environment: object = None) -> None:
        wanted = next(word for word in command if "==" in word or word.startswith("@"))
        self.asked.append(wanted)
        package = wanted.partition("==")[0] if "==" in wanted else wanted.rpartition("@")[0]
        if package not in self.files:
            raise InstallError(f"{client}: no {package}")
        name, data = self.files[package]
        target = Path(command[command.index("--dest") + 1]) if "--dest" in command else folder
        target.mkdir(exist_ok=True)
        (target / name).write_bytes(data)


def tarball(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def wheel(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> FakePackages:
    """With an npm package, a wheel and the bindings' sdist, whose sums are the pinned ones; nothing is installed."""
    packages = FakePackages()
    packages.files = {
        NODE_X64.package: (
            "node.tgz",
            tarball(
                {
                    "package/bins/linux-x64/libllama.v0.5.0.so": b"llama",
                    "package/bins/linux-x64/libllama-common.so": b"not needed",
                    "package/bins/linux-x64/../../../../escaped.so": b"inside all the same",
                    "package/LICENSE": b"MIT",
                    "package/dist/index.js": b"",
                }
            ),
        ),
        XLLAMACPP.package: ("x.whl", wheel({"xllamacpp/xllamacpp.abi3.so": b"llama", "xllamacpp/__init__.py": b""})),
        BINDINGS.package: (
            "llama_cpp_python-0.3.36.tar.gz",
            tarball(
                {
                    "llama_cpp_python-0.3.36/LICENSE.md": b"MIT",
                    "llama_cpp_python-0.3.36/llama_cpp/__init__.py": f'__version__ = "{BINDINGS_VERSION}"'.encode(),
                    "llama_cpp_python-0.3.36/llama_cpp/_ctypes_extensions.py": b"",
                    "llama_cpp_python-0.3.36/llama_cpp/llama_cpp.py": b"",
                    "llama_cpp_python-0.3.36/vendor/llama.cpp/README.md": b"much",
                }
            ),
        ),
    }

    def pinned(pin: Pin) -> Pin:
        return replace(pin, sha256=frozenset({hashlib.sha256(packages.files[pin.package][1]).hexdigest()}))

    bindings, libraries = pinned(BINDINGS), [pinned(NODE_X64), pinned(XLLAMACPP)]
    monkeypatch.setattr(portable, "BINDINGS", bindings)
    monkeypatch.setattr(portable, "pins_here", lambda: libraries)
    monkeypatch.setattr(portable, "_run", packages.run)
    monkeypatch.setattr(portable, "bindings_here", list)
    monkeypatch.setattr(portable, "examine", lambda files: "")
    return packages


def unpacked(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_libraries_and_bindings_are_unpacked_side_by_side(
    packages: FakePackages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    made = install_portable(tmp_path / "data/engine", say=lines.append)
    assert made.build == NODE_X64.build
    assert unpacked(tmp_path) == {
        "data/engine/engine.json",
        "data/engine/LICENSE.md",
        "data/engine/llama_cpp/__init__.py",
        "data/engine/llama_cpp/_ctypes_extensions.py",
        "data/engine/llama_cpp/llama_cpp.py",
        "data/engine/llama_cpp/lib/LICENSE-of-the-libraries",
        "data/engine/llama_cpp/lib/escaped.so",
        "data/engine/llama_cpp/lib/libllama.v0.5.0.so",
    }
    assert [line.partition(" (")[0] for line in lines] == [
        f"Downloading {NODE_X64.build}", f"Downloading {BINDINGS.build}", "Trying it",
    ]  # fmt: skip
    monkeypatch.setattr("edgetop.inference.llama.library.portable_folder", lambda: tmp_path / "data/engine")
    monkeypatch.setattr("edgetop.inference.llama.library.environment_folder", lambda: tmp_path)
    (found,) = engines("portable", {})
    assert (found.kind, found.build, found.library) == (
        "portable",
        NODE_X64.build,
        made.libraries / "libllama.v0.5.0.so",
    )


def test_the_next_package_serves_when_one_does_not_come(packages: FakePackages, tmp_path: Path) -> None:
    del packages.files[NODE_X64.package]
    assert install_portable(tmp_path / "engine", say=lambda line: None).build == XLLAMACPP.build
    assert (tmp_path / "engine/llama_cpp/lib/xllamacpp.abi3.so").read_bytes() == b"llama"


@pytest.mark.parametrize("package", [XLLAMACPP.package, BINDINGS.package])
def test_a_file_with_another_sum_is_refused_and_what_was_there_stays(
    package: str, packages: FakePackages, tmp_path: Path
) -> None:
    install_portable(tmp_path / "engine", say=lambda line: None)
    before = unpacked(tmp_path)
    packages.files.pop(NODE_X64.package)
    name, data = packages.files[package]
    packages.files[package] = (name, data + b"\0")
    with pytest.raises(InstallError, match="is not the file that edgetop knows"):
        install_portable(tmp_path / "engine", say=lambda line: None)
    assert unpacked(tmp_path) == before


def test_an_engine_that_does_not_work_here_is_not_installed(
    packages: FakePackages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable, "examine", lambda files: "it needs glibc 2.38")
    with pytest.raises(InstallError, match=r"does not work here: it needs glibc 2\.38"):
        install_portable(tmp_path / "engine", say=lambda line: None)
    assert unpacked(tmp_path) == set()


INDEX = "https://index.invalid/simple"

AUTHORS_WHEEL = {
    "llama_cpp/__init__.py": f'__version__ = "{BINDINGS_VERSION}"'.encode(),
    "llama_cpp/_ctypes_extensions.py": b"",
    "llama_cpp/llama_cpp.py": b"",
    "llama_cpp/lib/libllama.so": b"llama",
    "llama_cpp_python.libs/libgomp-1.so": b"beside it",
    "llama_cpp_python-0.3.36.dist-info/licenses/LICENSE.md": b"MIT",
    "bin/something": b"",
}


@pytest.fixture
def index(packages: FakePackages, monkeypatch: pytest.MonkeyPatch) -> FakePackages:
    """An index that has a wheel, where the others have the source distribution."""
    source = packages.files[BINDINGS.package]
    ask: Callable[..., None] = packages.run
    packages.files["wheel"] = ("llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl", wheel(AUTHORS_WHEEL))
    sums = {name: hashlib.sha256(AUTHORS_WHEEL[f"llama_cpp/{name}"]).hexdigest() for name in portable.BINDING_NAMES}
    monkeypatch.setattr(portable, "_BINDING_SHA256", sums)

    def run(command: Sequence[str], *rest: object) -> None:
        packages.files.pop(BINDINGS.package, None)
        if "--extra-index-url" not in command:
            packages.files[BINDINGS.package] = source
        elif "wheel" in packages.files:
            packages.files[BINDINGS.package] = packages.files["wheel"]
        ask(command, *rest)

    monkeypatch.setattr(portable, "_run", run)
    return packages


def test_a_wheel_of_an_index_goes_before_all_else(index: FakePackages, tmp_path: Path) -> None:
    made = install_portable(tmp_path / "engine", say=lambda line: None, index=INDEX)
    assert made.build == f"{BINDINGS.build} (wheel)"
    assert index.asked == [f"llama-cpp-python=={BINDINGS_VERSION}"]
    kept = {name for name in AUTHORS_WHEEL if name.startswith(("llama_cpp/", "llama_cpp_python.libs/"))}
    assert unpacked(tmp_path / "engine") == {"engine.json", "LICENSE.md", *kept}


@pytest.mark.parametrize("fault", ["absent", "no wheel", "other Python", "does not work here"])
def test_an_index_without_a_wheel_that_serves_costs_a_line(
    fault: str, index: FakePackages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    if fault == "absent":
        del index.files["wheel"]
    elif fault == "no wheel":
        index.files["wheel"] = (name, b"a page that asks for a password")
    elif fault == "other Python":
        index.files["wheel"] = (name, wheel({**AUTHORS_WHEEL, "llama_cpp/llama_cpp.py": b"import os"}))
    else:
        problems = iter(["it is built for musl", ""])
        monkeypatch.setattr(portable, "examine", lambda files: next(problems))
    lines: list[str] = []
    made = install_portable(tmp_path / "engine", say=lines.append, index=INDEX)
    assert made.build == NODE_X64.build
    assert [line for line in lines if line.startswith("None there: ")]
    assert "llama_cpp/lib/libllama.so" not in unpacked(tmp_path / "engine")


@pytest.mark.parametrize(
    ("machine", "flags", "pins", "suits"),
    [
        ("x86_64", AVX2, [NODE_X64], True),
        ("x86_64", NEHALEM, [NODE_X64], False),
        ("aarch64", frozenset({"asimd", "asimddp"}), [NODE_ARM64, XLLAMACPP], False),
        ("aarch64", frozenset({"asimd", "asimddp"}), [XLLAMACPP], True),
        ("aarch64", frozenset({"asimd"}), [NODE_ARM64], True),
        ("armv7l", frozenset({"neon"}), [NODE_ARMV7], False),
    ],
)
def test_the_author_s_wheels_are_asked_for_where_nothing_better_is(
    *, machine: str, flags: frozenset[str], pins: list[Pin], suits: bool
) -> None:
    assert portable.author_suits(machine, flags, pins) == suits


def test_the_backend_that_stands_in_gives_name_and_version(tmp_path: Path) -> None:
    with portable._BindingsBackend() as folder:
        names: dict[str, Callable[..., object]] = {}
        exec((folder / "scikit_build_core/build.py").read_text(), names)  # noqa: S102 - it is what pip runs
        info = names["prepare_metadata_for_build_wheel"](str(tmp_path))
        text = (tmp_path / str(info) / "METADATA").read_text()
    assert f"Name: llama_cpp_python\nVersion: {BINDINGS_VERSION}\n" in text
    assert names["get_requires_for_build_wheel"]() == []
    assert not folder.exists()

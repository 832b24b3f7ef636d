"""Which engine is used: order, guard, stand-ins. Where a library is loaded, it is in a process of its own."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgetop.core.text import one_line
from edgetop.inference.llama import library
from edgetop.inference.llama.library import (
    BINDINGS_VERSION,
    DEFAULTS,
    NEEDED,
    EngineFiles,
    LibraryError,
    MissingFunction,
    MissingFunctionError,
    check_structs,
    engines,
    examine,
    import_library,
)

WORKING = engines("auto", {})[0]

SIZES_ARE_READ = pytest.mark.skipif(platform.machine() != "x86_64", reason="sizes of structs are read on x86-64")

ASK = """
import json
from edgetop.inference.llama.library import engine_info, load_engine
loaded = load_engine()
info = engine_info(loaded.library)
print(json.dumps([info.kind, info.build, list(info.refused), info.version]))
"""


def ask(**environment: str) -> list[Any]:
    """Kind, build, refusals and version of the engine that a new process uses."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "EDGETOP_ENGINE": "auto", **environment},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    answer: list[Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a package `llama_cpp` of a version, with or without a folder of libraries."""

    def make(name: str, *, version: str = BINDINGS_VERSION, libraries: bool = True, build: str = "") -> Path:
        folder = tmp_path / name
        (folder / "llama_cpp").mkdir(parents=True)
        (folder / "llama_cpp/__init__.py").write_text(f'__version__ = "{version}"\n')
        if libraries:
            (folder / "llama_cpp/lib").mkdir()
        if build:
            (folder / "engine.json").write_text(json.dumps({"build": build, "files": {}}))
        return folder

    return make


def test_engines_are_tried_in_order(
    package: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed, portable = package("site"), package("portable", build="xllamacpp 1\x1b[31m")
    monkeypatch.setattr(sys, "path", [str(installed)])
    monkeypatch.setattr(library, "portable_folder", lambda: portable)
    monkeypatch.setattr(library, "environment_folder", lambda: tmp_path / "none")

    def kinds(choice: str, **environ: str) -> list[str]:
        return [each.kind for each in engines(None, {"EDGETOP_ENGINE": choice, **environ})]

    libraries = {"LLAMA_CPP_LIB_PATH": str(tmp_path)}
    assert kinds("auto", **libraries) == ["LLAMA_CPP_LIB_PATH", "installed", "portable"]
    assert kinds("", **libraries) == kinds("llama", **libraries) == kinds("auto", **libraries)
    assert kinds("installed", **libraries) == ["installed"]
    assert kinds("portable", **libraries) == ["portable"]
    assert "\x1b" not in engines("portable", {})[0].build


def test_bindings_without_libraries_are_no_engine(
    package: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(package("site", libraries=False))])
    assert engines("installed", {}) == []


def test_bindings_of_another_version_are_refused(package: Callable[..., Path]) -> None:
    bindings = package("site", version="0.3.37") / "llama_cpp"
    problem = examine(EngineFiles(kind="installed", bindings=bindings, libraries=bindings / "lib"))
    assert problem == f"it is of llama-cpp-python 0.3.37; edgetop knows the structs of {BINDINGS_VERSION}"


def test_the_working_engine_passes() -> None:
    assert examine(WORKING) == ""
    assert ask()[0] == WORKING.kind


def test_a_folder_without_a_library_is_named_and_the_next_engine_is_used(tmp_path: Path) -> None:
    kind, _, refused, version = ask(LLAMA_CPP_LIB_PATH=str(tmp_path))
    assert kind == WORKING.kind
    assert refused == [f"LLAMA_CPP_LIB_PATH: {tmp_path} has no libllama"]
    assert version


def test_a_folder_is_named_from_where_one_is(tmp_path: Path) -> None:
    """Processes that load a library begin in another folder."""
    (tmp_path / "libs").symlink_to(WORKING.libraries)
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**os.environ, "EDGETOP_ENGINE": "auto", "LLAMA_CPP_LIB_PATH": "libs"},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)[0] == "LLAMA_CPP_LIB_PATH"
    assert library.library_variable({"LLAMA_CPP_LIB_PATH": "libs"}) == {
        "LLAMA_CPP_LIB_PATH": str(Path("libs").absolute())
    }
    assert library.library_variable({"LLAMA_CPP_LIB_PATH": ""}) == {}


@pytest.mark.parametrize(
    ("name", "words"), [("none", "is not there"), ("libllama.so", "is a file, and a folder is wanted")]
)
def test_a_folder_that_is_none_is_said(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "libllama.so").touch()
    given = EngineFiles(kind="LLAMA_CPP_LIB_PATH", bindings=WORKING.bindings, libraries=tmp_path / name)
    assert examine(given) == f"{tmp_path / name} {words}"


def test_bindings_alone_serve_the_libraries_of_the_variable(
    package: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `CMAKE_ARGS=-DLLAMA_BUILD=OFF pip install llama-cpp-python` leaves them."""
    site = package("site", libraries=False)
    monkeypatch.setattr(sys, "path", [str(site)])
    for name in ("portable_folder", "environment_folder"):
        monkeypatch.setattr(library, name, lambda: tmp_path / "none")
    (found,) = engines(None, {"LLAMA_CPP_LIB_PATH": str(WORKING.libraries)})
    assert (found.kind, found.bindings, found.libraries) == (
        "LLAMA_CPP_LIB_PATH", site / "llama_cpp", WORKING.libraries,
    )  # fmt: skip


@pytest.mark.parametrize("at", [4, 18], ids=["of 32 bits", "of another architecture"])
@pytest.mark.skipif(sys.platform != "linux", reason="the linker of glibc says so")
def test_a_library_for_another_processor_is_called_that(at: int, tmp_path: Path) -> None:
    data = bytearray(WORKING.library.read_bytes())
    data[at] = 1 if at == 4 else 0xF3 if data[at] != 0xF3 else 0x3E
    (tmp_path / "libllama.so").write_bytes(data)
    problem = examine(EngineFiles(kind="LLAMA_CPP_LIB_PATH", bindings=WORKING.bindings, libraries=tmp_path))
    assert problem == f"it is built for another kind of processor than this {platform.machine()}"


def test_a_library_that_does_not_load_says_why(tmp_path: Path) -> None:
    (tmp_path / "libllama.so").write_bytes(b"not a library")
    refused = ask(LLAMA_CPP_LIB_PATH=str(tmp_path))[2]
    assert len(refused) == 1
    assert "its library does not load" in refused[0]


@SIZES_ARE_READ
def test_xllamacpp_s_library_is_refused_for_its_struct(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        pytest.skip("xllamacpp is not installed")
    if importlib.metadata.version("xllamacpp") != "2026.10.11549":
        pytest.skip("another version of xllamacpp")
    kind, _, refused, _ = ask(LLAMA_CPP_LIB_PATH=str(Path(spec.origin).parent))
    assert kind == WORKING.kind
    assert refused == ["LLAMA_CPP_LIB_PATH: its llama_context_params has 168 bytes, and 160 are known (0.3.36)"]


OTHERS = (
    "llama_max_devices", "llama_backend_init", "llama_log_set", "llama_print_system_info", "llama_supports_gpu_offload",
    "llama_model_load_from_file", "ggml_backend_load_all_from_path", "ggml_backend_dev_count",
)  # fmt: skip


def foreign_library(folder: Path, *, devices: str = "1", **lies: str) -> Path:
    """A folder with a compiled libllama whose structs are the true ones but for the `lies`, statements of C.

    Those of `begin` are carried out when it is loaded; it lacks the function `without`. Whatever else is called of it
    leaves the file `called`.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    true, source = import_library(), ["#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>"]
    for name in DEFAULTS:
        content = ", ".join(map(str, bytes(getattr(true, f"llama_{name}_default_params")())))
        source.append(
            f"void llama_{name}_default_params(unsigned char *out) {{"
            f" static const unsigned char known[] = {{{content}}};"
            f" memcpy(out, known, sizeof known); {lies.get(name, '')} }}"
        )
    called = json.dumps(str(folder / "called"))
    source.append(f"__attribute__((constructor)) static void begin(void) {{ {lies.get('begin', '')} }}")
    source += [
        f'long {name}(void) {{ fclose(fopen({called}, "w")); return {devices}; }}'
        for name in {*OTHERS, *NEEDED} - {lies.get("without")}
    ]
    folder.mkdir()
    (folder / "foreign.c").write_text("\n".join(source))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libllama.so", folder / "foreign.c"], check=True)
    return folder


@SIZES_ARE_READ
@pytest.mark.parametrize(
    ("lies", "words"),
    [
        ({"model": "memset(out + sizeof known, 7, 8);"}, "its llama_model_params has 88 bytes, and 80 are known"),
        ({"context": "memset(out + sizeof known, 7, 2000);"}, "bytes, and 160 are known"),
        ({"model": "memset(out + 16, 1, 4);"}, "its llama_model_params is another one"),
        ({"model_quantize": "memset(out, 3, sizeof known);"}, "its llama_model_quantize_params is another one"),
        ({"context": "memset(out - 4096, 7, 1 << 24);"}, "it ends a process that loads it (SIG"),
        ({"model": "abort();"}, "it ends a process that loads it (SIGABRT)"),
        ({"begin": 'fputs("1 device", stderr); abort();'}, "it ends a process that loads it (SIGABRT)"),
        ({"begin": 'fputs("\\xff\\x9b broken", stderr); exit(1);'}, "broken"),
        ({"context": "exit(0);"}, "it ends a process that loads it (code 0)"),
        ({"without": "llama_decode"}, "it has no function llama_decode"),
    ],
    ids=[
        "larger",
        "much larger",
        "other defaults",
        "other quantization",
        "writes far beyond",
        "aborts",
        "speaks and aborts",
        "speaks in bytes and leaves",
        "exits",
        "lacks",
    ],
)
def test_a_foreign_library_that_lies_of_its_structs_is_refused_before_anything_else_is_called(
    tmp_path: Path, lies: dict[str, str], words: str
) -> None:
    folder = foreign_library(tmp_path / "foreign", **lies)
    problem = examine(EngineFiles(kind="LLAMA_CPP_LIB_PATH", bindings=WORKING.bindings, libraries=folder))
    assert words in problem
    assert problem == one_line(problem)
    assert not (folder / "called").exists()


@SIZES_ARE_READ
def test_a_foreign_library_may_speak_while_it_is_loaded(tmp_path: Path) -> None:
    speaks = 'puts("\\xff hello"); fflush(stdout); fputs("\\xff\\x1b[31m", stderr);'
    folder = foreign_library(tmp_path / "foreign", begin=speaks)
    assert examine(EngineFiles(kind="LLAMA_CPP_LIB_PATH", bindings=WORKING.bindings, libraries=folder)) == ""


@SIZES_ARE_READ
def test_an_installed_build_with_instructions_that_the_processor_lacks_is_passed_over(
    package: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a build with AVX2 does on a Celeron, already while it is loaded."""
    folder = foreign_library(tmp_path / "foreign", begin="__builtin_trap();")
    given = EngineFiles(kind="installed", bindings=WORKING.bindings, libraries=folder)
    monkeypatch.setattr(library, "cpu_flags", lambda: frozenset({"sse4_2"}))
    monkeypatch.setattr(library, "engines", lambda choice: [given])
    monkeypatch.setattr(library, "_loaded", [])
    with pytest.raises(LibraryError, match=r"^installed: it ends a process that loads it \(SIGILL\)$"):
        library.load_engine()


@SIZES_ARE_READ
def test_a_foreign_library_that_ends_its_process_does_not_end_ours(tmp_path: Path) -> None:
    folder = foreign_library(tmp_path / "foreign", model="abort();")
    kind, _, refused, _ = ask(LLAMA_CPP_LIB_PATH=str(folder))
    assert kind == WORKING.kind
    assert refused == ["LLAMA_CPP_LIB_PATH: it ends a process that loads it (SIGABRT)"]


@SIZES_ARE_READ
def test_a_library_without_anything_to_compute_on_is_refused(tmp_path: Path) -> None:
    folder = foreign_library(tmp_path / "foreign", devices="0")
    problem = examine(EngineFiles(kind="LLAMA_CPP_LIB_PATH", bindings=WORKING.bindings, libraries=folder))
    assert problem == f"it computes on nothing: no libggml-cpu in {folder} is for this processor"


def faked(**changes: ctypes.Structure) -> SimpleNamespace:
    """Bindings whose library returns these structs for default parameters, as C does on x86-64, else the true ones."""
    true = import_library()
    shared, kept = SimpleNamespace(), []
    for name in DEFAULTS:
        struct = changes.get(name, getattr(true, f"llama_{name}_default_params")())

        def write(target: int, struct: ctypes.Structure = struct) -> None:
            ctypes.memmove(target, ctypes.addressof(struct), ctypes.sizeof(struct))

        kept.append(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(write))
        setattr(shared, f"llama_{name}_default_params", kept[-1])
    structs = {f"llama_{name}_params": getattr(true, f"llama_{name}_params") for name in DEFAULTS}
    shared.llama_version = MissingFunction("llama_version")
    return SimpleNamespace(_lib=shared, kept=kept, **structs)


@SIZES_ARE_READ
def test_the_true_structs_pass_and_faked_ones_are_refused() -> None:
    true = import_library()
    check_structs(faked())

    class Longer(ctypes.Structure):
        _fields_ = [("known", true.llama_context_params), ("new", ctypes.c_uint64)]

    with pytest.raises(LibraryError, match="llama_context_params has 168 bytes, and 160 are known"):
        check_structs(faked(context=Longer(true.llama_context_default_params(), 7)))
    for field in ("offload_kqv", "op_offload", "no_perf"):
        shifted = true.llama_context_default_params()
        setattr(shifted, field, False)
        with pytest.raises(LibraryError, match=f"{field} reads False instead of True"):
            check_structs(faked(context=shifted))
    shorter = (ctypes.c_uint8 * 64)(*bytes(true.llama_model_default_params())[:64])

    class Shorter(ctypes.Structure):
        _fields_ = [("bytes", ctypes.c_uint8 * 64)]

    with pytest.raises(LibraryError, match="llama_model_params has 64 bytes"):
        check_structs(faked(model=Shorter(shorter)))


def test_a_library_whose_structs_cannot_be_sized_must_be_of_a_known_version(monkeypatch: pytest.MonkeyPatch) -> None:
    true = import_library()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    check_structs(true)
    monkeypatch.setattr(library, "KNOWN_LIBRARIES", ("0.0.1",))
    with pytest.raises(LibraryError, match="its structs are not known"):
        check_structs(true)


def test_a_missing_function_says_so_when_it_is_called() -> None:
    shared = library.SharedLibrary(None)
    missing = shared.llama_none_such
    missing.argtypes, missing.restype = [ctypes.c_int], None
    with pytest.raises(MissingFunctionError, match="no function llama_none_such"):
        missing(1)
    with pytest.raises(AttributeError):
        _ = shared.none_such_of_another_kind


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /x/libllama.so)",
            "it needs glibc 2.38 or newer, and this system has ",
        ),
        ("libgomp.so.1: cannot open shared object file: No such file or directory", "apt-get install libgomp1"),
        ("libfoo.so.7: cannot open shared object file: No such file", "it needs libfoo.so.7, which is not installed"),
        ("libc.musl-x86_64.so.1: cannot open shared object file", "it is built for musl, and this system has glibc"),
        ("invalid ELF\nheader", "its library does not load: invalid ELF header"),
    ],
)
def test_the_linker_s_error_says_what_is_missing(error: str, words: str) -> None:
    assert words in library._why_not_loaded(error, Path("/x/libllama.so"))

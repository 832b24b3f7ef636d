"""Which llama.cpp is used: found, checked, loaded.

An engine is a folder of bindings (the package `llama_cpp` of llama-cpp-python, plain Python) and a folder of libraries.
Only the module of ctypes bindings is imported, below a stub of its package: the package's own initialisation brings
numpy and the high-level API, 20 MB and a tenth of a second that nothing here uses.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, get_args

import msgspec
from msgspec import Struct

from edgetop.core.engine_choices import FlashAttention, KvType, LoadMode
from edgetop.core.engine_settings import EngineInfo
from edgetop.core.text import one_line
from edgetop.io.files import read_small

Library = Any
"""The module `llama_cpp.llama_cpp`, which has no types worth the name."""

Handle = Any
"""A pointer to one of the library's objects."""

BINDINGS_VERSION: Final = "0.3.36"
"""Of llama-cpp-python: the version whose structs and functions are known here."""

BINDINGS_COMMIT: Final = "0c1e57098"
"""Of the llama.cpp that this version builds (its CHANGELOG)."""

KV_TYPES: dict[KvType, str] = {
    "f32": "GGML_TYPE_F32",
    "f16": "GGML_TYPE_F16",
    "q4_0": "GGML_TYPE_Q4_0",
    "q4_1": "GGML_TYPE_Q4_1",
    "q5_0": "GGML_TYPE_Q5_0",
    "q5_1": "GGML_TYPE_Q5_1",
    "q8_0": "GGML_TYPE_Q8_0",
    "iq4_nl": "GGML_TYPE_IQ4_NL",
}

GGML_TYPE_BF16 = 30
"""From ggml.h; the bindings do not name it."""

FLASH_ATTENTION: dict[FlashAttention, str] = {
    "auto": "LLAMA_FLASH_ATTN_TYPE_AUTO",
    "on": "LLAMA_FLASH_ATTN_TYPE_ENABLED",
    "off": "LLAMA_FLASH_ATTN_TYPE_DISABLED",
}

LOAD_MODES: dict[LoadMode, str] = {
    "auto": "LLAMA_LOAD_MODE_AUTO",
    "mmap": "LLAMA_LOAD_MODE_MMAP",
    "mlock": "LLAMA_LOAD_MODE_MMAP_MLOCK",
    "copy": "LLAMA_LOAD_MODE_NONE",
}


class LibraryError(Exception):
    """There is no engine that can be used; the text says why in one line."""


class MissingFunctionError(LibraryError):
    """A function was called that the library does not have."""


EngineKind = Literal["LLAMA_CPP_LIB_PATH", "installed", "portable"]

EngineChoice = Literal["auto", "installed", "portable"]

ENGINE_VARIABLE: Final = "EDGETOP_ENGINE"

LIBRARY_VARIABLE: Final = "LLAMA_CPP_LIB_PATH"
"""Of llama-cpp-python: a folder of libraries to use instead of its own."""

DESCRIPTION_FILE: Final = "engine.json"
"""Beside the package in a portable engine's folder: what it was made of."""

_LIBRARY_NAMES: Final = ("libllama.so", "libllama.dylib", "libllama.so.*", "libllama.v*.so", "xllamacpp*.so")
"""How builds name the library that has llama.cpp's functions, the usual first."""


class EngineFiles(Struct, frozen=True, kw_only=True):
    """Where an engine lies, which need not be one that can be used."""

    kind: EngineKind
    bindings: Path
    """The folder of the package `llama_cpp`."""
    libraries: Path
    build: str = ""
    """Who built it and which version, as far as its files say."""

    @property
    def library(self) -> Path:
        """The file with llama.cpp's functions. Raises LibraryError."""
        for name in _LIBRARY_NAMES:
            found = sorted(self.libraries.glob(name))
            if found:
                return found[0]
        if self.libraries.is_dir():
            raise LibraryError(f"{self.libraries} has no libllama")
        is_file = self.libraries.exists()
        raise LibraryError(f"{self.libraries} is {'a file, and a folder is wanted' if is_file else 'not there'}")


class PortableDescription(Struct, frozen=True, kw_only=True):
    """What a portable engine was made of, as its file says."""

    build: str
    files: dict[str, str] = {}
    """SHA-256 of what was downloaded, by the name of the file."""


def portable_folder() -> Path:
    """Where `edgetop engine install` puts the portable engine."""
    from platformdirs import user_data_path  # noqa: PLC0415 - few processes ask

    return user_data_path("edgetop") / "engine"


def environment_folder() -> Path:
    """Where this Python's environment has a portable engine of its own."""
    return Path(sys.prefix) / "share" / "edgetop" / "engine"


def cpu_flags(sysroot: Path = Path("/")) -> frozenset[str]:
    """Instruction sets that the kernel says the processor has (`flags`, on Arm `Features`); empty where it does not."""
    try:
        lines = (sysroot / "proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def chosen_engine(environ: Mapping[str, str] = os.environ) -> EngineChoice:
    """The choice of EDGETOP_ENGINE, `auto` where it chooses none of these."""
    chosen = environ.get(ENGINE_VARIABLE, "")
    return next((each for each in get_args(EngineChoice) if each == chosen), "auto")


def engines(choice: EngineChoice | None = None, environ: Mapping[str, str] = os.environ) -> list[EngineFiles]:
    """The engines that are there, in the order in which they are tried."""
    choice = chosen_engine(environ) if choice is None else choice
    packages, found = _packages(), []
    folder = library_variable(environ).get(LIBRARY_VARIABLE)
    if folder and choice == "auto":
        bindings = [each.bindings for each in packages]
        known = [each for each in bindings if _version(each) == BINDINGS_VERSION]
        first = (*known, *bindings, Path())[0]
        found.append(EngineFiles(kind="LLAMA_CPP_LIB_PATH", bindings=first, libraries=Path(folder), build=folder))
    # Bindings alone, which are what a build without libraries installs, are no engine.
    return found + [each for each in packages if choice in {"auto", each.kind} and each.libraries.is_dir()]


def bindings_here() -> list[Path]:
    """The folders of the packages `llama_cpp` that are there, with libraries or without."""
    return [each.bindings for each in _packages()]


def library_variable(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """LLAMA_CPP_LIB_PATH, where it is set, with the whole path: the processes that use it begin in another folder."""
    folder = environ.get(LIBRARY_VARIABLE)
    return {LIBRARY_VARIABLE: str(Path(folder).absolute())} if folder else {}


def _packages() -> list[EngineFiles]:
    return [*_installed(), *_portable()]


def _installed() -> list[EngineFiles]:
    spec = PathFinder.find_spec("llama_cpp")
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    return [
        EngineFiles(
            kind="installed", bindings=folder, libraries=folder / "lib", build=f"llama-cpp-python {_version(folder)}"
        )
        for folder in folders
    ]


def _portable() -> Iterator[EngineFiles]:
    spec = PathFinder.find_spec("edgetop_engine")
    packaged = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    for folder in (*packaged, environment_folder(), portable_folder()):
        try:
            described = msgspec.json.decode(read_small(folder / DESCRIPTION_FILE), type=PortableDescription)
        except (OSError, ValueError, RecursionError):
            continue
        bindings = folder / "llama_cpp"
        yield EngineFiles(
            kind="portable", bindings=bindings, libraries=bindings / "lib", build=one_line(described.build)
        )


def _version(bindings: Path) -> str:
    try:
        found = re.search(
            r'^__version__ = "([^"]+)"', (bindings / "__init__.py").read_text("utf-8", "replace"), re.MULTILINE
        )
    except OSError:
        return ""
    return found[1] if found else ""


class SharedLibrary(ctypes.CDLL):
    """The library; a function that it lacks says so when it is called, not when the bindings name it."""

    llama_max_devices: object

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a function of ctypes, which is of no public type
        """A function of the library, or one that stands for it."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if not name.startswith(("llama_", "ggml_")):
                raise
            return MissingFunction(name)


class MissingFunction:
    """Stands for a function that a library lacks. Calling it raises MissingFunctionError."""

    argtypes: object = None
    restype: object = None

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *_: object) -> object:
        """Raise MissingFunctionError."""
        raise MissingFunctionError(f"this engine has no function {self.__name__}")


class LoadedEngine(Struct, frozen=True, kw_only=True):
    """The engine that this process uses, and what was tried before it."""

    library: Library
    files: EngineFiles
    refused: tuple[str, ...] = ()
    """Engines that cannot be used, each with its reason."""


_loaded: list[LoadedEngine] = []
"""At most one: a process cannot be rid of a library again."""

_silent: list[object] = []
"""Keeps the callback that drops the log until somebody takes it in."""


def import_library(choice: EngineChoice | None = None) -> Library:
    """The bindings of the first engine that can be used. Raises LibraryError."""
    return load_engine(choice).library


def load_engine(choice: EngineChoice | None = None) -> LoadedEngine:
    """The first engine that can be used; the same one at every call. Raises LibraryError."""
    if _loaded:
        return _loaded[0]
    candidates, refused = engines(choice), []
    for files in candidates:
        try:
            if files.kind == LIBRARY_VARIABLE or _may_lack_instructions():
                # It may end the process that asks it, and its libraries may be called as the next engine's are, and
                # the two must not meet in one process.
                _check_apart(files)
            library = _load(files)
        except LibraryError as error:
            refused.append(f"{files.kind}: {error}")
            continue
        _loaded.append(LoadedEngine(library=library, files=files, refused=tuple(refused)))
        return _loaded[0]
    wanted = chosen_engine() if choice is None else choice
    raise LibraryError("; ".join(refused) or ("no llama.cpp is there" if wanted == "auto" else f"no {wanted} engine"))


def _may_lack_instructions() -> bool:
    """Whether this is an x86-64 processor on which many a build ends with its first instruction."""
    flags = cpu_flags()
    return platform.machine() == "x86_64" and bool(flags) and "avx2" not in flags


def examine(files: EngineFiles) -> str:
    """Why an engine cannot be used, found out in a process of its own; empty when it can."""
    try:
        _check_apart(files)
    except LibraryError as error:
        return str(error)
    return ""


_CHECK_TIMEOUT_S = 60.0
_LOADED = "loaded"
"""The last word of a process in which a library could be loaded, and did not end it."""
_REFUSED = 1
"""How a process ends that says why it refuses a library."""

_REASON_MAX = 500


def _check_apart(files: EngineFiles) -> None:
    given = (files.kind, str(files.bindings), str(files.libraries))
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from edgetop.inference.llama.library import check_here; check_here()", *given],
            capture_output=True, timeout=_CHECK_TIMEOUT_S, check=False, cwd=Path(__file__).parents[3],
        )  # fmt: skip
    except OSError as error:
        raise LibraryError(f"it cannot be examined: {error}") from error
    except subprocess.TimeoutExpired:
        raise LibraryError(f"it does not load within {_CHECK_TIMEOUT_S:g} s") from None
    # A library may print what it likes while it is loaded: ours is the last word.
    said, told = (each.decode("utf-8", "replace").strip() for each in (done.stdout, done.stderr))
    if done.returncode or not said.endswith(_LOADED):
        lines = told.splitlines() if done.returncode == _REFUSED else []
        fatal = -done.returncode
        how = signal.Signals(fatal).name if fatal in {*signal.Signals} else f"code {done.returncode}"
        raise LibraryError(one_line(lines[-1][:_REASON_MAX]) if lines else f"it ends a process that loads it ({how})")


def check_here() -> None:
    """Load the engine of the command line and leave, with its fault as the last words."""
    kind, bindings, libraries = sys.argv[1:]
    try:
        _load(EngineFiles(kind=msgspec.convert(kind, EngineKind), bindings=Path(bindings), libraries=Path(libraries)))
    except LibraryError as error:
        sys.exit(str(error))
    sys.stdout.write(_LOADED)


def _load(files: EngineFiles) -> Library:
    version = _version(files.bindings)
    if version != BINDINGS_VERSION:
        what = f"it is of llama-cpp-python {version}" if version else "there are no bindings of llama-cpp-python"
        raise LibraryError(f"{what}; edgetop knows the structs of {BINDINGS_VERSION}")
    path = files.library
    try:
        shared = SharedLibrary(str(path))
    except OSError as error:
        raise LibraryError(_why_not_loaded(str(error), path)) from error
    module = _bindings(files.bindings, shared)
    check_structs(module)
    for name in NEEDED:
        if isinstance(getattr(shared, name), MissingFunction):
            raise LibraryError(f"it has no function {name}")
    _load_backends(module, files.libraries)
    return module


def _bindings(folder: Path, shared: SharedLibrary) -> Library:
    """The module of ctypes bindings, bound to a library. A program's own `import llama_cpp` still brings its own."""
    theirs = _take_modules()
    stub = ModuleType("llama_cpp")
    stub.__path__ = [str(folder)]
    stub.__spec__ = ModuleSpec("llama_cpp", None, origin=str(folder / "__init__.py"), is_package=True)
    stub.__spec__.submodule_search_locations = [str(folder)]
    sys.modules["llama_cpp"] = stub
    # The bindings call it when they are imported, for a constant that nothing here uses. Nothing of a library that may
    # be anybody's is called before its structs are known.
    shared.llama_max_devices = ctypes.CFUNCTYPE(ctypes.c_size_t)(lambda: 0)
    try:
        extensions = importlib.import_module("llama_cpp._ctypes_extensions")
        # The bindings look for one name in one folder, and want every function of it.
        extensions.__dict__["load_shared_library"] = lambda *_: shared
        return importlib.import_module("llama_cpp.llama_cpp")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise LibraryError(f"the bindings do not load: {error}") from error
    finally:
        _take_modules()
        sys.modules.update(theirs)


def _take_modules() -> dict[str, ModuleType]:
    """Take llama_cpp and its modules away from `import`."""
    names = [name for name in sys.modules if name == "llama_cpp" or name.startswith("llama_cpp.")]
    return {name: sys.modules.pop(name) for name in names}


def _why_not_loaded(error: str, library: Path) -> str:
    """The dynamic linker's error, with what it means where that is known."""
    wanted = re.search(r"version .GLIBC_([\d.]+). not found", error)
    if wanted:
        return (
            f"it needs glibc {wanted[1]} or newer, and this system has {platform.libc_ver()[1] or 'another C library'}"
        )
    absent = re.search(r"([\w+./-]+): cannot open shared object file", error)
    if (absent and Path(absent[1]) == library) or "wrong ELF class" in error or "incompatible architecture" in error:
        # Of a library that is there, the linker of glibc says so where it is of another architecture.
        return f"it is built for another kind of processor than this {platform.machine()}"
    if absent and "musl" in absent[1]:
        return "it is built for musl, and this system has glibc"
    if absent:
        package = {"libgomp.so.1": "libgomp1", "libstdc++.so.6": "libstdc++6"}.get(absent[1])
        how = f" (on Debian: apt-get install {package})" if package else ""
        return f"it needs {absent[1]}, which is not installed{how}"
    return f"its library does not load: {one_line(error)}"


DEFAULTS: Final[dict[str, dict[str, object]]] = {
    "model": {
        "n_gpu_layers": -1, "load_mode": -1, "vocab_only": False, "check_tensors": False, "use_extra_bufts": True,
        "no_host": False, "no_alloc": False,
    },
    "context": {
        "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "flash_attn_type": -1, "rope_freq_base": 0.0,
        "yarn_ext_factor": -1.0, "type_k": 1, "type_v": 1, "embeddings": False, "offload_kqv": True, "no_perf": True,
        "op_offload": True, "swa_full": True, "kv_unified": False,
    },
    "model_quantize": {"output_tensor_type": 43, "allow_requantize": False, "quantize_output_tensor": True},
}  # fmt: skip
"""Default parameters by struct, as read with the structs of BINDINGS_VERSION from its own library. A library whose
structs differ answers as usual with wrong parameters, so these are read before anything else is called."""

NEEDED: Final = (
    "llama_backend_init", "llama_log_set", "llama_model_load_from_file", "llama_model_free", "llama_init_from_model",
    "llama_free", "llama_model_get_vocab", "llama_tokenize", "llama_token_to_piece", "llama_batch_get_one",
    "llama_decode", "llama_synchronize", "llama_sampler_chain_init", "llama_sampler_sample",
)  # fmt: skip
"""Without one of these there is no answer; what else a library lacks is told where it is asked for."""

KNOWN_LIBRARIES: Final = ("0.4.1-dev", "0.5.0-dev")
"""What `llama_version` says of libraries whose structs were found to be those of the bindings, where their sizes cannot
be read."""

_FILLED_BYTES = 4096
"""More than any struct has."""


def check_structs(library: Library) -> None:
    """Compare the library's structs with those of the bindings. Raises LibraryError where they differ."""
    sized = platform.machine() in {"x86_64", "amd64", "AMD64"} and os.name == "posix"
    for name, known in DEFAULTS.items():
        function = getattr(library._lib, f"llama_{name}_default_params")  # noqa: SLF001 - the bindings hide the size
        if isinstance(function, MissingFunction):
            if name == "model_quantize":
                continue
            raise LibraryError(f"it has no function {function.__name__}")
        struct = getattr(library, f"llama_{name}_params")
        size, read = _default_parameters(function, struct, sized=sized)
        if size is not None and size != ctypes.sizeof(struct):
            raise LibraryError(
                f"its {struct.__name__} has {size} bytes, and {ctypes.sizeof(struct)} are known ({BINDINGS_VERSION})"
            )
        for field, value in known.items():
            found = getattr(read, field)
            if found != value:
                raise LibraryError(
                    f"its {struct.__name__} is another one: {field} reads {found!r} instead of {value!r}"
                )
    version = getattr(library._lib, "llama_version")  # noqa: SLF001, B009 - the same
    if not sized and (isinstance(version, MissingFunction) or _text(version) not in KNOWN_LIBRARIES):
        raise LibraryError(f"its structs are not known (known are those of llama.cpp {', '.join(KNOWN_LIBRARIES)})")


def _default_parameters(
    function: Any,  # noqa: ANN401 - as above
    struct: type[ctypes.Structure],
    *,
    sized: bool,
) -> tuple[int | None, ctypes.Structure]:
    """Size and content of the struct that a function without arguments returns.

    A struct larger than two registers is written where the caller says, and a larger one than the bindings know would
    be written beyond its end. The x86-64 ABI passes that address as a first argument (System V ABI, 3.2.3), so what is
    written can be measured; elsewhere there is room behind the struct.
    """
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    if not sized:
        fields = [("known", struct), ("more", ctypes.c_uint8 * _FILLED_BYTES)]
        roomy: Any = type("Roomy", (ctypes.Structure,), {"_fields_": fields})
        return None, ctypes.CFUNCTYPE(roomy)(address)().known
    write = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
    written = []
    for filling in (0xAA, 0x55):
        room = (ctypes.c_uint8 * _FILLED_BYTES)(*([filling] * _FILLED_BYTES))
        write(ctypes.addressof(room))
        written.append(bytes(room))
    end = max((at for at in range(_FILLED_BYTES) if written[0][at] == written[1][at]), default=-1) + 1
    alignment = ctypes.alignment(struct)
    return -(-end // alignment) * alignment, struct.from_buffer_copy(written[0])


def _load_backends(library: Library, folder: Path) -> None:
    """Have a library whose code for processors lies in files beside it choose the one for this processor."""
    shared = library._lib  # noqa: SLF001 - the bindings leave ggml's device functions out
    # ctypes takes what is returned for an int, which cuts a pointer off, until it is told otherwise.
    shared.ggml_backend_dev_count.restype = ctypes.c_size_t
    shared.ggml_backend_dev_get.argtypes, shared.ggml_backend_dev_get.restype = [ctypes.c_size_t], ctypes.c_void_p
    for function in (shared.ggml_backend_dev_name, shared.ggml_backend_dev_description):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
    if any(folder.glob("libggml-cpu-*")):
        callback = library.llama_log_callback(lambda *_: None)
        _silent.append(callback)
        library.llama_log_set(callback, None)
        shared.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
        shared.ggml_backend_load_all_from_path.restype = None
        shared.ggml_backend_load_all_from_path(os.fsencode(folder))
    if not shared.ggml_backend_dev_count():
        raise LibraryError(f"it computes on nothing: no libggml-cpu in {folder} is for this processor")


def kv_type(library: Library, name: KvType) -> int:
    """The number that ggml gives a type of the KV cache."""
    return GGML_TYPE_BF16 if name == "bf16" else int(getattr(library, KV_TYPES[name]))


def engine_info(library: Library) -> EngineInfo:
    """Version, instruction sets and devices of the engine that was loaded, and where it comes from."""
    loaded = _loaded[0] if _loaded else None
    return EngineInfo(
        name="llama.cpp",
        version=_text(library.llama_version),
        system_info=_text(library.llama_print_system_info).strip(" |"),
        devices=_devices(library),
        rpc=bool(library.llama_supports_rpc()),
        kind="" if loaded is None else loaded.files.kind,
        build="" if loaded is None else loaded.files.build,
        commit=_commit(library),
        refused=() if loaded is None else loaded.refused,
    )


def _commit(library: Library) -> str:
    function = library._lib.ggml_commit  # noqa: SLF001 - the bindings leave ggml's functions out
    said = "" if isinstance(function, MissingFunction) else one_line(_text(function))
    return "" if said == "unknown" else said


def _text(function: Any) -> str:  # noqa: ANN401 - a function of ctypes, which is of no public type
    function.restype = ctypes.c_char_p
    return str(function().decode("utf-8", "replace"))


def _devices(library: Library) -> tuple[str, ...]:
    shared = library._lib  # noqa: SLF001 - the bindings leave ggml's device functions out
    names = []
    for index in range(shared.ggml_backend_dev_count()):
        device = shared.ggml_backend_dev_get(index)
        name, description = shared.ggml_backend_dev_name(device), shared.ggml_backend_dev_description(device)
        names.append(f"{name.decode('utf-8', 'replace')}: {description.decode('utf-8', 'replace')}")
    return tuple(names)


GPU_BACKENDS = ("cuda", "hip", "vulkan", "metal", "sycl", "opencl", "musa", "cann")
"""Of ggml, each a library of its own (ggml/src/CMakeLists.txt); the others compute on the processor."""


def gpu_backends(files: EngineFiles) -> tuple[str, ...]:
    """The backends for GPUs that an engine has beside its library."""
    names = [library.name for library in files.libraries.glob("*ggml-*")]
    return tuple(backend for backend in GPU_BACKENDS if any(f"ggml-{backend}" in name for name in names))


def offloads_to_gpu() -> bool:
    """Whether layers can be offloaded at all; not where there is no engine."""
    return any(gpu_backends(files) for files in engines()[:1])

"""A llama.cpp built for this machine: what it takes, how it is built, and what another build would bring."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from edgetop.core.engine_settings import EngineInfo
from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.inference.llama.library import BINDINGS_VERSION, EngineFiles, cpu_flags, examine
from edgetop.inference.llama.portable import Say, machine_name

GpuBackend = Literal["cuda", "vulkan"]

ARGS_VARIABLE: Final = "CMAKE_ARGS"


class BuildError(EdgetopError):
    """The build cannot begin or has failed; what was installed before still is."""


_COMMON: Final = "-DLLAVA_BUILD=OFF -DGGML_RPC=ON"

_X86_SETS: Final = {"sse4_2": "SSE42", "avx": "AVX", "avx2": "AVX2", "bmi2": "BMI2", "fma": "FMA", "f16c": "F16C"}
"""Instruction sets that a build for no particular x86-64 processor uses (ggml/CMakeLists.txt), by the kernel's name."""


def cmake_args(
    machine: str, flags: frozenset[str], backend: GpuBackend | None = None, *, root: Path = Path("/")
) -> str:
    """How to configure llama.cpp for a processor with these flags.

    A build for exactly this processor crashes on x86-64 with AMX when GCC is older than 13, and gains little over AVX2;
    on Arm it is what brings the dot-product instructions, which make decoding several times as fast. What an older
    x86-64 processor lacks is switched off one by one.
    """
    args = f"-DGGML_NATIVE=OFF {_COMMON}" if machine == "x86_64" else _COMMON
    if machine == "x86_64" and flags:
        args += "".join(f" -DGGML_{name}=OFF" for flag, name in _X86_SETS.items() if flag not in flags)
    if backend == "vulkan":
        args += " -DGGML_VULKAN=ON"
    if backend == "cuda":
        args += " -DGGML_CUDA=ON"
        # Where no GPU is seen, as in a container, CMake hands its complaint to nvcc as an architecture.
        args += (
            " -DCMAKE_CUDA_ARCHITECTURES=native" if any((root / "dev" / name).exists() for name in _CUDA_NODES) else ""
        )
        # Jetsons' unified memory has no virtual memory management for the pool (node-llama-cpp#560).
        args += " -DGGML_CUDA_NO_VMM=ON" if (root / "etc/nv_tegra_release").exists() else ""
    return args


_CUDA_NODES: Final = ("nvidia0", "nvhost-gpu", "nvgpu", "dxg")
"""Device nodes of GPUs that CUDA computes on: of NVIDIA's driver, of Jetsons, of WSL."""


def cmake_args_here(backend: GpuBackend | None = None) -> str:
    """What CMAKE_ARGS says, or what fits this machine."""
    return os.environ.get(ARGS_VARIABLE) or cmake_args(machine_name(), cpu_flags(), backend)


class Missing(Struct, frozen=True):
    """A program or file that a build needs."""

    what: str
    hint: str


_CUDA_FOLDER: Final = Path("/usr/local/cuda/bin")


def missing_for_build(
    backend: GpuBackend | None = None, *, which: Callable[[str], str | None] = shutil.which, root: Path = Path("/")
) -> list[Missing]:
    """What is not there of what a build needs. CMake and Ninja come as packages of Python."""
    found = []
    if not any(which(name) for name in ("c++", "g++", "clang++")):
        found.append(
            Missing("a C++ compiler", "on Debian: apt-get install build-essential; on macOS: xcode-select --install")
        )
    if backend == "cuda":
        nvcc = which("nvcc")
        toolkit = "on a Jetson: apt-get install nvidia-jetpack; on Debian: apt-get install nvidia-cuda-toolkit"
        if nvcc is None:
            is_there = (root / _CUDA_FOLDER.relative_to("/") / "nvcc").exists()
            hint = f"it is in {_CUDA_FOLDER}: export PATH={_CUDA_FOLDER}:$PATH" if is_there else toolkit
            found.append(Missing("nvcc of the CUDA toolkit", hint))
        elif not _has_cublas(Path(nvcc), root):
            found.append(Missing("cuBLAS of the CUDA toolkit", f"of NVIDIA's packages: libcublas-dev; {toolkit}"))
    if backend == "vulkan":
        vulkan = "on Debian: apt-get install libvulkan-dev glslc spirv-headers"
        if which("glslc") is None:
            found.append(Missing("glslc, the compiler of shaders", vulkan))
        if not any((root / "usr" / place / "vulkan/vulkan.h").exists() for place in ("include", "local/include")):
            found.append(Missing("Vulkan's headers", vulkan))
        if not any((root / "usr" / place / "spirv").is_dir() for place in ("include", "local/include")):
            found.append(Missing("SPIR-V's headers", vulkan))
    return found


def _has_cublas(nvcc: Path, root: Path) -> bool:
    """Whether cuBLAS can be compiled with, which a toolkit may lack: next to nvcc, or where packages put it."""
    folders = [str(nvcc.resolve().parents[1]), "/usr", os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME")]
    named = [root / each.lstrip("/") for each in folders if each]
    return any(
        any(folder.glob(place))
        for folder in (*named, *root.glob("usr/local/cuda*"))
        for place in ("include/cublas_v2.h", "targets/*/include/cublas_v2.h")
    )


def wheel_folder(args: str, environ: dict[str, str] | os._Environ[str] = os.environ) -> Path:
    """Where wheels built with these CMAKE_ARGS are kept; pip's own cache does not tell such builds apart."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    number = (
        subprocess.run(
            ["cksum"],  # noqa: S607 - of POSIX
            input=args.encode(),
            capture_output=True,
            check=True,
        )
        .stdout.split()[0]
        .decode()
    )
    return cache / "edgetop-wheels" / f"{BINDINGS_VERSION}-{machine_name()}-{number}"


def kept_wheel(args: str) -> Path | None:
    """A wheel that was built before with these CMAKE_ARGS."""
    folder = wheel_folder(args)
    wheels = sorted(folder.glob("llama_cpp_python-*.whl")) if (folder / "done").exists() else []
    return wheels[0] if wheels else None


_STEP: Final = re.compile(r"^\s*\[(\d+)/(\d+)\]")

_LINES_KEPT: Final = 400


def build_wheel(args: str, *, say: Say) -> Path:
    """Compile llama.cpp and keep the wheel. Takes minutes. Raises BuildError."""
    folder = wheel_folder(args)
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--verbose", "--no-deps"),
        *("--no-cache-dir", "--no-binary", "llama-cpp-python", "--wheel-dir", str(folder)),
        f"llama-cpp-python=={BINDINGS_VERSION}",
    ]
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(_jobs())
    environment = {**os.environ, ARGS_VARIABLE: args, "CMAKE_BUILD_PARALLEL_LEVEL": jobs}
    say(f"Downloading llama.cpp's source ({BINDINGS_VERSION} of llama-cpp-python, 77 MB)")
    lines: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            for line in progress(process.stdout, say=say):
                lines.append(line)  # noqa: PERF402 - what came before an interruption is kept
        except BaseException:
            # The compilers go on without pip otherwise.
            os.killpg(process.pid, signal.SIGTERM)
            raise
    wheel = next(iter(sorted(folder.glob("llama_cpp_python-*.whl"))), None)
    if process.returncode or wheel is None:
        (folder / "log").write_text("".join(lines))
        raise BuildError(f"llama.cpp was not built: {_cause(lines)}", f"all that was printed is in {folder / 'log'}")
    (folder / "done").touch()
    return wheel


def progress(
    lines: Iterable[str], *, say: Say, clock_s: Callable[[], float] = time.monotonic, every_s: float = 5.0
) -> Iterator[str]:
    """Pass the lines of a build on, and say how far it is: files compiled, and the time left at this pace."""
    started_s: float | None = None
    said_s = 0.0
    for line in lines:
        step = _STEP.match(line)
        if step:
            now_s = clock_s()
            done, total = int(step[1]), int(step[2])
            started_s = now_s if started_s is None else started_s
            if done in {1, total} or now_s - said_s >= every_s:
                said_s = now_s
                left_s = (now_s - started_s) / max(done - 1, 1) * (total - done)
                left = f", about {left_s / 60:.0f} min left" if done > 4 and left_s >= 30 else ""
                say(f"{done} of {total} files compiled{left}")
        yield line


def _jobs() -> int:
    """Compilers at once: one takes up to 0.7 GB, so a small board runs fewer of them than it has cores."""
    cores = os.cpu_count() or 1
    try:
        text = Path("/proc/meminfo").read_text("ascii")
    except OSError:
        return cores
    available = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return max(1, min(cores, int(available[1]) // 2**20)) if available else cores


def _cause(lines: list[str]) -> str:
    tail = lines[-_LINES_KEPT:]
    telling = [
        line for line in tail if re.search(r"\berror\b|CMake Error|No such file|fatal|Killed", line, re.IGNORECASE)
    ]
    if not telling:
        return one_line((tail or ["nothing was printed"])[-1])[:300]
    # CMake says where in one line, and what in those below it.
    at = tail.index(telling[0])
    below = [line for line in tail[at + 1 : at + 4] if line.strip()] if "CMake Error" in telling[0] else []
    return one_line(" ".join(line.strip() for line in (telling[0], *below)))[:300]


def install_wheel(wheel: Path, *, say: Say) -> None:
    """Install a wheel of llama-cpp-python into this environment, if its library works here. Raises BuildError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        bindings = folder / "llama_cpp"
        problem = examine(EngineFiles(kind="installed", bindings=bindings, libraries=bindings / "lib"))
    if problem:
        raise BuildError(f"the build does not work here: {problem}", "edgetop goes on with the engine it has")
    say(f"Installing {wheel.name}")
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--force-reinstall"),
        *("--no-deps", str(wheel)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["pip failed"]
        raise BuildError(
            f"the build is not installed: {one_line(lines[-1])}", "install edgetop in an environment of its own"
        )


class Advice(Struct, frozen=True):
    """Something that could be better, and how."""

    what: str
    hint: str


BUILD_COMMAND: Final = "edgetop engine build"


def engine_advice(info: EngineInfo, machine: str, *, has_nvidia: bool) -> list[Advice]:
    """Say how the library could be built better for this machine (`platform.machine`)."""
    flags = info.system_info.replace(" ", "")
    advice = [Advice(f"an engine is not used: {one_line(refused)}", "edgetop engine show") for refused in info.refused]
    if "AMX_INT8=1" in flags:
        advice.append(
            Advice(
                "this llama.cpp was built with AMX, which crashes in the first decode when GCC 12 or older built it; "
                "edgetop then goes on without AMX and repacked weights",
                BUILD_COMMAND,
            )
        )
    if machine in {"aarch64", "arm64"} and sys.platform == "linux" and "DOTPROD=1" not in flags:
        advice.append(
            Advice(
                "this llama.cpp was built without dot-product instructions, which make it several times as fast on "
                "Cortex-A55, A76, A78 and newer",
                BUILD_COMMAND,
            )
        )
    if has_nvidia:
        advice.append(Advice("there is an NVIDIA GPU that this llama.cpp cannot use", f"{BUILD_COMMAND} --cuda"))
    return advice


def possible_backends(*, has_nvidia: bool, root: Path = Path("/")) -> tuple[GpuBackend, ...]:
    """The backends for GPUs for which this machine has a GPU and a driver.

    Mesa's drivers are installed whether there is a GPU or not, and its lavapipe computes on the processor.
    """
    nodes = ("dri/renderD*", "mali0", "kgsl-3d0", *_CUDA_NODES)
    has_gpu = any(True for name in nodes for _ in (root / "dev").glob(name))
    drivers = has_gpu and [
        file
        for folder in ("usr/share/vulkan/icd.d", "etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d")
        for file in (root / folder).glob("*.json")
        if not file.name.startswith("lvp")
    ]
    found: list[GpuBackend] = ["cuda"] if has_nvidia else []
    return (*found, "vulkan") if drivers else tuple(found)

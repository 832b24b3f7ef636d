"""How llama.cpp is built here, and what is said meanwhile. Nothing is compiled."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetop.core.engine_settings import EngineInfo
from edgetop.inference.llama.build import (
    BuildError,
    build_wheel,
    cmake_args,
    engine_advice,
    kept_wheel,
    missing_for_build,
    possible_backends,
    progress,
    wheel_folder,
)

AVX2 = frozenset({"sse4_2", "avx", "avx2", "bmi2", "fma", "f16c"})


def test_what_a_processor_lacks_is_switched_off() -> None:
    assert cmake_args("x86_64", AVX2) == "-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DGGML_RPC=ON"
    nehalem = cmake_args("x86_64", frozenset({"sse4_2"}))
    assert nehalem.removeprefix(cmake_args("x86_64", AVX2)).split() == [
        f"-DGGML_{name}=OFF" for name in ("AVX", "AVX2", "BMI2", "FMA", "F16C")
    ]
    assert cmake_args("x86_64", frozenset()) == cmake_args("x86_64", AVX2)
    assert cmake_args("aarch64", frozenset({"asimd"})) == "-DLLAVA_BUILD=OFF -DGGML_RPC=ON"


def test_gpus_have_their_flags(tmp_path: Path) -> None:
    assert cmake_args("x86_64", AVX2, "vulkan").endswith(" -DGGML_VULKAN=ON")
    unseen = cmake_args("x86_64", AVX2, "cuda", root=tmp_path)
    assert unseen.endswith("-DGGML_CUDA=ON"), "no architecture is that of a GPU that is not there"
    for file in ("dev/nvhost-gpu", "etc/nv_tegra_release"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    jetson = cmake_args("aarch64", frozenset(), "cuda", root=tmp_path)
    assert jetson.endswith("-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native -DGGML_CUDA_NO_VMM=ON")


def test_what_a_build_needs_is_looked_for_before_it_begins(tmp_path: Path) -> None:
    def which(*there: str) -> Callable[[str], str | None]:
        return lambda name: f"/usr/bin/{name}" if name in there else None

    assert missing_for_build(None, which=which("g++"), root=tmp_path) == []
    assert [each.what for each in missing_for_build(None, which=which(), root=tmp_path)] == ["a C++ compiler"]
    (nvcc,) = missing_for_build("cuda", which=which("c++"), root=tmp_path)
    assert "nvidia-jetpack" in nvcc.hint
    (tmp_path / "usr/local/cuda/bin").mkdir(parents=True)
    (tmp_path / "usr/local/cuda/bin/nvcc").touch()
    (nvcc,) = missing_for_build("cuda", which=which("c++"), root=tmp_path)
    assert "export PATH=/usr/local/cuda/bin:$PATH" in nvcc.hint
    (cublas,) = missing_for_build("cuda", which=which("c++", "nvcc"), root=tmp_path)
    assert cublas.what == "cuBLAS of the CUDA toolkit"
    assert "libcublas-dev" in cublas.hint
    for place in ("usr/include", "usr/local/cuda-12.6/targets/aarch64-linux/include"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "cublas_v2.h").touch()
        assert missing_for_build("cuda", which=which("c++", "nvcc"), root=tmp_path) == []
        (tmp_path / place / "cublas_v2.h").unlink()
    assert len(missing_for_build("vulkan", which=which("c++"), root=tmp_path)) == 3
    for folder in ("vulkan", "spirv"):
        (tmp_path / "usr/include" / folder).mkdir(parents=True)
    (tmp_path / "usr/include/vulkan/vulkan.h").touch()
    assert missing_for_build("vulkan", which=which("c++", "glslc"), root=tmp_path) == []


def test_progress_says_files_and_the_time_that_is_left() -> None:
    said: list[str] = []
    lines = ["  cmake talks\n", *(f"  [{number}/140] Building CXX object {number}.o\n" for number in range(1, 141))]
    time_s = iter(range(0, 10_000, 2))
    passed = list(progress(iter(lines), say=said.append, clock_s=lambda: float(next(time_s))))
    assert passed == lines
    assert said[0] == "1 of 140 files compiled"
    assert said[2] == "7 of 140 files compiled, about 4 min left"
    assert said[-1] == "140 of 140 files compiled"
    assert len(said) < 60


def test_the_name_of_a_kept_wheel_s_folder_is_its_flags_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wheels that the Makefile of 0.1.0 kept are found again, which named them by cksum of the flags."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    args = "-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DGGML_RPC=ON"
    folder = wheel_folder(args)
    assert folder.parent == tmp_path / "edgetop-wheels"
    assert folder.name.endswith("-2476331544")
    assert kept_wheel(args) is None
    folder.mkdir(parents=True)
    wheel = folder / "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    wheel.touch()
    assert kept_wheel(args) is None, "it was not finished"
    (folder / "done").touch()
    assert kept_wheel(args) == wheel


def test_a_build_that_fails_says_why_and_keeps_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho '[1/3] Building a.o'\necho 'CMake Error at CMakeLists.txt:7 (find_package):'\n"
        "echo '  Could not find Vulkan'\necho 'error: subprocess-exited-with-error'\nexit 1\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    said: list[str] = []
    with pytest.raises(
        BuildError, match=r"CMake Error at CMakeLists.txt:7 \(find_package\): Could not find Vulkan"
    ) as failed:
        build_wheel("-DGGML_VULKAN=ON", say=said.append)
    assert "1 of 3 files compiled" in said
    log = Path(failed.value.hint.rpartition(" in ")[2])
    assert "Could not find Vulkan" in log.read_text()
    assert kept_wheel("-DGGML_VULKAN=ON") is None
    assert os.environ.get("CMAKE_ARGS", "") != "-DGGML_VULKAN=ON"


def test_drivers_for_gpus_are_found_and_lavapipe_is_none(tmp_path: Path) -> None:
    assert possible_backends(has_nvidia=False, root=tmp_path) == ()
    icd = tmp_path / "usr/share/vulkan/icd.d"
    icd.mkdir(parents=True)
    (icd / "lvp_icd.x86_64.json").touch()
    assert possible_backends(has_nvidia=True, root=tmp_path) == ("cuda",)
    (icd / "broadcom_icd.aarch64.json").touch()
    assert possible_backends(has_nvidia=False, root=tmp_path) == (), "packages bring drivers where there is no GPU"
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/dri/renderD128").touch()
    assert possible_backends(has_nvidia=False, root=tmp_path) == ("vulkan",)


def test_an_engine_that_was_passed_over_is_named() -> None:
    info = EngineInfo(
        name="llama.cpp", system_info="CPU : NEON = 1", refused=("LLAMA_CPP_LIB_PATH: /x has no libllama",)
    )
    advice = engine_advice(info, "x86_64", has_nvidia=False)
    assert [each.what for each in advice] == ["an engine is not used: LLAMA_CPP_LIB_PATH: /x has no libllama"]

"""Verb engine."""

from __future__ import annotations

import argparse
import sys
import time

from edgetop.commands.output import table, write_data, write_json
from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.inference.llama.build import (
    GpuBackend,
    Missing,
    build_wheel,
    cmake_args_here,
    install_wheel,
    kept_wheel,
    missing_for_build,
)
from edgetop.inference.llama.library import (
    ENGINE_VARIABLE,
    EngineFiles,
    LibraryError,
    chosen_engine,
    cpu_flags,
    engines,
    environment_folder,
    examine,
    gpu_backends,
    portable_folder,
)
from edgetop.inference.llama.portable import (
    Say,
    elapsed_lines,
    install_portable,
    machine_name,
    no_engine_hint,
)
from edgetop.settings.resolve import Settings


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show the engines, install the portable one or build one. Returns 1 when there is none that can be used."""
    del settings
    say = elapsed_lines(sys.stderr.write, time.monotonic())
    if arguments.action == "install":
        return _install(arguments, say)
    if arguments.action == "build":
        backend: GpuBackend | None = "cuda" if arguments.cuda else "vulkan" if arguments.vulkan else None
        return _build(backend, say)
    return _show(as_json=arguments.show_json or bool(getattr(arguments, "json", False)))


def _show(*, as_json: bool) -> int:
    found = [(files, examine(files)) for files in engines()]
    used = next((files for files, problem in found if not problem), None)
    if as_json:
        write_json(
            {
                "choice": chosen_engine(),
                "engines": [
                    {
                        "kind": files.kind,
                        "build": files.build,
                        "folder": str(files.libraries),
                        "gpu_backends": list(gpu_backends(files)),
                        "used": files is used,
                        "problem": problem,
                    }
                    for files, problem in found
                ],
            }
        )
        return 0 if used else 1
    rows = [_row(files, problem, used=files is used) for files, problem in found]
    write_data(table([["", "ENGINE", "BUILD", "WHERE"], *rows]) if rows else "There is no engine.\n")
    if used is None:
        write_data(
            f"{no_engine_hint()}\n`edgetop engine build` builds one for this CPU; that takes minutes and a compiler\n"
        )
        return 1
    return 0


def _row(files: EngineFiles, problem: str, *, used: bool) -> list[str]:
    backends = ", ".join(("CPU", *gpu_backends(files)))
    state = "used" if used else "no" if problem else ""
    return [state, files.kind, one_line(problem or f"{files.build}; {backends}"), str(files.libraries)]


def _usable() -> EngineFiles | None:
    return next((files for files in engines() if not examine(files)), None)


def _install(arguments: argparse.Namespace, say: Say) -> int:
    there = None if arguments.again else _usable()
    if there is None:
        wheel = None if arguments.again else kept_wheel(cmake_args_here())
        if wheel is not None:
            install_wheel(wheel, say=say)
        else:
            install_portable(say=say, index=arguments.index or "")
        there = _usable()
    if there is None:
        raise EdgetopError(
            "what was installed is not used", f"is {ENGINE_VARIABLE} set? `edgetop engine show` says more"
        )
    if arguments.here and there.kind == "portable" and there.bindings.parent == portable_folder():
        link = environment_folder()
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink() or not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(portable_folder())
    write_data(f"{there.kind} engine: {there.build}\n")
    if there.kind == "portable":
        write_data(f"{_about_native()}\n")
    return 0


def _about_native() -> str:
    """What a build for this processor would bring; its speed only where that was measured.

    One thread of an x86-64 processor with AVX2 takes 20 ms of processor time per token of SmolLM2-135M Q4_1 with the
    build, and 18 to 21 ms with the portable engines (`python -m benchmarks.engine_speed`).
    """
    measured = machine_name() == "x86_64" and "avx2" in cpu_flags()
    speed = ": as fast here, with RPC" if measured else ""
    return f"portable engine; `make native` or `edgetop engine build` builds the one for this CPU{speed}"


def _build(backend: GpuBackend | None, say: Say) -> int:
    missing = missing_for_build(backend)
    if missing:
        _refuse(missing)
    args = cmake_args_here(backend)
    say(f"CMAKE_ARGS: {args}")
    wheel = kept_wheel(args) or build_wheel(args, say=say)
    install_wheel(wheel, say=say)
    used = _usable()
    write_data(f"{used.kind} engine: {used.build}\n" if used else "nothing is used\n")
    return 0


def _refuse(missing: list[Missing]) -> None:
    try:
        kept = engines()[0].kind
        stays = f"; the {kept} engine stays"
    except (IndexError, LibraryError):
        stays = ""
    what = " and ".join(each.what for each in missing)
    raise EdgetopError(f"a build needs {what}{stays}", "; ".join(dict.fromkeys(each.hint for each in missing)))

"""What `edgetop doctor` finds out about this machine."""

from __future__ import annotations

import os
import platform
import select
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from edgetop.commands.power_findings import PowerFindings, examine_power
from edgetop.core.engine import EngineInfo
from edgetop.core.records import Missing, SourceInfo
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import Hello
from edgetop.telemetry.power_choice import NO_POWER, PowerChoice
from edgetop.telemetry.registry import Inventory, probes_of, take_inventory
from edgetop.telemetry.source import Host
from edgetop.tui.glyphs import GlyphLevel, detect_level, without_coerced_locale

ENGINE_START_S = 20.0
"""The library is read from a slow card at most this long."""
SMALLEST_SCREEN = (60, 16)
"""Columns and lines below which only a status line and the chat are shown."""
_NOT_GPUS = ("CPU", "BLAS", "ACCEL")


class Advice(Struct, frozen=True):
    """Something that could be better, and how."""

    what: str
    mend: str


class EngineFindings(Struct, frozen=True, kw_only=True):
    """The engine library, as its worker process reports it."""

    info: EngineInfo | None = None
    problem: str = ""
    """Why there is none, in one line."""
    gpus: tuple[str, ...] = ()
    """Devices that layers can be offloaded to."""
    advice: tuple[Advice, ...] = ()


class SensorFindings(Struct, frozen=True, kw_only=True):
    """What can be read here, and what not."""

    sources: tuple[SourceInfo, ...]
    absent: dict[str, Missing]
    power: PowerFindings
    """Of the same sources and absences those of power, with readings."""


class TerminalFindings(Struct, frozen=True, kw_only=True):
    """The terminal as edgetop sees it."""

    is_terminal: bool
    columns: int
    lines: int
    term: str
    colors: str
    utf8: bool
    glyphs: GlyphLevel
    over_ssh: bool
    advice: tuple[Advice, ...] = ()


def examine_engine(engine: str, sysroot: Path, *, has_nvidia: bool) -> EngineFindings:
    """Start a worker without a model and let it say what it is."""
    try:
        worker = EngineProcess.start(engine=engine, sysroot=sysroot)
    except OSError as error:
        return EngineFindings(problem=f"a worker process cannot be started: {error.strerror or error}")
    with worker:
        deadline_s = time.monotonic() + ENGINE_START_S
        while time.monotonic() < deadline_s:
            select.select([worker], [], [], 1.0)
            for report in worker.receive():
                if isinstance(report, Hello):
                    gpus = tuple(device for device in report.engine.devices if not device.startswith(_NOT_GPUS))
                    advice = tuple(engine_advice(report.engine, platform.machine(), has_nvidia=has_nvidia and not gpus))
                    return EngineFindings(info=report.engine, gpus=gpus, advice=advice)
            death = worker.death()
            if death is not None:
                return EngineFindings(problem=death.what, advice=(Advice("the engine does not start", death.mend),))
    return EngineFindings(problem=f"the engine does not answer within {ENGINE_START_S:.0f} s")


def engine_advice(info: EngineInfo, machine: str, *, has_nvidia: bool) -> list[Advice]:
    """Say how the library could be built better for this machine (`platform.machine`)."""
    flags = info.system_info.replace(" ", "")
    advice = []
    if "AMX_INT8=1" in flags:
        advice.append(
            Advice(
                "this llama.cpp was built with AMX, which crashes in the first decode when GCC 12 or older built it; "
                "edgetop then goes on without AMX and repacked weights",
                reinstall("-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"),
            )
        )
    if machine in {"aarch64", "arm64"} and sys.platform == "linux" and "DOTPROD=1" not in flags:
        advice.append(
            Advice(
                "this llama.cpp was built without dot-product instructions, which make it several times as fast on "
                "Cortex-A55, A76, A78 and newer",
                reinstall("-DLLAVA_BUILD=OFF"),
            )
        )
    if has_nvidia:
        advice.append(Advice("there is an NVIDIA GPU that this llama.cpp cannot use", reinstall("-DGGML_CUDA=ON")))
    return advice


def reinstall(cmake_args: str) -> str:
    """Say how to build llama.cpp anew. pip's cache does not know of CMAKE_ARGS, so it must not be asked."""
    return f"CMAKE_ARGS='{cmake_args}' pip install --force-reinstall --no-deps --no-cache-dir llama-cpp-python"


def rpc_build(machine: str) -> str:
    """Say how to build llama.cpp with RPC on a machine (`platform.machine`)."""
    native = "-DGGML_NATIVE=OFF " if machine in {"x86_64", "amd64"} else ""
    return reinstall(f"-DGGML_RPC=ON {native}-DLLAVA_BUILD=OFF")


def find_sensors(sysroot: Path, power: PowerChoice) -> Inventory:
    """Probe every kind of sensor once, as a live session would."""
    return take_inventory(Host(sysroot=sysroot), [*power.probes, *probes_of(power=power.name != NO_POWER)])


def examine_sensors(sysroot: Path, power: PowerChoice) -> SensorFindings:
    """Find all sensors, and read those of power for a moment."""
    inventory = find_sensors(sysroot, power)
    return SensorFindings(
        sources=tuple(source.info for source in inventory.sources),
        absent={absent.name: absent.missing for absent in inventory.absent},
        power=examine_power(inventory, power),
    )


def examine_terminal(environment: Mapping[str, str] = os.environ) -> TerminalFindings:
    """Look at size, colours and characters."""
    columns, lines = shutil.get_terminal_size()
    locale = next((environment[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "")
    utf8 = "utf8" in locale.lower().replace("-", "")
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    advice = []
    if not utf8:
        advice.append(Advice("the locale is not UTF-8, so the screen is drawn with ASCII", "export LC_ALL=C.UTF-8"))
    if is_terminal and (columns < SMALLEST_SCREEN[0] or lines < SMALLEST_SCREEN[1]):
        advice.append(Advice("the terminal is too small for the panes", "make it 80x24 or larger"))
    return TerminalFindings(
        is_terminal=is_terminal,
        columns=columns,
        lines=lines,
        term=environment.get("TERM", ""),
        colors=color_depth(environment),
        utf8=utf8,
        glyphs=detect_level(without_coerced_locale(environment)),
        over_ssh=bool(environment.get("SSH_CONNECTION") or environment.get("SSH_TTY")),
        advice=tuple(advice),
    )


def color_depth(environment: Mapping[str, str]) -> str:
    """Say how many colours the environment promises."""
    term = environment.get("TERM", "dumb")
    if environment.get("NO_COLOR"):
        return "none (NO_COLOR)"
    if environment.get("COLORTERM", "").lower() in {"truecolor", "24bit"}:
        return "16 million"
    if term in {"dumb", ""}:
        return "none"
    return "256" if "256color" in term else "16"

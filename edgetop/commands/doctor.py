"""`edgetop doctor`: sensors, engine, terminal; what works, what not, and how to mend it."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from edgetop import __version__
from edgetop.commands.console import write_data
from edgetop.commands.conversing import live_options, power_choice
from edgetop.commands.diagnosis import (
    Advice,
    EngineFindings,
    SensorFindings,
    TerminalFindings,
    examine_engine,
    examine_sensors,
    examine_terminal,
    rpc_build,
)
from edgetop.commands.listing import table, write_json
from edgetop.commands.power_findings import PowerFindings, absent_rows, headline_rows, is_of_power, source_rows
from edgetop.commands.server_choice import server_choice
from edgetop.commands.server_models import survey_rows
from edgetop.commands.settings_listing import settings_by_name, settings_rows
from edgetop.commands.storage import open_store
from edgetop.core.records import Missing
from edgetop.fit.machine_profile import machine_key
from edgetop.inference.catalog import find_models
from edgetop.inference.server.survey import survey
from edgetop.live.tuned import TunedError, TunedModel, load_tuned, tuned_file
from edgetop.settings import options
from edgetop.settings.resolve import Settings, default_config_file
from edgetop.telemetry.device import describe
from edgetop.telemetry.source import Host

CHANNELS_SHOWN = 4
RPC_THERE = "yes: --rpc HOST:PORT,... gives layers to ggml-rpc-server on other machines, on networks that you trust"


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Examine everything and print it. Returns 1 when the engine does not work."""
    sysroot = settings[options.SYSROOT]
    sensors = examine_sensors(sysroot, power_choice(settings))
    has_nvidia = any("nvml" in source.driver.lower() for source in sensors.sources)
    engine = examine_engine(live_options(settings).engine_name, sysroot, has_nvidia=has_nvidia)
    choice = server_choice(settings)
    server = None if choice is None else survey(choice)
    terminal = examine_terminal()
    folders = _folders(settings)
    tuned = _tuned(settings)
    if arguments.json:
        write_json(
            {
                "edgetop_version": __version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "engine": engine,
                **({} if server is None else {"server": server}),
                "sensors": sensors,
                "terminal": terminal,
                "settings": settings_by_name(settings),
                "tuned": tuned,
                "folders": dict(folders),
            }
        )
    else:
        write_data(f"edgetop {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
        _print("engine", _engine_rows(engine) if server is None else survey_rows(server))
        _print("sensors", _sensor_rows(sensors))
        _print("power", _power_rows(sensors.power))
        _print("terminal", _terminal_rows(terminal))
        _print("settings", [["", *row] for row in settings_rows(settings)])
        _print("tuned", _tuned_rows(tuned))
        _print("folders", [["", name, text] for name, text in folders])
    if server is not None:
        return 1 if server.problem else 0
    return 0 if engine.info is not None else 1


def _print(title: str, rows: Sequence[Sequence[str]]) -> None:
    write_data(f"\n{title}\n")
    if rows:
        write_data(table(rows))


def _engine_rows(found: EngineFindings) -> list[list[str]]:
    rows = []
    if found.info is None:
        rows.append(["no", "library", found.problem])
    else:
        rows += [
            ["ok", "library", f"{found.info.name} {found.info.version}"],
            ["", "built for", found.info.system_info],
            ["", "devices", ", ".join(found.info.devices) or "CPU"],
            ["", "GPU offload", ", ".join(found.gpus) or "no: this build has no GPU backend, or finds no GPU"],
            ["", "RPC", RPC_THERE if found.info.rpc else f"no: {rpc_build(platform.machine())}"],
        ]
    return rows + _advice_rows(found.advice)


def _sensor_rows(found: SensorFindings) -> list[list[str]]:
    of_power = {source.name for source in found.power.sources}
    rows = []
    for source in found.sources:
        if source.name in of_power:
            continue
        names = [channel.label or channel.name for channel in source.channels]
        more = f" and {len(names) - CHANNELS_SHOWN} more" if len(names) > CHANNELS_SHOWN else ""
        shown = ", ".join(names[:CHANNELS_SHOWN])
        rows.append(["ok", source.name, f"{shown}{more}; every {source.period_s:g} s, {source.driver} {source.path}"])
    return rows + absent_rows({name: missing for name, missing in found.absent.items() if not is_of_power(name)})


def _power_rows(found: PowerFindings) -> list[list[str]]:
    rows = [row for source in found.sources for row in source_rows(source)]
    return [*rows, *absent_rows(found.absent), *headline_rows(found)]


def _terminal_rows(found: TerminalFindings) -> list[list[str]]:
    return [
        ["ok" if found.is_terminal else "no", "terminal", found.term or "TERM is not set"],
        ["", "size", f"{found.columns}x{found.lines}"],
        ["", "colours", found.colors],
        ["ok" if found.utf8 else "no", "UTF-8", "yes" if found.utf8 else "no"],
        ["", "glyphs", found.glyphs],
        ["", "over SSH", "yes" if found.over_ssh else "no"],
        *_advice_rows(found.advice),
    ]


def _folders(settings: Settings) -> list[tuple[str, str]]:
    config = settings.config_file
    sessions = open_store(settings).folder
    return [
        ("configuration", str(config) if config is not None else f"{default_config_file()} (there is none)"),
        ("sessions", f"{sessions}{_writable(sessions)}"),
        ("models", f"{len(find_models(settings[options.MODEL_DIR]))} found; `edgetop models` lists them"),
    ]


def _tuned(settings: Settings) -> list[TunedModel] | Missing:
    """Defaults of the models that were tuned on this machine; they hold where a setting is the default."""
    machine = machine_key(describe(Host(sysroot=settings[options.SYSROOT])))
    try:
        known = load_tuned(tuned_file(open_store(settings).folder))
    except TunedError as error:
        return Missing(error.what, error.mend)
    return [each for each in known if each.machine == machine]


def _tuned_rows(found: list[TunedModel] | Missing) -> list[list[str]]:
    if isinstance(found, Missing):
        return absent_rows({"defaults": found})
    rows = [["ok", each.label, f"{each.words} ({each.tuned_at[:10]})"] for each in found]
    return rows or [["", "none", "`edgetop tune MODEL` finds the best settings of a model here"]]


def _writable(folder: Path) -> str:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return "" if os.access(existing, os.W_OK) else " (cannot be written; choose another with --data-dir)"


def _advice_rows(advice: Sequence[Advice]) -> list[list[str]]:
    return [row for each in advice for row in (["!", "", each.what], ["", "", f"-> {each.mend}"])]

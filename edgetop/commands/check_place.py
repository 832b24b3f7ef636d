"""Where `edgetop check` thinks of a model as running: on this machine, or on a device of the table."""

from __future__ import annotations

import argparse
from pathlib import Path

from msgspec.structs import replace

from edgetop.commands.console import say_trouble
from edgetop.core.energy.supply import Price
from edgetop.core.errors import UsageError
from edgetop.fit.assessment import Place
from edgetop.fit.memory_room import MemoryRoom
from edgetop.fit.reading_speed import Reader
from edgetop.fit.verdict import Thresholds
from edgetop.session.folder import data_folder
from edgetop.settings import options
from edgetop.settings.resolve import Settings

SYSTEM_SHARE = 0.15
"""Of a device's memory that its system and its desktop take before a model comes: 0.5 to 1.2 GB of 8 GB boards."""


def place_of(arguments: argparse.Namespace, settings: Settings) -> Place:
    """The place that is meant. Raises UsageError for a device or a power mode that is not in the table."""
    if arguments.device is None and arguments.power_mode is not None:
        raise UsageError("--power-mode is one of a device of the table", "name the device with --device, too")
    if arguments.device is None:
        return _judged(_own(arguments, settings), settings)
    return _judged(_device(arguments.device, arguments.power_mode), settings)


def other_modes(arguments: argparse.Namespace, settings: Settings) -> dict[str, Place]:
    """The other power modes of the device that was named, by name; none of this machine, which has one at a time."""
    if arguments.device is None:
        return {}
    from edgetop.fit.devices import default_file, find_device, load_devices, mode_of  # noqa: PLC0415 - see below

    device = find_device(load_devices(default_file()), arguments.device)
    names = [name for name in device.modes if name != mode_of(device, arguments.power_mode)]
    return {name: _judged(_device(arguments.device, name), settings) for name in names}


def _judged(place: Place, settings: Settings) -> Place:
    """The place with the thresholds and the price that the settings have."""
    per_kwh = settings[options.PRICE_PER_KWH]
    return replace(
        place,
        thresholds=Thresholds(
            margin_share=settings[options.MEMORY_MARGIN] / 100,
            reader=Reader(
                words_per_minute=settings[options.WORDS_PER_MINUTE], tokens_per_word=settings[options.TOKENS_PER_WORD]
            ),
        ),
        price=None if per_kwh is None else Price(per_kwh=per_kwh, currency=settings[options.CURRENCY]),
    )


def sessions_folder(settings: Settings) -> Path:
    """The folder of recorded sessions, which need not be there."""
    chosen = settings[options.DATA_DIR]
    return data_folder({"EDGETOP_DATA_DIR": str(chosen)} if chosen is not None else {})


def _own(arguments: argparse.Namespace, settings: Settings) -> Place:
    from edgetop.live.own_machine import Probe, own_place  # noqa: PLC0415 - a device of the table needs none of it
    from edgetop.telemetry.source import Host  # noqa: PLC0415 - the same

    probe: Probe = "never" if arguments.no_probe else "always" if arguments.force_probe else "once"
    return own_place(Host(sysroot=settings[options.SYSROOT]), sessions_folder(settings), probe=probe, tell=say_trouble)


def _device(name: str, power_mode: str | None) -> Place:
    from edgetop.fit.devices import default_file, find_device, load_devices, machine_of  # noqa: PLC0415 - own machine needs none

    machine = machine_of(find_device(load_devices(default_file()), name), power_mode)
    memory_bytes = machine.memory_bytes
    room = None
    if memory_bytes is not None:
        room = MemoryRoom(
            available_bytes=round(memory_bytes * (1 - SYSTEM_SHARE)),
            limit="MemAvailable",
            total_bytes=memory_bytes,
            notes=(f"{100 * SYSTEM_SHARE:.0f} % of its memory is taken to be in use by the system.",),
        )
    return Place(machine=machine, threads=machine.cores or 1, room=room)

"""`edgetop check --device list`: the devices of the table."""

from __future__ import annotations

from typing import Any

from edgetop.commands.listing import write_rows
from edgetop.fit.devices import Device, default_file, load_devices

SHOWN = {"Name": "NAME", "Title": "DEVICE", "Memory": "MEMORY", "Modes": "POWER MODES", "Sources": "SOURCES"}


def show_devices(chosen: str | None) -> int:
    """Print one row for each device, those of the user's own file among them."""
    write_rows([_row(device) for device in load_devices(default_file()).values()], chosen, SHOWN)
    return 0


def _row(device: Device) -> dict[str, Any]:
    modes = list(device.modes)
    sizes = [f"{size:g}" for size in device.memory_gb]
    return {
        "name": device.name,
        "title": device.title,
        "memory_gb": "/".join(sizes),
        "power_modes": "/".join(modes),
        "default_power_mode": device.default_mode,
        "sources": "; ".join(dict.fromkeys(device.sources.values())),
        "note": device.note or None,
        "Name": device.name,
        "Title": device.title,
        "Memory": f"{'/'.join(sizes)} GB" if sizes else "",
        "Modes": ", ".join(modes) if len(modes) > 1 else "",
        "Sources": "; ".join(dict.fromkeys(device.sources.values())),
    }

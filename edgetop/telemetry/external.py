"""Machines without a power sensor that can be read: why, and which meters outside of them help."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from edgetop.core.records import Missing
from edgetop.telemetry.source import Absent, Host, Source
from edgetop.telemetry.surroundings import container, device_tree_compatible, is_virtual_machine

SOURCE_NAME = "power"

OUTSIDE_METERS = (
    "use an outside meter: --power shelly:HOST (tasmota:, kasa:), a POWER-Z on USB, an INA chip on I2C, "
    "or --power-exec CMD"
)

_BOARDS = {
    "rockchip,rk3588": "RK3588",
    "rockchip,rk3588s": "RK3588S",
    "qcom,x1e80100": "Snapdragon X",
    "qcom,x1e78100": "Snapdragon X",
    "qcom,x1p42100": "Snapdragon X",
}
"""Processors on whose boards no current sensor was found, by what the device tree calls them."""


def probe(host: Host, *, system: str = sys.platform) -> Iterator[Source | Absent]:
    """Yield one Absent where it is known that there is nothing to read; never a source."""
    missing = _known_lack(host, system)
    if missing is not None:
        yield Absent(name=SOURCE_NAME, missing=missing)


def _known_lack(host: Host, system: str) -> Missing | None:
    if system == "darwin":
        return Missing("macOS shows its power sensors to private interfaces only", OUTSIDE_METERS)
    if is_virtual_machine(host):
        return Missing("virtual machine: power sensors stay with the host", f"measure on the host, or {OUTSIDE_METERS}")
    for name in device_tree_compatible(host):
        if name in _BOARDS:
            return Missing(f"{_BOARDS[name]} boards have no current sensor", OUTSIDE_METERS)
    inside = container(host)
    if inside:
        return Missing(
            f"{inside} may hide the power sensors of its host", f"run edgetop on the host, or {OUTSIDE_METERS}"
        )
    return None

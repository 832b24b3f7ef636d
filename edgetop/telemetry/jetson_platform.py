"""What a Jetson says of itself: power mode and L4T version. Works without root and without NVIDIA's tools."""

from __future__ import annotations

import re

from edgetop.telemetry.source import Host

_STATUS = "/var/lib/nvpmodel/status"
_MODES = "/etc/nvpmodel.conf"
_RELEASE = "/etc/nv_tegra_release"
_STATUS_MODE = re.compile(r"\bpmode:(\d{1,4})\b")
_MODE = re.compile(r"^\s*<\s*POWER_MODEL\s+ID=(\d{1,4})\s+NAME=(\w{1,40})\s*>", re.MULTILINE)
_DEFAULT = re.compile(r"^\s*<\s*PM_CONFIG\s+DEFAULT=(\d{1,4})\s*>", re.MULTILINE)
_VERSION = re.compile(r"^#\s*R(\d{1,3})\s*\(release\),\s*REVISION:\s*(\d{1,3}(?:\.\d{1,3}){0,2})", re.MULTILINE)
_SIZE_MAX = 1 << 20


def power_mode(host: Host) -> str:
    """Name of the power mode last set, such as `MAXN_SUPER` or `15W`; `mode 2` when only its number is known.

    Before any mode was set it is the default one. Empty on a machine without power modes. After some failures at boot
    the clocks do not follow the mode; this is what was asked for.
    """
    status = _STATUS_MODE.search(_text(host, _STATUS))
    modes = _text(host, _MODES)
    chosen = status or _DEFAULT.search(modes)
    if chosen is None:
        return ""
    mode = int(chosen.group(1))
    names: dict[int, str] = {int(number): name for number, name in _MODE.findall(modes)}
    return names.get(mode, f"mode {mode}")


def l4t_version(host: Host) -> str:
    """Version of Jetson Linux, such as `36.4.3`; empty on other machines."""
    release = _VERSION.search(_text(host, _RELEASE))
    return ".".join(release.groups()) if release else ""


def _text(host: Host, path: str) -> str:
    try:
        with host.path(path).open("rb") as file:
            return file.read(_SIZE_MAX).decode("utf-8", "replace")
    except OSError:
        return ""

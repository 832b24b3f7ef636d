"""Load and memory of GPUs that are not NVIDIA's, as the kernel's graphics drivers show them.

amdgpu shows the load and the memory of a whole GPU (Documentation/gpu/amdgpu/driver-misc.rst). Others (i915, xe,
panfrost, panthor, v3d, msm) show only what each process has had of it, in the `fdinfo` of its open devices
(Documentation/gpu/drm-usage-stats.rst): there the load is that of the engine alone. What a driver does not show is not
there, and never zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.telemetry.host import FILE_BYTES, Host, SysfsFile, text_of, why
from edgetop.telemetry.source import RuntimePower, Source, UnavailableSource, Values

PERIOD_S = 1.0
FIRST_READING = Unavailable("a load needs two readings")

NOT_USED = Unavailable("the engine does not use it")

_CARD = re.compile(r"card\d{1,3}")

_NS_PER_US = 1000

_BYTES = {"": 1, "KiB": 2**10, "MiB": 2**20}


class CardGauges:
    """One card whose driver shows its load, its memory, or both; values are missing while it sleeps."""

    blocking = False
    reads_at_end = True

    def __init__(self, card: Path, driver: str, host: Host) -> None:
        device = card / "device"
        self._power = RuntimePower(device, host)
        files = {
            ("use", "%"): device / "gpu_busy_percent",
            ("memory_used", "B"): device / "mem_info_vram_used",
            ("memory_total", "B"): device / "mem_info_vram_total",
        }
        found = {what: path for what, path in files.items() if path.exists()}
        self._files = [SysfsFile(path) for path in found.values()]
        self.info = SourceInfo(
            name=f"gpu.{card.name}",
            driver=driver,
            path=str(card),
            period_s=PERIOD_S,
            channels=tuple(Channel(name=f"gpu.{card.name}.{name}", unit=unit) for name, unit in found),
        )

    def read(self) -> Values:
        """Per cent and bytes."""
        asleep = self._power.why_not()
        if asleep is not None:
            return (asleep,) * len(self._files)
        return tuple(_number(file) for file in self._files)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
        self._power.close()


class EngineGpuUse:
    """What the engine's process has of a card: the share of time that its busiest part worked for it, and memory."""

    blocking = False
    reads_at_end = True

    def __init__(self, card: str, driver: str, device: str, host: Host) -> None:
        """`device` is the card's address on its bus, as `fdinfo` has it; empty where the driver states none."""
        self._driver, self._device, self._host = driver, device, host
        self._before: tuple[int, int, dict[str, int]] | None = None
        """Process, time in us, and ns by part of the card."""
        self.info = SourceInfo(
            name=f"gpu.{card}",
            driver=f"{driver} fdinfo",
            period_s=PERIOD_S,
            channels=(
                Channel(name=f"gpu.{card}.engine_use", unit="%", label="by the engine"),
                Channel(name=f"gpu.{card}.memory_used", unit="B", label="of the engine"),
            ),
        )

    def read(self) -> Values:
        """Per cent and bytes."""
        pid = self._host.worker_pid()
        before, self._before = self._before, None
        if pid is None:
            return (self._host.no_worker(),) * 2
        now_us = self._host.clock()
        busy_ns, memory_bytes = self._use_of(pid)
        if not busy_ns:
            return (NOT_USED,) * 2
        self._before = (pid, now_us, busy_ns)
        memory: float | Unavailable = NOT_USED if memory_bytes is None else float(memory_bytes)
        if before is None or before[0] != pid or now_us <= before[1]:
            return (FIRST_READING, memory)
        span_ns = (now_us - before[1]) * _NS_PER_US
        shares = [100.0 * (ns - before[2].get(part, ns)) / span_ns for part, ns in busy_ns.items()]
        return (min(100.0, max(0.0, *shares, 0.0)), memory)

    def close(self) -> None:
        """Nothing is held open."""

    def _use_of(self, pid: int) -> tuple[dict[str, int], int | None]:
        """Of all clients of the process on this card: ns by part, and resident bytes where they are stated."""
        folder = self._host.path(f"/proc/{pid}/fdinfo")
        busy_ns: dict[str, int] = {}
        memory_bytes: int | None = None
        clients: set[str] = set()
        try:
            files = list(folder.iterdir())
        except OSError:
            return {}, None
        for file in files:
            fields = dict(line.split(":", 1) for line in text_of(file, FILE_BYTES).splitlines() if ":" in line)
            client = fields.get("drm-client-id", "").strip()
            is_ours = fields.get("drm-driver", "").strip() == self._driver
            device = fields.get("drm-pdev", "").strip()
            if not is_ours or not client or client in clients or (device and device != self._device):
                continue
            clients.add(client)
            for key, value in fields.items():
                number, _, unit = value.strip().partition(" ")
                if not number.isdecimal():
                    continue
                if key.startswith("drm-engine-") and unit == "ns":
                    busy_ns[key] = busy_ns.get(key, 0) + int(number)
                elif key.startswith("drm-resident-") and unit in _BYTES:
                    memory_bytes = (memory_bytes or 0) + int(number) * _BYTES[unit]
        return busy_ns, memory_bytes


def probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """The graphics cards of this machine but NVIDIA's."""
    for card in sorted(host.path("/sys/class/drm").glob("card*")):
        if not _CARD.fullmatch(card.name):
            continue
        driver = (card / "device" / "driver").resolve().name if (card / "device" / "driver").exists() else ""
        if (card / "device" / "gpu_busy_percent").exists() or (card / "device" / "mem_info_vram_total").exists():
            yield CardGauges(card, driver or "amdgpu", host)
        elif driver in ("i915", "xe", "panfrost", "panthor", "v3d", "msm_dpu", "msm"):
            yield EngineGpuUse(card.name, driver, (card / "device").resolve().name, host)


def _number(file: SysfsFile) -> float | Unavailable:
    try:
        return float(file.number())
    except (OSError, ValueError) as error:
        return why(error, file.path)

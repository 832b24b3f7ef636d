"""How much memory of NVIDIA GPUs each process holds."""

from __future__ import annotations

from collections.abc import Callable

from edgetop.core.records import Missing
from edgetop.telemetry.nvml import Nvml


class GpuProcesses:
    """The processes on all GPUs; the library is opened at the first question."""

    def __init__(self, connect: Callable[[], Nvml | Missing] = Nvml.open) -> None:
        self._connect = connect
        self._nvml: Nvml | Missing | None = None

    def bytes_by_pid(self) -> dict[int, int]:
        """Bytes of GPU memory by process; a process that NVML does not tell the memory of is left out."""
        if self._nvml is None:
            self._nvml = self._connect()
        nvml = self._nvml
        if isinstance(nvml, Missing):
            return {}
        held: dict[int, int] = {}
        for handle in nvml.handles:
            try:
                processes = nvml.library.nvmlDeviceGetComputeRunningProcesses(handle)
            except nvml.library.NVMLError:
                continue
            for process in processes:
                if process.usedGpuMemory is not None:
                    held[int(process.pid)] = held.get(int(process.pid), 0) + int(process.usedGpuMemory)
        return held

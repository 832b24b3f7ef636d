"""The host: paths below sysroot, held-open files, virtualization, container.

A family of sensors lives in one file and offers a probe: given the host, it yields the sources it can really read and,
for what it cannot, an `Absent` with the reason and the hint. A probe decides by capability (a plausible reading), never
by the mere presence of a file or a library.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, field

from edgetop.core.clock import Clock, monotonic_us
from edgetop.core.sources import Unavailable

NO_ENGINE = Unavailable("no model is running")


def _no_worker() -> int | None:
    return None


def _no_helpers() -> tuple[int, ...]:
    return ()


def _no_engine() -> Unavailable:
    return NO_ENGINE


class Host(Struct, frozen=True, kw_only=True):
    """The machine that sources read, as far as tests must be able to replace it."""

    sysroot: Path = Path("/")
    """`/sys` and `/proc` are read below this folder."""
    clock: Clock = monotonic_us
    worker_pid: Callable[[], int | None] = _no_worker
    """The process the model runs in; `None` while there is none. It changes when the engine is restarted."""
    helper_pids: Callable[[], tuple[int, ...]] = _no_helpers
    """Processes that work for that one, and hold a part of the model or all of it."""
    no_worker: Callable[[], Unavailable] = _no_engine
    """Why there is no process to be measured, while there is none."""
    own_pid: int = field(default_factory=os.getpid)
    system: str = sys.platform
    """`linux`, `darwin` and so on: which of the ways to read a quantity there is."""

    def path(self, absolute: str) -> Path:
        """`absolute`, such as `/sys/class/hwmon`, below the sysroot."""
        return self.sysroot / absolute.lstrip("/")


_SIZE_BYTES = 64
"""More than any number that sysfs prints."""


def open_file(path: Path) -> int:
    """Open for reading and return the descriptor. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class SysfsFile:
    """One attribute holding one short value.

    A read costs one `pread`, and one `fstat` that notices a file which was replaced while it was held open.
    """

    def __init__(self, path: Path, size_bytes: int = _SIZE_BYTES) -> None:
        """Nothing is opened before the first read, which takes at most `size_bytes`."""
        self.path = path
        self._size_bytes = size_bytes
        self._fd = -1

    def text(self) -> str:
        """Read the value, without the line end.

        Raises OSError when it cannot be read, not even after opening it anew.
        """
        return self._bytes().decode("ascii", "replace").strip()

    def number(self) -> int:
        """Read a whole number, in the file's own unit. Raises OSError, or ValueError when it is something else."""
        return int(self._bytes())

    def close(self) -> None:
        """Give the descriptor back; a later read opens the file again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _bytes(self) -> bytes:
        if self._fd >= 0:
            try:
                if os.fstat(self._fd).st_nlink:
                    return os.pread(self._fd, self._size_bytes, 0)
            except OSError:
                pass  # the device went away; it may have come back under the same path
            self.close()
        self._fd = open_file(self.path)
        try:
            return os.pread(self._fd, self._size_bytes, 0)
        except OSError:
            self.close()
            raise


def text_of(path: Path, size_bytes: int = _SIZE_BYTES) -> str:
    """Read a short attribute once; empty when it is not there or may not be read."""
    file = SysfsFile(path, size_bytes)
    try:
        return file.text()
    except OSError:
        return ""
    finally:
        file.close()


def number_of(path: Path) -> int | None:
    """Read a number once; `None` when it is not there, may not be read, or is none."""
    file = SysfsFile(path)
    try:
        return file.number()
    except (OSError, ValueError):
        return None
    finally:
        file.close()


def why(error: OSError | ValueError, path: Path, hint: str = "") -> Unavailable:
    """Say in one line why `path` gave no value. `hint` is what helps when permission is what lacks."""
    if isinstance(error, PermissionError):
        return Unavailable(f"{path} may not be read", hint or f"sudo chmod a+r {path}")
    if isinstance(error, OSError):
        return Unavailable(f"{path}: {(error.strerror or 'not readable').lower()}")
    return Unavailable(f"{path} holds no number")


_HYPERVISORS = (
    "qemu",
    "kvm",
    "vmware",
    "virtualbox",
    "innotek",
    "xen",
    "microsoft corporation virtual",
    "bochs",
    "parallels",
    "amazon ec2",
    "google compute",
    "openstack",
    "firecracker",
    "bhyve",
    "apple virtualization",
)
"""Beginnings and parts of what virtual machines write into their DMI tables."""

_CONTAINER_FILES = {"/.dockerenv": "Docker", "/run/.containerenv": "Podman"}

_CONTAINER_GROUPS = {"docker": "Docker", "kubepods": "Kubernetes", "containerd": "containerd", "lxc": "LXC"}


def cpu_vendor(host: Host) -> str:
    """`GenuineIntel`, `AuthenticAMD` or the like on x86; empty elsewhere."""
    return _cpuinfo_field(host, "vendor_id")


def is_virtual_machine(host: Host) -> bool:
    """Whether a hypervisor is below: the processor says so, or the DMI tables do."""
    if "hypervisor" in _cpuinfo_field(host, "flags").split():
        return True
    dmi = host.path("/sys/class/dmi/id")
    made_by = f"{text_of(dmi / 'sys_vendor')} {text_of(dmi / 'product_name')}".lower()
    return any(name in made_by for name in _HYPERVISORS)


def container(host: Host) -> str:
    """Return the kind of container this runs in, such as `Docker`; empty outside of one."""
    for path, kind in _CONTAINER_FILES.items():
        if host.path(path).exists():
            return kind
    groups = _text(host, "/proc/1/cgroup")
    return next((kind for word, kind in _CONTAINER_GROUPS.items() if word in groups), "")


def device_tree_compatible(host: Host) -> tuple[str, ...]:
    """List what the board calls itself, most specific first: `nvidia,p3768-0000+p3767-0005`, `nvidia,tegra234`."""
    return tuple(name for name in _text(host, "/proc/device-tree/compatible").split("\0") if name)


def _cpuinfo_field(host: Host, field: str) -> str:
    for line in _text(host, "/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return ""


def _text(host: Host, path: str) -> str:
    try:
        return host.path(path).read_bytes()[:65536].decode("utf-8", "replace")
    except OSError:
        return ""

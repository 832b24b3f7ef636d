"""The host: paths below sysroot, held-open files, virtualization, container."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, field

from edgetop.core.clock import Clock, monotonic_us
from edgetop.core.sources import Unavailable

NO_ENGINE = Unavailable("no model is running")

GENCMD_ANSWERS = "/run/edgetop/gencmd"
"""Below a sysroot that is the copy of another machine: its firmware's latest answers, by their command."""


class Host(Struct, frozen=True, kw_only=True):
    """The machine that sources read, as far as tests must be able to replace it."""

    sysroot: Path = Path("/")
    """`/sys` and `/proc` are read below this folder."""
    clock: Clock = monotonic_us
    worker_pid: Callable[[], int | None] = lambda: None
    """The process the model runs in; `None` while there is none. It changes when the engine is restarted."""
    helper_pids: Callable[[], tuple[int, ...]] = lambda: ()
    """Processes that work for that one, and hold a part of the model or all of it."""
    no_worker: Callable[[], Unavailable] = lambda: NO_ENGINE
    """Why there is no process to be measured, while there is none."""
    uses_gpu: Callable[[], bool | None] = lambda: None
    """Whether a GPU computes for us; `None` where that is not known. While none does, they are left to sleep."""
    own_pid: int = field(default_factory=os.getpid)
    user_id: int = field(default_factory=os.geteuid)
    """Whose processes are one's own: their settings may be read."""
    system: str = sys.platform
    """`linux`, `darwin` and so on: which of the ways to read a quantity there is."""

    def path(self, absolute: str) -> Path:
        """`absolute`, such as `/sys/class/hwmon`, below the sysroot."""
        return self.sysroot / absolute.lstrip("/")


FILE_BYTES, CPUINFO_BYTES = 4096, 1 << 20

_SIZE_BYTES = 64
"""More than any number that sysfs prints."""


def open_file(path: Path) -> int:
    """Open for reading and return the descriptor. Raises OSError. A pipe without a writer holds nobody up."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


class ReadingError(ValueError):
    """What a file holds is a number, and no reading: its text says why."""


class SysfsFile:
    """One attribute holding one short value.

    A read costs one `pread`, and one `fstat` that notices a file which was replaced while it was held open.
    """

    def __init__(self, path: Path, size_bytes: int = _SIZE_BYTES, *, reopens: bool = True) -> None:
        """Nothing is opened before the first read, which takes at most `size_bytes`.

        `reopens` says that whatever comes back under the same path is the same thing; the number of an hwmon chip may
        be another one's.
        """
        self.path = path
        self._size_bytes = size_bytes
        self._reopens = reopens
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
                return self._held_bytes()
            except OSError:
                if not self._reopens:
                    raise
            self.close()  # the device went away; it may have come back under the same path
        self._fd = open_file(self.path)
        try:
            return os.pread(self._fd, self._size_bytes, 0)
        except OSError:
            self.close()
            raise

    def _held_bytes(self) -> bytes:
        if not os.fstat(self._fd).st_nlink:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), str(self.path))
        return os.pread(self._fd, self._size_bytes, 0)


def text_of(path: Path, size_bytes: int = _SIZE_BYTES) -> str:
    """The beginning of a file, without blanks around it; empty when it is not there or may not be read."""
    try:
        with open(open_file(path), "rb") as file:
            return (file.read(size_bytes) or b"").decode("utf-8", "replace").strip()
    except OSError:
        return ""


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
    if isinstance(error, OSError) and error.errno == errno.EPERM:
        # Permission bits give EACCES; this is a driver's answer, such as amdgpu's for a device that sleeps.
        return Unavailable(f"{path}: not readable now, as while its device sleeps")
    if isinstance(error, PermissionError):
        return Unavailable(f"{path} may not be read", hint or f"sudo chmod a+r {path}")
    if isinstance(error, OSError):
        return Unavailable(f"{path}: {(error.strerror or 'not readable').lower()}")
    if isinstance(error, ReadingError):
        return Unavailable(str(error))
    return Unavailable(f"{path} holds no number")


_TRANSIENT = frozenset(
    {
        errno.EPERM, errno.ENODEV, errno.ENXIO, errno.ENODATA, errno.EAGAIN, errno.EBUSY, errno.EIO, errno.ETIMEDOUT,
        errno.EREMOTEIO, errno.EINTR,
    }
)  # fmt: skip


def is_transient(error: OSError | ValueError) -> bool:
    """Whether a reading that failed so may succeed later: the device sleeps, is busy, or is not ready yet."""
    return isinstance(error, OSError) and error.errno in _TRANSIENT


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

_CONTAINER_GROUPS = {
    "docker": "Docker", "podman": "Podman", "kubepods": "Kubernetes", "containerd": "containerd", "lxc": "LXC",
}  # fmt: skip
"""By a word in the name of the first process's control group, or in what started the container says of itself."""


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
    if host.path("/run/secrets/kubernetes.io").exists():
        return "Kubernetes"
    managed_by = text_of(host.path("/run/systemd/container"))
    groups = text_of(host.path("/proc/1/cgroup"), FILE_BYTES)
    said = f"{groups} {managed_by}"
    return next((kind for word, kind in _CONTAINER_GROUPS.items() if word in said), managed_by)


def device_tree_compatible(host: Host) -> tuple[str, ...]:
    """List what the board calls itself, most specific first: `nvidia,p3768-0000+p3767-0005`, `nvidia,tegra234`."""
    names = text_of(host.path("/proc/device-tree/compatible"), FILE_BYTES).split("\0")
    return tuple(name for name in names if name)


def board_model(host: Host) -> str:
    """What the board calls itself, such as `Raspberry Pi 5 Model B Rev 1.0`; empty where it has no name.

    Docker masks the device tree; a Raspberry Pi's name stands in /proc/cpuinfo as well.
    """
    tree = text_of(host.path("/proc/device-tree/model"), FILE_BYTES)
    text = tree or _cpuinfo_field(host, "Model")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:80]


def is_android(host: Host) -> bool:
    """Whether this is a phone or the like, where programs cannot become root."""
    return host.path("/system/build.prop").exists()


def _cpuinfo_field(host: Host, field: str) -> str:
    for line in text_of(host.path("/proc/cpuinfo"), CPUINFO_BYTES).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return ""

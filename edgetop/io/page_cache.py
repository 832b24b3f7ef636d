"""What of a file stands in the page cache: dropped before a cold load, read in before a warm one; the medium it is on.

Linux' own ways (proc_sys_vm(5), posix_fadvise(2), mincore(2), sysfs-block); elsewhere nothing can be dropped.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

_READ_BYTES = 4 * 2**20
GONE = 0.02
"""A file of which less is left in memory is cold; its header is read again by whoever looks at it."""


class ColdFile(Struct, frozen=True, kw_only=True):
    """How a file was made cold."""

    how: str
    """Such as `page cache dropped`."""
    left: float | None
    """Share of it that stayed in memory; `None` where that cannot be asked."""
    medium: str
    """What it is on, such as `NVMe (nvme0n1)`; empty where that is not known."""
    bytes_per_s: float | None
    """Rate at which it was read once from there, one part after the other."""


def make_cold(paths: list[Path], root: Path = Path("/")) -> ColdFile:
    """Read files from their medium once, and have them out of the page cache. Raises OSError.

    As root the whole page cache is dropped, else the files are given up with fadvise: what another process has mapped
    stays then.
    """
    how = _drop(paths, root)
    left = _share_cached(paths)
    rate = None
    if left is None or left <= GONE:
        begin_s, size = time.monotonic(), sum(map(read_in, paths))
        rate = size / max(time.monotonic() - begin_s, 1e-6)
        how = _drop(paths, root)
        left = _share_cached(paths)
    return ColdFile(how=how, left=left, medium=medium_of(paths[0], root), bytes_per_s=rate)


def read_in(path: Path) -> int:
    """Read a file once, so that it stands in the page cache; its size in bytes. Raises OSError."""
    size, buffer = 0, bytearray(_READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            size += count
    return size


def _drop(paths: list[Path], root: Path) -> str:
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Only pages that are on the medium can be given up.
            with suppress(OSError):
                os.fdatasync(fd)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    try:
        fd = os.open(root / "proc/sys/vm/drop_caches", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"1\n")
        finally:
            os.close(fd)
    except OSError:
        return "given up with fadvise" if hasattr(os, "posix_fadvise") else ""
    return "page cache dropped"


def _share_cached(paths: list[Path]) -> float | None:
    """Share of the files' pages that are in memory; `None` where the system does not tell."""
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except (OSError, AttributeError):
        return None
    pages = cached = 0
    for path in paths:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                continue
            # A private copy may be written to, which ctypes asks for; nothing is.
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
                count = -(-size // mmap.PAGESIZE)
                found = (ctypes.c_ubyte * count)()
                first = ctypes.c_char.from_buffer(mapped)
                failed = mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), found)
                del first
                if failed:
                    return None
                pages, cached = pages + count, cached + sum(each & 1 for each in found)
    return cached / pages if pages else None


def medium_of(path: Path, root: Path = Path("/"), *, device: int | None = None) -> str:
    """The kind of drive that a file is on, and its name; empty where that is not known."""
    number = path.stat().st_dev if device is None else device
    block = root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    if not block.exists():
        block = root / f"sys/dev/block/{_mounted(path, root) or 'unknown'}"
    try:
        drive = block.resolve(strict=True)
    except OSError:
        return ""
    # Encrypted and joined drives name those below them; a partition stands in the folder of its drive.
    while slaves := sorted(drive.glob("slaves/*")):
        drive = slaves[0].resolve()
    if (drive / "partition").exists():
        drive = drive.parent
    name, where = drive.name, str(drive)
    if name.startswith("mmcblk"):
        kind = {"SD": "SD card", "MMC": "eMMC"}.get(_text(drive / "device/type"), "SD card or eMMC")
    elif name.startswith("nvme"):
        kind = "NVMe"
    elif "/usb" in where:
        kind = "USB"
    elif name.startswith(("vd", "xvd")) or "virtio" in where:
        kind = "virtual drive"
    elif name.startswith(("zram", "ram", "loop")):
        kind = "memory" if "ram" in name else "loop"
    else:
        kind = "hard disk" if _text(drive / "queue/rotational") == "1" else "SATA SSD"
    return f"{kind} ({name})"


def _mounted(path: Path, root: Path) -> str:
    """Number of the drive of file systems that have numbers of their own, such as btrfs; from mountinfo."""
    best, found = -1, ""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        words, _, more = line.partition(" - ")
        parts, source = words.split(), more.split()[1:2]
        if len(parts) < 5 or not source or not source[0].startswith("/dev/"):
            continue
        if path.resolve().is_relative_to(parts[4]) and len(parts[4]) > best:
            with suppress(OSError):
                number = (root / source[0].lstrip("/")).stat().st_rdev
                best, found = len(parts[4]), f"{os.major(number)}:{os.minor(number)}"
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""

"""The host: paths below sysroot, held-open files, virtualization, container; a copy of another host's files.

Of a host that has nothing but a shell, what it has in /proc and /sys is copied below a folder here, which is then read
as a sysroot. The names of what may be read are asked for once; what changes is fetched with one `grep` each time, so
that the other host forks once for all of it. Model processes are looked for by their memory, and only of those that may
be some more is fetched. Graphics cards are left to sleep.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
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


RunCommand = Callable[[str], Iterable[str]]
"""Has the shell run a command, and gives the lines that it prints."""

_SYS = "/sys/devices/system/cpu"
_PATTERNS = (
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/uptime", "/proc/1/cgroup", "/proc/sys/kernel/osrelease",
    "/etc/os-release", "/run/systemd/container", "/.dockerenv", "/run/.containerenv",
    f"{_SYS}/cpu0/cpufreq/scaling_governor",
    f"{_SYS}/cpu[0-9]*/thermal_throttle/*_throttle_count", f"{_SYS}/cpu[0-9]*/topology/core_id",
    "/sys/class/thermal/thermal_zone*/type", "/sys/class/thermal/thermal_zone*/temp",
    "/sys/class/thermal/cooling_device*/type", "/sys/class/thermal/cooling_device*/cur_state",
    "/sys/class/powercap/*/name", "/sys/class/powercap/*/energy_uj", "/sys/class/powercap/*/max_energy_range_uj",
    "/sys/class/power_supply/*/*", "/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name",
    "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/*",
)  # fmt: skip
"""Regular files that the readers look for; the chips of hwmon come besides."""

_CHIP_FILES = "name *_label *_oem_info *_input *_average *_enable *_cap *_alarm *_event_cnt *_interval shunt* *_shunt*"

_MOVING = re.compile(
    r"/proc/meminfo|.*/(temp|cur_state|energy_uj|\w+_throttle_count|\w+_event_cnt"
    r"|(temp|in|curr|power|energy)\d+_(input|average|alarm|lcrit_alarm)|in_\w+_input"
    r"|(energy|charge|power|current|voltage)_now|status|capacity|online|present)"
)
_ASLEEP = ("amdgpu", "radeon", "nouveau", "i915", "xe")

LEAST_KB = 16_384
"""Memory that a process has which may hold a model or serve one: a server that has loaded none is that small."""

SCAN_EVERY = 5
PATH = re.compile(r"/[\w./:,@+=~-]{1,400}", re.ASCII)
"""What a file's path may be made of: nothing that means anything to a shell."""

FILES_MOST, PROCESSES_MOST, SOCKETS_MOST, COPIED_FILE_BYTES, COPIED_BYTES = 4096, 128, 4096, 2**20, 32 * 2**20
"""Files and processes that are copied, sockets of each, and bytes of a file and of all together."""

SHELL_SETUP = rf"""
LC_ALL=C; export LC_ALL
edgetop_names() {{ for f in "$@"; do [ -f "$f" ] && printf '%s\n' "$f"; done; }}
edgetop_chips() {{ for h in /sys/class/hwmon/hwmon*; do
  c=; [ -r "$h/device/power/control" ] && read -r c <"$h/device/power/control"
  n=; [ -r "$h/name" ] && read -r n <"$h/name"
  case "$c $n" in {"|".join(f'"auto {name}"' for name in _ASLEEP)}) continue;; esac
  d=; [ -r "$h/device/power1_average" ] && d="$h/device"
  for p in {" ".join(f"'{name}'" for name in _CHIP_FILES.split())}; do edgetop_names "$h"/$p ${{d:+"$d"/$p}}; done
done; }}
edgetop_files() {{ grep '' /dev/null "$@" </dev/null 2>/dev/null; }}
edgetop_words() {{ for f in "$@"; do
  [ -r "$f" ] && {{ printf '%s\t' "$f"; tr '\000\n' '\001 ' <"$f"; echo; }}
done 2>/dev/null; }}
edgetop_large() {{ cat /proc/[0-9]*/stat 2>/dev/null | awk -v least=$1 '
  {{ s = $0; sub(/.*\) /, "", s); split(s, f, " "); if (f[22] + 0 > least) print }}'; }}
edgetop_process() {{ for p in "$@"; do
  printf 'cmdline %s ' $p; tr '\000\n' '\001 ' <"/proc/$p/cmdline"; echo
  printf 'maps %s\n' $p; sed -n '1p;/\.gguf$/p;/\.safetensors$/p;/\.llamafile$/p;/blobs.sha256-/p' "/proc/$p/maps"
  printf 'status %s\n' $p; grep '^Uid' "/proc/$p/status"
  printf 'fd %s\n' $p; ls -l "/proc/$p/fd" | sed -n 's/.* \([0-9]*\) -> \(socket:\[[0-9]*\]\)$/\1 \2/p'
done 2>/dev/null; }}
"""
"""Functions of a POSIX shell. They write nothing but what they print."""

_FIRMWARE = ("get_throttled", "pmic_read_adc")
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""A machine that calls one path a file and a folder has its first word."""

_SOCKET = re.compile(r"(\d{1,9}) (socket:\[\d{1,20}\])", re.ASCII)


class RemoteFiles:
    """The copy. Filled by one thread; what is read of it is whole at any time."""

    def __init__(self, root: Path) -> None:
        """`root` is an empty folder; nothing outside it is written."""
        self.root = root
        self._moving: dict[str, None] = {}
        self._known: dict[str, bytes] = {}
        self._size_bytes = 0
        self._page_share = 1.0
        """Pages of the other machine in one of ours."""
        self._firmware = False
        self._seen: dict[str, str] = {}
        """When each large process began, by its number."""
        self._scans = 0

    def fetch_all(self, run: RunCommand) -> None:
        """Fetch everything once."""
        names = f"edgetop_names {' '.join(_PATTERNS)}; edgetop_chips"
        paths = [path for path in run(names) if PATH.fullmatch(path) and ".." not in path][:FILES_MOST]
        for path in run("ls -ld /sys/class/hwmon/hwmon*/device 2>/dev/null"):
            link, _, target = path.partition(" -> ")
            self._link("/" + link.partition(" /")[2], target.rpartition("/")[2])
        self._replace(self._answer(run, paths), paths)
        for path in paths:
            if path not in self._known:
                self._put(path, b"", readable=not _MOVING.fullmatch(path))
        words = "/proc/device-tree/model /proc/device-tree/compatible"
        for line in run(f"edgetop_words {words}"):
            path, _, text = line.partition("\t")
            if path in words.split():
                self._put(path, text.replace("\1", "\0").encode())
        answers = list(run("getconf PAGESIZE; command -v vcgencmd"))
        if answers and answers[0].isdecimal() and 4096 <= int(answers[0][:9]) <= 2**20:
            self._page_share = int(answers[0]) / os.sysconf("SC_PAGE_SIZE")
        self._firmware = any(word.endswith("vcgencmd") for word in answers)
        self._folder(GENCMD_ANSWERS).mkdir(parents=True, exist_ok=True)
        self._ask_firmware(run)
        self._moving = dict.fromkeys(path for path in paths if _MOVING.fullmatch(path))

    def refresh(self, run: RunCommand, pids: Sequence[int] = ()) -> None:
        """Fetch what changes; `pids` are those of model processes."""
        paths = [*self._moving, *(f"/proc/{pid}/stat" for pid in pids)]
        self._replace(self._answer(run, paths), paths)
        self._ask_firmware(run)

    def scan(self, run: RunCommand, pids: Sequence[int]) -> None:
        """Look for processes that may hold models, and where somebody listens."""
        least_pages = round(LEAST_KB * 1024 / (os.sysconf("SC_PAGE_SIZE") * self._page_share))
        found: dict[str, str] = {}
        for line in run(f"edgetop_large {least_pages}"):
            pid, _, rest = line.partition(" ")
            fields = rest.rpartition(")")[2].split()
            if pid.isdecimal() and len(pid) < 10 and len(fields) > 21 and len(found) < PROCESSES_MOST:
                found[pid] = fields[19]
                self._put(f"/proc/{pid}/stat", self._stat(line.encode()))
        for pid in [pid for pid in self._seen if pid not in found]:
            self._forget(pid)
        again = {str(pid) for pid in pids} | ({*found} if self._scans % 6 == 0 else set())
        fresh = [pid for pid, began in found.items() if self._seen.get(pid) != began or pid in again]
        self._seen = found
        self._scans += 1
        if fresh:
            self._replace_processes(run(f"edgetop_process {' '.join(fresh)}"), set(fresh))
        for table in ("tcp", "tcp6"):
            lines = [line for line in run(f"grep ' 0A ' /proc/net/{table} 2>/dev/null") if ": " in line]
            self._put(f"/proc/net/{table}", "\n".join(["heading", *lines]).encode())

    def _answer(self, run: RunCommand, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The lines of files, with their paths."""
        known = set(paths)
        for line in run(f"edgetop_files {' '.join(paths)}") if paths else ():
            end = line.find(":")
            while end >= 0 and line[:end] not in known:
                end = line.find(":", end + 1)
            if end >= 0:
                yield line[:end], line[end + 1 :]

    def _replace(self, lines: Iterable[tuple[str, str]], paths: Sequence[str]) -> None:
        """Replace what is known of files by these lines; one that gives none may not be read any more."""
        found: dict[str, list[str]] = {}
        for path, line in lines:
            found.setdefault(path, []).append(line)
        for path in paths:
            if path in found:
                data = "\n".join(found[path]).encode()
                self._put(path, self._stat(data) if path.endswith("/stat") and path != "/proc/stat" else data)
            elif self._known.get(path):
                self._put(path, b"")

    def _replace_processes(self, lines: Iterable[str], wanted: set[str]) -> None:
        kind, pid, gathered = "", "", list[str]()
        for line in (*lines, "end 0"):
            word, _, rest = line.partition(" ")
            number, _, text = rest.partition(" ")
            if word in {"cmdline", "maps", "status", "fd", "end"} and number.isdecimal():
                if kind and pid in wanted:
                    self._put_process(kind, pid, gathered)
                kind, pid, gathered = word, number, [text] if word == "cmdline" else []
            else:
                gathered.append(line)

    def _put_process(self, kind: str, pid: str, lines: list[str]) -> None:
        if kind == "fd":
            folder = self._folder(f"/proc/{pid}/fd")
            for old in folder.iterdir() if folder.is_dir() else ():
                old.unlink(missing_ok=True)
            sockets = {found[1]: found[2] for line in lines if (found := _SOCKET.fullmatch(line)) is not None}
            with suppress(NotADirectoryError, FileExistsError):
                for number, target in islice(sockets.items(), SOCKETS_MOST):
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / number).symlink_to(target)
        else:
            self._put(f"/proc/{pid}/{kind}", "\n".join(lines).replace("\1", "\0").encode())

    def _stat(self, data: bytes) -> bytes:
        """`/proc/PID/stat` with the resident pages in our size."""
        head, paren, tail = data.rpartition(b")")
        fields = tail.split()
        if len(fields) > 21 and self._page_share != 1.0 and fields[21].isdigit() and len(fields[21]) < 16:
            fields[21] = str(round(int(fields[21]) * self._page_share)).encode()
            return head + paren + b" " + b" ".join(fields)
        return data

    def _ask_firmware(self, run: RunCommand) -> None:
        for command in _FIRMWARE if self._firmware else ():
            answer = [line for line in run(f"vcgencmd {command} 2>&1 </dev/null") if line]
            self._put(f"{GENCMD_ANSWERS}/{command}", "\n".join(answer).encode())

    def _forget(self, pid: str) -> None:
        for kind in ("cmdline", "maps", "status", "stat"):
            path = f"/proc/{pid}/{kind}"
            self._size_bytes -= len(self._known.pop(path, b""))
            self._folder(path).unlink(missing_ok=True)
        self._put_process("fd", pid, [])
        with suppress(OSError):
            self._folder(f"/proc/{pid}").rmdir()

    def _folder(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _link(self, path: str, name: str) -> None:
        """A chip's device, of which only the name counts."""
        if PATH.fullmatch(path) and ".." not in path and re.fullmatch(r"[\w.:@+-]{1,100}", name) and name != "..":
            device = self._folder(f"/devices/{name}")
            with suppress(FileExistsError, NotADirectoryError):
                device.mkdir(parents=True, exist_ok=True)
                self._folder(path).parent.mkdir(parents=True, exist_ok=True)
                self._folder(path).symlink_to(device)

    def _put(self, path: str, data: bytes, *, readable: bool = True) -> None:
        """Write a file in one piece: in place, since readers hold it open, and with blanks behind a shorter text."""
        before = self._known.get(path)
        others_bytes = self._size_bytes - len(before or b"")
        data = data[: max(0, min(COPIED_FILE_BYTES, COPIED_BYTES - others_bytes))]
        if before == data:
            return
        self._known[path] = data
        self._size_bytes = others_bytes + len(data)
        file = self._folder(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if before == b"":
                file.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _IN_THE_WAY:
                return
            raise
        if file.is_dir():
            return
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600 * readable)
        try:
            os.pwrite(descriptor, data.ljust(len(before or b"")) if path in self._moving else data, 0)
            if path not in self._moving:
                os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)

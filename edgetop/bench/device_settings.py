"""What a setting asks of the device: power mode, governor, clocks, fan, and the model's file in the page cache or not.

Settings of the device are set, read back and given back. What was before stands in a file from before the first change
until all of it is as it was, so that after `kill -9` the next start gives it back. nvpmodel keeps its mode over a
restart of the device; what stands in sysfs is gone then.

Files and programs are those of Linux (Documentation/admin-guide/pm/cpufreq.rst, Documentation/hwmon/pwm-fan.rst,
Documentation/ABI/testing/sysfs-class-devfreq, sysfs-platform_profile) and of Jetson Linux (nvpmodel and
jetson_clocks of its developer guide, "Platform Power and Performance"; the memory's clock is where jetson_clocks locks
it). For the page cache: proc_sys_vm(5), posix_fadvise(2), mincore(2), sysfs-block; elsewhere nothing can be dropped.
"""

from __future__ import annotations

import ctypes
import fcntl
import getpass
import mmap
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from edgetop.bench.plan import DEVICE_AXES, Setting
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.text import one_line
from edgetop.io.files import read_small, write_atomically
from edgetop.settings.option import clock_limits_hz, fan_share
from edgetop.telemetry.host import Host, text_of
from edgetop.telemetry.jetson import power_mode, power_modes

WITH_CLOCKS = "+jetson_clocks"
"""Behind a power mode: all clocks at the mode's highest."""

SETTLE_S = 10.0
"""A mode takes a second or two until all its files say so."""

PROGRAM_S = 60.0
_STEP_S = 0.05

_CPUFREQ = "/sys/devices/system/cpu/cpufreq/policy*"
_PROFILE = "/sys/firmware/acpi/platform_profile"
_EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"
_MEMORY = re.compile(r"dmc|emc|mif|ddr|memory", re.IGNORECASE)
"""What kernels call the device whose clock is the memory's: Rockchip, Tegra, Exynos and others."""


class Change(Struct, frozen=True, kw_only=True):
    """One thing that was, or is to be, changed."""

    what: Literal["file", "mode", "clocks"]
    name: str
    """The file as the kernel names it, or the program."""
    before: str
    """What stood there; of clocks the file that holds them."""
    now: str


class Changed(Struct, frozen=True, kw_only=True):
    """What stands in the state file."""

    boot: str
    sysroot: str
    changes: tuple[Change, ...]


class DeviceError(EdgetopError):
    """The device did not do what was asked of it."""


class _Target(NamedTuple):
    """What is to be set, and the pattern that names the file among its like."""

    what: Literal["file", "mode", "clocks"]
    name: str
    value: str
    pattern: str


class DeviceSettings:
    """Sets the device for one setting after the other, and gives it back."""

    def __init__(self, state: Path, host: Host, *, settle_s: float = SETTLE_S) -> None:
        """`state` is the file that says what is to be given back."""
        self._state = state
        self._host = host
        self._settle_s = settle_s
        self._lock: int | None = None
        self._changes: list[Change] = []
        self._chosen: dict[str, str] = {}

    def require(self, settings: Sequence[Setting]) -> None:
        """Raise UsageError for what this device does not have, or does not let us set, with the line that allows it."""
        refused: dict[str, set[str]] = {}
        for setting in settings:
            for target in self._targets(_chosen(setting)):
                if target.what == "file":
                    try:
                        os.close(os.open(self._host.path(target.name), os.O_WRONLY | os.O_CLOEXEC))
                    except PermissionError:
                        refused.setdefault("files", set()).add(target.pattern)
                    except OSError as error:
                        raise UsageError(f"{target.name}: {error.strerror}", "leave that axis out here") from None
                elif not _may_run(target.name):
                    refused.setdefault("programs", set()).add(target.name)
        if "programs" in refused:
            names = " and ".join(sorted(Path(name).name for name in refused["programs"]))
            rule = f"{getpass.getuser()} ALL=(root) NOPASSWD: {', '.join(sorted(refused['programs']))}"
            line = f"echo {shlex.quote(rule)} | sudo tee /etc/sudoers.d/edgetop"
            raise UsageError(f"{names} may be used by root only", f"allow it: {line}")
        if "files" in refused:
            patterns = sorted(refused["files"])
            line = f"sudo chown {shlex.quote(getpass.getuser())} {' '.join(patterns)}"
            if any(pattern.startswith("/sys/kernel/debug") for pattern in patterns):
                line = f"sudo sh -c {shlex.quote(f'chmod a+x /sys/kernel/debug; {line[5:]}')}"
            raise UsageError(f"{' and '.join(patterns)} may not be written", f"until the next start: {line}")

    def apply(self, setting: Setting) -> None:
        """Set all that a setting chooses, and nothing else. Raises DeviceError; the device is as it was then."""
        chosen = _chosen(setting)
        if chosen == self._chosen:
            return
        self.restore()
        try:
            for target in self._targets(chosen):
                self._set(target)
        except UsageError as error:
            self.restore()
            raise DeviceError(error.what, error.hint) from None
        except BaseException:
            self.restore()
            raise
        self._chosen = chosen

    def changed_by_others(self) -> list[str]:
        """What is not any more as it was set, such as by a daemon that minds the fan."""
        found = []
        for change in self._changes:
            now = self._read(change)
            if now != change.now:
                found.append(f"{change.name} did not stay {one_line(change.now)}: it was {one_line(now) or 'unknown'}")
        return found

    def restore(self) -> None:
        """Give back what was, the last change first. Raises DeviceError with what is to be done by hand."""
        self._chosen = {}
        failed = []
        while self._changes:
            change = self._changes[-1]
            trouble = self._give_back(change)
            if trouble:
                failed.append(trouble)
            self._changes.pop()
            if not failed:
                self._note()
        if self._lock is not None and not failed:
            self._state.unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if failed:
            raise DeviceError("the device is not as it was before", "; ".join(failed))

    def take_over(self) -> list[str]:
        """Give back what an edgetop left that was killed; what that was. Raises DeviceError.

        Nothing is done while that edgetop runs.
        """
        try:
            left = msgspec.json.decode(read_small(self._state), type=Changed)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise DeviceError(f"{self._state}: {error}", "delete it, and restart the device") from None
        if left.sysroot != str(self._host.sysroot) or not self._own():
            return []
        same_boot = left.boot == self._boot()
        self._changes = [
            each for each in left.changes if same_boot or (each.what, self._read(each)) == ("mode", each.now)
        ]
        restored = [
            f"{each.name}: {one_line(each.before)}" for each in self._changes if self._read(each) != each.before
        ]
        self.restore()
        return restored

    def _set(self, target: _Target) -> None:
        before = self._now(target)
        if before == target.value:
            return
        change = Change(what=target.what, name=target.name, before=before, now=target.value)
        if not self._own():
            raise DeviceError("another edgetop has set this device", "wait until its benchmark is done")
        if change.what == "clocks":
            self._run(change.name, "--store", before)
        self._changes.append(change)
        self._note()
        said = self._write(change, target.value)
        if not self._settled(lambda: self._read(change) == target.value):
            found = one_line(self._read(change)) or "unknown"
            reason = f": {said}" if said else ""
            raise DeviceError(
                f"{change.name} is {found} and not {one_line(target.value)}{reason}", "leave that value out"
            )

    def _give_back(self, change: Change) -> str:
        """Empty, or what is to be done by hand."""
        try:
            if self._read(change) != change.before:
                self._write(change, change.before)
            done = self._settled(lambda: self._read(change) in {change.before, ""})
        except (DeviceError, OSError):
            done = False
        if done:
            return ""
        if change.what == "file":
            return f"sudo sh -c {shlex.quote(f'echo {change.before} > {change.name}')}"
        return f"sudo {shlex.join([change.name, *self._arguments(change, change.before)])}"

    def _write(self, change: Change, value: str) -> str:
        """Set it to a value; what a program said about it. Raises DeviceError."""
        if change.what != "file":
            return self._run(change.name, *self._arguments(change, value))
        try:
            fd = os.open(self._host.path(change.name), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise DeviceError(f"{change.name}: {value} was refused: {error.strerror}", "leave that value out") from None
        return ""

    def _arguments(self, change: Change, value: str) -> tuple[str, ...]:
        if change.what == "mode":
            return ("-m", next((number for number, name in power_modes(self._host).items() if name == value), value))
        return () if value == change.now else ("--restore", value)

    def _read(self, change: Change) -> str:
        """What stands there now; empty for what cannot be read."""
        if change.what == "mode":
            return power_mode(self._host)
        if change.what == "clocks":
            return change.now if self._clocks_are_locked() else change.before
        return text_of(self._host.path(change.name)).strip()

    def _now(self, target: _Target) -> str:
        """What stands there before a change."""
        if target.what == "clocks":
            return target.value if self._clocks_are_locked() else str(self._state.with_suffix(".clocks"))
        return self._read(Change(what=target.what, name=target.name, before="", now=target.value))

    def _clocks_are_locked(self) -> bool:
        policies = self._files(_CPUFREQ)
        return bool(policies) and all(
            self._text(f"{each}/scaling_min_freq") == self._text(f"{each}/scaling_max_freq") for each in policies
        )

    def _settled(self, reached: Callable[[], bool]) -> bool:
        end_s = time.monotonic() + self._settle_s
        while not reached():
            if time.monotonic() > end_s:
                return False
            time.sleep(_STEP_S)
        return True

    def _run(self, program: str, *arguments: str) -> str:
        """Run a program as root, which nothing is answered; its last lines. Raises DeviceError."""
        command = [*([] if os.geteuid() == 0 else ["sudo", "-n"]), program, *arguments]
        try:
            # A session of its own: Ctrl-C is for us, who give back what it sets.
            ran = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PROGRAM_S,
                check=False, start_new_session=True,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(f"{shlex.join(command)}: {error}", "try that command by hand") from None
        said = one_line(" ".join(ran.stdout.decode("utf-8", "replace").split())[-200:])
        if ran.returncode != 0:
            raise DeviceError(f"{shlex.join(command)}: {said or f'exit code {ran.returncode}'}", "try it by hand")
        return said

    def _own(self) -> bool:
        """Whether no other edgetop has changed the device; it cannot until we have given it back."""
        if self._lock is None:
            self._state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._state.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                return False
            self._lock = fd
        return True

    def _note(self) -> None:
        """Have it on disk what is to be given back."""
        state = Changed(boot=self._boot(), sysroot=str(self._host.sysroot), changes=tuple(self._changes))
        try:
            write_atomically(self._state, [msgspec.json.format(msgspec.json.encode(state), indent=1)])
        except OSError as error:
            raise DeviceError(f"{self._state}: {error.strerror}", "make room there") from None

    def _boot(self) -> str:
        return self._text("/proc/sys/kernel/random/boot_id")

    def _targets(self, chosen: dict[str, str]) -> Iterator[_Target]:
        """What is to be set, in its order. Raises UsageError for what this device does not have."""
        for axis, value in chosen.items():
            yield from getattr(self, f"_{axis}")(value)

    def _power_mode(self, value: str) -> Iterator[_Target]:
        name, plus, _ = value.partition(WITH_CLOCKS)
        modes = power_modes(self._host)
        if not modes:
            yield from self._one_of_files("--power-mode", [_PROFILE], "_choices", value)
            return
        known = {_plain(each): each for each in reversed(modes.values())}
        found = modes.get(name) or known.get(_plain(name)) or known.get(_plain(f"MODE_{name}"))
        if found is None:
            raise UsageError(
                f"--power-mode: {one_line(name)!r} is no mode of this device", f"use {', '.join(modes.values())}"
            )
        yield _Target("mode", _program("nvpmodel"), found, "")
        if plus:
            yield _Target("clocks", _program("jetson_clocks"), "locked", "")

    def _governor(self, value: str) -> Iterator[_Target]:
        files = [f"{each}/scaling_governor" for each in self._files(_CPUFREQ)]
        yield from self._one_of_files("--governor", files, "/../scaling_available_governors", value, _CPUFREQ)

    def _one_of_files(
        self, flag: str, files: Sequence[str], choices: str, value: str, folder: str = ""
    ) -> Iterator[_Target]:
        """The same word in each file; what may stand there is in the file beside it."""
        for file in files:
            beside = file + choices if choices.startswith("_") else f"{Path(file).parent}/{Path(choices).name}"
            known = self._text(beside).split()
            if not known and not self._text(file):
                break
            if known and value not in known:
                raise UsageError(f"{flag}: {one_line(value)!r} is not known here", f"use {', '.join(known)}")
            yield _Target("file", file, value, f"{folder}/{Path(file).name}" if folder else file)
        else:
            if files:
                return
        raise UsageError(f"{flag}: this device has none to set", "leave it out here")

    def _cpu_clock(self, value: str) -> Iterator[_Target]:
        low_hz, high_hz = clock_limits_hz(value)
        policies = self._files(_CPUFREQ)
        for policy in policies:
            least, most = (self._number(f"{policy}/cpuinfo_{name}_freq") for name in ("min", "max"))
            steps = sorted(int(each) for each in self._text(f"{policy}/scaling_available_frequencies").split())
            high = min(high_hz // 1000, most)
            low = None if low_hz is None else max(low_hz // 1000, least)
            for wanted in (high, low):
                if wanted is not None and (not least <= wanted <= most or (steps and wanted not in steps)):
                    reach = ", ".join(f"{each / 1000:g}MHz" for each in steps or (least, most))
                    raise UsageError(
                        f"--cpu-clock: {one_line(value)} is no clock of {Path(policy).name}",
                        f"use {reach}" if steps else f"use one between {reach}",
                    )
            limits = [("max", high), *([] if low is None else [("min", low)])]
            if high < self._number(f"{policy}/scaling_min_freq"):
                limits = [("min", least if low is None else low), ("max", high)]
            for name, khz in limits:
                file = f"scaling_{name}_freq"
                yield _Target("file", f"{policy}/{file}", str(khz), f"{_CPUFREQ}/{file}")
        if not policies:
            raise UsageError("--cpu-clock: this device does not let its clock be set", "leave it out here")

    def _fan(self, value: str) -> Iterator[_Target]:
        share = fan_share(value)
        hwmon, cooling = "/sys/class/hwmon/hwmon*", "/sys/class/thermal/cooling_device*"
        fans = [f"{each}/pwm1" for each in self._files(hwmon) if _plain(self._text(f"{each}/name")) == "pwmfan"]
        fans += ["/sys/devices/pwm-fan/target_pwm"]
        for fan in fans:
            if self._text(fan):
                yield _Target("file", fan, str(round(255 * share)), fan)
                return
        for each in self._files(cooling):
            if _plain(self._text(f"{each}/type")) == "pwmfan" and self._text(f"{each}/max_state").isdecimal():
                state = round(int(self._text(f"{each}/max_state")) * share)
                yield _Target("file", f"{each}/cur_state", str(state), f"{each}/cur_state")
                return
        raise UsageError("--fan: this device has no fan that can be set", "leave it out here")

    def _memory_clock(self, value: str) -> Iterator[_Target]:
        _, hz = clock_limits_hz(value)
        for each in self._files("/sys/class/devfreq/*"):
            if not _MEMORY.search(f"{Path(each).name} {self._text(f'{each}/device/of_node/name')}"):
                continue
            steps = self._text(f"{each}/available_frequencies").split()
            if steps and str(hz) not in steps:
                known = ", ".join(f"{int(step) / 1e6:g}MHz" for step in steps)
                raise UsageError(f"--memory-clock: {one_line(value)} is no clock of the memory", f"use {known}")
            order = ("min", "max") if hz < self._number(f"{each}/min_freq") else ("max", "min")
            yield from (_Target("file", f"{each}/{name}_freq", str(hz), f"{each}/{name}_freq") for name in order)
            return
        try:
            locked = self._host.path(f"{_EMC}/mrq_rate_locked").exists()
        except PermissionError:
            locked = True
        if not locked:
            raise UsageError("--memory-clock: this device does not let it be set", "leave it out here")
        yield _Target("file", f"{_EMC}/rate", str(hz), f"{_EMC}/rate")
        yield _Target("file", f"{_EMC}/mrq_rate_locked", "1", f"{_EMC}/mrq_rate_locked")

    def _files(self, pattern: str) -> list[str]:
        root = self._host.sysroot
        return [f"/{found.relative_to(root)}" for found in sorted(root.glob(pattern.lstrip("/")))]

    def _text(self, name: str) -> str:
        return text_of(self._host.path(name), 4096).strip()

    def _number(self, name: str) -> int:
        text = self._text(name)
        return int(text) if text.isdecimal() else 0


def _chosen(setting: Setting) -> dict[str, str]:
    """What a setting chooses of the device."""
    return {axis: value for axis in DEVICE_AXES if (value := getattr(setting, axis)) is not None}


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _program(name: str) -> str:
    """Where a program is. Raises UsageError."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if found is None:
        raise UsageError(f"{name} is not there", "install nvidia-l4t-nvpmodel and nvidia-l4t-tools")
    return found


def _may_run(program: str) -> bool:
    """Whether it may be run as root without a password."""
    if os.geteuid() == 0:
        return True
    try:
        asked = subprocess.run(
            ["sudo", "-n", "-l", program],  # noqa: S607 - whichever sudo is in PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROGRAM_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


_READ_BYTES = 4 * 2**20
_MOUNTINFO_BYTES = 2**20
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
        kind = {"SD": "SD card", "MMC": "eMMC"}.get(text_of(drive / "device/type"), "SD card or eMMC")
    elif name.startswith("nvme"):
        kind = "NVMe"
    elif "/usb" in where:
        kind = "USB"
    elif name.startswith(("vd", "xvd")) or "virtio" in where:
        kind = "virtual drive"
    elif name.startswith(("zram", "ram", "loop")):
        kind = "memory" if "ram" in name else "loop"
    else:
        kind = "hard disk" if text_of(drive / "queue/rotational") == "1" else "SATA SSD"
    return f"{kind} ({name})"


def _mounted(path: Path, root: Path) -> str:
    """Number of the drive of file systems that have numbers of their own, such as btrfs; from mountinfo."""
    best, found = -1, ""
    for line in text_of(root / "proc/self/mountinfo", _MOUNTINFO_BYTES).splitlines():
        words, _, more = line.partition(" - ")
        parts, source = words.split(), more.split()[1:2]
        if len(parts) < 5 or not source or not source[0].startswith("/dev/"):
            continue
        if path.resolve().is_relative_to(parts[4]) and len(parts[4]) > best:
            with suppress(OSError):
                number = (root / source[0].lstrip("/")).stat().st_rdev
                best, found = len(parts[4]), f"{os.major(number)}:{os.minor(number)}"
    return found

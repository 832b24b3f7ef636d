"""The /proc and /sys of a machine that has nothing but a shell, copied below a folder here.

The readers of `edgetop.telemetry` then read that folder as a sysroot. The names of what may be read are asked for once;
what changes is fetched with one `grep` each time, so that the other machine forks once for all of it. Model processes
are looked for by their memory, and only of those that may be some more is fetched. Graphics cards are left to sleep.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from edgetop.telemetry.raspberry_pi import ANSWERS
from edgetop.telemetry.registry import probes_of
from edgetop.telemetry.source import Probe

Ask = Callable[[str], Iterable[str]]
"""Has the shell run a command, and gives the lines that it prints."""

FAMILIES = ("memory", "thermal", "jetson", "raspberry_pi", "rapl", "hwmon", "battery", "external")
"""Those that read nothing but files below a sysroot."""

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

_CHIP_FILES = "name *_label *_input *_average *_enable *_cap *_alarm *_event_cnt update_interval shunt* *_shunt*"

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

FILES_MOST, PROCESSES_MOST, FILE_BYTES = 4096, 128, 2**20

SETUP = rf"""
LC_ALL=C; export LC_ALL
edgetop_names() {{ for f in "$@"; do [ -f "$f" ] && printf '%s\n' "$f"; done; }}
edgetop_chips() {{ for h in /sys/class/hwmon/hwmon*; do
  c=; [ -r "$h/device/power/control" ] && read -r c <"$h/device/power/control"
  n=; [ -r "$h/name" ] && read -r n <"$h/name"
  case "$c $n" in {"|".join(f'"auto {name}"' for name in _ASLEEP)}) continue;; esac
  for p in {" ".join(f"'{name}'" for name in _CHIP_FILES.split())}; do edgetop_names "$h"/$p; done
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


class FarFiles:
    """The copy. Filled by one thread; what is read of it is whole at any time."""

    def __init__(self, root: Path) -> None:
        """`root` is an empty folder; nothing outside it is written."""
        self.root = root
        self._moving: dict[str, None] = {}
        self._known: dict[str, bytes] = {}
        self._page_share = 1.0
        """Pages of the other machine in one of ours."""
        self._firmware = False
        self._seen: dict[str, str] = {}
        """When each large process began, by its number."""
        self._scans = 0

    def take_inventory(self, ask: Ask) -> None:
        """Fetch everything once."""
        names = f"edgetop_names {' '.join(_PATTERNS)}; edgetop_chips"
        paths = [path for path in ask(names) if PATH.fullmatch(path) and ".." not in path][:FILES_MOST]
        for path in ask("ls -ld /sys/class/hwmon/hwmon*/device 2>/dev/null"):
            link, _, target = path.partition(" -> ")
            self._link("/" + link.partition(" /")[2], target.rpartition("/")[2])
        self._take(self._answer(ask, paths), paths)
        for path in paths:
            if path not in self._known:
                self._put(path, b"", readable=not _MOVING.fullmatch(path))
        words = "/proc/device-tree/model /proc/device-tree/compatible"
        for line in ask(f"edgetop_words {words}"):
            path, _, text = line.partition("\t")
            if path in words.split():
                self._put(path, text.replace("\1", "\0").encode())
        answers = list(ask("getconf PAGESIZE; command -v vcgencmd"))
        if answers and answers[0].isdecimal() and 4096 <= int(answers[0][:9]) <= 2**20:
            self._page_share = int(answers[0]) / os.sysconf("SC_PAGE_SIZE")
        self._firmware = any(word.endswith("vcgencmd") for word in answers)
        self._folder(ANSWERS).mkdir(parents=True, exist_ok=True)
        self._ask_firmware(ask)
        self._moving = dict.fromkeys(path for path in paths if _MOVING.fullmatch(path))

    def refresh(self, ask: Ask, pids: Sequence[int] = ()) -> None:
        """Fetch what changes; `pids` are those of model processes."""
        paths = [*self._moving, *(f"/proc/{pid}/stat" for pid in pids)]
        self._take(self._answer(ask, paths), paths)
        self._ask_firmware(ask)

    def scan(self, ask: Ask, pids: Sequence[int]) -> None:
        """Look for processes that may hold models, and where somebody listens."""
        least_pages = round(LEAST_KB * 1024 / (os.sysconf("SC_PAGE_SIZE") * self._page_share))
        found: dict[str, str] = {}
        for line in ask(f"edgetop_large {least_pages}"):
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
            self._take_processes(ask(f"edgetop_process {' '.join(fresh)}"), set(fresh))
        for table in ("tcp", "tcp6"):
            lines = [line for line in ask(f"grep ' 0A ' /proc/net/{table} 2>/dev/null") if ": " in line]
            self._put(f"/proc/net/{table}", "\n".join(["heading", *lines]).encode())

    def _answer(self, ask: Ask, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The lines of files, with their paths."""
        known = set(paths)
        for line in ask(f"edgetop_files {' '.join(paths)}") if paths else ():
            end = line.find(":")
            while end >= 0 and line[:end] not in known:
                end = line.find(":", end + 1)
            if end >= 0:
                yield line[:end], line[end + 1 :]

    def _take(self, lines: Iterable[tuple[str, str]], paths: Sequence[str]) -> None:
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

    def _take_processes(self, lines: Iterable[str], wanted: set[str]) -> None:
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
            for line in lines:
                number, _, target = line.partition(" ")
                if number.isdecimal() and re.fullmatch(r"socket:\[\d{1,20}\]", target):
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / number[:9]).symlink_to(target)
        else:
            self._put(f"/proc/{pid}/{kind}", "\n".join(lines).replace("\1", "\0").encode())

    def _stat(self, data: bytes) -> bytes:
        """`/proc/PID/stat` with the resident pages in our size."""
        head, paren, tail = data.rpartition(b")")
        fields = tail.split()
        if len(fields) > 21 and self._page_share != 1.0 and fields[21].isdigit():
            fields[21] = str(round(int(fields[21]) * self._page_share)).encode()
            return head + paren + b" " + b" ".join(fields)
        return data

    def _ask_firmware(self, ask: Ask) -> None:
        for command in _FIRMWARE if self._firmware else ():
            answer = [line for line in ask(f"vcgencmd {command} 2>&1 </dev/null") if line]
            self._put(f"{ANSWERS}/{command}", "\n".join(answer).encode())

    def _forget(self, pid: str) -> None:
        for kind in ("cmdline", "maps", "status", "stat"):
            path = f"/proc/{pid}/{kind}"
            self._known.pop(path, None)
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
            device.mkdir(parents=True, exist_ok=True)
            self._folder(path).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self._folder(path).symlink_to(device)

    def _put(self, path: str, data: bytes, *, readable: bool = True) -> None:
        """Write a file in one piece: in place, since readers hold it open, and with blanks behind a shorter text."""
        before = self._known.get(path)
        data = data[:FILE_BYTES]
        if before == data:
            return
        self._known[path] = data
        file = self._folder(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        if before == b"":
            file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600 * readable)
        try:
            os.pwrite(descriptor, data.ljust(len(before or b"")) if path in self._moving else data, 0)
            if path not in self._moving:
                os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)


def probes() -> list[tuple[str, Probe]]:
    """The probes that can read a copy."""
    return [(family, probe) for family, probe in probes_of(gpus=False) if family in FAMILIES]

"""Runs the probes; what is absent and why; --power choices; plug-ins; probes of a machine that has nothing but a shell.

What such a machine has in /proc and /sys is copied below a folder here, which the readers then read as a sysroot. The
names of what may be read are asked for once; what changes is fetched with one `grep` each time, so that the other
machine forks once for all of it. Model processes are looked for by their memory, and only of those that may be some
more is fetched. Graphics cards are left to sleep.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import islice
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.sources import OUTSIDE_METERS, Channel, SourceInfo, Unavailable
from edgetop.io.extensions import FAILURES, SENSORS, installed, switch_off
from edgetop.io.log import log
from edgetop.telemetry.calibration import OwnCalibrations
from edgetop.telemetry.host import (
    GENCMD_ANSWERS,
    Host,
    container,
    device_tree_compatible,
    is_android,
    is_virtual_machine,
)
from edgetop.telemetry.plugs import is_plug, plug
from edgetop.telemetry.power_stream import exec_source, probe_of
from edgetop.telemetry.source import PROBE_S, FamilyProbe, Probe, Source, SourceLost, UnavailableSource, Values

PERIOD_S = 10.0

_CHANNELS = {
    "cpu": (("cpu.total", "%"), ("cpu.steal", "%"), ("cpu.others", "%"), ("cpu.frequency", "Hz")),
    "memory": (
        ("memory.total", "B"), ("memory.available", "B"), ("memory.used", "B"), ("swap.total", "B"), ("swap.used", "B"),
    ),
}  # fmt: skip
"""The channels of `processor` and `memory` that panes ask for, by source."""


class RemotePlaceholder:
    """A source whose readings are all missing, for one reason."""

    blocking = False

    def __init__(self, name: str, missing: Unavailable) -> None:
        self._missing = missing
        self.info = SourceInfo(
            name=name,
            driver="none",
            period_s=PERIOD_S,
            channels=tuple(Channel(name=channel, unit=unit) for channel, unit in _CHANNELS[name]),
        )

    def read(self) -> Values:
        """Say why there is nothing to read."""
        return (self._missing,) * len(self.info.channels)

    def close(self) -> None:
        """Nothing is held open."""


def remote_placeholders(missing: Unavailable, power: Unavailable) -> list[tuple[str, Probe]]:
    """Probes that say why processor and memory, and with `power` why power, are not known."""

    def probe(_host: Host) -> Iterator[Source | UnavailableSource]:
        for name in _CHANNELS:
            yield RemotePlaceholder(name, missing)
        yield UnavailableSource(name="thermal", missing=missing)
        yield UnavailableSource(name="power", missing=power)

    return [("elsewhere", probe)]


SOURCE_NAME = "power"

_BOARDS = {
    "rockchip,rk3588": "RK3588",
    "rockchip,rk3588s": "RK3588S",
    "qcom,x1e80100": "Snapdragon X",
    "qcom,x1e78100": "Snapdragon X",
    "qcom,x1p42100": "Snapdragon X",
}
"""Processors on whose boards no current sensor was found, by what the device tree calls them."""


def probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """Yield one UnavailableSource where it is known that there is nothing to read; never a source."""
    missing = _known_lack(host)
    if missing is not None:
        yield UnavailableSource(name=SOURCE_NAME, missing=missing)


def _known_lack(host: Host) -> Unavailable | None:

    if is_virtual_machine(host):
        return Unavailable(
            "virtual machine: power sensors stay with the host", f"measure on the host, or {OUTSIDE_METERS}"
        )
    for name in device_tree_compatible(host):
        if name in _BOARDS:
            return Unavailable(f"{_BOARDS[name]} boards have no current sensor", OUTSIDE_METERS)
    inside = container(host)
    if inside:
        return Unavailable(
            f"{inside} may hide the power sensors of its host", f"run edgetop on the host, or {OUTSIDE_METERS}"
        )
    return None


NO_POWER = "none"


class PowerChoice(Struct, frozen=True, kw_only=True):
    """What `--power`, `--power-exec` and `--power-stream` say."""

    name: str | None = None
    """A source or channel by name, a plug's address such as `shelly:HOST`, hosts such as `local+pi2`, or `none`."""
    command: str | None = None
    """A program that prints one reading each time it is run."""
    streams: tuple[str, ...] = ()
    """Programs that go on printing readings, or `tcp:HOST:PORT`, or `unix:PATH`; `pi2=` before one names its host."""
    gpu_sensors: bool = True
    """Whether graphics cards are read."""

    @property
    def families(self) -> list[tuple[str, Probe]]:
        """Probes for what this machine has, by family."""
        return probes_of(power=self.name != NO_POWER, gpus=self.gpu_sensors)

    @property
    def headline(self) -> str | None:
        """The name that the session records as chosen: a plug's source rather than its address."""
        if self.name is not None and is_plug(self.name):
            return f"power.{self.name.partition(':')[0].lower()}"
        return self.name

    @property
    def probes(self) -> list[tuple[str, Probe]]:
        """Probes for what the person brought along, by the name of the source."""
        if self.name == NO_POWER:
            return []
        wanted: list[tuple[str, Callable[[Host], Source]]] = []
        name, command = self.name, self.command
        if name is not None and is_plug(name):
            wanted.append((self.headline or name, lambda _host: plug(name)))
        if command is not None:
            wanted.append(("power.exec", lambda host: exec_source(command, host)))
        probes = [(source, _probe(source, opened)) for source, opened in wanted]
        return [*probes, ("power.stream", probe_of(self.streams))] if self.streams else probes


def _probe(name: str, opened: Callable[[Host], Source]) -> Probe:
    def probe(host: Host) -> Iterator[Source | UnavailableSource]:
        try:
            source = opened(host)
        except SourceLost as lost:
            yield UnavailableSource(name=name, missing=lost.missing, retry=True)
        except ValueError as error:
            yield UnavailableSource(name=name, missing=Unavailable(str(error)))
        else:
            yield source

    return probe


GAUGE_FAMILIES = {
    "processor": "cpu.probe",
    "memory": "memory.probe",
    "processes": "processes.probe",
    "thermal": "thermal.probe",
    "nvml": "nvidia.probe",
    "gpu": "gpu.probe",
}

POWER_FAMILIES = {
    "nvml_power": "nvidia.power_probe",
    "jetson": "jetson.probe",
    "jetson_stats": "jetson.jtop_probe",
    "raspberry_pi": "raspberry_pi.probe",
    "rapl": "rapl.probe",
    "hwmon": "hwmon.probe",
    "battery": "battery.probe",
    "mac": "macos.probe",
    "external": "registry.probe",
}
"""Module and function of each family of sensors, in the order in which `edgetop doctor` lists them."""


PROBE_AGAIN_S = (1.0, 2.0, 5.0, 10.0)
"""How long until a sensor that could not be read yet is probed again; the last one from then on."""


class Adoption:
    """Takes in what probes found: names are unique, and power is corrected with the user's calibrations."""

    def __init__(self, host: Host, calibration_file: Path | None = None) -> None:
        self._own = OwnCalibrations(host, calibration_file)
        self._android = is_android(host)
        self._taken: set[tuple[str, str]] = set()

    def adopt(self, found: Source | UnavailableSource) -> Source | UnavailableSource:
        """The source as it is to be read, or why it is not: it has the name or a channel of one found before."""
        if isinstance(found, UnavailableSource):
            if self._android and "sudo " in found.missing.hint:
                missing = Unavailable(f"{found.missing.reason}: Android keeps it from programs", OUTSIDE_METERS)
                return replace(found, missing=missing)
            return found
        names = {("source", found.info.name), *(("channel", each.name) for each in found.info.channels)}
        twice = sorted(self._taken & names)
        if twice:
            found.close()
            reason = f"the {twice[0][0]} {twice[0][1]} is there already"
            return UnavailableSource(name=found.info.name, missing=Unavailable(reason))
        self._taken |= names
        return self._own.applied_to(found)

    def reads(self, name: str) -> bool:
        """Whether a source of that name was taken in."""
        return ("source", name) in self._taken


class Inventory(Struct, frozen=True):
    """What the probes found."""

    sources: tuple[Source, ...]
    absent: tuple[UnavailableSource, ...]
    late: tuple[FamilyProbe, ...] = ()
    """Probes that have not ended yet, and those that found a sensor which cannot be read yet."""
    adoption: Adoption | None = None
    """Takes in what those find."""

    def adopt(self, found: Source | UnavailableSource) -> Source | UnavailableSource:
        """See `Adoption`."""
        return found if self.adoption is None else self.adoption.adopt(found)

    def reads(self, found: Source | UnavailableSource) -> bool:
        """Whether a source of that name was taken in already."""
        name = found.name if isinstance(found, UnavailableSource) else found.info.name
        return self.adoption is not None and self.adoption.reads(name)

    def close(self) -> None:
        """Close all sources; for a caller that only wanted to know."""
        for source in self.sources:
            with suppress(Exception):
                source.close()


GPU_FAMILIES = ("nvml", "gpu", "nvml_power")

WITHOUT_GPUS = {"hwmon": "hwmon.probe_without_cards"}
"""Families that read graphics cards among others, as they are probed without them."""


def probes_of(*, power: bool = True, gpus: bool = True) -> list[tuple[str, Probe]]:
    """The probes of all families, or of all but those of power or of graphics cards, by the family's name."""
    families = GAUGE_FAMILIES | POWER_FAMILIES if power else GAUGE_FAMILIES
    if not gpus:
        families = {
            family: WITHOUT_GPUS.get(family, place) for family, place in families.items() if family not in GPU_FAMILIES
        }
    extensions = [(f"{EXTENSION_PREFIX}{name}", _probe_of_extension(name)) for name in installed(SENSORS)]
    return [*((family, _probe_of(place)) for family, place in families.items()), *(extensions if power else ())]


EXTENSION_PREFIX = "extension "
"""Before the name of a sensor extension, in that of its family."""


def is_power_family(family: str) -> bool:
    """Whether it may read power."""
    return family in POWER_FAMILIES or family.startswith(EXTENSION_PREFIX)


def _probe_of_extension(name: str) -> Probe:
    """A probe of another package: what it raises is its absence, with its name."""

    def probe(host: Host) -> Iterator[Source | UnavailableSource]:
        try:
            for found in installed(SENSORS)[name].load()(host):
                if not isinstance(found, UnavailableSource) and not isinstance(getattr(found, "info", 0), SourceInfo):
                    raise TypeError(f"{type(found).__name__} is no sensor")
                yield found
        except FAILURES as error:
            yield UnavailableSource(name=f"power.{name}", missing=Unavailable(switch_off(SENSORS, name, error)))

    return probe


def take_inventory(
    host: Host,
    probes: Sequence[tuple[str, Probe]] | None = None,
    *,
    calibration_file: Path | None = None,
    wait_s: float | None = None,
) -> Inventory:
    """Run the probes side by side: one that fails is absent with its error for a reason, and hinders no other.

    One that has not ended after `wait_s`, by default PROBE_S, is absent for now. Power is corrected with the user's
    calibrations in `calibration_file`, by default the one in the configuration folder.
    """
    adoption = Adoption(host, calibration_file)
    sources: list[Source] = []
    absent: list[UnavailableSource] = []
    late: list[FamilyProbe] = []
    running = [FamilyProbe(family, probe, host) for family, probe in (probes_of() if probes is None else probes)]
    wait_s = PROBE_S if wait_s is None else wait_s
    end_s = time.monotonic() + wait_s
    for probe in running:
        results = probe.found(max(0.0, end_s - time.monotonic()))
        if results is None:
            missing = Unavailable(f"no answer within {wait_s:g} s", "it is read as soon as it answers")
            results = [UnavailableSource(name=probe.family, missing=missing, retry=True)]
        else:
            probe.taken = True
        for found in map(adoption.adopt, results):
            if isinstance(found, UnavailableSource):
                absent.append(found)
            else:
                sources.append(found)
        if any(isinstance(found, UnavailableSource) and found.retry for found in results):
            late.append(probe)
    for source in sources:
        log(
            "sensors",
            f"{source.info.name} by {source.info.driver}: {', '.join(each.name for each in source.info.channels)}",
        )
    for each in absent:
        log("sensors", f"{each.name}: {each.missing.reason}")
    return Inventory(tuple(sources), tuple(absent), tuple(late), adoption)


def _probe_of(place: str) -> Probe:
    """A probe that imports its family when it is run, so that one that cannot be imported is only absent."""

    def probe(host: Host) -> Iterator[Source | UnavailableSource]:
        module, _, function = place.partition(".")
        yield from getattr(import_module(f"edgetop.telemetry.{module}"), function)(host)

    return probe


Ask = Callable[[str], Iterable[str]]
"""Has the shell run a command, and gives the lines that it prints."""

FAR_FAMILIES = ("memory", "thermal", "jetson", "raspberry_pi", "rapl", "hwmon", "battery", "external")
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

FILES_MOST, PROCESSES_MOST, SOCKETS_MOST, FILE_BYTES, COPY_BYTES = 4096, 128, 4096, 2**20, 32 * 2**20
"""Files and processes that are copied, sockets of each, and bytes of a file and of all together."""

SHELL_SETUP = rf"""
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
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""A machine that calls one path a file and a folder has its first word."""

_SOCKET = re.compile(r"(\d{1,9}) (socket:\[\d{1,20}\])", re.ASCII)


class FarFiles:
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
        self._folder(GENCMD_ANSWERS).mkdir(parents=True, exist_ok=True)
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

    def _ask_firmware(self, ask: Ask) -> None:
        for command in _FIRMWARE if self._firmware else ():
            answer = [line for line in ask(f"vcgencmd {command} 2>&1 </dev/null") if line]
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
        data = data[: max(0, min(FILE_BYTES, COPY_BYTES - others_bytes))]
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


def far_probes() -> list[tuple[str, Probe]]:
    """The probes that can read a copy."""
    return [(family, probe) for family, probe in probes_of(gpus=False) if family in FAR_FAMILIES]

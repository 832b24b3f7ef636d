"""Finds processes that hold models, their ports and workers.

They are recognized by their command lines, which everybody may read, and by the model files that they have mapped,
which their own user may read. What may not be read is unknown; nothing is guessed.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Final, NamedTuple

import psutil
from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.sources import Unavailable
from edgetop.core.text import one_line
from edgetop.telemetry.host import Host
from edgetop.telemetry.processes import PARENT, RESIDENT_PAGES, STARTED, THREADS, stat_fields

LEAST_BYTES = 48 * 2**20
"""Resident memory that a process of no known program has at least when it holds a model: all useful ones are larger."""

RESCAN_EVERY: Final = 6
"""A process that holds no model is read again after so many scans: it may have loaded one."""

PROCESSES_MOST = 64
"""Model processes that are reported; a machine with more of them is no edge device."""

LOCAL_HOSTS: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - read, not listened on
"""Where to reach a server that listens on all addresses of the machine."""

_MODEL_FILE, _ENDING = re.compile(r"(?:\.gguf|/blobs/sha256-[0-9a-f]{64}|\.safetensors|\.llamafile)\Z"), 80
"""The end of the path of a model file, and no fewer characters than that has."""

_CMDLINE_BYTES, _MAPS_BYTES, _TEXT_BYTES = 65_536, 4 * 2**20, 16_384
_LISTEN = "0A"
"""TCP_LISTEN in `/proc/net/tcp` (proc(5))."""

_SOCKET = re.compile(r"socket:\[(\d+)\]$")

_FORWARDERS = frozenset(
    {"ssh", "sshd", "autossh", "docker-proxy", "rootlessport", "socat", "kubectl", "nginx", "haproxy"}
)
"""Programs that listen for another one, which may be on another machine."""

_SOCKETS_MAX = 4096

_SOCKETS_BYTES = 4 * 2**20


class Program(NamedTuple):
    """A program that holds a model, or serves those that do."""

    pattern: str
    """Regular expression for the beginning of its executable's name and arguments, separated by blanks."""
    name: str
    """Empty for the executable's own name."""
    port: int | None = None
    """Its default port of HTTP; `None` for one that is not contacted."""
    other_port: int | None = None
    """That of other versions."""


NO_SERVERS: Final = (
    Program(r"python\S* -m edgetop\.inference\.worker\b", "edgetop"),
    Program(r"(llama-(?!swap)[a-z0-9-]+|rpc-server|ggml-rpc-server)\b", ""),
)
"""Known programs that are no servers: edgetop and llama.cpp's tools."""

_MODEL_FLAGS = frozenset({"-m", "--model", "--model-path", "-hf", "-hfr", "--hf-repo", "--hf"})
_MODEL_AFTER = frozenset({"serve"})

_MATCHED_CHARACTERS = 4096
"""Of a command line."""


def program_of(arguments: Sequence[str], programs: Iterable[Program]) -> Program | None:
    """The first of the programs that a command line matches; `None` for one that is not known to hold a model."""
    if not arguments or not arguments[0]:
        return None
    line = " ".join((_base(arguments[0]), *arguments[1:]))[:_MATCHED_CHARACTERS]
    for program in programs:
        if re.match(program.pattern, line):
            return program if program.name else program._replace(name=_base(arguments[0]))
    return None


def model_of(arguments: Sequence[str]) -> str:
    """The model that a command line names; empty if it names none."""
    if arguments and _base(arguments[0]).startswith("python") and "-m" in arguments:
        # Here it names the module that is run.
        arguments = arguments[arguments.index("-m") + 1 :]
    for flag, value in pairwise(arguments):
        if flag in _MODEL_FLAGS or (flag in _MODEL_AFTER and not value.startswith("-")):
            return value
    for argument in arguments[1:]:
        name, _, value = argument.partition("=")
        if name in _MODEL_FLAGS and value:
            return value
    return next((argument for argument in arguments[1:] if argument.endswith(".gguf")), "")


def port_of(arguments: Sequence[str]) -> int | None:
    """The port that a command line names."""
    for flag, value in zip(arguments, (*arguments[1:], ""), strict=False):
        name, _, joined = flag.partition("=")
        text = joined or value
        if name == "--port" and text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 2**16:
            return int(text)
    return None


def _base(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2].removesuffix(".exe")


def _pids(host: Host) -> list[int]:
    try:
        return sorted(int(entry.name) for entry in host.path("/proc").iterdir() if entry.name.isdecimal())
    except OSError:
        return []


def _text(path: Path, size_bytes: int = _TEXT_BYTES) -> str:
    """The beginning of a file of `/proc`; empty when it may not be read or its process is gone."""
    try:
        with path.open("rb") as file:
            return file.read(size_bytes).decode("utf-8", "replace")
    except OSError:
        return ""


def _stat(host: Host, pid: int) -> list[str]:
    return stat_fields(_text(host.path(f"/proc/{pid}/stat")))


def _parent(host: Host, pid: int) -> int:
    fields = _stat(host, pid)
    return int(fields[PARENT]) if len(fields) > PARENT and fields[PARENT].isdecimal() else 0


def _uid(host: Host, pid: int) -> int | None:
    match = re.search(r"^Uid:\s+(\d+)", _text(host.path(f"/proc/{pid}/status")), re.MULTILINE)
    return int(match[1]) if match else None


class Listener(NamedTuple):
    """A TCP socket on which somebody of this machine listens."""

    address: str
    """An IP address; `0.0.0.0` or `::` for all of the machine's."""
    port: int
    inode: str
    uid: int


def listening_pid(host: Host, port: int, programs: Collection[str] = ()) -> int | Unavailable:
    """The process that listens on a TCP port of this machine, or why it is not known.

    Where another user's process may not be read, it is the one of that user with the name of one of `programs`.
    """
    if host.system != "linux":
        return _of_psutil(port)
    listeners = [listener for listener in listeners_of(host) if listener.port == port]
    if not listeners:
        return Unavailable(f"nobody listens on port {port} of this machine")
    inodes = {listener.inode for listener in listeners}
    pids = _pids(host)
    pid = next((pid for pid in pids if not inodes.isdisjoint(sockets_of(host, pid))), None)
    if pid is None:
        uids = {listener.uid for listener in listeners}
        pid = _by_name(host, [pid for pid in pids if _uid(host, pid) in uids], programs)
        if pid is None:
            return Unavailable(
                f"the process that listens on port {port} belongs to another user",
                "run edgetop as that user, or with sudo",
            )
    name = _name(host, pid)
    if name in _FORWARDERS:
        return Unavailable(f"{one_line(name)} listens on port {port} and forwards to another server")
    return pid


def descendants(host: Host, pid: int) -> tuple[int, ...]:
    """The processes that a process has started, and that those have."""
    if host.system != "linux":
        try:
            return tuple(child.pid for child in psutil.Process(pid).children(recursive=True))
        except psutil.Error:
            return ()
    children: dict[int, list[int]] = {}
    for each in _pids(host):
        children.setdefault(_parent(host, each), []).append(each)
    found: list[int] = []
    waiting = children.get(pid, [])
    while waiting:
        found += waiting
        waiting = [child for each in waiting for child in children.get(each, ()) if child not in found]
    return tuple(found)


def listeners_of(host: Host) -> Iterator[Listener]:
    """All TCP sockets of this machine on which somebody listens, from Linux' tables."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _text(host.path(table), _SOCKETS_BYTES).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                address, _, port = fields[1].rpartition(":")
                with suppress(ValueError):
                    uid = int(fields[7]) if fields[7].isdecimal() else -1
                    yield Listener(_address(address), int(port[:4], 16), fields[9], uid)


def _address(digits: str) -> str:
    """An address as the kernel prints it: words of 32 bits, each in the byte order of the machine."""
    words = [bytes.fromhex(digits[begin : begin + 8]) for begin in range(0, len(digits), 8)]
    packed = b"".join(words if sys.byteorder == "big" else (word[::-1] for word in words))
    return str(ipaddress.ip_address(packed))


def sockets_of(host: Host, pid: int) -> set[str]:
    """Inodes of the sockets that a process holds; none where it may not be read."""
    found: set[str] = set()
    try:
        for number, link in enumerate(host.path(f"/proc/{pid}/fd").iterdir()):
            if number == _SOCKETS_MAX:
                break
            match = _SOCKET.match(str(link.readlink()))
            if match:
                found.add(match[1])
    except OSError:
        return found
    return found


def _by_name(host: Host, pids: list[int], programs: Collection[str]) -> int | None:
    """The one process of these with such a name that none of the others has started."""
    named = {pid for pid in pids if _name(host, pid) in programs}
    roots = [pid for pid in named if _parent(host, pid) not in named]
    return roots[0] if len(roots) == 1 else None


def _name(host: Host, pid: int) -> str:
    return _text(host.path(f"/proc/{pid}/comm")).strip()


def _of_psutil(port: int) -> int | Unavailable:
    for process in psutil.process_iter():
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        if any(each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port for each in connections):
            return int(process.pid)
    return Unavailable(f"the process that listens on port {port} is not shown to us", "run edgetop with sudo")


class ModelProcess(Struct, frozen=True, kw_only=True):
    """A process that holds a model, or serves those that do, with the processes that work for it."""

    pid: int
    kind: str
    """The program: `llama-server`, `ollama`, `llama-cli`; for one that is not known, the name of its executable."""
    model: str = ""
    """Path or name of the model; empty where it is not known."""
    addresses: tuple[tuple[str, int], ...] = ()
    """Hosts and ports of its HTTP server; empty for a process that is no server of a known kind."""
    port_missing: str = ""
    """Why a server has no address here."""
    workers: tuple[int, ...] = ()
    """Processes that work for it."""
    engines: tuple[ModelProcess, ...] = ()
    """Servers of its own that it has started and that answer for it, such as Ollama's llama-server."""
    threads: int = 0
    """Of all of them."""
    uid: int | None = None
    is_open: bool = True
    """We may read its files."""
    started: int = 0
    """In clock ticks since boot; with the pid, what identifies a process."""

    def has_flag(self, host: Host, flags: Collection[str]) -> bool:
        """Whether its command line has one of these flags."""
        return any(each.partition("=")[0] in flags for each in _arguments(host.path(f"/proc/{self.pid}")))

    def setting(self, host: Host, flags: Collection[str], variable: str) -> str | None:
        """What its command line or else its environment says; empty for nothing, `None` where they cannot be read.

        The environment is read of processes of one's own alone. A value may be a secret: it is given out and not kept.
        """
        arguments = _arguments(host.path(f"/proc/{self.pid}"))
        if not arguments:
            return None
        for flag, value in zip(arguments, (*arguments[1:], ""), strict=True):
            name, equals, joined = flag.partition("=")
            if name in flags:
                return joined if equals else "" if value.startswith("-") else value
        if self.uid != host.user_id:
            return None
        begin = f"{variable}="
        lines = _text(host.path(f"/proc/{self.pid}/environ"), _CMDLINE_BYTES).split("\0")
        return next((line.removeprefix(begin) for line in lines if line.startswith(begin)), "")


class _Found(Struct, frozen=True):
    """One process, from its files."""

    pid: int
    parent: int
    threads: int
    started: int
    resident_bytes: int
    arguments: tuple[str, ...]
    program: Program | None
    mapped: str
    """A model file that it has mapped."""
    is_open: bool


class ModelProcesses:
    """Searches for model processes, without reading all files of all processes each time."""

    def __init__(self, host: Host, servers: Iterable[tuple[str, str, int | None, int | None]]) -> None:
        """`servers` are the known programs that serve models, as in `Program`."""
        self._host = host
        self._programs = (*(Program(*server) for server in servers), *NO_SERVERS)
        self._others: dict[int, int] = {}
        """Processes that hold no model, and after how many scans they are read again."""

    def scan(self) -> tuple[ModelProcess, ...]:
        """The model processes there are, the oldest first. On systems without `/proc` none are found."""
        if self._host.system != "linux":
            return ()
        found: dict[int, _Found] = {}
        others: dict[int, int] = {}
        for pid in _pids(self._host):
            if pid == self._host.own_pid:
                continue
            wait = self._others.get(pid, 0) - 1
            if wait > 0:
                others[pid] = wait
                continue
            seen = self._examine(pid)
            if seen is None:
                others[pid] = RESCAN_EVERY
            elif len(found) < PROCESSES_MOST:
                found[pid] = seen
        self._others = others
        return tuple(sorted(self._grouped(found), key=lambda process: (process.started, process.pid)))

    def _examine(self, pid: int) -> _Found | None:
        """What a process is; `None` for one that holds no model, and for one that is gone."""
        folder = self._host.path(f"/proc/{pid}")
        arguments = _arguments(folder)
        if not arguments:
            return None
        fields = _stat(self._host, pid)
        try:
            parent, threads, started, pages = (
                int(fields[place]) for place in (PARENT, THREADS, STARTED, RESIDENT_PAGES)
            )
        except (ValueError, IndexError):
            return None
        resident_bytes = pages * os.sysconf("SC_PAGE_SIZE")
        program = program_of(arguments, self._programs)
        if program is None and resident_bytes < LEAST_BYTES:
            return None
        mapped, is_open = _mapped(folder)
        if program is None and not mapped:
            return None
        return _Found(
            pid=pid,
            parent=parent,
            threads=threads,
            started=started,
            resident_bytes=resident_bytes,
            arguments=arguments,
            program=program,
            mapped=mapped,
            is_open=is_open,
        )

    def _grouped(self, found: Mapping[int, _Found]) -> Iterable[ModelProcess]:
        """Each with the processes that work for it and are no servers themselves."""
        listeners = list(listeners_of(self._host)) if found else []
        workers: dict[int, list[_Found]] = {}
        for seen in found.values():
            if _is_worker(seen, found):
                workers.setdefault(_root(seen, found), []).append(seen)
        for seen in found.values():
            if _is_worker(seen, found) or _host_of(seen, found) is not None:
                continue
            with_workers = [seen, *workers.get(seen.pid, ())]
            engines = [each for each in found.values() if _host_of(each, found) is seen]
            process = ModelProcess(
                pid=seen.pid,
                engines=tuple(self._with_addresses(self._alone(each), each, listeners) for each in engines),
                kind=seen.program.name if seen.program is not None else Path(seen.arguments[0]).name,
                model=_model(with_workers),
                workers=tuple(each.pid for each in (*with_workers[1:], *engines)),
                threads=sum(each.threads for each in (*with_workers, *engines)),
                uid=_uid(self._host, seen.pid),
                is_open=seen.is_open,
                started=seen.started,
            )
            yield self._with_addresses(process, seen, listeners)

    def _alone(self, seen: _Found) -> ModelProcess:
        return ModelProcess(
            pid=seen.pid, kind="" if seen.program is None else seen.program.name, uid=_uid(self._host, seen.pid)
        )

    def _with_addresses(self, process: ModelProcess, seen: _Found, listeners: Sequence[Listener]) -> ModelProcess:
        if seen.program is not None and seen.program.port is None:
            return process
        named = port_of(seen.arguments)
        ports = (named,) if named or seen.program is None else (seen.program.port, seen.program.other_port)
        usual = {port for port in ports if port is not None}
        inodes = sockets_of(self._host, process.pid)
        own = [listener for listener in listeners if listener.inode in inodes]
        if seen.program is None and not (own and _base(seen.arguments[0]).startswith("python")):
            # Of programs that nobody knows, only Python ones have been seen to be servers.
            return process
        if not own:
            # The sockets of another user's process are hidden. One of that user on its port is taken for it, and of a
            # service's own user the only one: OLLAMA_HOST in its environment may name any port.
            own = [each for each in listeners if each.uid == process.uid and (process.uid or each.port in usual)]
        chosen = [each for each in own if each.port in usual] or (own if len(own) == 1 else [])
        if not chosen:
            where = "its port is not among those of this machine: it may be in a container, or still be loading"
            none = f", none of them {' or '.join(map(str, sorted(usual)))}" if usual else ""
            several = f"it listens on several ports{none}"
            return replace(process, port_missing=several if own else where)
        addresses = {(LOCAL_HOSTS.get(each.address, each.address), each.port) for each in chosen}
        return replace(process, addresses=tuple(sorted(addresses)))


def _is_server(seen: _Found) -> bool:
    return seen.program is not None and seen.program.port is not None


def _is_worker(seen: _Found, found: Mapping[int, _Found]) -> bool:
    """Whether it works for another: no server, or one more of the same program, as those of a router are."""
    parent = found.get(seen.parent)
    return parent is not None and (not _is_server(seen) or seen.program == parent.program)


def _host_of(seen: _Found, found: Mapping[int, _Found]) -> _Found | None:
    """The server of another program that has started this one, and answers with it."""
    parent = found.get(seen.parent)
    if parent is None or not _is_server(seen) or seen.program == parent.program:
        return None
    parent = found[_root(parent, found)]
    return parent if _is_server(parent) else None


def _root(seen: _Found, found: Mapping[int, _Found]) -> int:
    """The first process above that works for no other."""
    passed: set[int] = set()
    while _is_worker(seen, found) and seen.pid not in passed:
        passed.add(seen.pid)
        seen = found[seen.parent]
    return seen.pid


def _model(group: Sequence[_Found]) -> str:
    """The model of a process and its workers: what a command line names, else what is mapped."""
    named = (model_of(each.arguments) for each in group if each.program is not None)
    return next((name for name in (*named, *(each.mapped for each in group)) if name), "")


def _arguments(folder: Path) -> tuple[str, ...]:
    text = _text(folder / "cmdline", _CMDLINE_BYTES)
    return tuple(islice(text.removesuffix("\0").split("\0"), 4096)) if text else ()


def _mapped(folder: Path) -> tuple[str, bool]:
    """A model file that a process has mapped, and whether that may be read."""
    text = _text(folder / "maps", _MAPS_BYTES)
    for line in text.splitlines():
        path = line[max(0, line.find("/")) :]
        if path.startswith("/") and _MODEL_FILE.search(path[-_ENDING:]):
            return path, True
    return "", bool(text)

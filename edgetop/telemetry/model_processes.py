"""Processes of this machine that hold language models, whoever started them.

They are known by their command lines, which everybody may read, and by the model files that they have mapped, which
their own user may. What may not be read is not known; nothing is guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from edgetop.telemetry.listening import Listener, listeners_of, sockets_of
from edgetop.telemetry.model_programs import Program, model_of, port_of, program_of
from edgetop.telemetry.source import Host

LEAST_BYTES = 48 * 2**20
"""Resident memory that a process of no known program has at least when it holds a model: all of use are larger."""
LOOK_AGAIN: Final = 6
"""A process that holds no model is looked at again at every so many looks: it may load one."""
PROCESSES_MOST = 64
"""Model processes that are followed; a machine with more of them is no edge device."""
LOCAL_HOSTS: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - read, not listened on
"""How a server is asked that listens on all addresses of the machine."""
_MAPPED = re.compile(r"(/[^\n]*?(?:\.gguf|/blobs/sha256-[0-9a-f]{64}|\.safetensors|\.llamafile))$", re.MULTILINE)
_CMDLINE_BYTES, _STAT_BYTES, _MAPS_BYTES, _STATUS_BYTES = 65_536, 1024, 4 * 2**20, 16_384
_PARENT, _USER_TIME, _SYSTEM_TIME, _THREADS, _STARTED, _RESIDENT_PAGES = 1, 11, 12, 17, 19, 21
"""Fields of `/proc/<pid>/stat` behind the command's name (proc(5): 4, 14, 15, 20, 22 and 24)."""


class ModelProcess(Struct, frozen=True, kw_only=True):
    """A process that holds a model, or serves those that do, with the processes that work for it."""

    pid: int
    kind: str
    """The program: `llama-server`, `ollama`, `llama-cli`; for one that is not known, the name of its executable."""
    model: str = ""
    """Path or name of the model; empty where it is not known."""
    addresses: tuple[tuple[str, int], ...] = ()
    """Hosts and ports on which it may be asked over HTTP; empty for a process that is no server of a known kind."""
    port_missing: str = ""
    """Why a server has no address here."""
    workers: tuple[int, ...] = ()
    """Processes that work for it."""
    threads: int = 0
    """Of all of them."""
    uid: int | None = None
    is_open: bool = True
    """We may look into it."""
    started: int = 0
    """In clock ticks since the machine was; with the pid, what tells a process from all others."""


class _Seen(Struct, frozen=True):
    """One process, as its files tell."""

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
    """Looks for model processes again and again, without reading all files of all processes each time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._others: dict[int, int] = {}
        """Processes that hold no model, and in how many looks they are looked at again."""

    def look(self) -> tuple[ModelProcess, ...]:
        """The model processes there are, the oldest first. On systems without `/proc` none are found."""
        if self._host.system != "linux":
            return ()
        found: dict[int, _Seen] = {}
        others: dict[int, int] = {}
        for pid in self._pids():
            wait = self._others.get(pid, 0) - 1
            if wait > 0:
                others[pid] = wait
                continue
            seen = self._see(pid)
            if seen is None:
                others[pid] = LOOK_AGAIN
            elif len(found) < PROCESSES_MOST:
                found[pid] = seen
        self._others = others
        return tuple(sorted(self._grouped(found), key=lambda process: (process.started, process.pid)))

    def _pids(self) -> list[int]:
        try:
            names = [entry.name for entry in self._host.path("/proc").iterdir()]
        except OSError:
            return []
        return sorted(int(name) for name in names if name.isdecimal() and int(name) != self._host.own_pid)

    def _see(self, pid: int) -> _Seen | None:
        """What a process is; `None` for one that holds no model, and for one that is gone."""
        folder = self._host.path(f"/proc/{pid}")
        arguments = _arguments(folder)
        if not arguments:
            return None
        fields = _text(folder / "stat", _STAT_BYTES).rpartition(")")[2].split()
        if len(fields) <= _RESIDENT_PAGES:
            return None
        resident_bytes = int(fields[_RESIDENT_PAGES]) * os.sysconf("SC_PAGE_SIZE")
        program = program_of(arguments)
        if program is None and resident_bytes < LEAST_BYTES:
            return None
        mapped, is_open = _mapped(folder)
        if program is None and not mapped:
            return None
        return _Seen(
            pid=pid,
            parent=int(fields[_PARENT]),
            threads=int(fields[_THREADS]),
            started=int(fields[_STARTED]),
            resident_bytes=resident_bytes,
            arguments=arguments,
            program=program,
            mapped=mapped,
            is_open=is_open,
        )

    def _grouped(self, found: Mapping[int, _Seen]) -> Iterable[ModelProcess]:
        """Each with the processes that work for it and are no servers themselves."""
        listeners = list(listeners_of(self._host)) if found else []
        workers: dict[int, list[_Seen]] = {}
        for seen in found.values():
            if _is_worker(seen, found):
                workers.setdefault(_root(seen, found), []).append(seen)
        for seen in found.values():
            if _is_worker(seen, found):
                continue
            with_workers = [seen, *workers.get(seen.pid, ())]
            process = ModelProcess(
                pid=seen.pid,
                kind=seen.program.kind if seen.program is not None else Path(seen.arguments[0]).name,
                model=_model(with_workers),
                workers=tuple(each.pid for each in with_workers[1:]),
                threads=sum(each.threads for each in with_workers),
                uid=_uid(self._host, seen.pid),
                is_open=seen.is_open,
                started=seen.started,
            )
            yield self._with_addresses(process, seen, listeners)

    def _with_addresses(self, process: ModelProcess, seen: _Seen, listeners: Sequence[Listener]) -> ModelProcess:
        if seen.program is None or seen.program.port is None:
            return process
        named = port_of(seen.arguments)
        usual = named or seen.program.port
        inodes = sockets_of(self._host, process.pid)
        own = [listener for listener in listeners if listener.inode in inodes]
        if not own:
            # Of another user's process the sockets are not shown; one of that user's on its port is taken for its.
            own = [each for each in listeners if each.port == usual and each.uid == process.uid]
        chosen = [each for each in own if each.port == usual] or (own if len(own) == 1 else [])
        if not chosen:
            where = "its port is not among those of this machine: it may be in a container, or still be loading"
            return replace(process, port_missing=f"it listens on several ports, none of them {usual}" if own else where)
        addresses = {(LOCAL_HOSTS.get(each.address, each.address), each.port) for each in chosen}
        return replace(process, addresses=tuple(sorted(addresses)))


def _is_worker(seen: _Seen, found: Mapping[int, _Seen]) -> bool:
    is_server = seen.program is not None and seen.program.port is not None
    return not is_server and seen.parent in found


def _root(seen: _Seen, found: Mapping[int, _Seen]) -> int:
    """The first process above that works for no other."""
    passed: set[int] = set()
    while _is_worker(seen, found) and seen.pid not in passed:
        passed.add(seen.pid)
        seen = found[seen.parent]
    return seen.pid


def _model(group: Sequence[_Seen]) -> str:
    """The model of a process and its workers: what a command line names, else what is mapped."""
    named = (model_of(each.arguments) for each in group if each.program is not None)
    return next((name for name in (*named, *(each.mapped for each in group)) if name), "")


def _text(path: Path, size_bytes: int) -> str:
    """What a file of `/proc` says; empty when it may not be read or its process is gone."""
    try:
        with path.open("rb") as file:
            return file.read(size_bytes).decode("utf-8", "replace")
    except OSError:
        return ""


def _arguments(folder: Path) -> tuple[str, ...]:
    text = _text(folder / "cmdline", _CMDLINE_BYTES)
    return tuple(islice(text.removesuffix("\0").split("\0"), 4096)) if text else ()


def _mapped(folder: Path) -> tuple[str, bool]:
    """A model file that a process has mapped, and whether that may be read."""
    text = _text(folder / "maps", _MAPS_BYTES)
    match = _MAPPED.search(text)
    return ("" if match is None else match[1]), bool(text)


def _uid(host: Host, pid: int) -> int | None:
    match = re.search(r"^Uid:\s+(\d+)", _text(host.path(f"/proc/{pid}/status"), _STATUS_BYTES), re.MULTILINE)
    return int(match[1]) if match else None

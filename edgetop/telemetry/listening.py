"""Which process listens on a port of this machine, and which processes work for it."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from edgetop.core.records import Missing
from edgetop.core.text import one_line
from edgetop.telemetry.source import Host

_LISTEN = "0A"
"""TCP_LISTEN in `/proc/net/tcp` (proc(5))."""
_SOCKET = re.compile(r"socket:\[(\d+)\]$")
_FORWARDERS = frozenset(
    {"ssh", "sshd", "autossh", "docker-proxy", "rootlessport", "socat", "kubectl", "nginx", "haproxy"}
)
"""Programs that listen for another one, which may be on another machine."""
_ALL_SOCKETS_READ = 4096


class Listener(NamedTuple):
    """A TCP socket on which somebody of this machine listens."""

    address: str
    """An IP address; `0.0.0.0` or `::` for all of the machine's."""
    port: int
    inode: str
    uid: int


def listening_pid(host: Host, port: int, programs: Collection[str] = ()) -> int | Missing:
    """The process that listens on a TCP port of this machine, or why it is not known.

    Where another user's process may not be looked into, it is the one of that user with the name of one of `programs`.
    """
    if host.system != "linux":
        return _of_psutil(port)
    listeners = [listener for listener in listeners_of(host) if listener.port == port]
    if not listeners:
        return Missing(f"nobody listens on port {port} of this machine")
    inodes = {listener.inode for listener in listeners}
    pids = _pids(host)
    pid = next((pid for pid in pids if not inodes.isdisjoint(sockets_of(host, pid))), None)
    if pid is None:
        uids = {listener.uid for listener in listeners}
        pid = _by_name(host, [pid for pid in pids if _uid(host, pid) in uids], programs)
        if pid is None:
            return Missing(
                f"the process that listens on port {port} belongs to another user",
                "run edgetop as that user, or with sudo",
            )
    name = _name(host, pid)
    if name in _FORWARDERS:
        return Missing(f"{one_line(name)} listens on port {port} and passes on to a server that is elsewhere")
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
    """All TCP sockets of this machine on which somebody listens, as Linux tells them."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _text(host.path(table)).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                address, _, port = fields[1].rpartition(":")
                with suppress(ValueError):
                    uid = int(fields[7]) if fields[7].isdecimal() else -1
                    yield Listener(_address(address), int(port, 16), fields[9], uid)


def _address(digits: str) -> str:
    """An address as the kernel prints it: words of 32 bits, each in the byte order of the machine."""
    words = [bytes.fromhex(digits[begin : begin + 8]) for begin in range(0, len(digits), 8)]
    packed = b"".join(words if sys.byteorder == "big" else (word[::-1] for word in words))
    return str(ipaddress.ip_address(packed))


def _pids(host: Host) -> list[int]:
    try:
        return sorted(int(entry.name) for entry in host.path("/proc").iterdir() if entry.name.isdecimal())
    except OSError:
        return []


def sockets_of(host: Host, pid: int) -> set[str]:
    """Inodes of the sockets that a process holds; none where it may not be looked into."""
    found: set[str] = set()
    try:
        for number, link in enumerate(host.path(f"/proc/{pid}/fd").iterdir()):
            if number == _ALL_SOCKETS_READ:
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


def _uid(host: Host, pid: int) -> int | None:
    match = re.search(r"^Uid:\s+(\d+)", _text(host.path(f"/proc/{pid}/status")), re.MULTILINE)
    return int(match[1]) if match else None


def _parent(host: Host, pid: int) -> int:
    # The command's name may itself hold blanks and parentheses.
    fields = _text(host.path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 and fields[1].isdecimal() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


def _of_psutil(port: int) -> int | Missing:
    for process in psutil.process_iter():
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        if any(each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port for each in connections):
            return int(process.pid)
    return Missing(f"the process that listens on port {port} is not shown to us", "run edgetop with sudo")

"""Which machine and process a server is."""

from __future__ import annotations

import socket
import time

import psutil

from edgetop.core.sources import Unavailable
from edgetop.inference.server.address import Address
from edgetop.inference.server.detection import server_process_names
from edgetop.telemetry.host import NO_ENGINE, Host
from edgetop.telemetry.model_processes import descendants, listening_pid

RESCAN_S = 5.0
"""A scan of all processes takes some milliseconds."""


class ServerLocation:
    """Where one server is. Called from the threads of the sampler."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.is_here = address.is_loopback or _is_own(address.host)
        self._found: int | Unavailable = NO_ENGINE
        self._helpers: tuple[int, ...] = ()
        self._scanned_s = -RESCAN_S
        self._host = Host()

    def use(self, host: Host) -> None:
        """Look for the process on this host."""
        self._host = host

    @property
    def no_readings(self) -> Unavailable:
        """Why this machine's sensors say nothing about the server."""
        return Unavailable(f"the server is on {self._address.authority}: this machine's readings are not its own")

    @property
    def no_power(self) -> Unavailable:
        """Why this machine's power says nothing about the server, and how to measure that of its machine."""
        hint = f'--power-stream "ssh {self._address.host} edgetop power --stream" reads it over your own SSH'
        return Unavailable(f"the server is on {self._address.authority}", hint)

    def pid(self) -> int | None:
        """The process that answers, if it runs here and we may see it."""
        self._scan()
        return None if isinstance(self._found, Unavailable) else self._found

    def helper_pids(self) -> tuple[int, ...]:
        """The processes that work for it, such as Ollama's runner, which has the model."""
        self._scan()
        return self._helpers

    def missing(self) -> Unavailable:
        """Why `pid` is `None`."""
        if not self.is_here:
            return self.no_readings
        return self._found if isinstance(self._found, Unavailable) else NO_ENGINE

    def _scan(self) -> None:
        if not self.is_here:
            return
        found, now_s = self._found, time.monotonic()
        gone = not isinstance(found, Unavailable) and not psutil.pid_exists(found)
        if now_s - self._scanned_s < RESCAN_S and not gone:
            return
        self._scanned_s = now_s
        if isinstance(found, Unavailable) or gone:
            found = listening_pid(self._host, self._address.port, server_process_names())
        self._helpers = () if isinstance(found, Unavailable) else descendants(self._host, found)
        self._found = found


def _is_own(name: str) -> bool:
    """Whether a name or an address is one of this machine's, without any request to a name server."""
    if name.lower() in {socket.gethostname().lower(), socket.gethostname().partition(".")[0].lower()}:
        return True
    own = {each.address.partition("%")[0].lower() for several in psutil.net_if_addrs().values() for each in several}
    return name.lower() in own

"""Which machine and process a server is."""

from __future__ import annotations

import socket
import time

import psutil

from edgetop.core.sources import Unavailable
from edgetop.inference.server.address import Address
from edgetop.telemetry.host import NO_ENGINE, Host
from edgetop.telemetry.model_processes import descendants, listening_pid

LOOK_AGAIN_S = 5.0
"""Looking through all processes takes some milliseconds."""

PROGRAMS = ("llama-server", "ollama", "vllm", "lms", "koboldcpp")


class ServerLocation:
    """Where one server is. Asked from the threads of the sampler."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.is_here = address.is_loopback or _is_own(address.host)
        self._found: int | Unavailable = NO_ENGINE
        self._helpers: tuple[int, ...] = ()
        self._looked_s = -LOOK_AGAIN_S
        self._host = Host()

    def use(self, host: Host) -> None:
        """Look for the process on this host."""
        self._host = host

    @property
    def elsewhere(self) -> Unavailable:
        """Why this machine's gauges say nothing about the server."""
        return Unavailable(f"the server is on {self._address.authority}: this machine's readings are not its own")

    @property
    def power_elsewhere(self) -> Unavailable:
        """Why this machine's power says nothing about the server, and what brings that of its machine."""
        hint = f'--power-stream "ssh {self._address.host} edgetop power --stream" brings it over your own SSH'
        return Unavailable(f"the server is on {self._address.authority}", hint)

    def pid(self) -> int | None:
        """The process that answers, if it runs here and is shown to us."""
        self._look()
        return None if isinstance(self._found, Unavailable) else self._found

    def helper_pids(self) -> tuple[int, ...]:
        """The processes that work for it, such as Ollama's runner, which holds the model."""
        self._look()
        return self._helpers

    def missing(self) -> Unavailable:
        """Why `pid` is `None`."""
        if not self.is_here:
            return self.elsewhere
        return self._found if isinstance(self._found, Unavailable) else NO_ENGINE

    def _look(self) -> None:
        if not self.is_here:
            return
        found, now_s = self._found, time.monotonic()
        gone = not isinstance(found, Unavailable) and not psutil.pid_exists(found)
        if now_s - self._looked_s < LOOK_AGAIN_S and not gone:
            return
        self._looked_s = now_s
        if isinstance(found, Unavailable) or gone:
            found = listening_pid(self._host, self._address.port, PROGRAMS)
        self._helpers = () if isinstance(found, Unavailable) else descendants(self._host, found)
        self._found = found


def _is_own(name: str) -> bool:
    """Whether a name or an address is one of this machine's, by what the machine itself knows: no server is asked."""
    if name.lower() in {socket.gethostname().lower(), socket.gethostname().partition(".")[0].lower()}:
        return True
    own = {each.address.partition("%")[0].lower() for several in psutil.net_if_addrs().values() for each in several}
    return name.lower() in own

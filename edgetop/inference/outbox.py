"""The worker's way out: reports leave without ever making the decoding wait for a reader."""

from __future__ import annotations

import contextlib
import select
import socket

from edgetop.inference import wire
from edgetop.inference.protocol import Report

SEND_BUFFER_BYTES = 4 * 2**20
"""Asked of the kernel, which may give less; the rest waits here."""


class ParentGoneError(Exception):
    """Nobody is at the other end any more."""


class Outbox:
    """Reports on their way through a non-blocking socket."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._socket = connection
        self._backlog = bytearray()

    def send(self, report: Report) -> None:
        """Send as much as the socket takes and keep the rest. Raises ParentGoneError."""
        self._backlog += wire.encode(report)
        self._push()

    def wait(self) -> None:
        """Return when everything has left. Raises ParentGoneError."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while self._backlog:
            poll.poll()
            self._push()

    def _push(self) -> None:
        try:
            while self._backlog:
                sent = self._socket.send(self._backlog)
                del self._backlog[:sent]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionError) as error:
            raise ParentGoneError from error

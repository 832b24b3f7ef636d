"""A connection whose waiting can be interrupted: the file that `http.client` reads an answer from.

A server may take minutes before it says anything, and a person may stop it at any moment, so that nothing here waits
without looking at the stop flag. The kernel's clock is read right after bytes were received: that is the stamp of what
they hold.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgetop.core.clock import monotonic_us
from edgetop.inference.server.failure import ServerFailure, Stopped

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_LOOK_MS = 20
"""How soon a stop is noticed."""
_WANT_READ = (BlockingIOError, ssl.SSLWantReadError)
_WANT_WRITE = (BlockingIOError, ssl.SSLWantWriteError)
_BUFFER_BYTES = 65536


class Channel(io.RawIOBase):
    """A connected socket. `stopped` is asked again and again while it waits."""

    def __init__(self, connected: socket.socket, *, stopped: Callable[[], bool], silence_s: float) -> None:
        """`silence_s` is how long the other side may send nothing, or take nothing."""
        connected.setblocking(False)
        self._socket = connected
        self._stopped = stopped
        self._silence_s = silence_s
        self._readable = select.poll()
        self._readable.register(connected, select.POLLIN)
        self._holds_back = isinstance(connected, ssl.SSLSocket)
        """Bytes may wait above the socket, where it does not know of them."""
        self.received_us = monotonic_us()
        """When the last bytes were received."""

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The file of the answer, as `http.client` asks for it."""
        return io.BufferedReader(self, _BUFFER_BYTES)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Receive something; 0 at the end. Raises ServerFailure when nothing comes, or when it is to stop."""
        begin_s = time.monotonic()
        while True:
            if self._stopped():
                raise Stopped
            # Most chunks have to be waited for; to find that out by trying costs more than to ask.
            if not self._holds_back and not self._readable.poll(_LOOK_MS):
                self._require_patience(begin_s)
                continue
            try:
                received = self._socket.recv_into(buffer)
            except _WANT_READ:
                self._require_patience(begin_s)
                self._readable.poll(_LOOK_MS)
            else:
                self.received_us = monotonic_us()
                return received

    def sendall(self, data: ReadableBuffer) -> None:
        """Send all of it."""
        remaining = memoryview(data)
        begin_s = time.monotonic()
        while remaining:
            if self._stopped():
                raise Stopped
            try:
                remaining = remaining[self._socket.send(remaining) :]
            except _WANT_WRITE:
                self._require_patience(begin_s)
                writable = select.poll()
                writable.register(self._socket, select.POLLOUT)
                writable.poll(_LOOK_MS)
            else:
                begin_s = time.monotonic()

    def close(self) -> None:
        """Called for the file of each answer; the socket is closed by `hang_up`."""

    def hang_up(self) -> None:
        """Close the connection, which also tells the server to stop."""
        self._socket.close()
        super().close()

    def _require_patience(self, begin_s: float) -> None:
        if time.monotonic() - begin_s > self._silence_s:
            raise ServerFailure(
                f"The server said nothing for {self._silence_s:g} s.",
                "Look whether it hangs; --server-timeout gives it longer.",
                cause="silent",
            )

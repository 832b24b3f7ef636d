"""A connection whose waiting can be interrupted: the file that `http.client` reads an answer from.

A server may take minutes before it says anything, and a person may stop it at any moment, so that nothing here waits
without looking at the stop flag. The kernel's clock is read right after bytes were received: that is the stamp of what
they hold.

A stream is read in two steps, since whoever decodes on the cores of this machine waits for a thread that wakes for each
token: what comes is stamped and put aside, and looked into ten times a second.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
import time
from collections import deque
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
_GATHER_BYTES_MAX = 2**20


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
        self._arrived: deque[tuple[int, memoryview]] = deque()
        self._failure: OSError | None = None
        """Comes after what had arrived before it."""
        self._due_us = 0
        self.gather_us = 0
        """How long what arrives may wait for more, after the last time that something was given out."""
        self.received_us = monotonic_us()
        """When the bytes that were given out last had been received."""

    @property
    def is_drained(self) -> bool:
        """Whether everything that arrived has been given out."""
        return not self._arrived

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The file of the answer, as `http.client` asks for it."""
        return io.BufferedReader(self, _BUFFER_BYTES)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Receive something; 0 at the end. Raises OSError, and ServerFailure when nothing comes or it is to stop."""
        if not self._arrived:
            self._gather()
        self.received_us, data = self._arrived.popleft()
        into = memoryview(buffer).cast("B")
        size = min(len(data), len(into))
        into[:size] = data[:size]
        if size < len(data):
            self._arrived.appendleft((self.received_us, data[size:]))
        return size

    def _gather(self) -> None:
        """Wait until something has arrived, and for what comes until it is time to look into it."""
        if self._failure is not None:
            raise self._failure
        begin_s = time.monotonic()
        arrived, poll, receive = self._arrived, self._readable.poll, self._socket.recv
        due_us, look_us, size = self._due_us, 0, 0
        # Each token passes here, with cold caches beside a model that decodes: as few calls as can be.
        while True:
            now_us = monotonic_us()
            if arrived and (now_us >= due_us or size >= _GATHER_BYTES_MAX):
                break
            if now_us >= look_us:
                look_us = now_us + _LOOK_MS * 1000
                if self._is_to_stop(begin_s):
                    break
            wait_ms = min(_LOOK_MS, (due_us - now_us) / 1000) if arrived else _LOOK_MS
            # Most chunks have to be waited for; to find that out by trying costs more than to ask.
            if not self._holds_back and not poll(wait_ms):
                continue
            try:
                data = receive(_BUFFER_BYTES)
            except _WANT_READ:
                poll(wait_ms)
                continue
            except OSError as error:
                if not arrived:
                    raise
                self._failure = error
                break
            arrived.append((monotonic_us(), memoryview(data)))
            size += len(data)
            if not data:
                break
        self._due_us = monotonic_us() + self.gather_us

    def _is_to_stop(self, begin_s: float) -> bool:
        """Whether to wait no longer for more than has arrived. Raises Stopped, or ServerFailure, where nothing has."""
        stopped = self._stopped()
        if not self._arrived:
            if stopped:
                raise Stopped
            self._require_patience(begin_s)
        return stopped

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

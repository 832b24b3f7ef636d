"""From the bytes of a stream to its lines and events, in pieces of any size and with bounded memory."""

from __future__ import annotations

from edgetop.inference.server.failure import ServerFailure

LINE_BYTES_MAX = 4 * 2**20
"""A chunk of a reply is far below a kilobyte; a list of log-probabilities may make it some more."""


class LineSplitter:
    """Cuts a stream into lines that end with LF, CR or CR LF."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` ends, without their ends. Raises ServerFailure for one that does not end."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if data.endswith(b"\r"):
            self._after_cr = True
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            self._keep(data)
            return []
        first, *others = data.split(b"\n")
        lines = [bytes(self._rest) + first, *others[:-1]]
        self._rest.clear()
        self._keep(others[-1])
        return lines

    def finish(self) -> bytes:
        """The last line, where the stream ended without an end of line."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    def _keep(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > LINE_BYTES_MAX:
            raise ServerFailure(f"The server sent a line of more than {LINE_BYTES_MAX // 2**20} MiB.")


class NdjsonReader:
    """The documents of a stream that has one in each line."""

    def __init__(self) -> None:
        self._lines = LineSplitter()

    def feed(self, data: bytes) -> list[bytes]:
        """The documents that `data` completes."""
        return [line for line in self._lines.feed(data) if line.strip()]

    def finish(self) -> list[bytes]:
        """What the end of the stream completes."""
        rest = self._lines.finish()
        return [rest] if rest.strip() else []


class SseReader:
    """The data of server-sent events (WHATWG HTML, section 9.2.6), comments and all other fields left out.

    An event that the end of the stream cuts off is given out too: some servers leave out the last empty line.
    """

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._data: list[bytes] = []
        self._size = 0
        self._first = True

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes."""
        events = []
        for line in self._lines.feed(data):
            if self._first:
                self._first = False
                line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - a byte order mark is no part of the line
            if not line:
                events += self._take()
            elif line.startswith(b"data:"):
                self._add(line[5:].removeprefix(b" "))
            elif line == b"data":
                self._add(b"")
        return events

    def finish(self) -> list[bytes]:
        """What the end of the stream completes."""
        rest = self._lines.finish()
        if rest.startswith(b"data:"):
            self._add(rest[5:].removeprefix(b" "))
        return self._take()

    def _add(self, data: bytes) -> None:
        self._data.append(data)
        self._size += len(data) + 1
        if self._size > LINE_BYTES_MAX:
            raise ServerFailure(f"The server sent an event of more than {LINE_BYTES_MAX // 2**20} MiB.")

    def _take(self) -> list[bytes]:
        data, self._data, self._size = b"\n".join(self._data), [], 0
        return [data] if data else []


class DocumentReader:
    """The one document that a whole answer is."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Nothing is complete before the end."""
        self._data += data
        if len(self._data) > LINE_BYTES_MAX:
            raise ServerFailure(f"The server sent a document of more than {LINE_BYTES_MAX // 2**20} MiB.")
        return []

    def finish(self) -> list[bytes]:
        """What the end of the stream completes."""
        data = bytes(self._data)
        self._data.clear()
        return [data] if data.strip() else []

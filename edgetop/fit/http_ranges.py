"""The beginning of a remote file, as much of it as is asked for and little more."""

from __future__ import annotations

import re
from types import TracebackType

from edgetop.core.errors import ModelError
from edgetop.fit.http_get import PATIENCE, Credential, Patience, Reply, get, shown

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class RemoteFile:
    """A file on a web server, read from its beginning.

    Servers that know ranges are asked for exactly the bytes that are missing; from others one answer is read as far as
    needed, then the connection is closed. To be used as a context manager.
    """

    def __init__(self, url: str, *, credential: Credential | None = None, patience: Patience = PATIENCE) -> None:
        self.url = url
        self.size_bytes: int | None = None
        """Of the whole file; `None` where the server does not say."""
        self.received_bytes = 0
        """Of the file, so far."""
        self._credential = credential
        self._patience = patience
        self._held = bytearray()
        self._ended = False
        self._whole: Reply | None = None
        self._etag = ""

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._whole is not None:
            self._whole.close()

    def beginning(self, count: int) -> bytes:
        """Give the first `count` bytes of the file, fewer only if it is shorter. Raises ModelError."""
        if len(self._held) < count and not self._ended:
            if self._whole is None:
                self._ask(count)
            if self._whole is not None:
                self._take_rest(self._whole, count - len(self._held))
        return bytes(self._held[:count])

    def _ask(self, count: int) -> None:
        start = len(self._held)
        headers = {"Range": f"bytes={start}-{count - 1}"}
        reply = get(self.url, headers=headers, credential=self._credential, patience=self._patience)
        try:
            if reply.status == 206:
                self._take_range(reply, start, count)
            elif reply.status == 200 and start == 0:
                length = reply.header("Content-Length")
                self.size_bytes = int(length) if length.isascii() and length.isdigit() else None
                _check_encoding(reply)
                self._whole = reply
            elif reply.status == 416 and start == 0:
                self.size_bytes, self._ended = 0, True
            else:
                raise refused_status(reply, changed=reply.status in {200, 416})
        finally:
            if reply is not self._whole:
                reply.close()

    def _take_range(self, reply: Reply, start: int, count: int) -> None:
        _check_encoding(reply)
        match = _CONTENT_RANGE.fullmatch(reply.header("Content-Range").strip())
        first, last, total = (match[1], match[2], match[3]) if match else ("-1", "-1", "-1")
        size_bytes = None if total == "*" else int(total)
        end = int(last) + 1
        if (
            int(first) != start
            or not start < end <= count
            or (size_bytes is not None and end != min(count, size_bytes))
        ):
            raise ModelError(
                f"{shown(reply.url)} answers with another range than it was asked for",
                "download the file and check it here",
            )
        etag = reply.header("ETag")
        if start and (size_bytes, etag) != (self.size_bytes, self._etag):
            raise _changed(reply)
        self.size_bytes, self._etag = size_bytes, etag
        if self._take(reply, end - start) < end - start:
            raise _broken_off(reply)
        self._ended = end < count or end == size_bytes

    def _take_rest(self, reply: Reply, count: int) -> None:
        """Read on in an answer that holds the whole file."""
        self._ended = self._take(reply, count) < count
        if self._ended and self.size_bytes not in {None, len(self._held)}:
            raise _broken_off(reply)

    def _take(self, reply: Reply, count: int) -> int:
        data = reply.read(count)
        self._held += data
        self.received_bytes += len(data)
        return len(data)


def refused_status(reply: Reply, *, changed: bool = False) -> ModelError:
    """What a status other than success means."""
    where, status = shown(reply.url), reply.status
    if changed:
        return _changed(reply)
    if status in {401, 403}:
        return ModelError(
            f"{where} may not be read without permission ({status})",
            "on the Hugging Face hub, accept the model's terms on its page and set HF_TOKEN",
        )
    if status in {404, 410}:
        return ModelError(f"there is no file {where} ({status})", "check the address")
    if status == 429:
        after = reply.header("Retry-After")
        wait = f"wait {after} s and try again" if after.isascii() and after.isdigit() else "wait, and try again later"
        return ModelError(f"{where} has been asked too often (429)", wait)
    if status >= 500:
        return ModelError(f"the server of {where} failed ({status})", "try again later")
    return ModelError(f"{where} answers with status {status}", "check the address")


def _changed(reply: Reply) -> ModelError:
    return ModelError(f"{shown(reply.url)} changed while it was read", "try again")


def _broken_off(reply: Reply) -> ModelError:
    return ModelError(f"{shown(reply.url)} broke off its answer", "try again")


def _check_encoding(reply: Reply) -> None:
    encoding = reply.header("Content-Encoding")
    if encoding not in {"", "identity"}:
        raise ModelError(f"{shown(reply.url)} comes compressed, unasked", "download the file and check it here")

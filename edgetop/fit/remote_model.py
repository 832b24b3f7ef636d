"""Facts from an address or the hub, headers only."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from urllib.parse import urlunsplit

import msgspec
from msgspec import Struct

from edgetop.core.errors import ModelError
from edgetop.core.format import format_bytes
from edgetop.core.gguf import GgufError, GgufHeader, GgufIncompleteError, read_header
from edgetop.fit.model_facts import ModelFacts, facts_of
from edgetop.io.http import Credential, HttpResponse, Timeouts, get, parse_url, shown
from edgetop.io.hub import (
    DEFAULT_TIMEOUTS,
    PARTS_MAX,
    chosen_files,
    chosen_hub,
    model_errors,
    refused_status,
    repository,
)
from edgetop.io.model_file import check_part, parse, part_of, purpose_of, refused, require_text

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


HEADER_TIMEOUTS = Timeouts(total_s=300.0)
"""Of all files of a model together: 8 MiB of header over a link of 30 kB/s."""

PIECE_BYTES = 64 * 1024

Report = Callable[[int, float], None]
"""Takes the bytes that have come so far, and the seconds since they were first asked for."""


class Link:
    """How the files of one model are read: all within one time, with word of how far it is."""

    def __init__(self, timeouts: Timeouts, credential: Credential | None = None, report: Report | None = None) -> None:
        self.credential = credential
        self._timeouts = timeouts
        self._report = report
        self._begin_s = time.monotonic()
        self._received_bytes = 0

    @property
    def timeouts(self) -> Timeouts:
        """For the next request: the time that is left is all it has."""
        left_s = self._timeouts.total_s - (time.monotonic() - self._begin_s)
        return msgspec.structs.replace(self._timeouts, total_s=max(0.0, left_s))

    def add(self, count: int) -> None:
        """So many bytes have come."""
        self._received_bytes += count
        if self._report is not None:
            self._report(self._received_bytes, time.monotonic() - self._begin_s)

    @contextmanager
    def errors(self, url: str) -> Iterator[None]:
        """Raise ModelError for what goes wrong with a request, and for what took too long in all."""
        try:
            with model_errors():
                yield
        except ModelError as error:
            if self.timeouts.total_s:
                raise
            what = f"the header of {shown(url)} did not come within {self._timeouts.total_s:g} s"
            came = f"{format_bytes(self._received_bytes)} came: "
            raise ModelError(what, f"{came}download the model, and check the file") from error


class RemoteFile:
    """A file on a web server, read from its beginning.

    Of servers that support ranges exactly the missing bytes are requested; from others one answer is read as far as
    needed, then the connection is closed. To be used as a context manager.
    """

    def __init__(self, url: str, link: Link) -> None:
        self.url = url
        self.size_bytes: int | None = None
        """Of the whole file; `None` where the server does not report it."""
        self._link = link
        self._received = bytearray()
        self._ended = False
        self._whole: HttpResponse | None = None
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
        if len(self._received) < count and not self._ended:
            with self._link.errors(self.url):
                if self._whole is None:
                    self._request(count)
                if self._whole is not None:
                    self._read_on(self._whole, count - len(self._received))
        return bytes(self._received[:count])

    def _request(self, count: int) -> None:
        start = len(self._received)
        headers = {"Range": f"bytes={start}-{count - 1}"}
        response = get(self.url, headers=headers, credential=self._link.credential, timeouts=self._link.timeouts)
        try:
            if response.status == 206:
                self._read_range(response, start, count)
            elif response.status == 200 and start == 0:
                length = response.header("Content-Length")
                self.size_bytes = int(length) if re.fullmatch(r"[0-9]{1,19}", length) else None
                _check_encoding(response)
                self._whole = response
            elif response.status == 416 and start == 0:
                self.size_bytes, self._ended = 0, True
            else:
                raise refused_status(response, changed=response.status in {200, 416})
        finally:
            if response is not self._whole:
                response.close()

    def _read_range(self, response: HttpResponse, start: int, count: int) -> None:
        _check_encoding(response)
        match = _CONTENT_RANGE.fullmatch(response.header("Content-Range").strip())
        first, last, total = (match[1], match[2], match[3]) if match else ("-1", "-1", "-1")
        size_bytes = None if total == "*" else int(total)
        end = int(last) + 1
        if (
            int(first) != start
            or not start < end <= count
            or (size_bytes is not None and end != min(count, size_bytes))
        ):
            raise ModelError(
                f"{shown(response.url)} returned another range than requested",
                "download the file and check it here",
            )
        etag = response.header("ETag")
        if start and (size_bytes, etag) != (self.size_bytes, self._etag):
            raise _changed(response)
        self.size_bytes, self._etag = size_bytes, etag
        if self._read(response, end - start) < end - start:
            raise _broken_off(response)
        self._ended = end < count or end == size_bytes

    def _read_on(self, response: HttpResponse, count: int) -> None:
        """Continue reading an answer that has the whole file."""
        self._ended = self._read(response, count) < count
        if self._ended and self.size_bytes not in {None, len(self._received)}:
            raise _broken_off(response)

    def _read(self, response: HttpResponse, count: int) -> int:
        before = len(self._received)
        while data := response.read(min(PIECE_BYTES, count - (len(self._received) - before))):
            self._received += data
            self._link.add(len(data))
        return len(self._received) - before


def _changed(response: HttpResponse) -> ModelError:
    return ModelError(f"{shown(response.url)} changed while it was read", "try again")


def _broken_off(response: HttpResponse) -> ModelError:
    return ModelError(f"{shown(response.url)} broke off its answer", "try again")


def _check_encoding(response: HttpResponse) -> None:
    encoding = response.header("Content-Encoding")
    if encoding not in {"", "identity"}:
        raise ModelError(f"{shown(response.url)} is compressed, unasked", "download the file and check it here")


class HubFiles(Struct, frozen=True):
    """The files of one model on the hub."""

    urls: tuple[str, ...]
    """Of a split model all parts, the first one first."""
    credential: Credential | None


def find_hub_files(source: str, environment: Mapping[str, str], timeouts: Timeouts = DEFAULT_TIMEOUTS) -> HubFiles:
    """Find the files that hf:owner/repo[:quant] means. Raises ModelError."""
    wanted = parse(source)
    hub = chosen_hub(environment)
    files = chosen_files(wanted, repository(hub, wanted.repo, timeouts))
    return HubFiles(tuple(hub.url(wanted.repo, file) for file in files), hub.credential)


WINDOW_BYTES = 2**20
"""Asked for first, and then twice as much until the header is whole."""

HEADER_BYTES_MAX = 256 * 2**20


def fetch_facts(
    source: str,
    *,
    environment: Mapping[str, str] = os.environ,
    timeouts: Timeouts = HEADER_TIMEOUTS,
    report: Report | None = None,
) -> ModelFacts:
    """Fetch the headers of a model at https://... or hf:owner/repo[:quant] and give its facts.

    Of a split model any part may be named. Only the headers are transferred, all of them within the total time of
    `timeouts`. Raises ModelError.
    """
    link = Link(timeouts, report=report)
    if source.startswith("hf:"):
        found = find_hub_files(source, environment, timeouts)
        urls, link.credential = list(found.urls), found.credential
    else:
        urls = [source]
    first = _fetch(urls[0], link)
    fetched = {urls[0]: first}
    count = max(len(urls), first[0].split_count)
    if count > PARTS_MAX:
        raise ModelError(f"{shown(source)} has {count} parts, more than any model", "name another file")
    if len(urls) == 1 and first[0].split_count > 1:
        urls = _part_urls(source, first[0].split_count)
    read = [fetched.get(url) or _fetch(url, link) for url in urls]
    if len(urls) > 1:
        for number, (url, (header, _)) in enumerate(zip(urls, read, strict=True), 1):
            check_part(shown(url), header, number, len(urls))
    require_text(source, purpose_of(read[0][0]))
    try:
        return facts_of(
            [header for header, _ in read],
            source=shown(source),
            sizes_bytes=[size_bytes for _, size_bytes in read],
            files=[shown(url) for url in urls],
        )
    except GgufError as error:
        raise refused(shown(urls[0]), error) from error


def _fetch(url: str, link: Link) -> tuple[GgufHeader, int]:
    """The header of one file, and the file's size in bytes."""
    window = WINDOW_BYTES
    with RemoteFile(url, link) as file:
        while True:
            beginning = file.beginning(window)
            size_bytes = file.size_bytes
            if size_bytes is None and len(beginning) < window:
                size_bytes = len(beginning)
            try:
                header = read_header(beginning, size_bytes=sys.maxsize if size_bytes is None else size_bytes)
            except GgufIncompleteError as error:
                if window >= HEADER_BYTES_MAX:
                    too_long = GgufError(error.offset, f"the header is longer than {HEADER_BYTES_MAX} bytes")
                    raise refused(shown(url), too_long) from error
                window = min(max(2 * window, error.needed_bytes), HEADER_BYTES_MAX)
            except GgufError as error:
                raise refused(shown(url), error) from error
            else:
                return header, _end(header) if size_bytes is None else size_bytes


def _end(header: GgufHeader) -> int:
    """Where the last weight of a file ends, for a server that does not report the size of the file."""
    return max((header.data_offset + tensor.offset + tensor.size_bytes for tensor in header.tensors), default=0)


def _part_urls(url: str, count: int) -> list[str]:
    """The addresses of all parts of a split model, from that of one of them."""
    address = parse_url(url)
    part = part_of(address.path)
    if part is None or part.count != count:
        raise ModelError(
            f"{shown(url)} is one of {count} parts, and its name does not lead to the others",
            f"name the address of a file ...-00001-of-{count:05}.gguf",
        )
    return [
        url if number == part.number else urlunsplit(address._replace(path=part.named(number)))
        for number in range(1, count + 1)
    ]

"""Facts from an address or the hub, headers only."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import quote, urlunsplit

import msgspec
from msgspec import Struct

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufError, GgufHeader, GgufIncompleteError, read_header
from edgetop.core.model_names import choose, nothing_chosen, parse, part_of, parts
from edgetop.core.text import one_line
from edgetop.fit.model_facts import ModelFacts, check_part, facts_of, refused
from edgetop.io.http import PATIENCE, Credential, Reply, Timeouts, get, parse_url, shown

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class RemoteFile:
    """A file on a web server, read from its beginning.

    Servers that know ranges are asked for exactly the bytes that are missing; from others one answer is read as far as
    needed, then the connection is closed. To be used as a context manager.
    """

    def __init__(self, url: str, *, credential: Credential | None = None, patience: Timeouts = PATIENCE) -> None:
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


ENDPOINT = "https://huggingface.co"

LISTING_BYTES_MAX = 16 * 2**20


class _File(Struct):
    rfilename: str


class _Repository(Struct):
    siblings: list[_File] = []


class HubFiles(Struct, frozen=True):
    """The files of one model on the hub."""

    urls: tuple[str, ...]
    """Of a split model all parts, the first one first."""
    credential: Credential | None


def find_hub_files(source: str, environment: Mapping[str, str], patience: Timeouts = PATIENCE) -> HubFiles:
    """Find the files that hf:owner/repo[:quant] means. Raises ModelError.

    HF_ENDPOINT names another hub, HF_TOKEN the person who asks.
    """
    wanted = parse(source)
    endpoint = (environment.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    token = environment.get("HF_TOKEN", "").strip()
    if not (token.isascii() and token.isprintable()):
        raise ModelError("HF_TOKEN is not a token", "copy it again from the hub's settings")
    credential = Credential(endpoint, token) if token else None
    files = _listing(endpoint, wanted.repo, credential, patience)
    chosen = choose(files, wanted.quantization)
    if chosen is None:
        raise nothing_chosen(wanted, files)
    whole = parts(chosen, files)
    part = part_of(chosen)
    if part is not None and len(whole) != part.count:
        raise ModelError(
            f"{wanted.repo} has {len(whole)} of the {part.count} parts of {one_line(chosen)}",
            "choose another quantization",
        )
    return HubFiles(tuple(f"{endpoint}/{quote(wanted.repo)}/resolve/main/{quote(file)}" for file in whole), credential)


def _listing(endpoint: str, repo: str, credential: Credential | None, patience: Timeouts) -> list[str]:
    url = f"{endpoint}/api/models/{quote(repo)}"
    with get(url, headers={"Accept": "application/json"}, credential=credential, patience=patience) as reply:
        if reply.status in {401, 404}:
            # The hub answers 401 for a repository that is not there, so that private ones stay hidden.
            raise ModelError(
                f"there is no repository {repo} to be seen at {shown(endpoint)}", "check its name, or set HF_TOKEN"
            )
        if reply.status != 200:
            raise refused_status(reply)
        body = reply.read(LISTING_BYTES_MAX)
    try:
        return [file.rfilename for file in msgspec.json.decode(body, type=_Repository).siblings]
    except msgspec.MsgspecError as error:
        raise ModelError(f"{shown(url)} does not list a repository", "check HF_ENDPOINT") from error


WINDOW_BYTES = 2**20
"""Asked for first, and then twice as much until the header is whole."""

HEADER_BYTES_MAX = 256 * 2**20

PARTS_MAX = 1000


def fetch_facts(
    source: str, *, environment: Mapping[str, str] = os.environ, patience: Timeouts = PATIENCE
) -> ModelFacts:
    """Fetch the headers of a model at https://... or hf:owner/repo[:quant] and give its facts.

    Of a split model any part may be named. Only the headers are transferred. Raises ModelError.
    """
    credential: Credential | None = None
    if source.startswith("hf:"):
        found = find_hub_files(source, environment, patience)
        urls, credential = list(found.urls), found.credential
    else:
        urls = [source]
    first = _fetch(urls[0], credential, patience)
    fetched = {urls[0]: first}
    if len(urls) == 1 and first[0].split_count > 1:
        urls = _part_urls(source, first[0].split_count)
    read = [fetched.get(url) or _fetch(url, credential, patience) for url in urls]
    if len(urls) > 1:
        for number, (url, (header, _)) in enumerate(zip(urls, read, strict=True), 1):
            check_part(shown(url), header, number, len(urls))
    try:
        return facts_of(
            [header for header, _ in read],
            source=shown(source),
            sizes_bytes=[size_bytes for _, size_bytes in read],
            files=[shown(url) for url in urls],
        )
    except GgufError as error:
        raise refused(shown(urls[0]), error) from error


def _fetch(url: str, credential: Credential | None, patience: Timeouts) -> tuple[GgufHeader, int]:
    """The header of one file, and the file's size in bytes."""
    window = WINDOW_BYTES
    with RemoteFile(url, credential=credential, patience=patience) as file:
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
    """Where the last weight of a file ends, for a server that does not say how large the file is."""
    return max((header.data_offset + tensor.offset + tensor.size_bytes for tensor in header.tensors), default=0)


def _part_urls(url: str, count: int) -> list[str]:
    """The addresses of all parts of a split model, from that of one of them."""
    address = parse_url(url)
    part = part_of(address.path)
    if part is None or part.count != count or count > PARTS_MAX:
        raise ModelError(
            f"{shown(url)} is one of {count} parts, and its name does not lead to the others",
            f"name the address of a file ...-00001-of-{count:05}.gguf",
        )
    return [
        url if number == part.number else urlunsplit(address._replace(path=part.named(number)))
        for number in range(1, count + 1)
    ]

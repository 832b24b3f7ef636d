"""The facts of a model on another machine, from the bytes of its headers alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from urllib.parse import urlunsplit

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufError, GgufHeader, GgufIncompleteError, read_header
from edgetop.core.hub_names import part_of
from edgetop.fit.http_get import PATIENCE, Credential, Patience, parse_url, shown
from edgetop.fit.http_ranges import RemoteFile
from edgetop.fit.hub_files import find_hub_files
from edgetop.fit.model_facts import ModelFacts, facts_of
from edgetop.fit.refusal import check_part, refused

WINDOW_BYTES = 2**20
"""Asked for first, and then twice as much until the header is whole."""
HEADER_BYTES_MAX = 256 * 2**20
PARTS_MAX = 1000


def fetch_facts(
    source: str, *, environment: Mapping[str, str] = os.environ, patience: Patience = PATIENCE
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


def _fetch(url: str, credential: Credential | None, patience: Patience) -> tuple[GgufHeader, int]:
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

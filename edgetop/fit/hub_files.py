"""Which files a model on the Hugging Face hub has, and where they are, without huggingface_hub."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec
from msgspec import Struct

from edgetop.core.errors import ModelError
from edgetop.core.hub_names import choose, nothing_chosen, parse, part_of, parts
from edgetop.core.text import one_line
from edgetop.fit.http_get import PATIENCE, Credential, Patience, get, shown
from edgetop.fit.http_ranges import refused_status

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


def find_hub_files(source: str, environment: Mapping[str, str], patience: Patience = PATIENCE) -> HubFiles:
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


def _listing(endpoint: str, repo: str, credential: Credential | None, patience: Patience) -> list[str]:
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

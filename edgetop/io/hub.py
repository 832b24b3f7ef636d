"""The Hugging Face hub: what a repository holds, and downloads into the cache that huggingface_hub shares.

Layout of the cache: `models--owner--repo/blobs/SHA256`, `snapshots/COMMIT/FILE` as links to them, `refs/main` with the
commit (huggingface_hub, "Understand caching"). A download that broke off goes on from `blobs/SHA256.incomplete`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from edgetop.core.errors import EdgetopError, ModelError
from edgetop.core.format import format_bytes
from edgetop.core.text import one_line
from edgetop.io.files import hub_cache, hub_home, sync_folder
from edgetop.io.http import Credential, HttpResponse, RequestCancelledError, RequestError, Timeouts, get, shown
from edgetop.io.model_file import HubModel, choose, nothing_chosen, part_of, parts

ENDPOINT = "https://huggingface.co"
LISTING_BYTES_MAX = 16 * 2**20
DEFAULT_TIMEOUTS = Timeouts()
DOWNLOAD_TIMEOUTS = Timeouts(total_s=float("inf"))
SLOW_S, SLOW_BYTES = 60.0, 64 * 1024
"""A hub that sends less in that time, 1 KiB a second, is as good as silent, and so is one that breaks off before."""

TRIES = 5
"""In a row with less than `SLOW_BYTES`; each that brings more counts anew."""

PAUSE_S = 1.0
PARTS_MAX = 1000
"""Files of a split model, whose headers are asked for one by one; the largest models have some hundred."""

ROOM_KEPT_BYTES = 2**30
"""What a download leaves free of which the hub does not say how long it is."""

NAME_BYTES_MAX, PATH_BYTES_MAX = 255, 1024
"""Of a part of a file's name, and of all of it; file systems take no more than the first."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


_Size = Annotated[int, Meta(ge=0, lt=2**62)]


class _Lfs(Struct):
    sha256: str = ""
    size: _Size = 0


class _File(Struct):
    rfilename: str
    size: _Size | None = None
    lfs: _Lfs | None = None


class Repository(Struct):
    """What the hub says of a repository, in its own names."""

    siblings: list[_File] = []
    sha: str = ""
    """The commit of `main`."""


class Hub(Struct, frozen=True):
    """A hub and the token for it."""

    endpoint: str
    credential: Credential | None

    def url(self, repo: str, file: str, revision: str = "main") -> str:
        """Where a file of a repository is."""
        return f"{self.endpoint}/{quote(repo)}/resolve/{quote(revision)}/{quote(file)}"


@contextmanager
def model_errors() -> Iterator[None]:
    """Tell a request that failed as an error of the model that was asked for."""
    try:
        yield
    except RequestError as error:
        raise ModelError(*error.reason) from error


def chosen_hub(environment: Mapping[str, str]) -> Hub:
    """The hub of HF_ENDPOINT and the token of HF_TOKEN, else of the file that a login writes. Raises ModelError."""
    if environment.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}:
        raise ModelError("HF_HUB_OFFLINE forbids to ask the Hugging Face hub", "unset it, or name a file that is here")
    endpoint = (environment.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    origin, token = "HF_TOKEN", environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not token:
        file = Path(environment.get("HF_TOKEN_PATH") or hub_home(environment) / "token")
        try:
            with file.open("rb") as opened:
                origin, token = str(file), opened.read(4096).decode("utf-8", "replace")
        except (OSError, ValueError):
            token = ""
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise ModelError(f"{origin} holds no token", "copy it again from the hub's settings")
    return Hub(endpoint, Credential(endpoint, token) if token else None)


def repository(hub: Hub, repo: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Repository:
    """Ask for the files of a repository. Raises ModelError."""
    url = f"{hub.endpoint}/api/models/{quote(repo)}"
    headers = {"Accept": "application/json"}
    asked = f"{url}?blobs=true"
    with model_errors(), get(asked, headers=headers, credential=hub.credential, timeouts=timeouts) as response:
        if response.status in {401, 404}:
            # The hub answers 401 for a repository that is not there, so that private ones stay hidden.
            raise ModelError(f"no repository {repo} at {shown(hub.endpoint)}", "check its name, or set HF_TOKEN")
        if response.status != 200:
            raise refused_status(response)
        body = response.read(LISTING_BYTES_MAX)
    try:
        return msgspec.json.decode(body, type=Repository)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{shown(url)} does not list a repository", "check HF_ENDPOINT") from error


def chosen_files(wanted: HubModel, listed: Repository) -> list[str]:
    """The files of the wanted model, of a split one all parts in order. Raises ModelError."""
    files = [file.rfilename for file in listed.siblings]
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
    return whole


def refused_status(response: HttpResponse, *, changed: bool = False) -> ModelError:
    """What a status other than success means."""
    where, status = shown(response.url), response.status
    if changed:
        return ModelError(f"{where} changed while it was read", "try again")
    if status in {401, 403}:
        return ModelError(
            f"{where} may not be read without permission ({status})",
            "on the Hugging Face hub, accept the model's terms on its page and set HF_TOKEN",
        )
    if status in {404, 410}:
        return ModelError(f"there is no file {where} ({status})", "check the address")
    if status == 429:
        after = response.header("Retry-After")
        wait = (
            f"wait {after} s and try again"
            if after.isascii() and after.isdigit() and len(after) < 6
            else "wait, and try again later"
        )
        return ModelError(f"{where} refuses more requests (429)", wait)
    if status >= 500:
        return ModelError(f"the server of {where} failed ({status})", "try again later")
    return ModelError(f"{where} answers with status {status}", "check the address")


class DownloadProgress(Struct, frozen=True):
    """How far a download is."""

    file: str
    received_bytes: int
    size_bytes: int | None
    bytes_per_s: float

    @property
    def words(self) -> str:
        """In one line."""
        size = self.size_bytes
        share = f"{format_bytes(self.received_bytes)}" + (f" of {format_bytes(size)}" if size else "")
        left = f", {(size - self.received_bytes) / self.bytes_per_s:.0f} s left" if size and self.bytes_per_s else ""
        return f"downloading {one_line(self.file)}: {share}, {format_bytes(round(self.bytes_per_s))}/s{left}"


Report = Callable[[DownloadProgress], None]


class DownloadStoppedError(EdgetopError):
    """The person stopped it; what has come stays."""


def download_model(
    wanted: HubModel,
    environment: Mapping[str, str],
    *,
    report: Report = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    pause_s: float = PAUSE_S,
) -> Path:
    """Download a model into the cache and give its file, of a split model the first.

    What an earlier download brought is kept, size and SHA-256 are verified. Raises ModelError, and DownloadStoppedError
    soon after `stopped` says so.
    """
    hub = chosen_hub(environment)
    listed = repository(hub, wanted.repo)
    by_name = {file.rfilename: file for file in listed.siblings}
    files = [by_name[name] for name in chosen_files(wanted, listed)]
    if len(files) > PARTS_MAX:
        raise ModelError(f"{one_line(wanted.repo)} has {len(files)} parts, more than any model", "name another file")
    folder = hub_cache(environment) / f"models--{wanted.repo.replace('/', '--')}"
    commit = listed.sha if _COMMIT.fullmatch(listed.sha) else "main"
    try:
        paths = [
            _Download(
                hub,
                file,
                repo=wanted.repo,
                commit=commit,
                folder=folder,
                report=report,
                stopped=stopped,
                pause_s=pause_s,
            ).run()
            for file in files
        ]  # fmt: skip
        if commit != "main":
            (folder / "refs").mkdir(exist_ok=True)
            (folder / "refs/main").write_text(commit)
    except OSError as error:
        where = error.filename or folder
        raise ModelError(f"{where}: {error.strerror or error}", "make room there, or set HF_HUB_CACHE") from None
    return paths[0]


class _Download:
    """One file."""

    def __init__(
        self,
        hub: Hub,
        file: _File,
        *,
        repo: str,
        commit: str,
        folder: Path,
        report: Report,
        stopped: Callable[[], bool],
        pause_s: float,
    ) -> None:
        name = Path(file.rfilename)
        sizes = [len(part.encode()) for part in name.parts]
        is_long = max(sizes, default=0) > NAME_BYTES_MAX or sum(sizes) > PATH_BYTES_MAX
        if name.is_absolute() or ".." in name.parts or "\0" in file.rfilename or is_long:
            raise ModelError(f"{repo} names a file {one_line(file.rfilename)}", "choose another repository")
        self._url = hub.url(repo, file.rfilename, commit)
        self._credential = hub.credential
        self._name = file.rfilename
        self._size_bytes = file.size if file.lfs is None else file.lfs.size
        sha256 = "" if file.lfs is None else file.lfs.sha256
        self._sha256 = sha256 if _SHA256.fullmatch(sha256) else ""
        self._link = folder / "snapshots" / commit / name
        self._blobs = folder / "blobs"
        stem = self._sha256 or hashlib.sha256(f"{commit}-{name}".encode()).hexdigest()
        self._partial = self._blobs / f"{stem}.incomplete"
        self._report = report
        self._stopped = stopped
        self._pause_s = pause_s
        self._digest = hashlib.sha256()
        self._received = 0
        self._begin = (0.0, 0)

    def run(self) -> Path:
        if self._link.is_file():
            return self._link
        self._blobs.mkdir(parents=True, exist_ok=True)
        blob = self._blobs / self._sha256
        if not (self._sha256 and blob.is_file()):
            with self._partial.open("a+b") as file:
                self._lock(file)
                self._fetch(file)
                blob = self._blobs / self._verified()
                os.fsync(file.fileno())
                self._partial.replace(blob)
        self._link.parent.mkdir(parents=True, exist_ok=True)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(os.path.relpath(blob, self._link.parent))
        sync_folder(self._link.parent)
        return self._link

    def _lock(self, file: BinaryIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"{one_line(self._name)} is being downloaded by another program"
            raise ModelError(what, "wait until it has ended") from None
        except OSError:
            return  # a file system without locks

    def _fetch(self, file: BinaryIO) -> None:
        file.seek(0)
        while data := file.read(2**20):
            self._take(data)
        if self._size_bytes is not None:
            if self._received > self._size_bytes:
                self._begin_anew(file)
            needed = self._size_bytes - self._received
            free = shutil.disk_usage(self._blobs).free
            if needed > free:
                what = f"{one_line(self._name)} needs {format_bytes(needed)} more, and {self._blobs} has"
                raise ModelError(f"{what} {format_bytes(free)}", "make room there, or set HF_HUB_CACHE")
        self._begin = (time.monotonic(), self._received)
        tries = TRIES
        while not self._is_complete():
            before = self._received
            try:
                if self._request(file):
                    return
            except RequestCancelledError:
                self._require_going_on()
            except RequestError as error:
                tries = TRIES if self._received - before >= SLOW_BYTES else tries - 1
                if not tries:
                    what, hint = error.reason
                    kept = f"; {format_bytes(self._received)} are kept, and the same command goes on from there"
                    raise ModelError(what + (kept if self._received else ""), hint or "try again") from error
                self._pause()

    def _is_complete(self) -> bool:
        return self._size_bytes is not None and self._received >= self._size_bytes

    def _pause(self) -> None:
        until = time.monotonic() + self._pause_s
        while time.monotonic() < until:
            self._require_going_on()
            time.sleep(min(0.05, self._pause_s))

    def _request(self, file: BinaryIO) -> bool:
        """Receive what comes; whether that was the end of a file whose size is not known."""
        headers = {"Range": f"bytes={self._received}-"} if self._received else {}
        with get(
            self._url, headers=headers, credential=self._credential, timeouts=DOWNLOAD_TIMEOUTS, stopped=self._stopped
        ) as response:
            if response.status == 200 and self._received:
                self._begin_anew(file)
            elif response.status == 206 and not response.header("Content-Range").startswith(f"bytes {self._received}-"):
                raise ModelError(f"{shown(self._url)} returned another range than requested", "try again")
            elif response.status == 416 or response.status not in {200, 206}:
                raise refused_status(response, changed=response.status == 416)
            due_s, due_bytes = time.monotonic() + SLOW_S, self._received + SLOW_BYTES
            for piece in response.pieces():
                file.write(piece)
                self._take(piece)
                if self._received >= due_bytes:
                    due_s, due_bytes = time.monotonic() + SLOW_S, self._received + SLOW_BYTES
                    self._require_room()
                elif time.monotonic() > due_s:
                    what = f"{shown(self._url)} sent less than {format_bytes(SLOW_BYTES)} in {SLOW_S:g} s."
                    raise RequestError(what, "Check the network, or try again later.", cause="silent")
                self._report_progress()
                self._require_going_on()
                if self._size_bytes is not None and self._received > self._size_bytes:
                    break
            file.flush()
        return self._size_bytes is None

    def _require_room(self) -> None:
        """Raise ModelError where a file of which the hub does not say the size would fill the disk."""
        free = shutil.disk_usage(self._blobs).free if self._size_bytes is None else ROOM_KEPT_BYTES
        if free < ROOM_KEPT_BYTES:
            what = f"{one_line(self._name)} has {format_bytes(self._received)} so far, and {self._blobs} has"
            raise ModelError(f"{what} {format_bytes(free)} left", "make room there, or set HF_HUB_CACHE")

    def _begin_anew(self, file: BinaryIO) -> None:
        file.truncate(0)
        self._digest, self._received = hashlib.sha256(), 0

    def _take(self, data: bytes) -> None:
        self._digest.update(data)
        self._received += len(data)

    def _report_progress(self) -> None:
        passed = time.monotonic() - self._begin[0]
        rate = (self._received - self._begin[1]) / passed if passed > 0 else 0.0
        self._report(DownloadProgress(self._name, self._received, self._size_bytes, rate))

    def _require_going_on(self) -> None:
        if self._stopped():
            kept = format_bytes(self._received)
            raise DownloadStoppedError(
                f"the download was stopped; {kept} are kept", "the same command goes on from there"
            )

    def _verified(self) -> str:
        """The SHA-256 of what has come. Raises ModelError, and forgets it, where it is not what the hub says."""
        digest = self._digest.hexdigest()
        size_fits = self._size_bytes is None or self._received == self._size_bytes
        if size_fits and self._sha256 in {"", digest}:
            return digest
        self._partial.unlink()
        what = "has another SHA-256 than" if size_fits else f"has {self._received} bytes, not as"
        raise ModelError(f"{one_line(self._name)} {what} the hub says", "download it again")

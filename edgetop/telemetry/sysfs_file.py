"""Files of sysfs that are read again and again: held open, opened anew when the device behind them came back."""

from __future__ import annotations

import os
from pathlib import Path

from edgetop.core.records import Missing

_SIZE_BYTES = 64
"""More than any number that sysfs prints."""


def open_file(path: Path) -> int:
    """Open for reading and return the descriptor. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class SysfsFile:
    """One attribute holding one short value.

    A read costs one `pread`, and one `fstat` that notices a file which was replaced while it was held open.
    """

    def __init__(self, path: Path, size_bytes: int = _SIZE_BYTES) -> None:
        """Nothing is opened before the first read, which takes at most `size_bytes`."""
        self.path = path
        self._size_bytes = size_bytes
        self._fd = -1

    def text(self) -> str:
        """Read the value, without the line end.

        Raises OSError when it cannot be read, not even after opening it anew.
        """
        return self._bytes().decode("ascii", "replace").strip()

    def number(self) -> int:
        """Read a whole number, in the file's own unit. Raises OSError, or ValueError when it is something else."""
        return int(self._bytes())

    def close(self) -> None:
        """Give the descriptor back; a later read opens the file again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _bytes(self) -> bytes:
        if self._fd >= 0:
            try:
                if os.fstat(self._fd).st_nlink:
                    return os.pread(self._fd, self._size_bytes, 0)
            except OSError:
                pass  # the device went away; it may have come back under the same path
            self.close()
        self._fd = open_file(self.path)
        try:
            return os.pread(self._fd, self._size_bytes, 0)
        except OSError:
            self.close()
            raise


def text_of(path: Path, size_bytes: int = _SIZE_BYTES) -> str:
    """Read a short attribute once; empty when it is not there or may not be read."""
    file = SysfsFile(path, size_bytes)
    try:
        return file.text()
    except OSError:
        return ""
    finally:
        file.close()


def number_of(path: Path) -> int | None:
    """Read a number once; `None` when it is not there, may not be read, or is none."""
    file = SysfsFile(path)
    try:
        return file.number()
    except (OSError, ValueError):
        return None
    finally:
        file.close()


def why(error: OSError | ValueError, path: Path, mend: str = "") -> Missing:
    """Say in one line why `path` gave no value. `mend` is what helps when permission is what lacks."""
    if isinstance(error, PermissionError):
        return Missing(f"{path} may not be read", mend or f"sudo chmod a+r {path}")
    if isinstance(error, OSError):
        return Missing(f"{path}: {(error.strerror or 'not readable').lower()}")
    return Missing(f"{path} holds no number")

"""What `import edgetop` gives to programs, notebooks and tests: recorded sessions, and a meter for anything."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgetop.commands.inputs import open_store, power_choice
from edgetop.core.clock import US_PER_S
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import FIGURES, reason_of, value_of
from edgetop.core.quantity import Interval
from edgetop.live.energy_meter import Measurement, SensorMeter
from edgetop.session.export import Cell, tables_of
from edgetop.session.file import SessionFile, SessionHead
from edgetop.session.file_io import load_checked, load_head
from edgetop.session.listing import entry_of
from edgetop.session.store import ListedSession, Store, example_pair
from edgetop.settings import options
from edgetop.settings.resolve import resolve

__all__ = ["EdgetopError", "EnergyMeter", "Measurement", "SavedSession", "examples", "load_session", "sessions"]

Floats = NDArray[np.float64]


class EnergyMeter(SensorMeter):
    """Measures the energy of whatever runs between `start` and `stop`, or in a `with` block.

    The sources are those of `edgetop power`, by the widest that reads: sensors of the machine, plugs, programs.
    """

    def __init__(
        self,
        *,
        power: str | None = None,
        power_exec: str | None = None,
        power_stream: Sequence[str] = (),
        idle_s: float = 0.0,
        sysroot: str | PathLike[str] | None = None,
    ) -> None:
        """As `--power`, `--power-exec`, `--power-stream` and `--sysroot`; by default as environment and settings say.

        For `idle_s` seconds before and after, the device is left idle, to measure what the work takes above idle.
        Raises EdgetopError for settings that cannot be read.
        """
        given: dict[str, str | list[str] | None] = {
            options.POWER.name: power,
            options.POWER_EXEC.name: power_exec,
            options.POWER_STREAM.name: list(power_stream) or None,
            options.SYSROOT.name: None if sysroot is None else str(sysroot),
        }
        settings = resolve(given)
        super().__init__(power_choice(settings), sysroot=settings[options.SYSROOT], idle_s=idle_s)


class SavedSession:
    """A recorded session. Its streams are read from the file when they are first asked for."""

    def __init__(self, path: Path, head: SessionHead) -> None:
        """To be had from `load_session` and `sessions`."""
        self._entry = entry_of(ListedSession(number=0, path=path, head=head))
        self._head = head
        self.path = path

    def __repr__(self) -> str:
        return f"<edgetop session {self.id}, {self.started_at:%Y-%m-%d %H:%M}, {self.model} {self.quantization}>"

    @property
    def id(self) -> str:
        """Unique to the session."""
        return self._head.id

    @property
    def started_at(self) -> datetime:
        """When it began, in UTC."""
        # Python 3.10 does not take the Z.
        return datetime.fromisoformat(self._head.started_at.replace("Z", "+00:00"))

    @property
    def duration_s(self) -> float:
        """How long it went on."""
        return self._head.duration_us / US_PER_S

    @property
    def model(self) -> str:
        """Its model; several with commas between, empty for none."""
        return self._entry.model

    @property
    def quantization(self) -> str:
        """That of the model, such as `Q4_K_M`."""
        return self._entry.quantization

    @property
    def device(self) -> str:
        """The machine."""
        return self._entry.device

    @property
    def tags(self) -> tuple[str, ...]:
        """As `edgetop sessions tag` gave them."""
        return self._head.tags

    @property
    def notes(self) -> str:
        """As `edgetop sessions note` wrote them."""
        return self._head.notes

    @property
    def figures(self) -> dict[str, float | int | str | None]:
        """All figures, by their names in docs/figures.md; `None` where one is not known."""
        return {name: value.value if isinstance(value, Interval) else value for name, value in self._values().items()}

    def figure(self, name: str) -> float | int | str | None:
        """One figure, by its name. Raises KeyError."""
        return self.figures[name]

    def interval(self, name: str) -> tuple[float, float] | None:
        """The ends of a figure's interval, value ± 2u; `None` where it has none. Raises KeyError."""
        value = self._values()[name]
        return (value.low, value.high) if isinstance(value, Interval) else None

    def why_missing(self, name: str) -> str:
        """Why a figure is `None`, and what would give it; empty where it is there. Raises KeyError."""
        if self._values()[name] is not None:
            return ""
        return reason_of(self._figures_struct, next(each for each in FIGURES if each.name == name))

    def row(self) -> dict[str, float | int | str | None]:
        """The session as one row of a table, such as `pandas.DataFrame([each.row() for each in sessions()])`.

        A figure with an interval has three columns, the others with `.low` and `.high` behind its name.
        """
        row: dict[str, float | int | str | None] = {
            "id": self.id,
            "started_at": self._head.started_at,
            "duration_s": self.duration_s,
            "device": self.device,
            "model": self.model,
            "quantization": self.quantization,
            "tags": " ".join(self.tags),
        }
        for name, value in self._values().items():
            row[name] = value.value if isinstance(value, Interval) else value
            if isinstance(value, Interval):
                row |= {f"{name}.low": value.low, f"{name}.high": value.high}
        return row

    def rows(self, table: Literal["turns", "samples", "tokens"] = "turns") -> list[dict[str, Cell]]:
        """The rows of a table, as `edgetop sessions export` has it."""
        found = next((each for each in tables_of(self._file) if each.name == table), None)
        if found is None:
            raise ValueError(f"there is no table {table!r}: turns, samples or tokens")
        names = [column.name for column in found.columns]
        return [dict(zip(names, row, strict=True)) for row in found.rows]

    @property
    def channels(self) -> dict[str, str]:
        """The quantities that sensors read, each with its unit."""
        return {channel.name: channel.unit for series in self._file.series for channel in series.source.channels}

    def stream(self, channel: str) -> tuple[Floats, Floats]:
        """Times in seconds since the session began, and what was read then; NaN where a reading is missing.

        Raises KeyError.
        """
        for series in self._file.series:
            if channel in series.values:
                times_s = np.cumsum(np.array(series.dt_us, np.float64)) / US_PER_S
                return times_s, np.array(series.values[channel], np.float64)
        raise KeyError(channel)

    def token_times(self, turn: int) -> Floats:
        """When the tokens of a turn came, in seconds since the session began; turns count from 1. Raises KeyError."""
        for each in self._file.turns:
            if each.turn == turn:
                return (each.stamps.submitted_us + np.cumsum(np.array(each.tokens.dt_us, np.float64))) / US_PER_S
        raise KeyError(turn)

    @cached_property
    def _file(self) -> SessionFile:
        return load_checked(self.path)

    @property
    def _figures_struct(self) -> object:
        return self._head.summary if self._head.watch is None else self._head.watch

    def _values(self) -> dict[str, float | int | str | Interval | None]:
        subject = "session" if self._head.watch is None else "watch"
        names = [each.name for each in FIGURES if subject in each.of and each.kind != "reason"]
        return {name: value_of(self._figures_struct, name) for name in names}


def load_session(session: str | int | PathLike[str]) -> SavedSession:
    """A session by its file, or as `edgetop sessions show` takes it: a number of the list, an id, a tag, a model.

    Raises EdgetopError.
    """
    path = Path(str(session))
    if not path.is_file():
        path = _store(None).find(str(session))
    return SavedSession(path, load_head(path))


def sessions(*words: str, folder: str | PathLike[str] | None = None) -> list[SavedSession]:
    """All recorded sessions, the newest first; a file that cannot be read is warned of.

    With words, those that have each of them in their tags, model, quantization or device.
    """
    found = []
    for listed in _store(folder).list():
        if listed.head is None:
            warnings.warn(f"{listed.path}: {listed.problem}", stacklevel=2)
        elif entry_of(listed).matches(words):
            found.append(SavedSession(listed.path, listed.head))
    return found


def examples() -> list[SavedSession]:
    """Two recordings that come with edgetop, which differ in their quantization alone."""
    return [SavedSession(path, load_head(path)) for path in example_pair()]


def _store(folder: str | PathLike[str] | None) -> Store:
    return open_store(resolve({})) if folder is None else Store(Path(folder))

"""What is recorded, and where it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgetop.settings.option import Option, path, switch

RECORD: Final = Option[bool](
    "record",
    "recording",
    "--no-record",
    default=True,
    parse=switch,
    help="do not record this session",
    about="The session is then nowhere on disk, not even while it runs.",
)

TEXT: Final = Option[bool](
    "text",
    "recording",
    "--no-text",
    default=True,
    parse=switch,
    help="record the figures without prompts and replies",
    about="Figures, stamps and settings are kept, what was said is not.",
)

OUTPUT: Final = Option[Path | None](
    "output",
    "recording",
    "-o",
    "--output",
    default=None,
    metavar="FILE",
    parse=path,
    flag_only=True,
    help="write the session to this file instead of the sessions folder",
    about="The sessions folder does not list it; it can be named wherever a session is asked for.",
)

DATA_DIR: Final = Option[Path | None](
    "data_dir",
    "storage",
    "--data-dir",
    default=None,
    metavar="DIR",
    parse=path,
    help="keep recorded sessions below this folder instead of your data folder",
    about="Sessions lie in its folder `sessions`, and what `edgetop tune` has found beside it.",
    example="~/edgetop",
)

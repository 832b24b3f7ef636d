"""The program itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgetop.settings.option import Option, path, switch

CONFIG: Final = Option[Path | None](
    "config",
    "general",
    "--config",
    default=None,
    metavar="FILE",
    parse=path,
    help="configuration file to read instead of the one in your configuration folder",
    about="EDGETOP_CONFIG does the same. The usual one is config.toml in your configuration folder, on Linux "
    "~/.config/edgetop.",
)

QUIET: Final = Option[bool](
    "quiet",
    "progress",
    "-q",
    "--quiet",
    default=False,
    parse=switch,
    help="say only what went wrong",
    about="Figures and progress are left out; replies and data are printed as ever.",
)

VERBOSE: Final = Option[bool](
    "verbose",
    "general",
    "-v",
    "--verbose",
    default=False,
    parse=switch,
    help="say more: what the engine logs, and where an error comes from",
    about="Says where each error comes from, and what llama.cpp logs.",
)

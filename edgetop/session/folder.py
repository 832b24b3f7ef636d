"""Where sessions are kept; apart from the store, for those who only look whether there are any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

FILE_SUFFIX = ".json"
JOURNAL_SUFFIX = ".journal"


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where sessions are kept: below EDGETOP_DATA_DIR if that is set, else below the user's data folder."""
    chosen = environ.get("EDGETOP_DATA_DIR", "")
    if chosen:
        return Path(chosen).expanduser() / "sessions"
    from platformdirs import user_data_path  # noqa: PLC0415 - not needed where the folder was chosen

    return user_data_path("edgetop") / "sessions"

"""Where recorded sessions are kept, apart from what records them: that takes long to import."""

from __future__ import annotations

from edgetop.session.folder import data_folder
from edgetop.session.store import Store
from edgetop.settings import options
from edgetop.settings.resolve import Settings


def open_store(settings: Settings) -> Store:
    """The folder of recorded sessions."""
    chosen = settings[options.DATA_DIR]
    return Store(data_folder({"EDGETOP_DATA_DIR": str(chosen)} if chosen is not None else {}))

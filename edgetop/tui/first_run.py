"""Three lines for a person who starts edgetop for the first time ever."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edgetop.session.folder import FILE_SUFFIX
from edgetop.session.store import Store
from edgetop.tui.keymap import ScreenKeys

FILE_NAME = "welcomed"


def welcome(store: Store, keys: ScreenKeys) -> str:
    """What to know at first, and only once: empty where sessions were recorded, or where it has been said before."""
    file = _file()
    if file.exists() or any(store.folder.glob(f"*{FILE_SUFFIX}")):
        return ""
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch()
    panes, theme, prompt = (keys.key_of(name) for name in ("leave_prompt", "next_theme", "enter_prompt"))
    return (
        "Type and press Enter, or type /help.\n"
        f"{panes}, then a key: {keys.key_of('zoom_pane')} zooms, {theme} changes colours; {prompt} types again.\n"
        f"{keys.key_of('help')} shows all keys, {keys.key_of('palette')} finds anything by its name."
    )


def _file() -> Path:
    from platformdirs import user_state_path  # noqa: PLC0415 - where tests look for it

    return user_state_path("edgetop", appauthor=False) / FILE_NAME

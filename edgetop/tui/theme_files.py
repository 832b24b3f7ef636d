"""Where colour themes lie: those that come with edgetop, and the person's own. Knows nothing of Textual."""

from __future__ import annotations

from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED_FOLDERS = (_PACKAGE / "data" / "themes", _PACKAGE.parent / "themes")
"""In an installed wheel, and in a checkout."""


def own_folder() -> Path:
    """Where a person's own themes are looked for."""
    return platformdirs.user_config_path("edgetop", appauthor=False) / "themes"


def theme_files() -> dict[str, Path]:
    """The file of every theme by its name; a person's own replaces one of ours of the same name."""
    shipped = next((folder for folder in SHIPPED_FOLDERS if folder.is_dir()), None)
    folders = [own_folder()] if shipped is None else [shipped, own_folder()]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}

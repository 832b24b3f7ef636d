"""What the worker and its template process say to each other."""

from __future__ import annotations

from typing import Any

import msgspec


class Render(msgspec.Struct, frozen=True, kw_only=True):
    """Render a template with these variables."""

    template: str
    variables: dict[str, Any]
    time_s: float


class Rendered(msgspec.Struct, frozen=True, tag="rendered"):
    """The text that came out."""

    text: str


class NotRendered(msgspec.Struct, frozen=True, tag="not_rendered"):
    """Why no text came out, in one line."""

    reason: str


Answer = Rendered | NotRendered

"""How the live screen is drawn, as far as that can change while it is open."""

from __future__ import annotations

from typing import NamedTuple

from edgetop.core.energy.supply import Price
from edgetop.tui.glyphs import GlyphLevel


class Looks(NamedTuple):
    """Glyphs, refresh interval and price of energy."""

    level: GlyphLevel
    delay_s: float
    price: Price | None

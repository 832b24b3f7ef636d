"""The page of the live screen that tells how the models of this machine would do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgetop.core.energy.supply import Price
from edgetop.fit.assessment import Place
from edgetop.inference.catalog import find_models
from edgetop.live.experience import experience_of_session
from edgetop.live.live_session import LiveSession
from edgetop.live.own_machine import own_place
from edgetop.live.survey import Survey
from edgetop.telemetry.source import Host
from edgetop.tui.check_screen import CheckScreen
from edgetop.tui.glyphs import GlyphLevel


def check_page(live: LiveSession, level: GlyphLevel, price: Price | None) -> CheckScreen:
    """Every model that is found, with a short and a long context.

    What this session has measured counts too: it is asked here, since a session is used by one thread alone.
    """
    # Measuring the memory takes all cores for half a second, which an answer under way would not forgive.
    idle = live.conversation.phase in {"ready", "no_model"}
    lately = experience_of_session(live.session, live.now_us())

    def models() -> Iterator[tuple[str, Path]]:
        yield from (
            (each.name, each.path) for each in find_models(live.options.model_folders) if not each.missing_parts
        )

    def place() -> Place:
        return own_place(
            Host(sysroot=live.options.sysroot),
            live.store.folder,
            probe="once" if idle else "never",
            tell=lambda *_: None,
            lately=lately,
        )

    survey = Survey(models, place, wish=live.options.engine)
    return CheckScreen(level, survey, currency="EUR" if price is None else price.currency)

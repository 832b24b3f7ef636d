"""Draws the README's pictures: `python -m docs.make_pictures`, from the root of a checkout.

The screens are the real ones. The session on them is made up, since the machine that draws the pictures has neither the
board nor the meter: `tests/support/demo_session.py`, the same as in the tests, so that the pictures are never stale.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.support.demo_session import DemoApp, demo_records

FOLDER = Path(__file__).parent
PICTURES = {"screen.svg": (120, 36), "screen-narrow.svg": (80, 24)}


async def draw(size: tuple[int, int]) -> str:
    """The live screen in `size` cells as SVG."""
    app = DemoApp(demo_records())
    async with app.run_test(size=size) as pilot:
        while not app.played:
            await pilot.pause()
        await pilot.pause()
        return without_addresses(app.export_screenshot(simplify=True))


def without_addresses(svg: str) -> str:
    """The picture with fonts that its reader has, instead of fonts from the network, and with all of its blanks."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: Fira Code, monospace", "font-family: DejaVu Sans Mono, Menlo, Consolas, monospace")
    return svg.replace("<svg ", '<svg xml:space="preserve" ', 1)


def main() -> None:
    """Write every picture."""
    for name, size in PICTURES.items():
        (FOLDER / name).write_text(asyncio.run(draw(size)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

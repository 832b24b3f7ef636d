"""Draws the README's pictures and `docs/pictures/`: `python -m docs.make_pictures`, from the root of a checkout.

Those in `docs/pictures/` are PNG, made from SVG by Chromium; they are left out where it is not installed.

The screens are the real ones. The session on them is made up, since the machine that draws the pictures has neither the
board nor the meter: `tests/support/demo_session.py`, the same as in the tests, so that the pictures are never stale.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.demo_session import DemoApp, ReplayApp, demo_records, two_sessions

FOLDER = Path(__file__).parent
PICTURES = {"screen.svg": (120, 36), "screen-narrow.svg": (80, 24)}


SIZES = ((160, 48), (120, 36), (80, 24), (40, 12))
ZOOMED = {"live": (), "without-power": (), "zoom-tokens": ("escape", "z"), "zoom-memory": ("escape", "tab", "z"),
          "zoom-power": ("escape", "tab", "tab", "z"), "zoom-energy": ("escape", "shift+tab", "z"),
          "help": ("f1",)}  # fmt: skip
"""The keys that lead to each picture of the live screen."""


async def draw_live(size: tuple[int, int], name: str) -> str:
    """The live screen, or what its keys lead to."""
    app = DemoApp(demo_records(power=name != "without-power"))
    async with app.run_test(size=size) as pilot:
        while not app.played:
            await pilot.pause()
        await pilot.press(*ZOOMED[name])
        await pilot.pause(0.2)
        return without_addresses(app.export_screenshot(simplify=True))


async def draw_replay(size: tuple[int, int]) -> str:
    """Two sessions side by side, at the end."""
    app = ReplayApp(two_sessions())
    async with app.run_test(size=size) as pilot:
        while not app.replay.prepared:
            await pilot.pause()
        await pilot.press("end")
        await pilot.pause(0.2)
        return without_addresses(app.export_screenshot(simplify=True))


def write_png(svg: str, png: Path, chromium: str) -> None:
    """The picture as PNG, in the size that it names."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    columns, rows = (1200, 800) if box is None else (round(float(side)) for side in box.groups())
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "picture.html")
        page.write_text(f"<body style='margin:0;background:#111'>{svg}</body>", encoding="utf-8")
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder}")
        what = (f"--window-size={columns},{rows}", f"--screenshot={png}", page.as_uri())
        subprocess.run([chromium, *options, *what], check=True, capture_output=True)


def draw_all() -> None:
    """Every screen in every size."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return
    folder = FOLDER / "pictures"
    folder.mkdir(exist_ok=True)
    for size in SIZES:
        for name in (*ZOOMED, "replay"):
            svg = asyncio.run(draw_replay(size) if name == "replay" else draw_live(size, name))
            write_png(svg, folder / f"{name}-{size[0]}x{size[1]}.png", chromium)


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
    draw_all()


if __name__ == "__main__":
    main()

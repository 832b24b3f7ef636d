"""Draws the README's pictures and `docs/pictures/`: `python -m docs.make_pictures`, from the root of a checkout.

Those in `docs/pictures/` are PNG, made from SVG by Chromium; they are left out where it is not installed. `python -m
docs.make_pictures NAME ...` draws only those.

The screens are the real ones. The session on the live screen is made up, since the machine that draws the pictures has
neither the board nor the meter: `tests/support/demo_session.py`, the same as in the tests, so that they are never
stale. The other screens are those of the real program in tmux, with the recordings that come with it.
"""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.request import urlopen

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from benchmarks.fleet import simulated_hosts
from edgetop.inference.scripted import Reply
from edgetop.io import json
from edgetop.session.store import example_pair
from tests.end_to_end.chromium import Browser, browser
from tests.support.demo_session import DemoApp, demo_records
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.llama_cpp_servers import llama_server
from tests.support.requirements import need_demo_model
from tests.support.tmux import Tmux

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


class Shown(NamedTuple):
    """A picture of the real program: how it is started, what is pressed, and what is to be seen then."""

    arguments: Sequence[str]
    keys: Sequence[str]
    seen: str
    term: str = "xterm-256color"
    asked: Literal["", "server", "proxy"] = ""
    """Beside a llama-server that answers: asked itself, or through the program."""


EXAMPLES = ("1", "2")
SETTLES_MAX = 6
"""A screen with a clock never stays as it is."""
PROGRAM = {
    "replay": Shown(("replay", *EXAMPLES), ("End",), r"(faster|slower|than)"),
    "compare": Shown(("compare", *EXAMPLES), (), r"(faster|slower|than)"),
    "sessions": Shown(("--power", "none"), ("F3",), "lighthouse"),
    "models": Shown(("--power", "none"), ("F4",), "SmolLM2"),
    "settings": Shown(("--power", "none"), ("F2",), "temp"),
    "palette": Shown(("--power", "none"), ("C-p",), "Commands"),
    "watch": Shown(("watch", "--power", "none"), (), r"[1-9][\d.]* tok/s", asked="server"),
    "proxy": Shown(("proxy", "--power", "none"), (), r"requests [3-9]", asked="proxy"),
    "hosts": Shown(("watch", "pi5-kitchen", "pi5-lab", "orin"), (), "3 of 3 hosts"),
    "linux": Shown(("replay", *EXAMPLES[:1]), ("End",), "J/tok", "linux"),
    "vt100": Shown(("replay", *EXAMPLES[:1]), ("End",), "J/tok", "vt100"),
}


def draw_program(shown: Shown) -> Iterator[str]:
    """The real program, as tmux has it on its screen, in every size."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        home = IsolatedHome(Path(name))
        sessions = home.data / "sessions"
        sessions.mkdir(parents=True)
        for path in example_pair():
            shutil.copy(path, sessions)
        home.scripted(Reply(text="A reply."))
        (home.folder / "models").mkdir()
        model = home.folder / "models" / need_demo_model().name
        model.symlink_to(need_demo_model())
        (home.folder / "state" / "edgetop").mkdir(parents=True)
        (home.folder / "state" / "edgetop" / "welcomed").touch()
        started = () if shown.arguments[0] in {"replay", "compare", "watch"} else ("-m", str(model))
        if shown.asked:
            listen = f"127.0.0.1:{free_port()}" if shown.asked == "proxy" else ""
            url = opened.enter_context(answering_server(model, listen))
            started = ("--server", url, *(("--listen", listen) if listen else ()))
        home.environment["PATH"] = simulated_hosts(home.folder, "edgetop")
        command = ["env", f"TERM={shown.term}", *home.command(*shown.arguments, *started)]
        window = Tmux(command, environment=home.environment, folder=home.folder, columns=SIZES[0][0], rows=SIZES[0][1])
        try:
            window.sees(r"\S")
            window.press(*shown.keys)
            window.sees(shown.seen)
            for size in SIZES:
                window.resize(*size)
                before = ""
                for _ in range(SETTLES_MAX):
                    if before == (before := window.text):
                        break
                    time.sleep(1.5)
                yield svg_of(window.styled, size)
        finally:
            window.close()
            home.end()


@contextmanager
def answering_server(model: Path, through: str = "") -> Iterator[str]:
    """The address of a llama-server that answers one prompt after another, which may come `through` another address."""
    asked = {"prompt": "The lighthouse keeper", "n_predict": 200, "temperature": 0}
    with llama_server(model, threads=1) as (url, _):
        ended = threading.Event()

        def ask() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    address = f"http://{through}" if through else url
                    urlopen(f"{address}/completion", json.encode(asked)).read()  # noqa: S310 - of our own server
                ended.wait(0.1)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield url
        finally:
            ended.set()
            thread.join()


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


BROWSERS = ((1280, 800), (400, 700))
"""Width and height of a page, on a desk and on a phone."""


def draw_served(folder: Path) -> None:
    """`edgetop serve` in Chromium."""
    with tempfile.TemporaryDirectory() as name:
        home = IsolatedHome(Path(name))
        paths = [str(path) for path in example_pair()]
        command = home.command("serve", "--listen", "127.0.0.1:0", "--", "replay", *paths)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=home.environment) as process:
            try:
                address = "" if process.stderr is None else process.stderr.readline().strip()
                for width, height in BROWSERS:
                    with browser(home.folder / f"profile-{width}", width) as page:
                        page.set_size(width, height)
                        page.visit(address)
                        drawn = "return document.body.classList.contains('-first-byte')"
                        eventually(partial(page.run, drawn), "the screen is drawn")
                        settle(page, folder / f"serve-{width}x{height}.png")
                        page.press("\ue010")  # End
                        settle(page, folder / f"serve-{width}x{height}.png")
            finally:
                process.kill()


def settle(page: Browser, png: Path) -> None:
    """Save what the page shows once it does not change any more."""
    before = b""
    for _ in range(20):
        time.sleep(3.0)
        page.save_picture(png)
        if before == (before := png.read_bytes()):
            break


def svg_of(styled: str, size: tuple[int, int]) -> str:
    """A screen with its escape sequences as SVG."""
    console = Console(width=size[0], record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    # Styles go on from line to line.
    console.print(Text.from_ansi("\n".join(styled.splitlines()[: size[1]])), overflow="crop", no_wrap=True)
    return without_addresses(console.export_svg(title="edgetop", theme=SVG_EXPORT_THEME))


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


def draw_all(names: Collection[str]) -> None:
    """Every screen in every size, or those of some names."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return
    folder = FOLDER / "pictures"
    folder.mkdir(exist_ok=True)
    for name in names or (*ZOOMED, *PROGRAM, "serve"):
        if name == "serve":
            draw_served(folder)
            continue
        program = draw_program(PROGRAM[name]) if name in PROGRAM else None
        for size in SIZES:
            svg = asyncio.run(draw_live(size, name)) if program is None else next(program)
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
    """Write every picture, or those that are named."""
    names = sys.argv[1:]
    for name, size in () if names else PICTURES.items():
        (FOLDER / name).write_text(asyncio.run(draw(size)) + "\n", encoding="utf-8")
    draw_all(names)


if __name__ == "__main__":
    main()

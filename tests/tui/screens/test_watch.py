"""The watch screen over a server that is made up, at every size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgetop.core.sources import Unavailable
from edgetop.inference.server.address import Address
from edgetop.inference.server.usage import Slot, Usage
from edgetop.live.live_session import WatchOptions, WatchSession
from edgetop.live.proxy_session import ProxySession
from edgetop.live.server_monitor import ServerStatus
from edgetop.session.file_io import load
from edgetop.session.store import Store
from edgetop.tui.app import Display, WatchApp
from edgetop.tui.panes.meters import TopMeters
from edgetop.tui.panes.pane import PaneWidget
from edgetop.tui.screens.monitor import Monitor
from edgetop.tui.screens.watch import lines_of
from edgetop.tui.styled_text import width_of
from tests.io.test_relay import exchanged, post
from tests.support.loopback_server import LoopbackServer, loopback_server
from tests.support.server_replies import as_llama_server
from tests.support.server_usage import llama_metrics, llama_slots, serve_usage
from tests.tui.screen_text import until, until_shown

ROW = ServerStatus(
    number=1,
    kind="llama-server",
    version="b6123",
    models=("tiny.gguf",),
    address="http://127.0.0.1:8080",
    pid=10,
    state="answers",
    usage=Usage(
        kind="llama-server",
        tokens=162,
        running=1,
        waiting=2,
        slots=(
            Slot(number=0, doing="idle"),
            Slot(number=1, doing="decode", generated=42, context_used=75, n_ctx=512),
        ),
        context_share=0.07,
    ),
    tokens_per_s=12.4,
    resident_bytes=188e6,
    cpu_percent=95.0,
    threads=4,
)
UNCOUNTED = ServerStatus(
    number=2,
    kind="ollama",
    models=("mistral:latest",),
    state="answers",
    usage=Usage(
        kind="ollama",
        tokens=Unavailable("x"),
        counts="nothing",
        no_count=Unavailable("Ollama does not tell how many tokens it generates for others", "llama-server does"),
    ),
)
SILENT = ServerStatus(
    number=3,
    kind="vllm",
    models=("\x1b[31mred",),
    state="silent",
    trouble=Unavailable("it does not answer within 2 s", "look whether it hangs"),
    is_open=False,
)


def plain(width: int, *rows: ServerStatus, searched: bool = True) -> list[str]:
    lines = lines_of(rows, width, "ascii", searched=searched)
    assert all(width_of(line) <= width for line in lines)
    return ["".join(span.text for span in line) for line in lines]


@pytest.fixture
def wire() -> Iterator[LoopbackServer]:
    with loopback_server() as server:
        serve_usage(server, metrics=llama_metrics(120, running=1), slots=llama_slots(42))
        yield server


StartWatch = Callable[..., WatchApp]


@pytest.fixture
def start_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartWatch]:
    """Makes applications that watch servers; their sessions end with the test."""
    monkeypatch.setattr("edgetop.live.live_session.lower_priority", lambda: None)
    monkeypatch.chdir(tmp_path)
    started: list[WatchApp] = []

    def start(*urls: str, listen: tuple[str, int] | None = None) -> WatchApp:
        """With an address to listen on it is the screen of a proxy."""
        options = WatchOptions(servers=dict.fromkeys(map(Address.parse, urls), ""), sysroot=tmp_path / "machine")
        store = Store(tmp_path / "sessions")

        def session(tell: Callable[[str], None]) -> WatchSession:
            return (
                WatchSession(options, store, tell)
                if listen is None
                else ProxySession(options, store, tell, listen=listen)
            )

        app = WatchApp(session, Display(level="ascii"))
        started.append(app)
        return app

    yield start
    for app in started:
        app.save_session()


def shown(app: WatchApp) -> list[str]:
    return [widget.pane.title for widget in app.screen.query(PaneWidget) if widget.display]


def test_a_service_is_told_with_all_that_it_does() -> None:
    text = plain(66, ROW)
    assert text[0].startswith("1 llama-server tiny.gguf")
    assert text[0].endswith("12.4 tok/s  1 running 2 waiting")
    assert "95 % cpu" in text[1]
    assert "ctx 7%" in text[1]
    assert "162 tok" in text[1]
    assert text[2] == "  slot 1 decode  42 tok  ctx 75/512"


def test_what_is_not_known_is_told_with_what_would_hint_it() -> None:
    text = " ".join(plain(66, UNCOUNTED, SILENT))
    assert "Ollama does not tell how many tokens it generates for others: llama-server does." in " ".join(text.split())
    assert "no answer" in text
    assert "It does not answer within 2 s: look whether it hangs." in " ".join(text.split())
    assert "sudo shows more" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [10, 20, 34, 48, 66, 120])
def test_the_list_fits_every_width(width: int) -> None:
    assert plain(width, ROW, UNCOUNTED, SILENT)


def test_without_services_it_says_what_it_looks_for() -> None:
    text = " ".join(" ".join(plain(40)).split())
    assert "No model process runs on this device." in text
    assert ".gguf" in text
    assert "edgetop watch --server URL" in text
    assert plain(40, searched=False) == ["Searching for model processes."]


@pytest.mark.parametrize("size", [(160, 48), (120, 36), (80, 24), (60, 20), (40, 12)])
async def test_server_rate_and_device_are_on_the_screen_at_every_size(
    start_watch: StartWatch, wire: LoopbackServer, size: tuple[int, int]
) -> None:
    app = start_watch(wire.url)
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "slot 1 decode")
        meters = app.screen.query_one(TopMeters).plain
        if size[0] >= 100:
            await until_shown(pilot, "generated", "1 running")
            assert [widget.pane.title for widget in app.screen.query(PaneWidget)] == [
                "tokens",
                "memory",
                "power",
                "energy",
            ]
        elif size[0] >= 60 and size[1] >= 16:
            assert [line[:3] for line in meters[3:]] == ["tok", "mem", "pwr"], "why there is no energy is said once"
        assert "watch" in meters[0]


async def test_leaving_saves_the_session(start_watch: StartWatch, wire: LoopbackServer) -> None:
    app = start_watch(wire.url)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "slot 1 decode")
        await pilot.press("q")
    app.save_session()
    assert app.saved is not None
    session = load(app.saved)
    assert session.services[1].kind == "llama-server"
    assert session.header is not None
    assert session.header.kind == "watch"


async def test_the_keys_of_the_panes_work(start_watch: StartWatch, wire: LoopbackServer) -> None:
    app = start_watch(wire.url)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "slot 1 decode")
        await pilot.press("z")
        await until(pilot, lambda: app.screen.query_one(Monitor).has_class("zoomed"), "one pane has all of the room")
        await pilot.press("z", "1")
        await until(pilot, lambda: shown(app) == ["memory"], "tokens are hidden, and there is no power")
        await pilot.press("space")
        await until_shown(pilot, "PAUSED")
        await pilot.press("space", "g", "t", "j", "k")
        await pilot.press("f1")
        await until(pilot, lambda: type(app.screen).__name__ == "HelpScreen", "the help is open")
        await pilot.press("escape")
        await until(pilot, lambda: type(app.screen).__name__ == "WatchScreen", "the help is closed")


async def test_without_a_model_process_the_device_is_shown(start_watch: StartWatch) -> None:
    app = start_watch()
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "No model process runs")
        await pilot.press("q")
    app.save_session()
    assert app.saved is None, "there is nothing to keep"


async def test_ctrl_c_quits_on_the_second_press(start_watch: StartWatch) -> None:
    app = start_watch()
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await until_shown(pilot, "model servers")
        await pilot.press("ctrl+c")
        await until_shown(pilot, "Ctrl+C again quits; what was recorded is saved.")
        assert app.is_running
        await pilot.press("ctrl+c")
        await until(pilot, lambda: not app.is_running or app._exit, "it has quit")


def proxy_of(app: WatchApp) -> ProxySession:
    session = app._session
    assert isinstance(session, ProxySession)
    return session


@pytest.mark.parametrize("size", [(160, 48), (120, 36), (60, 20), (40, 40)])
async def test_a_proxy_shows_its_clients_and_their_requests(
    start_watch: StartWatch, wire: LoopbackServer, size: tuple[int, int]
) -> None:
    as_llama_server(wire)
    app = start_watch(wire.url, listen=("127.0.0.1", 0))
    proxy = proxy_of(app)
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "No request has come yet.", f"OLLAMA_HOST={proxy.url}")
        for client in ("curl/8.1", "\x1b[31mred"):
            request = post("/v1/chat/completions", b'{"stream":true}', headers=f"User-Agent: {client}\r\n")
            answer = await asyncio.to_thread(exchanged, proxy.relay.port, request)
            assert b"data: " in answer
        await until_shown(pilot, "127.0.0.1 curl", "requests 1", "tokens 3", "n/a J/token")
        await until_shown(pilot, "[31mred")
        if size[1] > 30:
            await until_shown(pilot, "last requests")
        if size[0] >= 100:
            await until_shown(pilot, "2 requests, 0 running", "42 + 3 tokens")
        await pilot.press("j", "k", "f1", "escape", "q")
    assert proxy.session.requests


async def test_a_proxy_that_others_reach_says_so(start_watch: StartWatch, wire: LoopbackServer) -> None:
    app = start_watch(wire.url, listen=("0.0.0.0", 0))  # noqa: S104 - that is what the test is about
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "Whoever reaches this address can use the server.")


async def test_what_comes_after_the_end_is_no_defect(start_watch: StartWatch) -> None:
    app = start_watch()
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "No model process runs")
        app.exit()
        app.screen.call_next(lambda: app.screen.query_one("#what-is-gone"))
        await until(pilot, lambda: not app.screen_stack or not app.is_running, "the screen is gone")
    assert app.failure is None

"""Verb serve: the screens in a browser, by textual-serve.

Whoever has the address types here, so that it has a token, which pages, websocket and downloads ask for. A page sets
it as a cookie, which other sites do not get; the page loads nothing from elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import shlex
import socket
import sys
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from edgetop.commands.output import print_error, print_status
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.io.http import is_loopback
from edgetop.settings.resolve import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

TOKEN = "token"  # noqa: S105 - the name of one
TOKEN_BYTES = 24

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""Of the page, whose template would load a font from elsewhere."""

FOCUS = (
    "<script>new MutationObserver(() => document.querySelector('.xterm-helper-textarea')?.focus())"
    ".observe(document.body, {attributes: true})</script>"
)
"""Keys work once the screen is drawn, before anybody clicks on it."""

VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'
"""A phone shows the page in its own width, so that the text can be read there."""

TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
"""What the browser's terminal can do."""


def execute(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - the screens read them
    """Serve until a signal."""
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if words[:1] == ["serve"]:
        raise UsageError("edgetop serve cannot be served", "name another verb behind --, or none for the chat")
    try:
        import textual_serve.server  # noqa: F401, PLC0415 - the same
        from aiohttp import web  # noqa: PLC0415 - an extra
    except ImportError:
        raise EdgetopError(
            "textual-serve, which shows screens in a browser, is not installed", "pip install 'edgetop[serve]'"
        ) from None
    host, port = arguments.listen
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UsageError(f"--listen: {host}:{port}: {error.strerror}", "choose another address or port") from None
    token = secrets.token_urlsafe(TOKEN_BYTES)
    port = listening.getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    print_status(f"http://{name}:{port}/?{TOKEN}={token}")
    print_status("Ctrl+C ends it")
    if not is_loopback(host):
        print_error(
            "anybody on the network who learns this address types here, and what is sent is not encrypted",
            f"on a network that is not yours: edgetop serve there, and ssh -L {port}:127.0.0.1:{port} HOST here",
        )
    # It prints a trace of what visitors send that is no HTTP.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    os.environ.update(TERMINAL)
    web.run_app(
        application(shlex.join([sys.executable, "-m", "edgetop", *words]), token, f"edgetop-{port}"),
        sock=listening,
        print=None,
        access_log=None,
    )
    return 0


def application(command: str, token: str, cookie: str) -> web.Application:
    """The web application: textual-serve's handlers behind the token; one visitor at a time, others wait."""
    import aiohttp_jinja2  # noqa: PLC0415 - an extra
    from aiohttp import web  # noqa: PLC0415 - the same
    from jinja2 import FileSystemLoader  # noqa: PLC0415 - the same
    from textual_serve.server import Server  # noqa: PLC0415 - the same

    server = Server(command, title="edgetop")
    one_at_a_time = asyncio.Lock()
    running: set[asyncio.Task[Any]] = set()

    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.query.get(TOKEN, request.cookies.get(cookie, ""))
        origin = request.headers.get("Origin")
        if not compare_digest(given.encode("utf-8", "replace"), token.encode()):
            raise web.HTTPForbidden(text="The address lacks its token; `edgetop serve` printed all of it.\n")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise web.HTTPForbidden(text="Another site asked for this.\n")
        return await handler(request)

    async def index(request: web.Request) -> web.StreamResponse:
        # As the visitor calls it, who may come through a tunnel.
        server.public_url = f"{request.scheme}://{request.host}"
        response = await server.handle_index(request)
        if isinstance(response, web.Response):
            page = (response.text or "").replace("<head>", f"<head>{VIEWPORT}")
            response.text = page.replace("</body>", f"{FOCUS}</body>")
        response.headers.update(HEADERS)
        response.set_cookie(cookie, token, httponly=True, samesite="Strict")
        return response

    async def websocket(request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in one
        running.add(task)
        try:
            # Each visitor starts a model of his own, and there is seldom memory for two.
            async with one_at_a_time:
                return await server.handle_websocket(request)
        finally:
            running.discard(task)

    async def end(_app: web.Application) -> None:
        for task in running:
            task.cancel()

    app = web.Application(middlewares=[web.middleware(guard)])
    aiohttp_jinja2.setup(app, loader=FileSystemLoader(server.templates_path))
    app.add_routes([
        web.get("/", index, name="index"),
        web.get("/ws", websocket, name="websocket"),
        web.get("/download/{key}", server.handle_download, name="download"),
        web.static("/static", server.statics_path, name="static"),
    ])  # fmt: skip
    app.on_shutdown.append(end)
    return app

"""Serving from a process of its own: stdio, or streamable HTTP on a loopback address at /mcp.

The process answers at once and refuses with exit status 2, and the remedy on stderr, as soon as it knows that the
sandbox cannot start here. SIGTERM and SIGINT end every episode, session and log before the process.
"""

import os
import signal
import sys
from typing import Literal

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_server.config import AppConfig
from mcp_server.episodes import EpisodeManager
from mcp_server.server import create_server

LOOPBACK = ("127.0.0.1", "localhost", "::1")
REFUSED = 2
"""Exit status where the server cannot serve on this machine."""


def serve(
    config: AppConfig, transport: Literal["stdio", "http"] = "stdio", host: str = "127.0.0.1", port: int = 8765
) -> None:
    """Serve until the client leaves (stdio) or a signal comes. Exits with status 2 where that is not possible."""
    if transport == "http" and host not in LOOPBACK:
        _refuse(f"{host} is not a loopback address. Without authentication only {', '.join(LOOPBACK)} are served.")
    if transport == "stdio":
        create_server(config, watch=_watch_stdio).run("stdio")
    else:
        anyio.run(_serve_http, config, host, port)


async def _serve_http(config: AppConfig, host: str, port: int) -> None:
    import uvicorn

    server = create_server(config, watch=_refuse_without_sandbox)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "server": "med-copilot", "version": server.version})

    server.custom_route("/health", methods=["GET"])(health)
    app = server.streamable_http_app(stateless_http=True, host=host)
    # Without a limit, a client that keeps its connection would keep the server from ending.
    settings = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=3)
    await uvicorn.Server(settings).serve()


async def _watch_stdio(manager: EpisodeManager) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_refuse_without_sandbox, manager)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                await _leave(manager, 128 + number)


async def _refuse_without_sandbox(manager: EpisodeManager) -> None:
    if why := await manager.environment.unavailable():
        print(f"med-copilot: {why}", file=sys.stderr, flush=True)
        await _leave(manager, REFUSED)


async def _leave(manager: EpisodeManager, status: int) -> None:
    """End everything, then the process: a thread that reads stdin cannot be told to stop."""
    with anyio.CancelScope(shield=True):
        await manager.shutdown()
    sys.stderr.flush()
    os._exit(status)


def _refuse(why: str) -> None:
    print(f"med-copilot: {why}", file=sys.stderr)
    raise SystemExit(REFUSED)

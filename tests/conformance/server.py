"""Our own application with the suite's fixtures, over streamable HTTP on a free port.

    python -m tests.conformance.server FOLDER [--sessions]

prints the port once it listens, and serves until it is killed. Without `--sessions` it serves as `med-copilot serve`
does over HTTP (stateless); with it, revisions before 2026-07-28 have a session and a way back to the client.
"""

import argparse
import socket
import tempfile
import warnings
from pathlib import Path
from typing import Any

import uvicorn
from mcp import MCPDeprecationWarning
from mcp.server import MCPServer

from tests.conformance.fixtures import MemoryEvents, add_fixtures


def build(folder: Path) -> MCPServer[Any]:
    """Our server on an empty data root in `folder`, with the fixtures."""
    from mcp_server.config import AppConfig
    from mcp_server.server import create_server
    from tasks.data import DataRoot

    server = create_server(AppConfig(data_root=DataRoot(folder / "data"), log_folder=folder / "logs"))
    add_fixtures(server)
    return server


def serve(server: MCPServer[Any], *, sessions: bool) -> None:
    if sessions:
        app = server.streamable_http_app(event_store=MemoryEvents(), retry_interval=100)
    else:
        app = server.streamable_http_app(stateless_http=True)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--sessions", action="store_true")
    given = parser.parse_args()
    # The suite asks for what the newest revision deprecates as well.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    with tempfile.TemporaryDirectory() as scratch:
        serve(build(given.folder or Path(scratch)), sessions=given.sessions)


if __name__ == "__main__":
    main()

"""The clinic served by a process of its own: `python -m tests.mcp_server.served ROOT LOGS TRANSPORT PORT HOST`.

With "cannot" as HOST, the sandbox cannot start.
"""

import sys
from pathlib import Path

from mcp_server.config import AppConfig
from mcp_server.serve import serve
from sandbox.base import Sandbox, SandboxConfig
from sandbox.errors import SandboxUnavailable
from tasks.data import DataRoot
from tests.mcp_server import clinic


def main(root: str, logs: str, transport: str = "stdio", port: str = "0", host: str = "127.0.0.1") -> None:
    clinic.register()
    sandbox, host = (cannot, "127.0.0.1") if host == "cannot" else ("embedded", host)
    config = AppConfig(data_root=DataRoot(Path(root)), log_folder=Path(logs), sandbox=sandbox, pool=1)
    serve(config, "http" if transport == "http" else "stdio", host, int(port))


def cannot(_: SandboxConfig) -> Sandbox:
    raise SandboxUnavailable("no user namespaces here; allow them")


if __name__ == "__main__":
    main(*sys.argv[1:])

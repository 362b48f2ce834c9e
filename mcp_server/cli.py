"""The commands `serve` and `doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from tasks.terminal import DataOption, LogsOption, choose, console, log_folder, open_root, table


def add_commands(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(serve)
    app.command()(doctor)


def serve(
    data: DataOption = None,
    logs: LogsOption = None,
    transport: Annotated[str, typer.Option(help="stdio | http")] = "stdio",
    host: Annotated[str, typer.Option(help="Loopback address to listen on (http).")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on (http).")] = 8765,
    sandbox: Annotated[
        str,
        typer.Option(help="auto (the strongest that works here) | embedded | landlock | docker | unsafe-subprocess"),
    ] = "auto",
    allow_restricted: Annotated[
        bool, typer.Option("--allow-restricted", help="Serve restricted data also at the level landlock.")
    ] = False,
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Folder of wheels that sessions may install with pip; without it, none.")
    ] = None,
    feedback: Annotated[
        str, typer.Option(help="What a submission tells the agent: none | verdict | oracle")
    ] = "verdict",
    turns: Annotated[int, typer.Option(min=1, help="Calls that an episode may make.")] = 15,
    pool: Annotated[int, typer.Option(min=0, help="Warm sandbox sessions that are kept ready.")] = 2,
    max_episodes: Annotated[int, typer.Option(min=1, help="Episodes that may be open at once.")] = 320,
) -> None:
    """Serve the environment over MCP (stdio by default, or http://HOST:PORT/mcp)."""
    from mcp_server.config import AppConfig, EpisodeLimits
    from mcp_server.serve import serve as run
    from sandbox.choose import AUTO, LEVELS
    from sandbox.wheelhouse import check_wheelhouse

    root = open_root(data)
    config = AppConfig(
        data_root=root,
        log_folder=log_folder(root, logs),
        sandbox=choose("--sandbox", sandbox, (AUTO, *LEVELS)),
        feedback=choose("--feedback", feedback, ("none", "verdict", "oracle")),
        limits=EpisodeLimits(turns=turns, max_episodes=max_episodes),
        pool=pool,
        allow_restricted=allow_restricted,
        wheelhouse=None if wheelhouse is None else check_wheelhouse(wheelhouse),
    )
    run(config, choose("--transport", transport, ("stdio", "http")), host, port)


def doctor() -> None:
    """Probe this machine: what the sandbox can rely on here, and what to do where something does not hold."""
    from sandbox import choose as levels
    from sandbox.errors import SandboxUnavailable
    from sandbox.probe import probe

    shown = table("What holds on this machine", "check", "holds", "detail", "remedy")
    for check in probe():
        shown.add_row(check.name, "[green]yes[/]" if check.ok else "[red]no[/]", check.detail, check.remedy or "")
    console().print(shown)
    try:
        console().print(levels.choose().line, highlight=False)
    except SandboxUnavailable as error:
        console().print(str(error), highlight=False)
        raise typer.Exit(1) from None

"""The `med-copilot` command: puts the commands of the folders together.

Every command imports what it needs when it runs, so that `serve` answers quickly.
"""

import os
import sys
from pathlib import Path

import typer

_HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run the command; an error that a user can mend is one line on stderr and exit status 1."""
    ignore_foreign_modules()
    from sandbox.errors import SandboxError
    from tasks.errors import TaskError
    from tasks.terminal import fail

    try:
        make_app()()
    except (TaskError, SandboxError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def make_app() -> typer.Typer:
    """All commands."""
    import agent.cli
    import agent.demo_cli
    import mcp_server.cli
    import tasks.cli
    import training.cli

    app = typer.Typer(
        name="med-copilot",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Code-based medical tasks for any agent, over MCP: sandboxed, and graded on this machine.",
    )
    for room in (mcp_server.cli, agent.demo_cli, tasks.cli, agent.cli, training.cli):
        room.add_commands(app)
    return app


def ignore_foreign_modules() -> None:
    """Leave PYTHONPATH and the current folder out of the search path, as `python -I` does.

    Our packages have short names (`tasks`, `agent`): a folder of the user's may hold the same.
    """
    foreign = {Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    if sys.path and sys.path[0] in ("", str(Path.cwd())):
        foreign.add(Path.cwd())
    foreign.discard(_HERE)
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() not in foreign]


if __name__ == "__main__":
    main()

"""The commands of this folder as a program: `python -m tests.agent.command rollout ...`."""

import typer

from agent.cli import add_commands

app = typer.Typer(pretty_exceptions_enable=False)
add_commands(app)

if __name__ == "__main__":
    app()

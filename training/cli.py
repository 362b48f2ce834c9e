"""`med-copilot train sft` and `train ppo`: recipes from files, changed by --set, planned by --plan."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from training.config import PpoRecipe, SftRecipe

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file (YAML), or the name of one that ships.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a key: --set reward.format=0.2. Repeatable.")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Print memory, rates and duration, and start nothing.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Do not go on from a checkpoint of the output.")]
DevicesOption = Annotated[int, typer.Option(min=1, help="For --plan: devices.")]
MemoryOption = Annotated[float, typer.Option(min=0.1, help="For --plan: GiB of one device.")]
FlopsOption = Annotated[float, typer.Option(min=0.001, help="For --plan: peak TFLOP/s of one device (16 bits).")]
ShardedOption = Annotated[bool, typer.Option("--sharded", help="For --plan: FSDP2 or ZeRO-3 over the devices.")]
TrajectoriesOption = Annotated[int, typer.Option(min=1, help="For --plan: trajectories to learn from (SFT).")]
TokensOption = Annotated[int, typer.Option(min=16, help="For --plan: tokens of one trajectory.")]


def add_commands(app: typer.Typer) -> None:
    """Add the sub-commands `train sft`, `train ppo` and `train recipes`."""
    train = typer.Typer(no_args_is_help=True, help="Train a model on logged attempts, or by acting.")
    train.command("sft")(sft)
    train.command("ppo")(ppo)
    train.command("recipes")(list_recipes)
    app.add_typer(train, name="train")


def sft(
    recipe: RecipeArgument,
    changes: SetOption = None,
    plan: PlanOption = False,
    fresh: FreshOption = False,
    devices: DevicesOption = 1,
    memory: MemoryOption = 80.0,
    tflops: FlopsOption = 989.0,
    sharded: ShardedOption = False,
    trajectories: TrajectoriesOption = 2137,
    tokens: TokensOption = 8_000,
) -> None:
    """Fine-tune on the turns of successful attempts (TRL). Under several processes: accelerate launch."""
    with exit_on_error():
        chosen = _load(recipe, changes, "sft")
        if plan:
            _plan(chosen, devices, memory, tflops, sharded, trajectories, tokens)
            return
        _need("trl", "train")
        from training.sft import model_folder, train_sft

        metrics = train_sft(chosen, fresh=fresh)
        _tell_end(metrics, "train_loss", model_folder(chosen))


def ppo(
    recipe: RecipeArgument,
    changes: SetOption = None,
    plan: PlanOption = False,
    fresh: FreshOption = False,
    devices: DevicesOption = 1,
    memory: MemoryOption = 80.0,
    tflops: FlopsOption = 989.0,
    sharded: ShardedOption = False,
    tokens: TokensOption = 8_000,
) -> None:
    """Improve a model by its own episodes over MCP (PPO). Goes on from the newest checkpoint of the output."""
    with exit_on_error():
        chosen = _load(recipe, changes, "ppo")
        if plan:
            _plan(chosen, devices, memory, tflops, sharded, 1, tokens)
            return
        _need("accelerate", "train")
        from training.ppo import train_ppo

        metrics = train_ppo(chosen, fresh=fresh)
        _tell_end(metrics, "success", chosen.output / "model")


def list_recipes() -> None:
    """The recipes that ship, and where their files are."""
    from training.config import CONFIGS, recipes

    for name in recipes():
        typer.echo(f"{name}  {CONFIGS / name}.yaml")


def _load(name: str, changes: list[str] | None, method: str) -> Any:
    from training.config import load_recipe, parse_changes
    from training.errors import ConfigError

    _need("yaml", "train")
    recipe = load_recipe(name, parse_changes(changes or []))
    if recipe.method != method:
        raise ConfigError(f"{name} is a recipe for {recipe.method}: run `med-copilot train {recipe.method}`.")
    return recipe


def _plan(
    recipe: "SftRecipe | PpoRecipe",
    devices: int,
    memory: float,
    tflops: float,
    sharded: bool,
    trajectories: int,
    tokens: int,
) -> None:
    from rich.console import Console

    from training.plan import Hardware, plan

    hardware = Hardware(devices=devices, memory=memory, tflops=tflops, sharded=sharded)
    made = plan(recipe, hardware, trajectories=trajectories, tokens=tokens)
    console = Console()
    console.print(made.table())
    for line in made.assumptions:
        console.print(f"Assumed: {line}.", markup=False, highlight=False)
    if not made.fits:
        raise typer.Exit(1)


def _tell_end(metrics: dict[str, float], name: str, folder: Path) -> None:
    """Say how it ended, once, whatever the number of processes."""
    if os.environ.get("RANK", "0") == "0":
        ended = f"{name} {metrics.get(name, float('nan')):.4f}" if metrics else "This was finished before"
        typer.echo(f"{ended}; the model is in {folder}")


def _need(module: str, extra: str) -> None:
    from importlib.util import find_spec

    from training.errors import TrainingError

    if find_spec(module) is None:
        raise TrainingError(f"This needs `{module}`: install med-copilot[{extra}].")


@contextmanager
def exit_on_error() -> "Iterator[None]":
    """For every command of this folder: an error that a user can mend is one line on stderr and exit status 1."""
    from agent.errors import AgentError
    from sandbox.errors import SandboxError
    from tasks.errors import TaskError
    from training.errors import TrainingError

    try:
        yield
    except (TrainingError, TaskError, SandboxError, AgentError) as error:
        typer.echo(f"med-copilot: {error}", err=True)
        raise typer.Exit(1) from None


def main(add: Callable[[typer.Typer], None] = add_commands) -> None:
    """`python -m training.cli train ...`: what `accelerate launch` is pointed at."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
    app.callback()(lambda: None)
    add(app)
    app()


if __name__ == "__main__":
    main()

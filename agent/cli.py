"""The commands `rollout` and `eval`. What a command needs is imported when it runs."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from agent.evaluate import Row
    from agent.models import Model
    from agent.rollout import Connect, Players, Rollout, Settings
    from tasks.attempt import AttemptRecord

_MODELS = "expert | nothing | constant | guess | openai:NAME | local:PATH"
_RECORDS = (
    "Folders or files of records to report on. What the agent and the server recorded of one episode is one attempt; "
    "the server alone takes an agent whose model failed for one that gave up."
)

OutOption = Annotated[Path, typer.Option("--out", help="Folder of the records. One that exists is resumed.")]
ModelOption = Annotated[str, typer.Option("--model", help=_MODELS)]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="The data root. Default: $MED_COPILOT_DATA, else the user's data folder.")
]
TasksOption = Annotated[
    list[str] | None,
    typer.Option("--tasks", help="Id of a task; may be repeated. One of another --split or --family is an error."),
]
FamilyOption = Annotated[list[str] | None, typer.Option("--family", help="Only this family; may be repeated.")]
SplitOption = Annotated[str | None, typer.Option("--split", help="train | test")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Tasks of each family, at most; drawn by the seed.")
]
AttemptsOption = Annotated[int, typer.Option("--attempts", min=1, help="Attempts at each task.")]
ConcurrencyOption = Annotated[int, typer.Option("--concurrency", min=1, help="Attempts under way at once.")]
SeedOption = Annotated[
    int, typer.Option("--seed", help="Seed of every random choice. Endpoints are told it, and keep to it as they can.")
]
TemperatureOption = Annotated[
    float | None,
    typer.Option("--temperature", min=0, help="Default: 0 for the first attempt at a task, 0.6 for further ones."),
]
ScaffoldOption = Annotated[
    bool, typer.Option("--scaffold", help="JSON actions as text, for models without tool calls.")
]
TurnsOption = Annotated[
    int,
    typer.Option(
        "--turns", min=1, help="Turns of the model in an attempt, and calls that the own server allows in it."
    ),
]
CallOption = Annotated[int, typer.Option("--call-tokens", min=1, help="Tokens that one turn may have.")]
ContextOption = Annotated[int, typer.Option("--context-tokens", min=1, help="Tokens that the model reads, estimated.")]
CallSecondsOption = Annotated[
    float, typer.Option("--call-seconds", min=1, help="A model that does not answer in that time has failed.")
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--base-url", help="Of openai:NAME. Default: $OPENAI_BASE_URL.", envvar="OPENAI_BASE_URL", show_envvar=False
    ),
]
KeyOption = Annotated[str | None, typer.Option("--api-key", help="Of openai:NAME. Default: $OPENAI_API_KEY.")]
PriceOption = Annotated[
    str | None, typer.Option("--price", help="Of openai:NAME: US dollars for a million tokens, as PROMPT,COMPLETION.")
]
TokenIdsOption = Annotated[
    bool, typer.Option("--token-ids", help="Of openai:NAME: ask for token ids and log-probabilities (vLLM).")
]
ServerOption = Annotated[
    str | None, typer.Option("--server", help="URL of a server, for example http://127.0.0.1:8765/mcp. Default: own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]

_OF_RECORDS = {"records", "tasks", "family", "split", "as_json"}
"""What `eval` may be given along with records."""


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this folder to the command line."""
    app.command("rollout")(rollout)
    app.command("eval")(evaluate)


@dataclass(frozen=True)
class _Options:
    out: Path
    model: str
    data: Path | None
    tasks: list[str] | None
    family: list[str] | None
    split: str | None
    limit: int | None
    attempts: int
    concurrency: int
    settings: "Settings"
    server: str | None
    base_url: str | None
    api_key: str | None
    price: str | None
    token_ids: bool = False


def rollout(
    out: OutOption,
    model: ModelOption = "expert",
    data: DataOption = None,
    tasks: TasksOption = None,
    family: FamilyOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    attempts: AttemptsOption = 1,
    concurrency: ConcurrencyOption = 8,
    seed: SeedOption = 0,
    temperature: TemperatureOption = None,
    scaffold: ScaffoldOption = False,
    turns: TurnsOption = 15,
    call_tokens: CallOption = 8_192,
    context_tokens: ContextOption = 32_768,
    call_seconds: CallSecondsOption = 900.0,
    base_url: UrlOption = None,
    api_key: KeyOption = None,
    price: PriceOption = None,
    token_ids: TokenIdsOption = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a model attempt tasks over MCP, and record every attempt. Resumes where it was stopped."""
    from agent.rollout import Settings
    from agent.trajectory import AgentLimits

    limits = AgentLimits(turns=turns, call_tokens=call_tokens, context_tokens=context_tokens, call_seconds=call_seconds)
    settings = Settings(model, seed, temperature, scaffold, limits, _address(model, base_url))
    options = _Options(
        out, model, data, tasks, family, split, limit, attempts, concurrency, settings, server, base_url, api_key,
        price, token_ids,
    )  # fmt: skip
    _print(_run(options), f"{model}: {out}", as_json)


def evaluate(
    context: typer.Context,
    records: Annotated[list[Path] | None, typer.Argument(help=_RECORDS)] = None,
    model: Annotated[str | None, typer.Option("--model", help=f"Attempt the tasks first: {_MODELS}")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="With --model: folder of the records.")] = None,
    data: DataOption = None,
    tasks: TasksOption = None,
    family: FamilyOption = None,
    split: Annotated[
        str | None, typer.Option("--split", help="train | test. Default: test with --model, both with records.")
    ] = None,
    limit: LimitOption = None,
    attempts: AttemptsOption = 1,
    concurrency: ConcurrencyOption = 8,
    seed: SeedOption = 0,
    temperature: TemperatureOption = None,
    scaffold: ScaffoldOption = False,
    turns: TurnsOption = 15,
    call_seconds: CallSecondsOption = 900.0,
    base_url: UrlOption = None,
    api_key: KeyOption = None,
    price: PriceOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Success per family with 95% intervals clustered by patient or template, of records or of a model's attempts."""
    from agent.evaluate import evaluate as report
    from agent.rollout import Settings
    from agent.trajectory import AgentLimits

    if (model is None) == (not records):
        raise typer.BadParameter("Give records to report on, or --model and --out to make them.")
    if model is not None:
        if out is None:
            raise typer.BadParameter("--model needs --out, the folder of the records.")
        limits = AgentLimits(turns=turns, call_seconds=call_seconds)
        settings = Settings(model, seed, temperature, scaffold, limits, _address(model, base_url))
        options = _Options(
            out, model, data, tasks, family, split or "test", limit, attempts, concurrency, settings, server, base_url,
            api_key, price,
        )  # fmt: skip
        _print(_run(options), f"{model}: {out}", as_json)
        return
    if idle := sorted({name for name in context.params if _given(context, name)} - _OF_RECORDS):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise typer.BadParameter(f"{names}: of use with --model only, not with records.")
    _print(report(_chosen(records or [], tasks, family, split)), "Records", as_json)


def _address(model: str, url: str | None) -> str | None:
    """Where the endpoint is, without those parts of its URL that may hold a key."""
    if url is None or not model.startswith("openai:"):
        return None
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return bare.geturl().rstrip("/")


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _chosen(
    paths: list[Path], tasks: list[str] | None, family: list[str] | None, split: str | None
) -> "list[AttemptRecord]":
    """The records in `paths` that pass every filter that is given."""
    from agent.rollout import last_records

    _check_split(split)
    if missing := [str(path) for path in paths if not path.exists()]:
        raise typer.BadParameter(f"There is no {', '.join(missing)}.")
    chosen = [
        record
        for record in last_records(paths)
        if (not tasks or record.task.id in tasks)
        and (not family or record.task.family in family)
        and split in (None, record.task.split)
    ]
    if not chosen:
        raise typer.BadParameter("There are no such records.")
    return chosen


def _check_split(split: str | None) -> None:
    if split not in (None, "train", "test"):
        raise typer.BadParameter(f"{split!r} is not one of train, test.", param_hint="--split")


def _run(options: _Options) -> "list[Row]":
    """Make the attempts that are missing; a row for each family of the attempts that were asked for."""
    import anyio

    from agent.errors import AgentError
    from agent.evaluate import evaluate as report
    from tasks.errors import TaskError

    _check_split(options.split)
    try:
        rollout = anyio.run(_attempts, options)
    except (AgentError, TaskError) as error:
        typer.echo(f"med-copilot: {error}", err=True)
        raise SystemExit(1) from None
    tally = rollout.tally
    if tally.resumed:
        typer.echo(f"{tally.resumed} of {tally.total} attempts were there already.", err=True)
    if tally.lost:
        typer.echo(f"{tally.lost} tries failed through no fault of the agent, and were made again.", err=True)
    return report(rollout.records())


async def _attempts(options: _Options) -> "Rollout":
    """The rollout, carried out."""
    from agent.errors import RolloutError
    from agent.progress import progress
    from agent.rollout import Rollout
    from agent.selection import select

    connect = _server(options)
    tasks = await select(
        connect,
        _root(options) if options.server is None else None,
        tasks=options.tasks,
        families=options.family,
        split=options.split,
        limit=options.limit,
        seed=options.settings.seed,
    )
    if not tasks:
        raise RolloutError("There are no such tasks: `med-copilot tasks generate` makes some.")
    async with _players(options) as players:
        with progress() as watch:
            rollout = Rollout(
                tasks,
                options.attempts,
                players,
                options.settings,
                options.out,
                concurrency=options.concurrency,
                watch=watch,
            )
            await rollout.run(connect)
            return rollout


def _server(options: _Options) -> "Connect":
    from agent.rollout import server

    if options.server is not None:
        return server(options.server)
    script = Path(__file__).resolve().parents[1] / "med_copilot.py"
    command = [sys.executable, str(script), "serve", "--logs", str(options.out / "server")]
    command += ["--pool", str(min(options.concurrency, 8)), "--max-episodes", str(2 * options.concurrency + 16)]
    command += ["--turns", str(options.settings.limits.turns), "--data", str(_root(options).path)]
    return server(command)


def _root(options: _Options) -> Any:
    from tasks.data import DataRoot

    return DataRoot(options.data or DataRoot.default_path())


@asynccontextmanager
async def _players(options: _Options) -> "AsyncIterator[Players]":
    """The models of a rollout. Raises ModelRefused."""
    from agent.models import Constant, Guess, Nothing

    settings = options.settings
    kind, _, name = options.model.partition(":")
    match kind:
        case "expert":
            from agent.expert import Expert
            from tasks.registry import Registry

            with closing(Registry(_root(options))) as registry:
                yield lambda task, number: Expert(
                    registry.get(task), registry.truth(task).oracle, seed=settings.seed_of(task, number)
                )
        case "nothing":
            yield lambda task, number: Nothing()
        case "constant":
            yield lambda task, number: Constant()
        case "guess":
            yield lambda task, number: Guess(settings.seed_of(task, number))
        case "openai" if name:
            from agent.endpoint import Endpoint

            endpoint = Endpoint(
                name,
                base_url=options.base_url,
                key=options.api_key,
                concurrency=options.concurrency,
                timeout=settings.limits.call_seconds,
                price=_price(options.price),
                logprobs=options.token_ids,
                token_ids=options.token_ids,
            )
            async with endpoint:
                yield lambda task, number: _dressed(endpoint.seeded(settings.seed_of(task, number)), settings)
        case "local" if name:
            from agent.local import LocalModel

            async with LocalModel.load(name, batch=options.concurrency) as local:
                yield lambda task, number: _dressed(local.seeded(settings.seed_of(task, number)), settings)
        case _:
            raise typer.BadParameter(f"{options.model!r} is not one of {_MODELS}.", param_hint="--model")


def _dressed(model: "Model", settings: "Settings") -> "Model":
    from agent.scaffold import Scaffold

    return Scaffold(model) if settings.scaffold else model


def _price(text: str | None) -> Any:
    from agent.endpoint import Price

    if text is None:
        return None
    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            "PROMPT,COMPLETION are two numbers, for example 0.4,1.6.", param_hint="--price"
        ) from None
    return Price(prompt, completion)


def _print(rows: "list[Row]", title: str, as_json: bool = False) -> None:
    if as_json:
        for row in rows:
            typer.echo(json.dumps(asdict(row)))
        return
    from rich.console import Console

    from agent.evaluate import mix, table

    console = Console()
    console.print(table(rows, title))
    for row in rows:
        console.print(mix(row), markup=False, highlight=False)

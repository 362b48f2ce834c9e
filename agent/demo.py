"""The demonstration: a scripted agent works through tasks of a served hospital, and the terminal shows each step.

The agent acts over MCP alone, like any other. What it knows of a task beforehand is an analyst's solution (the task's
oracle, read through the Python API): it stands in for a model, so that the demonstration needs none.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from agent.client import Environment, ToolFailed, connect
from tasks.data import DataRoot
from tasks.registry import Registry
from tasks.task import AnswerSpec, RowsSpec

SHOWN, WIDE = 12, 600
"""Lines of an output or of code that are shown, and characters of a line."""


@dataclass(frozen=True)
class Played:
    """One episode of the demonstration. `expected`: the score that the script should get."""

    task: str
    category: str
    script: str
    calls: int
    score: float | None
    expected: float


class _Player:
    """Calls tools and shows each call with the gist of its result."""

    def __init__(self, environment: Environment, console: Console) -> None:
        self.environment, self.console, self.calls = environment, console, 0

    async def __call__(self, tool: str, shown: Sequence[str] = (), /, **arguments: Any) -> dict[str, Any]:
        """Call; show the fields of the result named in `shown`."""
        self.calls += 1
        plain = {key: value for key, value in arguments.items() if key not in ("episode_id", "code")}
        self.console.print(f"  [bold cyan]{tool}[/] {json.dumps(plain, ensure_ascii=False) if plain else ''}")
        if code := arguments.get("code"):
            language = "sql" if arguments.get("language") == "sql" else "python"
            self.console.print(Syntax(_cut(code), language, background_color="default", word_wrap=True, padding=(0, 4)))
        try:
            result = await self.environment.call(tool, **arguments)
        except ToolFailed as error:
            self.console.print(f"    [red]{error}[/]")
            raise
        for name in shown:
            value: Any = result
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value not in (None, "", [], {}):
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                self.console.print(f"    [dim]{name}:[/] {_escape(_cut(text))}", highlight=False)
        return result


async def run_demo(command: Sequence[str], root: DataRoot, logs: Path, tasks_per_family: int, console: Console) -> bool:
    """Serve `root` with `command`, play, and print a graded table. Returns whether every grade was as expected."""
    registry = Registry(root)
    chosen = {family.name: _choose(registry, family.name, tasks_per_family) for family in registry.families()}
    played: list[Played] = []
    async with connect([*command, "--data", str(root.path), "--logs", str(logs)]) as environment:
        player = _Player(environment, console)
        for ids in chosen.values():
            for number, task in enumerate(ids):
                script = "debugs a mistake" if number == 0 else "solves"
                if number and number == len(ids) - 1:
                    script = "guesses"
                played.append(await _play(player, registry, task, script))
    console.print(_table(played))
    if records := sorted(logs.glob("attempts-*.jsonl"), key=lambda path: path.stat().st_mtime):
        console.print(f"Trajectories: {records[-1]}", soft_wrap=True, highlight=False)
    return all(one.score == one.expected for one in played)


async def _play(player: _Player, registry: Registry, task_id: str, script: str) -> Played:
    task, player.calls = registry.get(task_id), 0
    player.console.rule(f"[bold]{task_id}[/] · {task.category}", align="left")
    episode = (await player("start_task", task_id=task_id))["episode_id"]
    player.console.print(Panel(_escape(_cut(task.problem)), title="problem", title_align="left"))
    if task.database:
        await player("request_info", ("tables",), episode_id=episode, kind="tables")
    if script == "guesses":
        verdict = await player("submit_answer", ("correct", "score"), episode_id=episode, answer=_guess(task.answer))
        return _played(task_id, task.category, script, player.calls, verdict, expected=0.0)
    oracle = registry.truth(task_id).oracle
    if script == "debugs a mistake":
        mistake = _with_mistake(oracle)
        await player("execute_code", ("error.message",), episode_id=episode, code=mistake)
        await player("debug_code", ("diagnosis.cause", "diagnosis.fixes"), episode_id=episode)
    await player("execute_code", ("stdout.text", "value"), episode_id=episode, code=f"{oracle}\nanswer")
    verdict = await player("submit_answer", ("correct", "score"), episode_id=episode, variable="answer")
    return _played(task_id, task.category, script, player.calls, verdict, expected=1.0)


def _choose(registry: Registry, family: str, count: int) -> list[str]:
    """One task of each category in turn."""
    by_category: dict[str, list[str]] = {}
    for task in registry.ids(family=family):
        by_category.setdefault(registry.get(task).category, []).append(task)
    queues = list(by_category.values())
    return [queues[number % len(queues)][number // len(queues)] for number in range(min(count, sum(map(len, queues))))]


def _with_mistake(code: str) -> str:
    """The same code with a typing error: in the name of a table, or else in the name that it leaves its answer in."""
    wrong = re.sub(r"(\bFROM \w+)\w\b", r"\1", code, count=1)
    return wrong if wrong != code else f"{code}\nprint(anwser)"


def _guess(spec: AnswerSpec) -> Any:
    """An answer of the right form that is as good as none."""
    if isinstance(spec, RowsSpec):
        return [[123456] * spec.width]
    return {"date": "2000-01-01", "duration": [0, 0], "text": "unknown", "boolean": True}.get(spec.kind, 123456)


def _played(task: str, category: str, script: str, calls: int, verdict: dict[str, Any], *, expected: float) -> Played:
    return Played(task, category, script, calls, verdict.get("score"), expected)


def _table(played: Sequence[Played]) -> Table:
    table = Table(title="Graded by the server", title_justify="left")
    for column in ("task", "category", "the scripted agent", "calls", "score"):
        table.add_column(column, overflow="fold")
    for one in played:
        colour = "green" if one.score == one.expected else "red"
        table.add_row(one.task, one.category, one.script, str(one.calls), f"[{colour}]{one.score}[/]")
    return table


def _cut(text: str) -> str:
    """Beginning and end of a long text: its answer is usually in its last lines."""
    lines = [line if len(line) <= WIDE else f"{line[:WIDE]} …" for line in text.strip().splitlines()]
    if len(lines) > SHOWN:
        half = SHOWN // 2
        lines = [*lines[:half], f"… {len(lines) - SHOWN} lines more …", *lines[-half:]]
    return "\n".join(lines)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)

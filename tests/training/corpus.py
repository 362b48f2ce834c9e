"""A served hospital, what the expert and a foreign client did in it, and a small tokenizer and model of our own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import Client

from agent.client import Environment, connect
from agent.expert import Expert
from agent.rollout import Rollout, Settings
from mcp_server.config import AppConfig, Feedback
from mcp_server.server import create_server
from tasks.attempt import AttemptRecord
from tasks.data import DataRoot
from tasks.datasets import generate_dataset
from tasks.family import GenerateOptions
from tasks.registry import Registry
from training.data import as_seen, load
from training.render import COMPACT, plain_message
from training.scratch import make_model, make_tokenizer

CATEGORIES = ("Body Mass Index (BMI)", "Mean Arterial Pressure (MAP)")


def generate(folder: Path) -> DataRoot:
    root = DataRoot(folder)
    generate_dataset(root, "medcalcbench", GenerateOptions(patients=20, per_category=4), progress=lambda *_: None)
    return root


def chosen(root: DataRoot, split: str, count: int = 8) -> list[str]:
    registry = Registry(root)
    found = [one for one in registry.ids(split=split) if registry.get(one).category in CATEGORIES][:count]
    registry.close()
    return found


@asynccontextmanager
async def served(root: DataRoot, logs: Path, feedback: Feedback = "verdict") -> AsyncIterator[Environment]:
    config = AppConfig(data_root=root, log_folder=logs, pool=1, feedback=feedback)
    async with connect(create_server(config)) as environment:
        yield environment


async def expert_records(
    root: DataRoot, folder: Path, tasks: list[str], feedback: Feedback = "verdict"
) -> list[AttemptRecord]:
    """Our expert's attempts; what the server saw of them lies in <folder>/server."""
    registry, settings = Registry(root), Settings("expert")
    rollout = Rollout(
        tasks, 1, lambda task, number: Expert(registry.get(task), registry.truth(task).oracle), settings, folder
    )
    await rollout.run(lambda: served(root, folder / "server", feedback))
    registry.close()
    return load([folder])


async def foreign_records(root: DataRoot, folder: Path, tasks: list[str]) -> list[AttemptRecord]:
    """The SDK's own client computes and submits; only the server keeps a record."""
    registry = Registry(root)
    async with Client(create_server(AppConfig(data_root=root, log_folder=folder, pool=1))) as client:
        for task in tasks:
            started: Any = (await client.call_tool("start_task", {"task_id": task})).structured_content
            episode = {"episode_id": started["episode_id"]}
            code = registry.truth(task).oracle
            await client.call_tool("execute_code", {**episode, "code": code})
            await client.call_tool("submit_answer", {**episode, "variable": "answer"})
    registry.close()
    return load([folder])


def small(records: list[AttemptRecord], folder: Path) -> tuple[Any, Any]:
    """(tokenizer, model) made for these records, saved in the folder."""
    from transformers.utils.chat_template_utils import render_jinja_template

    talks = [[plain_message(message) for message in as_seen(record).messages] for record in records]
    texts = render_jinja_template(conversations=talks, chat_template=COMPACT)[0]
    tokenizer = make_tokenizer(texts, folder, size=400)
    model = make_model(len(tokenizer), hidden=32, layers=2, heads=2)
    model.save_pretrained(folder)
    return tokenizer, model

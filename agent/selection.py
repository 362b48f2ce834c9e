"""Which tasks a rollout is of: those that are named or all, of some families and one split, and so many of each family.

They are asked for where they are: in the data root that our own server is going to serve, or at a server elsewhere.
"""

import random
from collections.abc import Sequence
from contextlib import closing

from agent.errors import RolloutError
from agent.rollout import Connect
from tasks.data import DataRoot
from tasks.registry import Registry


async def select(
    connect: Connect,
    root: DataRoot | None,
    *,
    tasks: Sequence[str] | None,
    families: Sequence[str] | None,
    split: str | None,
    limit: int | None,
    seed: int,
) -> list[str]:
    """Ids, family by family: of each `limit` at most, drawn by the seed, in the order of the list.

    They are of `root`, or of the server where that is None. Raises RolloutError where a task that is named is of
    another split or family; TaskError, ToolFailed and EnvironmentLost.
    """
    if tasks:
        by_family = await _named(connect, root, tasks, families, split)
    elif root is not None:
        with closing(Registry(root)) as registry:
            names = families or [one.name for one in registry.families()]
            by_family = {name: registry.ids(family=name, split=split) for name in names}
    else:
        by_family = await _listed(connect, families, split)
    chosen: list[str] = []
    for name, ids in by_family.items():
        if limit is not None and len(ids) > limit:
            drawn = set(random.Random(f"{seed} {name}").sample(ids, limit))
            ids = [one for one in ids if one in drawn]
        chosen += ids
    return chosen


async def _named(
    connect: Connect, root: DataRoot | None, ids: Sequence[str], families: Sequence[str] | None, split: str | None
) -> dict[str, list[str]]:
    ids = list(dict.fromkeys(ids))
    if root is not None:
        with closing(Registry(root)) as registry:
            tasks = [registry.get(one) for one in ids]
    else:
        async with connect() as environment:
            tasks = [await environment.task(one) for one in ids]
    found: dict[str, list[str]] = {}
    for task in tasks:
        if split not in (None, task.split):
            raise RolloutError(
                f"{task.id} is of the {task.split} split, and {split} was asked for. Give --split {task.split}."
            )
        if families and task.family not in families:
            raise RolloutError(f"{task.id} is of {task.family}, which --family leaves out.")
        found.setdefault(task.family, []).append(task.id)
    return found


async def _listed(connect: Connect, families: Sequence[str] | None, split: str | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    async with connect() as environment:
        for family in families or [""]:
            cursor: str | None = ""
            while cursor is not None:
                page = await environment.call("list_tasks", family=family, split=split or "", cursor=cursor, limit=200)
                for task in page["tasks"]:
                    found.setdefault(task["family"], []).append(task["id"])
                cursor = page["next_cursor"]
    return found

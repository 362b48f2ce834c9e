"""Whole episodes per second on this machine, and the memory of 300 that live at once."""

import time
from pathlib import Path

import anyio

from bench.measure import Measurement, tree_memory
from bench.served import hospital, serve
from tasks.registry import Registry

EPISODES = 200
AT_ONCE = 8
LIVE = 300


async def run(folder: Path) -> list[Measurement]:
    registry = Registry(hospital(folder))
    ids = registry.ids()
    oracles = {task: registry.truth(task).oracle for task in ids}
    async with serve(folder, "--pool", str(AT_ONCE)) as served:
        call = served.environment.call
        graded = []

        async def episode(task: str) -> None:
            started = await call("start_task", task_id=task)
            number = started["episode_id"]
            await call("request_info", episode_id=number, kind="tables")
            await call("execute_code", episode_id=number, code="SELECT count(*) FROM admissions", language="sql")
            await call("execute_code", episode_id=number, code=oracles[task])
            graded.append(await call("submit_answer", episode_id=number, variable="answer"))

        async def worker(tasks: list[str]) -> None:
            for task in tasks:
                await episode(task)

        await episode(ids[0])
        work = [ids[number % len(ids)] for number in range(EPISODES)]
        began = time.perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(AT_ONCE):
                group.start_soon(worker, work[number::AT_ONCE])
        rate = EPISODES / (time.perf_counter() - began)
        correct = sum(bool(grade.get("correct")) for grade in graded)
    async with serve(folder, "--max-episodes", str(LIVE + 10)) as served:
        call = served.environment.call
        for number in range(LIVE):
            started = await call("start_task", task_id=ids[number % len(ids)])
            await call("execute_code", episode_id=started["episode_id"], code=oracles[ids[number % len(ids)]])
        memory = tree_memory(served.pid)
    return [
        Measurement(
            "whole episodes (start, 3 calls on the database, submit, grade)",
            ">= 25/s",
            f"{rate:.1f}/s, {AT_ONCE} at once, {correct} of {len(graded)} graded 1.0",
            rate >= 25 and correct == len(graded),
            "processor time: opening and killing a session, and the SDK's work on six messages",
        ),
        Measurement(
            f"memory of {LIVE} live episodes",
            "<= 4 GB",
            f"{memory / 2**30:.2f} GB (proportional set size of the server's whole tree)",
            memory <= 4 * 2**30,
        ),
    ]

"""A trivial `execute_code` over stdio against the reference's way, and `start_task` from the warm pool."""

from pathlib import Path

from bench import reference
from bench.measure import Measurement, median, milliseconds, percentile, timed
from bench.served import hospital, serve
from tasks.registry import Registry

CODE = "print(1 + 1)"
REFERENCE_RUNS = 7
CALLS = 40
STARTS = 60


async def run(folder: Path) -> list[Measurement]:
    """Our calls and the reference's alternate, so that both meet the same machine."""
    ids = Registry(hospital(folder)).ids()
    ours: list[float] = []
    theirs: list[float] = []
    starts: list[float] = []
    async with serve(folder, "--turns", "100000") as served:
        call = served.environment.call
        episode = (await call("start_task", task_id=ids[0]))["episode_id"]
        await call("execute_code", episode_id=episode, code=CODE)
        for _ in range(REFERENCE_RUNS):
            ours += [await timed(lambda: call("execute_code", episode_id=episode, code=CODE)) for _ in range(CALLS)]
            theirs.append(await timed(_reference))
        for number in range(STARTS):
            started: list[str] = []

            async def start(task: str = ids[number % len(ids)], into: list[str] = started) -> None:
                into.append((await call("start_task", task_id=task))["episode_id"])

            starts.append(await timed(start))
            await call("execute_code", episode_id=started[0], code=CODE)
            await call("close_episode", episode_id=started[0])
    ratio = median(theirs) / median(ours)
    return [
        Measurement(
            "execute_code of a trivial snippet over stdio",
            "p50 <= 5 ms, >= 200x the reference",
            f"p50 {milliseconds(median(ours))}, p95 {milliseconds(percentile(ours, 0.95))}, {ratio:.0f}x"
            f" (reference p50 {milliseconds(median(theirs))})",
            median(ours) <= 0.005 and ratio >= 200,
            "the SDK's stdio transport and two processes that share the cores",
        ),
        Measurement(
            "start_task with a warm pool",
            "p50 <= 10 ms, p95 <= 50 ms",
            f"p50 {milliseconds(median(starts))}, p95 {milliseconds(percentile(starts, 0.95))}",
            median(starts) <= 0.010 and percentile(starts, 0.95) <= 0.050,
            "the pool refills on the same cores",
        ),
    ]


async def _reference() -> None:
    import anyio

    await anyio.to_thread.run_sync(reference.execute, CODE)

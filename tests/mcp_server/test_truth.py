"""Truth stays out: not a trace of it in the session's files, environment or processes, nor in any answer of a tool."""

from typing import Any

import pytest

from tasks.data import DataRoot
from tasks.registry import Registry
from tests.mcp_server.clinic import BROKEN, NUMBER, ROWS
from tests.mcp_server.conftest import Connect

pytestmark = pytest.mark.anyio

SEARCH = """
import os, re, stat
canary, found, looked = re.compile(b"canary-[0-9a-f]{32}"), [], 0
for top, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if top != "/" or name != "sys"]
    for path in (os.path.join(top, name) for name in files):
        try:
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as file:
                    looked += 1
                    data = file.read(64 << 20)
                    if b"canary-" in data and canary.search(data):
                        found.append(path)
        except OSError:
            pass
found += [name for name, value in os.environb.items() if canary.search(value)]
print(looked, found)
"""


async def test_no_canary_is_within_reach(connect: Connect, root: DataRoot) -> None:
    registry = Registry(root)
    canaries = [registry.truth(task).canary for task in registry.ids()]
    answers: list[str] = []
    async with connect(turns=100) as calls:

        async def call(tool: str, **arguments: Any) -> Any:
            result = await calls.client.call_tool(tool, arguments)
            answers.append(result.model_dump_json())
            return result.structured_content

        await call("list_tasks")
        for task in (ROWS, BROKEN):
            episode = (await call("start_task", task_id=task))["episode_id"]
            if task == ROWS:
                # In the background: there are many files, and a call has less time than a slow machine needs.
                done = await call("execute_code", episode_id=episode, code=SEARCH, background=True)
                while not done.get("done"):
                    done = await call("read_output", episode_id=episode, wait_s=40)
                looked, found = done["text"].split(" ", 1)
                assert int(looked) > 500, done
                assert found.strip() == "[]"
            # The search would find what is there to be found.
            plant = "open('/work/planted', 'w').write('canary-' + '0' * 32)"
            await call("execute_code", episode_id=episode, code=plant)
            narrow = SEARCH.replace('walk("/")', 'walk("/work")')
            assert "/work/planted" in (await call("execute_code", episode_id=episode, code=narrow))["stdout"]["text"]
            await call("run_terminal", episode_id=episode, command="env; mount; ps aux; ls -laR /data /work")
            await call("debug_code", episode_id=episode, code="canary + truth")
            await call("debug_code", episode_id=episode, error="KeyError: 'truth'")
            for kind in ("tables", "search"):
                await call("request_info", episode_id=episode, kind=kind, term="canary")
            await call("read_output", episode_id=episode)
            await call("submit_answer", episode_id=episode, answer={"x": 1})
            await call("submit_answer", episode_id=episode, answer=5 if task == BROKEN else [])
            await call("list_episodes")
        for uri in ("medagentgym://families", f"medagentgym://task/{ROWS}", f"medagentgym://episode/{episode}"):
            answers.append((await calls.client.read_resource(uri)).model_dump_json())
        answers.append((await calls.client.list_tools()).model_dump_json())
        answers.append((await calls.client.get_prompt("solve_task", {"task_id": ROWS})).model_dump_json())
        stored = [record.model_dump_json() for record in calls.records().values()]
    stored += [path.read_text() for path in calls.logs.glob("events-*.jsonl")]
    for canary in canaries:
        assert not [answer for answer in answers if canary in answer]
        assert not [text for text in stored if canary in text]


async def test_a_canary_in_an_output_voids_the_episode(connect: Connect, root: DataRoot) -> None:
    canary = Registry(root).truth(ROWS).canary
    async with connect() as calls:
        episode = await calls.start(ROWS)
        text = await calls.error("execute_code", episode_id=episode, code=f"print({canary[:9]!r} + {canary[9:]!r})")
        assert "void" in text
        assert canary not in text
        assert "has ended (infra_error)" in await calls.error("submit_answer", episode_id=episode, answer=[])
        record = calls.records()[episode]
    assert (record.outcome, record.reward) == ("infra_error", None)
    assert record.error
    assert record.error.kind == "canary"


@pytest.mark.parametrize("feedback", ["verdict", "oracle"])
async def test_a_canary_in_a_submission_voids_the_episode(connect: Connect, root: DataRoot, feedback: str) -> None:
    canary = Registry(root).truth(ROWS).canary
    async with connect(feedback=feedback) as calls:
        episode = await calls.start(ROWS)
        code = f"answer = [[{canary[:9]!r} + {canary[9:]!r}, 1]]; 1"
        result = await calls.client.call_tool("execute_code", {"episode_id": episode, "code": code})
        if feedback == "verdict":
            assert "void" in await calls.error("submit_answer", episode_id=episode, variable="answer")
        else:
            assert result.is_error
        record = calls.records()[episode]
    assert (record.outcome, record.reward, record.submission) == ("infra_error", None, None)


async def test_a_canary_of_anything_else_is_just_text(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(NUMBER)
        await calls.ok("execute_code", episode_id=episode, code="print('canary-' + '0' * 32)")
        assert (await calls.ok("submit_answer", episode_id=episode, answer=38.02))["correct"]


async def test_the_log_of_an_episode_without_a_submission_holds_no_truth(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(NUMBER)
        await calls.ok("close_episode", episode_id=episode)
    text = "".join(path.read_text() for path in calls.logs.glob("*.jsonl"))
    assert episode in text
    assert "38.025" not in text

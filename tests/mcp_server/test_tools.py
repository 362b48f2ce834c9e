"""The tools, resources and prompt over a real client, in both protocol eras."""

import json
from typing import Any

import pytest
from mcp.types import PromptReference, ResourceTemplateReference, TextContent, TextResourceContents

from tasks.record import verify_log
from tests.mcp_server.clinic import ABSTAIN, BROKEN, FEW, MISSING, NUMBER, PLAIN, ROWS, TEXT
from tests.mcp_server.conftest import Connect

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
HOT = [["Grace", 38.9], ["Barbara", 39.4]]
TOOLS = [
    "list_tasks",
    "start_task",
    "request_info",
    "execute_code",
    "run_terminal",
    "debug_code",
    "read_output",
    "submit_answer",
    "close_episode",
    "list_episodes",
]


@ERAS
async def test_the_tools_say_what_hosts_need(connect: Connect, mode: str) -> None:
    async with connect(mode) as calls:
        tools = (await calls.client.list_tools()).tools
    assert [tool.name for tool in tools] == TOOLS
    for tool in tools:
        assert tool.title
        assert tool.description
        assert len(tool.description.encode()) < 2_000
        assert tool.output_schema
        assert tool.output_schema["type"] == "object"
        hints = tool.annotations
        assert hints
        for hint in (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint):
            assert hint is not None


@ERAS
async def test_an_episode_from_list_to_verdict(connect: Connect, mode: str) -> None:
    async with connect(mode) as calls:
        page = await calls.ok("list_tasks", query="rows")
        assert [task["id"] for task in page["tasks"]] == [ROWS]
        started = await calls.ok("start_task", task_id=ROWS)
        assert started["data"][0]["path"] == "/data/clinic.sqlite"
        assert "list of rows" in started["answer_form"]
        assert started["limits"]["turns"] == 15
        episode = started["episode_id"]
        tables = await calls.ok("request_info", episode_id=episode, kind="tables")
        assert tables["tables"][0]["rows"] == 4
        opened = started["data"][0]["open_with"]
        await calls.ok("execute_code", episode_id=episode, code=f"import sqlite3\ndb = {opened}")
        code = "answer = db.execute('select name, temperature from patients where temperature > 38').fetchall()\nanswer"
        done = await calls.ok("execute_code", episode_id=episode, code=code)
        assert (done["status"], done["turns_left"]) == ("ok", 12)
        assert "Grace" in done["value"]
        verdict = await calls.ok("submit_answer", episode_id=episode, variable="answer")
        assert (verdict["correct"], verdict["score"]) == (True, 1.0)
        assert "has ended (graded)" in await calls.error("execute_code", episode_id=episode, code="1")
        assert [one["state"] for one in (await calls.ok("list_episodes"))["episodes"]] == ["ended"]
    record = calls.records()[episode]
    assert (record.outcome, record.reward, record.error) == ("graded", 1.0, None)
    assert [message.role for message in record.messages] == ["system", "user"] + ["assistant", "tool"] * 4
    assert record.messages[0].content == "You answer questions about a clinic."
    assert episode in (record.messages[1].content or "")
    call = (record.messages[6].tool_calls or ())[0]
    assert call.function.arguments == {"episode_id": episode, "code": code}
    assert "Grace" in (record.messages[7].content or "")
    assert {tool["function"]["name"] for tool in record.tools} == set(TOOLS[2:9])
    assert record.submission
    assert record.submission.kind == "variable"
    assert [verify_log(log) for log in calls.logs.glob("events-*.jsonl")] == [[]]


@ERAS
@pytest.mark.parametrize(
    ("task", "answer", "correct"),
    [
        (ROWS, HOT, True),
        (ROWS, HOT[::-1], True),
        (ROWS, json.dumps(HOT), True),
        (ROWS, [["grace", "38.9"], ["BARBARA", 39.4]], True),
        (ROWS, HOT[:1], False),
        (ROWS, [], False),
        (ROWS, None, False),
        (NUMBER, 38.02, True),
        (NUMBER, "38.02", True),
        (NUMBER, 38, True),
        (NUMBER, "40", False),
        (ABSTAIN, None, True),
        (ABSTAIN, "null", True),
        (ABSTAIN, 0, False),
        (TEXT, "null", True),
        (TEXT, '{"a": 1}', False),
    ],
)
async def test_answers_as_json(connect: Connect, mode: str, task: str, answer: Any, correct: bool) -> None:
    async with connect(mode) as calls:
        verdict = await calls.ok("submit_answer", episode_id=await calls.start(task), answer=answer)
    assert (verdict["correct"], verdict["score"]) == (correct, float(correct))


async def test_answers_from_variables_and_files(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(ROWS)
        code = (
            "import json, pandas, sqlite3\n"
            "db = sqlite3.connect('file:/data/clinic.sqlite?mode=ro', uri=True)\n"
            "answer = pandas.read_sql('select name, temperature from patients where temperature > 38', db)\n"
            "json.dump(answer.values.tolist(), open('/work/answer.json', 'w'))\n"
            "open('/work/bad.json', 'w').write('[NaN')\n"
            "nan = float('nan')"
        )
        assert (await calls.ok("execute_code", episode_id=episode, code=code))["error"] is None
        assert "other" in await calls.error("submit_answer", episode_id=episode, variable="other")
        assert "episode goes on" in await calls.error("submit_answer", episode_id=episode, file="bad.json")
        await calls.error("submit_answer", episode_id=episode, file="absent.json")
        await calls.error("submit_answer", episode_id=episode, file="/etc/passwd")
        await calls.error("submit_answer", episode_id=episode, variable="nan")
        assert (await calls.ok("submit_answer", episode_id=episode, file="answer.json"))["correct"]
        episode = await calls.start(ROWS)
        await calls.ok("execute_code", episode_id=episode, code=code)
        assert (await calls.ok("submit_answer", episode_id=episode, variable="answer"))["correct"]


async def test_looking_at_the_data(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(ROWS)

        async def look(**arguments: Any) -> dict[str, Any]:
            return await calls.ok("request_info", episode_id=episode, **arguments)

        columns = await look(kind="columns", table="PATIENTS")
        assert [column["name"] for column in columns["columns"]] == ["id", "name", "temperature"]
        values = await look(kind="values", table="patients", column="name", term="gra")
        assert values["values"]["values"] == [{"value": "Grace", "count": 1}]
        found = await look(kind="search", term="barbara")
        assert found["hits"][0]["column"] == "name"
        assert "Nearest: patients" in await calls.error(
            "request_info", episode_id=episode, kind="columns", table="patient"
        )
        assert "needs table" in await calls.error("request_info", episode_id=episode, kind="columns")
        assert "needs column" in await calls.error("request_info", episode_id=episode, kind="values", table="patients")
        assert "needs term" in await calls.error("request_info", episode_id=episode, kind="search")
        bad = await calls.error("request_info", episode_id=episode, kind="rows")
        assert "'tables', 'columns', 'values' or 'search'" in bad


async def test_code_that_looks_like_json_stays_code(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(ROWS)
        for code in ("[1, 2]", "{}", "null = None\nnull"):
            assert (await calls.ok("execute_code", episode_id=episode, code=code))["status"] == "ok"
        result = await calls.ok("debug_code", episode_id=episode, code="[1, 2][5]")
        assert result["execution"]["error"]["type"] == "IndexError"


async def test_errors_are_explained(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(ROWS)
        assert "no code of this episode has failed" in await calls.error("debug_code", episode_id=episode)
        await calls.ok("execute_code", episode_id=episode, code="temperature = 38\nprint(temprature)")
        explained = await calls.ok("debug_code", episode_id=episode)
        assert explained["diagnosis"]["line"] == 2
        assert "temperature" in " ".join(explained["diagnosis"]["fixes"])
        query = await calls.ok("debug_code", episode_id=episode, code="select nam from patients", language="sql")
        assert "name" in " ".join(query["diagnosis"]["fixes"])
        assert query["execution"]["status"] == "error"
        pasted = await calls.ok("debug_code", episode_id=episode, error="ZeroDivisionError: division by zero")
        assert pasted["execution"] is None
        assert pasted["diagnosis"]["cause"]
        fine = await calls.ok("debug_code", episode_id=episode, code="1 + 1")
        assert (fine["diagnosis"], fine["execution"]["value"]) == (None, "2")


async def test_a_shell_and_long_output(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(ROWS)
        shell = await calls.ok("run_terminal", episode_id=episode, command="ls /nowhere; exit 3")
        assert (shell["status"], shell["exit_code"]) == ("error", 3)
        assert (await calls.ok("debug_code", episode_id=episode))["diagnosis"]["cause"]
        long = await calls.ok("execute_code", episode_id=episode, code="print('x' * 50_000 + 'end')")
        assert long["stdout"]["truncated"]
        assert long["stdout"]["total_chars"] == 50_004
        assert len(long["stdout"]["text"]) <= 20_500
        rest = await calls.ok("read_output", episode_id=episode, offset=49_990)
        assert (rest["text"], rest["done"]) == ("x" * 10 + "end\n", True)
        assert rest["turns_left"] == long["turns_left"]


async def test_background_work_is_followed(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(ROWS)
        code = "import time\nfor i in range(3):\n    print(i, flush=True)\n    time.sleep(0.1)"
        running = await calls.ok("execute_code", episode_id=episode, code=code, background=True)
        assert running["status"] == "running"
        offset, text, done = 0, "", False
        while not done:
            more = await calls.ok("read_output", episode_id=episode, offset=offset, wait_s=5)
            offset, text, done = more["next_offset"], text + more["text"], more["done"]
        assert text.split() == ["0", "1", "2"]


async def test_tools_and_data_that_a_task_does_not_offer(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(FEW)
        refused = await calls.error("request_info", episode_id=episode, kind="tables")
        assert refused.startswith("This task does not offer request_info. It offers: execute_code, submit_answer")
        episode = await calls.start(PLAIN)
        assert "no database" in await calls.error("request_info", episode_id=episode, kind="tables")
        assert "no database" in await calls.error("execute_code", episode_id=episode, code="select 1", language="sql")
        assert "no output" in await calls.error("read_output", episode_id=episode)


async def test_what_cannot_be_started(connect: Connect) -> None:
    async with connect() as calls:
        assert "med-copilot data add" in await calls.error("start_task", task_id=MISSING)
        assert NUMBER in await calls.error("start_task", task_id="clinic/nomber")
        [record] = calls.records().values()
    assert (record.outcome, record.reward, record.task.id) == ("data_missing", None, MISSING)


async def test_a_grader_that_fails_gives_no_score(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(BROKEN)
        told = await calls.error("submit_answer", episode_id=episode, answer=1)
        assert "without a score" in told
        assert "secret-truth-value" not in told
        record = calls.records()[episode]
        assert "secret-truth-value" not in record.model_dump_json()
    assert (record.outcome, record.reward) == ("infra_error", None)
    assert record.error
    assert record.error.kind == "GradingFailed"


async def test_without_feedback_the_verdict_is_not_told(connect: Connect) -> None:
    async with connect(feedback="none") as calls:
        answers = [
            await calls.ok("submit_answer", episode_id=await calls.start(NUMBER), answer=value) for value in (38.02, 9)
        ]
        for answer in answers:
            del answer["episode_id"]
        assert answers[0] == answers[1]
        assert answers[0]["correct"] is None
        assert sorted(record.reward or 0 for record in calls.records().values()) == [0, 1]


async def test_with_the_oracle_a_right_execution_ends_the_episode(connect: Connect) -> None:
    async with connect(feedback="oracle") as calls:
        episode = await calls.start(NUMBER)
        assert (await calls.ok("execute_code", episode_id=episode, code="answer = 12"))["solved"] is False
        assert (await calls.ok("execute_code", episode_id=episode, code="answer = {}"))["solved"] is False
        done = await calls.ok("execute_code", episode_id=episode, code="answer = 38.01")
        assert done["solved"] is True
        assert "has ended (graded)" in await calls.error("execute_code", episode_id=episode, code="1")
        record = calls.records()[episode]
    assert (record.outcome, record.reward) == ("graded", 1.0)
    assert record.submission
    assert record.submission.value == 38.01


@ERAS
async def test_resources_prompt_and_completion(connect: Connect, mode: str) -> None:
    async with connect(mode) as calls:

        async def read(uri: str) -> Any:
            content = (await calls.client.read_resource(uri)).contents[0]
            assert isinstance(content, TextResourceContents)
            return json.loads(content.text)

        families = await read("medagentgym://families")
        assert [(one["name"], one["tasks"]) for one in families if one["tasks"]] == [("clinic", 8)]
        assert (await read(f"medagentgym://task/{ROWS}"))["id"] == ROWS
        episode = await calls.start(ROWS)
        await calls.ok("execute_code", episode_id=episode, code="'seen'")
        live = await read(f"medagentgym://episode/{episode}")
        assert (live["state"], live["turns_used"]) == ("open", 1)
        assert "seen" in live["messages"][-1]["content"]
        await calls.ok("close_episode", episode_id=episode)
        assert (await read(f"medagentgym://episode/{episode}"))["outcome"] == "abandoned"
        with pytest.raises(Exception, match="no episode"):
            await read("medagentgym://episode/none")
        with pytest.raises(Exception, match="clinic/rows"):
            await read("medagentgym://task/clinic/row")
        message = (await calls.client.get_prompt("solve_task", {"task_id": ROWS})).messages[0]
        assert isinstance(message.content, TextContent)
        assert "A question about rows." in message.content.text
        argument = {"name": "task_id", "value": "clinic/n"}
        for ref in (
            PromptReference(name="solve_task"),
            ResourceTemplateReference(uri="medagentgym://task/{+task_id}"),
        ):
            assert (await calls.client.complete(ref, argument)).completion.values == [NUMBER]


async def test_paging_and_filters(connect: Connect) -> None:
    async with connect() as calls:
        seen, cursor = [], ""
        while cursor is not None:
            page = await calls.ok("list_tasks", limit=3, cursor=cursor)
            assert page["total"] == 8
            seen += [task["id"] for task in page["tasks"]]
            cursor = page["next_cursor"]
        assert len(set(seen)) == len(seen) == 8
        assert "clinic" in await calls.error("list_tasks", family="clinics")
        assert "limit" in await calls.error("list_tasks", limit=1_000)
        # Clients that fill in every argument send null.
        assert (await calls.ok("list_tasks", family=None, query=None, cursor=None))["total"] == 8

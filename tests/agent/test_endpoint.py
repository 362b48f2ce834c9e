"""OpenAI-compatible endpoints, over real HTTP to a server that plays a script."""

import json
from typing import Any

import anyio
import pytest

from agent.endpoint import Endpoint, Price
from agent.errors import ContextOverflow, ModelFailed, ModelRefused
from agent.loop import Agent
from agent.models import Completion
from tasks.attempt import FunctionCall, Message, Usage
from tasks.registry import Registry
from tests.agent.conftest import Serve
from tests.agent.openai_server import Turn, serving, tool_call

pytest.importorskip("openai", reason="the package openai is not installed")

pytestmark = pytest.mark.anyio
ASK = [Message(role="user", content="?")]


async def ask(turns: list[Turn], messages: list[Message] | None = None, **options: Any) -> Completion:
    with serving(turns) as server:
        async with Endpoint("m", base_url=server.url, key="secret", **options) as model:
            return await model.complete(messages or ASK, (), temperature=0.6, max_tokens=50)


async def test_a_whole_episode(serve: Serve, registry: Registry, note_task: str) -> None:
    value = registry.truth(note_task).value
    turns = [
        {"content": "I compute.", **tool_call("execute_code", {"code": "1 + 1"})},
        tool_call("execute_code", '{"code": "1', 2),
        tool_call("submit_answer", {"answer": value}, 3),
    ]
    with serving(turns) as server:
        async with (
            Endpoint("m", base_url=server.url, key="secret", price=Price(2.0, 10.0, 1.0)) as model,
            serve() as env,
        ):
            record = await Agent(env, model).attempt(note_task, temperature=0.6)
    assert (record.outcome, record.reward) == ("graded", 1.0)
    assert record.agent is not None
    assert record.agent.model == "m"
    first = record.messages[2]
    assert first.tool_calls is not None
    assert first.tool_calls[0].function == FunctionCall(name="execute_code", arguments={"code": "1 + 1"})
    assert [one.usage.completion_tokens for one in record.calls] == [10, 10, 10]
    assert record.calls[0].usage.cached_tokens == 40
    assert record.calls[0].cost_usd == pytest.approx((60 * 2 + 40 * 1 + 10 * 10) / 1e6)
    # A call that cannot be read is told, and stands in the history as text.
    assert record.messages[4].tool_calls is None
    assert record.messages[4].content == 'execute_code: {"code": "1'
    assert "not valid JSON" in (record.messages[5].content or "")
    sent = server.requests[1]
    assert (sent["temperature"], sent["max_tokens"]) == (0.6, 8192)
    assert json.loads(sent["messages"][2]["tool_calls"][0]["function"]["arguments"]) == {"code": "1 + 1"}
    assert sent["messages"][3]["tool_call_id"] == "c1"
    assert [tool["function"]["name"] for tool in sent["tools"]][:1] == ["request_info"]
    assert server.keys == ["Bearer secret"] * 3


async def test_rate_limits_and_failures_are_waited_out() -> None:
    turns: list[Turn] = [
        {"status": 429, "error": "slow down", "headers": {"retry-after-ms": "20"}},
        {"status": 503, "error": "busy", "headers": {"retry-after-ms": "20"}},
        {"content": "Yes."},
    ]
    assert (await ask(turns)).message.content == "Yes."


async def test_failures_without_end_fail_the_model() -> None:
    turns: list[Turn] = [{"status": 503, "error": "busy", "headers": {"retry-after-ms": "10"}}] * 3
    with pytest.raises(ModelFailed, match="503"):
        await ask(turns, retries=2)


async def test_an_endpoint_that_is_not_there() -> None:
    async with Endpoint("m", base_url="http://127.0.0.1:9/v1", retries=0) as model:
        with pytest.raises(ModelFailed, match="m: "):
            await model.complete(ASK, (), temperature=0, max_tokens=5)


async def test_a_conversation_that_is_refused_fails_alone() -> None:
    with pytest.raises(ModelFailed, match="400 - content") as raised:
        await ask([{"status": 400, "error": "content was filtered"}])
    assert not isinstance(raised.value, ModelRefused)


async def test_the_newer_name_of_the_limit_is_used_where_it_is_wanted() -> None:
    text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with serving([{"status": 400, "error": text}, {"content": "1"}, {"content": "2"}]) as server:
        async with Endpoint("m", base_url=server.url) as model:
            for _ in range(2):
                await model.complete(ASK, (), temperature=0, max_tokens=5)
    assert [request.get("max_completion_tokens") for request in server.requests] == [None, 5, 5]
    assert "max_tokens" not in server.requests[2]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_is_told_apart(status: int) -> None:
    with pytest.raises(ModelRefused, match=f"{status}.*no entry"):
        await ask([{"status": status, "error": "no entry"}])


async def test_a_context_that_is_full_is_told_apart() -> None:
    text = "This model's maximum context length is 4096 tokens, you requested 5000."
    with pytest.raises(ContextOverflow):
        await ask([{"status": 400, "error": text}])


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [("", False), ("{}", False), ("null", True), ("[1]", True), ('{"x": NaN}', True), ("{", True)],
)
async def test_arguments_as_models_send_them(arguments: str, wrong: bool) -> None:
    done = await ask([tool_call("look", arguments)])
    assert (done.malformed is not None) == wrong
    assert (done.message.tool_calls is None) == wrong


async def test_reasoning_is_kept_and_not_sent_back() -> None:
    done = await ask([{"content": "4", "reasoning_content": "2 + 2"}])
    assert (done.message.content, done.message.reasoning_content) == ("4", "2 + 2")
    with serving([{"content": "Yes."}]) as server:
        async with Endpoint("m", base_url=server.url) as model:
            await model.complete([*ASK, done.message], (), temperature=0, max_tokens=5)
    assert server.requests[0]["messages"][1] == {"role": "assistant", "content": "4"}


async def test_token_ids_and_logprobs_are_recorded_where_the_server_gives_them() -> None:
    sampled = [{"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": []}] * 2
    turn: Turn = {
        "content": "aa",
        "choice": {"token_ids": [5, 6], "logprobs": {"content": sampled, "refusal": None}},
        "body": {"prompt_token_ids": [1, 2, 3]},
    }
    done = await ask([turn], logprobs=True, token_ids=True)
    assert (done.prompt_token_ids, done.completion_token_ids, done.logprobs) == ((1, 2, 3), (5, 6), (-0.5, -0.5))
    plain = await ask([{"content": "aa"}])
    assert (plain.prompt_token_ids, plain.completion_token_ids, plain.logprobs) == (None, None, None)


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ({"raw": "<html>Log in</html>", "type": "text/html"}, "/v1"),
        ({"raw": '{"choices": [{"index": 0', "type": "application/json"}, "m: "),
    ],
)
async def test_an_answer_that_is_no_completion_fails_the_call_alone(turn: Turn, told: str) -> None:
    with pytest.raises(ModelFailed, match=told):
        await ask([turn])


async def test_requests_that_are_refused_together_all_learn_the_newer_name() -> None:
    refusal: Turn = {"status": 400, "error": "Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead."}
    with serving([refusal] * 4 + [{"content": "Yes."}] * 4, together=4) as server:
        async with Endpoint("m", base_url=server.url) as model, anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(lambda: model.complete(ASK, (), temperature=0, max_tokens=5))
    assert [sorted({"max_tokens", "max_completion_tokens"} & set(one)) for one in server.requests] == (
        [["max_tokens"]] * 4 + [["max_completion_tokens"]] * 4
    )


async def test_at_most_so_many_requests_are_under_way() -> None:
    with serving([{"content": "Yes."}] * 6, together=2) as server:
        async with Endpoint("m", base_url=server.url, concurrency=2) as model, anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(lambda: model.complete(ASK, (), temperature=0, max_tokens=5))
    assert (len(server.requests), server.most) == (6, 2)


async def test_each_request_of_an_attempt_has_a_seed_of_its_own() -> None:
    with serving([{"content": "Yes."}] * 5) as server:
        async with Endpoint("m", base_url=server.url) as model:
            for attempt in (2**64, 2**64, 1):
                seeded = model.seeded(attempt)
                for _ in range(1 if attempt == 1 else 2):
                    await seeded.complete(ASK, (), temperature=0.6, max_tokens=5)
    seeds = [request["seed"] for request in server.requests]
    assert seeds[:2] == seeds[2:4]
    assert len({*seeds}) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("status", "error"), [(400, "Unknown name 'seed': cannot find field."), (422, "extra inputs: body.seed")]
)
async def test_an_endpoint_that_knows_no_seed_is_asked_without(status: int, error: str) -> None:
    with serving([{"status": status, "error": error}, {"content": "1"}, {"content": "2"}]) as server:
        async with Endpoint("m", base_url=server.url) as model:
            seeded = model.seeded(1)
            for _ in range(2):
                await seeded.complete(ASK, (), temperature=0.6, max_tokens=5)
    assert ["seed" in request for request in server.requests] == [True, False, False]


async def test_both_refusals_of_a_parameter_are_learnt() -> None:
    refusals: list[Turn] = [
        {"status": 400, "error": "Use 'max_completion_tokens' instead."},
        {"status": 400, "error": "Unsupported parameter: 'seed'"},
    ]
    with serving([*refusals, {"content": "1"}]) as server:
        async with Endpoint("m", base_url=server.url) as model:
            await model.seeded(1).complete(ASK, (), temperature=0.6, max_tokens=5)
    assert [{"max_tokens", "max_completion_tokens", "seed"} & set(one) for one in server.requests] == [
        {"max_tokens", "seed"},
        {"max_completion_tokens", "seed"},
        {"max_completion_tokens"},
    ]


async def test_a_refusal_that_names_a_model_called_seed_is_not_of_the_seed() -> None:
    with serving([{"status": 400, "error": "seed-oss filtered this"}, {"content": "1"}]) as server:
        async with Endpoint("seed-oss", base_url=server.url) as model:
            with pytest.raises(ModelFailed, match="filtered"):
                await model.seeded(1).complete(ASK, (), temperature=0.6, max_tokens=5)
            await model.seeded(1).complete(ASK, (), temperature=0.6, max_tokens=5)
    assert ["seed" in request for request in server.requests] == [True, True]


def test_a_hosted_model_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ModelRefused, match="OPENAI_API_KEY"):
        Endpoint("m")


def test_a_price_counts_what_was_cached() -> None:
    usage = Usage(prompt_tokens=1_000_000, completion_tokens=500_000, cached_tokens=400_000)
    assert Price(1.0, 4.0).cost(usage) == pytest.approx(3.0)
    assert Price(1.0, 4.0, 0.25).cost(usage) == pytest.approx(0.6 + 0.1 + 2.0)

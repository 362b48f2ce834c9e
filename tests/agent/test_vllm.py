"""A real vLLM on the CPU with tiny models: garbage plays real episodes, and what has learnt an episode plays it.

Skipped where the environment of vLLM is not built (3.5 GB): `python -m agent.vllm build`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent import vllm
from agent.endpoint import Endpoint
from agent.errors import ContextOverflow
from agent.loop import Agent
from agent.prompts import tool_schema
from agent.rollout import Rollout, Settings, last_records
from agent.trajectory import AgentLimits
from tasks.attempt import Message
from tasks.registry import Registry
from tests.agent import tiny
from tests.agent.conftest import Serve
from tests.agent.model_server import running, save, taught
from tests.agent.test_local import forward

pytest.importorskip("openai", reason="the package openai is not installed")
pytest.importorskip("transformers", reason="the extra [local] is not installed")
FOLDER = vllm.place()
if reason := vllm.why_not(FOLDER):
    pytest.skip(reason, allow_module_level=True)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
CONTEXT = 16_384
SHAPE: dict[str, Any] = {"hidden": 128, "heads": 2, "positions": CONTEXT}
"""vLLM's kernels on CPU want heads of 64."""


def serving(folder: Path, log: Path) -> Any:
    # It takes most of the memory by default, whatever the model, and does not start where others hold some.
    options = ("--max-num-seqs", "16", "--gpu-memory-utilization", "0.15")

    def line(port: int) -> list[str]:
        return vllm.command(FOLDER, str(folder), port=port, context=CONTEXT, options=options)

    return running(line, log, 400)


class Garbage:
    """A served model of random weights, beside the same model in this process."""

    def __init__(self, url: str, folder: Path, tokenizer: Any, network: Any) -> None:
        self.url, self.name, self.tokenizer, self.network = url, str(folder), tokenizer, network

    def endpoint(self) -> Endpoint:
        return Endpoint(self.name, base_url=self.url, logprobs=True, token_ids=True)


@pytest.fixture(scope="module")
def garbage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Garbage]:
    folder = tmp_path_factory.mktemp("garbage")
    tokenizer = tiny.tokenizer(folder)
    # The schemas of the tools, whole, as Qwen's template writes them.
    tokenizer.chat_template = tiny.TEMPLATE.replace("tool.function.name", "tool | tojson")
    network = tiny.qwen2(len(tokenizer), spread=0.1, **SHAPE)
    save(network, tokenizer, folder)
    with serving(folder, folder / "log") as url:
        yield Garbage(url, folder, tokenizer, network)


async def test_garbage_ends_as_an_ordinary_outcome_and_the_record_is_right(
    serve: Serve, registry: Registry, garbage: Garbage, tmp_path: Path
) -> None:
    """A rollout over both families, concurrent; ids and log-probabilities are those of the very model."""
    tasks = [registry.ids(family=family)[number] for family in ("mimic_iii", "medcalcbench") for number in (0, 1)]
    settings = Settings(garbage.name, temperature=0.6, limits=AgentLimits(call_tokens=24, malformed=3))
    async with garbage.endpoint() as model:
        rollout = Rollout(tasks, 2, lambda task, number: model, settings, tmp_path / "out", concurrency=8)
        tally = await rollout.run(serve)
    assert (tally.done, tally.lost, tally.unscored) == (8, 0, 0)
    records = last_records([tmp_path / "out"])
    assert len(records) == 8
    for record in records:
        assert record.error is not None
        assert (record.outcome, record.error.kind, record.reward) == ("limit", "malformed", 0.0)
        assert len(record.calls) == 3
        for made in record.calls:
            assert made.prompt_token_ids is not None
            assert made.completion_token_ids is not None
            assert len(made.prompt_token_ids) == made.usage.prompt_tokens
            assert len(made.completion_token_ids) == made.usage.completion_tokens <= 24
            # What was sampled from is logits / temperature, and so are the log-probabilities of a record.
            wanted = forward(garbage.network, made.prompt_token_ids, made.completion_token_ids, 0.6)
            assert made.logprobs == pytest.approx(wanted, abs=5e-3)
            stopped = made.completion_token_ids[-1] == garbage.tokenizer.eos_token_id
            said = garbage.tokenizer.decode(made.completion_token_ids[: -1 if stopped else None])
            # Bytes at the end that are no whole letter are not told.
            assert (record.messages[made.message].content or "").strip(" \n\ufffd") == said.strip(" \n\ufffd")
        shown = [{**one.model_dump(), "content": one.content or ""} for one in record.messages[:2]]
        # As training renders a record that was written down.
        tools = [tool_schema(tool) for tool in record.tools]
        text = garbage.tokenizer.apply_chat_template(shown, tools=tools, add_generation_prompt=True, tokenize=False)
        assert garbage.tokenizer.decode(record.calls[0].prompt_token_ids) == text


async def test_a_context_that_is_full_is_a_limit(serve: Serve, note_task: str, garbage: Garbage) -> None:
    async with garbage.endpoint() as model, serve() as environment:
        with pytest.raises(ContextOverflow):
            await model.complete([Message(role="user", content="?")], (), temperature=0, max_tokens=CONTEXT + 1)
        record = await Agent(environment, model, AgentLimits(call_tokens=CONTEXT)).attempt(note_task)
    assert record.error is not None
    assert (record.outcome, record.error.kind) == ("limit", "context")


async def test_a_model_that_has_learnt_an_episode_plays_it(serve: Serve, note_task: str, tmp_path: Path) -> None:
    async with serve() as environment:
        shown = await taught(environment, note_task, tmp_path / "student", rate=2e-3, **SHAPE)
        with serving(tmp_path / "student", tmp_path / "log") as url:
            async with Endpoint(str(tmp_path / "student"), base_url=url, token_ids=True) as model:
                records = []

                async def one() -> None:
                    records.append(await Agent(environment, model, AgentLimits(call_tokens=200)).attempt(note_task))

                async with anyio.create_task_group() as group:
                    for _ in range(4):
                        group.start_soon(one)
    for record in records:
        assert record.outcome == "abandoned"
        assert [one.content or None for one in record.messages] == [one.content or None for one in shown.messages]
        calls = [[call.function for call in one.tool_calls or ()] for one in record.messages]
        assert calls == [[call.function for call in one.tool_calls or ()] for one in shown.messages]

"""transformers in process, with a tiny model: ids and log-probabilities as sampled, batches, caches, real episodes."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent.errors import ContextOverflow, ModelFailed, ModelRefused
from agent.local import LocalModel
from agent.loop import Agent
from agent.models import Completion, Model, Scripted, call
from agent.rollout import Settings
from agent.scaffold import Scaffold
from agent.trajectory import AgentLimits
from tasks.attempt import AttemptRecord, Message
from tasks.record import RecordWriter, read_records
from tests.agent import tiny
from tests.agent.conftest import Serve

torch = pytest.importorskip("torch", reason="the extra [local] is not installed")
pytest.importorskip("transformers", reason="the extra [local] is not installed")

pytestmark = pytest.mark.anyio
ASK = [Message(role="system", content="You answer."), Message(role="user", content="How many beds?")]
TOOLS = [{"type": "function", "function": {"name": "look", "description": "", "parameters": {"properties": {}}}}]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def network(tokenizer: Any) -> Any:
    return tiny.qwen2(len(tokenizer))


@pytest.fixture
async def model(network: Any, tokenizer: Any) -> AsyncIterator[LocalModel]:
    async with LocalModel(network, tokenizer, batch=4, seed=1) as local:
        yield local


def forward(network: Any, prompt: tuple[int, ...], completion: tuple[int, ...], temperature: float) -> list[float]:
    """Log-probabilities of the completion by one forward pass without cache or padding."""
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
    logs = torch.log_softmax(logits.float() / (temperature or 1.0), dim=-1)
    found: list[float] = logs.gather(1, torch.tensor(completion)[:, None])[:, 0].tolist()
    return found


def check(network: Any, done: Completion, temperature: float) -> None:
    assert done.prompt_token_ids is not None
    assert done.completion_token_ids is not None
    assert done.logprobs is not None
    assert len(done.logprobs) == len(done.completion_token_ids) == done.usage.completion_tokens
    wanted = forward(network, done.prompt_token_ids, done.completion_token_ids, temperature)
    assert done.logprobs == pytest.approx(wanted, abs=2e-4)


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
async def test_logprobs_are_those_of_a_forward_pass(model: LocalModel, network: Any, temperature: float) -> None:
    done = await model.complete(ASK, TOOLS, temperature=temperature, max_tokens=40)
    check(network, done, temperature)
    text = model.tokenizer.apply_chat_template(
        [one.model_dump() for one in ASK], tools=TOOLS, add_generation_prompt=True, tokenize=False
    )
    assert done.prompt_token_ids == tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])


async def test_greedy_takes_the_likeliest_token(model: LocalModel, network: Any) -> None:
    done = await model.complete(ASK, TOOLS, temperature=0, max_tokens=1)
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([done.prompt_token_ids])).logits[0, -1]
    assert done.completion_token_ids == (int(logits.argmax()),)


async def test_tokens_are_drawn_as_often_as_the_distribution_says(model: LocalModel, network: Any) -> None:
    from agent.decoding import _Row

    await model.complete(ASK, (), temperature=1.0, max_tokens=1)
    logits = torch.tensor([[2.0, -torch.inf, 0.0, 1.0, -torch.inf]]).expand(3, -1)
    rows = [_Row([0], heat, 10_000, 0, random.Random(5)) for heat in (1.0, 0.5, 0.0)]
    for _ in range(10_000):
        model.decoder._draw(rows, logits)
    for row, heat in zip(rows, (1.0, 0.5, 1e-9), strict=True):
        counts = torch.tensor(row.ids).bincount(minlength=5) / len(row.ids)
        # Four standard deviations of 10,000 draws are 0.02 at most.
        torch.testing.assert_close(counts, torch.softmax(logits[0] / heat, dim=-1), atol=0.02, rtol=0)
        assert counts[1] == counts[4] == 0


async def test_conversations_of_unequal_length_share_a_batch(model: LocalModel, network: Any) -> None:
    """They join and leave at different times, and each is as if it had been alone."""
    done: dict[int, Completion] = {}

    async def one(number: int) -> None:
        ask = [Message(role="user", content="beds " * (1 + 7 * number))]
        done[number] = await model.complete(ask, (), temperature=1.0, max_tokens=5 + 40 * number)

    async with anyio.create_task_group() as group:
        for number in range(7):
            group.start_soon(one, number)
    assert len(done) == 7
    for completion in done.values():
        check(network, completion, 1.0)
    # Fewer forward passes than tokens: they were batched.
    assert model.decoder.steps < model.decoder.sampled


async def test_ids_only_grow_from_turn_to_turn(model: LocalModel, network: Any) -> None:
    messages = list(ASK)
    before: tuple[int, ...] = ()
    for turn in range(4):
        done = await model.complete(messages, TOOLS, temperature=1.0, max_tokens=30)
        assert done.prompt_token_ids is not None
        assert done.completion_token_ids is not None
        assert done.prompt_token_ids[: len(before)] == before
        if turn:
            assert done.usage.cached_tokens == len(before) - 1
        check(network, done, 1.0)
        before = done.prompt_token_ids + done.completion_token_ids
        messages += [done.message, Message(role="user", content=f"And then? {turn}")]
        tail = model.tokenizer.decode(done.prompt_token_ids)
        assert tail.endswith("<|im_start|>assistant\n")


async def test_a_turn_without_an_end_is_closed_before_the_next(model: LocalModel) -> None:
    done = await model.complete(ASK, (), temperature=1.0, max_tokens=1)
    assert done.finish_reason == "length"
    again = await model.complete(
        [*ASK, done.message, Message(role="user", content="Go on.")], (), temperature=1.0, max_tokens=1
    )
    assert again.prompt_token_ids is not None
    assert done.prompt_token_ids is not None
    new = model.tokenizer.decode(again.prompt_token_ids[len(done.prompt_token_ids) + 1 :])
    assert new == "<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n"


async def test_a_trimmed_history_is_tokenised_afresh(model: LocalModel, network: Any) -> None:
    done = await model.complete(ASK, (), temperature=1.0, max_tokens=8)
    other = [Message(role="user", content="Another question."), done.message, Message(role="user", content="Go on.")]
    again = await model.complete(other, (), temperature=1.0, max_tokens=8)
    assert again.usage.cached_tokens == 0
    check(network, again, 1.0)


async def test_new_weights_are_used_at_once(network: Any, tokenizer: Any) -> None:
    own = tiny.qwen2(len(tokenizer), seed=5)
    async with LocalModel(own, tokenizer, seed=2) as local:
        done = await local.complete(ASK, (), temperature=1.0, max_tokens=8)
        own.load_state_dict(network.state_dict())
        local.weights_changed()
        go_on = [*ASK, done.message, Message(role="user", content="Go on.")]
        check(own, await local.complete(go_on, (), temperature=1.0, max_tokens=8), 1.0)


async def test_equal_seeds_sample_equally(network: Any, tokenizer: Any) -> None:
    found = []
    for _ in range(2):
        async with LocalModel(network, tokenizer, seed=9) as local:
            done = await local.complete(ASK, (), temperature=1.0, max_tokens=30)
            found.append(done.completion_token_ids)
    assert found[0] == found[1]


async def test_an_attempt_draws_by_its_own_seed_whatever_else_is_sampled(network: Any, tokenizer: Any) -> None:
    found: dict[tuple[int, int], Any] = {}
    for crowd in (0, 3):
        async with LocalModel(network, tokenizer, batch=4) as local:

            async def one(seed: int, crowd: int = crowd, local: LocalModel = local) -> None:
                done = await local.seeded(seed).complete(ASK, (), temperature=1.0, max_tokens=30)
                found[crowd, seed] = done.completion_token_ids

            async with anyio.create_task_group() as group:
                for seed in range(crowd, -1, -1):
                    group.start_soon(one, seed)
    assert found[0, 0] == found[3, 0]
    assert len({found[3, seed] for seed in range(4)}) == 4


async def test_a_failure_at_the_end_of_a_turn_reaches_all_that_wait(network: Any, tokenizer: Any) -> None:
    failed: list[str] = []

    def fails(number: int) -> Any:
        raise MemoryError("no room")

    async with LocalModel(network, tokenizer) as local:
        local.decoder._batch.leave = fails  # type: ignore[method-assign]

        async def ask(tokens: int) -> None:
            with pytest.raises(ModelFailed, match="no room"):
                await local.complete(ASK, (), temperature=1.0, max_tokens=tokens)
            failed.append("yes")

        with anyio.fail_after(120):
            async with anyio.create_task_group() as group:
                for tokens in (5, 50):
                    group.start_soon(ask, tokens)
    assert len(failed) == 2


async def test_a_model_with_other_memory_than_keys_and_values_is_refused(network: Any, tokenizer: Any) -> None:
    from transformers import Lfm2Config, Lfm2ForCausalLM, MambaConfig, MambaForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 2}
    mixed = Lfm2Config(**sizes, intermediate_size=8, num_attention_heads=2, num_key_value_heads=2, full_attn_idxs=[1])
    for other in (MambaForCausalLM(MambaConfig(**sizes)), Lfm2ForCausalLM(mixed)):
        with pytest.raises(ModelRefused, match="openai:"):
            LocalModel(other, tokenizer)


async def test_weights_cut_in_the_middle_are_said(network: Any, tokenizer: Any, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000])
    with pytest.raises(ModelRefused, match="no model that transformers can load"):
        LocalModel.load(str(tmp_path))


async def test_what_is_held_is_bounded(network: Any, tokenizer: Any) -> None:
    async with LocalModel(network, tokenizer, kept_tokens=150) as local:
        for _ in range(6):
            done = await local.complete(ASK, (), temperature=1.0, max_tokens=4)
            check(network, done, 1.0)
        held = [tokens for tokens, _ in local.decoder._kept.values()]
    assert sum(held) <= 150


async def test_a_context_that_is_full_is_said(network: Any, tokenizer: Any) -> None:
    async with LocalModel(network, tokenizer, context=100) as local:
        with pytest.raises(ContextOverflow, match="100"):
            await local.complete([Message(role="user", content="bed " * 60)], (), temperature=1.0, max_tokens=50)


async def test_a_cancelled_turn_frees_its_place(network: Any, tokenizer: Any) -> None:
    async with LocalModel(network, tokenizer, batch=1) as local:
        with anyio.move_on_after(0.1):
            await local.complete(ASK, (), temperature=1.0, max_tokens=8_000)
        check(network, await local.complete(ASK, (), temperature=1.0, max_tokens=4), 1.0)


async def test_closing_ends_what_is_under_way(network: Any, tokenizer: Any) -> None:
    local = LocalModel(network, tokenizer)
    local.decoder._ended = lambda row: False  # type: ignore[method-assign]
    failed: list[str] = []

    async def ask() -> None:
        try:
            await local.complete(ASK, (), temperature=1.0, max_tokens=8_000)
        except ModelFailed as error:
            failed.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        while not local.decoder.steps:
            await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(local.close)
    assert failed == ["The model was closed."]
    with pytest.raises(ModelFailed):
        await local.complete(ASK, (), temperature=1.0, max_tokens=1)


async def test_a_network_that_fails_fails_the_turn_alone(network: Any, tokenizer: Any) -> None:
    broken = tiny.qwen2(len(tokenizer) - 40)
    async with LocalModel(broken, tokenizer) as local:
        with pytest.raises(ModelFailed, match="Reading the prompt failed"):
            await local.complete(ASK, (), temperature=1.0, max_tokens=4)
        with pytest.raises(ModelFailed):
            await local.complete(ASK, (), temperature=1.0, max_tokens=4)


@pytest.mark.parametrize("scaffold", [False, True])
async def test_garbage_plays_real_episodes_whose_ids_chain(
    serve: Serve, model: LocalModel, network: Any, note_task: str, sql_task: str, tmp_path: Path, scaffold: bool
) -> None:
    """Random weights write garbage: an ordinary event, corrected and recorded, several episodes in one batch."""
    records: list[AttemptRecord] = []
    writer = RecordWriter(tmp_path)
    player = Scaffold(model) if scaffold else model
    async with serve() as environment:
        agent = Agent(environment, player, AgentLimits(call_tokens=24, malformed=2))

        async def one(task: str) -> None:
            records.append(await agent.attempt(task, temperature=1.0, save=writer.write))

        async with anyio.create_task_group() as group:
            for task in (note_task, sql_task):
                group.start_soon(one, task)
    writer.close()
    for record in records:
        assert record.outcome == "limit"
        assert record.error is not None
        assert record.error.kind == "malformed"
        known: tuple[int, ...] = ()
        for made in record.calls:
            assert made.prompt_token_ids is not None
            assert made.completion_token_ids is not None
            assert made.prompt_token_ids[: len(known)] == known
            assert made.logprobs == pytest.approx(
                forward(network, made.prompt_token_ids, made.completion_token_ids, 1.0), abs=2e-4
            )
            known = made.prompt_token_ids + made.completion_token_ids
    assert sorted(read_records([tmp_path]), key=lambda one: one.id) == sorted(records, key=lambda one: one.id)


async def test_a_model_that_never_stops_ends_at_its_tokens(serve: Serve, tokenizer: Any, note_task: str) -> None:
    endless = tiny.qwen2(len(tokenizer), seed=1)
    with torch.no_grad():
        # Its logit is 0, and greedy sampling takes the greatest of many that are not.
        endless.lm_head.weight[tokenizer.eos_token_id] = 0
    limits = AgentLimits(tokens=100, call_tokens=40, malformed=9)
    async with serve() as environment, LocalModel(endless, tokenizer) as model:
        record = await Agent(environment, model, limits).attempt(note_task)
    assert record.error is not None
    assert (record.outcome, record.error.kind, record.reward) == ("limit", "tokens", 0.0)
    assert [made.usage.completion_tokens for made in record.calls] == [40, 40, 20]
    assert {made.finish_reason for made in record.calls} == {"length"}


async def test_an_episode_that_outgrows_the_context_goes_on_without_its_beginning(
    serve: Serve, tokenizer: Any, note_task: str
) -> None:
    network = tiny.qwen2(len(tokenizer), seed=1)
    limits = AgentLimits(turns=6, call_tokens=100, malformed=9)
    async with serve() as environment:
        async with LocalModel(network, tokenizer, context=200) as model:
            short = await Agent(environment, model, limits).attempt(note_task)
        async with LocalModel(network, tokenizer) as model:
            prompt = (await Agent(environment, model, limits).attempt(note_task)).calls[0].usage.prompt_tokens
        async with LocalModel(network, tokenizer, context=prompt + 400) as model:
            record = await Agent(environment, model, limits).attempt(note_task, temperature=1.0)
    assert short.error is not None
    assert (short.outcome, short.error.kind, len(short.calls)) == ("limit", "context", 0)
    assert record.error is not None
    assert (record.outcome, record.error.kind, len(record.calls)) == ("limit", "turns", 6)
    first = record.calls[0].prompt_token_ids
    assert first is not None
    task = first[: -len(tokenizer("<|im_start|>assistant\n")["input_ids"])]
    for made in record.calls:
        assert made.usage.prompt_tokens + made.usage.completion_tokens <= prompt + 400
        assert made.prompt_token_ids is not None
        assert made.prompt_token_ids[: len(task)] == task
    # All turns are in the record, also those that the model was no longer shown.
    assert sum(one.role == "assistant" for one in record.messages) == 6


def learn(network: Any, ids: list[int], steps: int = 250, rate: float = 1e-2) -> float:
    """Fit one sequence; the last loss."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    batch = torch.tensor([ids])
    loss = torch.zeros(())
    for _ in range(steps):
        loss = network(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.01:
            break
    return float(loss.item())


async def test_a_model_that_has_learnt_an_episode_plays_it(
    serve: Serve, tmp_path_factory: pytest.TempPathFactory, note_task: str
) -> None:
    """From text to calls and back: the learner's greedy episode is the teacher's, token for token."""
    tokenizer = tiny.tokenizer(tmp_path_factory.mktemp("short"))
    tokenizer.chat_template = tiny.SHORT
    turns: list[Any] = [("Look.", call("execute_code", code="6 * 7")), call("close_episode")]
    async with serve() as environment:
        taught = await Agent(environment, Scripted(turns)).attempt(note_task)
        text = tokenizer.apply_chat_template(
            [{**one.model_dump(), "content": one.content or ""} for one in taught.messages],
            tools=list(taught.tools),
            tokenize=False,
        )
        student = tiny.qwen2(len(tokenizer), spread=0.02)
        assert learn(student, tokenizer(text, add_special_tokens=False)["input_ids"]) < 0.05
        async with LocalModel(student.eval(), tokenizer) as model:
            played = await Agent(environment, model).attempt(note_task)
    assert played.messages == taught.messages
    assert played.outcome == "abandoned"
    first, second = played.calls
    assert first.prompt_token_ids is not None
    assert first.completion_token_ids is not None
    assert second.prompt_token_ids is not None
    assert second.completion_token_ids is not None
    assert second.prompt_token_ids[: second.usage.cached_tokens] == (
        first.prompt_token_ids + first.completion_token_ids[:-1]
    )
    whole = tokenizer.decode(second.prompt_token_ids + second.completion_token_ids)
    assert text.startswith(whole)


async def test_a_model_is_loaded_from_a_folder(network: Any, tokenizer: Any, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    async with LocalModel.load(str(tmp_path), device="cpu") as local:
        assert local.name == str(tmp_path)
        check(network, await local.complete(ASK, (), temperature=0, max_tokens=4), 0)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="no model"):
        LocalModel.load(str(tmp_path))


def test_the_schedule_is_greedy_first() -> None:
    assert [Settings("m").heat(number) for number in (1, 2, 3)] == [0.0, 0.6, 0.6]
    assert Settings("m", temperature=1.0).heat(1) == 1.0


async def test_a_malformed_turn_is_sampled_anew_in_every_attempt_alike(network: Any, tokenizer: Any) -> None:
    class Seen:
        def __init__(self, inner: Model) -> None:
            self.inner, self.name = inner, "seen"
            self.drawn: list[Any] = []

        async def complete(self, *args: Any, **options: Any) -> Completion:
            done = await self.inner.complete(*args, **options)
            self.drawn.append(done.completion_token_ids)
            return done

    async with LocalModel(network, tokenizer) as local:
        # Turns that end long before their limit, so that all three tries are made.
        local.decoder.stop = frozenset(range(0, 256, 20))
        first, again = Seen(local.seeded(5)), Seen(local.seeded(5))
        for model in (first, again):
            for _ in range(2):
                await Scaffold(model, tries=3).complete(ASK, (), temperature=1.0, max_tokens=1_000)
    assert len(first.drawn) == len(set(first.drawn)) == 6
    assert first.drawn == again.drawn

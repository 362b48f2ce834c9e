"""From records to examples: ours, the expert's and a foreign client's; filters; what is refused."""

import copy
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml  # type: ignore[import-untyped]

from agent.local import LocalModel
from agent.loop import Agent
from agent.trajectory import AgentLimits
from tasks.attempt import AttemptRecord
from tasks.data import DataRoot
from tasks.record import RecordWriter
from tests.training import corpus
from training.config import CONFIGS, Filters, SftRecipe, load_recipe
from training.data import Account, Example, as_seen, build, examples_of, load, longest_repeat, select, truncated
from training.errors import ExampleError
from training.render import Renderer
from training.scratch import make_tokenizer

Small = tuple[Path, Any, Any]
EVERYTHING = Filters(min_reward=None, duplicates="keep", max_repeats=None)


def check(example: Example, tokenizer: Any) -> None:
    """What every example promises."""
    assert len(example.ids) == len(example.mask)
    assert not example.mask[0]
    written = [place for start, end in example.turns for place in range(start, end)]
    assert written == [place for place, own in enumerate(example.mask) if own]
    for _, end in example.turns:
        assert example.ids[end - 1] == tokenizer.eos_token_id
    assert example.labels() == [token if own else -100 for token, own in zip(example.ids, example.mask, strict=True)]


def test_the_experts_and_a_foreign_clients_records_give_examples_of_one_form(
    expert: Path, foreign: Path, small: Small
) -> None:
    _, tokenizer, _ = small
    ours, mine = build([expert], tokenizer, EVERYTHING)
    theirs, their = build([foreign], tokenizer, EVERYTHING)
    # The server kept its own record of what the expert did: the same episodes, seen from the other side.
    seen, _ = build([expert / "server"], tokenizer, EVERYTHING)
    for example in (*ours, *theirs, *seen):
        check(example, tokenizer)
    assert {example.schema for example in (*ours, *theirs, *seen)} == {ours[0].schema}
    first = tokenizer.decode(theirs[0].ids)
    assert '<tool_call>\n{"name": "execute_code", "arguments": {"code": ' in first
    assert "episode_id" not in first
    assert "status: ok" in first
    prompts = {example.task: tokenizer.decode(example.ids[: example.turns[0][0]]) for example in ours}
    assert all(prompts[example.task] == tokenizer.decode(example.ids[: example.turns[0][0]]) for example in theirs)
    by_task = {example.task: example for example in ours}
    for example in seen:
        # Words beside the calls are known to the agent alone; the calls are the same.
        calls = [part.split("</tool_call>")[0] for part in tokenizer.decode(example.ids).split("<tool_call>")[1:]]
        own = tokenizer.decode(by_task[example.task].ids)
        assert all(call in own for call in calls)
    assert mine.kept == len({example.attempt for example in ours}) > 3
    assert their.kept == 3


def test_sampled_tokens_are_kept_as_they_were(hospital: DataRoot, small: Small, tmp_path: Path) -> None:
    _, tokenizer, model = small

    async def act() -> list[AttemptRecord]:
        limits = AgentLimits(turns=3, call_tokens=24)
        async with (
            corpus.served(hospital, tmp_path) as environment,
            LocalModel(model, tokenizer, batch=2) as local,
        ):
            agent = Agent(environment, local, limits)
            return [await agent.attempt(task, temperature=1.0) for task in corpus.chosen(hospital, "train", 2)]

    for record in anyio.run(act):
        (example,) = examples_of(record, Renderer(tokenizer))
        assert example.logprobs is not None
        assert len(record.calls) == 3
        for call, (start, end) in zip(record.calls, example.turns, strict=True):
            assert call.prompt_token_ids == example.ids[:start]
            assert call.completion_token_ids == example.ids[start:end]
            assert call.logprobs == example.logprobs[start:end]
        assert sum(example.mask) == sum(call.usage.completion_tokens for call in record.calls)
        assert {own for own, log in zip(example.mask, example.logprobs, strict=True) if log} == {True}


def test_a_trimmed_history_becomes_segments(expert: Path, small: Small) -> None:
    _, tokenizer, _ = small
    record = max(load([expert]), key=lambda one: len(one.messages))
    (whole,) = examples_of(record, Renderer(tokenizer))
    calls = []
    for number, (start, end) in enumerate(whole.turns):
        prompt = whole.ids[:start] if number != 1 else whole.ids[1:start]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": end - start}
        given = {"prompt_token_ids": prompt, "completion_token_ids": whole.ids[start:end]}
        calls.append({"message": 2 + 2 * number, "usage": usage, **given, "logprobs": [-0.5] * (end - start)})
    trimmed = AttemptRecord.model_validate(record.model_dump(mode="json") | {"calls": calls})
    made = examples_of(trimmed, Renderer(tokenizer))
    assert len(made) > 1
    assert [one.last for one in made] == [False] * (len(made) - 1) + [True]
    assert sum(one.written for one in made) == whole.written
    assert [one.segment for one in made] == list(range(len(made)))


def test_test_tasks_are_refused_or_dropped(hospital: DataRoot, small: Small, tmp_path: Path) -> None:
    _, tokenizer, _ = small
    tasks = [*corpus.chosen(hospital, "train", 1), *corpus.chosen(hospital, "test", 1)]
    assert len(tasks) == 2
    anyio.run(corpus.expert_records, hospital, tmp_path, tasks)
    with pytest.raises(ExampleError, match="of the test split: nothing is trained on"):
        build([tmp_path], tokenizer, Filters())
    examples, account = build([tmp_path], tokenizer, Filters(test_split="drop"))
    assert {example.task for example in examples} == {tasks[0]}
    assert account.left_out["of the test split"] == 1


def changed(record: AttemptRecord, **changes: Any) -> AttemptRecord:
    return AttemptRecord.model_validate(record.model_dump(mode="json") | changes)


def test_every_filter_counts_what_it_leaves_out(expert: Path) -> None:
    records = load([expert])
    one = records[0]
    looped = list(one.model_dump(mode="json")["messages"])
    call = next(message for message in looped if message.get("tool_calls"))
    looped[2:2] = [call] * 4
    given = [
        one,
        changed(one, id="again"),
        changed(one, id="wrong", reward=0.0),
        changed(one, id="broken", outcome="infra_error", reward=None, grade=None),
        changed(one, id="left", outcome="abandoned", reward=0.0, grade=None),
        changed(one, id="loop", messages=looped),
        changed(one, id="silent", messages=one.model_dump(mode="json")["messages"][:2]),
        *records[1:4],
    ]
    assert longest_repeat(given[5]) >= 4
    account = Account()
    kept = select(given, Filters(), 0, account)
    assert account.read == len(given)
    assert account.left_out["duplicate: the same actions on the same task"] == 1
    assert account.left_out["reward below 1"] == 1
    assert account.left_out["outcome infra_error"] == 1
    assert account.left_out["outcome abandoned"] == 1
    assert account.left_out["loop: one action more than 2 times in a row"] == 1
    assert account.left_out["too few turns"] == 1
    assert len(kept) + account.left_out.total() == account.read
    assert select(given, Filters(), 0, Account()) == kept
    text = "\n".join(account.lines())
    assert "left out 1: outcome abandoned" in text


def test_a_category_is_filled_with_records_that_fit(expert: Path, small: Small) -> None:
    _, tokenizer, _ = small
    lengths: dict[str, list[int]] = {}
    for example in build([expert], tokenizer, Filters())[0]:
        lengths.setdefault(example.category, []).append(len(example.ids))
    assert len(lengths) == 2
    limit = max(map(min, lengths.values()))
    # Else nothing is too long, and the order of the filters could not matter.
    assert any(length > limit for found in lengths.values() for length in found)
    for seed in range(8):
        examples, account = build([expert], tokenizer, Filters(per_category=1, max_tokens=limit), seed)
        assert sorted(example.category for example in examples) == sorted(lengths)
        assert account.kept + account.left_out.total() == account.read
        assert account.left_out["more than 1 of its category"] > 0


def test_only_an_unseen_limit_is_a_truncation(expert: Path) -> None:
    one = load([expert])[0]
    assert not truncated(one)
    ends = {"tokens": True, "seconds": True, "context": True, "turns": False, "loop": False, "malformed": False}
    for kind, cut in ends.items():
        limited = changed(one, outcome="limit", reward=0.0, grade=None, error={"kind": kind, "message": ""})
        assert truncated(limited) is cut, kind


def test_records_that_are_none_and_a_file_cut_in_the_middle(expert: Path, small: Small, tmp_path: Path) -> None:
    _, tokenizer, _ = small
    lines = next(expert.glob("attempts-*.jsonl")).read_bytes().splitlines(keepends=True)
    cut = tmp_path / "attempts-cut.jsonl"
    cut.write_bytes(lines[0] + lines[1][: len(lines[1]) // 2])
    examples, account = build([cut], tokenizer, EVERYTHING)
    assert len({example.attempt for example in examples}) == 1
    assert account.torn == ["attempts-cut.jsonl"]
    assert any("cut off" in line for line in account.lines())
    for garbage in (b"garbage\n", b'{"schema": "other"}\n', b"\xff\xfe\n", b"[1, 2]\n"):
        bad = tmp_path / "attempts-bad.jsonl"
        bad.write_bytes(lines[0] + garbage + lines[1])
        with pytest.raises(ExampleError, match=r"attempts-bad\.jsonl"):
            load([bad])
    with pytest.raises(ExampleError, match="no records in"):
        load([tmp_path / "nothing"])


def test_nothing_left_is_an_error_with_the_account(expert: Path, small: Small) -> None:
    _, tokenizer, _ = small
    with pytest.raises(ExampleError, match=r"No example is left.*left out \d+: longer than 8 tokens"):
        build([expert], tokenizer, Filters(max_tokens=8))


def test_tokens_of_another_tokenizer_are_refused(expert: Path, small: Small, tmp_path: Path) -> None:
    _, tokenizer, _ = small
    record = load([expert])[0]
    (example,) = examples_of(record, Renderer(tokenizer))
    start, end = example.turns[0]
    usage = {"prompt_tokens": start, "completion_tokens": end - start}
    given = {"prompt_token_ids": example.ids[:start], "completion_token_ids": example.ids[start:end]}
    owned = changed(record, calls=[{"message": 2, "usage": usage, **given}])
    assert examples_of(owned, Renderer(tokenizer))[0].ids == example.ids[:end]
    other = make_tokenizer(["quite another text, again and again"] * 20, tmp_path, size=300)
    with pytest.raises(ExampleError, match="another tokenizer"):
        examples_of(owned, Renderer(other))


def test_a_tokenizer_that_normalises_is_not_another(expert: Path, small: Small) -> None:
    """Qwen's does: what it was given is not, sign for sign, what its tokens spell."""
    from tokenizers import normalizers

    tokenizer = copy.deepcopy(small[1])
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    renderer, record = Renderer(tokenizer), load([expert])[0]
    for sign in ("\u2126", "\u212b", "e\u0301"):
        messages = record.model_dump(mode="json")["messages"]
        messages[1]["content"] += f" 5 {sign}"
        given = changed(record, messages=messages)
        (segment,) = renderer.segments(given)
        assert sign not in tokenizer.decode(segment.ids)
        start, end = segment.turns[0]
        tokens = {"prompt_token_ids": segment.ids[:start], "completion_token_ids": segment.ids[start:end]}
        usage = {"prompt_tokens": start, "completion_tokens": end - start}
        owned = changed(given, calls=[{"message": 2, "usage": usage, **tokens}])
        assert examples_of(owned, renderer)[0].ids == tuple(segment.ids[:end])


def test_as_seen_leaves_our_own_records_alone(expert: Path) -> None:
    for record in load([expert]):
        assert as_seen(record) == record


def test_the_agents_record_of_an_attempt_wins_over_the_servers(expert: Path) -> None:
    both = load([expert / "server", expert])
    assert {record.source for record in both} == {"agent"}
    assert len(both) == len(load([expert]))


def test_a_verdict_that_was_hidden_from_the_agent_is_the_servers(hospital: DataRoot, tmp_path: Path) -> None:
    tasks = corpus.chosen(hospital, "train", 2)
    told = {one.id: one for one in anyio.run(corpus.expert_records, hospital, tmp_path, tasks, "none")}
    seen = {one.id: one for one in load([tmp_path / "server"])}
    assert {one.reward for one in told.values()} == {None}
    assert {one.reward for one in seen.values()} == {1.0}
    for paths in ([tmp_path, tmp_path / "server"], [tmp_path / "server", tmp_path, tmp_path]):
        merged = load(paths)
        assert len(merged) == 2
        for one in merged:
            verdict = seen[one.id]
            assert (one.reward, one.grade, one.outcome) == (verdict.reward, verdict.grade, verdict.outcome)
            assert (one.messages, one.calls) == (told[one.id].messages, told[one.id].calls)
            assert one.source == "merged"
    account = Account()
    assert select(load([tmp_path]), Filters(), 0, account) == []
    assert account.left_out["no verdict was told to the agent: add the server's records"] == 2


def test_a_failure_of_the_infrastructure_stays_one_unless_the_server_graded(expert: Path, tmp_path: Path) -> None:
    lost = {"outcome": "infra_error", "reward": None, "grade": None}
    (one,), server = load([expert])[:1], load([expert / "server"])
    seen = next(record for record in server if record.id == one.id)
    left = changed(seen, outcome="abandoned", reward=0.0, grade=None)
    for verdict, outcome in ((seen, "graded"), (left, "infra_error")):
        writer = RecordWriter(tmp_path / outcome)
        writer.write(changed(one, **lost))
        writer.write(verdict)
        writer.close()
        (merged,) = load([tmp_path / outcome])
        assert merged.outcome == outcome
        assert merged.messages == one.messages


@pytest.mark.parametrize("size", ["7b", "14b"])
def test_a_step_of_the_papers_sft_is_eight_trajectories_and_leaves_checkpoints(size: str) -> None:
    recipe = load_recipe(f"sft-qwen2.5-{size}")
    assert isinstance(recipe, SftRecipe)
    assert (recipe.batch, recipe.packing) == (8, False)
    assert recipe.save_every <= recipe.epochs * 2137 / recipe.batch / 4
    for file in CONFIGS.glob("accelerate-*.yaml"):
        processes = yaml.safe_load(file.read_text())["num_processes"]
        batch = 16 if processes == 16 else recipe.batch
        assert batch % (processes * recipe.micro_batch) == 0
        assert batch == recipe.batch or f"--set batch={batch}" in file.read_text()

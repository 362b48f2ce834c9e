"""From attempt records to token-level examples, once, for every method of training.

An example is what a model saw and wrote in (a part of) one attempt, as token ids, with a mask of what it wrote. Records
of our own agent keep the ids and log-probabilities as they were sampled; all others (a foreign client, the scripted
expert) are rendered by the model's chat template. Both pass through the same filters, and nothing is left out
without being counted in the account.
"""

import json
import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import prompts
from tasks.attempt import UNSCORED, AttemptRecord, Message
from tasks.errors import DataError
from tasks.record import digest, merged, read_records
from training.config import Filters
from training.errors import ExampleError
from training.render import Renderer, Segment, sampled_segments

if TYPE_CHECKING:
    from rich.table import Table


CUT = ("tokens", "context", "seconds", "wall_seconds")
"""Kinds of limits that cut an attempt from outside."""


@dataclass(frozen=True)
class Example:
    """Tokens of one attempt, or of one segment of it where the history was trimmed.

    `ids`, `mask` and `logprobs` have one entry per token; `mask` is true where the model wrote it; `logprobs` (natural,
    of the sampling distribution) is 0 elsewhere, and None where it was not recorded. `turns` are [start, end) of each
    turn of the model. `last`: whether the attempt ends here. `truncated`: cut by a limit of tokens or time before its
    end. `schema`: digest of the tools, equal where they were equal.
    """

    attempt: str
    task: str
    family: str
    category: str
    cluster: str
    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    logprobs: tuple[float, ...] | None
    turns: tuple[tuple[int, int], ...]
    reward: float | None
    schema: str
    segment: int = 0
    last: bool = True
    truncated: bool = False

    @property
    def written(self) -> int:
        """Tokens that the model wrote."""
        return sum(self.mask)

    def labels(self) -> list[int]:
        """Targets of a language model: the id where the model wrote it, -100 elsewhere."""
        return [token if own else -100 for token, own in zip(self.ids, self.mask, strict=True)]


@dataclass
class Account:
    """What became of the records. `left_out` maps a reason to how many; `torn` names files whose last line was cut."""

    read: int = 0
    kept: int = 0
    tokens: int = 0
    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    categories: Counter[tuple[str, str]] = field(default_factory=Counter)
    schemas: Counter[str] = field(default_factory=Counter)
    torn: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The account as text, one fact a line."""
        lines = [f"{self.read} records read, {self.kept} kept: {self.tokens} tokens, {self.written} to learn."]
        lines += [f"left out {count}: {reason}" for reason, count in self.left_out.most_common()]
        lines += [f"the last line of {name} was cut off and is passed over" for name in self.torn]
        lines.append(f"{len(self.schemas)} distinct tool schemas")
        return lines

    def table(self) -> "Table":
        """What was kept, by family and category."""
        from rich.table import Table

        table = Table(title="Examples", title_justify="left")
        for column in ("family", "category", "kept"):
            table.add_column(column)
        for (family, category), count in sorted(self.categories.items()):
            table.add_row(family, category, str(count))
        return table


def load(paths: Sequence[Path], account: Account | None = None) -> list[AttemptRecord]:
    """All records in these files and folders, each attempt once. Raises ExampleError: nothing there, or not a record.

    Of an attempt that the agent and the server recorded, the agent's tokens and messages are kept; where the verdict
    was hidden from it, reward, grade, outcome and error are the server's. A last line that was cut off is passed over
    and named in the account.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("attempts-*.jsonl")) if path.is_dir() else [path] if path.is_file() else []
        if not found:
            raise ExampleError(f"There are no records in {path}.")
        files += found
    records: dict[str, AttemptRecord] = {}
    for file in files:
        try:
            for record in read_records([file]):
                known = records.get(record.id)
                records[record.id] = record if known is None else merged(known, record)
        except (DataError, UnicodeDecodeError) as error:
            raise ExampleError(str(error)) from None
        if account is not None and _torn(file):
            account.torn.append(file.name)
    return list(records.values())


def select(records: Iterable[AttemptRecord], filters: Filters, seed: int, account: Account) -> list[AttemptRecord]:
    """The records that pass, in a seeded order; what does not is counted in `account` by reason.

    `max_tokens` and `per_category` are left to `build`, which knows lengths. Raises ExampleError where a record is of
    the test split and the filters refuse that.
    """
    kept: list[AttemptRecord] = []
    seen: set[str] = set()
    for record in records:
        account.read += 1
        reason = _reason(record, filters)
        if reason is None and filters.duplicates == "drop":
            actions = action_digest(record)
            reason = "duplicate: the same actions on the same task" if actions in seen else None
            seen.add(actions)
        if reason is None:
            kept.append(record)
        else:
            account.left_out[reason] += 1
    random.Random(seed).shuffle(kept)
    return kept


def as_seen(record: AttemptRecord) -> AttemptRecord:
    """The record as our own agent would have seen it, whoever acted.

    Results that are the server's JSON become observations, the first message the problem's text, tools and calls lose
    the number of the episode (random, long, and the agent adds it by itself). A record of our agent stays as it is.
    """
    messages = tuple(_message_as_seen(message) for message in record.messages)
    tools = tuple(prompts.tool_schema(tool) for tool in record.tools)
    return record.model_copy(update={"messages": messages, "tools": tools})


def examples_of(record: AttemptRecord, renderer: Renderer) -> list[Example]:
    """The token-level examples of one record: one, or one per segment of a trimmed history.

    Raises ExampleError where the record's own tokens are not of this tokenizer.
    """
    record = as_seen(record)
    sampled = sampled_segments(record)
    if sampled is not None:
        _same_tokenizer(record, sampled[0], renderer)
    segments = sampled if sampled is not None else renderer.segments(record)
    logged = sampled is not None and all(call.logprobs is not None for call in record.calls)
    schema = digest(list(record.tools))
    return [
        Example(
            attempt=record.id,
            task=record.task.id,
            family=record.task.family,
            category=record.task.category,
            cluster=record.task.cluster,
            ids=tuple(segment.ids),
            mask=tuple(segment.mask),
            logprobs=tuple(segment.logprobs) if logged else None,
            turns=tuple(segment.turns),
            reward=record.reward,
            schema=schema,
            segment=number,
            last=number == len(segments) - 1,
            truncated=truncated(record),
        )
        for number, segment in enumerate(segments)
    ]


def build(paths: Sequence[Path], tokenizer: Any, filters: Filters, seed: int = 0) -> tuple[list[Example], Account]:
    """Examples from files of records, and the account. Raises ExampleError, also where nothing is left."""
    account = Account()
    chosen = select(load(paths, account), filters, seed, account)
    renderer = Renderer(tokenizer)
    examples: list[Example] = []
    for record in chosen:
        category = (record.task.family, record.task.category)
        # Only what is kept counts: a record that turns out too long must not take the place of one that fits.
        if filters.per_category is not None and account.categories[category] >= filters.per_category:
            account.left_out[f"more than {filters.per_category} of its category"] += 1
            continue
        made = examples_of(record, renderer)
        if not any(example.written for example in made):
            account.left_out["the model wrote nothing"] += 1
            continue
        if filters.max_tokens is not None and max(len(example.ids) for example in made) > filters.max_tokens:
            account.left_out[f"longer than {filters.max_tokens} tokens"] += 1
            continue
        examples += made
        account.kept += 1
        account.tokens += sum(len(example.ids) for example in made)
        account.written += sum(example.written for example in made)
        account.categories[category] += 1
        account.schemas[made[0].schema] += 1
    if not examples:
        raise ExampleError("No example is left after filtering. " + " ".join(account.lines()))
    return examples, account


def truncated(record: AttemptRecord) -> bool:
    """Whether a limit that the agent cannot see (tokens, context, time) cut the attempt, so that it has not ended.

    To use up the turns, which every result tells, or to repeat oneself is an end: the agent could have known.
    """
    return record.outcome == "limit" and record.error is not None and record.error.kind in CUT


def actions(record: AttemptRecord) -> list[tuple[str, str]]:
    """The calls as (tool, digest of what was asked); the number of the episode says nothing about the action."""
    found = []
    for message in record.messages:
        for call in message.tool_calls or ():
            found.append((call.function.name, digest(_without_number(call.function.arguments))))
    return found


def action_digest(record: AttemptRecord) -> str:
    """Equal where the same actions were made, in the same order, with the same words beside, on the same task."""
    words = [message.content for message in record.messages if message.role == "assistant"]
    return digest([record.task.id, actions(record), words])


def longest_repeat(record: AttemptRecord) -> int:
    """How often one action was made in a row, at most."""
    longest = run = 0
    before: tuple[str, str] | None = None
    for action in actions(record):
        run = run + 1 if action == before else 1
        longest, before = max(longest, run), action
    return longest


def _message_as_seen(message: Message) -> Message:
    result = _json_object(message.content) if message.role in ("user", "tool") else None
    if message.role == "user" and result is not None and "problem" in result and "answer_form" in result:
        return message.model_copy(update={"content": prompts.problem_text(result)})
    if message.role == "tool" and result is not None:
        return message.model_copy(update={"content": prompts.observation(result)})
    if message.role == "tool" and message.content is not None and message.content.startswith("Error executing tool"):
        return message.model_copy(update={"content": f"error: {message.content}"})
    if not message.tool_calls:
        return message
    calls = tuple(
        call.model_copy(
            update={
                "function": call.function.model_copy(update={"arguments": _without_number(call.function.arguments)})
            }
        )
        for call in message.tool_calls
    )
    return message.model_copy(update={"tool_calls": calls})


def _without_number(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name != prompts.HIDDEN}


def _json_object(text: str | None) -> dict[str, Any] | None:
    if not text or not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _reason(record: AttemptRecord, filters: Filters) -> str | None:
    """Why the record is left out, or None."""
    if record.task.split != "train":
        if filters.test_split == "refuse":
            raise ExampleError(
                f"Record {record.id} is of task {record.task.id}, which is of the {record.task.split} split: nothing "
                "is trained on what it will be tested on. Take it out, or set test_split: drop."
            )
        return f"of the {record.task.split} split"
    if filters.families and record.task.family not in filters.families:
        return f"family {record.task.family}"
    if record.outcome in UNSCORED or record.outcome not in filters.outcomes:
        return f"outcome {record.outcome}"
    if filters.min_reward is not None:
        if record.reward is None:
            return "no verdict was told to the agent: add the server's records"
        if record.reward < filters.min_reward:
            return f"reward below {filters.min_reward:g}"
    turns = sum(message.role == "assistant" for message in record.messages)
    if turns < max(filters.min_turns, 1):
        return "too few turns"
    if filters.max_turns is not None and turns > filters.max_turns:
        return f"more than {filters.max_turns} turns"
    if filters.max_repeats is not None and longest_repeat(record) > filters.max_repeats:
        return f"loop: one action more than {filters.max_repeats} times in a row"
    return None


def _same_tokenizer(record: AttemptRecord, segment: Segment, renderer: Renderer) -> None:
    """Raises ExampleError where the ids of the first turn, read by this tokenizer, do not say what the record says."""
    tokenizer = renderer.tokenizer
    problem = next((message.content for message in record.messages if message.role == "user"), None) or ""
    if max(segment.ids) < len(tokenizer):
        shown = tokenizer.decode(segment.ids[: segment.turns[0][0]], skip_special_tokens=False)
        if _squeezed(problem) in _squeezed(shown):
            return
    raise ExampleError(
        f"Record {record.id} holds token ids of another tokenizer or vocabulary than this checkpoint's. Records feed "
        "only the model family that sampled them; take out prompt_token_ids to have them rendered again."
    )


def _squeezed(text: str) -> str:
    """What a tokenizer leaves of a text: many normalise it, some change blanks."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def _torn(file: Path) -> bool:
    """Whether the file ends in the middle of a record."""
    last = file.read_bytes().rpartition(b"\n")[2]
    if not last.strip():
        return False
    try:
        json.loads(last)
    except ValueError:
        return True
    return False

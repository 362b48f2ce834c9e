"""Chat templates, tokenizers made from trajectories, and what is refused."""

import copy
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent.local import LocalModel
from agent.loop import Agent
from agent.trajectory import AgentLimits
from tasks.data import DataRoot
from tasks.record import RecordWriter
from tests.training import corpus
from training.config import ModelSection
from training.data import as_seen, examples_of, load
from training.errors import ConfigError, ExampleError
from training.policy import load_model
from training.render import Renderer, load_tokenizer, plain_message

Small = tuple[Path, Any, Any]

FORGETFUL = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role != 'assistant' or loop.last %}{{- message.content }}{%- else %}{{- '(gone)' }}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""A template that rewrites earlier turns, as those do that drop reasoning."""

WITH_TOOLS = (
    "{%- for tool in tools %}{{- tool | tojson + '\\n' }}{%- endfor %}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""One that writes the tools as Qwen's does, whole."""


def test_the_segments_of_a_record_are_its_rendered_text(expert: Path, small: Small) -> None:
    _, tokenizer, _ = small
    renderer = Renderer(tokenizer)
    for record in load([expert]):
        (segment,) = renderer.segments(record)
        messages = [message.model_dump() | {"content": message.content or ""} for message in record.messages]
        last = max(number for number, message in enumerate(messages) if message["role"] == "assistant")
        whole = renderer.text(messages[: last + 1], record.tools, prompt=False)
        assert tokenizer.decode(segment.ids) == whole.removesuffix("\n")
        assert segment.ids == renderer.encode(whole.removesuffix("\n"))


def test_tools_read_the_same_in_rollout_and_training(hospital: DataRoot, small: Small, tmp_path: Path) -> None:
    """What a model is shown while it acts, what its record gives, and what the record of the server gives, which kept
    the tools as it published them: the same tokens, with a template that writes all of the schemas."""
    _, tokenizer, model = small
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = WITH_TOOLS

    async def act() -> None:
        limits = AgentLimits(turns=2, call_tokens=16)
        async with (
            corpus.served(hospital, tmp_path / "server") as environment,
            LocalModel(model, tokenizer, context=9_000) as local,
        ):
            agent = Agent(environment, local, limits)
            writer = RecordWriter(tmp_path / "ours")
            for task in corpus.chosen(hospital, "train", 2):
                await agent.attempt(task, temperature=1.0, save=writer.write)
            writer.close()

    anyio.run(act)
    ours = load([tmp_path / "ours"])
    theirs = {record.id: record for record in load([tmp_path / "server"])}
    renderer = Renderer(tokenizer)
    for record in ours:
        shown = record.calls[0].prompt_token_ids
        assert shown is not None
        assert '"parameters": {"properties": {"code"' in tokenizer.decode(shown)
        (kept, *_) = examples_of(record, renderer)
        (rendered, *_) = examples_of(record.model_copy(update={"calls": ()}), renderer)
        server = as_seen(theirs[record.id])
        prompt = renderer.text([plain_message(one) for one in server.messages[:2]], server.tools, prompt=True)
        assert kept.ids[: len(shown)] == rendered.ids[: len(shown)] == shown
        assert renderer.encode(prompt) == list(shown)


def test_a_template_that_changes_earlier_turns_gives_a_segment_for_each(expert: Path, small: Small) -> None:
    folder, _, _ = small
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = FORGETFUL
    record = max(load([expert]), key=lambda one: len(one.messages))
    turns = sum(message.role == "assistant" for message in record.messages)
    segments = Renderer(tokenizer).segments(record)
    assert len(segments) == turns > 1
    assert all(len(segment.turns) == 1 for segment in segments)
    assert "(gone)" in tokenizer.decode(segments[-1].ids)


def test_what_has_no_template_or_is_not_there_is_refused(small: Small, tmp_path: Path) -> None:
    folder, _, model = small
    bare = load_tokenizer(str(folder))
    bare.chat_template = None
    with pytest.raises(ExampleError, match="no chat template"):
        Renderer(bare)
    with pytest.raises(ExampleError, match="No tokenizer at"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(ExampleError, match="no chat template 'nothing'"):
        load_tokenizer(str(folder), "nothing")
    (tmp_path / "bad.jinja").write_text("{% generation %}{% endgeneration %}\n{% if %}")
    with pytest.raises(ExampleError, match=r"bad\.jinja' is no chat template: line 2"):
        load_tokenizer(str(folder), str(tmp_path / "bad.jinja"))
    (tmp_path / "bad.jinja").write_text("{{ raise_exception('No system messages.') }}")
    strict = Renderer(load_tokenizer(str(folder), str(tmp_path / "bad.jinja")))
    with pytest.raises(ExampleError, match="cannot render this conversation: No system messages"):
        strict.text([{"role": "system", "content": ""}], (), prompt=True)
    with pytest.raises(ConfigError, match="No model at"):
        load_model(ModelSection(name=str(tmp_path)), 10)
    rows = model.get_input_embeddings().weight.shape[0]
    with pytest.raises(ConfigError, match="not of one checkpoint"):
        load_model(ModelSection(name=str(folder)), rows + 1)

"""A tokenizer and a model of a few million parameters from nothing, for experiments that two cores can carry.

Prompt length decides whether such a model learns at all, so the tokenizer is made from the trajectories: words and
single digits by byte-level BPE, and every line that returns verbatim from task to task (instructions, lines of a
formula) is one token. Lines that carry values are not: those must be copied digit by digit.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.attempt import AttemptRecord, Message
from training.data import Example, examples_of
from training.render import COMPACT, Renderer

_LINES = re.compile(r"\n|\\n")
_MARKS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_TURN = re.compile("|".join(map(re.escape, _MARKS)))


def standing_lines(texts: Iterable[str], *, least: int = 8, shortest: int = 12) -> list[str]:
    """Lines that occur verbatim in at least `least` texts while nothing like them, but for digits, occurs beside.

    Lines end at a line break, also at an escaped one inside a JSON text. The commonest first.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({line for part in _TURN.split(text) for line in _LINES.split(part)})
    alike: defaultdict[str, int] = defaultdict(int)
    for line, count in counts.items():
        alike[re.sub(r"\d+", "0", line)] += count
    return [
        line
        for line, count in counts.most_common()
        if count >= least and len(line) >= shortest and count >= 0.9 * alike[re.sub(r"\d+", "0", line)]
    ]


def make_tokenizer(texts: Sequence[str], folder: Path, *, size: int = 1024, lines: int = 2000) -> Any:
    """Train a tokenizer of about `size` word pieces and at most `lines` standing lines; saved in `folder`, reloaded.

    Returned is what transformers reads from the folder, for that is what every user of the model will have.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    standing = standing_lines(texts)[:lines]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(_MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    known = set(standing)
    raw.train_from_iterator((_without(text, known) for text in texts), trainer)
    raw.add_tokens([AddedToken(line, normalized=False, special=False) for line in standing])
    made: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        chat_template=COMPACT,
    )
    made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def make_model(
    vocabulary: int, *, hidden: int = 192, layers: int = 6, heads: int = 6, context: int = 2048, seed: int = 0
) -> Any:
    """A Qwen2 with random weights (float32, tied embeddings), the same for the same seed."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=2,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        return Qwen2ForCausalLM(config)
    finally:
        torch.random.set_rng_state(state)


def echoes(records: Iterable[AttemptRecord], renderer: Renderer) -> list[Example]:
    """Examples in which the first paragraph of a task is said back, one for each text. They teach nothing but to copy,
    which is what a model without any pre-training lacks most."""
    notes: dict[str, AttemptRecord] = {}
    for record in records:
        text = next((message.content for message in record.messages if message.role == "user"), None) or ""
        notes.setdefault(text.split("\n\n")[0], record)
    return [
        replace(example, reward=None)
        for note, record in notes.items()
        if record.task.split == "train"
        for example in examples_of(
            record.model_copy(
                update={
                    "messages": (Message(role="user", content=note), Message(role="assistant", content=note)),
                    "calls": (),
                }
            ),
            renderer,
        )
    ]


def parameters(model: Any) -> int:
    """How many weights a model has; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _without(text: str, known: set[str]) -> str:
    return "\n".join(line for part in _TURN.split(text) for line in _LINES.split(part) if line not in known)

"""A tokenizer and a model of a few million parameters from nothing, for experiments that two cores can carry.

Prompt length decides whether such a model learns at all, so the tokenizer is made from the trajectories: words by
byte-level BPE, numbers by up to three digits, and every line that returns verbatim from task to task (instructions,
lines of a formula) is one token. Lines that carry values are not: the model must look these up in the note, so its
first weights and its first lessons are made for that.
"""

import random
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
_BREAK = "\\n"
_PIECES = r"[^\W\d]\w* = |\d{1,3}|[^\W\d]+:? ?|[^\w\s\\]+ ?|\\|\s+"
"""`name = `, up to three digits, words and signs with the blank behind them. So a number is the same tokens wherever it
stands, and what names it stands right before it, in a note as in code: to copy it takes one look back."""
_READING = re.compile(r"([^\W\d]+):? (\d+(?:\.\d+)?)")
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
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    standing = standing_lines(texts)[:lines]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
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
    raw.add_tokens([AddedToken(line, normalized=False, special=False) for line in (*standing, _BREAK)])
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
    """A Llama with random weights (float32, tied embeddings), the same for the same seed.

    Not a Qwen2: beside a model of that type transformers reads every tokenizer as Qwen's own, which splits digits and
    words otherwise than ours was made to.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        attention_bias=True,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=2,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = LlamaForCausalLM(config)
        _structure(model)
        return model
    finally:
        torch.random.set_rng_state(state)


def lookups(records: Iterable[AttemptRecord], renderer: Renderer, seed: int = 0) -> list[Example]:
    """Examples in which the numbers of a train task's note are asked back in another order, one for each text.

    They teach nothing but to find a value by the word before it, which is what a model without any pre-training lacks
    most: `name = 12.5` for every `name 12.5` and `name: 12.5` of the note.
    """
    notes: dict[str, AttemptRecord] = {}
    for record in records:
        text = next((message.content for message in record.messages if message.role == "user"), None) or ""
        if record.task.split == "train" and _READING.search(note := text.split("\n\n")[0]):
            notes.setdefault(note, record)
    rng, examples = random.Random(seed), []
    for note, record in notes.items():
        readings = _READING.findall(note)
        rng.shuffle(readings)
        said = "\n".join(f"{name} = {value}" for name, value in readings)
        talk = (Message(role="user", content=note), Message(role="assistant", content=said))
        told = record.model_copy(update={"messages": talk, "calls": ()})
        examples += [replace(example, reward=None) for example in examples_of(told, renderer)]
    return examples


def _structure(model: Any) -> None:
    """Weights that make it easy to look a value up, which random ones find only after thousands of steps.

    In the first layer two heads look one token back and one looks two back: their queries and keys are biases, turned
    against each other by the rotary angle of the distance. In the second layer two heads look for places behind a token
    like the present one, and what a head sees goes out as it came in (compare mimetic initialisation, arXiv
    2305.09828). All of it is free to change in training.
    """
    import torch

    def orthogonal() -> Any:
        return torch.nn.init.orthogonal_(torch.empty(hidden, hidden))

    hidden, heads = model.config.hidden_size, model.config.num_attention_heads
    size = hidden // heads
    parts = [slice(head * size, (head + 1) * size) for head in range(heads)]
    angles = model.model.rotary_emb.inv_freq.float()
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, 0.05)
        for part, distance in zip(parts, (1, 1, 2), strict=False):
            first.q_proj.weight[part] *= 0.1
            first.k_proj.weight[part] *= 0.1
            first.q_proj.bias[part] = 8 * torch.cat([torch.ones_like(angles), torch.zeros_like(angles)])
            first.k_proj.bias[part] = 8 * torch.cat([torch.cos(distance * angles), torch.sin(distance * angles)])
        values, out = orthogonal(), orthogonal()
        first.v_proj.weight.copy_(values)
        first.o_proj.weight.copy_(0.1 * out)
        for part in parts[:2]:
            second.q_proj.weight[part] = 1.5 * values[part]
            second.k_proj.weight[part] = 1.5 * out[:, part].T
        values = orthogonal()
        second.v_proj.weight.copy_(values)
        second.o_proj.weight.copy_(0.3 * values.T)


def parameters(model: Any) -> int:
    """How many weights a model has; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _without(text: str, known: set[str]) -> str:
    return "\n".join(line for part in _TURN.split(text) for line in _LINES.split(part) if line not in known)

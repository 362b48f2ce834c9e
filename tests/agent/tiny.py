"""A tiny Qwen2 with random weights, and a byte-level tokenizer with a ChatML template, made here."""

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + (message.content or '') }}"
    "{%- if loop.first and tools %}{% for tool in tools %}{{- '\n' + tool.function.name }}{% endfor %}{% endif %}"
    "{%- for call in message.tool_calls or [] %}"
    '{{- \'<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{- call.function.arguments | tojson }}{{- '}\n</tool_call>' }}{% endfor %}{{- '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


SHORT = TEMPLATE.replace("(message.content or '')", "(message.content or '')[:40]")
"""The same with the beginning of each message only, for a model that is to learn in seconds."""


def tokenizer(folder: Path) -> Any:
    """Bytes, and the marks of ChatML. Saved and loaded again: what is loaded may differ from what was made."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
    )
    fast.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def qwen2(
    vocabulary: int, *, positions: int = 8_192, seed: int = 0, spread: float = 0.4, hidden: int = 32, heads: int = 4
) -> Any:
    """Two layers, float32."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=spread,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=None,
    )
    made: Any = Qwen2ForCausalLM(config)
    return made.eval()

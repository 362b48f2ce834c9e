"""The tokenizer and the model that are made from nothing, and what the model is taught before its tasks."""

import re
from pathlib import Path
from typing import Any

import torch

from training.data import as_seen, load
from training.render import Renderer, load_tokenizer
from training.scratch import lookups, make_model, make_tokenizer, standing_lines

Small = tuple[Path, Any, Any]


def pieces(tokenizer: Any, text: str) -> list[str]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer.decode([one]) for one in ids]


def test_the_tokenizer_reads_back_what_it_wrote(small: Small) -> None:
    _, tokenizer, _ = small
    for text in ("  two  blanks\n\n1234.5 mg/dL", 'é ×10³/µL \\n \\" <tool_call>', "<|im_start|>user\nx<|im_end|>"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_a_number_is_the_same_tokens_wherever_it_stands(tmp_path: Path) -> None:
    tokenizer = make_tokenizer([f"height: {n} cm\nheight_cm = {n}" for n in range(100, 200)] * 3, tmp_path)
    assert pieces(tokenizer, "height: 172 cm")[:2] == ["height: ", "172"]
    assert pieces(tokenizer, "height_cm = 172")[:2] == ["height_cm = ", "172"]
    assert pieces(tokenizer, "172.172172") == ["172", ".", "172", "172"]


def test_the_tokenizer_splits_as_it_was_made_to_beside_its_model(small: Small) -> None:
    # Beside a model of a known type transformers may read a tokenizer as that type's own, with other borders of words.
    folder, tokenizer, _ = small
    assert (folder / "config.json").is_file()
    for text in ("height: 172 cm and weight 80.5 kg", "weight_kg = 80.5\\nheight_cm = 1.72 * 100.0"):
        assert pieces(load_tokenizer(str(folder)), text) == pieces(tokenizer, text)


def test_standing_lines_are_those_that_never_vary() -> None:
    texts = [
        f'the same instruction every time\nheight = {n} cm, measured{{"code": "return a + b * 10\\nx = {n}"}}'
        for n in range(20)
    ]
    assert standing_lines(texts) == ["the same instruction every time"]
    code = [f"return weight / height ** 2\\nvalue_of_it = {n}" for n in range(20)]
    assert standing_lines(code) == ["return weight / height ** 2"]


def test_lookups_ask_for_the_values_of_a_note_and_learn_those_alone(expert: Path, small: Small) -> None:
    _, tokenizer, _ = small
    records = [as_seen(record) for record in load([expert])]
    made = lookups(records, Renderer(tokenizer))
    assert len(made) == len({record.task.id for record in records})
    for example in made:
        ((start, end),) = example.turns
        note = tokenizer.decode(example.ids[:start])
        asked = tokenizer.decode(example.ids[start:end]).removesuffix(tokenizer.eos_token).split("\n")
        for line in asked:
            name, _, value = line.partition(" = ")
            assert re.search(rf"{re.escape(name)}:? {re.escape(value)}\b", note)
        assert sum(example.mask) == end - start
    shuffled = lookups(records, Renderer(tokenizer), seed=1)
    assert [one.ids for one in shuffled] != [one.ids for one in made]


def test_heads_of_a_new_model_look_one_and_two_tokens_back() -> None:
    model = make_model(50, hidden=64, layers=2, heads=4)
    model.set_attn_implementation("eager")
    ids = torch.randint(0, 50, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = model(ids, output_attentions=True).attentions[0][0]
    for head, distance in enumerate((1, 1, 2)):
        assert float(first[head].diagonal(-distance).mean()) > 0.5


def test_equal_seeds_make_equal_models_and_leave_the_generator_alone() -> None:
    torch.manual_seed(7)
    one, other = make_model(50, hidden=32, layers=2, heads=2), make_model(50, hidden=32, layers=2, heads=2, seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))
    again = make_model(50, hidden=32, layers=2, heads=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))

"""SFT through TRL: the loss is that of our own mask, packed or not; adapters; what it learns; resuming."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.training import tiny
from tests.training.test_config import run
from training.config import SftRecipe, load_recipe
from training.data import Example, build
from training.errors import CheckpointError, ConfigError
from training.policy import load_model
from training.scratch import make_tokenizer
from training.sft import fit, make_trainer, model_folder, newest_checkpoint, train_sft

Small = tuple[Path, Any, Any]
QUIET = Console(quiet=True)


def recipe(small: Small, records: Path, output: Path, **changes: Any) -> SftRecipe:
    fields = {
        "model.name": str(small[0]),
        "data.records": [str(records)],
        "output": str(output),
        "epochs": 1,
        "batch": 2,
        "micro_batch": 2,
        "max_tokens": 2048,
        "data.filters.max_tokens": None,
    }
    made = load_recipe("sft-small", fields | changes)
    assert isinstance(made, SftRecipe)
    return made


def slow_loss(model: Any, examples: list[Example]) -> float:
    """Mean over the tokens that the model wrote of minus their log-probability, one example at a time."""
    losses = []
    with torch.no_grad():
        for example in examples:
            logs = torch.log_softmax(model(input_ids=torch.tensor([example.ids])).logits[0].double(), -1)
            losses += [-logs[n - 1, example.ids[n]].item() for n, own in enumerate(example.mask) if own]
    return sum(losses) / len(losses)


class Stop(Exception):
    pass


def fit_and_stop(chosen: SftRecipe, small: Small, examples: list[Example], *, fresh: bool = False) -> None:
    """Train, and be stopped after the first checkpoint."""
    from transformers import TrainerCallback

    class Stopper(TrainerCallback):
        def on_save(self, *_: Any, **__: Any) -> None:
            raise Stop

    model = load_model(chosen.model, len(small[1]))
    with pytest.raises(Stop):
        fit(chosen, model, small[1], examples, fresh=fresh, callbacks=[Stopper()])


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_that_of_the_tokens_that_the_model_wrote(
    small: Small, expert: Path, tmp_path: Path, packing: bool
) -> None:
    chosen = recipe(small, expert, tmp_path, packing=packing, batch=1, micro_batch=1)
    examples, _ = build(chosen.data.records, small[1], chosen.data.filters)
    model = load_model(chosen.model, len(small[1])).eval()
    wanted = slow_loss(model, examples)
    trainer = make_trainer(chosen, model, small[1], examples)
    total = count = 0.0
    with torch.no_grad():
        for batch in trainer.get_train_dataloader():
            tokens = float((batch["labels"][:, 1:] != -100).sum())
            total += float(trainer.compute_loss(model, dict(batch))) * tokens
            count += tokens
    assert count == sum(example.written for example in examples)
    assert total / count == pytest.approx(wanted, rel=1e-4)
    if packing:
        assert len(trainer.train_dataset) < len(examples)


def test_it_learns_demonstrations_by_heart(small: Small, expert: Path, tmp_path: Path) -> None:
    chosen = recipe(small, expert, tmp_path, epochs=20, learning_rate=1e-2)
    examples, _ = build(chosen.data.records, small[1], chosen.data.filters)
    before = slow_loss(load_model(chosen.model, len(small[1])), examples)
    train_sft(chosen, console=QUIET)
    trained = load_model(chosen.model.model_copy(update={"name": str(model_folder(chosen))}), len(small[1]))
    assert slow_loss(trained, examples) < before / 2


def test_a_stopped_run_goes_on(small: Small, expert: Path, tmp_path: Path) -> None:
    chosen = recipe(small, expert, tmp_path, epochs=2, save_every=2)
    examples, _ = build(chosen.data.records, small[1], chosen.data.filters)
    fit_and_stop(chosen, small, examples)
    fit(chosen, load_model(chosen.model, len(small[1])), small[1], examples)
    whole = chosen.model_copy(update={"output": tmp_path / "whole"})
    fit(whole, load_model(chosen.model, len(small[1])), small[1], examples)
    states = [
        load_model(chosen.model.model_copy(update={"name": str(model_folder(one))}), 1).state_dict()
        for one in (chosen, whole)
    ]
    for name, weights in states[0].items():
        assert torch.allclose(weights, states[1][name], atol=1e-6), name


def test_adapters_alone_are_trained(small: Small, expert: Path, tmp_path: Path) -> None:
    chosen = recipe(small, expert, tmp_path, **{"model.lora": {"rank": 4, "alpha": 8}})
    train_sft(chosen, console=QUIET)
    names = {path.name for path in model_folder(chosen).iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names


def test_a_checkpoint_of_another_tokenizer_is_refused(small: Small, expert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(small[0], folder)
    chosen = recipe((folder, small[1], small[2]), expert, tmp_path / "out", save_every=2)
    train_sft(chosen, console=QUIET)
    make_tokenizer(["quite another text, again and again"] * 20, folder, size=300)
    with pytest.raises(CheckpointError, match="another tokenizer"):
        train_sft(chosen, console=QUIET)


def test_a_checkpoint_of_another_start_is_refused(small: Small, expert: Path, tmp_path: Path) -> None:
    chosen = recipe(small, expert, tmp_path / "out", save_every=2)
    train_sft(chosen, console=QUIET)
    shutil.copytree(small[0], tmp_path / "other")
    other = recipe((tmp_path / "other", small[1], small[2]), expert, tmp_path / "out", save_every=2)
    with pytest.raises(CheckpointError, match="another model"):
        train_sft(other, console=QUIET)
    (tmp_path / "out" / "start.json").unlink()
    with pytest.raises(CheckpointError, match="nothing tells"):
        train_sft(chosen, console=QUIET)


def test_a_run_that_begins_anew_is_what_the_next_one_goes_on_from(small: Small, expert: Path, tmp_path: Path) -> None:
    chosen = recipe(small, expert, tmp_path, epochs=2, save_every=2)
    examples, _ = build(chosen.data.records, small[1], chosen.data.filters)
    fit(chosen, load_model(chosen.model, len(small[1])), small[1], examples)
    fit_and_stop(chosen, small, examples, fresh=True)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_only_checkpoints_of_its_own_are_removed(small: Small, expert: Path, tmp_path: Path) -> None:
    chosen = recipe(small, expert, tmp_path)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-best" / "trainer_state.json").touch()
    (tmp_path / "checkpoint-000999").mkdir()
    train_sft(chosen, console=QUIET)
    assert (tmp_path / "checkpoint-best").is_dir()
    assert not (tmp_path / "checkpoint-000999").exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_another_methods_run_is_not_overwritten(small: Small, expert: Path, tmp_path: Path, fresh: bool) -> None:
    from training.ppo import train_ppo

    chosen = recipe(small, expert, tmp_path / "both")
    for file in ("metrics.jsonl", "checkpoint-000007/state.json"):
        path = chosen.output / file
        path.parent.mkdir(parents=True)
        path.touch()
        with pytest.raises(CheckpointError, match="holds a run of ppo: set output to another folder"):
            train_sft(chosen, console=QUIET, fresh=fresh)
        assert path.is_file()
        shutil.rmtree(chosen.output)
    train_sft(chosen, console=QUIET)
    left = sorted(chosen.output.rglob("*"))
    with pytest.raises(CheckpointError, match="holds a run of sft: set output to another folder"):
        train_ppo(tiny.recipe(chosen.output), fresh=fresh)
    assert sorted(chosen.output.rglob("*")) == left


def test_what_a_user_gets_wrong_is_one_line(small: Small, expert: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "bad.jinja").write_text("{% if %}")
    given = ["model.name=" + str(small[0])]
    sft = ["sft", "sft-small", *(f"data.records=[{expert}]", "data.filters.max_tokens=null", "max_tokens=2048")]
    for arguments, changes, text in (
        (sft, {"output": tmp_path / "file"}, "cannot be made a folder: File exists."),
        (["ppo", "ppo-small"], {"output": tmp_path / "file"}, "cannot be made a folder: File exists."),
        (sft, {"output": tmp_path / "out", "model.lora.targets": "[q_prj]"}, "('q_prj',) fits no layer"),
        (sft, {"output": tmp_path / "out", "model.template": tmp_path / "bad.jinja"}, "is no chat template: line 1"),
    ):
        pairs = [*given, *arguments[2:], *(f"{key}={value}" for key, value in changes.items())]
        done = run(*arguments[:2], *(part for pair in pairs for part in ("--set", pair)))
        assert (done.exit_code, type(done.exception)) == (1, SystemExit)
        assert done.output.splitlines()[-1].startswith("med-copilot: ")
        assert text in done.output


def test_a_run_that_is_finished_says_so(small: Small, expert: Path, tmp_path: Path) -> None:
    chosen = recipe(small, expert, tmp_path)
    train_sft(chosen, console=QUIET)
    assert train_sft(chosen, console=QUIET) == {}
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(chosen.model_dump(mode="json")))
    told = run("sft", str(file)).output
    assert f"This was finished before; the model is in {model_folder(chosen)}" in told


def test_a_batch_that_cannot_be_dealt_out_is_refused(
    small: Small, expert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe(small, expert, tmp_path, batch=8, micro_batch=1)
    for processes in (3, 16):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        with pytest.raises(ConfigError, match=f"batch 8 is no multiple of micro_batch 1 x {processes} processes"):
            make_trainer(chosen, None, small[1], [])


# PEFT's, of a model that is adapters itself.
@pytest.mark.filterwarnings("ignore:Could not find a config file in:UserWarning")
def test_a_run_may_begin_from_adapters(small: Small, expert: Path, tmp_path: Path) -> None:
    lora = {"model.lora": {"rank": 4, "alpha": 8}, "learning_rate": 1e-2, "epochs": 4}
    first = recipe(small, expert, tmp_path / "first", **lora)
    examples, _ = build(first.data.records, small[1], first.data.filters)
    train_sft(first, console=QUIET)
    start = model_folder(first)
    second = recipe((start, small[1], small[2]), expert, tmp_path / "second", **lora)
    train_sft(second, console=QUIET)
    left = model_folder(second)
    assert (left / "model.safetensors").is_file()
    assert not list(left.glob("adapter_*"))
    losses = [
        slow_loss(load_model(first.model.model_copy(update={"name": str(place)}), 1), examples)
        for place in (small[0], start, left)
    ]
    assert losses[0] > losses[1] > losses[2]


def test_a_checkpoint_that_was_cut_is_passed_over(small: Small, expert: Path, tmp_path: Path) -> None:
    chosen = recipe(small, expert, tmp_path, save_every=2, keep=9)
    train_sft(chosen, console=QUIET)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    (newest / "trainer_state.json").unlink()
    before = newest_checkpoint(tmp_path)
    assert before is not None
    assert int(before.name.split("-")[1]) < int(newest.name.split("-")[1])
    train_sft(chosen, console=QUIET)
    assert newest_checkpoint(tmp_path) == newest


def test_nothing_left_after_filtering_is_said_by_the_command(small: Small, expert: Path, tmp_path: Path) -> None:
    changes = {"model.name": small[0], "data.records": f"[{expert}]", "output": tmp_path / "out"}
    changes["data.filters.min_turns"] = 99
    options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "training.cli", "train", "sft", "sft-small", *options], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("med-copilot: No example is left after filtering.")
    assert "too few turns" in done.stderr
    assert not (tmp_path / "out").exists()

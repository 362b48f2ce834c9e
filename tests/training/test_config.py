"""Recipes: all that ship load and can be planned; what is wrong in one is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.testing import CliRunner

from training.config import CONFIGS, PpoRecipe, load_recipe, make_recipe, parse_changes, recipes
from training.errors import ConfigError
from training.plan import GIB, Hardware, Shape, plan, shape_of

MINIMAL: dict[str, Any] = {"method": "ppo", "model": {"name": "m"}, "output": "o"}


def run(*arguments: str) -> Any:
    import typer

    from training.cli import add_commands

    app = typer.Typer()
    app.callback()(lambda: None)
    add_commands(app)
    return CliRunner().invoke(app, ["train", *arguments])


@pytest.mark.parametrize("name", recipes())
def test_the_recipes_that_ship_load(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.method == name.split("-")[0]


def test_the_papers_settings_are_those_of_the_paper() -> None:
    for size in ("7b", "14b"):
        sft, ppo = load_recipe(f"sft-qwen2.5-{size}"), load_recipe(f"ppo-qwen2.5-{size}")
        assert (sft.learning_rate, sft.batch) == (1e-4, 8)
        assert isinstance(ppo, PpoRecipe)
        assert (ppo.learning_rate, ppo.batch, ppo.kl.coefficient) == (1e-5, 128, 1e-3)
        rollout = ppo.rollout
        assert (rollout.temperature, rollout.turns, rollout.max_tokens, rollout.max_new_tokens) == (
            0.6,
            15,
            32768,
            8192,
        )


@pytest.mark.parametrize("name", ["single", "fsdp2", "zero3", "multi-node"])
def test_the_accelerate_configurations_are_what_accelerate_reads(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file  # type: ignore[import-untyped]

    file = CONFIGS / f"accelerate-{name}.yaml"
    config = load_config_from_file(str(file))
    assert config.num_processes == yaml.safe_load(file.read_text())["num_processes"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lerning_rate": 1}, "unknown key 'lerning_rate'; did you mean 'learning_rate'?"),
        ({"critic": {"wramup": 1}}, "unknown key 'critic.wramup'; did you mean 'warmup'?"),
        ({"model": {"name": "m", "lora": {"rnk": 4}}}, "unknown key 'model.lora.rnk'; did you mean 'rank'?"),
        ({"qqqqqq": 1}, "unknown key 'qqqqqq'; known keys: method, model"),
        ({"clip": -1}, "clip: Input should be greater than 0"),
        ({"method": "dqn"}, "must be sft or ppo, not 'dqn'"),
        ({"model": {}}, "model.name: Field required"),
        ({"method": "sft", "data": {"records": ["r"]}, "batch": 8, "micro_batch": 3}, "recipe: batch 8 must be a mult"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_recipe(MINIMAL | changes)
    assert text in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'ppo-small'"):
        load_recipe("ppo-smal")
    for text in ("a: [", "- 1", "\x00"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"bad\.yaml"):
            load_recipe(tmp_path / "bad.yaml")


@pytest.mark.parametrize("name", ["sft-small", "ppo-small"])
def test_no_run_begins_from_what_it_replaces(tmp_path: Path, name: str) -> None:
    """Run again, it would put its checkpoint's adapters on weights that hold them, or be its own reference."""
    output, adapters = tmp_path / "run", tmp_path / "adapters"
    for folder in (output / "model", output / "checkpoint-2", tmp_path / "run2", adapters):
        folder.mkdir(parents=True)
    (adapters / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(output / "model")}))
    (tmp_path / "link").symlink_to(output / "model")
    for start in (output / "model", output / "checkpoint-2", output, tmp_path / "link", adapters):
        with pytest.raises(ConfigError, match="lies in the output .* set output to another folder"):
            load_recipe(name, {"model.name": str(start), "output": str(output)})
    for start in (tmp_path / "run2", tmp_path / "nowhere"):
        load_recipe(name, {"model.name": str(start), "output": str(output)})


def test_changes_on_the_command_line() -> None:
    recipe = load_recipe("ppo-small", parse_changes(["reward.format=0.3", "kl.where=loss", "rollout.families=[a, b]"]))
    assert isinstance(recipe, PpoRecipe)
    assert (recipe.reward.format, recipe.kl.where, recipe.rollout.families) == (0.3, "loss", ("a", "b"))
    # What YAML takes for false is meant as it is written.
    assert load_recipe("ppo-small", parse_changes(["precision.mixed=no"])).precision.mixed == "no"
    for bad in ("nothing", "=1", "a=["):
        with pytest.raises(ConfigError):
            parse_changes([bad])


def test_known_sizes_are_the_published_ones() -> None:
    for size, billions in (("0.5B", 0.494), ("1.5B", 1.54), ("7B", 7.62), ("14B", 14.77)):
        recipe = load_recipe("ppo-small", {"model.name": f"Qwen/Qwen2.5-{size}-Instruct"})
        assert shape_of(recipe.model).parameters / 1e9 == pytest.approx(billions, abs=0.005)


def test_the_plan_counts_what_a_real_model_has(small: Any) -> None:
    folder, _, model = small
    recipe = load_recipe("ppo-small", {"model.name": str(folder), "critic.kind": "shared"})
    shape = shape_of(recipe.model)
    assert isinstance(shape, Shape)
    assert shape.parameters == shape.trainable == model.num_parameters()
    made = plan(recipe, Hardware(memory=1))
    assert made.fits
    assert made.memory["policy: weights"] == 4 * shape.parameters
    assert made.memory["policy: Adam"] == 8 * shape.parameters


def test_a_plan_for_adapters_is_that_of_their_model(small: Any, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(small[0])}))
    shapes = [shape_of(load_recipe("ppo-small", {"model.name": str(name)}).model) for name in (small[0], tmp_path)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], r".*\.1\.mlp\.(up|down)_proj"])
def test_the_plan_counts_the_adapters_that_are_trained(small: Any, targets: Any) -> None:
    from training.policy import load_model, with_lora

    folder, tokenizer, _ = small
    section = load_recipe("sft-small", {"model.name": str(folder), "model.lora": {"targets": targets}}).model
    model = with_lora(load_model(section, len(tokenizer)), section)
    assert shape_of(section).trainable == model.get_nb_trainable_parameters()[0]


def test_a_plan_needs_no_config_of_qwens_kind(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig

    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100, bos_token_id=1, eos_token_id=1)
    config.save_pretrained(tmp_path / "gpt2")
    recipe = load_recipe("ppo-small", {"model.name": str(tmp_path / "gpt2")})
    shape = shape_of(recipe.model)
    assert (shape.kv, shape.parameters) == (32, GPT2LMHeadModel(config).num_parameters())
    assert plan(recipe, Hardware()).fits
    MambaConfig(num_hidden_layers=1, hidden_size=32, vocab_size=100).save_pretrained(tmp_path / "mamba")
    with pytest.raises(ConfigError, match="cannot be planned: .* no attribute 'num_attention_heads'"):
        shape_of(recipe.model.model_copy(update={"name": str(tmp_path / "mamba")}))


def test_the_reference_and_the_samplers_copy_are_whole_on_every_device(small: Any) -> None:
    recipe = load_recipe("ppo-small", {"model.name": str(small[0])})
    alone, spread = plan(recipe, Hardware()), plan(recipe, Hardware(devices=8, sharded=True))
    assert spread.memory["policy: weights"] == alone.memory["policy: weights"] / 8
    for name in ("reference", "sampler's copy"):
        assert spread.memory[name] == 4 * spread.parameters


def test_sharding_and_adapters_take_less_memory() -> None:
    full = load_recipe("sft-qwen2.5-7b", {"model.lora": None, "model.dtype": "float32"})
    alone, spread = plan(full, Hardware()), plan(full, Hardware(devices=8, sharded=True))
    assert not alone.fits
    assert spread.fits
    assert spread.memory["model: Adam"] == alone.memory["model: Adam"] / 8
    lora = plan(load_recipe("sft-qwen2.5-7b"), Hardware())
    assert lora.trainable < alone.trainable / 20
    assert lora.fits
    assert lora.memory["model: weights"] / GIB == pytest.approx(14.2, abs=0.1)


def test_the_commands_plan_and_refuse_without_starting() -> None:
    planned = run("ppo", "ppo-qwen2.5-7b", "--plan")
    assert planned.exit_code == 0
    assert "memory per device" in planned.output
    assert run("sft", "sft-qwen2.5-14b", "--plan", "--memory", "8").exit_code == 1
    for arguments, text in [
        (("ppo", "sft-small"), "is a recipe for sft"),
        (("ppo", "nothing"), "There is no recipe"),
        (("sft", "sft-small", "--set", "epoch=3"), "did you mean 'epochs'"),
        (("sft", "sft-small", "--set", "model.name=/nowhere"), "No tokenizer at"),
        (("sft", "sft-qwen2.5-7b", "--plan", "--set", "model.lora.targets=[q_prj]"), "('q_prj',) fits no layer"),
    ]:
        refused = run(*arguments)
        assert refused.exit_code == 1
        assert text in refused.output
    assert "ppo-small" in run("recipes").output


def test_the_commands_are_declared_without_heavy_libraries() -> None:
    import subprocess
    import sys

    code = (
        "import sys, typer; from training.cli import add_commands; add_commands(typer.Typer());"
        "print([name for name in ('torch', 'transformers', 'trl', 'accelerate', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Supervised fine-tuning on what successful attempts wrote, by TRL's trainer.

The trainer is given our token-level examples: ids, and labels that are -100 wherever the model did not write. It
tokenises nothing, so what is learned is exactly what a rollout samples, for every chat template. Examples that are
longer than `max_tokens` are left out and counted; packed ones do not see each other.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from training.checkpoints import checkpoints, forget_later, open_output, steps_done
from training.config import SftRecipe
from training.data import Account, Example, build
from training.errors import CheckpointError, ConfigError
from training.policy import exported, load_model, lora_config
from training.render import fingerprint, load_tokenizer


def train_sft(recipe: SftRecipe, *, fresh: bool = False, console: Console | None = None) -> dict[str, float]:
    """Train by a recipe; the model is left in <output>/model. Returns the last metrics (train_loss, ...), or
    none where it was finished before.

    Goes on from the newest checkpoint of the output unless `fresh`. Raises ExampleError, ConfigError, CheckpointError.
    """
    tokenizer = load_tokenizer(recipe.model.name, recipe.model.template)
    limit = min(recipe.max_tokens, recipe.data.filters.max_tokens or recipe.max_tokens)
    filters = recipe.data.filters.model_copy(update={"max_tokens": limit})
    examples, account = build(recipe.data.records, tokenizer, filters, recipe.data.seed)
    print_account(account, console or Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0"))
    return fit(recipe, load_model(recipe.model, len(tokenizer)), tokenizer, examples, fresh=fresh)


def fit(
    recipe: SftRecipe,
    model: Any,
    tokenizer: Any,
    examples: list[Example],
    *,
    fresh: bool = False,
    callbacks: list[Any] | None = None,
) -> dict[str, float]:
    """Train `model` on these examples; the result is left in <output>/model: adapters alone where the recipe has some,
    unless it began from adapters. Returns the last metrics, or none where no step was left.

    Goes on from the newest checkpoint of the output unless `fresh`; later ones, which were cut or are of another life,
    are removed. Raises CheckpointError where it was made with another tokenizer or model, or the output holds a run of
    another method, and ConfigError.
    """
    open_output(recipe.output, recipe.method)
    found = None if fresh else newest_checkpoint(recipe.output)
    start, section = recipe.output / "start.json", recipe.model.model_dump(mode="json")
    if found is not None:
        if fingerprint(load_tokenizer(str(found))) != fingerprint(tokenizer):
            raise CheckpointError(f"{found} was made with another tokenizer: its token ids mean other texts.")
        try:
            before = json.loads(start.read_text())
        except (OSError, ValueError):
            raise CheckpointError(f"{start} cannot be read: nothing tells which model {found} was made from.") from None
        if before != section:
            raise CheckpointError(f"{found} was made from another model: {before}.")
    done = 0 if found is None else steps_done(found)
    trainer = make_trainer(recipe, model, tokenizer, examples, callbacks)
    main = trainer.is_world_process_zero()
    if main:
        forget_later(recipe.output, done)
        if found is None:
            start.write_text(json.dumps(section, indent=1))
    trainer.accelerator.wait_for_everyone()
    result = trainer.train(resume_from_checkpoint=None if found is None else str(found))
    if trainer.is_fsdp_enabled:
        # What is spread over devices is written to checkpoints alone.
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    with exported(recipe.model, model_folder(recipe), main=main) as place:
        trainer.save_model(str(place))
        if main:
            tokenizer.save_pretrained(place)
    if trainer.state.global_step == done:
        return {}
    return {name: float(value) for name, value in result.metrics.items()}


def newest_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint that was written to its end; the trainer writes its own state last."""
    whole = [path for path in checkpoints(output) if (path / "trainer_state.json").is_file()]
    return whole[-1] if whole else None


def make_trainer(
    recipe: SftRecipe, model: Any, tokenizer: Any, examples: list[Example], callbacks: list[Any] | None = None
) -> Any:
    """TRL's trainer over the examples. Raises ConfigError: `batch` cannot be dealt out to the processes, or the model
    has no layers for the adapters."""
    import torch
    import trl
    from datasets import Dataset  # type: ignore[import-untyped]

    api: Any = trl

    # As the launcher tells: to ask accelerate here would fix its state before the trainer configures it.
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    together = recipe.micro_batch * processes
    if recipe.batch % together:
        raise ConfigError(
            f"batch {recipe.batch} is no multiple of micro_batch {recipe.micro_batch} x {processes} processes"
            f" = {together}: set batch={math.ceil(recipe.batch / together) * together}, or start fewer processes."
        )
    settings = api.SFTConfig(
        output_dir=str(recipe.output),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.batch // together,
        max_length=recipe.max_tokens,
        packing=recipe.packing,
        train_sampling_strategy="group_by_length" if recipe.group_by_length else "random",
        bf16=recipe.precision.mixed == "bf16",
        fp16=recipe.precision.mixed == "fp16",
        use_cpu=not torch.accelerator.is_available(),
        activation_checkpointing=recipe.model.gradient_checkpointing,
        seed=recipe.seed,
        logging_steps=recipe.log_every,
        save_steps=recipe.save_every,
        save_total_limit=recipe.keep,
        report_to=["tensorboard"],
        logging_nan_inf_filter=False,
        dataset_num_proc=None,
    )
    dataset = Dataset.from_dict(
        {"input_ids": [list(one.ids) for one in examples], "labels": [one.labels() for one in examples]}
    )
    # TRL puts the adapters on itself: it knows what ZeRO-3 wants of their type.
    with lora_config(recipe.model) as config:
        return api.SFTTrainer(
            model=model,
            args=settings,
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=config,
            callbacks=callbacks,
        )


def print_account(account: Account, console: Console) -> None:
    """What was kept and why."""
    console.print(account.table())
    for line in account.lines():
        console.print(line, markup=False, highlight=False)


def model_folder(recipe: SftRecipe) -> Path:
    """Where the trained model is."""
    return recipe.output / "model"

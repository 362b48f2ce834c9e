"""The folder of a run: <output>/checkpoint-<steps> are its checkpoints. What has another name is left alone."""

import re
import shutil
from pathlib import Path

from training.errors import CheckpointError, ConfigError

_NAME = re.compile(r"checkpoint-(\d+)")
_SIGNS = {"sft": ("start.json", "trainer_state.json"), "ppo": ("metrics.jsonl", "state.json")}
"""By method, a file that a run leaves in its output, and one that it leaves in each checkpoint."""


def open_output(output: Path, method: str) -> None:
    """Make the folder where there is none.

    Raises ConfigError where it cannot be made, CheckpointError where it holds a run of another method, whose model and
    checkpoints would be removed.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The output {str(output)!r} cannot be made a folder: {error.strerror}.") from None
    for other, (begun, saved) in _SIGNS.items():
        signs = [output / begun, *(checkpoint / saved for checkpoint in checkpoints(output))]
        if other != method and any(sign.is_file() for sign in signs):
            raise CheckpointError(f"{output} holds a run of {other}: set output to another folder.")


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints of a run, whole or not, oldest first."""
    found = output.glob("checkpoint-*")
    return sorted((path for path in found if _NAME.fullmatch(path.name) and path.is_dir()), key=steps_done)


def steps_done(checkpoint: Path) -> int:
    """How many steps (SFT) or iterations (PPO) were done when it was saved."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def forget_later(output: Path, done: int) -> None:
    """Remove the checkpoints of more than `done` steps: they were cut or are of another life, and rotation and resuming
    would take them for newer than what is saved from here on."""
    for checkpoint in checkpoints(output):
        if steps_done(checkpoint) > done:
            shutil.rmtree(checkpoint)

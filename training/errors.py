"""Errors of training. All are for the operator; the command prints the text and exits with status 1.

TrainingError
├── ConfigError       raised when a recipe is not as the model of configurations says; names the nearest key
├── ExampleError      raised when records cannot become examples: none left, of the test split, of another tokenizer
└── CheckpointError   raised when a checkpoint is cut, or does not belong to this run or model
"""


class TrainingError(Exception):
    """Base of all errors raised by this folder."""


class ConfigError(TrainingError):
    """A recipe cannot be used. The text says where and what would be right."""


class ExampleError(TrainingError):
    """The records do not give the examples that were asked for."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be resumed from."""

"""Errors of training. All are for the operator; the command prints the text and exits with status 1.

TrainingError
├── ConfigError       raised when a recipe is not as the model of configurations says, or does not fit what is there
├── ExampleError      raised when records cannot become examples: none left, of the test split, of another tokenizer
└── CheckpointError   raised when a checkpoint is cut, or does not belong to this run, method or model
"""


class TrainingError(Exception):
    """Base of all errors raised by this folder."""


class ConfigError(TrainingError):
    """A recipe cannot be used. The text says where and what would be right."""


class ExampleError(TrainingError):
    """The records do not give the examples that were asked for."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be resumed from."""

"""Errors of tasks and data.

TaskError
├── UnknownTask      raised when a task id is not in the registry; the agent reads the text
├── AnswerError      raised when a submission is not of the declared form; the agent reads the text
├── DataError        raised when imported input is not as the format says; the operator reads the text
└── DataMissing      raised when a task's data are not registered; the text names the command that adds them
"""


class TaskError(Exception):
    """Base of all errors raised by this folder."""


class UnknownTask(TaskError):
    """No such task."""


class AnswerError(TaskError):
    """The submission does not have the declared form. The text says which form is wanted, never the truth."""


class DataError(TaskError):
    """The input of an import, or a registered dataset, is not as it should be."""


class DataMissing(TaskError):
    """The data that a task needs are not here."""

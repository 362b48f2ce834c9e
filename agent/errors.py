"""Errors of the agent, and its control flow: an interruption carries what is to be done about it.

AgentError
├── ToolFailed         a tool answered with an error; the text is what the model reads
├── EnvironmentLost    the server or the connection to it is gone; says nothing about the agent
├── ModelFailed        the model cannot be asked (endpoint down, key refused); says nothing about the agent
│   └── ModelRefused   asking again cannot help: the operator must mend something
├── ContextOverflow    raised by a model whose context the messages do not fit; the loop trims and asks again
├── Correction         raised in a step: its messages are appended to the history, and the loop goes on
├── EpisodeOver        raised in a step: the episode has ended, and how
└── RolloutError       a rollout cannot begin or go on; the operator reads the text
"""

from collections.abc import Sequence

from tasks.attempt import Message
from tasks.task import Grade, Outcome


class AgentError(Exception):
    """Base of all errors of this folder."""


class ToolFailed(AgentError):
    """A tool answered with an error. The text is what a model would read."""


class EnvironmentLost(AgentError):
    """The server, or the connection to it, is gone."""


class ModelFailed(AgentError):
    """The model could not be asked, after all retries."""


class ModelRefused(ModelFailed):
    """The model refuses in a way that no retry mends: a wrong key, an unknown name."""


class ContextOverflow(AgentError):
    """The messages, and room for an answer, do not fit the model's context."""


class Correction(AgentError):
    """`messages` tell the model what was wrong with its turn."""

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__(messages[-1].content if messages else "")
        self.messages = tuple(messages)


class EpisodeOver(AgentError):
    """The end of an episode. `kind` and `text` say why, where it was not graded."""

    def __init__(self, outcome: Outcome, kind: str = "", text: str = "", *, grade: Grade | None = None) -> None:
        super().__init__(text or kind or outcome)
        self.outcome: Outcome = outcome
        self.kind, self.text, self.grade = kind, text, grade


class RolloutError(AgentError):
    """A rollout cannot begin, or cannot go on."""

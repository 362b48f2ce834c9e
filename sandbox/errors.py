"""Errors of the sandbox.

SandboxError
├── SandboxUnavailable   raised when a backend cannot start here; the text names the cause and the remedies
├── SessionClosed        raised by any call on a session that has ended (killed, closed, expired)
├── SandboxFailure       raised when the backend itself failed: an infrastructure error, never a score
└── TransferError        raised when a file or variable cannot be read or written as asked; the agent may read the text
"""


class SandboxError(Exception):
    """Base of all errors raised by this folder."""


class SandboxUnavailable(SandboxError):
    """The backend cannot start on this machine. The operator reads the text."""


class SessionClosed(SandboxError):
    """The session has ended. The agent reads the text."""


class SandboxFailure(SandboxError):
    """The backend failed. The episode becomes an `infra_error`."""


class TransferError(SandboxError):
    """A file or a variable could not be moved in or out. The agent reads the text."""

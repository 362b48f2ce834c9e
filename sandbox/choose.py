"""Which sandbox a server starts with: the one that was named, or the strongest that this machine lets start.

A level is never lowered in silence: what was chosen, and why, is one line for the operator, and `unsafe-subprocess`
is only ever taken by name.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.base import Sandbox, SandboxConfig
from sandbox.errors import SandboxUnavailable
from sandbox.remedies import for_landlock, for_namespaces

SandboxFactory = Callable[[SandboxConfig], Sandbox]

AUTO = "auto"
UNSAFE = "unsafe-subprocess"
WEAK = ("landlock", UNSAFE)
"""Levels that serve no restricted data: `landlock` only where the operator says so, the unsafe one never."""


def embedded(config: SandboxConfig) -> Sandbox:
    """Namespaces: needs nothing but Linux. Imported when a server starts it, like all of them."""
    from sandbox.embedded.backend import EmbeddedSandbox

    return EmbeddedSandbox(config)


def landlock(config: SandboxConfig) -> Sandbox:
    """For machines where user namespaces are blocked."""
    from sandbox.landlock.backend import LandlockSandbox

    return LandlockSandbox(config)


def docker(config: SandboxConfig) -> Sandbox:
    """A container for each episode; set up by the file that MED_COPILOT_DOCKER names (sandbox.docker_engine)."""
    from sandbox.docker_engine.backend import DockerSandbox

    return DockerSandbox(config)


def unsafe_subprocess(config: SandboxConfig) -> Sandbox:
    """No isolation at all."""
    from sandbox.unsafe import UnsafeSandbox

    return UnsafeSandbox(config)


LEVELS: dict[str, SandboxFactory] = {
    "embedded": embedded,
    "landlock": landlock,
    "docker": docker,
    UNSAFE: unsafe_subprocess,
}


@dataclass(frozen=True)
class Choice:
    """`line` tells the operator which level it is and why."""

    name: str
    factory: SandboxFactory
    line: str


def choose(name: str = AUTO) -> Choice:
    """The level `name`, or for "auto" the first of embedded and landlock that works here; takes about a second.

    Raises SandboxUnavailable with the remedies where "auto" finds none, KeyError for an unknown name.
    """
    if name != AUTO:
        return Choice(name, LEVELS[name], _told(name))
    if (blocked := embedded_failure()) is None:
        return Choice("embedded", embedded, "sandbox: embedded (namespaces, the strongest level that needs no engine)")
    if (missing := landlock_failure()) is None:
        line = (
            f"sandbox: landlock, because the level embedded cannot start here ({blocked}). It serves restricted data "
            "only with --allow-restricted; `med-copilot doctor` names the remedies"
        )
        return Choice("landlock", landlock, line)
    raise SandboxUnavailable(
        f"No sandbox can start here. embedded: {blocked}. landlock: {missing}. Remedies: {for_namespaces()} Or, for "
        f"the level landlock: {for_landlock()} Or use Docker (--sandbox docker). For a first look without any "
        "isolation: --sandbox unsafe-subprocess."
    )


def embedded_failure() -> str | None:
    """Why the level embedded cannot start here; None where it can."""
    if sys.platform != "linux":
        return "this is not Linux"
    from sandbox.probe import required

    return next((f"{check.name}: {check.detail}" for check in required() if not check.ok), None)


def landlock_failure() -> str | None:
    """Why the level landlock cannot start here; None where it can."""
    if sys.platform != "linux":
        return "this is not Linux"
    from sandbox.landlock.probe import failure

    return failure()


def refuses_restricted(level: str, allowed: bool) -> str | None:
    """Why a level does not serve restricted data, with the remedy; None where it does."""
    if level not in WEAK or (allowed and level != UNSAFE):
        return None
    remedy = "Serve it where the level embedded can start (`med-copilot doctor` names the remedies), or with Docker"
    if level != UNSAFE:
        remedy += "; or, where its data agreement lets you, start the server with --allow-restricted"
    return f"This data set is restricted, and the sandbox of this server, {level}, does not serve such data. {remedy}."


def _told(name: str) -> str:
    if name == UNSAFE:
        from sandbox.unsafe import WARNING

        return f"WARNING: {WARNING}"
    return f"sandbox: {name}, as asked for"

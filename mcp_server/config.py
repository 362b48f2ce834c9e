"""What a server is started with. Nothing here touches the machine."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from sandbox.base import Limits, Sandbox, SandboxConfig
from sandbox.choose import SandboxFactory, choose
from tasks.data import DataRoot
from tasks.task import Frozen

Feedback = Literal["none", "verdict", "oracle"]
"""What a submission tells the agent. none: that it was accepted. verdict: also whether it was right. oracle: the
paper's protocol, in which every execution is graded as well and a right one ends the episode."""

CODE_CHARACTERS = 200_000
"""Longest code or command of one call."""
ANSWER_BYTES = 1_000_000
"""Largest submission, as JSON."""


class EpisodeLimits(Frozen):
    """Limits of one episode and of all together. Times are seconds.

    `turns`: calls an episode may make (submissions included; `read_output`, `close_episode` and `list_episodes` are
    free, up to `free_calls`). `call_seconds`: of one call; some clients give up at 60. `wall_seconds`: from start to
    end (outcome `limit`). `ttl_seconds`: without any call (outcome `abandoned`). `lock_seconds`: how long a call
    waits for another one of the same episode. `grade_seconds`: of grading, which has a budget of its own.
    """

    turns: int = Field(default=15, ge=1)
    call_seconds: float = Field(default=30.0, gt=0, le=50)
    wall_seconds: float = Field(default=3600.0, gt=0)
    ttl_seconds: float = Field(default=1800.0, gt=0)
    lock_seconds: float = Field(default=10.0, gt=0, le=50)
    grade_seconds: float = Field(default=120.0, gt=0)
    free_calls: int = Field(default=300, ge=1)
    max_episodes: int = Field(default=320, ge=1)
    output_characters: int = Field(default=20_000, ge=1_000)
    memory: int = 1 << 30
    disk: int = 256 << 20

    def session(self) -> Limits:
        """The limits of an episode's sandbox session."""
        return Limits(call_seconds=self.call_seconds, memory=self.memory, disk=self.disk, output=self.output_characters)


@dataclass(frozen=True)
class AppConfig:
    """Everything that a server needs. `sandbox` is a factory, or the name of a level, or "auto" (`sandbox.choose`).

    `allow_restricted`: the level landlock serves restricted data too. `wheelhouse`: what sessions may install.
    """

    data_root: DataRoot
    log_folder: Path
    sandbox: SandboxFactory | str = "embedded"
    feedback: Feedback = "verdict"
    limits: EpisodeLimits = field(default_factory=EpisodeLimits)
    pool: int = 2
    reap_seconds: float = 1.0
    allow_restricted: bool = False
    wheelhouse: Path | None = None

    def make_sandbox(self, config: SandboxConfig) -> Sandbox:
        """Raises SandboxUnavailable. Where a level is named or to be chosen, one line on stderr says which, and why."""
        if not isinstance(self.sandbox, str):
            return self.sandbox(config)
        choice = choose(self.sandbox)
        print(f"med-copilot: {choice.line}", file=sys.stderr, flush=True)
        return choice.factory(config)

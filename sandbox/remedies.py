"""What an operator can do where a level cannot start: one text for everyone who tells it."""

import os
from pathlib import Path

_HOST = (
    "Allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), "
    "kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile (Ubuntu 23.10 and later), "
    "user.max_user_namespaces above 0."
)
_CONTAINER = (
    "start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt "
    "systempaths=unconfined, and as an ordinary user (--user 1000) or with --cap-add SYS_ADMIN."
)


def in_container() -> bool:
    """Whether this looks like a container. One that leaves no mark is taken for a machine."""
    marked = any(Path(path).exists() for path in ("/.dockerenv", "/run/.containerenv"))
    return marked or "KUBERNETES_SERVICE_HOST" in os.environ


def for_namespaces() -> str:
    """What lets the level embedded start, what is likeliest here first."""
    if in_container():
        return f"Let this container make user namespaces: {_CONTAINER} If its host forbids them: {_HOST}"
    return f"{_HOST} In a container: {_CONTAINER}"


def for_landlock() -> str:
    """What lets the level landlock start."""
    return (
        "Use Linux 6.2 or later, with landlock in the kernel's parameter lsm=, and in a container a seccomp profile "
        "that allows landlock_create_ruleset, landlock_add_rule and landlock_restrict_self."
    )


def for_control_groups() -> str:
    """What lets the kernel hold each session to its limits."""
    if in_container():
        return (
            "A container's control groups cannot be written from inside: limit it as a whole (docker run --memory "
            "--pids-limit)."
        )
    return (
        "Start the server as root, or under systemd with delegation "
        "(systemd-run --user --scope -p Delegate=yes med-copilot serve)."
    )

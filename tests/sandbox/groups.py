"""Control groups of this machine, looked at from outside."""

import os
from pathlib import Path


def control_groups(name: str) -> list[str]:
    """Folders of groups that begin with `name`. Others may make and remove groups meanwhile, at which a glob fails."""
    return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if Path(folder).name.startswith(name)]

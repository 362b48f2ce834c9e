"""Control groups that a dead server left are removed; a living server's never, also of one that is not seen here."""

import os
import subprocess
from pathlib import Path

from sandbox.embedded.cgroup import sweep


def test_only_what_is_known_to_be_dead_is_swept(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = Path("/proc/self/ns/pid").stat().st_ino
    groups = {
        "dead": f"med-copilot-{ended.pid}-{here}-00000000",
        "alive": f"med-copilot-{os.getpid()}-{here}-00000000",
        "elsewhere": f"med-copilot-{ended.pid}-{here + 1}-00000000",
    }
    for name in groups.values():
        (tmp_path / name / "session").mkdir(parents=True)
    sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {groups["alive"], groups["elsewhere"]}

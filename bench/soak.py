"""`python -m bench.soak --episodes N`: many episodes in a row, one of ten hostile, and what is left of them.

An episode opens a session, makes three calls and closes it. Prints memory, descriptors, processes, control groups and
mounts of this server after 5%, but at least 100, and at the end. Ends with status 1 when one of them grew by more than
2%, or when an innocent episode failed.
"""

import argparse
import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.engine import containers, engine_processes, make
from bench.measure import descendants, load
from sandbox.base import Limits, Sandbox, SandboxConfig, SessionSpec
from sandbox.choose import LEVELS
from sandbox.docker_engine.backend import DockerSandbox
from sandbox.errors import SandboxError

GROWTH = 0.02
LIMITS = Limits(call_seconds=0.4, memory=128 << 20, disk=8 << 20, inodes=100, processes=16, output=2000)
INNOCENT = ("import numpy as np\nx = np.arange(100)", "float(x.mean())", "open('f', 'w').write('1')")
HOSTILE = (
    "import os\ntry:\n    while True: os.fork()\nexcept OSError: pass",
    "while True: pass",
    "held = []\nwhile True: held.append(bytearray(b'x') * (8 << 20))",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "import os\nfor fd in range(1024):\n    try: os.write(fd, b'\\xff' * 100)\n    except OSError: pass",
    "import subprocess\nfor _ in range(5): subprocess.Popen(['setsid', 'sleep', '300'])",
    "for n in range(1000): open(f'f{n}', 'wb').write(b'x' * 100_000)",
    "import sys\nwhile True: sys.stdout.write('x' * 65536)",
)


async def episode(sandbox: Sandbox, number: int) -> bool:
    """Whether it went as it should: an innocent one without a failure, a hostile one to its end."""
    spec = SessionSpec(limits=LIMITS if number % 10 == 9 else Limits())
    session = await sandbox.open(spec)
    try:
        if number % 10 != 9:
            results = [await session.execute(code) for code in INNOCENT]
            return [result.status for result in results] == ["ok"] * 3 and results[1].value == "49.5"
        for code in ("1", HOSTILE[number // 10 % len(HOSTILE)], "1"):
            if not session.closed:
                await session.execute(code)
        return True
    except SandboxError:
        return number % 10 == 9
    finally:
        await session.close()


def census(sandbox: Sandbox) -> dict[str, float]:
    """What this server holds, and for Docker what the engine does for it.

    Memory is the anonymous memory of the server's whole tree, pages that forks share counted once. File pages are left
    out: their proportional size changes with what others on the machine map.
    """
    gc.collect()
    engine = engine_processes() if isinstance(sandbox, DockerSandbox) else []
    tree = descendants(os.getpid(), *engine)
    spaces = {}
    for pid in tree:
        with suppress(OSError):
            space = Path(f"/proc/{pid}/ns/mnt").readlink()
            spaces[space] = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    # In the machine's own namespace others mount and unmount too: there, only what a container has for its root.
    own = spaces.pop(Path("/proc/self/ns/mnt").readlink(), [])
    mounts = sum(map(len, spaces.values())) + sum("/overlay2/" in line for line in own if engine)
    mine = f"med-copilot-{os.getpid()}-"
    groups = sum(mine in folder for folder, _, _ in os.walk("/sys/fs/cgroup"))
    return {
        "memory, MiB": sum(map(_anonymous, descendants(os.getpid()))) / 1024,
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "processes": len(tree),
        "control groups": groups,
        "mounts": mounts,
        **({"containers": containers()} if engine else {}),
    }


def _anonymous(pid: int) -> int:
    """KiB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


async def soak(level: str, episodes: int, say: Callable[[str], None]) -> bool:
    sandbox = make(level, SandboxConfig(packages=("numpy",), preload=("numpy",), pool=0))
    await sandbox.start()
    failed, first, began = 0, dict[str, float](), time.perf_counter()
    try:
        mark = min(episodes, max(100, episodes // 20))
        for number in range(episodes):
            failed += not await episode(sandbox, number)
            if number + 1 == mark:
                # Sessions that have ended are forgotten when the next is opened.
                await (await sandbox.open(SessionSpec())).close()
                first = census(sandbox)
            if (number + 1) % mark == 0:
                memory = _anonymous(os.getpid()) / 1024
                seconds = time.perf_counter() - began
                say(f"{number + 1} of {episodes} episodes, {seconds:.0f} s, {failed} failed, {memory:.1f} MiB here")
        await (await sandbox.open(SessionSpec())).close()
        last = census(sandbox)
    finally:
        await sandbox.close()
    seconds = time.perf_counter() - began
    table = Table(title=f"{episodes} episodes on {level}, {episodes / seconds:.1f}/s ({load()})", title_justify="left")
    for column in ("what", f"after {mark}", "at the end", "flat"):
        table.add_column(column)
    flat = True
    for what, before in first.items():
        good = last[what] <= before * (1 + GROWTH)
        flat &= good
        table.add_row(what, f"{before:.1f}", f"{last[what]:.1f}", "yes" if good else "no")
    table.add_row("innocent episodes that failed", "", str(failed), "yes" if not failed else "no")
    Console().print(table)
    return flat and not failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--episodes", type=int, default=20_000)
    parser.add_argument("--sandbox", choices=list(LEVELS), default="embedded")
    given = parser.parse_args()
    good = asyncio.run(soak(given.sandbox, given.episodes, lambda text: print(text, flush=True)))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

"""Control groups of sessions: memory and number of processes, on version 1 or 2, whichever can be written here."""

import os
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

_MOUNTS = Path("/proc/self/mounts")
_PREFIX = "med-copilot"
_REMOVALS = 200


class Cgroups:
    """Where groups can be made. `kind` is "v1", "v2" or "none"."""

    def __init__(self) -> None:
        self.run = ""
        self.kind, self._roots = _find()

    def start(self) -> None:
        """Make a group of this server's own and clear what dead servers left. Falls back to "none" where that fails."""
        self.close()
        self.run = f"{_PREFIX}-{os.getpid()}-{_namespace()}-{uuid4().hex[:8]}"
        for root in self._roots:
            sweep(root)
        try:
            for root in self._roots:
                (root / self.run).mkdir()
                if self.kind == "v2":
                    (root / self.run / "cgroup.subtree_control").write_text("+memory +pids")
        except OSError:
            self.close()
            self.kind, self._roots = "none", []

    def make(self, memory: int, processes: int) -> "Group | None":
        """A group for one session, or None where there are none. Raises OSError."""
        if not self._roots:
            return None
        name = uuid4().hex
        folders = [root / self.run / name for root in self._roots]
        for folder in folders:
            folder.mkdir()
        group = Group(folders, self.kind)
        try:
            group.limit(memory, processes)
        except OSError:
            group.remove()
            raise
        return group

    def folders(self) -> list[int]:
        """Descriptors of the folders that hold this server's group, for the one that clears up after a crash."""
        return [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for root in self._roots]

    def close(self) -> None:
        """Remove this server's group and what is left in it; a process that was killed holds its own for a moment."""
        for _ in range(_REMOVALS):
            if not self.run or all(_clear(root / self.run) for root in self._roots):
                return
            time.sleep(0.01)


class Group:
    """The control group of one session."""

    def __init__(self, folders: list[Path], kind: str) -> None:
        self._folders, self._kind = folders, kind

    def limit(self, memory: int, processes: int) -> None:
        for folder in self._folders:
            if self._kind == "v2":
                (folder / "memory.max").write_text(str(memory))
                with suppress(OSError):
                    (folder / "memory.swap.max").write_text("0")
                (folder / "pids.max").write_text(str(processes))
            elif (folder / "memory.limit_in_bytes").exists():
                (folder / "memory.limit_in_bytes").write_text(str(memory))
                with suppress(OSError):
                    (folder / "memory.memsw.limit_in_bytes").write_text(str(memory))
            elif (folder / "pids.max").exists():
                (folder / "pids.max").write_text(str(processes))

    def freeze(self, frozen: bool) -> None:
        """Hold every process of the group still, or let it go on. Without effect where there is no version 2.

        Only the freezer of version 2 is used: a kill ends what it holds, also when this server has died.
        """
        for folder in self._folders:
            with suppress(OSError):
                switch = os.open(folder / "cgroup.freeze", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(switch, b"1" if frozen else b"0")
                finally:
                    os.close(switch)

    def entries(self) -> list[int]:
        """Descriptors through which a process joins by writing "0"."""
        return [os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self._folders]

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the group for its memory."""
        for name in ("memory.events", "memory.oom_control"):
            for folder in self._folders:
                with suppress(OSError, ValueError):
                    for line in (folder / name).read_text().splitlines():
                        key, _, value = line.partition(" ")
                        if key == "oom_kill" and int(value) > 0:
                            return True
        return False

    def remove(self) -> bool:
        """Remove the group; False while a process is still in it."""
        return all(_remove(folder) for folder in self._folders)


def _find() -> tuple[str, list[Path]]:
    mounts = [line.split()[1:4] for line in _MOUNTS.read_text().splitlines()]
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = []
    for controller in ("memory", "pids"):
        for folder, kind, options in mounts:
            if kind == "cgroup" and controller in options.split(","):
                for path in (Path(folder + own.get(controller, "/")), Path(folder)):
                    if path not in found and os.access(path, os.W_OK):
                        found.append(path)
                        break
    if len(found) == 2:
        # Beside version 1, the second version may be mounted without controllers: enough for its freezer.
        for folder, kind, _ in mounts:
            if kind == "cgroup2" and len(found) == 2:
                for path in (Path(folder + own.get("", "/")), Path(folder)):
                    if len(found) == 2 and os.access(path, os.W_OK) and os.access(path / "cgroup.procs", os.W_OK):
                        found.append(path)
        return "v1", found
    for folder, kind, _ in mounts:
        if kind == "cgroup2":
            for path in (Path(folder + own.get("", "/")), Path(folder)):
                with suppress(OSError):
                    if os.access(path, os.W_OK) and {"memory", "pids"} <= set(
                        (path / "cgroup.subtree_control").read_text().split()
                    ):
                        return "v2", [path]
    return "none", []


def sweep(root: Path) -> None:
    """Remove the groups of servers that are gone, as far as that can be told: in another namespace, numbers differ."""
    for folder in root.glob(f"{_PREFIX}-*-{_namespace()}-*"):
        pid = folder.name.split("-")[2]
        if not Path("/proc", pid).exists():
            _clear(folder)


def _namespace() -> int:
    """The namespace of process numbers that this process is in."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _clear(folder: Path) -> bool:
    for child in folder.glob("*/"):
        _remove(child)
    return _remove(folder)


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True

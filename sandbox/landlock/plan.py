"""What sessions may read and run, and as which user: the plan that the zygote carries out."""

import mimetypes
import os
import shutil
import stat
import sys
import sysconfig
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from sandbox.base import SandboxConfig
from sandbox.embedded.plan import ENVIRONMENT, session_packages
from sandbox.landlock.inside import rules
from sandbox.landlock.inside.user import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, capabilities
from sandbox.landlock.places import SITECUSTOMIZE

_PROJECT = Path(__file__).resolve().parents[2]
_SYSTEM = ("/usr/bin", "/usr/lib", "/usr/lib64", "/usr/libexec", "/bin", "/lib", "/lib64", "/sbin")
_READ = (
    "/usr/share/zoneinfo", "/etc/localtime", "/etc/alternatives", "/etc/ld.so.cache", "/etc/nsswitch.conf",
    "/etc/os-release", "/etc/debian_version", *map(str, mimetypes.knownfiles),
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime",
)  # fmt: skip
_DEVICES = ("null", "zero", "full", "random", "urandom")


def make_plan(config: SandboxConfig, root: Path) -> dict[str, Any]:
    """The plan for an empty folder `root`, in which it puts what sessions share."""
    root.chmod(0o711)
    share(config, root)
    packages, programs = root / "packages", root / "bin"
    return {
        "root": str(root),
        "project": str(_PROJECT),
        "packages": str(packages),
        "preload": list(config.preload),
        "rules": _rules(config, packages, programs),
    }


def share(config: SandboxConfig, root: Path) -> None:
    """In `root`, folders with links to the declared packages, and to the interpreter as `python` and `python3`."""
    packages = root / "packages"
    packages.mkdir(mode=0o755)
    for path in session_packages(config):
        (packages / path.name).symlink_to(path)
    shutil.copyfile(Path(__file__).with_name("places.py"), packages / "session_places.py")
    (packages / "sitecustomize.py").write_text(SITECUSTOMIZE)
    programs = root / "bin"
    programs.mkdir(mode=0o755)
    for name in ("python", "python3"):
        (programs / name).symlink_to(interpreter())


def interpreter() -> Path:
    return Path(sys.executable).resolve()


def environment(root: Path) -> dict[str, str]:
    """The environment of the zygote, and with a few variables more of every session."""
    packages, programs = root / "packages", root / "bin"
    return {**ENVIRONMENT, "PATH": f"{programs}:/usr/bin:/bin", "PYTHONPATH": str(packages), "PYTHONNOUSERSITE": "1"}


def _rules(config: SandboxConfig, packages: Path, programs: Path) -> list[tuple[str, int]]:
    prefix = Path(sys.base_prefix).resolve()
    base = {"base": str(prefix), "platbase": str(prefix)}
    hidden = {Path(sysconfig.get_path(kind, vars=base)) for kind in ("purelib", "platlib")}
    hidden |= {Path("/usr/lib/python3/dist-packages"), _PROJECT}
    found: list[tuple[str, int]] = []
    folders = [Path(name) for name in _SYSTEM if Path(name).is_dir() and not Path(name).is_symlink()]
    if str(prefix) != "/usr":
        folders.append(prefix)
    for folder in folders:
        found += _below(folder, hidden)
    found += [(path, rules.READ) for path in _READ]
    found += [(f"/dev/{name}", rules.DEVICE) for name in _DEVICES]
    found += [(str(path), rules.RUN) for path in (*session_packages(config), packages, programs, interpreter())]
    return found


def _below(folder: Path, hidden: Collection[Path]) -> list[tuple[str, int]]:
    """Rules for all of a folder but what is hidden, whose names can be listed all the same."""
    within = {path for path in hidden if path.is_relative_to(folder)}
    if folder in within:
        return []
    if not within:
        return [(str(folder), rules.RUN)]
    found = [(str(folder), rules.READ_DIR)]
    for path in sorted(folder.iterdir()):
        if not path.is_symlink():
            found += _below(path, hidden)
        elif not any(path.resolve().is_relative_to(one) for one in hidden):
            found.append((str(path), rules.RUN))
    return found


class Users:
    """A user for each session where the server is root, so that the kernel keeps sessions apart by their users too."""

    def __init__(self, readable: Iterable[Path]) -> None:
        self._first = self._count = 0
        self._next = 0
        self.capability: int | None = None
        if os.getuid() != 0 or not (held := capabilities()) >> 7 & held >> 6 & 1:  # CAP_SETUID, CAP_SETGID
            return
        self._first, self._count = _free_range()
        self._next = int.from_bytes(os.urandom(4), "big")
        if not all(map(_open_to_all, readable)):
            able = [number for number in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if held >> number & 1]
            if not able:
                self._count = 0
                return
            self.capability = able[0]

    def take(self) -> int | None:
        """A user for one session; None where it has to be the server's own."""
        if not self._count:
            return None
        self._next += 1
        return self._first + self._next % self._count


def _free_range() -> tuple[int, int]:
    """User ids that belong to nobody, as far as they are known here: (first, how many)."""
    ends = [int(line.split()[0]) + int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    end = max(ends, default=0)
    if end > 0x7100_0000:
        return 0x7000_0000, 0x0100_0000
    return (end - 6000, 4000) if end > 10_000 else (0, 0)


def _open_to_all(path: Path) -> bool:
    """Whether any user can read a file or folder, as far as its own mode and those above it tell."""
    path = path.resolve()
    try:
        mode = path.stat().st_mode
        if not mode & stat.S_IROTH or stat.S_ISDIR(mode) and not mode & stat.S_IXOTH:
            return False
        if any(not folder.stat().st_mode & stat.S_IXOTH for folder in path.parents):
            return False
        return all(bool(child.stat().st_mode & stat.S_IROTH) for child in path.iterdir()) if path.is_dir() else True
    except OSError:
        return False

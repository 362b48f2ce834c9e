"""What the root of all sessions holds: the plan that the launcher carries out."""

import os
import sys
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from sandbox.base import SandboxConfig

PACKAGES = "/run/packages"
OURS = "/run/sandbox"
_HERE = Path(__file__).resolve().parent
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/work",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": PACKAGES,
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": "/tmp",
    # One thread: sessions share the cores, and a fork of a process with threads loses them.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}
_FILES = {
    "/etc/passwd": "root:x:0:0::/:/bin/false\nuser:x:1000:1000::/work:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "/etc/group": "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def make_plan(config: SandboxConfig, root: Path, sources: dict[str, int]) -> dict[str, Any]:
    """The launcher's plan for an empty folder `root`. `sources` numbers the folders of `config.sources`."""
    python = Path(sys.executable).resolve()
    prefix = Path(sys.base_prefix).resolve()
    binds = [(folder, folder) for folder in ("/usr/bin", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")]
    links = []
    for name in ("bin", "lib", "lib64", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            links.append((f"/{name}", os.readlink(path)))  # noqa: PTH115
        elif path.is_dir():
            binds.append((str(path), str(path)))
    binds += [(path, path) for path in ("/etc/alternatives", "/etc/ld.so.cache") if Path(path).exists()]
    if not prefix.is_relative_to("/usr/lib") and str(prefix) != "/usr":
        # Not the whole: environments may lie in it (pyenv), and in them the graders.
        binds += [(f"{prefix}/{name}", f"{prefix}/{name}") for name in ("bin", "lib", "lib64")]
    elif str(prefix) == "/usr" and not python.is_relative_to("/usr/bin"):
        binds.append((str(python), str(python)))
    base = {"base": str(prefix), "platbase": str(prefix)}
    libraries = {sysconfig.get_path(kind, vars=base) for kind in ("purelib", "platlib")}
    links += [("/usr/local/bin/python3", str(python)), ("/usr/local/bin/python", str(python))]
    if str(prefix).startswith("/usr/local"):
        links = [link for link in links if not link[0].startswith("/usr/local")]
    late = [(str(path), f"{PACKAGES}/{path.name}") for path in session_packages(config)]
    late += [(str(_HERE / "inside"), f"{OURS}/inside"), (str(_HERE.parent / "interpreter"), f"{OURS}/interpreter")]
    late += [(str(config.sources[name]), f"/run/sources/{number}") for name, number in sources.items()]
    if config.wheelhouse is not None:
        late.append((str(config.wheelhouse), "/wheels"))
    return {
        "root": str(root),
        "python": str(python),
        "drop": True,
        "links": links,
        "files": _FILES,
        "binds": [(source, target) for source, target in binds if Path(source).exists()],
        "covers": sorted(libraries | {"/usr/lib/python3/dist-packages"} | _ours(prefix)),
        "late_binds": late,
        "environment": ENVIRONMENT,
        "zygote": {"preload": list(config.preload)},
    }


def _ours(prefix: Path) -> set[str]:
    """Where this project and its environment lie: not to be seen, should a bound folder hold them."""
    folders = {Path(sys.prefix).resolve(), _HERE.parents[1]}
    return {str(folder) for folder in folders if not prefix.is_relative_to(folder)}


def session_packages(config: SandboxConfig) -> list[Path]:
    """The paths of what sessions can import: the declared packages, and pip."""
    return package_paths((*config.packages, "pip"))


def package_paths(modules: Iterable[str]) -> list[Path]:
    """The top-level files and folders of the distributions that hold `modules`, and of all they require.

    A module that is not installed is left out: it is absent inside as it is here.
    """
    owners = metadata.packages_distributions()
    waiting = [owners[module][0] for module in modules if module in owners]
    seen: set[str] = set()
    paths: set[Path] = set()
    while waiting:
        name = waiting.pop()
        if (key := name.lower().replace("_", "-")) in seen:
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        waiting += [_name(text) for text in distribution.requires or [] if "extra ==" not in text]
        # One line per file, its path first. `distribution.files` would make an object of each.
        first = {line.split("/")[0].split(",")[0] for line in (distribution.read_text("RECORD") or "").splitlines()}
        paths |= {Path(str(distribution.locate_file(name))) for name in first - {"", "..", "__pycache__", "bin"}}
    return sorted(path.resolve() for path in paths if path.exists())


def _name(requirement: str) -> str:
    end = next((place for place, sign in enumerate(requirement) if not (sign.isalnum() or sign in "-_.")), None)
    return requirement[:end]

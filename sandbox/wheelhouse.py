"""The wheelhouse: a folder of packages that the operator lets sessions install, since they have no network.

Sessions see it at `/wheels`, read-only, and pip there looks nowhere else (`sandbox.interpreter.installs`).
"""

import os
from pathlib import Path

from sandbox.errors import SandboxUnavailable

_ENDINGS = (".whl", ".tar.gz")
_FILL = "`pip wheel --wheel-dir {folder} PACKAGE` fills one, on a machine with a network and the Python of the sandbox."


def check_wheelhouse(folder: Path) -> Path:
    """The folder's real path. Raises SandboxUnavailable, with the remedy, where sessions could not install from it."""
    fill = _FILL.format(folder=folder)
    if not folder.is_dir():
        raise SandboxUnavailable(f"The wheelhouse {folder} is not a folder. {fill}")
    try:
        files = [path for path in folder.iterdir() if path.name.endswith(_ENDINGS)]
    except OSError as error:
        raise SandboxUnavailable(f"The wheelhouse {folder} cannot be read: {error.strerror}.") from None
    if not files:
        raise SandboxUnavailable(f"The wheelhouse {folder} holds no package ({' or '.join(_ENDINGS)} files). {fill}")
    # Sessions of a server that root started run as another user.
    if os.geteuid() == 0 and not (folder.stat().st_mode & 0o005 == 0o005 and all(map(_open_to_all, files))):
        raise SandboxUnavailable(f"The wheelhouse {folder} is not readable by all users: `chmod -R a+rX {folder}`.")
    return folder.resolve()


def offered(folder: Path) -> tuple[str, ...]:
    """The names of the packages in it, sorted. Raises nothing: a folder that cannot be read offers none."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return ()
    wheels = {name.partition("-")[0].replace("_", "-") for name in names if name.endswith(".whl")}
    sources = {name.removesuffix(".tar.gz").rpartition("-")[0] for name in names if name.endswith(".tar.gz")}
    return tuple(sorted(wheels | sources - {""}))


def _open_to_all(file: Path) -> bool:
    return bool(file.exists() and file.stat().st_mode & 0o004)

"""What makes `pip install` work in a session: a virtual environment of its own, and `/wheels` as pip's only source.

Being outside that environment, what the machine or the image provides counts as installed, but is never changed. pip
itself is one of these packages: it is not loaded here, and finds its settings in the environment variables.
"""

import os
import sys
import sysconfig

_PIP = '#!/bin/sh\nexec python3 -m pip "$@"\n'
_SETTINGS = {
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_CONFIG_FILE": os.devnull,  # those of the machine or the image may name registries
    "PIP_NO_INDEX": "1",
    "PIP_RETRIES": "0",
    "PIP_NO_INPUT": "1",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_NO_COMPILE": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}


def _folders(prefix: str) -> list[str]:
    base = {"base": prefix, "platbase": prefix}
    return list(dict.fromkeys(sysconfig.get_path(kind, "posix_prefix", base) for kind in ("purelib", "platlib")))


# Asked for while the interpreter is warmed: the first answer takes milliseconds.
_STANDARD = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")}
_OWN = _folders("")


def prepare(work: str) -> list[str]:
    """Make the environment, for Python and the shell too. Returns the folders that will hold installed packages.

    They exist from now on, so that an import sees what has come into them since another one failed. They lie in `/tmp`:
    `/work` is the agent's, and begins empty.
    """
    beside = os.path.dirname(work)  # noqa: PTH120
    temporary, wheels = os.path.join(beside, "tmp"), os.path.join(beside, "wheels")  # noqa: PTH118
    place = f"{temporary if os.path.isdir(temporary) else work}/.venv"  # noqa: PTH112
    own = [f"{place}{folder}" for folder in _OWN]
    try:
        _make(place, own)
    except OSError:  # the limits leave no room
        return []
    provided = [path for path in sys.path if path and not _is_standard(path)]
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        del os.environ[name]
    os.environ.update(_SETTINGS, PYTHONPATH=os.pathsep.join(dict.fromkeys([*own, *provided])))
    os.environ["PATH"] = os.pathsep.join([f"{place}/bin", os.environ.get("PATH", os.defpath)])
    if os.path.isdir(wheels):  # noqa: PTH112
        os.environ["PIP_FIND_LINKS"] = wheels
    sys.executable = f"{place}/bin/python3"
    return own


def _make(place: str, folders: list[str]) -> None:
    """A virtual environment, as `venv` makes it but for pip, which is provided."""
    python = os.path.realpath(sys.executable)
    for folder in (f"{place}/bin", *folders):
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    with open(f"{place}/pyvenv.cfg", "w") as file:  # noqa: PTH123
        file.write(f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\n")  # noqa: PTH120
    for name in ("python", "python3"):
        os.symlink(python, f"{place}/bin/{name}")  # noqa: PTH211
    for name in ("pip", "pip3"):
        with open(f"{place}/bin/{name}", "w", opener=_executable) as file:  # noqa: PTH123
            file.write(_PIP)


def _executable(path: str, flags: int) -> int:
    return os.open(path, flags, 0o755)


def _is_standard(path: str) -> bool:
    return path in _STANDARD or path.endswith(("/lib-dynload", ".zip"))

"""The paths of the contract (`/data`, `/work`, `/tmp`, `/wheels`) on machines where nothing can be mounted there.

A session has a folder of its own, its root, that holds `data`, `work` and so on; `/work/f` stands for `<root>/work/f`.
This file makes the same code run there as on every other backend:

- Python: `open`, the functions of `os`, `sqlite3.connect` and what is built on them take the paths of the contract
  and give them back (`os.getcwd`, `OSError.filename`). Python programs that a session starts load this file too.
- Programs: in the command line of whatever is started, shell scripts first of all, the paths are replaced as text.
- What the agent reads is turned back as text, outside the session.

It is a convenience and no part of the isolation. What it does not cover: paths that a program which is not Python
puts together itself or reads from a file, `ATTACH DATABASE`, and C libraries that open files on their own (their
files can be opened by relative paths, such as `../data/x`, or below $SESSION_ROOT).

Stdlib only, and no import of ours: it is loaded inside sessions.
"""

import _io
import builtins
import io
import os
import posixpath
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

NAMES = ("data", "work", "tmp", "wheels")
ROOT_VARIABLE = "SESSION_ROOT"
SITECUSTOMIZE = "import session_places\nsession_places.install_from_environment()\n"
"""For the Python programs that a session starts: beside it lies a copy of this file, `session_places.py`."""

_fspath, _getcwd, _getcwdb, _fsencode = os.fspath, os.getcwd, os.getcwdb, os.fsencode
_ONE = (
    "open", "stat", "lstat", "access", "chdir", "chmod", "chown", "lchown", "listdir", "scandir", "mkdir", "rmdir",
    "remove", "unlink", "readlink", "truncate", "utime", "statvfs", "mkfifo", "mknod", "pathconf",
)  # fmt: skip
_TWO = ("rename", "replace", "link", "symlink")
_PATHS = ("path", "src", "dst", "file", "database")
_ALTERNATIVES = "|".join(NAMES)


class Places:
    """The root of one session, and the folders behind its `data` and `wheels`. Without a root, nothing is changed."""

    def __init__(self, root: str | None = None, data: str | None = None, wheels: str | None = None) -> None:
        self.use(root, data, wheels)

    def use(self, root: str | None, data: str | None = None, wheels: str | None = None) -> None:
        self.root = root
        behind = [(folder, name) for folder, name in ((data, "/data"), (wheels, "/wheels")) if folder]
        self._behind = sorted(behind, key=lambda pair: -len(pair[0]))
        self._text: re.Pattern[str] | None = None
        if root is not None:
            # What sessions share lies beside the roots; the runtime may lie anywhere.
            real = [posixpath.dirname(root), *(folder for folder, _ in behind), *_runtime()]
            self._real = tuple(real)
            spelled = "|".join(re.escape(path) for path in real)
            # Not in the middle of a longer path, not where it is spelled out already, and not awk's /data/ { ... }.
            self._text = re.compile(
                rf"(?<![\w.~)}}\]/-])(?!(?:{spelled})(?![\w.-]))/(?=(?:{_ALTERNATIVES})(?![\w.-])(?!/(?:\s+\{{|,)))"
            )

    def inward(self, path: Any) -> Any:
        """The real path of a path in the session; whatever else is given comes back as it is."""
        root = self.root
        if root is None or type(path) is int:
            return path
        try:
            given = _fspath(path)
        except TypeError:
            return path
        text = given if isinstance(given, str) else given.decode("utf-8", "surrogateescape")
        if not text.startswith("/") or text.startswith(self._real):
            return path
        if "/../" in text or "//" in text or text.endswith("/.."):
            text = "/" + posixpath.normpath(text).lstrip("/")
        first = text[1:].partition("/")[0]
        if first not in NAMES:
            return path
        real = root + text
        return real if isinstance(given, str) else _fsencode(real)

    def outward(self, path: Any) -> Any:
        """The path in the session of a real path."""
        root = self.root
        if root is None or not isinstance(path, str | bytes):
            return path
        text = path if isinstance(path, str) else path.decode("utf-8", "surrogateescape")
        shown = self.text_outward(text)
        return shown if isinstance(path, str) else shown.encode("utf-8", "surrogateescape")

    def text_inward(self, text: Any) -> Any:
        """A command or an argument with the paths of the contract replaced by the real ones."""
        if self._text is None or not isinstance(text, str | bytes):
            return self.inward(text)
        if isinstance(text, bytes):
            return self.text_inward(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        return self._text.sub((self.root + "/").replace("\\", r"\\") if self.root else "/", text)

    def text_outward(self, text: str) -> str:
        """A text that the agent reads, with the real paths replaced by those of the contract."""
        if self.root and self.root in text:
            text = re.sub(rf"{re.escape(self.root)}(?=/(?:{_ALTERNATIVES})(?![\w.-]))", "", text)
        for folder, name in self._behind:
            text = text.replace(folder, name)
        return text

    def database(self, name: Any) -> Any:
        """The real name of a database for `sqlite3.connect`: a path, or a URI of one."""
        if isinstance(name, str) and name.startswith("file:"):
            path = name[5:].removeprefix("//")
            return f"file:{self.inward(path)}" if path.startswith("/") else name
        return self.inward(name)


def _runtime() -> list[str]:
    """Where this Python and its packages lie, as far as that could be mistaken for a path of the contract."""
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path}
    return sorted(folder for folder in folders if folder.startswith(tuple(f"/{name}/" for name in NAMES)))


def install(places: Places) -> None:
    """Make Python's own ways to a file go through `places`."""
    names: list[tuple[ModuleType, Sequence[str], int]] = [(os, _ONE, 1), (os, _TWO, 2)]
    for module, functions, count in names:
        for name in functions:
            if (original := getattr(module, name, None)) is not None:
                _put(name, original, _translated(original, places, places.inward, count))
    for module in (builtins, io, _io):
        for name in ("open", "open_code"):
            if (original := getattr(module, name, None)) is not None:
                setattr(module, name, _translated(original, places, places.inward, 1))
    connect = _translated(sqlite3.connect, places, places.database, 1)
    for module in (sqlite3, sqlite3.dbapi2):
        module.connect = connect  # type: ignore[attr-defined]
    _put("chmod", os.chmod, held_back_chmod(os.chmod, places))
    _put("getcwd", _getcwd, lambda: places.outward(_getcwd()))
    _put("getcwdb", _getcwdb, lambda: places.outward(_getcwdb()))
    _install_commands(places)


def _put(name: str, original: Callable[..., Any], wrapper: Callable[..., Any]) -> None:
    setattr(os, name, wrapper)
    if (posix := sys.modules.get("posix")) is not None:
        setattr(posix, name, wrapper)
    for known in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if original in known:
            known.add(wrapper)


def _translated(
    original: Callable[..., Any], places: Places, inward: Callable[[Any], Any], count: int
) -> Callable[..., Any]:
    def call(*given: Any, **named: Any) -> Any:
        if places.root is None:
            return original(*given, **named)
        arguments = [inward(one) for one in given[:count]]
        for name in _PATHS:
            if name in named:
                named[name] = inward(named[name])
        try:
            result = original(*arguments, *given[count:], **named)
        except OSError as error:
            if error.filename is not None:
                error.filename = places.outward(error.filename)
            if error.filename2 is not None:
                error.filename2 = places.outward(error.filename2)
            raise
        return places.outward(result) if isinstance(result, str | bytes) else result

    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__text_signature__"):
        try:
            setattr(call, name, getattr(original, name))
        except AttributeError:
            continue
    return call


def held_back_chmod(original: Callable[..., None], places: Places) -> Callable[..., None]:
    """Where the level lets no mode be changed, a file that is to be a program (one of pip's) is made anew as one."""

    def call(path: Any, mode: int, *more: Any, **named: Any) -> None:
        original(path, mode, *more, **named)
        if places.root is None or type(path) is int or more or named or not mode & 0o100:
            return
        if os.stat(path).st_mode & 0o100 or not posixpath.isfile(path):  # noqa: PTH116
            return
        new = f"{os.fsdecode(path)}.{os.getpid()}"
        empty = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        with open(path, "rb") as old, open(empty, "wb") as file:  # noqa: PTH123
            file.write(old.read())
        os.replace(new, path)  # noqa: PTH105

    return call


def _install_commands(places: Places) -> None:
    fork_exec: Any = getattr(subprocess, "_fork_exec", None)
    if fork_exec is not None:

        def start(arguments: Any, executables: Any, close: Any, keep: Any, folder: Any, *more: Any) -> Any:
            if places.root is not None and not isinstance(arguments, str | bytes):
                arguments = [places.text_inward(one) for one in arguments]
                executables = tuple(places.inward(one) for one in executables)
                folder = places.inward(folder)
            return fork_exec(arguments, executables, close, keep, folder, *more)

        subprocess._fork_exec = start  # type: ignore[attr-defined]
    for name in ("execv", "execve", "posix_spawn", "posix_spawnp"):
        if (original := getattr(os, name, None)) is not None:
            _put(name, original, _command(original, places))
    system = os.system
    _put("system", system, lambda command: system(places.text_inward(command)))


def _command(original: Callable[..., Any], places: Places) -> Callable[..., Any]:
    def call(path: Any, arguments: Sequence[Any], *more: Any, **named: Any) -> Any:
        return original(places.inward(path), [places.text_inward(one) for one in arguments], *more, **named)

    return call


def install_from_environment() -> None:
    """For the Python programs that a session starts: they know the same paths as its interpreter."""
    if not (root := os.environ.get(ROOT_VARIABLE)):
        return
    behind: list[str | None] = []
    for name in ("data", "wheels"):
        try:
            behind.append(os.readlink(f"{root}/{name}"))  # noqa: PTH115
        except OSError:
            behind.append(None)
    install(Places(root, *behind))

"""Files of a data root: walking, hashing, and swapping a folder in without a moment at which it is half there."""

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from tasks.errors import DataError
from tasks.task import Frozen

CANARY = re.compile(rb"canary-[0-9a-f]{32}")
OLD = ".old-"
"""Beginning of the name of a folder that was moved aside."""


class FileDigest(Frozen):
    """sha256 (hex) and size in bytes of one file."""

    sha256: str
    size: int


def walk(folder: Path) -> Iterator[Path]:
    """Everything below that is not a folder, links included, in a fixed order."""
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path)
        else:
            yield path


def digest(path: Path, *, refuse_canary: bool = False, sync: bool = False) -> FileDigest:
    sha, size, tail = hashlib.sha256(), 0, b""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
            size += len(chunk)
            if refuse_canary:
                if b"canary-" in (window := tail + chunk) and CANARY.search(window):
                    raise DataError(f"The public file {path.name} holds a canary: truth has leaked into it.")
                tail = chunk[-64:]
        if sync:
            os.fsync(file.fileno())
    return FileDigest(sha256=sha.hexdigest(), size=size)


def sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def swap(new: Path, place: Path) -> None:
    """Put `new` in `place`; what was there, if anything, is afterwards gone."""
    if not place.exists():
        new.rename(place)
        return
    if _exchange(new, place):
        delete(new)
        return
    # Not every file system can exchange. `DataRoot._recover` undoes a kill between the two renames.
    old = place.with_name(f"{OLD}{place.name}-{uuid4().hex}")
    place.rename(old)
    new.rename(place)
    delete(old)


def _exchange(left: Path, right: Path) -> bool:
    """Exchange two folders atomically (renameat2 of Linux); False where that cannot be done."""
    function = getattr(ctypes.CDLL(None), "renameat2", None)
    at_fdcwd, rename_exchange = -100, 2
    if function is None:
        return False
    return bool(function(at_fdcwd, os.fsencode(left), at_fdcwd, os.fsencode(right), rename_exchange) == 0)


def in_use(lock: Path) -> bool:
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)

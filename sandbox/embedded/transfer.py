"""Files in and out of a session's /work, through a descriptor of that folder and openat2, never by path."""

import errno
import os
import stat
from contextlib import suppress

from sandbox.embedded.inside import linux
from sandbox.errors import TransferError

_RESOLVE = 0x02 | 0x04 | 0x10  # NO_MAGICLINKS | NO_SYMLINKS | IN_ROOT
_DENIED = {
    errno.ELOOP: "is a link, or lies behind one",
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "lies below a file",
    errno.EACCES: "cannot be read",
    errno.ENXIO: "is not a regular file",
}


def read(work: int, path: str, max_bytes: int) -> bytes:
    """The content of a regular file below `work`. Raises TransferError."""
    descriptor = _open(work, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TransferError(f"{path!r} is not a regular file.")
        if status.st_size > max_bytes:
            raise TransferError(f"{path!r} has {status.st_size:,} bytes; at most {max_bytes:,} can be read.")
        content = b""
        while chunk := os.read(descriptor, max_bytes + 1 - len(content)):
            content += chunk
            if len(content) > max_bytes:
                raise TransferError(f"{path!r} grew past {max_bytes:,} bytes while it was read.")
        return content
    finally:
        os.close(descriptor)


def write(work: int, path: str, content: bytes) -> None:
    """Write a regular file below `work`, making its folders. Raises TransferError."""
    with linux.owner_of(work):
        _write(work, path, content)


def _write(work: int, path: str, content: bytes) -> None:
    parts = _parts(path)
    for depth in range(1, len(parts)):
        folder = _open(work, "/".join(parts[: depth - 1]) or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            with suppress(FileExistsError):
                os.mkdir(parts[depth - 1], 0o777, dir_fd=folder)
        except OSError as error:
            raise TransferError(f"The folder of {path!r} cannot be made: {error.strerror}.") from None
        finally:
            os.close(folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = _open(work, "/".join(parts), flags, 0o666)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise TransferError(f"{path!r} is not a regular file of one name.")
        os.ftruncate(descriptor, 0)
        while content:
            content = content[os.write(descriptor, content) :]
    except OSError as error:
        with suppress(OSError):
            os.ftruncate(descriptor, 0)  # half a file would keep the disk full
        raise TransferError(f"{path!r} cannot be written: {error.strerror}.") from None
    finally:
        os.close(descriptor)


def _parts(path: str) -> list[str]:
    relative = path.removeprefix("/work/")
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    # Lone surrogates name no file.
    if not path.isascii() and path != path.encode(errors="ignore").decode():
        raise TransferError(f"{path!r} does not name a file below /work.")
    if not parts or path.startswith("/") and not path.startswith("/work/") or ".." in parts or "\0" in path:
        raise TransferError(f"{path!r} does not name a file below /work.")
    return parts


def _open(work: int, path: str, flags: int, mode: int = 0) -> int:
    inside = path if path == "." else "/".join(_parts(path))
    try:
        return linux.openat2(work, inside, flags, mode, _RESOLVE)
    except OSError as error:
        reason = _DENIED.get(error.errno or 0, (error.strerror or "cannot be opened").lower())
        raise TransferError(f"{path!r} {reason}.") from None

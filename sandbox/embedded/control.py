"""The supervisor's side of a zygote: starting it, waiting for its words, and whether it lives."""

import asyncio
import socket
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from typing import IO, Any


def start(
    command: Sequence[str], descriptor: int, errors: IO[bytes], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process that inherits nothing but `descriptor`, and writes its complaints to `errors`."""
    return subprocess.Popen(
        command,
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        cwd="/",
        env=environment,
        start_new_session=True,
    )


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work`, which goes on where the one who waits is cancelled: a start is never left half done."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.shield(task)


def life_of(control: socket.socket) -> Callable[[], bool]:
    """Whether the zygote behind `control` still lives. It sends nothing after its start, so only an end is readable."""

    def alive() -> bool:
        try:
            return bool(control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    return alive


async def readable(connection: socket.socket) -> None:
    """Wait until there is something to read, or the other end is gone."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


def last_words(errors: IO[bytes]) -> str:
    """The last line of what a zygote complained of."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "the process that forks the sessions ended without a word"

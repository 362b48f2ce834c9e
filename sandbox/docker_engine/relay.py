"""A process of ours in a container whose session has services: listens on their ports, and passes connections on.

Started before any of the agent's code runs, over a stream of its own to the server (`sandbox.docker_engine.mux`). It
holds no secret and decides nothing: the server knows which services the session has. The agent's processes, of the
same user, cannot read or write its memory and descriptors; they can end it, and then have no services.
"""

import asyncio
import os
import socket
from typing import Any

from sandbox.docker_engine.mux import READY, Mux, MuxError
from sandbox.embedded.inside import linux, ports, seccomp

_PAUSE = 0.05


def main(options: dict[str, Any]) -> None:
    """Never returns. `options`: "ports", and how many connections are carried at a time ("most")."""
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    linux.refuse_core_dumps()
    listeners = [ports.listen(port) for port in options["ports"]]
    if seccomp.supported():
        seccomp.install(seccomp.build(os.uname().machine))
    asyncio.run(_serve(listeners, options["most"]))


async def _serve(listeners: list[socket.socket], most: int) -> None:
    os.set_blocking(0, False)
    os.set_blocking(1, False)
    mux = Mux(_write)
    asyncio.get_running_loop().add_reader(0, _read, mux)
    free = asyncio.Semaphore(most)
    async with asyncio.TaskGroup() as group:
        for place, listener in enumerate(listeners):
            listener.setblocking(False)
            group.create_task(_listen(mux, place, listener, free))
        await mux.send(READY)


async def _listen(mux: Mux, place: int, listener: socket.socket, free: asyncio.Semaphore) -> None:
    loop, carried = asyncio.get_running_loop(), set()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError:  # no descriptor is left
            await asyncio.sleep(_PAUSE)
            continue
        await free.acquire()
        task = asyncio.ensure_future(mux.open(place, connection))
        carried.add(task)
        task.add_done_callback(carried.discard)
        task.add_done_callback(lambda _: free.release())


def _read(mux: Mux) -> None:
    try:
        data = os.read(0, 1 << 16)
    except BlockingIOError:
        return
    if not data:
        os._exit(0)
    try:
        mux.feed(data)
    except MuxError:
        os._exit(1)


async def _write(frame: bytes) -> None:
    loop = asyncio.get_running_loop()
    while frame:
        try:
            frame = frame[os.write(1, frame) :]
        except BlockingIOError:
            writable = asyncio.Event()
            loop.add_writer(1, writable.set)
            await writable.wait()
            loop.remove_writer(1)

"""The interpreter's process in a container, from its start to its loop, which is all the code of ours that it holds.

Its standard input is the socket to the keeper, over which it has got its code; standard error is the container's until
it has come up.
"""

import importlib
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn

from sandbox.interpreter.main import run
from sandbox.interpreter.wire import Decoder, pack


def main(options: dict[str, Any]) -> NoReturn:
    """Never returns. Says that it is warm, and waits until it is taken.

    `options`: "preload" (modules) and "channel", the same socket once more, above the limit of open files, where code
    that closes all it can does not reach.
    """
    channel = options["channel"]
    os.set_inheritable(channel, False)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    sys.argv[:] = [""]
    for name in options["preload"]:
        with suppress(ImportError):
            importlib.import_module(name)
    os.write(channel, pack({"id": -1, "warm": True}))
    decoder, messages = Decoder(), list[dict[str, Any]]()
    while not messages:
        data = os.read(channel, 1 << 16)
        if not data:
            os._exit(0)
        messages = decoder.feed(data)
    run(channel, messages[0]["options"])

"""What tests of rollouts and of their commands share."""

import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.attempt import AttemptRecord
from tasks.record import RecordWriter, read_records


def keys(out: Path) -> Counter[tuple[str, int]]:
    """How many finished records there are of each attempt."""
    return Counter((one.task.id, one.attempt) for one in read_records([out]) if one.outcome != "infra_error")


def save(folder: Path, *records: AttemptRecord) -> None:
    writer = RecordWriter(folder)
    for one in records:
        writer.write(one)
    writer.close()


@contextmanager
def over_http(command: list[str], port: int) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen([*command, "--transport", "http", "--port", str(port)])
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None
            time.sleep(0.1)
        else:
            raise AssertionError("the server did not come")
        yield process
    finally:
        process.kill()
        process.wait()

"""The engine behind the `docker` SDK: blocking calls, to be made in threads. Every failure is a SandboxFailure."""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from sandbox.docker_engine.options import DockerOptions
from sandbox.errors import SandboxFailure, SandboxUnavailable

OWNER, SANDBOX = "med-copilot.owner", "med-copilot.sandbox"
_SECONDS = 60
_STOP_SECONDS = 10
_GRACE = 60.0
_REMEDY = (
    "The Docker sandbox cannot start here: {cause}. Remedies: start the engine, give this user access to its socket, "
    "or name another one by DOCKER_HOST."
)


class Engine:
    """One Docker engine, here or elsewhere. `owner` labels this server's containers."""

    def __init__(self, options: DockerOptions, owner: str) -> None:
        """Raises SandboxUnavailable with the remedy."""
        try:
            import docker
            from docker.utils import kwargs_from_env
        except ImportError:
            text = "The Docker sandbox needs the extra: pip install 'med-copilot[docker]'."
            raise SandboxUnavailable(text) from None
        arguments = {"base_url": options.engine} if options.engine else kwargs_from_env()
        self.owner = owner
        try:
            with _failures():
                _knock(arguments.get("base_url") or "unix:///var/run/docker.sock")
                self._api: Any = docker.APIClient(version="auto", timeout=_SECONDS, **arguments)
        except SandboxFailure as error:
            raise SandboxUnavailable(_REMEDY.format(cause=error)) from error

    def image(self, name: str) -> str:
        """The id of an image, so that all sessions have the same. Raises SandboxUnavailable where it is absent."""
        from docker.errors import ImageNotFound

        try:
            with _failures(ImageNotFound):
                return str(self._api.inspect_image(name)["Id"])
        except ImageNotFound:
            text = (
                f"The Docker engine has no image {name!r}. Build it (docker build -t med-copilot-sandbox "
                "sandbox/image), or pull the one that you name in the configuration."
            )
            raise SandboxUnavailable(text) from None

    def run(self, config: dict[str, Any]) -> tuple[str, socket.socket]:
        """Create a container, attach to it, start it. Raises SandboxFailure."""
        with _failures():
            container = str(self._api.create_container_from_config(config)["Id"])
        try:
            with _failures():
                stream = self._api.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
                connection = _take_over(stream)
        except BaseException:
            self.remove(container, False)
            raise
        try:
            with _failures():
                self._api.start(container)
        except BaseException:
            connection.close()
            self.remove(container, False)
            raise
        return container, connection

    def execute(self, container: str, command: Sequence[str]) -> socket.socket:
        """Start a process in a running container, attached to its standard streams. Raises SandboxFailure."""
        with _failures():
            process = self._api.exec_create(container, command, stdin=True)["Id"]
            return _take_over(self._api.exec_start(process, socket=True))

    def remove(self, container: str, ended: bool) -> bool:
        """Kill and remove; says whether the kernel ended it for its memory, if it has `ended` by itself.

        Raises SandboxFailure.
        """
        from docker.errors import APIError, NotFound

        out_of_memory = False
        with suppress(NotFound), _failures(NotFound):
            if ended:
                with suppress(APIError, SandboxFailure), _failures(APIError):
                    self._api.wait(container, timeout=_STOP_SECONDS)
                out_of_memory = bool(self._api.inspect_container(container)["State"]["OOMKilled"])
            try:
                self._api.remove_container(container, force=True, v=True)
            except APIError as error:
                if error.status_code != 409:  # 409: its removal is under way
                    raise
        return out_of_memory

    def remove_own(self) -> None:
        """Remove every container of this server. Raises SandboxFailure."""
        for entry in self._list(f"{OWNER}={self.owner}"):
            self.remove(entry["Id"], False)

    def reap(self, max_age: float, owner_lives: Callable[[str], bool | None]) -> int:
        """Remove what other servers left: containers that have ended, whose owner is known to be dead, or that are
        older than `max_age` seconds. Returns how many. Raises SandboxFailure."""
        with _failures():
            now = _time(self._api.info()["SystemTime"])
        count = 0
        for entry in self._list(SANDBOX):
            if orphaned(entry, now, self.owner, max_age, owner_lives):
                self.remove(entry["Id"], False)
                count += 1
        return count

    def close(self) -> None:
        self._api.close()

    def _list(self, label: str) -> list[dict[str, Any]]:
        with _failures():
            found: list[dict[str, Any]] = self._api.containers(all=True, filters={"label": label})
        return found


def orphaned(
    entry: dict[str, Any], now: float, own: str, max_age: float, owner_lives: Callable[[str], bool | None]
) -> bool:
    """Whether a container, as the engine lists it, is to be removed by the server `own`. Times are the engine's."""
    owner, age = entry["Labels"].get(OWNER, ""), now - entry["Created"]
    if owner == own:
        return False
    # A young container may be between its creation and its start.
    ended = entry["State"] != "running" and age > _GRACE
    return ended or age > max_age or owner_lives(owner) is False


@contextmanager
def _failures(*passed: type[Exception]) -> Iterator[None]:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except passed:
        raise
    except (DockerException, RequestException, OSError) as error:
        raise SandboxFailure(f"the Docker engine: {error}") from error


def _knock(address: str) -> None:
    """Connect once to a local engine: the SDK says less about what is wrong, and leaves its socket open."""
    if sys.platform != "win32" and address.startswith(("unix://", "http+unix://")):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(f"/{address.partition('://')[2].lstrip('/')}")


def _time(text: str) -> float:
    """Seconds of a time as the engine writes it, with nine digits after the point."""
    whole, _, rest = text.partition(".")
    zone = rest.lstrip("0123456789") or ("Z" if whole.endswith("Z") else "")
    return datetime.fromisoformat(whole.removesuffix("Z") + zone).timestamp()


def _take_over(stream: Any) -> socket.socket:
    """The plain, non-blocking socket of an attached stream. Nothing has been read from it before the start."""
    raw = getattr(stream, "_sock", stream)
    if type(raw) is socket.socket:
        connection = socket.socket(fileno=os.dup(raw.fileno()))
        _close(stream)
    else:  # TLS and SSH have no descriptor that can be waited for
        connection, theirs = socket.socketpair()
        threading.Thread(target=_pump, args=(raw, theirs, stream), daemon=True).start()
        threading.Thread(target=_pump, args=(theirs, raw, None), daemon=True).start()
    connection.setblocking(False)
    return connection


def _pump(source: Any, sink: Any, stream: Any) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    if stream is not None:
        sink.close()
        _close(stream)


def _close(stream: Any) -> None:
    # The response owns the connection; what lies between it and the stream is closed in its order.
    response = getattr(stream, "_response", None)
    if response is not None:
        response.close()
    stream.close()

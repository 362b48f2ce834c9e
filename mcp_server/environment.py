"""What episodes act on: the registry, the catalogues, and the sandbox, each made when it is first needed.

The sandbox starts beside the server, so that a client's first questions are answered at once; opening a session
waits for it. Blocking reads run in worker threads.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from mcp_server.config import AppConfig
from mcp_server.errors import Refused
from sandbox.base import Sandbox, SandboxConfig, Session, SessionSpec
from sandbox.choose import refuses_restricted
from sandbox.errors import SandboxError, SandboxFailure, SandboxUnavailable
from sandbox.wheelhouse import offered
from tasks.catalog import Catalog
from tasks.errors import DataMissing, TaskError
from tasks.families import get_family
from tasks.family import Family
from tasks.registry import Registry
from tasks.task import Task, Truth

_PATIENCE = 40.0
"""Seconds that a call waits for the sandbox to start."""


@dataclass(frozen=True)
class Prepared:
    """A task with what the server needs beside it. `missing` says why it cannot be started."""

    task: Task
    truth: Truth
    family: Family
    data_digest: str
    missing: str | None
    restricted: bool


class LazyRegistry:
    """The registry of a data root, opened at the first use, in whatever thread that is."""

    def __init__(self, config: AppConfig) -> None:
        self._root = config.data_root
        self._lock = threading.Lock()
        self._registry: Registry | None = None

    def get(self) -> Registry:
        """Raises DataError when the data root cannot be read."""
        with self._lock:
            if self._registry is None:
                self._registry = Registry(self._root)
            return self._registry

    def close(self) -> None:
        with self._lock:
            if self._registry is not None:
                self._registry.close()
                self._registry = None


class Environment:
    """One per served connection loop: the sandbox lives as long as it does."""

    def __init__(self, config: AppConfig, registry: LazyRegistry) -> None:
        self._config, self._registry = config, registry
        self._sandbox: Sandbox | None = None
        self._ready = anyio.Event()
        self._error: SandboxError | None = None
        self._catalogs: dict[str, Catalog] = {}
        self._catalog_lock = threading.Lock()

    async def start(self) -> None:
        """Start the sandbox. Never raises: whoever needs it reads the error."""
        try:
            sources = await anyio.to_thread.run_sync(self._sources)
            config = SandboxConfig(sources=sources, wheelhouse=self._config.wheelhouse, pool=self._config.pool)
            self._sandbox = await anyio.to_thread.run_sync(self._config.make_sandbox, config)
            await self._sandbox.start()
        except SandboxError as error:
            self._error = error
        except Exception as error:
            self._error = SandboxUnavailable(f"The sandbox could not be started: {type(error).__name__}: {error}")
        finally:
            self._ready.set()

    async def close(self) -> None:
        """End every session and the sandbox."""
        if self._sandbox is not None:
            await self._sandbox.close()
        with self._catalog_lock:
            for catalog in self._catalogs.values():
                catalog.close()
            self._catalogs.clear()

    async def unavailable(self) -> str | None:
        """Why the sandbox cannot be used here, once that is known; None when it is ready."""
        await self._ready.wait()
        return str(self._error) if self._error else None

    async def level(self) -> str | None:
        """The name of the sandbox's level, for the records; None where none could be started.

        Raises Refused while it is not known: an episode must not begin at a level that its data might not allow.
        """
        await self._started()
        return None if self._sandbox is None or self._error else self._sandbox.name

    def refuse_restricted(self, level: str | None, prepared: "Prepared") -> None:
        """Raises Refused with the remedy where the level does not serve the data of a task."""
        if prepared.restricted and level is not None:
            why = refuses_restricted(level, self._config.allow_restricted)
            if why is not None:
                raise Refused(why)

    async def open(self, spec: SessionSpec) -> Session:
        """Open a session. Raises Refused with the remedy where there is no sandbox, SandboxFailure, DataMissing."""
        await self._started()
        if self._error is not None:
            raise Refused(f"No episode can be started on this machine: {self._error}")
        assert self._sandbox is not None
        try:
            return await self._sandbox.open(spec)
        except KeyError:
            raise DataMissing(
                f"The data of dataset {spec.source!r} were not there when this server started; restart it."
            ) from None
        except OSError as error:
            raise SandboxFailure(f"a session could not be opened: {error}") from error

    async def _started(self) -> None:
        with anyio.move_on_after(_PATIENCE):
            await self._ready.wait()
        if not self._ready.is_set():
            raise Refused("The sandbox is still starting. Call start_task again in a few seconds.")

    async def offered(self) -> tuple[str, ...] | None:
        """The packages that sessions may install; None where the server was started without a wheelhouse."""
        if self._config.wheelhouse is None:
            return None
        return await anyio.to_thread.run_sync(offered, self._config.wheelhouse)

    async def registry(self) -> Registry:
        return await anyio.to_thread.run_sync(self._registry.get)

    async def prepare(self, task_id: str) -> "Prepared":
        """All that an episode needs to know of its task, in one visit to a worker thread. Raises UnknownTask."""
        return await anyio.to_thread.run_sync(self._prepare, task_id)

    def _prepare(self, task_id: str) -> "Prepared":
        registry = self._registry.get()
        task = registry.get(task_id)
        family = get_family(task.family)
        manifest = self._config.data_root.dataset(task.dataset)
        truth, missing = Truth(task_id=task.id, value=None, oracle="", canary=""), task.missing
        if missing is None:
            try:
                truth = registry.truth(task.id)
            except TaskError as error:
                missing = str(error)
        return Prepared(task, truth, family, manifest.data_digest(), missing, manifest.restricted)

    async def catalog(self, dataset: str) -> Catalog:
        """The catalogue of a dataset, opened once. Raises DataError."""
        if (known := self._catalogs.get(dataset)) is not None:
            return known
        return await anyio.to_thread.run_sync(self._open_catalog, dataset)

    def _open_catalog(self, dataset: str) -> Catalog:
        with self._catalog_lock:
            if dataset not in self._catalogs:
                self._catalogs[dataset] = Catalog(self._config.data_root.catalog_path(dataset))
            return self._catalogs[dataset]

    def _sources(self) -> dict[str, Path]:
        root = self._config.data_root
        return {manifest.name: root.public_folder(manifest.name) for manifest in root.datasets()}

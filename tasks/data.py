"""The data root: datasets, each with public files, a catalogue, a truth store and a manifest.

    index.sqlite                     all public tasks (tasks.index)
    datasets/<name>/manifest.json    what it is, and the sha256 and size of every other file
    datasets/<name>/public/          what sessions mount, read-only, at /data
    datasets/<name>/tasks.jsonl      the public tasks, from which the index can be rebuilt
    datasets/<name>/catalog.sqlite   behind request_info
    datasets/<name>/truth.sqlite     only the server reads it: mode 0600 in a folder of mode 0700

A dataset is there as a whole or not at all: it is built in a hidden folder beside its place and swapped in by one
rename. A kill at any moment leaves the old one or the new one; what it leaves over is swept by the next writer, and
an index that was not updated is updated by the next reader.
"""

import fcntl
import hashlib
import json
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from pydantic import Field, ValidationError

from tasks import catalog, index
from tasks.errors import DataError
from tasks.files import CANARY, OLD, FileDigest, delete, digest, in_use, swap, sync, walk
from tasks.task import Frozen, Task, Truth

Progress = Callable[[str, int, int], None]

ENVIRONMENT = "MED_COPILOT_DATA"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MANIFEST, _TRUTH, _TASKS, _CATALOG, _PUBLIC = (
    "manifest.json",
    "truth.sqlite",
    "tasks.jsonl",
    "catalog.sqlite",
    "public",
)
_DATABASES = (".sqlite", ".sqlite3", ".db")
_BUILDING = ".building-"


class Manifest(Frozen):
    """What a dataset is. `files` is keyed by path within the dataset's folder; `tasks` is how many it has."""

    name: str
    family: str
    title: str
    source: str
    version: str
    licence: str
    restricted: bool
    created: str
    seed: int | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, FileDigest] = Field(default_factory=dict)
    tasks: int = 0

    def data_digest(self) -> str:
        """sha256 (hex) over the public files: equal where two sessions see the same data."""
        lines = [f"{path} {file.sha256}" for path, file in sorted(self.files.items()) if path.startswith(f"{_PUBLIC}/")]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class DataRoot:
    """One data root. Making one touches nothing; folders appear with the first dataset."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.index_path = self.path / "index.sqlite"
        self._datasets = self.path / "datasets"

    @staticmethod
    def default_path() -> Path:
        """$MED_COPILOT_DATA, else the user's data folder."""
        if given := os.environ.get(ENVIRONMENT):
            return Path(given).expanduser()
        from platformdirs import user_data_path

        return user_data_path("med-copilot")

    def datasets(self) -> list[Manifest]:
        """The registered datasets by name. Raises DataError where a manifest cannot be read."""
        return [self.dataset(name) for name in self._names()]

    def dataset(self, name: str) -> Manifest:
        """Raises DataError: unknown (naming the known ones), or its manifest cannot be read."""
        try:
            return Manifest.model_validate_json((self._folder(name) / _MANIFEST).read_bytes())
        except (ValidationError, OSError) as error:
            raise DataError(f"The manifest of dataset {name!r} cannot be read: {error}") from None

    def public_folder(self, name: str) -> Path:
        return self._folder(name) / _PUBLIC

    def catalog_path(self, name: str) -> Path:
        return self._folder(name) / _CATALOG

    def truth_path(self, name: str) -> Path:
        return self._folder(name) / _TRUTH

    def writer(
        self,
        name: str,
        *,
        family: str,
        title: str,
        source: str,
        version: str,
        licence: str,
        restricted: bool,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> "DatasetWriter":
        """A context manager that registers dataset `name`, or replaces it, at its clean end. Raises DataError."""
        if not _NAME.fullmatch(name):
            raise DataError(f"{name!r} cannot name a dataset: 1 to 64 letters, digits, '_' or '-', no sign first.")
        manifest = Manifest(
            name=name,
            family=family,
            title=title,
            source=source,
            version=version,
            licence=licence,
            restricted=restricted,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=seed,
            options=options or {},
        )
        return DatasetWriter(self, manifest)

    def remove(self, name: str) -> None:
        """Forget a dataset and delete its files. Raises DataError when there is none of that name."""
        self._folder(name)
        with self._lock():
            folder = self._folder(name)
            gone = self._datasets / f"{OLD}{name}-{uuid4().hex}"
            # The index first: a dataset in no index is put back by the next reader, a listed one without data is not.
            index.update(self.index_path, {}, [name])
            folder.rename(gone)
            delete(gone)

    def refresh_index(self) -> None:
        """Bring the index up to date with the datasets, if it is not (a kill between the two, a lost index).

        Raises DataError when that cannot be done.
        """
        if index.indexed(self.index_path) == self._manifest_digests():
            return
        try:
            with self._lock():
                self._recover()
                self._reindex()
        except (OSError, sqlite3.Error, ValidationError) as error:
            raise DataError(f"The index of {self.path} cannot be brought up to date: {error}") from None

    def verify(self, progress: Progress | None = None) -> list[str]:
        """Read every file of every dataset again. Returns the problems found; [] means that all is as registered."""
        problems: list[str] = []
        for name in self._names():
            try:
                manifest = self.dataset(name)
            except DataError as error:
                problems.append(str(error))
                continue
            problems += self._verify_dataset(manifest, progress)
        if index.indexed(self.index_path) != self._manifest_digests():
            problems.append("index.sqlite is not up to date (it is rebuilt at the next start)")
        return problems

    def _verify_dataset(self, manifest: Manifest, progress: Progress | None) -> list[str]:
        name, folder, problems = manifest.name, self._folder(manifest.name), []
        present = {path.relative_to(folder).as_posix(): path for path in walk(folder)}
        present.pop(_MANIFEST, None)
        problems += [f"{name}: {path} is missing" for path in sorted(manifest.files.keys() - present.keys())]
        problems += [
            f"{name}: {path} is not in the manifest" for path in sorted(present.keys() - manifest.files.keys())
        ]
        known = sorted(present.keys() & manifest.files.keys())
        for done, path in enumerate(known):
            if progress:
                progress(f"{name}/{path}", done, len(known))
            kind, mode = stat.S_IFMT(present[path].lstat().st_mode), _mode(present[path])
            if kind != stat.S_IFREG:
                problems.append(f"{name}: {path} is not a regular file")
            elif digest(present[path]) != manifest.files[path]:
                problems.append(f"{name}: {path} has changed")
            elif path == _TRUTH and mode != 0o600:
                problems.append(f"{name}: {path} has mode {mode:04o}, not 0600")
            elif path.startswith(f"{_PUBLIC}/") and not mode & stat.S_IROTH:
                problems.append(f"{name}: {path} cannot be read by sessions (mode {mode:04o})")
        if (mode := _mode(folder)) & 0o077:
            problems.append(f"{name}: its folder has mode {mode:04o}, open to others")
        public = folder / _PUBLIC
        for inner in (public, *(p for p in public.rglob("*") if p.is_dir())):
            if inner.is_dir() and _mode(inner) & 0o005 != 0o005:
                problems.append(f"{name}: {inner.relative_to(folder)}/ cannot be entered by sessions")
        return problems

    def _names(self) -> list[str]:
        if not self._datasets.is_dir():
            return []
        return sorted(p.name for p in self._datasets.iterdir() if _NAME.fullmatch(p.name) and (p / _MANIFEST).is_file())

    def _folder(self, name: str) -> Path:
        folder = self._datasets / name
        if not _NAME.fullmatch(name) or not (folder / _MANIFEST).is_file():
            known = ", ".join(self._names()) or "none yet"
            raise DataError(f"There is no dataset {name!r} here. Datasets: {known}.")
        return folder

    def _manifest_digests(self) -> dict[str, str]:
        digests = {}
        for name in self._names():
            # Without the lock, a dataset may be removed between the two lines.
            with suppress(FileNotFoundError):
                digests[name] = hashlib.sha256((self._datasets / name / _MANIFEST).read_bytes()).hexdigest()
        return digests

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Held while a folder appears or goes and while the index is replaced, never while a dataset is built."""
        self._datasets.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _reindex(self) -> None:
        have, want = index.indexed(self.index_path), self._manifest_digests()
        changed = {name: (digest, self._tasks(name)) for name, digest in want.items() if have.get(name) != digest}
        index.update(self.index_path, changed, have.keys() - want.keys())

    def _tasks(self, name: str) -> Iterator[Task]:
        with (self._folder(name) / _TASKS).open("rb") as lines:
            for line in lines:
                yield Task.model_validate_json(line)

    def _recover(self) -> None:
        """Clear what a killed writer left. A folder that was moved aside returns if nothing took its place."""
        for path in self._datasets.glob(f"{OLD}*"):
            name = path.name.removeprefix(OLD).rsplit("-", 1)[0]
            if (path / _MANIFEST).is_file() and not (self._datasets / name).exists():
                path.rename(self._datasets / name)
            else:
                delete(path)
        for path in self._datasets.glob(f"{_BUILDING}*"):
            if not in_use(path / ".lock"):
                delete(path)
        for path in self.path.glob(f".{self.index_path.name}-*"):
            path.unlink()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class DatasetWriter:
    """Builds a dataset. Put the data files into `public`, `add` the tasks; all else happens at the end of `with`."""

    def __init__(self, root: DataRoot, manifest: Manifest) -> None:
        self.name, self.family = manifest.name, manifest.family
        self._root, self._manifest = root, manifest
        self._folder = root._datasets / f"{_BUILDING}{manifest.name}-{uuid4().hex}"
        self.public = self._folder / _PUBLIC
        self._ids: set[str] = set()
        self._databases: set[str] = set()

    def __enter__(self) -> Self:
        with self._root._lock():
            self._root._recover()
            self._folder.mkdir(mode=0o700)
            self._in_use = (self._folder / ".lock").open("w")
            fcntl.flock(self._in_use, fcntl.LOCK_EX)
        self.public.mkdir()
        self._tasks = (self._folder / _TASKS).open("w", encoding="utf-8", newline="\n")
        truth = self._folder / _TRUTH
        truth.touch(mode=0o600)
        truth.chmod(0o600)
        self._truth = sqlite3.connect(truth)
        self._truth.execute("PRAGMA journal_mode = OFF")
        self._truth.execute("PRAGMA synchronous = OFF")
        self._truth.execute("CREATE TABLE truths (task_id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._tasks.close()
            if kind is None:
                self._truth.commit()
            self._truth.close()
            if kind is None:
                self._finish()
        finally:
            self._in_use.close()
            delete(self._folder)

    def new_canary(self) -> str:
        """A fresh random token for one truth."""
        return f"canary-{os.urandom(16).hex()}"

    def add(self, task: Task, truth: Truth) -> None:
        """Add one task. Raises DataError: not of this dataset, a duplicate, or a public text that holds a canary."""
        if task.dataset != self.name or task.family != self.family or not task.id.startswith(f"{self.name}/"):
            raise DataError(f"Task {task.id!r} is not of dataset {self.name!r} and family {self.family!r}.")
        if truth.task_id != task.id:
            raise DataError(f"The truth of task {task.id!r} names task {truth.task_id!r}.")
        if task.id in self._ids:
            raise DataError(f"Task {task.id!r} is there twice.")
        if not CANARY.fullmatch(truth.canary.encode()):
            raise DataError(f"The truth of task {task.id!r} has no canary.")
        line = task.model_dump_json()
        if CANARY.search(line.encode()):
            raise DataError(f"The public part of task {task.id!r} holds a canary.")
        self._ids.add(task.id)
        if task.database is not None and task.missing is None:
            self._databases.add(task.database)
        self._tasks.write(line + "\n")
        self._truth.execute("INSERT INTO truths VALUES (?, ?)", (task.id, truth.model_dump_json()))

    def _finish(self) -> None:
        if not self._ids:
            raise DataError(f"Dataset {self.name!r} would have no task.")
        databases = self._settle_public()
        catalog.build(databases, self._folder / _CATALOG)
        files = {}
        for path in walk(self._folder):
            if path.name == ".lock" and path.parent == self._folder:
                continue
            public = path.is_relative_to(self.public)
            files[path.relative_to(self._folder).as_posix()] = digest(path, refuse_canary=public, sync=True)
            path.chmod(0o444 if public else 0o600)
        for folder in (self.public, *(p for p in self.public.rglob("*") if p.is_dir())):
            folder.chmod(0o755)
        manifest = self._manifest.model_copy(update={"files": files, "tasks": len(self._ids)})
        with (self._folder / _MANIFEST).open("w", encoding="utf-8") as file:
            file.write(
                json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
            )
            file.flush()
            os.fsync(file.fileno())
        sync(self._folder)
        with self._root._lock():
            (self._folder / ".lock").unlink()
            swap(self._folder, self._root._datasets / self.name)
            sync(self._root._datasets)
            self._root._reindex()

    def _settle_public(self) -> list[Path]:
        """Only regular files, databases without a journal beside them, and every database that a task names."""
        for path in walk(self.public):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise DataError(f"{path.relative_to(self.public)} is not a regular file.")
        databases = sorted(p for p in walk(self.public) if p.suffix in _DATABASES)
        for path in databases:
            try:
                # A database in WAL mode cannot be opened on a read-only mount.
                with closing(sqlite3.connect(path)) as db:
                    db.execute("PRAGMA journal_mode = DELETE").fetchone()
                    db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.DatabaseError as error:
                raise DataError(f"{path.relative_to(self.public)} is not a readable SQLite database: {error}") from None
        for name in sorted(self._databases):
            if self.public / name.removeprefix("/data/") not in databases:
                raise DataError(f"Tasks name the database {name!r}, which is not among the public files.")
        return databases

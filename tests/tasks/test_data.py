"""The data root: a dataset is there as a whole or not at all, and truth is closed to others."""

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data import ENVIRONMENT, DataRoot
from tasks.errors import DataError, TaskError
from tasks.registry import Registry
from tests.tasks.make import DATABASE, database, dataset, task, truth, writer

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path / "root")


def left_over(root: DataRoot) -> list[str]:
    """Names of what no finished dataset owns."""
    return [p.name for p in (root.path / "datasets").iterdir() if p.name.startswith(".")]


def beds(root: DataRoot, name: str = "d") -> set[int]:
    """What truth and public file say; one number when they are of one dataset."""
    registry = Registry(root)
    try:
        values = {registry.truth(one).value for one in registry.ids(dataset=name)}
    finally:
        registry.close()
    return values | {int((root.public_folder(name) / "beds.txt").read_text())}


def test_looking_at_a_data_root_makes_nothing(root: DataRoot) -> None:
    assert root.datasets() == []
    assert root.verify() == []
    assert Registry(root).list().total == 0
    assert not root.path.exists()


def test_default_path_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    assert DataRoot.default_path() == tmp_path
    monkeypatch.delenv(ENVIRONMENT)
    assert DataRoot.default_path().name == "med-copilot"


def test_a_dataset_is_what_its_manifest_says(root: DataRoot) -> None:
    with writer(root, "d", seed=7, options={"patients": 3}) as made:
        database(made.public / "ward.sqlite", {"beds": ("id INTEGER", [(1,)])})
        one = task("d", "a", data=(DATABASE,), database="/data/ward.sqlite")
        made.add(one, truth(made, one))
    manifest = root.dataset("d")
    assert (manifest.family, manifest.tasks, manifest.seed, manifest.options) == ("ward", 1, 7, {"patients": 3})
    assert set(manifest.files) == {"public/ward.sqlite", "tasks.jsonl", "catalog.sqlite", "truth.sqlite"}
    assert [found.name for found in root.datasets()] == ["d"]
    assert root.verify() == []
    assert left_over(root) == []


def test_the_data_digest_is_of_the_public_files_only(root: DataRoot) -> None:
    dataset(root, "d")
    first = root.dataset("d").data_digest()
    dataset(root, "d", tasks=[task("d", "other")])
    assert root.dataset("d").data_digest() == first
    dataset(root, "d", beds=2)
    assert root.dataset("d").data_digest() != first


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", ".a", "a b", "ä", "a" * 65, "a\n"])
def test_a_name_that_is_no_folder_name_is_refused(root: DataRoot, name: str) -> None:
    with pytest.raises(DataError, match="cannot name a dataset"):
        writer(root, name)
    with pytest.raises(DataError, match="There is no dataset"):
        root.public_folder(name)


@given(st.text(max_size=70))
def test_no_name_leads_out_of_the_root(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = DataRoot(tmp_path_factory.getbasetemp() / "never-made")
    for call in (root.dataset, root.public_folder, root.truth_path, root.catalog_path, root.remove):
        with pytest.raises(TaskError):
            call(name)
    assert not root.path.exists()


def test_an_unknown_dataset_names_the_known_ones(root: DataRoot) -> None:
    dataset(root, "known")
    with pytest.raises(DataError, match="known"):
        root.dataset("unknown")


@pytest.mark.parametrize("exchange", [True, False])
def test_a_replacement_is_whole(root: DataRoot, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr("tasks.files._exchange", lambda *_: False)
    dataset(root, beds=1)
    dataset(root, beds=2, tasks=[task("d", "c")])
    assert beds(root) == {2}
    assert Registry(root).ids() == ["d/c"]
    assert root.verify() == []
    assert left_over(root) == []


def test_an_error_inside_the_writer_changes_nothing(root: DataRoot) -> None:
    dataset(root, beds=1)
    with pytest.raises(ZeroDivisionError):
        dataset(root, beds=2, put=lambda public, canary: 1 // 0)
    assert beds(root) == {1}
    assert root.verify() == []
    assert left_over(root) == []


def test_a_dataset_without_tasks_is_refused(root: DataRoot) -> None:
    with pytest.raises(DataError, match="no task"), writer(root, "d"):
        pass
    assert root.datasets() == []
    assert left_over(root) == []


CHILD = """
import sys, time
from pathlib import Path
from tasks.data import DataRoot
from tests.tasks.make import dataset, task, truth, writer

root = DataRoot(Path(sys.argv[1]))
if sys.argv[2] == "wait":
    with writer(root, "d") as made:
        (made.public / "beds.txt").write_text("2")
        made.add(one := task("d", "a"), truth(made, one, 2))
        print("inside", flush=True)
        time.sleep(600)
for number in range(10, 10_000):
    dataset(root, beds=number)
    print(number, flush=True)
"""


def child(root: DataRoot, how: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CHILD, str(root.path), how]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def test_a_writer_that_is_killed_leaves_the_old_data_and_the_next_one_sweeps(root: DataRoot) -> None:
    dataset(root, beds=1)
    process = child(root, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    assert len(left_over(root)) == 1
    with writer(root, "other") as made:  # while the first one lives, its folder is left alone
        one = task("other", "a")
        made.add(one, truth(made, one))
        assert len(left_over(root)) == 2
    kill(process)
    assert beds(root) == {1}
    assert root.verify() == []
    assert len(left_over(root)) == 1
    dataset(root, "third")
    assert left_over(root) == []
    assert beds(root) == {1}


def test_a_kill_at_any_moment_leaves_one_whole_dataset(root: DataRoot) -> None:
    rng = random.Random(1)
    for _ in range(4):
        process = child(root, "replace")
        assert process.stdout is not None
        for _ in range(3):
            latest = int(process.stdout.readline())
        time.sleep(rng.uniform(0, 0.05))
        kill(process)
        found = beds(root)
        assert len(found) == 1
        assert min(found) >= latest
        assert root.verify() == []
    dataset(root, beds=1)
    assert left_over(root) == []


def test_a_kill_between_the_two_renames_of_a_swap_is_undone(root: DataRoot) -> None:
    dataset(root, beds=1)
    folder = root.path / "datasets" / "d"
    folder.rename(folder.with_name(".old-d-0123456789abcdef"))
    assert root.datasets() == []
    assert beds(root) == {1}
    assert root.verify() == []
    assert left_over(root) == []


def test_two_writers_at_once_do_not_sweep_each_other(root: DataRoot) -> None:
    with writer(root, "a") as left, writer(root, "b") as right:
        for made in (left, right):
            one = task(made.name, "x")
            made.add(one, truth(made, one))
    assert [manifest.name for manifest in root.datasets()] == ["a", "b"]
    assert root.verify() == []


def test_truth_is_closed_and_public_files_are_open_whatever_the_umask(root: DataRoot) -> None:
    before = os.umask(0o077)
    try:
        with writer(root, "d") as made:
            (made.public / "inner").mkdir()
            (made.public / "inner" / "notes.txt").write_text("notes")
            (made.public / "inner" / "notes.txt").chmod(0o600)
            one = task("d", "a")
            made.add(one, truth(made, one))
            assert stat.S_IMODE(made.public.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE((made.public.parent / "truth.sqlite").stat().st_mode) == 0o600
    finally:
        os.umask(before)
    folder = root.path / "datasets" / "d"
    modes = {p.relative_to(folder).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in (folder, *folder.rglob("*"))}
    assert modes == {
        ".": 0o700,
        "manifest.json": 0o600,
        "tasks.jsonl": 0o600,
        "catalog.sqlite": 0o600,
        "truth.sqlite": 0o600,
        "public": 0o755,
        "public/inner": 0o755,
        "public/inner/notes.txt": 0o444,
    }


def test_another_user_reads_a_bind_mount_of_public_and_not_the_truth(root: DataRoot, tmp_path: Path) -> None:
    tools = [shutil.which(name) for name in ("unshare", "mount", "setpriv")]
    mountable = all(tools) and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0
    if os.geteuid() != 0 or not mountable:
        pytest.skip("a bind mount and a second user need root here")
    dataset(root, beds=3)
    place = tmp_path / "data"
    place.mkdir()
    script = (
        'mount --bind "$1" "$2" && cd "$2" &&'
        ' setpriv --reuid 65534 --regid 65534 --clear-groups sh -c \'cat ./beds.txt; cat "$1" || true\' - "$3"'
    )
    given = [str(root.public_folder("d")), str(place), str(root.truth_path("d"))]
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "-", *given], capture_output=True, text=True)
    assert done.stdout == "3"
    assert "Permission denied" in done.stderr


def change(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(0o444)


def forget(root: DataRoot) -> None:
    root.index_path.unlink()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda root: change(root.public_folder("d") / "beds.txt", b"9"), "d: public/beds.txt has changed"),
        (lambda root: (root.public_folder("d") / "beds.txt").unlink(), "d: public/beds.txt is missing"),
        (lambda root: (root.public_folder("d") / "x").touch(), "d: public/x is not in the manifest"),
        (lambda root: (root.public_folder("d") / "x").symlink_to("/etc"), "d: public/x is not in the manifest"),
        (lambda root: root.truth_path("d").chmod(0o644), "d: truth.sqlite has mode 0644, not 0600"),
        (lambda root: root.truth_path("d").parent.chmod(0o755), "d: its folder has mode 0755, open to others"),
        (lambda root: root.public_folder("d").chmod(0o700), "d: public/ cannot be entered by sessions"),
        (
            lambda root: (root.public_folder("d") / "beds.txt").chmod(0o400),
            "d: public/beds.txt cannot be read by sessions (mode 0400)",
        ),
        (forget, "index.sqlite is not up to date (it is rebuilt at the next start)"),
    ],
)
def test_verify_finds_damage(root: DataRoot, damage: Callable[[DataRoot], None], problem: str) -> None:
    dataset(root)
    seen: list[str] = []
    assert root.verify(lambda what, done, total: seen.append(what)) == []
    assert "d/public/beds.txt" in seen
    damage(root)
    assert root.verify() == [problem]


def test_verify_finds_a_file_replaced_by_a_link(root: DataRoot) -> None:
    dataset(root)
    beds = root.public_folder("d") / "beds.txt"
    beds.rename(root.path / "beds.txt")
    beds.symlink_to(root.path / "beds.txt")
    assert root.verify() == ["d: public/beds.txt is not a regular file"]


def test_a_manifest_that_cannot_be_read_is_a_data_error_and_found_by_verify(root: DataRoot) -> None:
    dataset(root)
    (root.path / "datasets" / "d" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="manifest of dataset 'd'"):
        root.dataset("d")
    assert any("manifest of dataset 'd'" in problem for problem in root.verify())


def leak_into_text(public: Path, canary: str) -> None:
    """Across the boundary between two chunks of the reader."""
    (public / "leak.txt").write_text(" " * ((1 << 20) - 10) + canary)


def leak_into_database(public: Path, canary: str) -> None:
    database(public / "leak.sqlite", {"beds": ("note TEXT", [(canary,)])})


@pytest.mark.parametrize("leak", [leak_into_text, leak_into_database])
def test_a_canary_in_a_public_file_is_refused(root: DataRoot, leak: Callable[[Path, str], None]) -> None:
    with pytest.raises(DataError, match=r"leak\.\w+ holds a canary"):
        dataset(root, put=leak)
    assert root.datasets() == []


def test_a_canary_in_a_public_text_is_refused(root: DataRoot) -> None:
    with writer(root, "d") as made:
        first = task("d", "a")
        secret = truth(made, first)
        made.add(first, secret)
        second = task("d", "b", problem=f"What is {secret.canary}?")
        with pytest.raises(DataError, match="holds a canary"):
            made.add(second, truth(made, second))


def test_canaries_are_never_the_same(root: DataRoot) -> None:
    with writer(root, "d") as made:
        assert len({made.new_canary() for _ in range(1000)}) == 1000
        one = task("d", "a")
        made.add(one, truth(made, one))


@pytest.mark.parametrize(
    ("changes", "secret", "match"),
    [
        ({"dataset": "e"}, {}, "is not of dataset"),
        ({"family": "other"}, {}, "is not of dataset"),
        ({"id": "e/a"}, {}, "is not of dataset"),
        ({}, {"task_id": "d/other"}, "names task"),
        ({}, {"canary": "c"}, "no canary"),
        ({"id": "d/first"}, {}, "there twice"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(
    root: DataRoot, changes: dict[str, str], secret: dict[str, str], match: str
) -> None:
    with writer(root, "d") as made:
        first = task("d", "first")
        made.add(first, truth(made, first))
        one = task("d", "a", **changes)
        with pytest.raises(DataError, match=match):
            made.add(one, truth(made, one, **secret))
    assert root.dataset("d").tasks == 1


def link(public: Path, canary: str) -> None:
    (public / "link.txt").symlink_to("/etc/passwd")


def pipe(public: Path, canary: str) -> None:
    os.mkfifo(public / "pipe")


def no_database(public: Path, canary: str) -> None:
    (public / "ward.sqlite").write_text("this is no database, however long it is" * 100)


@pytest.mark.parametrize(
    ("put", "match"),
    [(link, "not a regular file"), (pipe, "not a regular file"), (no_database, "not a readable SQLite database")],
)
def test_public_files_that_cannot_be_served_are_refused(
    root: DataRoot, put: Callable[[Path, str], None], match: str
) -> None:
    with pytest.raises(DataError, match=match):
        dataset(root, put=put)
    assert root.datasets() == []
    assert left_over(root) == []


def test_a_database_that_a_task_names_must_be_there_unless_the_task_is_missing(root: DataRoot) -> None:
    named = task("d", "a", database="/data/ward.sqlite")
    with pytest.raises(DataError, match=r"ward.sqlite"):
        dataset(root, tasks=[named])
    dataset(root, tasks=[named.model_copy(update={"missing": "a table is not here"})])
    assert Registry(root).list().tasks[0].missing


def test_a_database_in_wal_mode_can_be_read_from_a_read_only_mount(root: DataRoot) -> None:
    with writer(root, "d") as made:
        with closing(sqlite3.connect(made.public / "ward.sqlite")) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE beds (id)")
            db.commit()
        one = task("d", "a", database="/data/ward.sqlite")
        made.add(one, truth(made, one))
    assert [path.name for path in root.public_folder("d").iterdir()] == ["ward.sqlite"]
    with closing(sqlite3.connect(root.public_folder("d") / "ward.sqlite")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_remove_forgets_one_dataset_and_its_files(root: DataRoot) -> None:
    dataset(root, "d")
    dataset(root, "e")
    registry = Registry(root)
    root.remove("d")
    assert registry.ids() == ["e/a", "e/b"]
    assert [manifest.name for manifest in root.datasets()] == ["e"]
    assert sorted(p.name for p in (root.path / "datasets").iterdir()) == ["e"]
    assert root.verify() == []
    with pytest.raises(DataError, match="There is no dataset 'd'"):
        root.remove("d")


@pytest.mark.parametrize("content", [None, b"", b"not a database" * 400])
def test_a_lost_or_damaged_index_is_rebuilt(root: DataRoot, content: bytes | None) -> None:
    dataset(root, "d")
    dataset(root, "e")
    root.index_path.unlink()
    if content is not None:
        root.index_path.write_bytes(content)
    assert Registry(root).ids() == ["d/a", "d/b", "e/a", "e/b"]
    assert root.verify() == []


def test_an_index_that_cannot_be_rebuilt_is_a_data_error(root: DataRoot) -> None:
    dataset(root)
    (root.path / "datasets" / "d" / "tasks.jsonl").write_text("{}\n")
    root.index_path.unlink()
    with pytest.raises(DataError, match="cannot be brought up to date"):
        Registry(root)

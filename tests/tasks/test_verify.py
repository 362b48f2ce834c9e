"""Verifying tasks in the real sandbox: what is right passes, and every kind of fault is found and named."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sandbox.base import SandboxConfig, SessionSpec
from sandbox.embedded.backend import EmbeddedSandbox
from sandbox.embedded.handle import EmbeddedSession
from sandbox.errors import SandboxFailure
from tasks.data import DataRoot, DatasetWriter
from tasks.errors import TaskError, UnknownTask
from tasks.families import FAMILIES, get_family
from tasks.family import (
    Attempt,
    FamilyBase,
    GenerateOptions,
    GradingContext,
    ImportOptions,
    ImportReport,
    Progress,
    Step,
)
from tasks.registry import Registry
from tasks.task import Grade, Submission, Task, Truth
from tasks.verify import MAX_FAILURES, FamilyResult, verify_tasks
from tests.tasks.make import DATABASE, database, task, truth, writer

pytestmark = pytest.mark.anyio

COUNT = (
    "import sqlite3\nanswer = sqlite3.connect('/data/ward.sqlite').execute('SELECT count(*) FROM beds').fetchone()[0]"
)


class Ward(FamilyBase):
    """How many beds; a truth's `extra` may name one more cheat, or another way to hand in."""

    name = "ward"
    title: ClassVar[str] = "Ward"
    categories: ClassVar[tuple[str, ...]] = ("count",)
    system_prompt: ClassVar[str] = "Count the beds."

    def import_release(
        self, source: Path, writer: DatasetWriter, options: ImportOptions, progress: Progress
    ) -> ImportReport:
        raise NotImplementedError

    def generate(self, writer: DatasetWriter, options: GenerateOptions, progress: Progress) -> ImportReport:
        raise NotImplementedError

    def oracle(self, task: Task, truth: Truth) -> Attempt:
        if "file" in truth.extra:
            return Attempt("oracle", (Step(truth.oracle),), "file", truth.extra["file"])
        return super().oracle(task, truth)

    def cheats(self, task: Task, truth: Truth) -> list[Attempt]:
        cheats = [
            Attempt("guess all", value=list(range(100))),
            Attempt("zero", value=0),
            Attempt("not json", (Step("answer = float('nan')"),), "variable", "answer"),
            Attempt("no variable", (), "variable", "answer"),
            Attempt("a file outside", (), "file", "../etc/passwd"),
            Attempt("two keys", (Step("""open('a.json', 'w').write('{"a": 3, "a": 3}')"""),), "file", "a.json"),
            Attempt("the end of the session", (Step("import os; os._exit(0)"), Step("1")), "variable", "answer"),
        ]
        if "cheat" in truth.extra:
            cheat = truth.extra["cheat"]
            cheats.append(Attempt(**(cheat | {"steps": tuple(Step(**step) for step in cheat.get("steps", ()))})))
        return cheats

    async def grade(self, task: Task, truth: Truth, submission: Submission, context: GradingContext) -> Grade:
        if truth.extra.get("grader") == "crashes":
            raise ZeroDivisionError("in the grader")
        if truth.extra.get("grader") == "session":
            session = await context.open_session(SessionSpec(source=task.dataset, database=task.database))
            found = await session.execute("SELECT count(*) AS n FROM beds", language="sql")
            assert found.status == "ok"
            assert "3" in (found.value or "")
        return await super().grade(task, truth, submission, context)


class Broken(EmbeddedSandbox):
    """A sandbox whose sessions cannot be opened any more."""

    async def open(self, spec: SessionSpec) -> EmbeddedSession:
        raise SandboxFailure("the backend is gone")


CANARY = "canary-" + "0" * 32
LUCKY = {"name": "lucky", "steps": [{"code": COUNT}], "submit": "variable", "value": "answer"}
FINE: dict[str, dict[str, Any]] = {
    "plain": {},
    "file": {"oracle": COUNT + "\nopen('a.json', 'w').write(str(answer))", "extra": {"file": "a.json"}},
    "session": {"extra": {"grader": "session"}},
}
FAULTY: dict[str, tuple[dict[str, Any], str]] = {
    "wrong": ({"oracle": "answer = 4"}, "oracle: scored 0, not 1"),
    "raises": ({"oracle": "answer = beds"}, "oracle: scored 0, not 1: NameError: name 'beds' is not defined"),
    "form": ({"oracle": "answer = 'three'"}, "oracle: scored 0, not 1: The answer does not have the form"),
    "ends": ({"oracle": "import os; os._exit(1)"}, "oracle: scored 0, not 1: "),
    "value": ({"extra": {"cheat": {"name": "lucky", "value": 3}}}, "lucky: scored 1, not 0"),
    "code": ({"extra": {"cheat": LUCKY}}, "lucky: scored 1, not 0"),
    "shown": ({"canary": CANARY, "oracle": f"{COUNT}\nprint('{CANARY}')"}, "oracle: the canary was seen"),
    "given": (
        {"canary": CANARY, "extra": {"cheat": {"name": "seen", "value": [CANARY]}}},
        "seen: the canary was seen",
    ),
}
CRASHING = {f"crash-{number:02}": {"extra": {"grader": "crashes"}} for number in range(MAX_FAILURES + 10)}


def register(root: DataRoot, name: str, tasks: dict[str, dict[str, Any]], **fields: Any) -> Registry:
    """Tasks by local id, each with what is changed in its truth."""
    with writer(root, name) as made:
        database(made.public / "ward.sqlite", {"beds": ("id INTEGER", [(1,), (2,), (3,)])})
        for local, changes in tasks.items():
            one = task(name, local, **({"data": (DATABASE,), "database": "/data/ward.sqlite"} | fields))
            made.add(one, truth(made, one, 3, **({"oracle": COUNT} | changes)))
    return Registry(root)


@pytest.fixture(autouse=True)
def ward(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(FAMILIES, "ward", f"{__name__}:Ward")
    get_family.cache_clear()
    yield
    get_family.cache_clear()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return register(DataRoot(tmp_path_factory.mktemp("fine")), "fine", FINE)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    tasks = {local: changes for local, (changes, _) in FAULTY.items()} | CRASHING
    return register(DataRoot(tmp_path_factory.mktemp("faulty")), "faulty", tasks)


@pytest.fixture(scope="module")
async def sandbox(anyio_backend: str, fine: Registry, faulty: Registry) -> AsyncIterator[EmbeddedSandbox]:
    sources = {name: root.root.public_folder(name) for name, root in (("fine", fine), ("faulty", faulty))}
    sandbox = EmbeddedSandbox(SandboxConfig(sources=sources, packages=(), pool=0, preload=("sqlite3",)))
    await sandbox.start()
    yield sandbox
    await sandbox.close()


async def verify(registry: Registry, sandbox: EmbeddedSandbox, **options: Any) -> FamilyResult:
    (result,) = await verify_tasks(registry, sandbox, **options)
    return result


async def test_a_family_without_fault_passes(fine: Registry, sandbox: EmbeddedSandbox) -> None:
    seen: list[tuple[str, int, int]] = []
    result = await verify(fine, sandbox, progress=lambda *now: seen.append(now))
    assert (result.failures, result.infra_errors) == ((), ())
    assert result.passed
    assert (result.family, result.tasks, result.oracle_passed, result.nothing_zero) == ("ward", 3, 3, 3)
    assert (result.cheats, result.cheats_zero) == (21, 21)
    assert result.seconds > 0
    assert seen == [("verify ward", done, 3) for done in (1, 2, 3)]


@pytest.mark.parametrize("local", FAULTY)
async def test_a_fault_is_named(faulty: Registry, sandbox: EmbeddedSandbox, local: str) -> None:
    result = await verify(faulty, sandbox, ids=[f"faulty/{local}"])
    assert result.infra_errors == ()
    assert len(result.failures) == 1
    assert result.failures[0].startswith(f"faulty/{local}: {FAULTY[local][1]}")
    assert not result.passed
    assert (result.oracle_passed + result.cheats_zero, result.nothing_zero) == (result.cheats, 1)


async def test_a_grader_that_crashes_is_a_failure_and_many_failures_are_counted(
    faulty: Registry, sandbox: EmbeddedSandbox
) -> None:
    one = await verify(faulty, sandbox, ids=["faulty/crash-00"])
    assert "faulty/crash-00: guess all: the grader crashed: ZeroDivisionError: in the grader" in one.failures
    assert (one.tasks, one.oracle_passed, one.nothing_zero) == (1, 0, 1)
    some = await verify(faulty, sandbox, ids=[f"faulty/crash-{number:02}" for number in range(20)])
    assert len(some.failures) == MAX_FAILURES + 1
    assert some.failures[-1] == f"... and {20 * len(one.failures) - MAX_FAILURES} more"


async def test_a_failure_of_the_sandbox_is_no_score(tmp_path: Path, fine: Registry, sandbox: EmbeddedSandbox) -> None:
    result = await verify(fine, Broken(SandboxConfig()), ids=["fine/plain"])
    assert result.infra_errors == ("fine/plain: the backend is gone",)
    assert (result.tasks, result.oracle_passed, result.nothing_zero, result.cheats) == (0, 0, 0, 0)
    assert result.failures == ()
    assert not result.passed
    result = await verify(register(DataRoot(tmp_path), "other", {"a": {}}), sandbox)
    assert result.infra_errors == ("other/a: the sandbox was started without the source 'other'",)


async def test_a_lost_truth_is_a_failure(tmp_path: Path, sandbox: EmbeddedSandbox) -> None:
    registry = register(DataRoot(tmp_path), "other", {"a": {}})
    registry.root.truth_path("other").unlink()
    result = await verify(registry, sandbox)
    assert (result.tasks, result.oracle_passed) == (1, 0)
    assert result.failures[0].startswith("other/a: DataMissing: The truth store")


async def test_tasks_whose_data_are_missing_are_left_out(tmp_path: Path, sandbox: EmbeddedSandbox) -> None:
    registry = register(DataRoot(tmp_path), "other", {"a": {"oracle": "answer = 0"}}, missing="a table is not here")
    result = await verify(registry, sandbox)
    assert (result.tasks, result.failures, result.infra_errors) == (0, (), ())


async def test_the_tasks_are_those_of_the_ids_and_of_the_family(fine: Registry, sandbox: EmbeddedSandbox) -> None:
    assert (await verify(fine, sandbox, family="ward", ids=["fine/plain"], concurrency=1)).tasks == 1
    assert (await verify(fine, sandbox, family="ward", concurrency=1)).tasks == 3
    assert await verify_tasks(fine, sandbox, family="other", ids=["fine/plain"]) == []
    with pytest.raises(TaskError, match="ward"):
        await verify_tasks(fine, sandbox, family="other")
    with pytest.raises(UnknownTask):
        await verify_tasks(fine, sandbox, ids=["fine/never"])

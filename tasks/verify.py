"""Verifying tasks without any model: every oracle must score 1, the do-nothing agent and every cheat 0.

Attempts run in real sandbox sessions and are graded by the family's own grader, as an agent's would be. The agent
that does nothing scores 0 by rule (no submission, no score); it is run so that an attempt that hands nothing in is
seen to take that path. A session or a submission that shows a canary is a failure whatever it scores.

Failures of the sandbox itself say nothing about a task: the task is left out of all figures and listed apart.
Left out too: tasks that cannot be started here because data are missing.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from sandbox.base import Execution, Sandbox, Session, SessionSpec
from sandbox.errors import SandboxFailure, SandboxUnavailable, SessionClosed, TransferError
from tasks.answers import loads_strict
from tasks.errors import AnswerError
from tasks.families import get_family
from tasks.family import Attempt, Family, GradingContext, Progress
from tasks.registry import Registry
from tasks.task import Frozen, Submission, Task, Truth

MAX_FAILURES = 50
"""Texts that a result lists before it only counts."""
NOTHING = Attempt("nothing", submit="nothing")
_TEXT = 300


class FamilyResult(Frozen):
    """What verifying one family found.

    `oracle_passed` and `nothing_zero` count tasks, `cheats_zero` counts cheats. `failures` and `infra_errors` are
    short texts that begin with the task's id, at most 50 of each and then how many more there are. `seconds` is wall
    time.
    """

    family: str
    tasks: int
    oracle_passed: int
    nothing_zero: int
    cheats: int
    cheats_zero: int
    seconds: float
    failures: tuple[str, ...] = ()
    infra_errors: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.failures and not self.infra_errors


async def verify_tasks(
    registry: Registry,
    sandbox: Sandbox,
    *,
    ids: Sequence[str] | None = None,
    family: str | None = None,
    concurrency: int = 4,
    progress: Progress | None = None,
) -> list[FamilyResult]:
    """Verify the tasks `ids` (default: all), of one `family` or of each; one result per family, by name.

    `sandbox` is started, and each dataset's public folder is its source of the dataset's name. `concurrency` tasks
    are under way at once. Raises UnknownTask, and TaskError for a family that has no tasks here.
    """
    results = []
    for name, chosen in _by_family(registry, ids, family).items():
        began = time.perf_counter()
        tally = await _verify_family(registry, sandbox, name, chosen, concurrency, progress)
        results.append(tally.result(name, time.perf_counter() - began))
    return results


def _by_family(registry: Registry, ids: Sequence[str] | None, family: str | None) -> dict[str, list[str]]:
    if ids is None:
        names = [family] if family is not None else [summary.name for summary in registry.families()]
        return {name: registry.ids(family=name) for name in names}
    found: dict[str, list[str]] = {}
    for task_id in ids:
        name = registry.get(task_id).family
        if family in (None, name):
            found.setdefault(name, []).append(task_id)
    return dict(sorted(found.items()))


@dataclass
class _Tally:
    tasks: int = 0
    oracle_passed: int = 0
    nothing_zero: int = 0
    cheats: int = 0
    cheats_zero: int = 0
    failures: list[str] = field(default_factory=list)
    infra_errors: list[str] = field(default_factory=list)

    def add(self, other: "_Tally") -> None:
        self.tasks += other.tasks
        self.oracle_passed += other.oracle_passed
        self.nothing_zero += other.nothing_zero
        self.cheats += other.cheats
        self.cheats_zero += other.cheats_zero
        self.failures += other.failures

    def result(self, family: str, seconds: float) -> FamilyResult:
        return FamilyResult(
            family=family,
            tasks=self.tasks,
            oracle_passed=self.oracle_passed,
            nothing_zero=self.nothing_zero,
            cheats=self.cheats,
            cheats_zero=self.cheats_zero,
            seconds=seconds,
            failures=_capped(self.failures),
            infra_errors=_capped(self.infra_errors),
        )


def _capped(texts: list[str]) -> tuple[str, ...]:
    shown = [text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…" for text in sorted(texts)[:MAX_FAILURES]]
    return (*shown, f"... and {len(texts) - MAX_FAILURES} more") if len(texts) > MAX_FAILURES else tuple(shown)


async def _verify_family(
    registry: Registry, sandbox: Sandbox, name: str, ids: list[str], concurrency: int, progress: Progress | None
) -> _Tally:
    total, done, waiting = _Tally(), 0, iter(ids)

    async def work() -> None:
        nonlocal done
        for task_id in waiting:
            try:
                task = registry.get(task_id)
                if task.missing is None:
                    total.add(await _verify_task(sandbox, get_family(name), task, registry.truth(task_id)))
            except (SandboxFailure, SandboxUnavailable) as error:
                total.infra_errors.append(f"{task_id}: {error}")
            except Exception as error:  # what a family or a truth store does wrong is what is looked for
                total.tasks += 1
                total.failures.append(f"{task_id}: {type(error).__name__}: {error}")
            done += 1
            if progress:
                progress(f"verify {name}", done, len(ids))

    async with anyio.create_task_group() as group:
        for _ in range(min(concurrency, len(ids))):
            group.start_soon(work)
    return total


async def _verify_task(sandbox: Sandbox, family: Family, task: Task, truth: Truth) -> _Tally:
    oracle, cheats, tally = family.oracle(task, truth), family.cheats(task, truth), _Tally(tasks=1)
    for attempt in (oracle, NOTHING, *cheats):
        verdict = await _judge(sandbox, family, task, truth, attempt)
        wanted = 1.0 if attempt is oracle else 0.0
        good = verdict.score == wanted and not verdict.leaked and not verdict.crashed
        tally.oracle_passed += good and attempt is oracle
        tally.nothing_zero += good and attempt is NOTHING
        tally.cheats_zero += good and attempt is not oracle and attempt is not NOTHING
        if not good:
            tally.failures.append(f"{task.id}: {attempt.name}: {verdict.explain(wanted)}")
    tally.cheats = len(cheats)
    return tally


@dataclass
class _Verdict:
    """`why` says where a score of 0 comes from."""

    score: float = 0.0
    why: str = ""
    leaked: bool = False
    crashed: bool = False

    def explain(self, wanted: float) -> str:
        if self.leaked:
            return "the canary was seen"
        if self.crashed:
            return f"the grader crashed: {self.why}"
        return f"scored {self.score:g}, not {wanted:g}" + (f": {self.why}" if self.why else "")


async def _judge(sandbox: Sandbox, family: Family, task: Task, truth: Truth, attempt: Attempt) -> _Verdict:
    """Run one attempt and grade what it hands in. An attempt that needs no session gets none."""
    verdict, opened = _Verdict(), list[Session]()

    async def open_session(spec: SessionSpec) -> Session:
        try:
            opened.append(await sandbox.open(spec))
        except KeyError:
            raise SandboxFailure(f"the sandbox was started without the source {spec.source!r}") from None
        return opened[-1]

    try:
        session = None
        if attempt.steps or attempt.submit in ("variable", "file"):
            source = task.dataset if task.data else None
            session = await open_session(SessionSpec(source=source, database=task.database))
            await _run(session, attempt, truth, verdict)
        submission = await _submission(session, attempt)
        if submission is None:
            verdict.why = "nothing was submitted"
            return verdict
        verdict.leaked |= truth.canary in json.dumps(submission.value)
        await _grade(family, task, truth, submission, GradingContext(open_session, session), verdict)
    except (AnswerError, TransferError, SessionClosed) as error:
        # What the code of the attempt raised is nearer to the cause than the answer it then failed to leave.
        verdict.why = verdict.why or str(error)
    finally:
        for one in opened:
            await one.close()
    return verdict


async def _run(session: Session, attempt: Attempt, truth: Truth, verdict: _Verdict) -> None:
    for step in attempt.steps:
        done = await session.execute(step.code, language=step.language)
        verdict.leaked |= any(truth.canary in text for text in (done.stdout.text, done.stderr.text, done.value or ""))
        if done.status != "ok" and not verdict.why:
            verdict.why = _what_went_wrong(done)


def _what_went_wrong(done: Execution) -> str:
    if done.error is not None:
        return f"{done.error.type}: {done.error.message}"
    return f"the code ended with status {done.status}"


async def _submission(session: Session | None, attempt: Attempt) -> Submission | None:
    match attempt.submit:
        case "value":
            return Submission(kind="value", value=attempt.value)
        case "variable" if session is not None:
            return Submission(kind="variable", value=await session.read_variable(str(attempt.value)))
        case "file" if session is not None:
            return Submission(kind="file", value=loads_strict(await session.read_file(str(attempt.value))))
        case _:
            return None


async def _grade(
    family: Family, task: Task, truth: Truth, submission: Submission, context: GradingContext, verdict: _Verdict
) -> None:
    try:
        grade = await family.grade(task, truth, submission, context)
    except (AnswerError, TransferError, SessionClosed, SandboxFailure, SandboxUnavailable):
        raise
    except Exception as error:  # no submission may crash a grader
        verdict.crashed, verdict.why = True, f"{type(error).__name__}: {error}"
    else:
        verdict.score = grade.score
        verdict.why = verdict.why or grade.detail

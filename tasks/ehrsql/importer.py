"""From question files and a database to tasks: as asked where that has an answer, and re-grounded."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.data import DatasetWriter
from tasks.ehrsql.make import sql_task
from tasks.ehrsql.questions import Question
from tasks.ehrsql.reground import Drawer
from tasks.ehrsql.schema import category_of
from tasks.ehrsql.skeleton import take_apart
from tasks.ehrsql.slots import Source
from tasks.ehrsql.sql import Result, Runner, Unusable, has_answer, is_trivial, tables_of
from tasks.family import ImportReport, Progress
from tasks.task import Split

MAX_ROWS = 200
PATIENCE = 40
"""So many draws in a row without a new task, and a question is given up."""


@dataclass(frozen=True)
class Plan:
    """What the tasks are made for: a database in the writer's public folder, and where slots take their values."""

    database: str
    description: str
    sources: Mapping[str, tuple[Source, ...]]
    times: Mapping[str, str]
    missing: Mapping[str, str]
    seed: int
    per_template: int


@dataclass
class _State:
    writer: DatasetWriter
    plan: Plan
    report: ImportReport
    runner: Runner
    sides: dict[str, Split] = field(default_factory=dict)
    seen_sql: set[str] = field(default_factory=set)
    seen_text: set[str] = field(default_factory=set)
    templates: dict[str, int] = field(default_factory=dict)


def add_tasks(
    writer: DatasetWriter, questions: list[Question], plan: Plan, report: ImportReport, progress: Progress
) -> None:
    """Add the tasks of all questions; what is left out is counted in `report` by reason."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.template, []).append(question)
    path = writer.public / plan.database
    with Runner(path) as runner:
        state = _State(writer, plan, report, runner)
        for question in questions:
            _as_asked(state, question)
        kept = report.tasks
        for done, (template, group) in enumerate(groups.items()):
            progress("re-ground templates", done, len(groups))
            _reground(state, template, group)
        progress("re-ground templates", len(groups), len(groups))
    report.notes.append(f"{kept} tasks as asked, {report.tasks - kept} re-grounded")
    report.notes.append(f"{sum(count > 0 for count in state.templates.values())} of {len(groups)} templates have tasks")


def _as_asked(state: _State, question: Question) -> None:
    count = state.templates.setdefault(question.template, 0)
    if count >= state.plan.per_template:
        state.report.leave_out("as asked: more of one template than per_template allows")
        return
    result, reason = _answer(state, question.text, question.sql)
    missing = _missing(state, question.sql)
    if missing is None and reason is not None:
        state.report.leave_out(f"as asked: {reason}")
        return
    if result is None:
        state.report.leave_out(f"as asked: {reason}")
        return
    patient = question.slots.get("patient_id")
    cluster = _cluster(question.template, None if patient is None else int(float(patient)))
    # The released split is kept; a file without one is halved by cluster.
    split = question.split or _side(state, cluster)
    state.sides.setdefault(cluster, split)
    _add(state, question.id, question, question.text, question.sql, result, cluster, split, missing)


def _reground(state: _State, template: str, group: list[Question]) -> None:
    rng = random.Random(f"{state.plan.seed}/{template}")
    if any(_missing(state, question.sql) for question in group):
        return
    drawer = Drawer(state.runner, state.plan.sources, state.plan.times)
    streams = []
    for question in group:
        skeleton = take_apart(question)
        if skeleton is None:
            state.report.leave_out("re-grounded: a slot stands not in both text and SQL")
        elif skeleton.slots or skeleton.times:
            streams.append((question, skeleton))
    # Taking turns, so that one template's tasks differ in more than their values.
    while streams and state.templates[template] < state.plan.per_template:
        for stream in list(streams):
            question, skeleton = stream
            for drawn in drawer.draws(question, skeleton, rng, PATIENCE):
                if drawn is None:
                    continue
                if drawn.sql in state.seen_sql or drawn.text.casefold() in state.seen_text:
                    state.report.leave_out("re-grounded: drawn before")
                    continue
                result, reason = _answer(state, drawn.text, drawn.sql)
                if result is None or reason is not None:
                    state.report.leave_out(f"re-grounded: {reason}")
                    continue
                cluster = _cluster(template, drawn.patient)
                number = state.templates[template] + 1
                _add(
                    state, f"{question.id}.g{number}", question, drawn.text, drawn.sql, result, cluster,
                    _side(state, cluster), None,
                )  # fmt: skip
                break
            else:
                streams.remove(stream)
            if state.templates[template] >= state.plan.per_template:
                return


def _answer(state: _State, text: str, sql: str) -> tuple[Result | None, str | None]:
    """The result, and why it cannot be a task's."""
    if sql in state.seen_sql or text.casefold() in state.seen_text:
        return None, "asked before"
    try:
        result = state.runner.run(sql)
        if not has_answer(result.rows):
            return result, "no answer on this database (empty, null or zero)"
        if is_trivial(result.rows):
            return result, "a guess would do (a lone 0, 1 or null)"
        if len(result.rows) > MAX_ROWS:
            return result, f"more than {MAX_ROWS} rows"
        if state.runner.is_ambiguous(sql, result.rows):
            return result, "ambiguous (a tie, or one value of several)"
    except Unusable as error:
        return None, str(error)
    return result, None


def _add(
    state: _State, local: str, question: Question, text: str, sql: str, result: Result, cluster: str, split: Split,
    missing: str | None,
) -> None:  # fmt: skip
    extra: dict[str, Any] = {"template": question.template, "original_answer": question.answer, "source": question.id}
    task, truth = sql_task(
        state.writer, local, question=text, sql=sql, rows=result.rows, width=result.width,
        category=category_of(tables_of(sql)), cluster=cluster, split=split, database=state.plan.database,
        description=state.plan.description, missing=missing, extra=extra,
    )  # fmt: skip
    state.writer.add(task, truth)
    state.seen_sql.add(sql)
    state.seen_text.add(text.casefold())
    state.templates[question.template] += 1
    state.report.tasks += 1


def _missing(state: _State, sql: str) -> str | None:
    reasons = {state.plan.missing[table] for table in tables_of(sql) if table in state.plan.missing}
    if not reasons:
        return None
    return f"{'; '.join(sorted(reasons))}. Import again from a folder that has it (data add)."


def _cluster(template: str, patient: int | None) -> str:
    if patient is not None:
        return f"patient-{patient}"
    return f"template-{hashlib.sha256(template.encode()).hexdigest()[:12]}"


def _side(state: _State, cluster: str) -> Split:
    """Half and half by cluster, but with the tasks as asked where the cluster has some."""
    if cluster not in state.sides:
        digest = hashlib.sha256(f"{state.plan.seed}/{cluster}".encode()).digest()
        state.sides[cluster] = "train" if digest[0] % 2 else "test"
    return state.sides[cluster]

"""The registry: filters, words, cursors, ids; and texts that say what would have been right."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data import DataRoot
from tasks.errors import DataMissing, TaskError, UnknownTask
from tasks.families import family_names, get_family
from tasks.registry import Registry
from tasks.task import Task, Truth
from tests.tasks.make import dataset, task, truth, writer

WORDS = ("heparin", "sepsis", "Naïve", "lidocaine 5% ointment")


def some_tasks(name: str, count: int) -> list[Task]:
    """Alternating splits, three categories, and one of WORDS in each problem."""
    return [
        task(
            name,
            f"t-{number:03}",
            split=("train", "test")[number % 2],
            category=f"c{number % 3}",
            problem=f"Task {number}: {WORDS[number % len(WORDS)]}?",
            missing="a table is not here" if number == 5 else None,
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return some_tasks("alpha", 60) + some_tasks("beta", 12)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, tasks: list[Task]) -> Iterator[Registry]:
    root = DataRoot(tmp_path_factory.mktemp("root"))
    for name in ("alpha", "beta"):
        dataset(root, name, [one for one in tasks if one.dataset == name])
    registry = Registry(root)
    yield registry
    registry.close()


def all_pages(registry: Registry, limit: int, **filters: str) -> list[str]:
    """The ids of all pages of a list; each page must tell the same total and be full but for the last."""
    found: list[str] = []
    cursor, totals = None, set()
    while True:
        page = registry.list(cursor=cursor, limit=limit, **filters)
        found += [one.id for one in page.tasks]
        totals.add(page.total)
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.tasks) == limit
    assert totals == {len(found)}
    return found


filters = st.fixed_dictionaries(
    {},
    optional={
        "dataset": st.sampled_from(["alpha", "beta"]),
        "family": st.just("ward"),
        "split": st.sampled_from(["train", "test"]),
        "category": st.sampled_from(["c0", "c1", "c2"]),
        "query": st.sampled_from(["heparin", "OINTMENT lidocaine", "naive", "sep", "task 7", "never", "?!"]),
    },
)
found_by: dict[str, Callable[[Task], bool]] = {
    "heparin": lambda one: "heparin" in one.problem,
    "OINTMENT lidocaine": lambda one: "ointment" in one.problem,
    "naive": lambda one: "Naïve" in one.problem,
    "sep": lambda one: "sepsis" in one.problem,
    "task 7": lambda one: one.problem.startswith("Task 7:"),
    "never": lambda one: False,
    "?!": lambda one: False,
}


@given(filters, st.integers(1, 50))
def test_all_pages_together_are_the_tasks_that_pass_every_filter(
    registry: Registry, tasks: list[Task], given: dict[str, str], limit: int
) -> None:
    query = given.get("query")
    wanted = {
        one.id
        for one in tasks
        if all(getattr(one, name) == value for name, value in given.items() if name != "query")
        and (query is None or found_by[query](one))
    }
    found = all_pages(registry, limit, **given)
    assert len(found) == len(wanted)
    assert set(found) == wanted
    if query is None and "category" not in given:
        assert registry.ids(**given) == found


def test_a_summary_says_what_a_task_is(registry: Registry, tasks: list[Task]) -> None:
    summaries = {one.id: one for one in registry.list(limit=200).tasks}
    for one in tasks:
        summary = summaries[one.id]
        assert (summary.family, summary.split, summary.category) == (one.family, one.split, one.category)
        assert summary.title == one.problem
        assert summary.missing == (one.missing is not None)


def test_a_title_is_one_line_of_at_most_120_characters(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    long = "A patient\n\nwith  " + "many words " * 50
    dataset(root, tasks=[task("d", "long", problem=long), task("d", "solid", problem="x" * 500)])
    titles = [one.title for one in Registry(root).list().tasks]
    assert titles[0].startswith("A patient with many words")
    assert titles[0].endswith("many words many…")
    assert all(len(title) <= 120 and "\n" not in title for title in titles)


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ({"family": "wards"}, "ward"),
        ({"dataset": "gamma"}, "alpha, beta"),
        ({"category": "c9"}, "c0, c1, c2"),
        ({"split": "validation"}, "test, train"),
        ({"dataset": "beta", "category": "c" * 5000}, "c0, c1, c2"),
    ],
)
def test_a_filter_value_that_does_not_exist_names_those_that_do(
    registry: Registry, filters: dict[str, str], named: str
) -> None:
    with pytest.raises(TaskError) as caught:
        registry.list(**filters)  # type: ignore[arg-type]
    assert named in str(caught.value)
    assert len(str(caught.value)) < 500


def test_of_very_many_values_the_nearest_are_named(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    dataset(root, tasks=[task("d", f"{number}", category=f"category number {number}") for number in range(300)])
    with pytest.raises(TaskError, match="category number 123") as caught:
        Registry(root).list(category="categry number 123")
    assert len(str(caught.value)) < 1000


def test_an_empty_split_is_an_empty_page(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    dataset(root)
    assert Registry(root).list(split="test").total == 0
    assert Registry(root).ids(split="test") == []


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_limit_out_of_range_is_refused(registry: Registry, limit: int) -> None:
    with pytest.raises(TaskError, match="from 1 to 200"):
        registry.list(limit=limit)


def test_a_cursor_of_another_list_is_refused(registry: Registry) -> None:
    cursor = registry.list(split="train", limit=5).next_cursor
    assert registry.list(split="train", limit=9, cursor=cursor).tasks
    for other in ({}, {"split": "test"}, {"split": "train", "query": "heparin"}):
        with pytest.raises(TaskError, match="not of this list"):
            registry.list(cursor=cursor, **other)  # type: ignore[arg-type]


json_values = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(st.text() | st.binary().map(lambda b: base64.urlsafe_b64encode(b).decode()) | json_values.map(json.dumps))
def test_no_cursor_crashes(registry: Registry, cursor: str) -> None:
    for text in (cursor, base64.urlsafe_b64encode(cursor.encode("utf-8", "replace")).decode()):
        with pytest.raises(TaskError, match="not of this list"):
            registry.list(cursor=text)


@pytest.mark.parametrize("cursor", ["W10=", "e30=", "", "\ud800", "é"])
def test_a_cursor_that_is_not_ours_is_refused(registry: Registry, cursor: str) -> None:
    with pytest.raises(TaskError, match="not of this list"):
        registry.list(cursor=cursor)


def test_a_cursor_survives_the_replacement_of_the_index(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    dataset(root, "m", some_tasks("m", 10))
    registry = Registry(root)
    first = registry.list(dataset="m", limit=4)
    dataset(root, "a", some_tasks("a", 10))
    second = registry.list(dataset="m", limit=50, cursor=first.next_cursor)
    assert [one.id for one in first.tasks + second.tasks] == registry.ids(dataset="m")


@given(st.text(), st.integers(1, 5))
def test_no_query_crashes(registry: Registry, query: str, limit: int) -> None:
    page = registry.list(query=query, limit=limit)
    assert page.total >= len(page.tasks)


@pytest.mark.parametrize("query", ['"', "NOT", "a OR b", "heparin*", "text:heparin", "NEAR(a b)", "-heparin", "\x00"])
def test_the_words_of_a_query_are_no_syntax(registry: Registry, query: str) -> None:
    assert registry.list(query=query).total == (15 + 3 if "heparin" in query and "text" not in query else 0)


@given(st.text())
def test_an_unknown_id_is_an_unknown_task(registry: Registry, task_id: str) -> None:
    with pytest.raises(UnknownTask):
        registry.get(task_id)
    with pytest.raises(UnknownTask):
        registry.truth(task_id)


@pytest.mark.parametrize("task_id", ["\ud800", "alpha/t-001 ", "ALPHA/T-001", "x" * 100_000])
def test_an_unknown_task_has_a_short_text(registry: Registry, task_id: str) -> None:
    with pytest.raises(UnknownTask) as caught:
        registry.get(task_id)
    assert len(str(caught.value)) < 500


def test_an_unknown_task_names_the_closest_ids(registry: Registry) -> None:
    with pytest.raises(UnknownTask, match=r"Close: .*alpha/t-017"):
        registry.get("alpha/t-17")


def test_without_a_dataset_an_unknown_task_says_how_to_get_tasks(tmp_path: Path) -> None:
    registry = Registry(DataRoot(tmp_path))
    assert registry.list().total == 0
    assert registry.list(query="heparin").total == 0
    assert registry.families() == []
    assert registry.complete("") == []
    with pytest.raises(UnknownTask, match="tasks generate"):
        registry.get("a/b")
    with pytest.raises(TaskError, match="none yet"):
        registry.list(family="ward")


def test_get_gives_the_task_that_was_added(registry: Registry, tasks: list[Task]) -> None:
    for one in tasks:
        assert registry.get(one.id) == one
        assert registry.get(one.id).digest() == one.digest()


def test_the_truth_comes_from_the_truth_store_only(tmp_path: Path) -> None:
    root, secrets = DataRoot(tmp_path), list[Truth]()
    with writer(root, "d") as made:
        for local in ("a", "b"):
            secrets.append(truth(made, one := task("d", local), "the-right-answer", extra={"sql": "select 1"}))
            made.add(one, secrets[-1])
    registry = Registry(root)
    assert [registry.truth("d/a"), registry.truth("d/b")] == secrets
    folder = root.path / "datasets" / "d"
    for path in (
        root.index_path,
        folder / "tasks.jsonl",
        folder / "catalog.sqlite",
        *root.public_folder("d").iterdir(),
    ):
        content = path.read_bytes()
        assert b"the-right-answer" not in content
        assert secrets[0].canary.encode() not in content


def test_a_lost_truth_store_is_data_missing(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    dataset(root)
    registry = Registry(root)
    root.truth_path("d").unlink()
    with pytest.raises(DataMissing, match="truth store of task 'd/a'"):
        registry.truth("d/a")
    (root.path / "datasets" / "d" / "manifest.json").unlink()
    with pytest.raises(DataMissing):
        registry.truth("d/a")


def test_families_count_their_tasks(registry: Registry) -> None:
    (family,) = registry.families()
    assert (family.name, family.datasets) == ("ward", ("alpha", "beta"))
    assert (family.tasks, family.train, family.test) == (72, 36, 36)
    assert family.categories == {"c0": 24, "c1": 24, "c2": 24}


@given(st.sampled_from(["", "a", "alpha/t-0", "alpha/t-01", "beta/t-011", "gamma", "é"]), st.integers(1, 80))
def test_complete_gives_the_first_ids_that_begin_so(
    registry: Registry, tasks: list[Task], prefix: str, limit: int
) -> None:
    assert registry.complete(prefix, limit) == sorted(one.id for one in tasks if one.id.startswith(prefix))[:limit]


def test_complete_takes_any_text(registry: Registry) -> None:
    assert registry.complete("\ud800") == registry.complete("%") == registry.complete("*") == []


def test_a_registry_sees_what_is_added_replaced_and_removed_later(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    registry = Registry(root)
    dataset(root, "d", [task("d", "a", problem="first heparin")])
    assert registry.list(query="heparin").total == 1
    dataset(root, "d", [task("d", "a", problem="second sepsis")])
    assert registry.list(query="heparin").total == 0
    assert registry.list(query="sepsis").total == 1
    assert registry.get("d/a").problem == "second sepsis"
    root.remove("d")
    assert registry.list().total == 0


def test_every_family_is_named_and_an_unknown_one_names_them() -> None:
    assert family_names()
    with pytest.raises(TaskError, match=", ".join(family_names())):
        get_family("none")

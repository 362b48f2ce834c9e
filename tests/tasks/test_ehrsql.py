"""EHRSQL's SQL and questions: substitutions, ambiguity, taking apart and putting together."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ehrsql.make import orders
from tasks.ehrsql.questions import Question, load_questions
from tasks.ehrsql.schema import CURRENT_TIME, MIMIC_III, MIMIC_III_INDEXES, category_of
from tasks.ehrsql.skeleton import quoted, take_apart
from tasks.ehrsql.sql import Runner, Unusable, executable, has_answer, is_trivial, same_rows, tables_of
from tasks.errors import DataError
from tests.tasks.ehrsql_fixture import QUESTIONS, write_questions


@pytest.mark.parametrize(
    ("published", "runs"),
    [
        ("select current_time", f"select '{CURRENT_TIME}'"),
        ("datetime('now','-1 day')", f"datetime('{CURRENT_TIME}','-1 day')"),
        ("x between sao2_lower and sao2_upper", "x between 95.0 and 100.0"),
        ("x < temperature_lower or x > mean_bp_upper", "x < 35.5 or x > 110.0"),
        ("a < = 3 and b > = 4", "a <= 3 and b >= 4"),
        ("a = ''urine'' limit 1", "a = 'urine' limit 1"),
        ("strftime('%y-%m',a.b) >= '2104-01'", "strftime('%Y-%m',a.b) >= '2104-01'"),
        ("strftime('%j',a) - strftime('%j',b)", "strftime('%J',a) - strftime('%J',b)"),
    ],
)
def test_the_substitutions(published: str, runs: str) -> None:
    assert executable(published) == runs


def test_values_in_texts_are_left_alone() -> None:
    sql = "select 1 where drug = 'd5%y < = sao2_lower current_time' and x = 'crohn''s disease' and y = ''"
    assert executable(sql) == sql


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30))
def test_any_value_survives_the_substitutions(value: str) -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        wanted = CURRENT_TIME if value == "now" else value
        # A text that itself begins and ends with quotes cannot be told from EHRSQL's doubled quotes.
        if not (value.startswith("'") or value.endswith("'")):
            assert database.execute(executable(f"select {quoted(value)}")).fetchone() == (wanted,)


def test_tables_and_categories() -> None:
    sql = "select 1 from cost where cost.event_type = 'labevents' and x in (select a from admissions join t1 on 1)"
    assert tables_of(sql) == {"COST", "LABEVENTS", "ADMISSIONS", "T1"}
    assert tables_of("select ' from chartevents ' from patients") == {"PATIENTS"}
    assert category_of({"cost", "labevents"}) == "cost"
    assert category_of({"D_ITEMS", "OUTPUTEVENTS", "ICUSTAYS"}) == "intake_output"
    assert category_of({"patients", "t1"}) == "demographics"


def test_order_is_only_the_outermost() -> None:
    assert orders("select a from b order by a desc limit 3")
    assert not orders("select a from b where c in ( select d from e order by f limit 1 )")
    assert not orders("select a from b where c = ' order by '")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(MIMIC_III + MIMIC_III_INDEXES)
        database.executemany(
            "INSERT INTO D_LABITEMS VALUES (?, ?, ?)", [(1, 10, "twice"), (2, 11, "twice"), (3, 12, "once")]
        )
        database.executemany(
            "INSERT INTO LABEVENTS VALUES (?, 1, 1, ?, ?, ?, 'mg')",
            [(1, 10, "2105-01-01 00:00:00", 1.5), (2, 10, "2105-01-01 00:00:00", 2.5),
             (3, 12, "2105-01-02 00:00:00", 3.5), (4, 11, "2105-01-01 00:00:00", 1.5)],
        )  # fmt: skip
        database.commit()
    return Runner(path)


@pytest.mark.parametrize(
    ("sql", "ambiguous"),
    [
        ("select labevents.valuenum from labevents order by labevents.charttime asc limit 1", True),
        ("select labevents.valuenum from labevents order by labevents.charttime desc limit 1", False),
        ("select labevents.valueuom from labevents order by labevents.charttime asc limit 1", False),
        ("select (select itemid from d_labitems where label = 'twice')", True),
        ("select (select itemid from d_labitems where label = 'once')", False),
        ("select valuenum from labevents", False),
    ],
)
def test_ambiguity_is_found_by_reordering_equals(runner: Runner, sql: str, ambiguous: bool) -> None:
    with runner:
        assert runner.is_ambiguous(sql, runner.rows(sql)) is ambiguous


def test_queries_are_read_only_and_bounded(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.ehrsql.sql.MAX_STEPS", 3)
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    with runner:
        with pytest.raises(Unusable, match="too much work"):
            runner.rows(endless)
        assert runner.rows("select 1") == [(1,)]
        with pytest.raises(Unusable, match="readonly"):
            runner.rows("delete from labevents")


def test_what_counts_as_an_answer() -> None:
    assert not has_answer([])
    assert not has_answer([(None,), (0,)])
    assert not has_answer([(0.0, None)])
    assert has_answer([("",)])
    assert has_answer([(0, "x")])
    assert has_answer([(1,)])
    assert is_trivial([(1,)])
    assert is_trivial([(0,)])
    assert is_trivial([(None,)])
    assert is_trivial([(1.0,)])
    assert not is_trivial([("1",)])
    assert not is_trivial([(1,), (1,)])
    assert not is_trivial([(2,)])
    assert same_rows([(1, None), (0.1 + 0.2, "a")], [(0.3, "a"), (1.0, None)])
    assert not same_rows([(None,)], [(0,)])
    assert not same_rows([(1,)], [("1",)])


@pytest.mark.parametrize("lines", [False, True])
def test_question_files(tmp_path: Path, lines: bool) -> None:
    file = load_questions(write_questions(tmp_path / "valid.json", lines=lines))
    assert (len(file.questions), file.unanswerable) == (6, 1)
    lab = file.questions[2]
    assert lab.slots == {"lab_name": "sodium", "patient_id": "7"}
    assert lab.split == "test"
    assert "strftime('%Y'," in lab.sql
    assert len(load_questions(tmp_path).questions) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "valid.json is neither"),
        ("[1]", "every entry must be an object"),
        ("[]", "no answerable question"),
        ('[{"question": "x"}]', "entry 1 has no query"),
        ('[{"question": "x", "query": 3, "template": "", "q_tag": "", "value": {}}]', "wrong type in query"),
    ],
)
def test_bad_question_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "valid.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_questions(path)


def _question(filled: str, template: str, sql: str, **slots: str) -> Question:
    return Question("q", filled, filled, template, executable(sql), slots, None)


def test_taking_apart_and_filling_in() -> None:
    skeleton = take_apart(
        _question(
            "what ns did patient 12 get in 05/2104 and until 126 month ago?",
            "what {drug_name} did patient {patient_id} get [t]?",
            "select 1 where drug = 'ns' and admissions.subject_id = 12 and strftime('%y-%m',p.startdate) = '2104-05' "
            "and datetime(p.startdate) <= datetime(current_time,'-126 month') and x = 12",
            drug_name="ns",
            patient_id="12",
        )
    )
    assert skeleton is not None
    month, ago = sorted(skeleton.times, key=lambda mark: mark.kind == "ago")
    text, sql = skeleton.fill(
        {skeleton.slots["drug_name"]: "o'x", skeleton.slots["patient_id"]: "99", month.token: "01/2101",
         ago.token: "3"},
        {skeleton.slots["drug_name"]: "'o''x'", skeleton.slots["patient_id"]: "99", month.token: "'2101-01'",
         ago.token: "'-3 month'"},
    )  # fmt: skip
    assert text == "What o'x did patient 99 get in 01/2101 and until 3 month ago?"
    assert sql == (
        "select 1 where drug = 'o''x' and admissions.subject_id = 99 and strftime('%Y-%m',p.startdate) = '2101-01' "
        f"and datetime(p.startdate) <= datetime('{CURRENT_TIME}','-3 month') and x = 12"
    )


@pytest.mark.parametrize(
    ("filled", "sql"),
    [
        ("what does patient 3 take?", "select 1 where admissions.subject_id = 4"),  # not in the SQL
        ("what does he take?", "select 1 where admissions.subject_id = 3"),  # not in the text
        ("patient 3 and 3 again", "select 1 where admissions.subject_id = 3"),  # twice in the text, once in the form
        ("patient 3 in may", "select 1 where admissions.subject_id = 3 and strftime('%y-%m',a.b) = '2104-05'"),
        ("patient 3 at 2104", "select 1 where admissions.subject_id = 3 and a.b > '2104-05-01'"),  # an unknown shape
    ],
)
def test_what_cannot_be_taken_apart(filled: str, sql: str) -> None:
    assert take_apart(_question(filled, "patient {patient_id}", sql, patient_id="3")) is None


def test_the_fixture_questions_can_be_taken_apart(tmp_path: Path) -> None:
    assert len(QUESTIONS) == 7
    assert all(take_apart(q) for q in load_questions(write_questions(tmp_path / "q.json")).questions)

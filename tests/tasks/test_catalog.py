"""The catalogue: tables, columns, values, and where a term occurs, in real databases."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.catalog import Catalog, build
from tasks.errors import DataError, TaskError
from tests.tasks.make import database

DRUGS = [
    "lidocaine 5% ointment",
    "Bacitracin Ointment",
    "heparin",
    "heparin sodium (porcine)",
    "insulin glargine",
    "Naïve cells",
    "0.9% sodium chloride",
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    folder = tmp_path_factory.mktemp("catalog")
    prescriptions: list[tuple[object, ...]] = [
        (i, 1 + i % 3, DRUGS[i % len(DRUGS)], 0.5 * (i % 4), None) for i in range(70)
    ]
    prescriptions += [(100 + i, 1, "heparin", 2.5, "iv") for i in range(20)]
    ward = database(
        folder / "ward.sqlite",
        {
            "patients": ("SUBJECT_ID INTEGER PRIMARY KEY, sex TEXT", [(1, "F"), (2, "M"), (3, "F")]),
            "prescriptions": (
                "row_id INTEGER PRIMARY KEY, subject_id INTEGER REFERENCES patients (SUBJECT_ID), drug TEXT,"
                " dose REAL, route TEXT",
                prescriptions,
            ),
            "diagnoses": (
                "icd TEXT, title TEXT, charttime TEXT",
                [("0389", "septicemia nos", "2105-01-02 10:00:00"), ("99591", "sepsis", "2105-01-03 10:00:00")],
            ),
            "empty": ("a TEXT, b BLOB", []),
            'odd "name"': ('"a ""column""" TEXT, b BLOB', [("x", b"\x00\xff"), ("staph aureus coag +", None)]),
        },
    )
    other = database(folder / "other.db", {"notes": ("text TEXT", [("a note about " + "pneumonia " * 5_000,)])})
    with closing(sqlite3.connect(ward)) as db:
        db.execute("CREATE VIEW women AS SELECT * FROM patients WHERE sex = 'F'")
        db.commit()
    build([ward, other], folder / "catalog.sqlite")
    catalog = Catalog(folder / "catalog.sqlite")
    yield catalog
    catalog.close()


def found(catalog: Catalog, term: str, limit: int = 20) -> list[tuple[str, str, object, int, str]]:
    return [(hit.table, hit.column, hit.value, hit.count, hit.match) for hit in catalog.search(term, limit)]


def test_tables_and_views_with_their_rows(catalog: Catalog) -> None:
    assert [(one.name, one.database, one.rows, one.columns) for one in catalog.tables()] == [
        ("diagnoses", "ward.sqlite", 2, 3),
        ("empty", "ward.sqlite", 0, 2),
        ("notes", "other.db", 1, 1),
        ('odd "name"', "ward.sqlite", 2, 2),
        ("patients", "ward.sqlite", 3, 2),
        ("prescriptions", "ward.sqlite", 90, 5),
        ("women", "ward.sqlite", 2, 2),
    ]


def test_columns_in_their_order_with_types_keys_and_counts(catalog: Catalog) -> None:
    columns = catalog.columns("PRESCRIPTIONS")
    assert [(one.name, one.type, one.primary_key, one.refers, one.distinct, one.nulls) for one in columns] == [
        ("row_id", "INTEGER", True, None, 90, 0),
        ("subject_id", "INTEGER", False, "patients.SUBJECT_ID", 3, 0),
        ("drug", "TEXT", False, None, 7, 0),
        ("dose", "REAL", False, None, 5, 0),
        ("route", "TEXT", False, None, 1, 70),
    ]
    assert columns[2].examples[0] == "heparin"
    assert all(one.complete for one in columns)


def test_binary_values_are_not_shown_and_an_empty_table_has_columns(catalog: Catalog) -> None:
    assert [(one.distinct, one.nulls, one.examples) for one in catalog.columns("empty")] == [(0, 0, ()), (0, 0, ())]
    assert [one.distinct for one in catalog.columns('odd "name"')] == [2, 0]


def test_a_long_text_is_cut_and_its_words_are_found(catalog: Catalog) -> None:
    (value,) = catalog.values("notes", "text").values
    assert isinstance(value.value, str)
    assert len(value.value) == 400
    assert len(str(catalog.columns("notes")[0].examples[0])) == 80
    assert [(hit[0], hit[1], hit[4]) for hit in found(catalog, "pneumonia")] == [("notes", "text", "word")]


def test_values_are_counted_most_frequent_first(catalog: Catalog) -> None:
    page = catalog.values("prescriptions", "drug")
    assert page.total == 7
    assert (page.values[0].value, page.values[0].count) == ("heparin", 30)
    assert [one.count for one in page.values] == sorted((one.count for one in page.values), reverse=True)
    few = catalog.values("prescriptions", "drug", limit=2)
    assert few.values == page.values[:2]
    assert few.total == 7


@pytest.mark.parametrize(
    ("column", "term", "values"),
    [
        ("drug", "HEPARIN", ["heparin", "heparin sodium (porcine)"]),
        ("drug", "ointment", ["Bacitracin Ointment", "lidocaine 5% ointment"]),
        ("drug", "porcine heparin", ["heparin sodium (porcine)"]),
        ("drug", "naive", ["Naïve cells"]),
        ("drug", "5%", ["lidocaine 5% ointment"]),
        ("dose", "2.5", [2.5]),
        ("dose", "1", [1.0, 1.5]),
        ("subject_id", "2", [2]),
        ("drug", "%", ["0.9% sodium chloride", "lidocaine 5% ointment"]),
    ],
)
def test_values_that_match_a_term_exact_ones_first(
    catalog: Catalog, column: str, term: str, values: list[object]
) -> None:
    page = catalog.values("prescriptions", column, term)
    assert [one.value for one in page.values] == values
    assert page.total == len(values)
    assert page.close == ()


def test_close_values_are_offered_when_none_matches(catalog: Catalog) -> None:
    page = catalog.values("prescriptions", "drug", "insulin glargin3")
    assert (page.values, page.total) == ((), 0)
    assert page.close == ("insulin glargine",)
    assert catalog.values("prescriptions", "drug", "zzzzzz").close == ()
    assert catalog.values("prescriptions", "dose", "zzzzzz").close == ()


def test_search_finds_a_whole_value_first_then_words_inside_values(catalog: Catalog) -> None:
    assert found(catalog, "Heparin")[:2] == [
        ("prescriptions", "drug", "heparin", 30, "exact"),
        ("prescriptions", "drug", "heparin sodium (porcine)", 10, "word"),
    ]
    assert {hit[2:] for hit in found(catalog, "ointment")} == {
        ("lidocaine 5% ointment", 10, "word"),
        ("Bacitracin Ointment", 10, "word"),
    }


@pytest.mark.parametrize(
    ("term", "hit"),
    [
        ("staph aureus coag +", ('odd "name"', 'a "column"', "staph aureus coag +", 1, "exact")),
        ("0389", ("diagnoses", "icd", "0389", 1, "exact")),
        ("995", ("diagnoses", "icd", "99591", 1, "part")),
        ("2105-01-02", ("diagnoses", "charttime", "2105-01-02 10:00:00", 1, "part")),
        ("2.5", ("prescriptions", "dose", 2.5, 20, "exact")),
        ("glarg", ("prescriptions", "drug", "insulin glargine", 10, "part")),
        ("argine insul", ("prescriptions", "drug", "insulin glargine", 10, "part")),
        ("septicemie", ("diagnoses", "title", "septicemia nos", 1, "close")),
        ("hepparin", ("prescriptions", "drug", "heparin", 30, "close")),
        ("naive", ("prescriptions", "drug", "Naïve cells", 10, "word")),
        ("F", ("patients", "sex", "F", 2, "exact")),
    ],
)
def test_search_finds(catalog: Catalog, term: str, hit: tuple[str, str, object, int, str]) -> None:
    assert hit in found(catalog, term)


def test_search_leaves_no_column_out_for_a_frequent_one(tmp_path: Path) -> None:
    words = [(f"sepsis {number}",) for number in range(200)]
    path = database(tmp_path / "a.sqlite", {"many": ("text TEXT", words), "few": ("text TEXT", [("sepsis x",)])})
    build([path], tmp_path / "catalog.sqlite")
    hits = Catalog(tmp_path / "catalog.sqlite").search("sepsis", limit=10)
    assert len(hits) == 10
    assert {hit.table for hit in hits} == {"many", "few"}


@pytest.mark.parametrize("term", ["", "   ", "\x00", "qqqqqqqqqqqq"])
def test_a_term_that_is_nowhere_has_no_hits(catalog: Catalog, term: str) -> None:
    assert catalog.search(term) == []


@given(st.text(max_size=40) | st.sampled_from(['"', "a OR b", "NOT heparin", "heparin*", "NEAR(a b)", "\ud800", "é ß"]))
def test_no_term_crashes(catalog: Catalog, term: str) -> None:
    assert len(catalog.search(term, 5)) <= 5
    for column in ("drug", "dose"):
        page = catalog.values("prescriptions", column, term, 3)
        assert len(page.values) <= min(3, page.total)


@given(st.integers(0, len(DRUGS) - 1), st.data())
def test_every_word_of_a_value_finds_it(catalog: Catalog, which: int, data: st.DataObject) -> None:
    words = DRUGS[which].replace("%", " ").replace("(", " ").replace(")", " ").split()
    word = data.draw(st.sampled_from(words))
    case = data.draw(st.sampled_from([str.upper, str.lower, str.title]))
    assert DRUGS[which] in [hit.value for hit in catalog.search(case(word), 50)]


@pytest.mark.parametrize(
    ("table", "named"),
    [("prescription", "prescriptions"), ("PATIENT", "patients"), ("zzz", "diagnoses"), ("", "notes")],
)
def test_an_unknown_table_names_the_nearest_and_all(catalog: Catalog, table: str, named: str) -> None:
    for call in (catalog.columns, lambda name: catalog.values(name, "drug")):
        with pytest.raises(TaskError, match=named):
            call(table)


def test_an_unknown_column_names_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(TaskError, match=r"no column of prescriptions named 'drugs'\. Nearest: drug\b"):
        catalog.values("prescriptions", "drugs")


@given(st.text(max_size=30))
def test_no_name_crashes(catalog: Catalog, name: str) -> None:
    known = {"diagnoses", "empty", "notes", 'odd "name"', "patients", "prescriptions", "women"}
    try:
        catalog.columns(name)
    except TaskError:
        assert name not in known
    else:
        assert name.strip().casefold() in known


def test_tables_of_one_name_in_two_databases_are_kept_apart(tmp_path: Path) -> None:
    left = database(tmp_path / "left.sqlite", {"notes": ("a TEXT", [("x",)])})
    right = database(tmp_path / "right.sqlite", {"Notes": ("b TEXT", [("y",), ("z",)])})
    build([left, right], tmp_path / "catalog.sqlite")
    catalog = Catalog(tmp_path / "catalog.sqlite")
    assert {(one.name, one.rows) for one in catalog.tables()} == {("left.notes", 1), ("right.Notes", 2)}
    assert [one.name for one in catalog.columns("right.notes")] == ["b"]


def test_values_past_the_most_that_are_kept_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.catalog_build.MAX_VALUES", 10)
    path = database(tmp_path / "a.sqlite", {"t": ("n INTEGER, few INTEGER", [(i, i % 10) for i in range(50)])})
    build([path], tmp_path / "catalog.sqlite")
    many, few = Catalog(tmp_path / "catalog.sqlite").columns("t")
    assert (many.distinct, many.complete) == (10, False)
    assert (few.distinct, few.complete) == (10, True)


def test_a_catalogue_of_nothing_is_empty(tmp_path: Path) -> None:
    build([], tmp_path / "catalog.sqlite")
    catalog = Catalog(tmp_path / "catalog.sqlite")
    assert catalog.tables() == []
    assert catalog.search("heparin") == []
    with pytest.raises(TaskError, match="Tables: none"):
        catalog.columns("patients")


def test_what_is_no_database_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_text("this is no database" * 200)
    with pytest.raises(DataError, match=r"a\.sqlite"):
        build([tmp_path / "a.sqlite"], tmp_path / "catalog.sqlite")
    for name in ("a.sqlite", "absent.sqlite"):
        with pytest.raises(DataError, match=name):
            Catalog(tmp_path / name)


def test_text_that_is_not_utf_8_is_kept_readable(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a TEXT)")
        db.execute("INSERT INTO t VALUES (CAST(x'68c3a8' AS TEXT)), (CAST(x'c3a862ff6c7574' AS TEXT))")
        db.commit()
    build([path], tmp_path / "catalog.sqlite")
    values = Catalog(tmp_path / "catalog.sqlite").values("t", "a").values
    assert {one.value for one in values} == {"hè", "èb\ufffdlut"}

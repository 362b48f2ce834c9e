"""Rules for SQLite's messages: tables, columns, functions and syntax, with the nearest names from the catalogue."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing

from mcp_server.feedback_base import Facts, Finding, folded, listed, nearest, replace_fixes, shown
from tasks.errors import TaskError

_TYPES = {"OperationalError", "DatabaseError", "ProgrammingError", "IntegrityError", "NotSupportedError"}
_NOTHING_FOUND = "List tables and columns with request_info (kind tables, then columns)."

_FUNCTIONS = {
    "year": "strftime('%Y', column)",
    "month": "strftime('%m', column)",
    "day": "strftime('%d', column)",
    "hour": "strftime('%H', column)",
    "extract": "strftime('%Y', column)",
    "date_part": "strftime('%Y', column)",
    "date_trunc": "datetime(column, 'start of month')",
    "date_format": "strftime('%Y-%m', column)",
    "to_char": "strftime('%Y-%m', column)",
    "to_date": "date(column)",
    "to_timestamp": "datetime(column)",
    "datediff": "julianday(later) - julianday(earlier)",
    "timestampdiff": "(julianday(later) - julianday(earlier)) * 24 for hours",
    "age": "(julianday(later) - julianday(earlier)) / 365.25",
    "dateadd": "datetime(column, '+1 day')",
    "date_add": "datetime(column, '+1 day')",
    "date_sub": "datetime(column, '-1 day')",
    "now": "datetime('now')",
    "getdate": "datetime('now')",
    "curdate": "date('now')",
    "concat": "a || b",
    "len": "length(column)",
    "char_length": "length(column)",
    "isnull": "ifnull(column, 0)",
    "nvl": "ifnull(column, 0)",
    "left": "substr(column, 1, n)",
    "right": "substr(column, -n)",
    "substring_index": "substr and instr",
    "greatest": "max(a, b)",
    "least": "min(a, b)",
    "if": "CASE WHEN condition THEN a ELSE b END",
    "iif": "CASE WHEN condition THEN a ELSE b END",
    "string_agg": "group_concat(column, ', ')",
    "listagg": "group_concat(column, ', ')",
    "regexp": "LIKE or GLOB, or filter with Python's re after reading the rows",
    "split_part": "substr and instr",
    "median": "read the column with pandas and call .median()",
    "percentile_cont": "read the column with pandas and call .quantile()",
    "stddev": "read the column with pandas and call .std()",
    "stdev": "read the column with pandas and call .std()",
    "variance": "read the column with pandas and call .var()",
    "sqrt": "read the column with pandas and take the root there",
}
_DIALECT = {
    "top": "SQLite has no TOP: put LIMIT n at the end.",
    "ilike": "SQLite has no ILIKE: LIKE ignores the case of ASCII letters already.",
    "interval": "SQLite has no INTERVAL: write datetime(column, '-24 hours') or compare julianday(...) values.",
    ":": "SQLite has no :: casts: write CAST(column AS type).",
    "::": "SQLite has no :: casts: write CAST(column AS type).",
    "from": "Look before FROM: a comma too many, or a function such as EXTRACT(... FROM ...) that SQLite lacks.",
    "year": "SQLite has no EXTRACT: write strftime('%Y', column).",
    "fetch": "SQLite has no FETCH FIRST: put LIMIT n at the end.",
    "qualify": "SQLite has no QUALIFY: filter the window function in an outer SELECT.",
    "where": "A statement has one WHERE, after the joins and before GROUP BY; join conditions with AND.",
    "order": "ORDER BY comes after WHERE, GROUP BY and HAVING, before LIMIT; in a UNION only at the very end.",
    "group": "GROUP BY comes after WHERE and before HAVING and ORDER BY.",
    "limit": "LIMIT comes last.",
    "having": "HAVING comes after GROUP BY.",
    ")": "Look before the bracket: a comma too many, an empty list, or one bracket closed too often.",
    ",": "Look before the comma: a name or an expression is missing there, or a bracket was closed too early.",
    "=": "Compare with a single = between two complete expressions.",
    "describe": "SQLite has no DESCRIBE: use request_info (kind columns) or PRAGMA table_info(name).",
    "show": "SQLite has no SHOW: use request_info (kind tables).",
    "import": "This is Python, not SQL: call execute_code with language python.",
    "print": "This is Python, not SQL: call execute_code with language python.",
}

_Rule = Callable[[Facts, "re.Match[str]"], Finding]


def speaks(text: str) -> bool:
    """Whether a text holds one of the database's messages."""
    return any(pattern.search(text[-5_000:]) for pattern, _ in _RULES)


def find(facts: Facts) -> Finding | None:
    if facts.type not in _TYPES and facts.language != "sql":
        return None
    for pattern, rule in _RULES:
        if match := pattern.search(facts.message):
            return rule(facts, match)
    if facts.language != "sql" and "sql" not in facts.message.lower() and facts.type == "ProgrammingError":
        return None
    return Finding(f"The database refused the statement: {shown(facts.message, 400)}.", (_NOTHING_FOUND,))


def statement(facts: Facts) -> str:
    """The SQL as far as it is known: the code, or what pandas quotes in its message."""
    if facts.language == "sql":
        return facts.code or ""
    quoted = re.search(r"Execution failed on sql[: ]+'(.*)': ", facts.message, re.DOTALL)
    return quoted[1] if quoted else facts.code or ""


def _tables(facts: Facts) -> dict[str, list[str]]:
    """Every table with its columns."""
    if facts.catalog is None:
        return {}
    tables: dict[str, list[str]] = {}
    for table in facts.catalog.tables():
        try:
            tables[table.name] = [column.name for column in facts.catalog.columns(table.name)]
        except TaskError:
            continue
    return tables


def _used(facts: Facts) -> dict[str, list[str]]:
    """The tables whose names occur in the statement; all of them when none does."""
    tables = _tables(facts)
    words = {word.casefold() for word in re.findall(r"\w+", statement(facts))}
    used = {name: columns for name, columns in tables.items() if name.casefold() in words}
    return used or tables


def _no_table(facts: Facts, match: "re.Match[str]") -> Finding:
    name = match[1].strip().strip("\"'`;")
    bare = name.rsplit(".", 1)[-1]
    known = list(_tables(facts)) or list(facts.candidates)
    near = nearest(bare, known)
    fixes = replace_fixes(name, near)
    if name != bare and bare.casefold() in {other.casefold() for other in known}:
        fixes = [f"Write {bare} without {shown(name.rsplit('.', 1)[0])!r}: the database has no schemas."]
    if known:
        cause = f"The database has no table {shown(name)!r}."
        fixes.append(f"Tables: {listed(known, 40)}.")
    else:
        cause = f"The database that was opened has no table {shown(name)!r}, or it is not the task's database."
    if facts.language == "python" and (not known or bare in known):
        fixes.append(
            "Open the file that start_task names in /data: connecting to a wrong path makes an empty database."
        )
    return Finding(cause, tuple(fixes), missing=name)


def _no_column(facts: Facts, match: "re.Match[str]") -> Finding:
    given = match[1].strip()
    name = given.strip("\"'`")
    bare = name.rsplit(".", 1)[-1].strip("\"'`")
    used, tables = _used(facts), _tables(facts)
    sql = statement(facts)
    quoted = f"If {shown(bare)!r} is a value and not a column, put it in single quotes: '{shown(bare)}'."
    fixes = [quoted] if _as_value(sql, bare) or given.startswith('"') else []
    columns = list(dict.fromkeys(column for names in used.values() for column in names)) or list(facts.candidates)
    exact = [table for table, names in tables.items() if bare.casefold() in {column.casefold() for column in names}]
    here = [table for table in exact if table in used]
    near = [] if here else nearest(bare, columns)
    fixes += replace_fixes(bare, near)
    if exact and not here:
        fixes.insert(0, f"The column {shown(bare)!r} is in {listed(exact, 8)}: join that table.")
    elif here and "." in name:
        owner = name.rsplit(".", 1)[0]
        fixes.insert(0, f"{shown(bare)!r} is a column of {listed(here, 8)}; check what {shown(owner)!r} stands for.")
    if len(used) <= 4:
        fixes += [f"Columns of {table}: {listed(names, 40)}." for table, names in used.items()]
    elif not near:
        fixes.append(_NOTHING_FOUND)
    where = f" in {listed(used, 4)}" if used and len(used) <= 4 and not here else ""
    return Finding(f"There is no column {shown(name)!r}{where}.", tuple(fixes), missing=name, at=_place(facts, bare))


def _as_value(sql: str, word: str) -> bool:
    """Whether the word stands where a value is compared."""
    return re.search(rf"(=|<>|!=|\bLIKE\b|\bIN\s*\()\s*[\"`]?{re.escape(word)}\b", sql, re.IGNORECASE) is not None


def _ambiguous(facts: Facts, match: "re.Match[str]") -> Finding:
    name = match[1].strip()
    owners = [table for table, names in _used(facts).items() if folded(name) in {folded(other) for other in names}]
    fixes = [f"Write which one is meant: {shown(owner)}.{shown(name)} (or the table's alias)." for owner in owners[:4]]
    fixes = fixes or [f"Write the table or its alias before it: table.{shown(name)}."]
    cause = f"Several tables of the query have a column {shown(name)!r}: {listed(owners, 8)}." if owners else ""
    cause = cause or f"Several tables of the query have a column {shown(name)!r}."
    return Finding(cause, tuple(fixes), missing=None, at=_place(facts, name))


def _no_function(facts: Facts, match: "re.Match[str]") -> Finding:
    name = match[1].strip()
    known = _FUNCTIONS.get(name.casefold())
    fixes = [f"Instead of {shown(name)}(...) write {known}."] if known else []
    fixes.append(
        "SQLite knows strftime, date, datetime, julianday, substr, instr, round, ifnull, coalesce, group_concat."
    )
    return Finding(f"SQLite has no function {shown(name)!r}.", tuple(fixes), missing=name, at=_place(facts, name))


def _near(facts: Facts, match: "re.Match[str]") -> Finding:
    token = match[1]
    place = _syntax_place(statement(facts), token)
    at = place if facts.language == "sql" else None
    where = f" (line {place[0]} of the statement, character {place[1] + 1})" if place else ""
    hint = _DIALECT.get(token.casefold())
    fixes = [hint] if hint else []
    sql = statement(facts)
    if sql.lstrip().startswith("```"):
        fixes.insert(0, "Send the statement alone, without the ``` fences.")
    if place and not hint:
        before = "\n".join(sql.splitlines()[: place[0]])
        before = before[: len(before) - len(sql.splitlines()[place[0] - 1]) + place[1]].rstrip()
        fixes.append(f"Look just before it, after {shown(before[-60:])!r}: a comma, an operator or a quote is missing.")
    if not re.fullmatch(r"\w+", token):
        fixes.append("Names with blanks or signs go in double quotes, texts in single quotes ('' for a quote inside).")
    return Finding(f"The SQL cannot be read at {shown(token)!r}{where}.", tuple(fixes), at=at)


def _incomplete(facts: Facts, match: "re.Match[str]") -> Finding:
    sql = re.sub(r"'(?:[^']|'')*'", "", statement(facts))
    fixes = []
    if sql.count("(") > sql.count(")"):
        fixes.append(f"Close the bracket: {sql.count('(')} are opened, {sql.count(')')} closed.")
    if "'" in sql:
        fixes.append("Close the single quote; a quote inside a text is written twice ('').")
    fixes.append("Complete the statement: it ends where more was expected.")
    return Finding("The SQL statement ends too early.", tuple(fixes))


def _token(facts: Facts, match: "re.Match[str]") -> Finding:
    token = match[1]
    fixes = ["Close the quote: a text goes in single quotes, and a quote inside it is written twice ('')."]
    if not token.startswith(("'", '"')):
        fixes = [_DIALECT.get(token.casefold(), f"Remove or replace {shown(token)!r}; a parameter is written ?.")]
    return Finding(f"SQLite does not know the token {shown(token)!r}.", tuple(fixes), at=_place(facts, token))


def _says(cause: str, *fixes: str) -> _Rule:
    return lambda facts, match: Finding(cause, fixes)


def _place(facts: Facts, token: str) -> tuple[int, int, int] | None:
    """Where the token first stands in SQL code, outside of texts in single quotes."""
    if facts.language != "sql" or not token:
        return None
    pattern = rf"'(?:[^']|'')*'|(?<!\w){re.escape(token)}(?!\w)" if token[0].isalnum() else re.escape(token)
    code = facts.code or ""
    for found in re.finditer(pattern, code, re.IGNORECASE):
        if found[0].casefold() == token.casefold():
            return _position(code, found.start(), len(token))
    return None


def _syntax_place(sql: str, token: str) -> tuple[int, int, int] | None:
    """The token at which SQLite's parser stops: the first one up to which the statement is refused for it.

    The beginnings of the statement are parsed (never run: EXPLAIN on an empty database, everything forbidden).
    """
    if not token or len(sql) > 20_000:
        return None
    places = [found.start() for found in re.finditer(re.escape(token), sql, re.IGNORECASE)][:100]
    with closing(sqlite3.connect(":memory:")) as database:
        database.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
        for start in places:
            # One more token: the parser reports a word only when it has seen where the word ends.
            if f'near "{token}": syntax error' in _complaint(database, sql[: start + len(token)] + " "):
                return _position(sql, start, len(token))
    return None


def _complaint(database: sqlite3.Connection, sql: str) -> str:
    try:
        database.execute(f"EXPLAIN {sql}")
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return str(error)
    return ""


def _position(text: str, start: int, length: int) -> tuple[int, int, int]:
    line = text.count("\n", 0, start) + 1
    return line, start - (text.rfind("\n", 0, start) + 1), length


_RULES: tuple[tuple["re.Pattern[str]", _Rule], ...] = (
    (re.compile(r"no such table: ([^\n]{1,200})"), _no_table),
    (re.compile(r"no such column: ((?:\"[^\"\n]{1,200}\"|[^\n])+?)(?= - should this be|\s*$|\n)"), _no_column),
    (re.compile(r"has no column named ([^\n]{1,200})"), _no_column),
    (re.compile(r"ambiguous column name: ([^\n]{1,200})"), _ambiguous),
    (re.compile(r"no such function: ([^\n]{1,200})"), _no_function),
    (re.compile(r'near "([^\n]{1,200}?)": syntax error'), _near),
    (re.compile(r"incomplete input"), _incomplete),
    (re.compile(r'unrecognized token: "([^\n]{1,200})"'), _token),
    (
        re.compile(r"misuse of (?:aggregate|window)"),
        _says(
            "An aggregate such as COUNT or SUM stands where single rows are tested.",
            "Test groups with HAVING after GROUP BY, or compute the aggregate in a subquery first.",
        ),
    ),
    (
        re.compile(r"readonly database|read-only database|database is read-only"),
        _says(
            "The task's database can only be read.",
            "Select only; to keep results, write a database or file of your own under /work.",
        ),
    ),
    (
        re.compile(r"one statement at a time|only (?:execute )?one statement"),
        _says("Several statements were sent at once.", "Send one statement in a call, without anything after the ;."),
    ),
    (
        re.compile(r"do not have the same number of result columns"),
        _says("The SELECTs of a UNION give different numbers of columns.", "Select as many columns on both sides."),
    ),
    (
        re.compile(r"returns (\d+) columns - expected (\d+)|sub-select returns"),
        _says("A subquery gives more columns than fit there.", "Select one column in the subquery."),
    ),
    (
        re.compile(r"wrong number of arguments to function (\w{1,60})"),
        lambda facts, match: Finding(
            f"The function {match[1]} was given a wrong number of arguments.",
            (f"Check the arguments of {match[1]}; aggregates take one expression.",),
            at=_place(facts, match[1]),
        ),
    ),
    (
        re.compile(r"unable to open database file|file is not a database|database .{1,300} is not there"),
        _says(
            "What was opened is not the task's database.",
            "Open it with the line that start_task gives for the file in /data; nothing can be created there.",
        ),
    ),
    (
        re.compile(r"Incorrect number of bindings|did not supply a value for binding"),
        _says(
            "The statement has another number of parameters than values were given.",
            "Give a tuple with one value for each ?, also for a single one: (value,).",
        ),
    ),
    (
        re.compile(r"interrupted|too many terms|String or BLOB exceeded"),
        _says(
            "The database stopped the statement because it is too large or ran too long.",
            "Filter earlier, join on keys, and aggregate in steps.",
        ),
    ),
    (
        re.compile(r"session has no database"),
        _says("This task has no database to query.", "Read the files in /data with Python."),
    ),
    (re.compile(r"not authorized|prohibited"), _says("The database forbids this statement.", "Use SELECT only.")),
)

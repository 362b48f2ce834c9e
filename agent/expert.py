"""A scripted analyst that works on tasks whose solution it knows, the way a good analyst would: the teacher.

It knows a task's oracle through the Python API, and nothing else of its truth; it acts over MCP like any model, and
the loop and the records are the same. It looks at tables and values first, sometimes makes a typical mistake, reads
the error or the odd result, mends the code, checks, and submits. Paths and words are drawn by a seed.

What it knows never shows: a mistake is mended because of what the environment answered or the question says, and every
text is one that could have been written without the solution at hand.
"""

import ast
import json
import random
import re
from collections.abc import Generator, Sequence
from typing import Any

from agent import mistakes
from agent.models import Completion, ToolSchema, assistant, call, without_tokens
from agent.words import say
from tasks.attempt import FunctionCall, Message
from tasks.task import Task

Plan = Generator[tuple[str, FunctionCall], str, None]
"""Yields turns, and is sent the observation that follows each."""

MISTAKES = 0.4
"""Share of episodes with a mistake, where the code offers a place for one."""

_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_VALUE = re.compile(r"^value: (.*)$", re.M)
_FROM = re.compile(r"\b(?:FROM|JOIN)\s+([A-Za-z_]\w*)", re.I)
_SHORT = 300


class Expert:
    """The analyst at one task: a Model for one attempt. `oracle` is the task's solution, `seed` draws the path."""

    name = "expert"

    def __init__(self, task: Task, oracle: str, *, seed: int = 0, mistakes: float = MISTAKES) -> None:
        self._rng = random.Random(f"{task.id} {seed}")
        self._task, self._oracle, self._share = task, oracle.strip() + "\n", mistakes
        self._plan: Plan | None = None

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, temperature: float, max_tokens: int
    ) -> Completion:
        """The next turn. Raises ModelFailed never; an expert whose plan is done gives up."""
        try:
            if self._plan is None:
                self._plan = self._sql_plan() if _sql_of(self._oracle) else self._note_plan()
                text, action = next(self._plan)
            else:
                text, action = self._plan.send(messages[-1].content or "")
        except StopIteration:
            text, action = "", call("close_episode")
        return without_tokens(assistant(text or None, [action], before=messages))

    # Questions that are answered from a database

    def _sql_plan(self) -> Plan:
        sql = _sql_of(self._oracle)
        yield from self._look(sql)
        made = mistakes.make(sql, mistakes.SQL, self._rng) if self._rng.random() < self._share else None
        if made is not None:
            direct = self._rng.random() < 0.5
            seen = yield self._run_sql(made.code, direct, "query")
            if made.shows == "error":
                yield from self._read_error(made, seen)
            else:
                yield from self._doubt(made, seen)
            seen = yield self._run_sql(sql, False, "mended")
        else:
            if self._rng.random() < 0.35:
                yield self._run_sql(sql, True, "try")
            seen = yield self._run_sql(sql, False, "query")
        yield from self._check_and_submit(seen)

    def _look(self, sql: str) -> Plan:
        """At tables, columns and values, as much as the seed draws, but never at nothing."""
        tables = list(dict.fromkeys(found.upper() for found in _FROM.findall(_LITERAL.sub("''", sql))))
        asked = self._task.problem.lower()
        texts = [text for text in _compared(sql) if len(text) > 2 and text.replace("''", "'").lower() in asked]
        looked = False
        if self._rng.random() < 0.6:
            yield say("tables", self._rng), call("request_info", kind="tables")
            looked = True
        wanted = self._rng.sample(tables, min(len(tables), self._rng.choice((1, 1, 2))))
        for table in wanted if self._rng.random() < 0.75 or not texts else ():
            yield say("columns", self._rng, table=table), call("request_info", kind="columns", table=table)
            looked = True
        if texts and (self._rng.random() < 0.6 or not looked):
            term = self._rng.choice(texts).replace("''", "'")
            yield say("search", self._rng, term=term), call("request_info", kind="search", term=term)
        elif not looked:
            yield say("tables", self._rng), call("request_info", kind="tables")

    def _run_sql(self, sql: str, direct: bool, words: str) -> tuple[str, FunctionCall]:
        if direct:
            return say(words, self._rng), call("execute_code", code=sql, language="sql")
        opened = self._task.data[0].open_with if self._task.data else 'sqlite3.connect("/data/db.sqlite")'
        quoted = repr(sql) if '"""' in sql or "\\" in sql or sql.endswith('"') else f'"""{sql}"""'
        code = f"import sqlite3\n\ndb = {opened}\nsql = {quoted}\n"
        code += "answer = [list(row) for row in db.execute(sql)]\nanswer"
        return say(words, self._rng), call("execute_code", code=code)

    def _doubt(self, made: mistakes.Mistake, seen: str) -> Plan:
        """A result that cannot be right, or that does not answer the whole question."""
        if made.kind == "wrong case":
            said = say("empty", self._rng, place=made.place)
            yield said, call("request_info", kind="search", term=made.place.replace("''", "'"))
            return
        if self._rng.random() < 0.5:
            table = next(iter(_FROM.findall(made.code)), "ADMISSIONS").upper()
            yield say("window", self._rng), call("request_info", kind="columns", table=table)

    # Notes that are calculated with

    def _note_plan(self) -> Plan:
        code, rng = self._oracle, self._rng
        if re.fullmatch(r"\s*answer = None\s*", code):
            yield from self._abstain()
            return
        made = mistakes.make(code, mistakes.PYTHON, rng) if rng.random() < self._share else None
        if made is not None:
            seen = yield say("compute", rng), call("execute_code", code=_shown(made.code))
            if made.shows == "error":
                yield from self._read_error(made, seen)
            mended = "unit" if made.kind == "forgotten unit" else "mended"
            seen = yield say(mended, rng, place=made.place.replace("_", " ")), call("execute_code", code=_shown(code))
        elif (parts := _parts(code)) is not None and rng.random() < 0.5:
            imports, rules, values, answer = parts
            first, second = ("rules", "values") if rng.random() < 0.5 else ("values", "rules")
            text = {"rules": rules, "values": values}
            yield say(first, rng), call("execute_code", code=f"{imports}\n{text[first]}".lstrip())
            seen = yield say("answer", rng), call("execute_code", code=_shown(f"{text[second]}\n{answer}"))
        else:
            seen = yield say("compute", rng), call("execute_code", code=_shown(code))
        yield from self._check_and_submit(seen)

    def _abstain(self) -> Plan:
        if self._rng.random() < 0.5:
            yield say("missing", self._rng), call("execute_code", code="answer = None\nprint(answer)")
            yield say("nothing", self._rng), call("submit_answer", variable="answer")
        else:
            yield say("missing", self._rng), call("submit_answer", answer=None)

    # Both

    def _read_error(self, made: mistakes.Mistake, seen: str) -> Plan:
        """Ask for an explanation, or look up what was got wrong, or see it at once."""
        chance = self._rng.random()
        if chance < 0.6:
            yield say("debug", self._rng), call("debug_code")
        elif chance < 0.8 and made.kind in ("wrong column", "wrong table"):
            tables = _FROM.findall(_LITERAL.sub("''", _sql_of(self._oracle)))
            if made.kind == "wrong table" or not tables:
                yield say("tables again", self._rng), call("request_info", kind="tables")
            else:
                table = self._rng.choice(tables).upper()
                yield say("columns", self._rng, table=table), call("request_info", kind="columns", table=table)

    def _check_and_submit(self, seen: str) -> Plan:
        if self._rng.random() < 0.3:
            code = self._rng.choice(("print(type(answer), answer)", "print(answer)", "repr(answer)[:500]"))
            yield say("check", self._rng), call("execute_code", code=code)
        value, known = _read(seen)
        if known and self._rng.random() < 0.5:
            yield say("submit", self._rng), call("submit_answer", answer=value)
        else:
            yield say("submit", self._rng), call("submit_answer", variable="answer")


def _sql_of(oracle: str) -> str:
    """The query of an oracle; empty where it has none."""
    try:
        tree = ast.parse(oracle)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "execute":
            argument = node.args[0] if node.args else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                return argument.value
    return ""


def _compared(sql: str) -> list[str]:
    """Texts that columns are compared with, as they stand in the SQL."""
    return [text for text in re.findall(r"\w\s*=\s*'((?:[^']|'')*)'", sql) if not re.match(r"\d{4}-\d\d", text)]


def _parts(code: str) -> tuple[str, str, str, str] | None:
    """A computation as its imports, functions, values, and the line that answers; None where it is of another kind."""
    tree = ast.parse(code)
    lines = code.splitlines()

    def text(nodes: Sequence[ast.stmt]) -> str:
        return "\n".join("\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in nodes)

    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    rules = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    answers = [node for node in assigned if isinstance(node.targets[0], ast.Name) and node.targets[0].id == "answer"]
    values = [node for node in assigned if node not in answers]
    if not rules or not values or len(answers) != 1 or len(imports) + len(rules) + len(assigned) != len(tree.body):
        return None
    return text(imports), text(rules), text(values), text(answers)


def _shown(code: str) -> str:
    """The code, and its answer as the value of the call."""
    return f"{code.rstrip()}\nanswer"


def _read(seen: str) -> tuple[Any, bool]:
    """The value that a call showed, where it is short and JSON says the same; whether there is one."""
    found = _VALUE.search(seen)
    if found is None or len(found.group(1)) > _SHORT:
        return None, False
    try:
        value = ast.literal_eval(found.group(1))
        return (value, True) if json.loads(json.dumps(value, allow_nan=False)) == value else (None, False)
    except (ValueError, SyntaxError, TypeError):
        return None, False

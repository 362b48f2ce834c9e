"""Error grounding: what went wrong in plain words, where, with which values, and what is likely meant, from rules.

Everything comes from facts that the session sent about the agent's own error, the code that the agent wrote, and the
public catalogue; nothing from a task's truth can be in it. The facts are untrusted texts: they are cut and quoted,
never evaluated. Rules: `feedback_names` (names, keys, attributes, modules, files), `feedback_sql`,
`feedback_packages` (what pip does not find), and `feedback_messages` (what a message alone tells).
"""

import re

from pydantic import Field

from mcp_server import feedback_messages, feedback_names, feedback_packages, feedback_sql
from mcp_server.feedback_base import Facts, Finding, shown
from sandbox.base import CodeError, Language
from tasks.catalog import Catalog
from tasks.event_log import plain
from tasks.task import Frozen

_MAX_MESSAGE = 2_000
_MAX_TEXT = 50_000
_MAX_FIXES = 6
_MAX_VALUES = 12
_MAX_CANDIDATES = 1_000
_AROUND = 2
"""Lines of code shown before and after the failing one."""

_FRAME = re.compile(r'^\s*File "([^"]{0,300})", line (\d{1,7})', re.MULTILINE)
_LAST = re.compile(r"^(?:\w{1,60}\.){0,6}([A-Za-z_]\w{0,80}):[ \t]?(.*)$")
_BARE = re.compile(r"^(?:\w{1,60}\.){0,6}([A-Z]\w{0,80}(?:Error|Exception|Interrupt|Iteration|Exit|Warning))\s*$")
_LIBRARY = re.compile(r"site-packages|/lib/python|<frozen|importlib|/interpreter/")


class Diagnosis(Frozen):
    """What `debug_code` answers. `values` are the names on the failing line; `fixes` the likeliest first."""

    cause: str
    line: int | None = None
    source: str | None = None
    values: dict[str, str] = Field(default_factory=dict)
    missing: str | None = None
    fixes: tuple[str, ...] = ()
    snippet: str = ""


def explain(
    error: CodeError,
    *,
    language: Language,
    code: str | None,
    catalog: Catalog | None,
    offered: tuple[str, ...] | None = None,
) -> Diagnosis:
    """Explain an error whose facts a session sent. Never raises for anything in them.

    `offered`: the packages that pip can install in the session; None where the server was started without any.
    """
    # `plain` takes out lone surrogates, which no JSON writer accepts.
    facts = Facts(
        type=plain(error.type.rsplit(".", 1)[-1][:100]),
        message=plain(error.message[:_MAX_MESSAGE]),
        language=language,
        code=None if code is None else plain(code[:_MAX_TEXT]),
        line=error.line,
        source=None if error.source is None else plain(error.source[:_MAX_MESSAGE]),
        names={plain(name): plain(value[:_MAX_MESSAGE]) for name, value in list(error.names.items())[:_MAX_VALUES]},
        missing=None if error.missing is None else plain(error.missing[:_MAX_MESSAGE]),
        candidates=tuple(plain(name[:_MAX_MESSAGE]) for name in error.candidates[:_MAX_CANDIDATES]),
        traceback=plain(error.traceback[-_MAX_TEXT:]),
        catalog=catalog,
        offered=offered,
    )
    finding = _find(facts)
    line = finding.at[0] if finding.at else facts.line
    source = _line_of(facts.code, line) or facts.source
    return Diagnosis(
        cause=shown(finding.cause, 600),
        line=line,
        source=None if source is None else source.rstrip()[:400],
        values={shown(name, 60): shown(value, 300) for name, value in facts.names.items()},
        missing=shown(finding.missing) if finding.missing else None,
        fixes=tuple(shown(fix, 500) for fix in dict.fromkeys(finding.fixes))[:_MAX_FIXES],
        snippet=_snippet(facts.code, line, finding.at),
    )


def explain_text(
    text: str,
    *,
    language: Language = "python",
    code: str | None = None,
    catalog: Catalog | None = None,
    offered: tuple[str, ...] | None = None,
) -> Diagnosis:
    """Explain an error as the agent pasted it: a traceback, its last line, a database's or a shell's message."""
    text = text[-_MAX_TEXT:]
    name, message = _last_line(text)
    if name is None:
        name = "ShellError" if language == "shell" else "sqlite3.OperationalError" if _is_sql(language, text) else ""
    lines = [int(number) for file, number in _FRAME.findall(text) if not _LIBRARY.search(file)]
    line = lines[-1] if lines else None
    if line is not None and code is not None and line > code.count("\n") + 1:
        line = None
    error = CodeError(type=name, message=message, traceback=text, line=line, source=_line_of(code, line))
    return explain(error, language=language, code=code, catalog=catalog, offered=offered)


def _find(facts: Facts) -> Finding:
    for rules in (feedback_sql.find, feedback_names.find, feedback_packages.find, feedback_messages.find):
        if finding := rules(facts):
            return finding
    what = f"{facts.type}: {shown(facts.message, 400)}" if facts.type else shown(facts.message, 400)
    cause = f"The code stopped with {what}." if what.strip() else "No error text was given."
    fix = "Print the values on the failing line, and run the code in smaller steps; what earlier calls set is kept."
    return Finding(cause, (fix,), missing=facts.missing)


def _last_line(text: str) -> tuple[str | None, str]:
    """The exception's class and message: from the last line that looks like one (a message may go on below it)."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        if bare := _BARE.match(line):
            return bare[1], ""
        if (found := _LAST.match(line)) and (found[1][0].isupper() or found[1].endswith("Error")):
            return found[1], "\n".join([found[2], *lines[at + 1 :]])
    return None, "\n".join(lines[-20:])


def _is_sql(language: Language, text: str) -> bool:
    return language == "sql" or feedback_sql.speaks(text)


def _line_of(code: str | None, line: int | None) -> str | None:
    lines = (code or "").splitlines()
    return lines[line - 1] if line is not None and 0 < line <= len(lines) else None


def _snippet(code: str | None, line: int | None, at: tuple[int, int, int] | None) -> str:
    """The lines around `line` with their numbers, the line marked, and a caret line under `at`."""
    lines = (code or "").splitlines()
    if line is None or not 0 < line <= len(lines):
        return ""
    first, last = max(1, line - _AROUND), min(len(lines), line + _AROUND)
    width = len(str(last))
    rows = []
    for number in range(first, last + 1):
        rows.append(f"{'>' if number == line else ' '} {number:>{width}} | {lines[number - 1][:300]}".rstrip())
        if at is not None and number == line and at[1] < 300:
            blank = re.sub(r"[^\t]", " ", lines[number - 1][: at[1]])
            rows.append(f"  {' ' * width} | {blank}{'^' * max(1, min(at[2], 80))}")
    return "\n".join(rows)

"""Rules for code that Python cannot read: where, and what is usually meant."""

import re

from mcp_server.feedback_base import Facts, Finding, shown

_TYPES = {"SyntaxError", "IndentationError", "TabError"}
_SQL = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|CREATE|EXPLAIN|PRAGMA)\b", re.IGNORECASE)
_POSITION = r"\s*\((?:[^()]{0,200}, )?line (\d{1,7})(?:, column (\d{1,7}))?\)\s*$"
_SHELL = re.compile(r"\s*(!|%|\$ |(?:ls|cat|head|pip|cd|grep|wc|python3?|sqlite3) )")

_HINTS: tuple[tuple[str, str], ...] = (
    (r"'(.)' was never closed", "Close the bracket that is opened on this line."),
    (r"closing parenthesis|unmatched", "The brackets do not match: count those that are opened and closed."),
    (r"expected ':'", "End the line (if, for, while, def, class, else, try, with) with a colon."),
    (r"expected an indented block", "Indent the lines after the colon by four blanks, or write pass."),
    (r"unexpected indent", "Take away the blanks at the start of this line, or indent the whole block alike."),
    (r"unindent does not match|inconsistent use of tabs", "Indent the block alike everywhere: four blanks, no tabs."),
    (r"unterminated triple-quoted", "Close the text with the same three quotes (\"\"\" or ''')."),
    (
        r"unterminated (f-)?string|EOL while scanning",
        "Close the quote; for a text over several lines use three quotes.",
    ),
    (r"f-string", "In an f-string use other quotes inside the braces than around the text, and {{ }} for braces."),
    (r"Perhaps you forgot a comma", "Put a comma between the elements, or an operator between the values."),
    (r"Maybe you meant '==|cannot assign to", "Compare with ==; = sets a name and cannot stand in an expression."),
    (r"Missing parentheses in call", "print is a function: print(...)."),
    (r"leading zeros", "Write whole numbers without leading zeros, codes such as '0123' as texts."),
    (
        r"invalid (decimal literal|character)|non-printable",
        "Names cannot begin with a digit; use plain quotes and signs.",
    ),
    (r"positional argument follows keyword", "Put arguments without a name before those with one."),
    (r"(return|yield|await)' outside", "Leave it out at the top level: the value of the last expression is shown."),
    (r"expected 'except' or 'finally'", "Give the try block its except or finally."),
    (r"unexpected EOF|was expected|unexpected end", "The code ends too early: complete the last statement."),
)


def find(facts: Facts) -> Finding | None:
    if facts.type not in _TYPES:
        return None
    message = re.sub(_POSITION, "", facts.message)
    fixes: list[str] = []
    code = facts.code or ""
    source = facts.source or ""
    if "```" in code or "```" in source:
        fixes.append("Send the code alone, without the ``` fences.")
    elif _SQL.match(source) and not re.match(r"\s*with\b.*:\s*$", source):
        fixes.append("This is SQL: call execute_code with language sql, or put it in a text for read_sql_query.")
    elif _SHELL.match(source):
        fixes.append("This is a shell command: call run_terminal.")
    fixes += [hint for pattern, hint in _HINTS if re.search(pattern, message)][:2]
    if not fixes:
        fixes.append(
            "Look at this line and the end of the line before: a bracket, a quote, a comma or a colon is missing."
        )
    where = f" at line {facts.line}" if facts.line else ""
    what = "is not indented as Python wants it" if facts.type != "SyntaxError" else "is not Python"
    return Finding(f"The code {what}{where}: {shown(message, 200)}.", tuple(fixes), at=_caret(facts))


def _caret(facts: Facts) -> tuple[int, int, int] | None:
    """The spot that Python's own report marks, moved to the line as it stands in the code."""
    lines = (facts.code or "").splitlines()
    if facts.line is None or not 0 < facts.line <= len(lines):
        return None
    told = re.search(_POSITION, facts.message)
    if told and told[2] and 0 < int(told[2]) <= len(lines[facts.line - 1]) + 1:
        return facts.line, int(told[2]) - 1, 1
    report = facts.traceback.splitlines()
    for above, marks in zip(report, report[1:], strict=False):
        found = re.fullmatch(r"(\s*)(\^+)\s*", marks)
        if found and above.strip() and above.strip() == lines[facts.line - 1].strip():
            shift = len(found[1]) - (len(above) - len(above.lstrip()))
            indent = len(lines[facts.line - 1]) - len(lines[facts.line - 1].lstrip())
            if shift >= 0:
                return facts.line, indent + shift, len(found[2])
    return None

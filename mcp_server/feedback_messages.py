"""Rules for errors whose message alone tells the cause: a table of (types, pattern, cause, fixes).

`{name}` in a cause or fix is the group of that name of the pattern. The first rule that matches is taken.
"""

import re
from dataclasses import dataclass

from mcp_server.feedback_base import Facts, Finding, nearest, replace_fixes, shown
from mcp_server.feedback_syntax import find as find_in_syntax


@dataclass(frozen=True)
class _Rule:
    types: str
    """Class names divided by blanks; "" for any."""
    pattern: str
    cause: str
    fixes: tuple[str, ...]

    def match(self, facts: Facts) -> Finding | None:
        if self.types and facts.type not in self.types.split():
            return None
        found = re.search(self.pattern, facts.message, re.IGNORECASE)
        if found is None:
            return None
        parts = {name: shown(text or "", 80) for name, text in found.groupdict().items()}
        return Finding(
            self.cause.format_map(parts), tuple(fix.format_map(parts) for fix in self.fixes), missing=facts.missing
        )


def find(facts: Facts) -> Finding | None:
    if finding := find_in_syntax(facts):
        return finding
    if finding := _keyword(facts):
        return finding
    for rule in _RULES:
        if finding := rule.match(facts):
            return _with_values(facts, finding)
    return None


def _keyword(facts: Facts) -> Finding | None:
    match = re.search(r"(\S{1,80}) got an unexpected keyword argument '([^']{1,80})'", facts.message)
    if facts.type != "TypeError" or match is None:
        return None
    fixes = replace_fixes(match[2], nearest(match[2], facts.candidates))
    fixes.append(f"See its arguments with help({shown(match[1]).split('(')[0]}).")
    cause = f"{shown(match[1])} takes no argument named {match[2]!r}."
    return Finding(cause, tuple(fixes), missing=match[2])


def _with_values(facts: Facts, finding: Finding) -> Finding:
    """Say which name on the line is empty or None, where that explains the error."""
    told = []
    for name, text in list(facts.names.items())[:20]:
        if text == "None":
            told.append(f"{shown(name, 60)} is None.")
        elif re.match(r"(DataFrame 0x|Series of 0\b|\w+ of 0\b|ndarray of shape \(0)", text):
            told.append(f"{shown(name, 60)} is empty: check the filter or join that made it.")
        elif text == "0" and facts.type == "ZeroDivisionError":
            told.append(f"{shown(name, 60)} is 0.")
    return Finding(finding.cause, (*told[:3], *finding.fixes), finding.missing, finding.at)


_DATES = "Convert texts to dates first: pd.to_datetime(...), errors='coerce' for those that are none."
_NUMBERS = "Convert texts to numbers first: pd.to_numeric(..., errors='coerce'), int(...) or float(...)."
_ENDED = "The session was ended with it: start the task again if attempts are left, and do less at once."

_RULES: tuple[_Rule, ...] = (
    _Rule(
        "IndexError",
        r"out of (range|bounds)|out-of-bounds|too many indices",
        "A position past the end was asked for.",
        ("Look at the length first (len(...), .shape); positions start at 0.",),
    ),
    _Rule("IndexError", r"pop from empty|no item", "Something empty was asked for an element.", ("Test it first.",)),
    _Rule(
        "TypeError",
        r"'NoneType' object is not (?P<what>subscriptable|iterable|callable)|cannot unpack non-iterable NoneType",
        "The value is None where something else was expected.",
        (
            "Test for None: a search, .get(...) or fetchone() found nothing, or a function returned nothing.",
            "Methods that change in place (list.sort, inplace=True) return None: do not assign their result.",
        ),
    ),
    _Rule(
        "TypeError",
        r"unsupported operand type\(s\) for (?P<op>\S{1,12}(?: or \S{1,12})?): "
        r"'(?P<a>[^']{1,60})' and '(?P<b>[^']{1,60})'",
        "{op} does not work between {a} and {b}.",
        (_DATES, _NUMBERS, "Test for None or NaN before computing."),
    ),
    _Rule(
        "TypeError",
        r"'(?P<op>[<>=!]{1,2})' not supported between instances of '(?P<a>[^']{1,60})' and '(?P<b>[^']{1,60})'",
        "{a} and {b} cannot be compared with {op}.",
        (_NUMBERS, _DATES, "Drop missing values first (.dropna()): NaN counts as a float."),
    ),
    _Rule(
        "TypeError",
        r"can only concatenate (?P<a>\w{1,30}) \(not \"(?P<b>[^\"]{1,60})\"\)|must be str, not (?P<c>\w{1,60})",
        "A text can only be joined with a text.",
        ("Write f'{{value}}' or str(value); or convert the text to a number if a sum is meant.",),
    ),
    _Rule(
        "TypeError",
        r"missing (?P<n>\d{1,3}) required (?:positional|keyword-only) arguments?: (?P<names>.{1,200})",
        "The call leaves out {names}.",
        ("Give every argument that has no default; call methods on an object, not on the class.",),
    ),
    _Rule(
        "TypeError",
        r"takes (?P<want>.{1,60}?) (?:positional )?arguments? (?:but |\()(?P<got>\d{1,4}) (?:was |were )?given",
        "The number of arguments is {got} where {want} fit.",
        ("Name the arguments (key=value); a method counts self.",),
    ),
    _Rule(
        "TypeError",
        r"'(?P<what>[^']{1,60})' object is not callable",
        "A {what} is called like a function.",
        (
            "Remove the brackets, or use [...] for an element.",
            "If the name is that of a function (list, str, sum, max), an assignment replaced it: del the name.",
        ),
    ),
    _Rule(
        "TypeError",
        r"'(?P<what>[^']{1,60})' object is not (?P<how>subscriptable|iterable)",
        "A {what} is not {how}.",
        ("Print type(...) of it; a single value needs no index and no loop; a method needs its brackets.",),
    ),
    _Rule(
        "TypeError",
        r"(?:list|tuple|string|str) indices must be integers",
        "A list or a text was asked for a name instead of a position.",
        (
            "Take the element first (rows[0]['name']), or loop over the rows.",
            "fetchall() gives tuples: use positions, set connection.row_factory = sqlite3.Row, or read with pandas.",
        ),
    ),
    _Rule(
        "TypeError",
        r"unhashable type: '(?P<what>[^']{1,60})'",
        "A {what} cannot be a key or a member of a set.",
        ("Make it a tuple or a text first: tuple(value).",),
    ),
    _Rule(
        "TypeError",
        r"Object of type (?P<what>\w{1,60}) is not JSON serializable",
        "A {what} is not JSON.",
        ("Convert it: int(value), float(value), value.tolist(), str(value), df.to_dict('records').",),
    ),
    _Rule(
        "TypeError",
        r"tz-(?:naive|aware)|offset-(?:naive|aware)",
        "Times with and without a time zone are mixed.",
        ("Drop the zone with .dt.tz_localize(None), or read all with pd.to_datetime(..., utc=True).",),
    ),
    _Rule(
        "TypeError",
        r"(?:could not convert .{0,400}to numeric|agg function failed|does not support (?:reduction|operation))",
        "A text column was asked for a number such as a mean.",
        ("Choose the numeric columns first, or numeric_only=True.", _NUMBERS),
    ),
    _Rule(
        "ValueError",
        r"could not convert string to float: (?P<what>.{1,120})|"
        r"invalid literal for int\(\) .{0,30}: (?P<also>.{1,120})",
        "The text {what}{also} is not a number.",
        (
            _NUMBERS,
            "Look at the odd values: column[pd.to_numeric(column, errors='coerce').isna()].unique().",
            "int('3.0') fails: write int(float(text)).",
        ),
    ),
    _Rule(
        "ValueError DateParseError OutOfBoundsDatetime OutOfBoundsTimedelta ParserError",
        r"time data|does not match format|unconverted data remains|unknown (?:string|datetime) format|isoformat|"
        r"out of bounds nanosecond|month must be|overflow",
        "A text is not a date of the expected form.",
        (
            "Look at the text; %Y-%m-%d %H:%M:%S is the form of most databases.",
            "Use pd.to_datetime(column, errors='coerce'), or format='mixed'.",
            "Dates that were shifted far away overflow when subtracted: use .dt.year, or Python's own dates.",
        ),
    ),
    _Rule(
        "ValueError",
        r"not enough values to unpack \(expected (?P<want>\d{1,6}), got (?P<got>\d{1,6})\)",
        "{want} names are set from {got} values.",
        ("Print the value first; an empty result or a split that found nothing gives fewer parts.",),
    ),
    _Rule(
        "ValueError",
        r"too many values to unpack",
        "More values came than names are set.",
        ("Take the ones you need by position, or collect the rest with *rest.",),
    ),
    _Rule(
        "ValueError",
        r"truth value of an? (?:Series|DataFrame|array|Index)",
        "A whole column was used as one true or false.",
        (
            "Combine conditions with & | ~ and put each in brackets: df[(df.a > 1) & (df.b == 2)].",
            "For one answer use .any(), .all(), .empty or .item().",
        ),
    ),
    _Rule(
        "ValueError IntCastingNaNError TypeError OverflowError",
        r"cannot convert (?:float )?(?:NaN|non-finite|infinity)",
        "A missing value cannot become an integer.",
        ("Drop or fill missing values first: .dropna(), .fillna(0), or .astype('Int64').",),
    ),
    _Rule(
        "ValueError",
        r"trying to merge on (?P<a>\S{1,40}) and (?P<b>\S{1,40}) columns",
        "The key columns of the merge have different types: {a} and {b}.",
        ("Give both the same type first: .astype(str), or pd.to_numeric(...).",),
    ),
    _Rule(
        "ValueError",
        r"length of (?:values|index)|length mismatch|all arrays must be of the same length|same first dimension|"
        r"inconsistent numbers of samples|could not be broadcast|shapes? .{1,60}not aligned|must be the same length",
        "Two things that belong together have different lengths.",
        ("Print both lengths; filter both with the same mask, or join on a key instead of on position.",),
    ),
    _Rule(
        "ValueError",
        r"contains (?:NaN|infinity)|Input .{0,40}NaN",
        "The data hold missing or infinite values.",
        ("Drop or fill them first: df.dropna(subset=[...]) or df.fillna(...).",),
    ),
    _Rule(
        "ValueError",
        r"identically-labeled|duplicate (?:labels|axis)|cannot reindex",
        "The indexes of the two sides do not fit together.",
        ("Call .reset_index(drop=True) on both, or compare .to_numpy() values; drop duplicated labels.",),
    ),
    _Rule(
        "ValueError EmptyDataError",
        r"(?:max|min|arg(?:max|min))\(\) .{0,40}empty|empty (?:sequence|iterable)|No columns to parse|No objects to",
        "Something empty was asked for its largest, smallest or only element.",
        ("Test whether it is empty, and check the filter or query that made it.",),
    ),
    _Rule(
        "ValueError",
        r"math domain error|expected a (?:positive|nonnegative) input",
        "A root or logarithm was taken of a value that has none.",
        ("Test for values <= 0 first.",),
    ),
    _Rule(
        "ValueError JSONDecodeError",
        r"Expecting value|Extra data|Expecting property name|Expecting '.' delimiter|Unterminated string|"
        r"Invalid control",
        "The text is not JSON.",
        (
            "Print the text around the place that the message names; JSON wants double quotes, true, false and null.",
            "A file with one JSON object a line is read line by line, or with pd.read_json(path, lines=True).",
        ),
    ),
    _Rule("ZeroDivisionError", "", "Something was divided by zero.", ("Test the divisor first, or filter zeros.",)),
    _Rule("OverflowError", "", "A number became too large.", ("Compute in logarithms or with integers.",)),
    _Rule(
        "RecursionError",
        "",
        "A function calls itself without end.",
        ("Check the condition that ends it, or write a loop.",),
    ),
    _Rule("AssertionError", "", "An assert of the code does not hold.", ("Print the values that it tests.",)),
    _Rule("StopIteration", "", "There is no next element.", ("Give a default: next(items, None).",)),
    _Rule(
        "UnicodeDecodeError UnicodeEncodeError",
        "",
        "The file is not in the encoding that was assumed.",
        ("Open it with encoding='latin-1', or errors='replace'; a .gz file with gzip.open or pd.read_csv.",),
    ),
    _Rule("EOFError", "", "There is no input to read.", ("input() cannot work here: write the value into the code.",)),
    _Rule(
        "BackgroundBusy",
        "",
        "Background work still runs in this episode.",
        ("Poll it with read_output until it is done; then run more code.",),
    ),
    _Rule(
        "ReadOnlyError PermissionError OSError ShellError",
        r"read-only|permission denied|operation not permitted|not permitted",
        "That place can only be read, or that is not allowed here.",
        ("Write under /work; /data is read-only, and the database takes only statements that read.",),
    ),
    _Rule(
        "OSError ShellError",
        r"no space left|disk quota",
        "The work folder is full.",
        ("Delete files in /work; do not copy the data there.",),
    ),
    _Rule(
        "OSError BlockingIOError ShellError RuntimeError",
        r"resource temporarily unavailable|can't start new thread|fork: retry|too many open files",
        "A limit of the session on processes, threads or files was reached.",
        ("Use fewer workers (n_jobs=1), and close files.",),
    ),
    _Rule(
        "IsADirectoryError NotADirectoryError",
        "",
        "A folder was given where a file was expected, or the reverse.",
        ("List it with os.listdir(path).",),
    ),
    _Rule(
        "",
        r"urlopen error|name resolution|network is unreachable|connection refused|max retries exceeded|"
        r"could not resolve host|failed to establish a new connection",
        "There is no network in the sandbox.",
        ("Work with the files in /data.",),
    ),
    _Rule(
        "MemoryError Memory OutOfMemoryError",
        "",
        "The session ran out of memory.",
        (
            "Select columns and rows in SQL before loading them, read in chunks (chunksize=...), del the rest.",
            _ENDED,
        ),
    ),
    _Rule(
        "TimeoutError Timeout TimeoutExpired",
        "",
        "The call took longer than its limit.",
        (
            "Filter in SQL, join on keys and avoid loops over rows (use vectorised pandas).",
            "Run long work with background=true and poll it with read_output.",
            _ENDED,
        ),
    ),
    _Rule(
        "",
        r"\btimed? ?out\b|time limit",
        "The call took longer than its limit.",
        (
            "Filter in SQL, join on keys and avoid loops over rows.",
            "Run long work with background=true and poll it with read_output.",
        ),
    ),
    _Rule(
        "Killed KeyboardInterrupt SystemExit",
        "",
        "The work was stopped from outside, or the code ended itself.",
        ("Leave out exit() and sys.exit(): the session keeps its state between calls.",),
    ),
    _Rule(
        "ShellError",
        r"(?P<what>\S{1,80}): (?:command )?not found",
        "The command {what} is not there.",
        ("Use Python for it (execute_code), or a basic command: ls, head, cat, grep, awk, sort, wc.",),
    ),
    _Rule(
        "ShellError",
        r"(?P<what>[^\s:'\"]{1,200})['\"’]?: No such file or directory",
        "There is no file {what}.",
        ("List what there is: ls -l /data /work.",),
    ),
    _Rule(
        "ShellError",
        r"syntax error|unexpected EOF|unexpected end of file|unterminated",
        "The shell cannot read the command.",
        ("Close quotes and brackets; write longer code with execute_code instead.",),
    ),
    _Rule(
        "ShellError",
        r"exit status (?P<status>\d{1,3})",
        "A command ended with exit status {status}.",
        ("Read stderr; grep ends with 1 when it finds nothing.",),
    ),
)

"""A line for each backend at the end of a run: how many attacks were asserted there. A plugin of pytest."""

from collections import Counter

import pytest

LINE = "attacks asserted,"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: dict[str, Counter[str]] = {}
    kinds: dict[str, set[str]] = {}
    elsewhere: list[str] = []
    for outcome in ("passed", "xfailed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            properties = dict(getattr(report, "user_properties", ()))
            if "attack" in properties and report.when == "call":
                label, name = properties["attack"]
                counts.setdefault(label, Counter())[outcome] += 1
                if outcome == "passed":
                    kinds.setdefault(label, set()).add(name.partition("[")[0])
            elif report.when == "call":
                elsewhere += properties.get("attacks elsewhere", [])
    lines = [
        f"{LINE} {label}: {count['passed']} held ({len(kinds.get(label, ()))} kinds), {count['failed']} got through, "
        f"{count['xfailed']} not claimed and got through, {count['skipped']} not asserted"
        for label, count in counts.items()
    ]
    for line in lines + elsewhere:
        terminalreporter.write_line(line)

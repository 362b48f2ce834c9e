"""A stand-in for the reference environment's way of working, to measure against.

MedAgentGym's environment, as published, runs each piece of code as a fresh `python file.py`, looks once a second
whether it has ended, and answers a request for information by reading every table of the data folder with pandas and
comparing every column with the term. This file does the same work in our own words.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

POLL_SECONDS = 1.0


def execute(code: str) -> str:
    """Run `code` in a fresh interpreter, polled once a second; returns its stdout."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "code.py"
        script.write_text(code)
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
            assert process.stdout is not None
            return process.stdout.read()


def search(folder: Path, term: str) -> dict[str, list[str]]:
    """The columns of each CSV file in `folder` that hold the value `term`, every file read anew."""
    import pandas as pd

    found: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith((".csv", ".csv.gz")):
            table = pd.read_csv(path, low_memory=False)
            found[path.name] = [str(name) for name in table.columns if (table[name] == term).any()]
    return found

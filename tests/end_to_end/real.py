"""The real data root: the open MIMIC-III demo and the MedCalc rows beside the checkout, imported by the command."""

import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, str(Path(__file__).resolve().parents[2] / "med_copilot.py")]


def command(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `med-copilot` in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], check=check, capture_output=True, text=True, timeout=280, cwd="/"
    )


def import_all(shared: Path, root: Path) -> None:
    """Register `mimic_iii`, `medcalcbench` and `medcalc_corrected` in `root`."""
    mimic, medcalc = shared / "mimic_iii", shared / "medcalcbench" / "upstream"
    command("data", "add", "mimic_iii", mimic / "mimic-iii-demo-1.4", "--questions", mimic / "ehrsql" / "valid.json",
            "--open", "--data", root)  # fmt: skip
    rows = medcalc / "test_data_sample.csv"
    command("data", "add", "medcalcbench", rows, "--data", root)
    command("data", "add", "medcalcbench", rows, "--name", "medcalc_corrected", "--labels", "corrected",
            "--overlay", medcalc / "medcalc_v1_corrected_sample.csv", "--data", root)  # fmt: skip

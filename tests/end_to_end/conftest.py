"""Data for machines of other users."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.machines import RESTRICTED
from tests.end_to_end.real import command


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """One that other users may enter."""
    with tempfile.TemporaryDirectory(prefix="med-copilot-machines-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="session")
def data(folder: Path) -> Path:
    """A data root with two open data sets."""
    command("tasks", "generate", "--patients", "40", "--per-category", "2", "--data", folder / "open")
    return folder / "open"


@pytest.fixture(scope="session")
def restricted(folder: Path, data: Path) -> Path:
    """The same, with one of them restricted."""
    root = shutil.copytree(data, folder / "restricted")
    manifest = root / "datasets" / f"{RESTRICTED}_synthetic" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"restricted": false', '"restricted": true'))
    return root

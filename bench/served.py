"""A real server over stdio on generated data, for the benchmarks."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.client import Environment, connect
from bench.measure import child_of
from tasks.data import DataRoot
from tasks.datasets import generate_dataset, synthetic_name
from tasks.family import GenerateOptions

ROOT = Path(__file__).resolve().parent.parent
FAMILY = "mimic_iii"


@dataclass(frozen=True)
class Served:
    """A connected server: `pid` is its process."""

    environment: Environment
    pid: int


def command(root: Path, *options: str) -> list[str]:
    return [sys.executable, str(ROOT / "med_copilot.py"), "serve", "--data", str(root), *options]


@asynccontextmanager
async def serve(root: Path, *options: str) -> AsyncIterator[Served]:
    import os

    async with connect(command(root, *options)) as environment:
        yield Served(environment, child_of(os.getpid()))


def hospital(root: Path, *, patients: int = 100) -> DataRoot:
    """A data root with the synthetic MIMIC-III view, generated unless it is there."""
    data = DataRoot(root)
    if synthetic_name(FAMILY) not in [manifest.name for manifest in data.datasets()]:
        generate_dataset(data, FAMILY, GenerateOptions(patients=patients), progress=lambda *_: None)
    return data

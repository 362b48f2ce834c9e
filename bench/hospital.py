"""Generating 1,000 synthetic patients: time, and whether it grows in proportion."""

import time
from pathlib import Path

import anyio

from bench.measure import Measurement
from tasks.data import DataRoot
from tasks.datasets import generate_dataset
from tasks.family import GenerateOptions


async def run(folder: Path) -> list[Measurement]:
    seconds = {}
    for patients in (250, 1000):
        root, began = DataRoot(folder / f"hospital-{patients}"), time.perf_counter()
        options = GenerateOptions(patients=patients)
        await anyio.to_thread.run_sync(
            lambda r=root, o=options: generate_dataset(r, "mimic_iii", o, progress=lambda *_: None)  # type: ignore[misc]
        )
        seconds[patients] = time.perf_counter() - began
    return [
        Measurement(
            "generate 1,000 synthetic patients (MIMIC-III view, with tasks and catalogue)",
            "<= 30 s, linear",
            f"{seconds[1000]:.1f} s; {seconds[1000] / seconds[250]:.1f}x the time of 250",
            seconds[1000] <= 30 and seconds[1000] / seconds[250] <= 5,
        )
    ]

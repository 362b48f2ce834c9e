"""Grading 10,000 stored submissions again, without a sandbox."""

import time
from pathlib import Path

from bench.measure import Measurement
from bench.served import hospital
from tasks.answers import grade_answer
from tasks.registry import Registry
from tasks.task import Submission

COUNT = 10_000


async def run(folder: Path) -> list[Measurement]:
    registry = Registry(hospital(folder))
    pairs = [(registry.get(task), registry.truth(task)) for task in registry.ids()]
    began = time.perf_counter()
    correct = 0
    for number in range(COUNT):
        task, truth = pairs[number % len(pairs)]
        grade = grade_answer(task.answer, truth, Submission(value=truth.value), grader="bench", version="1")
        correct += grade.correct
    seconds = time.perf_counter() - began
    return [
        Measurement(
            "re-grade 10,000 stored submissions",
            "<= 10 s",
            f"{seconds:.2f} s, {correct} of {COUNT} correct",
            seconds <= 10 and correct == COUNT,
        )
    ]

"""Reading EHRSQL question files: the original JSON lists and MedAgentGym's JSON lines."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.ehrsql.sql import executable
from tasks.errors import DataError
from tasks.task import Split

_NEEDED = ("question", "query", "template", "q_tag", "value")


@dataclass(frozen=True)
class Question:
    """One answerable question. `text` is as asked, `filled` the template with its slots filled in; `sql` is ready to
    run. `answer` is the released answer, where the file has one."""

    id: str
    text: str
    filled: str
    template: str
    sql: str
    slots: dict[str, str]
    split: Split | None
    answer: Any = None


@dataclass(frozen=True)
class QuestionFile:
    questions: list[Question]
    unanswerable: int


def load_questions(path: Path) -> QuestionFile:
    """Read a file, or all *.json and *.jsonl files of a folder. Raises DataError naming file, entry and remedy."""
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix in (".json", ".jsonl") and p.name != "tables.json")
    else:
        paths = [path]
    questions: list[Question] = []
    unanswerable, seen = 0, set[str]()
    for file in paths:
        for number, entry in enumerate(_entries(file), 1):
            if _impossible(entry):
                unanswerable += 1
                continue
            question = _question(file, number, entry)
            if question.id not in seen:
                seen.add(question.id)
                questions.append(question)
    if not questions:
        raise DataError(f"{path.name} holds no answerable question; give EHRSQL's JSON or MedAgentGym's JSON lines.")
    return QuestionFile(questions, unanswerable)


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        stripped = text.lstrip()
        if stripped.startswith("["):
            entries = json.loads(text)
        else:
            entries = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path.name} is neither a JSON list nor JSON lines: {error}. Give EHRSQL's train, valid or test.json."
        ) from None
    if not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path.name}: every entry must be an object. Give EHRSQL's train, valid or test.json.")
    return list(entries)


def _impossible(entry: dict[str, Any]) -> bool:
    return bool(entry.get("is_impossible")) or str(entry.get("query", "")).strip().lower() in ("nan", "null")


def _question(path: Path, number: int, entry: dict[str, Any]) -> Question:
    missing = [key for key in _NEEDED if key not in entry]
    wrong = [k for k in _NEEDED if k in entry and not isinstance(entry[k], dict if k == "value" else str)]
    if missing or wrong:
        what = f"has no {', '.join(missing)}" if missing else f"has a wrong type in {', '.join(wrong)}"
        raise DataError(f"{path.name}, entry {number} {what}. Give EHRSQL's train, valid or test.json as released.")
    split = entry.get("split")
    local = re.sub(r"[^A-Za-z0-9_-]", "-", str(entry.get("id") or f"{path.stem}-{number}"))[:80].lstrip("-_")
    return Question(
        id=local or f"q-{number}",
        text=entry["question"].strip(),
        filled=entry["template"].strip(),
        template=entry["q_tag"].strip(),
        sql=executable(entry["query"].strip().rstrip(";")),
        slots={name: _plain(value) for name, value in entry["value"].items() if value is not None},
        split=None if split not in ("train", "valid", "test") else "train" if split == "train" else "test",
        answer=entry.get("answer"),
    )


def _plain(value: Any) -> str:
    return str(value)

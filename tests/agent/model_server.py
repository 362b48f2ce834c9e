"""A real server of a model in a process of its own, and the small models that it serves."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.client import Environment
from agent.loop import Agent
from agent.models import Scripted, call
from tasks.attempt import AttemptRecord
from tests.agent import tiny
from tests.agent.test_local import learn

TURNS: list[Any] = [("Look.", call("execute_code", code="6 * 7")), call("close_episode")]
"""What `taught` plays."""


@contextmanager
def running(line: Callable[[int], Sequence[str]], log: Path, seconds: float) -> Iterator[str]:
    """Start a server by the command line for a port; its base URL, once it is healthy. Ends it with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as out:
        quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        process = subprocess.Popen(line(port), stdout=out, stderr=subprocess.STDOUT, env=quiet)
    try:
        until = time.monotonic() + seconds
        while not _healthy(port):
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < until, log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def taught(environment: Environment, task: str, folder: Path, rate: float = 1e-2, **shape: Any) -> AttemptRecord:
    """Save a model that has learnt to play `TURNS` at this task; the episode that it was shown."""
    tokenizer = tiny.tokenizer(folder)
    tokenizer.chat_template = tiny.SHORT
    record = await Agent(environment, Scripted(TURNS)).attempt(task)
    shown = [{**one.model_dump(), "content": one.content or ""} for one in record.messages]
    text = tokenizer.apply_chat_template(shown, tools=list(record.tools), tokenize=False)
    student = tiny.qwen2(len(tokenizer), spread=0.02, **shape)
    assert learn(student, tokenizer(text, add_special_tokens=False)["input_ids"], rate=rate) < 0.05
    save(student, tokenizer, folder)
    return record


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """As servers want it: the model names the token that ends a turn."""
    model.generation_config.eos_token_id = model.config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

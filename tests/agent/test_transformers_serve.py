"""A real `transformers serve` with a tiny model that has learnt one turn: it acts in an episode over HTTP."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.endpoint import Endpoint
from agent.loop import Agent
from agent.models import Scripted, call
from agent.trajectory import AgentLimits
from tests.agent import tiny
from tests.agent.conftest import Serve
from tests.agent.test_local import learn

pytest.importorskip("fastapi", reason="transformers serve needs fastapi: pip install 'transformers[serving]'")
pytest.importorskip("openai", reason="the package openai is not installed")

pytestmark = pytest.mark.anyio
SERVE = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"


async def test_a_served_model_acts_in_a_real_episode(serve: Serve, tmp_path: Path, note_task: str) -> None:
    folder = tmp_path / "student"
    tokenizer = tiny.tokenizer(folder)
    tokenizer.chat_template = tiny.SHORT
    turns: list[Any] = [("Look.", call("execute_code", code="6 * 7")), call("close_episode")]
    async with serve() as environment:
        taught = await Agent(environment, Scripted(turns)).attempt(note_task)
        shown = [{**one.model_dump(), "content": one.content or ""} for one in taught.messages]
        text = tokenizer.apply_chat_template(shown, tools=list(taught.tools), tokenize=False)
        student = tiny.qwen2(len(tokenizer), spread=0.02)
        assert learn(student, tokenizer(text, add_special_tokens=False)["input_ids"]) < 0.05
        student.generation_config.eos_token_id = student.config.eos_token_id = tokenizer.eos_token_id
        student.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "serve", "--port", str(port), "--device", "cpu"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + 120
            while not _open(port):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.2)
            async with Endpoint(str(folder), base_url=f"http://127.0.0.1:{port}/v1") as model:
                # Later turns are off what it has learnt: that server shows arguments to the template as a text.
                limits = AgentLimits(turns=1, call_tokens=120)
                record = await Agent(environment, model, limits).attempt(note_task)
        finally:
            process.kill()
            process.wait()
    assert record.messages[2].tool_calls is not None
    assert record.messages[2].tool_calls[0].function == call("execute_code", code="6 * 7")
    assert "value: 42" in (record.messages[3].content or "")
    assert record.calls[0].usage.completion_tokens > 50
    assert record.outcome == "limit"


def _open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True

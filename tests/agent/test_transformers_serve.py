"""A real `transformers serve` with a tiny model that has learnt one turn: it acts in an episode over HTTP."""

import sys
from pathlib import Path

import pytest

from agent.endpoint import Endpoint
from agent.loop import Agent
from agent.models import call
from agent.trajectory import AgentLimits
from tests.agent.conftest import Serve
from tests.agent.model_server import running, taught

pytest.importorskip("fastapi", reason="transformers serve needs fastapi: pip install 'transformers[serving]'")
pytest.importorskip("openai", reason="the package openai is not installed")

pytestmark = pytest.mark.anyio
SERVE = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"


async def test_a_served_model_acts_in_a_real_episode(serve: Serve, tmp_path: Path, note_task: str) -> None:
    folder = tmp_path / "student"

    def line(port: int) -> list[str]:
        return [sys.executable, "-c", SERVE, "serve", "--port", str(port), "--device", "cpu"]

    async with serve() as environment:
        await taught(environment, note_task, folder)
        with running(line, tmp_path / "log", 120) as url:
            async with Endpoint(str(folder), base_url=url) as model:
                # Later turns are off what it has learnt: that server shows arguments to the template as a text.
                limits = AgentLimits(turns=1, call_tokens=120)
                record = await Agent(environment, model, limits).attempt(note_task)
    assert record.messages[2].tool_calls is not None
    assert record.messages[2].tool_calls[0].function == call("execute_code", code="6 * 7")
    assert "value: 42" in (record.messages[3].content or "")
    assert record.calls[0].usage.completion_tokens > 50
    assert record.outcome == "limit"

"""Calling tools in tests."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.types import TextContent

from tasks.record import AttemptRecord, read_records


@dataclass
class Calls:
    """A connected client, and the folder of the server's logs."""

    client: Client
    logs: Path

    async def ok(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must succeed; its text must be the structured content."""
        result = await self.client.call_tool(tool, arguments)
        text = result.content[0]
        assert isinstance(text, TextContent)
        assert not result.is_error, text.text
        assert json.loads(text.text) == result.structured_content
        assert "\n" not in text.text
        content: dict[str, Any] | None = result.structured_content
        assert content is not None
        return content

    async def error(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that must fail; the text of its error."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        text = result.content[0]
        assert isinstance(text, TextContent)
        return text.text

    async def start(self, task: str) -> str:
        return str((await self.ok("start_task", task_id=task))["episode_id"])

    def records(self) -> dict[str, AttemptRecord]:
        return {record.id: record for record in read_records([self.logs])}

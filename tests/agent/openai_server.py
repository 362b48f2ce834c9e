"""A real HTTP server that speaks OpenAI's chat protocol and plays a script; in a thread of this process."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Turn = dict[str, Any]


class ChatServer:
    """Answers each request with the next turn: a message, {"status", "headers", "error"}, or {"raw", "type"}.

    `together`: no answer is given before so many requests have come. `most`: requests that were under way at once.
    """

    def __init__(self, turns: list[Turn], together: int) -> None:
        self.together, self.now, self.most = together, 0, 0
        self.turns, self.requests, self.url = list(turns), list[dict[str, Any]](), ""
        self.keys: list[str] = []
        self.headers: list[Mapping[str, str]] = []

    async def answer(self, request: Request) -> Response:
        self.keys.append(request.headers.get("authorization", ""))
        self.headers.append(request.headers)
        self.requests.append(await request.json())
        turn = dict(self.turns.pop(0))
        self.now += 1
        self.most = max(self.most, self.now)
        while len(self.requests) < self.together:
            await asyncio.sleep(0.005)
        self.now -= 1
        if "status" in turn:
            refusal = {"error": {"message": turn["error"], "type": "error", "code": None}}
            return JSONResponse(refusal, turn["status"], headers=turn.get("headers"))
        if "raw" in turn:
            return Response(turn["raw"], media_type=turn["type"])
        finish = "tool_calls" if turn.get("tool_calls") else "stop"
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": None, **turn}}
        choice |= turn.pop("choice", {})
        usage: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        usage["prompt_tokens_details"] = {"cached_tokens": 40}
        body: dict[str, Any] = {
            "id": "c",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
        return JSONResponse(body | turn.pop("body", {}))


def tool_call(name: str, arguments: Any, number: int = 1) -> Turn:
    """A message with one call; a text as arguments is sent as it is."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"tool_calls": [{"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": text}}]}


@contextmanager
def serving(turns: list[Turn], together: int = 1) -> Iterator[ChatServer]:
    made = ChatServer(turns, together)
    app = Starlette(routes=[Route("/v1/chat/completions", made.answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    made.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield made
    finally:
        server.should_exit = True
        thread.join()

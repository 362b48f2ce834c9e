"""The tools, resources and prompts that the conformance suite calls by name, added to a server of ours.

Their names, texts and flows are what the suite's scenarios ask for. Nothing of the kind is in the product: the suite
tests the protocol as our application serves it, with its lifespan, its middleware and its own tools beside these.
"""

import base64
import json
from typing import Annotated, Any, Literal

import anyio
from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import Message, UserMessage
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    ClientCapabilities,
    ContentBlock,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    JSONRPCMessage,
    ListRootsRequest,
    SamplingCapability,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
        "0000000d49444154789c63fccfc0f01f00050502013fc8f1d20000000049454e44ae426082"
    )
).decode()
"""A PNG of one pixel."""
SILENCE = base64.b64encode(
    b"RIFF&\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x02\0\0\0\0\0"
).decode()
"""A WAV of one sample."""


def text(content: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=content)])


def ask(message: str, **properties: str) -> ElicitRequest:
    """An elicitation of required properties, given as name=type."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str, most: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=most))


def answered(ctx: Context[Any], key: str, field: str) -> str | None:
    """What the client answered to the elicitation `key`, if it did so in the form that was asked for."""
    answer = (ctx.input_responses or {}).get(key)
    if not isinstance(answer, ElicitResult) or answer.action != "accept":
        return None
    value = (answer.content or {}).get(field)
    return None if value is None else str(value)


def add_fixtures(server: MCPServer[Any]) -> None:
    """Add everything that the suite calls by name."""
    _add_contents(server)
    _add_legacy(server)
    _add_rounds(server)
    _add_stateless(server)
    _add_schemas(server)
    _add_resources(server)
    _add_prompts(server)


def _add_contents(server: MCPServer[Any]) -> None:
    image = ImageContent(type="image", data=PIXEL, mime_type="image/png")

    def embedded(uri: str, kind: str, content: str) -> EmbeddedResource:
        resource = TextResourceContents(uri=uri, mime_type=kind, text=content)
        return EmbeddedResource(type="resource", resource=resource)

    @server.tool()
    def test_simple_text() -> CallToolResult:
        """Gives a text."""
        return text("This is a simple text response for testing.")

    @server.tool()
    def test_image_content() -> CallToolResult:
        """Gives an image."""
        return CallToolResult(content=[image])

    @server.tool()
    def test_audio_content() -> CallToolResult:
        """Gives a sound."""
        return CallToolResult(content=[AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")])

    @server.tool()
    def test_embedded_resource() -> CallToolResult:
        """Gives a resource in the result."""
        content = embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
        return CallToolResult(content=[content])

    @server.tool()
    def test_multiple_content_types() -> CallToolResult:
        """Gives a text, an image and a resource."""
        data = json.dumps({"test": "data", "value": 123})
        content: list[ContentBlock] = [
            TextContent(type="text", text="Multiple content types test:"),
            image,
            embedded("test://mixed-content-resource", "application/json", data),
        ]
        return CallToolResult(content=content)

    @server.tool()
    def test_error_handling() -> CallToolResult:
        """Always fails."""
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool()
    async def test_tool_with_progress(ctx: Context[Any]) -> CallToolResult:
        """Reports progress three times."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"Completed step {done} of 100")
            await anyio.sleep(0.05)
        return text("Completed")


class _User(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


class _Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


def _titled(**titles: str) -> Any:
    return [{"const": value, "title": title} for value, title in titles.items()]


class _Enums(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})
    titledSingle: str = Field(json_schema_extra={"oneOf": _titled(value1="First Option", value2="Second Option")})
    legacyEnum: str = Field(json_schema_extra={"enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]})
    untitledMulti: list[str] = Field(json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2"]}})
    titledMulti: list[str] = Field(
        json_schema_extra={"items": {"anyOf": _titled(value1="First Choice", value2="Second Choice")}}
    )


def _add_legacy(server: MCPServer[Any]) -> None:
    """What only the revisions before 2026-07-28 have: logging, and requests from the server to the client."""

    @server.tool()
    async def test_tool_with_logging(ctx: Context[Any]) -> CallToolResult:
        """Sends three log messages."""
        for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(message)
            await anyio.sleep(0.05)
        return text("Logged")

    @server.tool()
    async def test_sampling(prompt: str, ctx: Context[Any]) -> CallToolResult:
        """Asks the client's model."""
        message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        answer = await ctx.session.create_message(messages=[message], max_tokens=100)
        content = answer.content
        return text(f"LLM response: {content.text if isinstance(content, TextContent) else content}")

    async def elicit(ctx: Context[Any], message: str, schema: type[BaseModel]) -> CallToolResult:
        answer = await ctx.elicit(message=message, schema=schema)
        content = answer.data.model_dump_json() if answer.action == "accept" else "{}"
        return text(f"User response: action={answer.action}, content={content}")

    @server.tool()
    async def test_elicitation(message: str, ctx: Context[Any]) -> CallToolResult:
        """Asks the user."""
        return await elicit(ctx, message, _User)

    @server.tool()
    async def test_elicitation_sep1034_defaults(ctx: Context[Any]) -> CallToolResult:
        """Asks the user with defaults."""
        return await elicit(ctx, "Please review", _Defaults)

    @server.tool()
    async def test_elicitation_sep1330_enums(ctx: Context[Any]) -> CallToolResult:
        """Asks the user to choose."""
        return await elicit(ctx, "Please choose", _Enums)

    @server.tool()
    async def test_reconnection(ctx: Context[Any]) -> CallToolResult:
        """Closes its stream in the middle of the call; the client comes back for the result."""
        await ctx.close_sse_stream()
        await anyio.sleep(0.2)
        return text("Reconnection test completed")


def _add_rounds(server: MCPServer[Any]) -> None:
    """Requests that need input: 2026-07-28 answers with what is needed, and the client calls again."""
    name = ask("What is your name?", name="string")

    @server.tool()
    async def test_input_required_result_elicitation(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Asks for a name."""
        given = answered(ctx, "user_name", "name")
        return text(f"Hello, {given}!") if given else InputRequiredResult(input_requests={"user_name": name})

    @server.tool()
    async def test_input_required_result_sampling(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Asks the client's model."""
        if answer := (ctx.input_responses or {}).get("capital_question"):
            return text(answer.model_dump_json())
        question = sample("What is the capital of France?", 100)
        return InputRequiredResult(input_requests={"capital_question": question})

    @server.tool()
    async def test_input_required_result_list_roots(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Asks for the client's roots."""
        if answer := (ctx.input_responses or {}).get("client_roots"):
            return text(answer.model_dump_json())
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})

    @server.tool()
    async def test_input_required_result_request_state(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Sends a state along."""
        if ctx.request_state == "waits for ok" and answered(ctx, "confirm", "ok"):
            return text("state-ok")
        request = ask("Please confirm", ok="boolean")
        return InputRequiredResult(input_requests={"confirm": request}, request_state="waits for ok")

    @server.tool()
    async def test_input_required_result_tampered_state(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Sends a state along that must come back as it was."""
        if ctx.request_state == "sealed" and answered(ctx, "confirm", "ok"):
            return text("state-ok")
        request = ask("Please confirm", ok="boolean")
        return InputRequiredResult(input_requests={"confirm": request}, request_state="sealed")

    @server.tool()
    async def test_input_required_result_multiple_inputs(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Asks for three things at once."""
        wanted: dict[str, InputRequest] = {
            "user_name": name,
            "greeting": sample("Generate a greeting", 50),
            "client_roots": ListRootsRequest(),
        }
        if wanted.keys() <= (ctx.input_responses or {}).keys():
            return text("All inputs came.")
        return InputRequiredResult(input_requests=wanted, request_state="waits for three")

    @server.tool()
    async def test_input_required_result_multi_round(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Asks twice."""
        if ctx.request_state == "second" and (color := answered(ctx, "step2", "color")):
            return text(f"Your color is {color}.")
        if ctx.request_state == "first" and answered(ctx, "step1", "name"):
            request = ask("Step 2: What is your favorite color?", color="string")
            return InputRequiredResult(input_requests={"step2": request}, request_state="second")
        request = ask("Step 1: What is your name?", name="string")
        return InputRequiredResult(input_requests={"step1": request}, request_state="first")

    @server.tool()
    async def test_input_required_result_capabilities(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Asks only for what the client says it can do."""
        if ctx.input_responses:
            return text("The inputs came.")
        can = ctx.client_capabilities or ClientCapabilities()
        wanted: dict[str, InputRequest] = {}
        if can.elicitation is not None:
            wanted["user_name"] = name
        if can.sampling is not None:
            wanted["greeting"] = sample("Generate a greeting", 50)
        return InputRequiredResult(input_requests=wanted) if wanted else text("The client can do neither.")


def _add_stateless(server: MCPServer[Any]) -> None:
    """Diagnostic tools of the stateless scenario."""

    @server.tool()
    async def test_missing_capability(ctx: Context[Any]) -> CallToolResult:
        """Needs a client that samples."""
        if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
            needed = ClientCapabilities(sampling=SamplingCapability()).model_dump(by_alias=True, exclude_none=True)
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY, "The client cannot sample", {"requiredCapabilities": needed}
            )
        return text("The client can sample.")

    @server.tool()
    async def test_streaming_elicitation(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Reports progress, then asks."""
        await ctx.report_progress(1, 2, "asking")
        given = answered(ctx, "user_name", "name")
        request = ask("What is your name?", name="string")
        return text(f"Hello, {given}!") if given else InputRequiredResult(input_requests={"user_name": request})

    @server.tool()
    async def test_logging_tool(ctx: Context[Any]) -> CallToolResult:
        """Logs, where the request asks for it."""
        await ctx.info("This is a log message.")
        return text("Logged")

    @server.tool()
    async def test_trigger_tool_change(ctx: Context[Any]) -> CallToolResult:
        """Says that the tools changed."""
        await ctx.notify_tools_changed()
        return text("Told")

    @server.tool()
    async def test_trigger_prompt_change(ctx: Context[Any]) -> CallToolResult:
        """Says that the prompts changed."""
        await ctx.notify_prompts_changed()
        return text("Told")


def _add_schemas(server: MCPServer[Any]) -> None:
    @server.tool()
    def test_x_mcp_header(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})], query: str = ""
    ) -> CallToolResult:
        """Takes a parameter that is mirrored in a header."""
        return text(f"{region}: {query}")

    @server.tool()
    def json_schema_2020_12_tool(name: str = "") -> CallToolResult:
        """Has a schema with the vocabulary of JSON Schema 2020-12."""
        return text(name)

    tool = server._tool_manager.get_tool("json_schema_2020_12_tool")
    assert tool is not None
    # The SDK makes schemas from signatures; nothing public takes one as it is.
    tool.parameters = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }


def _add_resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """An image."""
        return base64.b64decode(PIXEL)

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """A text that can be watched."""
        return "Watched resource content"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        """A text with a part of its address."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(server: MCPServer[Any]) -> None:
    def say(content: str) -> UserMessage:
        return UserMessage(content=TextContent(type="text", text=content))

    @server.prompt()
    def test_simple_prompt() -> list[Message]:
        """A prompt."""
        return [say("This is a simple prompt for testing.")]

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[Message]:
        """A prompt with arguments."""
        return [say(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:
        """A prompt with a resource."""
        resource = TextResourceContents(
            uri=resourceUri, mime_type="text/plain", text="Embedded resource content for testing."
        )
        first = UserMessage(content=EmbeddedResource(type="resource", resource=resource))
        return [first, say("Please process the embedded resource above.")]

    @server.prompt()
    def test_prompt_with_image() -> list[Message]:
        """A prompt with an image."""
        first = UserMessage(content=ImageContent(type="image", data=PIXEL, mime_type="image/png"))
        return [first, say("Please analyze the image above.")]

    @server.prompt()
    async def test_input_required_result_prompt(ctx: Context[Any]) -> list[Message] | InputRequiredResult:
        """A prompt that asks first."""
        if given := answered(ctx, "user_context", "context"):
            return [say(f"Context: {given}")]
        request = ask("What context should the prompt use?", context="string")
        return InputRequiredResult(input_requests={"user_context": request})


class MemoryEvents(EventStore):
    """Keeps the events of streams, so that a client whose stream was closed can come back for the rest."""

    def __init__(self) -> None:
        self._events: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        seen = int(last_event_id)
        if not 0 < seen <= len(self._events):
            return None
        stream = self._events[seen - 1][0]
        for number, (other, message) in enumerate(self._events[seen:], seen + 1):
            if other == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream

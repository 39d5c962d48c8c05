"""The official Python SDK 2.x behind the neutral interface of `scenarios.py`."""

from __future__ import annotations

import warnings
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import mcp_types as types
from conn import Human, Inbox, RpcFailure, Target
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

LISTS = {
    "tools": "list_tools",
    "resources": "list_resources",
    "resourceTemplates": "list_resource_templates",
    "prompts": "list_prompts",
}
MODERN = "2026-07-28"

# The 2025 half of the protocol is deprecated in this SDK, and it is half of what is tested here.
warnings.simplefilter("ignore")


def plain(model: Any) -> dict[str, Any]:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


class _Tap:
    """A read stream that counts the results passing by; an error may be the SDK's own."""

    def __init__(self, inner: Any, conn: Conn) -> None:
        self._inner = inner
        self._conn = conn

    def _count(self, item: Any) -> Any:
        if isinstance(getattr(item, "message", None), types.JSONRPCResponse):
            self._conn.results += 1
        return item

    async def receive(self) -> Any:
        return self._count(await self._inner.receive())

    def __aiter__(self) -> _Tap:
        return self

    async def __anext__(self) -> Any:
        return self._count(await self._inner.__anext__())

    async def __aenter__(self) -> _Tap:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self._inner.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Conn:
    """One connected client."""

    def __init__(self, human: Human) -> None:
        self.human = human
        self.inbox = Inbox()
        self.client: Client = None  # type: ignore[assignment]
        self.session_id: str | None = None
        self.hello: dict[str, Any] = {}
        self.late_answers = 0
        self.results = 0

    knows_modern = True

    @property
    def modern(self) -> bool:
        return self.hello["protocolVersion"] >= MODERN

    async def _rpc(self, awaitable: Any) -> dict[str, Any]:
        try:
            return plain(await awaitable)
        except MCPError as error:
            raise RpcFailure(error.error.code, error.error.message) from error

    async def page(self, kind: str, cursor: str | None) -> dict[str, Any]:
        return await self._rpc(getattr(self.client, LISTS[kind])(cursor=cursor, cache_mode="bypass"))

    async def call(self, name: str, arguments: dict[str, Any], on_progress: Any = None) -> dict[str, Any]:
        return await self._rpc(self.client.call_tool(name, arguments, progress_callback=on_progress))

    async def call_logged(self, name: str, arguments: dict[str, Any], level: Any) -> dict[str, Any]:
        """A call whose log notes from `level` up are wanted: each era has its own way to say so."""
        if not self.modern:
            await self.set_level(level)
            return await self.call(name, arguments)
        meta: Any = {"io.modelcontextprotocol/logLevel": level}
        return await self._rpc(self.client.call_tool(name, arguments, meta=meta))

    async def call_then_cancel(self, name: str, arguments: dict[str, Any], after: float, watch: float) -> None:
        """Cancel a call after `after` seconds; whatever answers within `watch` seconds is late."""
        with anyio.move_on_after(after):
            await self.client.call_tool(name, arguments)
            self.late_answers += 1
        # Nothing else is open, so any result that still comes is an answer to the cancelled call.
        before = self.results
        await anyio.sleep(watch)
        self.late_answers += self.results - before

    async def read(self, uri: str) -> dict[str, Any]:
        return await self._rpc(self.client.read_resource(uri, cache_mode="bypass"))

    async def prompt(self, name: str, arguments: dict[str, str] | None = None) -> dict[str, Any]:
        return await self._rpc(self.client.get_prompt(name, arguments))

    async def complete_prompt(self, prompt: str, argument: str, value: str) -> dict[str, Any]:
        reference = types.PromptReference(type="ref/prompt", name=prompt)
        return await self._rpc(self.client.complete(reference, {"name": argument, "value": value}))

    async def subscribe(self, uri: str) -> None:
        await self._rpc(self.client.subscribe_resource(uri))

    async def unsubscribe(self, uri: str) -> None:
        await self._rpc(self.client.unsubscribe_resource(uri))

    async def set_level(self, level: Any) -> None:
        await self._rpc(self.client.set_logging_level(level))

    async def ping(self) -> None:
        await self._rpc(self.client.send_ping())

    async def roots_changed(self) -> None:
        await self.client.send_roots_list_changed()

    @asynccontextmanager
    async def listening(self, uri: str) -> Any:
        """Modern era: a `subscriptions/listen` stream for one resource, as an async iterator."""
        async with self.client.listen(resource_subscriptions=[uri]) as subscription:
            yield subscription


def _callbacks(conn: Conn) -> dict[str, Any]:
    human = conn.human

    async def sample(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        human.asked.append("sampling/createMessage")
        content = types.TextContent(type="text", text=human.sampling_text)
        return types.CreateMessageResult(role="assistant", content=content, model="scripted", stop_reason="endTurn")

    async def elicit(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        human.asked.append("elicitation/create")
        content = human.elicited if human.elicit_action == "accept" else None
        return types.ElicitResult(action=human.elicit_action, content=content)  # type: ignore[arg-type]

    async def roots(_context: Any) -> types.ListRootsResult:
        human.asked.append("roots/list")
        return types.ListRootsResult(roots=[types.Root(uri=uri, name="root") for uri in human.roots])

    async def incoming(message: Any) -> None:
        method = getattr(message, "method", None)
        if method:
            params = getattr(message, "params", None)
            conn.inbox.add(method, plain(params) if params else {})

    return {
        "sampling_callback": sample,
        "elicitation_callback": elicit,
        "list_roots_callback": roots,
        "message_handler": incoming,
    }


@asynccontextmanager
async def _streams(target: Target, conn: Conn) -> Any:
    if target.command:
        parameters = StdioServerParameters(command=target.command[0], args=target.command[1:])
        async with stdio_client(parameters) as (read, write):
            yield _Tap(read, conn), write
        return

    if target.speaks_sse:
        async with sse_client(target.url, timeout=20) as (read, write):
            yield _Tap(read, conn), write
        return

    async def note_session(response: httpx2.Response) -> None:
        conn.session_id = response.headers.get("mcp-session-id") or conn.session_id

    hooks = {"response": [note_session]}
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(20, read=60), event_hooks=hooks) as http:
        async with streamable_http_client(target.url, http_client=http) as (read, write):
            yield _Tap(read, conn), write


@asynccontextmanager
async def connect(target: Target, human: Human) -> Any:
    """Open a client in its default mode, which probes for the modern era first."""
    conn = Conn(human)
    async with Client(_streams(target, conn), **_callbacks(conn)) as client:
        conn.client = client
        info = client.server_info
        conn.hello = {
            "protocolVersion": client.protocol_version,
            "serverInfo": plain(info) if info else {},
            "capabilities": plain(client.server_capabilities),
            "instructions": client.instructions,
        }
        yield conn

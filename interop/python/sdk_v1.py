"""The official Python SDK 1.x behind the neutral interface of `scenarios.py`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import mcp.types as types
from conn import Human, Inbox, RpcFailure, Target
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from pydantic import AnyUrl

LISTS = {
    "tools": "list_tools",
    "resources": "list_resources",
    "resourceTemplates": "list_resource_templates",
    "prompts": "list_prompts",
}


def plain(model: Any) -> dict[str, Any]:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


class Conn:
    """One initialized session."""

    def __init__(self, human: Human) -> None:
        self.human = human
        self.inbox = Inbox()
        self.session: ClientSession = None  # type: ignore[assignment]
        self.session_id: str | None = None
        self.hello: dict[str, Any] = {}
        self.late_answers = 0

    knows_modern = False
    modern = False

    async def _rpc(self, awaitable: Any) -> dict[str, Any]:
        try:
            return plain(await awaitable)
        except McpError as error:
            raise RpcFailure(error.error.code, error.error.message) from error

    async def page(self, kind: str, cursor: str | None) -> dict[str, Any]:
        params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
        return await self._rpc(getattr(self.session, LISTS[kind])(params=params))

    async def call(self, name: str, arguments: dict[str, Any], on_progress: Any = None) -> dict[str, Any]:
        return await self._rpc(self.session.call_tool(name, arguments, progress_callback=on_progress))

    async def call_logged(self, name: str, arguments: dict[str, Any], level: Any) -> dict[str, Any]:
        """A call whose log notes from `level` up are wanted."""
        await self.set_level(level)
        return await self.call(name, arguments)

    async def call_then_cancel(self, name: str, arguments: dict[str, Any], after: float, watch: float) -> None:
        """Cancel a call `after` seconds and fail if it is still answered within `watch` seconds.

        This SDK line has no cancel of its own, so the note is sent by hand, as its users do.
        """
        request_id = self.session._request_id
        answered: list[dict[str, Any]] = []

        async def wait_for_answer() -> None:
            try:
                answered.append(plain(await self.session.call_tool(name, arguments)))
            except McpError:
                pass  # an error in answer to a cancelled call is allowed

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_answer)
            await anyio.sleep(after)
            note = types.CancelledNotification(
                params=types.CancelledNotificationParams(requestId=request_id, reason="changed my mind")
            )
            await self.session.send_notification(types.ClientNotification(note))
            await anyio.sleep(watch)
            group.cancel_scope.cancel()
        self.late_answers += len(answered)

    async def read(self, uri: str) -> dict[str, Any]:
        return await self._rpc(self.session.read_resource(AnyUrl(uri)))

    async def prompt(self, name: str, arguments: dict[str, str] | None = None) -> dict[str, Any]:
        return await self._rpc(self.session.get_prompt(name, arguments))

    async def complete_prompt(self, prompt: str, argument: str, value: str) -> dict[str, Any]:
        reference = types.PromptReference(type="ref/prompt", name=prompt)
        return await self._rpc(self.session.complete(reference, {"name": argument, "value": value}))

    async def subscribe(self, uri: str) -> None:
        await self._rpc(self.session.subscribe_resource(AnyUrl(uri)))

    async def unsubscribe(self, uri: str) -> None:
        await self._rpc(self.session.unsubscribe_resource(AnyUrl(uri)))

    async def set_level(self, level: Any) -> None:
        await self._rpc(self.session.set_logging_level(level))

    async def ping(self) -> None:
        await self._rpc(self.session.send_ping())

    async def roots_changed(self) -> None:
        await self.session.send_roots_list_changed()


def _callbacks(conn: Conn) -> dict[str, Any]:
    human = conn.human

    async def sample(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        human.asked.append("sampling/createMessage")
        content = types.TextContent(type="text", text=human.sampling_text)
        return types.CreateMessageResult(role="assistant", content=content, model="scripted", stopReason="endTurn")

    async def elicit(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        human.asked.append("elicitation/create")
        content = human.elicited if human.elicit_action == "accept" else None
        return types.ElicitResult(action=human.elicit_action, content=content)  # type: ignore[arg-type]

    async def roots(_context: Any) -> types.ListRootsResult:
        human.asked.append("roots/list")
        return types.ListRootsResult(roots=[types.Root(uri=AnyUrl(uri), name="root") for uri in human.roots])  # type: ignore[arg-type]

    async def incoming(message: Any) -> None:
        if isinstance(message, types.ServerNotification):
            conn.inbox.add(message.root.method, plain(message.root.params) if message.root.params else {})
        elif isinstance(message, Exception) and "unknown request ID" in str(message):
            conn.late_answers += 1

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
            yield read, write
        return
    if target.speaks_sse:
        async with sse_client(target.url, timeout=20) as (read, write):
            yield read, write
        return
    timeout = httpx.Timeout(20, read=60)
    async with httpx.AsyncClient(timeout=timeout) as http:
        async with streamable_http_client(target.url, http_client=http) as (read, write, session_id):
            yield read, write
            conn.session_id = session_id()


@asynccontextmanager
async def connect(target: Target, human: Human) -> Any:
    """Open a session; leaving it closes the session the way this SDK does."""
    conn = Conn(human)
    async with _streams(target, conn) as (read, write):
        async with ClientSession(read, write, **_callbacks(conn)) as session:
            conn.session = session
            conn.hello = plain(await session.initialize())
            yield conn

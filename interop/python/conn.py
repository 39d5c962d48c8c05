"""What every client adapter shares: where to connect, and what the server said unasked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

Params = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A server over HTTP (`url`) or as a child process (`command`); exactly one is set."""

    url: str | None
    command: list[str] | None

    @property
    def speaks_sse(self) -> bool:
        """Whether the URL is that of a stream of HTTP+SSE (2024-11-05)."""
        return bool(self.url) and self.url.endswith("/sse")


class Inbox:
    """Notifications in the order in which they came, as (method, params)."""

    def __init__(self) -> None:
        self._items: list[tuple[str, Params]] = []
        self._changed = anyio.Event()

    def add(self, method: str, params: Params) -> None:
        self._items.append((method, params))
        self._changed.set()
        self._changed = anyio.Event()

    def mark(self) -> int:
        """A position: only what comes after it matters to the caller."""
        return len(self._items)

    def since(self, mark: int, method: str) -> list[Params]:
        return [params for name, params in self._items[mark:] if name == method]

    async def wait(
        self,
        method: str,
        match: Callable[[Params], bool] = lambda _: True,
        since: int = 0,
        timeout: float = 8.0,
    ) -> Params:
        """The first notification after `since` that fits, or `TimeoutError` after `timeout` s."""
        with anyio.move_on_after(timeout):
            while True:
                for params in self.since(since, method):
                    if match(params):
                        return params
                await self._changed.wait()
        seen = sorted({name for name, _ in self._items[since:]})
        raise TimeoutError(f"no fitting {method} within {timeout} s; saw {seen}")


@dataclass
class Human:
    """The client's side of sampling, elicitation and roots: fixed answers, and what was asked."""

    roots: list[str] = field(default_factory=list)
    sampling_text: str = "a sampled answer"
    elicited: dict[str, Any] = field(default_factory=lambda: {"name": "Ada Lovelace", "integer": 7})
    elicit_action: str = "accept"
    asked: list[str] = field(default_factory=list)


class RpcFailure(Exception):
    """The server answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code

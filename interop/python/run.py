"""Run one SDK version's scenarios against one server; one JSON line per scenario on stdout.

    python run.py --sdk v1|v2 --kind everything|filesystem|memory|demo --workdir DIR (--url URL | -- COMMAND...)
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
import traceback
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import anyio
from conn import Human, Target
from scenarios import KINDS, Run

import demo  # noqa: F401  (adds its scenarios to KINDS)

SCENARIO_SECONDS = 20
CLOSE_SECONDS = 8


def report(scenario: str, ok: bool, detail: str, started: float, digests: dict[str, Any] | None = None) -> None:
    line = {"scenario": scenario, "ok": ok, "detail": detail, "ms": round((time.monotonic() - started) * 1000)}
    print(json.dumps({**line, "digests": digests or {}}), flush=True)


def explain(error: BaseException) -> str:
    """The innermost cause: task groups wrap what went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"[:400]


async def attempt(name: str, scenario: Any, run: Run) -> None:
    started = time.monotonic()
    run.digests = {}
    try:
        with anyio.fail_after(SCENARIO_SECONDS):
            detail = await scenario(run)
    except Exception as error:
        report(name, False, explain(error), started)
    else:
        report(name, True, detail, started, run.digests)


def session_is_gone(url: str, session_id: str) -> None:
    """After the close nothing may answer under the old session id."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Mcp-Session-Id": session_id,
    }
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5) as response:
            raise AssertionError(f"the closed session still answers {response.status}")
    except urllib.error.HTTPError as refused:
        if refused.code not in (400, 404):
            raise AssertionError(f"the closed session gives {refused.code}") from refused


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sdk", choices=["v1", "v2"], required=True)
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--url")
    parser.add_argument("command", nargs="*")
    arguments = parser.parse_args()

    sdk = importlib.import_module(f"sdk_{arguments.sdk}")
    target = Target(arguments.url, arguments.command or None)
    tag = f"py{arguments.sdk}-{os.getpid()}"
    for folder in ("one", "two"):
        (arguments.workdir / folder).mkdir(parents=True, exist_ok=True)
    human = Human(roots=[(arguments.workdir / "one").as_uri()])

    started = time.monotonic()
    connected = closing = False
    try:
        with anyio.fail_after(SCENARIO_SECONDS * 10):
            async with sdk.connect(target, human) as conn:
                connected = True
                run = Run(conn, tag, arguments.workdir)
                for name, scenario in KINDS[arguments.kind]:
                    await attempt(name, scenario, run)
                started, closing = time.monotonic(), True
        seconds = time.monotonic() - started
        if seconds > CLOSE_SECONDS:
            raise AssertionError(f"the close took {seconds:.1f} s")
        if arguments.url and conn.session_id:
            session_is_gone(arguments.url, conn.session_id)
    except Exception as error:
        report("close" if closing else "connection" if connected else "initialize", False, explain(error), started)
    else:
        report("close", True, "the session is gone", started)


anyio.run(main)

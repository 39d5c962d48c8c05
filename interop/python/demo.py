"""Scenarios for the built-in demo server: the only server here that speaks the 2026-07-28 era.

An SDK that knows that era must find it; one that does not gets the same tools in the older one.
"""

from __future__ import annotations

import json

import anyio
from scenarios import KINDS, Run, Scenario, all_lists, check, digest, initialize, must_refuse, text_of

CLOCK = "demo://clock"
MODERN = "2026-07-28"


async def era(run: Run) -> str:
    told = await initialize(run)
    version = run.conn.hello["protocolVersion"]
    check((version >= MODERN) == run.conn.knows_modern, f"settled on {version}")
    return told


async def lists(run: Run) -> str:
    """This server has ten entries per page, so the tools come in several pages."""
    check((await run.conn.page("tools", None)).get("nextCursor"), "the first page is the last")
    must_have = {"tools": "slow", "resources": "clock", "prompts": "greet"}
    return await all_lists(run, list(must_have), must_have)


async def call(run: Run) -> str:
    word = f"héllo \u2028 \"{run.tag}\" \U0001f99c"
    check(text_of(await run.conn.call("echo", {"text": word})) == word, "text changed")
    result = await run.conn.call("add", {"a": 9007199254740993, "b": 2})
    check(result["structuredContent"]["sum"] == 9007199254740995, f"got {result}")
    return "text and a big integer came back unchanged"


async def tool_error(run: Run) -> str:
    failed = await must_refuse(run.conn.call("fail", {"message": "on purpose"}))
    unknown = await must_refuse(run.conn.call("no-such-tool", {}))
    run.digests["tool error"] = f"{failed} {unknown}"
    return f"a failing tool: {failed}, an unknown one: {unknown}"


async def parallel(run: Run) -> str:
    wrong: list[str] = []

    async def one(number: int) -> None:
        text = text_of(await run.conn.call("add", {"a": number, "b": 1000}))
        if text != str(number + 1000):
            wrong.append(f"{number}: {text}")

    async with anyio.create_task_group() as group:
        for number in range(24):
            group.start_soon(one, number)
    check(not wrong, f"mixed up: {wrong}")
    return "24 calls at once, each with its own answer"


async def big(run: Run) -> str:
    size = 900_000
    result = await run.conn.call("big", {"bytes": size, "data": "x" * size})
    check(len(text_of(result)) == size, "the result was cut")
    check(result["structuredContent"]["received"] == size, "the argument was cut")
    return "900 kB there and back"


async def progress(run: Run) -> str:
    heard: list[float] = []

    async def on_progress(done: float, _total: float | None, _message: str | None) -> None:
        heard.append(done)

    text_of(await run.conn.call("slow", {"seconds": 0.8, "steps": 4}, on_progress))
    check(heard == [1.0, 2.0, 3.0, 4.0], f"heard {heard}")
    return "4 of 4 notes, in order"


async def logging(run: Run) -> str:
    mark = run.conn.inbox.mark()
    await run.conn.call_logged("slow", {"seconds": 0.1, "steps": 1}, "info")
    await run.conn.inbox.wait("notifications/message", lambda p: p["data"] == "started", mark)
    return "heard"


async def resources(run: Run) -> str:
    clock = json.loads((await run.conn.read(CLOCK))["contents"][0]["text"])
    check(clock["uptimeSeconds"] >= 0, f"got {clock}")
    refused = await must_refuse(run.conn.read("demo://no-such-thing"))
    run.digests["resources"] = refused
    return f"read; an unknown one gives {refused}"


async def subscriptions(run: Run) -> str:
    if run.conn.modern:
        with anyio.fail_after(8):
            async with run.conn.listening(CLOCK) as events:
                async for event in events:
                    check(event.uri == CLOCK, f"heard {event}")
                    break
        return "one update on a listen stream"
    mark = run.conn.inbox.mark()
    await run.conn.subscribe(CLOCK)
    await run.conn.inbox.wait("notifications/resources/updated", lambda p: p["uri"] == CLOCK, mark)
    await run.conn.unsubscribe(CLOCK)
    return "one update"


async def prompts(run: Run) -> str:
    filled = await run.conn.prompt("greet", {"name": "Zoë", "language": "Esperanto"})
    check("Zoë in Esperanto" in filled["messages"][0]["content"]["text"], f"got {filled}")
    refused = await must_refuse(run.conn.prompt("greet", {}))
    run.digests["prompts"] = digest([filled, refused])
    return f"filled in; a missing argument gives {refused}"


async def completion(run: Run) -> str:
    values = (await run.conn.complete_prompt("greet", "language", "E"))["completion"]["values"]
    check(values == ["English", "Esperanto"], f"got {values}")
    return "English, Esperanto"


async def elicitation(run: Run) -> str:
    human = run.conn.human
    human.elicited = {"answer": "teal"}
    accepted = text_of(await run.conn.call("ask", {"question": "Which color?"}))
    check("teal" in accepted, f"got {accepted}")
    human.elicit_action = "decline"
    declined = text_of(await run.conn.call("ask", {}))
    human.elicit_action = "accept"
    check("declined" in declined, f"got {declined}")
    return "accepted, then declined"


async def cancellation(run: Run) -> str:
    before = run.conn.late_answers
    await run.conn.call_then_cancel("slow", {"seconds": 1.2, "steps": 2}, after=0.3, watch=2.0)
    check(run.conn.late_answers == before, "the cancelled call was answered all the same")
    await call(run)
    return "no answer after the cancel, and the session goes on"


DEMO: list[tuple[str, Scenario]] = [
    ("initialize", era),
    ("lists with paging", lists),
    ("call", call),
    ("tool error", tool_error),
    ("parallel", parallel),
    ("big", big),
    ("progress", progress),
    ("logging", logging),
    ("resources", resources),
    ("subscriptions", subscriptions),
    ("prompts", prompts),
    ("completion", completion),
    ("elicitation", elicitation),
    ("cancellation", cancellation),
]
KINDS["demo"] = DEMO

"""What a client does with a server, told once for every SDK version.

A scenario is an async function of a `Run`; it raises to fail and returns a short text to say what
it saw. Where the whole answer matters it also stores a digest, so that the same answer can be
demanded directly and through the proxy.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from conn import RpcFailure


@dataclass
class Run:
    """One connection, and what belongs to it alone."""

    conn: Any
    tag: str
    workdir: Path
    digests: dict[str, Any] = field(default_factory=dict)


Scenario = Callable[[Run], Awaitable[str]]


def check(condition: object, complaint: str) -> None:
    if not condition:
        raise AssertionError(complaint)


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def text_of(result: dict[str, Any]) -> str:
    check(not result.get("isError"), f"the tool failed: {str(result)[:200]}")
    return "\n".join(part["text"] for part in result["content"] if part["type"] == "text")


async def pages(run: Run, kind: str) -> list[dict[str, Any]]:
    """Every page of a list, by the server's cursors."""
    items: list[dict[str, Any]] = []
    cursor = None
    for _ in range(64):
        page = await run.conn.page(kind, cursor)
        items += page[kind]
        cursor = page.get("nextCursor")
        if cursor is None:
            return items
    raise AssertionError(f"{kind} has no last page")


async def initialize(run: Run) -> str:
    hello = run.conn.hello
    check(hello["serverInfo"].get("name"), "no server name")
    check(hello["capabilities"].get("tools") is not None, "no tools capability")
    run.digests["initialize"] = digest(hello)
    return f"{hello['serverInfo']['name']} speaks {hello['protocolVersion']}"


async def ping(run: Run) -> str:
    await run.conn.ping()
    return "answered"


async def all_lists(run: Run, kinds: list[str], must_have: dict[str, str]) -> str:
    seen = []
    for kind in kinds:
        items = await pages(run, kind)
        names = [item["name"] for item in items]
        check(len(names) == len(set(names)), f"{kind}: an item came twice")
        check(must_have[kind] in names, f"{kind}: no {must_have[kind]}")
        run.digests[f"list {kind}"] = digest(items)
        seen.append(f"{len(items)} {kind}")
    return ", ".join(seen)


async def must_refuse(awaitable: Awaitable[Any]) -> str:
    """A call that has to fail, as an error or as a result that says so."""
    try:
        result = await awaitable
    except RpcFailure as failure:
        return str(failure.code)
    check(result.get("isError"), f"was not refused: {str(result)[:200]}")
    return "isError"


# ---- server-everything ------------------------------------------------------------------------

TEXT_URI = "demo://resource/dynamic/text/1"


async def everything_lists(run: Run) -> str:
    return await all_lists(
        run,
        ["tools", "resources", "resourceTemplates", "prompts"],
        {
            "tools": "trigger-long-running-operation",
            "resources": "features.md",
            "resourceTemplates": "Dynamic Text Resource",
            "prompts": "args-prompt",
        },
    )


async def echo(run: Run) -> str:
    word = f"héllo \u2028 \"{run.tag}\" \U0001f99c \\u0000"
    text = text_of(await run.conn.call("echo", {"message": word}))
    check(word in text, f"got {text!r}")
    return "text came back unchanged"


async def structured(run: Run) -> str:
    result = await run.conn.call("get-structured-content", {"location": "New York"})
    check(result["structuredContent"]["temperature"] is not None, "no structured content")
    image = await run.conn.call("get-tiny-image", {})
    check(any(part["type"] == "image" for part in image["content"]), "no image")
    run.digests["structured"] = digest([result, image])
    return "structured content and an image"


async def tool_error(run: Run) -> str:
    bad_arguments = await must_refuse(run.conn.call("get-sum", {"a": "x"}))
    unknown_tool = await must_refuse(run.conn.call("no-such-tool", {}))
    run.digests["tool error"] = f"{bad_arguments} {unknown_tool}"
    return f"bad arguments: {bad_arguments}, unknown tool: {unknown_tool}"


async def parallel(run: Run) -> str:
    count = 24
    wrong: list[str] = []

    async def one(number: int) -> None:
        text = text_of(await run.conn.call("get-sum", {"a": number, "b": 1000}))
        if str(number + 1000) not in text:
            wrong.append(f"{number}: {text}")

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, number)
    check(not wrong, f"mixed up: {wrong}")
    return f"{count} calls at once, each with its own answer"


async def big(run: Run) -> str:
    size = 900_000  # the 2.x client ends a stream with an event over 1 MiB
    text = text_of(await run.conn.call("echo", {"message": "x" * size}))
    check(text.count("x") >= size, f"{text.count('x')} of {size} bytes came back")
    return "900 kB there and back"


async def progress(run: Run) -> str:
    heard: list[tuple[float, float | None]] = []

    async def on_progress(done: float, total: float | None, _message: str | None) -> None:
        heard.append((done, total))

    arguments = {"duration": 0.8, "steps": 4}
    text_of(await run.conn.call("trigger-long-running-operation", arguments, on_progress))
    expected = [(float(step), 4.0) for step in range(1, 5)]
    await anyio.sleep(0)
    check(heard == expected, f"heard {heard}")
    return "4 of 4 notes, in order"


async def cancellation(run: Run) -> str:
    before = run.conn.late_answers
    arguments = {"duration": 1.2, "steps": 2}
    await run.conn.call_then_cancel("trigger-long-running-operation", arguments, after=0.3, watch=2.0)
    check(run.conn.late_answers == before, "the cancelled call was answered all the same")
    await echo(run)
    return "no answer after the cancel, and the session goes on"


async def resources(run: Run) -> str:
    text = await run.conn.read(TEXT_URI)
    check("plaintext resource" in text["contents"][0]["text"], "wrong text")
    blob = await run.conn.read("demo://resource/dynamic/blob/2")
    check(b"base64 blob" in base64.b64decode(blob["contents"][0]["blob"]), "wrong blob")
    static = await run.conn.read("demo://resource/static/document/features.md")
    refused = await must_refuse(run.conn.read("demo://resource/no-such-thing"))
    run.digests["resources"] = digest([static, refused])
    return f"text, blob and a document; an unknown one gives {refused}"


async def prompts(run: Run) -> str:
    simple = await run.conn.prompt("simple-prompt")
    filled = await run.conn.prompt("args-prompt", {"city": "Zürich"})
    check("Zürich" in filled["messages"][0]["content"]["text"], "argument lost")
    refused = await must_refuse(run.conn.prompt("args-prompt", {}))
    run.digests["prompts"] = digest([simple, filled, refused])
    return f"filled in; a missing argument gives {refused}"


async def completion(run: Run) -> str:
    values = (await run.conn.complete_prompt("completable-prompt", "department", "S"))["completion"]["values"]
    check(values == ["Sales", "Support"], f"got {values}")
    return "Sales, Support"


async def logging(run: Run) -> str:
    """The server logs each subscribe at level info, and each unsubscribe too."""
    inbox, uri = run.conn.inbox, "demo://resource/dynamic/text/7"
    await run.conn.set_level("debug")
    mark = inbox.mark()
    await run.conn.subscribe(uri)
    note = await inbox.wait("notifications/message", lambda p: uri in str(p["data"]), mark)
    await run.conn.set_level("error")
    mark = inbox.mark()
    await run.conn.unsubscribe(uri)
    await anyio.sleep(0.4)
    check(not inbox.since(mark, "notifications/message"), "a note below the level came through")
    return f"heard at {note['level']}, silent above it"


async def subscriptions(run: Run) -> str:
    inbox = run.conn.inbox
    await run.conn.subscribe(TEXT_URI)
    mark = inbox.mark()
    text_of(await run.conn.call("toggle-subscriber-updates", {}))
    await inbox.wait("notifications/resources/updated", lambda p: p["uri"] == TEXT_URI, mark)
    text_of(await run.conn.call("toggle-subscriber-updates", {}))
    await run.conn.unsubscribe(TEXT_URI)
    return "one update heard"


async def sampling(run: Run) -> str:
    text = text_of(await run.conn.call("trigger-sampling-request", {"prompt": "hi", "maxTokens": 9}))
    check(run.conn.human.sampling_text in text, f"got {text}")
    return "asked and answered inside the call"


async def elicitation(run: Run) -> str:
    human = run.conn.human
    accepted = text_of(await run.conn.call("trigger-elicitation-request", {}))
    check(human.elicited["name"] in accepted, f"got {accepted}")
    human.elicit_action = "decline"
    declined = text_of(await run.conn.call("trigger-elicitation-request", {}))
    human.elicit_action = "accept"
    check("declined" in declined, f"got {declined}")
    return "accepted, then declined"


async def _until_text(run: Run, tool: str, wanted: str) -> str:
    """Call a tool until its answer has `wanted`: the server learns of roots in its own time."""
    text = ""
    with anyio.move_on_after(10):
        while wanted not in text:
            text = text_of(await run.conn.call(tool, {}))
            await anyio.sleep(0.1)
    check(wanted in text, f"{wanted} not in {text}")
    return text


async def roots(run: Run) -> str:
    await _until_text(run, "get-roots-list", run.conn.human.roots[0])
    return "the server asked for them"


async def roots_changed(run: Run) -> str:
    run.conn.human.roots = [f"file:///tmp/other-{run.tag}"]
    await run.conn.roots_changed()
    await _until_text(run, "get-roots-list", run.conn.human.roots[0])
    return "the server asked again"


async def list_changed(run: Run) -> str:
    name = f"made-{run.tag}.txt.gz"
    mark = run.conn.inbox.mark()
    arguments = {"name": name, "data": "data:text/plain,hello", "outputType": "resourceLink"}
    made = await run.conn.call("gzip-file-as-resource", arguments)
    await run.conn.inbox.wait("notifications/resources/list_changed", since=mark)
    check(name in [item["name"] for item in await pages(run, "resources")], "not listed")
    content = await run.conn.read(made["content"][0]["uri"])
    check(base64.b64decode(content["contents"][0]["blob"])[:2] == b"\x1f\x8b", "no gzip")
    return "told, listed and read"


EVERYTHING: list[tuple[str, Scenario]] = [
    ("initialize", initialize),
    ("ping", ping),
    ("lists with paging", everything_lists),
    ("call", echo),
    ("structured", structured),
    ("tool error", tool_error),
    ("parallel", parallel),
    ("big", big),
    ("progress", progress),
    ("resources", resources),
    ("prompts", prompts),
    ("completion", completion),
    ("logging", logging),
    ("subscriptions", subscriptions),
    ("sampling", sampling),
    ("elicitation", elicitation),
    ("roots", roots),
    ("roots list_changed", roots_changed),
    ("list_changed", list_changed),
    ("cancellation", cancellation),
]

# ---- server-filesystem ------------------------------------------------------------------------


async def filesystem_lists(run: Run) -> str:
    return await all_lists(run, ["tools"], {"tools": "read_text_file"})


async def allowed_by_roots(run: Run) -> str:
    """The roots that the client names replace the folders of the command line."""
    await _until_text(run, "list_allowed_directories", str(run.workdir / "one"))
    return "the client's root is allowed"


async def files(run: Run) -> str:
    path = str(run.workdir / "one" / f"{run.tag}.txt")
    body = "ligne une\nłinia dwa\n"
    text_of(await run.conn.call("write_file", {"path": path, "content": body}))
    check(Path(path).read_text() == body, "the file on disk differs")
    check(text_of(await run.conn.call("read_text_file", {"path": path})) == body, "read differs")
    listing = text_of(await run.conn.call("list_directory", {"path": str(run.workdir / "one")}))
    check(f"{run.tag}.txt" in listing, "not listed")
    return "written, read and listed"


async def outside(run: Run) -> str:
    refused = await must_refuse(run.conn.call("read_text_file", {"path": "/etc/hostname"}))
    run.digests["outside"] = refused
    return f"outside of the roots: {refused}"


async def filesystem_roots_changed(run: Run) -> str:
    run.conn.human.roots = [(run.workdir / "two").as_uri()]
    await run.conn.roots_changed()
    await _until_text(run, "list_allowed_directories", str(run.workdir / "two"))
    return "the other folder is allowed"


FILESYSTEM: list[tuple[str, Scenario]] = [
    ("initialize", initialize),
    ("lists with paging", filesystem_lists),
    ("roots", allowed_by_roots),
    ("call", files),
    ("tool error", outside),
    ("roots list_changed", filesystem_roots_changed),
]

# ---- server-memory ----------------------------------------------------------------------------

GRAPH_URI = "memory://knowledge-graph"


async def memory_lists(run: Run) -> str:
    return await all_lists(run, ["tools", "resources"], {"tools": "create_entities", "resources": "knowledge-graph"})


async def entities(run: Run) -> str:
    name = f"entity-{run.tag}"
    entity = {"name": name, "entityType": "test", "observations": ["sees ünïcode"]}
    await run.conn.call("create_entities", {"entities": [entity]})
    found = await run.conn.call("search_nodes", {"query": name})
    check(found["structuredContent"]["entities"] == [entity], f"got {found}")
    return "made and found"


async def graph_updates(run: Run) -> str:
    inbox = run.conn.inbox
    await run.conn.subscribe(GRAPH_URI)
    mark = inbox.mark()
    await run.conn.call("delete_entities", {"entityNames": [f"entity-{run.tag}"]})
    await inbox.wait("notifications/resources/updated", lambda p: p["uri"] == GRAPH_URI, mark)
    graph = json.loads((await run.conn.read(GRAPH_URI))["contents"][0]["text"])
    check(f"entity-{run.tag}" not in str(graph), "still there")
    await run.conn.unsubscribe(GRAPH_URI)
    return "told of the change"


MEMORY: list[tuple[str, Scenario]] = [
    ("initialize", initialize),
    ("ping", ping),
    ("lists with paging", memory_lists),
    ("call", entities),
    ("subscriptions", graph_updates),
]

KINDS = {"everything": EVERYTHING, "filesystem": FILESYSTEM, "memory": MEMORY}

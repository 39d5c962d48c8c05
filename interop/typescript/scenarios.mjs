// What a client does with a server, told once for both SDK majors.
//
// A scenario is an async function of a run; it throws to fail and returns a short text to say what
// it saw. Where the whole answer matters it also stores a digest, so that the same answer can be
// demanded directly and through the proxy.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

export function digest(value) {
  return createHash("sha256").update(JSON.stringify(sorted(value))).digest("hex").slice(0, 16);
}

export function textOf(result) {
  assert.ok(!result.isError, `the tool failed: ${JSON.stringify(result).slice(0, 200)}`);
  return result.content.filter((part) => part.type === "text").map((part) => part.text).join("\n");
}

/** Every page of a list, by the server's cursors. */
async function pages({ conn }, kind) {
  const items = [];
  let cursor;
  for (let page = 0; page < 64; page += 1) {
    const result = await conn.page(kind, cursor);
    items.push(...result[kind]);
    cursor = result.nextCursor;
    if (cursor === undefined) return items;
  }
  throw new Error(`${kind} has no last page`);
}

export async function initialize(run) {
  const { hello } = run.conn;
  assert.ok(hello.serverInfo?.name, "no server name");
  assert.ok(hello.capabilities?.tools, "no tools capability");
  run.digests.initialize = digest(hello);
  return `${hello.serverInfo.name} speaks ${hello.protocolVersion}`;
}

async function ping({ conn }) {
  await conn.ping();
  return "answered";
}

export async function allLists(run, mustHave) {
  const seen = [];
  for (const [kind, wanted] of Object.entries(mustHave)) {
    const items = await pages(run, kind);
    const names = items.map((item) => item.name);
    assert.equal(new Set(names).size, names.length, `${kind}: an item came twice`);
    assert.ok(names.includes(wanted), `${kind}: no ${wanted}`);
    run.digests[`list ${kind}`] = digest(items);
    seen.push(`${items.length} ${kind}`);
  }
  return seen.join(", ");
}

/** A call that has to fail, as an error or as a result that says so. */
export async function mustRefuse(promise) {
  let result;
  try {
    result = await promise;
  } catch (error) {
    assert.equal(typeof error.code, "number", `not a JSON-RPC error: ${error}`);
    return String(error.code);
  }
  assert.ok(result.isError, `was not refused: ${JSON.stringify(result).slice(0, 200)}`);
  return "isError";
}

// ---- server-everything -------------------------------------------------------------------------

const TEXT_URI = "demo://resource/dynamic/text/1";

async function everythingLists(run) {
  return allLists(run, {
    tools: "trigger-long-running-operation",
    resources: "features.md",
    resourceTemplates: "Dynamic Text Resource",
    prompts: "args-prompt",
  });
}

async function echo({ conn, tag }) {
  const word = `héllo \u2028 "${tag}" \u{1f99c} \\u0000`;
  const text = textOf(await conn.call("echo", { message: word }));
  assert.ok(text.includes(word), `got ${text}`);
  return "text came back unchanged";
}

async function structured(run) {
  const result = await run.conn.call("get-structured-content", { location: "New York" });
  assert.notEqual(result.structuredContent?.temperature, undefined, "no structured content");
  const image = await run.conn.call("get-tiny-image", {});
  assert.ok(image.content.some((part) => part.type === "image"), "no image");
  run.digests.structured = digest([result, image]);
  return "structured content and an image";
}

async function toolError(run) {
  const badArguments = await mustRefuse(run.conn.call("get-sum", { a: "x" }));
  const unknownTool = await mustRefuse(run.conn.call("no-such-tool", {}));
  run.digests["tool error"] = `${badArguments} ${unknownTool}`;
  return `bad arguments: ${badArguments}, unknown tool: ${unknownTool}`;
}

async function parallel({ conn }) {
  const count = 24;
  const one = async (number) => {
    const text = textOf(await conn.call("get-sum", { a: number, b: 1000 }));
    assert.ok(text.includes(String(number + 1000)), `${number}: ${text}`);
  };
  await Promise.all(Array.from({ length: count }, (_, number) => one(number)));
  return `${count} calls at once, each with its own answer`;
}

async function big({ conn }) {
  const size = 900_000;
  const text = textOf(await conn.call("echo", { message: "x".repeat(size) }));
  assert.ok(text.length >= size, `${text.length} of ${size} bytes came back`);
  return "900 kB there and back";
}

/**
 * Over stdio the SDK may take the last note after the answer, when nobody listens any more, so the
 * callback has to hear the first three and the transport all four.
 */
async function progress({ conn }) {
  const heard = [];
  conn.wireProgress.length = 0;
  const onprogress = ({ progress: done, total }) => heard.push(`${done}/${total}`);
  textOf(await conn.call("trigger-long-running-operation", { duration: 0.8, steps: 4 }, onprogress));
  assert.deepEqual(conn.wireProgress, ["1/4", "2/4", "3/4", "4/4"]);
  assert.deepEqual(heard.slice(0, 3), ["1/4", "2/4", "3/4"]);
  return "4 of 4 notes, in order";
}

async function cancellation(run) {
  const before = run.conn.lateAnswers;
  await run.conn.callThenCancel("trigger-long-running-operation", { duration: 1.2, steps: 2 }, 300, 2000);
  assert.equal(run.conn.lateAnswers, before, "the cancelled call was answered all the same");
  await echo(run);
  return "no answer after the cancel, and the session goes on";
}

async function resources(run) {
  const { conn } = run;
  const text = await conn.read(TEXT_URI);
  assert.match(text.contents[0].text, /plaintext resource/);
  const blob = await conn.read("demo://resource/dynamic/blob/2");
  assert.match(Buffer.from(blob.contents[0].blob, "base64").toString(), /base64 blob/);
  const fixed = await conn.read("demo://resource/static/document/features.md");
  const refused = await mustRefuse(conn.read("demo://resource/no-such-thing"));
  run.digests.resources = digest([fixed, refused]);
  return `text, blob and a document; an unknown one gives ${refused}`;
}

async function prompts(run) {
  const simple = await run.conn.prompt("simple-prompt");
  const filled = await run.conn.prompt("args-prompt", { city: "Zürich" });
  assert.match(filled.messages[0].content.text, /Zürich/);
  const refused = await mustRefuse(run.conn.prompt("args-prompt", {}));
  run.digests.prompts = digest([simple, filled, refused]);
  return `filled in; a missing argument gives ${refused}`;
}

async function completion({ conn }) {
  const { values } = (await conn.completePrompt("completable-prompt", "department", "S")).completion;
  assert.deepEqual(values, ["Sales", "Support"]);
  return "Sales, Support";
}

/** The server logs each subscribe at level info, and each unsubscribe too. */
async function logging({ conn }) {
  const uri = "demo://resource/dynamic/text/7";
  await conn.setLevel("debug");
  let mark = conn.inbox.mark();
  await conn.subscribe(uri);
  const note = await conn.inbox.wait("notifications/message", (params) => String(params.data).includes(uri), mark);
  await conn.setLevel("error");
  mark = conn.inbox.mark();
  await conn.unsubscribe(uri);
  await sleep(400);
  assert.equal(conn.inbox.since(mark, "notifications/message").length, 0, "a note below the level came through");
  return `heard at ${note.level}, silent above it`;
}

async function subscriptions({ conn }) {
  await conn.subscribe(TEXT_URI);
  const mark = conn.inbox.mark();
  textOf(await conn.call("toggle-subscriber-updates", {}));
  await conn.inbox.wait("notifications/resources/updated", (params) => params.uri === TEXT_URI, mark);
  textOf(await conn.call("toggle-subscriber-updates", {}));
  await conn.unsubscribe(TEXT_URI);
  return "one update heard";
}

async function sampling({ conn }) {
  const text = textOf(await conn.call("trigger-sampling-request", { prompt: "hi", maxTokens: 9 }));
  assert.ok(text.includes(conn.human.samplingText), `got ${text}`);
  return "asked and answered inside the call";
}

async function elicitation({ conn }) {
  const accepted = textOf(await conn.call("trigger-elicitation-request", {}));
  assert.ok(accepted.includes(conn.human.elicited.name), `got ${accepted}`);
  conn.human.elicitAction = "decline";
  const declined = textOf(await conn.call("trigger-elicitation-request", {}));
  conn.human.elicitAction = "accept";
  assert.match(declined, /declined/);
  return "accepted, then declined";
}

/** Calls a tool until its answer has `wanted`: the server learns of roots in its own time. */
async function untilText({ conn }, tool, wanted) {
  let text = "";
  for (let tries = 0; tries < 80 && !text.includes(wanted); tries += 1) {
    text = textOf(await conn.call(tool, {}));
    await sleep(100);
  }
  assert.ok(text.includes(wanted), `${wanted} not in ${text}`);
}

async function roots(run) {
  await untilText(run, "get-roots-list", run.conn.human.roots[0]);
  return "the server asked for them";
}

async function rootsChanged(run) {
  run.conn.human.roots = [`file:///tmp/other-${run.tag}`];
  await run.conn.rootsChanged();
  await untilText(run, "get-roots-list", run.conn.human.roots[0]);
  return "the server asked again";
}

async function listChanged(run) {
  const { conn } = run;
  const name = `made-${run.tag}.txt.gz`;
  const mark = conn.inbox.mark();
  const args = { name, data: "data:text/plain,hello", outputType: "resourceLink" };
  const made = await conn.call("gzip-file-as-resource", args);
  await conn.inbox.wait("notifications/resources/list_changed", undefined, mark);
  assert.ok((await pages(run, "resources")).some((item) => item.name === name), "not listed");
  const content = await conn.read(made.content[0].uri);
  assert.equal(Buffer.from(content.contents[0].blob, "base64").readUInt16BE(0), 0x1f8b, "no gzip");
  return "told, listed and read";
}

const EVERYTHING = [
  ["initialize", initialize],
  ["ping", ping],
  ["lists with paging", everythingLists],
  ["call", echo],
  ["structured", structured],
  ["tool error", toolError],
  ["parallel", parallel],
  ["big", big],
  ["progress", progress],
  ["resources", resources],
  ["prompts", prompts],
  ["completion", completion],
  ["logging", logging],
  ["subscriptions", subscriptions],
  ["sampling", sampling],
  ["elicitation", elicitation],
  ["roots", roots],
  ["roots list_changed", rootsChanged],
  ["list_changed", listChanged],
  ["cancellation", cancellation],
];

// ---- server-filesystem -------------------------------------------------------------------------

/** The roots that the client names replace the folders of the command line. */
async function allowedByRoots(run) {
  await untilText(run, "list_allowed_directories", join(run.workdir, "one"));
  return "the client's root is allowed";
}

async function files({ conn, tag, workdir }) {
  const path = join(workdir, "one", `${tag}.txt`);
  const body = "ligne une\nłinia dwa\n";
  textOf(await conn.call("write_file", { path, content: body }));
  assert.equal(await readFile(path, "utf8"), body, "the file on disk differs");
  assert.equal(textOf(await conn.call("read_text_file", { path })), body, "read differs");
  assert.ok(textOf(await conn.call("list_directory", { path: join(workdir, "one") })).includes(`${tag}.txt`));
  return "written, read and listed";
}

async function outside(run) {
  const refused = await mustRefuse(run.conn.call("read_text_file", { path: "/etc/hostname" }));
  run.digests.outside = refused;
  return `outside of the roots: ${refused}`;
}

async function filesystemRootsChanged(run) {
  run.conn.human.roots = [pathToFileURL(join(run.workdir, "two")).href];
  await run.conn.rootsChanged();
  await untilText(run, "list_allowed_directories", join(run.workdir, "two"));
  return "the other folder is allowed";
}

const FILESYSTEM = [
  ["initialize", initialize],
  ["lists with paging", (run) => allLists(run, { tools: "read_text_file" })],
  ["roots", allowedByRoots],
  ["call", files],
  ["tool error", outside],
  ["roots list_changed", filesystemRootsChanged],
];

// ---- server-memory -----------------------------------------------------------------------------

const GRAPH_URI = "memory://knowledge-graph";

async function entities({ conn, tag }) {
  const entity = { name: `entity-${tag}`, entityType: "test", observations: ["sees ünïcode"] };
  await conn.call("create_entities", { entities: [entity] });
  const found = await conn.call("search_nodes", { query: entity.name });
  assert.deepEqual(found.structuredContent.entities, [entity]);
  return "made and found";
}

async function graphUpdates({ conn, tag }) {
  await conn.subscribe(GRAPH_URI);
  const mark = conn.inbox.mark();
  await conn.call("delete_entities", { entityNames: [`entity-${tag}`] });
  await conn.inbox.wait("notifications/resources/updated", (params) => params.uri === GRAPH_URI, mark);
  const graph = (await conn.read(GRAPH_URI)).contents[0].text;
  assert.ok(!graph.includes(`entity-${tag}`), "still there");
  await conn.unsubscribe(GRAPH_URI);
  return "told of the change";
}

const MEMORY = [
  ["initialize", initialize],
  ["ping", ping],
  ["lists with paging", (run) => allLists(run, { tools: "create_entities", resources: "knowledge-graph" })],
  ["call", entities],
  ["subscriptions", graphUpdates],
];

export const KINDS = { everything: EVERYTHING, filesystem: FILESYSTEM, memory: MEMORY };

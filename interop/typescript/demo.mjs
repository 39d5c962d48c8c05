// Scenarios for the built-in demo server: the only server here that speaks the 2026-07-28 era.
//
// An SDK that knows that era must find it; one that does not gets the same tools in the older one.

import assert from "node:assert/strict";

import { allLists, digest, initialize, mustRefuse, textOf } from "./scenarios.mjs";

const CLOCK = "demo://clock";
const MODERN = "2026-07-28";

async function era(run) {
  const told = await initialize(run);
  const { protocolVersion } = run.conn.hello;
  assert.equal(protocolVersion >= MODERN, run.conn.knowsModern, `settled on ${protocolVersion}`);
  return told;
}

/** This server has ten entries per page, so the tools come in several pages. */
async function lists(run) {
  assert.ok((await run.conn.page("tools")).nextCursor, "the first page is the last");
  return allLists(run, { tools: "slow", resources: "clock", prompts: "greet" });
}

async function call({ conn, tag }) {
  const word = `héllo \u2028 "${tag}" \u{1f99c}`;
  assert.equal(textOf(await conn.call("echo", { text: word })), word);
  const result = await conn.call("add", { a: 2, b: 40 });
  assert.equal(result.structuredContent.sum, 42);
  return "text and a sum came back";
}

async function toolError(run) {
  const failed = await mustRefuse(run.conn.call("fail", { message: "on purpose" }));
  const unknown = await mustRefuse(run.conn.call("no-such-tool", {}));
  run.digests["tool error"] = `${failed} ${unknown}`;
  return `a failing tool: ${failed}, an unknown one: ${unknown}`;
}

async function parallel({ conn }) {
  const one = async (number) => {
    assert.equal(textOf(await conn.call("add", { a: number, b: 1000 })), String(number + 1000));
  };
  await Promise.all(Array.from({ length: 24 }, (_, number) => one(number)));
  return "24 calls at once, each with its own answer";
}

async function big({ conn }) {
  const size = 900_000;
  const result = await conn.call("big", { bytes: size, data: "x".repeat(size) });
  assert.equal(textOf(result).length, size, "the result was cut");
  assert.equal(result.structuredContent.received, size, "the argument was cut");
  return "900 kB there and back";
}

/** The callback may miss the last note over stdio, as `scenarios.mjs` explains. */
async function progress({ conn }) {
  const heard = [];
  conn.wireProgress.length = 0;
  textOf(await conn.call("slow", { seconds: 0.8, steps: 4 }, ({ progress: done }) => heard.push(done)));
  assert.deepEqual(conn.wireProgress, ["1/4", "2/4", "3/4", "4/4"]);
  assert.deepEqual(heard.slice(0, 3), [1, 2, 3]);
  return "4 of 4 notes, in order";
}

async function logging({ conn }) {
  const mark = conn.inbox.mark();
  await conn.callLogged("slow", { seconds: 0.1, steps: 1 }, "info");
  await conn.inbox.wait("notifications/message", (params) => params.data === "started", mark);
  return "heard";
}

async function resources(run) {
  const clock = JSON.parse((await run.conn.read(CLOCK)).contents[0].text);
  assert.ok(clock.uptimeSeconds >= 0);
  const refused = await mustRefuse(run.conn.read("demo://no-such-thing"));
  run.digests.resources = refused;
  return `read; an unknown one gives ${refused}`;
}

async function subscriptions({ conn }) {
  const mark = conn.inbox.mark();
  const stop = await conn.follow(CLOCK);
  await conn.inbox.wait("notifications/resources/updated", (params) => params.uri === CLOCK, mark);
  await stop();
  return conn.modern ? "one update on a listen stream" : "one update";
}

async function prompts(run) {
  const filled = await run.conn.prompt("greet", { name: "Zoë", language: "Esperanto" });
  assert.match(filled.messages[0].content.text, /Zoë in Esperanto/);
  const refused = await mustRefuse(run.conn.prompt("greet", {}));
  run.digests.prompts = digest([filled, refused]);
  return `filled in; a missing argument gives ${refused}`;
}

async function completion({ conn }) {
  const { values } = (await conn.completePrompt("greet", "language", "E")).completion;
  assert.deepEqual(values, ["English", "Esperanto"]);
  return "English, Esperanto";
}

async function elicitation({ conn }) {
  conn.human.elicited = { answer: "teal" };
  assert.match(textOf(await conn.call("ask", { question: "Which color?" })), /teal/);
  conn.human.elicitAction = "decline";
  const declined = textOf(await conn.call("ask", {}));
  conn.human.elicitAction = "accept";
  assert.match(declined, /declined/);
  return "accepted, then declined";
}

async function cancellation(run) {
  const before = run.conn.lateAnswers;
  await run.conn.callThenCancel("slow", { seconds: 1.2, steps: 2 }, 300, 2000);
  assert.equal(run.conn.lateAnswers, before, "the cancelled call was answered all the same");
  await call(run);
  return "no answer after the cancel, and the session goes on";
}

export const DEMO = [
  ["initialize", era],
  ["lists with paging", lists],
  ["call", call],
  ["tool error", toolError],
  ["parallel", parallel],
  ["big", big],
  ["progress", progress],
  ["logging", logging],
  ["resources", resources],
  ["subscriptions", subscriptions],
  ["prompts", prompts],
  ["completion", completion],
  ["elicitation", elicitation],
  ["cancellation", cancellation],
];

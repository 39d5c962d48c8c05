// The official client loses its connection in the middle of a call, and has to get every message
// and the answer all the same, each once; one JSON line per scenario on stdout.
//
//   node resume.mjs --sdk sdk1|sdk2 --packages DIR --setting SETTING --front FROM=TO [--back FROM=TO]
//
// `--front` is a relay before what the client talks to, `--back` one between the proxy and the
// server. A setting says what stands behind: `direct` is a server with an event store and no proxy,
// `store` the same behind the proxy, `bare` one without a store, `stdio` a child process.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { Relay } from "./relay.mjs";
import { attempt } from "./report.mjs";
import { SDKS } from "./resume-sdk.mjs";

const { values } = parseArgs({
  options: {
    sdk: { type: "string" },
    packages: { type: "string" },
    setting: { type: "string" },
    front: { type: "string" },
    back: { type: "string" },
  },
});
const require = createRequire(join(values.packages, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const sdk = await SDKS[values.sdk].client(load);
const relay = (pair) => pair && Relay.open(...pair.split("="));
const [front, back] = await Promise.all([relay(values.front), relay(values.back)]);
const url = `http://${values.front.split("=")[0]}/mcp`;

const STEPS = 12;
const EVERY = 80;

/** A client, and all that its transport delivered. */
class Seat {
  messages = [];
  /** Called with each message. */
  watch = () => {};

  static async take(session) {
    const seat = new Seat();
    seat.client = sdk.make();
    seat.client.onerror = () => {};
    seat.transport = sdk.transport(url, session?.id);
    if (session) seat.transport.setProtocolVersion?.(session.version);
    const setVersion = seat.transport.setProtocolVersion?.bind(seat.transport);
    seat.transport.setProtocolVersion = (version) => {
      seat.version = version;
      setVersion?.(version);
    };
    await seat.client.connect(seat.transport);
    const deliver = seat.transport.onmessage;
    seat.transport.onmessage = (message, extra) => {
      seat.messages.push(message);
      seat.watch(message);
      return deliver?.(message, extra);
    };
    return seat;
  }

  get session() {
    return { id: this.transport.sessionId, version: this.version };
  }

  call(name, args, options = {}) {
    const onprogress = () => {};
    return sdk.request(
      this.client,
      { method: "tools/call", params: { name, arguments: args } },
      { onprogress, resetTimeoutOnProgress: true, timeout: 15_000, ...options },
    );
  }

  async leave() {
    await this.transport.terminateSession();
    await this.client.close();
  }
}

const steps = (messages) =>
  messages.filter(({ method }) => method === "notifications/progress").map(({ params }) => params.progress);
const upTo = (last) => Array.from({ length: last }, (_, index) => index + 1);

/** The server made this call once, and it is this one. */
function assertAnswer(result, tag) {
  assert.deepEqual(JSON.parse(result.content[0].text), { tag, runs: 1 });
}

/** One call; `at` says what happens when a step is heard for the first time. */
async function disturbed(tag, at, args = {}) {
  const seat = await Seat.take();
  const pending = { ...at };
  seat.watch = ({ method, params }) => {
    if (method !== "notifications/progress") return;
    const action = pending[params.progress];
    delete pending[params.progress];
    action?.();
  };
  const result = await seat.call("count", { tag, steps: STEPS, every: EVERY, ...args });
  assertAnswer(result, tag);
  assert.deepEqual(steps(seat.messages), upTo(STEPS));
  assert.deepEqual(Object.keys(pending), [], "not everything happened that should have");
  assert.equal(seat.messages.filter(({ result: answer }) => answer?.content).length, 1, "answers");
  await seat.leave();
  return `${STEPS} steps and one answer, each once`;
}

async function cutBeforeTheClient() {
  const before = front.cuts;
  const detail = await disturbed("client", { 3: () => front.cut(), 7: () => front.cut() });
  assert.ok(front.cuts >= before + 2, "nothing was cut");
  return detail;
}

async function cutBeforeTheServer() {
  const before = back.cuts;
  const detail = await disturbed("server", { 3: () => back.cut(), 7: () => back.cut() });
  assert.ok(back.cuts >= before + 2, "nothing was cut");
  return detail;
}

const cutOnBothSides = () =>
  disturbed("both", {
    3: () => {
      front.cut();
      back.cut();
    },
    8: () => {
      back.cut();
      front.cut();
    },
  });

const serverAway = () => disturbed("away", { 4: () => back.cut(1500) });

const polled = () => disturbed("polled", {}, { poll: 4 });

/** The client's program ends in the middle of a call; the next one has kept the token. */
async function anotherClient() {
  const tag = "another";
  const first = await Seat.take();
  let token;
  const left = new Promise((resolve) => {
    first.watch = ({ method, params }) => {
      if (method === "notifications/progress" && params.progress === 4) resolve();
    };
  });
  const onresumptiontoken = (next) => {
    token = next;
  };
  const args = { tag, steps: STEPS, every: EVERY };
  const abandoned = first.call("count", args, { onresumptiontoken }).catch(() => {});
  await left;
  const session = first.session;
  // Leaves without ending the session.
  await first.client.close();
  await abandoned;
  // A program takes a moment to start, and the server one to notice: until then it says 409.
  await sleep(300);
  assert.ok(token, "no token was given");
  const second = await Seat.take(session);
  const result = await second.call("count", args, { resumptionToken: token, onresumptiontoken });
  assertAnswer(result, tag);
  assert.deepEqual([...steps(first.messages), ...steps(second.messages)], upTo(STEPS));
  const heard = steps(first.messages).length;
  await second.leave();
  return `${heard} steps by the first, ${STEPS - heard} and the answer by the second`;
}

/** What belongs to no request comes on a stream of its own, which breaks too. */
async function unasked() {
  const seat = await Seat.take();
  const heard = (tag) =>
    seat.messages
      .filter(({ method, params }) => method === "notifications/message" && params.data.tag === tag)
      .map(({ params }) => params.data.number);
  // The stream is there when the first thing comes.
  for (let tries = 0; heard("first").length === 0; tries += 1) {
    assert.ok(tries < 20, "the stream brings nothing");
    await seat.call("announce", { tag: "first", count: 1, every: 10 });
    await sleep(150);
  }
  const cutAt = new Set([3, 8]);
  seat.watch = ({ method, params }) => {
    if (method === "notifications/message" && params.data.tag === "then" && cutAt.delete(params.data.number)) {
      front.cut();
    }
  };
  await seat.call("announce", { tag: "then", count: STEPS, every: EVERY });
  for (let tries = 0; heard("then").length < STEPS && tries < 100; tries += 1) await sleep(100);
  // Time for one that would come twice.
  await sleep(300);
  assert.deepEqual(heard("then"), upTo(STEPS));
  assert.equal(cutAt.size, 0, "nothing was cut");
  await seat.leave();
  return `${STEPS} things, each once and in order`;
}

/** Without a store the rest is lost with the connection, and the client has to be told so at once. */
async function toldWhatIsLost() {
  const seat = await Seat.take();
  seat.watch = ({ method, params }) => {
    if (method === "notifications/progress" && params.progress === 3) back.cut();
  };
  const call = seat.call("count", { tag: "lost", steps: STEPS, every: EVERY });
  await assert.rejects(call, (error) => {
    assert.equal(error.code, -31007, String(error));
    return true;
  });
  seat.watch = () => {};
  assertAnswer(await seat.call("count", { tag: "after", steps: 2, every: EVERY }), "after");
  await seat.leave();
  return "an error, -31007, and the session goes on";
}

const EVERYWHERE = [
  ["cut before the client", cutBeforeTheClient],
  ["another client", anotherClient],
];
const SCENARIOS = {
  direct: [...EVERYWHERE, ["unasked", unasked], ["polled", polled]],
  store: [
    ...EVERYWHERE,
    ["unasked", unasked],
    ["polled", polled],
    ["cut before the server", cutBeforeTheServer],
    ["cut on both sides", cutOnBothSides],
    ["server away", serverAway],
  ],
  bare: [...EVERYWHERE, ["told what is lost", toldWhatIsLost]],
  stdio: [...EVERYWHERE, ["unasked", unasked]],
};

for (const [name, scenario] of SCENARIOS[values.setting]) await attempt(name, scenario, {});
// Relays and clients that were cut off must not hold the run.
process.exit(0);

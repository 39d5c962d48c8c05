// An official server whose calls take a while, to be cut off from its clients meanwhile.
//
//   node resume-server.mjs --sdk sdk1|sdk2 --packages DIR (--listen HOST:PORT [--store])
//
// Without `--listen` it speaks on stdio. With `--store` it keeps events for clients that come back.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { SDKS } from "./resume-sdk.mjs";

const { values } = parseArgs({
  options: {
    sdk: { type: "string" },
    packages: { type: "string" },
    listen: { type: "string" },
    store: { type: "boolean", default: false },
  },
});
const require = createRequire(join(values.packages, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const sdk = await SDKS[values.sdk].server(load);

/** Everything that one session's streams have carried, in order. */
class Kept {
  #events = [];

  async storeEvent(stream, message) {
    this.#events.push({ stream, message });
    return `event-${this.#events.length}`;
  }

  #at(id) {
    return Number(id.slice("event-".length));
  }

  async getStreamIdForEventId(id) {
    return this.#events[this.#at(id) - 1]?.stream;
  }

  async replayEventsAfter(last, { send }) {
    const stream = await this.getStreamIdForEventId(last);
    const behind = this.#at(last);
    for (const [index, event] of [...this.#events.entries()].slice(behind)) {
      // What opens a stream is kept under an id too, and is no message.
      const isMessage = event.message.jsonrpc !== undefined;
      if (event.stream === stream && isMessage) await send(`event-${index + 1}`, event.message);
    }
    return stream;
  }
}

/** How often each call was made, by its tag. */
const runs = new Map();

/** Reports `steps` steps and then answers; at the step `poll` it closes the stream and goes on. */
async function count({ tag, steps, every, poll }, request) {
  runs.set(tag, (runs.get(tag) ?? 0) + 1);
  for (let progress = 1; progress <= steps; progress += 1) {
    await sleep(every);
    if (progress === poll) request.closeStream();
    const params = { progressToken: request.token, progress, total: steps };
    await request.notify({ method: "notifications/progress", params });
  }
  await sleep(every);
  return { content: [{ type: "text", text: JSON.stringify({ tag, runs: runs.get(tag) }) }] };
}

/** Answers at once, and then says so many numbered things that belong to no request. */
function announce(server, { tag, count: most, every }) {
  const tell = async () => {
    for (let number = 1; number <= most; number += 1) {
      await sleep(every);
      const params = { level: "info", data: { tag, number } };
      await server.notification({ method: "notifications/message", params });
    }
  };
  tell().catch((error) => process.stderr.write(`${error}\n`));
  return { content: [{ type: "text", text: "soon" }] };
}

function make() {
  return sdk.make({ tools: {}, logging: {} }, (server, { name, arguments: args }, request) =>
    name === "announce" ? announce(server, args) : count(args, request),
  );
}

/** Sessions with their transports. */
const sessions = new Map();

async function open() {
  const transport = sdk.http({
    sessionIdGenerator: () => randomUUID(),
    onsessioninitialized: (id) => void sessions.set(id, transport),
    onsessionclosed: (id) => void sessions.delete(id),
    retryInterval: 200,
    ...(values.store && { eventStore: new Kept() }),
  });
  await make().connect(transport);
  return transport;
}

if (values.listen) {
  const [host, port] = values.listen.split(":");
  const handle = async (request, response) => {
    const id = request.headers["mcp-session-id"];
    const transport = id === undefined ? await open() : sessions.get(id);
    if (transport) return transport.handleRequest(request, response);
    response.writeHead(404).end();
  };
  createServer((request, response) => {
    handle(request, response).catch((error) => {
      process.stderr.write(`${error?.stack ?? error}\n`);
      response.destroy();
    });
  }).listen(Number(port), host);
} else {
  await make().connect(sdk.stdio());
}

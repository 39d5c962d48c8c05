// Runs one SDK major's scenarios against one server; one JSON line per scenario on stdout.
//
//   node run.mjs --sdk sdk1|sdk2 --packages DIR --kind KIND --workdir DIR (--url URL | -- COMMAND...)
//
// `--packages` is the folder whose node_modules holds the SDK.

import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { Human } from "./conn.mjs";
import { DEMO } from "./demo.mjs";
import { KINDS } from "./scenarios.mjs";

const SCENARIO_MS = 20_000;
const CLOSE_MS = 8_000;

function report(scenario, ok, detail, started, digests = {}) {
  const ms = Date.now() - started;
  process.stdout.write(`${JSON.stringify({ scenario, ok, detail: String(detail).slice(0, 400), ms, digests })}\n`);
}

function explain(error) {
  const where = /\/(\w+\.mjs:\d+)/.exec(error?.stack ?? "")?.[1] ?? "?";
  return `${error?.name ?? "Error"}: ${error?.message ?? error} (${where})`;
}

function within(promise, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function attempt(name, scenario, run) {
  const started = Date.now();
  run.digests = {};
  try {
    const detail = await within(scenario(run), SCENARIO_MS);
    report(name, true, detail, started, run.digests);
  } catch (error) {
    report(name, false, explain(error), started);
  }
}

/** After the close nothing may answer under the old session id. */
async function sessionIsGone(url, sessionId) {
  const headers = {
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    "mcp-session-id": sessionId,
  };
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });
  const { status } = await fetch(url, { method: "POST", headers, body });
  if (status !== 400 && status !== 404) throw new Error(`the closed session gives ${status}`);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sdk: { type: "string" },
    packages: { type: "string" },
    kind: { type: "string" },
    workdir: { type: "string" },
    url: { type: "string" },
  },
});
const require = createRequire(join(values.packages, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { connect } = await import(`./${values.sdk}.mjs`);
const target = values.url ? { url: values.url } : { command: positionals[0], args: positionals.slice(1) };
for (const folder of ["one", "two"]) mkdirSync(join(values.workdir, folder), { recursive: true });
const human = new Human([pathToFileURL(join(values.workdir, "one")).href]);

let started = Date.now();
let conn;
try {
  conn = await within(connect(target, human, load), SCENARIO_MS);
} catch (error) {
  report("initialize", false, explain(error), started);
}
if (conn) {
  const run = { conn, tag: `${values.sdk}-${process.pid}`, workdir: values.workdir, digests: {} };
  for (const [name, scenario] of { ...KINDS, demo: DEMO }[values.kind]) await attempt(name, scenario, run);
  started = Date.now();
  try {
    await within(conn.close(), CLOSE_MS);
    if (values.url && conn.sessionId) await within(sessionIsGone(values.url, conn.sessionId), CLOSE_MS);
    report("close", true, "the session is gone", started);
  } catch (error) {
    report("close", false, explain(error), started);
  }
}
// A client that leaves sockets or timers behind must not hold the run.
process.exit(0);

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
import { SCENARIO_MS, attempt, explain, report, within } from "./report.mjs";
import { KINDS } from "./scenarios.mjs";

const CLOSE_MS = 8_000;

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

// What every runner does with a scenario: a time limit, and one JSON line on stdout.

export const SCENARIO_MS = 20_000;

export function report(scenario, ok, detail, started, digests = {}) {
  const ms = Date.now() - started;
  process.stdout.write(`${JSON.stringify({ scenario, ok, detail: String(detail).slice(0, 400), ms, digests })}\n`);
}

export function explain(error) {
  const where = /\/(\w+\.mjs:\d+)/.exec(error?.stack ?? "")?.[1] ?? "?";
  return `${error?.name ?? "Error"}: ${error?.message ?? error} (${where})`;
}

export function within(promise, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export async function attempt(name, scenario, run) {
  const started = Date.now();
  run.digests = {};
  try {
    const detail = await within(scenario(run), SCENARIO_MS);
    report(name, true, detail, started, run.digests);
  } catch (error) {
    report(name, false, explain(error), started);
  }
}

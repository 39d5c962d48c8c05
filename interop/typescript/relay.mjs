// A wire between two programs that can be cut while something is on it.

import { connect, createServer } from "node:net";

export class Relay {
  #pairs = new Set();
  #downUntil = 0;
  /** How many connections were cut. */
  cuts = 0;

  /** Passes what comes at `from` on to `to`, both "host:port". */
  static async open(from, to) {
    const relay = new Relay();
    const [host, port] = from.split(":");
    const [toHost, toPort] = to.split(":");
    const server = createServer((near) => relay.#join(near, toHost, Number(toPort)));
    await new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(Number(port), host, resolve);
    });
    return relay;
  }

  #join(near, host, port) {
    if (Date.now() < this.#downUntil) {
      near.resetAndDestroy();
      return;
    }
    const far = connect(port, host);
    const pair = { near, far };
    this.#pairs.add(pair);
    for (const [one, other] of [[near, far], [far, near]]) {
      one.setNoDelay(true);
      one.pipe(other);
      // The other end hears of it; an error says no more than the close that follows.
      one.on("error", () => {});
      one.on("close", () => {
        this.#pairs.delete(pair);
        other.destroy();
      });
    }
  }

  /** Resets every connection at both of its ends, and refuses new ones for so many ms. */
  cut(downMs = 0) {
    this.#downUntil = Date.now() + downMs;
    for (const { near, far } of this.#pairs) {
      this.cuts += 1;
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }
}

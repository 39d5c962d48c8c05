// What both client adapters share: the inbox of unasked messages and the scripted human.

/** Notifications in the order in which they came, as {method, params}. */
export class Inbox {
  #items = [];
  #waiting = new Set();

  add(method, params) {
    this.#items.push({ method, params: params ?? {} });
    for (const look of [...this.#waiting]) look();
  }

  /** A position: only what comes after it matters to the caller. */
  mark() {
    return this.#items.length;
  }

  since(mark, method) {
    return this.#items.slice(mark).filter((item) => item.method === method).map((item) => item.params);
  }

  /** The first notification after `since` that fits; rejects after `timeout` ms. */
  wait(method, match = () => true, since = 0, timeout = 8000) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.since(since, method).find(match);
        if (found === undefined) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(found);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        const seen = [...new Set(this.#items.slice(since).map((item) => item.method))];
        reject(new Error(`no fitting ${method} within ${timeout} ms; saw ${seen.join(", ")}`));
      }, timeout);
      this.#waiting.add(look);
      look();
    });
  }
}

/** The client's side of sampling, elicitation and roots: fixed answers. */
export class Human {
  samplingText = "a sampled answer";
  elicited = { name: "Ada Lovelace", integer: 7 };
  elicitAction = "accept";

  constructor(roots) {
    this.roots = roots;
  }

  sample() {
    const content = { type: "text", text: this.samplingText };
    return { role: "assistant", content, model: "scripted", stopReason: "endTurn" };
  }

  elicit() {
    return this.elicitAction === "accept"
      ? { action: "accept", content: this.elicited }
      : { action: this.elicitAction };
  }

  listRoots() {
    return { roots: this.roots.map((uri) => ({ uri, name: "root" })) };
  }
}

export const CAPABILITIES = { sampling: {}, elicitation: {}, roots: { listChanged: true } };

/**
 * One connected client. The two SDK majors share the names of the calls; what differs is how a
 * client is made and how handlers are set, which `sdk1.mjs` and `sdk2.mjs` hold.
 */
export class Conn {
  inbox = new Inbox();
  lateAnswers = 0;
  /** Progress notes as the transport delivered them, as "done/total". */
  wireProgress = [];
  sessionId = undefined;
  #cancelledIds = new Set();
  #lastCallId = undefined;

  constructor(client, human) {
    this.client = client;
    this.human = human;
  }

  /** Sees every message on the transport, to learn ids and to notice late answers. */
  tap(transport) {
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
      if (message.method === "tools/call") this.#lastCallId = message.id;
      if (message.method === "notifications/cancelled") this.#cancelledIds.add(message.params.requestId);
      return send(message, options);
    };
    const onmessage = transport.onmessage;
    transport.onmessage = (message, extra) => {
      if (message.method === "notifications/progress") {
        this.wireProgress.push(`${message.params.progress}/${message.params.total}`);
      }
      if (message.method === undefined && this.#cancelledIds.has(message.id) && message.result) this.lateAnswers += 1;
      return onmessage?.(message, extra);
    };
  }

  page(kind, cursor) {
    const params = cursor === undefined ? {} : { cursor };
    // An explicit request: the 2.x convenience calls would walk the pages themselves.
    return this.fetchPage(kind, params);
  }

  call(name, args, onprogress) {
    return this.client.callTool({ name, arguments: args }, ...this.callOptions({ onprogress }));
  }

  /** Cancels a call `after` ms, then watches for `watch` ms; late answers are counted by the tap. */
  async callThenCancel(name, args, after, watch) {
    const abort = new AbortController();
    const call = this.client.callTool({ name, arguments: args }, ...this.callOptions({ signal: abort.signal }));
    const outcome = call.then(() => "answered", () => "cancelled");
    setTimeout(() => abort.abort("changed my mind"), after);
    const verdict = await outcome;
    if (verdict === "answered") this.lateAnswers += 1;
    this.#cancelledIds.add(this.#lastCallId);
    await new Promise((resolve) => setTimeout(resolve, watch));
  }

  /** Hears of changes of one resource until the returned function is called. */
  async follow(uri) {
    await this.subscribe(uri);
    return () => this.unsubscribe(uri);
  }

  /** A call whose log notes from `level` up are wanted. */
  async callLogged(name, args, level) {
    await this.setLevel(level);
    return this.call(name, args);
  }

  read(uri) {
    return this.client.readResource({ uri });
  }

  prompt(name, args) {
    return this.client.getPrompt({ name, ...(args && { arguments: args }) });
  }

  completePrompt(name, argument, value) {
    return this.client.complete({ ref: { type: "ref/prompt", name }, argument: { name: argument, value } });
  }

  subscribe(uri) {
    return this.client.subscribeResource({ uri });
  }

  unsubscribe(uri) {
    return this.client.unsubscribeResource({ uri });
  }

  setLevel(level) {
    return this.client.setLoggingLevel(level);
  }

  ping() {
    return this.client.ping();
  }

  rootsChanged() {
    return this.client.sendRootsListChanged();
  }
}

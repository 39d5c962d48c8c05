// The official TypeScript SDK 1.x behind the neutral interface of `scenarios.mjs`.

import { CAPABILITIES, Conn } from "./conn.mjs";

const LISTS = {
  tools: "listTools",
  resources: "listResources",
  resourceTemplates: "listResourceTemplates",
  prompts: "listPrompts",
};

class Conn1 extends Conn {
  knowsModern = false;
  modern = false;

  fetchPage(kind, params) {
    return this.client[LISTS[kind]](params);
  }

  callOptions(options) {
    return [undefined, options];
  }
}

/** Connects to `target` = {url} or {command, args}; `load` imports a module of the SDK by name. */
export async function connect(target, human, load) {
  const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
  const types = await load("@modelcontextprotocol/sdk/types.js");
  const client = new Client({ name: "interop", version: "1" }, { capabilities: CAPABILITIES });
  const conn = new Conn1(client, human);
  client.setRequestHandler(types.CreateMessageRequestSchema, () => human.sample());
  client.setRequestHandler(types.ElicitRequestSchema, () => human.elicit());
  client.setRequestHandler(types.ListRootsRequestSchema, () => human.listRoots());
  client.fallbackNotificationHandler = async (note) => conn.inbox.add(note.method, note.params);

  let transport;
  if (target.url?.endsWith("/sse")) {
    // A stream of HTTP+SSE (2024-11-05).
    const { SSEClientTransport } = await load("@modelcontextprotocol/sdk/client/sse.js");
    transport = new SSEClientTransport(new URL(target.url));
  } else if (target.url) {
    const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
    transport = new StreamableHTTPClientTransport(new URL(target.url));
  } else {
    const { StdioClientTransport } = await load("@modelcontextprotocol/sdk/client/stdio.js");
    transport = new StdioClientTransport({ command: target.command, args: target.args, stderr: "ignore" });
  }
  // The client tells the transport which version was agreed and keeps no copy of its own.
  const setVersion = transport.setProtocolVersion?.bind(transport);
  let protocolVersion;
  transport.setProtocolVersion = (version) => {
    protocolVersion = version;
    setVersion?.(version);
  };
  await client.connect(transport);
  conn.tap(transport);
  conn.sessionId = transport.sessionId;
  conn.hello = {
    protocolVersion,
    serverInfo: client.getServerVersion(),
    capabilities: client.getServerCapabilities(),
    instructions: client.getInstructions(),
  };
  conn.close = async () => {
    await transport.terminateSession?.();
    await client.close();
  };
  return conn;
}

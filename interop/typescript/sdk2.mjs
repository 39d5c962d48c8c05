// The official TypeScript SDK 2.x behind the neutral interface of `scenarios.mjs`.

import { CAPABILITIES, Conn } from "./conn.mjs";

const METHODS = {
  tools: "tools/list",
  resources: "resources/list",
  resourceTemplates: "resources/templates/list",
  prompts: "prompts/list",
};

class Conn2 extends Conn {
  knowsModern = true;

  get modern() {
    return this.client.getProtocolEra() === "modern";
  }

  async follow(uri) {
    if (!this.modern) return super.follow(uri);
    const subscription = await this.client.listen({ resourceSubscriptions: [uri] });
    return () => subscription.close();
  }

  callLogged(name, args, level) {
    if (!this.modern) return super.callLogged(name, args, level);
    const _meta = { "io.modelcontextprotocol/logLevel": level };
    return this.client.callTool({ name, arguments: args, _meta });
  }

  fetchPage(kind, params) {
    return this.client.request({ method: METHODS[kind], params });
  }

  callOptions(options) {
    return [options];
  }
}

/** Connects to `target` = {url} or {command, args}; `load` imports a module of the SDK by name. */
export async function connect(target, human, load) {
  const { Client, SSEClientTransport, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
  const client = new Client(
    { name: "interop", version: "1" },
    // Probe for the 2026 era first, as a host that speaks both does.
    { capabilities: CAPABILITIES, versionNegotiation: { mode: "auto" } },
  );
  const conn = new Conn2(client, human);
  client.setRequestHandler("sampling/createMessage", () => human.sample());
  client.setRequestHandler("elicitation/create", () => human.elicit());
  client.setRequestHandler("roots/list", () => human.listRoots());
  client.fallbackNotificationHandler = async (note) => conn.inbox.add(note.method, note.params);

  let transport;
  if (target.url?.endsWith("/sse")) {
    // A stream of HTTP+SSE (2024-11-05).
    transport = new SSEClientTransport(new URL(target.url));
  } else if (target.url) {
    transport = new StreamableHTTPClientTransport(new URL(target.url));
  } else {
    const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");
    transport = new StdioClientTransport({ command: target.command, args: target.args, stderr: "ignore" });
  }
  await client.connect(transport);
  conn.tap(transport);
  conn.sessionId = transport.sessionId;
  conn.hello = {
    protocolVersion: client.getNegotiatedProtocolVersion(),
    serverInfo: client.getServerVersion(),
    capabilities: client.getServerCapabilities(),
    instructions: client.getInstructions(),
  };
  conn.close = async () => {
    if (target.url && transport.sessionId) await transport.terminateSession();
    await client.close();
  };
  return conn;
}

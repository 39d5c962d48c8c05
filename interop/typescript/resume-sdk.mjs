// What the two SDK lines call the same things: servers whose calls take a while, and their clients.

const INFO = { name: "resume", version: "1" };
/** Sooner than by default, and never giving up before a scenario does. */
const RECONNECTION = {
  initialReconnectionDelay: 200,
  maxReconnectionDelay: 1000,
  reconnectionDelayGrowFactor: 1.3,
  maxRetries: 30,
};

const sdk1 = {
  async server(load) {
    const { Server } = await load("@modelcontextprotocol/sdk/server/index.js");
    const { StreamableHTTPServerTransport } = await load("@modelcontextprotocol/sdk/server/streamableHttp.js");
    const { StdioServerTransport } = await load("@modelcontextprotocol/sdk/server/stdio.js");
    const { CallToolRequestSchema } = await load("@modelcontextprotocol/sdk/types.js");
    return {
      http: (options) => new StreamableHTTPServerTransport(options),
      stdio: () => new StdioServerTransport(),
      make(capabilities, call) {
        const server = new Server(INFO, { capabilities });
        server.setRequestHandler(CallToolRequestSchema, ({ params }, extra) =>
          call(server, params, {
            token: params._meta?.progressToken,
            notify: (note) => extra.sendNotification(note),
            closeStream: () => extra.closeSSEStream(),
          }),
        );
        return server;
      },
    };
  },
  async client(load) {
    const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const { CallToolResultSchema } = await load("@modelcontextprotocol/sdk/types.js");
    return {
      make: () => new Client(INFO, { capabilities: {} }),
      transport: (url, sessionId) =>
        new StreamableHTTPClientTransport(new URL(url), { sessionId, reconnectionOptions: RECONNECTION }),
      request: (client, request, options) => client.request(request, CallToolResultSchema, options),
    };
  },
};

const sdk2 = {
  async server(load) {
    const { Server } = await load("@modelcontextprotocol/server");
    const { NodeStreamableHTTPServerTransport } = await load("@modelcontextprotocol/node");
    const { StdioServerTransport } = await load("@modelcontextprotocol/server/stdio");
    return {
      http: (options) => new NodeStreamableHTTPServerTransport(options),
      stdio: () => new StdioServerTransport(),
      make(capabilities, call) {
        const server = new Server(INFO, { capabilities });
        server.setRequestHandler("tools/call", ({ params }, context) =>
          call(server, params, {
            token: context.mcpReq._meta?.progressToken,
            notify: (note) => context.mcpReq.notify(note),
            closeStream: () => context.http.closeSSE(),
          }),
        );
        return server;
      },
    };
  },
  async client(load) {
    const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
    return {
      // Only the older era has anything to resume.
      make: () => new Client(INFO, { capabilities: {} }),
      transport: (url, sessionId) =>
        new StreamableHTTPClientTransport(new URL(url), { sessionId, reconnectionOptions: RECONNECTION }),
      request: (client, request, options) => client.request(request, options),
    };
  },
};

export const SDKS = { sdk1, sdk2 };

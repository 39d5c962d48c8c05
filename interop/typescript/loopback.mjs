// Preloaded into servers that would listen on every interface: a bare port means loopback here.

import { Server } from "node:net";

const listen = Server.prototype.listen;

Server.prototype.listen = function listenOnLoopback(...args) {
  const [port, next] = args;
  const bare = (typeof port === "number" || typeof port === "string") && typeof next !== "string";
  if (bare) args.splice(1, 0, "127.0.0.1");
  return listen.apply(this, args);
};

// The least that Node and ws can do with the same connections: mutual TLS 1.3, the upgrade, one listener each.
// SIGUSR2 makes it do a full garbage collection. Usage: node --expose-gc server.mjs PORT SERVER.pem ANCHORS.pem
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { WebSocketServer } from "ws";

const [port, serverPem, anchors] = process.argv.slice(2);
const pem = readFileSync(serverPem);
const server = createServer({
  cert: pem,
  key: pem,
  ca: readFileSync(anchors),
  requestCert: true,
  rejectUnauthorized: true,
  minVersion: "TLSv1.3",
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
sockets.on("connection", (socket) => socket.on("message", () => {}));
process.on("SIGUSR2", () => globalThis.gc());
process.on("SIGTERM", () => process.exit(0));
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 1024 }, () => console.log("listening"));

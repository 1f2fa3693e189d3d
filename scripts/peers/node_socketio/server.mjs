// Socket.IO on Node as a live feed: one view, one batch for all who watch it, once a tick, as often as the hub did.
// Usage: node server.mjs PORT FRAME TICK_MS CONFIRM_EVERY [SERVER.pem]; FRAME is a batch as the hub sent it: 42["agents:metrics",{...}].
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { Server } from "socket.io";

const [port, frame, tickMs, confirmEvery, serverPem] = process.argv.slice(2);
const [event, body] = JSON.parse(readFileSync(frame, "utf8").slice(2));
const pem = serverPem && readFileSync(serverPem);
const server = pem ? https.createServer({ cert: pem, key: pem, minVersion: "TLSv1.3" }) : http.createServer();
const io = new Server(server, { path: "/ws/agents", perMessageDeflate: false, httpCompression: false });
io.on("connection", (socket) => {
  socket.on("feed:subscribe", (_view, answer) => {
    socket.join("view");
    answer({ ok: true, version: body.version, agentIds: [], confirmEvery: Number(confirmEvery) });
  });
  socket.on("feed:ack", () => {});
});
setInterval(() => {
  body.version += 1;
  io.to("view").emit(event, body);
}, Number(tickMs));
process.on("SIGTERM", () => process.exit(0));
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 1024 }, () => console.log("listening"));

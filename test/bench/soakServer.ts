/**
 * The server of the soak, in a process of its own: a document that changes now and then, and everything that goes wrong.
 * It sends its port to its parent, and its open sockets when asked for them.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { createServer } from "node:http"
import type { AddressInfo, Socket } from "node:net"

const sockets = new Set<Socket>()
let requests = 0

const answer = (request: IncomingMessage, response: ServerResponse): void => {
  requests++
  if (requests % 10_007 === 0) return restart()
  if (requests % 101 === 0) return void response.writeHead(500).end("the server failed".repeat(50))
  if (requests % 103 === 0) {
    response.writeHead(200, { "content-length": 5000 })
    response.write("{", () => response.socket?.destroy())
    return
  }
  const version = Math.floor(requests / 500)
  const etag = `"${version}"`
  if (request.headers["if-none-match"] === etag) return void response.writeHead(304, { etag }).end()
  response.writeHead(200, { etag, "content-type": "application/json" })
  response.end(JSON.stringify({ version, text: "x".repeat(2000) }))
}

const server = createServer(answer)

/** Loses all connections, and refuses new ones for a moment. */
const restart = (): void => {
  const { port } = server.address() as AddressInfo
  server.close(() => setTimeout(() => server.listen(port, "127.0.0.1"), 50))
  for (const socket of sockets) socket.resetAndDestroy()
}

server.on("connection", (socket) => {
  sockets.add(socket)
  socket.on("error", () => {})
  socket.on("close", () => sockets.delete(socket))
})
process.on("message", () => process.send!({ requests, sockets: sockets.size }))
process.on("disconnect", () => process.exit(0))
server.listen(0, "127.0.0.1", () => process.send!({ port: (server.address() as AddressInfo).port }))

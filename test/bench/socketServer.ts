/**
 * A server of events for the benchmark of sockets, in a process of its own. `/events?count=…&bytes=…` sends so many as fast as they
 * are read, and says goodbye when all are acked; `/quiet` sends one, and cuts all its connections when it is told to.
 */
import type { AddressInfo, Socket } from "node:net"
import type { WebSocket } from "ws"
import { WebSocketServer } from "ws"
import { serve } from "./processes.js"

export interface Order {
  /** Cuts all quiet connections. */
  readonly cut?: boolean
}

export interface Counts {
  readonly port: number
  /** Acks since the last question. */
  readonly acks: number
  readonly quiet: number
}

const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false, backlog: 2048 })
let acks = 0
const quiet = new Set<WebSocket>()

/** Many small frames in one buffer: `ws` would take longer to send them than any client to handle them. */
const framesOf = (from: number, count: number, bytes: number): Buffer => {
  const frames: Array<Buffer> = []
  for (let id = from; id < from + count; id++) {
    const head = `{"id":${id},"type":"record","record":{"did":"did:plc:${id % 1000}","text":"`
    const text = `${head}${"x".repeat(Math.max(0, bytes - head.length - 3))}"}}`
    frames.push(Buffer.from([0x81, 126, text.length >> 8, text.length & 255]), Buffer.from(text, "latin1"))
  }
  return Buffer.concat(frames)
}

const sendEvents = (socket: WebSocket, transport: Socket, count: number, bytes: number): void => {
  let sent = 0
  const more = (): void => {
    if (sent >= count || socket.readyState !== socket.OPEN) return
    const next = Math.min(200, count - sent)
    const wantsMore = transport.write(framesOf(sent, next, bytes))
    sent += next
    if (wantsMore) setImmediate(more)
    else transport.once("drain", more)
  }
  more()
  let acked = 0
  socket.on("message", () => {
    acks++
    if (++acked === count) socket.close(1000)
  })
}

server.on("connection", (socket, request) => {
  const { pathname, searchParams } = new URL(request.url!, "http://localhost")
  if (pathname === "/events") {
    sendEvents(socket, request.socket, Number(searchParams.get("count")), Number(searchParams.get("bytes")))
  } else {
    quiet.add(socket)
    socket.on("close", () => quiet.delete(socket))
    socket.on("error", () => {})
    socket.send('{"id":1,"type":"record"}')
  }
})

serve<Order, Counts>(({ cut }) => {
  if (cut === true) for (const socket of quiet) socket.terminate()
  const counts = { port: (server.address() as AddressInfo).port, acks, quiet: quiet.size }
  acks = 0
  return counts
})

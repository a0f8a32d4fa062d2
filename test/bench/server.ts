/**
 * A server that costs its clients as little as possible: 304 to whoever has the ETag, else 2 KB of JSON. Below `/plain`
 * there are no ETags. Asked for its counts, it starts to count anew.
 */
import { createServer, type AddressInfo } from "node:net"
import { serve } from "./processes.js"

export interface Counts {
  readonly port: number
  readonly notModified: number
  readonly full: number
  /** Connections that are open now, and that were accepted. */
  readonly open: number
  readonly accepted: number
}

const etag = '"version-1"'
const body = JSON.stringify({
  flags: Array.from({ length: 50 }, (_, id) => ({ id, name: `flag-${id}`, on: id % 2 === 0 }))
})
const head = "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nCache-Control: no-cache\r\n"
const content = `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
const notModified = `HTTP/1.1 304 Not Modified\r\n${head}ETag: ${etag}\r\n\r\n`
const tagged = `HTTP/1.1 200 OK\r\n${head}ETag: ${etag}\r\n${content}`
const plain = `HTTP/1.1 200 OK\r\n${head}${content}`

const zero = { notModified: 0, full: 0, accepted: 0 }
let counts = { ...zero }
let open = 0

const answer = (request: string): string => {
  const hasEtag = !request.startsWith("GET /plain")
  if (hasEtag && request.includes(etag)) {
    counts.notModified++
    return notModified
  }
  counts.full++
  return hasEtag ? tagged : plain
}

const server = createServer({ noDelay: true }, (socket) => {
  counts.accepted++
  open++
  let received = ""
  socket.on("data", (bytes) => {
    received += bytes.toString("latin1")
    let answers = ""
    for (let end = received.indexOf("\r\n\r\n"); end >= 0; end = received.indexOf("\r\n\r\n")) {
      answers += answer(received.slice(0, end))
      received = received.slice(end + 4)
    }
    if (answers !== "") socket.write(answers, "latin1")
  })
  socket.on("error", () => {})
  socket.on("end", () => socket.end())
  socket.on("close", () => open--)
})

const listening = new Promise<number>((resolve) => {
  server.listen(0, "127.0.0.1", 4096, () => resolve((server.address() as AddressInfo).port))
})

serve(async (): Promise<Counts> => {
  const port = await listening
  const reply = { port, open, ...counts }
  counts = { ...zero }
  return reply
})

/**
 * A real HTTP server on loopback whose answers are scripted: `server.answer(...)` says what the next requests get.
 *
 *   const server = yield* startServer            // closes with the scope
 *   server.answer(content("v1", { etag: '"1"' })) // every request from now on
 *   server.answer(status(500), content("v2"))     // the first gets 500, all later ones v2
 *   server.url("/doc?key=1")                      // http://127.0.0.1:<port>/doc?key=1
 *   server.requests                               // what came in: method, url, headers (lower-case names)
 *   server.openSockets(), server.connections()    // sockets open now, and accepted since the start
 *   server.closed                                 // requests whose client went away before the answer was complete
 *
 *   yield* server.pause                           // resets all connections, refuses new ones
 *   yield* server.resume                          // listens again, on the same port
 *
 * `server.route("/path", ...)` scripts one path alone; other paths follow `answer`.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, Server, ServerResponse } from "node:http"
import { createServer } from "node:http"
import type { ServerOptions } from "node:https"
import { createServer as createTlsServer } from "node:https"
import type { AddressInfo, Socket } from "node:net"
import * as zlib from "node:zlib"

export type Behaviour = (request: IncomingMessage, response: ServerResponse) => void

export interface RecordedRequest {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
}

export interface TestServer {
  readonly origin: string
  readonly url: (path?: string) => string
  /** Scripts all paths without a route; the last behaviour stays. */
  readonly answer: (...behaviours: ReadonlyArray<Behaviour>) => void
  readonly route: (path: string, ...behaviours: ReadonlyArray<Behaviour>) => void
  readonly unroute: (path: string) => void
  readonly requests: Array<RecordedRequest>
  readonly openSockets: () => number
  readonly connections: () => number
  /** How many answers were cut off by the client. */
  readonly closed: () => number
  readonly bytesWritten: () => number
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
}

/** Full content with 200; with `etag` or `lastModified`, 304 to a request that has it. */
export const content =
  (
    body: string | Uint8Array,
    options: {
      readonly etag?: string
      readonly lastModified?: string
      readonly status?: number
      readonly headers?: OutgoingHttpHeaders
    } = {}
  ): Behaviour =>
  (request, response) => {
    const headers: OutgoingHttpHeaders = { "content-type": "application/json", ...options.headers }
    if (options.etag !== undefined) headers.etag = options.etag
    if (options.lastModified !== undefined) headers["last-modified"] = options.lastModified
    const { "if-none-match": noneMatch, "if-modified-since": modifiedSince } = request.headers
    const notModified =
      noneMatch !== undefined
        ? noneMatch === options.etag
        : modifiedSince !== undefined && modifiedSince === options.lastModified
    if (notModified) {
      response.writeHead(304, headers).end()
    } else {
      response.writeHead(options.status ?? 200, { ...headers, "content-length": Buffer.byteLength(body) }).end(body)
    }
  }

/** The same bytes under a new weak ETag each time. */
export const rotatingWeakEtags = (body: string): Behaviour => {
  let n = 0
  return (_request, response) => void response.writeHead(200, { etag: `W/"${++n}"` }).end(body)
}

/** A status with a body that is not the document. */
export const status =
  (
    code: number,
    headers: OutgoingHttpHeaders = {},
    body = code === 204 || code === 304 ? "" : `status ${code}`
  ): Behaviour =>
  (_request, response) =>
    void response.writeHead(code, headers).end(body)

/** `304` whatever was asked, with a body that HTTP does not allow, straight into the socket. */
export const notModifiedWithBody: Behaviour = (_request, response) => {
  response.socket?.end("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: close\r\n\r\nstray")
}

/** Announces more than it sends, then closes the connection. */
export const truncated =
  (body: string, missing = 10): Behaviour =>
  (_request, response) => {
    response.writeHead(200, { "content-length": Buffer.byteLength(body) + missing, etag: '"truncated"' })
    response.write(body, () => response.socket?.destroy())
  }

/** A chunked body that breaks off without its end. */
export const truncatedChunked =
  (body: string): Behaviour =>
  (_request, response) => {
    response.writeHead(200, { etag: '"truncated"' })
    response.write(body, () => response.socket?.destroy())
  }

/** Sends for ever, as fast as the client reads. */
export const endless: Behaviour = (_request, response) => {
  const part = Buffer.alloc(64 * 1024, "x")
  response.writeHead(200)
  const more = (): void => {
    while (!response.destroyed && response.write(part));
    if (!response.destroyed) response.once("drain", more)
  }
  more()
}

/** Never answers. */
export const hang: Behaviour = () => {}

/** Sends headers and a part, and nothing more. */
export const hangMidBody: Behaviour = (_request, response) => {
  response.writeHead(200, { "content-length": 100 })
  response.write("part")
}

export const redirect =
  (location: string, code = 302): Behaviour =>
  (_request, response) =>
    void response.writeHead(code, { location }).end("moved")

/** Compressed without being asked. */
export const gzipped =
  (body: string, headers: OutgoingHttpHeaders = {}): Behaviour =>
  (_request, response) =>
    void response.writeHead(200, { "content-encoding": "gzip", ...headers }).end(zlib.gzipSync(body))

/** 401 unless the request carries this Authorization. */
export const guarded =
  (authorization: string, inside: Behaviour): Behaviour =>
  (request, response) =>
    request.headers.authorization === authorization
      ? inside(request, response)
      : status(401, { "www-authenticate": "Bearer" })(request, response)

interface State {
  readonly sockets: Set<Socket>
  accepted: number
  closed: number
  written: number
  behaviours: ReadonlyArray<Behaviour>
  readonly routes: Map<string, ReadonlyArray<Behaviour>>
  readonly requests: Array<RecordedRequest>
}

const listener = (state: State) => (request: IncomingMessage, response: ServerResponse) => {
  state.requests.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers })
  response.on("close", () => {
    if (!response.writableFinished) state.closed++
  })
  response.on("error", () => {})
  const path = (request.url ?? "").split("?")[0]!
  const script = state.routes.get(path) ?? state.behaviours
  const [first, ...rest] = script
  if (rest.length > 0) {
    if (state.routes.has(path)) state.routes.set(path, rest)
    else state.behaviours = rest
  }
  ;(first ?? status(404))(request, response)
}

const make = (scheme: string, server: Server, state: State): TestServer => {
  const { port } = server.address() as AddressInfo
  const origin = `${scheme}://127.0.0.1:${port}`
  return {
    origin,
    url: (path = "/doc") => origin + path,
    answer: (...behaviours) => void (state.behaviours = behaviours),
    route: (path, ...behaviours) => void state.routes.set(path, behaviours),
    unroute: (path) => void state.routes.delete(path),
    requests: state.requests,
    openSockets: () => state.sockets.size,
    connections: () => state.accepted,
    closed: () => state.closed,
    bytesWritten: () => [...state.sockets].reduce((sum, socket) => sum + socket.bytesWritten, state.written),
    pause: Effect.async<void>((resume) => {
      server.close(() => resume(Effect.void))
      for (const socket of state.sockets) socket.resetAndDestroy()
    }),
    resume: Effect.async<void>((resume) => void server.listen(port, "127.0.0.1", () => resume(Effect.void)))
  }
}

/** Starts a server that answers 404 until it is told otherwise. */
export const startServer: Effect.Effect<TestServer, never, Scope.Scope> = Effect.suspend(() =>
  start("http", createServer)
)

/** The same over TLS; `requestCert` and `rejectUnauthorized` make it ask for a client's certificate. */
export const startTlsServer = (options: ServerOptions): Effect.Effect<TestServer, never, Scope.Scope> =>
  start("https", (listener) => createTlsServer(options, listener))

const start = (
  scheme: string,
  create: (listener: (request: IncomingMessage, response: ServerResponse) => void) => Server
): Effect.Effect<TestServer, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<{ readonly server: Server; readonly state: State }>((resume) => {
        const state: State = {
          sockets: new Set(),
          accepted: 0,
          closed: 0,
          written: 0,
          behaviours: [],
          routes: new Map(),
          requests: []
        }
        const server = create(listener(state))
        server.on("connection", (socket) => {
          state.accepted++
          state.sockets.add(socket)
          socket.on("error", () => {})
          socket.on("close", () => {
            state.sockets.delete(socket)
            state.written += socket.bytesWritten
          })
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, state })))
      }),
      ({ server, state }) =>
        Effect.async<void>((resume) => {
          for (const socket of state.sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    ),
    ({ server, state }) => make(scheme, server, state)
  )

/** WebSocket servers on loopback, for live tests: what they do on a connection is the test's. */
import { Effect } from "effect"
import type { IncomingMessage, Server } from "node:http"
import { createServer } from "node:http"
import { createServer as createTlsServer } from "node:https"
import type { AddressInfo, Socket } from "node:net"
import type { Duplex } from "node:stream"
import type { WebSocket } from "ws"
import { WebSocketServer } from "ws"

export interface Serving {
  /** On each connection, the `n`-th from 1. */
  readonly onConnection?: (socket: WebSocket, n: number, request: IncomingMessage) => void
  /** Answers the `n`-th upgrade in place of the WebSocket; false: it does not. */
  readonly onUpgrade?: (n: number, stream: Duplex, request: IncomingMessage) => boolean
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string; readonly requestCert?: boolean }
  /** Where to listen [any]. */
  readonly port?: number
}

export interface Served {
  readonly url: string
  readonly port: number
  readonly upgrades: () => number
  /** The network connections that are open. */
  readonly transports: ReadonlySet<Socket>
}

/** Serves until the scope closes. */
export const serve = ({ onConnection, onUpgrade, port = 0, tls }: Serving) =>
  Effect.acquireRelease(
    Effect.async<{ readonly served: Served; readonly server: Server }>((resume) => {
      const server = tls === undefined ? createServer() : (createTlsServer(tls) as unknown as Server)
      const sockets = new WebSocketServer({ noServer: true, maxPayload: 256 * 1024 * 1024, perMessageDeflate: false })
      const transports = new Set<Socket>()
      let upgrades = 0
      let connections = 0
      server.on("connection", (transport: Socket) => {
        transports.add(transport)
        transport.on("error", () => {})
        transport.on("close", () => transports.delete(transport))
      })
      server.on("upgrade", (request, stream, head) => {
        upgrades++
        if (onUpgrade?.(upgrades, stream, request) === true) return
        sockets.handleUpgrade(request, stream, head, (socket) => {
          socket.on("error", () => {})
          onConnection?.(socket, ++connections, request)
        })
      })
      server.listen(port, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        const url = `${tls === undefined ? "ws" : "wss"}://127.0.0.1:${port}/events`
        resume(Effect.succeed({ served: { url, port, upgrades: () => upgrades, transports }, server }))
      })
    }),
    ({ served, server }) =>
      Effect.async<void>((resume) => {
        for (const transport of served.transports) transport.destroy()
        server.close(() => resume(Effect.void))
      })
  ).pipe(Effect.map(({ served }) => served))

/** Waits until something holds, 10 seconds at most. */
export const until = (what: string, holds: () => boolean): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const timer = setInterval(() => {
      if (!holds()) return
      clearInterval(timer)
      resume(Effect.void)
    }, 2)
    return Effect.sync(() => clearInterval(timer))
  }).pipe(
    Effect.timeoutFail({ duration: "10 seconds", onTimeout: () => new Error(`${what}: not within 10 seconds`) }),
    Effect.orDie
  )

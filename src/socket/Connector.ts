/**
 * The port to WebSocket connections: one attempt to connect, and what can be done with a connection.
 *
 * Everything that arrives is handed over in order through synchronous callbacks; nothing here waits for the network, retries,
 * or buffers without being asked to.
 *
 * @since 0.1.0
 */
import * as Socket from "@effect/platform/Socket"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/**
 * A text frame, or the bytes of a binary one.
 *
 * @category models
 * @since 0.1.0
 */
export type Frame = string | Uint8Array

/**
 * One attempt to connect.
 *
 * - `url`: ws or wss, without user info and fragment.
 * - `headers`: in plain text, by lower-case name; credentials too.
 * - `maxFrameBytes`: a larger frame ends the connection with 1009, before it is in memory as a whole.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly protocols: ReadonlyArray<string>
  readonly maxFrameBytes: number
}

/**
 * How a connection ended.
 *
 * - `code`: of the peer's close frame, or of what this side found wrong with a frame (1002, 1007, 1009); 1005 if the peer gave
 *   none, 1006 if the connection broke off.
 * - `reason`: the peer's own words, "" if it gave none.
 * - `problem`: what broke it off, as a code of the system such as `ECONNRESET`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Closed {
  readonly code: number
  readonly reason: string
  readonly problem: string | undefined
}

/**
 * What is told about one attempt. Nothing in it may throw.
 *
 * - `onOpen`: first and once, before any frame.
 * - `onFrame`: each frame; while reading is paused, those that had been read already.
 * - `onAlive`: the peer has answered a ping, or has pinged.
 * - `onDrain`: what was sent has left the buffers of this side.
 * - `onClose`: last and once, unless it never opened.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener {
  readonly onOpen: (connection: Connection) => void
  readonly onFrame: (frame: Frame) => void
  readonly onAlive: () => void
  readonly onDrain: () => void
  readonly onClose: (closed: Closed) => void
}

/**
 * An open connection. Once it is closed, everything on it does nothing.
 *
 * - `canPause`, `canPing`: whether `pause`, `resume` and `ping` do something.
 * - `send`: queues frames, in order, and returns at once; false: it is not open, and none was queued.
 * - `bufferedBytes`: what was sent and has not left this side.
 * - `close`: begins the closing handshake; `onClose` follows when the peer has answered, which may be never.
 * - `terminate`: ends it at once.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connection {
  readonly canPause: boolean
  readonly canPing: boolean
  readonly send: (frames: ReadonlyArray<Frame>) => boolean
  readonly ping: () => void
  readonly pause: () => void
  readonly resume: () => void
  readonly bufferedBytes: () => number
  readonly close: (code: number, reason: string) => void
  readonly terminate: () => void
}

/**
 * An attempt that did not lead to an open connection.
 *
 * - `Unreachable`: no connection: name, address, TLS, or it broke off. `message` has the code of the system, if there is one.
 * - `Refused`: the server answered with another `status` than 101.
 * - `Request`: the address, a header or a protocol cannot be asked for, by this connector or at all.
 *
 * **Details** `retryAfter` is what a server asked for, as far as it did. The message holds no address, header or body.
 *
 * **Example** See {@link Connector}.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectError extends Schema.TaggedError<ConnectError>("effect-periscope/ConnectError")("ConnectError", {
  reason: Schema.Literal("Unreachable", "Refused", "Request"),
  message: Schema.String,
  status: Schema.optional(Schema.Number),
  retryAfter: Schema.optional(Schema.Duration)
}) {}

/**
 * Opens WebSocket connections. `connect` succeeds when one is open, after `onOpen`; it is closed with the scope, at once, unless
 * that has happened before. Interrupting `connect` gives the attempt up.
 *
 * **When to use** On Node provide `NodeConnector.layer`; elsewhere {@link layerWebSocket}; in tests `ScriptedSocket`.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Connector } from "effect-periscope/socket"
 *
 * // of a platform whose sockets are not to be used
 * const Offline: Layer.Layer<Connector.Connector> = Layer.succeed(Connector.Connector, {
 *   connect: () => Effect.fail(new Connector.ConnectError({ reason: "Unreachable", message: "offline" }))
 * })
 * ```
 *
 * @category tags
 * @since 0.1.0
 */
export class Connector extends Context.Tag("effect-periscope/socket/Connector")<
  Connector,
  {
    readonly connect: (request: Request, listener: Listener) => Effect.Effect<void, ConnectError, Scope.Scope>
  }
>() {}

/** Without headers, pings and statuses there is not more to say. */
interface Problem {
  readonly reason: "Unreachable" | "Request"
  readonly message: string
}

type Construct = Context.Tag.Service<typeof Socket.WebSocketConstructor>

/** What is used of the WebSocket interface of the WHATWG. */
interface WebSocketLike {
  binaryType: string
  readonly bufferedAmount: number
  readonly readyState: number
  readonly addEventListener: (type: string, listener: (event: MessageOrClose) => void) => void
  readonly send: (data: Frame) => void
  readonly close: (code?: number, reason?: string) => void
}

interface MessageOrClose {
  readonly data?: unknown
  readonly code?: number
  readonly reason?: string
}

const isOpen = 1

const connectionOf = (socket: WebSocketLike, end: () => void): Connection => ({
  canPause: false,
  canPing: false,
  send: (frames) => {
    if (socket.readyState !== isOpen) return false
    for (const frame of frames) socket.send(frame)
    return true
  },
  ping: () => {},
  pause: () => {},
  resume: () => {},
  bufferedBytes: () => socket.bufferedAmount,
  close: (code, reason) => {
    if (socket.readyState === isOpen) socket.close(code, reason)
  },
  // there is no way to cut it off: the handshake goes on without anybody listening
  terminate: () => {
    end()
    if (socket.readyState <= isOpen) socket.close()
  }
})

const bytesOf = (frame: Frame): number => frame.length

const toFrame = (data: unknown): Frame => (data instanceof ArrayBuffer ? new Uint8Array(data) : String(data))

const overWebSocket = (
  construct: Construct,
  { maxFrameBytes, protocols, url }: Request,
  listener: Listener
): Effect.Effect<void, Problem, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const made = Either.try(() => construct(url, [...protocols]) as unknown as WebSocketLike)
      return Either.isRight(made)
        ? Effect.succeed(made.right)
        : Effect.fail<Problem>({ reason: "Request", message: "the address or a protocol is not one of a WebSocket." })
    }),
    (socket) => Effect.sync(() => socket.readyState <= isOpen && socket.close())
  ).pipe(
    Effect.flatMap((socket) =>
      Effect.async<void, Problem>((resume) => {
        let hasOpened = false
        let hasEnded = false
        const end = (code: number, reason: string): void => {
          if (hasEnded) return
          hasEnded = true
          if (hasOpened) listener.onClose({ code, reason, problem: undefined })
          else resume(Effect.fail<Problem>({ reason: "Unreachable", message: "no connection; it is not told why." }))
        }
        socket.binaryType = "arraybuffer"
        socket.addEventListener("open", () => {
          if (hasEnded) return
          hasOpened = true
          listener.onOpen(connectionOf(socket, () => end(1006, "")))
          resume(Effect.void)
        })
        socket.addEventListener("message", ({ data }) => {
          if (hasEnded) return
          const frame = toFrame(data)
          if (bytesOf(frame) <= maxFrameBytes) return listener.onFrame(frame)
          end(1009, "")
          socket.close()
        })
        // a close follows
        socket.addEventListener("error", () => {})
        socket.addEventListener("close", ({ code = 1006, reason = "" }) => end(code, reason))
        return Effect.sync(() => {
          hasEnded = true
        })
      })
    )
  )

/**
 * Connects with `WebSocket` as browsers, Deno, Bun and undici have it, through the constructor of `@effect/platform`.
 *
 * **Gotchas** What such a WebSocket cannot do is lost:
 * - Headers: a request that has some fails with `Request`. Credentials go into a cookie, a protocol or the url.
 * - Pausing: there is no back-pressure on the server. A reader that falls behind too far has its connection closed, and begins
 *   anew with what the server sends again.
 * - Pings: that a connection is dead is seen only where the peer sends something regularly.
 * - The frame bound: a large frame is in memory before it is refused, and the server learns nothing of it (1009).
 * - Why an attempt failed: no status, so a refusal is retried as an outage is, and no `Retry-After`.
 * - On Node, take `NodeConnector.layer` instead, which has all of these.
 *
 * **Example**
 * ```ts
 * import { Socket } from "@effect/platform"
 * import { Layer } from "effect"
 * import { Connector } from "effect-periscope/socket"
 *
 * const Browser: Layer.Layer<Connector.Connector> = Connector.layerWebSocket.pipe(
 *   Layer.provide(Socket.layerWebSocketConstructorGlobal)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWebSocket: Layer.Layer<Connector, never, Socket.WebSocketConstructor> = Layer.effect(
  Connector,
  Effect.map(Socket.WebSocketConstructor, (construct) => ({
    connect: (request, listener) =>
      Object.keys(request.headers).length > 0
        ? Effect.fail(
            new ConnectError({
              reason: "Request",
              message: "this WebSocket cannot send headers; leave them out, or provide NodeConnector.layer on Node."
            })
          )
        : Effect.mapError(overWebSocket(construct, request, listener), (problem) => new ConnectError({ ...problem }))
  }))
)

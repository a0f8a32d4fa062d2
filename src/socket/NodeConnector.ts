/**
 * Connects on Node with `ws`: headers, TLS, pings, back-pressure and the status of a refused upgrade.
 *
 * Reading that is paused stops the network connection itself, so what the peer sends waits on its side. It needs the optional
 * peer `ws`, which `@effect/platform-node` brings along.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import type { ClientOptions, RawData } from "ws"
import { WebSocket } from "ws"
import type { Closed, Connection, Frame, Listener, Request } from "./Connector.js"
import { ConnectError, Connector } from "./Connector.js"

type Pem = string | Uint8Array | Redacted.Redacted

/**
 * What {@link layer} takes.
 *
 * - `ca`: certificates (PEM) to trust instead of those that Node trusts.
 * - `cert`, `key`, `passphrase`: the client's own certificate and key (PEM), for mutual TLS.
 * - `servername`: the name that the server's certificate must have [the host].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly ca?: Pem | ReadonlyArray<Pem> | undefined
  readonly cert?: Pem | undefined
  readonly key?: Pem | undefined
  readonly passphrase?: Redacted.Redacted | undefined
  readonly servername?: string | undefined
}

/**
 * Provides the connector.
 *
 * **Details** Frames are not compressed: a small compressed message can be a large one, many times over, before reading is
 * paused. Redirects are refused, as browsers do. No proxy is used.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { ReconnectingSocket } from "effect-periscope/socket"
 * import * as NodeConnector from "effect-periscope/socket/NodeConnector"
 *
 * const program = ReconnectingSocket.runForEach(
 *   { url: "wss://events.example.com/feed", decode: (frame) => JSON.parse(String(frame)) as { readonly kind: string } },
 *   (event) => Effect.log(event.kind)
 * ).pipe(Effect.provide(NodeConnector.layer()))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<Connector> => {
  const tls = Object.fromEntries(
    Object.entries({
      ca: options.ca === undefined ? undefined : [options.ca].flat().map(pem),
      cert: options.cert === undefined ? undefined : pem(options.cert),
      key: options.key === undefined ? undefined : pem(options.key),
      passphrase: options.passphrase === undefined ? undefined : Redacted.value(options.passphrase),
      servername: options.servername
    }).filter(([, value]) => value !== undefined)
  )
  return Layer.succeed(Connector, { connect: (request, listener) => connect(tls, request, listener) })
}

const pem = (value: Pem): string | Buffer =>
  Redacted.isRedacted(value) ? Redacted.value(value) : typeof value === "string" ? value : Buffer.from(value)

const connect = (tls: ClientOptions, request: Request, listener: Listener) =>
  Effect.flatMap(
    Effect.acquireRelease(
      Effect.suspend(() => {
        const { headers, maxFrameBytes, protocols, url } = request
        const options: ClientOptions = {
          ...tls,
          headers: { ...headers },
          maxPayload: maxFrameBytes,
          perMessageDeflate: false
        }
        const made = Either.try(() => new WebSocket(url, [...protocols], options))
        if (Either.isLeft(made)) return Effect.fail(unusable)
        // an error without a listener would end the process; what it says is heard by the one of the attempt
        made.right.on("error", () => {})
        return Effect.succeed(made.right)
      }),
      (socket) => Effect.sync(() => socket.terminate())
    ),
    (socket) => open(socket, listener)
  )

const unusable = new ConnectError({
  reason: "Request",
  message: "the address, a header or a protocol is not one of a WebSocket."
})

/** Waits until it is open, and tells all that happens on it from then on. */
const open = (socket: WebSocket, listener: Listener): Effect.Effect<void, ConnectError> =>
  Effect.async<void, ConnectError>((resume) => {
    let hasOpened = false
    let isOver = false
    let problem: Problem | undefined
    let transport: Socket | undefined
    const fail = (error: ConnectError): void => {
      if (isOver) return
      isOver = true
      resume(Effect.fail(error))
    }
    socket.on("upgrade", (response) => {
      transport = response.socket
    })
    socket.on("open", () => {
      if (isOver) return socket.terminate()
      hasOpened = true
      transport?.on("drain", listener.onDrain)
      listener.onOpen(new NodeConnection(socket, transport))
      resume(Effect.void)
    })
    socket.on("message", (data, isBinary) => {
      if (!isOver) listener.onFrame(toFrame(data, isBinary))
    })
    socket.on("ping", listener.onAlive)
    socket.on("pong", listener.onAlive)
    socket.on("error", (error: Problem) => {
      problem ??= error
      if (!hasOpened) fail(unreachable(error))
    })
    socket.on("unexpected-response", (upgrade, response) => {
      fail(refused(response))
      upgrade.destroy()
    })
    socket.on("close", (code, reason) => {
      if (!hasOpened) return fail(unreachable(problem))
      if (isOver) return
      isOver = true
      listener.onClose(closed(code, reason.toString(), problem))
    })
    return Effect.sync(() => {
      isOver = true
      socket.terminate()
    })
  })

interface Problem {
  readonly code?: unknown
}

/** What is wrong with a frame of the peer, told by `ws` as an error: it closes with 1006 behind its own close frame. */
const codes: ReadonlyMap<unknown, number> = new Map([
  ["WS_ERR_INVALID_UTF8", 1007],
  ["WS_ERR_TOO_MANY_BUFFERED_PARTS", 1008],
  ["WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH", 1009],
  ["WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", 1009]
])

const codeOf = (problem: Problem | undefined): string | undefined =>
  typeof problem?.code === "string" ? problem.code : undefined

const closed = (code: number, reason: string, problem: Problem | undefined): Closed => {
  const name = codeOf(problem)
  const isOurs = name !== undefined && name.startsWith("WS_ERR_")
  return { code: isOurs ? (codes.get(name) ?? 1002) : code, reason, problem: name }
}

const unreachable = (problem: Problem | undefined): ConnectError =>
  new ConnectError({
    reason: "Unreachable",
    message: `no connection (${codeOf(problem) ?? "it was not a WebSocket's answer"}).`
  })

const refused = ({ headers, statusCode = 0 }: IncomingMessage): ConnectError => {
  const retryAfter = Option.getOrUndefined(parseRetryAfter(headers["retry-after"], headers.date))
  return new ConnectError({
    reason: "Refused",
    message: `the upgrade was answered with ${statusCode}.`,
    status: statusCode,
    ...(retryAfter === undefined ? {} : { retryAfter })
  })
}

/** In seconds, or as a date, which is read against the server's own. */
const parseRetryAfter = (value: string | undefined, date: string | undefined): Option.Option<Duration.Duration> => {
  if (value === undefined) return Option.none()
  const millis = /^\d{1,15}$/.test(value.trim())
    ? Number(value) * 1000
    : Date.parse(value) - Date.parse(date ?? "no date")
  return Number.isFinite(millis) && millis > 0 ? Option.some(Duration.millis(millis)) : Option.none()
}

/** A small frame is a view of a chunk that may be much larger: kept for long it would keep all of that. */
const toFrame = (data: RawData, isBinary: boolean): Frame => {
  const bytes = data as Buffer
  if (!isBinary) return bytes.toString()
  return bytes.buffer.byteLength > 2 * bytes.length
    ? new Uint8Array(bytes)
    : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}

class NodeConnection implements Connection {
  readonly canPause = true
  readonly canPing = true

  constructor(
    private readonly socket: WebSocket,
    private readonly transport: Socket | undefined
  ) {}

  send(frames: ReadonlyArray<Frame>): boolean {
    const { socket, transport } = this
    if (socket.readyState !== WebSocket.OPEN) return false
    // one write to the network for all of them
    transport?.cork()
    for (const frame of frames) socket.send(frame)
    transport?.uncork()
    return true
  }

  ping(): void {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.ping()
  }

  pause(): void {
    this.socket.pause()
  }

  resume(): void {
    this.socket.resume()
  }

  bufferedBytes(): number {
    return this.socket.bufferedAmount
  }

  close(code: number, reason: string): void {
    this.socket.close(code, reason)
  }

  terminate(): void {
    this.socket.terminate()
  }
}

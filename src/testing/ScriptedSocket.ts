/**
 * A `Connector` whose server a test plays by hand: connections that are accepted, refused or never answered, frames, close codes,
 * resets and silence.
 *
 * No socket is opened and all waits go through `Clock`. Every attempt, and every frame and ping that the program has sent, is
 * recorded. What is sent to a paused reader waits until it reads on.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Closed, Connection, Frame, Listener, Request } from "../socket/Connector.js"
import { ConnectError, Connector } from "../socket/Connector.js"

/**
 * How an attempt ends: `"open"`; refused with a status, and perhaps with what it asks to wait; `"unreachable"`; `"hang"`: never;
 * `"defect"`: the connector throws. Each may come after a delay.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer =
  | "open"
  | "unreachable"
  | "hang"
  | "defect"
  | { readonly refuse: number; readonly retryAfter?: Duration.DurationInput | undefined }

/**
 * What one attempt gets.
 *
 * @category models
 * @since 0.1.0
 */
export type Reply = Answer | { readonly answer: Answer; readonly delay: Duration.DurationInput }

/**
 * One attempt to connect: the `n`-th [from 1], at epoch milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attempt {
  readonly n: number
  readonly at: number
  readonly request: Request
}

/**
 * The server's side of a connection.
 *
 * - `received`: the frames of the program; `pings`: when it has pinged, in epoch milliseconds; `flushes`: how many frames came at once.
 * - `send`, `close`, `reset`: do nothing once it is closed. `reset`: it breaks off, with 1006.
 * - `silence`: the peer is gone without a word: nothing that is sent to it arrives, and nothing comes.
 * - `stopReading`: what the program sends stays in its buffers until `readOn`.
 * - `end`: how it ended: by the server's `close` or `reset`, by a `goodbye` of the program with that code, or `cut` by it.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScriptedConnection {
  readonly n: number
  readonly openedAt: number
  readonly received: ReadonlyArray<Frame>
  readonly flushes: ReadonlyArray<number>
  readonly pings: ReadonlyArray<number>
  readonly isPaused: boolean
  readonly isOpen: boolean
  readonly end: "closed" | "reset" | "goodbye" | "cut" | undefined
  readonly send: (frame: Frame) => void
  readonly close: (code: number, reason?: string) => void
  readonly reset: () => void
  readonly silence: () => void
  readonly stopReading: () => void
  readonly readOn: () => void
}

/**
 * What is played.
 *
 * - `replies`: to the attempts in order, then `"open"`; or a function of the attempt [always `"open"`].
 * - `onOpen`: what the server does on each connection; `onFrame`, with each frame that comes.
 * - `canPause`, `canPing`: whether the connections can [true]. `pongs`: whether pings are answered [true]. `answersClose`: whether
 *   a goodbye is answered [true].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly replies?: ReadonlyArray<Reply> | ((attempt: Attempt) => Reply) | undefined
  readonly onOpen?: ((connection: ScriptedConnection) => void) | undefined
  readonly onFrame?: ((frame: Frame, connection: ScriptedConnection) => void) | undefined
  readonly canPause?: boolean | undefined
  readonly canPing?: boolean | undefined
  readonly pongs?: boolean | undefined
  readonly answersClose?: boolean | undefined
}

/**
 * A server that a test plays.
 *
 * - `connections`: those that were opened, in order. `last`: the newest one; it throws where there is none.
 * - `awaitConnections`, `awaitFrames`: wait until so many were opened, or so many frames have come in all.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScriptedSocket {
  readonly connector: Connector["Type"]
  readonly layer: Layer.Layer<Connector>
  readonly attempts: ReadonlyArray<Attempt>
  readonly connections: ReadonlyArray<ScriptedConnection>
  readonly last: ScriptedConnection
  readonly awaitConnections: (count: number) => Effect.Effect<void>
  readonly awaitFrames: (count: number) => Effect.Effect<void>
}

class Server implements ScriptedSocket {
  readonly attempts: Array<Attempt> = []
  readonly connections: Array<Scripted> = []
  readonly layer: Layer.Layer<Connector>
  frames = 0
  private readonly waiting = new Set<() => void>()

  constructor(readonly options: Options) {
    this.layer = Layer.succeed(Connector, this.connector)
  }

  get last(): ScriptedConnection {
    const last = this.connections[this.connections.length - 1]
    if (last === undefined) throw new Error("ScriptedSocket: no connection was opened yet.")
    return last
  }

  get connector(): Connector["Type"] {
    return { connect: (request, listener) => this.connect(request, listener) }
  }

  awaitConnections(count: number): Effect.Effect<void> {
    return this.until(() => this.connections.length >= count)
  }

  awaitFrames(count: number): Effect.Effect<void> {
    return this.until(() => this.frames >= count)
  }

  private until(holds: () => boolean): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const check = (): void => {
        if (!holds()) return
        this.waiting.delete(check)
        resume(Effect.void)
      }
      this.waiting.add(check)
      check()
      return Effect.sync(() => void this.waiting.delete(check))
    })
  }

  changed(): void {
    for (const check of [...this.waiting]) check()
  }

  private connect(request: Request, listener: Listener) {
    return Effect.gen(this, function* () {
      const at = yield* Clock.currentTimeMillis
      const attempt: Attempt = { n: this.attempts.length + 1, at, request }
      this.attempts.push(attempt)
      const { replies = [] } = this.options
      const reply = typeof replies === "function" ? replies(attempt) : (replies[attempt.n - 1] ?? "open")
      const isDelayed = typeof reply === "object" && "answer" in reply
      if (isDelayed) yield* Effect.sleep(reply.delay)
      const answer = isDelayed ? reply.answer : reply
      if (answer === "hang") return yield* Effect.never
      if (answer === "defect") return yield* Effect.dieMessage("the connector has a defect")
      if (answer === "unreachable") {
        return yield* new ConnectError({ reason: "Unreachable", message: "no connection (ECONNREFUSED)." })
      }
      if (answer !== "open") {
        const { refuse, retryAfter } = answer
        return yield* new ConnectError({
          reason: "Refused",
          message: `the upgrade was answered with ${refuse}.`,
          status: refuse,
          ...(retryAfter === undefined ? {} : { retryAfter: Duration.decode(retryAfter) })
        })
      }
      const clock = yield* Clock.clockWith(Effect.succeed)
      const connection = new Scripted(this, this.connections.length + 1, listener, clock)
      yield* Effect.addFinalizer(() => Effect.sync(() => connection.cut()))
      this.connections.push(connection)
      const { canPause = true, canPing = true } = this.options
      listener.onOpen({ ...connection.ofProgram, canPause, canPing })
      this.options.onOpen?.(connection)
      this.changed()
    })
  }
}

class Scripted implements ScriptedConnection {
  readonly received: Array<Frame> = []
  readonly flushes: Array<number> = []
  readonly pings: Array<number> = []
  readonly openedAt: number
  end: ScriptedConnection["end"]
  isPaused = false
  private isSilent = false
  private isReading = true
  private unread: Array<Frame> = []
  /** What the program is to be told, once it reads. */
  private readonly held: Array<() => void> = []
  private isDelivering = false

  constructor(
    private readonly server: Server,
    readonly n: number,
    private readonly listener: Listener,
    private readonly clock: Clock.Clock
  ) {
    this.openedAt = clock.unsafeCurrentTimeMillis()
  }

  get isOpen(): boolean {
    return this.end === undefined
  }

  // ---------------------------------------------------------------- the server's side

  private tell(what: () => void): void {
    if (!this.isOpen || this.isSilent) return
    this.held.push(what)
    this.deliver()
  }

  private deliver(): void {
    if (this.isDelivering) return
    this.isDelivering = true
    while (!this.isPaused && this.held.length > 0) this.held.shift()!()
    this.isDelivering = false
  }

  readonly send = (frame: Frame): void => {
    this.tell(() => this.listener.onFrame(frame))
  }

  readonly close = (code: number, reason = ""): void => {
    this.tell(() => this.over("closed", { code, reason, problem: undefined }))
  }

  readonly reset = (): void => {
    if (!this.isOpen) return
    // what was not read is lost
    this.held.length = 0
    this.over("reset", { code: 1006, reason: "", problem: "ECONNRESET" })
  }

  readonly silence = (): void => {
    this.isSilent = true
  }

  readonly stopReading = (): void => {
    this.isReading = false
  }

  readonly readOn = (): void => {
    this.isReading = true
    const frames = this.unread
    this.unread = []
    this.arrive(frames)
    if (this.isOpen) this.listener.onDrain()
  }

  private over(end: NonNullable<ScriptedConnection["end"]>, closed: Closed): void {
    if (!this.isOpen) return
    this.end = end
    this.held.length = 0
    this.listener.onClose(closed)
    this.server.changed()
  }

  // ---------------------------------------------------------------- the program's side

  private arrive(frames: ReadonlyArray<Frame>): void {
    if (frames.length === 0) return
    this.flushes.push(frames.length)
    for (const frame of frames) {
      this.received.push(frame)
      this.server.frames++
      this.server.options.onFrame?.(frame, this)
    }
    this.server.changed()
  }

  cut(): void {
    if (this.isOpen) this.end = "cut"
    this.held.length = 0
    this.server.changed()
  }

  readonly ofProgram: Omit<Connection, "canPause" | "canPing"> = {
    send: (frames) => {
      if (!this.isOpen) return false
      if (this.isSilent) return true
      if (this.isReading) this.arrive(frames)
      else this.unread.push(...frames)
      return true
    },
    ping: () => {
      if (!this.isOpen) return
      this.pings.push(this.clock.unsafeCurrentTimeMillis())
      if (this.server.options.pongs ?? true) this.tell(() => this.listener.onAlive())
    },
    pause: () => {
      this.isPaused = true
    },
    resume: () => {
      this.isPaused = false
      // the network tells later, not within the call
      queueMicrotask(() => this.deliver())
    },
    bufferedBytes: () => this.unread.reduce((sum, frame) => sum + frame.length, 0),
    close: (code) => {
      if (!this.isOpen || this.isSilent || !(this.server.options.answersClose ?? true)) return
      queueMicrotask(() => this.tell(() => this.over("goodbye", { code, reason: "", problem: undefined })))
    },
    terminate: () => {
      if (!this.isOpen) return
      this.end = "cut"
      this.held.length = 0
      this.server.changed()
    }
  }
}

/**
 * Makes a server that is played by hand.
 *
 * **Example**
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { ReconnectingSocket } from "effect-periscope/socket"
 * import { ScriptedSocket } from "effect-periscope/testing"
 *
 * const server = ScriptedSocket.make({ onOpen: (connection) => connection.send("hello") })
 *
 * const program = ReconnectingSocket.received({ url: "ws://localhost", decode: String }).pipe(
 *   Stream.map(({ item }) => item),
 *   Stream.take(1),
 *   Stream.runCollect,
 *   Effect.map((items) => ({ items: [...items], end: server.last.end })),
 *   Effect.provide(server.layer)
 * )
 *
 * await Effect.runPromise(program) // => { items: ["hello"], end: "goodbye" }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): ScriptedSocket => new Server(options)

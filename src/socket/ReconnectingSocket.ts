/**
 * Follows an event stream over a WebSocket that is connected again whenever it is lost: items with an ack each, or a handler
 * after which the ack is sent.
 *
 * Nothing is acknowledged before its handler has finished, and an ack goes only to the connection on which its item came: what
 * was not acknowledged comes again. What is held is bounded: reading stops while too much is in flight.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Subscribable from "effect/Subscribable"
import { describe } from "../core/WatchStatus.js"
import { Connector } from "./Connector.js"
import type { Reconnecting } from "./reconnecting.js"
import * as reconnecting from "./reconnecting.js"
import { Engine } from "./socketEngine.js"
import type { SocketError } from "./socketError.js"
import type { HandlerOptions } from "./socketHandling.js"
import * as socketHandling from "./socketHandling.js"
import type { Options } from "./socketOptions.js"
import { defaultBackoff, settingsOf } from "./socketOptions.js"
import type { SocketStatus } from "./socketStatus.js"
import * as target from "./target.js"
import type { Entry } from "./window.js"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  SocketError
} from "./socketError.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  HandlerOptions
} from "./socketHandling.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  HeadersInput,
  /**
   * @category models
   * @since 0.1.0
   */
  Options,
  /**
   * @category models
   * @since 0.1.0
   */
  UrlInput
} from "./socketOptions.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  SocketPhase,
  /**
   * @category models
   * @since 0.1.0
   */
  SocketStatus
} from "./socketStatus.js"
export {
  /**
   * @category defaults
   * @since 0.1.0
   */
  isFatal
} from "./socketError.js"

/**
 * An item that was received.
 *
 * - `ack`: it was handled: its ack is queued for the connection on which it last came, if that is still there, and it is not handed
 *   out again. It never waits for the network.
 * - `release`: it was not handled: no ack, and when it comes again it is handed out again.
 *
 * **Details** The first of the two counts. Until then the item is in flight; too many of those stop the reading.
 *
 * @category models
 * @since 0.1.0
 */
export interface Received<out A> {
  readonly item: A
  readonly ack: Effect.Effect<void>
  readonly release: Effect.Effect<void>
}

/**
 * One socket. It has one consumer at a time, `received` or `runForEach`, connects when that begins and closes when it ends.
 *
 * - `received`: a stream, in order of arrival. Each item is to be acked or released; without an `ack` option neither does anything.
 * - `runForEach`: runs a function for each item, and acks after it returned.
 * - `status`: what it does now, and every newer status as far as the reader keeps up.
 * - `drain`: stops gracefully: hands out no more, waits until what was handed out is finished, and ends the consumer. Items that
 *   nobody has begun with are left to come again; without an `ack` option they are handed out first. That is as long as a handler
 *   takes: bound it with `Effect.timeout`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReconnectingSocket<out A> {
  readonly name: string
  readonly received: Stream.Stream<Received<A>, SocketError>
  readonly runForEach: <X, E = never, R = never, R2 = never>(
    handler: (item: A) => Effect.Effect<X, E, R>,
    options?: HandlerOptions<E, R2>
  ) => Effect.Effect<void, SocketError | E, R | R2>
  readonly status: Subscribable.Subscribable<SocketStatus>
  readonly drain: Effect.Effect<void>
}

class Item<A> implements Received<A> {
  constructor(
    private readonly engine: Engine<A>,
    private readonly entry: Entry<A>
  ) {}

  get item(): A {
    return this.entry.item
  }

  get ack(): Effect.Effect<void> {
    return Effect.sync(() => this.engine.finish(this.entry))
  }

  get release(): Effect.Effect<void> {
    return Effect.sync(() => this.engine.forget(this.entry))
  }
}

type Pull<A> = Effect.Effect<Chunk.Chunk<Received<A>>, Option.Option<SocketError>>

const pull = <A>(engine: Engine<A>, means: Reconnecting): Effect.Effect<Pull<A>, never, Scope.Scope> => {
  const next: Pull<A> = Effect.suspend(() => {
    const entries = engine.takeAll()
    if (entries.length > 0) {
      const items = entries.map((entry) => new Item(engine, entry))
      // without acks what is handed out is done: at most once
      if (!engine.hasAcks) for (const entry of entries) engine.finish(entry)
      return Effect.succeed(Chunk.unsafeFromArray(items))
    }
    if (!engine.isOver) return Effect.zipRight(engine.waiting, next)
    return engine.failure === undefined
      ? Effect.fail(Option.none())
      : Effect.mapError(Effect.failCause(engine.failure), Option.some)
  })
  return Effect.as(engine.consume(means, "counted"), next)
}

class EngineSocket<A> implements ReconnectingSocket<A> {
  constructor(
    private readonly engine: Engine<A>,
    private readonly means: Reconnecting
  ) {}

  get name(): string {
    return this.engine.name
  }

  get received(): Stream.Stream<Received<A>, SocketError> {
    return Stream.fromPull(pull(this.engine, this.means))
  }

  runForEach<X, E = never, R = never, R2 = never>(
    handler: (item: A) => Effect.Effect<X, E, R>,
    options?: HandlerOptions<E, R2>
  ): Effect.Effect<void, SocketError | E, R | R2> {
    return socketHandling.forEach(this.engine, this.means, handler, options ?? {})
  }

  get status(): Subscribable.Subscribable<SocketStatus> {
    return this.engine.status.subscribable
  }

  get drain(): Effect.Effect<void> {
    return this.engine.drain
  }
}

/**
 * Makes a socket. It connects when it is consumed.
 *
 * **Details** Every end of a connection leads to a reconnect but for the consumer's own end and what is `fatal`. The waits begin
 * anew only after a connection that was healthy, so a server that accepts and closes is not asked more often than one that is down.
 * Any frame, ping or pong counts as life. An item whose `key` is in flight is not handed out twice: its ack goes to both; one
 * whose key was finished is acked at once.
 *
 * **Gotchas** While reading is paused no frame, ping or pong is seen: the idle clock stands still, and a server that waits for
 * answers to its own pings may close. With an `ack` option and no `key`, what comes again is handed out again.
 *
 * **Errors** Options that are out of range and an address that is not one of a WebSocket throw a sentence that names the option.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { ReconnectingSocket } from "effect-periscope/socket"
 * import { ScriptedSocket } from "effect-periscope/testing"
 *
 * const server = ScriptedSocket.make({
 *   onOpen: (connection) => {
 *     connection.send('{"id":1,"text":"tea"}')
 *     connection.send('{"id":2,"text":"cake"}')
 *   }
 * })
 *
 * const program = Effect.gen(function* () {
 *   const seen: Array<string> = []
 *   const socket = yield* ReconnectingSocket.make({
 *     url: "wss://events.example.com/orders",
 *     decode: (frame) => JSON.parse(String(frame)) as { readonly id: number; readonly text: string },
 *     ack: ({ id }) => JSON.stringify({ ack: id })
 *   })
 *   yield* Effect.fork(socket.runForEach(({ text }) => Effect.sync(() => seen.push(text))))
 *   yield* server.awaitFrames(2)
 *   return { seen, acked: server.connections[0]?.received }
 * }).pipe(Effect.provide(server.layer))
 *
 * await Effect.runPromise(program) // => { seen: ["tea", "cake"], acked: ['{"ack":1}', '{"ack":2}'] }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A, R = never>(
  options: Options<A, R>
): Effect.Effect<ReconnectingSocket<A>, never, Connector | R> =>
  Effect.map(makeEngine(options), ({ engine, means }) => new EngineSocket(engine, means))

interface Made<A> {
  readonly engine: Engine<A>
  readonly means: Reconnecting
}

const makeEngine = <A, R>(options: Options<A, R>): Effect.Effect<Made<A>, never, Connector | R> =>
  Effect.suspend(() => {
    const { headers = {}, protocols = [], url } = options
    const settings = settingsOf(options)
    const { backoff = defaultBackoff(settings.maxRetryAfter) } = options
    // an address that is there already is looked at now
    const ownName = Effect.isEffect(url) ? "websocket" : target.nameOf(url)
    const engine = new Engine<A>(options.name ?? ownName, options, settings)
    return Effect.map(Effect.context<Connector | R>(), (context) => {
      const provided = <B>(value: B | Effect.Effect<B, unknown, R>): Effect.Effect<B, unknown> =>
        Effect.isEffect(value) ? Effect.provide(value, context) : Effect.succeed(value)
      const means = reconnecting.make({
        connector: Context.get(context as Context.Context<Connector>, Connector),
        url: provided(url),
        headers: provided(headers),
        protocols,
        backoff: Schedule.provideContext(backoff, context)
      })
      return { engine, means }
    })
  })

/**
 * Follows a socket as a stream: {@link make}, for one consumer.
 *
 * **Example**
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { ReconnectingSocket } from "effect-periscope/socket"
 * import * as NodeConnector from "effect-periscope/socket/NodeConnector"
 *
 * const program = ReconnectingSocket.received({
 *   url: "wss://events.example.com/orders",
 *   decode: (frame) => String(frame),
 *   ack: (text) => `ack ${text.length}`
 * }).pipe(
 *   Stream.mapEffect(({ ack, item }) => Effect.zipRight(Effect.log(item), ack)),
 *   Stream.runDrain,
 *   Effect.provide(NodeConnector.layer())
 * )
 * ```
 *
 * @category following
 * @since 0.1.0
 */
export const received = <A, R = never>(
  options: Options<A, R>
): Stream.Stream<Received<A>, SocketError, Connector | R> =>
  Stream.unwrap(Effect.map(make(options), (socket) => socket.received))

/**
 * Runs a function for each item of a socket, and acks after it returned: {@link make}, for one consumer.
 *
 * **Errors** A handler that fails is tried again by `handlerRetry`; then it ends the whole with its error, or, with
 * `onFailure: "release"`, its item is left to come again.
 *
 * **Example** See {@link make}.
 *
 * @category following
 * @since 0.1.0
 */
export const runForEach = <A, X, R = never, E2 = never, R2 = never, R3 = never>(
  options: Options<A, R>,
  handler: (item: A) => Effect.Effect<X, E2, R2>,
  handlerOptions?: HandlerOptions<E2, R3>
): Effect.Effect<void, SocketError | E2, Connector | R | R2 | R3> =>
  Effect.flatMap(make(options), (socket) => socket.runForEach(handler, handlerOptions))

/**
 * How a background socket is run: the options of its handler, and `onStop`, which gets the cause when it ends by itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface LayerOptions<in E, out R = never> extends HandlerOptions<E, R> {
  readonly onStop?: ((cause: Cause.Cause<SocketError | E>) => Effect.Effect<void, never, R>) | undefined
}

/**
 * Follows a socket in the background of a layer, until the layer's scope closes.
 *
 * **Details** A failing handler is tried again for ever (1 second doubling to 1 minute), visible in status, metrics and the log,
 * unless `onStop`, `handlerRetry` or `onFailure: "release"` is given. What ends it for good is logged as an error, and given to
 * `onStop`.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { ReconnectingSocket } from "effect-periscope/socket"
 * import * as NodeConnector from "effect-periscope/socket/NodeConnector"
 *
 * // runs from the start of the application to its end
 * const OrdersLog: Layer.Layer<never> = ReconnectingSocket.layer(
 *   { url: "wss://events.example.com/orders", decode: String },
 *   (text) => Effect.log(text)
 * ).pipe(Layer.provide(NodeConnector.layer()))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <A, X, R = never, E2 = never, R2 = never, R3 = never>(
  options: Options<A, R>,
  handler: (item: A) => Effect.Effect<X, E2, R2>,
  layerOptions: LayerOptions<E2, R3> = {}
): Layer.Layer<never, never, Exclude<Connector | R | R2 | R3, Scope.Scope>> => {
  const { handlerRetry, onFailure, onStop } = layerOptions
  const isPatient = onStop === undefined && handlerRetry === undefined && onFailure !== "release"
  const follow = Effect.flatMap(makeEngine(options), ({ engine, means }) => {
    const handling: socketHandling.Handling<E2, R3> = isPatient
      ? { ...layerOptions, handlerRetry: socketHandling.forever }
      : layerOptions
    return Effect.tapErrorCause(socketHandling.forEach(engine, means, handler, handling), (cause) =>
      Cause.isInterruptedOnly(cause)
        ? Effect.void
        : Effect.zipRight(
            Effect.annotateLogs(Effect.logError(`${engine.name}: the socket has ended: ${describe(cause)}`), {
              "periscope.source": engine.name
            }),
            onStop === undefined ? Effect.void : onStop(cause)
          )
    )
  })
  return Layer.scopedDiscard(Effect.forkScoped(follow))
}

/**
 * Follows the accounts of the AT Protocol through a Tap server: records and identities, as a stream or with a handler.
 *
 * Every event is handled at least once: it is acknowledged after its handler, and the server sends again what is not. Events of one
 * DID are handled in the order in which they came, one at a time; those of others beside them.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as GlobalValue from "effect/GlobalValue"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Subscribable from "effect/Subscribable"
import { Connector } from "./Connector.js"
import * as ReconnectingSocket from "./ReconnectingSocket.js"
import { settingsOf } from "./socketOptions.js"
import type { Item } from "./tapDeliveries.js"
import { Deliveries } from "./tapDeliveries.js"
import * as tapEndpoint from "./tapEndpoint.js"
import type { TapEvent, TapParseFailure } from "./tapEvent.js"
import * as tapEvent from "./tapEvent.js"

export {
  /**
   * What happened to an account: an {@link IdentityEvent} or a {@link RecordEvent}, as the server writes it. As a schema it keeps
   * fields that it does not know.
   *
   * **Example**
   * ```ts
   * import { Schema } from "effect"
   * import { Tap } from "effect-periscope/socket"
   *
   * const event = Schema.decodeUnknownSync(Tap.TapEvent)({
   *   id: 12346,
   *   type: "identity",
   *   identity: { did: "did:plc:abc123", handle: "alice.example", is_active: true, status: "active" }
   * })
   *
   * Tap.keyOf(event) // => "did:plc:abc123"
   * ```
   *
   * @category models
   * @since 0.1.0
   */
  TapEvent,
  /**
   * An account as it is now: its handle and its status.
   *
   * **Example**
   * ```ts
   * import { Effect, Match } from "effect"
   * import { Tap } from "effect-periscope/socket"
   *
   * const handle = Match.type<Tap.TapEvent>().pipe(
   *   Match.when({ type: "identity" }, ({ identity }: Tap.IdentityEvent) => Effect.log(identity.handle, identity.status)),
   *   Match.when({ type: "record" }, ({ record }: Tap.RecordEvent) => Effect.log(record.action, record.rkey)),
   *   Match.exhaustive
   * )
   * ```
   *
   * @category models
   * @since 0.1.0
   */
  IdentityEvent,
  /**
   * A record that was created, updated or deleted.
   *
   * **Example** See {@link IdentityEvent}.
   *
   * @category models
   * @since 0.1.0
   */
  RecordEvent,
  /**
   * A frame that is no event. `text` is its beginning, 1 KiB at most, and `id` the number of the delivery, if it could be found.
   *
   * - `NotJson`: not even that.
   * - `UnknownType`: an event of a type that this version does not know.
   * - `Invalid`: a field is missing, or is of another type.
   *
   * **Example**
   * ```ts
   * import { Effect } from "effect"
   * import { Tap } from "effect-periscope/socket"
   *
   * const report = (failure: Tap.TapParseFailure) => Effect.logError(failure.message, failure.text)
   * ```
   *
   * @category errors
   * @since 0.1.0
   */
  TapParseFailure,
  /**
   * What an event is about: the at-uri of its record, or the DID of an identity.
   *
   * **Example** See {@link TapEvent}.
   *
   * @category getters
   * @since 0.1.0
   */
  keyOf,
  /**
   * The account that an event is about.
   *
   * **Example**
   * ```ts
   * import { Tap } from "effect-periscope/socket"
   *
   * Tap.didOf({
   *   id: 1,
   *   type: "identity",
   *   identity: { did: "did:plc:abc123", handle: "alice.example", is_active: true, status: "active" }
   * }) // => "did:plc:abc123"
   * ```
   *
   * @category getters
   * @since 0.1.0
   */
  didOf
} from "./tapEvent.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  IdentityData,
  /**
   * @category models
   * @since 0.1.0
   */
  RecordData
} from "./tapEvent.js"

/**
 * Why an endpoint cannot be followed. `InUse`: this process follows it already, and the server would split the events between the
 * two.
 *
 * **Example**
 * ```ts
 * import { Effect, Either } from "effect"
 * import { Tap } from "effect-periscope/socket"
 * import { ScriptedSocket } from "effect-periscope/testing"
 *
 * const program = Effect.gen(function* () {
 *   yield* Tap.make({ url: "http://localhost:2480" })
 *   const second = yield* Effect.either(Tap.make({ url: "ws://localhost:2480/channel" }))
 *   return Either.isLeft(second) && second.left instanceof Tap.TapError ? second.left.reason : "made"
 * })
 *
 * await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(ScriptedSocket.make().layer))) // => "InUse"
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class TapError extends Schema.TaggedError<TapError>("effect-periscope/TapError")("TapError", {
  reason: Schema.Literal("InUse"),
  source: Schema.String,
  message: Schema.String
}) {}

/**
 * An event to be acknowledged, or a frame that could not be read.
 *
 * @category models
 * @since 0.1.0
 */
export type Received = ReconnectingSocket.Received<Either.Either<TapEvent, TapParseFailure>>

type SocketOptions<R> = Pick<
  ReconnectingSocket.Options<unknown, R>,
  | "backoff"
  | "closeTimeout"
  | "fatal"
  | "healthyAfter"
  | "idleTimeout"
  | "maxFrameBytes"
  | "maxInFlight"
  | "maxInFlightBytes"
  | "maxReconnectAttempts"
  | "maxRetryAfter"
  | "maxUnsentBytes"
  | "name"
  | "openTimeout"
  | "pingInterval"
  | "windowSize"
>

/**
 * What to follow, and how. Besides the options of a socket:
 *
 * - `url`: `http(s)://`, `ws(s)://` or `tap(s)://`, with or without `/channel`. User info becomes the password.
 * - `password`: that of `admin` [none]. `userAgent`: ["effect-periscope"].
 * - `acks`: `false` for a server that wants none: what is lost on the way is lost [true].
 * - `collections`: only records of these, such as `app.bsky.feed.post` or `app.bsky.graph.*`; identities come always [all].
 * - `liveOnly`: no records of a backfill [false]. What one of the two drops is acknowledged and not handed out.
 * - `unreadable`: whether a frame that is no event is acknowledged after it was seen, if its number could be found; with `"leave"`
 *   the server sends it again and again, and nothing newer of its DID [`"ack"`].
 * - `maxInFlight`: [5000]. `maxPerDid`: of those, how many of one DID may wait for the one that is handled; what is beyond is left to
 *   come again, after a minute or more, so that one slow DID does not stop all others [half of `maxInFlight`].
 * - `windowSize`: how many records are remembered that were handled, so that they are not handled again when the server sends them
 *   again [10,000]. After removing and adding a repository its history comes again with the same revision: 0 where that is wanted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<R = never> extends SocketOptions<R> {
  readonly url: string | URL
  readonly password?: Redacted.Redacted | undefined
  readonly userAgent?: string | undefined
  readonly acks?: boolean | undefined
  readonly collections?: ReadonlyArray<string> | undefined
  readonly liveOnly?: boolean | undefined
  readonly unreadable?: "ack" | "leave" | undefined
  readonly maxPerDid?: number | undefined
}

/**
 * How a handler is run, as with a socket, but for
 *
 * - `concurrency`: how many events are handled at once, each of another DID [16].
 * - `onParseFailure`: what is done with a frame that is no event [a warning is logged].
 *
 * @category models
 * @since 0.1.0
 */
export interface HandlerOptions<
  in E = never,
  out R = never,
  out E2 = never,
  out R2 = never
> extends ReconnectingSocket.HandlerOptions<E, R> {
  readonly onParseFailure?: ((failure: TapParseFailure) => Effect.Effect<unknown, E2, R2>) | undefined
}

/**
 * One channel of a Tap server, as a service. It has one consumer at a time, connects when that begins and closes when it ends.
 *
 * - `events`: a stream, in order of arrival; each is to be acked or released.
 * - `runForEach`: runs a function for each event, and acknowledges it after it returned.
 * - `status`, `drain`: as those of a socket.
 *
 * **Example** See {@link make}.
 *
 * @category services
 * @since 0.1.0
 */
export class Tap extends Context.Tag("effect-periscope/Tap")<
  Tap,
  {
    readonly name: string
    readonly events: Stream.Stream<Received, ReconnectingSocket.SocketError>
    readonly runForEach: <X, E = never, R = never, R2 = never, E3 = never, R3 = never>(
      handler: (event: TapEvent) => Effect.Effect<X, E, R>,
      options?: HandlerOptions<E | E3, R2, E3, R3>
    ) => Effect.Effect<void, ReconnectingSocket.SocketError | E | E3, R | R2 | R3>
    readonly status: Subscribable.Subscribable<ReconnectingSocket.SocketStatus>
    readonly drain: Effect.Effect<void>
  }
>() {}

const refuse = (sentence: string): never => {
  throw new Error(`Tap: ${sentence}`)
}

/** Endpoints that are followed, in all copies of this module. */
const inUse = GlobalValue.globalValue("effect-periscope/Tap/inUse", () => new Set<string>())

const claim = (endpoint: string, source: string): Effect.Effect<void, TapError, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.suspend(() =>
        inUse.has(endpoint)
          ? new TapError({
              reason: "InUse",
              source,
              message: `${source}: this process follows that Tap server already, which would split its events between the two; share one Tap, or close the other one first.`
            })
          : Effect.sync(() => inUse.add(endpoint))
      ),
      () => Effect.sync(() => inUse.delete(endpoint))
    )
  )

/** What is handed out; everything, where nothing is to be dropped. */
const wanted = ({ collections, liveOnly = false }: Options<never>): ((event: TapEvent) => boolean) | undefined => {
  if (collections === undefined && !liveOnly) return undefined
  const isOf = (collection: string): boolean => collections === undefined || tapEvent.matches(collection, collections)
  return (event) => event.type === "identity" || ((event.record.live || !liveOnly) && isOf(event.record.collection))
}

const defaultMaxInFlight = 5000

const check = ({ collections, maxInFlight = defaultMaxInFlight, maxPerDid, unreadable }: Options<never>) => {
  for (const filter of collections ?? []) {
    const problem = tapEvent.filterProblem(filter)
    if (problem !== undefined) return refuse(`\`collections\` has ${JSON.stringify(filter)}, which ${problem}.`)
  }
  if (collections?.length === 0) return refuse("`collections` is empty; leave it out to get all of them.")
  if (unreadable !== undefined && unreadable !== "ack" && unreadable !== "leave") {
    return refuse(`\`unreadable\` is ${JSON.stringify(unreadable)}; it must be "ack" or "leave".`)
  }
  if (maxPerDid !== undefined && maxPerDid !== Infinity && !(Number.isSafeInteger(maxPerDid) && maxPerDid >= 1)) {
    return refuse(`\`maxPerDid\` is ${maxPerDid}; it must be a whole number of 1 or more.`)
  }
  return { maxInFlight, maxPerDid: maxPerDid ?? Math.max(1, Math.floor(maxInFlight / 2)) }
}

const defaultConcurrency = 16

const ackFrame = (id: number): string => `{"type":"ack","id":${id}}`

const socketOptions = <R>(
  options: Options<R>,
  endpoint: tapEndpoint.Endpoint,
  key: (item: Item) => string | undefined
): ReconnectingSocket.Options<Item, R> => {
  const { acks = true, unreadable = "ack", userAgent = "effect-periscope" } = options
  const { maxInFlight, maxPerDid } = check(options as Options<never>)
  const leaves = unreadable === "leave"
  const ack = (item: Item): string | undefined => {
    if (Either.isRight(item)) return ackFrame(item.right.id)
    const { id } = item.left
    return leaves || id === undefined ? undefined : ackFrame(id)
  }
  // without acks nothing comes again
  const limits = acks && maxPerDid !== Infinity ? { maxPerOrder: maxPerDid } : {}
  return {
    ...options,
    url: endpoint.channel,
    name: options.name ?? endpoint.channel,
    headers: {
      "user-agent": userAgent,
      ...(endpoint.authorization === undefined ? {} : { authorization: endpoint.authorization })
    },
    decode: tapEvent.parse,
    ack: acks ? ack : undefined,
    key,
    // an identity event has no revision: behind its handler the same number is another event
    isRemembered: (item) => Either.isLeft(item) || item.right.type !== "identity",
    orderBy: (item) => (Either.isRight(item) ? tapEvent.didOf(item.right) : undefined),
    maxInFlight,
    ...limits
  }
}

const withoutUnwanted =
  (isWanted: (event: TapEvent) => boolean) =>
  <E>(events: Stream.Stream<Received, E>): Stream.Stream<Received, E> => {
    const isKept = ({ item }: Received): boolean => Either.isLeft(item) || isWanted(item.right)
    return Stream.mapChunksEffect(events, (chunk) => {
      const [dropped, kept] = Chunk.partition(chunk, isKept)
      return Effect.as(
        Effect.forEach(dropped, ({ ack }) => ack, { discard: true }),
        kept
      )
    })
  }

interface Prepared<R> {
  readonly name: string
  readonly deliveries: Deliveries
  readonly socket: ReconnectingSocket.Options<Item, R>
  readonly isWanted: ((event: TapEvent) => boolean) | undefined
  /** What is done with each item, where this is to be done with each event. */
  readonly toHandler: <X, E, R1, E3, R3>(
    handler: (event: TapEvent) => Effect.Effect<X, E, R1>,
    onParseFailure: ((failure: TapParseFailure) => Effect.Effect<unknown, E3, R3>) | undefined
  ) => (item: Item) => Effect.Effect<unknown, E | E3, R1 | R3>
}

/** Takes the endpoint for the scope. */
const prepare = <R>(options: Options<R>): Effect.Effect<Prepared<R>, TapError, Scope.Scope> =>
  Effect.suspend(() => {
    const endpoint = tapEndpoint.make("Tap", options)
    const deliveries = new Deliveries()
    const name = options.name ?? endpoint.channel
    const isWanted = wanted(options as Options<never>)
    const warn = (failure: TapParseFailure): Effect.Effect<void> =>
      Effect.annotateLogs(Effect.logWarning(`${name}: ${failure.message}`), {
        "periscope.source": name,
        id: failure.id
      })
    const prepared: Prepared<R> = {
      name,
      deliveries,
      socket: socketOptions(options, endpoint, deliveries.keyOf),
      isWanted,
      toHandler:
        (handler, onParseFailure = warn) =>
        (item) => {
          if (Either.isLeft(item)) return onParseFailure(item.left)
          return isWanted === undefined || isWanted(item.right) ? handler(item.right) : Effect.void
        }
    }
    return Effect.as(claim(endpoint.base, name), prepared)
  })

/**
 * Makes a channel of a Tap server. It connects when it is consumed.
 *
 * **Details** An event that comes again while it is being handled is not handled twice; a record that comes again later is
 * acknowledged at once, if it is still remembered. The server's numbers are used for acknowledgements alone, and only on the
 * connection on which they came: after a restart they may stand for other events. After a connection was lost the server sends
 * again what was not acknowledged when its own retry timeout has passed, a minute by default.
 *
 * **Gotchas** An identity event has no revision: one that comes again after it was handled, or over another connection, is handled
 * again. With more than one process on one server the events are split between them.
 *
 * **Errors** {@link TapError} where this process follows the server already. Options that are out of range throw a sentence that
 * names the option.
 *
 * **Source** `cmd/tap` in github.com/bluesky-social/indigo
 *
 * **Example**
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import { Tap } from "effect-periscope/socket"
 * import * as NodeConnector from "effect-periscope/socket/NodeConnector"
 * import * as TapServer from "effect-periscope/testing/TapServer"
 *
 * const program = Effect.gen(function* () {
 *   const server = yield* TapServer.make({ password: "secret" })
 *   server.record({ did: "did:plc:alice", collection: "app.bsky.feed.post", rkey: "1" })
 *   server.record({ did: "did:plc:alice", collection: "app.bsky.feed.like", rkey: "2" })
 *   server.record({ did: "did:plc:bob", collection: "app.bsky.feed.post", rkey: "3", action: "delete" })
 *
 *   const tap = yield* Tap.make({
 *     url: server.url,
 *     password: Redacted.make("secret"),
 *     collections: ["app.bsky.feed.post"]
 *   })
 *   const seen: Array<string> = []
 *   yield* Effect.fork(tap.runForEach((event) => Effect.sync(() => seen.push(Tap.keyOf(event))), { concurrency: 8 }))
 *   yield* server.drained
 *   return seen
 * })
 *
 * const seen = await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(NodeConnector.layer())))
 * seen // => ["at://did:plc:alice/app.bsky.feed.post/1", "at://did:plc:bob/app.bsky.feed.post/3"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <R = never>(
  options: Options<R>
): Effect.Effect<Context.Tag.Service<Tap>, TapError, Connector | R | Scope.Scope> =>
  Effect.gen(function* () {
    const { deliveries, isWanted, name, toHandler, socket: socketOptions } = yield* prepare(options)
    const socket = yield* ReconnectingSocket.make(socketOptions).pipe(
      Effect.updateService(Connector, deliveries.counting)
    )
    const runForEach = <X, E, R1, R2, E3, R3>(
      handler: (event: TapEvent) => Effect.Effect<X, E, R1>,
      handlerOptions: HandlerOptions<E | E3, R2, E3, R3> = {}
    ) =>
      socket.runForEach(toHandler(handler, handlerOptions.onParseFailure), {
        ...handlerOptions,
        concurrency: handlerOptions.concurrency ?? defaultConcurrency
      })
    return {
      name,
      events: isWanted === undefined ? socket.received : withoutUnwanted(isWanted)(socket.received),
      runForEach,
      status: socket.status,
      drain: socket.drain
    }
  })

/**
 * Follows a Tap server as a stream: {@link make}, for one consumer.
 *
 * **Example**
 * ```ts
 * import { Effect, Either, Stream } from "effect"
 * import { Tap } from "effect-periscope/socket"
 * import * as NodeConnector from "effect-periscope/socket/NodeConnector"
 *
 * const program = Tap.events({ url: "http://localhost:2480", liveOnly: true }).pipe(
 *   Stream.mapEffect(({ ack, item }) =>
 *     Either.match(item, {
 *       onLeft: (failure) => Effect.logWarning(failure.message),
 *       onRight: (event) => Effect.log(Tap.keyOf(event))
 *     }).pipe(Effect.zipRight(ack))
 *   ),
 *   Stream.runDrain,
 *   Effect.provide(NodeConnector.layer())
 * )
 * ```
 *
 * @category following
 * @since 0.1.0
 */
export const events = <R = never>(
  options: Options<R>
): Stream.Stream<Received, ReconnectingSocket.SocketError | TapError, Connector | R> =>
  Stream.unwrapScoped(Effect.map(make(options), (tap) => tap.events))

/**
 * Runs a function for each event of a Tap server, and acknowledges it after it returned: {@link make}, for one consumer.
 *
 * **Errors** A handler that fails is tried again by `handlerRetry`; then it ends the whole with its error, or, with
 * `onFailure: "release"`, its event is left to come again.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Tap } from "effect-periscope/socket"
 * import * as NodeConnector from "effect-periscope/socket/NodeConnector"
 *
 * const program = Tap.runForEach(
 *   { url: "http://localhost:2480", collections: ["app.bsky.feed.*"] },
 *   (event) => Effect.log(Tap.keyOf(event)),
 *   { concurrency: 32 }
 * ).pipe(Effect.provide(NodeConnector.layer()))
 * ```
 *
 * @category following
 * @since 0.1.0
 */
export const runForEach = <X, R = never, E2 = never, R2 = never, R3 = never, E4 = never, R4 = never>(
  options: Options<R>,
  handler: (event: TapEvent) => Effect.Effect<X, E2, R2>,
  handlerOptions?: HandlerOptions<E2 | E4, R3, E4, R4>
): Effect.Effect<void, ReconnectingSocket.SocketError | TapError | E2 | E4, Connector | R | R2 | R3 | R4> =>
  Effect.flatMap(make(options), (tap) => tap.runForEach(handler, handlerOptions)).pipe(Effect.scoped) as Effect.Effect<
    void,
    ReconnectingSocket.SocketError | TapError | E2 | E4,
    Connector | R | R2 | R3 | R4
  >

/**
 * Provides a channel of a Tap server.
 *
 * **Example**
 * ```ts
 * import { Layer, Redacted } from "effect"
 * import { Tap } from "effect-periscope/socket"
 * import * as NodeConnector from "effect-periscope/socket/NodeConnector"
 *
 * const TapLive = Tap.layer({ url: "https://tap.example.com", password: Redacted.make("secret") }).pipe(
 *   Layer.provide(NodeConnector.layer())
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <R = never>(options: Options<R>): Layer.Layer<Tap, TapError, Connector | R> =>
  Layer.scoped(Tap, make(options))

/**
 * How events are handled in the background: the options of a handler, and `onStop`, which gets the cause when it ends by itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface LayerOptions<in E = never, out R = never, out E2 = never, out R2 = never>
  extends HandlerOptions<E, R, E2, R2>, Pick<ReconnectingSocket.LayerOptions<E, R>, "onStop"> {}

/**
 * Handles the events of a Tap server in the background of a layer, until the layer's scope closes.
 *
 * **Details** A failing handler is tried again for ever (1 second doubling to 1 minute), visible in status, metrics and the log,
 * unless `onStop`, `handlerRetry` or `onFailure: "release"` is given. What ends it for good is logged as an error, and given to
 * `onStop`.
 *
 * **Errors** {@link TapError} where this process follows the server already.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Tap } from "effect-periscope/socket"
 * import * as NodeConnector from "effect-periscope/socket/NodeConnector"
 *
 * // runs from the start of the application to its end
 * const Indexer: Layer.Layer<never, Tap.TapError> = Tap.layerForEach({ url: "http://localhost:2480" }, (event) =>
 *   Effect.log(Tap.keyOf(event))
 * ).pipe(Layer.provide(NodeConnector.layer()))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerForEach = <X, R = never, E2 = never, R2 = never, R3 = never, E4 = never, R4 = never>(
  options: Options<R>,
  handler: (event: TapEvent) => Effect.Effect<X, E2, R2>,
  layerOptions: LayerOptions<E2 | E4, R3, E4, R4> = {}
): Layer.Layer<never, TapError, Connector | Exclude<R | R2 | R3 | R4, Scope.Scope>> =>
  Layer.unwrapScoped(
    Effect.map(prepare(options), ({ deliveries, socket, toHandler }) =>
      ReconnectingSocket.layer(socket, toHandler(handler, layerOptions.onParseFailure), {
        ...layerOptions,
        concurrency: layerOptions.concurrency ?? defaultConcurrency
      }).pipe(Layer.provide(Layer.effect(Connector, Effect.map(Connector, deliveries.counting))))
    )
  ) as Layer.Layer<never, TapError, Connector | Exclude<R | R2 | R3 | R4, Scope.Scope>>

/**
 * What {@link layerConfig} reads from the configuration.
 *
 * @category models
 * @since 0.1.0
 */
export type ConfigOptions = Pick<
  Options,
  "acks" | "collections" | "liveOnly" | "maxInFlight" | "name" | "password" | "url" | "userAgent" | "windowSize"
>

/**
 * Provides a channel of a Tap server whose address and password the configuration holds.
 *
 * **Errors** `ConfigError` when something is missing, or is nothing that the constructor takes.
 *
 * **Example**
 * ```ts
 * import { Config } from "effect"
 * import { Tap } from "effect-periscope/socket"
 *
 * const TapLive = Tap.layerConfig({
 *   url: Config.string("TAP_URL"),
 *   password: Config.redacted("TAP_ADMIN_PASSWORD")
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Config.Wrap<ConfigOptions>
): Layer.Layer<Tap, TapError | ConfigError.ConfigError, Connector> =>
  Layer.unwrapEffect(
    Effect.flatMap(Config.unwrap(config), (options) =>
      Effect.try({
        try: () => {
          settingsOf(socketOptions(options, tapEndpoint.make("Tap", options), () => undefined))
          return layer(options)
        },
        catch: (error) => ConfigError.InvalidData([], error instanceof Error ? error.message : "Tap: not valid.")
      })
    )
  )

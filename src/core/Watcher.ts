/**
 * Watches sources: polls them on a schedule, keeps their state, and delivers what changed.
 *
 * A watcher retries what fails for as long as it is asked to, never polls twice at once, and stops with the fiber that
 * consumes it. With a checkpoint every change is delivered until its commit is saved, across crashes; without one the state
 * lives in memory.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Subscribable from "effect/Subscribable"
import * as Tracer from "effect/Tracer"
import type * as Change from "./Change.js"
import type { CheckpointError } from "./Checkpoints.js"
import { Checkpoints } from "./Checkpoints.js"
import { Conflated } from "./conflated.js"
import type { Handed } from "./delivery.js"
import { DeliveryRules, describe } from "./delivery.js"
import { Engine } from "./engine.js"
import type { HandlerOptions } from "./handling.js"
import * as handling from "./handling.js"
import * as record from "./record.js"
import * as settings from "./settings.js"
import type { Source, Watchable } from "./Source.js"
import { provideContext } from "./Source.js"
import * as WatchMetrics from "./WatchMetrics.js"
import type { WatchStatus } from "./WatchStatus.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Delivery,
  /**
   * @category models
   * @since 0.1.0
   */
  HandlerOptions
} from "./handling.js"

/**
 * How a source is watched. `E` is the source's error, `R` what the schedules need.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in E = never, out R = never> {
  /** The pause between the end of a delivery and the next poll [30 seconds]. */
  readonly interval?: Duration.DurationInput | undefined
  /** Decides the pauses instead of `interval`; the watch ends when it ends. */
  readonly schedule?: Schedule.Schedule<unknown, unknown, R> | undefined
  /** Decides over failed polls instead of W2's backoff; the watch fails with the last error when it ends. */
  readonly retry?: Schedule.Schedule<unknown, E, R> | undefined
  /** The longest wait after failed polls, without `retry` [32 times the interval]. */
  readonly maxBackoff?: Duration.DurationInput | undefined
  /** The longest wait that an error's `retryAfter` can ask for [1 hour]. */
  readonly maxRetryAfter?: Duration.DurationInput | undefined
  /** Bound of one poll [the source's own, 2 minutes]. */
  readonly timeout?: Duration.DurationInput | undefined
  /** `"emit"` reports what is there at first sight as Added, `"suppress"` takes it as known [`"emit"`]. */
  readonly initial?: "emit" | "suppress" | undefined
  /** The first poll waits a random part of it, so that a fleet does not poll at once [zero]. */
  readonly initialJitter?: Duration.DurationInput | undefined
  /** Keeps state and undelivered changes under this name in `Checkpoints` [in memory]. */
  readonly checkpoint?: string | undefined
  /** The most changes of one batch [all of one poll]. */
  readonly batchSize?: number | undefined
  /** How many batches may be handed out and not committed; then polling waits [16]. */
  readonly maxInFlight?: number | undefined
  /** How many changes may be parked; then a failing handler stops the watch [1000]. */
  readonly maxParked?: number | undefined
  /** How long a new state without changes may stay unsaved [1 minute]. */
  readonly saveInterval?: Duration.DurationInput | undefined
  /** Bound of one save [30 seconds]. */
  readonly saveTimeout?: Duration.DurationInput | undefined
}

type Has<O, K extends string> = K extends keyof O
  ? Exclude<O[K & keyof O], undefined> extends never
    ? false
    : true
  : false

/**
 * The error of a watch: without `retry` only what is fatal by its type, with `retry` all of the source's errors; with
 * `checkpoint` also {@link CheckpointError}.
 *
 * @category type-level
 * @since 0.1.0
 */
export type Failure<E, O> =
  | (Has<O, "retry"> extends true ? E : Extract<E, { readonly isFatal: true }>)
  | (Has<O, "checkpoint"> extends true ? CheckpointError : never)

/**
 * The services that the options of a watch ask for.
 *
 * @category type-level
 * @since 0.1.0
 */
export type Services<O> =
  | (Has<O, "checkpoint"> extends true ? Checkpoints : never)
  | (O extends { readonly schedule?: Schedule.Schedule<infer _A, infer _I, infer R> | undefined } ? Known<R> : never)
  | (O extends { readonly retry?: Schedule.Schedule<infer _A, infer _I, infer R> | undefined } ? Known<R> : never)

type Known<R> = unknown extends R ? never : R

/**
 * Changes that were found by one poll and accepted together with the state that knows them.
 *
 * **Details** `commit` says that they were handled; it returns when that is saved. Batches may be committed in any order:
 * after a crash everything behind the first uncommitted one comes again. `ids` are stable over redelivery. `observedAt` is in
 * epoch milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Batch<out A, out E = never> {
  readonly n: number
  readonly changes: ReadonlyArray<Change.Change<A>>
  readonly ids: ReadonlyArray<string>
  readonly observedAt: number
  readonly redelivered: boolean
  readonly commit: Effect.Effect<void, E>
}

/**
 * A change whose handler failed for good. `observedAt` and `parkedAt` are in epoch milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface ParkedChange {
  readonly id: string
  readonly key: string
  readonly type: Change.Change<unknown>["_tag"]
  readonly error: string
  readonly observedAt: number
  readonly parkedAt: number
}

/**
 * One watch of one source. It has one consumer at a time: `changes`, `batches`, `runForEach` or `runForEachBatch`; it polls
 * only while that one asks for more.
 *
 * @category models
 * @since 0.1.0
 */
export interface Watcher<out A, out E = never> {
  readonly name: string
  /** A live view, for watchers without a checkpoint: there is nothing to commit. */
  readonly changes: Stream.Stream<Change.Change<A>, E>
  readonly batches: Stream.Stream<Batch<A, E>, E>
  /** Runs a function for each change, commits after it returned, and ends with the watch. */
  readonly runForEach: <X, E2 = never, R2 = never, R3 = never>(
    handler: (change: Change.Change<A>, delivery: handling.Delivery) => Effect.Effect<X, E2, R2>,
    options?: HandlerOptions<A, E2, R3>
  ) => Effect.Effect<void, E | E2, R2 | R3>
  /** Runs a function for each batch, and commits after it returned. */
  readonly runForEachBatch: <X, E2 = never, R2 = never, R3 = never>(
    handler: (batch: Omit<Batch<A>, "commit">) => Effect.Effect<X, E2, R2>,
    options?: Pick<HandlerOptions<A, E2, R3>, "handlerRetry">
  ) => Effect.Effect<void, E | E2, R2 | R3>
  /** What it does now, and every newer status as far as the reader keeps up. */
  readonly status: Subscribable.Subscribable<WatchStatus>
  /** Asks for a poll now: a hint that something may have changed. */
  readonly poke: Effect.Effect<void>
  /** Waits until the first complete observation of this watcher has been handled. Fails if the watch does before. */
  readonly awaitSynced: Effect.Effect<void, E>
  /** Releases the removals that are held back. */
  readonly approve: Effect.Effect<void>
  /** Stops gracefully: no new poll; waits until what was handed out is handled and committed. */
  readonly drain: Effect.Effect<void>
  /** The changes that were put aside. */
  readonly parked: Effect.Effect<ReadonlyArray<ParkedChange>>
  /** Hands a parked change to the handler once more; false: there is none of that id. */
  readonly redrive: (id: string) => Effect.Effect<boolean>
  /** Forgets a parked change; false: there is none of that id. */
  readonly drop: (id: string) => Effect.Effect<boolean, E>
}

/** Claims and reads the checkpoint of a source. */
const openStore = (
  source: Source<unknown, unknown, unknown>,
  checkpoint: string,
  checkpoints: Context.Tag.Service<typeof Checkpoints>,
  scope: Scope.Scope,
  rules: Context.Tag.Service<typeof DeliveryRules>
) =>
  Effect.gen(function* () {
    const { identity, item, replays, state } = source.definition
    const claim = yield* Scope.extend(checkpoints.claim(checkpoint), scope)
    const codec: record.RecordCodec<unknown, unknown> = {
      checkpoint,
      identity,
      state,
      item,
      outbox: replays ? () => [] : rules.outbox
    }
    const recorder = new record.Recorder(codec, claim)
    if (Option.isNone(claim.stored)) return { recorder, ledger: undefined, undecodable: [] }
    return { recorder, ...(yield* record.load(codec, claim.stored.value)) }
  })

/**
 * Makes a watcher. It polls only while it is consumed, and gives up its checkpoint with its scope.
 *
 * **Details** The services of the source and of the schedules are taken here, so what the watcher gives needs none.
 *
 * **Errors** Options that contradict each other (a cap below the interval, a zero or infinite interval) die with a sentence
 * that names the option and the value.
 *
 * **Example**
 * ```ts
 * import { Console, Effect } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   const watcher = yield* Watcher.make(flags, { interval: "10 seconds" })
 *   yield* Effect.forkScoped(watcher.runForEach((change) => Console.log(change._tag, change.key)))
 *   yield* watcher.awaitSynced
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A, E, R, const O extends Options<E, unknown> = {}>(
  source: Watchable<A, E, R>,
  options?: O
): Effect.Effect<Watcher<A, Failure<E, O>>, never, R | Services<O> | Scope.Scope> =>
  Effect.map(
    makeEngine(source, options),
    // of the source's errors only those come out that `Failure` says, and CheckpointError only with a checkpoint
    (engine) => fromEngine(engine, options?.checkpoint) as Watcher<A, Failure<E, O>>
  )

const makeEngine = <A, E, R, O extends Options<E, unknown>>(
  watchable: Watchable<A, E, R>,
  options: O | undefined
): Effect.Effect<Engine<A, E>, never, R | Services<O> | Scope.Scope> =>
  Effect.gen(function* () {
    // what the schedules need is in `Services`
    const input = (options ?? {}) as Options<E, R>
    const source: Source<A, E, R> = Context.isTag(watchable) ? yield* watchable : watchable
    const { definition } = source
    const read = settings.make(input, definition.timeout)
    const context = Context.omit(Tracer.ParentSpan)(
      // Checkpoints are among the services if there is a checkpoint: `Services` says so
      (yield* Effect.context<R | Services<O> | Scope.Scope>()) as Context.Context<R | Checkpoints | Scope.Scope>
    ) as Context.Context<R | Checkpoints | Scope.Scope>
    const rules = yield* DeliveryRules
    const scope = Context.get(context, Scope.Scope)
    const engine = new Engine<A, E>({
      definition: provideContext(source, context).definition,
      settings: read,
      ticks: input.schedule === undefined ? undefined : new settings.Steps(provideSchedule(input.schedule, context)),
      retry: input.retry === undefined ? undefined : new settings.Steps(provideSchedule(input.retry, context)),
      open:
        input.checkpoint === undefined
          ? undefined
          : openStore(source, input.checkpoint, Context.get(context, Checkpoints), scope, rules),
      rules
    })
    const unregister = WatchMetrics.register(engine.status.read)
    yield* Scope.addFinalizer(scope, Effect.sync(unregister))
    return engine
  })

const provideSchedule = <Out, In, R>(
  schedule: Schedule.Schedule<Out, In, R>,
  context: Context.Context<R>
): Schedule.Schedule<Out, In> => Schedule.mapInputContext(schedule, (_: Context.Context<never>) => context)

const toBatch = <A, E>(engine: Engine<A, E>, handed: Handed<A>): Batch<A, CheckpointError> => {
  const { changes, ids, n, observedAt, parked, redelivered } = handed
  const commit = parked === undefined ? engine.delivery.commit(n) : Effect.asVoid(engine.delivery.unpark(parked))
  return { n, changes, ids, observedAt, redelivered, commit }
}

/** A stream of what the engine hands out; the consumer's place is held while it runs. */
const stream = <A, E, B>(
  engine: Engine<A, E>,
  beforePull: () => void,
  isAbandoned: boolean,
  f: (handed: Handed<A>) => Chunk.Chunk<B>
): Stream.Stream<B, E | CheckpointError> => {
  const pull = Effect.matchEffect(
    Effect.suspend(() => {
      beforePull()
      return engine.pull
    }),
    {
      onFailure: (error) => Effect.fail(Option.some(error)),
      onSuccess: (handed) => (handed === undefined ? Effect.fail(Option.none()) : Effect.succeed(f(handed)))
    }
  )
  return Stream.unwrapScoped(
    Effect.as(
      Effect.acquireRelease(engine.begin, () => engine.leave(isAbandoned)),
      Stream.repeatEffectChunkOption(pull)
    )
  )
}

const fromEngine = <A, E>(engine: Engine<A, E>, checkpoint: string | undefined): Watcher<A, E | CheckpointError> => {
  const { delivery } = engine
  return {
    name: engine.name,
    changes:
      checkpoint === undefined
        ? // what was handed out before the consumer asks for more has been handled
          stream(
            engine,
            () => delivery.commitHanded(),
            true,
            (handed) => Chunk.unsafeFromArray(handed.changes)
          )
        : Stream.dieMessage(
            `Watcher: "${engine.name}" has the checkpoint "${checkpoint}", and \`changes\` cannot commit; use \`batches\`, \`runForEach\` or \`runForEachBatch\`.`
          ),
    batches: stream(
      engine,
      () => {},
      false,
      (handed) => Chunk.of(toBatch(engine, handed))
    ),
    runForEach: (handler, options) => handling.forEach(engine, handler, options ?? {}),
    runForEachBatch: (handler, options) => handling.forEachBatch(engine, handler, options?.handlerRetry),
    status: engine.status.subscribable,
    poke: Effect.sync(() => engine.poke()),
    awaitSynced: engine.awaitSynced,
    approve: Effect.sync(() => engine.approve()),
    drain: engine.drain,
    parked: Effect.sync(() =>
      delivery.ledger.parked.map(({ change, error, id, observedAt, parkedAt }) => ({
        id,
        key: change.key,
        type: change._tag,
        error,
        observedAt,
        parkedAt
      }))
    ),
    redrive: (id) => Effect.sync(() => delivery.redrive(id)),
    drop: (id) => delivery.unpark(id)
  }
}

/**
 * Watches a source as a stream of changes: a live view whose state lives in memory, safe under every operator.
 *
 * **When to use** For caches, dashboards, reloads: whatever starts from what is there now. To act on every change across
 * restarts, use {@link runForEach} or {@link batches} with a checkpoint.
 *
 * **Details** Polls when the consumer asks for more, so a slow consumer slows the source. Ends with its fiber.
 *
 * **Example**
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 *
 * const firstThree = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   return yield* Watcher.changes(flags, { interval: "1 second" }).pipe(Stream.take(3), Stream.runCollect)
 * })
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const changes = <A, E, R, const O extends Omit<Options<E, unknown>, "checkpoint"> = {}>(
  source: Watchable<A, E, R>,
  options?: O & { readonly checkpoint?: never }
): Stream.Stream<Change.Change<A>, Failure<E, O>, R | Services<O>> =>
  Stream.unwrapScoped(Effect.map(make<A, E, R, O>(source, options), (watcher) => watcher.changes))

/**
 * Watches a source as a stream of batches, each to be committed when it was handled. With `checkpoint` what is not committed
 * comes again after a crash, and what is does not.
 *
 * **Gotchas** Polling waits while `maxInFlight` [16] batches are not committed.
 *
 * @category watching
 * @since 0.1.0
 */
export const batches = <A, E, R, const O extends Options<E, unknown> = {}>(
  source: Watchable<A, E, R>,
  options?: O
): Stream.Stream<Batch<A, Failure<E, O>>, Failure<E, O>, R | Services<O>> =>
  Stream.unwrapScoped(Effect.map(make<A, E, R, O>(source, options), (watcher) => watcher.batches))

/**
 * Watches a source and runs a function for each change: committed after your function returned. A plain loop, cheaper than a
 * stream that is drained.
 *
 * **Errors** A handler that fails is tried again by `handlerRetry`; then it ends the watch with its error, or, with
 * `onFailure: "park"`, its change is put aside.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* Watcher.runForEach(flags, (change) => Effect.log(change._tag, change.key), {
 *     interval: "10 seconds",
 *     checkpoint: "flags"
 *   })
 * }).pipe(Effect.provide(Checkpoints.layerMemory))
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const runForEach = <A, E, R, X, E2 = never, R2 = never, R3 = never, const O extends Options<E, unknown> = {}>(
  source: Watchable<A, E, R>,
  handler: (change: Change.Change<A>, delivery: handling.Delivery) => Effect.Effect<X, E2, R2>,
  options?: O & HandlerOptions<A, E2, R3>
): Effect.Effect<void, Failure<E, O> | E2, R | R2 | R3 | Services<O>> =>
  Effect.scoped(
    Effect.flatMap(make<A, E, R, O>(source, options), (watcher) => watcher.runForEach(handler, options))
  ) as Effect.Effect<void, Failure<E, O> | E2, R | R2 | R3 | Services<O>>

/**
 * Watches a source and runs a function for each batch: committed after your function returned.
 *
 * @category watching
 * @since 0.1.0
 */
export const runForEachBatch = <
  A,
  E,
  R,
  X,
  E2 = never,
  R2 = never,
  R3 = never,
  const O extends Options<E, unknown> = {}
>(
  source: Watchable<A, E, R>,
  handler: (batch: Omit<Batch<A>, "commit">) => Effect.Effect<X, E2, R2>,
  options?: O & Pick<HandlerOptions<A, E2, R3>, "handlerRetry">
): Effect.Effect<void, Failure<E, O> | E2, R | R2 | R3 | Services<O>> =>
  Effect.scoped(
    Effect.flatMap(make<A, E, R, O>(source, options), (watcher) => watcher.runForEachBatch(handler, options))
  ) as Effect.Effect<void, Failure<E, O> | E2, R | R2 | R3 | Services<O>>

/**
 * Makes one complete observation, all its pages, in one attempt each, and gives its changes.
 *
 * **Details** With `checkpoint` it says what changed since the last time, and commits that before it returns. To handle each
 * change before it is committed, use {@link runForEach} with `{ schedule: Schedule.stop, retry: Schedule.stop }`.
 *
 * @category watching
 * @since 0.1.0
 */
export const once = <A, E, R, const O extends Omit<Options<E, unknown>, "schedule" | "retry"> = {}>(
  source: Watchable<A, E, R>,
  options?: O
): Effect.Effect<ReadonlyArray<Change.Change<A>>, Failure<E, O & { readonly retry: true }>, R | Services<O>> =>
  Effect.suspend(() => {
    const found: Array<Change.Change<A>> = []
    const collect = (change: Change.Change<A>): Effect.Effect<void> => Effect.sync(() => void found.push(change))
    const once: Options<E> = { ...options, schedule: Schedule.stop, retry: Schedule.stop }
    return Effect.as(runForEach(source, collect, once), found)
  }) as Effect.Effect<ReadonlyArray<Change.Change<A>>, Failure<E, O & { readonly retry: true }>, R | Services<O>>

/**
 * Watches a source of one document for its newest value: a configuration that reloads itself.
 *
 * **Details** Waits until there is a value. `get` gives the newest one, `changes` that and every newer one as far as the reader
 * keeps up. While the document is absent, the last value stands. If the watch fails, `get` and `changes` fail with its error.
 *
 * @category watching
 * @since 0.1.0
 */
export const latest = <A, E, R, const O extends Omit<Options<E, unknown>, "checkpoint"> = {}>(
  source: Watchable<A, E, R>,
  options?: O & { readonly checkpoint?: never }
): Effect.Effect<Subscribable.Subscribable<A, Failure<E, O>>, Failure<E, O>, R | Services<O> | Scope.Scope> =>
  Effect.gen(function* () {
    let newest: Exit.Exit<A, Failure<E, O>> | undefined
    const value = new Conflated(() => newest)
    const set = (next: Exit.Exit<A, Failure<E, O>>): Effect.Effect<void> =>
      Effect.sync(() => {
        newest = next
        value.touch()
      })
    const watcher = yield* make<A, E, R, O>(source, options)
    yield* watcher
      .runForEach((change) => (change._tag === "Removed" ? Effect.void : set(Exit.succeed(change.value))))
      .pipe(
        Effect.catchAllCause((cause) => set(Exit.failCause(cause))),
        Effect.forkScoped
      )
    const get = Effect.suspend(() => newest ?? Effect.never)
    yield* value.until(() => newest !== undefined)
    yield* get
    return Subscribable.make({ get, changes: Stream.mapEffect(value.changes, () => get) })
  })

/**
 * How a background watch is run: its options, those of its handler, and `onStop`, which gets the cause when it ends by itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface LayerOptions<in A, in E2, in F, out R = never> extends HandlerOptions<A, E2, R> {
  readonly onStop?: ((cause: Cause.Cause<F | E2>) => Effect.Effect<void, never, R>) | undefined
}

/**
 * Watches a source in the background of a layer, until the layer's scope closes.
 *
 * **Details** Without `onStop` a failing handler is tried again for ever (1 second doubling to 1 minute), visible in status,
 * metrics and the log. What ends the watch for good is logged as an error, and given to `onStop`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <A, E, R, X, E2 = never, R2 = never, R3 = never, const O extends Options<E, unknown> = {}>(
  source: Watchable<A, E, R>,
  handler: (change: Change.Change<A>, delivery: handling.Delivery) => Effect.Effect<X, E2, R2>,
  options?: O & LayerOptions<A, E2, Failure<E, O>, R3>
): Layer.Layer<never, never, Exclude<R | R2 | R3 | Services<O>, Scope.Scope>> =>
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const engine = yield* makeEngine<A, E, R, O>(source, options)
      const onStop = options?.onStop as ((cause: Cause.Cause<unknown>) => Effect.Effect<void, never, R3>) | undefined
      const isPatient = onStop === undefined && options?.handlerRetry === undefined && options?.onFailure !== "park"
      const run = handling.forEach(
        engine,
        handler,
        isPatient ? { ...options, handlerRetry: handling.forever } : (options ?? {})
      )
      yield* run.pipe(
        Effect.tapErrorCause((cause) =>
          Cause.isInterruptedOnly(cause)
            ? Effect.void
            : Effect.zipRight(
                Effect.logError(`${engine.name}: the watch has ended: ${describe(cause)}`),
                onStop === undefined ? Effect.void : onStop(cause)
              )
        ),
        Effect.forkScoped
      )
    })
  ) as Layer.Layer<never, never, Exclude<R | R2 | R3 | Services<O>, Scope.Scope>>

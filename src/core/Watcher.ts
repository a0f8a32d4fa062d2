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
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Subscribable from "effect/Subscribable"
import type * as Change from "./Change.js"
import type { CheckpointError } from "./Checkpoints.js"
import { Conflated } from "./conflated.js"
import type { Handed } from "./delivery.js"
import { describe } from "./describe.js"
import type { Engine } from "./engine.js"
import { makeEngine, withEngine } from "./engines.js"
import type { Delivery, HandlerOptions } from "./handling.js"
import * as handling from "./handling.js"
import type { Watchable } from "./Source.js"
import type { AnySchedule, Failure, Options, Services, Telling, Told } from "./watchOptions.js"
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
export type {
  /**
   * @category type-level
   * @since 0.1.0
   */
  Failure,
  /**
   * @category models
   * @since 0.1.0
   */
  Options,
  /**
   * @category type-level
   * @since 0.1.0
   */
  Services
} from "./watchOptions.js"

/**
 * Changes that were found by one poll and accepted together with the state that knows them.
 *
 * **Details** `commit` says that they were handled; it returns when that is saved. Batches may be committed in any order:
 * after a crash the first uncommitted one, and everything behind it, comes again. `n` grows with each batch. `ids` are stable
 * over redelivery, one for each change. `observedAt` is in epoch milliseconds.
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
  /** For watchers with and without a checkpoint: polling waits while too many are not committed. */
  readonly batches: Stream.Stream<Batch<A, E>, E>
  /** Runs a function for each change, commits after it returned, and ends with the watch. */
  readonly runForEach: <X, E2 = never, R2 = never, R3 = never>(
    handler: (change: Change.Change<A>, delivery: Delivery) => Effect.Effect<X, E2, R2>,
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
  /**
   * Stops gracefully: no new poll; waits until what was handed out is handled and committed. That is as long as a handler, or
   * a store that is away, takes: bound it with `Effect.timeout`.
   */
  readonly drain: Effect.Effect<void>
  /** The changes that were put aside. */
  readonly parked: Effect.Effect<ReadonlyArray<ParkedChange>>
  /** Hands a parked change to the handler once more; false: there is none of that id. */
  readonly redrive: (id: string) => Effect.Effect<boolean>
  /** Forgets a parked change; false: there is none of that id. */
  readonly drop: (id: string) => Effect.Effect<boolean, E>
}

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
 * import { Effect } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   const watcher = yield* Watcher.make(flags, { interval: "10 seconds" })
 *   const seen: Array<string> = []
 *   yield* Effect.forkScoped(watcher.runForEach(({ key }) => Effect.sync(() => seen.push(key))))
 *   yield* watcher.awaitSynced
 *   return { seen, polls: (yield* watcher.status.get).polls }
 * }).pipe(Effect.scoped)
 *
 * await Effect.runPromise(program) // => { seen: ["dark-mode"], polls: 1 }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A, E, R, const O extends Options<E, unknown> = {}>(
  source: Watchable<A, E, R>,
  options?: O
): Effect.Effect<Watcher<A, Failure<E, O>>, never, R | Services<O> | Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) =>
    Effect.map(makeEngine(source, options, scope), (engine) => {
      const watcher: Watcher<A, E | CheckpointError> = new EngineWatcher(engine, options?.checkpoint)
      // of the source's errors only those come out that `Failure` says, and CheckpointError only with a checkpoint
      return watcher as Watcher<A, Failure<E, O>>
    })
  )

const toBatch = <A, E>(engine: Engine<A, E>, handed: Handed<A>): Batch<A, CheckpointError> => {
  const { changes, ids, n, observedAt, parked, redelivered } = handed
  const commit = parked === undefined ? engine.delivery.commit(n) : Effect.asVoid(engine.delivery.unpark(parked))
  return { n, changes, ids, observedAt, redelivered, commit }
}

type Pull<B, E> = Effect.Effect<Chunk.Chunk<B>, Option.Option<E | CheckpointError>>

/** Takes the consumer's place for the rest of the scope, and gives what pulls live changes. */
const pullChanges = <A, E>(engine: Engine<A, E>): Effect.Effect<Pull<Change.Change<A>, E>, never, Scope.Scope> =>
  pullWith(engine, true, (handed) => Chunk.unsafeFromArray(handed.changes))

const pullBatches = <A, E>(
  engine: Engine<A, E>
): Effect.Effect<Pull<Batch<A, CheckpointError>, E>, never, Scope.Scope> =>
  pullWith(engine, false, (handed) => Chunk.of(toBatch(engine, handed)))

const pullWith = <A, E, B>(
  engine: Engine<A, E>,
  isLive: boolean,
  f: (handed: Handed<A>) => Chunk.Chunk<B>
): Effect.Effect<Pull<B, E>, never, Scope.Scope> =>
  Effect.as(
    Effect.acquireRelease(engine.begin(), (_, exit) => engine.leave(isLive || Exit.isFailure(exit))),
    Effect.suspend(() => {
      // what was handed out before the consumer asks for more has been handled
      if (isLive) engine.delivery.commitHanded()
      return Effect.matchEffect(engine.pull(), {
        onFailure: (error) => Effect.fail(Option.some(error)),
        onSuccess: (handed) => (handed === undefined ? Effect.fail(Option.none()) : Effect.succeed(f(handed)))
      })
    })
  )

class EngineWatcher<A, E> implements Watcher<A, E | CheckpointError> {
  constructor(
    private readonly engine: Engine<A, E>,
    private readonly checkpoint: string | undefined
  ) {}

  get name(): string {
    return this.engine.name
  }

  get changes(): Stream.Stream<Change.Change<A>, E | CheckpointError> {
    return this.checkpoint === undefined
      ? Stream.fromPull(pullChanges(this.engine))
      : Stream.dieMessage(
          `Watcher: "${this.name}" has the checkpoint "${this.checkpoint}", and \`changes\` cannot commit; use \`batches\`, \`runForEach\` or \`runForEachBatch\`.`
        )
  }

  get batches(): Stream.Stream<Batch<A, CheckpointError>, E | CheckpointError> {
    return Stream.fromPull(pullBatches(this.engine))
  }

  runForEach<X, E2 = never, R2 = never, R3 = never>(
    handler: (change: Change.Change<A>, delivery: Delivery) => Effect.Effect<X, E2, R2>,
    options?: HandlerOptions<A, E2, R3>
  ): Effect.Effect<void, E | E2 | CheckpointError, R2 | R3> {
    return handling.forEach(this.engine, handler, options ?? {})
  }

  runForEachBatch<X, E2 = never, R2 = never, R3 = never>(
    handler: (batch: Omit<Batch<A>, "commit">) => Effect.Effect<X, E2, R2>,
    options?: Pick<HandlerOptions<A, E2, R3>, "handlerRetry">
  ): Effect.Effect<void, E | E2 | CheckpointError, R2 | R3> {
    return handling.forEachBatch(this.engine, handler, options?.handlerRetry)
  }

  get status(): Subscribable.Subscribable<WatchStatus> {
    return this.engine.status.subscribable
  }

  get poke(): Effect.Effect<void> {
    return Effect.sync(() => this.engine.poke())
  }

  get awaitSynced(): Effect.Effect<void, E | CheckpointError> {
    return this.engine.awaitSynced
  }

  get approve(): Effect.Effect<void> {
    return Effect.sync(() => this.engine.approve())
  }

  get drain(): Effect.Effect<void> {
    return this.engine.drain
  }

  get parked(): Effect.Effect<ReadonlyArray<ParkedChange>> {
    return Effect.sync(() =>
      this.engine.delivery.ledger.parked.map(({ change, error, id, observedAt, parkedAt }) => ({
        id,
        key: change.key,
        type: change._tag,
        error,
        observedAt,
        parkedAt
      }))
    )
  }

  redrive(id: string): Effect.Effect<boolean> {
    return Effect.sync(() => this.engine.delivery.redrive(id))
  }

  drop(id: string): Effect.Effect<boolean, CheckpointError> {
    return this.engine.delivery.unpark(id)
  }
}

const streamOf = <A, E, R, O extends Options<E, unknown>, B>(
  source: Watchable<A, E, R>,
  options: O | undefined,
  pull: (engine: Engine<A, E>) => Effect.Effect<Pull<B, E>, never, Scope.Scope>
): Stream.Stream<B, Failure<E, O>, R | Services<O>> =>
  Stream.fromPull(
    Effect.flatMap(Effect.scope, (scope) => Effect.flatMap(makeEngine(source, options, scope), pull))
  ) as Stream.Stream<B, Failure<E, O>, R | Services<O>>

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
 * import { Chunk, Effect, Stream } from "effect"
 * import { Change, Source, Watcher } from "effect-periscope"
 *
 * const firstTwo = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   yield* flags.set("beta", false)
 *   return yield* Watcher.changes(flags).pipe(Stream.take(2), Stream.runCollect)
 * })
 *
 * const changes = Chunk.toReadonlyArray(await Effect.runPromise(firstTwo))
 * changes // => [Change.added("beta", false), Change.added("dark-mode", true)]
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const changes = <A, E, R, const O extends Omit<Options<E, unknown>, "checkpoint"> = {}>(
  source: Watchable<A, E, R>,
  options?: O & { readonly checkpoint?: never }
): Stream.Stream<Change.Change<A>, Failure<E, O>, R | Services<O>> =>
  streamOf<A, E, R, O, Change.Change<A>>(source, options, pullChanges)

/**
 * Watches a source as a stream of batches, each to be committed when it was handled. With `checkpoint` what is not committed
 * comes again after a crash, and what is does not.
 *
 * **Gotchas** Polling waits while `maxInFlight` [16] batches are handed out, counted from the first uncommitted one.
 *
 * **Example**
 * ```ts
 * import { Effect, Option, Stream } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   const batches = Watcher.batches(flags, { checkpoint: "flags" })
 *   yield* Stream.runHead(batches) // ends without a commit
 *   return yield* batches.pipe(
 *     Stream.mapEffect(({ commit, ids, redelivered }) => Effect.as(commit, { ids, redelivered })),
 *     Stream.runHead
 *   )
 * }).pipe(Effect.provide(Checkpoints.layerMemory))
 *
 * await Effect.runPromise(program) // => Option.some({ ids: ["memory:1:0"], redelivered: true })
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const batches = <A, E, R, const O extends Options<E, unknown> = {}>(
  source: Watchable<A, E, R>,
  options?: O
): Stream.Stream<Batch<A, Failure<E, O>>, Failure<E, O>, R | Services<O>> =>
  streamOf<A, E, R, O, Batch<A, Failure<E, O>>>(source, options, pullBatches as never)

/**
 * Watches a source and runs a function for each change: committed after your function returned. A plain loop, cheaper than a
 * stream that is drained.
 *
 * **Errors** A handler that fails is tried again by `handlerRetry`; then it ends the watch with its error, or, with
 * `onFailure: "park"`, its change is put aside.
 *
 * **Example**
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const orders = yield* Source.memory<string>()
 *   const handled: Array<string> = []
 *   const start = Watcher.runForEach(orders, ({ key }, { id }) => Effect.sync(() => handled.push(`${key} ${id}`)), {
 *     checkpoint: "orders",
 *     schedule: Schedule.stop // one observation
 *   })
 *   yield* orders.set("order 1", "tea")
 *   yield* start
 *   yield* orders.set("order 2", "cake")
 *   yield* start // order 1 was committed
 *   return handled
 * }).pipe(Effect.provide(Checkpoints.layerMemory))
 *
 * await Effect.runPromise(program) // => ["order 1 memory:1:0", "order 2 memory:2:0"]
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const runForEach = <
  A,
  E,
  R,
  X,
  E2 = never,
  R2 = never,
  R3 = never,
  C extends string | undefined = undefined,
  S extends AnySchedule | undefined = undefined,
  T extends Schedule.Schedule<unknown, E, unknown> | undefined = undefined
>(
  source: Watchable<A, E, R>,
  handler: (change: Change.Change<A>, delivery: Delivery) => Effect.Effect<X, E2, R2>,
  options?: Telling<E, C, S, T> & HandlerOptions<A, E2, R3>
): Effect.Effect<void, Failure<E, Told<C, S, T>> | E2, R | R2 | R3 | Services<Told<C, S, T>>> =>
  withEngine<A, E, R, Told<C, S, T>, void, E2, R2 | R3>(
    source,
    // the other options say nothing in the types
    options as Told<C, S, T> | undefined,
    (engine) => handling.forEach(engine, handler, options ?? {}) as Effect.Effect<void, E | E2, R2 | R3>
  )

/**
 * Watches a source and runs a function for each batch: committed after your function returned.
 *
 * **Example**
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const orders = yield* Source.memory<string>()
 *   for (const key of ["1", "2", "3"]) yield* orders.set(key, "tea")
 *   const inserted: Array<ReadonlyArray<string>> = []
 *   const insert = (keys: ReadonlyArray<string>) => Effect.sync(() => inserted.push(keys))
 *   yield* Watcher.runForEachBatch(orders, ({ changes }) => insert(changes.map(({ key }) => key)), {
 *     batchSize: 2,
 *     schedule: Schedule.stop // one observation
 *   })
 *   return inserted
 * })
 *
 * await Effect.runPromise(program) // => [["1", "2"], ["3"]]
 * ```
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
  const O extends Options<E, unknown> & HandlerOptions<never, never, unknown> = {}
>(
  source: Watchable<A, E, R>,
  handler: (batch: Omit<Batch<A>, "commit">) => Effect.Effect<X, E2, R2>,
  options?: O & Pick<HandlerOptions<A, E2, R3>, "handlerRetry">
): Effect.Effect<void, Failure<E, O> | E2, R | R2 | R3 | Services<O>> =>
  withEngine<A, E, R, O, void, E2, R2 | R3>(
    source,
    options,
    (engine) => handling.forEachBatch(engine, handler, options?.handlerRetry) as Effect.Effect<void, E | E2, R2 | R3>
  )

/**
 * Makes one complete observation, all its pages, in one attempt each, and gives its changes.
 *
 * **Details** With `checkpoint` it says what changed since the last time, and commits that before it returns. To handle each
 * change before it is committed, use {@link runForEach} with `{ schedule: Schedule.stop, retry: Schedule.stop }`.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Change, Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   const look = Watcher.once(flags, { checkpoint: "flags" })
 *   yield* flags.set("dark-mode", true)
 *   yield* look
 *   yield* flags.set("beta", false)
 *   return yield* look
 * }).pipe(Effect.provide(Checkpoints.layerMemory))
 *
 * await Effect.runPromise(program) // => [Change.added("beta", false)]
 * ```
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
    const once: Options<E> = { ...options, schedule: Schedule.stop, retry: undefined }
    const run = withEngine<A, E, R, typeof once, void, never, never>(source, once, (engine) => {
      engine.isOneShot = true
      return handling.forEach(engine, collect, {}) as Effect.Effect<void, E>
    })
    return Effect.as(run, found)
  }) as Effect.Effect<ReadonlyArray<Change.Change<A>>, Failure<E, O & { readonly retry: true }>, R | Services<O>>

/**
 * Watches a source of one document for its newest value: a configuration that reloads itself.
 *
 * **Details** Waits until there is a value. `get` gives the newest one, `changes` that and every newer one as far as the reader
 * keeps up. While the document is absent, the last value stands. If the watch fails, `get` and `changes` fail with its error.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 * import { VirtualClock } from "effect-periscope/testing"
 *
 * const program = Effect.gen(function* () {
 *   const source = yield* Source.memory<number>()
 *   yield* source.set("limits.json", 100)
 *   const limit = yield* Watcher.latest(source, { interval: "30 seconds" })
 *   const before = yield* limit.get
 *   yield* source.set("limits.json", 200)
 *   yield* Effect.sleep("31 seconds")
 *   return [before, yield* limit.get]
 * }).pipe(Effect.scoped, VirtualClock.run) // no real wait
 *
 * await Effect.runPromise(program) // => [100, 200]
 * ```
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
        Effect.zipRight(
          Effect.suspend(() =>
            newest === undefined
              ? set(
                  Exit.die(
                    new Error(`Watcher.latest: the \`schedule\` of "${watcher.name}" ended before there was a value.`)
                  )
                )
              : Effect.void
          )
        ),
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
 * **Details** A failing handler is tried again for ever (1 second doubling to 1 minute), visible in status, metrics and the
 * log, unless `onStop`, `handlerRetry` or `onFailure: "park"` is given. What ends the watch for good is logged as an error, and
 * given to `onStop`.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 *
 * class Flags extends Source.Tag("app/Flags")<Flags, boolean>() {}
 *
 * // runs from the start of the application to its end
 * const FlagsLog: Layer.Layer<never, never, Flags> = Watcher.layer(
 *   Flags,
 *   (change) => Effect.log(change._tag, change.key),
 *   { interval: "1 minute" }
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <
  A,
  E,
  R,
  X,
  E2 = never,
  R2 = never,
  R3 = never,
  C extends string | undefined = undefined,
  S extends AnySchedule | undefined = undefined,
  T extends Schedule.Schedule<unknown, E, unknown> | undefined = undefined
>(
  source: Watchable<A, E, R>,
  handler: (change: Change.Change<A>, delivery: Delivery) => Effect.Effect<X, E2, R2>,
  options?: Telling<E, C, S, T> & LayerOptions<A, E2, Failure<E, Told<C, S, T>>, R3>
): Layer.Layer<never, never, Exclude<R | R2 | R3 | Services<Told<C, S, T>>, Scope.Scope>> =>
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const engine = yield* makeEngine<A, E, R, Told<C, S, T>>(
        source,
        options as Told<C, S, T> | undefined,
        yield* Effect.scope
      )
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
  ) as Layer.Layer<never, never, Exclude<R | R2 | R3 | Services<Told<C, S, T>>, Scope.Scope>>

/**
 * Acts on what changes: an event is only a wake-up, what is to be done is found out by looking.
 *
 * `make` has one reconcile for everything, in ticks that never overlap: a burst of events is one tick, an event during a tick one
 * more, and without events it looks again after a while. `keyed` has one for each key, over a `WorkQueue`. Neither is ever ended
 * by a failure, a defect or the end of a watch.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Subscribable from "effect/Subscribable"
import * as Backoff from "../core/Backoff.js"
import type { KeyedStatus } from "./keying.js"
import { KeyedRunner } from "./keying.js"
import { concurrencyOf, finiteMillis, positiveMillis } from "./options.js"
import type { Result } from "./reconciling.js"
import type { Report, TickReport, TickStatus } from "./ticking.js"
import * as ticking from "./ticking.js"
import type { Event, Watches, WatchServices } from "./watches.js"
import type * as WorkQueue from "./WorkQueue.js"
import { make as makeQueue } from "./WorkQueue.js"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  ReconcileTimeout,
  /**
   * @category errors
   * @since 0.1.0
   */
  Terminal
} from "./reconciling.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Result
} from "./reconciling.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Report,
  /**
   * @category models
   * @since 0.1.0
   */
  TickOutcome,
  /**
   * @category models
   * @since 0.1.0
   */
  TickPhase,
  /**
   * @category models
   * @since 0.1.0
   */
  TickReport,
  /**
   * @category models
   * @since 0.1.0
   */
  TickStatus
} from "./ticking.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Trigger
} from "./tickPlan.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  KeyedStatus
} from "./keying.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  AnyStream,
  /**
   * @category type-level
   * @since 0.1.0
   */
  Event,
  /**
   * @category models
   * @since 0.1.0
   */
  Watches,
  /**
   * @category type-level
   * @since 0.1.0
   */
  WatchServices
} from "./watches.js"

/**
 * The options of both kinds of controllers.
 *
 * @category models
 * @since 0.1.0
 */
export interface CommonOptions<W extends Watches> {
  /** What its metrics, logs and spans are named after: a name of your program. */
  readonly name: string
  /** Which events count; the others are counted, and change nothing [all]. */
  readonly filter?: ((event: Event<W>) => boolean) | undefined
  /** How long one reconcile may take, before it is interrupted and has failed [for ever]. */
  readonly timeout?: Duration.DurationInput | undefined
  /** After what time a reconcile that runs is reported as stuck, again and again [2 minutes]. */
  readonly stuckAfter?: Duration.DurationInput | undefined
  /** How long a layer that closes, or `stop`, waits for what runs, before it interrupts that [10 seconds]. */
  readonly stopWithin?: Duration.DurationInput | undefined
}

/**
 * The options of {@link make}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<W extends Watches, E, R, R2 = never> extends CommonOptions<W> {
  /** Looks at everything, and does what is to be done. */
  readonly reconcile: Effect.Effect<Result | void, E, R>
  /** How long it is to be quiet before a tick [50 milliseconds]. */
  readonly debounce?: Duration.DurationInput | undefined
  /** How long an event waits at most, however many follow [10 times `debounce`]. */
  readonly maxWait?: Duration.DurationInput | undefined
  /** How long after the end of a tick it looks again without an event; `Duration.infinity`: never [30 seconds]. */
  readonly fallbackInterval?: Duration.DurationInput | undefined
  /** When a failed tick is tried again; its input is the error. Where it ends, an event is waited for [{@link defaultRetry}]. */
  readonly retry?: Schedule.Schedule<unknown, unknown, R2> | undefined
  /** How often it reports that it is alive [1 minute]. */
  readonly heartbeat?: Duration.DurationInput | undefined
}

/**
 * When a failed tick is tried again, unless an option says otherwise: after 1 second, doubling to 1 minute. An error's own
 * `retryAfter` wins.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultRetry: Schedule.Schedule<Duration.Duration, unknown> = Backoff.make({
  first: "1 second",
  max: "1 minute"
})

/**
 * A controller of ticks.
 *
 * - `run`: the first tick at once, then on and on; ends when it is stopped.
 * - `tickOnce`: one tick now, also where it does not run: for tests. Never at the same time as another; one that waits for its turn
 *   when the controller is stopped is interrupted.
 * - `reports`: what happens from now on; a slow reader misses the oldest of 256, which `seq` shows.
 * - `status`: what it does now, and every newer status as far as the reader keeps up.
 * - `stop`: no new tick; waits for the running one, at most that long, then interrupts it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Controller {
  readonly name: string
  readonly run: Effect.Effect<void>
  readonly tickOnce: Effect.Effect<TickReport>
  readonly reports: Stream.Stream<Report>
  readonly status: Subscribable.Subscribable<TickStatus>
  readonly stop: (deadline?: Duration.DurationInput) => Effect.Effect<void>
}

const millisOr = (where: string, name: string, input: Duration.DurationInput | undefined, fallback: number): number =>
  input === undefined ? fallback : finiteMillis(where, name, input)

const commonOf = <W extends Watches>(
  where: string,
  watches: W,
  options: CommonOptions<W>,
  context: Context.Context<never>
) => ({
  name: options.name,
  watches: watches.map((watch) => Stream.provideSomeContext(watch as Stream.Stream<unknown, unknown>, context)),
  filter: options.filter as ((event: unknown) => boolean) | undefined,
  timeoutMillis: options.timeout === undefined ? undefined : finiteMillis(where, "timeout", options.timeout),
  stuckMillis: millisOr(where, "stuckAfter", options.stuckAfter, 120_000),
  stopMillis: millisOr(where, "stopWithin", options.stopWithin, 10_000)
})

/**
 * Makes a controller of ticks. It does nothing until it runs.
 *
 * **Details** The first tick comes at once. The first event after it opens a window, which is over when it was quiet for
 * `debounce`, or `maxWait` after that event: then there is one tick for the whole burst. A failed tick is tried again by `retry`,
 * an error with `isTerminal: true` (such as `Terminal`) only with the next event. `requeueAfter` is one deadline: of two the
 * earlier holds. `fallbackInterval` is counted from the end of a tick that succeeded.
 *
 * **Gotchas** A tick that does not end is reported, and blocks the others, unless there is a `timeout`. What cannot be interrupted
 * blocks them even then: two ticks never run at once. A `retry` that dies is logged, and the tick tried again as by default.
 *
 * **Errors** Options that make no sense die with a sentence that names the option and the value.
 *
 * **Example**
 * ```ts
 * import { Clock, Effect, Fiber, Stream } from "effect"
 * import { Controller } from "effect-periscope/control"
 * import { VirtualClock } from "effect-periscope/testing"
 *
 * const program = Effect.gen(function* () {
 *   const ticks: Array<number> = []
 *   // four events at 1 second, and nothing more
 *   const events = Stream.concat(Stream.drain(Stream.fromEffect(Effect.sleep("1 second"))), Stream.make(1, 2, 3, 4))
 *   const controller = yield* Controller.make([Stream.concat(events, Stream.never)], {
 *     name: "certificates",
 *     filter: (event) => event > 1,
 *     reconcile: Effect.map(Clock.currentTimeMillis, (now) => void ticks.push(now)),
 *     fallbackInterval: "10 minutes"
 *   })
 *   const fiber = yield* Effect.fork(controller.run)
 *   yield* Effect.sleep("1 minute")
 *   yield* controller.stop()
 *   yield* Fiber.join(fiber)
 *   return ticks
 * }).pipe(VirtualClock.run)
 *
 * await Effect.runPromise(program) // => [0, 1050]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <const W extends Watches, E, R, R2 = never>(
  watches: W,
  options: Options<W, E, R, R2>
): Effect.Effect<Controller, never, R | R2 | WatchServices<W>> =>
  Effect.contextWithEffect((context: Context.Context<R | R2 | WatchServices<W>>) => {
    const where = `Controller.make("${options.name}")`
    const debounce = millisOr(where, "debounce", options.debounce, 50)
    const maxWait = millisOr(where, "maxWait", options.maxWait, 10 * debounce)
    if (maxWait < debounce) {
      throw new Error(
        `${where}: \`maxWait\` is ${maxWait} ms, below \`debounce\` (${debounce} ms); no window could get quiet.`
      )
    }
    const { fallbackInterval, heartbeat } = options
    return ticking.make({
      ...commonOf(where, watches, options, context),
      reconcile: Effect.provide(options.reconcile, context),
      rules: {
        debounce,
        maxWait,
        fallback: fallbackInterval === undefined ? 30_000 : positiveMillis(where, "fallbackInterval", fallbackInterval)
      },
      retry: Schedule.provideContext(options.retry ?? defaultRetry, context),
      heartbeatMillis: heartbeat === undefined ? 60_000 : positiveMillis(where, "heartbeat", heartbeat)
    })
  })

/**
 * Runs a controller of ticks in the background of a layer, until the layer's scope closes: then it stops, see `stopWithin`.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 * import { Controller } from "effect-periscope/control"
 *
 * class Manifests extends Source.Tag("app/Manifests")<Manifests, string>() {}
 *
 * // runs from the start of the application to its end
 * const Certificates: Layer.Layer<never, never, Manifests> = Controller.layer([Watcher.changes(Manifests)], {
 *   name: "certificates",
 *   reconcile: Effect.log("look at all manifests, and renew what is old")
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <const W extends Watches, E, R, R2 = never>(
  watches: W,
  options: Options<W, E, R, R2>
): Layer.Layer<never, never, R | R2 | WatchServices<W>> =>
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const controller = yield* make(watches, options)
      yield* Effect.forkScoped(controller.run)
      yield* Effect.addFinalizer(() => controller.stop())
    })
  )

/**
 * The options of {@link keyed}.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedOptions<K, W extends Watches, E, R, R2 = never, R3 = never>
  extends CommonOptions<W>, Omit<WorkQueue.Options<K, R2>, "name"> {
  /** Which key an event is about. An event that it dies of is left out, logged, and counted as missed. */
  readonly key: (event: Event<W>) => K
  /** Looks at what is under a key, and does what is to be done. */
  readonly reconcile: (key: K) => Effect.Effect<Result | void, E, R>
  /** How many keys are reconciled at the same time [1]. */
  readonly concurrency?: number | undefined
  /** How urgent an event is [`"live"`]. */
  readonly priority?: ((event: Event<W>) => WorkQueue.Priority) | undefined
  /**
   * All keys, looked at behind all others: at the start, after each `interval` [10 hours], and when events may have been missed, as a
   * watch lagged or was started again [never].
   */
  readonly resync?:
    | {
        readonly keys: Effect.Effect<Iterable<K>, unknown, R3>
        readonly interval?: Duration.DurationInput | undefined
      }
    | undefined
}

/**
 * A controller of keys.
 *
 * - `run`: works until it is stopped. Should its workers die, of a key that cannot be told for example, it dies as they did, and says so.
 * - `queue`: where keys can be added besides.
 * - `stop`: drops what waits, waits for what runs, at most that long, then interrupts it. It does not run again.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedController<in out K> {
  readonly name: string
  readonly run: Effect.Effect<void>
  readonly queue: WorkQueue.WorkQueue<K>
  readonly deadLetters: Stream.Stream<WorkQueue.DeadLetter<K>>
  readonly status: Effect.Effect<KeyedStatus>
  readonly stop: (deadline?: Duration.DurationInput) => Effect.Effect<void>
}

/**
 * Makes a controller of keys, which shuts its queue down when its scope closes. It does nothing until it runs.
 *
 * **Details** An event adds its key to a `WorkQueue`, which see. A key is never reconciled twice at the same time, and once more if
 * it changed meanwhile. A failure is tried again by `backoff`, an error with `isTerminal: true` only with the next event of that key.
 *
 * **Gotchas** Where a watch is started again or lags, events may have been missed: give `resync`, or a watch that tells all at its
 * start, as `Watcher.changes` does.
 *
 * **Errors** Options that make no sense die with a sentence that names the option and the value.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 * import { Controller } from "effect-periscope/control"
 * import { VirtualClock } from "effect-periscope/testing"
 *
 * const program = Effect.gen(function* () {
 *   const orders = yield* Source.memory<string>()
 *   for (const key of ["order 1", "order 2"]) yield* orders.set(key, "tea")
 *   const reconciled: Array<string> = []
 *   const controller = yield* Controller.keyed([Watcher.changes(orders)], {
 *     name: "orders",
 *     key: (change) => change.key,
 *     reconcile: (key) => Effect.sync(() => void reconciled.push(key)),
 *     concurrency: 4
 *   })
 *   yield* Effect.fork(controller.run)
 *   yield* Effect.sleep("1 second")
 *   yield* controller.stop()
 *   return reconciled
 * }).pipe(Effect.scoped, VirtualClock.run)
 *
 * await Effect.runPromise(program) // => ["order 1", "order 2"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const keyed = <K, const W extends Watches, E, R, R2 = never, R3 = never>(
  watches: W,
  options: KeyedOptions<K, W, E, R, R2, R3>
): Effect.Effect<KeyedController<K>, never, R | R2 | R3 | WatchServices<W> | Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<R | R3 | WatchServices<W>>()
    const clock = yield* Effect.clock
    const where = `Controller.keyed("${options.name}")`
    const { resync } = options
    const common = commonOf(where, watches, options, context)
    const concurrency = concurrencyOf(where, options.concurrency)
    const interval = millisOr(where, "resync.interval", resync?.interval, 36_000_000)
    const queue = yield* makeQueue(options)
    const runner = new KeyedRunner(
      {
        ...common,
        // events of these watches
        key: options.key as (event: unknown) => K,
        priority: options.priority as ((event: unknown) => WorkQueue.Priority) | undefined,
        reconcile: (key) => Effect.provide(options.reconcile(key), context),
        concurrency,
        resync: resync === undefined ? undefined : { keys: Effect.provide(resync.keys, context), millis: interval }
      },
      queue,
      clock
    )
    return {
      name: options.name,
      run: runner.run,
      queue,
      deadLetters: queue.deadLetters,
      status: runner.status,
      stop: runner.stop
    }
  })

/**
 * Runs a controller of keys in the background of a layer, until the layer's scope closes: then it stops, see `stopWithin`.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 * import { Controller } from "effect-periscope/control"
 *
 * class Manifests extends Source.Tag("app/Manifests")<Manifests, string>() {}
 *
 * const Certificates: Layer.Layer<never, never, Manifests> = Controller.layerKeyed([Watcher.changes(Manifests)], {
 *   name: "certificates",
 *   key: ({ key }) => key,
 *   reconcile: (key) => Effect.as(Effect.log("renew if it is old", key), { requeueAfter: "1 day" })
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerKeyed = <K, const W extends Watches, E, R, R2 = never, R3 = never>(
  watches: W,
  options: KeyedOptions<K, W, E, R, R2, R3>
): Layer.Layer<never, never, Exclude<R | R2 | R3 | WatchServices<W>, Scope.Scope>> =>
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const controller = yield* keyed(watches, options)
      yield* Effect.forkScoped(controller.run)
      yield* Effect.addFinalizer(() => controller.stop())
    })
  )

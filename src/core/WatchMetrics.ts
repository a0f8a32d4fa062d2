/**
 * The metrics of all watchers in one place. They exist, at zero, from the moment this module is loaded.
 *
 * Metrics in Effect's registry live as long as the process, so they are not tagged by source: a thousand watchers that come
 * and go leave nothing behind. What one source does is read from {@link watchers}, and goes away with its watcher. Work queues
 * and controllers are few and named by the program, so theirs are tagged with that name.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import * as Option from "effect/Option"
import type { WatchStatus } from "./WatchStatus.js"

/**
 * How polls ended: `periscope_polls_total`, tagged `result`.
 *
 * **Example**
 * ```ts
 * import { Effect, Metric } from "effect"
 * import { Source, WatchMetrics, Watcher } from "effect-periscope"
 *
 * const succeeded = Effect.map(Metric.value(WatchMetrics.polls.succeeded), ({ count }) => count)
 *
 * const program = Effect.gen(function* () {
 *   const before = yield* succeeded
 *   yield* Watcher.once(yield* Source.memory<boolean>())
 *   return (yield* succeeded) - before
 * })
 *
 * await Effect.runPromise(program) // => 1
 *
 * const dashboard = Effect.all({
 *   duration: Metric.value(WatchMetrics.pollDuration),
 *   added: Metric.value(WatchMetrics.changes.Added),
 *   held: Metric.value(WatchMetrics.guardTrips),
 *   unsaved: Metric.value(WatchMetrics.saveFailures),
 *   unhandled: Metric.value(WatchMetrics.handlerFailures),
 *   watchers: Metric.value(WatchMetrics.watcherCount)
 * })
 * ```
 *
 * @category metrics
 * @since 0.1.0
 */
export const polls: {
  readonly succeeded: Metric.Metric.Counter<number>
  readonly failed: Metric.Metric.Counter<number>
  readonly fatal: Metric.Metric.Counter<number>
} = (() => {
  const counter = Metric.counter("periscope_polls_total", { description: "Polls by result", incremental: true })
  return {
    succeeded: Metric.tagged(counter, "result", "succeeded"),
    failed: Metric.tagged(counter, "result", "failed"),
    fatal: Metric.tagged(counter, "result", "fatal")
  }
})()

/**
 * How long polls took: `periscope_poll_duration_millis`.
 *
 * **Example** See {@link polls}.
 *
 * @category metrics
 * @since 0.1.0
 */
export const pollDuration: Metric.Metric.Histogram<number> = Metric.histogram(
  "periscope_poll_duration_millis",
  MetricBoundaries.exponential({ start: 1, factor: 4, count: 9 }),
  "Time from the start of a poll to its result, in milliseconds"
)

/**
 * Changes by type: `periscope_changes_total`, tagged `type`.
 *
 * **Example** See {@link polls}.
 *
 * @category metrics
 * @since 0.1.0
 */
export const changes: {
  readonly Added: Metric.Metric.Counter<number>
  readonly Modified: Metric.Metric.Counter<number>
  readonly Removed: Metric.Metric.Counter<number>
} = (() => {
  const counter = Metric.counter("periscope_changes_total", { description: "Changes by type", incremental: true })
  return {
    Added: Metric.tagged(counter, "type", "Added"),
    Modified: Metric.tagged(counter, "type", "Modified"),
    Removed: Metric.tagged(counter, "type", "Removed")
  }
})()

/**
 * How often removals were held back: `periscope_guard_trips_total`.
 *
 * **Example** See {@link polls}.
 *
 * @category metrics
 * @since 0.1.0
 */
export const guardTrips: Metric.Metric.Counter<number> = Metric.counter("periscope_guard_trips_total", {
  description: "Complete walks whose removals were held back for the first time",
  incremental: true
})

/**
 * How often a save of a checkpoint failed and was tried again: `periscope_save_failures_total`.
 *
 * **Example** See {@link polls}.
 *
 * @category metrics
 * @since 0.1.0
 */
export const saveFailures: Metric.Metric.Counter<number> = Metric.counter("periscope_save_failures_total", {
  description: "Failed saves of checkpoints",
  incremental: true
})

/**
 * How often a handler failed: `periscope_handler_failures_total`.
 *
 * **Example** See {@link polls}.
 *
 * @category metrics
 * @since 0.1.0
 */
export const handlerFailures: Metric.Metric.Counter<number> = Metric.counter("periscope_handler_failures_total", {
  description: "Failed attempts of handlers",
  incremental: true
})

/**
 * How many watchers there are: `periscope_watchers`.
 *
 * **Example** See {@link polls}.
 *
 * @category metrics
 * @since 0.1.0
 */
export const watcherCount: Metric.Metric.Gauge<number> = Metric.gauge("periscope_watchers", {
  description: "Watchers whose scope is open"
})

/**
 * How long committed entries of a log in PostgreSQL have been waiting behind a transaction that is open, as seen by readers of
 * this process: `periscope_log_horizon_age_seconds`, tagged `log`, the name of its table.
 *
 * **Example**
 * ```ts
 * import { Metric } from "effect"
 * import { WatchMetrics } from "effect-periscope"
 *
 * const waiting = Metric.value(Metric.tagged(WatchMetrics.logHorizonAge, "log", "periscope_changes"))
 * ```
 *
 * @category metrics
 * @since 0.1.0
 */
export const logHorizonAge: Metric.Metric.Gauge<number> = Metric.gauge("periscope_log_horizon_age_seconds", {
  description: "Seconds since the first sight of a committed entry that is still held back by an open transaction"
})

/**
 * How often a socket has reconnected, by why the connection before was lost or did not come about:
 * `periscope_socket_reconnects_total`, tagged `reason`.
 *
 * **Example**
 * ```ts
 * import { Effect, Metric } from "effect"
 * import { WatchMetrics } from "effect-periscope"
 *
 * const dashboard = Effect.all({
 *   refused: Metric.value(WatchMetrics.socketReconnects.Refused),
 *   frames: Metric.value(WatchMetrics.socketFrames),
 *   acks: Metric.value(WatchMetrics.socketAcks),
 *   unacked: Metric.value(WatchMetrics.socketUnacked)
 * })
 * ```
 *
 * @category metrics
 * @since 0.1.0
 */
export const socketReconnects: {
  readonly [
    reason in "Unreachable" | "Refused" | "OpenTimeout" | "Closed" | "Idle" | "Overflow" | "Request" | "Decode"
  ]: Metric.Metric.Counter<number>
} = (() => {
  const counter = Metric.counter("periscope_socket_reconnects_total", {
    description: "Reconnects of sockets by why the connection was lost",
    incremental: true
  })
  const of = (reason: string): Metric.Metric.Counter<number> => Metric.tagged(counter, "reason", reason)
  return {
    Unreachable: of("Unreachable"),
    Refused: of("Refused"),
    OpenTimeout: of("OpenTimeout"),
    Closed: of("Closed"),
    Idle: of("Idle"),
    Overflow: of("Overflow"),
    Request: of("Request"),
    Decode: of("Decode")
  }
})()

/**
 * Frames that sockets have received: `periscope_socket_frames_total`.
 *
 * **Example** See {@link socketReconnects}.
 *
 * @category metrics
 * @since 0.1.0
 */
export const socketFrames: Metric.Metric.Counter<number> = Metric.counter("periscope_socket_frames_total", {
  description: "Frames received by sockets",
  incremental: true
})

/**
 * Acks that sockets have sent: `periscope_socket_acks_total`.
 *
 * **Example** See {@link socketReconnects}.
 *
 * @category metrics
 * @since 0.1.0
 */
export const socketAcks: Metric.Metric.Counter<number> = Metric.counter("periscope_socket_acks_total", {
  description: "Acks sent by sockets",
  incremental: true
})

/**
 * Items that sockets have received and that are not finished: `periscope_socket_unacked`.
 *
 * **Example** See {@link socketReconnects}.
 *
 * @category metrics
 * @since 0.1.0
 */
export const socketUnacked: Metric.Metric.Gauge<number> = Metric.gauge("periscope_socket_unacked", {
  description: "Items received by sockets that are waiting or being handled"
})

/**
 * The metrics of a work queue, each tagged `name`.
 *
 * - `depth`: keys that wait to be taken, `periscope_workqueue_depth`, tagged `priority`.
 * - `adds`: `periscope_workqueue_adds_total`; `retries`: `periscope_workqueue_retries_total`, whatever was to be added later.
 * - `queueDuration`: `periscope_workqueue_queue_duration_seconds`, from add to take.
 * - `workDuration`: `periscope_workqueue_work_duration_seconds`, from take to done.
 * - `unfinishedWork`, `longestRunning`: `periscope_workqueue_unfinished_work_seconds` and
 *   `periscope_workqueue_longest_running_processor_seconds`, of the keys that are taken and not done, every 10 seconds.
 * - `rejected`: `periscope_workqueue_rejected_total`, keys that found the queue full.
 * - `deadLetters`, `deadLettersDropped`: `periscope_workqueue_dead_letters_total`, `periscope_workqueue_dead_letters_dropped_total`.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkQueueMetrics {
  readonly depth: {
    readonly live: Metric.Metric.Gauge<number>
    readonly retry: Metric.Metric.Gauge<number>
    readonly resync: Metric.Metric.Gauge<number>
  }
  readonly adds: Metric.Metric.Counter<number>
  readonly retries: Metric.Metric.Counter<number>
  readonly queueDuration: Metric.Metric.Histogram<number>
  readonly workDuration: Metric.Metric.Histogram<number>
  readonly unfinishedWork: Metric.Metric.Gauge<number>
  readonly longestRunning: Metric.Metric.Gauge<number>
  readonly rejected: Metric.Metric.Counter<number>
  readonly deadLetters: Metric.Metric.Counter<number>
  readonly deadLettersDropped: Metric.Metric.Counter<number>
}

/**
 * The metrics of a controller, each tagged `controller`.
 *
 * - `reconciles`: `periscope_controller_reconcile_total`, tagged `result`; its errors by kind besides:
 *   `periscope_controller_reconcile_errors_total`, `periscope_controller_terminal_reconcile_errors_total`,
 *   `periscope_controller_reconcile_panics_total` (defects) and `periscope_controller_reconcile_timeouts_total`.
 * - `reconcileTime`: `periscope_controller_reconcile_time_seconds`.
 * - `activeWorkers`, `maxConcurrent`: `periscope_controller_active_workers`, `periscope_controller_max_concurrent_reconciles`.
 * - `stuck`: `periscope_controller_stuck_reports_total`.
 * - `resubscriptions`: `periscope_controller_resubscriptions_total`, of watches that ended.
 * - `lagged`: `periscope_controller_lagged_events_total`, events that a watch missed and said so.
 *
 * @category models
 * @since 0.1.0
 */
export interface ControllerMetrics {
  readonly reconciles: {
    readonly success: Metric.Metric.Counter<number>
    readonly error: Metric.Metric.Counter<number>
    readonly requeueAfter: Metric.Metric.Counter<number>
  }
  readonly errors: Metric.Metric.Counter<number>
  readonly terminalErrors: Metric.Metric.Counter<number>
  readonly panics: Metric.Metric.Counter<number>
  readonly timeouts: Metric.Metric.Counter<number>
  readonly reconcileTime: Metric.Metric.Histogram<number>
  readonly activeWorkers: Metric.Metric.Gauge<number>
  readonly maxConcurrent: Metric.Metric.Gauge<number>
  readonly stuck: Metric.Metric.Counter<number>
  readonly resubscriptions: Metric.Metric.Counter<number>
  readonly lagged: Metric.Metric.Counter<number>
}

/**
 * The metrics of all informers together: `items`, the values in their caches, `periscope_informer_items`; `missed`, the changes
 * that were dropped for followers that were too slow, `periscope_informer_lagged_events_total`.
 *
 * **Example**
 * ```ts
 * import { Effect, Metric } from "effect"
 * import { Source, WatchMetrics } from "effect-periscope"
 * import { Informer } from "effect-periscope/control"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   const informer = yield* Informer.make(flags)
 *   yield* informer.awaitSynced
 *   return (yield* Metric.value(WatchMetrics.informers.items)).value
 * }).pipe(Effect.scoped)
 *
 * await Effect.runPromise(program) // => 1
 * ```
 *
 * @category metrics
 * @since 0.1.0
 */
export const informers: {
  readonly items: Metric.Metric.Gauge<number>
  readonly missed: Metric.Metric.Counter<number>
} = {
  items: Metric.gauge("periscope_informer_items", { description: "Values in the caches of informers" }),
  missed: Metric.counter("periscope_informer_lagged_events_total", {
    description: "Changes that were dropped for followers of informers that were too slow",
    incremental: true
  })
}

type Tags = Readonly<Record<string, string>>

const labels = (tags: Tags): ReadonlyArray<MetricLabel.MetricLabel> =>
  Object.entries(tags).map(([name, value]) => MetricLabel.make(name, value))

// the tags are part of the key: a metric made by `Metric.tagged` looks them up at each update, which takes microseconds
const counterOf = (name: string, description: string, tags: Tags): Metric.Metric.Counter<number> => {
  const key = MetricKey.counter(name, { description, incremental: true })
  return Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labels(tags))).register()
}

const gaugeOf = (name: string, description: string, tags: Tags): Metric.Metric.Gauge<number> => {
  const key = MetricKey.gauge(name, { description })
  return Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labels(tags))).register()
}

const histogramOf = (
  name: string,
  boundaries: MetricBoundaries.MetricBoundaries,
  description: string,
  tags: Tags
): Metric.Metric.Histogram<number> => {
  const key = MetricKey.histogram(name, boundaries, description)
  return Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labels(tags))).register()
}

/** The bounds of client-go's queue metrics from a microsecond on: what is faster is one bucket. */
const workSeconds = MetricBoundaries.exponential({ start: 1e-6, factor: 10, count: 9 })

/** The bounds of controller-runtime's reconcile time, thinned. */
const reconcileSeconds = MetricBoundaries.fromIterable([
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300
])

/** Makes metrics once for each name, all of them at zero. */
const named = <A>(make: (name: string) => A): ((name: string) => A) => {
  const known = new Map<string, A>()
  return (name) => {
    const made = known.get(name) ?? make(name)
    known.set(name, made)
    return made
  }
}

/**
 * The metrics of the work queues of that name. They exist, at zero, once the queue is made.
 *
 * **Example**
 * ```ts
 * import { Effect, Metric } from "effect"
 * import { WatchMetrics } from "effect-periscope"
 * import { WorkQueue } from "effect-periscope/control"
 *
 * const program = Effect.gen(function* () {
 *   const queue = yield* WorkQueue.make<string>({ name: "orders" })
 *   yield* queue.addAll(["1", "2", "1"])
 *   return (yield* Metric.value(WatchMetrics.workQueue("orders").depth.live)).value
 * }).pipe(Effect.scoped)
 *
 * await Effect.runPromise(program) // => 2
 * ```
 *
 * @category metrics
 * @since 0.1.0
 */
export const workQueue: (name: string) => WorkQueueMetrics = named((name) => {
  const counter = (what: string, description: string): Metric.Metric.Counter<number> =>
    counterOf(`periscope_workqueue_${what}_total`, description, { name })
  const gauge = (what: string, description: string, tags?: Tags): Metric.Metric.Gauge<number> =>
    gaugeOf(`periscope_workqueue_${what}`, description, { name, ...tags })
  const depth = (priority: string): Metric.Metric.Gauge<number> =>
    gauge("depth", "Keys that wait to be taken", { priority })
  const seconds = (what: string, description: string): Metric.Metric.Histogram<number> =>
    histogramOf(`periscope_workqueue_${what}_duration_seconds`, workSeconds, description, { name })
  return {
    depth: { live: depth("live"), retry: depth("retry"), resync: depth("resync") },
    adds: counter("adds", "Keys that were added and not there yet"),
    retries: counter("retries", "Keys that were to be added later"),
    queueDuration: seconds("queue", "Seconds from add to take"),
    workDuration: seconds("work", "Seconds from take to done"),
    unfinishedWork: gauge("unfinished_work_seconds", "Seconds of work on keys that are not done, summed"),
    longestRunning: gauge("longest_running_processor_seconds", "Seconds of the longest work that is not done"),
    rejected: counter("rejected", "Keys that found the queue full"),
    deadLetters: counter("dead_letters", "Keys that were given up"),
    deadLettersDropped: counter("dead_letters_dropped", "Dead letters that nobody read in time")
  }
})

/**
 * The metrics of the controllers of that name. They exist, at zero, once the controller is made.
 *
 * **Example**
 * ```ts
 * import { Effect, Metric } from "effect"
 * import { WatchMetrics } from "effect-periscope"
 *
 * const succeeded = Metric.value(WatchMetrics.controller("certificates").reconciles.success)
 *
 * Effect.runSync(Effect.map(succeeded, ({ count }) => count)) // => 0
 * ```
 *
 * @category metrics
 * @since 0.1.0
 */
export const controller: (name: string) => ControllerMetrics = named((name) => {
  const tags = { controller: name }
  const counter = (what: string, description: string): Metric.Metric.Counter<number> =>
    counterOf(`periscope_controller_${what}_total`, description, tags)
  const gauge = (what: string, description: string): Metric.Metric.Gauge<number> =>
    gaugeOf(`periscope_controller_${what}`, description, tags)
  const reconciles = (result: string): Metric.Metric.Counter<number> =>
    counterOf("periscope_controller_reconcile_total", "Reconciles by result", { ...tags, result })
  return {
    reconciles: {
      success: reconciles("success"),
      error: reconciles("error"),
      requeueAfter: reconciles("requeue_after")
    },
    errors: counter("reconcile_errors", "Reconciles that failed, terminally or not"),
    terminalErrors: counter("terminal_reconcile_errors", "Reconciles that failed and wait for the next event"),
    panics: counter("reconcile_panics", "Reconciles that ended in a defect"),
    timeouts: counter("reconcile_timeouts", "Reconciles that took longer than allowed"),
    reconcileTime: histogramOf(
      "periscope_controller_reconcile_time_seconds",
      reconcileSeconds,
      "Seconds of a reconcile",
      tags
    ),
    activeWorkers: gauge("active_workers", "Reconciles that run"),
    maxConcurrent: gauge("max_concurrent_reconciles", "Reconciles that may run at once"),
    stuck: counter("stuck_reports", "Reports of a reconcile that runs very long"),
    resubscriptions: counter("resubscriptions", "Watches that ended and were started again"),
    lagged: counter("lagged_events", "Events that were missed, as far as the watch said how many")
  }
})

/**
 * Adds to a metric at once, outside of an effect.
 *
 * @internal
 */
export const update = <Type, In, Out>(metric: Metric.Metric<Type, In, Out>, input: In): void =>
  metric.unsafeUpdate(input, [])

/**
 * Counts what is delivered, a batch at once: an update of a tagged metric looks it up.
 *
 * @internal
 */
export const countChanges = (delivered: ReadonlyArray<{ readonly _tag: keyof typeof changes }>): void => {
  const counts = { Added: 0, Modified: 0, Removed: 0 }
  for (const { _tag } of delivered) counts[_tag]++
  if (counts.Added > 0) update(changes.Added, counts.Added)
  if (counts.Modified > 0) update(changes.Modified, counts.Modified)
  if (counts.Removed > 0) update(changes.Removed, counts.Removed)
}

const zero = (): void => {
  for (const counter of [
    ...Object.values(polls),
    ...Object.values(changes),
    ...Object.values(socketReconnects),
    guardTrips,
    saveFailures,
    handlerFailures,
    socketFrames,
    socketAcks,
    informers.missed
  ]) {
    update(counter, 0)
  }
  update(watcherCount, 0)
  update(socketUnacked, 0)
  update(informers.items, 0)
  pollDuration.unsafeValue([])
}
zero()

/**
 * What one watcher reports, at the time of reading. `stalenessMillis` is the time since its last success,
 * `backoffMillis` the rest of the wait for its next attempt after a failure.
 *
 * @category models
 * @since 0.1.0
 */
export interface WatcherMetrics extends WatchStatus {
  readonly stalenessMillis: Option.Option<number>
  readonly backoffMillis: number
}

const live = new Set<() => WatchStatus>()

/**
 * Adds a watcher to {@link watchers}, and gives what takes it off again.
 *
 * @internal
 */
export const register = (status: () => WatchStatus): (() => void) => {
  live.add(status)
  update(watcherCount, live.size)
  return () => {
    live.delete(status)
    update(watcherCount, live.size)
  }
}

/**
 * The watchers whose scope is open, in the order in which they were made.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Source, WatchMetrics, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>({ name: "flags" })
 *   const watcher = yield* Watcher.make(flags)
 *   yield* Effect.forkScoped(watcher.runForEach(() => Effect.void))
 *   yield* watcher.awaitSynced
 *   const all = yield* WatchMetrics.watchers
 *   return all.map(({ backoffMillis, phase, source }) => ({ source, phase: phase._tag, backoffMillis }))
 * }).pipe(Effect.scoped)
 *
 * await Effect.runPromise(program) // => [{ source: "flags", phase: "Live", backoffMillis: 0 }]
 * ```
 *
 * @category getters
 * @since 0.1.0
 */
export const watchers: Effect.Effect<ReadonlyArray<WatcherMetrics>> = Effect.map(Clock.currentTimeMillis, (now) =>
  Array.from(live, (read): WatcherMetrics => {
    const status = read()
    return {
      ...status,
      stalenessMillis: Option.map(status.lastSuccess, (at) => now - at),
      backoffMillis: status.phase._tag === "Backoff" ? Math.max(0, status.phase.until - now) : 0
    }
  })
)

/**
 * What one socket reports, at the time of reading. `stalenessMillis` is the time since its last frame, `backoffMillis` the rest of
 * the wait for its next attempt to connect. `waiting` items are not handed out yet, `unacked` ones are and not finished.
 *
 * @category models
 * @since 0.1.0
 */
export interface SocketMetrics {
  readonly source: string
  readonly phase: string
  readonly stalenessMillis: Option.Option<number>
  readonly backoffMillis: number
  readonly waiting: number
  readonly unacked: number
}

const liveSockets = new Set<(now: number) => SocketMetrics>()
let unackedOfAll = 0

/**
 * Adds a socket to {@link sockets}, and gives what takes it off again.
 *
 * @internal
 */
export const registerSocket = (read: (now: number) => SocketMetrics): (() => void) => {
  liveSockets.add(read)
  return () => void liveSockets.delete(read)
}

/**
 * Adds to the items in flight of all sockets.
 *
 * @internal
 */
export const addUnacked = (change: number): void => {
  unackedOfAll += change
  update(socketUnacked, unackedOfAll)
}

/**
 * The sockets that are consumed, in the order in which that began.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { WatchMetrics } from "effect-periscope"
 *
 * await Effect.runPromise(WatchMetrics.sockets) // => []
 * ```
 *
 * @category getters
 * @since 0.1.0
 */
export const sockets: Effect.Effect<ReadonlyArray<SocketMetrics>> = Effect.map(Clock.currentTimeMillis, (now) =>
  Array.from(liveSockets, (read) => read(now))
)

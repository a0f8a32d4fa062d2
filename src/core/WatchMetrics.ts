/**
 * The metrics of all watchers in one place. They exist, at zero, from the moment this module is loaded.
 *
 * Metrics in Effect's registry live as long as the process, so they are not tagged by source: a thousand watchers that come
 * and go leave nothing behind. What one source does is read from {@link watchers}, and goes away with its watcher.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
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
 * Adds to a metric at once, outside of an effect.
 *
 * @internal
 */
export const update = <Type, In, Out>(metric: Metric.Metric<Type, In, Out>, input: In): void =>
  metric.unsafeUpdate(input, [])

const zero = (): void => {
  for (const counter of [
    ...Object.values(polls),
    ...Object.values(changes),
    ...Object.values(socketReconnects),
    guardTrips,
    saveFailures,
    handlerFailures,
    socketFrames,
    socketAcks
  ]) {
    update(counter, 0)
  }
  update(watcherCount, 0)
  update(socketUnacked, 0)
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

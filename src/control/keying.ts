/**
 * A controller of keys: a work queue between watches and reconciles.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Inspectable from "effect/Inspectable"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Backoff from "../core/Backoff.js"
import * as WatchMetrics from "../core/WatchMetrics.js"
import { describe } from "../core/WatchStatus.js"
import { isLagged } from "./Lagged.js"
import type { Result } from "./reconciling.js"
import * as reconciling from "./reconciling.js"
import { listen } from "./subscription.js"
import { Waiters } from "./waiters.js"
import { Watchdog } from "./watchdog.js"
import type { Priority, Status, WorkQueue } from "./WorkQueue.js"

/** The status of a keyed controller: that of its queue, and what its watches said since it was made. */
export interface KeyedStatus extends Status {
  readonly name: string
  readonly matched: number
  readonly ignored: number
  readonly missed: number
  readonly resubscriptions: number
  readonly reconciles: number
}

export interface KeyedSettings<K, E> {
  readonly name: string
  readonly watches: ReadonlyArray<Stream.Stream<unknown, unknown>>
  readonly filter: ((event: unknown) => boolean) | undefined
  readonly key: (event: unknown) => K
  readonly priority: ((event: unknown) => Priority) | undefined
  readonly reconcile: (key: K) => Effect.Effect<Result | void, E>
  readonly concurrency: number
  readonly resync: { readonly keys: Effect.Effect<Iterable<K>, unknown>; readonly millis: number } | undefined
  readonly timeoutMillis: number | undefined
  readonly stuckMillis: number
  readonly stopMillis: number
}

const patience = Backoff.make<unknown>({ first: "1 second", max: "1 minute" })

export class KeyedRunner<K, E> {
  private readonly metrics: WatchMetrics.ControllerMetrics
  private readonly dog: Watchdog<{ readonly key: K }>
  private readonly idle = new Waiters()
  /** Who waits to list all keys again, because some may have been missed. */
  private readonly lister = new Waiters()
  private isActive = false
  private isStopping = false
  private isListAsked = false
  private running = 0
  private reconciles = 0
  private matched = 0
  private ignored = 0
  private missed = 0
  private resubscriptions = 0
  private workers: Fiber.RuntimeFiber<void> | undefined

  constructor(
    private readonly settings: KeyedSettings<K, E>,
    private readonly queue: WorkQueue<K>,
    clock: Clock.Clock
  ) {
    this.metrics = WatchMetrics.controller(settings.name)
    this.dog = new Watchdog(clock, settings.stuckMillis, ({ key }, millis) => this.stuck(key, millis))
  }

  private get name(): string {
    return this.settings.name
  }

  get status(): Effect.Effect<KeyedStatus> {
    return Effect.map(this.queue.status, (status) => ({
      ...status,
      name: this.name,
      matched: this.matched,
      ignored: this.ignored,
      missed: this.missed,
      resubscriptions: this.resubscriptions,
      reconciles: this.reconciles
    }))
  }

  // ---------------------------------------------------------------- events

  private listen(stream: Stream.Stream<unknown, unknown>, index: number): Effect.Effect<never> {
    return listen(this.name, index, stream, {
      heard: (events) => this.hear(Chunk.toReadonlyArray(events)[Symbol.iterator]()),
      restarted: Effect.sync(() => {
        this.resubscriptions++
        WatchMetrics.update(this.metrics.resubscriptions, 1)
        this.askForList()
      })
    })
  }

  /** Hears all events: one that `filter`, `key` or `priority` dies of is missed, and costs no other. */
  private hear(events: Iterator<unknown>): Effect.Effect<void> {
    return Effect.catchAllDefect(
      Effect.suspend(() => this.hearRest(events)),
      (defect) => {
        this.miss(1)
        const warning = this.warn(`an event was left out, as its key could not be told: ${describe(Cause.die(defect))}`)
        return Effect.zipRight(warning, this.hear(events))
      }
    )
  }

  /** Adds the keys of events; waits where the queue is full, and goes on behind that one. */
  private hearRest(events: Iterator<unknown>): Effect.Effect<void> {
    const { filter, priority } = this.settings
    for (let next = events.next(); next.done !== true; next = events.next()) {
      const event = next.value
      if (isLagged(event)) this.miss(event.missed ?? 0)
      else if (filter !== undefined && !filter(event)) this.ignored++
      else {
        const key = this.settings.key(event)
        const rank = priority?.(event)
        this.matched++
        if (this.queue.unsafeAdd(key, rank)) continue
        const added = this.queue.add(key, { priority: rank })
        return Effect.flatMap(added, () => Effect.suspend(() => this.hearRest(events)))
      }
    }
    return Effect.void
  }

  private miss(count: number): void {
    this.missed += count
    WatchMetrics.update(this.metrics.lagged, count)
    this.askForList()
  }

  private askForList(): void {
    this.isListAsked = true
    this.lister.wakeAll()
  }

  /** Adds all keys: at first, after each interval, and when some were missed. */
  private get resyncs(): Effect.Effect<void> {
    const { resync } = this.settings
    if (resync === undefined) return Effect.void
    const list = Effect.tapErrorCause(
      Effect.suspend(() => {
        this.isListAsked = false
        return Effect.flatMap(resync.keys, (keys) => this.queue.addAll(keys, { priority: "resync" }))
      }),
      (cause) => this.warn(`its keys could not be listed: ${describe(cause)}`)
    )
    const asked = Effect.interruptible(
      Effect.timeoutOption(
        this.lister.wait(() => !this.isListAsked),
        resync.millis
      )
    )
    const retried = Effect.ignore(Effect.retry(Effect.sandbox(list), patience))
    return Effect.forever(Effect.zipRight(retried, asked))
  }

  // ---------------------------------------------------------------- running

  readonly run: Effect.Effect<void> = Effect.acquireUseRelease(
    Effect.suspend(() => this.begin()),
    () => Effect.scoped(Effect.suspend(() => this.works)),
    () => Effect.sync(() => (this.isActive = false))
  )

  private begin(): Effect.Effect<void> {
    if (this.isActive) return Effect.dieMessage(`Controller: "${this.name}" runs already; make a second one instead.`)
    this.isActive = true
    WatchMetrics.update(this.metrics.maxConcurrent, this.settings.concurrency)
    return Effect.void
  }

  private get works(): Effect.Effect<void, never, Scope.Scope> {
    return Effect.gen(this, function* () {
      yield* Effect.forkScoped(this.dog.run)
      yield* Effect.forEach(this.settings.watches, (watch, index) => Effect.forkScoped(this.listen(watch, index)), {
        discard: true
      })
      yield* Effect.forkScoped(this.resyncs)
      const { concurrency } = this.settings
      const workers = yield* Effect.forkScoped(this.queue.run((key) => this.work(key), { concurrency }))
      this.workers = workers
      const exit = yield* Fiber.await(workers)
      if (Exit.isSuccess(exit) || (this.isStopping && Cause.isInterruptedOnly(exit.cause))) return
      const text = `nothing is reconciled any more, its workers have died: ${describe(exit.cause)}`
      yield* Effect.annotateLogs(Effect.logError(`${this.name}: ${text}`), { "periscope.controller": this.name })
      return yield* Effect.failCause(exit.cause)
    })
  }

  readonly stop = (deadline?: Duration.DurationInput): Effect.Effect<void> =>
    Effect.gen(this, function* () {
      this.isStopping = true
      yield* this.queue.shutDownNow
      const ended = this.idle.wait(() => this.running > 0)
      // in a finalizer nothing else could end the wait
      yield* Effect.interruptible(Effect.timeoutOption(ended, deadline ?? this.settings.stopMillis))
      if (this.workers === undefined) return
      yield* Fiber.interrupt(this.workers)
      // work that is interrupted puts its key back
      yield* this.queue.shutDownNow
    })

  /** What the queue is to do with the key: an error here is a retry there. */
  private work(key: K): Effect.Effect<void, unknown> {
    const { name, reconcile, timeoutMillis } = this.settings
    const effect = Effect.suspend(() => reconcile(key))
    const bounded = reconciling.bounded(name, "Controller.reconcile", effect, timeoutMillis)
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen(this, function* () {
        const work = { key }
        this.dog.started(work)
        this.running++
        this.metrics.activeWorkers.unsafeModify(1, [])
        // in a fiber of its own: one that interrupts itself is not to end the worker
        const fiber = yield* Effect.fork(Effect.interruptible(bounded))
        const waited = yield* Effect.exit(restore(Fiber.await(fiber)))
        if (Exit.isFailure(waited)) yield* Fiber.interrupt(fiber)
        const millis = this.dog.ended(work)
        this.running--
        this.metrics.activeWorkers.unsafeModify(-1, [])
        this.idle.wakeAll()
        if (Exit.isFailure(waited)) return yield* Effect.failCause(waited.cause)
        this.reconciles++
        const ending = reconciling.endingOf(waited.value)
        reconciling.measure(this.metrics, ending, millis)
        return yield* restore(this.settle(key, ending))
      })
    )
  }

  private settle(key: K, ending: reconciling.Ending): Effect.Effect<void, unknown> {
    if (ending._tag === "Failed") return Effect.failCause(ending.cause)
    if (ending._tag === "Terminal") {
      return this.warn(`${Inspectable.toStringUnknown(key, 0)} waits for an event: ${describe(ending.cause)}`)
    }
    const { requeueMillis } = ending
    if (requeueMillis === undefined) return Effect.void
    // of two times the earlier one holds, and the retry that waits has become pointless
    const forgotten = this.queue.forget(key)
    return Effect.zipRight(forgotten, Effect.asVoid(this.queue.addAfter(key, requeueMillis, { priority: "retry" })))
  }

  private warn(message: string): Effect.Effect<void> {
    return Effect.annotateLogs(Effect.logWarning(`${this.name}: ${message}`), { "periscope.controller": this.name })
  }

  private stuck(key: K, runningMillis: number): Effect.Effect<void> {
    WatchMetrics.update(this.metrics.stuck, 1)
    const millis = Duration.format(Duration.millis(runningMillis))
    return this.warn(`${Inspectable.toStringUnknown(key, 0)} has been running for ${millis}`)
  }
}

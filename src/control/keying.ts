/**
 * A controller of keys: a work queue between watches and reconciles.
 */
import * as Chunk from "effect/Chunk"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Inspectable from "effect/Inspectable"
import type * as Stream from "effect/Stream"
import * as Backoff from "../core/Backoff.js"
import * as WatchMetrics from "../core/WatchMetrics.js"
import { causeText } from "./causeText.js"
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
    private readonly clock: Clock.Clock
  ) {
    this.metrics = WatchMetrics.controller(settings.name)
    this.dog = new Watchdog(settings.stuckMillis, ({ key }, _, millis) => this.stuck(key, millis))
  }

  private get name(): string {
    return this.settings.name
  }

  private get now(): number {
    return this.clock.unsafeCurrentTimeMillis()
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
      heard: (events) => this.hear(Chunk.toReadonlyArray(events), 0),
      restarted: Effect.sync(() => {
        this.resubscriptions++
        WatchMetrics.update(this.metrics.resubscriptions, 1)
        this.askForList()
      })
    })
  }

  /** Adds the keys of events; waits where the queue is full, and goes on behind that one. */
  private hear(events: ReadonlyArray<unknown>, from: number): Effect.Effect<void> {
    const { filter, priority } = this.settings
    for (let index = from; index < events.length; index++) {
      const event = events[index]
      if (isLagged(event)) {
        this.missed += event.missed ?? 0
        WatchMetrics.update(this.metrics.lagged, event.missed ?? 0)
        this.askForList()
      } else if (filter !== undefined && !filter(event)) this.ignored++
      else {
        this.matched++
        const key = this.settings.key(event)
        const rank = priority?.(event)
        if (this.queue.unsafeAdd(key, rank)) continue
        const added = this.queue.add(key, { priority: rank })
        return Effect.flatMap(added, () => Effect.suspend(() => this.hear(events, index + 1)))
      }
    }
    return Effect.void
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
      (cause) => this.warn(`its keys could not be listed: ${causeText(cause)}`)
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

  readonly run: Effect.Effect<void> = Effect.suspend(() => {
    if (this.isActive) return Effect.dieMessage(`Controller: "${this.name}" runs already; make a second one instead.`)
    this.isActive = true
    WatchMetrics.update(this.metrics.maxConcurrent, this.settings.concurrency)
    return Effect.scoped(
      Effect.gen(this, function* () {
        yield* Effect.forkScoped(this.dog.run)
        yield* Effect.forEach(this.settings.watches, (watch, index) => Effect.forkScoped(this.listen(watch, index)), {
          discard: true
        })
        yield* Effect.forkScoped(this.resyncs)
        const { concurrency } = this.settings
        const workers = yield* Effect.forkScoped(this.queue.run((key) => this.work(key), { concurrency }))
        this.workers = workers
        yield* Fiber.await(workers)
      })
    ).pipe(Effect.ensuring(Effect.sync(() => (this.isActive = false))))
  })

  readonly stop = (deadline?: Duration.DurationInput): Effect.Effect<void> =>
    Effect.gen(this, function* () {
      yield* this.queue.shutDownNow
      const ended = this.idle.wait(() => this.running > 0)
      // in a finalizer nothing else could end the wait
      yield* Effect.interruptible(Effect.timeoutOption(ended, deadline ?? this.settings.stopMillis))
      if (this.workers !== undefined) yield* Fiber.interrupt(this.workers)
    })

  /** What the queue is to do with the key: an error here is a retry there. */
  private work(key: K): Effect.Effect<void, unknown> {
    return Effect.suspend(() => {
      const { name, reconcile, timeoutMillis } = this.settings
      const work = { key }
      const start = this.now
      this.dog.started(work, start)
      this.running++
      this.metrics.activeWorkers.unsafeModify(1, [])
      const bounded = reconciling.bounded(
        name,
        "Controller.reconcile",
        Effect.suspend(() => reconcile(key)),
        timeoutMillis
      )
      const ended = (): void => {
        this.dog.ended(work)
        this.running--
        this.metrics.activeWorkers.unsafeModify(-1, [])
        this.idle.wakeAll()
      }
      return Effect.flatMap(
        Effect.onExit(Effect.exit(bounded), () => Effect.sync(ended)),
        (exit) => {
          this.reconciles++
          const ending = reconciling.endingOf(exit)
          reconciling.measure(this.metrics, ending, this.now - start)
          return this.settle(key, ending)
        }
      )
    })
  }

  private settle(key: K, ending: reconciling.Ending): Effect.Effect<void, unknown> {
    if (ending._tag === "Failed") return Effect.failCause(ending.cause)
    if (ending._tag === "Terminal") {
      return this.warn(`${Inspectable.toStringUnknown(key, 0)} waits for an event: ${causeText(ending.cause)}`)
    }
    const { requeueAfter } = ending.result
    return requeueAfter === undefined
      ? Effect.void
      : Effect.asVoid(this.queue.addAfter(key, requeueAfter, { priority: "retry" }))
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

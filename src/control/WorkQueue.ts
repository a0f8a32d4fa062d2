/**
 * A queue of keys to work on, each at most once: what is added again while it waits is one piece of work, what is added while
 * it is worked on is worked on once more afterwards, and no key is worked on twice at the same time.
 *
 * Keys of one priority come in the order of their adding; live ones before retries before resyncs. A key that was added is
 * handed out unless the queue is shut down. Bounded by `maxKeys`; a deadline or a retry costs no fiber of its own.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import type * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Backoff from "../core/Backoff.js"
import { Attempts } from "./attempts.js"
import { describe } from "../core/WatchStatus.js"
import { KeyTable } from "./keyTable.js"
import * as table from "./keyTable.js"
import { Letters } from "./letters.js"
import { concurrencyOf, positiveNumber, wholeNumber } from "./options.js"
import { QueueMeter } from "./queueMeter.js"
import { Timer } from "./timer.js"
import type { BucketOptions } from "./tokenBucket.js"
import { TokenBucket } from "./tokenBucket.js"
import { Waiters } from "./waiters.js"
import type { Waiter } from "./waiters.js"

export type {
  /**
   * How many retries of all keys together there may be: `rate` in a second, `burst` at once before that counts.
   *
   * @category models
   * @since 0.1.0
   */
  BucketOptions
} from "./tokenBucket.js"

/**
 * Which keys come first: what happened just now before what failed before, before what is looked at again to be sure.
 *
 * **Gotchas** Strictly so: a steady stream of live keys that takes all workers leaves none for the others.
 *
 * @category models
 * @since 0.1.0
 */
export type Priority = "live" | "retry" | "resync"

/**
 * How a key is added: at the end of its priority [`"live"`]. A key that waits already keeps the higher priority of the two.
 *
 * @category models
 * @since 0.1.0
 */
export interface AddOptions {
  readonly priority?: Priority | undefined
}

/**
 * A key that was given up: its work failed `attempts` times in a row, the last time with `cause`. `missed` letters before this
 * one were dropped, because nobody had read them. `at` is in epoch milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeadLetter<out K> {
  readonly key: K
  readonly attempts: number
  readonly cause: Cause.Cause<unknown>
  readonly at: number
  readonly missed: number
}

/**
 * What a queue holds at the time of reading: keys that wait, by priority; that are `running`; that are `delayed`, to be added
 * later; and that are `failing`, whose last work failed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Status {
  readonly live: number
  readonly retry: number
  readonly resync: number
  readonly running: number
  readonly delayed: number
  readonly failing: number
  readonly longestRunningMillis: number
  readonly isShutDown: boolean
}

/**
 * There is nothing to take any more, and never will be: the queue was shut down.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { WorkQueue } from "effect-periscope/control"
 *
 * const all = (queue: WorkQueue.WorkQueue<string>) =>
 *   Effect.acquireUseRelease(queue.take, Effect.log, queue.done).pipe(
 *     Effect.forever,
 *     Effect.catchTag("ShutDown", ({ queue }) => Effect.log(`${queue} is empty`)) // a WorkQueue.ShutDown
 *   )
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class ShutDown extends Schema.TaggedError<ShutDown>("effect-periscope/ShutDown")("ShutDown", {
  queue: Schema.String
}) {
  override get message(): string {
    return `${this.queue}: the queue was shut down, there is no more work`
  }
}

/**
 * The options of {@link make}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in K, out R = never> {
  /** What its metrics and logs are named after. Metrics live as long as the process, so it is a name of your program. */
  readonly name: string
  /** What tells keys apart, compared as in a `Map` [the key itself: objects by reference]. */
  readonly identify?: ((key: K) => unknown) | undefined
  /** The wait of a key before its next attempt; its input is the error. Where it ends the key is a dead letter [{@link defaultBackoff}]. */
  readonly backoff?: Schedule.Schedule<unknown, unknown, R> | undefined
  /** What all retries together wait for; adds do not. `false`: nothing [{@link defaultBucket}]. */
  readonly bucket?: BucketOptions | false | undefined
  /** A key whose work failed that often in a row is a dead letter [never]. */
  readonly maxAttempts?: number | undefined
  /** How many keys there are at most, waiting, running or delayed [1,000,000]. */
  readonly maxKeys?: number | undefined
  /** How many dead letters are kept until they are read: then the oldest are dropped, and counted [1000]. */
  readonly maxDeadLetters?: number | undefined
}

/**
 * How the keys of a queue are worked on: by how many workers at the same time, at most 100,000 [1].
 *
 * @category models
 * @since 0.1.0
 */
export interface RunOptions {
  readonly concurrency?: number | undefined
}

/**
 * A queue of keys.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkQueue<in out K> {
  readonly name: string
  /** Adds a key, and waits while the queue is full. False: it is shut down. */
  readonly add: (key: K, options?: AddOptions) => Effect.Effect<boolean>
  /** Adds keys in their order. */
  readonly addAll: (keys: Iterable<K>, options?: AddOptions) => Effect.Effect<boolean>
  /**
   * Adds a key once that time has passed, whatever happens to it until then; after an infinite one never. Of several such times
   * the earliest counts.
   */
  readonly addAfter: (key: K, delay: Duration.DurationInput, options?: AddOptions) => Effect.Effect<boolean>
  /**
   * Says that the work on a key failed, and adds it after its backoff, at priority `"retry"`. False: it was given up, as its
   * last attempt failed, which makes it a dead letter, or the queue is shut down.
   */
  readonly retry: (key: K, cause?: Cause.Cause<unknown>) => Effect.Effect<boolean>
  /**
   * Says that the work on a key succeeded: its backoff starts anew, a retry that it waits for is called off. A time that was
   * asked for with `addAfter` stays.
   */
  readonly forget: (key: K) => Effect.Effect<void>
  /** How often in a row the work on a key has failed. */
  readonly failures: (key: K) => Effect.Effect<number>
  /**
   * Waits for a key and takes it. It is to be given back with `done`, whatever happens:
   * `Effect.acquireUseRelease(queue.take, work, queue.done)`. The wait can be interrupted, also there. Or use `run`.
   */
  readonly take: Effect.Effect<K, ShutDown>
  /** Says that the work on a key has ended. If it was added meanwhile, it is queued now. */
  readonly done: (key: K) => Effect.Effect<void>
  /**
   * Works on keys until the queue is shut down and empty. Success is `forget`, failure and defects are `retry`, and a warning in
   * the log. A worker that is interrupted puts its key back.
   */
  readonly run: <X, E, R>(
    handler: (key: K) => Effect.Effect<X, E, R>,
    options?: RunOptions
  ) => Effect.Effect<void, never, R>
  /** Adds a key at once, outside of an effect. False: the queue is full, which is counted, or shut down. */
  readonly unsafeAdd: (key: K, priority?: Priority) => boolean
  /** How many keys wait to be taken. */
  readonly length: Effect.Effect<number>
  readonly status: Effect.Effect<Status>
  /** Nothing is added any more, also no retry; what is queued is still worked on. Ends each `shutDownWithDrain` that waits. */
  readonly shutDown: Effect.Effect<void>
  /** The same, and waits until everything is done. */
  readonly shutDownWithDrain: Effect.Effect<void>
  /**
   * The same at once: what was not taken yet is dropped, and so is what a worker that is interrupted would put back. Gives the
   * number of keys that were not taken.
   */
  readonly shutDownNow: Effect.Effect<number>
  /** The keys that were given up, each for one reader. Ends when the queue is shut down and everything is done. */
  readonly deadLetters: Stream.Stream<DeadLetter<K>>
}

/**
 * The wait of a key that fails, unless an option says otherwise: 5 milliseconds, doubling to 1000 seconds. An error's own
 * `retryAfter` wins.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultBackoff: Schedule.Schedule<Duration.Duration, unknown> = Backoff.make({
  first: "5 millis",
  max: "1000 seconds"
})

/**
 * What all retries wait for, unless an option says otherwise: 10 in a second, behind a burst of 100.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultBucket: BucketOptions = { rate: 10, burst: 100 }

/**
 * Makes a queue, which is shut down at once when its scope closes.
 *
 * **Details** The contract is that of client-go's rate limiting work queue, with priorities. A retry waits the longer of the
 * key's own backoff and the bucket of all retries. A key that was given up starts anew when it is added again. Where the
 * `backoff` dies, the times of {@link defaultBackoff} stand in for it, and a warning says so.
 *
 * **Gotchas** A key that failed and is neither retried nor forgotten is remembered; `run` takes care of that. Other than
 * client-go's, `shutDownWithDrain` waits for what is queued too, and `forget` calls off a retry that was not due yet.
 *
 * **Errors** Options that make no sense die with a sentence that names the option and the value.
 *
 * **Source** client-go `util/workqueue`, controller-runtime `pkg/controller/priorityqueue`, bench workQueue
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { WorkQueue } from "effect-periscope/control"
 *
 * const program = Effect.gen(function* () {
 *   const queue = yield* WorkQueue.make<string>({ name: "orders" })
 *   const worked: Array<string> = []
 *   yield* queue.addAll(["order 1", "order 2"], { priority: "resync" })
 *   yield* queue.add("order 3")
 *   yield* queue.add("order 3") // is queued already
 *   yield* queue.shutDown
 *   yield* queue.run((key) => Effect.sync(() => worked.push(key)))
 *   return worked
 * }).pipe(Effect.scoped)
 *
 * await Effect.runPromise(program) // => ["order 3", "order 1", "order 2"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <K, R = never>(options: Options<K, R>): Effect.Effect<WorkQueue<K>, never, R | Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<R>()
    const runtime = yield* Effect.runtime<never>()
    const clock = yield* Effect.clock
    const queue = new KeyQueue(settingsOf(options, context), runtime, clock)
    yield* Effect.addFinalizer(() => queue.close)
    return queue
  })

interface Settings<K> {
  readonly name: string
  readonly identify: ((key: K) => unknown) | undefined
  readonly attempts: Attempts
  readonly maxKeys: number
  readonly maxDeadLetters: number
}

const settingsOf = <K, R>(options: Options<K, R>, context: Context.Context<R>): Settings<K> => {
  const where = `WorkQueue.make("${options.name}")`
  const { backoff = defaultBackoff, bucket = defaultBucket } = options
  const tokens =
    bucket === false
      ? undefined
      : new TokenBucket({
          rate: positiveNumber(where, "bucket.rate", bucket.rate),
          burst: wholeNumber(where, "bucket.burst", bucket.burst)
        })
  const maxAttempts = wholeNumber(where, "maxAttempts", options.maxAttempts ?? Infinity)
  return {
    name: options.name,
    identify: options.identify,
    attempts: new Attempts(Schedule.provideContext(backoff, context), tokens, maxAttempts),
    maxKeys: wholeNumber(where, "maxKeys", options.maxKeys ?? 1_000_000),
    maxDeadLetters: wholeNumber(where, "maxDeadLetters", options.maxDeadLetters ?? 1000)
  }
}

const none = -1
/** How often running work is measured. */
const sampleMillis = 10_000

const numberOf = (priority: Priority | undefined): number =>
  priority === undefined || priority === "live" ? table.live : priority === "retry" ? table.retry : table.resync

const priorities: ReadonlyArray<Priority> = ["live", "retry", "resync"]

class KeyQueue<K> implements WorkQueue<K> {
  readonly name: string
  private readonly meter: QueueMeter
  private readonly keys: KeyTable<K>
  private readonly attempts: Attempts
  private readonly letters: Letters<Omit<DeadLetter<K>, "missed">>
  private readonly timer: Timer
  /** Who waits for a key. */
  private readonly takers = new Waiters()
  /** Who waits for room. */
  private readonly adders = new Waiters()
  /** Who waits until everything is done. */
  private readonly drainers = new Waiters()
  private readonly maxKeys: number
  private sampleAt = Infinity
  /** How often all were told not to wait for what is not done. */
  private forced = 0

  constructor(
    settings: Settings<K>,
    runtime: Runtime.Runtime<never>,
    private readonly clock: Clock.Clock
  ) {
    this.name = settings.name
    this.attempts = settings.attempts
    this.maxKeys = settings.maxKeys
    this.meter = new QueueMeter(settings.name)
    const forget = (id: unknown): void => this.attempts.forget(id)
    this.keys = new KeyTable(settings.identify, settings.maxKeys, () => this.now, this.meter, forget)
    this.letters = new Letters(settings.maxDeadLetters, () => this.meter.lostLetter())
    this.timer = new Timer(runtime, clock, () => this.ring())
  }

  private get now(): number {
    return this.clock.unsafeCurrentTimeMillis()
  }

  // ---------------------------------------------------------------- adding

  readonly unsafeAdd = (key: K, priority?: Priority): boolean => {
    const added = this.keys.add(key, numberOf(priority))
    if (added === "queued") this.takers.wakeOne()
    else if (added === "refused") {
      if (!this.keys.isShutDown) this.meter.rejected()
      return false
    }
    return true
  }

  readonly add = (key: K, options?: AddOptions): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      const added = this.keys.add(key, numberOf(options?.priority))
      if (added === "queued") this.takers.wakeOne()
      else if (added === "refused") return this.onceThereIsRoom(() => this.add(key, options))
      return Effect.succeed(true)
    })

  readonly addAll = (keys: Iterable<K>, options?: AddOptions): Effect.Effect<boolean> =>
    Effect.suspend(() => this.addRest(keys[Symbol.iterator](), numberOf(options?.priority)))

  private addRest(keys: Iterator<K>, priority: number): Effect.Effect<boolean> {
    for (let next = keys.next(); next.done !== true; next = keys.next()) {
      const key = next.value
      const added = this.keys.add(key, priority)
      if (added === "queued") this.takers.wakeOne()
      else if (added === "refused") {
        const first = this.add(key, { priority: priorities[priority] })
        return Effect.flatMap(first, (isAdded) => (isAdded ? this.addRest(keys, priority) : Effect.succeed(false)))
      }
    }
    return Effect.succeed(!this.keys.isShutDown)
  }

  private onceThereIsRoom(add: () => Effect.Effect<boolean>): Effect.Effect<boolean> {
    const { keys } = this
    if (keys.isShutDown) return Effect.succeed(false)
    const isFull = (): boolean => keys.size >= this.maxKeys && !keys.isShutDown
    return Effect.zipRight(this.adders.wait(isFull), Effect.suspend(add))
  }

  readonly addAfter = (key: K, delay: Duration.DurationInput, options?: AddOptions): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      const millis = Duration.toMillis(delay)
      if (millis <= 0) {
        if (!this.keys.isShutDown) this.meter.retried()
        return this.add(key, options)
      }
      // it would never be due, and keep its room
      if (millis === Infinity) return Effect.succeed(!this.keys.isShutDown)
      if (this.later(key, millis, numberOf(options?.priority), false)) return Effect.succeed(true)
      return this.onceThereIsRoom(() => this.addAfter(key, delay, options))
    })

  private later(key: K, millis: number, priority: number, isRetry: boolean): boolean {
    const at = this.timer.now + millis
    if (!this.keys.addAt(key, at, priority, isRetry)) return false
    this.meter.retried()
    this.timer.set(at)
    return true
  }

  private ring(): void {
    const { now } = this.timer
    const { delays } = this.keys
    // what is due a bit later than the timer's resolution is due now
    for (let count = this.keys.fire(now + Timer.resolution); count > 0; count--) this.takers.wakeOne()
    if (this.sampleAt <= now + Timer.resolution) this.sample(now)
    this.timer.set(Math.min(delays.firstAt, this.sampleAt))
  }

  private sample(now: number): void {
    this.meter.sample(this.keys.work(this.now))
    this.sampleAt = this.keys.runningCount > 0 ? now + sampleMillis : Infinity
  }

  // ---------------------------------------------------------------- working

  /** Takes the first key: gives its slot, or -1. */
  private takeSlot(now: number): number {
    const slot = this.keys.take(now)
    if (slot !== none && this.sampleAt === Infinity) {
      this.sampleAt = this.timer.now + sampleMillis
      this.timer.set(this.sampleAt)
    }
    return slot
  }

  private readonly isEmpty = (): boolean => this.keys.length === 0 && !this.keys.isShutDown

  private takeOr(wait: Effect.Effect<K, ShutDown>): Effect.Effect<K, ShutDown> {
    const slot = this.takeSlot(this.now)
    if (slot !== none) return Effect.succeed(this.keys.keyOf(slot))
    return this.keys.isShutDown ? Effect.fail(new ShutDown({ queue: this.name })) : wait
  }

  private readonly waitAndTake: Effect.Effect<K, ShutDown> = Effect.suspend(() => {
    const waiter: Waiter = { resume: undefined, isWoken: false }
    return Effect.matchCauseEffect(Effect.interruptible(this.takers.waitAs(waiter, this.isEmpty)), {
      onFailure: (cause) => {
        this.stopTaking(waiter)
        return Effect.failCause(cause)
      },
      onSuccess: () => this.takeOr(this.waitAndTake)
    })
  })

  // only the wait itself can be interrupted: once called, nothing comes between it and its key
  private readonly takeLater: Effect.Effect<K, ShutDown> = Effect.uninterruptible(this.waitAndTake)

  readonly take: Effect.Effect<K, ShutDown> = Effect.suspend(() => this.takeOr(this.takeLater))

  /** A call that came too late for one that waited is for another. */
  private stopTaking(waiter: Waiter): void {
    this.takers.leave(waiter)
    if (waiter.isWoken && this.keys.length > 0) this.takers.wakeOne()
  }

  readonly done = (key: K): Effect.Effect<void> =>
    Effect.sync(() => {
      const slot = this.keys.runningSlot(key)
      if (slot !== none) this.doneSlot(slot, this.now)
    })

  private doneSlot(slot: number, now: number): void {
    if (this.keys.done(slot, now)) this.takers.wakeOne()
    this.settled()
  }

  /** Work has ended, or keys are gone: whoever waits for that goes on. */
  private settled(): void {
    const { keys } = this
    if (this.adders.size > 0 && keys.size < this.maxKeys) this.adders.wakeAll()
    if (!keys.isShutDown || keys.runningCount > 0 || keys.length > 0) return
    this.drainers.wakeAll()
    this.takers.wakeAll()
    this.letters.close()
  }

  readonly retry = (key: K, cause: Cause.Cause<unknown> = Cause.empty): Effect.Effect<boolean> =>
    Effect.map(this.schedule(key, cause), (wait) => wait !== undefined)

  /** Gives the milliseconds until the next attempt; `undefined`: there will be none. */
  private schedule(key: K, cause: Cause.Cause<unknown>): Effect.Effect<number | undefined> {
    return Effect.suspend(() => {
      const id = this.keys.idOf(key)
      const error = Cause.isEmpty(cause) ? undefined : Cause.squash(cause)
      const { now } = this
      return Effect.map(this.waitOf(id, error, now), (wait) => {
        if (wait === undefined) return this.giveUp(key, id, cause, now)
        if (this.keys.isShutDown) {
          this.attempts.forget(id)
          return undefined
        }
        this.requeue(key, wait)
        return wait
      })
    })
  }

  private requeue(key: K, wait: number): void {
    if (wait > 0) {
      this.later(key, wait, table.retry, true)
      return
    }
    this.meter.retried()
    if (this.keys.add(key, table.retry, true) === "queued") this.takers.wakeOne()
  }

  /** A schedule that dies neither ends a worker nor loses a key. */
  private waitOf(id: unknown, error: unknown, now: number): Effect.Effect<number | undefined> {
    const ticks = this.timer.now
    const wait = Effect.suspend(() => this.attempts.failed(id, error, now, ticks))
    return Effect.catchAllCause(wait, (defect) =>
      Effect.as(
        this.warn(() => `${this.name}: its \`backoff\` died, the default one is used: ${describe(defect)}`),
        this.attempts.stepAnyway(id, ticks)
      )
    )
  }

  private giveUp(key: K, id: unknown, cause: Cause.Cause<unknown>, at: number): undefined {
    const attempts = this.attempts.failures(id)
    this.attempts.forget(id)
    this.meter.gaveUp()
    this.letters.post({ key, attempts, cause, at })
  }

  readonly forget = (key: K): Effect.Effect<void> => Effect.sync(() => this.succeeded(key))

  private succeeded(key: K): void {
    if (this.attempts.size > 0) this.attempts.forget(this.keys.idOf(key))
    if (this.keys.delays.size > 0) {
      this.keys.cancelRetry(key)
      this.settled()
    }
  }

  readonly failures = (key: K): Effect.Effect<number> => Effect.sync(() => this.attempts.failures(this.keys.idOf(key)))

  readonly run = <X, E, R>(
    handler: (key: K) => Effect.Effect<X, E, R>,
    options?: RunOptions
  ): Effect.Effect<void, never, R> =>
    Effect.suspend(() => {
      const concurrency = concurrencyOf(`WorkQueue "${this.name}".run`, options?.concurrency)
      const workers = Array.from({ length: concurrency }, () => this.worker(handler))
      return concurrency === 1 ? workers[0]! : Effect.all(workers, { concurrency: "unbounded", discard: true })
    })

  /** One loop of take, handle, done. Its effects are made once: a key costs no more of them than its handler's. */
  private worker<X, E, R>(handler: (key: K) => Effect.Effect<X, E, R>): Effect.Effect<void, never, R> {
    return Effect.suspend(() => {
      const { keys } = this
      const waiter: Waiter = { resume: undefined, isWoken: false }
      let slot = none
      // the end of one is the start of the next, so that the clock is read once
      const finish = (): Effect.Effect<void, never, R> => {
        const { now } = this
        this.doneSlot(slot, now)
        slot = this.takeSlot(now)
        return slot === none ? idle : attempt
      }
      const attempt: Effect.Effect<void, never, R> = Effect.matchCauseEffect(
        Effect.suspend(() => handler(keys.keyOf(slot))),
        {
          onFailure: (cause) => Effect.flatMap(this.failed(keys.keyOf(slot), cause), finish),
          onSuccess: () => {
            this.succeeded(keys.keyOf(slot))
            return finish()
          }
        }
      )
      const start = (): Effect.Effect<void, never, R> => {
        slot = this.takeSlot(this.now)
        return slot === none ? idle : attempt
      }
      const isOver = (): boolean => keys.isShutDown && keys.runningCount === 0
      const waiting = this.takers.waitAs(waiter, () => keys.length === 0 && !isOver())
      const goOn = Effect.flatMap(waiting, start)
      const idle = Effect.suspend(() => (isOver() ? Effect.void : goOn))
      return Effect.ensuring(
        Effect.suspend(start),
        Effect.sync(() => {
          if (slot !== none) {
            if (keys.putBack(slot, this.now)) this.takers.wakeOne()
            this.settled()
          }
          this.stopTaking(waiter)
        })
      )
    })
  }

  private failed(key: K, cause: Cause.Cause<unknown>): Effect.Effect<void> {
    return Effect.flatMap(this.schedule(key, cause), (wait) => {
      const next = wait === undefined ? "given up" : `next in ${Duration.format(Duration.millis(wait))}`
      return this.warn(
        () => `${this.name}: the work on ${Inspectable.toStringUnknown(key, 0)} failed (${next}): ${describe(cause)}`
      )
    })
  }

  /** Errors and keys are asked for their text: one that dies of that is not to take a worker with it. */
  private warn(message: () => string): Effect.Effect<void> {
    const text = Effect.catchAllDefect(Effect.sync(message), () =>
      Effect.succeed(`${this.name}: the work on a key failed; its error cannot be shown`)
    )
    return Effect.annotateLogs(
      Effect.flatMap(text, (shown) => Effect.logWarning(shown)),
      { "periscope.queue": this.name }
    )
  }

  // ---------------------------------------------------------------- looking, ending

  get length(): Effect.Effect<number> {
    return Effect.sync(() => this.keys.length)
  }

  get status(): Effect.Effect<Status> {
    return Effect.sync(() => ({
      live: this.keys.lengthOf(table.live),
      retry: this.keys.lengthOf(table.retry),
      resync: this.keys.lengthOf(table.resync),
      running: this.keys.runningCount,
      delayed: this.keys.delays.size,
      failing: this.attempts.size,
      longestRunningMillis: this.keys.work(this.now).longestMillis,
      isShutDown: this.keys.isShutDown
    }))
  }

  get shutDown(): Effect.Effect<void> {
    return Effect.sync(() => {
      this.forced++
      this.stop()
    })
  }

  private stop(): void {
    this.keys.shutDown()
    this.takers.wakeAll()
    this.adders.wakeAll()
    this.drainers.wakeAll()
    this.settled()
  }

  get shutDownWithDrain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.stop()
      const { forced, keys } = this
      return this.drainers.wait(() => this.forced === forced && keys.runningCount + keys.length > 0)
    })
  }

  get shutDownNow(): Effect.Effect<number> {
    return Effect.sync(() => {
      this.keys.shutDown()
      const dropped = this.keys.clear()
      this.forced++
      this.stop()
      return dropped
    })
  }

  get deadLetters(): Stream.Stream<DeadLetter<K>> {
    return this.letters.read((letter, missed) => ({ ...letter, missed }))
  }

  /** The end of its scope. */
  get close(): Effect.Effect<void> {
    return Effect.map(this.shutDownNow, () => {
      this.timer.clear()
      this.meter.sample({ count: 0, totalMillis: 0, longestMillis: 0 })
      this.letters.close()
    })
  }
}

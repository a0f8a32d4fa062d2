/**
 * A cache of what a source holds, kept up to date by a watch, for any number of readers: look up, list by index, follow.
 *
 * What is read is what the last poll found. Each follower is told every change in order, or how many it missed; a slow one
 * costs neither the cache nor another follower anything. Memory is the values, and the last `history` changes.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Change from "../core/Change.js"
import type { Watchable } from "../core/Source.js"
import * as Watcher from "../core/Watcher.js"
import * as WatchMetrics from "../core/WatchMetrics.js"
import type { WatchStatus } from "../core/WatchStatus.js"
import type { Snapshot } from "./cache.js"
import { Cache } from "./cache.js"
import { describe } from "../core/WatchStatus.js"
import type { Event, Predicate } from "./event.js"
import type { TermsOf } from "./keyIndex.js"
import { wholeNumber } from "./options.js"
import { Subscriber } from "./subscriber.js"
import { Waiters } from "./waiters.js"

export type {
  /**
   * All values at one time; it stays as it is. `changes({ from: snapshot.revision })` goes on where it ends.
   *
   * @category models
   * @since 0.1.0
   */
  Snapshot
} from "./cache.js"
export type {
  /**
   * A change of the cache; `previous` is always known. Who has handled it has been told everything up to `revision`, and may go on
   * from there. Several that belong together, those of a snapshot for example, are complete with the last one: until then it is 0,
   * from where nobody can go on.
   *
   * @category models
   * @since 0.1.0
   */
  Changed,
  /**
   * What a follower is told: a change, or that it missed some.
   *
   * @category models
   * @since 0.1.0
   */
  Event,
  /**
   * The follower was more than its `buffer` behind: `missed` changes of the cache, up to `revision`, were dropped for it. It goes on
   * behind them; `snapshot` has what they led to.
   *
   * @category models
   * @since 0.1.0
   */
  Missed
} from "./event.js"
export type {
  /**
   * Gives the terms under which a value is to be found. It must give the same ones for the same value at any time.
   *
   * @category models
   * @since 0.1.0
   */
  TermsOf
} from "./keyIndex.js"

/**
 * The changes behind a revision are not all kept any more, or the revision is none of this informer, but of one in another
 * process: start again, from a snapshot. Revisions from `oldest` to `head` would do.
 *
 * **Example**
 * ```ts
 * import { Stream } from "effect"
 * import { Informer } from "effect-periscope/control"
 *
 * // where a client left off, if that is still known
 * const resume = <A>(informer: Informer.Informer<A>, revision: number): Stream.Stream<Informer.Event<A>, Informer.Compacted> =>
 *   informer.changes({ from: revision }).pipe(Stream.catchTag("Compacted", () => informer.changes({ from: "snapshot" })))
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class Compacted extends Schema.TaggedError<Compacted>("effect-periscope/Compacted")("Compacted", {
  informer: Schema.String,
  requested: Schema.Number,
  oldest: Schema.Number,
  head: Schema.Number
}) {
  override get message(): string {
    return `${this.informer}: changes behind revision ${this.requested} are not kept (they are from ${this.oldest} to ${this.head}); follow it from "snapshot"`
  }
}

/**
 * What is kept beside the values.
 *
 * - `indexes`: by what else than its key a value is to be found.
 * - `history`: how many changes are kept for followers that are behind or come back [1024].
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheOptions<in A, in out I extends string = never> {
  readonly indexes?: Readonly<Record<I, TermsOf<A>>> | undefined
  readonly history?: number | undefined
}

/**
 * The options of {@link make}: those of the cache and those of its watch. There is no checkpoint: what a watch with one has
 * committed does not come again, and would be missing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in A, in E, in out I extends string, out S, out T>
  extends CacheOptions<A, I>, Omit<Watcher.Options<E>, "checkpoint" | "initial" | "retry" | "schedule"> {
  /** Decides the pauses instead of `interval`; the followers' streams end when it ends. */
  readonly schedule?: S | undefined
  /** Decides over failed polls; the followers' streams fail with the last error when it ends. */
  readonly retry?: T | undefined
}

/**
 * How an informer is followed.
 *
 * - `from`: `"snapshot"`, what is there as Added and then what changes, without a gap; `"now"`, what changes from now on; a
 *   revision, what changed behind it [`"snapshot"`].
 * - `buffer`: how many changes the follower may be behind [all that are kept].
 * - `resync`: what it missed comes as the difference that it made, not as a number [false].
 *
 * @category models
 * @since 0.1.0
 */
export interface ChangesOptions {
  readonly from?: "snapshot" | "now" | number | undefined
  readonly buffer?: number | undefined
  readonly resync?: boolean | undefined
}

/**
 * What the watch does, and what the informer holds, a view all of it too: `items`, the `revision` of the last change and the `oldest` one to follow
 * it from, how many `followers` it has, and how many changes those of all time have `missed`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Status extends WatchStatus {
  readonly items: number
  readonly revision: number
  readonly oldest: number
  readonly followers: number
  readonly missed: number
}

/**
 * A cache that is kept up to date. `I` are the names of its indexes, `E` is what ends its watch.
 *
 * @category models
 * @since 0.1.0
 */
export interface Informer<out A, out E = never, in I extends string = never> {
  readonly name: string
  /** The value of a key. */
  readonly get: (key: string) => Effect.Effect<Option.Option<A>>
  /** All values. The first change after it copies the cache, however many took it before. */
  readonly snapshot: Effect.Effect<Snapshot<A>>
  /** The keys and values that are under a term of an index. */
  readonly by: (index: I, term: string) => Effect.Effect<ReadonlyArray<readonly [key: string, value: A]>>
  /** Waits until the first complete observation is in the cache. Fails if the watch does before. */
  readonly awaitSynced: Effect.Effect<void, E>
  /**
   * Follows the cache. Each run of the stream is a follower of its own. It ends with the watch, or fails with its error, once it
   * has told what came before.
   */
  readonly changes: {
    (options?: ChangesOptions & { readonly from?: "snapshot" | "now" | undefined }): Stream.Stream<Event<A>, E>
    (options: ChangesOptions): Stream.Stream<Event<A>, Compacted | E>
  }
  /**
   * The part of the cache that a predicate accepts: a value that leaves the part is Removed, one that enters it Added. It costs
   * nothing, as it is the same cache; its snapshot goes through all of it. The predicate looks at nothing but its arguments.
   */
  readonly view: {
    <B extends A>(refinement: (value: A, key: string) => value is B): Informer<B, E, I>
    (predicate: (value: A, key: string) => boolean): Informer<A, E, I>
  }
  readonly status: Effect.Effect<Status>
  /** Asks for a poll now: a hint that something may have changed. */
  readonly poke: Effect.Effect<void>
  /** Releases the removals that are held back. */
  readonly approve: Effect.Effect<void>
}

/** What schedules there can be: what they need is taken when the informer is made. */
type AnySchedule = Schedule.Schedule<unknown, unknown, unknown>

/**
 * Makes an informer over a source, and watches it until the scope closes.
 *
 * **When to use** Where several readers, or the same one again and again, look at what there is: a controller, a request handler,
 * a stream of server-sent events. To act on every change across restarts, use `Watcher.runForEach` with a checkpoint.
 *
 * **Details** The cache decides what a change is: an Added of a key that is there is a Modified, a Modified of one that is not is
 * an Added, a Removed of one that is not is nothing; so entities of a log, a listing and a single document all work. A page of a
 * listing is in the cache before the next one is asked for; `awaitSynced` waits for all of them. Revisions grow by
 * one with each change, and start at the time at which the informer was made, in microseconds: one of an earlier process is
 * {@link Compacted}, and not mistaken.
 *
 * **Gotchas** A stream hands out all that is there at once: operators that read ahead, such as `buffer`, hide how far behind their
 * consumer is. A snapshot before each change of a large cache copies it each time: follow the changes instead, or use indexes.
 *
 * **Errors** What ends the watch ends the streams of all followers, typed, and is logged; the cache stays as it was, and `status`
 * says so. The same holds for an index that throws. Options that make no sense die with a sentence.
 *
 * **Source** client-go `tools/cache`, kube-runtime `reflector`
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Source } from "effect-periscope"
 * import { Informer } from "effect-periscope/control"
 *
 * const program = Effect.gen(function* () {
 *   const users = yield* Source.memory<{ readonly team: string }>()
 *   yield* users.set("ada", { team: "blue" })
 *   yield* users.set("bob", { team: "red" })
 *   yield* users.set("cleo", { team: "blue" })
 *   const informer = yield* Informer.make(users, { indexes: { team: (user) => user.team } })
 *   yield* informer.awaitSynced
 *   return (yield* informer.by("team", "blue")).map(([key]) => key)
 * }).pipe(Effect.scoped)
 *
 * await Effect.runPromise(program) // => ["ada", "cleo"]
 * ```
 *
 * **Example** Following it
 * ```ts
 * import { Effect, Fiber, Stream } from "effect"
 * import { Source } from "effect-periscope"
 * import { Informer } from "effect-periscope/control"
 * import { VirtualClock } from "effect-periscope/testing"
 *
 * const program = Effect.gen(function* () {
 *   const prices = yield* Source.memory<number>()
 *   yield* prices.set("tea", 2)
 *   yield* prices.set("cake", 4)
 *   const informer = yield* Informer.make(prices, { interval: "10 seconds" })
 *   const cheap = informer.view((price) => price < 4)
 *   const told = yield* Effect.fork(cheap.changes().pipe(Stream.take(3), Stream.runCollect))
 *   yield* Effect.sleep("1 second")
 *   yield* prices.set("cake", 3)
 *   yield* Effect.sleep("10 seconds")
 *   yield* prices.set("tea", 5)
 *   return Array.from(yield* Fiber.join(told), (event) => (event._tag === "Lagged" ? "?" : `${event._tag} ${event.key}`))
 * }).pipe(Effect.scoped, VirtualClock.run) // no real wait
 *
 * await Effect.runPromise(program) // => ["Added tea", "Added cake", "Removed tea"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  A,
  E,
  R,
  I extends string = never,
  S extends AnySchedule | undefined = undefined,
  T extends Schedule.Schedule<unknown, E, unknown> | undefined = undefined
>(
  source: Watchable<A, E, R>,
  options?: Options<A, E, I, S, T>
): Effect.Effect<
  Informer<A, Watcher.Failure<E, { schedule: S; retry: T }>, I>,
  never,
  R | Watcher.Services<{ schedule: S; retry: T }> | Scope.Scope
> =>
  Effect.flatMap(
    Watcher.make<A, E, R, { schedule: S; retry: T }>(source, options as { schedule: S; retry: T } | undefined),
    (watcher) => fromWatcher(watcher, options)
  )

/**
 * Makes an informer that is the consumer of a watcher, until the scope closes.
 *
 * **When to use** To keep the watcher in hand: to subscribe to its status, or to drain it.
 *
 * **Gotchas** The watcher has no checkpoint, and nothing has consumed it before: what it has delivered already would be missing.
 *
 * **Example**
 * ```ts
 * import { Effect, Option } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 * import { Informer } from "effect-periscope/control"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   const watcher = yield* Watcher.make(flags)
 *   const informer = yield* Informer.fromWatcher(watcher)
 *   yield* watcher.awaitSynced
 *   return yield* informer.get("dark-mode")
 * }).pipe(Effect.scoped)
 *
 * await Effect.runPromise(program) // => Option.some(true)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromWatcher = <A, E, I extends string = never>(
  watcher: Watcher.Watcher<A, E>,
  options?: CacheOptions<A, I>
): Effect.Effect<Informer<A, E, I>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const start = Math.max(1, (yield* Clock.currentTimeMillis) * 1000)
    const history = wholeNumber(`Informer "${watcher.name}"`, "history", options?.history ?? 1024)
    const fed = new Fed(watcher, new Cache<A>(history, start, options?.indexes ?? {}))
    yield* Effect.addFinalizer(() => fed.close)
    yield* Effect.forkScoped(Effect.interruptible(fed.sync))
    yield* Effect.forkScoped(Effect.interruptible(fed.feed))
    return new CacheInformer<A, E>(fed, undefined)
  })

/** A cache and the watcher that feeds it. */
class Fed<A, E> {
  readonly waiters = new Waiters()
  followers = 0
  missed = 0
  ended: Exit.Exit<void, E> | undefined
  private isSynced = false
  private readonly end = Deferred.unsafeMake<void, E>(FiberId.none)
  /** What this informer has put into the gauge of all of them. */
  private counted = 0

  constructor(
    readonly watcher: Watcher.Watcher<A, E>,
    readonly cache: Cache<A>
  ) {}

  /** Takes what the watcher finds, without ever waiting for a follower. */
  get feed(): Effect.Effect<void, E> {
    return Stream.runForEachChunk(this.watcher.changes, (changes) => Effect.sync(() => this.take(changes))).pipe(
      Effect.tapErrorCause((cause) =>
        Cause.isInterruptedOnly(cause)
          ? Effect.void
          : Effect.annotateLogs(
              Effect.logError(`${this.watcher.name}: the informer is no longer kept up to date: ${describe(cause)}`),
              { "periscope.source": this.watcher.name }
            )
      ),
      Effect.onExit((exit) => this.finish(exit))
    )
  }

  private take(changes: Chunk.Chunk<Change.Change<A>>): void {
    for (const change of changes) this.cache.apply(change)
    this.count(this.cache.size)
    this.waiters.wakeAll()
  }

  private finish(exit: Exit.Exit<void, E>): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.ended !== undefined) return Effect.void
      this.ended = exit
      this.waiters.wakeAll()
      return Effect.asVoid(Deferred.done(this.end, exit))
    })
  }

  /** Notes down that all of it was there once, whatever comes then. */
  get sync(): Effect.Effect<void> {
    return Effect.ignore(Effect.map(this.watcher.awaitSynced, () => void (this.isSynced = true)))
  }

  get awaitSynced(): Effect.Effect<void, E> {
    // a watch that ended well was complete before
    const failed = Effect.zipRight(Deferred.await(this.end), Effect.never)
    return Effect.suspend(() => (this.isSynced ? Effect.void : Effect.raceFirst(this.watcher.awaitSynced, failed)))
  }

  missing(count: number): void {
    this.missed += count
    WatchMetrics.update(WatchMetrics.informers.missed, count)
  }

  private count(items: number): void {
    WatchMetrics.informers.items.unsafeModify(items - this.counted, [])
    this.counted = items
  }

  get close(): Effect.Effect<void> {
    return Effect.zipRight(
      this.finish(Exit.void),
      Effect.sync(() => this.count(0))
    )
  }
}

type Pull<A, E> = Effect.Effect<Chunk.Chunk<Event<A>>, Option.Option<E>>

class CacheInformer<A, E> implements Informer<A, E, string> {
  constructor(
    private readonly fed: Fed<A, E>,
    private readonly accepts: Predicate<A> | undefined
  ) {}

  get name(): string {
    return this.fed.watcher.name
  }

  readonly get = (key: string): Effect.Effect<Option.Option<A>> =>
    Effect.sync(() => Option.filter(this.fed.cache.get(key), (value) => this.accepts?.(value, key) ?? true))

  get snapshot(): Effect.Effect<Snapshot<A>> {
    return Effect.sync(() => {
      const { cache } = this.fed
      const { accepts } = this
      if (accepts === undefined) return cache.snapshot
      const items = new Map<string, A>()
      for (const [key, value] of cache.entries) if (accepts(value, key)) items.set(key, value)
      return { items, revision: cache.history.head }
    })
  }

  readonly by = (index: string, term: string): Effect.Effect<ReadonlyArray<readonly [string, A]>> =>
    Effect.sync(() => {
      const { accepts } = this
      const found = this.fed.cache.by(index, term)
      return accepts === undefined ? found : found.filter(([key, value]) => accepts(value, key))
    })

  get awaitSynced(): Effect.Effect<void, E> {
    return this.fed.awaitSynced
  }

  // only a revision can be compacted
  readonly changes = (options: ChangesOptions = {}): Stream.Stream<Event<A>, E> =>
    Stream.fromPull(
      Effect.suspend((): Effect.Effect<Pull<A, E>, never, Scope.Scope> => {
        const { floor, head } = this.fed.cache.history
        const { from = "snapshot" } = options
        if (typeof from === "number" && !(Number.isInteger(from) && from >= floor && from <= head)) {
          const compacted = new Compacted({ informer: this.name, requested: from, oldest: floor, head })
          return Effect.succeed(Effect.fail(Option.some(compacted as E)))
        }
        return this.follow(from, options)
      })
    )

  private follow(
    from: "snapshot" | "now" | number,
    options: ChangesOptions
  ): Effect.Effect<Pull<A, E>, never, Scope.Scope> {
    const { accepts, fed } = this
    const { capacity } = fed.cache.history
    const buffer = wholeNumber(`Informer "${this.name}".changes`, "buffer", options.buffer ?? capacity)
    if (buffer > capacity) {
      throw new Error(
        `Informer "${this.name}".changes: \`buffer\` is ${buffer}, above \`history\` (${capacity}); what is not kept cannot be told.`
      )
    }
    const start = Effect.sync(() => {
      fed.followers++
      const onMissed = (count: number): void => fed.missing(count)
      return new Subscriber(fed.cache, { from, buffer, resync: options.resync ?? false, accepts, onMissed })
    })
    const stop = (subscriber: Subscriber<A>): Effect.Effect<void> =>
      Effect.sync(() => {
        fed.followers--
        subscriber.close()
      })
    return Effect.map(Effect.acquireRelease(start, stop), (subscriber) => {
      const pull: Pull<A, E> = Effect.suspend(() => {
        const events = subscriber.read()
        if (events.length > 0) return Effect.succeed(Chunk.unsafeFromArray(events))
        const { ended } = fed
        if (ended === undefined) return Effect.zipRight(news, pull)
        return Exit.isSuccess(ended) || Cause.isInterruptedOnly(ended.cause)
          ? Effect.fail(Option.none())
          : Effect.failCause(Cause.map(ended.cause, Option.some))
      })
      const news = fed.waiters.wait(() => subscriber.isUpToDate && fed.ended === undefined)
      return pull
    })
  }

  readonly view = (predicate: Predicate<A>): CacheInformer<A, E> => {
    const { accepts } = this
    const both: Predicate<A> =
      accepts === undefined ? predicate : (value, key) => accepts(value, key) && predicate(value, key)
    return new CacheInformer(this.fed, both)
  }

  get status(): Effect.Effect<Status> {
    return Effect.map(this.fed.watcher.status.get, (status) => {
      const { cache, ended, followers, missed } = this.fed
      const { floor, head } = cache.history
      const counts = { items: cache.size, revision: head, oldest: floor, followers, missed }
      // also where the watcher knows nothing of it: an index threw
      return ended === undefined || Exit.isSuccess(ended) || Cause.isInterruptedOnly(ended.cause)
        ? { ...status, ...counts }
        : { ...status, phase: { _tag: "Stopped", error: Option.some(ended.cause) }, ...counts }
    })
  }

  get poke(): Effect.Effect<void> {
    return this.fed.watcher.poke
  }

  get approve(): Effect.Effect<void> {
    return this.fed.watcher.approve
  }
}

/**
 * An outside thing that changes, as an immutable value: how to observe it once, given what was known before.
 *
 * A source keeps no state of its own: `poll` takes the state in and gives the next one back, so one source can be watched
 * any number of times, and a watcher can save, compare and replay what it knows.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { dual, identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Pipeable } from "effect/Pipeable"
import { pipeArguments } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Types from "effect/Types"
import * as Change from "./Change.js"
import type { BlockCodec, Codec, Definition, Poll, Polled } from "./definition.js"
import { identityIn } from "./definition.js"
import { positive } from "./durationOption.js"
import * as listing from "./listing.js"
import type { ListingError, ListingOptions } from "./listingOptions.js"
import { immediate } from "./passing.js"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  ListingError
} from "./listingOptions.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  BlockCodec,
  /**
   * @category models
   * @since 0.1.0
   */
  Definition,
  /**
   * @category models
   * @since 0.1.0
   */
  Poll,
  /**
   * @category models
   * @since 0.1.0
   */
  Polled
} from "./definition.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  ItemText,
  /**
   * @category models
   * @since 0.1.0
   */
  ListingOptions,
  /**
   * @category models
   * @since 0.1.0
   */
  ListPage,
  /**
   * @category models
   * @since 0.1.0
   */
  Unchanged
} from "./listingOptions.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  RemovalGuardOptions,
  /**
   * @category models
   * @since 0.1.0
   */
  RemovalPlan
} from "./removalGuard.js"

/**
 * Marks a value as a {@link Source}.
 *
 * @category type ids
 * @since 0.1.0
 */
export const TypeId: TypeId = "~effect-periscope/Source"

/**
 * The type of the key that marks a {@link Source}.
 *
 * @category type ids
 * @since 0.1.0
 */
export type TypeId = "~effect-periscope/Source"

/**
 * Something to watch: gives values of type `A`, fails with `E`, needs the services `R`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source<out A, out E = never, out R = never> extends Pipeable {
  readonly [TypeId]: {
    readonly _A: Types.Covariant<A>
    readonly _E: Types.Covariant<E>
    readonly _R: Types.Covariant<R>
  }
  /** Names the source in logs, spans, metrics and change ids. Holds no secret. */
  readonly name: string
  readonly definition: Definition<A, E, R>
}

/**
 * A source, or the tag of the service that holds one: what every function of `Watcher` takes.
 *
 * @category models
 * @since 0.1.0
 */
export type Watchable<A, E, R> = Source<A, E, R> | Context.Tag<R, Source<A, E>>

/**
 * Tells a source from anything else.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Source } from "effect-periscope"
 *
 * const flags = Effect.runSync(Source.memory<boolean>())
 *
 * Source.isSource(flags) // => true
 * Source.isSource({ name: "flags" }) // => false
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isSource = (u: unknown): u is Source<unknown, unknown, unknown> => Predicate.hasProperty(u, TypeId)

const variance = { _A: identity, _E: identity, _R: identity }

const Proto = {
  [TypeId]: variance,
  pipe() {
    return pipeArguments(this, arguments)
  }
}

/**
 * Makes a source from its definition.
 *
 * **When to use** To write operators over sources. To write a source, use {@link make}, {@link fromListing} or
 * {@link fromLog}.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Source } from "effect-periscope"
 *
 * const named = <A, E, R>(self: Source.Source<A, E, R>, name: string): Source.Source<A, E, R> =>
 *   Source.fromDefinition({ ...self.definition, name })
 *
 * named(Effect.runSync(Source.memory<boolean>()), "flags").name // => "flags"
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromDefinition = <A, E, R>(definition: Definition<A, E, R>): Source<A, E, R> =>
  Object.assign(Object.create(Proto), { name: definition.name, definition })

const defaultTimeout = Duration.minutes(2)

const schemaCodec = <S, I>(state: Schema.Schema<S, I>): BlockCodec<S, S, I> => ({
  head: state,
  split: (value) => ({ head: value, blocks: [] }),
  join: identity
})

/**
 * What every constructor takes.
 *
 * - `name`: names the source in logs, spans, metrics and change ids. No secrets.
 * - `identity`: what a checkpoint is bound to [the name]; state of another identity is refused.
 * - `timeout`: bound of one poll, also an uninterruptible one [2 minutes].
 * - `onTimeout`: the source's own error for it; without it a poll that took too long is retried like a defect.
 *
 * @category models
 * @since 0.1.0
 */
export interface CommonOptions<E> {
  readonly name: string
  readonly identity?: string | undefined
  readonly timeout?: Duration.DurationInput | undefined
  readonly onTimeout?: ((timeout: Duration.Duration) => E) | undefined
}

const common = <E>(options: CommonOptions<E>) => {
  if (options.name.length === 0) {
    throw new Error(
      "Source: `name` is empty; give the source a name that tells it from others in logs and checkpoints."
    )
  }
  return {
    name: options.name,
    identity: options.identity ?? options.name,
    timeout: options.timeout === undefined ? defaultTimeout : positive("Source", "timeout", options.timeout),
    onTimeout: options.onTimeout,
    change: undefined,
    recover: identity,
    plan: Option.none,
    approve: identity
  }
}

/**
 * Makes a source from a function that observes once, given what was known before.
 *
 * **Details** `state` and `item` are codecs: state and undelivered changes can be saved by a watcher with a checkpoint.
 * `poll` gives changes and the next state; both are accepted together or not at all.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Change, Source, Watcher } from "effect-periscope"
 *
 * const measure: Effect.Effect<number> = Effect.succeed(0.5)
 *
 * const load = Source.make({
 *   name: "load",
 *   state: Schema.NullOr(Schema.Number),
 *   item: Schema.Number,
 *   initial: null,
 *   poll: (before) =>
 *     Effect.map(measure, (now) => ({
 *       state: now,
 *       changes: now === before ? [] : [before === null ? Change.added("load", now) : Change.modified("load", now)]
 *     }))
 * })
 *
 * await Effect.runPromise(Watcher.once(load)) // => [Change.added("load", 0.5)]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <S, B, E = never, R = never, IS = unknown, IB = unknown>(
  options: CommonOptions<E> & {
    readonly state: Schema.Schema<S, IS> | BlockCodec<S>
    readonly item: Schema.Schema<B, IB>
    readonly initial: NoInfer<S>
    readonly poll: (state: S) => Effect.Effect<Poll<B, S>, E, R>
    /** The state that makes the next poll report again what is there now under these keys [`initial`]. */
    readonly rewind?: ((state: S, keys: ReadonlyArray<string>) => S) | undefined
    /** The state to go on with after a failed poll [the same]. */
    readonly recover?: ((state: S, error: unknown) => S) | undefined
  }
): Source<B, E, R> =>
  fromDefinition<B, E, R>({
    ...common(options),
    state: "split" in options.state ? options.state : schemaCodec(options.state),
    item: options.item,
    initial: options.initial,
    poll: options.poll,
    durable: identity,
    restore: identity,
    replays: false,
    baseline: undefined,
    recover: options.recover ?? identity,
    rewind: (state, lost) =>
      options.rewind === undefined
        ? options.initial
        : options.rewind(
            state,
            lost.map(({ key }) => key)
          )
  })

/**
 * Makes a source of many keyed items from a function that lists them: you list, it diffs.
 *
 * **Details** One page, one poll, one batch. Items that are new or whose `version` differs are reported with their page;
 * `Removed` only after a complete walk, and only for keys that no page of it held. A walk that misses suspiciously many keys
 * is held back by `removalGuard`. A failed page is asked for again; a walk whose token goes stale starts over.
 *
 * **Errors** Those of `list`, and {@link ListingError}: `NoProgress` (the pages lead in a circle) and `TooManyPages`; the
 * walk starts over.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 *
 * const User = Schema.Struct({ id: Schema.String, etag: Schema.String })
 * const pages = [[{ id: "ada", etag: "1" }], [{ id: "bob", etag: "7" }]]
 *
 * const users = Source.fromListing({
 *   name: "users",
 *   item: User,
 *   list: (page: number = 0) =>
 *     Effect.succeed({ items: pages[page] ?? [], next: page + 1 < pages.length ? page + 1 : undefined }),
 *   key: (user) => user.id,
 *   version: (user) => user.etag
 * })
 *
 * const changes = await Effect.runPromise(Watcher.once(users))
 * changes.map(({ _tag, key }) => `${_tag} ${key}`) // => ["Added ada", "Added bob"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromListing = <A, I, T = never, E = never, R = never, V = never>(
  options: CommonOptions<E> & ListingOptions<A, I, T, E, R, V>
): Source<A, E | ListingError, R> => {
  const walk = listing.make(options)
  return fromDefinition<A, E | ListingError, R>({
    ...common<E | ListingError>(options),
    ...walk,
    item: options.item,
    replays: false,
    baseline: undefined
  })
}

/**
 * One entry of a log: its value, and the cursor to read on behind it. Its `id` tells it from all others of the log, and is
 * the cursor as text by default (one of several parts in its encoded form); its `key` is its id by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface LogEntry<A, C> {
  readonly cursor: C
  readonly id?: string | undefined
  readonly key?: string | undefined
  readonly value: A
}

/**
 * A page of a log from which entries may be left out: `cursor` is behind all that was read, `more` says whether to read on at
 * once.
 *
 * @category models
 * @since 0.1.0
 */
export interface LogPage<A, C> {
  readonly entries: ReadonlyArray<LogEntry<A, C>>
  readonly cursor: C
  readonly more: boolean
}

/**
 * Makes a source from an append-only log: you read a page after a cursor, it keeps the place. Each entry is an Added.
 *
 * **Details** Entries are delivered in the order of the log. A page of `limit` [1000] entries is followed by the next at
 * once; who leaves entries out gives a {@link LogPage} instead of an array. A log can be read again, so nothing but the cursor
 * is saved: it follows the commits. `head` gives the newest cursor; a watch with `initial: "suppress"` starts there (without it,
 * it reads everything and drops it). `hints` pokes the watcher when there may be something new, until its scope closes.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 *
 * const rows = ["signed up", "paid"]
 *
 * const events = Source.fromLog({
 *   name: "events",
 *   item: Schema.String,
 *   cursor: Schema.Number,
 *   initial: 0,
 *   read: (after, limit) =>
 *     Effect.succeed(rows.slice(after, after + limit).map((value, n) => ({ cursor: after + n + 1, value })))
 * })
 *
 * const changes = await Effect.runPromise(Watcher.once(events))
 * changes.map(({ key }) => key) // => ["1", "2"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromLog = <A, I, C, IC, E = never, R = never>(
  options: CommonOptions<E> & {
    readonly item: Schema.Schema<A, I>
    readonly cursor: Schema.Schema<C, IC>
    /** The cursor before the first entry. */
    readonly initial: NoInfer<C>
    readonly read: (
      after: C,
      limit: number,
      polled: Polled<C>
    ) => Effect.Effect<ReadonlyArray<LogEntry<A, C>> | LogPage<A, C>, E, R>
    readonly head?: Effect.Effect<NoInfer<C>, E, R> | undefined
    readonly limit?: number | undefined
    readonly hints?: ((poke: () => void) => Effect.Effect<void, never, R | Scope.Scope>) | undefined
    /** What is handled in order where handlers run side by side [the key]. */
    readonly orderBy?: ((value: A) => string) | undefined
  }
): Source<A, E, R> => {
  const limit = options.limit ?? 1000
  if (!Number.isInteger(limit) || limit < 1) {
    throw new Error(`Source.fromLog: \`limit\` is ${limit}; it must be a whole number of 1 or more.`)
  }
  const encodeCursor = Schema.encodeSync(options.cursor)
  const cursorText = (cursor: C): string =>
    Predicate.isObject(cursor) ? JSON.stringify(encodeCursor(cursor)) : String(cursor)
  const idOf = (entry: LogEntry<A, C>): string => entry.id ?? cursorText(entry.cursor)
  const { hints, orderBy, read } = options
  return fromDefinition<A, E, R>({
    ...common(options),
    state: schemaCodec(options.cursor),
    item: options.item,
    initial: options.initial,
    poll: (after: C, polled: Polled<C>) =>
      Effect.map(read(after, limit, polled), (found): Poll<A, C> => {
        const isPage = "cursor" in found
        const entries = isPage ? found.entries : found
        return {
          changes: entries.map((entry) => Change.added(entry.key ?? idOf(entry), entry.value)),
          state: isPage ? found.cursor : (entries[entries.length - 1]?.cursor ?? after),
          more: isPage ? found.more : entries.length >= limit,
          stateAfter: (index) => entries[index]!.cursor,
          nameOf: (index) => idOf(entries[index]!)
        }
      }),
    hints,
    orderBy:
      orderBy === undefined
        ? undefined
        : (stored: Change.Change<A>) => (stored._tag === "Added" ? orderBy(stored.value) : stored.key),
    durable: identity,
    restore: identity,
    replays: true,
    baseline: options.head,
    rewind: identity
  })
}

/**
 * Turns the delivered values with an effect. What is stored stays as it was, so no new codec is needed.
 *
 * **Details** It runs within the poll: a failure is a failed poll, the state stays as it was, and the same change is tried
 * again. A `previous` that fails is unknown.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Change, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const limits = yield* Source.memory<string>()
 *   yield* limits.set("requests", "100")
 *   return yield* Watcher.once(Source.mapEffect(limits, Schema.decode(Schema.NumberFromString)))
 * })
 *
 * await Effect.runPromise(program) // => [Change.added("requests", 100)]
 * ```
 *
 * @category mapping
 * @since 0.1.0
 */
export const mapEffect: {
  <A, B, E2, R2>(f: (value: A) => Effect.Effect<B, E2, R2>): <E, R>(self: Source<A, E, R>) => Source<B, E | E2, R | R2>
  <A, E, R, B, E2, R2>(self: Source<A, E, R>, f: (value: A) => Effect.Effect<B, E2, R2>): Source<B, E | E2, R | R2>
} = dual(
  2,
  <A, E, R, B, E2, R2>(self: Source<A, E, R>, f: (value: A) => Effect.Effect<B, E2, R2>): Source<B, E | E2, R | R2> =>
    transform(self, (change) => Effect.asSome(Change.traverse(change, f)))
)

/**
 * Turns the delivered values with a function.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Change, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const prices = yield* Source.memory<{ readonly cents: number }>()
 *   yield* prices.set("tea", { cents: 250 })
 *   return yield* Watcher.once(Source.map(prices, ({ cents }) => cents / 100))
 * })
 *
 * await Effect.runPromise(program) // => [Change.added("tea", 2.5)]
 * ```
 *
 * @category mapping
 * @since 0.1.0
 */
export const map: {
  <A, B>(f: (value: A) => B): <E, R>(self: Source<A, E, R>) => Source<B, E, R>
  <A, E, R, B>(self: Source<A, E, R>, f: (value: A) => B): Source<B, E, R>
} = dual(2, <A, E, R, B>(self: Source<A, E, R>, f: (value: A) => B): Source<B, E, R> =>
  transform(self, (change) => Either.right(Option.some(Change.map(change, f))))
)

/**
 * Narrows a source to the values that a predicate accepts: leaving the filter is a Removed, entering it an Added.
 *
 * **Gotchas** Where the source does not keep the last known value, a Modified that fails the predicate is a Removed even if
 * the key was never inside.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Change, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   yield* flags.set("beta", false)
 *   return yield* Watcher.once(Source.filter(flags, (isOn) => isOn))
 * })
 *
 * await Effect.runPromise(program) // => [Change.added("dark-mode", true)]
 * ```
 *
 * @category filtering
 * @since 0.1.0
 */
export const filter: {
  <A>(predicate: (value: NoInfer<A>) => boolean): <E, R>(self: Source<A, E, R>) => Source<A, E, R>
  <A, E, R>(self: Source<A, E, R>, predicate: (value: A) => boolean): Source<A, E, R>
} = dual(2, <A, E, R>(self: Source<A, E, R>, predicate: (value: A) => boolean): Source<A, E, R> =>
  transform(self, (change) => Either.right(Change.filter(change, predicate)))
)

const transform = <A, E, R, B, E2, R2>(
  self: Source<A, E, R>,
  f: (change: Change.Change<A>) => Effect.Effect<Option.Option<Change.Change<B>>, E2, R2>
): Source<B, E | E2, R | R2> => {
  const before = self.definition.change
  return fromDefinition<B, E | E2, R | R2>({
    ...self.definition,
    change:
      before === undefined
        ? f
        : (change) => {
            const passing = before(change)
            const next = (passed: Option.Option<Change.Change<A>>) =>
              Option.isNone(passed) ? Either.right(Option.none()) : f(passed.value)
            const passed = immediate(passing)
            return passed === undefined ? Effect.flatMap(passing, next) : next(passed)
          }
  })
}

/**
 * Makes the class of a source that is a service, so that a program names what it watches and a layer says where it is.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Change, Source, Watcher } from "effect-periscope"
 *
 * class Flags extends Source.Tag("app/Flags")<Flags, boolean>() {}
 *
 * const program: Effect.Effect<ReadonlyArray<Change.Change<boolean>>, never, Flags> = Watcher.once(Flags)
 *
 * const FlagsTest = Layer.unwrapEffect(
 *   Effect.gen(function* () {
 *     const flags = yield* Source.memory<boolean>()
 *     yield* flags.set("dark-mode", true)
 *     return Source.layer(Flags, flags)
 *   })
 * )
 *
 * await Effect.runPromise(Effect.provide(program, FlagsTest)) // => [Change.added("dark-mode", true)]
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Tag =
  <const Id extends string>(id: Id) =>
  <Self, A, E = never>(): Context.TagClass<Self, Id, Source<A, E>> =>
    Context.Tag(id)<Self, Source<A, E>>()

/**
 * Provides a source as a service; what the source needs is taken from the layer's own requirements.
 *
 * **Example**
 * ```ts
 * import type { HttpClient } from "@effect/platform"
 * import { Layer, Schema } from "effect"
 * import { Source } from "effect-periscope"
 * import { HttpSource } from "effect-periscope/http"
 *
 * const Limits = Schema.Struct({ requestsPerSecond: Schema.Number })
 *
 * class AppLimits extends Source.Tag("app/Limits")<AppLimits, typeof Limits.Type, HttpSource.HttpSourceError>() {}
 *
 * const AppLimitsHttp: Layer.Layer<AppLimits, never, HttpClient.HttpClient> = Source.layer(
 *   AppLimits,
 *   HttpSource.make({ url: "https://example.com/limits.json", schema: Limits })
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <Self, A, E, A1 extends A, E1 extends E, R>(
  tag: Context.Tag<Self, Source<A, E>>,
  source: Source<A1, E1, R>
): Layer.Layer<Self, never, R> =>
  Layer.effect(
    tag,
    Effect.map(Effect.context<R>(), (context) => provideContext(source, context))
  )

/**
 * Gives a source the services it needs.
 *
 * **Example**
 * ```ts
 * import { Context, Effect, Schema } from "effect"
 * import { Change, Source, Watcher } from "effect-periscope"
 *
 * class Region extends Context.Tag("app/Region")<Region, string>() {}
 *
 * const region = Source.make({
 *   name: "region",
 *   state: Schema.String,
 *   item: Schema.String,
 *   initial: "",
 *   poll: (before) =>
 *     Effect.map(Region, (now) => ({ state: now, changes: now === before ? [] : [Change.added("region", now)] }))
 * })
 *
 * const inEurope: Source.Source<string> = Source.provideContext(region, Context.make(Region, "eu"))
 *
 * await Effect.runPromise(Watcher.once(inEurope)) // => [Change.added("region", "eu")]
 * ```
 *
 * @category context
 * @since 0.1.0
 */
export const provideContext = <A, E, R>(self: Source<A, E, R>, context: Context.Context<R>): Source<A, E> => {
  const { definition } = self
  const { change, hints } = definition
  return fromDefinition<A, E, never>({
    ...definition,
    identity: identityIn(definition.identity, context),
    poll: (state, polled) => Effect.provide(definition.poll(state, polled), context),
    change:
      change === undefined
        ? undefined
        : (stored) => {
            const passing = change(stored)
            const passed = immediate(passing)
            return passed === undefined ? Effect.provide(passing, context) : Either.right(passed)
          },
    baseline: definition.baseline === undefined ? undefined : Effect.provide(definition.baseline, context),
    hints:
      hints === undefined
        ? undefined
        : (poke) =>
            // the services may hold a scope of their own, which lives longer than the consumer
            Effect.mapInputContext(hints(poke), (scope: Context.Context<Scope.Scope>) => Context.merge(context, scope))
  })
}

/**
 * A source that is changed by hand: what tests of a program set, remove and fail.
 *
 * @category models
 * @since 0.1.0
 */
export interface MemorySource<A, E = never> extends Source<A, E> {
  /** Sets the value under a key, for the next poll to find. */
  readonly set: (key: string, value: A) => Effect.Effect<void>
  /** Removes a key. */
  readonly remove: (key: string) => Effect.Effect<void>
  /** Lets the next poll fail; several are used up one after the other. */
  readonly fail: (error: E) => Effect.Effect<void>
  /** How often it was polled. */
  readonly polls: Effect.Effect<number>
}

interface Held<A> {
  readonly key: string
  readonly value: A
  readonly version: string
}

/**
 * Makes a {@link MemorySource}, empty at first.
 *
 * **Details** Every `set` is a new version, also with an equal value. Removals are not guarded. `item` is needed only for a
 * checkpoint whose values are not plain JSON.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Change, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean, string>()
 *   yield* flags.set("dark-mode", true)
 *   const found = yield* Watcher.once(flags)
 *   yield* flags.fail("down")
 *   const error = yield* Effect.flip(Watcher.once(flags))
 *   return { found, error, polls: yield* flags.polls }
 * })
 *
 * await Effect.runPromise(program) // => { found: [Change.added("dark-mode", true)], error: "down", polls: 2 }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const memory = <A, E = never>(
  options: { readonly name?: string; readonly item?: Codec<A> } = {}
): Effect.Effect<MemorySource<A, E>> =>
  Effect.sync(() => {
    const items = new Map<string, Held<A>>()
    const failures: Array<E> = []
    let versions = 0
    let polls = 0
    const value: Codec<A> = options.item ?? Schema.declare((_): _ is A => true)
    const item: Codec<Held<A>> = Schema.Struct({ key: Schema.String, value, version: Schema.String })
    const listed = fromListing<Held<A>, unknown, never, E>({
      name: options.name ?? "memory",
      item,
      list: () =>
        Effect.suspend(() => {
          polls++
          const error = failures.shift()
          return error === undefined ? Effect.succeed({ items: [...items.values()] }) : Effect.fail(error)
        }),
      key: (held) => held.key,
      version: (held) => held.version,
      removalGuard: false
    })
    // a listing of one page never fails by itself
    const source = map(listed, (held) => held.value) as Source<A, E>
    return Object.assign(Object.create(source), {
      set: (key: string, next: A) =>
        Effect.sync(() => void items.set(key, { key, value: next, version: String(++versions) })),
      remove: (key: string) => Effect.sync(() => void items.delete(key)),
      fail: (error: E) => Effect.sync(() => void failures.push(error)),
      polls: Effect.sync(() => polls)
    })
  })

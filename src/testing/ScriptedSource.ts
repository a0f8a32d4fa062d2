/**
 * Sources over a world that a test changes by hand, with an outside that fails on purpose: a document, a paged listing and a
 * log.
 *
 * A remote answers from the world, or with the fault that its script names; it records its calls, and a call that the script
 * does not know dies.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Change from "../core/Change.js"
import type { ListingError, ListPage, RemovalGuardOptions, Source } from "../core/Source.js"
import * as Sources from "../core/Source.js"
import { compareKeys } from "../core/page.js"

/**
 * What is there, by key: what a source over it is to report. `revision` counts its changes. For a log, `append` gives each
 * row the next number as its key.
 *
 * @category models
 * @since 0.1.0
 */
export interface World<A> {
  readonly entries: ReadonlyMap<string, A>
  readonly revision: number
  readonly set: (key: string, value: A) => void
  readonly remove: (key: string) => void
  readonly append: (value: A) => void
}

/**
 * Makes a world, empty at first.
 *
 * **Example**
 * ```ts
 * import { ScriptedSource } from "effect-periscope/testing"
 *
 * const world = ScriptedSource.makeWorld<string>()
 * world.set("motd", "hello")
 * world.set("motd", "good bye")
 *
 * world.entries // => new Map([["motd", "good bye"]])
 * world.revision // => 2
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeWorld = <A>(): World<A> => {
  const entries = new Map<string, A>()
  let revision = 0
  let rows = 0
  const set = (key: string, value: A): void => {
    revision++
    entries.set(key, value)
  }
  return {
    entries,
    get revision() {
      return revision
    },
    set,
    remove: (key) => {
      if (entries.delete(key)) revision++
    },
    append: (value) => set(String(++rows), value)
  }
}

/**
 * Changes a world at given times, counted from now; ends with the last change.
 *
 * **Example**
 * ```ts
 * import { Clock, Effect } from "effect"
 * import { ScriptedSource, VirtualClock } from "effect-periscope/testing"
 *
 * const program = Effect.gen(function* () {
 *   const world = ScriptedSource.makeWorld<string>()
 *   yield* ScriptedSource.play(world, [
 *     { at: "1 minute", act: ({ set }) => set("motd", "hello") },
 *     { at: "1 hour", act: ({ remove }) => remove("motd") }
 *   ])
 *   return { revision: world.revision, millis: yield* Clock.currentTimeMillis }
 * }).pipe(VirtualClock.run)
 *
 * await Effect.runPromise(program) // => { revision: 2, millis: 3_600_000 }
 * ```
 *
 * @category worlds
 * @since 0.1.0
 */
export const play = <A>(
  world: World<A>,
  acts: ReadonlyArray<{ readonly at: Duration.DurationInput; readonly act: (world: World<A>) => void }>
): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (start) =>
    Effect.forEach(
      acts,
      ({ act, at }) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          Effect.delay(
            Effect.sync(() => act(world)),
            Math.max(0, start + Duration.toMillis(at) - now)
          )
        ),
      { discard: true }
    )
  )

/**
 * What a remote can do instead of an answer.
 *
 * - `fail`, `fatal`, `defect`: it fails with a retryable error, one that ends the watch, or an exception.
 * - `hang`: it never answers. `slow`: it reads the world at once and answers after `slow` [1 second].
 * - `truncated`: the body of a document or a page of a listing breaks off, typed; of a log's page the end is missing.
 * - `partial`: a page holds the first half of its items, and names the rest as the next one; a log's page is cut like a
 *   truncated one; a document has no parts, it comes whole.
 * - `staleToken`: the page token is refused. `empty`: the listing looks empty, as a mount that is not there.
 * - `reordered`: the items of the page are not in order. `duplicated`: one of them is there twice.
 *
 * @category models
 * @since 0.1.0
 */
export type Fault =
  | "fail"
  | "fatal"
  | "defect"
  | "hang"
  | "slow"
  | "truncated"
  | "partial"
  | "staleToken"
  | "empty"
  | "reordered"
  | "duplicated"

/**
 * One call to a remote: the `n`-th [from 1], at epoch milliseconds. `first`: it asks for the beginning of a listing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  readonly n: number
  readonly at: number
  readonly request: "fetch" | "page" | "read"
  readonly first: boolean
}

/**
 * What one call gets: an answer from the world or a fault, and what happens to the world when it has been answered.
 *
 * @category models
 * @since 0.1.0
 */
export type Reply = "answer" | Fault | { readonly reply: "answer" | Fault; readonly afterwards: () => void }

/**
 * The error of a remote that a watch outlives: it is tried again.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { ScriptedSource } from "effect-periscope/testing"
 *
 * const remote = ScriptedSource.remote(ScriptedSource.makeWorld<string>(), { replies: ["fail"] })
 *
 * const error = await Effect.runPromise(Effect.flip(remote.fetch("motd")))
 * error instanceof ScriptedSource.RemoteError && error.reason // => "Unavailable"
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class RemoteError extends Schema.TaggedError<RemoteError>("effect-periscope/RemoteError")("RemoteError", {
  reason: Schema.Literal("Unavailable", "Truncated", "StaleToken", "Timeout"),
  message: Schema.String
}) {
  get isRetryable(): boolean {
    return true
  }
}

/**
 * The error of a remote that ends a watch.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { Watcher } from "effect-periscope"
 * import { ScriptedSource } from "effect-periscope/testing"
 *
 * const remote = ScriptedSource.remote(ScriptedSource.makeWorld<string>(), { replies: ["fatal"] })
 * const source = ScriptedSource.document(remote, { key: "motd", item: Schema.String })
 * const watch: Effect.Effect<void, ScriptedSource.FatalRemoteError> = Stream.runDrain(Watcher.changes(source))
 *
 * const error = await Effect.runPromise(Effect.flip(watch))
 * error.message // => "The scripted remote is gone for good."
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class FatalRemoteError extends Schema.TaggedError<FatalRemoteError>("effect-periscope/FatalRemoteError")(
  "FatalRemoteError",
  { message: Schema.String }
) {
  readonly isFatal = true as const
  get isRetryable(): boolean {
    return false
  }
}

/**
 * What goes wrong with a remote.
 *
 * @category errors
 * @since 0.1.0
 */
export type Failure = RemoteError | FatalRemoteError

/**
 * An item of a listing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Item<A> {
  readonly key: string
  readonly value: A
}

/**
 * The answer to a fetch: `body` is read behind the headers, and can break off on its own.
 *
 * @category models
 * @since 0.1.0
 */
export type Response<A> =
  | { readonly status: 304 }
  | { readonly status: 404 }
  | { readonly status: 200; readonly etag: string; readonly body: Effect.Effect<A, Failure> }

/**
 * The outside, as a source sees it: a document server, a paged listing and a log over one world.
 *
 * @category models
 * @since 0.1.0
 */
export interface Remote<A> {
  readonly world: World<A>
  /** All calls so far, oldest first. */
  readonly calls: ReadonlyArray<Call>
  /** The value under a key: 404 without one, 304 if it is still that of `etag`. */
  readonly fetch: (key: string, etag?: string) => Effect.Effect<Response<A>, Failure>
  /** The items behind a key, from the first one on without it, in key order. */
  readonly page: (after?: string) => Effect.Effect<ListPage<Item<A>, string>, Failure>
  /** The rows behind a number, in order, at most `limit`. */
  readonly read: (after: number, limit: number) => Effect.Effect<ReadonlyArray<Sources.LogEntry<A, number>>, Failure>
  /** The number of the last row. */
  readonly head: Effect.Effect<number, Failure>
}

/**
 * How a remote behaves. `replies`: one a call in order, and a call more dies; or a function of the call [always an answer].
 *
 * @category models
 * @since 0.1.0
 */
export interface RemoteOptions {
  readonly replies?: ReadonlyArray<Reply> | ((call: Call) => Reply) | undefined
  /** The most items of a page [3]. */
  readonly pageSize?: number | undefined
  /** How long a `slow` answer takes [1 second]. */
  readonly slow?: Duration.DurationInput | undefined
}

const unavailable = new RemoteError({ reason: "Unavailable", message: "The scripted remote is unavailable." })
const truncated = new RemoteError({ reason: "Truncated", message: "The scripted answer breaks off." })
const stale = new RemoteError({ reason: "StaleToken", message: "The scripted page token has expired." })

const hang = Effect.async<never>(() => {})

const onTimeout = (timeout: Duration.Duration): RemoteError =>
  new RemoteError({
    reason: "Timeout",
    message: `The scripted remote did not answer within ${Duration.format(timeout)}.`
  })

/**
 * Makes a remote over a world.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { ScriptedSource } from "effect-periscope/testing"
 *
 * const world = ScriptedSource.makeWorld<string>()
 * world.set("motd", "hello")
 * // the second call finds it gone, the third one fails, a fourth one would die
 * const remote = ScriptedSource.remote(world, {
 *   replies: [{ reply: "answer", afterwards: () => world.remove("motd") }, "answer", "fail"]
 * })
 * const ask = Effect.match(remote.fetch("motd"), {
 *   onFailure: ({ _tag }) => _tag,
 *   onSuccess: ({ status }) => status
 * })
 *
 * await Effect.runPromise(Effect.all([ask, ask, ask])) // => [200, 404, "RemoteError"]
 * remote.calls.length // => 3
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const remote = <A>(world: World<A>, options: RemoteOptions = {}): Remote<A> => {
  const { pageSize = 3, replies = () => "answer" } = options
  const slow = options.slow ?? "1 second"
  const calls: Array<Call> = []

  const next = (call: Call): Reply | undefined => (typeof replies === "function" ? replies(call) : replies[call.n - 1])

  /** Answers a call: `make` reads the world, at once. */
  const answer = <B>(
    request: Call["request"],
    first: boolean,
    make: (fault: Fault | undefined) => Effect.Effect<B, Failure>
  ): Effect.Effect<B, Failure> =>
    Effect.flatMap(Clock.currentTimeMillis, (at) => {
      const call: Call = { n: calls.length + 1, at, request, first }
      calls.push(call)
      const scripted = next(call)
      if (scripted === undefined) {
        return Effect.dieMessage(`ScriptedSource: call ${call.n} (${request}) is not in the script.`)
      }
      const reply = typeof scripted === "string" ? scripted : scripted.reply
      const answered = reply === "answer" ? make(undefined) : faulty(reply, make)
      if (typeof scripted === "string") return answered
      return Effect.ensuring(answered, Effect.sync(scripted.afterwards))
    })

  const faulty = <B>(
    fault: Fault,
    make: (fault: Fault | undefined) => Effect.Effect<B, Failure>
  ): Effect.Effect<B, Failure> => {
    switch (fault) {
      case "fail":
        return unavailable
      case "fatal":
        return new FatalRemoteError({ message: "The scripted remote is gone for good." })
      case "defect":
        return Effect.dieMessage("The scripted remote throws.")
      case "hang":
        return hang
      case "slow":
        return Effect.delay(make(undefined), slow)
      case "staleToken":
        return stale
      default:
        return make(fault)
    }
  }

  return {
    world,
    calls,
    fetch: (key, etag) =>
      answer<Response<A>>("fetch", true, (fault) => {
        const value = world.entries.get(key)
        if (value === undefined) return Effect.succeed({ status: 404 })
        const current = JSON.stringify(value)
        if (current === etag) return Effect.succeed({ status: 304 })
        return Effect.succeed({
          status: 200,
          etag: current,
          body: fault === "truncated" ? truncated : Effect.succeed(value)
        })
      }),
    page: (after) =>
      answer<ListPage<Item<A>, string>>("page", after === undefined, (fault) => {
        if (fault === "truncated") return truncated
        if (fault === "empty") return Effect.succeed({ items: [] })
        const keys = [...world.entries.keys()].sort(compareKeys)
        const rest = after === undefined ? keys : keys.filter((key) => compareKeys(key, after) > 0)
        const size = fault === "partial" ? Math.max(1, pageSize >> 1) : pageSize
        const items = rest.slice(0, size).map((key) => ({ key, value: world.entries.get(key)! }))
        const last = items[items.length - 1]
        if (fault === "reordered") items.reverse()
        if (fault === "duplicated" && items.length > 0) items.push(items[0]!)
        return Effect.succeed(rest.length > size ? { items, next: last!.key } : { items })
      }),
    read: (after, limit) =>
      answer<ReadonlyArray<Sources.LogEntry<A, number>>>("read", false, (fault) => {
        const rows: Array<Sources.LogEntry<A, number>> = []
        for (const [key, value] of world.entries) {
          if (Number(key) > after && rows.length < limit) rows.push({ cursor: Number(key), value })
        }
        return Effect.succeed(fault === "truncated" || fault === "partial" ? rows.slice(0, rows.length >> 1) : rows)
      }),
    head: answer("read", true, () => Effect.succeed(world.entries.size))
  }
}

/** Makes a codec once per item codec: it is costly, and a simulation makes thousands of sources. */
const once = <B>(made: WeakMap<object, unknown>, item: object, make: () => B): B => {
  const known = (made.get(item) as B | undefined) ?? make()
  made.set(item, known)
  return known
}

const documentCodecs = new WeakMap<object, unknown>()
const itemCodecs = new WeakMap<object, unknown>()

/**
 * Makes the source of one document of a remote, polled with its validator.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Change, Watcher } from "effect-periscope"
 * import { ScriptedSource } from "effect-periscope/testing"
 *
 * const world = ScriptedSource.makeWorld<string>()
 * world.set("motd", "hello")
 * const remote = ScriptedSource.remote(world, { replies: ["answer"] })
 * const source = ScriptedSource.document(remote, { key: "motd", item: Schema.String })
 *
 * await Effect.runPromise(Watcher.once(source)) // => [Change.added("motd", "hello")]
 * ```
 *
 * @category sources
 * @since 0.1.0
 */
export const document = <A, I>(
  from: Remote<A>,
  options: { readonly key: string; readonly item: Schema.Schema<A, I>; readonly name?: string }
): Source<A, Failure> => {
  const { item, key, name = "document" } = options
  const Known = once(documentCodecs, item, () => Schema.NullOr(Schema.Struct({ etag: Schema.String, value: item })))
  type Found = Sources.Poll<A, typeof Known.Type>
  return Sources.make<typeof Known.Type, A, Failure, never, typeof Known.Encoded, I>({
    name,
    state: Known,
    item,
    initial: null,
    onTimeout,
    poll: (known) =>
      Effect.flatMap(from.fetch(key, known?.etag), (response): Effect.Effect<Found, Failure> => {
        if (response.status === 304) return Effect.succeed({ changes: [], state: known })
        if (response.status === 404) {
          const changes = known === null ? [] : [Change.removed(key, Option.some(known.value))]
          return Effect.succeed({ changes, state: null })
        }
        const { etag } = response
        return Effect.map(response.body, (value) => ({
          changes: [known === null ? Change.added(key, value) : Change.modified(key, value, Option.some(known.value))],
          state: { etag, value }
        }))
      })
  })
}

/**
 * Makes the source of all items of a remote, listed page by page.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Watcher } from "effect-periscope"
 * import { ScriptedSource } from "effect-periscope/testing"
 *
 * const world = ScriptedSource.makeWorld<number>()
 * for (const key of ["a", "b", "c"]) world.set(key, 1)
 * const remote = ScriptedSource.remote(world, { replies: ["answer", "answer"], pageSize: 2 })
 * const source = ScriptedSource.listing(remote, { item: Schema.Number })
 *
 * const changes = await Effect.runPromise(Watcher.once(source))
 * changes.map(({ key }) => key) // => ["a", "b", "c"]
 * remote.calls.length // => 2
 * ```
 *
 * @category sources
 * @since 0.1.0
 */
export const listing = <A, I>(
  from: Remote<A>,
  options: {
    readonly item: Schema.Schema<A, I>
    readonly name?: string
    readonly removalGuard?: RemovalGuardOptions | false
  }
): Source<A, Failure | ListingError> => {
  const { item, name = "listing", removalGuard } = options
  const source = Sources.fromListing<Item<A>, { readonly key: string; readonly value: I }, string, Failure>({
    name,
    item: once(itemCodecs, item, () => Schema.Struct({ key: Schema.String, value: item })),
    list: from.page,
    onTimeout,
    key: (listed) => listed.key,
    version: (listed) => JSON.stringify(listed.value),
    isStaleToken: (error) => error._tag === "RemoteError" && error.reason === "StaleToken",
    removalGuard
  })
  return Sources.map(source, (listed) => listed.value)
}

/**
 * Makes the source of the rows of a remote, read behind a cursor.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Change, Watcher } from "effect-periscope"
 * import { ScriptedSource } from "effect-periscope/testing"
 *
 * const world = ScriptedSource.makeWorld<string>()
 * world.append("signed up")
 * world.append("paid")
 * const remote = ScriptedSource.remote(world, { replies: ["answer"] })
 * const source = ScriptedSource.log(remote, { item: Schema.String })
 *
 * await Effect.runPromise(Watcher.once(source)) // => [Change.added("1", "signed up"), Change.added("2", "paid")]
 * ```
 *
 * @category sources
 * @since 0.1.0
 */
export const log = <A, I>(
  from: Remote<A>,
  options: { readonly item: Schema.Schema<A, I>; readonly name?: string; readonly limit?: number }
): Source<A, Failure> =>
  Sources.fromLog<A, I, number, number, Failure>({
    name: options.name ?? "log",
    item: options.item,
    cursor: Schema.Number,
    initial: 0,
    read: from.read,
    head: from.head,
    onTimeout,
    limit: options.limit
  })

/**
 * Watches a log of changes: every entry once, in the order of the log, from where the last run has committed.
 *
 * Nothing but the cursor is saved, and it follows the commits: after a crash the entries behind it come again. An entry that is
 * gone ends the watch; it is never skipped in silence.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as Change from "../core/Change.js"
import * as Source from "../core/Source.js"
import type { Row } from "./ChangeLog.js"
import * as ChangeLog from "./ChangeLog.js"
import * as decoding from "./decoding.js"
import { mapNow } from "./decoding.js"

/**
 * An entry of a log with its data decoded; `atMillis` is since 1970.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry<out A> {
  readonly seq: bigint
  readonly entity: string
  readonly kind: string
  readonly atMillis?: number | undefined
  readonly data: A
}

/**
 * An entry whose data does not fit the schema. It ends a watch, unless `onUndecodable` is `"park"`. The message says what is wrong
 * where, never the data itself.
 *
 * **Example**
 * ```ts
 * import { ChangeLogSource } from "effect-periscope/log"
 *
 * const error = new ChangeLogSource.UndecodableEntry({ seq: 7n, problem: "it does not fit at cents" })
 *
 * error.message // => "Entry 7 does not decode (it does not fit at cents); mend the schema, or park such entries."
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class UndecodableEntry extends Schema.TaggedError<UndecodableEntry>("effect-periscope/UndecodableEntry")(
  "UndecodableEntry",
  { seq: Schema.BigInt, problem: Schema.String }
) {
  readonly isFatal = true as const
  /** Another try cannot help. */
  readonly isRetryable = false as const
  override toJSON(): unknown {
    return { _tag: this._tag, seq: String(this.seq), problem: this.problem }
  }
  override get message(): string {
    return `Entry ${this.seq} does not decode (${this.problem}); mend the schema, or park such entries.`
  }
}

/**
 * What a watch of a log fails with.
 *
 * @category errors
 * @since 0.1.0
 */
export type Failure = ChangeLog.ChangeLogError | ChangeLog.CursorExpired | UndecodableEntry

/**
 * What is done when entries are gone that were not read: `"fail"` ends the watch with `CursorExpired`; `"fromOldest"` goes on with the
 * oldest entry there is, with a warning; a list of what there is now is delivered instead of the entries, which go on behind it. It is one
 * page, within `timeout`; what went away in between is Removed only if the list has it, with a kind that says so.
 *
 * @category models
 * @since 0.1.0
 */
export type OnExpired<R = never> =
  | "fail"
  | "fromOldest"
  | { readonly list: Effect.Effect<ReadonlyArray<ChangeLog.NewEntry>, ChangeLog.ChangeLogError, R> }

/**
 * How a log is watched.
 *
 * - `name`: names the source ["changes"].
 * - `from`: where a first run begins: `"start"`, the oldest entry; `"now"`, what is appended from now on; a sequence number, what is
 *   behind it [`"start"`]. A checkpoint goes on where it is.
 * - `kinds`: only entries of these kinds [all].
 * - `limit`: how many entries are read at once [1000].
 * - `onExpired`: when entries are gone [`"fail"`].
 * - `onUndecodable`: an entry whose data does not fit: `"stop"` ends the watch, `"park"` puts it aside and goes on [`"stop"`].
 * - `consumer`: registers how far this watch has committed under this name, so that `prune` keeps what it needs [not registered].
 *   One watch a name.
 * - `timeout`: bound of one read [2 minutes].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<R = never> {
  readonly name?: string | undefined
  readonly from?: "start" | "now" | bigint | undefined
  readonly kinds?: ReadonlyArray<string> | undefined
  readonly limit?: number | undefined
  readonly onExpired?: OnExpired<R> | undefined
  readonly onUndecodable?: "stop" | "park" | undefined
  readonly consumer?: string | undefined
  readonly timeout?: Source.CommonOptions<never>["timeout"]
}

const expirations: Metric.Metric.Counter<number> = Metric.counter("periscope_log_expirations_total", {
  description: "How often entries of a log were gone before they were read",
  incremental: true
})

const positive = (name: string, value: number): number => {
  if (Number.isInteger(value) && value >= 1) return value
  throw new Error(`ChangeLogSource: \`${name}\` is ${value}; it must be a whole number of 1 or more.`)
}

const check = <R>(options: Options<R>): void => {
  const { consumer, from = "start", kinds, limit = 1000, onExpired = "fail", onUndecodable = "stop" } = options
  positive("limit", limit)
  if (typeof from !== "bigint" && from !== "start" && from !== "now") {
    throw new Error(`ChangeLogSource: \`from\` is ${JSON.stringify(from)}; it must be "start", "now" or a bigint.`)
  }
  if (typeof from === "bigint" && BigInt.asIntN(64, from) !== from) {
    throw new Error(`ChangeLogSource: \`from\` is ${from}; a sequence number has 64 bits.`)
  }
  if (onUndecodable !== "stop" && onUndecodable !== "park") {
    throw new Error(
      `ChangeLogSource: \`onUndecodable\` is ${JSON.stringify(onUndecodable)}; it must be "stop" or "park".`
    )
  }
  if (onExpired !== "fail" && onExpired !== "fromOldest" && typeof onExpired !== "object") {
    throw new Error(
      `ChangeLogSource: \`onExpired\` is ${JSON.stringify(onExpired)}; it must be "fail", "fromOldest" or { list }.`
    )
  }
  if (kinds?.length === 0) throw new Error("ChangeLogSource: `kinds` is empty; leave it out to get all.")
  if (consumer === "") throw new Error("ChangeLogSource: `consumer` is empty; leave it out, or give it a name.")
}

type Log = typeof ChangeLog.ChangeLog.Service

/** Where a reader is; `above`: it was told to begin behind that number, and leaves out what is not. */
interface Cursor extends ChangeLog.Cursor {
  readonly above?: bigint | undefined
}

/** `null`: nowhere yet. */
type Place = Cursor | null

const Place = Schema.NullOr(
  Schema.Struct({
    seq: Schema.BigInt,
    xid: Schema.optional(Schema.BigInt),
    atMillis: Schema.optional(Schema.Number),
    above: Schema.optional(Schema.BigInt)
  })
)

/** How far each watcher has been registered, and when that was done and tried. */
type Registered = WeakMap<object, { readonly cursor: Place; readonly at: number; readonly triedAt: number }>

const longestSilence = 60_000
const shortestPause = 10_000
/** A page that was read waits for it. */
const longestRegistration = 1000

/**
 * Registers what is committed: when there is nothing more to read, else now and then, and as a sign of life. Where that fails the reader
 * goes on: what is registered is older than it could be, so that prune keeps too much.
 */
const register = (
  log: Log,
  consumer: string,
  registered: Registered,
  { committed, watcher }: Source.Polled<Place>,
  isFull: boolean
): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const last = registered.get(watcher) ?? { cursor: null, at: -Infinity, triedAt: -Infinity }
    const hasFailed = last.triedAt > last.at
    const isNews = committed !== last.cursor && (!isFull || now - last.at >= shortestPause)
    const isDue = (isNews || now - last.at >= longestSilence) && !(hasFailed && now - last.triedAt < shortestPause)
    if (committed === null || !isDue) return Effect.void
    registered.set(watcher, { ...last, triedAt: now })
    const registering = Effect.timeoutFail(Effect.disconnect(log.register(consumer, committed)), {
      duration: longestRegistration,
      onTimeout: () => ({ message: `it took longer than ${longestRegistration} milliseconds` })
    })
    return Effect.matchEffect(registering, {
      onFailure: ({ message }) =>
        Effect.logWarning(`${log.name}: the consumer ${JSON.stringify(consumer)} could not be registered: ${message}`),
      onSuccess: () => Effect.sync(() => registered.set(watcher, { cursor: committed, at: now, triedAt: now }))
    })
  })

/** What there is now, instead of the entries that are gone; all of it is one page, and its last item leads on. */
const resynced = <R>(
  log: Log,
  after: Place,
  list: Effect.Effect<ReadonlyArray<ChangeLog.NewEntry>, ChangeLog.ChangeLogError, R>,
  kinds: ReadonlyArray<string> | undefined
): Effect.Effect<Source.LogPage<Row, Place>, ChangeLog.ChangeLogError, R> =>
  Effect.gen(function* () {
    const head = yield* log.head
    const listed = yield* list
    const entries = kinds === undefined ? listed : listed.filter(({ kind }) => kinds.includes(kind))
    const counts = new Map<string, number>()
    const toEntry = ({ data, entity, kind }: ChangeLog.NewEntry, index: number) => {
      const text = data === undefined ? undefined : JSON.stringify(data)
      // listed again at the same place, it may hold something else: then it is another change
      const content = createHash("sha256")
        .update(JSON.stringify([entity, kind, text]))
        .digest("hex")
        .slice(0, 16)
      const count = (counts.get(content) ?? 0) + 1
      counts.set(content, count)
      return {
        id: `resync ${head.seq}:${entity}:${content}${count === 1 ? "" : `:${count}`}`,
        key: entity,
        cursor: index === entries.length - 1 ? head : after,
        value: { cursor: head, entity, kind, data: text }
      }
    }
    return yield* Effect.try({
      try: () => ({ entries: entries.map(toEntry), cursor: head, more: true }),
      catch: () =>
        new ChangeLog.ChangeLogError({
          reason: "Rejected",
          log: log.name,
          message: `${log.name}: the data of an entry that \`onExpired.list\` gives is no JSON; encode it first.`
        })
    })
  })

/** The rows of a log as a source; `keyOf` says what a row is a change of [itself]. */
const rows = <R>(
  options: Options<R>,
  keyOf?: (row: Row) => string
): Source.Source<Row, Failure, ChangeLog.ChangeLog | R> => {
  check(options)
  const { consumer, from = "start", kinds, name = "changes", onExpired = "fail" } = options
  const registered: Registered = new WeakMap()

  const begin = (log: Log): Effect.Effect<Cursor, ChangeLog.ChangeLogError> =>
    typeof from === "bigint"
      ? Effect.map(log.cursorAt(from), (cursor) => ({ ...cursor, above: from }))
      : from === "now"
        ? log.head
        : log.start

  const readPage = (
    log: Log,
    after: Cursor | undefined,
    limit: number
  ): Effect.Effect<Source.LogPage<Row, Place>, Failure> =>
    Effect.map(log.read(after, { limit, kinds }), (page) => {
      const above = after?.above
      const wanted = above === undefined ? page.rows : page.rows.filter(({ cursor }) => cursor.seq > above)
      const placed = (cursor: Cursor): Cursor =>
        above === undefined || cursor.above !== undefined ? cursor : { ...cursor, above }
      return {
        entries: wanted.map((row) => {
          const { cursor } = row
          const id = String(cursor.seq)
          return { id, key: keyOf === undefined ? id : keyOf(row), cursor: placed(cursor), value: row }
        }),
        cursor: placed(page.cursor),
        more: page.more
      }
    })

  const expired = (
    log: Log,
    after: Place,
    limit: number,
    error: ChangeLog.CursorExpired
  ): Effect.Effect<Source.LogPage<Row, Place>, Failure, R> => {
    const counted = Metric.increment(expirations)
    if (onExpired === "fail") return Effect.zipRight(counted, Effect.fail(error))
    const next =
      onExpired === "fromOldest" ? readPage(log, undefined, limit) : resynced(log, after, onExpired.list, kinds)
    const then = onExpired === "fromOldest" ? "it goes on with the oldest" : "what there is now is read instead"
    return Effect.zipRight(Effect.zipRight(counted, Effect.logWarning(`${error.message} So ${then}.`)), next)
  }

  const read = (after: Place, limit: number, polled: Source.Polled<Place>) =>
    Effect.gen(function* () {
      const log = yield* ChangeLog.ChangeLog
      // the place to start from is kept before anything is read behind it
      if (after === null) return { entries: [], cursor: yield* begin(log), more: from !== "now" }
      const page = yield* Effect.catchTag(readPage(log, after, limit), "CursorExpired", (error) =>
        expired(log, after, limit, error)
      )
      if (consumer !== undefined) yield* register(log, consumer, registered, polled, page.more)
      return page
    })

  return Source.fromLog<
    Row,
    typeof ChangeLog.Row.Encoded,
    Place,
    typeof Place.Encoded,
    Failure,
    ChangeLog.ChangeLog | R
  >({
    name,
    timeout: options.timeout,
    onTimeout: (timeout) =>
      new ChangeLog.ChangeLogError({
        reason: "Unavailable",
        log: name,
        message: `${name}: it was not read within ${Duration.format(timeout)}.`
      }),
    item: ChangeLog.Row,
    cursor: Place,
    initial: null,
    limit: options.limit,
    read,
    head: Effect.flatMap(ChangeLog.ChangeLog, (log) => log.head),
    hints: (poke) => Effect.flatMap(ChangeLog.ChangeLog, (log) => log.hints(poke)),
    orderBy: ({ entity }) => entity
  })
}

/** Decodes the data of a row. */
const decoder = <A, I, R>(
  schema: Schema.Schema<A, I, R> | undefined
): ((row: Row) => Effect.Effect<A, UndecodableEntry, R>) => {
  const decode = decoding.make(schema)
  return ({ cursor: { seq }, data }) => {
    const decoded = decode(data)
    const failed = (problem: string): UndecodableEntry => new UndecodableEntry({ seq, problem })
    if (!Either.isEither(decoded)) return Effect.mapError(decoded, failed)
    const now = decoded as Either.Either<A, string>
    return Either.isRight(now) ? (now as Either.Either<A, never>) : Either.mapLeft(now, failed)
  }
}

const isUndecodable = (error: unknown): boolean => error instanceof UndecodableEntry

/** An entry that can be logged as JSON, which knows no bigint. */
class LogEntry<A> implements Entry<A> {
  readonly seq: bigint
  readonly entity: string
  readonly kind: string
  readonly data: A
  declare readonly atMillis?: number
  constructor({ atMillis, cursor, entity, kind }: Row, data: A) {
    this.seq = cursor.seq
    this.entity = entity
    this.kind = kind
    this.data = data
    if (atMillis !== undefined) this.atMillis = atMillis
  }
  toJSON(): unknown {
    return { ...this, seq: String(this.seq) }
  }
}

/** Turns rows into what is delivered. */
const deliver = <A, R, R2>(
  source: Source.Source<Row, Failure, ChangeLog.ChangeLog | R>,
  options: Options<R>,
  f: (change: Change.Added<Row>) => Effect.Effect<Option.Option<Change.Change<A>>, UndecodableEntry, R2>
): Source.Source<A, Failure, ChangeLog.ChangeLog | R | R2> =>
  Source.fromDefinition<A, Failure, ChangeLog.ChangeLog | R | R2>({
    ...source.definition,
    identity: (services) => `log:${Context.get(services, ChangeLog.ChangeLog).name}`,
    change: (stored: Change.Change<Row>) =>
      stored._tag === "Added" ? f(stored) : Effect.dieMessage("a log only gains entries"),
    parks: options.onUndecodable === "park" ? isUndecodable : undefined
  })

/**
 * Watches the entries of a log: each is an Added whose key is its sequence number. Needs a {@link ChangeLog.ChangeLog}.
 *
 * **Details** With `concurrency` the entries of one entity stay in order. `data` is decoded with `schema`; without one it is JSON where it is
 * JSON, else text. `Watcher.once` reads until the log is empty.
 *
 * **Errors** `CursorExpired`: entries are gone. `UndecodableEntry`: data does not fit. Both end a watch; `ChangeLogError` is retried.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Watcher } from "effect-periscope"
 * import { ChangeLogSource } from "effect-periscope/log"
 *
 * const Order = Schema.Struct({ cents: Schema.Int })
 * const orders = ChangeLogSource.make({ name: "orders", schema: Order, kinds: ["paid"] })
 *
 * const program = Watcher.runForEach(
 *   orders,
 *   (change) => (change._tag === "Added" ? Effect.log(change.value.entity, change.value.data.cents) : Effect.void),
 *   { checkpoint: "orders" }
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A = unknown, I = unknown, R = never, R2 = never>(
  options: Options<R2> & { readonly schema?: Schema.Schema<A, I, R> | undefined } = {}
): Source.Source<Entry<A>, Failure, ChangeLog.ChangeLog | R | R2> => {
  const decode = decoder(options.schema)
  return deliver(rows(options), options, ({ key, value }) =>
    mapNow(decode(value), (data) => Option.some(Change.added<Entry<A>>(key, new LogEntry(value, data))))
  )
}

/**
 * Watches the entities that a log tells of: each entry is a change of its `entity`, of the type that `kinds` says; entries of other
 * kinds are left out. An informer over it holds what lives, not what happened.
 *
 * **Details** `schema` decodes the data of Added and Modified; that of Removed is not looked at. No `previous` is known.
 *
 * **Example**
 * ```ts
 * import { Schema } from "effect"
 * import { ChangeLogSource } from "effect-periscope/log"
 *
 * const users = ChangeLogSource.entities({
 *   name: "users",
 *   schema: Schema.Struct({ email: Schema.String }),
 *   kinds: { created: "Added", renamed: "Modified", deleted: "Removed" }
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const entities = <A = unknown, I = unknown, R = never, R2 = never>(
  options: Omit<Options<R2>, "kinds"> & {
    readonly schema?: Schema.Schema<A, I, R> | undefined
    readonly kinds: Readonly<Record<string, Change.Change<unknown>["_tag"]>>
  }
): Source.Source<A, Failure, ChangeLog.ChangeLog | R | R2> => {
  const types = new Map(Object.entries(options.kinds))
  const rowOptions: Options<R2> = { ...options, kinds: [...types.keys()] }
  const decode = decoder(options.schema)
  return deliver(
    rows(rowOptions, ({ entity }) => entity),
    rowOptions,
    ({ key, value }) => {
      const type = types.get(value.kind)
      if (type === "Removed") return Either.right(Option.some(Change.removed(key)))
      return mapNow(decode(value), (data) =>
        Option.some(type === "Added" ? Change.added(key, data) : Change.modified(key, data))
      )
    }
  )
}

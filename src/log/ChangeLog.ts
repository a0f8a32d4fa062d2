/**
 * A table of what happened, in order: written within an application's own transactions, read behind a cursor by any number of
 * processes.
 *
 * An entry and the change that it tells of are committed together or not at all; readers see committed entries only, all in the
 * same order, and an entry that is not there any more is an error, never skipped.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/**
 * A place in a log: right behind the entry `seq`. Where entries become visible out of the order of `seq`, `xid` is the
 * transaction that wrote it and comes first. `atMillis` is when it was written, where that tells a restored log from the one before.
 *
 * **Example**
 * ```ts
 * import { Schema } from "effect"
 * import { ChangeLog } from "effect-periscope/log"
 *
 * Schema.encodeSync(ChangeLog.Cursor)({ seq: 7n }) // => { seq: "7" }
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export const Cursor: Schema.Schema<
  Cursor,
  { readonly seq: string; readonly xid?: string | undefined; readonly atMillis?: number | undefined }
> = Schema.Struct({
  seq: Schema.BigInt,
  xid: Schema.optional(Schema.BigInt),
  atMillis: Schema.optional(Schema.Number)
})

/**
 * What {@link Cursor} decodes to.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cursor {
  readonly seq: bigint
  readonly xid?: bigint | undefined
  readonly atMillis?: number | undefined
}

/**
 * An entry as it is stored, and the cursor behind it: `data` is text, JSON as a rule; `atMillis` is since 1970. `entity` and `kind` are
 * empty where a table has no such column.
 *
 * @category models
 * @since 0.1.0
 */
export interface Row {
  readonly cursor: Cursor
  readonly entity: string
  readonly kind: string
  readonly atMillis?: number | undefined
  readonly data?: string | undefined
}

/**
 * The codec of {@link Row}.
 *
 * **Example**
 * ```ts
 * import { Schema } from "effect"
 * import { ChangeLog } from "effect-periscope/log"
 *
 * const row: ChangeLog.Row = { cursor: { seq: 7n }, entity: "a", kind: "created" }
 *
 * Schema.encodeSync(ChangeLog.Row)(row) // => { cursor: { seq: "7" }, entity: "a", kind: "created" }
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export const Row: Schema.Schema<
  Row,
  {
    readonly cursor: typeof Cursor.Encoded
    readonly entity: string
    readonly kind: string
    readonly atMillis?: number | undefined
    readonly data?: string | undefined
  }
> = Schema.Struct({
  cursor: Cursor,
  entity: Schema.String,
  kind: Schema.String,
  atMillis: Schema.optional(Schema.Number),
  data: Schema.optional(Schema.String)
})

/**
 * What is appended: `entity` says what changed, `kind` how; `data` is kept as JSON.
 *
 * @category models
 * @since 0.1.0
 */
export interface NewEntry {
  readonly entity: string
  readonly kind: string
  readonly data?: unknown
}

/**
 * One page: the rows behind a cursor, in order; `cursor` is behind all that was looked at, also where rows were left out.
 *
 * @category models
 * @since 0.1.0
 */
export interface Page {
  readonly rows: ReadonlyArray<Row>
  readonly cursor: Cursor
  /** The page is full: read on at once. */
  readonly more: boolean
}

/**
 * How a page is read.
 *
 * - `limit`: how many rows are looked at; 1 or more [1000].
 * - `kinds`: only rows of these kinds are given [all].
 *
 * @category models
 * @since 0.1.0
 */
export interface ReadOptions {
  readonly limit?: number | undefined
  readonly kinds?: ReadonlyArray<string> | undefined
}

/**
 * A reader that {@link ChangeLog} knows by name: what is in front of its cursor is not pruned.
 *
 * @category models
 * @since 0.1.0
 */
export interface Consumer {
  readonly name: string
  readonly cursor: Cursor
  readonly seenAtMillis: number
}

/**
 * What `prune` may remove. Without options: what every registered consumer has committed, and nothing where there is none.
 *
 * - `olderThan`: only entries older than that.
 * - `keep`: only what is not among so many newest entries.
 * - `evenUnread`: also what consumers have not committed; needs one of the others.
 *
 * @category models
 * @since 0.1.0
 */
export interface PruneOptions {
  readonly olderThan?: Duration.DurationInput | undefined
  readonly keep?: number | undefined
  readonly evenUnread?: boolean | undefined
}

/**
 * What `prune` did: how many entries it removed, and the consumer that is furthest behind, which holds the rest.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pruned {
  readonly removed: number
  readonly slowest: Consumer | undefined
}

/**
 * Says that there may be something new in a log, by calling `poke`, until the scope closes: only a hint, so it may say it too
 * often or not at all, and it must not wait for anything itself.
 *
 * @category models
 * @since 0.1.0
 */
export type Hints<out R = never> = (log: string, poke: () => void) => Effect.Effect<void, never, R | Scope.Scope>

/**
 * Why a log could not be used.
 *
 * - `Unavailable`: the database failed: connection, lock, full disk. It may work later.
 * - `MissingTable`: the table or a column of it does not exist.
 * - `UnsafeTable`: entries could be missed in this table; the message says what it lacks.
 * - `Rejected`: the database refused it for good: permission, constraint, a value that does not fit.
 *
 * `log` is the table. No value of an entry ever stands in a message.
 *
 * **Example**
 * ```ts
 * import { ChangeLog } from "effect-periscope/log"
 *
 * const error = new ChangeLog.ChangeLogError({ reason: "Unavailable", log: "changes", message: "The database is locked." })
 *
 * error.isRetryable // => true
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class ChangeLogError extends Schema.TaggedError<ChangeLogError>("effect-periscope/ChangeLogError")(
  "ChangeLogError",
  {
    reason: Schema.Literal("Unavailable", "MissingTable", "UnsafeTable", "Rejected"),
    log: Schema.String,
    message: Schema.String
  }
) {
  /** Whether the same operation may succeed later without anybody's help. */
  get isRetryable(): boolean {
    return this.reason === "Unavailable"
  }
}

/**
 * Entries behind `requested` are gone: they were pruned, or a backup was restored. `floor` is where the log begins now, `head` where
 * it ends. It ends a watch: going on would skip changes; `ChangeLogSource` has `onExpired` for those who can.
 *
 * **Example**
 * ```ts
 * import { ChangeLog } from "effect-periscope/log"
 *
 * const error = new ChangeLog.CursorExpired({
 *   log: "changes",
 *   requested: { seq: 5n },
 *   floor: { seq: 100n },
 *   head: { seq: 250n },
 *   why: "it was pruned"
 * })
 *
 * error.message // => "changes: entries behind 5 are gone (it was pruned); the log holds those behind 100, up to 250."
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class CursorExpired extends Schema.TaggedError<CursorExpired>("effect-periscope/CursorExpired")(
  "CursorExpired",
  {
    log: Schema.String,
    requested: Cursor,
    floor: Schema.optional(Cursor),
    head: Schema.optional(Cursor),
    why: Schema.String
  }
) {
  readonly isFatal = true as const
  /** Another try cannot help. */
  readonly isRetryable = false as const
  override toJSON(): unknown {
    const shown = (cursor: Cursor | undefined) => (cursor === undefined ? undefined : String(cursor.seq))
    const { _tag, floor, head, log, requested, why } = this
    return { _tag, log, requested: shown(requested), floor: shown(floor), head: shown(head), why }
  }
  override get message(): string {
    const holds =
      this.floor === undefined && this.head === undefined
        ? "the log is empty"
        : `the log holds those behind ${this.floor?.seq ?? "its start"}, up to ${this.head?.seq ?? "its end"}`
    return `${this.log}: entries behind ${this.requested.seq} are gone (${this.why}); ${holds}.`
  }
}

/**
 * A log of changes.
 *
 * **Details** `append` joins the transaction of its caller, of the same database client; outside of one it is a transaction of its
 * own. It gives the new sequence numbers. `read` gives what is behind a cursor, none for the oldest there is. `start` is the cursor
 * in front of the oldest entry, `head` the one behind the newest entry that is safe to start from, `cursorAt` the one from which everything with a greater `seq` comes.
 * `transaction` runs an effect in a transaction and pokes the watchers of this process after its commit. `register` notes how
 * far a consumer has come, for `prune`. `hints` pokes until the scope closes.
 *
 * **Errors** {@link ChangeLogError}, and {@link CursorExpired} of `read`.
 *
 * **Example**
 * ```ts
 * import { SqlClient } from "@effect/sql"
 * import { Effect } from "effect"
 * import { ChangeLog } from "effect-periscope/log"
 *
 * const rename = (id: string, name: string) =>
 *   Effect.gen(function* () {
 *     const sql = yield* SqlClient.SqlClient
 *     const log = yield* ChangeLog.ChangeLog
 *     yield* log.transaction(
 *       Effect.gen(function* () {
 *         yield* sql`UPDATE users SET name = ${name} WHERE id = ${id}`
 *         yield* log.append({ entity: id, kind: "renamed", data: { name } })
 *       })
 *     )
 *   })
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class ChangeLog extends Context.Tag("effect-periscope/ChangeLog")<
  ChangeLog,
  {
    /** The table: names the log in errors, metrics and logs. */
    readonly name: string
    readonly append: (entry: NewEntry) => Effect.Effect<bigint, ChangeLogError>
    readonly appendAll: (entries: ReadonlyArray<NewEntry>) => Effect.Effect<ReadonlyArray<bigint>, ChangeLogError>
    readonly read: (
      after: Cursor | undefined,
      options?: ReadOptions
    ) => Effect.Effect<Page, ChangeLogError | CursorExpired>
    readonly start: Effect.Effect<Cursor, ChangeLogError>
    readonly head: Effect.Effect<Cursor, ChangeLogError>
    readonly cursorAt: (seq: bigint) => Effect.Effect<Cursor, ChangeLogError>
    readonly prune: (options?: PruneOptions) => Effect.Effect<Pruned, ChangeLogError>
    readonly consumers: Effect.Effect<ReadonlyArray<Consumer>, ChangeLogError>
    readonly register: (consumer: string, cursor: Cursor) => Effect.Effect<void, ChangeLogError>
    /** Forgets a consumer, so that it holds nothing any more; false: there is none of that name. */
    readonly dropConsumer: (consumer: string) => Effect.Effect<boolean, ChangeLogError>
    readonly transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | ChangeLogError, R>
    readonly hints: (poke: () => void) => Effect.Effect<void, never, Scope.Scope>
  }
>() {}

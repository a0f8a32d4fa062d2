/**
 * Keeps a {@link ChangeLog} in a table of SQLite or PostgreSQL: its own, or one that an application has already.
 *
 * The order in which entries become visible is known for each table that is accepted, from the database's catalog; a table where
 * entries could be missed is refused with a sentence.
 *
 * Needs the optional peer dependency `@effect/sql` and one of its drivers.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Consumer, Cursor, Hints, NewEntry, Page, PruneOptions, ReadOptions, Row } from "./ChangeLog.js"
import { ChangeLog, ChangeLogError, CursorExpired } from "./ChangeLog.js"
import * as consumers from "./consumers.js"
import type { LogTable, TableOptions } from "./logTable.js"
import * as logTable from "./logTable.js"
import * as postgresLog from "./postgresLog.js"
import * as position from "./position.js"
import * as sqliteLog from "./sqliteLog.js"
import type { OpenLog, TextEntry } from "./sqlLog.js"
import { classify, entriesLeftOut } from "./sqlProblem.js"
import { inTransaction, isInTransaction } from "./sqlTransaction.js"

/**
 * Which table is the log, and what is known of it.
 *
 * - `table`: its name, with its schema if need be ["periscope_changes"].
 * - `columns`: what its columns are called: `seq`, `entity`, `kind`, `data`, `at`, and in PostgreSQL `xid` [the same]. Only `seq` (and `xid`)
 *   must be there; without a column for data the whole row is the data, as JSON.
 * - `create`: makes the table where it is missing [true without `columns`].
 * - `assumeOrdered`: PostgreSQL: entries are committed in the order of `seq`, by one writer at a time for example [false]. No
 *   `xid` is needed then.
 * - `assumeNeverReused`: SQLite: nobody ever deletes the newest entries, so that no number is given again [false].
 * - `assumeDense`: `seq` has no gaps: one in front of the oldest entry means that entries are gone [false].
 * - `notify`: PostgreSQL: an append says with `NOTIFY` that it has happened [true]. Commits that do so wait for each other in the whole
 *   server; without it, and without another hint, a reader waits for its interval.
 * - `hints`: says when there may be something new, beside the appends of this process [none].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<out R = never> {
  readonly table?: string | undefined
  readonly columns?:
    | {
        readonly seq?: string | undefined
        readonly entity?: string | undefined
        readonly kind?: string | undefined
        readonly data?: string | undefined
        readonly at?: string | undefined
        readonly xid?: string | undefined
      }
    | undefined
  readonly create?: boolean | undefined
  readonly assumeOrdered?: boolean | undefined
  readonly assumeNeverReused?: boolean | undefined
  readonly assumeDense?: boolean | undefined
  readonly notify?: boolean | undefined
  readonly hints?: Hints<R> | undefined
}

type Log = typeof ChangeLog.Service

const open = (
  sql: SqlClient.SqlClient,
  table: LogTable
): Effect.Effect<OpenLog, ChangeLogError | SqlError, Scope.Scope> =>
  sql.onDialectOrElse({
    sqlite: () => sqliteLog.open(sql, table),
    pg: () => postgresLog.open(sql, table),
    orElse: () =>
      Effect.fail(
        new ChangeLogError({
          reason: "UnsafeTable",
          log: table.name,
          message: `${table.name}: a log needs SQLite or PostgreSQL; the order of commits in other databases is not known.`
        })
      )
  })

/** The first row is the one at the cursor, if it is there: then nothing in front of the others is gone. */
const behind = (rows: ReadonlyArray<Row>, after: Cursor): ReadonlyArray<Row> | undefined =>
  rows[0] !== undefined && position.isSame(rows[0].cursor, after) ? rows.slice(1) : undefined

const reader = (log: OpenLog, table: LogTable) => {
  const toPage = (rows: ReadonlyArray<Row>, more: boolean, after: Cursor | undefined, kinds: ReadOptions["kinds"]) => {
    const last = rows[rows.length - 1]
    const cursor = last === undefined ? after : last.cursor
    const wanted = kinds === undefined ? rows : rows.filter(({ kind }) => kinds.includes(kind))
    return cursor === undefined
      ? // the log is empty: what was pruned before this reader came is not missed by it
        Effect.map(log.bounds(after), ({ floor }): Page => ({ rows: wanted, cursor: floor ?? log.start, more }))
      : Effect.succeed<Page>({ rows: wanted, cursor, more })
  }
  return (
    after: Cursor | undefined,
    { kinds, limit = 1000 }: ReadOptions = {}
  ): Effect.Effect<Page, SqlError | ChangeLogError | CursorExpired> =>
    Effect.gen(function* () {
      if (!(Number.isInteger(limit) && limit >= 1)) {
        return yield* new ChangeLogError({
          reason: "Rejected",
          log: table.name,
          message: `${table.name}: \`limit\` is ${limit}; it must be a whole number of 1 or more.`
        })
      }
      const { more, rows } = yield* log.from(after, limit, kinds)
      if (after === undefined) return yield* toPage(rows, more, after, kinds)
      const next = behind(rows, after)
      if (next !== undefined) return yield* toPage(next, more, after, kinds)
      const bounds = yield* log.bounds(after)
      // from its start on a log may begin with any number
      const isDense = table.assumeDense && after.seq !== log.start.seq && after.xid !== 0n
      const why = position.expiry(after, bounds, isDense)
      if (why === undefined) return yield* toPage(rows.slice(0, limit), more, after, kinds)
      const { floor, head } = bounds
      return yield* new CursorExpired({ log: table.name, requested: after, floor, head, why })
    })
}

/** Removes what may be removed, in steps: each is a short transaction. */
const pruner = (sql: SqlClient.SqlClient, log: OpenLog, table: LogTable, write: Writing) => {
  const rejected = (sentence: string): ChangeLogError =>
    new ChangeLogError({ reason: "Rejected", log: table.name, message: `${table.name}: prune: ${sentence}` })
  const step = (allowed: Cursor, evenUnread: boolean, isInside: boolean) =>
    inTransaction(
      sql,
      Effect.gen(function* () {
        yield* log.lock ?? log.lockToPrune?.(isInside) ?? Effect.void
        // a consumer may have come since the last step, or while this one waited
        const slowest = slowestOf(yield* consumers.all(sql, log.key))
        const upTo = evenUnread ? allowed : slowest === undefined ? undefined : leastOf(slowest.cursor, allowed)
        if (upTo === undefined) return { removed: 0, slowest }
        const { last, removed } = yield* log.removeUpTo(upTo, pruneStep)
        if (last !== undefined) yield* consumers.setFloor(sql, log.key, last)
        return { removed, slowest }
      })
    )
  return ({ evenUnread = false, keep, olderThan }: PruneOptions = {}) =>
    Effect.gen(function* () {
      if (evenUnread && keep === undefined && olderThan === undefined) {
        return yield* rejected("`evenUnread` would remove everything; say how much with `olderThan` or `keep`.")
      }
      if (keep !== undefined && !(Number.isInteger(keep) && keep >= 0)) {
        return yield* rejected(`\`keep\` is ${keep}; it must be a whole number of 0 or more.`)
      }
      if (olderThan !== undefined && !log.hasTime) {
        return yield* rejected("`olderThan` needs a column for the time; name it with `columns.at`, or use `keep`.")
      }
      yield* write(consumers.create(sql))
      const now = yield* Clock.currentTimeMillis
      const before = olderThan === undefined ? undefined : now - Duration.toMillis(olderThan)
      const allowed = yield* log.prunable(before, keep)
      if (allowed === undefined) return { removed: 0, slowest: slowestOf(yield* consumers.all(sql, log.key)) }
      const isInside = yield* isInTransaction
      let removed = 0
      for (;;) {
        const done = yield* step(allowed, evenUnread, isInside)
        removed += done.removed
        if (done.removed < pruneStep) return { removed, slowest: done.slowest }
      }
    })
}

const slowestOf = (readers: ReadonlyArray<Consumer>): Consumer | undefined =>
  readers.reduce<Consumer | undefined>(
    (least, reader) => (least === undefined || position.isBefore(reader.cursor, least.cursor) ? reader : least),
    undefined
  )

const leastOf = (a: Cursor, b: Cursor): Cursor => (position.isBefore(a, b) ? a : b)

/** How many entries are removed in one transaction. */
const pruneStep = 10_000

/**
 * Writes in the transaction of the caller, or in one of its own, and takes the lock first in either: some drivers of SQLite leave a
 * statement that met a lock half done, and commit nothing more until the very same statement has run again. So only one ever meets it.
 */
const writing =
  (sql: SqlClient.SqlClient, log: OpenLog) =>
  <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | SqlError> => {
    if (log.lock === undefined) return effect
    const locked = Effect.zipRight(log.lock, effect)
    return Effect.flatMap(isInTransaction, (isInside) => (isInside ? locked : inTransaction(sql, locked)))
  }

type Writing = ReturnType<typeof writing>

/** Registers a consumer, never while a step of a prune looks at them. */
const registrar = (sql: SqlClient.SqlClient, log: OpenLog, write: Writing) => (consumer: string, cursor: Cursor) => {
  const registered = consumers.register(sql, log.key, consumer, cursor)
  return log.lockToRegister === undefined
    ? write(registered)
    : inTransaction(sql, Effect.zipRight(log.lockToRegister, registered))
}

/** Writes entries, and tells those who wait for them. */
const appender =
  (log: OpenLog, table: LogTable, write: Writing, poke: () => void) => (entries: ReadonlyArray<NewEntry>) =>
    Effect.gen(function* () {
      if (!log.canAppend) {
        return yield* new ChangeLogError({
          reason: "Rejected",
          log: table.name,
          message: `${table.name}: append needs columns for entity, kind and data; name them with \`columns\`.`
        })
      }
      if (entries.length === 0) return []
      const texts = yield* Effect.try({
        try: () => entries.map(toText),
        catch: (error) =>
          new ChangeLogError({
            reason: "Rejected",
            log: table.name,
            message: `${table.name}: append: the data of an entry is no JSON (${error instanceof Error ? error.name : "unknown"}); encode it first.`
          })
      })
      const now = yield* Clock.currentTimeMillis
      const all = Effect.filterOrFail(
        log.append(texts, now),
        (numbers) => numbers.length === texts.length,
        () => entriesLeftOut(table.name)
      )
      const appended = yield* write(all)
      // within a transaction that is too early; `transaction` pokes after its commit
      poke()
      return appended
    })

const toText = ({ data, entity, kind }: NewEntry): TextEntry => ({
  entity,
  kind,
  data: data === undefined ? null : JSON.stringify(data)
})

/** How the caller's own effect failed, to tell it from a failure of the transaction around it. */
class Own<E> {
  readonly _tag = "Own"
  constructor(readonly cause: Cause.Cause<E>) {}
}

const within = <A, E, R>(
  sql: SqlClient.SqlClient,
  log: OpenLog,
  table: LogTable,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | ChangeLogError, R> =>
  inTransaction(
    sql,
    Effect.zipRight(
      log.lock ?? Effect.void,
      Effect.catchAllCause(effect, (cause) => Effect.fail(new Own(cause)))
    )
  ).pipe(
    Effect.catchAll((error): Effect.Effect<never, E | ChangeLogError> =>
      error instanceof Own ? Effect.failCause(error.cause) : Effect.fail(classify(table.name, "the transaction", error))
    )
  )

/**
 * Makes a log over the `SqlClient`, looking at its table first.
 *
 * **Details** In PostgreSQL entries come in the order of the transactions that wrote them, each when no older one is open, and those of one in
 * the order of `seq`. `append` says there with `NOTIFY` that it has happened (see `notify`); `PgHints` hears it. A table of your own must be an
 * ordinary one: no view, no partitions.
 *
 * **Gotchas** In PostgreSQL a writing transaction that stays open, in any database of the server, delays all entries behind it; the metric
 * `periscope_log_horizon_age_seconds` tells how long, and one that only reads does no harm. When a standby takes over that had not
 * received everything, new entries can stand in front of what was read: resync then. Entries that logical replication or a data-only
 * dump inserts bring the transactions of another server, and would be missed: a table that this module makes has a trigger that gives
 * them the transaction that inserts them. On a table of your own make one that sets `NEW.xid := pg_current_xact_id()` before each
 * insert, and enable it with `ALTER TABLE ... ENABLE ALWAYS TRIGGER`.
 *
 * **Errors** `MissingTable`, `UnsafeTable`: the table cannot be a log; the message says what to do. `Unavailable`: the database cannot be
 * asked.
 *
 * **Example**
 * ```ts
 * import { SqliteClient } from "@effect/sql-sqlite-node"
 * import { Effect } from "effect"
 * import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
 *
 * const program = Effect.gen(function* () {
 *   const log = yield* SqlChangeLog.make({ table: "changes" })
 *   yield* log.append({ entity: "user-1", kind: "created", data: { name: "Ada" } })
 *   const { rows } = yield* log.read(undefined)
 *   return rows.map(({ data, entity, kind }) => `${entity} ${kind} ${data}`)
 * }).pipe(Effect.scoped, Effect.provide(SqliteClient.layer({ filename: ":memory:" })))
 *
 * await Effect.runPromise(program) // => ['user-1 created {"name":"Ada"}']
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <R = never>(
  options: Options<R> = {}
): Effect.Effect<Log, ChangeLogError, SqlClient.SqlClient | Scope.Scope | R> =>
  Effect.gen(function* () {
    const table = logTable.make(options as TableOptions)
    const sql = (yield* SqlClient.SqlClient).withoutTransforms()
    const told = <A, R = never>(doing: string, effect: Effect.Effect<A, SqlError | ChangeLogError, R>) =>
      Effect.catchTag(effect, "SqlError", (error) => Effect.fail(classify(table.name, doing, error)))
    const log = yield* told("opening it", open(sql, table))
    const pokes = new Set<() => void>()
    const pokeAll = (): void => pokes.forEach((poke) => poke())
    if (options.hints !== undefined) yield* options.hints(table.name, pokeAll)
    const read = reader(log, table)
    const write = writing(sql, log)
    const append = appender(log, table, write, pokeAll)
    const prune = pruner(sql, log, table, write)
    const register = registrar(sql, log, write)
    return {
      name: table.name,
      append: (entry) =>
        told(
          "appending",
          Effect.map(append([entry]), ([seq]) => seq!)
        ),
      appendAll: (entries) => told("appending", append(entries)),
      read: (after, options) =>
        Effect.catchTag(read(after, options), "SqlError", (error) =>
          Effect.fail(classify(table.name, "reading", error))
        ),
      start: told(
        "reading its start",
        Effect.map(log.bounds(undefined), ({ floor }) => floor ?? log.start)
      ),
      head: told("reading its end", log.head),
      cursorAt: (seq) => told("reading", log.cursorAt(seq)),
      prune: (options) => told("pruning", prune(options)),
      consumers: told("reading its consumers", consumers.all(sql, log.key)),
      register: (consumer, cursor) => told("registering a consumer", register(consumer, cursor)),
      dropConsumer: (consumer) => told("dropping a consumer", write(consumers.drop(sql, log.key, consumer))),
      transaction: (effect) => Effect.zipLeft(within(sql, log, table, effect), Effect.sync(pokeAll)),
      hints: (poke) =>
        Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => pokes.add(poke)),
            () => Effect.sync(() => pokes.delete(poke))
          )
        )
    }
  })

/**
 * Provides a log; see {@link make}.
 *
 * **Example**
 * ```ts
 * import { SqliteClient } from "@effect/sql-sqlite-node"
 * import { Effect, Layer } from "effect"
 * import { Watcher } from "effect-periscope"
 * import { ChangeLogSource } from "effect-periscope/log"
 * import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
 *
 * const LogLive = SqlChangeLog.layer({ table: "changes" }).pipe(
 *   Layer.provide(SqliteClient.layer({ filename: "app.db" }))
 * )
 *
 * const program = Watcher.runForEach(ChangeLogSource.make(), (change) => Effect.log(change)).pipe(
 *   Effect.provide(LogLive)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <R = never>(
  options: Options<R> = {}
): Layer.Layer<ChangeLog, ChangeLogError, SqlClient.SqlClient | Exclude<R, Scope.Scope>> =>
  Layer.scoped(ChangeLog, make(options))

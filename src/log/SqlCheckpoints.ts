/**
 * Keeps checkpoints in tables of an SQLite or PostgreSQL database, for watchers of several processes, and in one transaction with
 * what handlers write into that database.
 *
 * A save is one transaction: after a crash at any instant a reader finds the old record or the new one. Who claims a checkpoint
 * ends every earlier claim of it, in whatever process that is.
 *
 * Needs the optional peer dependency `@effect/sql` and one of its drivers.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import type * as Change from "../core/Change.js"
import type { Failure } from "../core/Checkpoints.js"
import { CheckpointError, Checkpoints, fromRecords } from "../core/Checkpoints.js"
import type { Watchable } from "../core/Source.js"
import type * as Watcher from "../core/Watcher.js"
import { checkTable, defaultTable, makeSql } from "./sqlRecords.js"
import { isInTransaction } from "./sqlTransaction.js"
import { guarantees, run } from "./transactional.js"

/**
 * Where checkpoints are kept.
 *
 * - `table`: the name of the table of records, which may have a schema before it; blocks go to a second one of that name with
 *   `_blocks` behind it [`periscope_checkpoints`]. Letters, digits and underscores.
 *
 * @category models
 * @since 0.1.0
 */
export interface TableOptions {
  readonly table?: string | undefined
}

const failed =
  (checkpoint: string) =>
  ({ message, reason }: Failure): CheckpointError =>
    new CheckpointError({ reason, checkpoint, message })

const tableOf = (options: TableOptions | undefined): string => {
  const table = options?.table ?? defaultTable
  checkTable(table)
  return table
}

/**
 * Keeps checkpoints in the database of the `SqlClient`: SQLite or PostgreSQL.
 *
 * **When to use** For watchers of several processes or hosts, one after the other or one for another, and where there is a
 * database anyway.
 *
 * **Details** The tables are made when the layer is built, where they are missing. A save is one transaction, or a savepoint
 * within the one of the caller; it costs what changed. A save of an owner whose checkpoint was claimed since, by this process or
 * another, fails with `Fenced`. In SQLite writers of several processes wait for each other: as long as `PRAGMA busy_timeout` says,
 * which is set to 5 seconds where it is 0.
 *
 * **Gotchas** Whoever can read the tables reads what checkpoints hold: bodies too. In SQLite a write that waits for another
 * process blocks this one. In a transaction of one `SqlClient` all statements of the fiber go there, also those of another
 * client: do not commit a batch within a transaction of another database.
 *
 * **Errors** `Unavailable`: the database cannot be reached, is locked or full, refuses to make the tables, or is neither SQLite
 * nor PostgreSQL. `Corrupt`: a row was changed by others. `UnknownFormat`: a newer version has made the tables.
 *
 * **Example**
 * ```ts
 * import { SqliteClient } from "@effect/sql-sqlite-node"
 * import { Effect, Layer } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 * import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"
 *
 * const State = Layer.provide(SqlCheckpoints.layer(), SqliteClient.layer({ filename: ":memory:" }))
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   const look = Watcher.once(flags, { checkpoint: "flags" })
 *   const store = yield* Checkpoints.Checkpoints
 *   return [(yield* look).length, (yield* look).length, yield* store.list]
 * }).pipe(Effect.provide(State))
 *
 * await Effect.runPromise(program) // => [1, 0, ["flags"]]
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: TableOptions): Layer.Layer<Checkpoints, CheckpointError, SqlClient.SqlClient> => {
  const table = tableOf(options)
  return Layer.effect(
    Checkpoints,
    Effect.flatMap(SqlClient.SqlClient, (sql) => makeSql(sql, table)).pipe(
      Effect.map((records) => fromRecords(guarantees, records)),
      Effect.mapError(failed(""))
    )
  )
}

/**
 * How {@link runTransactional} handles a batch.
 *
 * - `checkpoint`: the name of the watch's state. Nobody else may use it at the same time.
 * - `handlerRetry`: when a batch whose handler failed is tried again, from its first change [never].
 *
 * @category models
 * @since 0.1.0
 */
export interface TransactionalOptions<in E = never, out R = never> extends TableOptions {
  readonly checkpoint: string
  readonly handlerRetry?: Schedule.Schedule<unknown, E, R> | undefined
}

/**
 * Watches a source and handles every batch in one transaction with its checkpoint: what handlers write into this database is
 * there exactly once, whatever crashes and whenever.
 *
 * **When to use** To copy a log, a listing or a document into tables, or to count something there.
 *
 * **Details** For each batch it begins a transaction, takes the checkpoint's row, runs the handler for one change after the other,
 * saves the checkpoint and commits. One batch at a time; `batchSize` bounds it. The checkpoint is kept in the tables of
 * {@link layer}, always in the database of this `SqlClient`: a `Checkpoints` service is not asked for, since it could be of
 * another one. While a batch is handled, another process that claims the checkpoint waits; it then continues behind that batch.
 *
 * A handler that fails is rolled back with its whole batch, and tried again by `handlerRetry`; then the watch ends with its error. If
 * the database fails, or it is unknown whether COMMIT came through, the watcher is thrown away and made again from what the
 * database holds: after 100 milliseconds, doubling to 30 seconds, for ever, with a warning each time.
 *
 * **Gotchas** Exactly once is what is written through this `SqlClient` in the handler's own fibers; mails and requests are sent
 * again with a batch that is tried again. A handler that catches an error of PostgreSQL must have had it in a transaction of its
 * own (`sql.withTransaction`, a savepoint), else the batch cannot be committed and comes again and again. A handler that fails
 * since its connection was cut fails as any other: give a `handlerRetry`. In SQLite other writers wait while a batch is handled.
 *
 * **Errors** `SqlError`: a constraint that is checked at COMMIT refused what the handlers wrote. `CheckpointError`: at the start, if
 * the checkpoint cannot be claimed; later `Fenced`, if somebody else has claimed or removed it, and nothing more is handled. The
 * errors of the source are those that `Watcher.runForEach` has.
 *
 * **Example**
 * ```ts
 * import { SqlClient } from "@effect/sql"
 * import { SqliteClient } from "@effect/sql-sqlite-node"
 * import { Effect, Schedule } from "effect"
 * import { Source } from "effect-periscope"
 * import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"
 *
 * const program = Effect.gen(function* () {
 *   const sql = yield* SqlClient.SqlClient
 *   yield* sql`CREATE TABLE orders (id TEXT, drink TEXT)`
 *   const orders = yield* Source.memory<string>()
 *   yield* orders.set("1", "tea")
 *   yield* orders.set("2", "coffee")
 *   yield* SqlCheckpoints.runTransactional(
 *     orders,
 *     (change) => (change._tag === "Added" ? sql`INSERT INTO orders VALUES (${change.key}, ${change.value})` : Effect.void),
 *     { checkpoint: "orders", schedule: Schedule.stop } // one observation
 *   )
 *   return yield* sql`SELECT drink FROM orders ORDER BY id`
 * }).pipe(Effect.provide(SqliteClient.layer({ filename: ":memory:" })))
 *
 * await Effect.runPromise(program) // => [{ drink: "tea" }, { drink: "coffee" }]
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const runTransactional = <
  A,
  E,
  R,
  X,
  E2 = never,
  R2 = never,
  R3 = never,
  const O extends Omit<Watcher.Options<E, unknown>, "maxInFlight"> & TransactionalOptions<never, unknown> =
    TransactionalOptions
>(
  source: Watchable<A, E, R>,
  handler: (change: Change.Change<A>, delivery: Watcher.Delivery) => Effect.Effect<X, E2, R2>,
  options: O & TransactionalOptions<E2, R3>
): Effect.Effect<
  void,
  Watcher.Failure<E, O> | CheckpointError | E2 | SqlError,
  R | R2 | R3 | SqlClient.SqlClient | Exclude<Watcher.Services<O>, Checkpoints>
> => {
  const table = tableOf(options)
  const { checkpoint, handlerRetry } = options
  const watching = Effect.gen(function* () {
    if (yield* isInTransaction) {
      return yield* Effect.dieMessage(
        "SqlCheckpoints.runTransactional: it is called within a transaction, in which nothing it writes could be committed; call it outside."
      )
    }
    const sql = yield* SqlClient.SqlClient
    const records = yield* Effect.mapError(makeSql(sql, table), failed(checkpoint))
    return yield* run<A, E, R, X, E2, R2, R3>(source, options, { sql, records, handler, handlerRetry })
  })
  // of the source's errors only those come out that `Failure` says; what the schedules need is in `Services`
  return watching as Effect.Effect<
    void,
    Watcher.Failure<E, O> | CheckpointError | E2 | SqlError,
    R | R2 | R3 | SqlClient.SqlClient | Exclude<Watcher.Services<O>, Checkpoints>
  >
}

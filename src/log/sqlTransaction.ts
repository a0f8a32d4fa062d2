/**
 * Transactions of a `SqlClient` whose every failure is a typed one, and what is told of a failure of the database.
 *
 * `withTransaction` of the client dies where COMMIT or ROLLBACK fails, loses the failure that it rolled back for, and leaves a
 * transaction of SQLite open whose COMMIT failed: whatever comes next on that connection would be part of it.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import { SqlErrorTypeId } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Stream from "effect/Stream"

export const isSqlError = (error: unknown): error is SqlError => Predicate.hasProperty(error, SqlErrorTypeId)

const text = (value: unknown): string | undefined => (Predicate.isString(value) && value !== "" ? value : undefined)

/** The code that the driver gives: a SQLSTATE of PostgreSQL, `SQLITE_...`, or one of the system such as ECONNREFUSED. */
const codeOf = ({ cause }: SqlError): string | undefined =>
  Predicate.hasProperty(cause, "code") ? text(cause.code) : undefined

/** Failures whose text is of the database and its connection: what is said of data, constraints and triggers may hold values. */
const isOfDatabase = (code: string): boolean =>
  /^(08|28|3D|40|42|53|55|57|58)[0-9A-Z]{3}$/.test(code) ||
  /^SQLITE_(BUSY|LOCKED|FULL|IOERR|READONLY|CANTOPEN|CORRUPT|NOTADB|PROTOCOL)/.test(code) ||
  /^E[A-Z]+$/.test(code)

/** One sentence about it, which says nothing of the values that were bound. */
export const problemOf = (error: SqlError): string => {
  const { cause } = error
  const code = codeOf(error)
  const said = Predicate.hasProperty(cause, "message") ? text(cause.message) : undefined
  const isPlain = code === undefined ? /^(connection|timeout|client)/i.test(said ?? "") : isOfDatabase(code)
  const what = isPlain && said !== undefined ? said : text(error.message)
  return what === undefined
    ? `the database failed${code === undefined ? "" : ` with ${code}`}`
    : `the database failed: ${what}${code === undefined ? "" : ` (${code})`}`
}

/** Whether a constraint refused what was written: the same again fails again. */
export const isConstraint = (error: SqlError): boolean => /^(23|SQLITE_CONSTRAINT)/.test(codeOf(error) ?? "")

/** Whether the caller is in a transaction already. */
export const isInTransaction: Effect.Effect<boolean> = Effect.map(
  Effect.serviceOption(SqlClient.TransactionConnection),
  Option.isSome
)

/** What `withTransaction` died of, if it was the database. */
const defectIn = (cause: Cause.Cause<unknown>): Option.Option<SqlError> =>
  Option.filter(Cause.dieOption(cause), isSqlError)

/**
 * Commits while a failure can still be answered with ROLLBACK, and begins an empty transaction for the COMMIT that follows: that
 * one reads and writes nothing, so it cannot fail. Only where the connection of the transaction is known to be the client's own.
 */
const commitFirst = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  Effect.flatMap(Effect.serviceOption(SqlClient.TransactionConnection), (connection) =>
    Option.isSome(connection) && connection.value[1] === 0
      ? Effect.asVoid(Effect.zipRight(sql.unsafe("COMMIT"), sql.unsafe("BEGIN")))
      : Effect.void
  )

/**
 * Runs an effect in a transaction, or within a savepoint of the one that the caller is in. It fails with what the effect failed
 * with, else with why the transaction could not be begun or committed; in the last case its outcome may be unknown.
 */
export const inTransaction = <A, E, R>(
  sql: SqlClient.SqlClient,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError, R> =>
  Effect.suspend(() => {
    const isSqlite = sql.onDialectOrElse({ sqlite: () => true, orElse: () => false })
    let failure: Cause.Cause<E | SqlError> | undefined
    const body = Effect.tapErrorCause(isSqlite ? Effect.zipLeft(effect, commitFirst(sql)) : effect, (cause) =>
      Effect.sync(() => {
        failure = cause
      })
    )
    return Effect.catchAllCause(sql.withTransaction(body), (cause) => {
      const defect = defectIn(cause)
      if (Option.isNone(defect)) return Effect.failCause(cause)
      return failure === undefined ? Effect.fail(defect.value) : Effect.failCause(failure)
    })
  })

/** A transaction of SQLite that a statement has ended, such as INSERT OR ROLLBACK. */
export class RolledBack {
  readonly _tag = "RolledBack"
  readonly message = "a statement of the handler has rolled the whole transaction back"
}

/** Statements that end a transaction where they succeed; a savepoint is none. */
const ending = /^\s*(COMMIT|END|ROLLBACK(?!\s+(TRANSACTION\s+)?TO))\b/i

/**
 * Runs an effect within a transaction of SQLite. Where one of its statements ends the transaction, by failing or because it says so, another
 * one is begun at once: nothing that follows is written outside of one, and `check` fails, so that all of it is rolled back.
 * Other databases refuse what follows by themselves.
 */
export const guarded = <A, E, R>(
  sql: SqlClient.SqlClient,
  use: (check: Effect.Effect<void, RolledBack>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  const isSqlite = sql.onDialectOrElse({ sqlite: () => true, orElse: () => false })
  return Effect.flatMap(Effect.serviceOption(SqlClient.TransactionConnection), (transaction) => {
    if (!isSqlite || Option.isNone(transaction)) return use(Effect.void)
    const [connection, depth] = transaction.value
    let hasEnded = false
    // it fails within a transaction
    const begin = Effect.match(connection.executeUnprepared("BEGIN", [], undefined), {
      onFailure: () => {},
      onSuccess: () => {
        hasEnded = true
      }
    })
    const watched = <B>(text: string, statement: Effect.Effect<B, SqlError>): Effect.Effect<B, SqlError> => {
      const tapped = Effect.tapErrorCause(statement, () => begin)
      return ending.test(text) ? Effect.zipLeft(tapped, begin) : tapped
    }
    const execute =
      (name: "execute" | "executeUnprepared"): Connection["execute"] =>
      (text, params, transform) =>
        watched(text, connection[name](text, params, transform))
    const guarding: Connection = Object.assign(Object.create(connection) as Connection, {
      execute: execute("execute"),
      executeUnprepared: execute("executeUnprepared"),
      executeRaw: (text: string, params: ReadonlyArray<unknown>) => watched(text, connection.executeRaw(text, params)),
      executeValues: (text: string, params: ReadonlyArray<unknown>) =>
        watched(text, connection.executeValues(text, params)),
      executeStream: (...args: Parameters<Connection["executeStream"]>) =>
        Stream.tapErrorCause(connection.executeStream(...args), () => begin)
    })
    const check = Effect.suspend(() => (hasEnded ? Effect.fail(new RolledBack()) : Effect.void))
    return Effect.provideService(use(check), SqlClient.TransactionConnection, [guarding, depth])
  })
}

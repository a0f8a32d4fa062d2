/**
 * Makes tables where they are missing; any number of processes may do so at once.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { inTransaction } from "./sqlTransaction.js"

/** Whether all of these tables are there; names as they are written in statements. */
export const areThere = (sql: SqlClient.SqlClient, names: ReadonlyArray<string>): Effect.Effect<boolean, SqlError> =>
  sql.onDialectOrElse({
    // who has waited for a lock hears of tables that were made meanwhile when it opens one, here the catalog
    pg: () =>
      Effect.map(
        sql.unsafe<{ readonly found: boolean }>(
          `SELECT ${names.map((_, index) => `to_regclass($${index + 1}) IS NOT NULL`).join(" AND ")} AS found FROM pg_catalog.pg_namespace LIMIT 1`,
          names
        ),
        ([row]) => row?.found === true
      ),
    orElse: () =>
      Effect.map(
        sql.unsafe(
          `SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name IN (${names.map(() => "?").join(", ")})`,
          names
        ),
        (found) => found.length === names.length
      )
  })

/** The number of our lock: in PostgreSQL two that make one table at once can fail in spite of IF NOT EXISTS. */
const lockNumber = 7166418130

/** Runs the statements where one of the tables is missing. They are not run otherwise: even then they would need the right to create. */
export const makeTables = (
  sql: SqlClient.SqlClient,
  names: ReadonlyArray<string>,
  statements: ReadonlyArray<string>
): Effect.Effect<void, SqlError> => {
  const run = Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
  const isMissing = Effect.map(areThere(sql, names), (found) => !found)
  return sql.onDialectOrElse({
    pg: () =>
      inTransaction(
        sql,
        Effect.zipRight(sql.unsafe(`SELECT pg_advisory_xact_lock(${lockNumber})`), Effect.whenEffect(run, isMissing))
      ).pipe(Effect.whenEffect(isMissing), Effect.asVoid),
    orElse: () => run
  })
}

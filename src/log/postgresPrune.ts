/**
 * Removes the oldest entries of a log in PostgreSQL: in the order in which they are read, and only those that no open transaction
 * can come in front of. So what was pruned is told by one mark, and nothing that is there is behind it.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Cursor } from "./ChangeLog.js"
import { ChangeLogError } from "./ChangeLog.js"
import type { Ask, Statements } from "./postgresStatements.js"
import { findPlace, params } from "./postgresStatements.js"
import type { OpenLog } from "./sqlLog.js"

/** How often the same entries are deleted, if some were moved by an UPDATE meanwhile. */
const tries = 3

export const make = (
  ask: Ask,
  statements: Statements,
  name: string
): Pick<OpenLog, "lockToPrune" | "lockToRegister" | "prunable" | "removeUpTo"> => {
  const { ascending, descending, from, is, isOver, key, time } = statements
  const find = findPlace(ask, statements)
  const lock = (what: string, mode: "" | "_shared"): Effect.Effect<void, SqlError> =>
    Effect.asVoid(ask(`SELECT pg_advisory_xact_lock${mode}(hashtextextended('periscope ${what} ' || $1, 0))`, [key]))
  const remove = `WITH gone AS (DELETE FROM ${from} WHERE ${is("<=")} RETURNING 1) SELECT count(*)::text FROM gone`
  return {
    lockToPrune: (isInside) =>
      Effect.gen(function* () {
        // what was committed while this waited for its locks is to be seen, whatever the default of the database is
        if (!isInside) yield* ask("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield* lock("prune", "")
        yield* lock("readers", "")
      }),
    lockToRegister: lock("readers", "_shared"),
    prunable: (atMillis, keep) =>
      Effect.gen(function* () {
        const young =
          atMillis === undefined
            ? undefined
            : yield* find(`WHERE ${time} >= $1::numeric ORDER BY ${ascending} LIMIT 1`, [String(Math.ceil(atMillis))])
        const kept = keep === undefined ? undefined : yield* find(`ORDER BY ${descending} OFFSET ${keep} LIMIT 1`)
        if (keep !== undefined && kept === undefined) return undefined
        const newest = (condition: string, cursor: Cursor): Effect.Effect<Cursor | undefined, SqlError> =>
          find(`WHERE ${condition} AND ${isOver} ORDER BY ${descending} LIMIT 1`, params(statements, cursor))
        const places = [
          ...(young === undefined ? [] : [yield* newest(is("<"), young)]),
          ...(kept === undefined ? [] : [yield* newest(is("<="), kept)])
        ]
        if (places.length === 0) return yield* find(`WHERE ${isOver} ORDER BY ${descending} LIMIT 1`)
        return places.reduce((a, b) => (a === undefined || b === undefined ? undefined : statements.least(a, b)))
      }),
    removeUpTo: (upTo, limit) =>
      Effect.gen(function* () {
        const given = params(statements, upTo)
        const old = `WHERE ${is("<=")} AND ${isOver} ORDER BY`
        const last =
          (yield* find(`${old} ${ascending} OFFSET ${limit - 1} LIMIT 1`, given)) ??
          (yield* find(`${old} ${descending} LIMIT 1`, given))
        if (last === undefined) return { removed: 0, last }
        let removed = 0
        for (let count = 0; count < tries; count++) {
          const [row] = yield* ask(remove, params(statements, last))
          removed += Number(row![0])
          const left = yield* find(`WHERE ${is("<=")} ORDER BY ${ascending} LIMIT 1`, params(statements, last))
          if (left === undefined) return { removed, last: removed === 0 ? undefined : last }
        }
        return yield* new ChangeLogError({
          reason: "Rejected",
          log: name,
          message: `${name}: prune: entries are still there when they were deleted, so a trigger or a rule keeps them; let them be deleted.`
        })
      })
  }
}

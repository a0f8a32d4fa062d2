/**
 * Removes the oldest entries of a log in PostgreSQL: in the order in which they are read, and only those that no open transaction
 * can come in front of. So what was pruned is told by one mark.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Cursor } from "./ChangeLog.js"
import type { Ask, Statements } from "./postgresStatements.js"
import { cursorOf, findPlace, params } from "./postgresStatements.js"
import type { OpenLog } from "./sqlLog.js"

export const make = (ask: Ask, statements: Statements): Pick<OpenLog, "prunable" | "removeUpTo"> => {
  const { ascending, descending, from, is, isOver, key, keys, place, time } = statements
  const find = findPlace(ask, statements)
  const lock = `SELECT pg_advisory_xact_lock(hashtextextended('periscope prune ' || $1, 0))`
  const remove = (limit: number): string =>
    `WITH old AS MATERIALIZED (SELECT l.ctid AS line, ${keys} FROM ${from} WHERE ${is("<=")} AND ${isOver} ORDER BY ${ascending} LIMIT ${limit}),
          gone AS (DELETE FROM ${from} USING old WHERE l.ctid = old.line RETURNING ${keys})
     SELECT (SELECT count(*) FROM gone)::text, ${place} FROM (SELECT 1) AS one LEFT JOIN (SELECT * FROM gone AS l ORDER BY ${descending} LIMIT 1) AS l ON true`
  return {
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
        yield* ask(lock, [key])
        const [row] = yield* ask(remove(limit), params(statements, upTo))
        const [count, number, transaction] = row!
        const removed = Number(count)
        return { removed, last: removed === 0 ? undefined : cursorOf(statements, number, transaction, null) }
      })
  }
}

/**
 * What a database keeps about its logs beside their entries: how far consumers have come, and up to where a log was pruned.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Consumer, Cursor } from "./ChangeLog.js"
import { areThere, makeTables } from "./makeTables.js"
import { isBefore } from "./position.js"

export const marksTable = "periscope_logs"
export const consumersTable = "periscope_consumers"

/** Numbers as text: they may be greater than a JavaScript number holds. */
interface Place {
  readonly seq: string
  readonly xid: string
}

export const toCursor = ({ seq, xid }: Place): Cursor =>
  xid === "" ? { seq: BigInt(seq) } : { seq: BigInt(seq), xid: BigInt(xid) }

const toPlace = ({ seq, xid }: Cursor): Place => ({ seq: String(seq), xid: xid === undefined ? "" : String(xid) })

/** Makes the tables where they are missing. All columns are text: both databases know that, and no number is cut. */
export const create = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  makeTables(
    sql,
    [marksTable, consumersTable],
    [
      `CREATE TABLE IF NOT EXISTS ${marksTable} (log text PRIMARY KEY, seq text NOT NULL, xid text NOT NULL)`,
      `CREATE TABLE IF NOT EXISTS ${consumersTable} (log text NOT NULL, name text NOT NULL, seq text NOT NULL, xid text NOT NULL, seen_at text NOT NULL, PRIMARY KEY (log, name))`
    ]
  )

/** What is asked of a table that is made when it is needed first. */
const where = <A>(
  sql: SqlClient.SqlClient,
  table: string,
  otherwise: A,
  effect: Effect.Effect<A, SqlError>
): Effect.Effect<A, SqlError> =>
  Effect.flatMap(areThere(sql, [table]), (isThere) => (isThere ? effect : Effect.succeed(otherwise)))

/** Up to where a log was pruned. */
export const floor = (sql: SqlClient.SqlClient, log: string): Effect.Effect<Cursor | undefined, SqlError> =>
  where(
    sql,
    marksTable,
    undefined,
    Effect.map(sql<Place>`SELECT seq, xid FROM ${sql(marksTable)} WHERE log = ${log}`, ([mark]) =>
      mark === undefined ? undefined : toCursor(mark)
    )
  )

/** Notes up to where a log was pruned, within the transaction that removed the entries. A mark is never lowered. */
export const setFloor = (sql: SqlClient.SqlClient, log: string, cursor: Cursor): Effect.Effect<void, SqlError> =>
  Effect.flatMap(floor(sql, log), (mark) => {
    if (mark !== undefined && !isBefore(mark, cursor)) return Effect.void
    const { seq, xid } = toPlace(cursor)
    return Effect.asVoid(
      sql`INSERT INTO ${sql(marksTable)} (log, seq, xid) VALUES (${log}, ${seq}, ${xid}) ON CONFLICT (log) DO UPDATE SET seq = excluded.seq, xid = excluded.xid`
    )
  })

/** Forgets all that is noted of a log: its table is a new one. */
export const forget = (sql: SqlClient.SqlClient, log: string): Effect.Effect<void, SqlError> =>
  Effect.zipRight(
    sql`DELETE FROM ${sql(marksTable)} WHERE log = ${log}`,
    Effect.asVoid(sql`DELETE FROM ${sql(consumersTable)} WHERE log = ${log}`)
  )

export const all = (sql: SqlClient.SqlClient, log: string): Effect.Effect<ReadonlyArray<Consumer>, SqlError> =>
  where(
    sql,
    consumersTable,
    [],
    Effect.map(
      sql<
        Place & { readonly name: string; readonly seen_at: string }
      >`SELECT name, seq, xid, seen_at FROM ${sql(consumersTable)} WHERE log = ${log} ORDER BY name`,
      (rows) => rows.map((row) => ({ name: row.name, cursor: toCursor(row), seenAtMillis: Number(row.seen_at) }))
    )
  )

export const register = (
  sql: SqlClient.SqlClient,
  log: string,
  name: string,
  cursor: Cursor
): Effect.Effect<void, SqlError> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const { seq, xid } = toPlace(cursor)
    return Effect.zipRight(
      create(sql),
      sql`INSERT INTO ${sql(consumersTable)} (log, name, seq, xid, seen_at) VALUES (${log}, ${name}, ${seq}, ${xid}, ${String(now)}) ON CONFLICT (log, name) DO UPDATE SET seq = excluded.seq, xid = excluded.xid, seen_at = excluded.seen_at`
    )
  })

export const drop = (sql: SqlClient.SqlClient, log: string, name: string): Effect.Effect<boolean, SqlError> =>
  where(
    sql,
    consumersTable,
    false,
    Effect.map(
      sql`DELETE FROM ${sql(consumersTable)} WHERE log = ${log} AND name = ${name} RETURNING name`,
      (rows) => rows.length > 0
    )
  )

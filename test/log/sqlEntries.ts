/** A log in the table `entries (seq, value)`. */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Source from "../../src/core/Source.js"

export const entries = (sql: SqlClient.SqlClient, onPoll: () => void = () => {}) =>
  Source.fromLog({
    name: "entries",
    item: Schema.String,
    cursor: Schema.Number,
    initial: 0,
    limit: 100,
    read: (after, limit) =>
      Effect.suspend(() => {
        onPoll()
        return Effect.map(
          sql<{
            seq: number
            value: string
          }>`SELECT seq, value FROM entries WHERE seq > ${after} ORDER BY seq LIMIT ${limit}`,
          (rows) => rows.map(({ seq, value }) => ({ cursor: seq, value }))
        )
      })
  })

/** Makes the log with that many entries, and the table that it is copied to. */
export const makeEntries = (sql: SqlClient.SqlClient, count: number) =>
  Effect.gen(function* () {
    yield* sql`CREATE TABLE entries (seq INTEGER PRIMARY KEY, value TEXT NOT NULL)`
    yield* sql`CREATE TABLE copied (key TEXT NOT NULL)`
    const numbers = Array.from({ length: count }, (_, n) => n + 1)
    for (let from = 0; from < count; from += 200) {
      const rows = numbers.slice(from, from + 200).map((seq) => ({ seq, value: `entry ${seq}` }))
      yield* sql`INSERT INTO entries ${sql.insert(rows)}`
    }
  })

/** The keys that were copied, each as often as it was. */
export const copiedKeys = (sql: SqlClient.SqlClient) =>
  Effect.map(sql<{ key: string }>`SELECT key FROM copied`, (rows) =>
    rows.map(({ key }) => Number(key)).sort((a, b) => a - b)
  )

/**
 * A change log in SQLite for tests of the command line.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import type { Ended, Line } from "./periscope.js"
import * as periscope from "./periscope.js"

/** Runs statements in a database, which is made if need be. */
export const execute = (file: string, ...statements: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<unknown>> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    let rows: ReadonlyArray<unknown> = []
    for (const statement of statements) rows = yield* sql.unsafe(statement).values
    return rows
  }).pipe(Effect.provide(SqliteClient.layer({ filename: file, disableWAL: true })), Effect.orDie)

/** A folder for a database and the state of its watcher. */
export const place = Effect.map(periscope.folder, (root) => {
  const file = `${root}/app.db`
  const log = `sqlite:${file}?table=changes`
  const append = (entity: string, data?: string): Effect.Effect<Ended> =>
    periscope.run([
      ...["log", "append", log, "--entity", entity, "--kind", "made"],
      ...(data === undefined ? [] : ["--data", data])
    ])
  const appendAll = (entities: ReadonlyArray<string>): Effect.Effect<Ended> =>
    periscope.run(
      ["log", "append", log],
      {},
      entities.map((entity) => `{"entity":"${entity}","kind":"made"}\n`).join("")
    )
  return { root, file, log, state: `${root}/state`, append, appendAll }
})

export const entityOf = ({ value }: Line): unknown => value?.["entity"]
export const outcome = ({ code, stderr, stdout }: Ended): readonly [number | null, string, string] => [
  code,
  stdout,
  stderr
]

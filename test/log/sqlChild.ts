/**
 * A process that uses the database of its second argument, a file or the url of PostgreSQL, and gets killed.
 *
 * `save`  saves as fast as it can, and says which revision it saves and which are saved.
 * `lock`  keeps every other writer of a file out, and says so.
 * `copy`  copies the table `entries` to the table `copied`, in one transaction with the checkpoint, and says what it is about.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { writeSync } from "node:fs"
import * as Checkpoints from "../../src/core/Checkpoints.js"
import * as SqlCheckpoints from "../../src/log/SqlCheckpoints.js"
import { isWhole, nextSave } from "../core/checkpointsSaves.js"
import { entries } from "./sqlEntries.js"

const [mode, database = ""] = process.argv.slice(2)

const say = (line: string) => writeSync(1, `${line}\n`)

const client: Layer.Layer<SqlClient.SqlClient> = database.startsWith("postgres:")
  ? Layer.orDie(PgClient.layer({ url: Redacted.make(database) }))
  : Layer.orDie(SqliteClient.layer({ filename: database }))

const save = Effect.gen(function* () {
  const store = yield* Checkpoints.Checkpoints
  const claim = yield* store.claim("stream")
  const stored = Option.getOrUndefined(claim.stored)
  if (stored !== undefined && !isWhole(stored)) return say(`torn ${stored.rev}`)
  say(`claimed ${stored?.rev ?? 0}`)
  for (let rev = (stored?.rev ?? 0) + 1; ; rev++) {
    say(`saving ${rev}`)
    yield* claim.save(nextSave(rev))
    say(`saved ${rev}`)
  }
}).pipe(Effect.scoped, Effect.provide(SqlCheckpoints.layer()))

const lock = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe("BEGIN IMMEDIATE")
  say("locked")
  return yield* Effect.never
})

const copy = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { unsafe } = sql
  const told: typeof unsafe = (statement, parameters) => {
    if (statement === "COMMIT") say("commit")
    return unsafe(statement, parameters)
  }
  Object.assign(sql, { unsafe: told })
  const source = entries(sql, () => say("poll"))
  yield* SqlCheckpoints.runTransactional(
    source,
    (change) => {
      say("handle")
      return sql`INSERT INTO copied (key) VALUES (${change.key})`
    },
    { checkpoint: "copy", batchSize: 10, schedule: Schedule.stop }
  )
  say("done")
})

const program = mode === "save" ? save : mode === "lock" ? lock : copy

Effect.runPromise(Effect.provide(program, client) as Effect.Effect<unknown, unknown>).catch((error) =>
  say(`failed ${String(error).split("\n")[0]}`)
)

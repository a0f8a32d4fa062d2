/**
 * Hints over LISTEN and NOTIFY (rule L9): they wake a watcher whose interval is an hour, and come back after their connection died.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import * as PgHints from "effect-periscope/log/PgHints"
import { Effect, Layer } from "effect"
import { connect, inDatabase, onPostgres, until } from "./onPostgres.js"

describe("the channel of a table", () => {
  it("holds its name, without its schema, in 63 bytes", () => {
    assert.strictEqual(PgHints.channel("changes"), "periscope_changes")
    assert.strictEqual(PgHints.channel("audit.changes"), "periscope_changes")
    const long = ["x".repeat(60), "x".repeat(61), "ж".repeat(60), `${"ж".repeat(59)}з`].map(PgHints.channel)
    assert.strictEqual(new Set(long).size, 4)
    for (const name of long) assert.isAtMost(Buffer.byteLength(name), 63)
    assert.isTrue(long.every((name) => Buffer.from(name).toString() === name && !name.includes("\ufffd")))
  })
})

describe("PgHints.make", () => {
  it("refuses a heartbeat that is no time", () => {
    assert.throws(() => PgHints.make({ heartbeat: 0 }), /PgHints: `heartbeat` is 0; it must be longer than zero/)
    assert.throws(() => PgHints.make({ heartbeat: Number.NaN }), /`heartbeat`/)
  })
})

/** A watcher that polls every hour, and the times at which entries came. */
const hourly = (options: PgHints.Options) =>
  Effect.gen(function* () {
    const log = yield* SqlChangeLog.make({ hints: PgHints.make(options) })
    const came = new Map<string, number>()
    const watcher = yield* Watcher.make(ChangeLogSource.make(), { interval: "1 hour" }).pipe(
      Effect.provideService(ChangeLog.ChangeLog, log)
    )
    yield* Effect.forkScoped(watcher.runForEach(({ key }) => Effect.sync(() => void came.set(key, performance.now()))))
    yield* watcher.awaitSynced
    return { came, watcher }
  })

const listeners =
  "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'"

const isListening = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(sql.unsafe(`SELECT 1 ${listeners}`), (rows) => rows.length === 1)
)

onPostgres("hints of PostgreSQL", (server) => {
  inDatabase("L9 an append of another process wakes a watcher at once", server, (database) =>
    Effect.gen(function* () {
      const { came } = yield* hourly({})
      yield* until("listening", isListening)
      const writer = yield* Layer.build(SqlChangeLog.layer().pipe(Layer.provide(connect(database))))
      const log = yield* Effect.provide(ChangeLog.ChangeLog, writer)
      const waits: Array<number> = []
      for (let n = 1; n <= 100; n++) {
        const began = performance.now()
        const seq = yield* log.append({ entity: "e", kind: "put", data: n })
        yield* until(
          "the entry",
          Effect.sync(() => came.has(String(seq)))
        )
        waits.push(came.get(String(seq))! - began)
        // as many as there are: a hint of its own each
        yield* Effect.sleep("5 millis")
      }
      waits.sort((a, b) => a - b)
      console.log(`append to handler over a hint: p50 ${waits[50]!.toFixed(1)} ms, p99 ${waits[98]!.toFixed(1)} ms`)
      assert.isBelow(waits[50]!, 1000)
    })
  )

  inDatabase("L9 a trigger of the user's own is heard, a transaction that is rolled back is not", server, (_, sql) =>
    Effect.gen(function* () {
      const { came, watcher } = yield* hourly({})
      yield* until("listening", isListening)
      yield* Effect.sleep("100 millis")
      const polls = Effect.map(watcher.status.get, (status) => status.polls)
      const before = yield* polls
      const insert = sql.unsafe("INSERT INTO periscope_changes (entity, kind) VALUES ('e', 'put')")
      const notify = sql.unsafe("SELECT pg_notify($1, 'mine')", [PgHints.channel("periscope_changes")])
      yield* Effect.either(sql.withTransaction(Effect.zipRight(Effect.zipRight(insert, notify), Effect.fail("undone"))))
      yield* Effect.sleep("200 millis")
      assert.strictEqual(yield* polls, before)
      yield* Effect.zipRight(insert, notify)
      yield* until(
        "the entry",
        Effect.sync(() => came.has("2"))
      )
    })
  )

  inDatabase(
    "L9 a listening connection that was ended is made anew; what came meanwhile comes with it",
    server,
    (_, sql) =>
      Effect.gen(function* () {
        const { came } = yield* hourly({ heartbeat: "200 millis" })
        for (let n = 1; n <= 2; n++) {
          yield* until("listening", isListening)
          const killed = yield* sql.unsafe(`SELECT pg_terminate_backend(pid) ${listeners}`)
          assert.lengthOf(killed, 1)
          // no notification of this one can be heard
          const rows = yield* sql.unsafe<{ readonly seq: string }>(
            "INSERT INTO periscope_changes (entity, kind) VALUES ('e', 'put') RETURNING seq"
          )
          yield* until(
            "the entry",
            Effect.sync(() => came.has(rows[0]!.seq)),
            "15 seconds"
          )
        }
        const rows = yield* sql.unsafe<{ readonly seq: string }>(
          `INSERT INTO periscope_changes (entity, kind) VALUES ('e', 'put') RETURNING seq, pg_notify('${PgHints.channel("periscope_changes")}', 'mine')`
        )
        yield* until(
          "a hint over the new connection",
          Effect.sync(() => came.has(rows[0]!.seq))
        )
      }),
    40_000
  )

  inDatabase("L9 a database that cannot be listened to delays nothing and fails nothing", server, () =>
    Effect.gen(function* () {
      const began = performance.now()
      const { came } = yield* hourly({ connection: { url: undefined, host: "127.0.0.1", port: 1 } })
      assert.isBelow(performance.now() - began, 3000)
      assert.strictEqual(came.size, 0)
      const client = yield* PgClient.PgClient
      assert.lengthOf(yield* client.unsafe("SELECT 1"), 1)
    })
  )

  inDatabase("L9 nothing listens any more when the log is closed", server, () =>
    Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.zipRight(SqlChangeLog.make({ hints: PgHints.make() }), until("listening", isListening))
      )
      const sql = yield* SqlClient.SqlClient
      assert.lengthOf(yield* sql.unsafe(`SELECT 1 ${listeners}`), 0)
    })
  )
})

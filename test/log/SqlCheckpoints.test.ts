import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Statement from "@effect/sql/Statement"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Effect, Exit, Fiber, Layer, Schedule, TestClock } from "effect"
import type { Checkpoints } from "effect-periscope"
import { Source } from "effect-periscope"
import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"

const sqlite = Layer.fresh(Layer.orDie(SqliteClient.layer({ filename: ":memory:" })))

describe("SqlCheckpoints", () => {
  it("a table whose name no database takes fails at construction", () => {
    for (const table of ["", "a b", "a.b.c", "a.", 'a"; DROP TABLE x; --', "1a", "ä", "x".repeat(57)]) {
      assert.throws(() => SqlCheckpoints.layer({ table }), `SqlCheckpoints: \`table\` is ${JSON.stringify(table)}`)
      assert.throws(() =>
        SqlCheckpoints.runTransactional(Effect.runSync(Source.memory()), () => Effect.void, { checkpoint: "c", table })
      )
    }
    SqlCheckpoints.layer({ table: "app.my_checkpoints2" })
  })

  it.effect("a database that is neither SQLite nor PostgreSQL is refused with a sentence", () =>
    Effect.gen(function* () {
      const mysql = yield* SqlClient.make({
        acquirer: Effect.dieMessage("asked"),
        compiler: Statement.makeCompiler({
          dialect: "mysql",
          placeholder: () => "?",
          onIdentifier: (name) => name,
          onCustom: () => ["", []],
          onRecordUpdate: () => ["", []]
        }),
        spanAttributes: []
      })
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(Layer.provide(SqlCheckpoints.layer(), Layer.succeed(SqlClient.SqlClient, mysql))))
      )
      assert.strictEqual(error.reason, "Unavailable")
      assert.strictEqual(
        error.message,
        "SqlCheckpoints keeps checkpoints in SQLite and PostgreSQL; the SqlClient is of another database"
      )
    }).pipe(Effect.provide(Reactivity.layer))
  )

  it.effect("runTransactional within a transaction dies: it could commit nothing", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const flags = yield* Source.memory<boolean>()
      const exit = yield* Effect.exit(
        sql.withTransaction(SqlCheckpoints.runTransactional(flags, () => Effect.void, { checkpoint: "flags" }))
      )
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "call it outside")
    }).pipe(Effect.provide(sqlite))
  )

  it.effect(
    "while the database fails it starts again after 100 ms, doubling to 30 s, and from 100 ms after a commit",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE seen (key TEXT)`
        const flags = yield* Source.memory<boolean>()
        yield* flags.set("a", true)
        const attempts: Array<number> = []
        let isDown = true
        let isBatch = false
        // every batch is refused: neither the claims nor the save of what a poll found
        const failing: SqlClient.SqlClient = Object.assign(
          ((...args: Parameters<typeof sql>) => sql(...args)) as never,
          sql,
          {
            withoutTransforms: () => sql,
            withTransaction: ((effect) => {
              isBatch = false
              // one within the other: the inner one commits nothing by itself
              return sql.withTransaction(
                Effect.tap(sql.withTransaction(effect), () =>
                  Effect.gen(function* () {
                    if (!isBatch) return
                    attempts.push(yield* Clock.currentTimeMillis)
                    if (isDown) return yield* new SqlError({ message: "down", cause: new Error("down") })
                  })
                )
              )
            }) as SqlClient.SqlClient["withTransaction"]
          }
        )
        const watch = yield* SqlCheckpoints.runTransactional(
          flags,
          ({ key }) => {
            isBatch = true
            return sql`INSERT INTO seen VALUES (${key})`
          },
          { checkpoint: "flags", interval: "1 hour" }
        ).pipe(Effect.provideService(SqlClient.SqlClient, failing), Effect.fork)
        const waits: Array<number> = []
        for (let n = 0; n < 11; n++) {
          yield* TestClock.adjust(Math.min(100 * 2 ** n, 30_000))
          waits.push(attempts.length)
        }
        // one more attempt at the end of each wait, and none before
        assert.deepStrictEqual(
          waits,
          waits.map((_, n) => n + 2)
        )
        assert.deepStrictEqual(attempts, [0, 100, 300, 700, 1500, 3100, 6300, 12_700, 25_500, 51_100, 81_100, 111_100])
        isDown = false
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(yield* sql`SELECT key FROM seen`, [{ key: "a" }])
        isDown = true
        attempts.length = 0
        yield* flags.set("b", true)
        for (const wait of ["1 hour", "100 millis", "200 millis"] as const) yield* TestClock.adjust(wait)
        assert.deepStrictEqual(
          attempts.map((at) => at - attempts[0]!),
          [0, 100, 300]
        )
        yield* Fiber.interrupt(watch)
      }).pipe(Effect.provide(sqlite))
  )

  it.effect("takes the tag of a source, and asks for what source, handler and schedules need", () =>
    Effect.gen(function* () {
      class Flags extends Source.Tag("test/Flags")<Flags, boolean>() {}
      const options = { checkpoint: "flags", schedule: Schedule.stop } as const
      const watching: Effect.Effect<
        void,
        SqlError | Checkpoints.CheckpointError | "broken",
        Flags | SqlClient.SqlClient
      > = SqlCheckpoints.runTransactional(Flags, (): Effect.Effect<void, "broken"> => Effect.void, options)
      const flags = yield* Source.memory<boolean>()
      yield* flags.set("a", true)
      yield* Effect.provideService(watching, Flags, flags)
    }).pipe(Effect.provide(sqlite))
  )
})

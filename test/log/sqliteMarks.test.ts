/**
 * What the two databases share, in SQLite: marks and registrations whose tables are made when they are needed first.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import { assert, describe, it } from "@effect/vitest"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import { Effect } from "effect"

const memory = SqliteClient.layer({ filename: ":memory:" })

describe("a log in SQLite", () => {
  it.scoped("L7 a table of the user's own: consumers and prune need no tables of ours beforehand", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE Orders (seq INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT)`
      yield* sql`INSERT INTO Orders (what) VALUES ('a'), ('b'), ('c')`
      const log = yield* SqlChangeLog.make({ table: "Orders", columns: { kind: "what" } })
      assert.deepStrictEqual(yield* log.consumers, [])
      assert.isFalse(yield* log.dropConsumer("reader"))
      const { cursor } = yield* log.read(undefined, { limit: 2 })
      yield* log.register("reader", cursor)
      assert.strictEqual((yield* log.prune()).removed, 2)
      // the same table, written in another way
      const same = yield* SqlChangeLog.make({ table: "main.orders", columns: { kind: "what" } })
      assert.strictEqual((yield* Effect.flip(same.read({ seq: 1n })))._tag, "CursorExpired")
      assert.lengthOf(yield* same.consumers, 1)
    }).pipe(Effect.provide(memory))
  )

  it.scoped("L4 many entries are appended together or not at all", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* SqlChangeLog.make()
      yield* sql`CREATE TRIGGER refuse BEFORE INSERT ON periscope_changes WHEN NEW.entity = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END`
      const entries = Array.from({ length: 300 }, (_, n) => ({ entity: n === 299 ? "bad" : "good", kind: "put" }))
      yield* Effect.flip(log.appendAll(entries))
      assert.deepStrictEqual((yield* log.read(undefined)).rows, [])
      assert.lengthOf(yield* log.appendAll(entries.slice(0, 299)), 299)
    }).pipe(Effect.provide(memory))
  )
})

/**
 * Which tables of PostgreSQL can be a log: those whose catalog tells the order. What is refused says what to run, and running it helps.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import { assert } from "@effect/vitest"
import { Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import { Effect } from "effect"
import { inDatabase, onPostgres } from "./onPostgres.js"

const table = "orders"
const open = (options: SqlChangeLog.Options = {}) => SqlChangeLog.make({ table, create: false, ...options })
const refused = (options: SqlChangeLog.Options = {}) =>
  Effect.map(Effect.flip(open(options)), ({ message, reason }) => `${reason} ${message}`)
const rows = (log: typeof ChangeLog.ChangeLog.Service) =>
  Effect.map(log.read(undefined), (page) => page.rows.map(({ cursor, data }) => `${cursor.seq} ${data}`))
const run = (sql: SqlClient.SqlClient, ...statements: ReadonlyArray<string>) =>
  Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })

const addXid = 'ALTER TABLE "orders" ADD COLUMN "xid" xid8 NOT NULL DEFAULT pg_current_xact_id()'
const addIndex = 'CREATE INDEX ON "orders" ("xid", "seq")'

onPostgres("the table of a log in PostgreSQL", (server) => {
  inDatabase("L5 without a transaction number it is refused; what the sentence says makes it a log", server, (_, sql) =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* refused(),
        "MissingTable orders: there is no such table; create it, or name it with `table`."
      )
      yield* run(sql, "CREATE TABLE orders (seq bigserial PRIMARY KEY, customer text, cents int)")
      yield* run(sql, "INSERT INTO orders (customer, cents) VALUES ('Ada', 1), ('Bob', 2)")
      assert.strictEqual(
        yield* refused(),
        `UnsafeTable orders: entries become visible out of the order of "seq" when writers overlap, and would be missed; run ${addXid}, and ${addIndex}, or set \`assumeOrdered\` if there is never more than one writer.`
      )
      yield* run(sql, addXid)
      assert.strictEqual(
        yield* refused(),
        `UnsafeTable orders: every read would go through the whole table; run ${addIndex}.`
      )
      yield* run(sql, addIndex, "INSERT INTO orders (customer, cents) VALUES ('Cyd', 3)")
      const log = yield* open()
      const { rows } = yield* log.read(undefined)
      assert.deepStrictEqual(
        rows.map(({ cursor, data, entity, kind }) => [cursor.seq, entity, kind, Object.keys(JSON.parse(data!))]),
        [1n, 2n, 3n].map((seq) => [seq, "", "", ["seq", "xid", "cents", "customer"]])
      )
      assert.strictEqual(JSON.parse(rows[2]!.data!).customer, "Cyd")
      const error = yield* Effect.flip(log.append({ entity: "e", kind: "put" }))
      assert.strictEqual(
        error.message,
        "orders: append needs columns for entity, kind and data; name them with `columns`."
      )
    })
  )

  inDatabase("L5 the other ways of not being safe", server, (_, sql) =>
    Effect.gen(function* () {
      const wrong = (create: string, options: SqlChangeLog.Options = {}) =>
        Effect.zipRight(run(sql, "DROP TABLE IF EXISTS orders CASCADE", create), refused(options))
      const cases: ReadonlyArray<readonly [string, string, SqlChangeLog.Options?]> = [
        [
          "CREATE TABLE orders (id bigserial PRIMARY KEY)",
          'MissingTable orders: it has no column "seq"; name its columns with `columns`.'
        ],
        [
          "CREATE TABLE orders (seq bigserial PRIMARY KEY)",
          'MissingTable orders: it has no column "what"; name its columns with `columns`.',
          { columns: { kind: "what" } }
        ],
        [
          "CREATE TABLE orders (seq text PRIMARY KEY)",
          'UnsafeTable orders: its column "seq" is of type text; the numbers of a log are bigint.'
        ],
        [
          "CREATE TABLE orders (seq bigserial)",
          'UnsafeTable orders: its column "seq" is neither its primary key nor unique, so entries could be missed; run ALTER TABLE "orders" ADD UNIQUE ("seq"), or name another with `columns.seq`.',
          { assumeOrdered: true }
        ],
        [
          "CREATE TABLE orders (seq bigint UNIQUE)",
          'UnsafeTable orders: its column "seq" can be NULL, and such entries would be missed; run ALTER TABLE "orders" ALTER COLUMN "seq" SET NOT NULL.',
          { assumeOrdered: true }
        ],
        [
          "CREATE TABLE orders (seq bigserial PRIMARY KEY, xid bigint DEFAULT txid_current())",
          'UnsafeTable orders: its column "xid" is of type bigint, not xid8; name another with `columns.xid`.'
        ],
        [
          "CREATE TABLE orders (seq bigserial PRIMARY KEY, xid xid8 NOT NULL)",
          'UnsafeTable orders: its column "xid" is not given by the server, so entries could be missed; run ALTER TABLE "orders" ALTER COLUMN "xid" SET DEFAULT pg_current_xact_id().'
        ],
        [
          "CREATE TABLE orders (seq bigserial PRIMARY KEY, xid xid8 DEFAULT pg_current_xact_id())",
          'UnsafeTable orders: its column "xid" can be NULL, and such entries would be missed; run ALTER TABLE "orders" ALTER COLUMN "xid" SET NOT NULL.'
        ],
        [
          "CREATE TABLE orders (seq bigserial PRIMARY KEY, at text)",
          'UnsafeTable orders: its column "at" is of type text; a time is a timestamptz, or milliseconds as a bigint.',
          { columns: { at: "at" }, assumeOrdered: true }
        ],
        [
          "CREATE VIEW orders AS SELECT 1::bigint AS seq",
          "UnsafeTable orders: it is a view; a log is an ordinary table."
        ]
      ]
      for (const [create, sentence, options] of cases) assert.strictEqual(yield* wrong(create, options), sentence)
      yield* run(sql, "DROP VIEW orders")
      assert.strictEqual(
        yield* wrong("CREATE TABLE orders (seq bigint PRIMARY KEY) PARTITION BY RANGE (seq)"),
        "UnsafeTable orders: it is a partitioned table; a log is an ordinary table."
      )
      assert.strictEqual(
        yield* wrong("CREATE TABLE orders (seq bigint PRIMARY KEY); CREATE TABLE more () INHERITS (orders)"),
        "UnsafeTable orders: other tables inherit from it, and their entries could be missed; a log is one table."
      )
      const index = (definition: string) =>
        wrong(
          `CREATE TABLE orders (seq bigserial PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id()); CREATE INDEX ON orders ${definition}`
        )
      for (const useless of [
        "(seq, xid)",
        "(xid)",
        "(xid, seq) WHERE seq > 5",
        "(xid, seq DESC)",
        "USING brin (seq)"
      ]) {
        assert.match(yield* index(useless), /every read would go through the whole table/, useless)
      }
      yield* run(sql, "CREATE INDEX ON orders (xid DESC, seq DESC) INCLUDE (seq)")
      yield* open()
    })
  )

  inDatabase("L1 L4 odd names, types and another schema; entries can be appended", server, (_, sql) =>
    Effect.gen(function* () {
      yield* run(
        sql,
        "CREATE SCHEMA audit",
        `CREATE TABLE audit."Order$Log" ("Nr" int GENERATED ALWAYS AS IDENTITY UNIQUE, "тx" xid8 NOT NULL DEFAULT pg_current_xact_id(),
          "order" uuid, "SELECT" varchar(20), payload jsonb, "when" timestamp, UNIQUE ("тx", "Nr"))`
      )
      const log = yield* SqlChangeLog.make({
        table: "audit.Order$Log",
        columns: { seq: "Nr", xid: "тx", entity: "order", kind: "SELECT", data: "payload", at: "when" }
      })
      const id = "0b0e7e4e-5a0e-4b0e-8b0e-0b0e7e4e5a0e"
      assert.deepStrictEqual(
        yield* log.appendAll([
          { entity: id, kind: "put", data: { b: 1, a: 2 } },
          { entity: id, kind: "drop" }
        ]),
        [1n, 2n]
      )
      const { rows } = yield* log.read(undefined)
      assert.deepStrictEqual(
        rows.map(({ data, entity, kind }) => [entity, kind, data]),
        [
          [id, "put", '{"a": 2, "b": 1}'],
          [id, "drop", undefined]
        ]
      )
      assert.isBelow(Math.abs(rows[0]!.atMillis! - Date.now()), 5000)
      assert.isUndefined(rows[0]!.cursor.atMillis, "the time of a row of others may change")
      const error = yield* Effect.flip(log.append({ entity: "no uuid", kind: "put" }))
      assert.strictEqual(error.reason, "Rejected")
      assert.notInclude(error.message, "no uuid", "E3")
      assert.strictEqual((yield* log.prune({ keep: 1, evenUnread: true })).removed, 1)
      // marks are kept by the table, however it is written
      yield* run(sql, "SET search_path TO audit, public")
      const expired = yield* Effect.flip(log.read({ seq: 0n, xid: 0n }))
      assert.strictEqual(expired._tag, "CursorExpired")
    })
  )

  inDatabase("L6 a mark that was set under the short name is seen under the long one", server, () =>
    Effect.gen(function* () {
      const short = yield* SqlChangeLog.make({ table: "notes" })
      const long = yield* SqlChangeLog.make({ table: "public.notes" })
      yield* short.appendAll([1, 2, 3].map((n) => ({ entity: "e", kind: "put", data: n })))
      const { cursor } = yield* long.read(undefined, { limit: 1 })
      yield* long.register("reader", cursor)
      yield* short.prune({ keep: 1, evenUnread: true })
      assert.strictEqual((yield* Effect.flip(long.read(cursor)))._tag, "CursorExpired")
      assert.lengthOf(yield* short.consumers, 1)
    })
  )

  inDatabase("L5 assumeOrdered: by number alone, and bytes are shown as text", server, (_, sql) =>
    Effect.gen(function* () {
      yield* run(
        sql,
        "CREATE TABLE orders (seq bigint PRIMARY KEY, entity int, kind char(3), data bytea, at bigint)",
        "INSERT INTO orders VALUES (9007199254740993, 7, 'put', '\\x636166c3a9ff'::bytea, 1700000000123), (9007199254740995, 8, 'put', NULL, NULL)"
      )
      const log = yield* open({ assumeOrdered: true })
      const { cursor, rows } = yield* log.read(undefined)
      assert.deepStrictEqual(rows, [
        { cursor: { seq: 9007199254740993n }, entity: "7", kind: "put", data: "café\ufffd", atMillis: 1700000000123 },
        { cursor: { seq: 9007199254740995n }, entity: "8", kind: "put" }
      ])
      assert.deepStrictEqual(yield* log.head, cursor)
      assert.deepStrictEqual((yield* log.read(yield* log.cursorAt(9007199254740994n))).rows, rows.slice(1))
      // a gap alone proves nothing
      yield* run(sql, "DELETE FROM orders")
      assert.deepStrictEqual((yield* log.read(cursor)).rows, [])
      assert.deepStrictEqual((yield* log.read(rows[0]!.cursor)).rows, [])
      const sure = yield* open({ assumeOrdered: true, assumeNeverReused: true })
      assert.strictEqual((yield* Effect.flip(sure.read(cursor)))._tag, "CursorExpired")
    })
  )

  inDatabase("L6 assumeDense: a number that is missing is a loss", server, (_, sql) =>
    Effect.gen(function* () {
      yield* run(sql, "CREATE TABLE orders (seq bigint PRIMARY KEY, data text)")
      yield* run(sql, "INSERT INTO orders SELECT n, n FROM generate_series(1, 10) AS n")
      const log = yield* open({ assumeOrdered: true, assumeDense: true })
      yield* run(sql, "DELETE FROM orders WHERE seq < 4")
      assert.lengthOf(yield* Effect.map(log.read({ seq: 3n }), ({ rows }) => rows), 7)
      const error = yield* Effect.flip(log.read({ seq: 2n }))
      assert.strictEqual(error._tag === "CursorExpired" ? error.why : "", "entries in front of the oldest are missing")
    })
  )

  inDatabase("W3 a table that is dropped and made again: the watch goes on when it is back", server, (_, sql) =>
    Effect.gen(function* () {
      const log = yield* SqlChangeLog.make({ table })
      yield* run(sql, "DROP TABLE orders")
      const error = yield* Effect.flip(log.read(undefined))
      assert.strictEqual(
        error.message,
        "orders: reading failed: the table or a column of it does not exist; create it, or name it right."
      )
      const again = yield* SqlChangeLog.make({ table })
      yield* again.append({ entity: "e", kind: "put", data: 1 })
      assert.deepStrictEqual(yield* rows(log), ["1 1"])
      const changes = yield* Watcher.once(ChangeLogSource.make()).pipe(Effect.provideService(ChangeLog.ChangeLog, log))
      assert.lengthOf(changes, 1)
    })
  )
})

/** A log in PostgreSQL whose server, writers, readers or triggers do what is seldom done. */
import { assert } from "@effect/vitest"
import { Checkpoints, Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import { Effect, Fiber } from "effect"
import { inDatabase, onPostgres, openTransaction, until, withLog } from "./onPostgres.js"

const entry = (n: number) => ({ entity: `e${n}`, kind: "put", data: { n } })
const entries = (count: number) => Array.from({ length: count }, (_, n) => entry(n + 1))
const seqs = (page: ChangeLog.Page) => page.rows.map(({ cursor }) => Number(cursor.seq))
const outcome = <E extends { readonly _tag: string }>(read: Effect.Effect<ChangeLog.Page, E>) =>
  Effect.match(read, { onFailure: ({ _tag }): unknown => _tag, onSuccess: (page): unknown => seqs(page) })

onPostgres("a log in PostgreSQL under what is seldom done", (server) => {
  withLog("L7 a consumer that registers while a prune is under way keeps what it needs", server, ({ log, sql }) =>
    Effect.gen(function* () {
      yield* log.appendAll(entries(10))
      const slow = yield* log.read(undefined, { limit: 3 })
      yield* log.register("fast", (yield* log.read(undefined)).cursor)
      const held = yield* openTransaction(sql, [
        "SELECT pg_advisory_xact_lock(hashtextextended('periscope prune public.periscope_changes', 0))"
      ])
      const pruning = yield* Effect.fork(log.prune())
      yield* until(
        "the prune waits",
        Effect.map(
          sql.unsafe("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"),
          (rows) => rows.length > 0
        )
      )
      yield* log.register("slow", slow.cursor)
      yield* held.end("COMMIT")
      const { removed } = yield* Fiber.join(pruning)
      assert.deepStrictEqual([removed, yield* outcome(log.read(slow.cursor))], [3, [4, 5, 6, 7, 8, 9, 10]])
    })
  )

  withLog(
    "L1 a registration that waits for a lock does not keep entries from being delivered",
    server,
    ({ log, sql }) =>
      Effect.gen(function* () {
        yield* log.appendAll(entries(2))
        yield* log.register("c", yield* log.start)
        yield* openTransaction(sql, ["SELECT * FROM periscope_consumers FOR UPDATE"])
        const seen: Array<string> = []
        yield* Effect.forkScoped(
          Watcher.runForEach(
            ChangeLogSource.make({ consumer: "c", timeout: "11 seconds" }),
            ({ key }) => Effect.sync(() => void seen.push(key)),
            { interval: "50 millis" }
          ).pipe(Effect.provideService(ChangeLog.ChangeLog, log))
        )
        yield* Effect.sleep("4 seconds")
        assert.deepStrictEqual(seen, ["1", "2"])
      })
  )

  inDatabase("L6 numbers that the sequence did not give: all read and pruned is no loss", server, (_, sql) =>
    Effect.gen(function* () {
      yield* sql.unsafe(
        "CREATE TABLE t (seq bigserial PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), data text)"
      )
      yield* sql.unsafe("CREATE INDEX ON t (xid, seq)")
      yield* sql.unsafe("INSERT INTO t (seq, data) VALUES (100, 'a'), (101, 'b')")
      const log = yield* SqlChangeLog.make({ table: "t", columns: { data: "data" } })
      const { cursor } = yield* log.read(undefined)
      yield* sql.unsafe("DELETE FROM t")
      yield* sql.unsafe("INSERT INTO t (seq, data) VALUES (102, 'c')")
      assert.deepStrictEqual(yield* outcome(log.read(cursor)), [102])
    })
  )

  withLog("L6 a mark is never lowered: a row that was updated during a prune", server, ({ log, sql }) =>
    Effect.gen(function* () {
      yield* log.appendAll(entries(3))
      yield* log.appendAll(entries(3))
      const slow = yield* log.read(undefined, { limit: 4 })
      const held = yield* openTransaction(sql, ["UPDATE periscope_changes SET data = '0' WHERE seq = 2"])
      const pruning = yield* Effect.fork(log.prune({ keep: 1, evenUnread: true }))
      yield* until(
        "the prune waits",
        Effect.map(sql.unsafe("SELECT 1 FROM pg_locks WHERE NOT granted"), (rows) => rows.length > 0)
      )
      yield* held.end("COMMIT")
      yield* Fiber.join(pruning)
      const left = seqs(yield* log.read(undefined))
      yield* log.prune({ keep: 1, evenUnread: true })
      assert.deepStrictEqual([left, yield* outcome(log.read(slow.cursor))], [[6], "CursorExpired"])
    })
  )

  withLog("L5 prepared transactions hold entries back, and none is lost", server, ({ log, sql }) =>
    Effect.gen(function* () {
      const isOn = yield* Effect.map(
        sql.unsafe<{ readonly n: string }>("SELECT current_setting('max_prepared_transactions') AS n"),
        ([row]) => Number(row!.n) > 0
      )
      assert.isTrue(isOn, "the server has no prepared transactions: nothing is proved")
      const held = yield* openTransaction(sql, [
        "INSERT INTO periscope_changes (entity, kind) VALUES ('two', 'phase')",
        "PREPARE TRANSACTION 'p'"
      ])
      yield* held.end("COMMIT")
      yield* log.append(entry(2))
      assert.deepStrictEqual(seqs(yield* log.read(undefined)), [])
      yield* sql.unsafe("COMMIT PREPARED 'p'")
      assert.deepStrictEqual(seqs(yield* log.read(undefined)), [1, 2])
    })
  )

  withLog(
    "L5 subtransactions, savepoints rolled back, an open writer, borders within a transaction",
    server,
    ({ log, sql }) =>
      Effect.gen(function* () {
        const insert = (n: number) => `INSERT INTO periscope_changes (entity, kind) VALUES ('e${n}', 'put')`
        const a = yield* openTransaction(sql, [
          insert(1),
          "SAVEPOINT s",
          insert(2),
          "ROLLBACK TO s",
          insert(3),
          "SAVEPOINT t",
          insert(4)
        ])
        const b = yield* openTransaction(sql, [insert(5), insert(6)])
        yield* b.end("COMMIT")
        const seen: Array<string> = []
        yield* Effect.forkScoped(
          Watcher.runForEach(ChangeLogSource.make({ limit: 2 }), ({ key }) => Effect.sync(() => void seen.push(key)), {
            interval: "5 millis",
            checkpoint: "c",
            batchSize: 1
          }).pipe(Effect.provideService(ChangeLog.ChangeLog, log), Effect.provide(Checkpoints.layerMemory))
        )
        yield* Effect.sleep("200 millis")
        assert.deepStrictEqual(seen, [])
        yield* a.end("COMMIT")
        yield* until(
          "all came",
          Effect.sync(() => seen.length >= 5)
        )
        assert.deepStrictEqual(seen, ["1", "3", "4", "5", "6"])
      })
  )

  inDatabase("L6 assumeDense: a log whose first number is 1 can be read from its start", server, (_, sql) =>
    Effect.gen(function* () {
      yield* sql.unsafe("CREATE TABLE t (seq bigint PRIMARY KEY, data text)")
      yield* sql.unsafe("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
      const log = yield* SqlChangeLog.make({
        table: "t",
        columns: { data: "data" },
        assumeOrdered: true,
        assumeDense: true
      })
      const found = yield* Effect.either(
        Watcher.once(ChangeLogSource.make()).pipe(Effect.provideService(ChangeLog.ChangeLog, log))
      )
      assert.strictEqual(found._tag === "Left" ? found.left._tag : found.right.length, 2)
    })
  )

  withLog("L1 the head of an empty log has the number 0, as in SQLite", server, ({ log }) =>
    Effect.map(log.head, ({ seq }) => assert.strictEqual(seq, 0n))
  )

  withLog("L4 an entry that a trigger leaves out is no success of append", server, ({ log, sql }) =>
    Effect.gen(function* () {
      yield* sql.unsafe("CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
      yield* sql.unsafe("CREATE TRIGGER t BEFORE INSERT ON periscope_changes FOR EACH ROW EXECUTE FUNCTION leave()")
      const given = yield* Effect.either(log.append(entry(1)))
      assert.isTrue(given._tag === "Left" || typeof given.right === "bigint", `append gave ${JSON.stringify(given)}`)
    })
  )

  withLog(
    "L5 an entry that is inserted with an older transaction (by logical replication, or from a dump) is not missed",
    server,
    ({ log, sql }) =>
      Effect.gen(function* () {
        yield* log.appendAll(entries(2))
        const { cursor } = yield* log.read(undefined)
        const given = yield* Effect.either(
          sql.unsafe("INSERT INTO periscope_changes (xid, entity, kind) VALUES ('700', 'replicated', 'put')")
        )
        if (given._tag === "Left") return
        assert.notDeepEqual(yield* outcome(log.read(cursor)), [])
      })
  )
})

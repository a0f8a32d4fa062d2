/**
 * A log in PostgreSQL as its readers and writers see it: order, horizon, retention, loss of position, a server that goes away.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert } from "@effect/vitest"
import { Checkpoints, WatchMetrics, Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import { Effect, Fiber, Layer, Logger, LogLevel, Metric, Redacted, Schema } from "effect"
import { execFileSync } from "node:child_process"
import { connect, inDatabase, onPostgres, openTransaction, until, withLog } from "./onPostgres.js"
import type { Log } from "./onPostgres.js"

const entry = (n: number): ChangeLog.NewEntry => ({ entity: `e${n}`, kind: "put", data: { n } })
const entries = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => entry(from + n))

const seqs = (page: ChangeLog.Page) => page.rows.map(({ cursor }) => Number(cursor.seq))
const all = (log: Log) => Effect.map(log.read(undefined), seqs)

/** Handles a log in the background, and gives what came. */
const watch = (log: Log, options: ChangeLogSource.Options = {}, interval = "5 millis" as const) =>
  Effect.gen(function* () {
    const came: Array<string> = []
    const source = ChangeLogSource.make(options)
    const fiber = yield* Effect.forkScoped(
      Watcher.runForEach(source, ({ key }) => Effect.sync(() => void came.push(key)), { interval }).pipe(
        Effect.provideService(ChangeLog.ChangeLog, log)
      )
    )
    return { came, fiber }
  })

const age = (table = "periscope_changes") =>
  Effect.map(Metric.value(Metric.tagged(WatchMetrics.logHorizonAge, "log", table)), ({ value }) => value)

onPostgres("a change log in PostgreSQL", (server) => {
  withLog("L1 entries come back in order, byte for byte, with their time", server, ({ log, sql }) =>
    Effect.gen(function* () {
      const before = Date.now()
      const texts = ["", "é€😀", "a'b\"c\\d", "\u0000 \ud800", "x".repeat(100_000)]
      const given = yield* log.appendAll(texts.map((data, n) => ({ entity: `ent ${n}'"`, kind: "kind", data })))
      assert.deepStrictEqual(given, [1n, 2n, 3n, 4n, 5n])
      yield* log.append({ entity: "none", kind: "kind" })
      const { cursor, more, rows } = yield* log.read(undefined)
      assert.deepStrictEqual(
        rows.map(({ data }) => data),
        [...texts.map((text) => JSON.stringify(text)), undefined]
      )
      assert.isFalse(more)
      assert.strictEqual(cursor, rows[5]!.cursor)
      assert.isDefined(cursor.xid)
      for (const { atMillis } of rows) assert.isTrue(atMillis! >= before && atMillis! <= Date.now())
      // the time of a row does not depend on who looks
      yield* sql.unsafe("SET TIME ZONE 'Asia/Kathmandu'")
      assert.deepStrictEqual((yield* log.read(undefined)).rows, rows)
    })
  )

  withLog("L1 a limit, kinds and odd cursors", server, ({ log }) =>
    Effect.gen(function* () {
      yield* log.appendAll(entries(1, 5))
      yield* log.append({ entity: "x", kind: "rare", data: 6 })
      const first = yield* log.read(undefined, { limit: 2 })
      assert.deepStrictEqual([seqs(first), first.more], [[1, 2], true])
      const second = yield* log.read(first.cursor, { limit: 2 })
      assert.deepStrictEqual([seqs(second), second.more], [[3, 4], true])
      const rare = yield* log.read(undefined, { limit: 3, kinds: ["rare"] })
      assert.deepStrictEqual([seqs(rare), rare.more, Number(rare.cursor.seq)], [[], true, 3])
      assert.deepStrictEqual(seqs(yield* log.read(rare.cursor, { kinds: ["rare", "none"] })), [6])
      assert.strictEqual((yield* Effect.flip(log.read(undefined, { limit: 0 })))._tag, "ChangeLogError")
      // of a time when the log was read by number alone
      assert.deepStrictEqual(seqs(yield* log.read({ seq: 4n })), [5, 6])
    })
  )

  withLog("L4 append joins the transaction of its caller", server, ({ log, sql }) =>
    Effect.gen(function* () {
      yield* sql.unsafe("CREATE TABLE users (id int)")
      const both = Effect.zipRight(sql.unsafe("INSERT INTO users VALUES (1)"), log.append(entry(1)))
      assert.strictEqual(yield* Effect.flip(log.transaction(Effect.zipRight(both, Effect.fail("mine")))), "mine")
      assert.deepStrictEqual(yield* all(log), [])
      yield* log.transaction(both)
      yield* sql.withTransaction(both)
      // the numbers of the one that was rolled back are gone
      assert.deepStrictEqual(yield* all(log), [2, 3])
      assert.lengthOf(yield* sql.unsafe("SELECT * FROM users"), 2)
      // within a transaction its own entries are still held back
      assert.deepStrictEqual(yield* sql.withTransaction(Effect.zipRight(both, all(log))), [2, 3])
    })
  )

  withLog("L4 a commit that fails is an error, not a defect", server, ({ log, sql }) =>
    Effect.gen(function* () {
      yield* sql.unsafe("CREATE TABLE users (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
      const twice = sql.unsafe("INSERT INTO users VALUES (1), (1)")
      const error = yield* Effect.flip(log.transaction(Effect.zipRight(log.append(entry(1)), twice)))
      assert.strictEqual(error._tag === "ChangeLogError" ? error.reason : error._tag, "Rejected")
      assert.deepStrictEqual(yield* all(log), [])
    })
  )

  withLog("L4 what cannot be stored is rejected with a sentence, and nothing of it is stored", server, ({ log }) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(log.appendAll([entry(1), { entity: "a\u0000b", kind: "put" }]))
      assert.deepStrictEqual(
        [error.reason, error.message],
        [
          "Rejected",
          "periscope_changes: append: PostgreSQL cannot store a NUL character or half a surrogate pair in an entity or kind; encode it first."
        ]
      )
      assert.strictEqual((yield* Effect.flip(log.append({ entity: "\ud800", kind: "put" }))).reason, "Rejected")
      assert.deepStrictEqual(yield* all(log), [])
    })
  )

  withLog(
    "L5 an open writing transaction holds back what comes after it, and the metric tells how long",
    server,
    ({ log, sql }) =>
      Effect.gen(function* () {
        const { came } = yield* watch(log)
        yield* log.append(entry(1))
        yield* until(
          "the first entry",
          Effect.sync(() => came.length === 1)
        )
        assert.strictEqual(yield* age(), 0)
        const slow = yield* openTransaction(sql, [
          "INSERT INTO periscope_changes (entity, kind) VALUES ('slow', 'put')"
        ])
        yield* log.appendAll(entries(3, 5))
        yield* until(
          "the metric",
          Effect.map(age(), (seconds) => seconds > 1.5)
        )
        assert.deepStrictEqual(came, ["1"], "behind an open transaction")
        yield* slow.end("COMMIT")
        yield* until(
          "the rest",
          Effect.sync(() => came.length === 5)
        )
        assert.deepStrictEqual(came, ["1", "2", "3", "4", "5"])
        yield* until(
          "the metric at rest",
          Effect.map(age(), (seconds) => seconds === 0)
        )
      })
  )

  withLog(
    "L5 an open transaction that only reads holds back nothing, one that is rolled back loses nothing",
    server,
    ({ log, sql }) =>
      Effect.gen(function* () {
        yield* openTransaction(sql, [
          "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
          "SELECT * FROM periscope_changes"
        ])
        const undone = yield* openTransaction(sql, [
          "INSERT INTO periscope_changes (entity, kind) VALUES ('slow', 'put')"
        ])
        yield* log.append(entry(2))
        assert.deepStrictEqual(yield* all(log), [])
        yield* undone.end("ROLLBACK")
        assert.deepStrictEqual(yield* all(log), [2])
        const { cursor } = yield* log.read(undefined)
        // L6: its number is a gap behind and in front of a cursor, and no reason to expire
        const again = yield* openTransaction(sql, [
          "INSERT INTO periscope_changes (entity, kind) VALUES ('slow', 'put')"
        ])
        yield* again.end("ROLLBACK")
        assert.deepStrictEqual(seqs(yield* log.read(cursor)), [])
        yield* log.append(entry(4))
        assert.deepStrictEqual(seqs(yield* log.read(cursor)), [4])
      })
  )

  withLog(
    "L1 from now: what is committed from now on comes, also of transactions that are open; from a number: all that are greater",
    server,
    ({ log, sql }) =>
      Effect.gen(function* () {
        yield* log.appendAll(entries(1, 3))
        // this one has its number before the next, and is committed after it
        const slow = yield* openTransaction(sql, [
          "INSERT INTO periscope_changes (entity, kind) VALUES ('slow', 'put')"
        ])
        yield* log.append(entry(5))
        const head = yield* log.head
        const five = yield* log.cursorAt(4n)
        const three = yield* log.cursorAt(3n)
        yield* slow.end("COMMIT")
        assert.include(seqs(yield* log.read(head)), 4)
        assert.notIncludeMembers(seqs(yield* log.read(head)), [1, 2, 3])
        assert.includeMembers(seqs(yield* log.read(five)), [5])
        assert.includeMembers(seqs(yield* log.read(three)), [4, 5])
        // a number greater than all that were given: the log is not the one that it was read from
        const error = yield* Effect.flip(Effect.flatMap(log.cursorAt(100n), (cursor) => log.read(cursor)))
        assert.strictEqual(
          error.message,
          "periscope_changes: entries behind 100 are gone (the log ends before it: it was restored or made again); the log holds those behind its start, up to 5."
        )
        const { came } = yield* watch(log, { from: 4n })
        yield* until(
          "the one behind it",
          Effect.sync(() => came.length === 1)
        )
        assert.deepStrictEqual(came, ["5"])
      })
  )

  withLog("L1 from a number: an old transaction with a great number is not missed", server, ({ log, sql }) =>
    Effect.gen(function* () {
      const old = yield* openTransaction(sql, ["SELECT pg_current_xact_id()"])
      yield* log.appendAll(entries(1, 3))
      const oldConnection = yield* log.cursorAt(2n)
      yield* old.end("COMMIT")
      assert.includeMembers(seqs(yield* log.read(oldConnection)), [3])
      // a transaction that began before all others writes the last number
      const older = yield* openTransaction(sql, ["SELECT pg_current_xact_id()"])
      yield* log.append(entry(4))
      yield* sql.unsafe("SELECT 1")
      yield* older.end("ROLLBACK")
      const cursor = yield* log.cursorAt(3n)
      assert.deepStrictEqual(seqs(yield* log.read(cursor)), [4])
    })
  )

  withLog(
    "L6 L7 pruned entries: a reader that needs them is told exactly, and goes on as it wants",
    server,
    ({ log }) =>
      Effect.gen(function* () {
        yield* log.appendAll(entries(1, 10))
        const { cursor: two } = yield* log.read(undefined, { limit: 2 })
        const { cursor: four } = yield* log.read(undefined, { limit: 4 })
        assert.deepStrictEqual((yield* log.prune({ keep: 6, evenUnread: true })).removed, 4)
        assert.deepStrictEqual(yield* all(log), [5, 6, 7, 8, 9, 10])
        // what it read last is gone, nothing behind it is
        assert.deepStrictEqual(seqs(yield* log.read(four)), [5, 6, 7, 8, 9, 10])
        const error = yield* Effect.flip(log.read(two))
        assert.instanceOf(error, ChangeLog.CursorExpired)
        assert.deepStrictEqual(
          [error.requested.seq, error.floor?.seq, error.head?.seq, error.why],
          [2n, 4n, 10n, "it was pruned"]
        )
        assert.strictEqual(
          (yield* Effect.flip(Effect.flatMap(log.cursorAt(3n), (cursor) => log.read(cursor))))._tag,
          "CursorExpired"
        )
        const checkpoints = yield* Checkpoints.makeMemory
        const run = (options: ChangeLogSource.Options) =>
          Watcher.once(ChangeLogSource.make(options), { checkpoint: "reader" }).pipe(
            Effect.map((changes) => changes.map((change) => (change._tag === "Added" ? change.value.entity : ""))),
            Effect.provideService(ChangeLog.ChangeLog, log),
            Effect.provideService(Checkpoints.Checkpoints, checkpoints),
            Logger.withMinimumLogLevel(LogLevel.None)
          )
        assert.lengthOf(yield* run({}), 6)
        yield* log.appendAll(entries(11, 14))
        yield* log.prune({ keep: 2, evenUnread: true })
        assert.strictEqual((yield* Effect.flip(run({})))._tag, "CursorExpired")
        assert.deepStrictEqual(yield* run({ onExpired: "fromOldest" }), ["e13", "e14"])
        yield* log.appendAll(entries(15, 16))
        yield* log.prune({ keep: 0, evenUnread: true })
        const list = Effect.succeed([{ entity: "listed", kind: "put", data: 1 }])
        assert.deepStrictEqual(yield* run({ onExpired: { list } }), ["listed"])
        yield* log.append(entry(17))
        assert.deepStrictEqual(yield* run({}), ["e17"])
      })
  )

  withLog(
    "L7 registered consumers hold back what they have not committed; a dropped one does not",
    server,
    ({ log, sql }) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* log.prune(), { removed: 0, slowest: undefined })
        yield* log.appendAll(entries(1, 10))
        const page = (limit: number) => Effect.map(log.read(undefined, { limit }), ({ cursor }) => cursor)
        yield* log.register("fast", yield* page(8))
        yield* log.register("slow", yield* page(3))
        const { removed, slowest } = yield* log.prune()
        assert.deepStrictEqual([removed, slowest?.name, Number(slowest?.cursor.seq)], [3, "slow", 3])
        assert.strictEqual((yield* log.prune({ keep: 0 })).removed, 0)
        assert.isTrue(yield* log.dropConsumer("slow"))
        assert.isFalse(yield* log.dropConsumer("slow"))
        assert.strictEqual((yield* log.prune({ olderThan: "1 hour" })).removed, 0)
        yield* sql.unsafe("UPDATE periscope_changes SET at = at - interval '2 hours' WHERE seq < 7")
        assert.strictEqual((yield* log.prune({ olderThan: "1 hour" })).removed, 3)
        assert.strictEqual((yield* log.prune()).removed, 2)
        assert.deepStrictEqual(yield* all(log), [9, 10])
        // held back entries are not pruned, however many are asked for
        const slow = yield* openTransaction(sql, [
          "INSERT INTO periscope_changes (entity, kind) VALUES ('slow', 'put')"
        ])
        yield* log.append(entry(12))
        yield* log.prune({ keep: 0, evenUnread: true })
        yield* slow.end("COMMIT")
        assert.deepStrictEqual(yield* all(log), [11, 12])
      })
  )

  withLog("L7 a large prune goes in steps, and two at once do no harm", server, ({ log, sql }) =>
    Effect.gen(function* () {
      yield* sql.unsafe("INSERT INTO periscope_changes (entity, kind) SELECT 'e', 'put' FROM generate_series(1, 35000)")
      const prune = log.prune({ keep: 1000, evenUnread: true })
      const both = yield* Effect.all([prune, prune], { concurrency: 2 })
      assert.strictEqual(both[0].removed + both[1].removed, 34_000)
      const error = yield* Effect.flip(log.read({ seq: 1n, xid: 3n }))
      assert.strictEqual(error._tag === "CursorExpired" ? error.floor?.seq : undefined, 34_000n)
    })
  )

  withLog("L6 a log that was made again, or restored to an older state, expires its readers", server, ({ log, sql }) =>
    Effect.gen(function* () {
      yield* log.appendAll(entries(1, 5))
      const { cursor } = yield* log.read(undefined)
      const { cursor: two } = yield* log.read(undefined, { limit: 2 })
      const why = (cursor: ChangeLog.Cursor) =>
        Effect.map(Effect.flip(log.read(cursor)), (error) =>
          error._tag === "CursorExpired" ? error.why : error.message
        )
      yield* sql.unsafe("DELETE FROM periscope_changes WHERE seq = 2")
      assert.strictEqual(
        yield* why(two),
        "that entry is not there, but older ones are: the log was restored, or entries were deleted by hand"
      )
      yield* sql.unsafe("DELETE FROM periscope_changes WHERE seq > 2")
      yield* sql.unsafe("ALTER SEQUENCE periscope_changes_seq_seq RESTART WITH 3")
      // what is committed since has no meaning for the order of what was read
      yield* log.append(entry(3))
      assert.strictEqual(yield* why(cursor), "the log ends before it: it was restored or made again")
      yield* log.appendAll(entries(4, 9))
      assert.strictEqual(yield* why(cursor), "another entry has its number now: the log was restored or made again")
      yield* sql.unsafe("TRUNCATE periscope_changes RESTART IDENTITY")
      assert.strictEqual(yield* why(cursor), "the log ends before it: it was restored or made again")
    })
  )

  inDatabase(
    "L6 a dump that is restored into another server: readers expire, and entries that could not be seen are told of",
    server,
    (database) =>
      Effect.gen(function* () {
        const next = yield* server().makeDatabase
        const fill = Effect.gen(function* () {
          const log = yield* SqlChangeLog.make()
          yield* log.appendAll(entries(1, 3))
          const sql = yield* SqlClient.SqlClient
          // as if that server had come further
          yield* sql.unsafe("ALTER TABLE periscope_changes ALTER COLUMN xid DROP DEFAULT")
          yield* sql.unsafe("UPDATE periscope_changes SET xid = (1000000000 + seq)::text::xid8 WHERE seq > 1")
          yield* sql.unsafe("ALTER TABLE periscope_changes ALTER COLUMN xid SET DEFAULT pg_current_xact_id()")
        })
        yield* fill
        const dump = execFileSync("pg_dump", ["--dbname", database.url], { encoding: "utf8" })
        execFileSync("psql", ["--dbname", next.url, "--quiet"], { input: dump, stdio: ["pipe", "ignore", "inherit"] })
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const error = yield* Effect.flip(SqlChangeLog.make())
          const remedy =
            'UPDATE "periscope_changes" SET "xid" = pg_current_xact_id() WHERE "xid" >= pg_snapshot_xmax(pg_current_snapshot())'
          assert.deepStrictEqual(
            [error.reason, error.message],
            [
              "UnsafeTable",
              `periscope_changes: entries bear transactions that this server has not come to yet, so nobody would see them: they were restored from another server; run ${remedy}.`
            ]
          )
          yield* sql.unsafe(remedy)
          const log = yield* SqlChangeLog.make()
          assert.deepStrictEqual(yield* all(log), [1, 2, 3])
          const expired = yield* Effect.flip(log.read({ seq: 3n, xid: 1000000003n }))
          assert.strictEqual(expired._tag, "CursorExpired")
          const ahead = yield* Effect.flip(log.read({ seq: 2n, xid: 2000000003n }))
          assert.strictEqual(
            ahead._tag === "CursorExpired" ? ahead.why : "",
            "another entry has its number now: the log was restored or made again"
          )
          // while it is read: a reader is told at the next empty read
          yield* sql.unsafe("UPDATE periscope_changes SET xid = '1000000003' WHERE seq = 3")
          const { cursor } = yield* log.read(undefined)
          yield* until(
            "the empty read",
            Effect.map(
              Effect.either(log.read(cursor)),
              (read) => read._tag === "Left" && read.left._tag === "ChangeLogError"
            )
          )
          const counter = yield* Effect.flip(log.read({ seq: 3n, xid: 1000000003n }))
          assert.strictEqual(
            counter._tag === "CursorExpired" ? counter.why : counter.message,
            "the server has not come to its transaction yet: the log was restored into another one"
          )
        }).pipe(Effect.scoped, Effect.provide(connect(next)))
      })
  )

  withLog("W3 connections that are ended during polls are made anew; nothing is lost", server, ({ database, log }) =>
    Effect.gen(function* () {
      const { came } = yield* watch(log)
      let killed = 0
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        for (let n = 1; n <= 10; n++) {
          const rows = yield* sql.unsafe<{ readonly pid: number }>(
            "SELECT pg_terminate_backend(pid), pid FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()",
            [database.name]
          )
          killed += rows.length
          yield* sql.unsafe("INSERT INTO periscope_changes (entity, kind) VALUES ('e', 'put')")
          yield* Effect.sleep("30 millis")
        }
      }).pipe(Effect.provide(connect(database, { maxConnections: 1 })))
      yield* until(
        "all of them",
        Effect.sync(() => came.length === 10)
      )
      assert.isAbove(killed, 5)
      assert.deepStrictEqual(
        came,
        Array.from({ length: 10 }, (_, n) => String(n + 1))
      )
    })
  )

  withLog(
    "W3 a server that is stopped and started: watching goes on, and appends tell that they failed",
    server,
    ({ log }) =>
      Effect.gen(function* () {
        const { came } = yield* watch(log)
        yield* log.append(entry(1))
        yield* until(
          "the first",
          Effect.sync(() => came.length === 1)
        )
        yield* server().stop
        const error = yield* Effect.flip(log.append(entry(2)))
        assert.deepStrictEqual([error.reason, error.isRetryable], ["Unavailable", true])
        const inTransaction = yield* Effect.flip(log.transaction(Effect.fail("mine")))
        assert.isTrue(inTransaction instanceof ChangeLog.ChangeLogError)
        yield* server().restart
        yield* Effect.retry(log.append(entry(3)), { times: 20 })
        yield* until(
          "the second",
          Effect.sync(() => came.length === 2)
        )
        assert.strictEqual(came[0], "1")
      })
  )

  withLog("L8 an entry that does not decode ends the watch, or is parked", server, ({ log, sql }) =>
    Effect.gen(function* () {
      yield* log.append(entry(1))
      yield* sql.unsafe("INSERT INTO periscope_changes (entity, kind, data) VALUES ('e2', 'put', 'no json')")
      yield* log.append(entry(3))
      const schema = Schema.Struct({ n: Schema.Int })
      const run = (onUndecodable: "stop" | "park") =>
        Effect.gen(function* () {
          const came: Array<number> = []
          const watcher = yield* Watcher.make(ChangeLogSource.make({ schema, onUndecodable }), { interval: "5 millis" })
          const fiber = yield* Effect.fork(
            watcher.runForEach((change) =>
              Effect.sync(() => void (change._tag === "Added" && came.push(change.value.data.n)))
            )
          )
          return { came, watcher, fiber }
        }).pipe(Effect.provideService(ChangeLog.ChangeLog, log))
      const stopped = yield* run("stop")
      const error = yield* Effect.flip(Fiber.join(stopped.fiber))
      assert.strictEqual(error._tag === "UndecodableEntry" ? error.seq : undefined, 2n)
      const parked = yield* run("park")
      yield* until(
        "the third",
        Effect.sync(() => parked.came.length === 2)
      )
      assert.deepStrictEqual(parked.came, [1, 3])
      assert.lengthOf(yield* parked.watcher.parked, 1)
    })
  )

  inDatabase("L3 any number of processes can make the table at once", server, (database) =>
    Effect.gen(function* () {
      const layers = Array.from({ length: 8 }, () => SqlChangeLog.layer().pipe(Layer.provide(connect(database))))
      const appends = layers.map((layer) =>
        Effect.flatMap(ChangeLog.ChangeLog, (log) => Effect.zipRight(log.prune(), log.append(entry(1)))).pipe(
          Effect.provide(layer)
        )
      )
      const given = yield* Effect.all(appends, { concurrency: "unbounded" })
      assert.strictEqual(new Set(given).size, 8)
    })
  )

  withLog("L3 a role that may only read the table can watch it", server, ({ database, log, sql }) =>
    Effect.gen(function* () {
      yield* log.append(entry(1))
      yield* sql.unsafe("CREATE ROLE looker LOGIN; GRANT SELECT ON periscope_changes TO looker")
      const url = database.url.replace("postgres@", "looker@")
      const read = Effect.flatMap(SqlChangeLog.make(), (log) =>
        Effect.flatMap(log.read(undefined), ({ cursor }) => log.read(cursor))
      )
      const layer = PgClient.layer({ url: Redacted.make(url) })
      assert.deepStrictEqual((yield* Effect.provide(read, layer)).rows, [])
      yield* sql.unsafe("DROP OWNED BY looker; DROP ROLE looker")
    })
  )

  withLog("E1 the metric is there from the start", server, () =>
    Effect.gen(function* () {
      const snapshot = yield* Metric.snapshot
      assert.isTrue(snapshot.some(({ metricKey }) => metricKey.name === "periscope_log_horizon_age_seconds"))
    })
  )
})

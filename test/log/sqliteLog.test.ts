/**
 * Logs in SQLite where the table, its values or its users are not as one would think.
 */
import { assert, describe, it } from "@effect/vitest"
import { Checkpoints, Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource, FileHints } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"
import { NodeContext } from "@effect/platform-node"
import { Cause, Effect, Exit, Layer, Schedule, TestClock } from "effect"
import * as SqlClient from "@effect/sql/SqlClient"
import { connect, file } from "./sqlDatabases.js"

const open = (sql: SqlClient.SqlClient, options: SqlChangeLog.Options = {}) =>
  Effect.provideService(SqlChangeLog.make(options), SqlClient.SqlClient, sql)
const seqs = (page: ChangeLog.Page) => page.rows.map(({ cursor }) => Number(cursor.seq))
const entry = (n: number | string) => ({ entity: `e${n}`, kind: "put", data: { n } })
const readAll = (log: typeof ChangeLog.ChangeLog.Service, limit: number) =>
  Effect.gen(function* () {
    const got: Array<string> = []
    let cursor = yield* log.start
    for (let n = 0; n < 30; n++) {
      const page = yield* log.read(cursor, { limit })
      got.push(...page.rows.map(({ data }) => String(data)))
      cursor = page.cursor
      if (!page.more) break
    }
    return got
  })

describe("a log in SQLite", () => {
  it.scoped("L6 assumeDense: a log whose first number is 1 can be read from its start", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      const log = yield* open(sql, { assumeDense: true })
      yield* log.appendAll([entry(1), entry(2)])
      const exit = yield* Effect.exit(Effect.flatMap(log.start, (start) => log.read(start)))
      assert.isTrue(Exit.isSuccess(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "")
    })
  )

  it.scoped("L1 a text column as seq is refused, or read in order", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      yield* sql`CREATE TABLE t (seq TEXT PRIMARY KEY NOT NULL, data TEXT)`
      const opened = yield* Effect.either(open(sql, { table: "t", columns: { data: "data" }, assumeNeverReused: true }))
      if (opened._tag === "Left") return
      const log = opened.right
      yield* sql`INSERT INTO t VALUES ('8', 'a'), ('9', 'b')`
      const first = yield* log.read(undefined)
      yield* sql`INSERT INTO t VALUES ('10', 'c')`
      assert.deepStrictEqual(seqs(yield* log.read(first.cursor)), [10])
    })
  )

  it.scoped("a partial unique index proves nothing: rows of one number are lost at a page border", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      yield* sql`CREATE TABLE t (seq INTEGER NOT NULL, data TEXT)`
      yield* sql`CREATE UNIQUE INDEX i ON t (seq) WHERE data = 'x'`
      const opened = yield* Effect.either(open(sql, { table: "t", columns: { data: "data" }, assumeNeverReused: true }))
      if (opened._tag === "Left") return
      yield* sql`INSERT INTO t VALUES (1, 'a'), (2, 'b'), (2, 'c'), (2, 'd'), (3, 'e')`
      assert.deepStrictEqual(yield* readAll(opened.right, 1), ["a", "b", "c", "d", "e"])
    })
  )

  it.scoped("a table with an index over an expression is refused or opened, it does not die", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      yield* sql`CREATE TABLE t (id TEXT PRIMARY KEY, seq INTEGER NOT NULL UNIQUE, email TEXT)`
      yield* sql`CREATE UNIQUE INDEX i ON t (lower(email))`
      const exit = yield* Effect.exit(open(sql, { table: "t", columns: { data: "email" }, assumeNeverReused: true }))
      assert.isFalse(Exit.isFailure(exit) && Cause.isDie(exit.cause), String(exit))
    })
  )

  it.scoped("L4 a column that is called autoincrement is not the keyword: the reused number is lost", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      yield* sql.unsafe(`CREATE TABLE other (id INTEGER PRIMARY KEY AUTOINCREMENT)`)
      yield* sql.unsafe(`CREATE TABLE t (seq INTEGER PRIMARY KEY, "autoincrement" INTEGER, data TEXT)`)
      const opened = yield* Effect.either(open(sql, { table: "t", columns: { data: "data" } }))
      if (opened._tag === "Left") return
      // the vouched for number is given again
      const log = opened.right
      yield* sql`INSERT INTO other DEFAULT VALUES`
      yield* sql`INSERT INTO t (data) VALUES ('a'), ('b')`
      const { cursor } = yield* log.read(undefined)
      yield* sql`DELETE FROM t WHERE seq = 2`
      yield* sql`INSERT INTO t (data) VALUES ('new')`
      const next = yield* Effect.either(log.read(cursor))
      assert.deepStrictEqual(next._tag === "Right" ? next.right.rows.map(({ data }) => data) : next.left._tag, ["new"])
    })
  )

  it.scoped("a 64-bit id in a column of integers is delivered as it is", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      yield* sql`CREATE TABLE t (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER, kind TEXT, payload INTEGER)`
      yield* sql.unsafe(
        "INSERT INTO t (user_id, kind, payload) VALUES (1234567890123456789, 'k', 9007199254740993), (1234567890123456790, 'k', 1)"
      )
      const log = yield* open(sql, { table: "t", columns: { entity: "user_id", data: "payload" } })
      const { rows } = yield* log.read(undefined)
      assert.deepStrictEqual(
        rows.map(({ data, entity }) => [entity, data]),
        [
          ["1234567890123456789", "9007199254740993"],
          ["1234567890123456790", "1"]
        ]
      )
    })
  )

  it.scoped("L4 an entity with NUL or half a surrogate pair is kept as it is, or refused", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      const log = yield* open(sql)
      const wrong: Array<string> = []
      for (const entity of ["a\0b", "a\ud800", "é😀"]) {
        const given = yield* Effect.either(log.append({ entity, kind: "k\0d" }))
        if (given._tag === "Left") continue
        const { rows } = yield* log.read(undefined)
        const last = rows.at(-1)!
        if (last.entity !== entity || last.kind !== "k\0d") wrong.push(JSON.stringify([entity, last.entity, last.kind]))
      }
      assert.deepStrictEqual(wrong, [])
    })
  )

  it.scoped(
    "L7 an attached database is refused: what is noted of a log there could be elsewhere for another process",
    () =>
      Effect.gen(function* () {
        const sql = yield* connect(yield* file)
        yield* sql.unsafe(`ATTACH '${yield* file}' AS logs`)
        const error = yield* Effect.flip(open(sql, { table: "logs.changes" }))
        assert.strictEqual(error.reason, "UnsafeTable")
        assert.match(error.message, /attached database.*open its file with a client of its own/)
        assert.deepStrictEqual(yield* sql.unsafe("SELECT name FROM logs.sqlite_master"), [])
      })
  )

  it.scoped("L7 the name of the schema in another case is the same log", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      const one = yield* open(sql, { table: "changes" })
      const two = yield* open(sql, { table: "MAIN.changes" })
      yield* one.appendAll([1, 2, 3].map(entry))
      const slow = yield* one.read(undefined, { limit: 1 })
      yield* one.register("slow", slow.cursor)
      yield* two.register("fast", (yield* two.read(undefined)).cursor)
      yield* two.prune()
      const next = yield* Effect.either(one.read(slow.cursor))
      assert.deepStrictEqual(next._tag === "Right" ? seqs(next.right) : next.left._tag, [2, 3])
    })
  )

  it.scoped("L7 olderThan knows the times that rows have: text, seconds", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      yield* sql`CREATE TABLE t (seq INTEGER PRIMARY KEY AUTOINCREMENT, data TEXT, at TEXT)`
      yield* sql`INSERT INTO t (data, at) VALUES ('old', '1960-01-01T00:00:00Z'), ('old', '2001-01-01T00:00:00Z')`
      const log = yield* open(sql, { table: "t", columns: { data: "data", at: "at" } })
      const { cursor, rows } = yield* log.read(undefined)
      assert.strictEqual(rows[1]!.atMillis, Date.parse("2001-01-01T00:00:00Z"))
      yield* log.register("r", cursor)
      yield* TestClock.setTime(Date.parse("2026-01-01T00:00:00Z"))
      assert.strictEqual((yield* log.prune({ olderThan: "1 day" })).removed, 2)
    })
  )

  it.scoped("a date without a zone is of UTC, as SQLite writes it, wherever this runs", () =>
    Effect.gen(function* () {
      const zone = process.env["TZ"]
      process.env["TZ"] = "America/New_York"
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          if (zone === undefined) delete process.env["TZ"]
          else process.env["TZ"] = zone
        })
      )
      const sql = yield* connect(yield* file)
      yield* sql`CREATE TABLE t (seq INTEGER PRIMARY KEY AUTOINCREMENT, data TEXT, at TEXT)`
      yield* sql`INSERT INTO t (data, at) VALUES ('a', datetime(0, 'unixepoch')), ('b', '1970-01-01T00:00:01+01:00')`
      const log = yield* open(sql, { table: "t", columns: { at: "at" } })
      const { rows } = yield* log.read(undefined)
      assert.deepStrictEqual(
        rows.map(({ atMillis }) => atMillis),
        [0, 1000 - 3_600_000]
      )
    })
  )

  it.scoped("L6 prune never lowers the mark: what is gone stays told", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      const log = yield* open(sql)
      yield* log.appendAll([1, 2, 3, 4, 5, 6].map(entry))
      const slow = yield* log.read(undefined, { limit: 3 })
      yield* log.prune({ keep: 1, evenUnread: true })
      yield* sql`INSERT INTO periscope_changes (seq, entity, kind, at) VALUES (1, 'again', 'put', 0)`
      yield* log.prune({ keep: 1, evenUnread: true })
      const next = yield* Effect.either(log.read(slow.cursor))
      assert.strictEqual(next._tag === "Right" ? `read ${seqs(next.right)}` : next.left._tag, "CursorExpired")
    })
  )

  it.scoped("two watchers of one name: prune keeps what the slower one needs", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      const log = yield* open(sql)
      yield* log.appendAll([1, 2, 3].map(entry))
      const source = ChangeLogSource.make({ consumer: "one", limit: 1 })
      const seen: Array<string> = []
      yield* Watcher.runForEach(source, ({ key }) => Effect.sync(() => void seen.push(key)), {
        checkpoint: "c",
        schedule: Schedule.stop
      }).pipe(Effect.provideService(ChangeLog.ChangeLog, log), Effect.provide(Checkpoints.layerMemory))
      assert.deepStrictEqual(seen, ["1", "2", "3"])
      const [consumer] = yield* log.consumers
      assert.isTrue(Number(consumer!.cursor.seq) <= 3)
    })
  )

  it.scoped("promise 1: a log that was dropped and made again: a fresh reader gets all of it, or is told", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      const log = yield* open(sql)
      yield* log.appendAll([1, 2, 3, 4, 5].map(entry))
      yield* log.prune({ keep: 0, evenUnread: true })
      yield* sql`DROP TABLE periscope_changes`
      const again = yield* open(sql)
      yield* again.appendAll([1, 2, 3, 4, 5, 6, 7, 8].map(entry))
      const found = yield* Effect.either(
        Watcher.once(ChangeLogSource.make()).pipe(Effect.provideService(ChangeLog.ChangeLog, again))
      )
      assert.deepStrictEqual(found._tag === "Right" ? found.right.map(({ key }) => key) : found.left._tag, [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8"
      ])
    })
  )

  it.scopedLive("an idle log with file hints, a checkpoint and a consumer in one database is not polled for ever", () =>
    Effect.gen(function* () {
      const name = yield* file
      const sql = yield* connect(name)
      const log = yield* open(sql, { hints: FileHints.make({ path: name }) as never }).pipe(
        Effect.provide(NodeContext.layer)
      )
      yield* log.appendAll([1, 2, 3].map(entry))
      const checkpoints = SqlCheckpoints.layer().pipe(Layer.provide(Layer.succeed(SqlClient.SqlClient, sql)))
      const watcher = yield* Watcher.make(ChangeLogSource.make({ consumer: "c" }), {
        checkpoint: "c",
        interval: "1 minute"
      }).pipe(Effect.provideService(ChangeLog.ChangeLog, log), Effect.provide(checkpoints))
      yield* Effect.forkScoped(watcher.runForEach(() => Effect.void))
      yield* Effect.sleep("1 second")
      const before = (yield* watcher.status.get).polls
      yield* Effect.sleep("2 seconds")
      assert.strictEqual((yield* watcher.status.get).polls - before, 0)
    })
  )

  it.scopedLive(
    "D4 a handler that swallows an error which rolled the transaction back: the checkpoint is not ahead",
    () =>
      Effect.gen(function* () {
        const sql = yield* connect(yield* file)
        const log = yield* open(sql)
        yield* log.appendAll([1, 2, 3].map(entry))
        yield* sql`CREATE TABLE copied (key TEXT)`
        yield* sql`CREATE TABLE once (id INTEGER PRIMARY KEY)`
        yield* sql`INSERT INTO once VALUES (1)`
        let calls = 0
        const handler = ({ key }: { readonly key: string }) =>
          Effect.gen(function* () {
            calls++
            yield* sql`INSERT INTO copied (key) VALUES (${key})`
            if (key !== "2" || calls > 6) return
            const ending = calls < 4 ? sql`INSERT OR ROLLBACK INTO once VALUES (1)` : sql.unsafe(" rollback")
            yield* Effect.ignore(ending)
            // in no transaction it would stay
            yield* sql`INSERT INTO copied (key) VALUES ('stray')`
          })
        const exit = yield* SqlCheckpoints.runTransactional(ChangeLogSource.make(), handler, {
          checkpoint: "c",
          schedule: Schedule.stop
        }).pipe(
          Effect.provideService(ChangeLog.ChangeLog, log),
          Effect.provideService(SqlClient.SqlClient, sql),
          Effect.timeout("5 seconds"),
          Effect.exit
        )
        const keys = yield* sql<{ key: string }>`SELECT key FROM copied ORDER BY key`
        assert.deepStrictEqual(
          keys.map(({ key }) => key),
          ["1", "2", "3"],
          `${exit._tag}, ${calls} calls`
        )
      })
  )

  it.scoped("L8 CLI and source: bytes that are no text are not delivered as other bytes in silence", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      yield* sql`CREATE TABLE t (seq INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB)`
      yield* sql`INSERT INTO t (data) VALUES (x'fffe00'), (x'fefd00')`
      const log = yield* open(sql, { table: "t", columns: { data: "data" } })
      const [a, b] = (yield* log.read(undefined)).rows
      assert.notStrictEqual(a!.data, b!.data)
    })
  )
})

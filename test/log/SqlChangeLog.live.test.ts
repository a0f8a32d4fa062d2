/** A log in SQLite files: locked, full, restored, pruned, and tables of others. */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import { assert, describe, it } from "@effect/vitest"
import type { Scope } from "effect"
import { Effect, Exit, Fiber, Layer, Logger, Schedule } from "effect"
import { Checkpoints, Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import { spawn } from "node:child_process"
import { copyFileSync, mkdtempSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"

type Log = typeof ChangeLog.ChangeLog.Service

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "periscope-sqlite-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

interface Opened {
  readonly sql: SqlClient.SqlClient
  readonly log: Log
}

const clientOf = (filename: string) => SqliteClient.make({ filename }).pipe(Effect.provide(Reactivity.layer))

const opened = (
  filename: string,
  options: SqlChangeLog.Options = { table: "changes" },
  prepare: (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown> = () => Effect.void
): Effect.Effect<Opened, ChangeLog.ChangeLogError, Scope.Scope> =>
  Effect.gen(function* () {
    const sql = yield* Effect.orDie(clientOf(filename))
    yield* Effect.orDie(prepare(sql))
    return { sql, log: yield* Effect.provideService(SqlChangeLog.make(options), SqlClient.SqlClient, sql) }
  })

const entries = (count: number, from = 1) =>
  Array.from({ length: count }, (_, n) => ({ entity: `e${from + n}`, kind: "k", data: from + n }))

/** What one run over a log handles, by key. */
const run = (log: Log, options: ChangeLogSource.Options & { readonly checkpoint: string }) =>
  Effect.suspend(() => {
    const seen: Array<string> = []
    const { checkpoint, ...source } = options
    return Effect.as(
      Watcher.runForEach(ChangeLogSource.make(source), ({ key }) => Effect.sync(() => void seen.push(key)), {
        checkpoint,
        schedule: Schedule.stop,
        retry: Schedule.stop
      }),
      seen
    ).pipe(Effect.provideService(ChangeLog.ChangeLog, log))
  })

const expired = (effect: Effect.Effect<unknown, { readonly _tag: string }, Checkpoints.Checkpoints>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, ChangeLog.CursorExpired)
    return error as ChangeLog.CursorExpired
  })

const driver = createRequire(createRequire(import.meta.url).resolve("@effect/sql-sqlite-node")).resolve(
  "better-sqlite3"
)

/** Another process with a write transaction that it keeps open until it is told otherwise. */
const writerHolding = (filename: string) =>
  Effect.acquireRelease(
    Effect.async<{ readonly release: Effect.Effect<void> }>((resume) => {
      const program = `
        const db = new (require(${JSON.stringify(driver)}))(${JSON.stringify(filename)})
        db.exec("PRAGMA busy_timeout = 5000")
        db.exec("BEGIN IMMEDIATE")
        db.exec("INSERT INTO changes (entity, kind, data, at) VALUES ('held', 'k', '0', 0)")
        console.log("held")
        process.stdin.once("data", () => { db.exec("COMMIT"); console.log("released"); process.exit(0) })`
      const child = spawn(process.execPath, ["-e", program], { stdio: ["pipe", "pipe", "inherit"] })
      const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()))
      const release = Effect.suspend(() => {
        child.stdin.write("go\n")
        return Effect.promise(() => exited)
      })
      child.stdout.once("data", () => resume(Effect.succeed({ release, child })))
    }),
    (held) => Effect.sync(() => (held as unknown as { readonly child: { kill: () => void } }).child.kill())
  )

const quiet = Logger.replace(Logger.defaultLogger, Logger.none)

describe("L3 SqlChangeLog: a locked database", () => {
  it.scopedLive("L3 a writer that keeps its lock: readers go on, an append is Unavailable and works later", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "app.db")
      const { log, sql } = yield* opened(file)
      yield* log.appendAll(entries(3))
      const reader = yield* opened(file)
      yield* sql.unsafe("PRAGMA busy_timeout = 300")
      yield* reader.sql.unsafe("PRAGMA busy_timeout = 300")
      const held = yield* writerHolding(file)
      const began = performance.now()
      const error = yield* Effect.flip(log.append({ entity: "late", kind: "k" }))
      assert.isAbove(performance.now() - began, 250)
      assert.deepStrictEqual(
        [error.reason, error.isRetryable, error.message],
        ["Unavailable", true, "changes: appending failed: the database is locked by another writer."]
      )
      const joined = yield* Effect.flip(log.transaction(Effect.dieMessage("never begins")))
      assert.strictEqual(joined.reason, "Unavailable")
      // also one that is registered, and cannot write that down
      assert.deepStrictEqual(yield* run(reader.log, { checkpoint: "locked", consumer: "reader" }), ["1", "2", "3"])
      yield* held.release
      assert.strictEqual(yield* log.append({ entity: "late", kind: "k" }), 5n)
      assert.deepStrictEqual(yield* run(reader.log, { checkpoint: "locked", consumer: "reader" }), ["4", "5"])
    }).pipe(Effect.provide(Layer.merge(Checkpoints.layerMemory, quiet)))
  )
})

describe("SqlChangeLog: a full disk", () => {
  it.scopedLive("an append is Unavailable and says why, nothing of it stays, and it works when there is room", () =>
    Effect.gen(function* () {
      const { log, sql } = yield* opened(join(yield* temporary, "app.db"))
      yield* log.append({ entity: "a", kind: "k" })
      yield* sql.unsafe("PRAGMA max_page_count = 20")
      const big = Array.from({ length: 100 }, () => ({ entity: "big", kind: "k", data: "x".repeat(5000) }))
      const error = yield* Effect.flip(log.transaction(log.appendAll(big)))
      assert.deepStrictEqual(
        [error.reason, error.message],
        ["Unavailable", "changes: appending failed: the disk or the database is full."]
      )
      assert.strictEqual((yield* log.read(undefined)).rows.length, 1)
      yield* sql.unsafe("PRAGMA max_page_count = 100000")
      assert.strictEqual((yield* log.transaction(log.appendAll(big)))[0], 2n)
    })
  )
})

describe("SqlChangeLog: tables of others", () => {
  const table = (statement: string) => (sql: SqlClient.SqlClient) => sql.unsafe(statement)

  it.scopedLive("L4 without AUTOINCREMENT a table is refused, unless its user vouches for it", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "app.db")
      const plain = table("CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY, who TEXT, what TEXT)")
      const options = { table: "audit", columns: { seq: "id", entity: "who", kind: "what" } } as const
      const error = yield* Effect.flip(opened(file, options, plain))
      assert.deepStrictEqual(
        [error.reason, error.message],
        [
          "UnsafeTable",
          'audit: its column "id" is no INTEGER PRIMARY KEY AUTOINCREMENT: when the newest rows are deleted, SQLite gives their numbers again, and those entries would be missed; make it one, or set `assumeNeverReused` if nobody ever deletes the newest rows.'
        ]
      )
      const { log, sql } = yield* opened(file, { ...options, assumeNeverReused: true }, plain)
      yield* sql.unsafe("INSERT INTO audit (who, what) VALUES ('ada', 'came')")
      assert.deepStrictEqual((yield* log.read(undefined)).rows, [
        { cursor: { seq: 1n }, entity: "ada", kind: "came", data: '{"id":1,"who":"ada","what":"came"}' }
      ])
    })
  )

  it.scopedLive("a missing table and a missing column are named", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "app.db")
      const none = yield* Effect.flip(opened(file, { table: "nowhere", create: false }))
      assert.deepStrictEqual(
        [none.reason, none.message],
        ["MissingTable", "nowhere: there is no such table; create it, or name it with `table`."]
      )
      const column = yield* Effect.flip(
        opened(
          file,
          { table: "audit", columns: { kind: "verb" } },
          table("CREATE TABLE audit (seq INTEGER PRIMARY KEY AUTOINCREMENT)")
        )
      )
      assert.deepStrictEqual(
        [column.reason, column.message],
        ["MissingTable", 'audit: it has no column "verb"; name its columns with `columns`.']
      )
    })
  )

  it.scopedLive("L1 other names and no column for data: the whole row is the data, and is watched", () =>
    Effect.gen(function* () {
      const { log, sql } = yield* opened(
        join(yield* temporary, "app.db"),
        { table: "orders", columns: { seq: "order number", entity: "customer" } as never },
        table("CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT, cents INTEGER, note BLOB)")
      ).pipe(
        // a name that is no name is a mistake of the program
        Effect.sandbox,
        Effect.flip,
        Effect.zipRight(
          Effect.flatMap(temporary, (folder) =>
            opened(
              join(folder, "app.db"),
              { table: "orders", columns: { seq: "id", entity: "customer" } },
              table(
                "CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT, cents INTEGER, note BLOB)"
              )
            )
          )
        )
      )
      yield* sql.unsafe("INSERT INTO orders (customer, cents, note) VALUES ('ada', 250, x'ff00'), ('bob', NULL, NULL)")
      const found = yield* Effect.provideService(Watcher.once(ChangeLogSource.make()), ChangeLog.ChangeLog, log)
      assert.deepStrictEqual(
        found.map((change) => (change._tag === "Added" ? [change.key, change.value.entity, change.value.data] : [])),
        [
          ["1", "ada", { id: 1, customer: "ada", cents: 250, note: "FF00" }],
          ["2", "bob", { id: 2, customer: "bob", cents: null, note: null }]
        ]
      )
      const error = yield* Effect.flip(log.append({ entity: "x", kind: "k" }))
      assert.strictEqual(error.reason, "Rejected")
    })
  )

  it.scopedLive("L5 numbers above 2^53 stay exact: read, resumed and appended", () =>
    Effect.gen(function* () {
      const { log, sql } = yield* opened(join(yield* temporary, "app.db"))
      const first = 2n ** 53n - 2n
      yield* sql.unsafe(`INSERT INTO changes (seq, entity, kind, data, at) VALUES (${first}, 'e', 'k', '0', 1)`)
      assert.deepStrictEqual(
        yield* log.appendAll(entries(5)),
        [1n, 2n, 3n, 4n, 5n].map((n) => first + n)
      )
      const expected = [0n, 1n, 2n, 3n, 4n, 5n].map((n) => String(first + n))
      for (const limit of [1, 2, 1000]) {
        assert.deepStrictEqual(yield* run(log, { checkpoint: `big ${limit}`, limit }), expected)
      }
      yield* log.append({ entity: "next", kind: "k" })
      assert.deepStrictEqual(yield* run(log, { checkpoint: "big 1", limit: 1 }), [String(first + 6n)])
      const last = 2n ** 63n - 2n
      yield* sql.unsafe(`INSERT INTO changes (seq, entity, kind, data, at) VALUES (${last}, 'e', 'k', '0', 1)`)
      assert.deepStrictEqual(yield* run(log, { checkpoint: "big 2", limit: 2 }), [String(first + 6n), String(last)])
      assert.strictEqual((yield* log.head).seq, last)
      assert.deepStrictEqual(yield* run(log, { checkpoint: "big 2", limit: 2 }), [])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.scopedLive("L6 `assumeDense` on a log that is empty at first expects nothing in front of its first entry", () =>
    Effect.gen(function* () {
      const options = { table: "changes", assumeDense: true } as const
      const { log, sql } = yield* opened(join(yield* temporary, "app.db"), options)
      assert.deepStrictEqual(yield* run(log, { checkpoint: "dense" }), [])
      yield* log.appendAll(entries(3))
      assert.deepStrictEqual(yield* run(log, { checkpoint: "dense" }), ["1", "2", "3"])
      yield* log.appendAll(entries(3, 4))
      yield* sql.unsafe("DELETE FROM changes WHERE seq <= 4")
      const { why } = yield* expired(run(log, { checkpoint: "dense" }))
      assert.strictEqual(why, "entries in front of the oldest are missing")
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("L6 SqlChangeLog: entries that are gone", () => {
  it.scopedLive("L6 L7 a pruned log says what was asked for, and where it begins and ends", () =>
    Effect.gen(function* () {
      const { log } = yield* opened(join(yield* temporary, "app.db"))
      yield* log.appendAll(entries(2))
      yield* run(log, { checkpoint: "pruned" })
      yield* log.appendAll(entries(8, 3))
      assert.strictEqual((yield* log.prune({ keep: 5, evenUnread: true })).removed, 5)
      const error = yield* expired(run(log, { checkpoint: "pruned" }))
      assert.deepStrictEqual(
        [error.log, error.requested.seq, error.floor, error.head, error.why],
        ["changes", 2n, { seq: 5n }, { seq: 10n }, "it was pruned"]
      )
      assert.deepStrictEqual(yield* run(log, { checkpoint: "pruned", onExpired: "fromOldest" }), [
        "6",
        "7",
        "8",
        "9",
        "10"
      ])
      yield* log.prune({ keep: 0, evenUnread: true })
      assert.deepStrictEqual(yield* run(log, { checkpoint: "pruned" }), [])
      yield* log.appendAll(entries(1))
      assert.deepStrictEqual(yield* run(log, { checkpoint: "pruned" }), ["11"])
    }).pipe(Effect.provide(Layer.merge(Checkpoints.layerMemory, quiet)))
  )

  it.scopedLive("L7 a registered reader keeps what it has not committed, a new one keeps the start", () =>
    Effect.gen(function* () {
      const { log } = yield* opened(join(yield* temporary, "app.db"))
      yield* log.appendAll(entries(10))
      assert.deepStrictEqual(yield* log.prune(), { removed: 0, slowest: undefined })
      const crash = yield* Watcher.runForEach(
        ChangeLogSource.make({ consumer: "reader", limit: 4 }),
        ({ key }) => (key === "6" ? Effect.fail("crash" as const) : Effect.void),
        { checkpoint: "reader", schedule: Schedule.stop }
      ).pipe(Effect.provideService(ChangeLog.ChangeLog, log), Effect.flip)
      assert.strictEqual(crash, "crash")
      const { slowest } = yield* log.prune()
      assert.strictEqual(slowest?.name, "reader")
      assert.deepStrictEqual(yield* run(log, { checkpoint: "reader", consumer: "reader" }), [
        "5",
        "6",
        "7",
        "8",
        "9",
        "10"
      ])
      yield* run(log, { checkpoint: "reader", consumer: "reader" })
      assert.strictEqual((yield* log.prune()).slowest?.cursor.seq, 10n)
      assert.strictEqual((yield* log.read(undefined)).rows.length, 0)
      assert.isTrue(yield* log.dropConsumer("reader"))
      assert.isFalse(yield* log.dropConsumer("reader"))
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  for (const [name, again] of [
    ["shorter than before", 0],
    ["as long as before", 3],
    ["longer than before", 9]
  ] as const) {
    it.scopedLive(`L6 a restored backup that has become ${name} is noticed, never read on silently`, () =>
      Effect.gen(function* () {
        const folder = yield* temporary
        const file = join(folder, "app.db")
        const using = <A, E>(use: (open: Opened) => Effect.Effect<A, E, Checkpoints.Checkpoints>) =>
          Effect.scoped(
            Effect.flatMap(opened(file), (open) =>
              Effect.tap(use(open), () => open.sql.unsafe("PRAGMA wal_checkpoint(TRUNCATE)").pipe(Effect.orDie))
            )
          )
        yield* using(({ log }) => log.appendAll(entries(4)))
        copyFileSync(file, join(folder, "backup.db"))
        yield* using(({ log }) =>
          Effect.gen(function* () {
            yield* log.appendAll(entries(3, 5))
            assert.strictEqual((yield* run(log, { checkpoint: "restored" })).length, 7)
          })
        )
        for (const ending of ["", "-wal", "-shm"]) rmSync(`${file}${ending}`, { force: true })
        copyFileSync(join(folder, "backup.db"), file)
        yield* Effect.sleep(5)
        yield* using(({ log }) =>
          Effect.gen(function* () {
            yield* log.appendAll(entries(again, 100))
            const error = yield* expired(run(log, { checkpoint: "restored" }))
            assert.strictEqual(error.requested.seq, 7n)
            assert.strictEqual(error.head?.seq, BigInt(4 + again))
            assert.match(error.why, /restored or made again/)
            const all = yield* run(log, { checkpoint: "restored", onExpired: "fromOldest" })
            assert.strictEqual(all.length, 4 + again)
          })
        )
      }).pipe(Effect.provide(Layer.merge(Checkpoints.layerMemory, quiet)))
    )
  }
})

describe("L3 L4 SqlChangeLog: transactions and processes", () => {
  it.scopedLive("L4 an append and the change that it tells of are committed together or not at all", () =>
    Effect.gen(function* () {
      const { log, sql } = yield* opened(join(yield* temporary, "app.db"))
      yield* sql.unsafe("CREATE TABLE users (name TEXT)")
      const change = (name: string, fails: boolean) =>
        log.transaction(
          Effect.gen(function* () {
            yield* sql.unsafe("INSERT INTO users VALUES (?)", [name])
            yield* log.append({ entity: name, kind: "created" })
            if (fails) return yield* Effect.fail("no" as const)
          })
        )
      yield* change("ada", false)
      assert.strictEqual(yield* Effect.flip(change("bob", true)), "no")
      assert.isTrue(
        Exit.isFailure(
          yield* Effect.exit(
            Effect.timeoutFail(
              log.transaction(Effect.zipRight(log.append({ entity: "eve", kind: "k" }), Effect.never)),
              { duration: 20, onTimeout: () => "late" }
            )
          )
        )
      )
      assert.deepStrictEqual(yield* sql.unsafe("SELECT name FROM users"), [{ name: "ada" }])
      assert.deepStrictEqual(
        (yield* log.read(undefined)).rows.map(({ entity }) => entity),
        ["ada"]
      )
    })
  )

  it.scopedLive("L4 many entries at once are one transaction: one that is refused takes all of them along", () =>
    Effect.gen(function* () {
      const statement =
        "CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, entity TEXT CHECK (entity <> 'bad'), kind TEXT, data TEXT, at INTEGER)"
      const { log } = yield* opened(join(yield* temporary, "app.db"), { table: "changes" }, (sql) =>
        sql.unsafe(statement)
      )
      const refused = [...entries(450), { entity: "bad", kind: "k" }]
      const error = yield* Effect.flip(log.appendAll(refused))
      assert.strictEqual(error.reason, "Rejected")
      assert.notInclude(error.message, "bad")
      assert.strictEqual((yield* log.read(undefined)).rows.length, 0)
      assert.strictEqual((yield* log.appendAll(entries(450))).length, 450)
    })
  )

  it.scopedLive("L3 L9 a commit of this process is seen at once, one through another client within an interval", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "app.db")
      const { log } = yield* opened(file)
      const other = yield* opened(file)
      const seen: Array<readonly [string, number]> = []
      const watching = yield* Watcher.runForEach(
        ChangeLogSource.make(),
        ({ key }) => Effect.sync(() => void seen.push([key, performance.now()])),
        { interval: 400 }
      ).pipe(Effect.provideService(ChangeLog.ChangeLog, log), Effect.fork)
      yield* Effect.sleep(100)
      const first = performance.now()
      yield* log.append({ entity: "a", kind: "k" })
      yield* Effect.sleep(50)
      assert.strictEqual(seen.length, 1)
      assert.isBelow(seen[0]![1] - first, 50)
      const second = performance.now()
      yield* other.log.append({ entity: "b", kind: "k" })
      yield* Effect.sleep(1000)
      assert.strictEqual(seen.length, 2)
      assert.isBelow(seen[1]![1] - second, 800)
      yield* Fiber.interrupt(watching)
    })
  )
})

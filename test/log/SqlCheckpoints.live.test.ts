import * as SqlClient from "@effect/sql/SqlClient"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Context, Effect, Either, Exit, Fiber, Layer, Option, Schedule, Scope } from "effect"
import { Checkpoints } from "effect-periscope"
import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"
import { suite } from "effect-periscope/testing/CheckpointsContract"
import { isWhole, nextSave } from "../core/checkpointsSaves.js"
import { isInstalled } from "../servers/installed.js"
import type { Postgres } from "../servers/postgres.js"
import { postgres, startPostgres } from "../servers/postgres.js"
import { child, removeBuilt } from "./sqlChildren.js"
import { connect, file, layer, outside } from "./sqlDatabases.js"

afterAll(removeBuilt)

const guarantees = { survives: "backend", fence: "store" } as const

const stateIn = (database: string) => Layer.suspend(() => Layer.provide(SqlCheckpoints.layer(), layer(database)))

/** A store with a client of its own. */
const open = (database: string) =>
  Effect.map(Layer.build(stateIn(database)), (context) => Context.get(context, Checkpoints.Checkpoints))

/** A store on a client that the test has too. */
const openOn = (sql: SqlClient.SqlClient, options?: SqlCheckpoints.TableOptions) =>
  Effect.map(
    Layer.build(Layer.provide(SqlCheckpoints.layer(options), Layer.succeed(SqlClient.SqlClient, sql))),
    (context) => Context.get(context, Checkpoints.Checkpoints)
  )

const recordIn = (store: Checkpoints.Checkpoints["Type"]) =>
  Effect.scoped(Effect.map(store.claim("stream"), ({ stored }) => Option.getOrUndefined(stored)))

const isRevision = (store: Checkpoints.Checkpoints["Type"], rev: number) =>
  Effect.map(recordIn(store), (stored) => {
    assert.strictEqual(stored?.rev, rev)
    assert.isTrue(stored !== undefined && isWhole(stored), "torn")
  })

/** What holds in both databases. */
const faults = (place: Effect.Effect<string, never, Scope.Scope>) => {
  it.scopedLive("a younger claim of another process ends that of this one (D3)", () =>
    Effect.gen(function* () {
      const database = yield* place
      const store = yield* open(database)
      const mine = yield* store.claim("stream")
      yield* mine.save(nextSave(1))
      const other = yield* child("save", database)
      assert.strictEqual(yield* other.begun, "claimed 1")
      const { message, reason } = yield* Effect.flip(mine.save(nextSave(100_000)))
      assert.strictEqual(reason, "Fenced")
      assert.strictEqual(message, "a younger owner has claimed this checkpoint since")
      // and the other way round
      const claim = yield* store.claim("stream")
      yield* other.ended
      assert.match(other.lines.at(-1) ?? "", /^failed .*a younger owner has claimed this checkpoint since/)
      const stored = Option.getOrThrow(claim.stored)
      assert.isTrue(isWhole(stored))
      yield* claim.save(nextSave(stored.rev + 1))
    })
  )

  // Goal: kill -9 at any instant leaves the old or the new record, never one older than what was said to be saved.
  it.scopedLive(
    "kills in a stream of saves leave the old or the new record (D3, D5)",
    () =>
      Effect.gen(function* () {
        const database = yield* place
        const store = yield* open(database)
        const kills = 5
        let within = 0
        let floor = 0
        for (let round = 0; round < kills; round++) {
          const saver = yield* child("save", database)
          assert.strictEqual(yield* saver.begun, `claimed ${floor}`)
          yield* Effect.sleep(5 + ((round * 0.618) % 1) * 80)
          yield* saver.kill
          const last = saver.lines.at(-1) ?? ""
          if (last.startsWith("saving")) within++
          const said = saver.lines.flatMap((line) => (line.startsWith("saved") ? [Number(line.slice(6))] : []))
          const acknowledged = said.at(-1) ?? floor
          const stored = yield* recordIn(store)
          assert.isTrue(stored === undefined ? acknowledged === 0 : isWhole(stored), "torn")
          floor = stored?.rev ?? 0
          assert.isTrue(floor === acknowledged || floor === acknowledged + 1, `${floor} after ${acknowledged}`)
        }
        process.stderr.write(`SQL checkpoint kills within a save: ${within} of ${kills}, at revision ${floor}\n`)
        assert.isAbove(within, 0)
      }),
    60_000
  )

  it.scopedLive("a save joins the transaction of its caller (D4)", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* place)
      const store = yield* openOn(sql)
      const { save } = yield* store.claim("stream")
      yield* save(nextSave(1))
      yield* Effect.flip(sql.withTransaction(Effect.zipRight(save(nextSave(2)), Effect.fail("rolled back"))))
      // a save that is refused takes nothing else with it
      yield* sql.withTransaction(Effect.zipLeft(save(nextSave(2)), Effect.flip(save(nextSave(1)))))
      yield* isRevision(store, 2)
    })
  )

  it.scopedLive("names that a client transforms, and a table of one's own, make no difference", () =>
    Effect.gen(function* () {
      const database = yield* place
      const sql = yield* connect(database, { transformResultNames: (name) => name.toUpperCase() })
      const one = yield* openOn(sql, { table: "mine" })
      const two = yield* openOn(yield* connect(database), { table: "mine" })
      yield* Effect.scoped(Effect.flatMap(one.claim("stream"), ({ save }) => save(nextSave(1))))
      yield* isRevision(two, 1)
      yield* isRevision(one, 1)
      assert.deepStrictEqual(yield* (yield* openOn(sql)).list, [])
    })
  )

  it.scopedLive("several that begin at the same instant make the tables once", () =>
    Effect.gen(function* () {
      const database = yield* place
      const stores = yield* Effect.all(
        Array.from({ length: 6 }, () => open(database)),
        { concurrency: "unbounded" }
      )
      const claims = yield* Effect.forEach(stores, (store) => store.claim("stream"))
      assert.deepStrictEqual(
        claims.map(({ fence }) => fence),
        [1, 2, 3, 4, 5, 6]
      )
    })
  )

  it.scopedLive("a damaged row is Corrupt and stays with its owner; tables of a newer version are UnknownFormat", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* place)
      const first = yield* openOn(sql)
      const { save } = yield* first.claim("stream")
      yield* save({ ...nextSave(1), head: "secret-head" })
      const second = yield* openOn(sql)
      for (const [damage, problem] of [
        [
          sql`UPDATE periscope_checkpoints SET head = 'secret-rubbish' WHERE head IS NOT NULL`,
          "its head cannot be read"
        ],
        [sql`UPDATE periscope_checkpoints_blocks SET name = 'secret-rubbish'`, "the name of a block cannot be read"]
      ] as const) {
        yield* damage
        const error = yield* Effect.flip(Effect.scoped(second.claim("stream")))
        assert.strictEqual(error.reason, "Corrupt")
        assert.include(error.message, `the record in table "periscope_checkpoints" is damaged: ${problem}.`)
        assert.notInclude(JSON.stringify(error), "secret")
        yield* save({ ...nextSave(problem.length), put: nextSave(1).put })
      }
      yield* sql`UPDATE periscope_checkpoints SET rev = 2 WHERE id = 'format'`
      for (const error of [yield* Effect.flip(openOn(sql)), yield* Effect.flip(first.claim("stream"))]) {
        assert.strictEqual(error.reason, "UnknownFormat")
        assert.include(error.message, 'table "periscope_checkpoints" has the format 2, this version reads 1')
      }
    })
  )
}

describe("SQLite file", () => {
  suite({ describe, it }, { name: "SQLite file", guarantees, make: Effect.map(file, stateIn) })
  faults(file)

  it.scopedLive(
    "a database that another process locks for longer than busy_timeout is Unavailable until it is free",
    () =>
      Effect.gen(function* () {
        const database = yield* file
        const sql = yield* connect(database)
        yield* sql`PRAGMA busy_timeout = 100`
        const store = yield* openOn(sql)
        assert.deepStrictEqual(yield* sql`PRAGMA busy_timeout`, [{ timeout: 100 }])
        const { save } = yield* store.claim("stream")
        yield* save(nextSave(1))
        const other = yield* child("lock", database)
        assert.strictEqual(yield* other.begun, "locked")
        const { isRetryable, message } = yield* Effect.flip(save(nextSave(2)))
        assert.strictEqual(message, "the database failed: database is locked (SQLITE_BUSY)")
        assert.isTrue(isRetryable)
        yield* other.kill
        yield* save(nextSave(2))
        yield* isRevision(store, 2)
      })
  )

  it.scopedLive("a full disk is Unavailable, leaves the record, and is over with the next save", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      const store = yield* openOn(sql)
      // some drivers start with none: writers would fail at once
      assert.deepStrictEqual(yield* sql`PRAGMA busy_timeout`, [{ timeout: 5000 }])
      const { save } = yield* store.claim("stream")
      for (let rev = 1; rev <= 4; rev++) yield* save(nextSave(rev))
      const [pages] = yield* sql<{ page_count: number }>`PRAGMA page_count`
      yield* sql.unsafe(`PRAGMA max_page_count = ${pages!.page_count + 2}`)
      const large = { ...nextSave(5), put: [["b5", new Uint8Array(200_000)]] as const }
      const { message, reason } = yield* Effect.flip(save(large))
      assert.strictEqual(reason, "Unavailable")
      assert.strictEqual(message, "the database failed: database or disk is full (SQLITE_FULL)")
      // nothing is left open: others write
      yield* sql.withTransaction(sql`CREATE TABLE t (a)`)
      yield* sql`PRAGMA max_page_count = 100000`
      yield* save({ ...nextSave(5), rev: 6 })
      const stored = yield* recordIn(store)
      assert.isTrue(stored?.rev === 6 && isWhole({ ...stored, rev: 5 }))
    })
  )

  it.scopedLive("a COMMIT that fails leaves no transaction open for others to fall into", () =>
    Effect.gen(function* () {
      const database = yield* file
      // without a write-ahead log a reader keeps COMMIT out, though not what was written before
      const sql = yield* connect(database, { disableWAL: true })
      yield* sql`PRAGMA busy_timeout = 50`
      const store = yield* openOn(sql)
      const { save } = yield* store.claim("stream")
      yield* save(nextSave(1))
      const reader = yield* connect(database, { disableWAL: true })
      yield* reader.withTransaction(
        Effect.gen(function* () {
          yield* reader`SELECT count(*) FROM periscope_checkpoints`
          const { message } = yield* outside(Effect.flip(save(nextSave(2))))
          assert.strictEqual(message, "the database failed: database is locked (SQLITE_BUSY)")
        })
      )
      yield* sql.withTransaction(sql`CREATE TABLE t (a)`)
      yield* save(nextSave(2))
      yield* isRevision(store, 2)
    })
  )
})

describe.skipIf(!isInstalled(postgres))("PostgreSQL", () => {
  const scope = Effect.runSync(Scope.make())
  let server: Postgres
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.extend(startPostgres, scope))
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const place = Effect.map(
    Effect.suspend(() => server.makeDatabase),
    ({ url }) => url
  )

  suite({ describe, it }, { name: "PostgreSQL", guarantees, make: Effect.map(place, stateIn) })
  faults(place)

  it.scopedLive("a connection that is cut within a save is Unavailable, and the next save goes through another", () =>
    Effect.gen(function* () {
      const database = yield* place
      const sql = yield* connect(database, { applicationName: "cut" })
      const other = yield* connect(database)
      const store = yield* openOn(sql)
      const { save } = yield* store.claim("stream")
      yield* save(nextSave(1))
      const third = yield* connect(database)
      const cut = third<{ query: string }>`
        SELECT pg_terminate_backend(pid), query FROM pg_stat_activity
        WHERE application_name = 'cut' AND wait_event_type = 'Lock'`
      // the save waits for the row that another transaction has
      const saved = yield* other.withTransaction(
        Effect.gen(function* () {
          yield* other`SELECT * FROM periscope_checkpoints FOR UPDATE`
          const saving = yield* Effect.fork(outside(Effect.either(save(nextSave(2)))))
          const rows = yield* outside(cut).pipe(
            Effect.filterOrFail((rows) => rows.length > 0),
            Effect.retry(Schedule.spaced("10 millis"))
          )
          assert.match(rows[0]!.query, /UPDATE "periscope_checkpoints"/)
          return yield* Fiber.join(saving)
        })
      )
      const { isRetryable, message } = Either.getOrThrow(Either.flip(saved))
      assert.strictEqual(message, "the database failed: terminating connection due to administrator command (57P01)")
      assert.isTrue(isRetryable)
      yield* save(nextSave(2))
      yield* isRevision(store, 2)
    })
  )

  it.scopedLive("an outage of the server is Unavailable, and over with it", () =>
    Effect.gen(function* () {
      const store = yield* open(yield* place)
      const { save } = yield* store.claim("stream")
      yield* save(nextSave(1))
      yield* server.stop
      for (let rev = 2; rev < 5; rev++) {
        const error = yield* Effect.flip(save(nextSave(rev)))
        assert.strictEqual(error.reason, "Unavailable")
        assert.match(error.message, /^the database failed: .*(ECONNREFUSED|terminat|57P0|ended)/)
      }
      yield* Effect.orDie(server.restart)
      yield* save(nextSave(2))
      yield* isRevision(store, 2)
    })
  )

  it.scopedLive("tables that somebody else has made are enough", () =>
    Effect.gen(function* () {
      const database = yield* place
      const admin = yield* connect(database)
      yield* openOn(admin)
      yield* admin`CREATE ROLE watcher LOGIN`
      yield* admin`REVOKE CREATE ON SCHEMA public FROM PUBLIC`
      yield* admin`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO watcher`
      const sql = yield* connect(database.replace("postgres@", "watcher@"))
      const store = yield* openOn(sql)
      yield* Effect.scoped(Effect.flatMap(store.claim("stream"), ({ save }) => save(nextSave(1))))
      yield* isRevision(store, 1)
      yield* admin`CREATE SCHEMA app`
      assert.deepStrictEqual(yield* (yield* openOn(admin, { table: "app.mine" })).list, [])
      assert.deepStrictEqual(yield* admin`SELECT to_regclass('app.mine_blocks')::text AS made`, [
        { made: "app.mine_blocks" }
      ])
      const { message, reason } = yield* Effect.flip(openOn(sql, { table: "another" }))
      assert.strictEqual(reason, "Unavailable")
      assert.strictEqual(message, "the database failed: permission denied for schema public (42501)")
    })
  )
})

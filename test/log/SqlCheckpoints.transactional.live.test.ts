import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Logger, LogLevel, Option, Schedule, Scope } from "effect"
import { Checkpoints, Source } from "effect-periscope"
import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"
import { isInstalled } from "../servers/installed.js"
import type { Postgres } from "../servers/postgres.js"
import { postgres, startPostgres } from "../servers/postgres.js"
import { child, removeBuilt } from "./sqlChildren.js"
import { connect, file, outside } from "./sqlDatabases.js"
import { copiedKeys, entries, makeEntries } from "./sqlEntries.js"

afterAll(removeBuilt)

const checkpoint = "copy"
const once = { checkpoint, schedule: Schedule.stop, batchSize: 10 } as const

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n + 1)

/** Another store on the same tables. */
const storeOf = (sql: SqlClient.SqlClient) =>
  Effect.map(Layer.build(Layer.provide(SqlCheckpoints.layer(), Layer.succeed(SqlClient.SqlClient, sql))), (context) =>
    Context.get(context, Checkpoints.Checkpoints)
  )

/** The position in the log that the checkpoint holds, read as the row it is. */
const positionIn = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql<{ head: string }>`SELECT head FROM periscope_checkpoints WHERE head IS NOT NULL`,
    ([row]) => (row === undefined ? 0 : JSON.parse(JSON.parse(row.head)).state) as number
  )

const copy = (sql: SqlClient.SqlClient, key: string) => sql`INSERT INTO copied (key) VALUES (${key})`

const run = <A, E>(sql: SqlClient.SqlClient, effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.provideService(effect, SqlClient.SqlClient, sql).pipe(Logger.withMinimumLogLevel(LogLevel.None))

/** The same client, whose transactions end as `end` says; only the outermost ones. */
const withEnd = (
  sql: SqlClient.SqlClient,
  end: <A, E, R>(transaction: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError, R>
): SqlClient.SqlClient => {
  const withTransaction: SqlClient.SqlClient["withTransaction"] = (effect) =>
    Effect.flatMap(Effect.serviceOption(SqlClient.TransactionConnection), (connection) =>
      Option.isSome(connection) ? sql.withTransaction(effect) : end(sql.withTransaction(effect))
    )
  return Object.assign(((...args: Parameters<typeof sql>) => sql(...args)) as never, sql, {
    withTransaction,
    withoutTransforms: () => withEnd(sql.withoutTransforms(), end)
  })
}

const lost = new SqlError({ message: "Failed to execute statement", cause: new Error("Connection terminated") })

const sharedTests = (place: Effect.Effect<string, never, Scope.Scope>) => {
  it.scopedLive("a handler that fails takes its whole batch back, and is tried again from the first change (D4)", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* place)
      yield* makeEntries(sql, 30)
      let failures = 0
      const handler = ({ key }: { readonly key: string }) =>
        Effect.zipRight(copy(sql, key), key === "15" && failures++ < 2 ? Effect.fail("broken" as const) : Effect.void)
      const first = yield* Effect.flip(run(sql, SqlCheckpoints.runTransactional(entries(sql), handler, once)))
      assert.strictEqual(first, "broken")
      assert.deepStrictEqual(yield* copiedKeys(sql), numbers(10))
      assert.strictEqual(yield* positionIn(sql), 10)
      yield* run(
        sql,
        SqlCheckpoints.runTransactional(entries(sql), handler, { ...once, handlerRetry: Schedule.recurs(1) })
      )
      assert.strictEqual(failures, 3)
      assert.deepStrictEqual(yield* copiedKeys(sql), numbers(30))
      assert.strictEqual(yield* positionIn(sql), 30)
    })
  )

  // Goal: trap of every store that commits apart from the handler's writes. Method: the save is in the batch's transaction only if it
  // disappears with it.
  it.scopedLive("what is rolled back behind the save takes the checkpoint with it (D4)", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* place)
      yield* makeEntries(sql, 30)
      let last = 0
      const seen: Array<readonly [position: number, rows: number]> = []
      const look = Effect.gen(function* () {
        seen.push([yield* positionIn(sql), (yield* copiedKeys(sql)).length])
      })
      const failing = withEnd(sql, (transaction) => {
        const behind = Effect.suspend(() =>
          last === 20 && seen.length === 0 ? Effect.zipRight(Effect.orDie(look), lost) : Effect.void
        )
        // one within the other: the inner one commits nothing by itself
        return Effect.tapError(sql.withTransaction(Effect.zipLeft(transaction, behind)), () => Effect.orDie(look))
      })
      const handler = ({ key }: { readonly key: string }) =>
        Effect.tap(copy(sql, key), () => {
          last = Number(key)
        })
      yield* run(failing, SqlCheckpoints.runTransactional(entries(sql), handler, once))
      assert.deepStrictEqual(seen, [
        [20, 20],
        [10, 10]
      ])
      assert.deepStrictEqual(yield* copiedKeys(sql), numbers(30))
      assert.strictEqual(yield* positionIn(sql), 30)
    })
  )

  it.scopedLive("a COMMIT whose answer is lost is not done again, one that did not happen is (D4)", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* place)
      yield* makeEntries(sql, 100)
      const faults = { answer: 0, commit: 0, claim: 0 }
      let batches = 0
      let isBatch = false
      const unsure = withEnd(sql, (transaction) =>
        Effect.suspend(() => {
          isBatch = false
          const answerless = Effect.zipLeft(
            transaction,
            Effect.suspend(() => {
              if (!isBatch) {
                // a claim: the answer to the second one is lost, though it is ours
                if (faults.answer !== 1 || faults.claim > 0) return Effect.void
                faults.claim++
                return lost
              }
              if (++batches % 3 !== 1) return Effect.void
              faults.answer++
              return lost
            })
          )
          if (batches % 3 !== 1) return answerless
          const undone = sql.withTransaction(Effect.tap(answerless, () => (isBatch ? lost : Effect.void)))
          return Effect.tapError(undone, () => Effect.sync(() => isBatch && faults.commit++)) as typeof answerless
        })
      )
      const handler = ({ key }: { readonly key: string }) =>
        Effect.zipRight(
          Effect.sync(() => {
            isBatch = true
          }),
          copy(sql, key)
        )
      yield* run(unsure, SqlCheckpoints.runTransactional(entries(sql), handler, once))
      assert.deepStrictEqual(yield* copiedKeys(sql), numbers(100))
      assert.strictEqual(yield* positionIn(sql), 100)
      assert.strictEqual(faults.claim, 1)
      assert.isAbove(faults.answer, 0)
      assert.isAbove(faults.commit, 0)
    })
  )

  it.scopedLive("a younger claim ends it before another handler runs, also when it has to start again (D3)", () =>
    Effect.gen(function* () {
      const database = yield* place
      const sql = yield* connect(database)
      yield* makeEntries(sql, 30)
      const other = yield* storeOf(yield* connect(database))
      for (const isLost of [false, true]) {
        yield* sql`DELETE FROM copied`
        let transactions = 0
        // claimed by another between the first batch and the second
        const overtaken = withEnd(sql, (transaction) =>
          Effect.suspend(() => {
            if (++transactions !== 2) return transaction
            const claim = Effect.orDie(Effect.scoped(other.claim(checkpoint)))
            return Effect.zipLeft(transaction, Effect.zipRight(outside(claim), isLost ? lost : Effect.void))
          })
        )
        const handler = ({ key }: { readonly key: string }) => copy(sql, key)
        const error = yield* Effect.flip(
          run(overtaken, SqlCheckpoints.runTransactional(entries(sql), handler, once)) as Effect.Effect<
            void,
            Checkpoints.CheckpointError
          >
        )
        assert.strictEqual(error.reason, "Fenced")
        assert.strictEqual(error.checkpoint, checkpoint)
        assert.strictEqual(error.message, "a younger owner has claimed this checkpoint since")
        assert.strictEqual((yield* copiedKeys(sql)).length, 10)
        yield* other.remove(checkpoint)
      }
    })
  )
}

describe("SqlCheckpoints.runTransactional on SQLite", () => {
  sharedTests(file)

  it.scopedLive("a constraint that COMMIT refuses ends the watch, and nothing of the batch stays", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* file)
      yield* makeEntries(sql, 30)
      yield* sql`PRAGMA foreign_keys = ON`
      yield* sql`CREATE TABLE known (key TEXT PRIMARY KEY)`
      for (const n of numbers(14)) yield* sql`INSERT INTO known VALUES (${String(n)})`
      yield* sql`CREATE TABLE checked (key TEXT REFERENCES known (key) DEFERRABLE INITIALLY DEFERRED)`
      const handler = ({ key }: { readonly key: string }) => sql`INSERT INTO checked VALUES (${key})`
      const error = yield* Effect.flip(run(sql, SqlCheckpoints.runTransactional(entries(sql), handler, once)))
      assert.strictEqual(error._tag, "SqlError")
      assert.strictEqual((error.cause as { code: string }).code, "SQLITE_CONSTRAINT_FOREIGNKEY")
      assert.deepStrictEqual(yield* sql`SELECT count(*) AS n FROM checked`, [{ n: 10 }])
      assert.strictEqual(yield* positionIn(sql), 10)
      yield* sql.withTransaction(sql`DELETE FROM checked`)
    })
  )

  // Goal: exactly once over kill -9 at any instant. Method: a child copies a log and says what it is about; what is in the tables
  // after each kill must be one prefix, and the checkpoint its end.
  it.scopedLive(
    "kills at any instant copy every entry exactly once (D4, D5)",
    () =>
      Effect.gen(function* () {
        const database = yield* file
        const sql = yield* connect(database)
        const count = 2000
        yield* makeEntries(sql, count)
        const windows: Record<string, number> = { poll: 0, handle: 0, commit: 0, done: 0 }
        let kills = 0
        const wanted = ["handle", "commit", "poll"] as const
        const isEnough = () => kills >= 20 || (kills >= 8 && windows["handle"]! > 1 && windows["commit"]! > 1)
        for (let isDone = false; !isDone;) {
          const copier = yield* child("copy", database)
          yield* copier.said("handle")
          // by the golden ratio instead of by chance, and then at what comes next of a kind
          const instant = Effect.sleep(((kills * 0.618) % 1) * 40)
          const kill = instant.pipe(Effect.zipRight(copier.said(wanted[kills % 3]!)), Effect.zipRight(copier.kill))
          yield* isEnough() ? copier.ended : kill
          const last = copier.lines.at(-1) ?? ""
          assert.property(windows, last, copier.lines.join("\n"))
          windows[last]!++
          isDone = last === "done"
          if (!isDone) kills++
          const keys = yield* copiedKeys(sql)
          assert.deepStrictEqual(keys, numbers(keys.length))
          assert.strictEqual(yield* positionIn(sql), keys.length)
        }
        assert.strictEqual((yield* copiedKeys(sql)).length, count)
        process.stderr.write(`transactional kills by what they interrupted: ${JSON.stringify(windows)}\n`)
        assert.isAbove(kills, 7)
        assert.isAbove(windows["handle"]!, 0)
        assert.isAbove(windows["commit"]!, 0)
      }),
    60_000
  )
})

describe.skipIf(!isInstalled(postgres))("SqlCheckpoints.runTransactional on PostgreSQL", () => {
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
  sharedTests(place)

  /** A table whose COMMIT takes its time, and refuses the keys above `limit`. */
  const makeChecked = (sql: SqlClient.SqlClient, limit: number) =>
    Effect.gen(function* () {
      yield* sql.unsafe(`CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_sleep(0.002);
        IF NEW.key::int > ${limit} THEN RAISE check_violation USING MESSAGE = 'too large'; END IF;
        RETURN NULL; END $$`)
      yield* sql`CREATE CONSTRAINT TRIGGER looks AFTER INSERT ON copied DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION look()`
    })

  it.scopedLive("a constraint that COMMIT refuses ends the watch, and nothing of the batch stays", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* place)
      yield* makeEntries(sql, 30)
      yield* makeChecked(sql, 14)
      const handler = ({ key }: { readonly key: string }) => copy(sql, key)
      const error = yield* Effect.flip(run(sql, SqlCheckpoints.runTransactional(entries(sql), handler, once)))
      assert.strictEqual(error._tag, "SqlError")
      assert.strictEqual((error.cause as { code: string }).code, "23514")
      assert.deepStrictEqual(yield* copiedKeys(sql), numbers(10))
      assert.strictEqual(yield* positionIn(sql), 10)
    })
  )

  // Goal: exactly once however often connections are cut. Method: as with the kills; COMMIT takes long enough to be hit.
  it.scopedLive(
    "connections that are cut at any instant copy every entry exactly once (D4, D5)",
    () =>
      Effect.gen(function* () {
        const database = yield* place
        const sql = yield* connect(database, { applicationName: "copier" })
        const other = yield* connect(database)
        const count = 800
        yield* makeEntries(other, count)
        yield* makeChecked(other, count)
        const source = Source.fromDefinition(entries(sql).definition)
        const handler = ({ key }: { readonly key: string }) => copy(sql, key)
        const options = {
          ...once,
          handlerRetry: Schedule.spaced("1 millis"),
          interval: "5 millis",
          schedule: undefined
        }
        const watch = yield* Effect.fork(run(sql, SqlCheckpoints.runTransactional(source, handler, options as never)))
        const windows: Record<string, number> = {}
        let cuts = 0
        let atLastCut = 0
        const isEnough = () => cuts >= 30 || (cuts >= 8 && (windows["in COMMIT"] ?? 0) > 1)
        const cut = other<{ query: string; state: string }>`
          SELECT state, query, pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE application_name = 'copier' AND state <> 'idle'`
        for (let round = 0; (yield* copiedKeys(other)).length < count; round++) {
          const ended = yield* Fiber.poll(watch)
          if (Option.isSome(ended)) assert.fail(`the watch has ended: ${ended.value}`)
          yield* Effect.sleep(((round * 0.618) % 1) * 40)
          const copied = (yield* copiedKeys(other)).length
          // before the first claim a failure ends the watch, and several without a commit between them only make it wait longer
          if (isEnough() || copied === atLastCut) continue
          for (const { query, state } of yield* cut) {
            cuts++
            atLastCut = copied
            const window = `${state === "active" ? "in" : "behind"} ${/^\s*(\w+)/.exec(query)?.[1]}`
            windows[window] = (windows[window] ?? 0) + 1
          }
          const keys = yield* copiedKeys(other)
          assert.deepStrictEqual(keys, numbers(keys.length))
        }
        yield* Fiber.interrupt(watch)
        assert.deepStrictEqual(yield* copiedKeys(other), numbers(count))
        assert.strictEqual(yield* positionIn(other), count)
        process.stderr.write(`transactional cuts by what they interrupted: ${JSON.stringify(windows)}\n`)
        assert.isAbove(windows["in COMMIT"] ?? 0, 0)
        assert.isAbove(cuts, 7)
        assert.isAbove(Object.keys(windows).length, 1)
      }),
    60_000
  )

  it.scopedLive("a claim waits for the batch that is handled, and goes on behind it (D3)", () =>
    Effect.gen(function* () {
      const database = yield* place
      const sql = yield* connect(database)
      yield* makeEntries(sql, 30)
      const other = yield* storeOf(yield* connect(database))
      const begun = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const handler = ({ key }: { readonly key: string }) =>
        key !== "15"
          ? copy(sql, key)
          : Effect.zipRight(Deferred.succeed(begun, undefined), Effect.zipRight(Deferred.await(gate), copy(sql, key)))
      const watch = yield* Effect.fork(
        Effect.flip(run(sql, SqlCheckpoints.runTransactional(entries(sql), handler, once)))
      )
      yield* Deferred.await(begun)
      const claiming = yield* Effect.fork(Effect.scoped(other.claim(checkpoint)))
      yield* sql`SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`.pipe(
        Effect.filterOrFail((rows) => rows.length === 1),
        Effect.retry(Schedule.spaced("10 millis"))
      )
      yield* Deferred.succeed(gate, undefined)
      const { stored } = yield* Fiber.join(claiming)
      assert.strictEqual(JSON.parse(Option.getOrThrow(stored).head).state, 20)
      assert.strictEqual(((yield* Fiber.join(watch)) as Checkpoints.CheckpointError).reason, "Fenced")
      assert.deepStrictEqual(yield* copiedKeys(sql), numbers(20))
    })
  )

  it.scopedLive("an error that a handler hides from us makes the batch come again, not the save", () =>
    Effect.gen(function* () {
      const sql = yield* connect(yield* place)
      yield* makeEntries(sql, 30)
      let mistakes = 0
      const handler = ({ key }: { readonly key: string }) =>
        Effect.zipRight(
          copy(sql, key),
          // the transaction is aborted by that, whatever the handler makes of it
          key === "20" && mistakes++ < 2 ? Effect.ignore(sql`SELECT nothing FROM nowhere`) : Effect.void
        )
      yield* run(sql, SqlCheckpoints.runTransactional(entries(sql), handler, once))
      assert.strictEqual(mistakes, 3)
      assert.deepStrictEqual(yield* copiedKeys(sql), numbers(30))
    })
  )
})

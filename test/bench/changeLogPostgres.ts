/**
 * PostgreSQL with many writers: how long it takes until a reader has handled everything that was committed, against a job queue that
 * does the same job with a row's state instead of a cursor; and what a naive cursor, `seq > last`, does not see.
 */
import { SqlClient } from "@effect/sql"
import { PgClient } from "@effect/sql-pg"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import * as PgHints from "effect-periscope/log/PgHints"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"
import PgBoss from "pg-boss"
import { spawn } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { table } from "./measure.js"

const rows = Number(process.env["LOG_PG_ROWS"] ?? 100_000)
const perTransaction = 20

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { readonly port: number }
      server.close(() => resolve(port))
    })
  })

const folderOfPrograms = (): string | undefined => {
  const versions = "/usr/lib/postgresql"
  const newest = existsSync(versions) ? readdirSync(versions).sort((a, b) => Number(b) - Number(a))[0] : undefined
  return newest === undefined ? undefined : join(versions, newest, "bin")
}

const clientOf = (url: string, connections: number) =>
  PgClient.layer({ url: Redacted.make(url), maxConnections: connections })

const until = async (isTrue: () => Promise<boolean>): Promise<void> => {
  while (!(await isTrue().catch(() => false))) await new Promise((resolve) => setTimeout(resolve, 100))
}

/** Writers that take their time between two statements; every tenth transaction is rolled back. Gives how many rows were committed. */
const write = (writers: number, append: (count: number) => Effect.Effect<unknown, unknown, SqlClient.SqlClient>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const transactions = Math.ceil(rows / writers / perTransaction)
    let committed = 0
    yield* Effect.forEach(
      Array.from({ length: writers }, (_, n) => n),
      (writer) =>
        Effect.gen(function* () {
          for (let n = 0; n < transactions; n++) {
            const isRolledBack = (n + writer) % 10 === 9
            yield* sql
              .withTransaction(
                Effect.gen(function* () {
                  yield* append(perTransaction / 2)
                  yield* Effect.sleep(`${(n * 7 + writer) % 5} millis`)
                  yield* append(perTransaction / 2)
                  if (isRolledBack) return yield* Effect.fail("rolled back")
                })
              )
              .pipe(Effect.ignore)
            if (!isRolledBack) committed += perTransaction
          }
        }),
      { concurrency: "unbounded", discard: true }
    )
    return committed
  })

const entries = (count: number) =>
  Array.from({ length: count }, (_, n) => ({
    entity: `order-${n}`,
    kind: "changed",
    data: { id: n, name: `name ${n}` }
  }))

/** Seconds from the first append until everything is handled. */
const byPeriscope = (url: string, writers: number) =>
  Effect.gen(function* () {
    const log = yield* ChangeLog.ChangeLog
    let handled = 0
    const reader = yield* Watcher.runForEachBatch(
      ChangeLogSource.make(),
      ({ changes }) => Effect.sync(() => void (handled += changes.length)),
      { checkpoint: "bench", interval: "1 second" }
    ).pipe(Effect.fork)
    const before = performance.now()
    const committed = yield* write(writers, (count) => log.appendAll(entries(count)))
    yield* Effect.sleep("1 millis").pipe(Effect.repeat({ until: () => handled >= committed }))
    const seconds = (performance.now() - before) / 1000
    yield* Effect.sleep("1 second")
    yield* Fiber.interrupt(reader)
    if (handled !== committed) throw new Error(`${handled} of ${committed} rows were handled`)
    return { seconds, committed }
  }).pipe(
    Effect.provide(
      Layer.mergeAll(SqlChangeLog.layer({ hints: PgHints.make() }), SqlCheckpoints.layer()).pipe(
        Layer.provideMerge(clientOf(url, writers + 4))
      )
    ),
    Effect.runPromise
  )

/** How many rows a reader of `seq > last` never sees. */
const lostNaively = (url: string, writers: number) =>
  Effect.gen(function* () {
    const log = yield* ChangeLog.ChangeLog
    const sql = yield* SqlClient.SqlClient
    let seen = 0
    let last = "0"
    const reader = yield* Effect.gen(function* () {
      const found = yield* sql<{
        seq: string
      }>`SELECT seq::text AS seq FROM periscope_changes WHERE seq > ${last}::bigint ORDER BY periscope_changes.seq LIMIT 1000`
      seen += found.length
      last = found[found.length - 1]?.seq ?? last
      yield* Effect.sleep("5 millis")
    }).pipe(Effect.forever, Effect.fork)
    const committed = yield* write(writers, (count) => log.appendAll(entries(count)))
    yield* Effect.sleep("1 second")
    yield* Fiber.interrupt(reader)
    return committed - seen
  }).pipe(Effect.provide(Layer.provideMerge(SqlChangeLog.layer(), clientOf(url, writers + 2))), Effect.runPromise)

const byBoss = async (url: string, writers: number) => {
  const boss = new PgBoss({ connectionString: url, max: 4 })
  boss.on("error", console.error)
  await boss.start()
  await boss.createQueue("changes")
  let handled = 0
  let isStopped = false
  const worker = (async () => {
    while (!isStopped) {
      const jobs = await boss.fetch("changes", { batchSize: 1000 })
      if (jobs.length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
      else {
        handled += jobs.length
        await boss.complete(
          "changes",
          jobs.map(({ id }) => id)
        )
      }
    }
  })()
  const before = performance.now()
  const committed = await Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return yield* write(
      writers,
      (count) =>
        // what boss.insert runs, within the transaction of the writer
        sql`INSERT INTO pgboss.job ${sql.insert(entries(count).map((entry) => ({ name: "changes", data: JSON.stringify(entry) })))}`
    )
  }).pipe(Effect.provide(clientOf(url, writers)), Effect.runPromise)
  await until(async () => handled >= committed)
  const seconds = (performance.now() - before) / 1000
  isStopped = true
  await worker
  await boss.stop({ graceful: false })
  return { seconds, committed }
}

const measure = async (makeDatabase: (name: string) => Promise<string>): Promise<void> => {
  for (const writers of [8, 32]) {
    const log = await byPeriscope(await makeDatabase(`log_${writers}`), writers)
    const lost = await lostNaively(await makeDatabase(`naive_${writers}`), writers)
    const boss = await byBoss(await makeDatabase(`boss_${writers}`), writers)
    const note = ({ committed, seconds }: { readonly committed: number; readonly seconds: number }) =>
      `${Math.round(committed / seconds)} rows/s`
    table(
      `PostgreSQL, ${writers} writers: ${log.committed} rows until all are handled and acknowledged; a naive cursor lost ${lost}`,
      "s",
      [
        { name: "ChangeLog.append, Watcher.runForEachBatch, SqlCheckpoints", value: log.seconds, note: note(log) },
        { name: "pg-boss: its job table, fetch and complete by 1000", value: boss.seconds, note: note(boss) }
      ],
      "pg-boss: its job table, fetch and complete by 1000"
    )
  }
}

export const changeLogPostgres = async (): Promise<void> => {
  const programs = folderOfPrograms()
  if (rows === 0) return
  if (programs === undefined) {
    console.log("\nPostgreSQL is not installed; to measure it: apt-get install --no-install-recommends postgresql")
    return
  }
  const folder = mkdtempSync(join(tmpdir(), "periscope-bench-postgres-"))
  const port = await freePort()
  const script = fileURLToPath(new URL("../../test/servers/postgres.sh", import.meta.url))
  const server = spawn("bash", [script, programs, folder, String(port)], { stdio: ["pipe", "ignore", "ignore"] })
  const urlOf = (name: string): string => `postgres://postgres@127.0.0.1:${port}/${name}`
  const run = (statement: string) =>
    Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(
      Effect.provide(clientOf(urlOf("postgres"), 1)),
      Effect.runPromise
    )
  try {
    await until(async () => (await run("SELECT 1")).length === 1)
    await measure(async (name) => {
      await run(`CREATE DATABASE ${name}`)
      return urlOf(name)
    })
  } finally {
    server.stdin?.end()
    await new Promise((resolve) => server.once("exit", resolve))
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }
}

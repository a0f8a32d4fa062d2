/**
 * Change logs: what a poll costs whatever the log's size, how fast a log is drained with acknowledgements, how soon a reader in another
 * process wakes up, and PostgreSQL with many writers. The rivals do the same by hand, with prepared statements, or are a job queue.
 *
 * `LOG_ROWS` (of the large log) and `LOG_PG_ROWS` make it smaller; `LOG_PG_ROWS=0` leaves PostgreSQL out.
 */
import { SqliteClient } from "@effect/sql-sqlite-node"
import { SqlClient } from "@effect/sql"
import Database from "better-sqlite3"
import { Effect, Layer, Schedule } from "effect"
import { Checkpoints, Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { changeLogPostgres } from "./changeLogPostgres.js"
import { median, table } from "./measure.js"
import { start } from "./processes.js"
import type { Asked, Instants } from "./changeLogClient.js"

const large = Number(process.env["LOG_ROWS"] ?? 1_000_000)

const fill = (filename: string, rows: number) =>
  Effect.gen(function* () {
    const log = yield* ChangeLog.ChangeLog
    for (let from = 0; from < rows; from += 1000) {
      const count = Math.min(1000, rows - from)
      yield* log.appendAll(
        Array.from({ length: count }, (_, n) => ({
          entity: `order-${(from + n) % 5000}`,
          kind: "changed",
          data: { id: from + n, name: `name ${n}`, price: n * 1.5, tags: ["a", "b"] }
        }))
      )
    }
  }).pipe(Effect.provide(logOf(filename)))

const logOf = (filename: string) =>
  SqlChangeLog.layer({ table: "changes" }).pipe(Layer.provideMerge(SqliteClient.layer({ filename })))

/** Microseconds of one call, the median of rounds. */
const timed = async (calls: number, call: () => unknown): Promise<number> => {
  const rounds: Array<number> = []
  for (let round = 0; round < 5; round++) {
    const before = performance.now()
    for (let n = 0; n < calls; n++) await call()
    rounds.push(((performance.now() - before) / calls) * 1000)
  }
  return median(rounds)
}

const timedEffect = <E, R>(calls: number, effect: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const rounds: Array<number> = []
    for (let round = 0; round < 5; round++) {
      const before = performance.now()
      yield* Effect.repeatN(effect, calls - 1)
      rounds.push(((performance.now() - before) / calls) * 1000)
    }
    return median(rounds)
  })

interface Raw {
  readonly seq: number
  readonly data: string
}

const byHand = "select ... where seq > ? order by seq limit 1000"

const polls = async (filename: string, rows: number): Promise<void> => {
  const db = new Database(filename)
  const select = db.prepare("SELECT seq, entity, kind, at, data FROM changes WHERE seq > ? ORDER BY seq LIMIT 1000")
  const prepared = (after: number) => (select.all(after) as Array<Raw>).map(({ data }) => JSON.parse(data) as unknown)
  const middle = Math.floor(rows / 2) - 500
  const handEmpty = await timed(2000, () => prepared(rows))
  const handFull = await timed(20, () => prepared(middle))
  db.close()
  const measured = await Effect.runPromise(
    Effect.gen(function* () {
      const log = yield* ChangeLog.ChangeLog
      const sql = yield* SqlClient.SqlClient
      const statement = (after: number) =>
        Effect.map(
          sql<Raw>`SELECT seq, entity, kind, at, data FROM changes WHERE seq > ${after} ORDER BY seq LIMIT 1000`,
          (found) => found.map(({ data }) => JSON.parse(data) as unknown)
        )
      const head = yield* log.head
      return {
        sqlEmpty: yield* timedEffect(2000, statement(rows)),
        sqlFull: yield* timedEffect(20, statement(middle)),
        logEmpty: yield* timedEffect(2000, log.read(head)),
        logFull: yield* timedEffect(20, log.read({ seq: BigInt(middle) }))
      }
    }).pipe(Effect.provide(logOf(filename)))
  )
  const hand = `better-sqlite3's interface, prepared: ${byHand}`
  table(
    `An empty poll of a log of ${rows} rows in SQLite`,
    "us",
    [
      { name: hand, value: handEmpty },
      { name: "SqlClient, the same statement", value: measured.sqlEmpty },
      { name: "ChangeLog.read", value: measured.logEmpty }
    ],
    hand
  )
  table(
    `A poll of 1000 rows in the middle of ${rows}`,
    "us",
    [
      { name: hand, value: handFull },
      { name: "SqlClient, the same statement", value: measured.sqlFull },
      { name: "ChangeLog.read, with a cursor for each row", value: measured.logFull }
    ],
    hand
  )
}

/** The loop that people write: read a page, handle it, move the cursor. */
const drainByHand = (filename: string): number => {
  const db = new Database(filename)
  db.exec("CREATE TABLE IF NOT EXISTS hand (name TEXT PRIMARY KEY, seq INTEGER NOT NULL)")
  db.exec("INSERT OR REPLACE INTO hand VALUES ('reader', 0)")
  const select = db.prepare("SELECT seq, entity, kind, at, data FROM changes WHERE seq > ? ORDER BY seq LIMIT 1000")
  const move = db.prepare("UPDATE hand SET seq = ? WHERE name = 'reader'")
  let handled = 0
  for (let after = 0; ;) {
    const rows = select.all(after) as Array<Raw>
    if (rows.length === 0) break
    for (const { data } of rows) if (JSON.parse(data) !== undefined) handled++
    after = rows[rows.length - 1]!.seq
    move.run(after)
  }
  db.close()
  return handled
}

const drain = async (filename: string, rows: number): Promise<void> => {
  const source = ChangeLogSource.make()
  let handled = 0
  const count = (by: number) => Effect.sync(() => void (handled += by))
  const once = { schedule: Schedule.stop }
  const SqlState = Layer.provideMerge(SqlCheckpoints.layer(), logOf(filename))
  const ways: Record<string, (round: number) => Effect.Effect<unknown, unknown>> = {
    "by hand: prepared statements, a cursor for each page": () => Effect.sync(() => (handled += drainByHand(filename))),
    "Watcher.runForEachBatch, SqlCheckpoints": (round) =>
      Watcher.runForEachBatch(source, ({ changes }) => count(changes.length), {
        ...once,
        checkpoint: `batches ${round}`
      }).pipe(Effect.provide(SqlState)),
    "Watcher.runForEach, SqlCheckpoints": (round) =>
      Watcher.runForEach(source, () => count(1), { ...once, checkpoint: `each ${round}` }).pipe(
        Effect.provide(SqlState)
      ),
    "SqlCheckpoints.runTransactional": (round) =>
      SqlCheckpoints.runTransactional(source, () => count(1), { ...once, checkpoint: `transactional ${round}` }).pipe(
        Effect.provide(SqlState)
      ),
    "Watcher.runForEachBatch, memory": () =>
      Watcher.runForEachBatch(source, ({ changes }) => count(changes.length), { ...once, checkpoint: "memory" }).pipe(
        Effect.provide([logOf(filename), Checkpoints.layerMemory])
      )
  }
  const measured: Array<{ readonly name: string; readonly value: number; readonly note: string }> = []
  for (const [name, way] of Object.entries(ways)) {
    const rounds: Array<number> = []
    for (let round = 0; round < 3; round++) {
      handled = 0
      const before = performance.now()
      await Effect.runPromise(way(round))
      rounds.push(((performance.now() - before) / rows) * 1000)
      if (handled !== rows) throw new Error(`${name} has handled ${handled} of ${rows}`)
    }
    const value = median(rounds)
    measured.push({ name, value, note: `${Math.round(1_000_000 / value)} rows/s` })
  }
  table(
    `Draining ${rows} rows with JSON data, acknowledged page by page, median of 3`,
    "us/row",
    measured,
    "by hand: prepared statements, a cursor for each page"
  )
}

const summary = (delays: ReadonlyArray<number>): string => {
  const sorted = [...delays].sort((a, b) => a - b)
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
  return `${at(0.5).toFixed(1)} ms p50, ${at(0.99).toFixed(1)} ms p99, ${at(1).toFixed(1)} ms at most`
}

const wakeUps = async (filename: string): Promise<void> => {
  console.log("\nFrom an entry in one process to its handler in another, 200 appends, SQLite")
  for (const way of ["hints", "100 ms", "20 ms by hand"] as const) {
    const reader = start<Asked, Instants>("./changeLogClient.js", "reader")
    const writer = start<Asked, Instants>("./changeLogClient.js", "writer")
    try {
      const asked: Asked = { filename, way, appends: 200 }
      const reading = reader.ask(asked)
      const written = await writer.ask(asked)
      const handled = (await reading).after
      const since = (instants: ReadonlyArray<number>): string =>
        summary(handled.map((instant, n) => Math.max(0, instant - instants[n]!)))
      console.log(`  ${way.padEnd(14)}  since its commit   ${since(written.after)}`)
      console.log(`  ${"".padEnd(14)}  since its append   ${since(written.before)}`)
    } finally {
      await Promise.all([reader.stop(), writer.stop()])
    }
  }
}

export const changeLog = async (): Promise<void> => {
  const folder = mkdtempSync(join(tmpdir(), "periscope-bench-log-"))
  try {
    for (const rows of new Set([1000, large])) {
      const filename = join(folder, `${rows}.db`)
      await Effect.runPromise(fill(filename, rows))
      await polls(filename, rows)
    }
    await drain(join(folder, `${large}.db`), large)
    await wakeUps(join(folder, "wake.db"))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  await changeLogPostgres()
}

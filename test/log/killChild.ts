/**
 * A process that writes or reads a log in a SQLite file, and gets killed.
 *
 * `write file trace seed target`  appends in transactions of random size, some rolled back, until the log has `target` rows.
 * `read file trace seed aim skip directory`  handles entries, and writes down what it does: `P` polls, `H` handles, rows, `W` has handled
 *   them, `S` saves, `D seq` has saved. With an aim it kills itself in that window, after it came by there `skip` times.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as SqlClient from "@effect/sql/SqlClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { openSync, writeSync } from "node:fs"
import { Checkpoints, layerFileSystem } from "../../src/core/Checkpoints.js"
import * as Source from "../../src/core/Source.js"
import * as Watcher from "../../src/core/Watcher.js"
import { ChangeLog } from "../../src/log/ChangeLog.js"
import * as ChangeLogSource from "../../src/log/ChangeLogSource.js"
import * as SqlChangeLog from "../../src/log/SqlChangeLog.js"

const [mode, file = "", trace = "", seed = "1", ...rest] = process.argv.slice(2)
const out = openSync(trace, "a")
const note = (text: string): void => void writeSync(out, text)

let state = Number(seed) >>> 0
const random = (): number => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 32
}

const layer = SqlChangeLog.layer({ table: "changes" }).pipe(Layer.provideMerge(SqliteClient.layer({ filename: file })))

const die = (): never => {
  process.kill(process.pid, "SIGKILL")
  for (;;);
}

const write = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const log = yield* ChangeLog
  const target = Number(rest[0])
  let n = 0
  for (;;) {
    const [{ count } = { count: 0 }] = yield* sql<{ readonly count: number }>`SELECT count(*) AS count FROM changes`
    if (count >= target) break
    const size = 1 + Math.floor(random() * 200)
    note("B.\n")
    const written = log.transaction(
      Effect.gen(function* () {
        for (let left = size; left > 0; left -= 50) {
          const part = Array.from({ length: Math.min(left, 50) }, () => ({
            entity: `e${n % 7}`,
            kind: "k",
            data: `${seed}-${++n}`
          }))
          yield* log.appendAll(part)
          yield* Effect.yieldNow()
        }
        if (random() < 0.2) return yield* Effect.fail("rollback" as const)
      })
    )
    const isDone = yield* Effect.catchAll(Effect.as(written, true), (error) =>
      error === "rollback" ? Effect.succeed(false) : Effect.fail(error)
    )
    note(isDone ? "C.\n" : "R.\n")
    yield* Effect.sleep(random() * 4)
  }
  note("E.\n")
  yield* Effect.never
})

const [aim = "-", skip = "0", directory = ""] = rest
let left = Number(skip)
const isAim = (window: string): boolean => window === aim && left-- <= 0

const noted = (store: Checkpoints["Type"]): Checkpoints["Type"] => ({
  ...store,
  claim: (checkpoint) =>
    Effect.map(store.claim(checkpoint), (claim) => ({
      ...claim,
      save: (save) =>
        Effect.suspend(() => {
          note("S.\n")
          // in the middle of it: it takes longer than that
          if (isAim("S")) setTimeout(die, random() * 2)
          const { seq } = (JSON.parse(save.head) as { readonly state: { readonly seq: string } }).state
          return Effect.tap(claim.save(save), () => Effect.sync(() => note(`D ${seq}.\n`)))
        })
    }))
})

const source = ChangeLogSource.make({ limit: 200 })

const watched = Source.fromDefinition({
  ...source.definition,
  poll: (state, polled) =>
    Effect.suspend(() => {
      note("P.\n")
      const isKilled = isAim("P")
      if (isKilled && random() < 0.5) die()
      return Effect.map(source.definition.poll(state, polled), (page) => (isKilled ? die() : page))
    })
})

const read = Effect.gen(function* () {
  const store = yield* Checkpoints
  yield* Watcher.runForEachBatch(
    watched,
    ({ changes }) =>
      Effect.gen(function* () {
        note("H.\n")
        if (isAim("H")) die()
        yield* Effect.yieldNow()
        const lines = changes.map((change) =>
          change._tag === "Added" ? `${change.value.seq} ${String(change.value.data)}.\n` : ""
        )
        note(`${lines.join("")}W.\n`)
        if (isAim("W")) die()
      }),
    { checkpoint: "reader", interval: 20, maxBackoff: 200 }
  ).pipe(Effect.provideService(Checkpoints, noted(store)))
}).pipe(
  Effect.provide(Layer.provide(layerFileSystem({ directory }), Layer.merge(NodeFileSystem.layer, NodePath.layer)))
)

note("\n+.\n")
const program: Effect.Effect<void, unknown, ChangeLog | SqlClient.SqlClient> = mode === "write" ? write : read

// the client sets WAL before it can be told to wait, and another process may be mending the file after a death
const opened = Effect.retry(Effect.sandbox(Layer.build(layer)), {
  schedule: Schedule.spaced(10),
  while: (cause) => Cause.pretty(cause).includes("database is locked")
})

Effect.runPromise(Effect.scoped(Effect.flatMap(opened, (context) => Effect.provide(program, context)))).catch(
  (error) => {
    note(`! ${String(error).split("\n")[0]}.\n`)
    process.exitCode = 1
  }
)

/**
 * One side of the measurement of wake-ups, in a process of its own: appends entries, or handles them, and tells when.
 */
import { NodeContext } from "@effect/platform-node"
import { SqliteClient } from "@effect/sql-sqlite-node"
import Database from "better-sqlite3"
import { Effect, Layer } from "effect"
import { Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource, FileHints } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import { setTimeout as sleep } from "node:timers/promises"
import { serve } from "./processes.js"

export interface Asked {
  readonly filename: string
  readonly way: "hints" | "100 ms" | "20 ms by hand"
  readonly appends: number
}

/** Instants of each entry in order, in milliseconds: the writer's before its append and after its commit, the reader's in the handler. */
export interface Instants {
  readonly before: ReadonlyArray<number>
  readonly after: ReadonlyArray<number>
}

const now = (): number => performance.timeOrigin + performance.now()

const kindOf = ({ way }: Asked): string => `ping ${way}`

const write = (asked: Asked): Promise<Instants> =>
  Effect.gen(function* () {
    const log = yield* ChangeLog.ChangeLog
    yield* Effect.sleep("2 seconds")
    const before: Array<number> = []
    const after: Array<number> = []
    for (let n = 0; n < asked.appends; n++) {
      before.push(now())
      yield* log.append({ entity: "ping", kind: kindOf(asked), data: n })
      after.push(now())
      yield* Effect.sleep(`${20 + ((n * 7) % 30)} millis`)
    }
    return { before, after }
  }).pipe(
    Effect.provide(SqlChangeLog.layer({ table: "changes" }).pipe(Layer.provide(SqliteClient.layer(asked)))),
    Effect.runPromise
  )

const watch = (asked: Asked): Promise<Instants> => {
  const handled: Array<number> = []
  const hints = asked.way === "hints" ? FileHints.make({ path: asked.filename }) : undefined
  const source = ChangeLogSource.make({ from: "now", kinds: [kindOf(asked)] })
  return Watcher.runForEach(
    source,
    (change) =>
      change._tag === "Added"
        ? Effect.suspend(() => (handled.push(now()) === asked.appends ? Effect.fail("done" as const) : Effect.void))
        : Effect.void,
    { interval: asked.way === "hints" ? "30 seconds" : "100 millis" }
  ).pipe(
    Effect.ignore,
    Effect.as({ before: [], after: handled }),
    Effect.provide(
      SqlChangeLog.layer({ table: "changes", hints }).pipe(
        Layer.provide([SqliteClient.layer(asked), NodeContext.layer])
      )
    ),
    Effect.runPromise
  )
}

const watchByHand = async (asked: Asked): Promise<Instants> => {
  await sleep(1000)
  const db = new Database(asked.filename)
  const select = db.prepare("SELECT seq, kind FROM changes WHERE seq > ? ORDER BY seq LIMIT 1000")
  const handled: Array<number> = []
  for (let after = 0; handled.length < asked.appends;) {
    for (const { kind, seq } of select.all(after) as Array<{ seq: number; kind: string }>) {
      after = seq
      if (kind === kindOf(asked)) handled.push(now())
    }
    await sleep(20)
  }
  db.close()
  return { before: [], after: handled }
}

const [, , side] = process.argv

serve((asked: Asked) =>
  side === "writer" ? write(asked) : asked.way === "20 ms by hand" ? watchByHand(asked) : watch(asked)
)

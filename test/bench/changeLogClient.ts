/**
 * One side of the measurement of wake-ups, in a process of its own: appends entries that hold the instant of their commit, or handles them.
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

/** Milliseconds. */
export interface Woken {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

const now = (): number => performance.timeOrigin + performance.now()

const kindOf = ({ way }: Asked): string => `ping ${way}`

const write = (asked: Asked): Promise<Woken> =>
  Effect.gen(function* () {
    const log = yield* ChangeLog.ChangeLog
    yield* Effect.sleep("2 seconds")
    for (let n = 0; n < asked.appends; n++) {
      yield* log.append({ entity: "ping", kind: kindOf(asked), data: now() })
      yield* Effect.sleep(`${20 + ((n * 7) % 30)} millis`)
    }
    return { p50: 0, p99: 0, max: 0 }
  }).pipe(
    Effect.provide(SqlChangeLog.layer({ table: "changes" }).pipe(Layer.provide(SqliteClient.layer(asked)))),
    Effect.runPromise
  )

const summary = (delays: Array<number>): Woken => {
  const sorted = delays.sort((a, b) => a - b)
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

const watch = (asked: Asked): Promise<Woken> => {
  const delays: Array<number> = []
  const hints = asked.way === "hints" ? FileHints.make({ path: asked.filename }) : undefined
  const source = ChangeLogSource.make({ from: "now", kinds: [kindOf(asked)] })
  return Watcher.runForEach(
    source,
    (change) =>
      change._tag === "Added"
        ? Effect.suspend(() =>
            delays.push(now() - Number(change.value.data)) === asked.appends
              ? Effect.fail("done" as const)
              : Effect.void
          )
        : Effect.void,
    { interval: asked.way === "hints" ? "30 seconds" : "100 millis" }
  ).pipe(
    Effect.ignore,
    Effect.map(() => summary(delays)),
    Effect.provide(
      SqlChangeLog.layer({ table: "changes", hints }).pipe(
        Layer.provide([SqliteClient.layer(asked), NodeContext.layer])
      )
    ),
    Effect.runPromise
  )
}

const watchByHand = async (asked: Asked): Promise<Woken> => {
  await sleep(1000)
  const db = new Database(asked.filename)
  const select = db.prepare("SELECT seq, kind, data FROM changes WHERE seq > ? ORDER BY seq LIMIT 1000")
  const delays: Array<number> = []
  for (let after = 0; delays.length < asked.appends;) {
    for (const { data, kind, seq } of select.all(after) as Array<{ seq: number; kind: string; data: string }>) {
      after = seq
      if (kind === kindOf(asked)) delays.push(now() - Number(data))
    }
    await sleep(20)
  }
  db.close()
  return summary(delays)
}

const [, , side] = process.argv

serve((asked: Asked) =>
  side === "writer" ? write(asked) : asked.way === "20 ms by hand" ? watchByHand(asked) : watch(asked)
)

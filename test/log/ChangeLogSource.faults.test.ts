/**
 * Sources over change logs where their schemas, lists and consumers do what they should not.
 */
import { assert, describe, it } from "@effect/vitest"
import { Checkpoints, Watcher } from "effect-periscope"
import { ChangeLogSource } from "effect-periscope/log"
import { ScriptedChangeLog } from "effect-periscope/testing"
import { Cause, Effect, Exit, Logger, Fiber, Schedule, Schema, TestClock } from "effect"
import type { Line } from "../core/scripted.js"
import { logTo } from "../core/scripted.js"

const stop = { retry: Schedule.stop, schedule: Schedule.stop } as const

describe("ChangeLogSource", () => {
  it.effect("E3 the keys of a record are data: they do not get into a message or log", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      for (const onUndecodable of ["stop", "park"] as const) {
        const changes = yield* ScriptedChangeLog.make({
          entries: [{ entity: "e", kind: "k", data: { tokens: { "sk-SECRET-alice@example.com": "x" } } }]
        })
        const schema = Schema.Struct({ tokens: Schema.Record({ key: Schema.String, value: Schema.Number }) })
        const exit = yield* Watcher.runForEach(
          ChangeLogSource.make({ schema, onUndecodable }),
          () => Effect.void,
          stop
        ).pipe(Effect.provide([changes.layer, logTo(lines)]), Effect.exit)
        lines.push((Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "") as never)
      }
      const told = JSON.stringify(lines, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))
      assert.notInclude(told, "SECRET")
    })
  )

  it.effect("L8 a decoder that throws: the entry is parked, not read for ever, and its data is in no log", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const changes = yield* ScriptedChangeLog.make({
        entries: [
          { entity: "a", kind: "k", data: "hunter2-SECRET" },
          { entity: "b", kind: "k", data: "2" }
        ]
      })
      const Big = Schema.transform(Schema.String, Schema.BigIntFromSelf, {
        decode: (text) => BigInt(text),
        encode: String
      })
      const seen: Array<string> = []
      const fiber = yield* Watcher.runForEach(
        ChangeLogSource.make({ schema: Big, onUndecodable: "park" }),
        ({ key }) => Effect.sync(() => void seen.push(key)),
        { interval: "1 minute" }
      ).pipe(Effect.provide([changes.layer, logTo(lines)]), Effect.fork)
      yield* TestClock.adjust("1 hour")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual({ seen, isTold: JSON.stringify(lines).includes("SECRET") }, { seen: ["2"], isTold: false })
    })
  )

  it.effect("L6 `entities`: a list tells of what was removed meanwhile where it has it", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({
        entries: [
          { entity: "a", kind: "put", data: 1 },
          { entity: "b", kind: "put", data: 1 }
        ]
      })
      const source = ChangeLogSource.entities({
        kinds: { put: "Added", deleted: "Removed" },
        onExpired: {
          list: Effect.succeed([
            { entity: "a", kind: "put", data: 2 },
            { entity: "b", kind: "deleted" }
          ])
        }
      })
      const live = new Set<string>()
      const run = Watcher.runForEach(
        source,
        (change) =>
          Effect.sync(() => void (change._tag === "Removed" ? live.delete(change.key) : live.add(change.key))),
        { checkpoint: "c", ...stop }
      ).pipe(Effect.provide(changes.layer))
      yield* run
      changes.add({ entity: "b", kind: "deleted" }, { entity: "a", kind: "put", data: 2 })
      changes.pruneUpTo(4n)
      yield* run
      assert.deepStrictEqual([...live], ["a"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("a resync whose data is no JSON is an error that says so, not a defect for ever", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: [{ entity: "a", kind: "put", data: 1 }] })
      const source = ChangeLogSource.make({
        onExpired: { list: Effect.succeed([{ entity: "a", kind: "put", data: 5n }]) }
      })
      const run = Watcher.runForEach(source, () => Effect.void, { checkpoint: "c", ...stop }).pipe(
        Effect.provide(changes.layer)
      )
      yield* run
      changes.add({ entity: "a", kind: "put", data: 2 }, { entity: "a", kind: "put", data: 2 })
      changes.pruneUpTo(3n)
      const lines: Array<Line> = []
      const exit = yield* Watcher.once(source, { checkpoint: "c" }).pipe(
        Effect.provide([changes.layer, logTo(lines)]),
        Effect.exit
      )
      assert.isFalse(Exit.isFailure(exit) && exit.cause._tag === "Die", String(exit))
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("a registration that hangs does not keep entries from being delivered", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({
        entries: [
          { entity: "a", kind: "put", data: 1 },
          { entity: "b", kind: "put", data: 2 }
        ],
        replies: ({ operation }) => (operation === "register" ? "hang" : "answer")
      })
      const seen: Array<string> = []
      const fiber = yield* Watcher.runForEach(
        ChangeLogSource.make({ consumer: "c" }),
        ({ key }) => Effect.sync(() => void seen.push(key)),
        { interval: "1 minute" }
      ).pipe(Effect.provide(changes.layer), Effect.fork)
      yield* TestClock.adjust("1 hour")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(seen, ["1", "2"])
    })
  )

  it.effect("an id stays with one content: two resyncs at one head that list other things", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: [{ entity: "a", kind: "put", data: 1 }] })
      let listed = 1
      const source = ChangeLogSource.make({
        onExpired: {
          list: Effect.sync(() => [
            { entity: "a", kind: "put", data: listed },
            { entity: "b", kind: "put", data: listed++ }
          ])
        }
      })
      const ids: Array<readonly [string, unknown]> = []
      const run = (failsAt: number) =>
        Watcher.runForEach(
          source,
          (change, { id }) =>
            Effect.suspend(() => {
              ids.push([id, change._tag === "Added" ? change.value.data : undefined])
              return ids.length === failsAt ? Effect.fail("crash" as const) : Effect.void
            }),
          { checkpoint: "c", batchSize: 1, ...stop }
        ).pipe(Effect.provide(changes.layer), Effect.exit)
      yield* run(-1)
      changes.add({ entity: "a", kind: "put", data: 2 }, { entity: "a", kind: "put", data: 2 })
      changes.pruneUpTo(3n)
      ids.length = 0
      yield* run(2)
      yield* run(-1)
      const byId = new Map<string, Set<unknown>>()
      for (const [id, data] of ids) byId.set(id, (byId.get(id) ?? new Set()).add(data))
      assert.isTrue(
        [...byId.values()].every(({ size }) => size === 1),
        JSON.stringify(ids)
      )
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("parking at a page border, batches smaller than a page: the others come once, in order", () =>
    Effect.gen(function* () {
      const data = [1, "bad", 3, "bad", "bad", 6, 7, "bad", 9, "bad"]
      for (const limit of [1, 2, 3, 4, 5, 10]) {
        for (const batchSize of [1, 2, 3, 10]) {
          const changes = yield* ScriptedChangeLog.make({
            entries: data.map((data, n) => ({ entity: `e${n}`, kind: "k", data }))
          })
          const seen: Array<string> = []
          const one = yield* Effect.scoped(
            Effect.gen(function* () {
              const watcher = yield* Watcher.make(
                ChangeLogSource.make({ schema: Schema.Number, onUndecodable: "park", limit }),
                { checkpoint: `${limit} ${batchSize}`, batchSize, schedule: Schedule.stop }
              )
              yield* watcher.runForEach(({ key }) => Effect.sync(() => void seen.push(key)))
              return (yield* watcher.parked).map(({ key }) => key)
            })
          ).pipe(Effect.provide(changes.layer))
          assert.deepStrictEqual(
            [seen, one],
            [
              ["1", "3", "6", "7", "9"],
              ["2", "4", "5", "8", "10"]
            ],
            `${limit} ${batchSize}`
          )
        }
      }
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("a change can be logged as JSON, as the examples do", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: [{ entity: "a", kind: "put", data: 1 }] })
      const exit = yield* Watcher.runForEach(ChangeLogSource.make(), (change) => Effect.log(change), stop).pipe(
        Effect.provide([changes.layer, Logger.json]),
        Effect.exit
      )
      assert.isTrue(Exit.isSuccess(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "")
    })
  )

  it.effect("a failed watch can be shown as text: its error holds a bigint", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: [{ entity: "a", kind: "put", data: "x" }] })
      const exit = yield* Watcher.runForEach(
        ChangeLogSource.make({ schema: Schema.Number }),
        () => Effect.void,
        stop
      ).pipe(Effect.provide(changes.layer), Effect.exit)
      assert.doesNotThrow(() => String(exit))
    })
  )
})

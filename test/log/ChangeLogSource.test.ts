import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Layer, Option, Schedule, Schema, Stream, TestClock } from "effect"
import { Checkpoints, Source, Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import { ScriptedChangeLog } from "effect-periscope/testing"
import type { Line } from "../core/scripted.js"
import { logTo } from "../core/scripted.js"

type Entries = ReadonlyArray<ScriptedChangeLog.Entry>

const entriesOf = (...kinds: ReadonlyArray<string>): Entries =>
  kinds.map((kind, index) => ({ entity: `e${index + 1}`, kind, data: { n: index + 1 } }))

const many = (count: number): Entries =>
  Array.from({ length: count }, (_, n) => ({ entity: `e${n}`, kind: "k", data: n }))

const reads = ({ calls }: ScriptedChangeLog.ScriptedChangeLog) => calls.filter(({ operation }) => operation === "read")

const registrations = ({ calls }: ScriptedChangeLog.ScriptedChangeLog) =>
  calls.filter(({ operation }) => operation === "register").map(({ at, cursor }) => [at, Number(cursor!.seq)] as const)

const stopped = { schedule: Schedule.stop } as const

/** What one run handles, by key. */
const run = <A, E extends { readonly _tag: string }>(
  source: Source.Source<A, E, ChangeLog.ChangeLog>,
  changes: ScriptedChangeLog.ScriptedChangeLog,
  options: { readonly checkpoint?: string; readonly batchSize?: number; readonly initial?: "emit" | "suppress" } = {}
) =>
  Effect.suspend(() => {
    const seen: Array<string> = []
    return Effect.as(
      Watcher.runForEach(source, ({ key }) => Effect.sync(() => void seen.push(key)), {
        retry: Schedule.stop,
        ...stopped,
        ...options
      }),
      seen
    ).pipe(Effect.provide(changes.layer))
  })

const Numbered = Schema.Struct({ n: Schema.Number })

describe("ChangeLogSource: where it begins", () => {
  it.effect("`once` reads all there is, each entry an Added whose key is its number", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: entriesOf("a", "b") })
      const found = yield* Effect.provide(Watcher.once(ChangeLogSource.make({ schema: Numbered })), changes.layer)
      assert.deepStrictEqual(
        found.map((change) => (change._tag === "Added" ? [change.key, change.value] : change._tag)),
        [
          ["1", { seq: 1n, entity: "e1", kind: "a", atMillis: 1, data: { n: 1 } }],
          ["2", { seq: 2n, entity: "e2", kind: "b", atMillis: 2, data: { n: 2 } }]
        ]
      )
    })
  )

  it.effect("L1 from the start, from now, from a number: the place is kept before anything is read behind it", () =>
    Effect.gen(function* () {
      for (const order of ["sqlite", "postgres"] as const) {
        for (const [from, expected] of [
          [undefined, ["1", "2", "3", "4"]],
          ["start", ["1", "2", "3", "4"]],
          ["now", ["4"]],
          [1n, ["2", "3", "4"]],
          [3n, ["4"]],
          [0n, ["1", "2", "3", "4"]]
        ] as const) {
          const changes = yield* ScriptedChangeLog.make({ order, entries: entriesOf("a", "a", "a") })
          const source = ChangeLogSource.make({ from })
          const first = yield* run(source, changes, { checkpoint: `${order} ${from}` })
          changes.add(...entriesOf("b"))
          const second = yield* run(source, changes, { checkpoint: `${order} ${from}` })
          assert.deepStrictEqual([...first, ...second], [...expected], `${order} from ${from}`)
        }
      }
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect(
    "L1 from a number: what an older transaction commits late with a greater one comes, a smaller one does not",
    () =>
      Effect.gen(function* () {
        const changes = yield* ScriptedChangeLog.make({ order: "postgres" })
        const late = changes.begin()
        late.append({ entity: "late", kind: "small" })
        changes.add(...entriesOf("a", "b"))
        late.append({ entity: "late", kind: "great" })
        const source = ChangeLogSource.make({ from: 2n })
        assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "late" }), [])
        late.commit()
        assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "late" }), ["4", "3"])
      }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L1 from now on an empty log: what comes next is seen, also when nobody looked in between", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make()
      const source = ChangeLogSource.make({ from: "now" })
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "now" }), [])
      changes.add(...entriesOf("a"))
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "now" }), ["1"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("W9 `initial: suppress` starts at the head without reading what is there", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: many(5000) })
      const source = ChangeLogSource.make()
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "s", initial: "suppress" }), [])
      assert.strictEqual(reads(changes).length, 0)
      changes.add(...entriesOf("a"))
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "s", initial: "suppress" }), ["5001"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  // else a crash before the first commit starts behind what was handed out, and nobody hears of it
  it.effect("L6 what was handed out from the start and pruned before its commit is missed loudly", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: entriesOf("a", "b", "c") })
      const source = ChangeLogSource.make()
      const crashed = yield* Watcher.runForEach(source, () => Effect.fail("crash" as const), {
        checkpoint: "first",
        ...stopped
      }).pipe(Effect.provide(changes.layer), Effect.flip)
      assert.strictEqual(crashed, "crash")
      changes.pruneUpTo(2n)
      const error = yield* Effect.flip(run(source, changes, { checkpoint: "first" }))
      assert.strictEqual(error._tag, "CursorExpired")
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L1 from the start of a log that was pruned before: with the oldest there is", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: entriesOf("a", "b", "c") })
      changes.pruneUpTo(2n)
      assert.deepStrictEqual(yield* run(ChangeLogSource.make(), changes), ["3"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("ChangeLogSource: reading", () => {
  it.effect(
    "L1 L2 every limit gives the same, a full page is followed at once, an empty log is polled by interval",
    () =>
      Effect.gen(function* () {
        for (const limit of [1, 2, 1000]) {
          const changes = yield* ScriptedChangeLog.make({ entries: many(7) })
          const seen: Array<readonly [string, number]> = []
          const fiber = yield* Watcher.runForEach(
            ChangeLogSource.make({ limit }),
            ({ key }) => Effect.map(Clock.currentTimeMillis, (at) => void seen.push([key, at])),
            { interval: "10 seconds" }
          ).pipe(Effect.provide(changes.layer), Effect.fork)
          yield* TestClock.adjust(0)
          assert.deepStrictEqual(
            seen.map(([key]) => key),
            ["1", "2", "3", "4", "5", "6", "7"]
          )
          const start = yield* Clock.currentTimeMillis
          assert.isTrue(seen.every(([, at]) => at === start))
          assert.isTrue(reads(changes).every(({ options }) => options!.limit === limit))
          const before = reads(changes).length
          yield* TestClock.adjust("10 seconds")
          assert.deepStrictEqual(
            reads(changes)
              .slice(before)
              .map(({ at }) => at),
            [start + 10_000]
          )
          yield* Fiber.interrupt(fiber)
        }
      })
  )

  it.effect("L2 `kinds`: pages of other kinds are read through at once, and not again", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({
        entries: [...Array.from({ length: 25 }, () => "noise"), "wanted", "noise", "other"].map((kind) => ({
          entity: "e",
          kind
        }))
      })
      const source = ChangeLogSource.make({ kinds: ["wanted", "other"], limit: 10 })
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "k" }), ["26", "28"])
      assert.deepStrictEqual(
        reads(changes).map(({ after, options }) => [after?.seq, options!.kinds]),
        [0n, 10n, 20n].map((seq) => [seq, ["wanted", "other"]])
      )
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "k" }), [])
      assert.strictEqual(reads(changes).at(-1)!.after!.seq, 28n)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L9 a commit in this process is seen at once, whatever the interval", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make()
      const seen: Array<readonly [string, number]> = []
      const fiber = yield* Watcher.runForEach(
        ChangeLogSource.make(),
        ({ key }) => Effect.map(Clock.currentTimeMillis, (at) => void seen.push([key, at])),
        { interval: "1 hour" }
      ).pipe(Effect.provide(changes.layer), Effect.fork)
      yield* TestClock.adjust("10 minutes")
      yield* changes.log.transaction(
        Effect.gen(function* () {
          yield* changes.log.append({ entity: "a", kind: "k" })
          yield* TestClock.adjust("10 minutes")
          assert.deepStrictEqual(seen, [])
          yield* changes.log.append({ entity: "b", kind: "k" })
        })
      )
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(seen, [
        ["1", 1_200_000],
        ["2", 1_200_000]
      ])
      assert.strictEqual(changes.listeners(), 1)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(changes.listeners(), 0)
    })
  )

  it.effect("L9 lost, doubled and spurious hints change when, never what", () =>
    Effect.gen(function* () {
      for (const times of [0, 1, 2]) {
        const changes = yield* ScriptedChangeLog.make({ hints: () => times })
        const seen: Array<string> = []
        const fiber = yield* Watcher.runForEach(
          ChangeLogSource.make(),
          ({ key }) => Effect.sync(() => void seen.push(key)),
          { interval: "1 minute" }
        ).pipe(Effect.provide(changes.layer), Effect.fork)
        yield* TestClock.adjust("10 seconds")
        changes.add(...entriesOf("a"))
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(seen, times === 0 ? [] : ["1"])
        changes.poke()
        yield* TestClock.adjust(0)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(seen, ["1"])
        yield* Fiber.interrupt(fiber)
      }
    })
  )

  it.effect("W2 a failing log is retried with backoff and nothing is lost; a hanging read is given up", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({
        entries: entriesOf("a"),
        replies: ({ n }) => (n === 1 ? "Unavailable" : n === 2 ? "hang" : n === 4 ? "defect" : "answer")
      })
      const seen: Array<readonly [string, number]> = []
      const fiber = yield* Watcher.runForEach(
        ChangeLogSource.make({ timeout: "5 seconds" }),
        ({ key }) => Effect.map(Clock.currentTimeMillis, (at) => void seen.push([key, at])),
        { interval: "1 second" }
      ).pipe(Effect.provide(changes.layer), Effect.fork)
      yield* TestClock.adjust("1 minute")
      // at 0 it fails, at 2 it hangs until 7, at 11 it finds the start and cannot read, at 13 it reads
      assert.deepStrictEqual(seen, [["1", 13_000]])
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("W5 a read that takes too long is an error of the source: `retry` decides over it", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ replies: () => "hang" })
      const fiber = yield* Watcher.runForEach(ChangeLogSource.make({ timeout: "5 seconds" }), () => Effect.void, {
        retry: Schedule.stop
      }).pipe(Effect.provide(changes.layer), Effect.flip, Effect.fork)
      yield* TestClock.adjust("5 seconds")
      const error = Option.getOrThrow(yield* Fiber.poll(fiber))
      assert.deepStrictEqual(Exit.isSuccess(error) && [error.value._tag, error.value.message], [
        "ChangeLogError",
        "changes: it was not read within 5s."
      ])
    })
  )

  it.effect("state is bound to the log, whatever the source is called", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* ScriptedChangeLog.make(), yield* ScriptedChangeLog.make({ name: "audit" })]
      yield* run(ChangeLogSource.make(), one, { checkpoint: "bound" })
      yield* run(ChangeLogSource.make({ name: "renamed" }), one, { checkpoint: "bound" })
      const error = yield* Effect.flip(run(ChangeLogSource.make(), two, { checkpoint: "bound" }))
      assert.strictEqual("reason" in error && error.reason, "OtherIdentity")
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it("options that cannot be meant throw with a sentence", () => {
    for (const [options, sentence] of [
      [{ limit: 0 }, "ChangeLogSource: `limit` is 0; it must be a whole number of 1 or more."],
      [{ limit: Number.NaN }, "ChangeLogSource: `limit` is NaN; it must be a whole number of 1 or more."],
      [{ from: 7 as never }, 'ChangeLogSource: `from` is 7; it must be "start", "now" or a bigint.'],
      [{ kinds: [] }, "ChangeLogSource: `kinds` is empty; leave it out to get all."],
      [{ consumer: "" }, "ChangeLogSource: `consumer` is empty; leave it out, or give it a name."],
      [{ onUndecodable: "skip" as never }, 'ChangeLogSource: `onUndecodable` is "skip"; it must be "stop" or "park".'],
      [
        { onExpired: "skip" as never },
        'ChangeLogSource: `onExpired` is "skip"; it must be "fail", "fromOldest" or { list }.'
      ]
    ] as const) {
      assert.throws(() => ChangeLogSource.make(options), sentence)
    }
  })
})

describe("L6 ChangeLogSource: entries that are gone", () => {
  /** A reader that has read two of four entries, and a log that has lost the first three. */
  const lagging = (checkpoint: string) =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: entriesOf("a", "b") })
      yield* run(ChangeLogSource.make(), changes, { checkpoint })
      changes.add(...entriesOf("c", "d"))
      changes.pruneUpTo(3n)
      return changes
    })

  it.effect("L6 fail: the watch ends with where the log begins and ends, again and again", () =>
    Effect.gen(function* () {
      const changes = yield* lagging("fail")
      for (let n = 0; n < 2; n++) {
        const error = yield* Effect.flip(run(ChangeLogSource.make(), changes, { checkpoint: "fail" }))
        assert.strictEqual(error._tag, "CursorExpired")
        assert.strictEqual(
          error.message,
          "changes: entries behind 2 are gone (it was pruned); the log holds those behind 3, up to 4."
        )
      }
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L6 it ends the watch without `retry` too: waiting brings nothing back", () =>
    Effect.gen(function* () {
      const changes = yield* lagging("fatal")
      const error = yield* Watcher.runForEach(ChangeLogSource.make(), () => Effect.void, { checkpoint: "fatal" }).pipe(
        Effect.provide(changes.layer),
        Effect.flip
      )
      assert.strictEqual(error._tag, "CursorExpired")
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L6 fromOldest: it goes on with what there is, with a warning", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const changes = yield* lagging("oldest")
      const source = ChangeLogSource.make({ onExpired: "fromOldest" })
      assert.deepStrictEqual(yield* Effect.provide(run(source, changes, { checkpoint: "oldest" }), logTo(lines)), ["4"])
      assert.deepStrictEqual(
        lines.map(({ level, text }) => [level, text]),
        [
          [
            "WARN",
            "changes: entries behind 2 are gone (it was pruned); the log holds those behind 3, up to 4. So it goes on with the oldest."
          ]
        ]
      )
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "oldest" }), [])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  // numbers below that of `from` are given again: they are other entries
  it.effect("L6 fromOldest behind a restored backup leaves nothing out for its number", () =>
    Effect.gen(function* () {
      for (const order of ["sqlite", "postgres"] as const) {
        const changes = yield* ScriptedChangeLog.make({ order })
        const restore = changes.backup()
        changes.add(...entriesOf("a", "b", "c"))
        const source = ChangeLogSource.make({ from: 2n, onExpired: "fromOldest", limit: 1 })
        assert.deepStrictEqual(yield* run(source, changes, { checkpoint: order }), ["3"])
        restore()
        changes.add(...entriesOf("x", "y"))
        assert.deepStrictEqual(yield* run(source, changes, { checkpoint: order }), ["1", "2"], order)
      }
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  const list = Effect.succeed([
    { entity: "ada", kind: "created", data: { n: 1 } },
    { entity: "bob", kind: "created", data: { n: 2 } },
    { entity: "eve", kind: "secret", data: { n: 3 } }
  ])

  it.effect("L6 list: what there is now comes instead, then the entries behind it", () =>
    Effect.gen(function* () {
      const changes = yield* lagging("list")
      const source = ChangeLogSource.make({ onExpired: { list }, schema: Numbered })
      const seen: Array<readonly [string, string, number]> = []
      const collect = Watcher.runForEach(
        source,
        (change, { id }) =>
          Effect.sync(() => {
            // what is behind the entity tells its contents apart
            const named = id.replace(/:[0-9a-f]{16}$/, "")
            if (change._tag === "Added") seen.push([change.key, named, change.value.data.n])
          }),
        { checkpoint: "list", ...stopped }
      ).pipe(Effect.provide(changes.layer))
      yield* collect
      changes.add(...entriesOf("z"))
      yield* collect
      assert.deepStrictEqual(seen, [
        ["ada", "log:changes:resync 4:ada", 1],
        ["bob", "log:changes:resync 4:bob", 2],
        ["eve", "log:changes:resync 4:eve", 3],
        ["5", "log:changes:5", 1]
      ])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L6 list: only the kinds that are watched, also of entities", () =>
    Effect.gen(function* () {
      const changes = yield* lagging("kinds")
      const source = ChangeLogSource.make({ onExpired: { list }, kinds: ["created", "z"] })
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "kinds" }), ["ada", "bob"])
      const others = yield* lagging("entities")
      const people = ChangeLogSource.entities({ onExpired: { list }, kinds: { created: "Added", d: "Modified" } })
      assert.deepStrictEqual(yield* run(people, others, { checkpoint: "entities" }), ["ada", "bob"])
      assert.deepStrictEqual(yield* run(people, others, { checkpoint: "entities" }), [])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L6 list: an empty one leads on, and ids tell repeated entities apart", () =>
    Effect.gen(function* () {
      const changes = yield* lagging("empty")
      const empty = ChangeLogSource.make({ onExpired: { list: Effect.succeed([]) } })
      assert.deepStrictEqual(yield* run(empty, changes, { checkpoint: "empty" }), [])
      changes.add(...entriesOf("z"))
      assert.deepStrictEqual(yield* run(empty, changes, { checkpoint: "empty" }), ["5"])
      const twice = yield* lagging("twice")
      const ids: Array<string> = []
      const entry = { entity: "ada", kind: "created" }
      yield* Watcher.runForEach(
        ChangeLogSource.make({ onExpired: { list: Effect.succeed([entry, entry]) } }),
        (_, { id }) => Effect.sync(() => ids.push(id)),
        { checkpoint: "twice", ...stopped }
      ).pipe(Effect.provide(twice.layer))
      assert.strictEqual(new Set(ids).size, 2)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L6 list: a crash in the middle lists again, all of it", () =>
    Effect.gen(function* () {
      const changes = yield* lagging("middle")
      const source = ChangeLogSource.make({ onExpired: { list } })
      const seen: Array<string> = []
      const crash = yield* Watcher.runForEach(
        source,
        ({ key }) => (key === "bob" ? Effect.fail("crash" as const) : Effect.sync(() => void seen.push(key))),
        { checkpoint: "middle", batchSize: 1, ...stopped }
      ).pipe(Effect.provide(changes.layer), Effect.flip)
      assert.deepStrictEqual([crash, seen], ["crash", ["ada"]])
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "middle", batchSize: 1 }), ["ada", "bob", "eve"])
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "middle" }), [])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L6 list: what is written while it is made comes behind it", () =>
    Effect.gen(function* () {
      const changes = yield* lagging("meanwhile")
      const source = ChangeLogSource.make({
        onExpired: { list: Effect.tap(list, () => Effect.sync(() => changes.add(...entriesOf("new")))) }
      })
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "meanwhile" }), ["ada", "bob", "eve", "5"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L6 a restored backup is no empty log: head behind the cursor, or another entry under its number", () =>
    Effect.gen(function* () {
      for (const again of [[], ["x", "y"]]) {
        const changes = yield* ScriptedChangeLog.make({ entries: entriesOf("a") })
        const restore = changes.backup()
        changes.add(...entriesOf("b"))
        yield* run(ChangeLogSource.make(), changes, { checkpoint: `restored ${again.length}` })
        restore()
        if (again.length > 0) changes.add(...entriesOf(...again))
        const error = yield* Effect.flip(
          run(ChangeLogSource.make(), changes, { checkpoint: `restored ${again.length}` })
        )
        assert.strictEqual(error._tag, "CursorExpired")
        assert.match(error.message, /restored or made again/)
      }
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("L8 ChangeLogSource: entries that do not decode", () => {
  const poisoned: Entries = [
    { entity: "a", kind: "k", data: { n: 1 } },
    { entity: "b", kind: "k", text: '{"n":"secret"}' },
    { entity: "c", kind: "k", text: "no json" },
    { entity: "d", kind: "k" },
    { entity: "e", kind: "k", data: { n: 5 } }
  ]

  it.effect("L8 stop: the watch ends, typed, without the value; nothing of the page is delivered or committed", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: poisoned })
      const seen: Array<string> = []
      const source = ChangeLogSource.make({ schema: Numbered, limit: 1 })
      const error = yield* Watcher.runForEach(source, ({ key }) => Effect.sync(() => seen.push(key)), {
        checkpoint: "stop"
      }).pipe(Effect.provide(changes.layer), Effect.flip)
      assert.strictEqual(error._tag, "UndecodableEntry")
      assert.match(error.message, /^Entry 2 does not decode \(it does not fit at n\)/)
      assert.notInclude(error.message, "secret")
      assert.deepStrictEqual(seen, ["1"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L8 park: put aside and gone on, and read again with a mended schema", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: poisoned })
      const source = ChangeLogSource.make({ schema: Numbered, onUndecodable: "park", limit: 2 })
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "park" }), ["1", "5"])
      const seen: Array<readonly [string, unknown]> = []
      yield* Effect.gen(function* () {
        const watcher = yield* Watcher.make(ChangeLogSource.make({ onUndecodable: "park" }), { checkpoint: "park" })
        yield* Effect.forkScoped(
          watcher.runForEach((change) =>
            Effect.sync(() => {
              if (change._tag === "Added") seen.push([change.key, change.value.data])
            })
          )
        )
        yield* TestClock.adjust(0)
        const parked = yield* watcher.parked
        assert.deepStrictEqual(
          parked.map(({ id }) => id),
          ["log:changes:2", "log:changes:3", "log:changes:4"]
        )
        for (const { id } of parked) yield* watcher.redrive(id)
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(yield* watcher.parked, [])
      }).pipe(Effect.scoped, Effect.provide(changes.layer))
      assert.deepStrictEqual(seen, [
        ["2", { n: "secret" }],
        ["3", "no json"],
        ["4", undefined]
      ])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("an error of the log is never parked", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: poisoned, replies: ["answer", "Unavailable"] })
      const error = yield* Effect.flip(run(ChangeLogSource.make({ onUndecodable: "park" }), changes))
      assert.strictEqual(error._tag, "ChangeLogError")
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("L7 ChangeLogSource: consumers", () => {
  it.effect("L7 what is registered follows the saved checkpoint, and is never ahead of it", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: many(20) })
      let saved = 0
      const store = yield* Checkpoints.makeMemory
      let saves = 0
      const slow: Checkpoints.Checkpoints["Type"] = {
        ...store,
        claim: (checkpoint) =>
          Effect.map(store.claim(checkpoint), (claim) => ({
            ...claim,
            save: (save) =>
              Effect.suspend(() => {
                if (++saves % 3 === 0) {
                  return new Checkpoints.CheckpointError({ reason: "Unavailable", checkpoint, message: "away" })
                }
                return Effect.tap(Effect.delay(claim.save(save), "3 seconds"), () => {
                  saved = Number((JSON.parse(save.head) as { readonly state: { readonly seq: string } }).state.seq)
                })
              })
          }))
      }
      const register = changes.log.register
      const ahead: Array<string> = []
      const watched = {
        ...changes.log,
        register: (name: string, cursor: ChangeLog.Cursor) => {
          if (Number(cursor.seq) > saved) ahead.push(`${cursor.seq} registered, ${saved} saved`)
          return register(name, cursor)
        }
      }
      const fiber = yield* Watcher.runForEach(
        ChangeLogSource.make({ consumer: "reader", limit: 3 }),
        () => Effect.sleep("1 second"),
        { checkpoint: "reader", interval: "5 seconds" }
      ).pipe(
        Effect.provideService(ChangeLog.ChangeLog, watched),
        Effect.provideService(Checkpoints.Checkpoints, slow),
        Effect.fork
      )
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(ahead, [])
      assert.strictEqual(registrations(changes).at(-1)![1], 20)
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("L7 while it catches up it registers at most every 10 seconds, then what is new at once", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: many(100) })
      const fiber = yield* Watcher.runForEach(
        ChangeLogSource.make({ consumer: "reader", limit: 1 }),
        () => Effect.sleep("300 millis"),
        { checkpoint: "reader", interval: "5 seconds" }
      ).pipe(Effect.provide(changes.layer), Effect.fork)
      yield* TestClock.adjust("31 seconds")
      const found = registrations(changes)
      assert.deepStrictEqual(
        found.map(([at, seq]) => [at, seq]),
        [
          // the place of the start, so that nothing is pruned from now on
          [0, 0],
          [10_200, 34],
          [20_400, 68],
          // nothing more to read
          [30_000, 100]
        ]
      )
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L7 an idle reader gives a sign of life every minute", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: many(1) })
      const fiber = yield* Watcher.runForEach(ChangeLogSource.make({ consumer: "reader" }), () => Effect.void, {
        checkpoint: "reader",
        interval: "7 seconds"
      }).pipe(Effect.provide(changes.layer), Effect.fork)
      yield* TestClock.adjust("150 seconds")
      assert.deepStrictEqual(registrations(changes), [
        [0, 0],
        [7000, 1],
        [70_000, 1],
        [133_000, 1]
      ])
      assert.deepStrictEqual(yield* changes.log.consumers, [
        { name: "reader", cursor: { seq: 1n, atMillis: 1 }, seenAtMillis: 133_000 }
      ])
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L7 prune keeps what a registered reader has not committed, and it goes on without a gap", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: many(10) })
      const source = ChangeLogSource.make({ consumer: "reader", limit: 4 })
      const seen: Array<string> = []
      const crash = yield* Watcher.runForEach(
        source,
        ({ key }) => (key === "6" ? Effect.fail("crash" as const) : Effect.sync(() => void seen.push(key))),
        { checkpoint: "reader", ...stopped }
      ).pipe(Effect.provide(changes.layer), Effect.flip)
      assert.strictEqual(crash, "crash")
      const { slowest } = yield* changes.log.prune()
      assert.strictEqual(slowest!.name, "reader")
      assert.isAbove(changes.visible.length, 5)
      assert.deepStrictEqual(yield* run(source, changes, { checkpoint: "reader" }), ["5", "6", "7", "8", "9", "10"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  // a reader whose database cannot be written to goes on reading: what is registered is old, so it holds more
  it.effect("L7 a registration that fails only warns, and is tried again in 10 seconds at the earliest", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const changes = yield* ScriptedChangeLog.make({
        entries: many(3),
        replies: ({ at, operation }) => (operation === "register" && at < 25_000 ? "Unavailable" : "answer")
      })
      const seen: Array<string> = []
      const fiber = yield* Watcher.runForEach(
        ChangeLogSource.make({ consumer: "reader" }),
        ({ key }) => Effect.sync(() => void seen.push(key)),
        { checkpoint: "reader", interval: "4 seconds" }
      ).pipe(Effect.provide(Layer.merge(changes.layer, logTo(lines))), Effect.fork)
      yield* TestClock.adjust("45 seconds")
      assert.deepStrictEqual(seen, ["1", "2", "3"])
      assert.deepStrictEqual(registrations(changes), [
        [0, 0],
        [12_000, 3],
        [24_000, 3],
        [36_000, 3]
      ])
      assert.deepStrictEqual(
        lines.map(({ level, text }) => [level, text]),
        Array.from({ length: 3 }, () => [
          "WARN",
          'changes: the consumer "reader" could not be registered: changes: register fails as scripted (Unavailable).'
        ])
      )
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L3 W8 two watchers of one source read and register on their own", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({ entries: many(4) })
      const source = ChangeLogSource.make({ limit: 2 })
      const [one, two] = yield* Effect.all([run(source, changes), run(source, changes)], { concurrency: 2 })
      assert.deepStrictEqual(
        [one, two],
        [
          ["1", "2", "3", "4"],
          ["1", "2", "3", "4"]
        ]
      )
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("L10 ChangeLogSource.entities", () => {
  const people = (options: { readonly onUndecodable?: "park" } = {}) =>
    ChangeLogSource.entities({
      ...options,
      schema: Numbered,
      kinds: { created: "Added", renamed: "Modified", deleted: "Removed" }
    })

  it.effect("L10 each entry is a change of its entity; other kinds are left out; Removed is not decoded", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({
        entries: [
          { entity: "ada", kind: "created", data: { n: 1 } },
          { entity: "bob", kind: "created", data: { n: 2 } },
          { entity: "ada", kind: "seen", text: "no json" },
          { entity: "ada", kind: "renamed", data: { n: 3 } },
          { entity: "bob", kind: "deleted", text: "no json" }
        ]
      })
      const found = yield* Effect.provide(Watcher.once(people()), changes.layer)
      assert.deepStrictEqual(
        found.map((change) => [change._tag, change.key, change._tag === "Removed" ? undefined : change.value]),
        [
          ["Added", "ada", { n: 1 }],
          ["Added", "bob", { n: 2 }],
          ["Modified", "ada", { n: 3 }],
          ["Removed", "bob", undefined]
        ]
      )
    })
  )

  it.effect("L10 ids are those of the entries: one entity, many changes", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({
        entries: [1, 2].map((n) => ({ entity: "ada", kind: "renamed", data: { n } }))
      })
      const ids: Array<string> = []
      yield* Watcher.runForEach(people(), (_, { id }) => Effect.sync(() => void ids.push(id)), stopped).pipe(
        Effect.provide(changes.layer)
      )
      assert.deepStrictEqual(ids, ["log:changes:1", "log:changes:2"])
    })
  )

  it.effect("L8 L10 an undecodable entry of an entity is replaced by a later good one", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({
        entries: [
          { entity: "ada", kind: "renamed", text: "no json" },
          { entity: "bob", kind: "renamed", text: "no json" },
          { entity: "ada", kind: "renamed", data: { n: 1 } }
        ]
      })
      for (const limit of [1, 10]) {
        const watcher = yield* Watcher.make(
          Source.fromDefinition({ ...people({ onUndecodable: "park" }).definition, name: `limit ${limit}` }),
          stopped
        ).pipe(Effect.provide(changes.layer))
        yield* Stream.runDrain(watcher.changes)
        assert.deepStrictEqual(
          (yield* watcher.parked).map(({ key }) => key),
          ["bob"]
        )
      }
    }).pipe(Effect.scoped)
  )

  it.effect("D1 with `concurrency` the entries of one entity stay in order", () =>
    Effect.gen(function* () {
      const changes = yield* ScriptedChangeLog.make({
        entries: [
          { entity: "a", kind: "k", data: 5 },
          { entity: "b", kind: "k", data: 1 },
          { entity: "a", kind: "k", data: 1 }
        ]
      })
      const ends: Array<string> = []
      const fiber = yield* Watcher.runForEach(
        ChangeLogSource.make({ schema: Schema.Number }),
        (change) =>
          Effect.delay(
            Effect.sync(() => void ends.push(change.key)),
            change._tag === "Added" ? change.value.data * 1000 : 0
          ),
        { concurrency: 3, ...stopped }
      ).pipe(Effect.provide(changes.layer), Effect.fork)
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(ends, ["2", "1", "3"])
    })
  )
})

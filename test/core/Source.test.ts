import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Option, Schedule, Schema, Stream, TestClock } from "effect"
import { Change, Checkpoints, Source, Watcher } from "effect-periscope"
import { nothing, refused, scripted } from "./scripted.js"

const tell = (change: Change.Change<unknown>): string =>
  change._tag === "Removed" ? `- ${change.key}` : `${change._tag === "Added" ? "+" : "~"} ${change.key}=${change.value}`

const follow = <A, E>(source: Source.Source<A, E>) =>
  Effect.gen(function* () {
    const seen: Array<string> = []
    yield* Effect.fork(
      Watcher.runForEach(source, (change) => Effect.sync(() => seen.push(tell(change))), { interval: "1 second" })
    )
    yield* TestClock.adjust(0)
    return () => Effect.map(TestClock.adjust("1 second"), () => seen.splice(0))
  })

describe("Source.memory", () => {
  it.effect("finds what was set, changed and removed, with the value before", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      assert.isTrue(Source.isSource(memory))
      assert.strictEqual(memory.name, "memory")
      const found = (yield* Watcher.make(memory, { interval: "1 second" })).changes
      const all: Array<Change.Change<number>> = []
      yield* Effect.fork(Stream.runForEach(found, (change) => Effect.sync(() => all.push(change))))
      yield* memory.set("a", 1)
      yield* TestClock.adjust("1 second")
      yield* memory.set("a", 2)
      yield* TestClock.adjust("1 second")
      yield* memory.remove("a")
      yield* TestClock.adjust("1 second")
      yield* memory.remove("b")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(all, [
        Change.added("a", 1),
        Change.modified("a", 2, Option.some(1)),
        Change.removed("a", Option.some(2))
      ])
      assert.strictEqual(yield* memory.polls, 5)
    }).pipe(Effect.scoped)
  )

  it.effect("fails as often as told, and every `set` is a new version", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number, string>({ name: "m" })
      yield* memory.set("a", 1)
      yield* memory.fail("one")
      yield* memory.fail("two")
      assert.strictEqual(yield* Effect.flip(Watcher.once(memory)), "one")
      assert.strictEqual(yield* Effect.flip(Watcher.once(memory)), "two")
      const next = yield* follow(memory)
      assert.deepStrictEqual(yield* next(), ["+ a=1"])
      yield* memory.set("a", 1)
      assert.deepStrictEqual(yield* next(), ["~ a=1"])
    })
  )

  it.effect("values that are no JSON live through a restart by their codec", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<Date>({ item: Schema.Date })
      yield* memory.set("a", new Date(5))
      const crash = Watcher.runForEach(memory, () => Effect.fail("crash"), { checkpoint: "m" })
      yield* Effect.ignore(crash)
      assert.deepStrictEqual(yield* Watcher.once(memory, { checkpoint: "m" }), [Change.added("a", new Date(5))])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("Source operators", () => {
  it.effect("filter: leaving it is Removed, entering it Added, outside of it nothing", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      yield* memory.set("b", 2)
      const next = yield* follow(memory.pipe(Source.filter((n) => n % 2 === 0)))
      assert.deepStrictEqual(yield* next(), ["+ b=2"])
      yield* memory.set("a", 4)
      yield* memory.set("b", 3)
      assert.deepStrictEqual(yield* next(), ["+ a=4", "- b"])
      yield* memory.set("a", 6)
      yield* memory.set("b", 5)
      assert.deepStrictEqual(yield* next(), ["~ a=6"])
      yield* memory.remove("a")
      yield* memory.remove("b")
      assert.deepStrictEqual(yield* next(), ["- a"])
    })
  )

  it.effect("map and mapEffect turn value and previous, one after the other, and filter sees their result", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      const source = memory.pipe(
        Source.map((n) => n * 10),
        Source.mapEffect((n) => (n > 50 ? Effect.fail("too big") : Effect.succeed(`<${n}>`))),
        Source.filter((text) => text !== "<20>")
      )
      const next = yield* follow(source)
      assert.deepStrictEqual(yield* next(), ["+ a=<10>"])
      yield* memory.set("a", 2)
      assert.deepStrictEqual(yield* next(), ["- a"])
      yield* memory.set("a", 9)
      assert.deepStrictEqual(yield* next(), [])
      yield* memory.set("a", 3)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* next(), ["+ a=<30>"])
    })
  )

  it.effect("with a checkpoint what is stored is the source's own value: a new `map` applies to what comes again", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      const crash = Watcher.runForEach(Source.map(memory, String), () => Effect.fail("crash"), { checkpoint: "m" })
      yield* Effect.ignore(crash)
      const found = yield* Watcher.once(
        Source.map(memory, (n) => n + 1),
        { checkpoint: "m" }
      )
      assert.deepStrictEqual(found, [Change.added("a", 2)])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("Source.Tag and Source.layer", () => {
  it.effect("a source is a service; what it needs is taken by its layer, for `mapEffect` too", () =>
    Effect.gen(function* () {
      class Unit extends Context.Tag("test/Unit")<Unit, string>() {}
      class Texts extends Source.Tag("test/Texts")<Texts, string>() {}
      const { source } = scripted((_, state) =>
        Effect.map(Unit, () => ({ changes: state > 0 ? [] : [Change.added("a", 1)], state: 1 }))
      )
      const texts = source.pipe(Source.mapEffect((n) => Effect.map(Unit, (unit) => `${n} ${unit}`)))
      const layer = Source.layer(Texts, texts).pipe(Layer.provide(Layer.succeed(Unit, "m")))
      assert.deepStrictEqual(yield* Effect.provide(Watcher.once(Texts), layer), [Change.added("a", "1 m")])
    })
  )
})

/** A log of numbers whose reads are noted down. */
const log = (options: { readonly head?: number; readonly limit?: number } = {}) => {
  const rows: Array<number> = []
  const reads: Array<readonly [after: number, limit: number]> = []
  const { head, limit } = options
  const source = Source.fromLog({
    name: "log",
    item: Schema.Number,
    cursor: Schema.Number,
    initial: 0,
    limit,
    head: head === undefined ? undefined : Effect.sync(() => rows.length),
    read: (after, most) =>
      Effect.sync(() => {
        reads.push([after, most])
        return rows.slice(after, after + most).map((value, index) => ({ cursor: after + index + 1, value }))
      })
  })
  return { source, rows, reads }
}

const keys = (changes: ReadonlyArray<Change.Change<unknown>>) => changes.map(({ key }) => Number(key))

describe("Source.fromLog", () => {
  it.effect("L2 a full page is followed by the next at once, a short one by the interval", () =>
    Effect.gen(function* () {
      const { reads, rows, source } = log({ limit: 2 })
      rows.push(1, 2, 3, 4, 5)
      const next = yield* follow(source)
      assert.deepStrictEqual(yield* next(), ["+ 1=1", "+ 2=2", "+ 3=3", "+ 4=4", "+ 5=5"])
      assert.deepStrictEqual(reads, [
        [0, 2],
        [2, 2],
        [4, 2],
        [5, 2]
      ])
      rows.push(6)
      assert.deepStrictEqual(yield* next(), ["+ 6=6"])
    })
  )

  it.effect("L2 a filter that lets nothing through never looks like the end of the log", () =>
    Effect.gen(function* () {
      const { reads, rows, source } = log({ limit: 2 })
      rows.push(1, 3, 5, 7, 8)
      const next = yield* follow(Source.filter(source, (n) => n % 2 === 0))
      assert.deepStrictEqual(yield* next(), ["+ 5=8"])
      assert.deepStrictEqual(
        reads.map(([after]) => after),
        [0, 2, 4, 5]
      )
    })
  )

  it.effect("resumes behind what was committed, with the same ids, also within a page", () =>
    Effect.gen(function* () {
      const { reads, rows, source } = log()
      rows.push(1, 2, 3, 4, 5)
      const ids: Array<string> = []
      let left = 3
      const run = Watcher.runForEach(
        source,
        (_, { id }) => Effect.suspend(() => (ids.push(id), left-- > 0 ? Effect.void : Effect.fail("crash" as const))),
        { checkpoint: "l", batchSize: 1, schedule: Schedule.stop }
      )
      assert.strictEqual(yield* Effect.flip(run), "crash")
      assert.deepStrictEqual(keys(yield* Watcher.once(source, { checkpoint: "l" })), [4, 5])
      assert.deepStrictEqual(ids, ["log:1", "log:2", "log:3", "log:4"])
      assert.deepStrictEqual(
        reads.map(([after]) => after),
        [0, 3]
      )
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("a filter within a batch: the cursor stands behind the last change that was committed", () =>
    Effect.gen(function* () {
      const { reads, rows, source } = log()
      rows.push(1, 2, 3, 4, 5, 6, 7)
      const even = Source.filter(source, (n) => n % 2 === 0)
      let left = 1
      const run = Watcher.runForEachBatch(
        even,
        () => Effect.suspend(() => (left-- > 0 ? Effect.void : Effect.fail("crash"))),
        {
          checkpoint: "l",
          batchSize: 2
        }
      )
      yield* Effect.ignore(run)
      assert.deepStrictEqual(keys(yield* Watcher.once(even, { checkpoint: "l" })), [6])
      assert.deepStrictEqual(yield* Watcher.once(even, { checkpoint: "l" }), [])
      assert.deepStrictEqual(
        reads.map(([after]) => after),
        [0, 4, 7]
      )
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("`suppress` starts at `head`, saves it before its first wait, and reads nothing before it", () =>
    Effect.gen(function* () {
      const { reads, rows, source } = log({ head: 0 })
      rows.push(1, 2, 3)
      const options = { checkpoint: "l", initial: "suppress", interval: "1 hour" } as const
      const fiber = yield* Effect.fork(Watcher.runForEach(source, () => Effect.void, options))
      yield* TestClock.adjust(0)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(reads, [])
      rows.push(4)
      assert.deepStrictEqual(keys(yield* Watcher.once(source, options)), [4])
      assert.deepStrictEqual(
        reads.map(([after]) => after),
        [3]
      )
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("`suppress` without `head` reads all pages and drops them", () =>
    Effect.gen(function* () {
      const { rows, source } = log({ limit: 2 })
      rows.push(1, 2, 3)
      const options = { checkpoint: "l", initial: "suppress" } as const
      assert.deepStrictEqual(yield* Watcher.once(source, options), [])
      rows.push(4)
      assert.deepStrictEqual(keys(yield* Watcher.once(source, options)), [4])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("an entry has its own key, or its cursor as text; different cursors are different keys", () =>
    Effect.gen(function* () {
      const Cursor = Schema.Struct({ xid: Schema.BigInt, seq: Schema.Number })
      const source = Source.fromLog({
        name: "pairs",
        item: Schema.String,
        cursor: Cursor,
        initial: { xid: 0n, seq: 0 },
        read: ({ seq }) =>
          Effect.succeed(
            seq > 0
              ? []
              : [
                  { cursor: { xid: 1n, seq: 1 }, value: "a" },
                  { cursor: { xid: 1n, seq: 2 }, value: "b" },
                  { cursor: { xid: 2n, seq: 3 }, key: "own", value: "c" }
                ]
          )
      })
      const found = yield* Watcher.once(source)
      assert.strictEqual(new Set(found.map(({ key }) => key)).size, 3)
      assert.strictEqual(found[2]!.key, "own")
    })
  )

  it.effect("ids are those of entries, also where several have one key", () =>
    Effect.gen(function* () {
      const rows = [1, 2, 3].map((cursor) => ({ cursor, key: "order 7", value: cursor }))
      const source = Source.fromLog({
        name: "log",
        item: Schema.Number,
        cursor: Schema.Number,
        initial: 0,
        read: (after) => Effect.succeed(rows.slice(after))
      })
      const ids: Array<string> = []
      yield* Watcher.runForEach(source, (_, { id }) => Effect.sync(() => ids.push(id)), { schedule: Schedule.stop })
      assert.deepStrictEqual(ids, ["log:1", "log:2", "log:3"])
    })
  )

  it("refuses a `limit` below 1", () => {
    for (const limit of [0, -1, 1.5, Number.NaN])
      assert.throws(() => log({ limit }), new RegExp(`\`limit\` is ${limit}`))
  })
})

describe("Source.make", () => {
  it.effect("recover gives the state to go on with after a failed poll", () =>
    Effect.gen(function* () {
      const states: Array<number> = []
      const source = Source.make({
        name: "s",
        state: Schema.Number,
        item: Schema.Number,
        initial: 0,
        poll: (state) =>
          Effect.suspend(() => (states.push(state) === 2 ? Effect.fail(refused(2)) : nothing(state + 1))),
        recover: (state) => state + 100
      })
      yield* Effect.fork(Watcher.runForEach(source, () => Effect.void, { interval: "1 second" }))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(states, [0, 1, 101])
    })
  )

  it.effect("identity binds the checkpoint, and the name may change", () =>
    Effect.gen(function* () {
      const named = (name: string) => scripted((_, state) => nothing(state + 1), { name, identity: "one" })
      yield* Watcher.once(named("a").source, { checkpoint: "c" })
      const other = named("b")
      yield* Watcher.once(other.source, { checkpoint: "c" })
      assert.deepStrictEqual(other.states, [1])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

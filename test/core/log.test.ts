import { assert, describe, it } from "@effect/vitest"
import type { Scope } from "effect"
import { Clock, Context, Effect, Exit, Fiber, Layer, Option, Schedule, Schema, Stream, TestClock } from "effect"
import { Change, Checkpoints, Source, Watcher } from "effect-periscope"
import type { Line } from "./scripted.js"
import { after, logTo } from "./scripted.js"

class Undecodable extends Schema.TaggedError<Undecodable>("test/Undecodable")("Undecodable", { key: Schema.String }) {
  readonly isFatal = true as const
}

class Passing extends Schema.TaggedError<Passing>("test/Passing")("Passing", {}) {}

/** A row is poison as long as `decodes` says no to it. */
interface Row {
  readonly key: string
  readonly value: string
}

const Row: Schema.Schema<Row> = Schema.Struct({ key: Schema.String, value: Schema.String })

const rowsOf = (...values: ReadonlyArray<string>): Array<Row> =>
  values.map((value, index) => ({ key: `${value.slice(0, 1)}${index + 1}`, value }))

interface Script {
  /** How many rows a page looks at. */
  readonly limit?: number
  readonly isShown?: (row: Row) => boolean
  readonly decode?: (row: Row) => Effect.Effect<string, Undecodable | Passing>
  readonly parks?: boolean
  readonly hints?: (poke: () => void) => Effect.Effect<void, never, Scope.Scope>
  readonly keyOf?: (row: Row) => string
  readonly before?: Effect.Effect<void>
}

interface Played {
  readonly source: Source.Source<string, Undecodable | Passing>
  readonly polls: Array<{ readonly at: number; readonly after: number; readonly committed: number }>
}

const poisonous = (row: Row): Effect.Effect<string, Undecodable | Passing> =>
  row.value.startsWith("!") ? new Undecodable({ key: row.key }) : Effect.succeed(row.value)

/** A log over an array, of which rows can be left out. */
const played = (rows: ReadonlyArray<Row>, script: Script = {}): Played => {
  const { decode = poisonous, hints, isShown = () => true, keyOf = ({ key }) => key, limit = 100 } = script
  const polls: Array<{ readonly at: number; readonly after: number; readonly committed: number }> = []
  const source = Source.fromLog<Row, Row, number, number>({
    name: "log",
    item: Row,
    cursor: Schema.Number,
    initial: 0,
    limit,
    hints,
    orderBy: ({ value }) => value.slice(0, 1),
    read: (cursor, most, polled) =>
      Effect.gen(function* () {
        polls.push({ at: yield* Clock.currentTimeMillis, after: cursor, committed: polled.committed })
        if (script.before !== undefined) yield* script.before
        const seen = rows.slice(cursor, cursor + most)
        const entries = seen.flatMap((row, index) =>
          isShown(row)
            ? [{ cursor: cursor + index + 1, id: `#${cursor + index + 1}`, key: keyOf(row), value: row }]
            : []
        )
        return { entries, cursor: cursor + seen.length, more: seen.length >= most }
      })
  })
  return {
    polls,
    source: Source.fromDefinition<string, Undecodable | Passing, never>({
      ...source.definition,
      change: (stored: Change.Change<Row>) => Effect.asSome(Change.traverse(stored, decode)),
      parks: script.parks === false ? undefined : (error) => error instanceof Undecodable
    })
  }
}

const stopped = { schedule: Schedule.stop, interval: "1 second" } as const

const keys = (changes: ReadonlyArray<Change.Change<unknown>>): ReadonlyArray<string> => changes.map(({ key }) => key)

/** Makes a watcher, lets it run through what is there, and gives the keys handled and those parked. */
const through = (
  source: Source.Source<string, Undecodable | Passing>,
  options: { readonly checkpoint?: string; readonly batchSize?: number } = {}
) =>
  Effect.gen(function* () {
    const seen: Array<string> = []
    const watcher = yield* Watcher.make(source, { ...stopped, ...options })
    yield* watcher.runForEach(({ key }) => Effect.sync(() => void seen.push(key)))
    return { seen, parked: yield* watcher.parked }
  }).pipe(Effect.scoped)

/** Keeps records in memory; `onSave` runs in front of each save, which it may fail. */
const storeWith = (onSave: (head: string) => Effect.Effect<void, Checkpoints.CheckpointError>) =>
  Effect.map(Checkpoints.makeMemory, (store): Checkpoints.Checkpoints["Type"] => ({
    ...store,
    claim: (checkpoint) =>
      Effect.map(store.claim(checkpoint), (claim) => ({
        ...claim,
        save: (save) => Effect.zipRight(onSave(save.head), claim.save(save))
      }))
  }))

const away = new Checkpoints.CheckpointError({ reason: "Unavailable", checkpoint: "log", message: "away" })

const stateIn = (head: string): number => (JSON.parse(head) as { readonly state: number }).state

describe("L2 pages of a log that leave entries out", () => {
  it.effect("L2 `more` alone says whether to read on at once; a page without entries moves the cursor", () =>
    Effect.gen(function* () {
      const rows = rowsOf("-", "-", "-", "-", "a", "-", "-")
      const { polls, source } = played(rows, { limit: 2, isShown: ({ value }) => value !== "-" })
      const seen: Array<string> = []
      const fiber = yield* Effect.fork(
        Watcher.runForEach(source, ({ key }) => Effect.sync(() => seen.push(key)), { interval: "10 seconds" })
      )
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(
        polls.map(({ after, at }) => [at, after]),
        [
          [0, 0],
          [0, 2],
          [0, 4],
          [0, 6]
        ]
      )
      assert.deepStrictEqual(seen, ["a5"])
      rows.push({ key: "b", value: "b" })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(seen, ["a5", "b"])
      assert.deepStrictEqual(
        polls.slice(4).map(({ after, at }) => [at, after]),
        [[10_000, 7]]
      )
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("L2 `awaitSynced` and `once` wait for the last page, not for the first empty one", () =>
    Effect.gen(function* () {
      const { polls, source } = played(rowsOf("-", "-", "-", "-", "a"), {
        limit: 2,
        isShown: ({ value }) => value === "a"
      })
      assert.deepStrictEqual(keys(yield* Watcher.once(source)), ["a5"])
      assert.strictEqual(polls.length, 3)
    })
  )

  it.effect("an array is a page whose length says whether there is more, as before", () =>
    Effect.gen(function* () {
      const asked: Array<number> = []
      const source = Source.fromLog({
        name: "array",
        item: Schema.String,
        cursor: Schema.Number,
        initial: 0,
        limit: 2,
        read: (cursor) =>
          Effect.sync(() => {
            asked.push(cursor)
            return ["a", "b", "c"].slice(cursor, cursor + 2).map((value, n) => ({ cursor: cursor + n + 1, value }))
          })
      })
      assert.deepStrictEqual(keys(yield* Watcher.once(source)), ["1", "2", "3"])
      assert.deepStrictEqual(asked, [0, 2])
    })
  )

  it.effect("ids are those of the entries, also when a part of a page comes again in another one", () =>
    Effect.gen(function* () {
      const { source } = played(rowsOf("a", "-", "b", "c"), { isShown: ({ value }) => value !== "-" })
      const ids: Array<ReadonlyArray<string>> = []
      const run = Watcher.runForEach(
        source,
        ({ key }, { id }) =>
          Effect.suspend(() => {
            ids.push([key, id])
            return key === "b3" && ids.length === 2 ? Effect.fail("once") : Effect.void
          }),
        { checkpoint: "ids", batchSize: 1, ...stopped }
      )
      yield* Effect.flip(run)
      yield* run
      assert.deepStrictEqual(ids, [
        ["a1", "log:#1"],
        ["b3", "log:#3"],
        ["b3", "log:#3"],
        ["c4", "log:#4"]
      ])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("L8 entries that cannot be delivered are parked", () => {
  it.effect("L8 without a checkpoint: put aside with the commit of their batch, the others in order", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const { source } = played(rowsOf("a", "!", "b", "!", "c"))
      const { parked, seen } = yield* Effect.provide(through(source), logTo(lines))
      assert.deepStrictEqual(seen, ["a1", "b3", "c5"])
      assert.deepStrictEqual(
        parked.map(({ id, key, type }) => [id, key, type]),
        [
          ["log:#2", "!2", "Added"],
          ["log:#4", "!4", "Added"]
        ]
      )
      assert.strictEqual(lines.filter(({ level, text }) => level === "WARN" && text.includes("is parked")).length, 2)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.scoped("L8 a live stream of changes parks too", () =>
    Effect.gen(function* () {
      const { source } = played(rowsOf("a", "!", "b", "!"))
      const watcher = yield* Watcher.make(source, { ...stopped, batchSize: 2 })
      const seen = yield* Stream.runCollect(watcher.changes)
      assert.deepStrictEqual(keys([...seen]), ["a1", "b3"])
      assert.deepStrictEqual(
        (yield* watcher.parked).map(({ key }) => key),
        ["!2", "!4"]
      )
    })
  )

  it.effect("L8 parked and cursor are one save, which names both", () =>
    Effect.gen(function* () {
      const heads: Array<{ readonly state: number; readonly parked: number }> = []
      const store = yield* storeWith((head) =>
        Effect.sync(() => {
          const { parked, state } = JSON.parse(head)
          heads.push({ state, parked: parked.length })
        })
      )
      const { source } = played(rowsOf("a", "!", "b", "!"))
      yield* Effect.provideService(through(source, { checkpoint: "log", batchSize: 2 }), Checkpoints.Checkpoints, store)
      assert.deepStrictEqual(heads, [
        { state: 2, parked: 1 },
        { state: 4, parked: 2 }
      ])
    })
  )

  it.effect("L8 a batch of nothing but parked ones commits, and the next ones come", () =>
    Effect.gen(function* () {
      const { source } = played(rowsOf("!", "!", "!", "a"))
      for (const checkpoint of [undefined, "only"]) {
        const options = checkpoint === undefined ? {} : { checkpoint }
        const { parked, seen } = yield* through(source, { ...options, batchSize: 1 })
        assert.deepStrictEqual([seen, parked.length], [["a4"], 3])
      }
      const all = played(rowsOf("!", "!"))
      const { parked, seen } = yield* through(all.source, { checkpoint: "all" })
      assert.deepStrictEqual([seen, parked.length], [[], 2])
      yield* through(all.source, { checkpoint: "all" })
      assert.deepStrictEqual(all.polls.at(-1)!.after, 2)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("L8 a crash before the commit delivers again and parks again, once", () =>
    Effect.gen(function* () {
      const { source } = played(rowsOf("!", "a", "!", "b"))
      const store = yield* Checkpoints.makeMemory
      let crashes = 2
      const seen: Array<string> = []
      const run = Effect.gen(function* () {
        const watcher = yield* Watcher.make(source, { ...stopped, checkpoint: "crash" })
        yield* watcher.runForEach(({ key }) =>
          Effect.suspend(() => {
            seen.push(key)
            return key === "b4" && crashes-- > 0 ? Effect.fail("crash" as const) : Effect.void
          })
        )
        return yield* watcher.parked
      }).pipe(Effect.scoped, Effect.provideService(Checkpoints.Checkpoints, store))
      yield* Effect.flip(run)
      yield* Effect.flip(run)
      const parked = yield* run
      assert.deepStrictEqual(seen, ["a2", "b4", "a2", "b4", "a2", "b4"])
      assert.deepStrictEqual(
        parked.map(({ key }) => key),
        ["!1", "!3"]
      )
      assert.strictEqual((yield* run).length, 2)
    })
  )

  it.effect("L8 other errors still fail the poll: the same page again, nothing parked or skipped", () =>
    Effect.gen(function* () {
      let failures = 2
      const { polls, source } = played(rowsOf("a", "!", "b"), {
        decode: (row) => (row.key === "b3" && failures-- > 0 ? Effect.fail(new Passing()) : poisonous(row))
      })
      const seen: Array<string> = []
      const watcher = yield* Watcher.make(source, { interval: "1 second" })
      yield* Effect.forkScoped(watcher.runForEach(({ key }) => Effect.sync(() => seen.push(key))))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual([seen, (yield* watcher.parked).length], [[], 0])
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(
        polls.slice(0, 3).map(({ after, at }) => [at, after]),
        [
          [0, 0],
          [2000, 0],
          [6000, 0]
        ]
      )
      assert.deepStrictEqual(seen, ["a1", "b3"])
      assert.strictEqual((yield* watcher.parked).length, 1)
    }).pipe(Effect.scoped)
  )

  it.effect("L8 a defect is never parked", () =>
    Effect.gen(function* () {
      const { source } = played(rowsOf("a"), { decode: () => Effect.die(new Undecodable({ key: "a" })) })
      const exit = yield* Effect.exit(Watcher.once(source))
      assert.isTrue(Exit.isFailure(exit))
    })
  )

  it.effect("D1 `maxParked` full: the watch ends with the error, everything before it is as it was", () =>
    Effect.gen(function* () {
      const rows = rowsOf("!", "a", "!", "b", "!")
      const { source } = played(rows, { limit: 2 })
      const seen: Array<string> = []
      const run = (maxParked: number) =>
        Effect.gen(function* () {
          const watcher = yield* Watcher.make(source, { ...stopped, checkpoint: "full", maxParked })
          const exit = yield* Effect.exit(watcher.runForEach(({ key }) => Effect.sync(() => seen.push(key))))
          return { exit, parked: (yield* watcher.parked).map(({ key }) => key) }
        }).pipe(Effect.scoped)
      const full = yield* run(2)
      assert.deepStrictEqual(full.exit, Exit.fail(new Undecodable({ key: "!5" })))
      assert.deepStrictEqual(full.parked, ["!1", "!3"])
      const roomy = yield* run(3)
      assert.deepStrictEqual([roomy.exit, roomy.parked], [Exit.void, ["!1", "!3", "!5"]])
      assert.deepStrictEqual(seen, ["a2", "b4"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  // a group of batches is kept until its last batch is committed: what is parked of it must not count twice
  it.scoped("D1 `maxParked` counts each one once, also while a part of a page is out", () =>
    Effect.gen(function* () {
      const rows = rowsOf("!", "a", "b")
      const { source } = played(rows, { limit: 3 })
      const watcher = yield* Watcher.make(source, { interval: "1 second", batchSize: 1, maxParked: 2 })
      const handed: Array<Watcher.Batch<string, unknown>> = []
      const fiber = yield* Effect.forkScoped(
        Stream.runForEach(watcher.batches, (batch) => Effect.sync(() => void handed.push(batch)))
      )
      yield* TestClock.adjust(0)
      assert.strictEqual((yield* watcher.parked).length, 1)
      rows.push({ key: "!4", value: "!" })
      yield* TestClock.adjust("1 second")
      assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)), "there was room for one more")
      for (const { commit } of handed) yield* commit
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        (yield* watcher.parked).map(({ key }) => key),
        ["!1", "!4"]
      )
    })
  )

  it.effect("D1 `maxParked` is kept by undecodable ones and failing handlers together", () =>
    Effect.gen(function* () {
      const { source } = played(rowsOf("!", "a", "b"))
      const watcher = yield* Watcher.make(source, { ...stopped, maxParked: 2 })
      const error = yield* Effect.flip(watcher.runForEach(({ key }) => Effect.fail(key), { onFailure: "park" }))
      assert.strictEqual(error, "b3")
      assert.isAtMost((yield* watcher.parked).length, 2)
      const roomy = yield* Watcher.make(source, { ...stopped, maxParked: 3 })
      yield* roomy.runForEach(({ key }) => Effect.fail(key), { onFailure: "park" })
      assert.strictEqual((yield* roomy.parked).length, 3)
    }).pipe(Effect.scoped)
  )

  it.effect("L8 one that is tried again stays parked while it fails, and is handled when the schema is mended", () =>
    Effect.gen(function* () {
      const rows = rowsOf("!", "a")
      const lines: Array<Line> = []
      const attempt = (decode: Script["decode"]) =>
        Effect.gen(function* () {
          const seen: Array<string> = []
          const watcher = yield* Watcher.make(played(rows, decode === undefined ? {} : { decode }).source, {
            interval: "1 hour",
            checkpoint: "mended"
          })
          yield* Effect.forkScoped(watcher.runForEach((change) => Effect.sync(() => seen.push(change.key))))
          yield* TestClock.adjust(0)
          for (const { id } of yield* watcher.parked) assert.isTrue(yield* watcher.redrive(id))
          yield* TestClock.adjust(0)
          return { seen, parked: (yield* watcher.parked).map(({ key }) => key) }
        }).pipe(Effect.scoped)
      const broken = yield* Effect.provide(attempt(undefined), logTo(lines))
      assert.deepStrictEqual(broken, { seen: ["a2"], parked: ["!1"] })
      assert.strictEqual(lines.filter(({ text }) => text.includes("it stays parked")).length, 1)
      assert.deepStrictEqual(yield* attempt(undefined), { seen: [], parked: ["!1"] })
      assert.deepStrictEqual(yield* attempt(({ value }) => Effect.succeed(`mended ${value}`)), {
        seen: ["!1"],
        parked: []
      })
      assert.deepStrictEqual(yield* attempt(undefined), { seen: [], parked: [] })
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  // else a redrive would bring an old value over a newer one
  it.effect("D1 a parked one is replaced by a later entry of its key, also of its own batch", () =>
    Effect.gen(function* () {
      const entity = ({ value }: Row): string => value.slice(-1)
      const decode = ({ key, value }: Row) =>
        value.startsWith("!") ? Effect.fail(new Undecodable({ key })) : Effect.succeed(value)
      for (const [values, expected] of [
        [["!x", "x"], []],
        [["x", "!x"], ["log:#2"]],
        [["!x", "!x"], ["log:#2"]],
        [["!x", "!y", "x", "!y"], ["log:#4"]]
      ] as const) {
        for (const batchSize of [1, 10]) {
          const { source } = played(rowsOf(...values), { decode, keyOf: entity })
          const { parked } = yield* through(source, { batchSize })
          assert.deepStrictEqual(
            parked.map(({ id }) => id),
            [...expected],
            `${values.join()} in batches of ${batchSize}`
          )
        }
      }
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.scoped("D1 nor does one that is committed late come behind a later one that was committed before", () =>
    Effect.gen(function* () {
      const rows = [
        { key: "1", value: "a" },
        { key: "2", value: "!" },
        { key: "3", value: "b" }
      ]
      const { source } = played(rows, { keyOf: ({ key }) => (key === "1" ? "other" : "same") })
      const watcher = yield* Watcher.make(source, { ...stopped, batchSize: 2 })
      const handed: Array<Watcher.Batch<string, unknown>> = []
      yield* Stream.runForEach(watcher.batches, (batch) => Effect.sync(() => void handed.push(batch)))
      assert.strictEqual(handed.length, 2)
      yield* handed[1]!.commit
      yield* handed[0]!.commit
      assert.deepStrictEqual(yield* watcher.parked, [])
    })
  )
})

describe("L9 hints", () => {
  const hinted = (rows: ReadonlyArray<Row> = []) => {
    const pokes = new Set<() => void>()
    let closed = 0
    const hints = (poke: () => void): Effect.Effect<void, never, Scope.Scope> =>
      Effect.acquireRelease(
        Effect.sync(() => void pokes.add(poke)),
        () =>
          Effect.sync(() => {
            closed++
            pokes.delete(poke)
          })
      )
    return { ...played(rows, { hints }), pokes, poke: () => pokes.forEach((poke) => poke()), closed: () => closed }
  }

  it.scoped("L9 W12 a hint ends the wait at once; double and spurious ones cause one more poll at most", () =>
    Effect.gen(function* () {
      const rows: Array<Row> = []
      const { poke, polls, source } = hinted(rows)
      const seen: Array<readonly [string, number]> = []
      yield* Effect.forkScoped(
        Watcher.runForEach(
          source,
          ({ key }) => Effect.map(Clock.currentTimeMillis, (at) => void seen.push([key, at])),
          { interval: "1 hour" }
        )
      )
      yield* TestClock.adjust("90 seconds")
      rows.push(...rowsOf("a"))
      poke()
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(seen, [["a1", 90_000]])
      assert.deepStrictEqual(
        polls.map(({ at }) => at),
        [0, 90_000]
      )
      for (let n = 0; n < 50; n++) poke()
      yield* TestClock.adjust(0)
      assert.strictEqual(polls.length, 3)
      // the interval counts from the last poll
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(polls.length, 3)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(
        polls.slice(3).map(({ at }) => at),
        [90_000 + 3_600_000]
      )
    })
  )

  it.scoped("L9 W12 a hint during a poll causes one more, behind it", () =>
    Effect.gen(function* () {
      const pokes: Array<() => void> = []
      const { polls, source } = played([], {
        hints: (poke) => Effect.sync(() => void pokes.push(poke)),
        before: Effect.sleep("10 seconds")
      })
      yield* Effect.forkScoped(Stream.runDrain(Watcher.changes(source, { interval: "1 hour" })))
      yield* TestClock.adjust("5 seconds")
      for (let n = 0; n < 3; n++) pokes[0]!()
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(
        polls.map(({ at }) => at),
        [0, 10_000]
      )
    })
  )

  it.effect("L9 W7 hints are gone when the consumer leaves: by interruption, by failure, at its end, once each", () =>
    Effect.gen(function* () {
      const leaving: ReadonlyArray<
        (source: Source.Source<string, Undecodable | Passing>) => Effect.Effect<unknown, unknown, Scope.Scope>
      > = [
        (source) =>
          Effect.gen(function* () {
            const fiber = yield* Effect.fork(Watcher.runForEach(source, () => Effect.void, { interval: "1 hour" }))
            yield* TestClock.adjust("1 minute")
            yield* Fiber.interrupt(fiber)
          }),
        (source) => Effect.flip(Watcher.runForEach(source, () => Effect.fail("no"), stopped)),
        (source) => Watcher.once(source),
        (source) => Stream.runHead(Watcher.changes(source)),
        (source) => Stream.runHead(Watcher.batches(source)),
        (source) =>
          Effect.gen(function* () {
            const watcher = yield* Watcher.make(source, { interval: "1 hour" })
            const fiber = yield* Effect.fork(watcher.runForEachBatch(() => Effect.void))
            yield* TestClock.adjust("1 minute")
            yield* watcher.drain
            yield* Fiber.join(fiber)
          })
      ]
      for (const [index, leave] of leaving.entries()) {
        const { closed, pokes, source } = hinted(rowsOf("a"))
        yield* Effect.scoped(leave(source))
        assert.deepStrictEqual([closed(), pokes.size], [1, 0], `way ${index}`)
      }
    })
  )

  it.scoped("L9 each consumer of a watcher listens anew, and a late hint does no harm", () =>
    Effect.gen(function* () {
      const late: Array<() => void> = []
      const { closed, pokes, polls, source } = hinted(rowsOf("a"))
      const watcher = yield* Watcher.make(source, { interval: "1 hour" })
      for (let n = 1; n <= 2; n++) {
        const fiber = yield* Effect.fork(watcher.runForEach(() => Effect.void))
        yield* TestClock.adjust("1 minute")
        late.push(...pokes)
        assert.strictEqual(pokes.size, 1)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(closed(), n)
      }
      const before = polls.length
      for (const poke of late) poke()
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(polls.length, before)
    })
  )

  it.scoped("L9 the scope of hints is the consumer's, not that of the layer that made the source", () =>
    Effect.gen(function* () {
      class Log extends Source.Tag("test/Log")<Log, string, Undecodable | Passing>() {}
      const { closed, pokes, source } = hinted(rowsOf("a"))
      class Needed extends Context.Tag("test/Needed")<Needed, number>() {}
      const needing = Source.mapEffect(source, (value) => Effect.as(Needed, value))
      const context = yield* Layer.build(
        Layer.provide(Source.layer(Log, needing), Layer.scoped(Needed, Effect.succeed(1)))
      )
      yield* Effect.provide(Watcher.once(Log), context)
      assert.deepStrictEqual([closed(), pokes.size], [1, 0])
    })
  )

  it.scoped("L9 hints that fail only warn: it is polled as without them", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const { polls, source } = played(rowsOf("a"), { hints: () => Effect.die(new Error("no listener")) })
      yield* Effect.forkScoped(
        Effect.provide(Stream.runDrain(Watcher.changes(source, { interval: "1 minute" })), logTo(lines))
      )
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(
        polls.map(({ at }) => at),
        [0, 60_000]
      )
      assert.deepStrictEqual(
        lines.map(({ level, text }) => [level, text]),
        [["WARN", "log: it is polled without hints, which failed: no listener"]]
      )
    })
  )
})

describe("D1 `orderBy` of a source", () => {
  it.effect("D1 with `concurrency` the entries of one entity stay in order, the others overtake", () =>
    Effect.gen(function* () {
      const running = new Set<string>()
      const ends: Array<string> = []
      const { source } = played(rowsOf("a9", "b1", "a1", "b2", "c2", "a1"))
      yield* Effect.fork(
        Watcher.runForEach(
          source,
          (change) => {
            const text = change._tag === "Removed" ? "" : change.value
            const entity = text.slice(0, 1)
            assert.isFalse(running.has(entity))
            running.add(entity)
            return after(Number(text.slice(1)) * 1000)(
              Effect.sync(() => {
                running.delete(entity)
                ends.push(change.key)
              })
            )
          },
          { concurrency: 4, ...stopped }
        )
      )
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(ends, ["b2", "c5", "b4", "a1", "a3", "a6"])
    })
  )
})

describe("`Polled.committed`", () => {
  it.scoped("follows the commits, in the order of the log, never the polls", () =>
    Effect.gen(function* () {
      const { polls, source } = played(rowsOf("a", "b", "c", "d"), { limit: 1 })
      const watcher = yield* Watcher.make(source, { interval: "1 second", maxInFlight: 3 })
      const handed: Array<Watcher.Batch<string, unknown>> = []
      yield* Effect.forkScoped(
        Stream.runForEach(watcher.batches, (batch) => Effect.sync(() => void handed.push(batch)))
      )
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(
        polls.map(({ after, committed }) => [after, committed]),
        [
          [0, 0],
          [1, 0],
          [2, 0]
        ]
      )
      yield* handed[1]!.commit
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(polls.length, 3)
      yield* handed[0]!.commit
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(
        polls.slice(3, 5).map(({ after, committed }) => [after, committed]),
        [
          [3, 2],
          [4, 2]
        ]
      )
    })
  )

  it.effect("is never ahead of what is saved, however the store behaves", () =>
    Effect.gen(function* () {
      for (const pace of ["slow", "failing", "hanging", "away"] as const) {
        let saved = 0
        let saves = 0
        const store = yield* storeWith((head) =>
          Effect.suspend(() => {
            const done = Effect.sync(() => void (saved = stateIn(head)))
            saves++
            if (pace === "slow") return Effect.zipRight(Effect.sleep("1500 millis"), done)
            if (pace === "failing") return saves % 3 === 0 ? done : Effect.fail(away)
            if (pace === "hanging") return saves % 2 === 0 ? done : Effect.never
            return Effect.fail(away)
          })
        )
        // pages with nothing to deliver move the cursor too, and that is not saved at once
        const rows = rowsOf(..."-a--b---c--d----e------".split(""))
        const violations: Array<string> = []
        const { polls, source } = played(rows, {
          limit: 2,
          isShown: ({ value }) => value !== "-",
          before: Effect.sync(() => {
            const { committed } = polls[polls.length - 1]!
            if (committed > saved) violations.push(`${committed} was told, ${saved} is saved`)
          })
        })
        yield* Effect.gen(function* () {
          const watcher = yield* Watcher.make(source, {
            interval: "1 second",
            checkpoint: "paced",
            saveTimeout: "2 seconds",
            saveInterval: "20 seconds"
          })
          yield* Effect.fork(watcher.runForEach(() => Effect.void))
          yield* TestClock.adjust("90 seconds")
        }).pipe(Effect.scoped, Effect.provideService(Checkpoints.Checkpoints, store))
        assert.deepStrictEqual(violations, [], pace)
        if (pace !== "away") assert.strictEqual(polls.at(-1)!.committed, rows.length, pace)
      }
    })
  )

  it.effect("after a restart it begins with what was saved", () =>
    Effect.gen(function* () {
      const { polls, source } = played(rowsOf("a", "b"))
      yield* through(source, { checkpoint: "again" })
      yield* through(source, { checkpoint: "again" })
      assert.deepStrictEqual(
        polls.map(({ committed }) => committed),
        [0, 2]
      )
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.scoped("`watcher` tells two watchers of one source apart, and is the same for each poll of one", () =>
    Effect.gen(function* () {
      const seen: Array<object> = []
      const source = Source.fromLog({
        name: "two",
        item: Schema.String,
        cursor: Schema.Number,
        initial: 0,
        read: (_cursor, _limit, { watcher }) => Effect.sync(() => (seen.push(watcher), []))
      })
      for (let n = 0; n < 2; n++) {
        const fiber = yield* Effect.fork(Stream.runDrain(Watcher.changes(source, { interval: "1 second" })))
        yield* TestClock.adjust("1 second")
        yield* Fiber.interrupt(fiber)
      }
      assert.strictEqual(seen.length, 4)
      assert.strictEqual(new Set(seen).size, 2)
      assert.strictEqual(seen[0], seen[1])
    })
  )
})

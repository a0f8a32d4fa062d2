import { assert, describe, it } from "@effect/vitest"
import type { Cause } from "effect"
import { Clock, Effect, Exit, Fiber, Layer, Metric, Schedule, Schema, Stream, TestClock } from "effect"
import { Change, Checkpoints, Source, Watcher, WatchMetrics } from "effect-periscope"
import type { Line } from "./scripted.js"
import { after, logTo, nothing, scripted } from "./scripted.js"

/** A source whose first poll finds these keys, each change with its place as value. */
const keyed = (...keys: ReadonlyArray<string>) =>
  scripted((_, state) =>
    state > 0
      ? nothing(state)
      : Effect.succeed({ changes: keys.map((key, index) => Change.added(key, index)), state: 1 })
  ).source

/** A log of (key, value), from which everything behind the cursor is read. */
const log = (rows: ReadonlyArray<readonly [string, number]>) =>
  Source.fromLog({
    name: "log",
    item: Schema.Number,
    cursor: Schema.Number,
    initial: 0,
    read: (cursor, limit) =>
      Effect.sync(() =>
        rows.slice(cursor, cursor + limit).map(([key, value], index) => ({ cursor: cursor + index + 1, key, value }))
      )
  })

const value = (change: Change.Change<number>): number => (change._tag === "Removed" ? -1 : change.value)

const stopped = { schedule: Schedule.stop } as const

const parkedIds = <E>(watcher: Watcher.Watcher<number, E>) =>
  Effect.map(watcher.parked, (all) => all.map(({ key }) => key))

describe("D1 order and concurrency", () => {
  it.effect("D1 changes are handled one by one by default, and several at once with `concurrency`", () =>
    Effect.gen(function* () {
      for (const [concurrency, expected] of [
        [undefined, [1000, 2000, 3000, 4000]],
        [2, [1000, 1000, 2000, 2000]],
        [9, [1000, 1000, 1000, 1000]]
      ] as const) {
        const start = yield* Clock.currentTimeMillis
        const ends: Array<number> = []
        yield* Watcher.runForEach(
          keyed("a", "b", "c", "d"),
          () =>
            Effect.zipRight(
              Effect.sleep("1 second"),
              Effect.map(Clock.currentTimeMillis, (t) => ends.push(t - start))
            ),
          { concurrency, interval: "1 hour" }
        ).pipe(Effect.fork)
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(ends, [...expected])
      }
    })
  )

  it.effect("D1 changes of one key stay in order, also when the earlier ones are slow", () =>
    Effect.gen(function* () {
      const ends: Array<string> = []
      const rows = [
        ["a", 0],
        ["b", 1],
        ["a", 2],
        ["b", 3],
        ["a", 4],
        ["c", 5]
      ] as const
      yield* Watcher.runForEach(
        log(rows),
        (change) => after((10 - value(change)) * 100)(Effect.sync(() => ends.push(`${change.key}${value(change)}`))),
        { concurrency: 8, ...stopped }
      ).pipe(Effect.fork)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(
        ["a", "b", "c"].map((key) => ends.filter((end) => end.startsWith(key))),
        [["a0", "a2", "a4"], ["b1", "b3"], ["c5"]]
      )
      assert.deepStrictEqual(ends[0], "c5")
    })
  )

  it.effect("D1 `orderBy` decides what stays in order", () =>
    Effect.gen(function* () {
      const running = new Set<string>()
      const ends: Array<string> = []
      yield* Watcher.runForEach(
        keyed("x/1", "y/1", "x/2", "y/2"),
        ({ key }) => {
          const entity = key.slice(0, 1)
          assert.isFalse(running.has(entity))
          running.add(entity)
          return after(1000)(
            Effect.sync(() => {
              running.delete(entity)
              ends.push(key)
            })
          )
        },
        { concurrency: 4, orderBy: ({ key }) => key.slice(0, 1), ...stopped }
      ).pipe(Effect.fork)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual([...ends].sort(), ["x/1", "x/2", "y/1", "y/2"])
      assert.isBelow(ends.indexOf("x/1"), ends.indexOf("x/2"))
      assert.isBelow(ends.indexOf("y/1"), ends.indexOf("y/2"))
    })
  )
})

describe("D1 failures of handlers", () => {
  it.effect("D1 by default the watch ends with the handler's error, and nothing of the batch is committed", () =>
    Effect.gen(function* () {
      const source = keyed("a", "b")
      const seen: Array<string> = []
      const error = yield* Watcher.runForEach(
        source,
        ({ key }) => (key === "b" ? Effect.fail("broken" as const) : Effect.sync(() => seen.push(key))),
        { checkpoint: "h", ...stopped }
      ).pipe(Effect.flip)
      assert.strictEqual(error, "broken")
      const redelivered: Array<boolean> = []
      yield* Watcher.runForEach(source, (_, delivery) => Effect.sync(() => redelivered.push(delivery.redelivered)), {
        checkpoint: "h",
        ...stopped
      })
      assert.deepStrictEqual([seen, redelivered], [["a"], [true, true]])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("D1 a handler is retried by its own schedule, at its instants, each change anew", () =>
    Effect.gen(function* () {
      const times: Array<number> = []
      const handler = () =>
        Effect.zipRight(
          Effect.map(Clock.currentTimeMillis, (t) => times.push(t)),
          Effect.fail("no" as const)
        )
      const fiber = yield* Watcher.runForEach(keyed("a"), handler, {
        handlerRetry: Schedule.intersect(Schedule.exponential("1 second"), Schedule.recurs(3))
      }).pipe(Effect.fork)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(times, [0, 1000, 3000, 7000])
      assert.strictEqual(yield* Effect.flip(Fiber.join(fiber)), "no")
    })
  )

  it.scoped("D1 failures are counted, logged and shown in the status until one succeeds", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      let left = 2
      const watcher = yield* Watcher.make(keyed("a"), { interval: "1 hour" })
      const before = yield* Metric.value(WatchMetrics.handlerFailures)
      yield* watcher
        .runForEach(() => (left-- > 0 ? Effect.fail("no") : Effect.void), { handlerRetry: Schedule.spaced("1 second") })
        .pipe(Effect.provide(logTo(lines)), Effect.fork)
      yield* TestClock.adjust("1500 millis")
      assert.strictEqual((yield* watcher.status.get).handlerFailures, 2)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* watcher.status.get).handlerFailures, 0)
      assert.strictEqual((yield* Metric.value(WatchMetrics.handlerFailures)).count - before.count, 2)
      assert.deepStrictEqual(
        lines.map(({ annotations, text }) => [text, annotations["attempt"]]),
        [
          ["scripted: the handler failed: no", 1],
          ["scripted: the handler failed: no", 2]
        ]
      )
    })
  )

  it.scoped("D1 every failed attempt is counted, also the first ones of several changes", () =>
    Effect.gen(function* () {
      const before = yield* Metric.value(WatchMetrics.handlerFailures)
      const watcher = yield* Watcher.make(keyed("a", "b", "c"), stopped)
      yield* watcher.runForEach(() => Effect.fail("no"), { onFailure: "park" })
      assert.strictEqual((yield* Metric.value(WatchMetrics.handlerFailures)).count - before.count, 3)
    })
  )
})

describe("D1 parking", () => {
  it.scoped("D1 a change whose handler fails for good is put aside, listed, and the others go on", () =>
    Effect.gen(function* () {
      const watcher = yield* Watcher.make(keyed("a", "b", "c"), stopped)
      const seen: Array<string> = []
      yield* TestClock.adjust("5 seconds")
      yield* watcher.runForEach(
        ({ key }) => (key === "b" ? Effect.fail({ message: "cannot b" }) : Effect.sync(() => seen.push(key))),
        { onFailure: "park" }
      )
      assert.deepStrictEqual(seen, ["a", "c"])
      assert.deepStrictEqual(yield* watcher.parked, [
        { id: "scripted:1:1", key: "b", type: "Added", error: "cannot b", observedAt: 5000, parkedAt: 5000 }
      ])
      assert.strictEqual((yield* watcher.status.get).parked, 1)
    })
  )

  it.scoped("D1 a defect is parked too, after its retries", () =>
    Effect.gen(function* () {
      const watcher = yield* Watcher.make(keyed("a"), stopped)
      yield* watcher.runForEach(() => Effect.die(new Error("bug")), { onFailure: "park" })
      assert.deepStrictEqual(
        (yield* watcher.parked).map(({ error }) => error),
        ["bug"]
      )
    })
  )

  it.scoped("D1 it is tried again by `redrive`, stays parked when it fails, and leaves the list when it works", () =>
    Effect.gen(function* () {
      const watcher = yield* Watcher.make(keyed("a", "b"), { interval: "1 hour" })
      let isBroken = true
      const seen: Array<string> = []
      yield* Effect.fork(
        watcher.runForEach(
          ({ key }, { redelivered }) =>
            isBroken ? Effect.fail("no") : Effect.sync(() => seen.push(`${key} ${redelivered}`)),
          { onFailure: "park" }
        )
      )
      yield* TestClock.adjust(0)
      const [a, b] = yield* watcher.parked
      assert.isTrue(yield* watcher.redrive(a!.id))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* parkedIds(watcher), ["a", "b"])
      isBroken = false
      assert.isTrue(yield* watcher.redrive(a!.id))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([seen, yield* parkedIds(watcher)], [["a true"], ["b"]])
      assert.isFalse(yield* watcher.redrive(a!.id))
      assert.isTrue(yield* watcher.drop(b!.id))
      assert.isFalse(yield* watcher.drop(b!.id))
      assert.deepStrictEqual(yield* parkedIds(watcher), [])
    })
  )

  it.scoped("D1 a later change of the same key replaces the parked one, in another batch and in the same", () =>
    Effect.gen(function* () {
      const { source } = scripted((n) =>
        Effect.succeed({ changes: n <= 2 ? [Change.added("a", n), Change.added(`b${n}`, n)] : [], state: n })
      )
      const watcher = yield* Watcher.make(source, { interval: "1 second" })
      yield* Effect.fork(
        watcher.runForEach((change) => (value(change) === 1 ? Effect.fail("no") : Effect.void), { onFailure: "park" })
      )
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* parkedIds(watcher), ["a", "b1"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* parkedIds(watcher), ["b1"])
      for (const broken of [[0], [0, 1], [0, 1, 2]]) {
        const rows = yield* Watcher.make(
          log([
            ["k", 0],
            ["k", 1],
            ["k", 2]
          ]),
          stopped
        )
        yield* rows.runForEach((change) => (broken.includes(value(change)) ? Effect.fail("no") : Effect.void), {
          onFailure: "park"
        })
        const ids = (yield* rows.parked).map(({ id }) => id)
        assert.strictEqual(ids.length, broken.length === 3 ? 1 : 0, `failed: ${broken.join()}`)
      }
    })
  )

  it.scoped("D1 `maxParked` is kept, also by changes handled at once; then the watch ends with the error", () =>
    Effect.gen(function* () {
      for (const concurrency of [1, 4]) {
        const watcher = yield* Watcher.make(keyed("a", "b", "c", "d"), { ...stopped, maxParked: 2, batchSize: 4 })
        const error = yield* Effect.flip(
          watcher.runForEach(({ key }) => Effect.fail(`no ${key}`), { onFailure: "park", concurrency })
        )
        assert.match(error, /^no /)
        assert.isAtMost((yield* watcher.parked).length, 2)
      }
      const full = yield* Watcher.make(keyed("a", "b"), { ...stopped, maxParked: 2 })
      yield* full.runForEach(() => Effect.fail("no"), { onFailure: "park", concurrency: 2 })
      assert.deepStrictEqual(yield* parkedIds(full), ["a", "b"])
    })
  )

  it.effect("D1 with a checkpoint parked changes survive a restart, and can be tried again", () =>
    Effect.gen(function* () {
      for (const source of [
        keyed("a", "b"),
        log([
          ["a", 0],
          ["b", 1]
        ])
      ]) {
        const options = { checkpoint: source.name, interval: "1 hour" } as const
        yield* Watcher.runForEach(source, ({ key }) => (key === "a" ? Effect.fail("no") : Effect.void), {
          ...options,
          ...stopped,
          onFailure: "park"
        })
        const seen: Array<string> = []
        yield* Effect.gen(function* () {
          const watcher = yield* Watcher.make(source, options)
          yield* Effect.fork(
            watcher.runForEach((change) => Effect.sync(() => seen.push(`${change.key}${value(change)}`)))
          )
          yield* TestClock.adjust(0)
          const [parked] = yield* watcher.parked
          assert.strictEqual(parked!.key, "a")
          yield* watcher.redrive(parked!.id)
          yield* TestClock.adjust(0)
          assert.deepStrictEqual(seen, ["a0"])
        }).pipe(Effect.scoped)
        yield* Effect.gen(function* () {
          const watcher = yield* Watcher.make(source, { ...options, ...stopped })
          yield* watcher.runForEach(() => Effect.dieMessage("nothing is left"))
          assert.deepStrictEqual(yield* watcher.parked, [])
        }).pipe(Effect.scoped)
      }
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("Watcher.layer", () => {
  const failing = (failures: number) => {
    const times: Array<number> = []
    return {
      times,
      handler: (cause: Effect.Effect<never, string>) => () =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => (times.push(now) <= failures ? cause : Effect.void))
    }
  }

  it.effect("D1 a failing handler is retried for ever, 1 s doubling to 1 min: errors, defects, self-interruption", () =>
    Effect.gen(function* () {
      for (const cause of [Effect.fail("no"), Effect.die("bug"), Effect.interrupt]) {
        const start = yield* Clock.currentTimeMillis
        const lines: Array<Line> = []
        const { handler, times } = failing(8)
        const scope = Layer.build(
          Watcher.layer(keyed("a"), handler(cause), { interval: "1 day" }).pipe(Layer.provide(logTo(lines)))
        )
        const fiber = yield* Effect.fork(Effect.scoped(Effect.zipRight(scope, Effect.never)))
        yield* TestClock.adjust("5 minutes")
        assert.deepStrictEqual(
          times.map((time) => (time - start) / 1000),
          [0, 1, 3, 7, 15, 31, 63, 123, 183]
        )
        assert.strictEqual(lines.length, 8)
        yield* Fiber.interrupt(fiber)
      }
    })
  )

  it.effect("D1 with `onStop` it is told the cause, once, and it is logged", () =>
    Effect.gen(function* () {
      for (const cause of [Effect.fail("no"), Effect.die("bug"), Effect.interrupt]) {
        const lines: Array<Line> = []
        const told: Array<Cause.Cause<string>> = []
        const layer = Watcher.layer(keyed("a"), () => cause, {
          onStop: (why) => Effect.sync(() => told.push(why))
        }).pipe(Layer.provide(logTo(lines)))
        yield* Effect.scoped(Effect.zipRight(Layer.build(layer), TestClock.adjust("1 minute")))
        assert.strictEqual(told.length, 1)
        assert.isTrue(lines.some(({ level, text }) => level === "ERROR" && text.includes("the watch has ended")))
      }
    })
  )

  it.effect("D1 what ends the watch itself is logged without `onStop` too, and closing the scope is no failure", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const broken = scripted(() => Effect.fail({ isFatal: true as const, message: "for good" }))
      const fine = keyed("a")
      const layers = Layer.mergeAll(
        Watcher.layer(broken.source, () => Effect.void),
        Watcher.layer(fine, () => Effect.void)
      ).pipe(Layer.provide(logTo(lines)))
      yield* Effect.scoped(Effect.zipRight(Layer.build(layers), TestClock.adjust("1 minute")))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(
        lines.map(({ text }) => text),
        ["scripted: the watch has ended: for good"]
      )
    })
  )

  it.effect("it polls until its scope closes, and not after", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((_, state) => nothing(state))
      const layer = Watcher.layer(source, () => Effect.void, { interval: "10 seconds" })
      yield* Effect.scoped(Effect.zipRight(Layer.build(layer), TestClock.adjust("25 seconds")))
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(starts, [0, 10_000, 20_000])
    })
  )
})

describe("Watcher.runForEachBatch", () => {
  it.effect("handles a batch at a time, retries it whole, and commits it whole", () =>
    Effect.gen(function* () {
      const { source } = scripted((n) =>
        Effect.succeed({
          changes: n <= 2 ? [Change.added(`${n}a`, n), Change.added(`${n}b`, n)] : [],
          state: n,
          more: n < 3
        })
      )
      const seen: Array<string> = []
      let failures = 1
      yield* Watcher.runForEachBatch(
        source,
        ({ changes, n }) =>
          Effect.suspend(() => {
            seen.push(`${n}: ${changes.map(({ key }) => key).join()}`)
            return n === 2 && failures-- > 0 ? Effect.fail("no") : Effect.void
          }),
        { checkpoint: "b", handlerRetry: Schedule.recurs(1), ...stopped }
      )
      assert.deepStrictEqual(seen, ["1: 1a,1b", "2: 2a,2b", "2: 2a,2b"])
      assert.deepStrictEqual(yield* Watcher.once(source, { checkpoint: "b" }), [])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("a failing handler ends the watch with its error", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(Watcher.runForEachBatch(keyed("a"), () => Effect.fail("no" as const)))
      assert.deepStrictEqual(exit, Exit.fail("no" as const))
    })
  )
})

describe("Watcher.batches", () => {
  it.effect("a commit may come from any fiber, also after the stream has ended", () =>
    Effect.gen(function* () {
      const source = keyed("a")
      const scope = Effect.gen(function* () {
        const watcher = yield* Watcher.make(source, { checkpoint: "b" })
        const [batch] = yield* Stream.runCollect(Stream.take(watcher.batches, 1))
        yield* batch!.commit
      })
      yield* Effect.scoped(scope)
      assert.deepStrictEqual(yield* Watcher.once(source, { checkpoint: "b" }), [])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

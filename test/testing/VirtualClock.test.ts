import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Either, Fiber, Logger, LogLevel, Random, Ref, Schedule, Schema } from "effect"
import { Change, Source, Watcher } from "effect-periscope"
import { VirtualClock } from "effect-periscope/testing"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** A watched number that changes with every tenth poll, and fails as it is told. */
const counting = (fails: (poll: number) => boolean = () => false) => {
  let polls = 0
  const source = Source.make({
    name: "counting",
    state: Schema.Number,
    item: Schema.Number,
    initial: 0,
    poll: (before) =>
      Effect.suspend(() => {
        polls++
        if (fails(polls)) return Effect.fail("down" as const)
        const now = Math.floor(polls / 10)
        return Effect.succeed({ state: now, changes: now === before ? [] : [Change.modified("n", now)] })
      })
  })
  return { source, polls: () => polls }
}

const collectGarbage = Effect.sync((): (() => void) => {
  setFlagsFromString("--expose-gc")
  return runInNewContext("gc")
})

describe("VirtualClock", () => {
  it("run passes 30 days of sleeps and timeouts without waiting", async () => {
    const program = Effect.gen(function* () {
      yield* Effect.sleep("10 days")
      const late = yield* Effect.either(Effect.timeout(Effect.sleep("30 days"), "20 days"))
      const early = yield* Effect.timeout(Effect.as(Effect.sleep("1 second"), "in time"), "1 minute")
      return { isLate: Either.isLeft(late), early, now: yield* Clock.currentTimeMillis }
    })
    const start = performance.now()
    const { early, isLate, now } = await Effect.runPromise(VirtualClock.run(program))
    assert.isTrue(isLate)
    assert.strictEqual(early, "in time")
    assert.strictEqual(now, 30 * 86_400_000 + 1000)
    assert.isBelow(performance.now() - start, 5_000)
  })

  it("sleepers of one instant wake in the order in which they lay down, others by time", async () => {
    const program = Effect.gen(function* () {
      const woken = yield* Ref.make<ReadonlyArray<string>>([])
      const sleeper = (name: string, millis: number) =>
        Effect.zipRight(
          Effect.sleep(millis),
          Ref.update(woken, (all) => [...all, name])
        )
      const fibers = yield* Effect.forEach(
        [
          ["c", 20],
          ["a", 10],
          ["d", 20],
          ["b", 10],
          ["e", 21]
        ] as const,
        ([name, millis]) => Effect.fork(sleeper(name, millis))
      )
      yield* Fiber.joinAll(fibers)
      return yield* Ref.get(woken)
    })
    assert.deepStrictEqual(await Effect.runPromise(VirtualClock.run(program)), ["a", "b", "c", "d", "e"])
  })

  it("a schedule keeps its exact instants, and layer is the same clock for a whole program", async () => {
    const program = Effect.gen(function* () {
      const times: Array<number> = []
      const tick = Effect.map(Clock.currentTimeMillis, (now) => void times.push(now))
      yield* Effect.repeat(
        tick,
        Schedule.addDelay(Schedule.recurs(4), () => "1 hour")
      )
      return times.map((time) => time / 3_600_000)
    })
    assert.deepStrictEqual(await Effect.runPromise(Effect.provide(program, VirtualClock.layer)), [0, 1, 2, 3, 4])
  })

  it("time does not jump while promises settle", async () => {
    const program = Effect.gen(function* () {
      const chain = Effect.promise(async () => {
        for (let step = 0; step < 100; step++) await Promise.resolve()
        return "settled"
      })
      const winner = yield* Effect.race(chain, Effect.as(Effect.sleep("1 millis"), "slept"))
      return [winner, yield* Clock.currentTimeMillis] as const
    })
    assert.deepStrictEqual(await Effect.runPromise(VirtualClock.run(program)), ["settled", 0])
  })

  it("the same seed gives the same run", async () => {
    const program = (seed: number) =>
      Effect.gen(function* () {
        const times: Array<number> = []
        const walk = Effect.gen(function* () {
          for (let step = 0; step < 20; step++) {
            yield* Effect.sleep(Math.floor(1000 * (yield* Random.next)))
            times.push(yield* Clock.currentTimeMillis)
          }
        })
        yield* Effect.all([walk, walk, walk], { concurrency: "unbounded" })
        return times
      }).pipe(Effect.withRandom(Random.make(seed)), VirtualClock.run, Effect.runPromise)
    assert.deepStrictEqual(await program(1), await program(1))
    assert.notDeepEqual(await program(1), await program(2))
  })

  it("a month of a watcher is 86,400 polls at their instants", { timeout: 120_000 }, async () => {
    const { polls, source } = counting()
    const seen: Array<number> = []
    const watch = Watcher.runForEach(source, () => Effect.map(Clock.currentTimeMillis, (now) => void seen.push(now)))
    const start = process.cpuUsage()
    await Effect.runPromise(VirtualClock.run(Effect.withTracerEnabled(Effect.timeoutOption(watch, "30 days"), false)))
    const { user } = process.cpuUsage(start)
    console.log(`a virtual month: ${polls()} polls in ${Math.round(user / 1000)} ms of CPU`)
    assert.strictEqual(polls(), 86_400)
    assert.strictEqual(seen.length, 8_640)
    assert.strictEqual(seen[0], 9 * 30_000)
    assert.strictEqual(seen.at(-1), 86_399 * 30_000)
  })

  // E4: the heap after 20,000 polls and after 100,000, with failures, timeouts and changes between, is the same
  it("the heap is flat over 100,000 polls", { timeout: 120_000 }, async () => {
    const gc = Effect.runSync(collectGarbage)
    const { polls, source } = counting((poll) => poll % 7 === 0)
    const heap: Array<number> = []
    const measure = Effect.sync(() => {
      gc()
      gc()
      heap.push(process.memoryUsage().heapUsed)
    })
    const program = Effect.gen(function* () {
      yield* Effect.fork(Watcher.runForEach(source, () => Effect.void, { interval: "1 second" }))
      for (let mark = 1; mark <= 5; mark++) {
        while (polls() < mark * 20_000) yield* Effect.sleep("10 minutes")
        yield* measure
      }
    }).pipe(Effect.scoped)
    const quiet = Logger.withMinimumLogLevel(program, LogLevel.None)
    await Effect.runPromise(VirtualClock.run(Effect.withTracerEnabled(quiet, false)))
    const grown = heap.at(-1)! - heap[0]!
    console.log(
      `heap after 20,000 to ${polls()} polls: ${heap.map((bytes) => `${Math.round(bytes / 1024)} KiB`).join(", ")}`
    )
    assert.isAbove(polls(), 100_000 - 1)
    // 80,000 polls that kept 10 bytes each would show
    assert.isBelow(grown, 800_000)
  })
})

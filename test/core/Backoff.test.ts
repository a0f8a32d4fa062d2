import { assert, describe, it } from "@effect/vitest"
import { Chunk, Clock, Duration, Effect, FastCheck, Option, Random, Schedule, TestClock } from "effect"
import { Backoff } from "effect-periscope"
import { positive } from "../../src/core/durationOption.js"
import { Steps } from "../../src/core/settings.js"
import { within } from "../../src/core/within.js"
import { sleeping } from "./scripted.js"

/** The delays before the attempts that follow these failures; without sleeping. */
const delays = <E>(schedule: Schedule.Schedule<unknown, E>, errors: ReadonlyArray<E>) =>
  Effect.gen(function* () {
    const steps = new Steps(schedule)
    const waits: Array<number> = []
    let now = yield* Clock.currentTimeMillis
    for (const error of errors) {
      const wait = yield* steps.next(now, error)
      if (wait === undefined) break
      waits.push(wait)
      now += wait
    }
    return waits
  })

const times = (count: number) => Array.from({ length: count }, () => "no")

describe("Backoff.make", () => {
  it.effect("grows from `first` by `factor` up to `max`", () =>
    Effect.gen(function* () {
      const doubling = Backoff.make({ first: "1 second", max: "10 seconds" })
      assert.deepStrictEqual(yield* delays(doubling, times(6)), [1000, 2000, 4000, 8000, 10_000, 10_000])
      const slow = Backoff.make({ first: 100, max: "1 second", factor: 1.5 })
      assert.deepStrictEqual((yield* delays(slow, times(4))).map(Math.round), [100, 150, 225, 338])
      assert.deepStrictEqual(yield* delays(Backoff.make({ first: 7, max: 7, factor: 1 }), times(3)), [7, 7, 7])
    })
  )

  it.effect("W3 holds the cap after 2000 failures, with every option, and ends with none of them", () =>
    Effect.gen(function* () {
      const base = { first: "1 second", max: "1 minute" } as const
      for (const schedule of [
        Backoff.make(base),
        Backoff.make({ ...base, within: "365 days" }),
        Backoff.make({ ...base, while: () => true, jitter: 0.5, floor: "1 second" })
      ]) {
        const waits = yield* delays(schedule, times(2000))
        assert.strictEqual(waits.length, 2000)
        assert.isTrue(waits.every((wait) => wait <= 60_000))
        assert.isAtLeast(waits[1999]!, 30_000)
      }
    })
  )

  it.effect("gives the same instants to Effect.retry, and its delays as output", () =>
    Effect.gen(function* () {
      const starts: Array<number> = []
      const attempt = Effect.zipRight(
        Effect.map(Clock.currentTimeMillis, (now) => starts.push(now)),
        Effect.fail("no")
      )
      yield* Effect.fork(Effect.retry(attempt, Backoff.make({ first: "1 second", max: "4 seconds" })))
      yield* TestClock.adjust("16 seconds")
      assert.deepStrictEqual(starts, [0, 1000, 3000, 7000, 11_000, 15_000])
      const out = yield* Schedule.run(Backoff.make({ first: 10, max: 40 }), 0, times(4))
      assert.deepStrictEqual(Chunk.toReadonlyArray(out).map(Duration.toMillis), [10, 20, 40, 40])
    })
  )

  it.effect("W3 jitter shortens by at most its fraction, after the cap, and never below `floor`", () =>
    Effect.gen(function* () {
      const schedule = Backoff.make({ first: 1000, max: 8000, jitter: 0.5, floor: 900 })
      const waits = yield* delays(schedule, times(5)).pipe(Effect.withRandom(Random.fixed([0, 0.5, 0.999, 0.25, 1])))
      assert.deepStrictEqual(waits.map(Math.round), [1000, 1500, 2002, 7000, 4000])
      const low = yield* delays(schedule, times(1)).pipe(Effect.withRandom(Random.fixed([0.999])))
      assert.deepStrictEqual(low, [900])
    })
  )

  it.effect.prop(
    "W3 no delay exceeds the cap or goes below the floor, for any options",
    [
      FastCheck.record({
        first: FastCheck.integer({ min: 1, max: 10_000 }),
        more: FastCheck.nat(100_000),
        factor: FastCheck.double({ min: 1, max: 10, noNaN: true }),
        jitter: FastCheck.double({ min: 0, max: 1, noNaN: true }),
        floored: FastCheck.double({ min: 0, max: 1, noNaN: true })
      })
    ],
    ([{ factor, first, floored, jitter, more }]) =>
      Effect.gen(function* () {
        const [max, floor] = [first + more, Math.floor(first * floored)]
        const waits = yield* delays(Backoff.make({ first, max, factor, jitter, floor }), times(40))
        assert.strictEqual(waits.length, 40)
        // a delay is told in whole nanoseconds
        assert.isTrue(waits.every((wait) => wait <= max + 0.001 && wait >= floor - 0.001))
      })
  )

  it.effect("W3 the error's own `retryAfter` wins as a minimum, bounded by `maxRetryAfter`", () =>
    Effect.gen(function* () {
      const errors = [
        { retryAfter: Duration.seconds(30) },
        { retryAfter: Duration.millis(1) },
        { retryAfter: Option.some(Duration.minutes(10)) },
        { retryAfter: Option.none<Duration.Duration>() },
        { retryAfter: Duration.infinity }
      ]
      const base = { first: "1 second", max: "4 seconds" } as const
      assert.deepStrictEqual(yield* delays(Backoff.make(base), errors), [30_000, 2000, 600_000, 4000, 3_600_000])
      const bounded = Backoff.make({ ...base, maxRetryAfter: "1 minute" })
      assert.deepStrictEqual(yield* delays(bounded, errors), [30_000, 2000, 60_000, 4000, 60_000])
      const odd = [{ retryAfter: "soon" }, { retryAfter: 5000 }, "text", undefined, null] as ReadonlyArray<unknown>
      assert.deepStrictEqual(yield* delays(Backoff.make(base), odd), [1000, 2000, 4000, 4000, 4000])
    })
  )

  it.effect("`within` bounds the whole outage: its end is the budget and at most one delay", () =>
    Effect.gen(function* () {
      const waits = yield* delays(Backoff.make({ first: 1000, max: 4000, within: "10 seconds" }), times(99))
      assert.deepStrictEqual(waits, [1000, 2000, 4000, 4000])
    })
  )

  it.effect("`while` ends at the first error it refuses", () =>
    Effect.gen(function* () {
      const schedule = Backoff.make<string>({ first: 10, max: 10, while: (error) => error !== "fatal" })
      assert.deepStrictEqual(yield* delays(schedule, ["no", "no", "fatal", "no"]), [10, 10])
    })
  )

  it("refuses what cannot work with a sentence naming option and value", () => {
    const base = { first: "1 second", max: "1 minute" } as const
    const refused = (options: Partial<Backoff.Options>, sentence: RegExp) =>
      assert.throws(() => Backoff.make({ ...base, ...options }), sentence)
    for (const name of ["first", "max", "within", "maxRetryAfter"] as const) {
      for (const value of [0, -1, Number.NaN, Infinity])
        refused({ [name]: value }, new RegExp(`\`${name}\` is ${value};`))
    }
    refused({ max: "999 millis" }, /`max` is 999ms, below `first` \(1s\)/)
    refused({ floor: "2 seconds" }, /`floor` is 2s, above `first`/)
    refused({ floor: -1 }, /`floor` is -1/)
    refused({ factor: 0.9 }, /`factor` is 0.9/)
    refused({ factor: Number.NaN }, /`factor` is NaN/)
    refused({ jitter: 1.1 }, /`jitter` is 1.1/)
    assert.throws(() => positive("X", "y", "no time" as never), /X: `y` is "no time"/)
  })
})

describe("within", () => {
  it.effect("gives the exit of what ends in time, and a word for what does not", () =>
    Effect.gen(function* () {
      const ok = yield* within(Effect.succeed(1), 100)
      assert.isTrue(typeof ok !== "string" && ok._tag === "Success")
      const late = yield* Effect.fork(within(Effect.never, 100))
      yield* TestClock.adjust(100)
      assert.strictEqual(yield* late, "timeout")
      let cancel = () => {}
      const cancelled = yield* Effect.fork(within(Effect.never, 100, (own) => void (cancel = own)))
      yield* TestClock.adjust(10)
      cancel()
      assert.strictEqual(yield* cancelled, "cancelled")
    })
  )

  it.effect("leaves no sleep behind, and the effect is interrupted once", () =>
    Effect.gen(function* () {
      const sleeps = yield* sleeping
      let interrupted = 0
      const hanging = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      yield* within(Effect.void, 100).pipe(Effect.withClock(sleeps.clock))
      const fiber = yield* within(hanging, 100).pipe(Effect.withClock(sleeps.clock), Effect.fork)
      yield* TestClock.adjust(100)
      assert.strictEqual(yield* fiber, "timeout")
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([interrupted, sleeps.now()], [1, []])
    })
  )
})

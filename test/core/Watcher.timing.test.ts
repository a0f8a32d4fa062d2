import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Duration,
  Effect,
  Exit,
  FastCheck,
  Fiber,
  Logger,
  LogLevel,
  Option,
  Random,
  Schedule,
  Stream,
  TestClock
} from "effect"
import type { Source } from "effect-periscope"
import { Backoff, Change, Watcher } from "effect-periscope"
import type { Line, Refused } from "./scripted.js"
import { after, Gone, logTo, nothing, refused, scripted, sleeping } from "./scripted.js"

const watch = <A, E, const O extends Watcher.Options<E>>(source: Source.Source<A, E>, options: O) =>
  Effect.fork(
    Effect.scoped(Effect.flatMap(Watcher.make(source, options), (watcher) => watcher.runForEach(() => Effect.void)))
  )

const change = (state: number) => Effect.succeed({ changes: [Change.added(`${state}`, state)], state: state + 1 })

describe("Watcher W1: ticks", () => {
  it.effect("W1 polls at once, then one interval after poll and delivery have ended", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((_, state) => after(3000)(change(state)))
      yield* Effect.fork(Watcher.runForEach(source, () => Effect.sleep("5 seconds"), { interval: "10 seconds" }))
      yield* TestClock.adjust("40 seconds")
      assert.deepStrictEqual(starts, [0, 18_000, 36_000])
    })
  )

  it.effect("W1 a slow reader of a stream slows the source, and missed ticks are not made up", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((n, state) => (n <= 2 ? change(state) : nothing(state)))
      yield* Watcher.changes(source, { interval: "10 seconds" }).pipe(
        Stream.mapEffect(() => Effect.sleep("25 seconds")),
        Stream.runDrain,
        Effect.fork
      )
      yield* TestClock.adjust("95 seconds")
      assert.deepStrictEqual(starts, [0, 35_000, 70_000, 80_000, 90_000])
    })
  )

  it.effect("W1 `more` polls again at once, also when each page has changes", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((n, state) =>
        Effect.succeed({ changes: [Change.added(`${n}`, n)], state: state + 1, more: n % 3 !== 0 })
      )
      yield* watch(source, { interval: "10 seconds" })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(starts, [0, 0, 0, 10_000, 10_000, 10_000])
    })
  )

  it.effect("W1 `schedule` decides the ticks, and the watch ends with it", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((_, state) => nothing(state))
      const schedule = Schedule.intersect(Schedule.fibonacci("1 second"), Schedule.recurs(4))
      const fiber = yield* watch(source, { schedule })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(starts, [0, 1000, 2000, 4000, 7000])
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)))
    })
  )

  it.effect("W1 a cron schedule and a fixed one are stepped with the clock", () =>
    Effect.gen(function* () {
      const cron = scripted((_, state) => nothing(state))
      const fixed = scripted((_, state) => after(2500)(nothing(state)))
      yield* watch(cron.source, { schedule: Schedule.cron("*/2 * * * *") })
      yield* watch(fixed.source, { schedule: Schedule.fixed("10 seconds") })
      yield* TestClock.adjust("6 minutes")
      assert.deepStrictEqual(cron.starts, [0, 120_000, 240_000, 360_000])
      assert.deepStrictEqual(fixed.starts.slice(0, 4), [0, 12_500, 22_500, 32_500])
    })
  )
})

interface Step {
  readonly ok: boolean
  readonly takes: number
}

/** W2 as a plain sum. */
const model = (steps: ReadonlyArray<Step>, interval: number, max: number): ReadonlyArray<number> => {
  const starts = [0]
  let now = 0
  let failures = 0
  for (const { ok, takes } of steps) {
    failures = ok ? 0 : failures + 1
    now += takes + (ok ? interval : Math.min(interval * 2 ** failures, max))
    starts.push(now)
  }
  return starts
}

const play = (steps: ReadonlyArray<Step>) =>
  scripted((n, state) => {
    const step = steps[n - 1]
    if (step === undefined) return Effect.never
    return after(step.takes)(step.ok ? nothing(state) : Effect.fail(refused(n)))
  })

describe("Watcher W2: failures", () => {
  it.effect(
    "W2 waits interval * 2^n after the n-th failure, at most 32 intervals, and starts over after a success",
    () =>
      Effect.gen(function* () {
        const { source, starts } = scripted((n, state) =>
          after(1000)(n === 8 || n === 9 ? nothing(state) : Effect.fail(refused(n)))
        )
        yield* watch(source, {})
        yield* TestClock.adjust("70 minutes")
        const gaps = starts.slice(1).map((start, index) => (start - starts[index]!) / 1000 - 1)
        assert.deepStrictEqual(gaps, [60, 120, 240, 480, 960, 960, 960, 30, 30, 60, 120])
      })
  )

  it.effect.prop(
    "W2 poll instants are those of the sum and of Stream.repeatEffectWithSchedule over Effect.retry",
    [
      FastCheck.array(
        FastCheck.record({
          ok: FastCheck.boolean(),
          takes: FastCheck.oneof(FastCheck.constant(0), FastCheck.nat(90_000))
        }),
        { minLength: 1, maxLength: 14 }
      ),
      FastCheck.integer({ min: 1, max: 60_000 }),
      FastCheck.integer({ min: 2, max: 40 })
    ],
    ([steps, interval, factor]) =>
      Effect.gen(function* () {
        const max = interval * factor
        const expected = model(steps, interval, max)
        const watched = play(steps)
        const composed = play(steps)
        const poll = Effect.suspend(() => composed.source.definition.poll(0, { committed: 0, watcher: {} }))
        yield* watch(watched.source, { interval, maxBackoff: max })
        yield* Stream.repeatEffectWithSchedule(
          Effect.retry(poll, Backoff.make({ first: interval * 2, max })),
          Schedule.spaced(interval)
        ).pipe(Stream.runDrain, Effect.fork)
        yield* TestClock.adjust(expected[expected.length - 1]!)
        assert.deepStrictEqual(watched.starts, expected)
        assert.deepStrictEqual(composed.starts, expected)
      }),
    { fastCheck: { numRuns: 25 } }
  )
})

/** The sentence a watcher refuses its options with. */
const refusal = (options: unknown) =>
  Effect.gen(function* () {
    const { source } = scripted((_, state) => nothing(state))
    const exit = yield* Effect.exit(Effect.scoped(Watcher.make(source, options as { readonly interval: number })))
    if (Exit.isSuccess(exit)) return "accepted"
    const defect = Cause.squash(exit.cause)
    return Cause.isDie(exit.cause) && defect instanceof Error ? defect.message : Cause.pretty(exit.cause)
  })

describe("Watcher W3: bounds of waits", () => {
  it.effect("W3 the cap holds after a thousand failures and a cap of one interval never polls faster than it", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((n) => Effect.fail(refused(n)))
      yield* watch(source, { interval: "10 seconds", maxBackoff: "10 seconds" })
      yield* TestClock.adjust("40 seconds")
      assert.deepStrictEqual(starts, [0, 10_000, 20_000, 30_000, 40_000])
    })
  )

  it.effect("W3 `retryAfter` is a minimum, bounded by `maxRetryAfter`", () =>
    Effect.gen(function* () {
      const asked: ReadonlyArray<Duration.DurationInput> = ["5 minutes", "1 second", "3650 days", Duration.infinity]
      const { source, starts } = scripted((n, state) => {
        const wait = asked[n - 1]
        return wait === undefined ? nothing(state) : Effect.fail({ retryAfter: Duration.decode(wait) })
      })
      yield* watch(source, { interval: "10 seconds" })
      yield* TestClock.adjust("3 hours")
      const gaps = starts.slice(1, 5).map((start, index) => (start - starts[index]!) / 1000)
      assert.deepStrictEqual(gaps, [300, 40, 3600, 3600])
    })
  )

  it.effect("W3 `retryAfter` as an Option holds also for the user's own `retry`, with its own bound", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((n) =>
        Effect.fail({ retryAfter: n === 2 ? Option.none<Duration.Duration>() : Option.some(Duration.minutes(n)) })
      )
      yield* watch(source, { retry: Schedule.spaced("1 second"), maxRetryAfter: "150 seconds" })
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(
        starts.map((start) => start / 1000),
        [0, 60, 61, 211]
      )
    })
  )

  it.effect("W3 options that cannot work are refused with a sentence naming option and value", () =>
    Effect.gen(function* () {
      const durations = ["interval", "maxBackoff", "maxRetryAfter", "timeout", "saveInterval", "saveTimeout"]
      const bad: ReadonlyArray<readonly [unknown, string]> = [
        [0, "0"],
        [-1, "-1"],
        [Number.NaN, "NaN"],
        [Infinity, "Infinity"],
        [-Infinity, "-Infinity"],
        [Duration.zero, "0"],
        [Duration.infinity, "Infinity"],
        ["-5 seconds", "-5 seconds"],
        ["soon", "soon"],
        [0n, "0n"]
      ]
      for (const name of durations) {
        for (const [value, shown] of bad) {
          const sentence = yield* refusal({ [name]: value })
          assert.include(sentence, `\`${name}\` is `)
          assert.include(sentence, shown)
        }
      }
      for (const name of ["batchSize", "maxInFlight", "maxParked"]) {
        for (const value of [0, -1, 1.5, Number.NaN]) {
          assert.include(yield* refusal({ [name]: value }), `\`${name}\` is ${value}`)
        }
      }
      for (const value of [-1, Number.NaN, Infinity, "-1 seconds"]) {
        assert.include(yield* refusal({ initialJitter: value }), "`initialJitter` is ")
      }
      const cap = yield* refusal({ interval: "1 minute", maxBackoff: "59 seconds" })
      assert.include(cap, "`maxBackoff` is 59s")
      assert.include(cap, "(1m)")
      assert.include(yield* refusal({ initial: "drop" }), '`initial` is "drop"')
    })
  )

  it.effect("W3 zero is no jitter however it is written", () =>
    Effect.gen(function* () {
      for (const initialJitter of [0, "0 seconds", "0 millis", Duration.zero, 0n, [0, 0]]) {
        assert.strictEqual(yield* refusal({ initialJitter }), "accepted")
      }
    })
  )

  it("W3 a source refuses a timeout that cannot work", () => {
    for (const timeout of [0, -1, Number.NaN, Infinity, "0 seconds"] as ReadonlyArray<Duration.DurationInput>) {
      assert.throws(() => scripted((_, state) => nothing(state), { timeout }), /`timeout` is /)
    }
    assert.throws(() => scripted((_, state) => nothing(state), { name: "" }), /`name` is empty/)
  })

  it.effect("W3 a `concurrency` that cannot work is refused", () =>
    Effect.gen(function* () {
      const { source } = scripted((_, state) => nothing(state))
      const exit = yield* Effect.exit(Watcher.runForEach(source, () => Effect.void, { concurrency: 0 }))
      assert.isTrue(Exit.isFailure(exit) && /`concurrency` is 0/.test(Cause.pretty(exit.cause)))
    })
  )
})

describe("Watcher W4: which failures end a watch", () => {
  it.effect("W4 a source that fails for 30 days is polled at the cap all the time", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((n) => Effect.fail(refused(n)))
      yield* watch(source, { interval: "2 minutes", maxBackoff: "8 hours" })
      yield* TestClock.adjust("30 days")
      const steps = Array.from({ length: starts.length - 1 }, () => ({ ok: false, takes: 0 }))
      assert.deepStrictEqual(starts, model(steps, 120_000, 8 * 3_600_000))
      assert.isAbove(starts[starts.length - 1]!, Duration.toMillis("30 days") - Duration.toMillis("8 hours"))
    })
  )

  it.effect("W4 each failure is one warning with source, attempt and wait", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const { source } = scripted((n, state) => (n === 3 ? nothing(state) : Effect.fail(refused(n))))
      yield* watch(source, { interval: "10 seconds" }).pipe(
        Effect.provide(logTo(lines)),
        Logger.withMinimumLogLevel(LogLevel.All)
      )
      yield* TestClock.adjust("70 seconds")
      assert.deepStrictEqual(lines, [
        {
          at: 0,
          level: "WARN",
          text: "scripted: poll failed (attempt 1, next in 20s): refused 1",
          annotations: { "periscope.source": "scripted", attempt: 1, waitMillis: 20_000 }
        },
        {
          at: 20_000,
          level: "WARN",
          text: "scripted: poll failed (attempt 2, next in 40s): refused 2",
          annotations: { "periscope.source": "scripted", attempt: 2, waitMillis: 40_000 }
        },
        {
          at: 70_000,
          level: "WARN",
          text: "scripted: poll failed (attempt 1, next in 20s): refused 4",
          annotations: { "periscope.source": "scripted", attempt: 1, waitMillis: 20_000 }
        }
      ])
    })
  )

  it.effect("W4 with `retry` the schedule decides, a success resets it, and the last error comes out", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((n, state) => (n === 3 ? nothing(state) : Effect.fail(refused(n))))
      const retry = Schedule.intersect(Schedule.spaced("1 second"), Schedule.recurs(2))
      const fiber = yield* watch(source, { interval: "10 seconds", retry })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(starts, [0, 1000, 2000, 12_000, 13_000, 14_000])
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber))).n, 6)
    })
  )

  it.effect("W4 a fatal error ends the watch at once, whatever `retry` says", () =>
    Effect.gen(function* () {
      for (const options of [{}, { retry: Schedule.forever }]) {
        const { source, starts } = scripted<Gone | Refused>((n) =>
          Effect.fail(n === 1 ? refused(n) : new Gone({ isFatal: true }))
        )
        const fiber = yield* watch(source, { interval: "10 seconds", ...options })
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(starts.length, 2)
        assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), Gone)
      }
    })
  )

  it.effect("W4 an error whose `isFatal` is false is retried", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted(() => Effect.fail({ isFatal: false }))
      yield* watch(source, { interval: "10 seconds" })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(starts, [0, 20_000, 60_000])
    })
  )
})

describe("Watcher W5: timeouts", () => {
  it.effect("W5 a poll that hangs is given up after the source's timeout and interrupted", () =>
    Effect.gen(function* () {
      let interrupted = 0
      const { source, starts } = scripted(() =>
        Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      )
      yield* watch(source, { interval: "30 seconds" })
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(starts, [0, 180_000])
      assert.strictEqual(interrupted, 1)
    })
  )

  it.effect("W5 it returns also over a poll that cannot be interrupted, and ignores what that finds later", () =>
    Effect.gen(function* () {
      const seen: Array<number> = []
      const { source, starts } = scripted((n, state) =>
        n === 1 ? Effect.uninterruptible(after(60_000)(change(7))) : change(state)
      )
      yield* Watcher.runForEach(source, ({ key }) => Effect.sync(() => seen.push(Number(key))), {
        interval: "10 seconds",
        timeout: "5 seconds",
        schedule: Schedule.spaced("100 seconds")
      }).pipe(Effect.fork)
      yield* TestClock.adjust("70 seconds")
      assert.deepStrictEqual(starts, [0, 25_000])
      assert.deepStrictEqual(seen, [0])
    })
  )

  it.effect("W5 the timeout is an error of the source where it has one", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const { source } = scripted<Refused>(() => Effect.never, {
        timeout: "7 seconds",
        onTimeout: (timeout) => {
          asked.push(Duration.format(timeout))
          return refused(408)
        }
      })
      const fiber = yield* watch(source, { retry: Schedule.stop })
      yield* TestClock.adjust("7 seconds")
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber))).n, 408)
      const shorter = yield* watch(source, { retry: Schedule.stop, timeout: "2 seconds" })
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Effect.flip(Fiber.join(shorter))).n, 408)
      assert.deepStrictEqual(asked, ["7s", "2s"])
    })
  )

  it.effect("W5 without one it is shown with a sentence", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const { source } = scripted(() => Effect.never)
      yield* watch(source, { timeout: "1 second" }).pipe(Effect.provide(logTo(lines)))
      yield* TestClock.adjust("1 second")
      assert.include(lines[0]!.text, "scripted: no answer within 1s; raise `timeout`")
    })
  )

  it.effect("W5 a poll leaves no timer behind, however it ends", () =>
    Effect.gen(function* () {
      const sleeps = yield* sleeping
      const { source } = scripted<Refused>((n, state) =>
        n === 1 ? nothing(state) : n === 2 ? Effect.fail(refused(n)) : Effect.never
      )
      const fiber = yield* watch(source, { interval: "10 seconds" }).pipe(Effect.withClock(sleeps.clock))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(sleeps.now(), [10_000])
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(sleeps.now(), [20_000])
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(sleeps.now(), [120_000])
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(sleeps.now(), [])
    })
  )
})

describe("Watcher W12: pokes", () => {
  const poked = <E>(play: Parameters<typeof scripted<E>>[0]) =>
    Effect.gen(function* () {
      const { source, starts } = scripted<E>(play)
      const watcher = yield* Watcher.make(source, { interval: "10 seconds" })
      return { watcher, starts }
    })

  it.scoped("W12 ends the wait between polls at once, and pokes coalesce", () =>
    Effect.gen(function* () {
      const { starts, watcher } = yield* poked((_, state) => nothing(state))
      yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* TestClock.adjust("3 seconds")
      yield* Effect.all([watcher.poke, watcher.poke, watcher.poke])
      yield* TestClock.adjust("12 seconds")
      assert.deepStrictEqual(starts, [0, 3000, 13_000])
    })
  )

  it.scoped("W12 in Backoff it waits until one interval since the last attempt", () =>
    Effect.gen(function* () {
      const { starts, watcher } = yield* poked((n, state) => (n <= 2 ? Effect.fail(refused(n)) : nothing(state)))
      yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* TestClock.adjust("3 seconds")
      yield* watcher.poke
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(starts, [0, 10_000])
      // later than one interval: at once
      yield* TestClock.adjust("13 seconds")
      yield* watcher.poke
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(starts, [0, 10_000, 25_000])
    })
  )

  it.scoped("W12 in Backoff it respects a Retry-After", () =>
    Effect.gen(function* () {
      const { starts, watcher } = yield* poked((n, state) =>
        n === 1 ? Effect.fail(refused(n, "1 minute")) : nothing(state)
      )
      yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* TestClock.adjust("30 seconds")
      yield* watcher.poke
      yield* TestClock.adjust("31 seconds")
      assert.deepStrictEqual(starts, [0, 60_000])
    })
  )

  it.scoped("W12 during a poll it causes one more, and only one", () =>
    Effect.gen(function* () {
      const { starts, watcher } = yield* poked((_, state) => after(4000)(nothing(state)))
      yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* TestClock.adjust("2 seconds")
      yield* Effect.all([watcher.poke, watcher.poke, watcher.poke])
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(starts, [0, 4000, 18_000])
    })
  )

  it.scoped("W12 while changes are handled it is kept until they are", () =>
    Effect.gen(function* () {
      const { starts, watcher } = yield* poked((n, state) => (n === 1 ? change(state) : nothing(state)))
      yield* Effect.fork(watcher.runForEach(() => Effect.sleep("5 seconds")))
      yield* TestClock.adjust("1 second")
      yield* watcher.poke
      yield* TestClock.adjust("15 seconds")
      assert.deepStrictEqual(starts, [0, 5000, 15_000])
    })
  )

  it.scoped("W12 before anybody watches it changes nothing", () =>
    Effect.gen(function* () {
      const { starts, watcher } = yield* poked((_, state) => nothing(state))
      yield* watcher.poke
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(starts, [])
      yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(starts, [3_600_000, 3_610_000])
    })
  )
})

describe("Watcher W13: fleets", () => {
  it.effect("W13 `initialJitter` spreads the first polls, and nothing after them", () =>
    Effect.gen(function* () {
      const fleet = Array.from({ length: 3 }, () => scripted((_, state) => nothing(state)))
      for (const { source } of fleet) {
        yield* watch(source, { interval: "1 minute", initialJitter: "1 minute" })
        yield* TestClock.adjust(0)
      }
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(
        fleet.map(({ starts }) => starts),
        [
          [0, 60_000, 120_000],
          [15_000, 75_000],
          [59_940, 119_940]
        ]
      )
    }).pipe(Effect.withRandom(Random.fixed([0, 0.25, 0.999])))
  )
})

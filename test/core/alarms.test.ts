import { assert, describe, it } from "@effect/vitest"
import type { Alarm } from "../../src/core/alarms.js"
import * as alarms from "../../src/core/alarms.js"
import { Clock, Duration, Effect, FastCheck, Ref, Schema } from "effect"
import { Change, Source, Watcher } from "effect-periscope"

/** A clock whose time of day and whose passing time are set by hand; it notes how long it is asked to sleep. */
const manual = () => {
  let passed = 0
  let offset = 1_000_000
  let sleeper: { readonly at: number; readonly wake: () => void } | undefined
  const slept: Array<number> = []
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => passed + offset,
    unsafeCurrentTimeNanos: () => BigInt(Math.round(passed * 1_000_000)),
    currentTimeMillis: Effect.sync(() => passed + offset),
    currentTimeNanos: Effect.sync(() => BigInt(Math.round(passed * 1_000_000))),
    sleep: (duration) =>
      Effect.async<void>((resume) => {
        const millis = Duration.toMillis(duration)
        slept.push(millis)
        const mine = { at: passed + millis, wake: () => resume(Effect.void) }
        sleeper = mine
        return Effect.sync(() => {
          if (sleeper === mine) sleeper = undefined
        })
      })
  }
  const settle = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))
  /** Lets time pass, waking who sleeps. */
  const pass = (millis: number) =>
    Effect.gen(function* () {
      const end = passed + millis
      yield* settle
      while (sleeper !== undefined && sleeper.at <= end) {
        passed = sleeper.at
        const { wake } = sleeper
        sleeper = undefined
        wake()
        yield* settle
      }
      passed = end
    })
  return {
    clock,
    slept,
    pass,
    settle,
    isAsleep: () => sleeper !== undefined,
    setBack: (millis: number) => void (offset -= millis)
  }
}

describe("alarms", () => {
  it.live("ring in order of time, each once, and never one that was taken back", () =>
    Effect.promise(() =>
      FastCheck.assert(
        FastCheck.asyncProperty(
          FastCheck.array(FastCheck.record({ after: FastCheck.nat(50), cancelled: FastCheck.boolean() }), {
            maxLength: 30
          }),
          (calls) =>
            Effect.runPromise(
              Effect.gen(function* () {
                const { clock, isAsleep, pass } = manual()
                const rung: Array<number> = []
                const set = calls.map(({ after }, index): Alarm =>
                  alarms.set(clock, after + 1, () => void rung.push(index))
                )
                calls.forEach(({ cancelled }, index) => cancelled && alarms.cancel(clock, set[index]!))
                yield* pass(100)
                const expected = calls.flatMap(({ cancelled }, index) => (cancelled ? [] : [index]))
                assert.sameMembers(rung, expected)
                assert.deepStrictEqual(
                  rung.map((index) => calls[index]!.after),
                  expected.map((index) => calls[index]!.after).sort((a, b) => a - b)
                )
                assert.isFalse(isAsleep())
              })
            )
        ),
        { numRuns: 50 }
      )
    )
  )

  it.live("nothing sleeps when nobody waits, and no timer is longer than the host can hold", () =>
    Effect.gen(function* () {
      const { clock, isAsleep, pass, slept } = manual()
      let rings = 0
      const days60 = 60 * 86_400_000
      const alarm = alarms.set(clock, days60, () => rings++)
      yield* pass(1)
      assert.isTrue(isAsleep())
      alarms.cancel(clock, alarm)
      yield* pass(1)
      assert.isFalse(isAsleep())
      alarms.set(clock, days60, () => rings++)
      yield* pass(days60 - 1)
      assert.strictEqual(rings, 0)
      yield* pass(1)
      assert.strictEqual(rings, 1)
      assert.isAtMost(Math.max(...slept), 2 ** 31 - 1)
    })
  )

  it.live("W1 an alarm set from within a ring rings in its turn", () =>
    Effect.gen(function* () {
      const { clock, pass } = manual()
      const rung: Array<string> = []
      alarms.set(clock, 10, () => {
        rung.push("first")
        alarms.set(clock, 5, () => void rung.push("third"))
      })
      alarms.set(clock, 12, () => void rung.push("second"))
      yield* pass(20)
      assert.deepStrictEqual(rung, ["first", "second", "third"])
    })
  )

  it.live("W1 a watcher does not wait for a time of day that was set back to come again", () =>
    Effect.gen(function* () {
      const { clock, pass, setBack } = manual()
      const polls = yield* Ref.make(0)
      const source = Source.make({
        name: "n",
        state: Schema.Number,
        item: Schema.Number,
        initial: 0,
        poll: (n) =>
          Effect.as(
            Ref.update(polls, (count) => count + 1),
            { state: n + 1, changes: [Change.modified("n", n)] }
          )
      })
      yield* Watcher.runForEach(source, () => Effect.void, { interval: "10 seconds" }).pipe(
        Effect.withClock(clock),
        Effect.forkScoped
      )
      yield* pass(15_000)
      assert.strictEqual(yield* Ref.get(polls), 2)
      setBack(3_600_000)
      yield* pass(10_000)
      assert.strictEqual(yield* Ref.get(polls), 3)
      yield* pass(10_000)
      assert.strictEqual(yield* Ref.get(polls), 4)
    }).pipe(Effect.scoped)
  )
})

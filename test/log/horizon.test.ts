import { assert, describe, it } from "@effect/vitest"
import { WatchMetrics } from "effect-periscope"
import { Effect, Logger, Metric, TestClock } from "effect"
import * as fc from "fast-check"
import * as horizon from "../../src/log/horizon.js"

describe("how long entries have been waiting (L5)", () => {
  it("an entry waits from when it was seen first until the horizon has passed it", () => {
    const first = horizon.waiting(undefined, { horizon: 5n, newest: 7n }, 100)
    assert.deepStrictEqual(first, { xid: 7n, since: 100 })
    // the horizon moves, but not past it; newer ones come
    assert.strictEqual(horizon.waiting(first, { horizon: 7n, newest: 20n }, 200), first)
    assert.deepStrictEqual(horizon.waiting(first, { horizon: 8n, newest: 20n }, 300), { xid: 20n, since: 300 })
    assert.isUndefined(horizon.waiting(first, { horizon: 21n, newest: 20n }, 400))
    assert.isUndefined(horizon.waiting(undefined, { horizon: 1n, newest: undefined }, 500))
  })

  it("it never says longer than an entry has really been held back", () => {
    const looks = fc.array(fc.record({ moves: fc.nat(3), gains: fc.nat(3), passes: fc.integer({ min: 1, max: 9 }) }), {
      maxLength: 50
    })
    fc.assert(
      fc.property(looks, (steps) => {
        let [now, at, newest] = [0, 10n, 0n]
        // when each transaction was seen first
        const seen = new Map<bigint, number>()
        let state: horizon.Waiting | undefined
        for (const { gains, moves, passes } of steps) {
          now += passes
          at += BigInt(moves)
          newest += BigInt(gains * 3)
          if (!seen.has(newest)) seen.set(newest, now)
          state = horizon.waiting(state, { horizon: at, newest }, now)
          assert.strictEqual(state === undefined, newest < at)
          if (state === undefined) continue
          assert.isTrue(state.xid >= at, "it is held back now")
          assert.isAtLeast(state.since, seen.get(state.xid)!)
        }
      })
    )
  })

  it.effect("the metric follows, and one warning tells what to look for", () => {
    const warnings: Array<string> = []
    const logger = Logger.make<unknown, void>(({ message }) => void warnings.push(String(message)))
    return Effect.gen(function* () {
      const { forget, look } = horizon.follow("a_log")
      const age = Effect.map(
        Metric.value(Metric.tagged(WatchMetrics.logHorizonAge, "log", "a_log")),
        ({ value }) => value
      )
      const lookAfter = (seconds: number, at: bigint, newest: bigint) =>
        Effect.zipRight(TestClock.adjust(seconds * 1000), Effect.zipRight(look({ horizon: at, newest }), age))
      assert.strictEqual(yield* lookAfter(5, 100n, 99n), 0)
      assert.strictEqual(yield* lookAfter(5, 100n, 101n), 0)
      assert.strictEqual(yield* lookAfter(60, 100n, 150n), 60)
      assert.deepStrictEqual(warnings, [])
      assert.strictEqual(yield* lookAfter(1, 100n, 150n), 61)
      assert.strictEqual(yield* lookAfter(600, 100n, 150n), 661)
      assert.deepStrictEqual(warnings, [
        "a_log: entries have been waiting for 61 s behind a writing transaction that is open, number 100, in any database of the server; find it with SELECT pid, datname, xact_start FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start, or in pg_prepared_xacts, and end it."
      ])
      assert.strictEqual(yield* lookAfter(1, 200n, 199n), 0)
      // the next time is worth the next warning
      yield* lookAfter(1, 200n, 201n)
      yield* lookAfter(61, 200n, 201n)
      assert.lengthOf(warnings, 2)
      yield* forget
      assert.strictEqual(yield* age, 0)
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })
})

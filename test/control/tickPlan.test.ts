import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import type { Ended, Plan, Rules } from "../../src/control/tickPlan.js"
import * as tickPlan from "../../src/control/tickPlan.js"

const rules: Rules = { debounce: 50, maxWait: 500, fallback: 30_000 }
const succeeded: Ended = { _tag: "Succeeded", requeueAfter: undefined }

const after = (plan: Plan, ...events: ReadonlyArray<number>): Plan => events.reduce(tickPlan.event, plan)
/** A tick at one instant. */
const tick = (plan: Plan, at: number, how: Ended = succeeded): Plan =>
  tickPlan.ended(tickPlan.started(plan, at), at, how)
const idle = tick(tickPlan.initial, 0)

describe("tickPlan", () => {
  it("C4 the first tick is due at once, the fallback after the end of the last one", () => {
    assert.deepStrictEqual(tickPlan.next(tickPlan.initial, rules), { at: -Infinity, trigger: "start" })
    assert.deepStrictEqual(tickPlan.next(idle, rules), { at: 30_000, trigger: "fallback" })
    assert.isUndefined(tickPlan.next(idle, { ...rules, fallback: Infinity }))
    const long = tickPlan.ended(tickPlan.started(idle, 1000), 9000, succeeded)
    assert.deepStrictEqual(tickPlan.next(long, rules), { at: 39_000, trigger: "fallback" })
  })

  it("C4 a plan that begins again ticks at once, whatever it waited for", () => {
    for (const how of [
      succeeded,
      { _tag: "Failed", wait: 5 },
      { _tag: "Terminal" },
      { _tag: "Interrupted" }
    ] as const) {
      const again = tickPlan.begun(tick(after(idle, 10), 20, how))
      assert.deepStrictEqual(tickPlan.next(again, rules), { at: -Infinity, trigger: "start" })
      assert.deepStrictEqual(tickPlan.next(tick(again, 50), rules), { at: 30_050, trigger: "fallback" })
    }
  })

  it("C2 a window is over when it was quiet for long enough, or is open for too long", () => {
    assert.deepStrictEqual(tickPlan.next(after(idle, 1000), rules), { at: 1050, trigger: "event" })
    assert.deepStrictEqual(tickPlan.next(after(idle, 1000, 1040), rules), { at: 1090, trigger: "event" })
    const steady = after(idle, ...Array.from({ length: 20 }, (_, n) => 1000 + 40 * n))
    assert.deepStrictEqual(tickPlan.next(steady, rules), { at: 1500, trigger: "event" })
    const fixed = { ...rules, maxWait: 50 }
    assert.deepStrictEqual(tickPlan.next(after(idle, 1000, 1040), fixed), { at: 1050, trigger: "event" })
  })

  it("C3 an event during a tick asks for one more, whose window began with it", () => {
    const running = tickPlan.started(after(idle, 1000), 1050)
    assert.isUndefined(tickPlan.next(running, rules))
    assert.isUndefined(tickPlan.next(after(running, 1060), rules))
    const over = tickPlan.ended(after(running, 1060, 1070), 5000, succeeded)
    assert.deepStrictEqual(tickPlan.next(over, rules), { at: 1120, trigger: "event" })
    assert.deepStrictEqual(tickPlan.next(tick(over, 5000), rules), { at: 35_000, trigger: "fallback" })
  })

  it("C5 a failed tick waits for its retry, not for the fallback; an event comes before", () => {
    const failed = tick(idle, 0, { _tag: "Failed", wait: 60_000 })
    assert.deepStrictEqual(tickPlan.next(failed, rules), { at: 60_000, trigger: "retry" })
    assert.deepStrictEqual(tickPlan.next(after(failed, 100), rules), { at: 150, trigger: "event" })
    assert.strictEqual(failed.failures, 1)
    assert.strictEqual(tick(failed, 60_000).failures, 0)
  })

  it("C5 a terminal failure waits for an event", () => {
    const terminal = tick(tick(idle, 0, { _tag: "Succeeded", requeueAfter: 5000 }), 10, { _tag: "Terminal" })
    assert.isUndefined(tickPlan.next(terminal, rules))
    assert.deepStrictEqual(tickPlan.next(after(terminal, 70_000), rules), { at: 70_050, trigger: "event" })
    assert.deepStrictEqual(tickPlan.next(tick(terminal, 70_050), rules), { at: 100_050, trigger: "fallback" })
  })

  it("C5 of the deadlines that were asked for the earlier holds, until it has come", () => {
    const asks = (requeueAfter: number): Ended => ({ _tag: "Succeeded", requeueAfter })
    const first = tick(idle, 0, asks(20_000))
    const second = tick(first, 5000, asks(20_000))
    assert.deepStrictEqual(tickPlan.next(second, rules), { at: 20_000, trigger: "requeue" })
    assert.deepStrictEqual(tickPlan.next(tick(second, 6000, asks(1000)), rules), { at: 7000, trigger: "requeue" })
    assert.deepStrictEqual(tickPlan.next(tick(second, 20_000), rules), { at: 50_000, trigger: "fallback" })
    // a failure in between does not forget it
    const failed = tick(second, 6000, { _tag: "Failed", wait: 60_000 })
    assert.deepStrictEqual(tickPlan.next(failed, rules), { at: 20_000, trigger: "requeue" })
  })

  it("W7 what was interrupted is due again at once", () => {
    assert.deepStrictEqual(tickPlan.next(tick(idle, 100, { _tag: "Interrupted" }), rules), {
      at: 100,
      trigger: "retry"
    })
  })

  it("C2 C3 whatever comes, every event is followed by a tick, in time, and ticks never overlap", () => {
    const moves = FastCheck.array(
      FastCheck.record({
        pause: FastCheck.integer({ min: 1, max: 400 }),
        takes: FastCheck.integer({ min: 0, max: 300 }),
        how: FastCheck.constantFrom<Ended>(
          succeeded,
          { _tag: "Succeeded", requeueAfter: 70 },
          { _tag: "Failed", wait: 1000 },
          { _tag: "Terminal" }
        )
      }),
      { minLength: 1, maxLength: 40 }
    )
    FastCheck.assert(
      FastCheck.property(moves, (generated) => {
        let plan = tickPlan.initial
        const events: Array<number> = []
        const ticks: Array<readonly [start: number, end: number]> = []
        let at = 0
        for (const { pause } of generated) events.push((at += pause))
        let heard = 0
        let index = 0
        const hearUntil = (until: number) => {
          while (heard < events.length && events[heard]! <= until) plan = tickPlan.event(plan, events[heard++]!)
        }
        for (let now = 0; now < at + 1000;) {
          const due = tickPlan.next(plan, rules)
          const next = Math.min(due?.at ?? Infinity, events[heard] ?? Infinity)
          if (next === Infinity) break
          now = Math.max(now, next)
          hearUntil(now)
          const ready = tickPlan.next(plan, rules)
          if (ready === undefined || ready.at > now) continue
          const { how, takes } = generated[index++ % generated.length]!
          plan = tickPlan.started(plan, now)
          hearUntil(now + takes)
          ticks.push([now, now + takes])
          now += takes
          plan = tickPlan.ended(plan, now, how)
        }
        for (const [n, [start]] of ticks.entries()) assert.isTrue(n === 0 || start >= ticks[n - 1]![1])
        for (const event of events) {
          const later = ticks.find(([start]) => start >= event)
          assert.isDefined(later, `nothing after ${event}`)
          const blocked = ticks.filter(([start, end]) => start <= event + rules.maxWait && end > event)
          const latest = Math.max(event + rules.maxWait, ...blocked.map(([_, end]) => end))
          assert.isAtMost(later[0], latest, `too late after ${event}`)
        }
      }),
      { numRuns: 2000 }
    )
  })
})

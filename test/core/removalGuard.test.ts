import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import type { Guard } from "../../src/core/removalGuard.js"
import * as removalGuard from "../../src/core/removalGuard.js"

interface Plan {
  readonly keys: ReadonlyArray<string>
  readonly listings: number
  readonly confirmListings: number
}

/** The decision over plain lists of keys. */
const decide = (
  guard: Guard | undefined,
  missing: ReadonlyArray<string>,
  known: number,
  plan: Plan | undefined,
  approved: boolean
): { readonly release: ReadonlyArray<string>; readonly plan: Plan | undefined } => {
  const sets = {
    all: missing,
    planned: missing.filter((key) => plan?.keys.includes(key) ?? true),
    rest: missing.filter((key) => plan !== undefined && !plan.keys.includes(key)),
    none: []
  }
  const planned = sets.planned.length
  const { hold, listings, release } = removalGuard.decide(
    guard,
    missing.length,
    planned,
    known,
    plan?.listings ?? 0,
    approved
  )
  const keys = sets[hold]
  return {
    release: sets[release],
    plan: keys.length === 0 ? undefined : { keys, listings, confirmListings: guard!.confirmListings }
  }
}

const guard = removalGuard.make({})!
const keys = (count: number) => Array.from({ length: count }, (_, index) => `k${index}`)

describe("removalGuard", () => {
  it("O3 trips above 30 % of at least 10 known keys, and for all known keys whatever their number", () => {
    const trips = (missing: number, known: number) => removalGuard.trips(guard, missing, known)
    assert.isFalse(trips(0, 0))
    assert.isFalse(trips(0, 100))
    assert.isFalse(trips(3, 10))
    assert.isTrue(trips(4, 10))
    assert.isFalse(trips(30, 100))
    assert.isTrue(trips(31, 100))
    assert.isFalse(trips(8, 9))
    assert.isTrue(trips(9, 9))
    assert.isTrue(trips(1, 1))
    const strict = removalGuard.make({ maxRemovedRatio: 0, minKnown: 2 })!
    assert.isFalse(removalGuard.trips(strict, 1, 0) && !removalGuard.trips(strict, 1, 1))
    assert.isTrue(removalGuard.trips(strict, 1, 2))
    assert.isFalse(removalGuard.trips(removalGuard.make({ maxRemovedRatio: 1 })!, 9, 10))
  })

  it("O3 without a guard, and below its bounds, what is missing is released at once and a plan ends", () => {
    const plan: Plan = { keys: ["a"], listings: 2, confirmListings: 3 }
    const all = { release: keys(10), plan: undefined }
    assert.deepStrictEqual(decide(undefined, keys(10), 10, plan, false), all)
    assert.deepStrictEqual(decide(guard, keys(3), 10, plan, false), { release: keys(3), plan: undefined })
    assert.deepStrictEqual(decide(guard, [], 10, plan, false), { release: [], plan: undefined })
  })

  it("O3 a plan shrinks to what every walk misses, and is released by the walk that confirms it", () => {
    const first = decide(guard, ["a", "b", "c", "d"], 10, undefined, false)
    assert.deepStrictEqual(first, {
      release: [],
      plan: { keys: ["a", "b", "c", "d"], listings: 1, confirmListings: 3 }
    })
    const second = decide(guard, ["b", "c", "d", "e"], 10, first.plan, false)
    assert.deepStrictEqual(second, { release: [], plan: { keys: ["b", "c", "d"], listings: 2, confirmListings: 3 } })
    const third = decide(guard, ["c", "d", "e", "f"], 10, second.plan, false)
    // the rest starts a new plan
    assert.deepStrictEqual(third, {
      release: ["c", "d"],
      plan: { keys: ["e", "f"], listings: 1, confirmListings: 3 }
    })
  })

  it("O3 a walk that misses quite other keys starts a new plan", () => {
    const plan: Plan = { keys: ["x", "y"], listings: 2, confirmListings: 4 }
    const patient = removalGuard.make({ confirmListings: 4 })!
    assert.deepStrictEqual(decide(patient, keys(5), 10, plan, false), {
      release: [],
      plan: { keys: keys(5), listings: 1, confirmListings: 4 }
    })
  })

  it("O3 approval releases what the plan and this walk share; one walk is enough with `confirmListings: 1`", () => {
    const plan: Plan = { keys: ["a", "b"], listings: 1, confirmListings: 3 }
    assert.deepStrictEqual(decide(guard, ["b", "c", "d", "e"], 10, plan, true), {
      release: ["b"],
      plan: { keys: ["c", "d", "e"], listings: 1, confirmListings: 3 }
    })
    const quick = removalGuard.make({ confirmListings: 1 })!
    assert.deepStrictEqual(decide(quick, keys(9), 9, undefined, false), {
      release: keys(9),
      plan: undefined
    })
  })

  it("O3 no key is released that was not missed by `confirmListings` walks in a row since the guard tripped", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(FastCheck.subarray(keys(12), { minLength: 4 }), { minLength: 1, maxLength: 12 }),
        FastCheck.integer({ min: 1, max: 4 }),
        (walks, confirmListings) => {
          const own = removalGuard.make({ confirmListings })!
          let plan: Plan | undefined
          walks.forEach((missing, index) => {
            const decision = decide(own, missing, 12, plan, false)
            plan = decision.plan
            for (const key of decision.release) {
              const row = walks.slice(Math.max(0, index - confirmListings + 1), index + 1)
              assert.isTrue(row.length >= confirmListings && row.every((walk) => walk.includes(key)))
            }
            const held = decision.plan?.keys ?? []
            assert.isTrue(held.every((key) => missing.includes(key) && !decision.release.includes(key)))
            assert.isFalse(decision.plan !== undefined && held.length === 0)
          })
        }
      )
    )
  })

  it("refuses options that cannot work, naming option and value", () => {
    assert.throws(() => removalGuard.make({ maxRemovedRatio: 1.1 }), /`maxRemovedRatio` is 1.1/)
    assert.throws(() => removalGuard.make({ maxRemovedRatio: Number.NaN }), /`maxRemovedRatio` is NaN/)
    assert.throws(() => removalGuard.make({ minKnown: -1 }), /`minKnown` is -1/)
    assert.throws(() => removalGuard.make({ minKnown: 1.5 }), /`minKnown` is 1.5/)
    assert.throws(() => removalGuard.make({ confirmListings: 0 }), /`confirmListings` is 0/)
    assert.isUndefined(removalGuard.make(false))
  })
})

/**
 * Decides which missing keys of a complete walk are removed and which are held back: a plain function of values.
 *
 * A bad listing (a mount that came up empty, a wrong prefix, a permission that hides half of the keys) looks like a mass
 * removal. One is believed only when several complete walks in a row miss the same keys.
 */
import * as Option from "effect/Option"

/**
 * When a complete walk that misses keys is suspicious.
 */
export interface RemovalGuardOptions {
  /** The fraction of known keys that one walk may miss [0.3]. */
  readonly maxRemovedRatio?: number | undefined
  /** Below that many known keys the ratio says nothing, and only a walk that misses all of them is held [10]. */
  readonly minKnown?: number | undefined
  /** How many complete walks in a row must miss a key before it is removed all the same [3]. */
  readonly confirmListings?: number | undefined
}

/**
 * Removals that are held back: how many keys and which, in how many walks in a row they were missing, and how many it takes.
 * `keys` is put together when it is first read.
 */
export interface RemovalPlan {
  readonly count: number
  readonly keys: ReadonlyArray<string>
  readonly listings: number
  readonly confirmListings: number
}

export interface Guard {
  readonly maxRemovedRatio: number
  readonly minKnown: number
  readonly confirmListings: number
}

export const make = (options: RemovalGuardOptions | false | undefined): Guard | undefined => {
  if (options === false) return undefined
  const { confirmListings = 3, maxRemovedRatio = 0.3, minKnown = 10 } = options ?? {}
  if (!(maxRemovedRatio >= 0 && maxRemovedRatio <= 1)) {
    throw new Error(`removalGuard: \`maxRemovedRatio\` is ${maxRemovedRatio}; it must be from 0 to 1.`)
  }
  if (!Number.isInteger(minKnown) || minKnown < 0) {
    throw new Error(`removalGuard: \`minKnown\` is ${minKnown}; it must be a whole number of 0 or more.`)
  }
  if (!Number.isInteger(confirmListings) || confirmListings < 1) {
    throw new Error(`removalGuard: \`confirmListings\` is ${confirmListings}; it must be a whole number of 1 or more.`)
  }
  return { maxRemovedRatio, minKnown, confirmListings }
}

/**
 * Keys that a walk misses: all of them, those of the plan, or those that are not in it. Without a plan before, all are
 * `planned`.
 */
export type Missing = "all" | "planned" | "rest" | "none"

export interface Decision {
  /** Keys to report as removed now. */
  readonly release: Missing
  /** What is held back from now on, and in how many walks in a row it was missing. */
  readonly hold: Missing
  readonly listings: number
}

/** Whether a walk that misses `missing` of `known` keys is suspicious. */
export const trips = (guard: Guard, missing: number, known: number): boolean =>
  missing > 0 && (missing >= known || (known >= guard.minKnown && missing > guard.maxRemovedRatio * known))

/**
 * @param missing how many keys were known when the walk began and were seen nowhere in it
 * @param planned how many of them the plan holds; without a plan all
 * @param known how many keys were known after the last walk that was not suspicious
 * @param listings how many walks in a row have missed the keys of the plan; 0: there is none
 * @param approved whether a person has released the plan since
 */
export const decide = (
  guard: Guard | undefined,
  missing: number,
  planned: number,
  known: number,
  listings: number,
  approved: boolean
): Decision => {
  if (guard === undefined || !trips(guard, missing, known)) return { release: "all", hold: "none", listings: 0 }
  if (approved || listings + 1 >= guard.confirmListings) {
    const rest = guard.confirmListings === 1 || planned === missing ? "none" : "rest"
    return { release: "planned", hold: rest, listings: 1 }
  }
  return planned === 0
    ? { release: "none", hold: "all", listings: 1 }
    : { release: "none", hold: "planned", listings: listings + 1 }
}

/** Whether nothing is held back but what was approved. */
export const isWithin = (held: Option.Option<RemovalPlan>, approved: Option.Option<RemovalPlan>): boolean => {
  if (Option.isNone(held)) return true
  if (Option.isNone(approved)) return false
  if (held.value === approved.value) return true
  const keys = new Set(approved.value.keys)
  return held.value.keys.every((key) => keys.has(key))
}

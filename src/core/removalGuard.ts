/**
 * Decides which missing keys of a complete walk are removed and which are held back: a plain function of values.
 *
 * A bad listing (a mount that came up empty, a wrong prefix, a permission that hides half of the keys) looks like a mass
 * removal. One is believed only when several complete walks in a row miss the same keys.
 */

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
 * Removals that are held back: which keys, in how many walks in a row they were missing, and how many it takes.
 */
export interface RemovalPlan {
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

export interface Decision {
  /** Keys to report as removed now. */
  readonly release: ReadonlyArray<string>
  /** What is held back from now on. */
  readonly plan: RemovalPlan | undefined
}

/** Whether a walk that misses `missing` of `known` keys is suspicious. */
export const trips = (guard: Guard, missing: number, known: number): boolean =>
  missing > 0 && (missing >= known || (known >= guard.minKnown && missing > guard.maxRemovedRatio * known))

/**
 * @param missing keys that were known when the walk began and were seen nowhere in it
 * @param known how many keys were known after the last walk that was not suspicious
 * @param approved whether a person has released the plan since
 */
export const decide = (
  guard: Guard | undefined,
  missing: ReadonlyArray<string>,
  known: number,
  plan: RemovalPlan | undefined,
  approved: boolean
): Decision => {
  if (guard === undefined || !trips(guard, missing.length, known)) {
    return { release: missing, plan: undefined }
  }
  const held = plan === undefined ? undefined : new Set(plan.keys)
  const confirmed = held === undefined ? missing : missing.filter((key) => held.has(key))
  const listings = (plan?.listings ?? 0) + 1
  if (!approved && listings < guard.confirmListings) {
    return confirmed.length === 0
      ? hold(guard, missing)
      : { release: [], plan: { keys: confirmed, listings, confirmListings: guard.confirmListings } }
  }
  const rest = held === undefined ? [] : missing.filter((key) => !held.has(key))
  return { release: confirmed, plan: hold(guard, rest).plan }
}

const hold = (guard: Guard, keys: ReadonlyArray<string>): Decision => {
  if (keys.length === 0) return { release: [], plan: undefined }
  return guard.confirmListings === 1
    ? { release: keys, plan: undefined }
    : { release: [], plan: { keys, listings: 1, confirmListings: guard.confirmListings } }
}

/**
 * Seeded random numbers for a simulation: one generator a trial, so that a trial can be run again on its own.
 */

/** Random numbers that follow from seed and trial. */
export interface Chance {
  /** From 0 up to 1. */
  readonly next: () => number
  /** A whole number from 0 to `n - 1`. */
  readonly below: (n: number) => number
  /** True in that fraction of the calls. */
  readonly happens: (probability: number) => boolean
  /** One of the choices, each as likely as the others. */
  readonly pick: <A>(choices: ReadonlyArray<A>) => A
}

export const make = (seed: number, trial: number): Chance => {
  // mulberry32, over a mix of both numbers
  let state = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(trial + 1, 0xc2b2ae35)) | 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  const below = (n: number): number => Math.floor(next() * n)
  return {
    next,
    below,
    happens: (probability) => probability > 0 && next() < probability,
    pick: (choices) => choices[below(choices.length)]!
  }
}

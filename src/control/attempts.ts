/**
 * How often the work on each key has failed, and how long it is to wait for its next attempt.
 */
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import { step } from "./steps.js"
import type { TokenBucket } from "./tokenBucket.js"

interface Failing {
  failures: number
  /** Of the schedule: what it thinks of the failures up to now. */
  state: unknown
}

// of the schedule that stands in for one that died: that of the default backoff
const firstMillis = 5
const maxMillis = 1_000_000

export class Attempts {
  private readonly failing = new Map<unknown, Failing>()

  constructor(
    private readonly backoff: Schedule.Schedule<unknown, unknown>,
    private readonly bucket: TokenBucket | undefined,
    private readonly maxAttempts: number
  ) {}

  get size(): number {
    return this.failing.size
  }

  failures(id: unknown): number {
    return this.failing.get(id)?.failures ?? 0
  }

  forget(id: unknown): void {
    this.failing.delete(id)
  }

  /**
   * Counts a failure; gives the milliseconds to wait, the longer of the two, or `undefined`: it is given up. `now` is the time
   * of day, which a schedule may ask for, `ticks` one that only goes forward. Dies if the schedule does: see `stepAnyway`.
   */
  failed(id: unknown, error: unknown, now: number, ticks: number): Effect.Effect<number | undefined> {
    const failing = this.failing.get(id) ?? { failures: 0, state: this.backoff.initial }
    this.failing.set(id, failing)
    failing.failures++
    if (failing.failures >= this.maxAttempts) return Effect.succeed(undefined)
    return Effect.map(step(this.backoff, now, error, failing.state), ({ state, wait }) => {
      failing.state = state
      return wait === undefined ? undefined : this.longest(wait, ticks)
    })
  }

  /** The wait of a key whose failure was counted when its schedule died. The schedule is asked again at the next one. */
  stepAnyway(id: unknown, ticks: number): number {
    return this.longest(Math.min(firstMillis * 2 ** (this.failures(id) - 1), maxMillis), ticks)
  }

  private longest(wait: number, ticks: number): number {
    return this.bucket === undefined ? wait : Math.max(wait, this.bucket.take(ticks))
  }
}

/**
 * The options of a watcher, checked and with their defaults, and the delays that follow from them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleIntervals from "effect/ScheduleIntervals"
import { defaultMaxRetryAfter } from "./Backoff.js"
import { notNegative, positive } from "./durationOption.js"
import type { Options } from "./watchOptions.js"

/** The options that are plain values. */
type Input = Omit<Options, "checkpoint" | "retry" | "schedule">

/** Durations in milliseconds. */
export interface Settings {
  readonly interval: number
  readonly maxBackoff: number
  readonly maxRetryAfter: Duration.Duration
  readonly timeout: number
  readonly suppress: boolean
  readonly initialJitter: number
  readonly batchSize: number
  readonly maxInFlight: number
  readonly maxParked: number
  readonly saveInterval: number
  readonly saveTimeout: number
}

const where = "Watcher"

const wholeNumber = (name: string, value: number | undefined, fallback: number, least = 1): number => {
  if (value === undefined) return fallback
  if (!(value === Infinity || Number.isInteger(value)) || value < least) {
    throw new Error(`${where}: \`${name}\` is ${value}; it must be a whole number of ${least} or more.`)
  }
  return value
}

export const make = (input: Input, timeout: Duration.Duration): Settings => {
  const millis = (name: keyof Input, value: Duration.DurationInput | undefined, fallback: number): number =>
    value === undefined ? fallback : Duration.toMillis(positive(where, name, value))
  const interval = millis("interval", input.interval, 30_000)
  const maxBackoff = millis("maxBackoff", input.maxBackoff, interval * 32)
  if (maxBackoff < interval) {
    throw new Error(
      `${where}: \`maxBackoff\` is ${Duration.format(maxBackoff)}, below \`interval\` (${Duration.format(interval)}); a failing source would be polled more often than a healthy one.`
    )
  }
  if (input.initial !== undefined && input.initial !== "emit" && input.initial !== "suppress") {
    throw new Error(`${where}: \`initial\` is ${JSON.stringify(input.initial)}; it must be "emit" or "suppress".`)
  }
  return {
    interval,
    maxBackoff,
    maxRetryAfter:
      input.maxRetryAfter === undefined ? defaultMaxRetryAfter : positive(where, "maxRetryAfter", input.maxRetryAfter),
    timeout: millis("timeout", input.timeout, Duration.toMillis(timeout)),
    suppress: input.initial === "suppress",
    initialJitter: Duration.toMillis(notNegative(where, "initialJitter", input.initialJitter ?? 0)),
    batchSize: wholeNumber("batchSize", input.batchSize, Infinity),
    maxInFlight: wholeNumber("maxInFlight", input.maxInFlight, 16),
    maxParked: wholeNumber("maxParked", input.maxParked, 1000),
    saveInterval: millis("saveInterval", input.saveInterval, 60_000),
    saveTimeout: millis("saveTimeout", input.saveTimeout, 30_000)
  }
}

/** The wait after the `failures`-th failure in a row: `interval * 2^failures`, at most `maxBackoff`. */
export const backoff = (settings: Settings, failures: number): number =>
  Math.min(settings.interval * 2 ** failures, settings.maxBackoff)

/** The wait of the `failures`-th retry of a save: 100 ms doubling to 30 s. */
export const saveBackoff = (failures: number): number => Math.min(50 * 2 ** failures, 30_000)

/** Steps through a schedule without sleeping, so that the wait can be cut short. */
export class Steps<In, R> {
  private state: unknown

  constructor(private readonly schedule: Schedule.Schedule<unknown, In, R>) {
    this.state = schedule.initial
  }

  reset(): void {
    this.state = this.schedule.initial
  }

  /** The wait in milliseconds; `undefined`: the schedule has ended. */
  next(now: number, input: In): Effect.Effect<number | undefined, never, R> {
    return Effect.map(this.schedule.step(now, input, this.state), ([state, _, decision]) => {
      this.state = state
      if (!ScheduleDecision.isContinue(decision)) return undefined
      return Math.max(0, ScheduleIntervals.start(decision.intervals) - now)
    })
  }
}

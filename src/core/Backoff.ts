/**
 * Delays between attempts, as ordinary `Schedule`s whose cap, floor and budget hold at any attempt.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { notNegative, positive } from "./durationOption.js"

/**
 * The options of {@link make}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<E = unknown> {
  /** The first delay. */
  readonly first: Duration.DurationInput
  /** The longest delay, not below `first`. */
  readonly max: Duration.DurationInput
  /** What each delay is multiplied with for the next, 1 or more [2]. */
  readonly factor?: number | undefined
  /** The fraction, from 0 to 1, by which a delay may be shorter, at random [0]. */
  readonly jitter?: number | undefined
  /** What no delay goes below, not above `first` [zero]. */
  readonly floor?: Duration.DurationInput | undefined
  /** How long an outage may last before the schedule ends: checked when an attempt fails, as `Schedule.upTo` [for ever]. */
  readonly within?: Duration.DurationInput | undefined
  /** Ends the schedule at the first error for which it is false [never]. */
  readonly while?: ((error: E) => boolean) | undefined
  /** The longest wait that an error's own `retryAfter` can ask for [1 hour]. */
  readonly maxRetryAfter?: Duration.DurationInput | undefined
}

/**
 * The longest wait that an error's own `retryAfter` can ask for, unless an option says otherwise: 1 hour.
 *
 * @category defaults
 * @since 0.1.0
 */
export const defaultMaxRetryAfter: Duration.Duration = Duration.hours(1)

/**
 * The wait that an error asks for with a `retryAfter` field (a `Duration`, or an `Option` of one), at most `max`.
 *
 * **Example**
 * ```ts
 * import { Duration } from "effect"
 * import { Backoff } from "effect-periscope"
 *
 * const busy = { _tag: "Busy", retryAfter: Duration.seconds(90) }
 *
 * Duration.toSeconds(Backoff.retryAfter(busy, Duration.hours(1))) // => 90
 * Duration.toSeconds(Backoff.retryAfter(busy, Duration.minutes(1))) // => 60
 * Duration.toSeconds(Backoff.retryAfter(new Error("down"), Duration.hours(1))) // => 0
 * ```
 *
 * @category getters
 * @since 0.1.0
 */
export const retryAfter = (error: unknown, max: Duration.Duration): Duration.Duration => {
  if (!Predicate.hasProperty(error, "retryAfter")) return Duration.zero
  const asked = Option.isOption(error.retryAfter) ? Option.getOrUndefined(error.retryAfter) : error.retryAfter
  return Duration.isDuration(asked) ? Duration.min(asked, max) : Duration.zero
}

/**
 * Makes a schedule of delays that grow from `first` by `factor` up to `max`, for `Effect.retry` or a watcher's `retry`.
 *
 * **Details** Each delay is capped, then shortened by jitter, then raised to `floor`, then to the error's own `retryAfter`;
 * `within` bounds the whole outage: its real end is that budget and at most one delay. Start it anew for each outage, as
 * `Effect.retry` does: that is its reset.
 *
 * **Errors** A delay that is zero, negative, NaN or infinite, a cap below the first delay, a floor above it, a factor below 1
 * or a jitter outside 0 to 1 throw at construction, naming the option and the value.
 *
 * **Example**
 * ```ts
 * import { Chunk, Duration, Effect, Schedule } from "effect"
 * import { Backoff } from "effect-periscope"
 *
 * const patient = Backoff.make({ first: "1 second", max: "8 seconds", within: "5 minutes" })
 *
 * const poll: Effect.Effect<string, Error> = Effect.fail(new Error("down"))
 * const polling = Effect.retry(poll, patient) // given up after 5 minutes
 *
 * // the delays of the first six failures, in seconds
 * const delays = Effect.runSync(Schedule.run(patient, 0, Array.from({ length: 6 })))
 * Chunk.toReadonlyArray(delays).map(Duration.toSeconds) // => [1, 2, 4, 8, 8, 8]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E = unknown>(options: Options<E>): Schedule.Schedule<Duration.Duration, E> => {
  const where = "Backoff.make"
  const first = positive(where, "first", options.first)
  const max = positive(where, "max", options.max)
  const floor = notNegative(where, "floor", options.floor ?? 0)
  const factor = options.factor ?? 2
  const jitter = options.jitter ?? 0
  const maxRetryAfter = positive(where, "maxRetryAfter", options.maxRetryAfter ?? defaultMaxRetryAfter)
  if (Duration.lessThan(max, first)) {
    throw new Error(
      `${where}: \`max\` is ${Duration.format(max)}, below \`first\` (${Duration.format(first)}); a cap below the first delay would shorten it.`
    )
  }
  if (Duration.greaterThan(floor, first)) {
    throw new Error(
      `${where}: \`floor\` is ${Duration.format(floor)}, above \`first\` (${Duration.format(first)}); raise \`first\` instead.`
    )
  }
  if (!(factor >= 1 && factor < Infinity)) throw new Error(`${where}: \`factor\` is ${factor}; it must be 1 or more.`)
  if (!(jitter >= 0 && jitter <= 1)) throw new Error(`${where}: \`jitter\` is ${jitter}; it must be from 0 to 1.`)

  const spread = (delay: Duration.Duration): Effect.Effect<Duration.Duration> => {
    const capped = Duration.min(delay, max)
    return jitter === 0
      ? Effect.succeed(capped)
      : Effect.map(Random.next, (random) => Duration.max(floor, Duration.times(capped, 1 - jitter * random)))
  }
  const delays = Schedule.modifyDelayEffect(Schedule.exponential(first, factor), (_, delay) => spread(delay))
  const asked = Schedule.zipRight(delays, Schedule.identity<E>()).pipe(
    Schedule.modifyDelay((error, delay) => Duration.max(delay, retryAfter(error, maxRetryAfter)))
  )
  const filtered = options.while === undefined ? asked : Schedule.whileInput(asked, options.while)
  const bounded =
    options.within === undefined ? filtered : Schedule.upTo(filtered, positive(where, "within", options.within))
  return Schedule.delays(bounded)
}

/**
 * The same watch written in ways that people write it by hand, from nothing to all that a watcher does.
 */
import { Duration, Effect, Ref, Schedule, Schema, Stream } from "effect"
import { Backoff, Change, Source, Watcher } from "effect-periscope"

export const timeout = Duration.minutes(2)

const backoff = (interval: Duration.Duration) =>
  Backoff.make({ first: Duration.times(interval, 2), max: Duration.times(interval, 32) })

const withFeatures = (poll: Effect.Effect<number, string>) =>
  poll.pipe(
    Effect.disconnect,
    Effect.timeoutFail({ duration: timeout, onTimeout: () => "timeout" }),
    Effect.withSpan("poll", { attributes: { source: "bench" }, captureStackTrace: false })
  )

/** Says what is new, as a watcher does: state in, change out. */
const diffed = (poll: Effect.Effect<number, string>) =>
  Effect.map(Ref.make(Number.NaN), (state) =>
    Effect.flatMap(poll, (value) => Ref.modify(state, (before) => [value === before ? [] : [value], value] as const))
  )

export type Rival = (poll: Effect.Effect<number, string>, interval: Duration.Duration) => Effect.Effect<void, unknown>

const source = (poll: Effect.Effect<number, string>) =>
  Source.make({
    name: "bench",
    state: Schema.Number,
    item: Schema.Number,
    initial: Number.NaN,
    timeout,
    onTimeout: () => "timeout",
    poll: (before: number) =>
      Effect.map(poll, (value) => ({
        changes: value === before ? [] : [Change.added("value", value)],
        state: value
      }))
  })

export const rivals: Record<string, Rival> = {
  "bare loop": (poll, interval) => Effect.forever(Effect.zipRight(poll, Effect.sleep(interval))),
  "loop + retry": (poll, interval) =>
    Effect.forever(Effect.zipRight(Effect.retry(poll, backoff(interval)), Effect.sleep(interval))),
  "loop + retry + timeout": (poll, interval) =>
    Effect.forever(
      Effect.zipRight(
        Effect.retry(
          poll.pipe(Effect.disconnect, Effect.timeoutFail({ duration: timeout, onTimeout: () => "timeout" })),
          backoff(interval)
        ),
        Effect.sleep(interval)
      )
    ),
  "loop + retry + timeout + span": (poll, interval) =>
    Effect.flatMap(diffed(poll), (observe) =>
      Effect.forever(
        Effect.zipRight(
          Effect.retry(withFeatures(Effect.map(observe, () => 0)), backoff(interval)),
          Effect.sleep(interval)
        )
      )
    ),
  "plain Stream (retry only)": (poll, interval) =>
    Stream.runDrain(Stream.repeatEffectWithSchedule(Effect.retry(poll, backoff(interval)), Schedule.spaced(interval))),
  "plain Stream, same features": (poll, interval) =>
    Effect.flatMap(diffed(poll), (observe) =>
      Stream.repeatEffectWithSchedule(
        Effect.retry(withFeatures(Effect.map(observe, (changes) => changes.length)), backoff(interval)),
        Schedule.spaced(interval)
      ).pipe(Stream.runDrain)
    ),
  "Watcher.runForEach": (poll, interval) => Watcher.runForEach(source(poll), () => Effect.void, { interval }),
  "Watcher.changes": (poll, interval) => Stream.runDrain(Watcher.changes(source(poll), { interval }))
}

/**
 * Steps through a schedule without sleeping.
 */
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleIntervals from "effect/ScheduleIntervals"

export interface Step {
  readonly state: unknown
  /** In milliseconds; `undefined`: the schedule has ended. */
  readonly wait: number | undefined
}

export const step = <R>(
  schedule: Schedule.Schedule<unknown, unknown, R>,
  now: number,
  input: unknown,
  state: unknown
): Effect.Effect<Step, never, R> =>
  Effect.map(schedule.step(now, input, state), ([next, _, decision]) => ({
    state: next,
    wait: ScheduleDecision.isContinue(decision)
      ? Math.max(0, ScheduleIntervals.start(decision.intervals) - now)
      : undefined
  }))

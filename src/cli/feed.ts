/**
 * What is followed, not polled: how a socket looks where a watcher is expected.
 */
import * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import type * as Stream from "effect/Stream"
import type * as Subscribable from "effect/Subscribable"
import * as Backoff from "../core/Backoff.js"
import type { Batch } from "../core/Watcher.js"
import type { Phase } from "../core/WatchStatus.js"
import type { SocketError, SocketPhase } from "../socket/ReconnectingSocket.js"
import type { Plan } from "./plan.js"

/** As much of a watcher as the command line needs. */
export interface Feed<A> {
  readonly batches: Stream.Stream<Batch<A>, SocketError>
  readonly status: Subscribable.Subscribable<{ readonly phase: Phase }>
  readonly approve: Effect.Effect<void>
  readonly drain: Effect.Effect<void>
}

const firstWait = 1000
const longestWait = 60_000

/** The waits for the next connection. */
export const backoffOf = (plan: Plan): Schedule.Schedule<unknown, SocketError> => {
  const max = Math.min(longestWait, plan.maxBackoffMillis)
  return Backoff.make<SocketError>({
    first: Math.min(firstWait, max),
    max,
    jitter: plan.jitter,
    within: plan.giveUpAfterMillis
  })
}

export const toPhase = (phase: SocketPhase): Phase => {
  switch (phase._tag) {
    case "Resting":
    case "Connecting":
      return { _tag: "Starting" }
    case "Open":
      return { _tag: "Live", nextPollAt: Option.none() }
    case "Waiting":
      return { _tag: "Backoff", attempt: phase.attempt, until: phase.until, error: Cause.fail(phase.error) }
    case "Ended":
      return { _tag: "Stopped", error: Option.map(phase.error, Cause.fail) }
  }
}

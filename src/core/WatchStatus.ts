/**
 * What a watcher is doing, and how it has fared: a value to read, to subscribe to and to show.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import type * as Option from "effect/Option"
import type { RemovalPlan } from "./removalGuard.js"

/**
 * What a watcher is doing. Times are epoch milliseconds of the `Clock`.
 *
 * - `Starting`: nothing was observed yet.
 * - `Live`: the last poll succeeded; the next one is due at `nextPollAt`, unless changes are being handled or it is running.
 * - `Backoff`: the last `attempt` polls (or saves) failed, the last one with `error`; the next attempt is at `until`.
 * - `Guarded`: as Live, with removals held back until they are confirmed or approved.
 * - `Stopped`: it does not poll: its schedule ended, it was drained, it failed with `error`, or its consumer is gone.
 *
 * @category models
 * @since 0.1.0
 */
export type Phase =
  | { readonly _tag: "Starting" }
  | { readonly _tag: "Live"; readonly nextPollAt: Option.Option<number> }
  | {
      readonly _tag: "Backoff"
      readonly attempt: number
      readonly until: number
      readonly error: Cause.Cause<unknown>
    }
  | { readonly _tag: "Guarded"; readonly plan: RemovalPlan; readonly nextPollAt: Option.Option<number> }
  | { readonly _tag: "Stopped"; readonly error: Option.Option<Cause.Cause<unknown>> }

/**
 * The status of a watcher. Times are epoch milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface WatchStatus {
  readonly source: string
  readonly phase: Phase
  readonly lastSuccess: Option.Option<number>
  readonly lastChange: Option.Option<number>
  readonly consecutiveFailures: number
  readonly polls: number
  /** Batches that were accepted and are not committed. */
  readonly uncommitted: number
  /** Changes that were put aside because their handler failed for good. */
  readonly parked: number
  /** Failures of the running handler in a row. */
  readonly handlerFailures: number
}

export {
  /**
   * @internal
   */
  Conflated
} from "./conflated.js"
export {
  /**
   * @internal
   */
  describe
} from "./describe.js"

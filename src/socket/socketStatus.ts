/**
 * What a socket is doing, and how it has fared.
 */
import type * as Option from "effect/Option"
import type { SocketError } from "./socketError.js"

/**
 * What a socket is doing. Times are epoch milliseconds of the `Clock`.
 *
 * - `Resting`: nobody consumes it.
 * - `Connecting`: the `attempt`-th reconnect in a row is under way; 0: the first attempt, or that after a healthy connection.
 * - `Open`: since then; `isPaused`: nothing is read, as too much is in flight.
 * - `Waiting`: the connection was lost or did not come about because of `error`; the `attempt`-th reconnect is at `until`.
 * - `Ended`: by `error`, or because it was drained.
 */
export type SocketPhase =
  | { readonly _tag: "Resting" }
  | { readonly _tag: "Connecting"; readonly attempt: number }
  | { readonly _tag: "Open"; readonly since: number; readonly isPaused: boolean }
  | { readonly _tag: "Waiting"; readonly attempt: number; readonly until: number; readonly error: SocketError }
  | { readonly _tag: "Ended"; readonly error: Option.Option<SocketError> }

/** The status of a socket. Times are epoch milliseconds. */
export interface SocketStatus {
  readonly source: string
  readonly phase: SocketPhase
  /** Connections that were open, the current one included. */
  readonly connections: number
  /** Frames received. */
  readonly received: number
  /** Items that wait to be handed out. */
  readonly waiting: number
  /** Items that were handed out and are not finished. */
  readonly unacked: number
  readonly lastFrame: Option.Option<number>
  /** Frames that were skipped because `decode` threw. */
  readonly undecoded: number
  /** How often an item was left to come again because of `maxPerOrder`. */
  readonly postponed: number
  /** Failures of the running handlers in a row. */
  readonly handlerFailures: number
}
